"""The site's way out: squid, which lets each tenant reach what its list has, by name, and nothing else.

    python3 -m domicile.gateway.egress.squid

It listens on the loopback of its pod, behind ``domicile.gateway.egress.tls``. New lists are taken by its helpers at
once; squid itself is reloaded where the addresses of named private destinations change, and open tunnels go on. See
``domicile.gateway.supervisor``; ``/healthz`` says whether squid and a helper answer.
"""

from __future__ import annotations

import os
import queue
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from domicile.gateway import probe
from domicile.gateway.egress.accounts import Book, UnknownError, parse
from domicile.gateway.egress.decisions import HEALTH, Pipe
from domicile.gateway.egress.squid_conf import errors, render
from domicile.gateway.mounts import BrokenError
from domicile.gateway.supervisor import Server, say, supervise

_SQUID = "/usr/sbin/squid"
_PYTHON = "/usr/bin/python3"
_ACCOUNTS = "egress/accounts.json"
_SECONDS = 20
_PATIENCE_SECONDS = 3.0
_READY = re.compile(r"Accepting .*connections at")
_LINE = re.compile(r"(?:\d{4}/\d\d/\d\d \d\d:\d\d:\d\d)?(?: kid\d+)?[ |]*(?P<text>.*)", re.ASCII)
_TOLD = re.compile("FATAL|Bungled|WARNING: external_acl_type #Hlpr[0-9]{1,3} exited", re.ASCII)


class Settings(NamedTuple):
    """Environment variables with the prefix DOMICILE_."""

    mounts: Path
    """Folder of the volume egress."""
    port: int
    """squid's, on the loopback."""
    health_port: int
    nameservers: tuple[str, ...]
    """Addresses of resolvers; none: the pod's own."""

    @classmethod
    def read(cls, env: Mapping[str, str]) -> Settings:
        """Settings from the environment. Raises ValueError saying which variable is wrong."""
        servers = tuple(env.get("DOMICILE_NAMESERVERS", "").split())
        if not all(re.fullmatch("[0-9a-f.:]{2,45}", s, re.ASCII) for s in servers):
            raise ValueError("DOMICILE_NAMESERVERS must be addresses, with spaces between them")
        ports = (probe.read_port(env, "DOMICILE_PORT", 3128), probe.read_port(env, "DOMICILE_HEALTH_PORT", probe.PORT))
        return cls(Path(env.get("DOMICILE_MOUNTS", "/etc/domicile")), *ports, servers)


class Squid(Server):
    """squid with the accounts of the moment."""

    name = "squid"
    runtime = Path("/tmp/egress/generations")  # noqa: S108 - the pod's own scratch volume
    needed = (_ACCOUNTS,)

    def __init__(self, settings: Settings) -> None:
        self.mounts = settings.mounts
        self._settings = settings
        self._own = self.runtime.parent
        self._config = b""
        self._ready: queue.SimpleQueue[bool] = queue.SimpleQueue()

    def lay_out(self, files: Mapping[str, bytes]) -> dict[str, bytes]:
        """The list as it is, squid's config made of it, and what the refused are told."""
        try:
            book: Book = parse(files[_ACCOUNTS])
            config = self._render(book)
        except UnknownError as error:
            raise BrokenError(str(error)) from None
        pages = {f"errors/{name}": page for name, page in errors().items()}
        return {"accounts.json": files[_ACCOUNTS], "squid.conf": config.encode(), **pages}

    def _render(self, book: Book) -> str:
        return render(
            folder=self.runtime / "current",
            runtime=self._own,
            port=self._settings.port,
            nameservers=self._settings.nameservers,
            helper=f"{_PYTHON} -P -m domicile.gateway.egress.helper",
            routes=book.routes,
        )

    def test(self, folder: Path) -> None:
        """As Server's; squid ends where it can't read what it is to reload."""
        command = (_SQUID, "-N", "-k", "parse", "-f", folder / "squid.conf")
        try:
            done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=_SECONDS)
        except subprocess.TimeoutExpired:
            raise BrokenError(f"squid has not read its config within {_SECONDS} s") from None
        if done.returncode:
            told = [line for line in (done.stdout + done.stderr).splitlines() if "FATAL" in line or "ERROR" in line]
            raise BrokenError(f"squid can't read its config: {' '.join(told)[:2000]}")

    def command(self, current: Path) -> tuple[str | Path, ...]:
        """As Server's."""
        self._config = (current / "squid.conf").read_bytes()
        return (_SQUID, "-N", "-d", "1", "-f", current / "squid.conf")

    def reload(self, process: subprocess.Popen[bytes], current: Path) -> None:
        """Tunnels that are open stay. Helpers have taken a list already."""
        config = (current / "squid.conf").read_bytes()
        if config == self._config:
            return
        self._ready = queue.SimpleQueue()
        process.send_signal(signal.SIGHUP)
        try:
            self._ready.get(timeout=_SECONDS)
        except queue.Empty:
            raise BrokenError(f"squid has not said within {_SECONDS} s that it serves again") from None
        self._config = config

    def end(self, process: subprocess.Popen[bytes]) -> None:
        """Take no new tunnels, and give those that are open squid's shutdown_lifetime."""
        process.terminate()

    def kept(self, line: str) -> dict[str, str] | None:
        """What it says of itself; what it says of requests is in the log of decisions."""
        found = _LINE.fullmatch(line)
        text = found["text"] if found else line
        if _READY.search(text):
            self._ready.put(True)
        # Its other warnings quote what clients have sent.
        return {"message": text[:500]} if _TOLD.match(text) else None

    def prepare(self) -> None:
        """What squid wants before its config: a key that it never shows, and the pipe of its log. Raises OSError."""
        self._own.mkdir(mode=0o700, parents=True, exist_ok=True)
        for old in ("decisions", "bump.pem"):
            (self._own / old).unlink(missing_ok=True)
        Pipe(self._own / "decisions", _tell)
        subprocess.run(
            ["/usr/bin/openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
             "-subj", "/CN=nobody", "-days", "3650", "-keyout", self._own / "key.pem", "-out", self._own / "bump.pem"],
            check=True, capture_output=True,
        )  # fmt: skip
        with (self._own / "bump.pem").open("ab") as pair:
            pair.write((self._own / "key.pem").read_bytes())


def _tell(line: str) -> None:
    sys.stdout.write(line)
    sys.stdout.flush()


def good(port: int) -> bool:
    """Whether squid refuses a stranger, which it asks a helper about."""
    try:
        with socket.create_connection(("127.0.0.1", port), _PATIENCE_SECONDS) as way:
            way.sendall(f"PROXY UNKNOWN\r\nCONNECT {HEALTH}:443 HTTP/1.1\r\nHost: {HEALTH}:443\r\n\r\n".encode())
            return b" 407 " in way.makefile("rb").readline()
    except OSError:
        return False


def main() -> int:
    """Serve until SIGTERM; returns the exit code: squid's, 1 where it can't start, 2 for wrong settings."""
    try:
        settings = Settings.read(os.environ)
    except ValueError as error:
        say(sys.stderr, event="refused", message=str(error))
        return 2
    squid = Squid(settings)
    squid.prepare()
    probe.serve(settings.health_port, lambda: good(settings.port))
    return supervise(squid)


if __name__ == "__main__":
    sys.exit(main())
