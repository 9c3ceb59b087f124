"""A local folder in place of a bucket, for a recovery by hand: each object a file, its name a path inside the folder.

Names come from a tenant and are not trusted. A plain name (``knowledge/a.md``) is its own path. Everything that a file
system takes otherwise is escaped: control characters and ``%`` as ``%XX``, an empty, ``.`` or ``..`` part as ``%``,
``%2E``, ``%2E%2E``, a long part as folders that end in ``%``; and of an object and a folder of the same name the later
one ends in ``%=``. So no name leads out of the folder, and none is another's.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path
from urllib.parse import unquote

from domicile.backup.stores.base import (
    AlreadyExistsError,
    BucketFacts,
    NotFoundError,
    ObjectInfo,
    Page,
    StoreError,
    pages_of,
)

_SPECIAL = re.compile(r"[%\x00-\x1f\x7f]")
_DOTS = {"": "%", ".": "%2E", "..": "%2E%2E"}
# File systems allow 255 bytes for a part of a path; marks are added to some.
_PART_BYTES = 240
_LATER = "%="
_UNFINISHED = "%unfinished-"


class Folder:
    """A folder of this user's alone as a ``Bucket``. Raises StoreError where others may write into it."""

    site = "this machine"

    def __init__(self, root: Path) -> None:
        self.name = str(root)
        self._root = root
        with self._told():
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            state = root.stat()
            for left in root.glob(f"{_UNFINISHED}*"):
                left.unlink()
        if state.st_uid != os.geteuid() or state.st_mode & 0o077:
            raise StoreError(f"folder {root} is not this user's alone: chown it and chmod 700, or name a new one")

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """All objects under a prefix, by name. Raises StoreError for a file that no restore has made."""
        found: list[ObjectInfo] = []
        with self._told():
            for folder, _, files in os.walk(self._root):
                inside = Path(folder).relative_to(self._root).parts
                for file in files:
                    if file.startswith(_UNFINISHED) and not inside:
                        continue
                    name = name_of((*inside, file))
                    if name is None:
                        raise StoreError(f"folder {self.name} holds a file that is no object's; name a new folder")
                    if name.startswith(prefix):
                        state = Path(folder, file).lstat()
                        found.append(ObjectInfo(name, str(state.st_mtime_ns), state.st_size))
        yield from sorted(found, key=attrgetter("name"))

    def pages(self, prefix: str = "", *, after: str = "") -> Iterator[Page]:
        """The same behind the name ``after``, a page at a time."""
        yield from pages_of(info for info in self.list(prefix) if info.name > after)

    def read(self, name: str, *, version: str | None = None, start: int = 0, length: int | None = None) -> bytes:  # noqa: ARG002
        """Bytes of an object, or of a range of it. Raises NotFoundError."""
        with self._told(), self._found(name).open("rb") as file:
            file.seek(start)
            return file.read(-1 if length is None else length)

    def create(self, name: str, data: bytes) -> None:
        """Write an object that must not exist. Raises AlreadyExistsError."""
        self._write(name, iter((data,)), replace=False)

    def write(self, name: str, data: Iterator[bytes], size: int, *, new: bool = False) -> str:  # noqa: ARG002
        """Write or overwrite an object."""
        self._write(name, data, replace=not new)
        return ""

    def delete(self, name: str) -> None:
        """Delete an object; a missing one is no error."""
        with self._told():
            self._found(name).unlink(missing_ok=True)

    def facts(self) -> BucketFacts:
        """Raise StoreError: a folder can't say where it lies."""
        raise StoreError(f"folder {self.name} does not say where it lies")

    def create_bucket(self) -> None:
        """Raise AlreadyExistsError: the folder is there."""
        raise AlreadyExistsError(f"folder {self.name} exists")

    def _write(self, name: str, data: Iterator[bytes], *, replace: bool) -> None:
        unfinished = self._root / f"{_UNFINISHED}{secrets.token_hex(8)}"
        with self._told():
            try:
                with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                    file.writelines(data)
                self._place(unfinished, name, replace=replace)
            finally:
                unfinished.unlink(missing_ok=True)

    def _place(self, unfinished: Path, name: str, *, replace: bool) -> None:
        *folders, last = parts_of(name)
        at = self._root
        for part in folders:
            at = _made(at / part)
        for path in (at / last, at / (last + _LATER)):
            try:
                if replace:
                    unfinished.replace(path)
                else:
                    path.hardlink_to(unfinished)
                return
            except (FileExistsError, IsADirectoryError):
                if not path.is_dir():
                    raise AlreadyExistsError(f"folder {self.name} has an object of that name") from None

    def _found(self, name: str) -> Path:
        *folders, last = parts_of(name)
        at = self._root
        for part in folders:
            at = at / part if (at / part).is_dir() else at / (part + _LATER)
        return at / (last + _LATER) if (at / last).is_dir() else at / last

    @contextmanager
    def _told(self) -> Iterator[None]:
        # The errors' own words would quote names of objects.
        try:
            yield
        except FileNotFoundError:
            raise NotFoundError(f"folder {self.name} has no such object") from None
        except OSError as error:
            raise StoreError(f"folder {self.name} can't be used: {os.strerror(error.errno or 0)}") from None


def _made(folder: Path) -> Path:
    for path in (folder, folder.with_name(folder.name + _LATER)):
        try:
            path.mkdir(mode=0o700)
            return path
        except FileExistsError:
            if path.is_dir():
                return path
    raise FileExistsError


def parts_of(name: str) -> list[str]:
    """The path of an object inside the folder, part by part; none is empty, ``.`` or ``..`` or holds a ``/``."""
    return [piece for part in name.split("/") for piece in _pieces(part)]


def name_of(parts: tuple[str, ...]) -> str | None:
    """The object whose path that is; None where it is no object's."""
    text = ""
    for number, marked in enumerate(parts, 1):
        part = marked.removesuffix(_LATER)
        goes_on = part.endswith("%") and part != "%"
        text += part.removesuffix("%") + ("" if goes_on or number == len(parts) else "/")
    name = unquote(text)
    return name if name and [part.removesuffix(_LATER) for part in parts] == parts_of(name) else None


def _pieces(part: str) -> list[str]:
    if part in _DOTS:
        return [_DOTS[part]]
    pieces, piece = [], ""
    for character in part:
        escaped = f"%{ord(character):02X}" if _SPECIAL.match(character) else character
        if len((piece + escaped).encode()) > _PART_BYTES:
            pieces.append(piece + "%")
            piece = ""
        piece += escaped
    return [*pieces, piece]
