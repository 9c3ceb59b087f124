"""From a process' own loopback to the site's way out: how calls of stores, keys and STS leave.

Clients have different ideas of a proxy that wants a certificate, and all know one that wants nothing. This is one of
those: a CONNECT (RFC 9110, 9.3.6) that comes here goes on with TLS to the way out, with the certificate and the account
of ``DOMICILE_WAY_OUT_DIR``. What passes is the client's own TLS, to the store.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import queue
import re
import threading
from asyncio import StreamReader, StreamWriter
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from domicile.backup.stores import way_out
from domicile.credentials import Credentials

log = logging.getLogger(__name__)

ACCOUNT = "egress"
"""File of the account: ``<account>:<password>`` (RFC 7617)."""
_CONNECT = re.compile(rb"CONNECT ([a-z0-9.-]{1,253}:[0-9]{1,5}) HTTP/1\.[01]\r\n")
_SECONDS = 10
_CHUNK = 1 << 18
_PAGE_BYTES = 200


class Settings(BaseSettings):
    """Environment variables with the prefix DOMICILE_."""

    model_config = SettingsConfigDict(env_prefix="DOMICILE_", frozen=True, extra="ignore")

    way_out: Annotated[
        str | None,
        Field(
            description="The site's way out, host:port, where stores, keys and STS are reached through it.",
            pattern=r"^[a-z0-9.-]{1,253}:[0-9]{1,5}$",
        ),
    ] = None
    way_out_dir: Annotated[
        Path, Field(description="Folder of tls.crt, tls.key and ca.crt, to reach it by, and of egress, the account.")
    ] = Path("/etc/domicile/way-out")


class RefusedError(Exception):
    """The way out does not lead there; the text is its reason."""


class Forwarder:
    """Leads tunnels to one way out."""

    def __init__(self, to: str, folder: Path) -> None:
        """``to`` is host:port; files in ``folder`` may come and change at any time."""
        self._host, _, port = to.rpartition(":")
        self._port = int(port)
        self._credentials = Credentials(folder, "ca.crt", connects=True)
        self._account = folder / ACCOUNT
        # Only changes are told: whoever asks here asks again.
        self._said = ""

    async def tunnel(self, reader: StreamReader, writer: StreamWriter) -> None:
        """One connection of a client, to its end."""
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError):
            try:
                async with asyncio.timeout(_SECONDS):
                    target = _CONNECT.match(await reader.readuntil(b"\r\n\r\n"))
                if target is None:
                    writer.write(b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n")
                else:
                    await self._lead(target[1].decode(), reader, writer)
                await writer.drain()
            finally:
                writer.close()

    async def _lead(self, target: str, reader: StreamReader, writer: StreamWriter) -> None:
        try:
            async with asyncio.timeout(_SECONDS):
                onward_reader, onward = await self._open(target)
        except RefusedError as error:
            self._tell(f"the way out does not lead to {target}: {error}")
            writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            return
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            self._tell(f"the way out at {self._host}:{self._port} can't be used ({type(error).__name__}: {error})")
            writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
            return
        self._said = ""
        try:
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await _both(_passed(reader, onward), _passed(onward_reader, writer))
        finally:
            # What lies behind has a TLS of its own, which knows whether it was cut off.
            onward.transport.abort()

    async def _open(self, target: str) -> tuple[StreamReader, StreamWriter]:
        """A tunnel to ``target``. Raises RefusedError, OSError, IncompleteReadError."""
        context = self._credentials.context()
        if context is None:
            raise FileNotFoundError("it has no certificate yet")
        proof = base64.b64encode(self._account.read_bytes().strip())
        reader, writer = await asyncio.open_connection(
            self._host, self._port, ssl=context, server_hostname=self._host, limit=_CHUNK
        )
        try:
            host = target.encode()
            lines = (b"CONNECT %b HTTP/1.1" % host, b"Host: %b" % host, b"Proxy-Authorization: Basic %b" % proof)
            writer.write(b"\r\n".join((*lines, b"", b"")))
            status = (await reader.readuntil(b"\r\n\r\n")).split(b" ", 2)[1]
            if status != b"200":
                raise RefusedError((await reader.read(_PAGE_BYTES)).decode("ascii", "replace").strip())
        except BaseException:
            writer.transport.abort()
            raise
        return reader, writer

    def _tell(self, message: str) -> None:
        if message != self._said:
            self._said = message
            log.warning("%s", message)


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


def start(settings: Settings | None = None) -> None:
    """Let this process' calls of clouds go through the site's way out, if it has one.

    Runs in a thread of its own for as long as the process does. Raises ValidationError for wrong settings.
    """
    settings = settings or Settings()
    if settings.way_out is None:
        return
    forwarder = Forwarder(settings.way_out, settings.way_out_dir)
    ports: queue.SimpleQueue[int] = queue.SimpleQueue()

    async def serve() -> None:
        server = await asyncio.start_server(forwarder.tunnel, "127.0.0.1", 0, limit=_CHUNK)
        ports.put(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    threading.Thread(target=lambda: asyncio.run(serve()), name="way out", daemon=True).start()
    way_out.use(f"http://127.0.0.1:{ports.get()}")
