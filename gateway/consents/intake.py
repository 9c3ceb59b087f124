"""What is sent to the guard's own pages: small, of a known type, and from nobody else's page."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from aiohttp import web

from domicile.gateway.consents.refusal import RefusedError

FORM = "application/x-www-form-urlencoded"
JSON = "application/json"
_BODY_BYTES = 16384
_FIELDS = 16
_SECONDS = 10.0


def require_own_page(request: web.BaseRequest) -> None:
    """Raise RefusedError where somebody else's page may have made the browser send this.

    Browsers say from where (Fetch Metadata, else Origin). Who says neither is no browser, or an old one: it must send
    JSON, which no page may send to another origin without being allowed to.
    """
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if site is not None:
        fine = site == "same-origin"
    elif origin is not None:
        asked = request.headers.get("X-Forwarded-Host") or request.headers.get("Host") or ""
        fine = urlsplit(origin).netloc.lower() == asked.lower() != ""
    else:
        fine = request.content_type == JSON
    if not fine:
        raise RefusedError(403, "CrossSite", "This was sent by a page of another site. Open the assistant's own page.")


async def fields(request: web.BaseRequest) -> Mapping[str, Any]:
    """The fields of a form or of a JSON object, of a request without faults of framing. Raises RefusedError."""
    require_own_page(request)
    if request.content_type not in {FORM, JSON} or "Content-Encoding" in request.headers:
        raise RefusedError(415, "UnsupportedType", f"Send {JSON} or a form, uncompressed.")
    if "Expect" in request.headers:
        raise RefusedError(417, "ExpectationFailed", "Send the body at once.")
    body = await _body(request)
    try:
        text = body.decode()
        if request.content_type == FORM:
            found = dict(parse_qsl(text, keep_blank_values=True, strict_parsing=True, max_num_fields=_FIELDS))
        else:
            found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise RefusedError(400, "BadRequest", "The body can't be read.")
    return found


async def _body(request: web.BaseRequest) -> bytes:
    body = b""
    try:
        async with asyncio.timeout(_SECONDS):
            async for piece in request.content.iter_any():
                body += piece
                if len(body) > _BODY_BYTES:
                    raise RefusedError(413, "BodyTooLarge", f"A body may have {_BODY_BYTES} bytes here.")
    except TimeoutError:
        raise RefusedError(408, "BodyTimeout", "The body did not come in time.") from None
    return body


def text(found: Mapping[str, Any], name: str) -> str | None:
    """A field that is a text, if it is there. Raises RefusedError."""
    value = found.get(name)
    if value is not None and not isinstance(value, str):
        raise RefusedError(400, "BadRequest", f"{name} must be a text.")
    return value


def switch(found: Mapping[str, Any], name: str) -> bool | None:
    """A field that is true or false, if it is there. Raises RefusedError."""
    value = found.get(name)
    known = {"true": True, "on": True, "false": False}
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str) and value in known:
        return known[value]
    raise RefusedError(400, "BadRequest", f"{name} must be true or false.")
