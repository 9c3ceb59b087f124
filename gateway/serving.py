"""The server that guard and gateway take requests with: strict about lines and fields, silent about what is in them."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import web

from domicile.gateway.proxy import HEADERS_LIMIT, LINE_LIMIT

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@contextlib.asynccontextmanager
async def served(handler: Handler, grace_seconds: float) -> AsyncIterator[web.ServerRunner]:
    """A server without a port yet; requests under way at the end have ``grace_seconds``."""
    # The server's own logger would write down parts of a malformed request.
    silent = logging.getLogger("domicile.gateway.serving.http")
    silent.disabled = True
    runner = web.ServerRunner(
        web.Server(
            handler,
            handler_cancellation=True,
            access_log=None,
            logger=silent,
            auto_decompress=False,
            max_line_size=LINE_LIMIT,
            max_field_size=LINE_LIMIT,
            max_headers=HEADERS_LIMIT,
            keepalive_timeout=75.0,
            lingering_time=2.0,
        ),
        shutdown_timeout=grace_seconds,
    )
    try:
        await runner.setup()
        yield runner
    finally:
        await runner.cleanup()
