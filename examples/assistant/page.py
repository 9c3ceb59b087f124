"""The chat page: one HTML file, sent with a policy that admits its own script and style (by hash) and nothing else."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web

from .conversation import CONSENT_VERSION

_PAGE = (Path(__file__).parent / "page.html").read_text(encoding="utf-8")


def _hash_of(element: str) -> str:
    (content,) = re.findall(rf"<{element}>(.*?)</{element}>", _PAGE, re.DOTALL)
    return "'sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode() + "'"


SECURITY_HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; script-src {_hash_of('script')}; style-src {_hash_of('style')}; img-src data:;"
        " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none';"
        " require-trusted-types-for 'script'"
    ),
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def handler(name: str) -> Callable[[web.Request], Awaitable[web.Response]]:
    """The page's handler. The name goes into the markup (escaped), never into the script, whose hash is fixed."""
    body = _PAGE.replace("@CONSENT_VERSION@", html.escape(CONSENT_VERSION)).replace("@NAME@", html.escape(name))

    async def show(_: web.Request) -> web.Response:
        return web.Response(text=body, content_type="text/html")

    return show
