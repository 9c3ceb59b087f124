"""Whose consents a request is under: a person who logged in, or a browser that holds a random token.

The front door has checked the identity, and nobody else is served by a guard that has one (mTLS); the assistant checks
it again. What names a person in the store is a hash that the tenant's id salts: who knows a ``sub`` can find that
person's, as is needed to erase them, and the bucket alone tells nobody who it is.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets

from aiohttp import web

from domicile.gateway.consents.refusal import RefusedError

COOKIE = "domicile_visitor"
COOKIE_SECONDS = 180 * 24 * 3600
_IDENTITY = "Domicile-Identity"
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)
_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)*/?", re.ASCII)


class Asker:
    """Tells whose a request is."""

    def __init__(self, tenant: str, *, identified: bool) -> None:
        """``identified``: a front door says who somebody is; otherwise anybody could, and it is passed over."""
        self._tenant = tenant
        self.identified = identified

    def logged_in(self, request: web.BaseRequest) -> bool:
        """Whether a front door says who it is."""
        return self.identified and any(request.headers.getall(_IDENTITY, []))

    def person(self, request: web.BaseRequest) -> str | None:
        """The opaque name (64 hex digits) of whoever asks; None of a browser that is new. Raises RefusedError."""
        if self.logged_in(request):
            return self._hash("identity", *_subject(request.headers.getall(_IDENTITY)))
        token = _cookie(request)
        return None if token is None else self.of_token(token)

    def of_token(self, token: str) -> str:
        """The opaque name of a browser that holds this token."""
        return self._hash("cookie", token)

    def _hash(self, *parts: str) -> str:
        return hashlib.sha256(json.dumps(["domicile consents", self._tenant, *parts]).encode()).hexdigest()


def new_token() -> str:
    """256 random bits for a browser's cookie."""
    return secrets.token_urlsafe(32)


def cookie_path(request: web.BaseRequest) -> str:
    """The paths of this assistant, which may share its host with others. Raises RefusedError."""
    prefix = request.headers.get("X-Forwarded-Prefix", "")
    if not _PREFIX.fullmatch(prefix):
        raise RefusedError(400, "BadPrefix", "X-Forwarded-Prefix must be a path such as /helpdesk.")
    return prefix.rstrip("/") + "/"


def set_cookie(request: web.BaseRequest, response: web.Response, token: str) -> None:
    """Let the browser keep its token. Raises RefusedError."""
    response.set_cookie(
        COOKIE,
        token,
        max_age=COOKIE_SECONDS,
        httponly=True,
        # Strict would ask everybody anew who comes by a link from elsewhere.
        samesite="Lax",
        secure=request.headers.get("X-Forwarded-Proto") == "https",
        path=cookie_path(request),
    )


def _cookie(request: web.BaseRequest) -> str | None:
    for line in request.headers.getall("Cookie", []):
        for pair in line.split(";"):
            name, _, value = pair.strip().partition("=")
            if name == COOKIE and _TOKEN.fullmatch(value):
                return value
    return None


def _subject(values: list[str]) -> tuple[str, str]:
    try:
        (token,) = values
        _, payload, _ = token.split(".")
        claims = json.loads(base64.b64decode(payload + "=" * (-len(payload) % 4), altchars=b"-_", validate=True))
        issuer, subject = claims["iss"], claims["sub"]
    except (ValueError, KeyError, TypeError, RecursionError):
        issuer = subject = None
    if not (isinstance(issuer, str) and isinstance(subject, str) and issuer and subject):
        raise RefusedError(401, "BadIdentity", "The identity sent along can't be read. Log in again.")
    return issuer, subject
