"""A port for machines: TLS 1.3, listed networks only, and a client certificate of a named authority.

A folder holds ``tls.crt`` and ``tls.key`` (what the port shows) and ``clients.crt`` (authorities of whoever may
connect), all PEM. Changed files count from the next connection on, and each connection carries one request, so nobody
stays in by an authority that was taken out. TLS 1.3 (RFC 8446) has no curves below P-256; OpenSSL's security level 2
refuses RSA below 2048 bits and certificates that are signed with SHA-1. Tickets are not given: a resumed session shows
no certificate.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path
from typing import Final

from aiohttp import web

log = logging.getLogger(__name__)

Network = IPv4Network | IPv6Network

FILES: Final = ("tls.crt", "tls.key", "clients.crt")
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


class Credentials:
    """The files of one port, read again whenever they have changed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._context: ssl.SSLContext | None = None
        self._seen: list[tuple[int, int, int]] = []

    def context(self) -> ssl.SSLContext | None:
        """What to serve a connection by: the newest files that fit together; None where there were none so far."""
        try:
            stats = [(self._folder / name).stat() for name in FILES]
            seen = [(s.st_ino, s.st_mtime_ns, s.st_size) for s in stats]
            if seen != self._seen:
                self._context, self._seen = _load(self._folder), seen
        except OSError as error:  # ssl.SSLError is one
            kept = "connections are refused" if self._context is None else "those before stay in use"
            log.error(  # noqa: TRY400 - the message says all
                "%s: %s can't be used (%s); %s. Mend the Secret that is mounted there.",
                self._folder,
                ", ".join(FILES),
                error,
                kept,
            )
        return self._context


def _load(folder: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # Also sets the least strength of keys and signatures of all certificates, whatever the system's default is.
    context.set_ciphers("DEFAULT:@SECLEVEL=2")
    context.num_tickets = 0
    certificate, key, clients = (folder / name for name in FILES)
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(clients)
    context.verify_mode = ssl.CERT_REQUIRED
    # An issuing authority may be named without the root above it, whose other certificates then stay out.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


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
async def serving(
    app: web.Application, port: int, files: Credentials, networks: Sequence[Network]
) -> AsyncIterator[int]:
    """Serve ``app`` on all addresses while the context lasts; yields the port. Raises OSError where it is taken."""
    app.on_response_prepare.append(_one_request)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    if runner.server is None:
        raise RuntimeError("the runner is set up, and has no server")
    try:
        with bind(port) as listener:
            listener.setblocking(False)
            taking = asyncio.create_task(_Reception(listener, runner.server, files, networks).run())
            try:
                yield listener.getsockname()[1]
            finally:
                taking.cancel()
                await asyncio.wait([taking])
    finally:
        await runner.cleanup()
