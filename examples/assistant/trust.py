"""Whose signed identities count: the file that the operator mounts (docs/assistant-contract.md, "Who asks").

    {"issuer", "audience", "acr", "jwks": {"keys": [...]}, "public": ["/forms/public/", ...]}

An issuer of somebody else's says in its own words who may do what; the file has them then, ``mfa`` in place of ``acr``:

    {..., "mfa": {"claim": "amr", "values": ["mfa"]}, "roles": {"claim": "groups", "of": {"staff": ["member"]}}}

Keys: RFC 7517 and 7518. The assistant asks no identity server; it reads the file again with each request, since keys
rotate and Kubernetes then swaps a symlink under the same path.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt

from .paths import Segments, segments

MAX_FILE_BYTES = 256 * 1024
MIN_RSA_BITS = 2048


class TrustError(Exception):
    """The file is missing or broken, so that nobody can be let in. The message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Roles:
    """Where a token says what its person may do; a dot in ``claim`` leads into an object.

    ``of``: the roles that each of the claim's values means, and no other value means any. None: values are the roles.
    """

    claim: str
    of: Mapping[str, frozenset[str]] | None


@dataclass(frozen=True, slots=True)
class Trust:
    """What an identity must be. ``keys`` by key id, each bound to its one algorithm; ``public``: prefixes of paths.

    ``factors``: one of these in the claim ``factor_claim`` means a second factor.
    """

    issuer: str
    audience: str
    factor_claim: str
    factors: frozenset[str]
    roles: Roles
    keys: Mapping[str, jwt.PyJWK]
    public: tuple[Segments, ...]


def parse(data: bytes) -> Trust:
    """The file's content. Raises TrustError."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise TrustError("it is no JSON object")
    factor_claim, factors = _factors(document)
    return Trust(
        issuer=_text(document, "issuer"),
        audience=_text(document, "audience"),
        factor_claim=factor_claim,
        factors=factors,
        roles=_roles(document["roles"]) if "roles" in document else Roles("roles", None),
        keys=_keys(document.get("jwks")),
        public=_public(document.get("public", [])),
    )


def _text(document: dict[str, Any], field: str) -> str:
    value = document.get(field)
    if not isinstance(value, str) or not value:
        raise TrustError(f"{field} must be a text that is not empty")
    return value


def _factors(document: dict[str, Any]) -> tuple[str, frozenset[str]]:
    mfa = document.get("mfa")
    if mfa is None:
        return "acr", frozenset({_text(document, "acr")})
    if "acr" in document or not isinstance(mfa, dict):
        raise TrustError("mfa must be an object, and stands in place of acr")
    return _text(mfa, "claim"), _texts(mfa.get("values"), "mfa.values")


def _roles(roles: Any) -> Roles:
    mapping = roles.get("of") if isinstance(roles, dict) else None
    if not isinstance(mapping, dict):
        raise TrustError("roles must be an object with claim and of")
    return Roles(_text(roles, "claim"), {value: _texts(found, "roles.of") for value, found in mapping.items()})


def _texts(value: Any, field: str) -> frozenset[str]:
    found = _list(value, field)
    if not found or not all(isinstance(text, str) and text for text in found):
        raise TrustError(f"{field} must hold lists of texts, and none of these may be empty")
    return frozenset(found)


def _public(prefixes: Any) -> tuple[Segments, ...]:
    found = [segments(p) if isinstance(p, str) and p.endswith("/") else None for p in _list(prefixes, "public")]
    if None in found:
        raise TrustError("each prefix in public must be a plain path that begins and ends with /")
    return tuple(f[:-1] for f in found if f is not None)


def _list(value: Any, field: str) -> list[Any]:
    if not isinstance(value, list):
        raise TrustError(f"{field} must be a list")
    return value


def _keys(jwks: Any) -> dict[str, jwt.PyJWK]:
    keys: dict[str, jwt.PyJWK] = {}
    for jwk in _list(jwks.get("keys") if isinstance(jwks, dict) else None, "jwks.keys"):
        key = _signing_key(jwk)
        if key is None:
            continue
        kid = jwk.get("kid")
        if not isinstance(kid, str) or not kid or kid in keys:
            raise TrustError("each signing key in jwks.keys must have a kid of its own")
        keys[kid] = key
    if not keys:
        raise TrustError("jwks.keys holds no key that verifies RS256, PS256 or ES256")
    return keys


def _signing_key(jwk: Any) -> jwt.PyJWK | None:
    # Only the public members are taken: a private key has no business here, and would not be used.
    match jwk:
        case {"kty": "RSA", "n": str(n), "e": str(e)}:
            # An RSA key that doesn't say so is not of PS256: a key has one algorithm (RFC 8725, section 3.1).
            algorithm, public = "PS256" if jwk.get("alg") == "PS256" else "RS256", {"kty": "RSA", "n": n, "e": e}
        case {"kty": "EC", "crv": "P-256", "x": str(x), "y": str(y)}:
            algorithm, public = "ES256", {"kty": "EC", "crv": "P-256", "x": x, "y": y}
        case _:
            return None
    if jwk.get("use", "sig") != "sig" or jwk.get("alg", algorithm) != algorithm:
        return None
    try:
        key = jwt.PyJWK(public, algorithm)
    except jwt.PyJWTError:
        raise TrustError("a key in jwks.keys is broken") from None
    if public["kty"] == "RSA" and key.key.key_size < MIN_RSA_BITS:
        raise TrustError(f"a key in jwks.keys has fewer than {MIN_RSA_BITS} bits")
    return key


class TrustFile:
    """The file at one path, as it is now."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._data: bytes | None = None
        self._parsed: Trust | TrustError = TrustError("it was not read yet")

    def read(self) -> Trust:
        """What the file says now; parsed only where it changed. Raises TrustError."""
        # Reading the few kilobytes each time misses no change; comparing time stamps would miss quick ones.
        try:
            with self._path.open("rb") as file:
                data = file.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            raise TrustError(f"it can't be read ({error.strerror})") from None
        if len(data) > MAX_FILE_BYTES:
            raise TrustError(f"it is larger than {MAX_FILE_BYTES} bytes")
        if data != self._data:
            try:
                self._parsed = parse(data)
            except TrustError as error:
                self._parsed = error
            self._data = data
        if isinstance(self._parsed, TrustError):
            raise TrustError(str(self._parsed))
        return self._parsed
