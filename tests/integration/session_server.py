"""A session store and the tunnels that lead to it, as they run in pods: our images' files, on the loopback."""

from __future__ import annotations

import contextlib
import http.client
import json
import secrets
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from domicile.controllers.door.sessions import render_users
from domicile.controllers.pki.authority import Authority
from domicile.controllers.pki.leaf import Holder
from tests.integration.apiserver import free_port
from tests.integration.door_server import Volume, contained, end, until
from tests.pods import DOOR, authority, certificates

_START_SECONDS = 30


# Who serves here is called by the loopback's name.
STORE = Holder("domicile-system", "domicile-sessions", "", ("localhost",), calls=False)


class Talk:
    """One connection that speaks redis in the short form: words in a line."""

    def __init__(self, way: socket.socket) -> None:
        self._way = way
        self._lines = way.makefile("rb")

    @classmethod
    def at(cls, port: int) -> Talk:
        """A new connection, which the other end may have closed already."""
        way = socket.socket()
        way.settimeout(20)
        with contextlib.suppress(ConnectionResetError):
            way.connect(("127.0.0.1", port))
        return cls(way)

    def say(self, *words: str) -> str:
        """The answer's first line, or what lies in a value; empty where the other end has hung up."""
        try:
            self._way.sendall(" ".join(words).encode() + b"\r\n")
            line = self._lines.readline().decode().strip()
        except (ConnectionResetError, BrokenPipeError):
            return ""
        return self._lines.readline().decode().strip() if line.startswith("$") and line != "$-1" else line

    def close(self) -> None:
        self._lines.close()
        self._way.close()


@dataclass
class Server:
    """Something supervised."""

    folder: Path
    process: subprocess.Popen[bytes]
    health_port: int

    @property
    def out(self) -> str:
        return (self.folder / "log.out").read_text()

    @property
    def err(self) -> str:
        return (self.folder / "log.err").read_text()

    def events(self, event: str) -> list[dict[str, Any]]:
        """The supervisor's own lines of a kind."""
        lines = [json.loads(line) for line in (self.out + self.err).splitlines() if line.startswith("{")]
        return [line for line in lines if line.get("event") == event]

    def health(self) -> int:
        """The status of the probe; 0 where nothing answers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.health_port, timeout=5)
        try:
            connection.request("GET", "/healthz")
            return connection.getresponse().status
        except OSError:
            return 0
        finally:
            connection.close()

    def mount(self, volume: Volume, files: dict[str, bytes]) -> None:
        """Mount other files, and wait until they are taken."""
        before = len(self.events("reloaded"))
        volume.put(files)
        until("the reload", lambda: len(self.events("reloaded")) > before)


@dataclass
class Tunnel(Server):
    """A door's way to the store."""

    port: int
    tls: Volume
    store: str
    more: Mapping[str, object]
    """Settings, without their prefix."""

    def start(self) -> None:
        """Start it, as after an end."""
        settings = {"SESSION_STORE": self.store, "PORT": self.port, "HEALTH_PORT": self.health_port}
        environment = (f"DOMICILE_{name}={value}" for name, value in {**settings, **self.more}.items())
        command = ("env", *environment, "python3", "-P", "-m", "domicile.gateway.tunnel")
        self.process = contained("frontdoor", self.folder / "mounts", "/etc/domicile", command, self.folder / "log")
        until("the tunnel is up", lambda: self.health() == 200, _START_SECONDS)

    def open(self) -> Talk:
        return Talk.at(self.port)


@dataclass
class Store(Server):
    """The session store, and the tunnel that tests ask it through."""

    port: int
    password: str
    authority: Authority
    tls: Volume
    users: Volume
    _stack: ExitStack
    _way: Tunnel | None = None

    @property
    def way(self) -> Tunnel:
        """A tunnel as a door has it."""
        if self._way is None:
            self._way = self.tunnel()
        return self._way

    @property
    def address(self) -> str:
        """Where a door's httpd finds it."""
        return f"127.0.0.1:{self.way.port}"

    def ask(self, *words: str, user: str = "doors") -> str:
        """What it answers to a command, as the doors' user."""
        talk = self.way.open()
        try:
            told = talk.say("AUTH", user, self.password)
            return talk.say(*words) if told == "+OK" else told
        finally:
            talk.close()

    def start(self) -> None:
        """Start it, as after an end."""
        command = ("env", f"DOMICILE_HEALTH_PORT={self.health_port}", "python3", "-P", "-m",
                   "domicile.gateway.session_store", "--tls-port", str(self.port), "--bind", "127.0.0.1")  # fmt: skip
        self.process = contained("sessions", self.folder / "mounts", "/etc/domicile", command, self.folder / "log")
        until("the store answers", lambda: self.ask("PING") == "+PONG", _START_SECONDS)

    def tunnel(self, mounted: dict[str, bytes] | None = None, **more: object) -> Tunnel:
        """One more tunnel, with these certificates or good ones; ``more`` settings."""
        port, health = free_port(), free_port()
        folder = self.folder / f"tunnel-{port}"
        (folder / "mounts").mkdir(parents=True)
        folder.chmod(0o755)
        tls = Volume(folder / "mounts" / "tls")
        tls.put(mounted or certificates(DOOR, self.authority))
        made = Tunnel(folder, None, health, port, tls, f"localhost:{self.port}", more)  # type: ignore[arg-type]
        made.start()
        self._stack.callback(lambda: end(made.process))
        return made


@contextmanager
def session_store(folder: Path, signer: Authority | None = None) -> Iterator[Store]:
    """A session store with the doors' user, and this authority or one of its own."""
    folder.mkdir()
    folder.chmod(0o755)
    (folder / "mounts").mkdir()
    signer = signer or authority()
    password = secrets.token_hex(16)
    users, tls = (Volume(folder / "mounts" / name) for name in ("sessions", "tls"))
    users.put({"users.acl": render_users({"doors": password}, {})})
    tls.put(certificates(STORE, signer))
    with ExitStack() as stack:
        made = Store(folder, None, free_port(), free_port(), password, signer, tls, users, stack)  # type: ignore[arg-type]
        made.start()
        try:
            yield made
        finally:
            end(made.process)
