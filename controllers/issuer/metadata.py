"""What must hold of an issuer before people are sent there: pure checks of its metadata and keys.

OpenID Connect Discovery 1.0, section 3; RFC 8414 for PKCE and RFC 7636 for S256; RFC 9207; RFC 7517 and 7518 for keys.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from domicile.api.common import PORT
from domicile.api.sso import SignatureAlgorithm
from domicile.api.zone import ApprovedIssuer
from domicile.controllers.issuer.state import Metadata

UNREACHABLE = "IssuerUnreachable"
WRONG = "IssuerMetadataWrong"
OUTSIDE = "IssuerEndpointOutside"
MIN_RSA_BITS = 2048
# What the front door can prove itself by, best first.
_TOKEN_AUTHS = ("client_secret_basic", "client_secret_post")
# No user, no fragment, and nothing that a config of the front door can't hold.
_URL = re.compile(rf"https://[A-Za-z0-9.-]+{PORT}(?:[/?][A-Za-z0-9._~:/?&=,+@-]*)?", re.ASCII)
_LONGEST = 1024
_KEYS = {
    SignatureAlgorithm.RS256: ("RSA", "n", "e"),
    SignatureAlgorithm.PS256: ("RSA", "n", "e"),
    SignatureAlgorithm.ES256: ("EC", "crv", "x", "y"),
}


class IssuerError(Exception):
    """The issuer can't be used. ``reason`` is that of the condition; the message says where and what to do."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def keys_url(document: Mapping[str, Any], approved: ApprovedIssuer) -> str:
    """Where a discovery document says that the keys are. Raises IssuerError where it is another issuer's, too."""
    if document.get("issuer") != approved.issuer:
        raise IssuerError(
            WRONG,
            f"The metadata of {approved.issuer} is that of another issuer. Write it as the issuer calls itself.",
        )
    return _called(document, "jwks_uri", approved)


def check(document: Mapping[str, Any], approved: ApprovedIssuer, algorithm: SignatureAlgorithm) -> Metadata:
    """The endpoints of a discovery document. Raises IssuerError."""
    issuer = approved.issuer
    jwks = keys_url(document, approved)
    _require(document, "response_types_supported", "code", None, issuer)
    _require(document, "grant_types_supported", "authorization_code", ("authorization_code", "implicit"), issuer)
    _require(document, "code_challenge_methods_supported", "S256", (), issuer)
    _require(document, "id_token_signing_alg_values_supported", algorithm.value, None, issuer)
    auths = _texts(document, "token_endpoint_auth_methods_supported", ("client_secret_basic",), issuer)
    auth = next((a for a in _TOKEN_AUTHS if a in auths), None)
    if auth is None:
        raise IssuerError(WRONG, f"{issuer} takes none of {', '.join(_TOKEN_AUTHS)} at its token endpoint.")
    return Metadata(
        authorization=_endpoint(document, "authorization_endpoint", approved),
        token=_called(document, "token_endpoint", approved),
        jwks=jwks,
        end_session=_endpoint(document, "end_session_endpoint", approved)
        if document.get("end_session_endpoint")
        else None,
        token_auth=auth,
        back_channel=document.get("backchannel_logout_supported") is True,
        names_itself=document.get("authorization_response_iss_parameter_supported") is True,
    )


def usable_keys(
    document: Mapping[str, Any], issuer: str, algorithm: SignatureAlgorithm
) -> tuple[Mapping[str, str], ...]:
    """The keys of a JWK set by which our tokens can be signed, public members only, by key id. Raises IssuerError."""
    listed = document.get("keys")
    found = [k for key in listed if (k := _key(key, algorithm))] if isinstance(listed, list) else []
    if not found or len({k["kid"] for k in found}) != len(found):
        raise IssuerError(
            WRONG,
            f"The keys of {issuer} hold none for {algorithm.value} with a key id of its own (RSA:"
            f" {MIN_RSA_BITS} bits or more). Correct external.algorithm, or have the issuer's keys mended.",
        )
    return tuple(sorted(found, key=lambda k: k["kid"]))


def _require(document: Mapping[str, Any], field: str, value: str, default: tuple[str, ...] | None, issuer: str) -> None:
    if value not in _texts(document, field, default, issuer):
        raise IssuerError(WRONG, f"{issuer} does not offer {value}: it is missing in {field} of its metadata.")


def _texts(document: Mapping[str, Any], field: str, default: tuple[str, ...] | None, issuer: str) -> tuple[str, ...]:
    """A list of texts; ``default`` is what its absence means, None: it must be there."""
    found = document.get(field, default)
    if not isinstance(found, list | tuple) or not all(isinstance(v, str) for v in found):
        raise IssuerError(WRONG, f"The metadata of {issuer} must have the list {field}.")
    return tuple(found)


def _endpoint(document: Mapping[str, Any], field: str, approved: ApprovedIssuer) -> str:
    """A URL with https at a host that the zone approves: the issuer's word alone leads nobody anywhere."""
    url = document.get(field)
    host = _host(url) if isinstance(url, str) and len(url) <= _LONGEST and _URL.fullmatch(url) else None
    if not isinstance(url, str) or host is None:
        raise IssuerError(
            WRONG,
            f"{field} in the metadata of {approved.issuer} must be a URL with https, of {_LONGEST} characters at most.",
        )
    if host not in {_host(approved.issuer), *approved.hosts}:
        raise IssuerError(
            OUTSIDE,
            f"{field} of {approved.issuer} lies at the host {host}, which the zone does not name. If it is in"
            " the zone, add it to hosts of this issuer in spec.externalIssuers of the ResidencyZone.",
        )
    return url


def _host(url: str) -> str | None:
    return urlsplit(url).hostname


def _called(document: Mapping[str, Any], field: str, approved: ApprovedIssuer) -> str:
    """An endpoint that front doors call: network policies open one port."""
    url = _endpoint(document, field, approved)
    port = urlsplit(url).port or 443
    if port != approved.port:
        raise IssuerError(
            OUTSIDE,
            f"{field} of {approved.issuer} has the port {port}, and the zone opens {approved.port}: correct port of"
            " this issuer in spec.externalIssuers of the ResidencyZone.",
        )
    return url


def _key(key: Any, algorithm: SignatureAlgorithm) -> dict[str, str] | None:
    kind, *members = _KEYS[algorithm]
    if not isinstance(key, dict) or key.get("kty") != kind or key.get("use", "sig") != "sig":
        return None
    if key.get("alg", algorithm.value) != algorithm.value:
        return None
    public = {m: v for m in ("kid", *members) if isinstance(v := key.get(m), str) and v}
    if len(public) <= len(members):
        return None
    if (kind == "RSA" and _bits(public["n"]) < MIN_RSA_BITS) or (kind == "EC" and public["crv"] != "P-256"):
        return None
    return {"kty": kind, "use": "sig", "alg": algorithm.value, **public}


def _bits(modulus: str) -> int:
    try:
        return int.from_bytes(base64.urlsafe_b64decode(modulus + "=" * (-len(modulus) % 4))).bit_length()
    except (binascii.Error, ValueError):
        return 0
