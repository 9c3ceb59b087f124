"""Plain HTTP/1.1 requests to one host over kept connections, at a tenth of what the clouds' clients cost.

Strict where a general client is clever. A redirect is an answer like any other and leads nowhere: that is why this is
not obstore, which follows one to any host and can't be told not to. An answer whose end only the end of the connection
would tell has no body here, and a connection on which more came than was asked for is not used again.

Source: RFC 9112 (HTTP/1.1, sections 4 to 7 and 9.3).
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPSConnection
from io import BufferedReader, RawIOBase
from math import inf
from select import POLLIN, poll
from socket import socket
from time import monotonic
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from domicile.backup.stores import authorities, way_out
from domicile.backup.stores.deadlines import Deadlines

_STATUS = re.compile(r"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: [^\r\n]*)?\r\n")
_HEADER = re.compile(r"^([^:\r\n]+):[ \t]*([^\r\n]*)\r\n", re.MULTILINE)
_LENGTH = re.compile(r"[0-9]{1,12}")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})(?:;[^\r\n]*)?\r\n")
_LINE_BYTES = 16384
_HEAD_BYTES = 131072
_BUFFER_BYTES = 65536
# Each has a deadline of its own, so that a slow network is none that stands still.
_SENT_BYTES = 1 << 18
# Far above any object that is read whole; a length is what the server says.
MAX_BODY = 80 << 20
_KEPT = 32
# A process' proxy leads so many at once, and each bucket has its own.
_KEPT_LED = 4
# Bytes a second.
_SLOWEST = 1 << 14


class Answer(NamedTuple):
    """A whole answer; names of headers are in lower case. ``body`` None: it came without a length."""

    status: int
    headers: Mapping[str, str]
    body: bytes | None


class _Source(RawIOBase):
    """What comes over a connection, counted: a buffer in front of it does not say what it has read ahead."""

    def __init__(self, connection: socket) -> None:
        self._connection = connection
        self._until = inf
        self.came = 0

    def allow(self, seconds: float) -> None:
        """So long for an answer from now on, and what its bytes take at the slowest that is still put up with."""
        self._until = monotonic() + seconds - self.came / _SLOWEST

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size = self._connection.recv_into(buffer)
        self.came += size
        # Each byte on its own may come in time.
        if monotonic() > self._until + self.came / _SLOWEST:
            raise TimeoutError("an answer comes too slowly")
        return size


class _Connection:
    def __init__(self, host: str, deadlines: Deadlines, tls: ssl.SSLContext | None, proxy: str | None) -> None:
        made = (
            HTTPSConnection(proxy or host, timeout=deadlines.connect, context=tls)
            if tls
            else HTTPConnection(host, timeout=deadlines.connect)
        )
        if proxy is not None:
            made.set_tunnel(host)
        made.connect()
        self._seconds = deadlines.read
        self._socket = made.sock
        self._socket.settimeout(deadlines.read)
        self._source = _Source(self._socket)
        self._file = BufferedReader(self._source, _BUFFER_BYTES)
        self._used = 0
        self._events = poll()
        self._events.register(self._socket, POLLIN)

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def is_silent(self) -> bool:
        """Whether nothing has come that nobody asked for."""
        if self._source.came != self._used:
            return False
        if not isinstance(self._socket, ssl.SSLSocket):
            return not self._events.poll(0)
        # Tickets and the like may have come, which are nobody's answer.
        self._socket.settimeout(0)
        try:
            self._file.peek(1)
        except ssl.SSLWantReadError:
            return True
        except OSError:
            return False
        else:
            return False
        finally:
            self._socket.settimeout(self._seconds)

    def exchange(self, head: bytes, body: bytes, most: int) -> tuple[Answer, bool]:
        """The answer, of at most so many bytes, and whether the connection can be used again."""
        try:
            if len(body) < _BUFFER_BYTES:
                self._socket.sendall(head + body)
            else:
                self._socket.sendall(head)
                view = memoryview(body)
                for start in range(0, len(body), _SENT_BYTES):
                    self._socket.sendall(view[start : start + _SENT_BYTES])
        except (BrokenPipeError, ConnectionResetError):
            pass  # A server may refuse before it has read everything, and its answer be there.
        self._source.allow(2 * self._seconds)
        said = self._head()
        status = _STATUS.match(said)
        if status is None or status[2][0] == "1":
            raise ConnectionAbortedError("what came is no answer")
        pairs = _HEADER.findall(said, status.end())
        if len(pairs) != said.count("\r\n") - 2:
            raise ConnectionAbortedError("what came is no answer")
        headers = {name.lower(): value.rstrip() for name, value in pairs}
        if len(headers) < len(pairs):
            headers = {name: ", ".join(v.rstrip() for n, v in pairs if n.lower() == name) for name in headers}
        again = status[1] == "1" and headers.get("connection", "").lower() != "close"
        length, coding = headers.get("content-length", ""), headers.get("transfer-encoding")
        if coding == "chunked" and not length:
            return Answer(int(status[2]), headers, self._chunks(most)), again
        if coding is not None or not _LENGTH.fullmatch(length):
            return Answer(int(status[2]), headers, None), False
        if int(length) > most:
            raise ConnectionAbortedError("an answer is longer than what was asked for")
        return Answer(int(status[2]), headers, self._exactly(int(length))), again

    def _head(self) -> str:
        """Status line and headers, with the empty line behind them."""
        end = self._file.peek(1).find(b"\r\n\r\n")
        if end >= 0:
            head = self._exactly(end + 4)
        else:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += self._line()
                if len(head) > _HEAD_BYTES:
                    raise ConnectionAbortedError("an answer has too many headers")
        if head.count(b"\n") != head.count(b"\r\n"):
            raise ConnectionAbortedError("what came is no answer")
        return head.decode("latin-1")

    def _chunks(self, most: int) -> bytes:
        """A body in chunks (RFC 9112, 7.1)."""
        found = bytearray()
        while True:
            size = _CHUNK.fullmatch(self._line())
            length = int(size[1], 16) if size else -1
            if length < 0 or len(found) + length > most:
                raise ConnectionAbortedError("what came is no chunk")
            if not length:
                break
            found += self._exactly(length)
            if self._line() != b"\r\n":
                raise ConnectionAbortedError("what came is no chunk")
        if self._line() != b"\r\n":
            raise ConnectionAbortedError("trailers were not asked for")
        return bytes(found)

    def _exactly(self, length: int) -> bytes:
        data = self._file.read(length)
        if len(data) != length:
            raise ConnectionResetError("an answer was cut off")
        self._used += length
        return data

    def _line(self) -> bytes:
        line = self._file.readline(_LINE_BYTES)
        if not line.endswith(b"\n"):
            raise ConnectionResetError("closed without an answer")
        self._used += len(line)
        return line


class Wire:
    """Requests to the host of a URL, through the process' way out if it has one. Thread-safe.

    ``direct`` is False where the environment names another proxy for it. ``roots``: authorities (PEM) in place of the
    system's.
    """

    def __init__(self, url: str, deadlines: Deadlines, roots: str | None = None) -> None:
        at = urlsplit(url)
        self.host = at.netloc
        self._proxy = way_out.place(url)
        foreign = {at.scheme, "all"} & getproxies().keys() and not proxy_bypass(at.hostname or "")
        self.direct = self._proxy is not None or not foreign
        self._tls = authorities.context(roots) if at.scheme == "https" else None
        self._deadlines = deadlines
        self._most_idle = _KEPT if self._proxy is None else _KEPT_LED
        self._idle: list[_Connection] = []

    def ask(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes = b"", *, most: int = MAX_BODY
    ) -> Answer:
        """The answer to one request, which may arrive twice.

        Raises OSError where no whole answer of at most ``most`` bytes came in time.
        """
        lines = [f"{method} {target} HTTP/1.1", f"Host: {self.host}", *(f"{k}: {v}" for k, v in headers.items())]
        if method != "GET":
            lines.append(f"Content-Length: {len(body)}")
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
        kept = self._taken()
        if kept:
            try:
                return self._exchanged(kept, head, body, most)
            except ConnectionError:
                pass  # Servers close what was idle for long.
        return self._exchanged(_Connection(self.host, self._deadlines, self._tls, self._proxy), head, body, most)

    def _taken(self) -> _Connection | None:
        while True:
            try:
                kept = self._idle.pop()
            except IndexError:
                return None
            if kept.is_silent():
                return kept
            kept.close()

    def _exchanged(self, connection: _Connection, head: bytes, body: bytes, most: int) -> Answer:
        again = False
        try:
            answer, again = connection.exchange(head, body, most)
            return answer
        finally:
            if again and len(self._idle) < self._most_idle:
                self._idle.append(connection)
            else:
                connection.close()
