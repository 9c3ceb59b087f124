"""What is mounted into a pod: read as of one moment, laid out as a whole, and tested before anything serves it."""

from __future__ import annotations

import hashlib
import shutil
import ssl
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_KEPT = 4


class BrokenError(Exception):
    """What is mounted can't be served; the text says why and holds no secret."""


def read_mounts(mounts: Path, needed: Sequence[str], more: Sequence[str] = ()) -> dict[str, bytes]:
    """What is mounted, by ``volume/file``. Raises BrokenError where something of ``needed`` is missing.

    A volume of Kubernetes changes by one symbolic link, ``..data``, that is followed once: its files are of one moment.
    """
    folders: dict[str, Path] = {}
    found = {}
    for name in (*needed, *more):
        volume, file = name.split("/")
        try:
            if volume not in folders:
                link = mounts / volume / "..data"
                folders[volume] = mounts / volume / link.readlink() if link.is_symlink() else mounts / volume
            found[name] = (folders[volume] / file).read_bytes()
        except OSError as error:
            if name in needed:
                raise BrokenError(f"{mounts / name} can't be read ({error.strerror}); mount it") from None
    return found


def digest(files: Mapping[str, bytes]) -> str:
    """16 hex digits over names and content."""
    total = hashlib.sha256()
    for name, content in sorted(files.items()):
        total.update(f"{name} {len(content)}\n".encode() + content)
    return total.hexdigest()[:16]


def check_pair(folder: Path, certificate: str = "tls.crt", key: str = "tls.key") -> None:
    """Raises BrokenError unless the files hold a certificate and the key that belongs to it."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(folder / certificate, folder / key)
    except (ssl.SSLError, OSError) as error:
        files = certificate if certificate == key else f"{certificate} and {key}"
        raise BrokenError(f"{files}: no pair of certificate and key ({_why(error)})") from None


def check_bundle(folder: Path, name: str) -> None:
    """Raises BrokenError unless the file ``name`` of ``folder`` holds certificates."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(folder / name)
    except (ssl.SSLError, OSError) as error:
        raise BrokenError(f"{name} holds no certificates ({_why(error)})") from None


def _why(error: OSError) -> str:
    return getattr(error, "reason", None) or error.strerror or type(error).__name__


class Generations:
    """Folders of what was mounted, below ``runtime``; ``current`` leads to the one that serves."""

    def __init__(self, runtime: Path) -> None:
        """Empties ``runtime``. Raises OSError."""
        shutil.rmtree(runtime, ignore_errors=True)
        runtime.mkdir(mode=0o700, parents=True)
        self._runtime = runtime
        self._folders: list[Path] = []

    @property
    def current(self) -> Path:
        """The link to the folder that serves."""
        return self._runtime / "current"

    def take(self, name: str, files: Mapping[str, bytes], test: Callable[[Path], None]) -> None:
        """Lay files out and lead ``current`` to them, if they pass the test. Raises its BrokenError."""
        folder = self._runtime / name
        shutil.rmtree(folder, ignore_errors=True)
        for path, content in files.items():
            target = folder / path
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            target.write_bytes(content)
        try:
            test(folder)
        except BrokenError:
            shutil.rmtree(folder)
            raise
        new = self._runtime / "next"
        new.unlink(missing_ok=True)
        new.symlink_to(folder)
        new.replace(self.current)
        # What was told to reload may still be loading the ones before.
        self._folders = [f for f in self._folders if f != folder] + [folder]
        for old in self._folders[:-_KEPT]:
            shutil.rmtree(old, ignore_errors=True)
        self._folders = self._folders[-_KEPT:]
