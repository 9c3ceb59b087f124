"""The front door's supervisor: runs Apache httpd, and gives it new config, keys and certificates without a gap.

    python3 -m domicile.gateway.door

What is mounted is copied as a whole into a generation of its own, tested there, and then taken: a broken one is told
and the old one goes on serving. The standard library is all that it needs. It logs one JSON object a line: events to
standard output, where httpd's access log goes, too, and what is wrong to standard error.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, NamedTuple

from domicile.gateway.error_log import kept

_HTTPD = "/usr/sbin/apache2"
_RUNTIME = Path("/tmp/door")  # noqa: S108 - as in the config; the pod's own scratch volume
# File by volume: what must be there, and what may be.
_NEEDED = ("config/httpd.conf", "secrets/secrets.conf", "tls/tls.crt", "tls/tls.key", "trust/ca.crt")
_MORE = ("edge/ca.crt",)
_SECRETS = ("OIDCClientSecret", "OIDCCryptoPassphrase", "OIDCRedisCacheUsername", "OIDCRedisCachePassword")
_LOOK_SECONDS = 1.0
_TEST_SECONDS = 60
_KEPT = 4


class Settings(NamedTuple):
    """The supervisor's settings, environment variables with the prefix DOMICILE_."""

    mounts: Path
    """Folder of the volumes config, secrets, tls, trust and edge."""
    drain_seconds: int
    """How long new requests are served after SIGTERM, until everybody has heard that this pod goes."""

    @classmethod
    def read(cls, env: Mapping[str, str]) -> Settings:
        """Settings from the environment. Raises ValueError saying which variable is wrong."""
        drain = env.get("DOMICILE_DRAIN_SECONDS", "5")
        if not re.fullmatch("[0-9]{1,3}", drain, re.ASCII):
            raise ValueError("DOMICILE_DRAIN_SECONDS must be a number from 0 to 999")
        return cls(Path(env.get("DOMICILE_MOUNTS", "/etc/domicile/door")), int(drain))


class BrokenError(Exception):
    """What is mounted can't be served; the text says why and holds no secret."""


def _say(stream: IO[str], **fields: object) -> None:
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    stream.write(json.dumps({"time": now, **fields}) + "\n")
    stream.flush()


def read_mounts(mounts: Path) -> dict[str, bytes]:
    """What is mounted, by name. Raises BrokenError where something is missing.

    A volume of Kubernetes changes by one symbolic link, ``..data``, that is followed once: its files are of one moment.
    """
    found = {}
    for name in (*_NEEDED, *_MORE):
        volume, file = name.split("/")
        folder = mounts / volume
        try:
            link = folder / "..data"
            found[name] = ((folder / link.readlink() if link.is_symlink() else folder) / file).read_bytes()
        except OSError as error:
            if name in _NEEDED:
                raise BrokenError(f"{mounts / name} can't be read ({error.strerror}); mount it") from None
    return found


def _digest(files: Mapping[str, bytes]) -> str:
    total = hashlib.sha256()
    for name, content in sorted(files.items()):
        total.update(f"{name} {len(content)}\n".encode() + content)
    return total.hexdigest()[:16]


def _test(folder: Path) -> None:
    """Raises BrokenError where httpd could not serve the generation in ``folder``."""
    # httpd's own test reads neither certificates nor keys, and a reload with wrong ones would end it.
    secrets = (folder / "secrets/secrets.conf").read_text(errors="replace")
    if missing := [name for name in _SECRETS if not re.search(f"^{name} ", secrets, re.MULTILINE)]:
        raise BrokenError(f"secrets/secrets.conf lacks {', '.join(missing)}")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(folder / "tls/tls.crt", folder / "tls/tls.key")
    except (ssl.SSLError, OSError) as error:
        raise BrokenError(f"tls.crt and tls.key are no pair of certificate and key ({_why(error)})") from None
    for bundle in ("trust/ca.crt", "edge/ca.crt"):
        if (folder / bundle).exists():
            try:
                ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(folder / bundle)
            except (ssl.SSLError, OSError) as error:
                raise BrokenError(f"{bundle} holds no certificates ({_why(error)})") from None
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


def _why(error: OSError) -> str:
    return getattr(error, "reason", None) or error.strerror or type(error).__name__


class Supervisor:
    """One httpd and the generations of what it serves."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._wake = threading.Event()
        self._stopping = False
        self._seen = self._live = self._told = ""
        self._generations: list[Path] = []
        self._reloads = 0

    def stop(self) -> None:
        """Serve a little longer, finish what runs, and end."""
        self._stopping = True
        self._wake.set()

    def run(self) -> int:
        """Serve until ``stop`` or httpd's end; httpd's exit code. Raises BrokenError where it can't start."""
        shutil.rmtree(_RUNTIME, ignore_errors=True)
        _RUNTIME.mkdir(mode=0o700, parents=True)
        files = read_mounts(self._settings.mounts)
        self._seen = _digest(files)
        self._take(files, self._seen)
        httpd = subprocess.Popen(
            [_HTTPD, "-D", "FOREGROUND", "-d", _RUNTIME / "current", "-f", "httpd.conf"],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            # A signal to the terminal's group is not httpd's business; the supervisor hears it.
            start_new_session=True,
        )
        log = threading.Thread(target=_keep, args=(httpd,), daemon=True)
        log.start()
        threading.Thread(target=self._await, args=(httpd,), daemon=True).start()
        _say(sys.stdout, event="started", generation=self._seen)
        while not self._wake.wait(_LOOK_SECONDS):
            self._look(httpd)
        if self._stopping and httpd.poll() is None:
            self._drain(httpd)
        code = httpd.wait()
        log.join(1)
        _say(sys.stdout, event="ended", code=code)
        return code if code >= 0 else 128 - code

    def _await(self, httpd: subprocess.Popen[bytes]) -> None:
        httpd.wait()
        self._wake.set()

    def _look(self, httpd: subprocess.Popen[bytes]) -> None:
        """Take what has changed, if it can be served."""
        try:
            files = read_mounts(self._settings.mounts)
        except BrokenError as error:
            self._seen = "nothing whole"
            self._refuse(error)
            return
        generation = _digest(files)
        if generation == self._seen:
            return
        self._seen = generation
        if generation == self._live:
            self._told = ""
            _say(sys.stdout, event="restored", generation=generation)
            return
        try:
            self._take(files, generation)
        except BrokenError as error:
            self._refuse(error)
            return
        self._told = ""
        httpd.send_signal(signal.SIGUSR1)
        self._reloads += 1
        _say(sys.stdout, event="reloaded", generation=generation, count=self._reloads)

    def _refuse(self, error: BrokenError) -> None:
        if str(error) != self._told:
            self._told = str(error)
            _say(sys.stderr, event="refused", message=f"The old config keeps serving: {error}")

    def _take(self, files: Mapping[str, bytes], generation: str) -> None:
        folder = _RUNTIME / generation
        shutil.rmtree(folder, ignore_errors=True)
        for name, content in files.items():
            target = folder / name.removeprefix("config/")
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            target.write_bytes(content)
        try:
            _test(folder)
        except BrokenError:
            shutil.rmtree(folder)
            raise
        link, new = _RUNTIME / "current", _RUNTIME / "next"
        new.unlink(missing_ok=True)
        new.symlink_to(folder)
        new.replace(link)
        self._live = generation
        # httpd may still be loading the ones before.
        self._generations = [g for g in self._generations if g != folder] + [folder]
        for old in self._generations[:-_KEPT]:
            shutil.rmtree(old, ignore_errors=True)
        self._generations = self._generations[-_KEPT:]

    def _drain(self, httpd: subprocess.Popen[bytes]) -> None:
        _say(sys.stdout, event="draining", seconds=self._settings.drain_seconds)
        try:
            httpd.wait(self._settings.drain_seconds)
        except subprocess.TimeoutExpired:
            # SIGWINCH: stop listening, finish what runs, at most as long as the config says.
            httpd.send_signal(signal.SIGWINCH)


def _keep(httpd: subprocess.Popen[bytes]) -> None:
    if httpd.stderr is None:
        raise TypeError("httpd was started without a pipe for its error log")
    for line in httpd.stderr:
        _say(sys.stderr, event="httpd", **kept(line.decode(errors="replace").rstrip("\n")))


def main() -> int:
    """Serve until SIGTERM; returns the exit code: httpd's, 1 where nothing can be served, 2 for wrong settings."""
    os.umask(0o077)
    try:
        settings = Settings.read(os.environ)
    except ValueError as error:
        _say(sys.stderr, event="refused", message=str(error))
        return 2
    supervisor = Supervisor(settings)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: supervisor.stop())
    try:
        return supervisor.run()
    except BrokenError as error:
        _say(sys.stderr, event="refused", message=f"Nothing is served: {error}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
