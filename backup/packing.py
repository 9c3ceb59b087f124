"""Read objects of the live bucket pinned to a version, seal them and write packs, in parallel and in bounded memory.

Small objects that follow each other in the listing share a pack; large ones are cut into parts that are packs of their
own. Whatever the bucket holds, at most ``_JOBS`` packs or parts are in memory, each as plaintext and as ciphertext, and
not many more of all tenants that a process replicates at once from one store to another.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from threading import BoundedSemaphore
from typing import Any, NamedTuple, TypeVar

import google_crc32c

from domicile.backup import snapshot
from domicile.backup.errors import IntegrityError
from domicile.backup.manifest import Entry, Part
from domicile.backup.sealing import sealed_size
from domicile.backup.snapshot import Scope
from domicile.backup.stores.base import Bucket, ChangedError, NotFoundError, ObjectInfo

PACK_BYTES = 16 << 20
# Of tiny objects what is known of each weighs more than its bytes.
PACK_OBJECTS = 8192
PART_BYTES = 8 << 20
LARGE_BYTES = 8 << 20
_READERS = 16
_CHUNK_OBJECTS = 8
_CHUNK_BYTES = 1 << 20
_JOBS = 3
_TRIES = 4

_T = TypeVar("_T")
Result = Entry | NotFoundError | ChangedError
"""The entry of an object; or why there is none: it was deleted meanwhile, or changed at every try."""


class _MovedError(Exception):
    """The object is no longer what the listing said."""


class _Read(NamedTuple):
    at: ObjectInfo
    crc32c: int
    data: bytes


@dataclass(slots=True)
class _Job:
    infos: list[ObjectInfo] = field(default_factory=list)
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class _Slots:
    """How much may be in memory of all tenants that a process replicates from one site's store to another's.

    Each pair has its own: where a store hangs, who waits for it holds up nobody else.
    """

    packs: BoundedSemaphore = field(default_factory=lambda: BoundedSemaphore(4))
    grown: BoundedSemaphore = field(default_factory=lambda: BoundedSemaphore(1))


_slots: dict[tuple[str, str], _Slots] = {}


class Packer:
    """Reading, sealing and packing of one run. ``packs`` are the shared packs that were written, and their bytes."""

    def __init__(
        self, source: Bucket, replica: Bucket, scope: Scope, epoch: int, may_go_on: Callable[[], None]
    ) -> None:
        self._source = source
        self._replica = replica
        self._scope = scope
        self._epoch = epoch
        self._may_go_on = may_go_on
        self._slots = _slots.setdefault((source.site, replica.site), _Slots())
        self.packs: dict[str, int] = {}

    def run(self, wanted: Iterable[ObjectInfo]) -> Generator[tuple[ObjectInfo, Result], None, None]:
        """Each object's result, in order and some behind the input; what a result names has been written.

        Raises IntegrityError where the source's bytes don't match its checksum, StoreError.
        """
        window: deque[tuple[_Job, Future[list[Result]]]] = deque()
        with ThreadPoolExecutor(_READERS) as readers, ThreadPoolExecutor(_JOBS) as workers:
            try:
                for job in _jobs(wanted):
                    self._may_go_on()
                    while len(window) >= _JOBS:
                        yield from _finished(*window.popleft())
                    work = self._large if job.infos[0].size > LARGE_BYTES else self._pack
                    window.append((job, workers.submit(work, job, readers)))
                while window:
                    yield from _finished(*window.popleft())
            finally:
                for _, future in window:
                    future.cancel()

    def _pack(self, job: _Job, readers: ThreadPoolExecutor) -> list[Result]:
        with self._slots.packs:
            return self._packed(job, readers)

    def _packed(self, job: _Job, readers: ThreadPoolExecutor) -> list[Result]:
        chunks = deque(readers.submit(self._chunk, chunk) for chunk in _chunks(job.infos))
        pack, sealed, size = snapshot.new_name(), BytesIO(), 0
        results: list[Result] = []
        try:
            while chunks:
                for found in chunks.popleft().result():
                    if not isinstance(found, _Read):
                        results.append(found)
                        continue
                    at, place = found.at, snapshot.part_id(pack, size)
                    length = sealed.write(self._scope.seal("object", place, at.version, self._epoch, found.data))
                    part = Part(pack, size, at.size, self._epoch)
                    results.append(Entry(at.name, at.version, at.size, found.crc32c, (part,)))
                    size += length
        finally:
            # Where one read fails for good, the others would only put off the end.
            for chunk in chunks:
                chunk.cancel()
        if size:
            # Its own buffer, not a copy.
            self._put(pack, sealed.getvalue())
            self.packs[pack] = size
        return results

    def _put(self, name: str, data: bytes) -> None:
        self._may_go_on()
        snapshot.put(self._replica, f"{self._scope.tenant}/packs/{name}", data)

    def _read(self, at: ObjectInfo, start: int, length: int | None) -> bytes:
        if length == 0:
            return b""
        try:
            return self._source.read(at.name, version=at.version, start=start, length=length)
        except (ChangedError, NotFoundError):
            raise _MovedError from None

    def _chunk(self, infos: list[ObjectInfo]) -> list[_Read | Result]:
        return [self._retry(info, partial(self._small, info.size)) for info in infos]

    def _small(self, listed: int, at: ObjectInfo) -> _Read | Entry:
        if at.size > listed:
            # The pack that waits for it holds a slot already, with room for what was listed only.
            return self._whole(at, self._slots.grown)
        data = self._read(at, 0, None)
        crc = google_crc32c.value(data)
        _check(at, len(data), crc)
        return _Read(at, crc, data)

    def _large(self, job: _Job, _: ThreadPoolExecutor) -> list[Result]:
        return [self._retry(info, lambda at: self._whole(at, self._slots.packs)) for info in job.infos]

    def _whole(self, at: ObjectInfo, slot: AbstractContextManager[Any]) -> Entry:
        crc, parts, read = 0, [], 0
        for start in range(0, max(at.size, 1), PART_BYTES):
            length = min(PART_BYTES, at.size - start)
            with slot:
                data = self._read(at, start, length)
                crc, read = google_crc32c.extend(crc, data), read + len(data)
                if len(data) != length:
                    break
                pack = snapshot.new_name()
                sealed = self._scope.seal("object", snapshot.part_id(pack, 0), at.version, self._epoch, data)
                del data
                self._put(pack, sealed)
                del sealed
            parts.append(Part(pack, 0, length, self._epoch))
        _check(at, read, crc)
        return Entry(at.name, at.version, at.size, crc, tuple(parts))

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


def _jobs(wanted: Iterable[ObjectInfo]) -> Iterator[_Job]:
    """Neighbouring small objects together, up to a pack; a large one alone."""
    job = _Job()
    for info in wanted:
        size = PACK_BYTES + 1 if info.size > LARGE_BYTES else sealed_size(info.size)
        if job.infos and (job.bytes + size > PACK_BYTES or len(job.infos) >= PACK_OBJECTS):
            yield job
            job = _Job()
        if info.size > LARGE_BYTES:
            yield _Job([info], info.size)
        else:
            job.infos.append(info)
            job.bytes += size
    if job.infos:
        yield job


def _finished(job: _Job, future: Future[list[Result]]) -> Iterator[tuple[ObjectInfo, Result]]:
    return zip(job.infos, future.result(), strict=True)


def _chunks(infos: list[ObjectInfo]) -> Iterator[list[ObjectInfo]]:
    """What one reader reads at a time: so many objects that handing them over costs little, and no more bytes."""
    chunk: list[ObjectInfo] = []
    size = 0
    for info in infos:
        if chunk and (len(chunk) >= _CHUNK_OBJECTS or size + info.size > _CHUNK_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(info)
        size += info.size
    if chunk:
        yield chunk


def _check(info: ObjectInfo, size: int, crc32c: int) -> None:
    if size != info.size or info.crc32c not in (None, crc32c):
        raise IntegrityError("an object of the live bucket arrived with other bytes than its size and checksum say")
