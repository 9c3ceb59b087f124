"""Reading and writing the sealed objects of a snapshot. docs/format.md has the format, ``manifest`` the plaintexts.

Everything is written once under opaque random names, ``<tenant>/packs|shards|deltas|manifests/<32 hex digits>``, and
refers to what was there before; so what did not change is named again, not written again, and a crash leaves only
orphans.
"""

from __future__ import annotations

import hashlib
import secrets
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from threading import Lock

from domicile.backup import manifest
from domicile.backup.errors import IntegrityError
from domicile.backup.manifest import Change, Delta, Entry, Root, Shard
from domicile.backup.records import Slot
from domicile.backup.sealing import Associated, Sealer
from domicile.backup.stores.base import Bucket, NotFoundError, create_once

_READERS = 8


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose data is sealed and opened: a tenant in a zone under a key."""

    tenant: str
    zone: str
    sealer: Sealer

    def seal(self, kind: str, name: str, generation: str, epoch: int, plaintext: bytes) -> bytes:
        """Ciphertext bound to all of this."""
        return self.sealer.seal(Associated(self.tenant, self.zone, kind, name, generation, epoch), plaintext)

    def open(self, kind: str, name: str, generation: str, epoch: int, data: bytes | memoryview) -> bytes:
        """Plaintext of what was sealed as this. Raises IntegrityError."""
        return self.sealer.open(Associated(self.tenant, self.zone, kind, name, generation, epoch), data)


def new_name() -> str:
    """A random opaque name, 32 hex digits."""
    return secrets.token_hex(16)


def part_id(pack: str, offset: int) -> str:
    """What a part's ciphertext is bound to: its place."""
    return f"{pack}/{offset}"


def put(replica: Bucket, path: str, data: bytes) -> None:
    """Write a new object of the replica. Raises IntegrityError where its random name holds something else."""
    if not create_once(replica, path, data):
        raise IntegrityError(f"{path} at site {replica.site} holds other bytes than were written")


def write_shard(replica: Bucket, scope: Scope, seq: int, epoch: int, after: str, entries: Sequence[Entry]) -> Shard:
    """Seal and store the entries of a shard. Raises TooLargeError, IntegrityError, StoreError."""
    name, digest, length = _store(replica, scope, "shard", "", epoch, manifest.encode_entries(entries))
    size = sum(entry.size for entry in entries)
    return Shard(after, name, digest, length, epoch, seq, len(entries), size, manifest.rows_of(entries))


def write_delta(replica: Bucket, scope: Scope, epoch: int, changes: Sequence[Change]) -> Delta:
    """Seal and store changes. Raises TooLargeError, IntegrityError, StoreError."""
    name, digest, length = _store(replica, scope, "delta", "", epoch, manifest.encode_changes(changes))
    return Delta(name, digest, length, epoch, len(changes))


def write_root(replica: Bucket, scope: Scope, root: Root) -> tuple[str, str]:
    """Seal and store a root manifest; returns its name and the SHA-256 of its ciphertext, in hex."""
    name, digest, _ = _store(replica, scope, "manifest", str(root.seq), root.epoch, manifest.encode_root(root))
    return name, digest


def _store(
    replica: Bucket, scope: Scope, kind: str, generation: str, epoch: int, plaintext: bytes
) -> tuple[str, str, int]:
    name = new_name()
    sealed = scope.seal(kind, name, generation, epoch, plaintext)
    put(replica, f"{scope.tenant}/{kind}s/{name}", sealed)
    return name, hashlib.sha256(sealed).hexdigest(), len(sealed)


def _fetch(replica: Bucket, path: str, digest: str) -> bytes:
    try:
        sealed = replica.read(path)
    except NotFoundError:
        raise IntegrityError(f"{path} is missing at site {replica.site}") from None
    if hashlib.sha256(sealed).hexdigest() != digest:
        raise IntegrityError(f"{path} at site {replica.site} is damaged: its digest does not match")
    return sealed


def read_root(replica: Bucket, scope: Scope, commit: Slot) -> Root:
    """Root manifest of an authenticated commit. Raises IntegrityError."""
    path = f"{scope.tenant}/manifests/{commit.manifest}"
    sealed = _fetch(replica, path, str(commit.manifest_digest))
    plain = scope.open("manifest", str(commit.manifest), str(commit.seq), commit.epoch, sealed)
    root = manifest.decode_root(plain, path)
    said = (root.tenant, root.zone, root.seq, root.epoch, root.prev, root.cut_time, root.key_id)
    wanted = (scope.tenant, scope.zone, commit.seq, commit.epoch, commit.prev, commit.cut_time, commit.key_id)
    if said != wanted:
        raise IntegrityError(f"{path} is not the manifest of commit {commit.seq} of tenant {scope.tenant}")
    return root


class Snapshot:
    """A committed snapshot, read by need: a shard's entries are those it was written with and the changes since."""

    def __init__(self, replica: Bucket, scope: Scope, root: Root) -> None:
        self._replica = replica
        self._scope = scope
        self.root = root
        # Not functools.cached_property: until Python 3.12 all instances of a class wait for each other there.
        self._lock = Lock()
        self._changes: tuple[list[Change], list[str]] | None = None

    @property
    def changes(self) -> list[Change]:
        """The newest change of each name in the deltas, by name. Raises IntegrityError."""
        return self._changes_and_names()[0]

    def _changes_and_names(self) -> tuple[list[Change], list[str]]:
        with self._lock:
            if self._changes is None:
                newest: dict[str, Change] = {}
                with ThreadPoolExecutor(_READERS) as pool:
                    for changes in pool.map(self.delta, self.root.deltas):
                        newest.update((change.name, change) for change in changes)
                ordered = sorted(newest.values())
                self._changes = ordered, [change.name for change in ordered]
            return self._changes

    def until(self, index: int) -> str | None:
        """The last name that may lie in a shard; None where any following one may."""
        shards = self.root.shards
        return shards[index + 1].after if index + 1 < len(shards) else None

    def indexes(self, prefix: str = "") -> range:
        """The shards in which names with a prefix may lie."""
        starts = [shard.after for shard in self.root.shards]
        first = max(bisect_left(starts, prefix) - 1, 0)
        # No name is the last one with a prefix: U+10FFFF may be followed by itself.
        return range(
            first, bisect_left(starts, True, key=lambda after: after > prefix and not after.startswith(prefix))
        )

    def changes_of(self, index: int) -> list[Change]:
        """The changes of a shard since it was written."""
        shard, until = self.root.shards[index], self.until(index)
        changes, names = self._changes_and_names()
        end = len(names) if until is None else bisect_right(names, until)
        return [change for change in changes[bisect_right(names, shard.after) : end] if change.seq > shard.seq]

    def entries(self, index: int) -> list[Entry]:
        """The entries of a shard, by name. Raises IntegrityError."""
        shard, until = self.root.shards[index], self.until(index)
        path = f"{self._scope.tenant}/shards/{shard.name}"
        sealed = _fetch(self._replica, path, shard.digest)
        entries = manifest.decode_entries(self._scope.open("shard", shard.name, "", shard.epoch, sealed), path)
        if changes := self.changes_of(index):
            by_name = {entry.name: entry for entry in entries}
            for change in changes:
                by_name.pop(change.name, None)
                if change.entry:
                    by_name[change.name] = change.entry
            entries = sorted(by_name.values())
        if (len(entries), sum(entry.size for entry in entries)) != (shard.objects, shard.bytes):
            raise IntegrityError(f"{path} has other totals than the root manifest says")
        if manifest.rows_of(entries) != shard.rows:
            raise IntegrityError(f"{path} holds other objects than the root manifest says")
        if entries and (entries[0].name <= shard.after or (until is not None and entries[-1].name > until)):
            raise IntegrityError(f"{path} holds names that belong to another shard")
        return entries

    def read(self, prefix: str = "") -> Iterator[list[Entry]]:
        """The entries of the shards ``indexes(prefix)`` that have the prefix, by name. Raises IntegrityError."""
        for found in self.each(self.indexes(prefix)):
            yield [entry for entry in found if entry.name.startswith(prefix)] if prefix else found

    def each(self, indexes: Iterable[int]) -> Iterator[list[Entry]]:
        """The entries of these shards, a few shards read ahead. Raises IntegrityError."""
        rest, pool = iter(indexes), ThreadPoolExecutor(_READERS)
        try:
            ahead = deque(pool.submit(self.entries, index) for index in islice(rest, _READERS))
            while ahead:
                found = ahead.popleft().result()
                if (following := next(rest, None)) is not None:
                    ahead.append(pool.submit(self.entries, following))
                yield found
        finally:
            # Not waited for. What nobody iterates any more may be closed by the garbage collector, amid the start of a
            # thread, and to join one there is a dead-lock (threading's lock of its shutdown locks).
            pool.shutdown(wait=False, cancel_futures=True)

    def delta(self, delta: Delta) -> list[Change]:
        """The changes of one delta, stale ones included. Raises IntegrityError."""
        path = f"{self._scope.tenant}/deltas/{delta.name}"
        sealed = _fetch(self._replica, path, delta.digest)
        changes = manifest.decode_changes(self._scope.open("delta", delta.name, "", delta.epoch, sealed), path)
        if len(changes) != delta.rows:
            raise IntegrityError(f"{path} has another number of changes than the root manifest says")
        return changes
