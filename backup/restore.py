"""Restore a committed snapshot into a live bucket, or verify it without writing.

Every byte is authenticated before it is written. A restore may be repeated: what is there already and equal is skipped.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import groupby

import google_crc32c

from domicile.api.consent import RECORDS
from domicile.backup import ephemeral, records, snapshot
from domicile.backup.canonical import parse_time
from domicile.backup.errors import IntegrityError, LiveNotEmptyError, NoSnapshotError
from domicile.backup.keys import TenantKey
from domicile.backup.manifest import Entry, Part
from domicile.backup.packing import LARGE_BYTES, PACK_BYTES
from domicile.backup.records import Slot
from domicile.backup.sealing import Sealer
from domicile.backup.snapshot import Scope, Snapshot
from domicile.backup.stores.base import AlreadyExistsError, Bucket, NotFoundError, ObjectInfo, create_once, infos_of

_WORKERS = 16
_RUNS_AHEAD = 2
# Each holds a part that is read, and those that its store writes at a time.
_LARGE_AT_ONCE = 2
_GAP_BYTES = 256 << 10
_EXTRA_OBJECTS = 1000

Sink = Callable[[Entry, Iterator[bytes]], None]


class Mode(StrEnum):
    """What becomes of objects in the live bucket that the snapshot has not, or has otherwise.

    FRESH refuses to write anything then. MERGE overwrites what differs and leaves the rest. EXACT also deletes what
    the snapshot has not. Ephemeral objects are no objection, and FRESH and EXACT delete them: their sessions are over.
    Nobody's consents are deleted: of these the newest counts, and it may be a withdrawal.
    """

    FRESH = "fresh"
    MERGE = "merge"
    EXACT = "exact"


@dataclass(slots=True)
class Restored:
    """What was restored (or verified, or, in a dry run, would be): ``objects`` of ``bytes`` in the snapshot, of which
    ``skipped`` were there already; ``overwritten`` and ``deleted`` are of the live bucket.
    """

    seq: int
    cut_time: datetime
    epoch: int
    objects: int = 0
    bytes: int = 0
    skipped: int = 0
    overwritten: int = 0
    deleted: int = 0


def choose(
    control: Bucket,
    scope: Scope,
    *,
    seq: int | None = None,
    at: datetime | None = None,
    known_seq: int | None = None,
) -> Slot:
    """The authenticated commit ``seq``, or the newest one whose cut is not later than ``at``, or the newest of all.

    Raises NoSnapshotError, RollbackError, WrongKeyError, IntegrityError.
    """
    commit = records.tip(control, scope.tenant, scope.sealer, known_seq=max(known_seq or 0, seq or 0)).commit
    if seq is not None and (commit is None or commit.seq != seq):
        commit = records.read(control, scope.tenant, seq)
        commit.authenticate(scope.sealer)
        if commit.kind != "commit":
            raise NoSnapshotError(f"slot {seq} of tenant {scope.tenant} is a fence; choose a commit")
    elif at is not None:
        commit = next((c for c in records.commits(control, scope.tenant, scope.sealer) if _cut(c) <= at), None)
        if commit is None:
            raise NoSnapshotError(f"tenant {scope.tenant} has no commit at site {control.site} that is as old as asked")
    if commit is None:
        raise NoSnapshotError(f"tenant {scope.tenant} has no commit at site {control.site}: nothing was replicated yet")
    return commit


def _cut(commit: Slot) -> datetime:
    return parse_time(str(commit.cut_time))


def restore(
    control: Bucket,
    replica: Bucket,
    live: Bucket,
    key: TenantKey,
    tenant: str,
    zone: str,
    *,
    seq: int | None = None,
    at: datetime | None = None,
    known_seq: int | None = None,
    prefix: str = "",
    mode: Mode = Mode.FRESH,
    dry_run: bool = False,
) -> Restored:
    """Write the snapshot that ``choose`` finds into ``live``; of it, only names that start with ``prefix``.

    ``control`` and ``replica`` are of the site that keeps the replica. A chain that ends below ``known_seq`` is
    refused. A dry run counts and writes nothing. Raises NoSnapshotError; RollbackError, WrongKeyError, IntegrityError
    (naming a pack's opaque name); with mode FRESH LiveNotEmptyError before anything is written where ``live`` holds an
    object, or a content of one, that the snapshot lacks; StoreError.
    """
    scope = Scope(tenant, zone, Sealer(key.key_id, key.secret))
    commit = choose(control, scope, seq=seq, at=at, known_seq=known_seq)
    found = Snapshot(replica, scope, snapshot.read_root(replica, scope, commit))
    done = Restored(commit.seq, _cut(commit), commit.epoch)
    if mode is Mode.FRESH:
        _require_subset(live, found, prefix)

    def wanted() -> Iterator[list[Entry]]:
        for entries, there in _joined(live, found, prefix):
            missing = [entry for entry in entries if entry.name not in there]
            differing = _differing(live, entries, there)
            extra = sorted(there.keys() - {entry.name for entry in entries})
            done.objects += len(entries)
            done.bytes += sum(entry.size for entry in entries)
            done.skipped += len(entries) - len(missing) - len(differing)
            done.overwritten += len(differing)
            overwrite.update(entry.name for entry in differing)
            unwanted = [n for n in extra if ended(n) or (mode is Mode.EXACT and not n.startswith(RECORDS))]
            done.deleted += len(unwanted)
            for name in () if dry_run else unwanted:
                live.delete(name)
            yield sorted(missing + differing)

    overwrite: set[str] = set()

    def ended(name: str) -> bool:
        return mode is not Mode.MERGE and ephemeral.is_ephemeral(name)

    def write(entry: Entry, chunks: Iterator[bytes]) -> None:
        if entry.name in overwrite:
            live.write(entry.name, chunks, entry.size)
            overwrite.discard(entry.name)
        # A restore that was thought dead must not undo what was written since.
        elif not (
            _written_once(live, entry, chunks)
            if entry.size > LARGE_BYTES
            else create_once(live, entry.name, b"".join(chunks))
        ):
            raise LiveNotEmptyError(f"live bucket {live.name} of site {live.site} was written to during the restore")

    if dry_run:
        deque(wanted(), maxlen=0)
    else:
        _fetch(replica, scope, wanted(), write)
    return done


def _written_once(live: Bucket, entry: Entry, chunks: Iterator[bytes]) -> bool:
    """Write an object that must not exist; True if the bucket now holds what the entry says."""
    try:
        live.write(entry.name, chunks, entry.size, new=True)
    except AlreadyExistsError:
        info = next(live.list(entry.name), None)
        return info is not None and info.name == entry.name and not _differing(live, [entry], {entry.name: info})
    return True


def require_restorable(control: Bucket, replica: Bucket, live: Bucket, key: TenantKey, tenant: str, zone: str) -> None:
    """Raise as ``restore`` would for what ``live`` holds already; reads no pack, nothing at all where it is empty."""
    if next(iter(live.list()), None) is not None:
        scope = Scope(tenant, zone, Sealer(key.key_id, key.secret))
        commit = choose(control, scope)
        _require_subset(live, Snapshot(replica, scope, snapshot.read_root(replica, scope, commit)), "")


def verify(
    control: Bucket,
    replica: Bucket,
    key: TenantKey,
    tenant: str,
    zone: str,
    *,
    seq: int | None = None,
    known_seq: int | None = None,
) -> Restored:
    """Read and authenticate a whole snapshot and every slot of the chain; nothing is written. Raises as ``restore``."""
    scope = Scope(tenant, zone, Sealer(key.key_id, key.secret))
    commit = choose(control, scope, seq=seq, known_seq=known_seq)
    records.verify_chain(control, tenant, scope.sealer)
    root = snapshot.read_root(replica, scope, commit)

    def drain(_: Entry, chunks: Iterator[bytes]) -> None:
        for _chunk in chunks:
            pass

    _fetch(replica, scope, Snapshot(replica, scope, root).read(), drain)
    return Restored(commit.seq, _cut(commit), commit.epoch, root.objects, root.bytes)


def _joined(live: Bucket, found: Snapshot, prefix: str) -> Iterator[tuple[list[Entry], dict[str, ObjectInfo]]]:
    """Shard by shard: the snapshot's entries and what ``live`` has between the same names.

    Of what the snapshot lacks there may be any number: it comes in batches, with no entries beside them.
    """
    listing = infos_of(live.pages(prefix))
    info = next(listing, None)
    indexes = found.indexes(prefix)
    untils = [*map(found.until, indexes[:-1]), None]
    for until, entries in zip(untils, found.read(prefix) if indexes else [[]], strict=True):
        names = {entry.name for entry in entries}
        there: dict[str, ObjectInfo] = {}
        extra: dict[str, ObjectInfo] = {}
        while info and (until is None or info.name <= until):
            if info.name in names:
                there[info.name] = info
            else:
                extra[info.name] = info
                if len(extra) == _EXTRA_OBJECTS:
                    yield [], extra
                    extra = {}
            info = next(listing, None)
        yield entries, there | extra


def _differing(live: Bucket, entries: Sequence[Entry], there: dict[str, ObjectInfo]) -> list[Entry]:
    """The entries that ``live`` has with another content."""

    def same(entry: Entry) -> bool:
        info = there[entry.name]
        if entry.size != info.size:
            return False
        return entry.crc32c == checksum(live, info)

    both = [entry for entry in entries if entry.name in there]
    if not both:
        return []
    with ThreadPoolExecutor(_WORKERS) as pool:
        return [entry for entry, equal in zip(both, pool.map(same, both), strict=True) if not equal]


def _require_subset(live: Bucket, found: Snapshot, prefix: str) -> None:
    """Raise where ``live`` holds anything that the snapshot has not, or has otherwise."""
    if next(iter(live.list(prefix)), None) is None:
        return
    total = other = 0
    for entries, there in _joined(live, found, prefix):
        names = {entry.name for entry in entries}
        extra = [name for name in there.keys() - names if not ephemeral.is_ephemeral(name)]
        total += len(there.keys() & names) + len(extra)
        other += len(extra) + len(_differing(live, entries, there))
    if other:
        raise LiveNotEmptyError(
            f"{other} of {total} objects in live bucket {live.name} of site {live.site} are not in the snapshot as"
            " they are there: copy them into quarantine and empty the bucket first, or bind a fresh bucket"
        )


def checksum(live: Bucket, info: ObjectInfo) -> int:
    """CRC32C of a listed object, read where the listing does not say it. Raises ChangedError, NotFoundError."""
    if info.crc32c is not None:
        return info.crc32c
    crc = 0
    for start in range(0, info.size, PACK_BYTES):
        length = min(PACK_BYTES, info.size - start)
        crc = google_crc32c.extend(crc, live.read(info.name, version=info.version, start=start, length=length))
    return int(crc)


@dataclass(slots=True)
class _Run:
    """Neighbouring parts of one pack that one ranged read fetches."""

    pack: str
    start: int
    end: int
    members: list[tuple[Entry, Part]]


def _is_small(entry: Entry) -> bool:
    return len(entry.parts) == 1 and entry.size <= LARGE_BYTES


def _runs(shards: Iterable[Sequence[Entry]]) -> Iterator[_Run | Entry]:
    """What to read, shard by shard: runs of small objects, and large ones as they are."""
    for entries in shards:
        yield from (entry for entry in entries if not _is_small(entry))
        small = sorted(((entry.parts[0], entry) for entry in entries if _is_small(entry)), key=lambda pair: pair[0])
        for pack, members in groupby(small, key=lambda pair: pair[0].pack):
            run: _Run | None = None
            for part, entry in members:
                end = part.offset + part.length
                if run and part.offset - run.end <= _GAP_BYTES and end - run.start <= PACK_BYTES:
                    run.end = max(end, run.end)
                    run.members.append((entry, part))
                else:
                    if run:
                        yield run
                    run = _Run(pack, part.offset, end, [(entry, part)])
            if run:
                yield run


def _fetch(replica: Bucket, scope: Scope, shards: Iterable[Sequence[Entry]], sink: Sink) -> None:
    """Hand each entry's authenticated plaintext to ``sink``, in parallel; the first error ends it."""
    with (
        ThreadPoolExecutor(_RUNS_AHEAD) as readers,
        ThreadPoolExecutor(_LARGE_AT_ONCE) as copiers,
        ThreadPoolExecutor(_WORKERS) as writers,
    ):
        ahead: deque[tuple[_Run | None, Future[bytes] | Future[None]]] = deque()
        pending: list[Future[None]] = []
        try:
            for item in _runs(shards):
                if isinstance(item, Entry):
                    ahead.append((None, copiers.submit(sink, item, _chunks(replica, scope, item))))
                else:
                    read = readers.submit(_read, replica, scope, item.pack, item.start, item.end - item.start)
                    ahead.append((item, read))
                if len(ahead) >= _RUNS_AHEAD:
                    run, future = ahead.popleft()
                    pending = _delivered(run, future, scope, writers, sink, pending)
            while ahead:
                run, future = ahead.popleft()
                pending = _delivered(run, future, scope, writers, sink, pending)
            for delivered in pending:
                delivered.result()
        finally:
            for left in (*pending, *(future for _, future in ahead)):
                left.cancel()


def _delivered(
    run: _Run | None,
    future: Future[bytes] | Future[None],
    scope: Scope,
    writers: ThreadPoolExecutor,
    sink: Sink,
    pending: list[Future[None]],
) -> list[Future[None]]:
    """Hand a run that was read to the writers, once these are done with the one before."""
    found = future.result()
    for delivered in pending:
        delivered.result()
    if run is None or found is None:
        return []
    data = memoryview(found)
    return [
        writers.submit(_deliver, scope, entry, part, data[part.offset - run.start :][: part.length], sink)
        for entry, part in run.members
    ]


def _deliver(scope: Scope, entry: Entry, part: Part, sealed: memoryview, sink: Sink) -> None:
    plaintext = _plaintext(scope, entry, part, sealed)
    _require_crc(entry, google_crc32c.value(plaintext))
    sink(entry, iter((plaintext,)))


def _chunks(replica: Bucket, scope: Scope, entry: Entry) -> Iterator[bytes]:
    """The plaintext of a large object, part by part; the next one is read while the last one is written."""
    parts, reader = _parts(replica, scope, entry), ThreadPoolExecutor(1)
    try:
        following = reader.submit(next, parts, None)
        while (plaintext := following.result()) is not None:
            following = reader.submit(next, parts, None)
            yield plaintext
    finally:
        # Not waited for, as in Snapshot.each.
        reader.shutdown(wait=False, cancel_futures=True)


def _parts(replica: Bucket, scope: Scope, entry: Entry) -> Iterator[bytes]:
    crc = 0
    for number, part in enumerate(entry.parts, 1):
        plaintext = _plaintext(scope, entry, part, _read(replica, scope, part.pack, part.offset, part.length))
        crc = google_crc32c.extend(crc, plaintext)
        if number == len(entry.parts):
            _require_crc(entry, crc)
        yield plaintext


def _plaintext(scope: Scope, entry: Entry, part: Part, sealed: bytes | memoryview) -> bytes:
    try:
        return scope.open("object", snapshot.part_id(part.pack, part.offset), entry.version, part.epoch, sealed)
    except IntegrityError as error:
        raise IntegrityError(
            f"pack {part.pack} of tenant {scope.tenant} is damaged in bytes {part.offset} to"
            f" {part.offset + part.length} ({error}): restore an earlier commit, or seal everything anew"
        ) from None


def _require_crc(entry: Entry, crc32c: int) -> None:
    if crc32c != entry.crc32c:
        raise IntegrityError(f"pack {entry.parts[-1].pack} holds an object whose checksum is not that of its entry")


def _read(replica: Bucket, scope: Scope, pack: str, start: int, length: int) -> bytes:
    try:
        data = replica.read(f"{scope.tenant}/packs/{pack}", start=start, length=length)
    except NotFoundError:
        raise IntegrityError(f"pack {pack} of tenant {scope.tenant} is missing at site {replica.site}") from None
    if len(data) != length:
        raise IntegrityError(
            f"pack {pack} of tenant {scope.tenant} at site {replica.site} is truncated: {len(data)} of {length} bytes"
        )
    return data
