"""Who asks: the signed identity that the front door sends along, verified here once more (docs/assistant-contract.md).

A JWT (RFC 7519) of the tenant's identity server, in the header ``Domicile-Identity``. What is checked follows RFC 8725
and OpenID Connect Core 3.1.3.7; no message quotes anything of a token.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jwt

from .trust import Roles, Trust

HEADER = "Domicile-Identity"
ALGORITHMS = ("RS256", "PS256", "ES256")
# For clocks that differ. Also what an answer that is being written may run on after its asker's token expired.
LEEWAY_SECONDS = 30
# The identity server's tokens count for five minutes, those of other issuers for an hour at most. One that counts for
# longer was not made for this.
MAX_LIFE_SECONDS = 3600
MAX_TOKEN_CHARS = 8000

_FORM = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_AGAIN = "Log in again."
_REASONS: dict[type[jwt.PyJWTError], str] = {
    jwt.InvalidAlgorithmError: "its algorithm is not its key's",
    jwt.InvalidSignatureError: "its signature is wrong",
    jwt.ImmatureSignatureError: "it is not valid yet",
    jwt.InvalidIssuerError: "it is another issuer's",
    jwt.InvalidAudienceError: "it was made for somebody else",
    jwt.MissingRequiredClaimError: "it lacks a claim",
}


class IdentityError(Exception):
    """Nobody, or nobody who can be known. ``code`` is stable: ``no_identity``, ``bad_identity``, ``session_ended``."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def session_ended() -> IdentityError:
    """The identity was good and has expired."""
    return IdentityError("session_ended", f"Your session has ended. {_AGAIN}")


def _bad(reason: str) -> IdentityError:
    return IdentityError("bad_identity", f"The identity sent along was refused: {reason}. {_AGAIN}")


@dataclass(frozen=True, slots=True)
class Identity:
    """A person who logged in. ``expires`` is in seconds since the epoch."""

    issuer: str
    subject: str
    roles: frozenset[str]
    expires: int

    @property
    def person(self) -> str:
        """Who it is, among all issuers (OpenID Connect Core 5.7). Personal data: to be hashed, never logged."""
        return f"{self.issuer}#{self.subject}"


def identify(values: Sequence[str], trust: Trust) -> Identity | None:
    """The person whom a request's ``Domicile-Identity`` headers name; None without one. Raises IdentityError."""
    if not values:
        return None
    if len(values) > 1:
        raise _bad(f"there is more than one {HEADER}")
    return verify(values[0], trust)


def verify(token: str, trust: Trust) -> Identity:
    """The person whom a token names. Raises IdentityError where anything is wrong with it."""
    if len(token) > MAX_TOKEN_CHARS or not _FORM.fullmatch(token):
        raise _bad("it is no signed JWT")
    try:
        key = trust.keys.get(jwt.get_unverified_header(token).get("kid", ""))
        if key is None:
            raise _bad("its key is none of the identity server's")
        claims = jwt.decode(
            token,
            key,
            algorithms=ALGORITHMS,
            issuer=trust.issuer,
            audience=trust.audience,
            leeway=LEEWAY_SECONDS,
            options={"require": ["iss", "aud", "sub", "exp", trust.factor_claim]},
        )
    except jwt.ExpiredSignatureError:
        raise session_ended() from None
    except jwt.PyJWTError as error:
        raise _bad(_REASONS.get(type(error), "it is malformed")) from None
    # An audience beside ours could use the token here as well, and nobody vouches for it.
    if claims["aud"] not in (trust.audience, [trust.audience]) or claims.get("azp", trust.audience) != trust.audience:
        raise _bad(_REASONS[jwt.InvalidAudienceError])
    # acr is one text (OpenID Connect Core 1.0, section 2); amr and the like are lists.
    several = trust.factor_claim == "acr" and not isinstance(claims["acr"], str)
    if several or not trust.factors & _values(claims, trust.factor_claim):
        raise _bad("its login was not strong enough")
    match claims:
        case {"sub": str(subject), "exp": int(expires)} if subject and expires <= _latest():
            return Identity(trust.issuer, subject, _roles(claims, trust.roles), expires)
    raise _bad("it is malformed")


def _latest() -> float:
    return time.time() + MAX_LIFE_SECONDS + LEEWAY_SECONDS


def _roles(claims: Mapping[str, object], roles: Roles) -> frozenset[str]:
    values = _values(claims, roles.claim)
    if roles.of is None:
        if isinstance(claims.get(roles.claim), str):
            raise _bad("it is malformed")
        return values
    return frozenset(role for value in values for role in roles.of.get(value, ()))


def _values(claims: Mapping[str, object], path: str) -> frozenset[str]:
    """The texts under a claim; none where it is absent. Raises IdentityError where it holds anything else."""
    found: object = claims
    for name in path.split("."):
        found = found.get(name, []) if isinstance(found, Mapping) else []
    values = [found] if isinstance(found, str) else found
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise _bad("it is malformed")
    return frozenset(values)
