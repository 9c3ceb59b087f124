"""Headers and cookies on their way through a door: what a client must not say, and what an assistant is told."""

from __future__ import annotations

from collections.abc import Sequence

from domicile.controllers.door.door import Door
from domicile.controllers.door.limits import COUNTED_CLIENT
from domicile.controllers.door.login import COOKIE
from domicile.controllers.door.words import host, network, whole

IDENTITY = "Domicile-Identity"
_FOR = "X-Forwarded-For"
# Headers by which programs believe what proxies say of a client; honest ones come with requests, so they are dropped.
_TOLD_BY_PROXIES = (
    "Forwarded",
    "X-Real-IP",
    COUNTED_CLIENT,
    "X-Remote-User",
    # Some frameworks take these for the path, whatever the path says.
    "X-Original-URL",
    "X-Rewrite-URL",
    "X-Forwarded",
    _FOR,
    *(
        f"X-Forwarded-{name}"
        for name in (
            "Access-Token", "By", "Client-Cert", "Email", "Groups", "Host", "Method", "Port", "Preferred-Username",
            "Prefix", "Proto", "Protocol", "Scheme", "Server", "Ssl", "Uri", "User",
        )
    ),
)  # fmt: skip
_OURS = (IDENTITY, "OIDC_id_token", "OIDC_access_token", "OIDC_userinfo", "OIDC_CLAIM_sub", "OIDC_CLAIM_roles")
# A name of these families that is not dropped by name is of nobody honest. Gateways read "_" like "-" (RFC 3875,
# section 4.1.18).
_FAMILIES = "(?:oidc|domicile|forwarded|x[-_]forwarded|x[-_]real[-_]ip|x[-_]client[-_]ip|x[-_]remote[-_]user)"


def arriving(door: Door) -> list[str]:
    """The lines that look at a request before anything else does."""
    dropped = _dropped(*_OURS, *_TOLD_BY_PROXIES)
    if door.edge.cidrs:
        dropped.remove(_FOR)
    # The firewall looks before mod_headers drops anything.
    forged = f"(?i)^(?!(?:{'|'.join((*dropped, _FOR))})$){_FAMILIES}"
    return [
        *_edge(door.edge.cidrs),
        *_unset_early(dropped),
        # mod_auth_openidc takes people back, after the login, to the port that it is told here, or that it listens on.
        f"RequestHeader set X-Forwarded-Port {door.port} early",
        "OIDCXForwardedHeaders X-Forwarded-Port",
        *([f'RequestHeader set {COUNTED_CLIENT} "expr=%{{REMOTE_ADDR}}" early'] if door.edge.cidrs else []),
        f'SecRule REQUEST_HEADERS_NAMES "@rx {forged}" "id:1000,phase:1,t:none,log,deny,status:400"',
        # Some servers drop what follows ";" and read "\\" as "/": they would see another path than the rules.
        'RewriteCond %{REQUEST_URI} "[;\\x5c]"',
        "RewriteRule ^ - [R=400,L]",
        *ordinary_connection(),
    ]


def ordinary_connection() -> list[str]:
    """The lines that refuse "Connection: close, Domicile-Identity", which would make the proxy drop that header.

    RFC 9110, section 7.6.1.
    """
    return [
        'RewriteCond %{HTTP:Connection} "!^$"',
        'RewriteCond %{HTTP:Connection} "!^[ ,]*(?:(?:close|keep-alive|upgrade|te)[ ,]*)+$" [NC]',
        "RewriteRule ^ - [R=400,L]",
    ]


def unvouched(*more: str) -> list[str]:
    """The lines that drop what clients say in the place of proxies, and the headers ``more``."""
    return _unset_early(_dropped(*_TOLD_BY_PROXIES, *more))


def vouched(public: str) -> list[str]:
    """The lines for what the server behind is told of where a request came from. Raises ValueError."""
    return [
        "ProxyAddHeaders Off",
        "RequestHeader set X-Forwarded-Proto https",
        f'RequestHeader set X-Forwarded-Host "{host(public, "host")}"',
    ]


def lasting(hsts_seconds: int) -> str:
    """The line by which browsers never come without TLS again. Raises ValueError."""
    return f'Header always set Strict-Transport-Security "max-age={whole(hsts_seconds, "hsts_seconds")}"'


def _dropped(*names: str) -> list[str]:
    return [spelt for name in names for spelt in _spellings(name)]


def _unset_early(names: Sequence[str]) -> list[str]:
    return [f"RequestHeader unset {name} early" for name in names]


def _spellings(name: str) -> list[str]:
    return list(dict.fromkeys((name, name.replace("-", "_"), name.replace("_", "-"))))


def _edge(cidrs: Sequence[str]) -> list[str]:
    if not cidrs:
        return []
    networks = [network(c, "a network of the edge") for c in cidrs]
    known = " || ".join(f"%{{CONN_REMOTE_ADDR}} -ipmatch '{n}'" for n in networks)
    return [
        f'RewriteCond expr "! ({known})"',
        "RewriteRule ^ - [F,L]",
        f"RemoteIPHeader {_FOR}",
        f"RemoteIPInternalProxy {' '.join(networks)}",
    ]


def departing(door: Door) -> list[str]:
    """The lines for what assistants are told, whatever the path, and for what browsers are told with each answer."""
    mine = f"{COOKIE}[^=;]*=[^;]*"
    return [
        *(f"RequestHeader unset {name}" for name in (_FOR, COUNTED_CLIENT)),
        *vouched(door.host),
        f'RequestHeader edit* Cookie "(?:^|; *){mine}" ""',
        'RequestHeader edit Cookie "^; *" ""',
        "RequestHeader unset Cookie \"expr=%{HTTP_COOKIE} == ''\"",
        # An assistant's answer sets no cookie of the door's; one without a name is sent as what it holds.
        f'Header edit Set-Cookie "(?i)^[ =;]*{COOKIE}.*$" "dropped=; Max-Age=0"',
        lasting(door.hsts_seconds),
        *_unless_said("X-Content-Type-Options", "nosniff"),
        *_unless_said("Referrer-Policy", "same-origin"),
        *_unless_said("X-Frame-Options", "SAMEORIGIN"),
        *_unless_said("Cache-Control", "no-store"),
        f'Header always set Retry-After {door.limits.seconds} "expr=%{{REQUEST_STATUS}} == 429"',
    ]


def _unless_said(name: str, value: str) -> list[str]:
    return [f"Header setifempty {name} {value}"]


def identity() -> list[str]:
    """The lines of a section behind a login: the realm's signed token, and nothing else that vouches for somebody."""
    return [
        "RequestHeader unset Authorization",
        f'RequestHeader set {IDENTITY} "expr=%{{reqenv:OIDC_id_token}}"',
    ]
