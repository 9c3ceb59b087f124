"""A port for machines: TLS 1.3, listed networks only, and a client certificate of a named authority.

Changed files count from the next connection on.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final

from aiohttp import web

from domicile.credentials import Credentials

log = logging.getLogger(__name__)

Network = IPv4Network | IPv6Network

ANYWHERE: Final = (ip_network("0.0.0.0/0"), ip_network("::/0"))
_HANDSHAKE_SECONDS: Final = 5.0
_HANDSHAKES: Final = 32
_PAUSE_SECONDS: Final = 1.0


def bind(port: int) -> socket.socket:
    """One socket for both address families: two of them would get two different free ports. Raises OSError if taken."""
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", port))


def listed(address: str, networks: Sequence[Network]) -> bool:
    """Whether an IP address is in one of the networks; an IPv4 address may come in IPv6 form (RFC 4291, 2.5.5.2)."""
    found = ip_address(address)
    mapped = getattr(found, "ipv4_mapped", None)
    return any((mapped or found) in network for network in networks)


class _Reception:
    """Takes connections until cancelled."""

    def __init__(self, listener: socket.socket, server: web.Server, files: Credentials, networks: Sequence[Network]):
        self._listener = listener
        self._server = server
        self._files = files
        self._networks = networks
        # Who says nothing holds a file descriptor: not more than these.
        self._free = asyncio.Semaphore(_HANDSHAKES)

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            while True:
                await self._free.acquire()
                try:
                    connection, peer = await loop.sock_accept(self._listener)
                except OSError as error:
                    log.warning("no connection can be taken (%s); trying again", error.strerror)
                    self._free.release()
                    await asyncio.sleep(_PAUSE_SECONDS)
                    continue
                group.create_task(self._greet(connection, peer[0]))

    async def _greet(self, connection: socket.socket, peer: str) -> None:
        try:
            context = self._files.context() if listed(peer, self._networks) else None
            if context is None:
                connection.close()
                return
            await asyncio.get_running_loop().connect_accepted_socket(
                self._server,
                connection,
                ssl=context,
                ssl_handshake_timeout=_HANDSHAKE_SECONDS,
                ssl_shutdown_timeout=_HANDSHAKE_SECONDS,
            )
        except OSError as error:
            connection.close()
            log.warning("a client was refused: %s", str(error) or type(error).__name__)
        except Exception:
            # One client must not end the port for all.
            connection.close()
            log.exception("a connection failed")
        finally:
            self._free.release()


async def _one_request(_: web.Request, response: web.StreamResponse) -> None:
    response.force_close()
    response.headers["Connection"] = "close"


@asynccontextmanager
async def receiving(
    runner: web.BaseRunner, port: int, files: Credentials, networks: Sequence[Network]
) -> AsyncIterator[int]:
    """Take connections for a runner that is set up, on all addresses while the context lasts; yields the port.

    Raises OSError where it is taken.
    """
    if runner.server is None:
        raise RuntimeError("the runner is not set up")
    with bind(port) as listener:
        listener.setblocking(False)
        taking = asyncio.create_task(_Reception(listener, runner.server, files, networks).run())
        try:
            yield listener.getsockname()[1]
        finally:
            taking.cancel()
            await asyncio.wait([taking])


@asynccontextmanager
async def serving(
    app: web.Application, port: int, files: Credentials, networks: Sequence[Network]
) -> AsyncIterator[int]:
    """Serve ``app`` on all addresses while the context lasts; yields the port. Raises OSError where it is taken.

    Each connection carries one request, so nobody stays in by an authority that was taken out.
    """
    app.on_response_prepare.append(_one_request)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        async with receiving(runner, port, files, networks) as taken:
            yield taken
    finally:
        await runner.cleanup()
