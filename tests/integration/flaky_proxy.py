"""A proxy that behaves as networks and loaded stores do, between an HTTP client and a real server.

    with flaky("http://127.0.0.1:7070", Faults("reset", "503", every=3)) as proxy:
        ...  # requests to proxy.url

It takes whole requests and gets whole answers, so it knows which fault befalls what: ``proxy.struck`` counts them.
"""

from __future__ import annotations

import http.client
import itertools
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

# reset: closed before the request reaches the server; lost: after; stall: silence; 503 and 429: refused, with a wait;
# cut: the answer ends amid its body; slow: it comes in pieces; twice: the same answer comes again at once; late: the
# request reaches the server when the client has long given up.
KINDS = ("reset", "lost", "stall", "503", "429", "cut", "slow", "twice", "late")
_HOPS = {"connection", "transfer-encoding", "content-length", "keep-alive"}


@dataclass
class Faults:
    """Every ``every``-th request meets the next of ``kinds``, in bursts of ``burst``; those of ``methods`` only, and
    none of the first ``after``.
    """

    kinds: tuple[str, ...]
    every: int = 3
    burst: int = 1
    after: int = 0
    methods: tuple[str, ...] = ("GET", "PUT", "POST", "DELETE", "HEAD")
    _seen: Iterator[int] = field(default_factory=itertools.count)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def next(self, method: str) -> str | None:
        """The fault that a request meets."""
        if method not in self.methods:
            return None
        with self._lock:
            number = next(self._seen) - self.after
        if number < 0:
            return None
        turn, place = divmod(number, self.every * self.burst)
        return self.kinds[turn % len(self.kinds)] if place >= (self.every - 1) * self.burst else None


@dataclass
class Proxy:
    """A running proxy. ``faults`` may be changed at any time, None lets everything pass; refusals ask for ``peace``
    seconds of it.
    """

    url: str
    target: str
    faults: Faults | None
    peace: int = 0
    struck: Counter[str] = field(default_factory=Counter)
    requests: list[tuple[str, str]] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    late: list[Callable[[], object]] = field(default_factory=list)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: Proxy

    def handle_one_request(self) -> None:
        # A client that resets its connection has given up, and there is nobody to tell.
        with suppress(ConnectionError, TimeoutError):
            self.raw_requestline = self.rfile.readline(65537)
            if not self.raw_requestline or not self.parse_request():
                self.close_connection = True
                return
            self._handle()

    def _handle(self) -> None:
        proxy = self.proxy
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        proxy.requests.append((self.command, self.path))
        kind = proxy.faults.next(self.command) if proxy.faults else None
        if kind:
            proxy.struck[kind] += 1
        if kind == "late":
            proxy.late.append(partial(self._deliver, body))
        elif kind == "stall":
            proxy.over.wait(20)
        if kind in {"late", "stall", "reset"}:
            self._reset()
        elif kind in {"503", "429"}:
            head = f"HTTP/1.1 {kind} Busy\r\nRetry-After: {proxy.peace}\r\nContent-Length: 0\r\nConnection: close"
            self.wfile.write(f"{head}\r\n\r\n".encode())
            self.close_connection = True
        else:
            self._answer(kind, *self._deliver(body))

    def _answer(self, kind: str | None, head: bytes, body: bytes) -> None:
        whole = head + body
        if kind == "slow":
            piece = max(len(whole) // 4, 1)
            for start in range(0, len(whole), piece):
                self.wfile.write(whole[start : start + piece])
                self.proxy.over.wait(0.02)
        elif kind == "cut":
            self.wfile.write(whole[: random.randrange(len(whole))])
        elif kind != "lost":
            self.wfile.write(whole * (2 if kind == "twice" else 1))
        if kind in {"cut", "lost"}:
            self._reset()

    def _deliver(self, body: bytes) -> tuple[bytes, bytes]:
        """Send the request on; head and body of the answer."""
        where = urlsplit(self.proxy.target)
        with closing(http.client.HTTPConnection(where.hostname or "", where.port, timeout=20)) as server:
            server.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in {"connection", "expect"}:
                    server.putheader(name, value)
            server.endheaders(body)
            found = server.getresponse()
            answer = found.read()
            lines = [f"HTTP/1.1 {found.status} {found.reason}"]
            # A server that names itself (where uploads go on) is asked through the proxy, too.
            for name, value in found.getheaders():
                if name.lower() not in _HOPS:
                    lines.append(f"{name}: {value.replace(self.proxy.target, self.proxy.url)}")
            length = found.getheader("Content-Length") if self.command == "HEAD" else None
            lines.append(f"Content-Length: {length or len(answer)}")
            return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"), answer

    def _reset(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        # No lingering: the client sees a reset, not an end.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def flaky(target: str, faults: Faults | None = None) -> Iterator[Proxy]:
    """Serve as a proxy of the server at the URL ``target``."""

    class Handler(_Handler):
        pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        proxy = Handler.proxy = Proxy(f"http://127.0.0.1:{server.server_address[1]}", target, faults)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield proxy
        finally:
            proxy.over.set()
            server.shutdown()
            thread.join()


def arrive(proxy: Proxy) -> int:
    """Let the requests that were given up reach the server now; how many they were."""
    count = len(proxy.late)
    while proxy.late:
        # A server may refuse one before it has read it all.
        with suppress(ConnectionError):
            proxy.late.pop()()
    return count
