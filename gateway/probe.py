"""The page that Kubernetes asks whether a container is well: ``/healthz``, plain HTTP."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT = 8081


def read_port(env: Mapping[str, str], name: str, default: int) -> int:
    """A TCP port from an environment variable. Raises ValueError naming it."""
    text = env.get(name, str(default))
    if not re.fullmatch("[0-9]{1,5}", text, re.ASCII) or not 0 < int(text) < 2**16:
        raise ValueError(f"{name} must be a port from 1 to 65535")
    return int(text)


class _Web(ThreadingHTTPServer):
    address_family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    daemon_threads = True

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


def serve(port: int, good: Callable[[], bool]) -> None:
    """Answer in threads of their own: 200 while ``good`` says so, else 503. Raises OSError where the port is taken."""

    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self) -> None:
            known = self.path == "/healthz"
            self.send_response((200 if good() else 503) if known else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing: probes come every few seconds."""

    threading.Thread(target=_Web(("", port), Handler).serve_forever, daemon=True).start()
