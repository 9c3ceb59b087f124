"""What tenants may reach outside their site, beyond model providers: the zone lists it, a tenant asks for it."""

from __future__ import annotations

import re
from datetime import date
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field

from domicile.api.common import LIST_SET, Dated, DnsLabel, Model, cel, list_map, validations

_LABEL = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
# The last label begins with a letter: no spelling of an address passes for a name.
HOST = rf"^({_LABEL}\.)+[a-z]([a-z0-9-]{{0,61}}[a-z0-9])?$"
# Names of Services (Kubernetes, "DNS for Services and Pods").
_OF_THE_CLUSTER = (".svc", ".cluster.local")
Host = Annotated[str, Field(pattern=HOST, max_length=253)]
Port = Annotated[int, Field(ge=1, le=65535)]


def leads(url: str) -> bool:
    """Whether an endpoint is one that a site's way out could lead to: TLS at a full name, outside the cluster."""
    at = urlsplit(url)
    return at.scheme == "https" and is_outside(at.hostname or "")


def is_outside(host: str) -> bool:
    """Whether a host has a full name, and one that is no Service's."""
    return re.match(HOST, host) is not None and not host.endswith(_OF_THE_CLUSTER)


class Contract(Dated):
    """A person's dated word on who processes what is sent there, and where: a host's name says nothing of that."""

    processor: Annotated[
        str, Field(description="Who processes the data, as in the contract.", min_length=2, max_length=128)
    ]
    place: Annotated[str, Field(description="Where: country, and region or place.", min_length=2, max_length=128)]
    statement: Annotated[str, Field(description="What holds, and where the proof lies.", min_length=10, max_length=512)]
    attested_on: Annotated[date, Field(description="Day of the attestation (YYYY-MM-DD).")]
    expires_on: Annotated[date, Field(description="First day on which it no longer counts (YYYY-MM-DD).")]


class ServiceKey(Model):
    """By what tenants' gateways prove themselves to a service."""

    name: Annotated[DnsLabel, Field(description="<name>.key in the operator's Secret of model keys.")]
    header: Annotated[
        str,
        Field(
            description="Header of requests that holds it: Authorization, or one whose name ends in Key or Token. The"
            " whole value is what the Secret has, such as `Bearer abc`.",
            # None of these says how a request is sent.
            pattern="^([Aa]uthorization|[A-Za-z][A-Za-z0-9-]{0,57}([Kk]ey|[Tt]oken))$",
            max_length=64,
        ),
    ] = "Authorization"


class AllowedDestination(Model):
    """A host outside the sites that tenants of the zone may ask for."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            cel("!has(self.key) || self.port == 443", "key is for a service, whose port is 443"),
            cel("!has(self.key) || size(self.host) <= 200", "the host of a service with a key is too long"),
        )
    )

    host: Annotated[Host, Field(description="Its exact name; there are no wildcards and no addresses.")]
    port: Annotated[Port, Field(description="Its TCP port.")]
    cidrs: Annotated[
        list[Annotated[str, Field(max_length=43)]],
        Field(
            description="Networks that its every address must lie in, private ones included. None: public addresses.",
            max_length=16,
            json_schema_extra=LIST_SET
            | validations(
                cel("self.all(c, isCIDR(c) && cidr(c) == cidr(c).masked())", "give networks such as 10.9.0.0/24"),
                cel(
                    "self.all(c, !isCIDR(c) || cidr(c).prefixLength() >= 8)",
                    "a network of a destination is no larger than a /8",
                ),
            ),
        ),
    ] = []
    contract: Annotated[Contract, Field(description="On what ground data may go there.")]
    key: Annotated[
        ServiceKey | None, Field(description="For a service that wants one; only gateways ever have it.")
    ] = None


class AdditionalEgress(Model):
    """A host that the tenant wants to reach; its zone must list it."""

    host: Annotated[Host, Field(description="Its exact name, as the zone lists it.")]
    port: Annotated[Port, Field(description="Its TCP port, as the zone lists it.")]
    contract: Annotated[
        str,
        Field(
            description="The processor that the tenant has a contract with, as the zone names it: whoever asks says"
            " that they know.",
            min_length=2,
            max_length=128,
        ),
    ]


class Network(Model):
    """Where the tenant's data may go."""

    additional_egress: Annotated[
        list[AdditionalEgress],
        Field(
            description="Hosts that the tenant's gateway may reach beyond its model provider.",
            max_length=32,
            json_schema_extra=list_map("host", "port"),
        ),
    ] = []
