"""An identity server's keys and tokens, made here: the good ones, and every bad one that an attacker would try."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

ISSUER = "https://sso.eu.example/realms/acme-01234567"
AUDIENCE = "front-door"
Object = dict[str, Any]


@cache
def rsa_key(name: str) -> rsa.RSAPrivateKey:
    """The RSA key of this name; making one takes a while."""
    return rsa.generate_private_key(public_exponent=65537, key_size=1024 if name == "short" else 2048)


@cache
def ec_key(name: str) -> ec.EllipticCurvePrivateKey:
    """The P-256 key of this name."""
    return ec.generate_private_key(ec.SECP256R1())


def jwk(kid: str) -> Object:
    """The public half of an RSA key, as identity servers publish it."""
    public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(rsa_key(kid).public_key()))
    return {**public, "kid": kid, "use": "sig", "alg": "RS256"}


def ec_jwk(kid: str) -> Object:
    """The public half of a P-256 key."""
    public = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(ec_key(kid).public_key()))
    return {**public, "kid": kid, "use": "sig", "alg": "ES256"}


def document(*kids: str, **changed: Any) -> Object:
    """What the operator mounts."""
    return {
        "issuer": ISSUER,
        "audience": AUDIENCE,
        "acr": "mfa",
        "jwks": {"keys": [jwk(kid) for kid in kids or ("first",)]},
        "public": ["/forms/public/"],
        **changed,
    }


def claims(*roles: str, left_out: tuple[str, ...] = (), **changed: Any) -> Object:
    """A person's claims, as the realm of a tenant gives them."""
    now = int(time.time())
    made = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "azp": AUDIENCE,
        "iat": now,
        "exp": now + 300,
        "acr": "mfa",
        "sub": "7b1c2d3e-0000-4000-8000-00000000a11c",
        "typ": "ID",
        "roles": list(roles or ("member",)),
        **changed,
    }
    return {k: v for k, v in made.items() if k not in left_out}


def sign(payload: Object, kid: str = "first", **header: Any) -> str:
    """A token signed with RS256 by the key of this name; ``header`` adds parameters or replaces them."""
    return signed(payload, {"alg": "RS256", "typ": "JWT", "kid": kid, **header}, rsa_key(kid))


def token(*roles: str, **changed: Any) -> str:
    """A good token."""
    return sign(claims(*roles, **changed))


def ec_token(kid: str) -> str:
    """A good token of an ES256 key."""
    return jwt.encode(claims(), ec_key(kid), "ES256", {"kid": kid})


def segment(value: bytes) -> str:
    """Base64url without padding (RFC 7515, 2)."""
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def signed(payload: Object | bytes, header: Object, key: rsa.RSAPrivateKey | bytes | None) -> str:
    """Any header over any payload, signed with RSA, with HMAC or with nothing, whatever the header says."""
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    text = f"{segment(json.dumps(header).encode())}.{segment(body)}"
    match key:
        case None:
            return f"{text}."
        case bytes():
            return f"{text}.{segment(hmac.digest(key, text.encode(), hashlib.sha256))}"
        case _:
            return f"{text}.{segment(key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


def _public_pem() -> bytes:
    return (
        rsa_key("first")
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


def _swapped() -> str:
    head, _, tail = token().split(".")
    body = segment(json.dumps(claims("owner")).encode())
    return f"{head}.{body}.{tail}"


def _now(seconds: int) -> int:
    return int(time.time()) + seconds


HEAD = {"alg": "RS256", "typ": "JWT", "kid": "first"}

# Each is refused with 401, whichever path it comes to.
ATTACKS: dict[str, Callable[[], str]] = {
    "empty": lambda: "",
    "no token": lambda: "owner",
    "two tokens in one field": lambda: f"{token()}, {token()}",
    "scheme before it": lambda: f"Bearer {token()}",
    "alg none": lambda: signed(claims("owner"), {"alg": "none", "kid": "first"}, None),
    "alg none with a signature": lambda: signed(claims("owner"), {"alg": "none", "kid": "first"}, b"x"),
    "alg None in other letters": lambda: signed(claims("owner"), {"alg": "NoNe", "kid": "first"}, b"x"),
    "no alg": lambda: signed(claims("owner"), {"kid": "first"}, rsa_key("first")),
    "alg no text": lambda: signed(claims("owner"), {**HEAD, "alg": ["RS256"]}, rsa_key("first")),
    "HS256 with the public key": lambda: signed(claims("owner"), {**HEAD, "alg": "HS256"}, _public_pem()),
    "HS256 with nothing": lambda: signed(claims("owner"), {**HEAD, "alg": "HS256"}, b""),
    "another algorithm of the key": lambda: jwt.encode(claims("owner"), rsa_key("first"), "PS256", {"kid": "first"}),
    "no kid": lambda: signed(claims("owner"), {"alg": "RS256"}, rsa_key("first")),
    "kid no text": lambda: signed(claims("owner"), {**HEAD, "kid": 7}, rsa_key("first")),
    "kid of nobody": lambda: sign(claims("owner"), "stranger"),
    "kid of ours, key of theirs": lambda: signed(claims("owner"), HEAD, rsa_key("stranger")),
    "key brought along": lambda: signed(claims("owner"), {**HEAD, "jwk": jwk("stranger")}, rsa_key("stranger")),
    "key by URL": lambda: sign(claims("owner"), "stranger", jku="https://evil.example/jwks"),
    "critical extension": lambda: sign(claims("owner"), crit=["exp"], exp=1),
    "payload exchanged": _swapped,
    "signature cut": lambda: token().rpartition(".")[0] + ".",
    "signature shortened": lambda: token()[:-8],
    "signature padded": lambda: token() + "==",
    "no ASCII": lambda: token() + "\xff",
    "a fourth part": lambda: token() + "." + segment(b"x"),
    "payload a list": lambda: signed(b"[]", HEAD, rsa_key("first")),
    "payload no JSON": lambda: signed(b"{", HEAD, rsa_key("first")),
    "payload deep": lambda: signed(b"[" * 3000, HEAD, rsa_key("first")),
    "other issuer": lambda: token("owner", iss="https://sso.eu.example/realms/other-01234567"),
    "issuer's beginning": lambda: token("owner", iss=ISSUER[:-1]),
    "issuer a list": lambda: token("owner", iss=[ISSUER]),
    "other audience": lambda: token("owner", aud="account"),
    "audiences without ours": lambda: token("owner", aud=["account", "broker"]),
    "audiences beside ours": lambda: token("owner", aud=[AUDIENCE, "account"]),
    "audience an object": lambda: token("owner", aud={AUDIENCE: 1}),
    "audience's beginning": lambda: token("owner", aud="front"),
    "another party's": lambda: token("owner", azp="account"),
    "expired": lambda: token("owner", exp=_now(-31)),
    "not yet valid": lambda: token("owner", nbf=_now(60)),
    "issued in the future": lambda: token("owner", iat=_now(60)),
    "valid for long": lambda: token("owner", exp=_now(7200)),
    "expiry a text": lambda: token("owner", exp=str(_now(300))),
    "expiry of many digits": lambda: token("owner", exp=10**400),
    "expiry infinite": lambda: token("owner", exp=float("inf")),
    "expiry nothing": lambda: token("owner", exp=None),
    "weak login": lambda: token("owner", acr="pwd"),
    "strong login among others": lambda: token("owner", acr=["mfa"]),
    "subject empty": lambda: token("owner", sub=""),
    "subject a number": lambda: token("owner", sub=7),
    "roles a text": lambda: token(roles="owner"),
    "roles in roles": lambda: token(roles=[["owner"]]),
    **{
        f"no {claim}": lambda claim=claim: token("owner", left_out=(claim,))  # type: ignore[misc]
        for claim in ("iss", "aud", "exp", "acr", "sub")
    },
}
