"""Restore a committed snapshot into a live bucket, or verify it without writing.

Every byte is authenticated before it is written. A restore may be repeated: what is there already and equal is skipped.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

import google_crc32c

from domicile.backup import records, snapshot
from domicile.backup.canonical import parse_time
from domicile.backup.errors import IntegrityError, LiveNotEmptyError, NoSnapshotError
from domicile.backup.keys import TenantKey
from domicile.backup.records import Slot
from domicile.backup.sealing import Sealer
from domicile.backup.snapshot import LARGE_BYTES, PACK_BYTES, Entry, Part, Root, Scope
from domicile.backup.stores.base import Bucket, NotFoundError, ObjectInfo, create_once

_WORKERS = 16
_RUNS_AHEAD = 3
_GAP_BYTES = 256 << 10

Sink = Callable[[Entry, Iterator[bytes]], None]


@dataclass(frozen=True, slots=True)
class Restored:
    """What was restored (or verified): ``objects`` of ``bytes`` in the snapshot, ``skipped`` of them were there
    already.
    """

    seq: int
    cut_time: datetime
    epoch: int
    objects: int
    bytes: int
    skipped: int = 0


def restore(
    control: Bucket,
    replica: Bucket,
    live: Bucket,
    key: TenantKey,
    tenant: str,
    zone: str,
    *,
    seq: int | None = None,
    known_seq: int | None = None,
) -> Restored:
    """Write the snapshot of commit ``seq`` (by default the newest, below a fence) into ``live``.

    ``control`` and ``replica`` are of the site that keeps the replica. A chain that ends below ``known_seq`` is
    refused. Raises NoSnapshotError; RollbackError, WrongKeyError, IntegrityError (naming a pack's opaque name);
    LiveNotEmptyError before anything is written where ``live`` holds an object, or a content of one, that the snapshot
    lacks; StoreError.
    """
    scope = Scope(tenant, zone, Sealer(key.key_id, key.secret))
    commit, root = _open(control, replica, scope, seq, known_seq)
    entries = _entries(replica, scope, root)
    there = _require_subset(live, entries)

    def write(entry: Entry, chunks: Iterator[bytes]) -> None:
        if entry.size > LARGE_BYTES:
            live.write(entry.name, chunks, entry.size)
        elif not create_once(live, entry.name, b"".join(chunks)):
            # A restore that was thought dead must not undo what was written since.
            raise LiveNotEmptyError(f"live bucket {live.name} of site {live.site} was written to during the restore")

    _fetch(replica, scope, [entry for entry in entries if entry.name not in there], write)
    return _result(commit, root, len(there))


def require_restorable(control: Bucket, replica: Bucket, live: Bucket, key: TenantKey, tenant: str, zone: str) -> None:
    """Raise as ``restore`` would for what ``live`` holds already; reads no pack, nothing at all where it is empty."""
    if next(iter(live.list()), None) is not None:
        scope = Scope(tenant, zone, Sealer(key.key_id, key.secret))
        _require_subset(live, _entries(replica, scope, _open(control, replica, scope, None, None)[1]))


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
    commit, root = _open(control, replica, scope, seq, known_seq)
    records.verify_chain(control, tenant, scope.sealer)

    def drain(_: Entry, chunks: Iterator[bytes]) -> None:
        for _chunk in chunks:
            pass

    _fetch(replica, scope, _entries(replica, scope, root), drain)
    return _result(commit, root, 0)


def _result(commit: Slot, root: Root, skipped: int) -> Restored:
    return Restored(commit.seq, parse_time(root.cut_time), commit.epoch, root.objects, root.bytes, skipped)


def _open(control: Bucket, replica: Bucket, scope: Scope, seq: int | None, known: int | None) -> tuple[Slot, Root]:
    commit = records.tip(control, scope.tenant, scope.sealer, known_seq=max(known or 0, seq or 0)).commit
    if seq is not None and (commit is None or commit.seq != seq):
        commit = records.read(control, scope.tenant, seq)
        commit.authenticate(scope.sealer)
        if commit.kind != "commit":
            raise NoSnapshotError(f"slot {seq} of tenant {scope.tenant} is a fence; choose a commit")
    if commit is None:
        raise NoSnapshotError(f"tenant {scope.tenant} has no commit at site {control.site}: nothing was replicated yet")
    return commit, snapshot.read_root(replica, scope, commit)


def _entries(replica: Bucket, scope: Scope, root: Root) -> list[Entry]:
    with ThreadPoolExecutor(_WORKERS) as pool:
        shards = pool.map(lambda shard: snapshot.read_shard(replica, scope, shard), root.shards)
        entries = [entry for shard in shards for entry in shard]
    if any(a.name >= b.name for a, b in pairwise(entries)):
        raise IntegrityError(f"the shards of commit {root.seq} of tenant {root.tenant} overlap")
    return entries


def _require_subset(live: Bucket, entries: Sequence[Entry]) -> set[str]:
    """Names that are in ``live`` as the snapshot has them; raises where anything else is there."""
    wanted = {entry.name: entry for entry in entries}

    def equal(info: ObjectInfo) -> bool:
        entry = wanted.get(info.name)
        if entry is None or entry.size != info.size:
            return False
        return entry.crc32c == (_crc32c(live, info) if info.crc32c is None else info.crc32c)

    with ThreadPoolExecutor(_WORKERS) as pool:
        infos = list(live.list())
        same = list(pool.map(equal, infos))
    if other := same.count(False):
        raise LiveNotEmptyError(
            f"{other} of {len(infos)} objects in live bucket {live.name} of site {live.site} are not in the snapshot as"
            " they are there: copy them into quarantine and empty the bucket first, or bind a fresh bucket"
        )
    return {info.name for info in infos}


def _crc32c(live: Bucket, info: ObjectInfo) -> int:
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


def _runs(entries: Iterable[Entry]) -> Iterator[_Run]:
    packs: dict[str, list[tuple[Part, Entry]]] = defaultdict(list)
    for entry in entries:
        packs[entry.parts[0].pack].append((entry.parts[0], entry))
    for pack, members in packs.items():
        run: _Run | None = None
        for part, entry in sorted(members, key=lambda member: member[0].offset):
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


def _fetch(replica: Bucket, scope: Scope, entries: Sequence[Entry], sink: Sink) -> None:
    """Hand each entry's authenticated plaintext to ``sink``, in parallel; the first error ends it."""
    small = [e for e in entries if len(e.parts) == 1 and e.size <= LARGE_BYTES]
    names = {e.name for e in small}
    large = [e for e in entries if e.name not in names]
    runs = _runs(small)
    with ThreadPoolExecutor(_RUNS_AHEAD) as readers, ThreadPoolExecutor(_WORKERS) as writers:
        ahead: list[tuple[_Run, Future[bytes]]] = []
        pending: list[Future[None]] = []
        try:
            while True:
                while len(ahead) < _RUNS_AHEAD and (run := next(runs, None)):
                    ahead.append((run, readers.submit(_read, replica, scope, run.pack, run.start, run.end - run.start)))
                if not ahead:
                    break
                run, future = ahead.pop(0)
                data = memoryview(future.result())
                pending = [
                    writers.submit(_deliver, scope, entry, part, data[part.offset - run.start :][: part.length], sink)
                    for entry, part in run.members
                ]
                for delivered in pending:
                    delivered.result()
            pending = [readers.submit(sink, entry, _chunks(replica, scope, entry)) for entry in large]
            for delivered in pending:
                delivered.result()
        finally:
            for left in pending:
                left.cancel()


def _deliver(scope: Scope, entry: Entry, part: Part, sealed: memoryview, sink: Sink) -> None:
    plaintext = _plaintext(scope, entry, part, sealed)
    _require_crc(entry, google_crc32c.value(plaintext))
    sink(entry, iter((plaintext,)))


def _chunks(replica: Bucket, scope: Scope, entry: Entry) -> Iterator[bytes]:
    crc = 0
    for number, part in enumerate(entry.parts, 1):
        sealed = _read(replica, scope, part.pack, part.offset, part.length)
        plaintext = _plaintext(scope, entry, part, sealed)
        crc = google_crc32c.extend(crc, plaintext)
        if number == len(entry.parts):
            _require_crc(entry, crc)
        yield plaintext


def _plaintext(scope: Scope, entry: Entry, part: Part, sealed: bytes | memoryview) -> bytes:
    try:
        return scope.open("object", part.seal, entry.version, part.epoch, sealed)
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
