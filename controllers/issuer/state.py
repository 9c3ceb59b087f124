"""What is known of a tenant's external issuer, as the operator's last look tells it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Metadata:
    """The issuer's endpoints (URLs) and ways, as checked (OpenID Connect Discovery 1.0, section 3).

    ``end_session``: None where people can't be logged out there. ``token_auth``: a method of RFC 7591, section 2.
    ``back_channel``: it tells of logouts. ``names_itself``: its answers carry ``iss`` (RFC 9207).
    """

    authorization: str
    token: str
    jwks: str
    end_session: str | None
    token_auth: str
    back_channel: bool
    names_itself: bool


@dataclass(frozen=True)
class IssuerState:
    """``keys``: the public keys of its tokens (RFC 7517) by which ours can be signed; none while they are not known.

    ``error``: reason and message where it could not be used at the last look; what was known before then stays.
    """

    metadata: Metadata | None = None
    keys: tuple[Mapping[str, Any], ...] = ()
    error: tuple[str, str] | None = None
