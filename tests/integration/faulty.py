"""Servers on loopback that show faults which the real ones can't: scripted answers, and a link that loses answers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

Answer = tuple[int, dict[str, str], bytes]


@dataclass
class Scripted:
    """A server that gives the same kind of answer to everything and keeps the requests' (method, path)."""

    url: str
    requests: list[tuple[str, str]] = field(default_factory=list)


@contextmanager
def scripted(answer: Callable[[str, str], Answer]) -> Iterator[Scripted]:
    """Serve ``answer(method, path) -> (status, headers, body)``."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_request(self) -> None:
            self.raw_requestline = self.rfile.readline(65537)
            if not self.raw_requestline or not self.parse_request():
                self.close_connection = True
                return
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            server.requests.append((self.command, self.path))
            status, headers, body = answer(self.command, self.path)
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(body))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.daemon_threads = True
        server = Scripted(f"http://127.0.0.1:{http.server_address[1]}")
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()


@dataclass
class Link:
    """A TCP relay to a real server; the next ``lose`` connections' answers are dropped after the server gave them."""

    url: str
    lose: int = 0
    lost: int = 0


@contextmanager
def link(target: str) -> Iterator[Link]:
    """Relay to ``target`` (a URL). Each connection carries one request at a time, as HTTP/1.1 clients send them."""
    parts = urlsplit(target)
    listener = socket.create_server(("127.0.0.1", 0))
    relay = Link(f"http://127.0.0.1:{listener.getsockname()[1]}")

    def back(server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                # "100 Continue" asks for the request's body; what comes after it is the answer.
                if relay.lose > 0 and not data.startswith(b"HTTP/1.1 100"):
                    relay.lose -= 1
                    relay.lost += 1
                    break
                client.sendall(data)
        for end in (server, client):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def forth(client: socket.socket) -> None:
        with closing(client), closing(socket.create_connection((parts.hostname or "", parts.port or 80))) as server:
            answers = threading.Thread(target=back, args=(server, client), daemon=True)
            answers.start()
            with suppress(OSError):
                while data := client.recv(65536):
                    server.sendall(data)
                server.shutdown(socket.SHUT_RDWR)
            answers.join()

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=forth, args=(listener.accept()[0],), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield relay
    finally:
        # close() alone does not wake a thread that waits in accept().
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
