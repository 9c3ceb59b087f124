"""The config of the gate before an identity server (Keycloak): Apache httpd with two ports.

What people need to log in is open to everybody, path by path. The rest, Keycloak's administration above all, is on a
port of its own, for listed networks that show a certificate of a named authority. Paths: Keycloak 26.5, "Configuring a
reverse proxy", and its resources ``RealmsResource``, ``LoginActionsService``, ``IdentityBrokerService``.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

from domicile.controllers.door import headers, limits, server
from domicile.controllers.door.door import HEALTH_PORT, HTTPS_PORT, Limits
from domicile.controllers.door.words import address, host, network

ADMIN_PORT = 9443
_MODULES = (
    "mpm_event", "authn_core", "authz_core", "authz_host", "alias", "headers", "proxy", "proxy_http", "reqtimeout",
    "rewrite", "setenvif", "ssl", "unique_id", "qos",
)  # fmt: skip
_PAGES = {
    400: "The request is malformed.",
    403: "This is not open to you.",
    413: "This is too large.",
    429: "Too many requests. Wait for the seconds in Retry-After, then try again.",
    # What mod_proxy answers where the certificate is not to be trusted.
    500: "The identity server can't be reached safely. Tell whoever runs it.",
    502: "The identity server does not answer. Try again in a minute.",
    503: "The identity server does not answer. Try again in a minute.",
    504: "The identity server did not answer in time. Try again in a minute.",
}
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
# Others' certificates, as Keycloak can be told to take them from headers (RFC 9440 and older ways).
_CERTIFICATES = ("Client-Cert", "Client-Cert-Chain", "SSL-Client-Cert", "X-SSL-Client-Cert")

# As the operator names realms. That of Keycloak's own administrators, ``master``, is none of these.
_REALM = "[a-z0-9](?:[a-z0-9-]*[a-z0-9])?-[0-9a-f]{8}"
_OF_A_REALM = (
    "[.]well-known/openid-configuration",
    "protocol/openid-connect/(?:auth|token|certs|logout(?:/(?:logout-confirm|backchannel-logout))?)",
    "login-actions/(?:authenticate|restart|required-action|consent|detached-info|action-token)",
    "login-actions/(?:first|post)-broker-login",
    "broker/after-(?:first|post)-broker-login",
    "broker/[a-z0-9-]+/(?:login|endpoint(?:/(?:descriptor|logout_response))?)",
)
# Parts of the pages; no name in the path begins with a dot.
_PARTS = "/resources/[A-Za-z0-9_-]+/(?:login|common)(?:/[A-Za-z0-9_@-][A-Za-z0-9._@-]*)+"
# Of the line as it came, before anything decodes or tidies it: what is matched is what Keycloak will see.
_OPEN = (
    f"^(?:GET|HEAD|POST) (?:/realms/{_REALM}/(?:{'|'.join(_OF_A_REALM)})|{_PARTS})(?:[?][^ ]*)? HTTP/1[.][01]$"
)  # fmt: skip
# A page of a login has some ten parts, and all tenants' people come here.
_LIMITS = Limits(client_requests=300, tenant_requests=3000, parallel=400, body_bytes=2**20)
_HSTS_SECONDS = 31536000


@dataclass(frozen=True)
class Gate:
    """The gate before one identity server.

    ``host`` is what browsers see of the public port, and ``admin_host`` of the other, each with a port unless it is
    443; doors in the cluster may call the public one by ``aliases``. ``upstream``: the identity server (name:port, TLS,
    with a certificate of ``trust/ca.crt`` for that name; one for an address does not count). ``networks`` may connect
    to the port of administrators if they show a certificate of ``clients/ca.crt``.
    """

    host: str
    admin_host: str
    upstream: str
    networks: tuple[str, ...]
    aliases: tuple[str, ...] = ()
    https_port: int = HTTPS_PORT
    admin_port: int = ADMIN_PORT
    health_port: int = HEALTH_PORT


def render(gate: Gate) -> str:
    """The config, to be mounted as ``httpd.conf``. Raises ValueError, saying which field is wrong."""
    if not gate.networks:
        raise ValueError("networks must name at least one: the administrators come from somewhere")
    if gate.host == gate.admin_host:
        raise ValueError("admin_host must differ from host, at least in the port")
    parts = (
        [
            server.listen(gate.https_port, "https", "https_port"),
            server.listen(gate.admin_port, "https", "admin_port"),
            server.listen(gate.health_port, "http", "health_port"),
            server.name(gate.host),
            # A resumed session would show no certificate.
            "SSLSessionCache none",
            *server.core(_MODULES, _LIMITS.body_bytes, _PAGES),
        ],
        server.log({"port": "%{port}e"}),
        limits.everywhere(_LIMITS),
        server.health(gate.health_port),
        _public(gate),
        _administration(gate),
    )
    return "\n".join(chain.from_iterable(parts)) + "\n"


def _public(gate: Gate) -> list[str]:
    return [
        f"<VirtualHost *:{gate.https_port}>",
        server.name(gate.host),
        'SetEnvIf Request_URI "^" port=public',
        *server.tls(),
        *limits.here(_LIMITS),
        # httpd's own limit is not for what is passed on.
        f"QS_LimitRequestBody {_LIMITS.body_bytes}",
        f'Header always set Retry-After {_LIMITS.seconds} "expr=%{{REQUEST_STATUS}} == 429"',
        *_passed_on(gate, gate.host, *(host(alias, "an alias") for alias in gate.aliases)),
        "<Location />",
        f'Require expr "%{{THE_REQUEST}} =~ m#{_OPEN}#"',
        "</Location>",
        "</VirtualHost>",
    ]


def _administration(gate: Gate) -> list[str]:
    networks = " ".join(network(n, "a network of administrators") for n in gate.networks)
    return [
        f"<VirtualHost *:{gate.admin_port}>",
        server.name(gate.admin_host),
        'SetEnvIf Request_URI "^" port=admin',
        # Who is refused leaves no request in the log, only this.
        "LogLevel warn ssl:info",
        # TLS 1.3 has no curves below P-256; level 2 refuses RSA below 2048 bits and SHA-1, whatever the system's is.
        *server.tls("-all +TLSv1.3", f"{server.CIPHERS}:@SECLEVEL=2"),
        *server.clients("clients/ca.crt"),
        *_passed_on(gate, gate.admin_host),
        "<Location />",
        f"Require ip {networks}",
        "</Location>",
        "</VirtualHost>",
    ]


def _passed_on(gate: Gate, public: str, *aliases: str) -> list[str]:
    target = address(gate.upstream, "upstream")
    return [
        *server.logged(_METHODS),
        "RewriteEngine On",
        *headers.unvouched(*_CERTIFICATES),
        *headers.ordinary_connection(),
        *server.only(public, *aliases),
        *headers.vouched(public),
        f"RequestHeader set X-Forwarded-Port {public.partition(':')[2] or 443}",
        'RequestHeader set X-Forwarded-For "expr=%{REMOTE_ADDR}"',
        # Keycloak says so itself, where it is asked.
        "Header unset Strict-Transport-Security",
        headers.lasting(_HSTS_SECONDS),
        "SSLProxyEngine On",
        f"SSLProxyProtocol {server.BOTH_VERSIONS}",
        f"SSLProxyCipherSuite {server.CIPHERS}",
        "SSLProxyCACertificateFile trust/ca.crt",
        "SSLProxyVerify require",
        "SSLProxyVerifyDepth 3",
        "SSLProxyCheckPeerName On",
        # It may be gone for the seconds of a restart; it is not to be thought gone for the usual minute.
        f'ProxyPass "/" "https://{target}/" connectiontimeout=5 timeout=60 retry=1',
    ]
