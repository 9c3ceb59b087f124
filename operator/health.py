"""HTTP endpoints of the operator: /healthz, /readyz and /metrics."""

from __future__ import annotations

import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web

_METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class Health:
    """Whether the process does its work. A process that only waits for leadership is healthy and ready."""

    def __init__(self, silence_seconds: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        """``silence_seconds``: how long a watched part may be silent."""
        self._limit = silence_seconds
        self._clock = clock
        self._ages: dict[str, Callable[[], float]] = {}
        self.ready = False

    def watch(self, part: str, age: Callable[[], float]) -> None:
        """Fail /healthz while ``age()`` (seconds since the part last moved) exceeds the limit."""
        self._ages[part] = age

    def pulse(self, part: str) -> Callable[[], None]:
        """Watch a part that beats: call the returned function whenever it moves."""
        last = self._clock()

        def beat() -> None:
            nonlocal last
            last = self._clock()

        self.watch(part, lambda: self._clock() - last)
        return beat

    def forget(self) -> None:
        """Watch nothing: the work has ended."""
        self._ages.clear()

    def complaints(self) -> list[str]:
        """One sentence for each part that is silent for too long."""
        ages = {part: age() for part, age in self._ages.items()}
        return [f"{part}: silent for {age:.0f} s" for part, age in ages.items() if age > self._limit]


def _listener(port: int) -> socket.socket:
    """One socket for both address families: two of them would get two different free ports."""
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", port))


@asynccontextmanager
async def serving(health: Health, render_metrics: Callable[[], bytes], port: int) -> AsyncIterator[int]:
    """Serve on all addresses while the context lasts; yields the port. Raises OSError where it is taken."""

    async def healthz(_: web.Request) -> web.Response:
        complaints = health.complaints()
        return web.Response(text="\n".join(complaints) or "ok", status=503 if complaints else 200)

    async def readyz(_: web.Request) -> web.Response:
        return web.Response(text="ok" if health.ready else "not connected yet", status=200 if health.ready else 503)

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=render_metrics(), headers={"Content-Type": _METRICS_TYPE})

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        listener = _listener(port)
        await web.SockSite(runner, listener).start()
        yield listener.getsockname()[1]
    finally:
        await runner.cleanup()
