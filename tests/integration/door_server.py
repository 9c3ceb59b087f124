"""A front door as it runs in a pod: our image's files, read-only, as user 65532, with what Kubernetes would mount.

Beside it an assistant that tells what has reached it. All on the loopback.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

from domicile.controllers.door.door import Assistant as Served
from domicile.controllers.door.door import Door, Edge, Endpoints, PathRule, Secrets
from domicile.controllers.door.httpd import render, render_secrets
from domicile.credentials import Credentials
from images.archive import NON_ROOT
from tests.integration.apiserver import Authority, free_port
from tests.pods import DOOR, GUARD, certificates
from tests.testbed.rootfs import image_root

_START_SECONDS = 60
_POINTS = (
    "/etc/hosts", "/etc/domicile/", "/etc/domicile/door/", "/etc/domicile/gate/", "/dev/", "/proc/", "/tmp/",
    "/var/lib/domicile/", "/opt/keycloak/data/",
)  # fmt: skip
# What a container runtime does: a mount namespace, a read-only root, a scratch volume, the mounts.
_CONTAINER = """
set -e
root=$1 mounts=$2 point=$3; shift 3
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
mount -t tmpfs -o mode=1777,size=256m tmpfs "$root/tmp"
mount --bind "$mounts" "$root$point"
for volume in $VOLUMES; do mount --bind "${volume%%:*}" "$root${volume#*:}"; done
mount --rbind /dev "$root/dev"
mount --bind /proc "$root/proc"
mount --bind /etc/hosts "$root/etc/hosts"
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    DOMICILE_DRAIN_SECONDS=${DRAIN:-0} chroot --userspec=65532:65532 "$root" "$@"
"""


def contained(
    image: str,
    mounts: Path,
    point: str,
    command: tuple[str, ...],
    out: Path,
    *,
    drain: int = 0,
    volumes: Mapping[str, Path] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a command in an image; its output goes to ``<out>.out`` and ``<out>.err``, for which it is opened anew.

    ``volumes``: folders of its own, by the path where it may write to them.
    """
    container = ("unshare", "--mount", "sh", "-c", _CONTAINER, "container")
    volume = [f"{folder}:{path}" for path, folder in (volumes or {}).items()]
    streams = []
    for suffix in (".out", ".err"):
        path = out.with_name(out.name + suffix)
        path.touch()
        os.chown(path, NON_ROOT, NON_ROOT)
        streams.append(path.open("ab"))
    with streams[0] as stdout, streams[1] as stderr:
        return subprocess.Popen(
            [*container, image_root(image, _POINTS), mounts, point, *command],
            env={**os.environ, "DRAIN": str(drain), "VOLUMES": " ".join(volume)},
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
        )


def end(process: subprocess.Popen[bytes]) -> None:
    """End it, and whatever it has started."""
    if process.poll() is None:
        tree = family(process.pid)
        process.kill()
        process.wait()
        for pid in tree:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def family(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for each in found:
        with contextlib.suppress(OSError):
            found += [int(p) for p in Path(f"/proc/{each}/task/{each}/children").read_text().split()]
    return found


def until(what: str, holds: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for something to hold. Raises AssertionError."""
    last = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < last, f"after {seconds} s still not: {what}"
        time.sleep(0.02)


@dataclass
class Seen:
    """A request as it reached the assistant."""

    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> list[str]:
        """Values of a header, in any case."""
        return [v for k, v in self.headers if k.lower() == name.lower()]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def __getattr__(self, name: str) -> Callable[[], None]:
        if not name.startswith("do_"):
            raise AttributeError(name)
        return self._handle

    def _handle(self) -> None:
        seen = Seen(self.command, self.path, list(self.headers.items()), self._body())
        self.server.assistant.seen.append(seen)
        self.send_response(200)
        if "/stream" in self.path:
            self._stream()
            return
        text = json.dumps({"path": seen.path, "headers": seen.headers, "length": len(seen.body)}).encode()
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        for name, value in self.server.assistant.more_headers:
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    def _body(self) -> bytes:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.headers.get("transfer-encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        return body

    def _stream(self) -> None:
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in (b"5\r\nfirst\r\n", b"4\r\nlast\r\n0\r\n\r\n"):
            self.wfile.write(piece)
            self.wfile.flush()
            self.server.assistant.go_on.wait(20)

    def log_message(self, *args: Any) -> None:
        """Nothing: pytest's output is for the tests."""


class _Server(ThreadingHTTPServer):
    request_queue_size = 256
    daemon_threads = True
    assistant: Assistant
    context: ssl.SSLContext

    def finish_request(self, request: Any, client_address: Any) -> None:
        """In the thread of the connection, so that a client that says nothing holds nobody up."""
        request.settimeout(20)
        with self.context.wrap_socket(request, server_side=True) as stream:
            stream.settimeout(None)
            super().finish_request(stream, client_address)

    def handle_error(self, *args: Any) -> None:
        """A door that is killed cuts its connections."""


class Assistant:
    """An upstream: answers 200 with what it got as JSON; ``/stream`` waits between two pieces until told."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.go_on = threading.Event()
        self.more_headers: list[tuple[str, str]] = []
        self.server = _Server(("127.0.0.1", 0), _Handler)
        self.server.assistant = self
        self.address = f"localhost:{self.server.server_address[1]}"
        self.show(certificates(GUARD))

    def show(self, mounted: Mapping[str, bytes]) -> None:
        """From the next connection on, be whom these certificates say, as a guard does."""
        with tempfile.TemporaryDirectory() as folder:
            for name, content in mounted.items():
                (Path(folder) / name).write_bytes(content)
            context = Credentials(Path(folder), "ca.crt").context()
        assert context is not None
        self.server.context = context

    @contextmanager
    def running(self) -> Iterator[Assistant]:
        """Serve."""
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        try:
            yield self
        finally:
            self.go_on.set()
            self.server.shutdown()
            self.server.server_close()


class Volume:
    """A folder as the kubelet fills it: files are links through ``..data``, which moves to a whole new folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder

    def put(self, files: Mapping[str, str | bytes]) -> None:
        """Replace all files at once."""
        data = Path(tempfile.mkdtemp(prefix="..", dir=self._folder))
        data.chmod(0o755)
        for name, content in files.items():
            (data / name).write_bytes(content.encode() if isinstance(content, str) else content)
            if not (self._folder / name).is_symlink():
                (self._folder / name).symlink_to(f"..data/{name}")
        link = self._folder / "..data"
        old = link.resolve() if link.is_symlink() else None
        (self._folder / "..new").symlink_to(data.name)
        (self._folder / "..new").replace(link)
        if old:
            shutil.rmtree(old)


def events(log: str, event: str) -> list[dict[str, Any]]:
    """A supervisor's own lines of a kind."""
    lines = [json.loads(line) for line in log.splitlines()]
    return [line for line in lines if line.get("event") == event]


def healthy(port: int) -> bool:
    """What a probe finds."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def raw(port: int, *lines: str, body: bytes = b"", wait: float = 20) -> bytes:
    """What a connection of its own answers to these lines, which need not make sense."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    plain = socket.create_connection(("127.0.0.1", port), timeout=wait)
    with context.wrap_socket(plain, server_hostname="localhost") as stream:
        stream.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        received = b""
        with contextlib.suppress(OSError):
            while piece := stream.recv(65536):
                received += piece
    return received


@dataclass
class DoorServer:
    """A running door."""

    door: Door
    folder: Path
    process: subprocess.Popen[bytes]
    volumes: dict[str, Volume] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """What a browser on this machine calls it."""
        return f"https://localhost:{self.door.https_port}"

    @property
    def out(self) -> str:
        return (self.folder / "log.out").read_text()

    @property
    def err(self) -> str:
        return (self.folder / "log.err").read_text()

    def events(self, event: str) -> list[dict[str, Any]]:
        """The supervisor's own lines of a kind."""
        return events(self.out + self.err, event)

    def configure(self, door: Door) -> None:
        """Mount another config, and wait until nobody serves by the one before: its workers still do for a moment."""
        _, _, *workers = family(self.process.pid)
        self.reload(door)
        until("the end of those before", lambda: not {*workers} & {*family(self.process.pid)})

    def reload(self, door: Door) -> None:
        """Mount another config, and wait until it is taken. Who serves goes on by the one before."""
        before = len(self.events("reloaded"))
        self.door = door
        self.volumes["config"].put({"httpd.conf": render(door)})
        until("the reload", lambda: len(self.events("reloaded")) > before)

    def healthy(self) -> bool:
        return healthy(self.door.health_port)

    def raw(self, *lines: str, body: bytes = b"", wait: float = 20) -> bytes:
        """As ``raw``."""
        return raw(self.door.https_port, *lines, body=body, wait=wait)


@contextmanager
def running(
    folder: Path, door: Door, authority: Authority, hidden: Secrets, trust: str, *, drain: int = 0, edge: str = ""
) -> Iterator[DoorServer]:
    """A door that serves ``door``, with a certificate for localhost."""
    folder.mkdir()
    folder.chmod(0o755)
    mounts = folder / "mounts"
    mounts.mkdir()
    name = f"door-{secrets.token_hex(4)}"
    authority.issue(name, "localhost")
    pair = {f"tls.{kind}": (authority.folder / f"{name}.{kind}").read_bytes() for kind in ("crt", "key")}
    volumes = {
        each: Volume(mounts / each)
        for each in ("config", "secrets", "tls", "trust", "pods", *(["edge"] if edge else []))
    }
    volumes["config"].put({"httpd.conf": render(door)})
    volumes["secrets"].put({"secrets.conf": render_secrets(hidden)})
    volumes["tls"].put(pair)
    volumes["trust"].put({"ca.crt": trust})
    volumes["pods"].put(certificates(DOOR))
    if edge:
        volumes["edge"].put({"ca.crt": edge})
    command = ("python3", "-P", "-m", "domicile.gateway.door")
    process = contained("frontdoor", mounts, "/etc/domicile/door", command, folder / "log", drain=drain)
    made = DoorServer(door, folder, process, volumes)
    try:

        def up() -> bool:
            assert process.poll() is None, f"the door ended with {process.returncode}:\n{made.err}{made.out}"
            return healthy(door.health_port)

        until("the door serves", up, _START_SECONDS)
        yield made
    finally:
        end(process)


def replica(door: Door) -> Door:
    """The same door on ports of its own, as another pod's."""
    return replace(door, https_port=free_port(), health_port=free_port())


@dataclass
class Site:
    """A door whose login leads nowhere, with an assistant behind it: for whatever needs no person."""

    door: DoorServer
    assistant: Assistant
    web: httpx.Client

    def configure(self, **fields: Any) -> None:
        """Change fields of the Door."""
        self.door.configure(replace(self.door.door, **fields))


@contextmanager
def without_login(folder: Path, *, drain: int = 0, edge_ca: str = "", **fields: Any) -> Iterator[Site]:
    """A door with the assistant ``a``, open to everybody under ``/a/open``, and without a session store."""
    nowhere = "https://localhost:9"
    authority = Authority(folder)
    with Assistant().running() as assistant, ExitStack() as stack:
        door = Door(
            host="localhost",
            client_id="front-door",
            endpoints=Endpoints(nowhere, f"{nowhere}/auth", f"{nowhere}/token", f"{nowhere}/certs", f"{nowhere}/end"),
            assistants=(Served("a", assistant.address, (PathRule("/open", None),)),),
            redis="localhost:9",
            https_port=free_port(),
            health_port=free_port(),
        )
        door = replace(door, host=f"localhost:{door.https_port}", edge=Edge(client_ca=bool(edge_ca)))
        hidden = Secrets("c" * 32, "p" * 32, "doors", "r" * 32)
        trust = (folder / "ca.crt").read_text()
        server = stack.enter_context(
            running(folder / "door", replace(door, **fields), authority, hidden, trust, drain=drain, edge=edge_ca)
        )
        context = ssl.create_default_context(cafile=folder / "ca.crt")
        # A connection that is kept may end just when it is used again, for a reload ends those that are idle.
        fresh = httpx.Limits(max_keepalive_connections=0)
        web = stack.enter_context(httpx.Client(base_url=server.url, verify=context, timeout=30, limits=fresh))
        yield Site(server, assistant, web)
