"""A TCP proxy that delivers every byte a fixed time later: the distance between two sites, on one machine.

    python -m tests.bench.delay MILLISECONDS TARGET_PORT ...

Prints the ports that it listens on, one for each target. ``MILLISECONDS`` is one way; the first bytes of a connection
wait a round trip more, which a real connection's handshake takes. There is no bandwidth limit and no slow start. tc's
netem would do the same in the kernel, but not every kernel has it.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import deque
from typing import cast

_HELD_BYTES = 8 << 20


class Side(asyncio.Protocol):
    """One end of a proxied connection; what arrives here is written to the other end when its time has come."""

    def __init__(self, delay: float, first: float) -> None:
        self._delay, self._first = delay, first
        self._transport: asyncio.Transport | None = None
        self._other: Side | None = None
        self._due: deque[bytes] = deque()
        self._held = 0
        self._stopped = False

    def join(self, other: Side) -> None:
        """Make ``other`` the receiver, at once for what has arrived already."""
        self._other = other
        if self._transport:
            self._transport.resume_reading()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._other is None:
            self._transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        self._later(data)

    def eof_received(self) -> bool:
        self._later(b"")
        return True

    def connection_lost(self, _: Exception | None) -> None:
        self._later(b"")

    def pause_writing(self) -> None:
        if self._other:
            self._other.hold(True)

    def resume_writing(self) -> None:
        if self._other:
            self._other.hold(False)

    def hold(self, stopped: bool) -> None:
        """Read no further while the other end takes nothing, or while too much is on its way."""
        self._stopped = stopped
        self._regulate()

    def write(self, data: bytes) -> None:
        """Send; nothing ends the connection."""
        if self._transport is None or self._transport.is_closing():
            return
        if data:
            self._transport.write(data)
        else:
            self._transport.close()

    def _later(self, data: bytes) -> None:
        # Timers of equal times may fire in any order; what they send is taken in the order of its arrival.
        self._due.append(data)
        self._held += len(data)
        asyncio.get_running_loop().call_later(self._delay + self._first, self._deliver)
        self._regulate()

    def _deliver(self) -> None:
        self._first = 0.0
        data = self._due.popleft()
        self._held -= len(data)
        if self._other:
            self._other.write(data)
        self._regulate()

    def _regulate(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if self._stopped or self._held > _HELD_BYTES:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()


async def listen(delay: float, target: int) -> asyncio.Server:
    """Proxy a free port of loopback to ``target``; ``delay`` in seconds, one way."""
    loop = asyncio.get_running_loop()
    going: set[asyncio.Task[None]] = set()

    def accept() -> Side:
        near = Side(delay, 2 * delay)

        async def connect() -> None:
            try:
                _, far = await loop.create_connection(lambda: Side(delay, 0.0), "127.0.0.1", target)
            except OSError:
                near.write(b"")
                return
            far.join(near)
            near.join(far)

        task = loop.create_task(connect())
        going.add(task)
        task.add_done_callback(going.discard)
        return near

    return await loop.create_server(accept, "127.0.0.1", 0, backlog=1024)


async def main(milliseconds: float, targets: list[int]) -> None:
    """Serve until the process is ended."""
    servers = [await listen(milliseconds / 1000, target) for target in targets]
    print(json.dumps([server.sockets[0].getsockname()[1] for server in servers]), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1]), [int(port) for port in sys.argv[2:]]))
