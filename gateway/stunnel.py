"""stunnel under a supervisor: TLS for programs that have none, with what is mounted and renewed."""

from __future__ import annotations

import queue
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from domicile.gateway.mounts import BrokenError, check_bundle, check_pair
from domicile.gateway.supervisor import Server

_STUNNEL = "/usr/bin/stunnel4"
_QUIET_SECONDS = 60.0
_LINE = re.compile(r"\S+ \S+ LOG(?P<level>[0-7])\[[^]]*\]: (?P<text>.*)", re.ASCII)
_LEVELS = ("emergency", "alert", "critical", "error", "warning")
_WARNING = 4
_RELOADS = {"Configuration successful": True, "Configuration failed": False}
_RELOAD_SECONDS = 5


class Stunnel(Server):
    """stunnel with the pod's certificate."""

    name = "stunnel"
    runtime = Path("/tmp/tunnel")  # noqa: S108 - the pod's own scratch volume
    needed = ("tls/tls.crt", "tls/tls.key", "tls/ca.crt")

    def __init__(self, mounts: Path, config: Callable[[Path], str]) -> None:
        """``config``: its config, by the folder of the certificates."""
        self.mounts = mounts
        self._config = config
        self._logged: dict[str, float] = {}
        self._reloads: queue.SimpleQueue[bool] = queue.SimpleQueue()

    def test(self, folder: Path) -> None:
        """As Server's."""
        check_pair(folder / "tls")
        check_bundle(folder, "tls/ca.crt")

    def command(self, current: Path) -> tuple[str | Path, ...]:
        """As Server's."""
        # It follows links to its config at the start only; those to certificates anew at each reload.
        file = self.runtime / "stunnel.conf"
        file.write_text(self._config(current / "tls"))
        return (_STUNNEL, file)

    def reload(self, process: subprocess.Popen[bytes], current: Path) -> None:  # noqa: ARG002 - as Server's
        """Connections that are open stay, new ones use the new certificates."""
        self._reloads = queue.SimpleQueue()
        process.send_signal(signal.SIGHUP)
        try:
            good = self._reloads.get(timeout=_RELOAD_SECONDS)
        except queue.Empty:
            raise BrokenError(f"stunnel has not said within {_RELOAD_SECONDS} s what it thinks of it") from None
        if not good:
            raise BrokenError("stunnel refuses it, and says above why")

    def end(self, process: subprocess.Popen[bytes]) -> None:
        """At once: as a sidecar it is told to end when the door has ended."""
        process.terminate()

    def kept(self, line: str) -> dict[str, str] | None:
        """Warnings and worse, the same once a minute only: a store that is away is told of at every request otherwise.

        They speak of certificates and of the store's address, never of what passes through.
        """
        found = _LINE.fullmatch(line)
        text, level = (found["text"], int(found["level"])) if found else (line, _WARNING)
        if text in _RELOADS:
            self._reloads.put(_RELOADS[text])
        now = time.monotonic()
        self._logged = {t: at for t, at in self._logged.items() if now - at < _QUIET_SECONDS}
        if level > _WARNING or text in self._logged:
            return None
        self._logged[text] = now
        return {"level": _LEVELS[level], "message": text}
