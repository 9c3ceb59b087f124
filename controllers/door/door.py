"""What a front door needs to know: data only, checked where it is written into a config."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

HTTPS_PORT = 8443
HEALTH_PORT = 8080
# Paths that the door keeps for itself; no assistant can have these names.
OWN = "oauth2"
CALLBACK = f"/{OWN}/callback"
# Who may use every assistant, and who administers them; names as in the claim ``roles``.
EVERYWHERE = ("owner", "admin", "member")
ADMINISTRATORS = ("owner", "admin")


@dataclass(frozen=True)
class Endpoints:
    """The issuer's URLs and ways, so that nothing is fetched at start (OpenID Connect Discovery 1.0, section 3).

    ``issuer``, ``authorization`` and ``end_session`` (None: it has none) are what browsers see; ``token`` and ``jwks``
    are called by the door and may have another, internal base. ``token_auth``: how the door proves itself there.
    ``back_channel``: it tells of logouts. ``names_itself``: its answers carry ``iss`` (RFC 9207).
    """

    issuer: str
    authorization: str
    token: str
    jwks: str
    end_session: str | None
    token_auth: str = "client_secret_basic"  # noqa: S105 - the name of a method
    back_channel: bool = True
    names_itself: bool = False


@dataclass(frozen=True)
class Claims:
    """How an ID token says what its person may do, in claims of the issuer's choice; a dot leads into an object.

    One of ``mfa_values`` in ``mfa_claim`` means a second factor. ``values_of``: the values of ``roles_claim`` that mean
    a role, by role; None: a role is called the same there.
    """

    mfa_claim: str = "acr"
    mfa_values: tuple[str, ...] = ("mfa",)
    roles_claim: str = "roles"
    values_of: Mapping[str, tuple[str, ...]] | None = None


@dataclass(frozen=True)
class PathRule:
    """Who may use the paths of an assistant under ``prefix`` (such as ``/reports``); the longest prefix decides.

    ``roles`` replace the usual ones; None opens the paths to everybody, without login and without identity.
    """

    prefix: str
    roles: tuple[str, ...] | None


@dataclass(frozen=True)
class Assistant:
    """An assistant under ``/<name>/``, at ``upstream`` (host:port), which shows a certificate for its host.

    ``asks``: its guard has pages of a notice and of consents.
    """

    name: str
    upstream: str
    rules: tuple[PathRule, ...] = ()
    asks: bool = False


@dataclass(frozen=True)
class Limits:
    """What one replica of a door bears; more is answered by 429, and larger bodies by 413.

    Rates are requests in any ``seconds``, for one client's address and for all of the tenant's together. ``parallel``
    counts requests that are being answered, streams among them.
    """

    seconds: int = 10
    client_requests: int = 200
    tenant_requests: int = 1000
    parallel: int = 200
    client_connections: int = 100
    body_bytes: int = 16 * 2**20


@dataclass(frozen=True)
class Edge:
    """What stands before the door. ``cidrs``: nobody else may connect, and who they say they speak for
    (``X-Forwarded-For``) is the client that is counted. ``client_ca``: they must show a certificate of ``edge/ca.crt``.
    """

    cidrs: tuple[str, ...] = ()
    client_ca: bool = False


@dataclass(frozen=True)
class Door:
    """One tenant's front door. ``host`` is what browsers see, with a port unless it is 443. ``proxy`` (host:port) leads
    to where ``endpoints`` are called; None: nothing does.

    ``algorithm`` signs ID tokens (RFC 7518, section 3.1). ``renewed``: tokens are renewed for as long as the session
    lasts; otherwise it ends with its ID token, and for the next one the issuer is asked for a login no older than
    ``max_seconds``. ``exclusions`` are ids of rules of the OWASP Core Rule Set that this tenant can't live with.
    """

    host: str
    client_id: str
    endpoints: Endpoints
    assistants: tuple[Assistant, ...]
    redis: str
    proxy: str | None = None
    idle_seconds: int = 1800
    max_seconds: int = 28800
    claims: Claims = Claims()
    scopes: tuple[str, ...] = ()
    algorithm: str = "RS256"
    renewed: bool = True
    exclusions: tuple[int, ...] = ()
    limits: Limits = Limits()
    edge: Edge = Edge()
    hsts_seconds: int = 31536000
    https_port: int = HTTPS_PORT
    health_port: int = HEALTH_PORT

    @property
    def port(self) -> int:
        """What browsers see. Raises ValueError where ``host`` is none."""
        return int(self.host.partition(":")[2] or 443)


@dataclass(frozen=True, repr=False)
class Secrets:
    """What a door must not tell. Its replicas share all of it, the doors of a site only redis' user and password."""

    client_secret: str
    passphrase: str
    redis_user: str
    redis_password: str
