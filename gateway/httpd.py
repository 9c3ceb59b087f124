"""Apache httpd under the supervisor: tested before it serves, and reloaded without a gap."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from domicile.gateway.error_log import kept
from domicile.gateway.mounts import BrokenError, check_bundle, check_pair
from domicile.gateway.supervisor import Server, say, supervise

_HTTPD = "/usr/sbin/apache2"
_TEST_SECONDS = 60


class Settings(NamedTuple):
    """The supervisor's settings, environment variables with the prefix DOMICILE_."""

    mounts: Path
    """Folder of the volumes."""
    drain_seconds: int
    """How long new requests are served after SIGTERM, until everybody has heard that this pod goes."""

    @classmethod
    def read(cls, env: Mapping[str, str], mounts: str) -> Settings:
        """Settings from the environment, ``mounts`` by default. Raises ValueError saying which variable is wrong."""
        drain = env.get("DOMICILE_DRAIN_SECONDS", "5")
        if not re.fullmatch("[0-9]{1,3}", drain, re.ASCII):
            raise ValueError("DOMICILE_DRAIN_SECONDS must be a number from 0 to 999")
        return cls(Path(env.get("DOMICILE_MOUNTS", mounts)), int(drain))


class Httpd(Server):
    """Apache httpd with a config of ours; a subclass says what is mounted."""

    name = "httpd"
    runtime = Path("/tmp/door")  # noqa: S108 - as in the config; the pod's own scratch volume
    bundles: tuple[str, ...]
    """Of what is mounted, the files of authorities."""

    def __init__(self, settings: Settings) -> None:
        self.mounts = settings.mounts
        self._drain_seconds = settings.drain_seconds

    def lay_out(self, files: Mapping[str, bytes]) -> dict[str, bytes]:
        """The config's relative paths start beside it."""
        return {name.removeprefix("config/"): content for name, content in files.items()}

    def test(self, folder: Path) -> None:
        """As Server's."""
        # httpd's own test reads neither certificates nor keys, and a reload with wrong ones would end it.
        check_pair(folder / "tls")
        for bundle in self.bundles:
            if (folder / bundle).exists():
                check_bundle(folder, bundle)
        try:
            done = subprocess.run(
                [_HTTPD, "-t", "-d", folder, "-f", "httpd.conf"],
                check=False,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                timeout=_TEST_SECONDS,
            )
        except subprocess.TimeoutExpired:
            raise BrokenError(f"httpd has not tested it within {_TEST_SECONDS} s") from None
        if done.returncode:
            told = done.stderr.strip()
            # What httpd quotes of this file may be a secret.
            raise BrokenError(told.partition("\n")[0] if "secrets.conf" in told else told[-2000:])

    def command(self, current: Path) -> tuple[str | Path, ...]:
        """As Server's."""
        return (_HTTPD, "-D", "FOREGROUND", "-d", current, "-f", "httpd.conf")

    def reload(self, process: subprocess.Popen[bytes], current: Path) -> None:  # noqa: ARG002 - as Server's
        """A graceful restart: what runs is finished by the old config."""
        process.send_signal(signal.SIGUSR1)

    def end(self, process: subprocess.Popen[bytes]) -> None:
        """Serve a little longer, finish what runs, and end."""
        say(sys.stdout, event="draining", seconds=self._drain_seconds)
        try:
            process.wait(self._drain_seconds)
        except subprocess.TimeoutExpired:
            # SIGWINCH: stop listening, finish what runs, at most as long as the config says.
            process.send_signal(signal.SIGWINCH)

    def kept(self, line: str) -> dict[str, str]:
        """Codes, never words, which may quote a request."""
        return kept(line)


def serve(kind: type[Httpd], mounts: str) -> int:
    """Serve until SIGTERM; returns the exit code: httpd's, 1 where nothing can be served, 2 for wrong settings."""
    try:
        settings = Settings.read(os.environ, mounts)
    except ValueError as error:
        say(sys.stderr, event="refused", message=str(error))
        return 2
    return supervise(kind(settings))
