"""What differs between two snapshots, or between a snapshot and the live bucket; in memory are some shards only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import NamedTuple, TypeVar

from domicile.backup import ephemeral
from domicile.backup.manifest import Entry
from domicile.backup.restore import checksum
from domicile.backup.snapshot import Snapshot
from domicile.backup.stores.base import Bucket, ObjectInfo, infos_of

_Old = TypeVar("_Old", Entry, ObjectInfo)
_New = TypeVar("_New", Entry, ObjectInfo)


class Kind(StrEnum):
    """What became of an object."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"
    UNCHANGED = "unchanged"


class Difference(NamedTuple):
    """One object and what became of it; ``size`` is its present one, or the last one of an object that is gone."""

    kind: Kind
    name: str
    size: int


class Totals(NamedTuple):
    """How many objects, and of how many bytes."""

    objects: Counter[Kind]
    bytes: Counter[Kind]


def between(old: Snapshot, new: Snapshot, prefix: str = "") -> Iterator[Difference]:
    """What has changed from one snapshot to another, by name. Raises IntegrityError, StoreError."""

    def same(one: Entry, other: Entry) -> bool:
        return (one.size, one.crc32c) == (other.size, other.crc32c)

    return _merged(_entries(old, prefix), _entries(new, prefix), same)


def since(old: Snapshot, live: Bucket, prefix: str = "") -> Iterator[Difference]:
    """What has changed in a live bucket since a snapshot. Raises IntegrityError, StoreError, NotFoundError, ...

    Ephemeral objects, which no snapshot has, are no difference. Where the listing has no
    checksum, an object of another version and the same size is read.
    """
    is_source = old.root.source == f"{live.site}/{live.name}"

    def same(entry: Entry, info: ObjectInfo) -> bool:
        if entry.size != info.size:
            return False
        if is_source and entry.version == info.version:
            return True
        return entry.crc32c == checksum(live, info)

    return _merged(_entries(old, prefix), infos_of(ephemeral.lasting(live.pages(prefix))), same)


def count(differences: Iterator[Difference]) -> Totals:
    """Totals by kind."""
    totals = Totals(Counter(), Counter())
    for kind, _, size in differences:
        totals.objects[kind] += 1
        totals.bytes[kind] += size
    return totals


def _entries(snapshot: Snapshot, prefix: str) -> Iterator[Entry]:
    return (entry for shard in snapshot.read(prefix) for entry in shard)


def _merged(old: Iterator[_Old], new: Iterator[_New], same: Callable[[_Old, _New], bool]) -> Iterator[Difference]:
    was, now = next(old, None), next(new, None)
    while was is not None or now is not None:
        if now is None or (was is not None and was.name < now.name):
            assert was is not None
            yield Difference(Kind.REMOVED, was.name, was.size)
            was = next(old, None)
        elif was is None or now.name < was.name:
            yield Difference(Kind.ADDED, now.name, now.size)
            now = next(new, None)
        else:
            yield Difference(Kind.UNCHANGED if same(was, now) else Kind.CHANGED, now.name, now.size)
            was, now = next(old, None), next(new, None)
