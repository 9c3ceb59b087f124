"""Who is believed on the way to a provider: the pods' authority for the way out, and the provider's own behind it."""

from __future__ import annotations

import ssl
from functools import lru_cache
from typing import Any


class Hops(ssl.SSLContext):
    """aiohttp has one context for a proxy and for what lies behind it; this is two, told apart by the proxy's name.

    So no provider is shown the pod's certificate, and nobody whom a provider's authority knows can be the way out.
    """

    _proxy: str
    _to_proxy: ssl.SSLContext
    _behind: ssl.SSLContext

    def __new__(cls, proxy: str, to_proxy: ssl.SSLContext, behind: ssl.SSLContext) -> Hops:
        made = super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)
        made._proxy, made._to_proxy, made._behind = proxy, to_proxy, behind
        return made

    def __init__(self, proxy: str, to_proxy: ssl.SSLContext, behind: ssl.SSLContext) -> None:
        """``proxy``: its host, as its URL has it."""

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: Any = None,
    ) -> ssl.SSLObject:
        """As ``ssl.SSLContext.wrap_bio``, which is all that asyncio asks of a context."""
        context = self._to_proxy if server_hostname == self._proxy else self._behind
        return context.wrap_bio(incoming, outgoing, server_side, server_hostname, session)


@lru_cache(maxsize=64)
def believing(bundle: str | None) -> ssl.SSLContext:
    """What to ask a provider by: the authorities of ``bundle`` (PEM) and no others; None: the system's.

    Raises ssl.SSLError where it holds none.
    """
    context = ssl.create_default_context(cadata=bundle)
    # An issuing authority may be named without the root above it.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context
