"""Who reaches a tenant's assistants, and through what door."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import ConfigDict, Field

from domicile.api.common import LIST_SET, NOT_OURS, PORT, DnsLabel, Model, cel, list_map, validations
from domicile.api.sso import PersonRole, Sso

ISSUED_SECRET: Final = "front-door-tls"  # noqa: S105 - the name of a Secret

Network = Annotated[
    str,
    Field(
        pattern=r"^[0-9a-f.:]+/[0-9]{1,3}$",
        max_length=43,
        json_schema_extra=validations(
            cel("isCIDR(self) && cidr(self) == cidr(self).masked()", "give a network such as 10.0.0.0/8")
        ),
    ),
]


class PathRule(Model):
    """Who may use some of an assistant's paths; the longest prefix decides."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            cel(
                "self.public == (!has(self.roles) || self.roles.size() == 0)",
                "a path is public, or it names the roles that may use it",
            ),
            cel("!self.prefix.matches('^/admin(/|$)')", "/admin is for owners and admins, and no rule changes that"),
        )
    )

    prefix: Annotated[
        str,
        Field(
            description="Path below the assistant's own, such as /forms.",
            pattern=r"^(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+$",
            max_length=128,
        ),
    ]
    roles: Annotated[
        list[PersonRole],
        Field(description="Whoever has one of these may use it.", max_length=4, json_schema_extra=LIST_SET),
    ] = []
    public: Annotated[bool, Field(description="Everybody may use it, without login and without identity.")] = False


class Client(Model):
    """Pods that may reach the tenant."""

    namespace: Annotated[DnsLabel, Field(description="Namespace of the pods.")]


class Issuer(Model):
    """An issuer of cert-manager."""

    name: Annotated[
        str,
        Field(
            description="Name of the issuer.",
            pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$",
            max_length=253,
        ),
    ]
    kind: Annotated[
        Literal["Issuer", "ClusterIssuer"],
        Field(description="Issuer, which is in the tenant's namespace, or ClusterIssuer."),
    ] = "ClusterIssuer"
    group: Annotated[
        str,
        Field(description="API group of the kind.", pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$", max_length=253),
    ] = "cert-manager.io"


class Tls(Model):
    """The certificate of the front door."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            cel(
                "has(self.secret) != has(self.issuer)",
                "name a secret or an issuer, not both: one keeps the certificate",
            )
        )
    )

    secret: Annotated[
        DnsLabel | None,
        Field(
            description="Secret (kubernetes.io/tls) in the tenant's namespace with tls.crt and tls.key, as cert-manager"
            " keeps one; mirrored sealed to the peer. A new one is taken without a gap.",
            json_schema_extra=validations(NOT_OURS),
        ),
    ] = None
    issuer: Annotated[
        Issuer | None,
        Field(
            description="Issuer of cert-manager that issues it, and renews it in time: the site that serves makes a"
            " Certificate front-door; its Secret front-door-tls is mirrored sealed to the peer."
        ),
    ] = None

    @property
    def secret_name(self) -> str:
        """The Secret that holds the certificate, whoever makes it."""
        return self.secret or ISSUED_SECRET


class Edge(Model):
    """What stands before the front door, such as a CDN; nobody else may connect then."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            cel("has(self.cidrs) && self.cidrs.size() > 0 || has(self.clientCa)", "set cidrs, clientCa or both")
        )
    )

    cidrs: Annotated[
        list[Network],
        Field(
            description="Its addresses. Of a request that comes from there X-Forwarded-For names the client.",
            max_length=256,
            json_schema_extra=LIST_SET,
        ),
    ] = []
    client_ca: Annotated[
        DnsLabel | None,
        Field(
            description="Secret whose key ca.crt holds the authorities of the certificate that it has to show;"
            " mirrored sealed to the peer.",
            json_schema_extra=validations(NOT_OURS),
        ),
    ] = None


class Limits(Model):
    """What one replica of the front door bears; more is answered by 429, and larger bodies by 413."""

    client_requests: Annotated[int, Field(description="Requests of one client's address in 10 s.", ge=1, le=32767)] = (
        200
    )
    tenant_requests: Annotated[int, Field(description="Requests of all clients in 10 s.", ge=1, le=1000000)] = 1000
    parallel: Annotated[
        int, Field(description="Requests that are being answered at once, streams among them.", ge=1, le=500)
    ] = 200
    body_mebibytes: Annotated[int, Field(description="Largest body of a request (MiB).", ge=1, le=32)] = 16


class Access(Model):
    """Who reaches the assistants."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            cel(
                "has(self.host) == has(self.sso) && has(self.host) == has(self.tls)",
                "host, sso and tls come together: people log in at the host, over TLS",
            ),
            cel(
                "has(self.sso) || (!has(self.edge) && (!has(self.sources) || self.sources.size() == 0)"
                " && (!has(self.excludedRules) || self.excludedRules.size() == 0))",
                "edge, sources and excludedRules are of the front door: they need host, sso and tls",
            ),
        ),
    )

    clients: Annotated[
        list[Client],
        Field(
            description="Namespaces of this cluster whose pods may reach the assistants, or their front door where"
            " there is one; no other pod can.",
            max_length=32,
            json_schema_extra=list_map("namespace"),
        ),
    ] = []
    host: Annotated[
        str | None,
        Field(
            description="Host name that people's browsers open, with a port where it isn't 443.",
            pattern=rf"^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+{PORT}$",
            max_length=253,
        ),
    ] = None
    tls: Annotated[Tls | None, Field(description="The front door's certificate for host.")] = None
    sso: Annotated[Sso | None, Field(description="Who logs in, where, and what they may do.")] = None
    replicas: Annotated[int, Field(description="Pods of the front door at the active site.", ge=1, le=32)] = 2
    sources: Annotated[
        list[Network],
        Field(
            description="Addresses outside the cluster that may connect to the front door; 0.0.0.0/0 for all.",
            max_length=256,
            json_schema_extra=LIST_SET,
        ),
    ] = []
    edge: Annotated[Edge | None, Field(description="The only way to the front door, if there is one.")] = None
    limits: Annotated[Limits, Field(description="What the front door bears.")] = Limits()
    excluded_rules: Annotated[
        list[Annotated[int, Field(ge=911000, le=948999)]],
        Field(
            description="Ids of rules of the OWASP Core Rule Set that the tenant can't live with.",
            max_length=64,
            json_schema_extra=LIST_SET,
        ),
    ] = []

    @property
    def named_secrets(self) -> frozenset[str]:
        """Secrets of the tenant's namespace that its people's way in needs."""
        sources = self.sso.sources if self.sso else ()
        found = {s.secret[0] for s in sources if s.secret}
        return frozenset(
            found
            | ({self.tls.secret_name} if self.tls else set())
            | ({self.edge.client_ca} if self.edge and self.edge.client_ca else set())
        )
