"""The proxy that calls of clouds go through, where a process has one: on its own loopback, without a password.

What it is, and where it leads, is ``domicile.forwarding``'s.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from requests.utils import get_environ_proxies

from domicile.api.egress import leads

_url: str | None = None
_by_path = False


def use(url: str | None, *, by_path: bool = False) -> None:
    """Let clients that are made from now on go through this HTTP proxy; None: through none.

    ``by_path``: with the name of a bucket in the path and not in the host, for a list of hosts that knows no buckets.
    """
    global _url, _by_path
    _url, _by_path = url, by_path


def by_path() -> bool:
    """As ``use`` was told."""
    return _by_path


def proxies(url: str | None = None) -> dict[str, str]:
    """What to use for an endpoint, as requests and botocore take it; empty: a direct connection.

    ``url`` None: an endpoint of a cloud's, whatever its name.
    """
    return {"https": _url} if _url is not None and (url is None or leads(url)) else {}


def equip(session: Any, url: str | None = None, roots: str | None = None) -> None:
    """Let a session of requests go through it to an endpoint, as ``proxies``; ``roots``: file of its authorities."""
    led = proxies(url)
    if led or roots:
        session.proxies.update(led or get_environ_proxies(url or ""))
        # The environment's authorities, and its proxies, would win over the session's.
        session.trust_env = False
        session.verify = roots or True


def place(url: str) -> str | None:
    """The same as host:port."""
    return urlsplit(_url).netloc if _url is not None and leads(url) else None
