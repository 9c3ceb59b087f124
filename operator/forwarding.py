"""From a process' own loopback to the site's way out: how calls of stores, keys and STS leave.

Clients have different ideas of a proxy that wants a certificate, and all know one that wants nothing. This is one of
those: a CONNECT (RFC 9110, 9.3.6) that comes here goes on with TLS to the way out, with the pod's certificate and an
account. What passes is the client's own TLS, to the store.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import queue
import re
import threading
import time
from asyncio import StreamReader, StreamWriter
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from domicile.credentials import Credentials

log = logging.getLogger(__name__)

ACCOUNT = "egress"
"""Name of the account's file: ``<account>:<password>`` (RFC 7617)."""
_CONNECT = re.compile(rb"CONNECT ([A-Za-z0-9.-]{1,253}:[0-9]{1,5}) HTTP/1\.[01]\r\n")
_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})[ \r]")
_SECONDS = 10
_CHUNK = 1 << 16
# A tunnel takes 1.4 MiB at worst, most of it for its TLS.
_TUNNELS = 128
_PAGE_BYTES = 200
_QUIET_SECONDS = 60.0


class RefusedError(Exception):
    """The way out does not lead there; the text is its reason."""


class Forwarder:
    """Leads tunnels to one way out."""

    def __init__(self, to: str, credentials: Credentials, account: Path, most: int = _TUNNELS) -> None:
        """``to`` is host:port; ``account`` is the file, which like the others may come and change at any time.

        ``most``: tunnels at once.
        """
        self._host, _, port = to.rpartition(":")
        self._port = int(port)
        self._credentials = credentials
        self._account = account
        self._most = most
        self.clients = 0
        """Connections of which something is left."""
        self._told: dict[str, float] = {}

    async def listen(self, port: int = 0) -> asyncio.Server:
        """Take connections on the loopback; 0 picks a free port. Raises OSError where it is taken."""
        return await asyncio.start_server(self.tunnel, "127.0.0.1", port, limit=_CHUNK)

    async def tunnel(self, reader: StreamReader, writer: StreamWriter) -> None:
        """One connection of a client, to its end."""
        self.clients += 1
        try:
            with suppress(OSError, TimeoutError, *_CUT):
                await self._serve(reader, writer)
        finally:
            # It counts until nothing of it is left.
            await _closed(writer)
            self.clients -= 1

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        room = self.clients <= self._most
        # Read in any case: who has said something that nobody reads gets no answer, but a reset.
        async with asyncio.timeout(_SECONDS):
            target = _CONNECT.match(await reader.readuntil(b"\r\n\r\n"))
        if not room:
            self._tell(f"{self._most} tunnels are open, and no more are opened")
            _refuse(writer, "503 Service Unavailable")
        elif target is None:
            _refuse(writer, "405 Method Not Allowed")
        else:
            await self._lead(target[1].lower(), reader, writer)

    async def _lead(self, target: bytes, reader: StreamReader, writer: StreamWriter) -> None:
        try:
            async with asyncio.timeout(_SECONDS):
                onward_reader, onward = await self._open(target)
        except RefusedError as error:
            # Where to is in the log of the way out: a name may be anything that an assistant has to say.
            self._tell(f"the way out does not lead to what was asked for: {error}")
            _refuse(writer, "403 Forbidden")
            return
        except (OSError, TimeoutError, *_CUT) as error:
            self._tell(f"the way out at {self._host}:{self._port} can't be used ({type(error).__name__}: {error})")
            _refuse(writer, "502 Bad Gateway")
            return
        try:
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await _both(_passed(reader, onward), _passed(onward_reader, writer))
        finally:
            # What lies behind has a TLS of its own, which knows whether it was cut off.
            onward.transport.abort()

    async def _open(self, target: bytes) -> tuple[StreamReader, StreamWriter]:
        """A tunnel to ``target``. Raises RefusedError, OSError, and what ``_CUT`` has."""
        context = self._credentials.context()
        if context is None:
            raise FileNotFoundError("it has no certificate yet")
        proof = base64.b64encode(self._account.read_bytes().strip())
        reader, writer = await asyncio.open_connection(
            self._host, self._port, ssl=context, server_hostname=self._host, limit=_CHUNK
        )
        try:
            lines = (b"CONNECT %b HTTP/1.1" % target, b"Host: %b" % target, b"Proxy-Authorization: Basic %b" % proof)
            writer.write(b"\r\n".join((*lines, b"", b"")))
            status = _STATUS.match(await reader.readuntil(b"\r\n\r\n"))
            if status is None:
                raise ConnectionError("what answers is no proxy")
            if status[1] != b"200":
                raise RefusedError((await reader.read(_PAGE_BYTES)).decode("ascii", "replace").strip())
        except BaseException:
            writer.transport.abort()
            raise
        return reader, writer

    def _tell(self, message: str) -> None:
        """The same once a minute only."""
        now = time.monotonic()
        self._told = {told: at for told, at in self._told.items() if now - at < _QUIET_SECONDS}
        if message not in self._told:
            self._told[message] = now
            log.warning("%s", message)


_CUT = (asyncio.IncompleteReadError, asyncio.LimitOverrunError)


def _refuse(writer: StreamWriter, status: str) -> None:
    writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())


async def _passed(reader: StreamReader, writer: StreamWriter) -> None:
    while data := await reader.read(_CHUNK):
        writer.write(data)
        await writer.drain()


async def _both(*ways: Coroutine[Any, Any, None]) -> None:
    """Until one of them ends: HTTP over TLS knows no half-closed connection."""
    tasks = [asyncio.create_task(way) for way in ways]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _closed(writer: StreamWriter) -> None:
    """Close it; who doesn't read what is left for them has some seconds."""
    writer.close()
    try:
        async with asyncio.timeout(_SECONDS):
            await writer.wait_closed()
    except (OSError, TimeoutError):
        writer.transport.abort()


def start(env: Mapping[str, str], account: str = ACCOUNT) -> str:
    """Lead to ``DOMICILE_WAY_OUT`` as ``serve``; returns a proxy's URL.

    Certificate and the file ``account`` lie in the folder ``DOMICILE_WAY_OUT_DIR``. Raises ValueError for wrong
    settings, OSError.
    """
    to, folder = place(env), Path(env.get("DOMICILE_WAY_OUT_DIR", "/etc/domicile/way-out"))
    forwarder = Forwarder(to, Credentials(folder, "ca.crt", connects=True), folder / account)
    return f"http://127.0.0.1:{serve(forwarder)}"


def serve(forwarder: Forwarder, port: int = 0) -> int:
    """Take connections as ``Forwarder.listen`` for as long as this process runs, in a thread of its own; the port."""
    ports: queue.SimpleQueue[int | OSError] = queue.SimpleQueue()

    async def listen() -> None:
        server = await forwarder.listen(port)
        ports.put(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    def run() -> None:
        try:
            asyncio.run(listen())
        except OSError as error:
            ports.put(error)

    threading.Thread(target=run, name="way out", daemon=True).start()
    taken = ports.get()
    if isinstance(taken, OSError):
        raise taken
    return taken


def place(env: Mapping[str, str]) -> str:
    """The site's way out as the environment names it, host:port. Raises ValueError."""
    found = env.get("DOMICILE_WAY_OUT", "")
    if not re.fullmatch("[a-z0-9.-]{1,253}:[0-9]{1,5}", found):
        raise ValueError("DOMICILE_WAY_OUT must be host:port")
    return found


class Settings(NamedTuple):
    """Of who leads others of its pod to the way out: environment variables with the prefix DOMICILE_WAY_OUT."""

    to: str
    """The site's way out, host:port."""
    account: Path
    """As Forwarder's."""
    port: int
    """On the loopback."""

    @classmethod
    def read(cls, env: Mapping[str, str]) -> Settings | None:
        """None where there is no way out. Raises ValueError saying which variable is wrong."""
        if "DOMICILE_WAY_OUT" not in env:
            return None
        port = env.get("DOMICILE_WAY_OUT_PORT", "8083")
        if not re.fullmatch("[0-9]{1,5}", port, re.ASCII) or not 0 < int(port) < 2**16:
            raise ValueError("DOMICILE_WAY_OUT_PORT must be a port from 1 to 65535")
        return cls(place(env), Path(env.get("DOMICILE_WAY_OUT_ACCOUNT", "/etc/domicile/way-out/egress")), int(port))

    def forwarder(self, credentials: Credentials, most: int) -> Forwarder:
        """What leads there, ``most`` tunnels at once."""
        return Forwarder(self.to, credentials, self.account, most)
