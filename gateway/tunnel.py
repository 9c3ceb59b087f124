"""The ways out of a front door's pod that mod_auth_openidc 2.4.12 has no means for, each from the pod's loopback.

    python3 -m domicile.gateway.tunnel

To the site's session store, for it knows no TLS to redis: stunnel shows the door's certificate, and verifies the
store's and its name. See ``domicile.gateway.supervisor``; ``/healthz`` says whether stunnel passes on what it gets.
Whether the store answers is logged and no matter of health: without it open paths still work. And, where
``DOMICILE_WAY_OUT`` names it, to the site's way out (``domicile.forwarding``), for who logs people in.
"""

from __future__ import annotations

import logging
import os
import random
import re
import socket
import sys
import threading
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

from domicile import forwarding
from domicile.credentials import Credentials
from domicile.gateway import probe
from domicile.gateway.stunnel import Stunnel
from domicile.gateway.supervisor import say, supervise

# Of a handshake or a connection that the store doesn't answer; the door itself waits for 2 s.
_TIMEOUT_SECONDS = 2
_PATIENCE_SECONDS = 2 * _TIMEOUT_SECONDS + 1
_CHECK_SECONDS = 2.0
_LONGEST_SECONDS = 30.0
# Connections that are open stay so when certificates end; only a new one shows it.
_OPEN_SECONDS = 600.0
# A login makes one, for some hundred milliseconds; so many have room in the container.
_TUNNELS = 64


class Settings(NamedTuple):
    """The tunnel's settings, environment variables with the prefix DOMICILE_."""

    store: str
    """The session store, host:port; its certificate must name this host."""
    mounts: Path
    """Folder of the volume tls."""
    port: int
    """The door's end, on the loopback."""
    health_port: int
    way_out: forwarding.Settings | None

    @classmethod
    def read(cls, env: Mapping[str, str]) -> Settings:
        """Settings from the environment. Raises ValueError saying which variable is wrong."""
        store = env.get("DOMICILE_SESSION_STORE", "")
        if not re.fullmatch("[a-z0-9.-]{1,253}:[0-9]{1,5}", store, re.ASCII):
            raise ValueError("DOMICILE_SESSION_STORE must be the session store's host:port")
        ports = (probe.read_port(env, "DOMICILE_PORT", 6379), probe.read_port(env, "DOMICILE_HEALTH_PORT", probe.PORT))
        mounts = Path(env.get("DOMICILE_MOUNTS", "/etc/domicile"))
        return cls(store, mounts, *ports, forwarding.Settings.read(env))


def config(settings: Settings, folder: Path) -> str:
    """stunnel's config (stunnel(8)) for certificates in ``folder``."""
    lines = (
        "foreground = yes",
        "pid =",
        "syslog = no",
        "debug = notice",
        "[sessions]",
        "client = yes",
        f"accept = 127.0.0.1:{settings.port}",
        f"connect = {settings.store}",
        # The store's address may change, and may be unknown while this starts.
        "delay = yes",
        f"cert = {folder}/tls.crt",
        f"key = {folder}/tls.key",
        f"CAfile = {folder}/ca.crt",
        "verifyChain = yes",
        f"checkHost = {settings.store.partition(':')[0]}",
        "sslVersionMin = TLSv1.3",
        f"TIMEOUTconnect = {_TIMEOUT_SECONDS}",
        f"TIMEOUTbusy = {_TIMEOUT_SECONDS}",
    )
    return "\n".join(lines) + "\n"


class Health:
    """Looks through the tunnel again and again, tells of changes, and knows whether the tunnel is well."""

    def __init__(self, port: int) -> None:
        self._look = Look(port)
        self._until = 0.0
        # Only changes are told.
        self._said = "stuck"

    def start(self) -> None:
        """Look, in a thread of its own."""
        threading.Thread(target=self._run, daemon=True).start()

    def good(self) -> bool:
        """Whether the tunnel has worked of late."""
        return time.monotonic() < self._until

    def _run(self) -> None:
        wait = _CHECK_SECONDS
        while True:
            found = self._look()
            wait = min(2 * wait, _LONGEST_SECONDS) if found == "unreachable" else _CHECK_SECONDS
            # Not all doors at once: a handshake costs the store a thousand words.
            pause = wait * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
            self._until = 0.0 if found == "stuck" else time.monotonic() + pause + 2 * _PATIENCE_SECONDS
            if found != self._said:
                self._said = found
                say(sys.stdout if found == "reachable" else sys.stderr, event=found, message=_MESSAGES[found])
            time.sleep(pause)


_MESSAGES = {
    "reachable": "The session store answers through the tunnel.",
    "unreachable": "The session store does not answer through the tunnel, so nobody can log in here. Look at its pod, "
    "at the network policies between them, and at what stunnel says of certificates.",
    "stuck": "The tunnel passes nothing on; its container is to be restarted.",
}


class Look:
    """A word through the tunnel, and what comes back."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._way: socket.socket | None = None
        self._opened = 0.0

    def __call__(self) -> str:
        """What became of it.

        ``reachable``: the store answered; without an account it refuses (redis' NOAUTH), which is answer enough.
        ``unreachable``: the tunnel hung up. ``stuck``: there is no tunnel, or nothing comes out of it.
        """
        try:
            way = self._open()
            way.sendall(b"PING\r\n")
            found = "reachable" if way.recv(256)[:1] in {b"-", b"+"} else "unreachable"
        except (ConnectionResetError, BrokenPipeError):
            found = "unreachable"
        except OSError:
            found = "stuck"
        if found != "reachable":
            self._close()
        return found

    def _open(self) -> socket.socket:
        if time.monotonic() - self._opened > _OPEN_SECONDS:
            self._close()
        if self._way is None:
            self._way = socket.create_connection(("127.0.0.1", self._port), _PATIENCE_SECONDS)
            self._opened = time.monotonic()
        return self._way

    def _close(self) -> None:
        if self._way is not None:
            self._way.close()
            self._way = None


class _Told(logging.Handler):
    """What modules of the operator's say, in the form of the others."""

    def emit(self, record: logging.LogRecord) -> None:
        say(sys.stderr, event="way-out", level=record.levelname.lower(), message=record.getMessage())


def main() -> int:
    """Serve until SIGTERM; returns the exit code: stunnel's, 1 where it can't start, 2 for wrong settings."""
    try:
        settings = Settings.read(os.environ)
    except ValueError as error:
        say(sys.stderr, event="refused", message=str(error))
        return 2
    if settings.way_out is not None:
        logging.getLogger().addHandler(_Told(logging.WARNING))
        credentials = Credentials(settings.mounts / "tls", "ca.crt", connects=True)
        try:
            forwarding.serve(settings.way_out.forwarder(credentials, _TUNNELS), settings.way_out.port)
        except OSError as error:
            say(sys.stderr, event="refused", message=f"port {settings.way_out.port} can't be used: {error.strerror}")
            return 1
    health = Health(settings.port)
    probe.serve(settings.health_port, health.good)
    health.start()
    return supervise(Stunnel(settings.mounts, partial(config, settings)))


if __name__ == "__main__":
    sys.exit(main())
