"""The proxy that calls of clouds go through, where a process has one: on its own loopback, without a password.

What it is, and where it leads, is ``domicile.forwarding``'s.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from domicile.api.egress import HOST

_url: str | None = None


def use(url: str | None) -> None:
    """Let clients that are made from now on go through this HTTP proxy; None: through none."""
    global _url  # noqa: PLW0603 - a process has one
    _url = url


def used() -> bool:
    """Whether there is one."""
    return _url is not None


def leads(url: str) -> bool:
    """Whether an endpoint is one that a site's way out could lead to: TLS at a full name."""
    at = urlsplit(url)
    return at.scheme == "https" and re.match(HOST, at.hostname or "") is not None


def proxies(url: str | None = None) -> dict[str, str]:
    """What to use for an endpoint, as requests and botocore take it; empty: a direct connection.

    ``url`` None: an endpoint of a cloud's, whatever its name.
    """
    return {"https": _url} if _url is not None and (url is None or leads(url)) else {}


def place(url: str) -> str | None:
    """The same as host:port."""
    return urlsplit(_url).netloc if _url is not None and leads(url) else None
