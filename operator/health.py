"""The operator's probes, /healthz and /readyz: plain HTTP, for whoever asks, so they say no more than ok or not ok."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from domicile.listener import bind

log = logging.getLogger(__name__)


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


def _verdict(*, good: bool) -> web.Response:
    return web.Response(text="ok" if good else "not ok", status=200 if good else 503)


@asynccontextmanager
async def serving(health: Health, port: int) -> AsyncIterator[int]:
    """Serve on all addresses while the context lasts; yields the port. Raises OSError where it is taken."""

    async def healthz(_: web.Request) -> web.Response:
        complaints = health.complaints()
        for complaint in complaints:
            log.warning("unhealthy: %s", complaint)
        return _verdict(good=not complaints)

    async def readyz(_: web.Request) -> web.Response:
        return _verdict(good=health.ready)

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        listener = bind(port)
        await web.SockSite(runner, listener).start()
        yield listener.getsockname()[1]
    finally:
        await runner.cleanup()
