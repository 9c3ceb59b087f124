"""The supervisor of an identity server's PostgreSQL 15: makes it once, and takes new certificates and passwords.

    python3 -m domicile.gateway.database

One role, ``keycloak``, owns one database of that name and comes by TLS and password only; nobody else gets in, over no
socket. ``/healthz`` says whether it takes connections. See ``domicile.gateway.supervisor``.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from domicile.gateway import probe
from domicile.gateway.mounts import BrokenError, check_pair
from domicile.gateway.supervisor import Server, say, supervise

_BIN = Path("/usr/lib/postgresql/15/bin")
_NAME = "keycloak"
_PASSWORD = re.compile(rb"[A-Za-z0-9._~-]{16,128}")
_HBA = f"hostssl {_NAME} {_NAME} all scram-sha-256\n".encode()
_SETUP_SECONDS = 300
_PATIENCE_SECONDS = 3


class Database(Server):
    """PostgreSQL with the certificates and the password of the moment."""

    name = "postgresql"
    runtime = Path("/tmp/database")  # noqa: S108 - the pod's own scratch volume
    needed = ("tls/tls.crt", "tls/tls.key", "password/password")

    def __init__(self, mounts: Path, data: Path, port: int) -> None:
        """``data`` is a folder of the persistent volume; it is made if it is not there."""
        self.mounts = mounts
        self._data = data
        self._port = port

    def lay_out(self, files: Mapping[str, bytes]) -> dict[str, bytes]:
        """What is mounted, and who may connect."""
        return {**files, "pg_hba.conf": _HBA}

    def test(self, folder: Path) -> None:
        """As Server's."""
        check_pair(folder / "tls")
        if not _PASSWORD.fullmatch((folder / "password/password").read_bytes()):
            raise BrokenError("password must consist of 16 to 128 letters, digits and . _ ~ - only")

    def command(self, current: Path) -> tuple[str | Path, ...]:
        """As Server's; whatever is needed before the start is done now. Raises BrokenError."""
        self._own()
        if not self._data.exists():
            self._make()
        # A volume that is given to a group at each mount is open to it, and PostgreSQL refuses that.
        self._data.chmod(0o700)
        password = (current / "password/password").read_text()
        _setup(self._data, f"ALTER ROLE {_NAME} PASSWORD '{password}'")
        settings = {
            "listen_addresses": "*",
            "port": self._port,
            "unix_socket_directories": self.runtime,
            "hba_file": current / "pg_hba.conf",
            "ssl": "on",
            "ssl_cert_file": current / "tls/tls.crt",
            "ssl_key_file": current / "tls/tls.key",
            "ssl_min_protocol_version": "TLSv1.3",
            # What goes wrong in a statement is told to whoever sent it; it may quote people's data.
            "log_min_messages": "log",
            "log_min_error_statement": "panic",
            "log_error_verbosity": "terse",
        }
        return (_BIN / "postgres", "-D", self._data, *(f"--{name}={value}" for name, value in settings.items()))

    def _own(self) -> None:
        """Have the folder for ourselves. Raises BrokenError where another one serves it."""
        self._lock = self._data.with_name(f"{self._data.name}.lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BrokenError(f"another process serves {self._data}; end it first") from None
        # After a crash it names a process of a container that is gone, and its number may be somebody else's here.
        (self._data / "postmaster.pid").unlink(missing_ok=True)

    def _make(self) -> None:
        """A cluster with the role and its database: all of it, or nothing is there at the next start."""
        new = self._data.with_name(f"{self._data.name}.new")
        shutil.rmtree(new, ignore_errors=True)
        done = subprocess.run(
            [_BIN / "initdb", "--pgdata", new, "--username=postgres", "--locale=C.UTF-8", "--auth=reject"],
            check=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            timeout=_SETUP_SECONDS,
        )
        if done.returncode:
            raise BrokenError(f"initdb failed: {done.stderr.strip()[-2000:]}")
        _setup(new, f"CREATE ROLE {_NAME} LOGIN", f"CREATE DATABASE {_NAME} OWNER {_NAME}")
        new.rename(self._data)

    def reload(self, process: subprocess.Popen[bytes], current: Path) -> None:  # noqa: ARG002 - as Server's
        """New certificates count for new connections; a new password counts at the next start."""
        process.send_signal(signal.SIGHUP)

    def end(self, process: subprocess.Popen[bytes]) -> None:
        """At once, and whole: open transactions are rolled back (PostgreSQL's fast shutdown)."""
        process.send_signal(signal.SIGINT)

    def kept(self, line: str) -> dict[str, str] | None:
        """All of it, terse and without statements, but what is told to probes, who are not let in."""
        return None if '"[local]"' in line else {"message": line}

    def good(self) -> bool:
        """Whether it takes connections."""
        ready: list[str | Path] = [_BIN / "pg_isready", "--quiet", f"--host={self.runtime}", f"--port={self._port}"]
        try:
            return subprocess.run(ready, check=False, timeout=_PATIENCE_SECONDS).returncode == 0
        except subprocess.TimeoutExpired:
            return False


def _setup(data: Path, *statements: str) -> None:
    """Run statements while nothing serves. Raises BrokenError, which quotes none of them."""
    done = subprocess.run(
        [_BIN / "postgres", "--single", "-j", "-D", data, "-c", "log_min_error_statement=panic", "postgres"],
        check=False,
        input="".join(f"{statement};\n\n" for statement in statements),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=_SETUP_SECONDS,
    )
    wrong = [line for line in done.stderr.splitlines() if re.search(r"\b(?:ERROR|FATAL|PANIC):", line)]
    if done.returncode or wrong:
        raise BrokenError(f"PostgreSQL can't be set up: {(wrong or [f'exit code {done.returncode}'])[0]}")


def main() -> int:
    """Serve until SIGTERM; returns the exit code: PostgreSQL's, 1 where it can't start, 2 for wrong settings."""
    try:
        port = probe.read_port(os.environ, "DOMICILE_PORT", 5432)
        health = probe.read_port(os.environ, "DOMICILE_HEALTH_PORT", probe.PORT)
    except ValueError as error:
        say(sys.stderr, event="refused", message=str(error))
        return 2
    database = Database(
        Path(os.environ.get("DOMICILE_MOUNTS", "/etc/domicile")),
        Path(os.environ.get("DOMICILE_DATA", "/var/lib/domicile/database")),
        port,
    )
    probe.serve(health, database.good)
    return supervise(database)


if __name__ == "__main__":
    sys.exit(main())
