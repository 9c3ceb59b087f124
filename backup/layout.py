"""Where a commit's entries go: shards that stay, deltas with what changed in others, shards written anew.

A change of a few objects in many shards is written once, as a delta of its own size; a shard of which more than an
eighth has changed since it was written is written anew. Deltas are merged when the newer ones have grown as large as
seven times an older one, so that there are few of them and each row is rewritten few times (a log-structured merge).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Self

from domicile.backup import snapshot
from domicile.backup.diff import SHARD_OBJECTS, Group
from domicile.backup.errors import TooLargeError
from domicile.backup.manifest import Change, Delta, Entry, Root, Shard, Usage, rows_of
from domicile.backup.packing import LARGE_BYTES, PACK_BYTES
from domicile.backup.snapshot import Scope, Snapshot
from domicile.backup.stores.base import Bucket

MAX_DELTA_ROWS = 65536
WORN_SHARE = 0.3
_FOLD_SHARE = 8
_THIN = 4
_MERGE_RATIO = 7
_WRITERS = 4


def worn_packs(root: Root) -> set[str]:
    """Shared packs to be emptied: those of which over 30 % is dead, once over 30 % of all their bytes are."""
    total = sum(usage.bytes for usage in root.packs.values())
    dead = total - sum(usage.live for usage in root.packs.values())
    if dead < PACK_BYTES or dead <= WORN_SHARE * total:
        return set()
    return {pack for pack, usage in root.packs.items() if usage.bytes - usage.live > WORN_SHARE * usage.bytes}


def merge_from(rows: Sequence[int]) -> int | None:
    """Index of the oldest delta that is merged with all newer ones; None where none is due."""
    for k, size in enumerate(rows):
        if _MERGE_RATIO * size <= sum(rows[k + 1 :]):
            return k
    return None


class Layout:
    """Lays out commit ``seq``; called in order of names, a shard of ``last`` or a group at a time."""

    def __init__(self, replica: Bucket, scope: Scope, seq: int, epoch: int, last: Snapshot | None) -> None:
        self._replica = replica
        self._scope = scope
        self._seq = seq
        self._epoch = epoch
        self._last = last
        self._fold_all = last is not None and sum(delta.rows for delta in last.root.deltas) > MAX_DELTA_ROWS
        self._shards: list[Future[list[Shard]]] = []
        self._changes: list[Change] = []
        self._usage = dict(last.root.packs) if last else {}
        self._open: list[Entry] | None = None
        self._after = ""
        self._pool = ThreadPoolExecutor(_WRITERS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def keep(self, index: int) -> None:
        """A shard of the last snapshot that stays."""
        assert self._last
        shard = self._last.root.shards[index]
        if self._is_thin() or (self._fold_all and self._last.changes_of(index)):
            self._fold(shard.after, self._last.entries(index))
        else:
            self._name(shard)

    def lay(self, group: Group, entries: Sequence[Entry], old: dict[str, Entry]) -> None:
        """The entries that a group has now, and those that it had."""
        now = {entry.name: entry for entry in entries}
        gone = [entry for name, entry in old.items() if now.get(name) != entry]
        new = [entry for entry in entries if old.get(entry.name) != entry]
        self._account(gone, new)
        if self._last and group.index is not None and group.whole and not self._fold_all and not self._is_thin():
            names = {entry.name for entry in (*gone, *new)}
            pending = names | {change.name for change in self._last.changes_of(group.index)}
            if len(pending) * _FOLD_SHARE <= len(entries) and len(self._changes) + len(names) <= MAX_DELTA_ROWS:
                self._changes += sorted(Change(name, self._seq, now.get(name)) for name in names)
                size = sum(entry.size for entry in entries)
                shard = self._last.root.shards[group.index]
                self._name(shard._replace(objects=len(entries), bytes=size, rows=rows_of(entries)))
                return
        self._fold(group.after, entries)

    def root(self, frame: Root, packs: dict[str, int]) -> Root:
        """``frame`` with everything that was laid out; ``packs`` are the shared packs of this run and their bytes."""
        self._close()
        shards = tuple(shard for written in self._shards for shard in written.result())
        for pack, size in packs.items():
            if pack in self._usage:
                self._usage[pack] = self._usage[pack]._replace(bytes=size)
        live = {pack: usage for pack, usage in self._usage.items() if usage.live > 0}
        return replace(frame, shards=shards, deltas=self._deltas(shards), packs=live)

    def _name(self, shard: Shard) -> None:
        self._close()
        done: Future[list[Shard]] = Future()
        done.set_result([shard])
        self._shards.append(done)

    def _fold(self, after: str, entries: Sequence[Entry]) -> None:
        """Neighbouring entries that are written anew share shards, however they were cut before."""
        if self._open is None:
            self._open, self._after = [], after
        self._open += entries
        while len(self._open) >= 2 * SHARD_OBJECTS:
            self._write(self._open[:SHARD_OBJECTS])
            self._after = self._open[SHARD_OBJECTS - 1].name
            del self._open[:SHARD_OBJECTS]

    def _is_thin(self) -> bool:
        """Whether what is being written anew is so little that the next shard goes with it: shards would only grow in
        number where old names vanish and new ones come.
        """
        return self._open is not None and len(self._open) < SHARD_OBJECTS / _THIN

    def _close(self) -> None:
        if self._open is not None:
            self._write(self._open)
            self._open = None

    def _write(self, entries: list[Entry]) -> None:
        while len(self._shards) >= _WRITERS and not self._shards[-_WRITERS].done():
            self._shards[-_WRITERS].result()
        self._shards.append(self._pool.submit(self._written, self._after, list(entries)))

    def _written(self, after: str, entries: list[Entry]) -> list[Shard]:
        try:
            return [snapshot.write_shard(self._replica, self._scope, self._seq, self._epoch, after, entries)]
        except TooLargeError:
            half = len(entries) // 2
            if not half:
                raise
            return self._written(after, entries[:half]) + self._written(entries[half - 1].name, entries[half:])

    def _deltas(self, shards: Sequence[Shard]) -> tuple[Delta, ...]:
        older = list(self._last.root.deltas) if self._last and not self._fold_all else []
        rows = [delta.rows for delta in older] + [len(self._changes)] * bool(self._changes)
        start = merge_from(rows)
        merged: dict[str, Change] = {}
        if self._last and start is not None:
            for delta in older[start:]:
                merged.update((change.name, change) for change in self._last.delta(delta))
            del older[start:]
        merged.update((change.name, change) for change in self._changes)
        starts = [shard.after for shard in shards]
        due = [c for c in sorted(merged.values()) if c.seq > shards[bisect_left(starts, c.name) - 1].seq]
        return (*older, *self._written_deltas(due))

    def _written_deltas(self, changes: list[Change]) -> list[Delta]:
        try:
            return [snapshot.write_delta(self._replica, self._scope, self._epoch, changes)] if changes else []
        except TooLargeError:
            half = len(changes) // 2
            if not half:
                raise
            return self._written_deltas(changes[:half]) + self._written_deltas(changes[half:])

    def _account(self, gone: Sequence[Entry], new: Sequence[Entry]) -> None:
        for entry in gone:
            if len(entry.parts) == 1 and (usage := self._usage.get(entry.parts[0].pack)):
                self._usage[entry.parts[0].pack] = usage._replace(live=usage.live - entry.parts[0].length)
        for entry in new:
            if entry.size <= LARGE_BYTES:
                part = entry.parts[0]
                usage = self._usage.get(part.pack, Usage(0, 0))
                # Of a pack that an earlier run wrote and journaled only what is named is known; ``root`` corrects ours.
                self._usage[part.pack] = Usage(usage.bytes + part.length, usage.live + part.length)
