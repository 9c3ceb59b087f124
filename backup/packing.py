"""Read objects of the live bucket pinned to a version, seal them and write packs, in parallel and in bounded memory.

Small objects are read by many threads and laid into shared packs in the order of the listing; large ones are cut into
parts that are packs of their own. Whatever the bucket holds, less than about 300 MiB are in memory at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import google_crc32c

from domicile.backup import snapshot
from domicile.backup.errors import IntegrityError
from domicile.backup.snapshot import LARGE_BYTES, PACK_BYTES, PART_BYTES, Entry, Part, Scope
from domicile.backup.stores.base import Bucket, ChangedError, NotFoundError, ObjectInfo

_READERS = 16
_UPLOADERS = 2
_LARGE_WORKERS = 3
_AHEAD_OBJECTS = 64
_AHEAD_BYTES = 32 << 20
_TRIES = 4

_T = TypeVar("_T")


class _MovedError(Exception):
    """The object is no longer what the listing said."""


class _Sealed(NamedTuple):
    info: ObjectInfo
    crc32c: int
    seal: str
    data: bytes


class Packer:
    """One run's reading and sealing. ``run`` is called once; the counters are valid afterwards.

    ``changed`` objects were sealed into ``bytes_sealed`` bytes; ``left`` objects changed at every try.
    """

    def __init__(
        self, source: Bucket, replica: Bucket, scope: Scope, epoch: int, may_go_on: Callable[[], None]
    ) -> None:
        self._source = source
        self._replica = replica
        self._scope = scope
        self._epoch = epoch
        self._may_go_on = may_go_on
        self.changed = 0
        self.bytes_sealed = 0
        self.left = 0

    def run(self, infos: Iterable[ObjectInfo]) -> dict[str, Entry | None]:
        """The entry of each object; None for one that was deleted meanwhile; objects in ``left`` are absent.

        Raises IntegrityError where the source's bytes don't match its checksum, StoreError.
        """
        wanted = list(infos)
        small = [info for info in wanted if info.size <= LARGE_BYTES]
        large = [info for info in wanted if info.size > LARGE_BYTES]
        entries: dict[str, Entry | None] = {}
        self._small(small, entries)
        with ThreadPoolExecutor(_LARGE_WORKERS) as pool:
            futures = [pool.submit(self._large, info) for info in large]
            try:
                for info, future in zip(large, futures, strict=True):
                    self._record(info.name, future.result(), entries)
            finally:
                for future in futures:
                    future.cancel()
        self.bytes_sealed = sum(part.length for entry in entries.values() if entry for part in entry.parts)
        return entries

    def _record(self, name: str, found: Entry | NotFoundError | ChangedError, entries: dict[str, Entry | None]) -> None:
        if isinstance(found, Entry):
            entries[name] = found
            self.changed += 1
        elif isinstance(found, NotFoundError):
            entries[name] = None
        else:
            self.left += 1

    def _small(self, infos: list[ObjectInfo], entries: dict[str, Entry | None]) -> None:
        with ThreadPoolExecutor(_READERS) as readers, ThreadPoolExecutor(_UPLOADERS) as uploaders:
            packs = _Packs(uploaders, self._put)
            for info, found in _ahead(readers, infos, self._read_small):
                self._may_go_on()
                if isinstance(found, _Sealed):
                    part = packs.add(found, self._epoch)
                    at = found.info
                    self._record(at.name, Entry(at.name, at.version, at.size, found.crc32c, (part,)), entries)
                else:
                    self._record(info.name, found, entries)
            packs.close()

    def _put(self, name: str, pieces: list[bytes]) -> None:
        snapshot.put(self._replica, f"{self._scope.tenant}/packs/{name}", b"".join(pieces))

    def _read(self, at: ObjectInfo, start: int, length: int | None) -> bytes:
        if length == 0:
            return b""
        try:
            return self._source.read(at.name, version=at.version, start=start, length=length)
        except (ChangedError, NotFoundError):
            raise _MovedError from None

    def _read_small(self, info: ObjectInfo) -> _Sealed | NotFoundError | ChangedError:
        def whole(at: ObjectInfo) -> _Sealed:
            if at.size > LARGE_BYTES:
                raise _MovedError
            data = self._read(at, 0, None)
            crc = google_crc32c.value(data)
            _check(at, len(data), crc)
            seal = snapshot.new_name()
            return _Sealed(at, crc, seal, self._scope.seal("object", seal, at.version, self._epoch, data))

        return self._retry(info, whole)

    def _large(self, info: ObjectInfo) -> Entry | NotFoundError | ChangedError:
        def whole(at: ObjectInfo) -> Entry:
            crc, parts, read = 0, [], 0
            for start in range(0, max(at.size, 1), PART_BYTES):
                self._may_go_on()
                length = min(PART_BYTES, at.size - start)
                data = self._read(at, start, length)
                crc, read = google_crc32c.extend(crc, data), read + len(data)
                if len(data) != length:
                    break
                pack, seal = snapshot.new_name(), snapshot.new_name()
                sealed = self._scope.seal("object", seal, at.version, self._epoch, data)
                self._put(pack, [sealed])
                parts.append(Part(pack, 0, len(sealed), seal, self._epoch))
            _check(at, read, crc)
            return Entry(at.name, at.version, at.size, crc, tuple(parts))

        return self._retry(info, whole)

    def _retry(self, info: ObjectInfo, attempt: Callable[[ObjectInfo], _T]) -> _T | NotFoundError | ChangedError:
        """A newer version is as good as the listed one: the snapshot promises all writes before its cut, not only
        those.
        """
        at: ObjectInfo | None = info
        for _ in range(_TRIES):
            if at is None or at.name != info.name:
                return NotFoundError("it was deleted meanwhile")
            try:
                return attempt(at)
            except _MovedError:
                at = next(iter(self._source.list(info.name)), None)
        return ChangedError("it changed at every try")


def _ahead(
    pool: ThreadPoolExecutor, infos: Iterable[ObjectInfo], call: Callable[[ObjectInfo], _T]
) -> Iterator[tuple[ObjectInfo, _T]]:
    """Results in order, computed ahead by at most so many objects and bytes."""
    window: deque[tuple[ObjectInfo, Future[_T]]] = deque()
    held = 0
    try:
        for info in infos:
            while window and (len(window) >= _AHEAD_OBJECTS or held + info.size > _AHEAD_BYTES):
                first, future = window.popleft()
                yield first, future.result()
                held -= first.size
            held += info.size
            window.append((info, pool.submit(call, info)))
        while window:
            first, future = window.popleft()
            yield first, future.result()
    finally:
        for _, future in window:
            future.cancel()


class _Packs:
    """Lays sealed objects into packs and has full ones written behind the caller's back, a few at a time."""

    def __init__(self, pool: ThreadPoolExecutor, put: Callable[[str, list[bytes]], None]) -> None:
        self._pool = pool
        self._put = put
        self._uploads: deque[Future[None]] = deque()
        self._begin()

    def add(self, sealed: _Sealed, epoch: int) -> Part:
        if self._pieces and self._size + len(sealed.data) > PACK_BYTES:
            self._flush()
        part = Part(self._name, self._size, len(sealed.data), sealed.seal, epoch)
        self._pieces.append(sealed.data)
        self._size += len(sealed.data)
        return part

    def close(self) -> None:
        if self._pieces:
            self._flush()
        while self._uploads:
            self._uploads.popleft().result()

    def _begin(self) -> None:
        self._name, self._size = snapshot.new_name(), 0
        self._pieces: list[bytes] = []

    def _flush(self) -> None:
        while len(self._uploads) >= _UPLOADERS:
            self._uploads.popleft().result()
        self._uploads.append(self._pool.submit(self._put, self._name, self._pieces))
        self._begin()


def _check(info: ObjectInfo, size: int, crc32c: int) -> None:
    if size != info.size or info.crc32c not in (None, crc32c):
        raise IntegrityError("an object of the live bucket arrived with other bytes than its size and checksum say")
