"""The session store's supervisor: runs redis, and gives it new certificates and accounts without losing a session.

    python3 -m domicile.gateway.session_store [redis' arguments ...]

redis reads files of certificates again only when it is told to (``CONFIG SET``), and accounts likewise (``ACL LOAD``).
It is told through a Unix socket of this container, by an account whose password lives in two processes' memory; the
port knows TLS only. ``/healthz`` says whether redis answers. See ``domicile.gateway.supervisor``.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from domicile.gateway import probe
from domicile.gateway.mounts import BrokenError, check_bundle, check_pair
from domicile.gateway.supervisor import Server, say, supervise

_REDIS = "/usr/bin/redis-server"
_CONFIG = "/usr/local/etc/redis.conf"
_KEEPER = "domicile-keeper"
_PATIENCE_SECONDS = 2.0
_FILES = {"tls-cert-file": "tls/tls.crt", "tls-key-file": "tls/tls.key", "tls-ca-cert-file": "tls/ca.crt"}


class Redis(Server):
    """redis with the accounts and the certificates of the moment."""

    name = "redis"
    runtime = Path("/tmp/sessions")  # noqa: S108 - the pod's own scratch volume
    needed = ("sessions/users.acl", *_FILES.values())

    def __init__(self, mounts: Path, arguments: Sequence[str]) -> None:
        self.mounts = mounts
        self._arguments = arguments
        self._password = secrets.token_urlsafe(32)
        self._accounts = b""

    @property
    def _socket(self) -> Path:
        return self.runtime / "redis.sock"

    def lay_out(self, files: Mapping[str, bytes]) -> dict[str, bytes]:
        """What is mounted, with one more account: it may reload, and nothing else."""
        digest = hashlib.sha256(self._password.encode()).hexdigest()
        keeper = f"user {_KEEPER} on #{digest} resetkeys resetchannels -@all +config|set +acl|load\n"
        return {**files, "sessions/users.acl": files["sessions/users.acl"] + keeper.encode()}

    def test(self, folder: Path) -> None:
        """As Server's; accounts are tested by redis, which takes all of a file or nothing."""
        check_pair(folder / "tls")
        check_bundle(folder, "tls/ca.crt")

    def command(self, current: Path) -> tuple[str | Path, ...]:
        """As Server's."""
        files = [word for option, file in _FILES.items() for word in (f"--{option}", current / file)]
        accounts = ("--aclfile", current / "sessions/users.acl")
        self._accounts = (current / "sessions/users.acl").read_bytes()
        return (_REDIS, _CONFIG, "--unixsocket", self._socket, *accounts, *files, *self._arguments)

    def reload(self, process: subprocess.Popen[bytes], current: Path) -> None:  # noqa: ARG002 - as Server's
        """Open connections stay, unless accounts have changed: then they end."""
        # One CONFIG SET: key and certificate are taken together or not at all.
        self._tell("CONFIG", "SET", *(w for option, file in _FILES.items() for w in (option, str(current / file))))
        accounts = (current / "sessions/users.acl").read_bytes()
        if accounts != self._accounts:
            self._tell("ACL", "LOAD")
            self._accounts = accounts

    def _tell(self, *words: str) -> None:
        """Give redis a command. Raises BrokenError where it does not say OK."""
        try:
            with self._open() as way:
                answers = way.makefile("rb")
                for command in (("AUTH", _KEEPER, self._password), words):
                    way.sendall(_command(command))
                    if (answer := answers.readline().decode(errors="replace").strip()) != "+OK":
                        # It quotes what it doesn't understand, such as a digest.
                        why = answer.partition("'")[0] or "nothing"
                        raise BrokenError(f"redis answers to {' '.join(command[:2])}: {why}")
        except OSError as error:
            raise BrokenError(f"redis can't be told to reload ({error.strerror or type(error).__name__})") from None

    def good(self) -> bool:
        """Whether redis answers; to a word without an account it answers that it wants one."""
        try:
            with self._open() as way:
                way.sendall(b"PING\r\n")
                return way.recv(1) in {b"-", b"+"}
        except OSError:
            return False

    def _open(self) -> socket.socket:
        way = socket.socket(socket.AF_UNIX)
        way.settimeout(_PATIENCE_SECONDS)
        try:
            way.connect(str(self._socket))
        except OSError:
            way.close()
            raise
        return way

    def end(self, process: subprocess.Popen[bytes]) -> None:
        """At once: doors wait for the next one."""
        process.terminate()

    def kept(self, line: str) -> dict[str, str]:
        """All of it: redis logs to standard output, and here no more than why it can't start."""
        return {"message": line}


def _command(words: Sequence[str]) -> bytes:
    """A command as redis reads it (RESP, https://redis.io/docs)."""
    return f"*{len(words)}\r\n".encode() + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in map(str.encode, words))


def main() -> int:
    """Serve until SIGTERM; returns the exit code: redis', 1 where it can't start, 2 for wrong settings."""
    try:
        port = probe.read_port(os.environ, "DOMICILE_HEALTH_PORT", probe.PORT)
    except ValueError as error:
        say(sys.stderr, event="refused", message=str(error))
        return 2
    redis = Redis(Path(os.environ.get("DOMICILE_MOUNTS", "/etc/domicile")), sys.argv[1:])
    probe.serve(port, redis.good)
    return supervise(redis)


if __name__ == "__main__":
    sys.exit(main())
