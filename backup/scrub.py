"""Read packs again before they are needed: a rotating share each time, so that all are read within 30 days.

Names of packs are random, so a range of names is a share of the packs. The range to read grows with the time that has
passed and begins where the last one ended; hours in which nothing ran are made up for. What was read is what snapshots
that stand refer to; each part is opened, as a restore would. Roots, deltas and shards are all read each time.

What is damaged or missing is written into a note under ``scrubs/``, which the writer reads: what the newest snapshot
needs of it is sealed anew by the next run.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from domicile.backup import canonical, prune, snapshot
from domicile.backup.canonical import format_time, parse_time
from domicile.backup.errors import IntegrityError
from domicile.backup.keys import TenantKey
from domicile.backup.ledger import Ledger
from domicile.backup.manifest import Entry, Part
from domicile.backup.records import Slot
from domicile.backup.references import References
from domicile.backup.sealing import Sealer
from domicile.backup.snapshot import Scope
from domicile.backup.stores.base import Bucket, DeniedError, StoreError, UnavailableError

# Two days less than promised, so that a site that was away for two days keeps the promise.
ROUND = timedelta(days=28)
_RING = 1 << 128
# What one run does at most, for it must end and its memory is bounded; the next one goes on from there.
_MOST = 8
_MAX_BYTES = 64 << 30
_NOTES = 40

_Sealed = tuple[Part, str]
"""A part and the version of its object."""


@dataclass(frozen=True, slots=True)
class Scrubbed:
    """What a run read. ``damaged`` are packs that a snapshot needs and that are damaged or missing, ``heal`` those of
    them that the newest one needs; ``unreadable`` are snapshots whose own lists can't be read. ``through`` says up to
    which moment the rotation has come: where it is long past, the rotation does not keep up.
    """

    time: datetime
    through: datetime
    packs: int
    bytes: int
    damaged: frozenset[str]
    heal: frozenset[str]
    unreadable: tuple[int, ...]

    def told(self) -> dict[str, int | str]:
        """The same in numbers, for a log."""
        return {"packs": self.packs, "bytes": self.bytes, "through": format_time(self.through)}


def newest(control: Bucket, tenant: str, sealer: Sealer) -> Scrubbed | None:
    """What the newest run said; None where there was none. Raises IntegrityError, WrongKeyError, StoreError."""
    number, value = _ledger(control, tenant, sealer).newest()
    return _scrubbed(value) if number else None


def scrub(
    control: Bucket, replica: Bucket, key: TenantKey, tenant: str, zone: str, clock: Callable[[], datetime]
) -> Scrubbed | None:
    """Read the share that is due, one pack at least, and whatever was damaged; None where there is no snapshot.

    ``control`` and ``replica`` are of the site that keeps the replica. Raises IntegrityError where slots or notes are
    damaged; RollbackError, WrongKeyError, ConcurrentRunError, StoreError.
    """
    scope = Scope(tenant, zone, Sealer(key.key_id, key.secret))
    ledger = _ledger(control, tenant, scope.sealer)
    number, value = ledger.newest()
    now = clock()
    through = parse_time(value["through"]) if value else now
    due = max(now - through, timedelta(0)) / ROUND
    share = _Share(int(value.get("position", "0"), 16), int(min(due, 1 / _MOST) * _RING), set(value.get("damaged", ())))
    commits = prune.standing(control, tenant, scope.sealer)
    if not commits:
        return None
    unreadable = _gather(replica, scope, commits, share.take)

    bad = {pack for pack in share.known & share.parts.keys() if _read(replica, scope, pack, share.parts[pack]) is None}
    count, size, end = 0, 0, share.arc
    for pack in share.turn():
        if size >= _MAX_BYTES:
            break
        read = _read(replica, scope, pack, share.parts[pack])
        count, size, end = count + 1, size + (read or 0), share.distance(pack)
        if read is None:
            bad.add(pack)
    else:
        end = max(end, share.arc)
    heal: set[str] = set()
    if bad or unreadable:
        # What was dropped meanwhile is no damage.
        commits = prune.standing(control, tenant, scope.sealer)
        heal, bad = _needed(replica, scope, commits, bad)
        unreadable &= {commit.seq for commit in commits}
    done = Scrubbed(
        time=now,
        through=min(now, through + ROUND * (end / _RING)),
        packs=count,
        bytes=size,
        damaged=frozenset(bad),
        heal=frozenset(heal),
        unreadable=tuple(sorted(unreadable)),
    )
    ledger.append(number + 1, _fields(done) | {"position": f"{(share.position + end) % _RING:032x}"})
    ledger.trim(_NOTES)
    return done


class _Share:
    """The parts of the packs whose turn it is: of those within ``arc`` behind ``position``, or else of the next one."""

    def __init__(self, position: int, arc: int, known: set[str]) -> None:
        self.position = position
        self.arc = arc
        self.known = known
        self.parts: dict[str, set[_Sealed]] = {}
        self._next = ""
        self._next_parts: set[_Sealed] = set()

    def distance(self, pack: str) -> int:
        """How far behind the position it lies, at least 1; the position itself was read last."""
        return (int(pack, 16) - self.position - 1) % _RING + 1

    def take(self, entries: Iterable[Entry]) -> None:
        """Remember what is of this share."""
        for entry in entries:
            for part in entry.parts:
                if part.pack in self.parts or part.pack in self.known or self.distance(part.pack) <= self.arc:
                    self.parts.setdefault(part.pack, set()).add((part, entry.version))
                elif not self._next or self.distance(part.pack) < self.distance(self._next):
                    self._next, self._next_parts = part.pack, {(part, entry.version)}
                elif part.pack == self._next:
                    self._next_parts.add((part, entry.version))

    def turn(self) -> list[str]:
        """The packs to read, in order of their names behind the position; one at least, where there is any."""
        found = [pack for pack in self.parts if self.distance(pack) <= self.arc]
        if not found and self._next:
            self.parts[self._next] = self._next_parts
            found = [self._next]
        return sorted(found, key=self.distance)


def _gather(
    replica: Bucket, scope: Scope, commits: Iterable[Slot], take: Callable[[Iterable[Entry]], None]
) -> set[int]:
    """Hand over the entries of commits; returns those that can't be read."""
    references, unreadable = References(replica, scope), set()
    for commit in commits:
        try:
            for entries in references.entries(commit):
                take(entries)
        except IntegrityError:
            unreadable.add(commit.seq)
    return unreadable


def _needed(replica: Bucket, scope: Scope, commits: list[Slot], packs: Collection[str]) -> tuple[set[str], set[str]]:
    """Which of the packs the newest commit needs, and which any does."""
    found: set[str] = set()

    def take(entries: Iterable[Entry]) -> None:
        found.update(part.pack for entry in entries for part in entry.parts if part.pack in packs)

    _gather(replica, scope, commits[-1:], take)
    heal = set(found)
    _gather(replica, scope, commits[:-1], take)
    return heal, found


def _read(replica: Bucket, scope: Scope, pack: str, parts: Iterable[_Sealed]) -> int | None:
    """Bytes of a pack of which every part opens, None where one does not. Raises StoreError where nobody answers."""
    try:
        data = memoryview(replica.read(f"{scope.tenant}/packs/{pack}"))
        for part, version in parts:
            sealed = data[part.offset : part.offset + part.length]
            scope.open("object", snapshot.part_id(pack, part.offset), version, part.epoch, sealed)
    except (UnavailableError, DeniedError):
        raise
    except (StoreError, IntegrityError):
        return None
    return len(data)


def _ledger(control: Bucket, tenant: str, sealer: Sealer) -> Ledger:
    return Ledger(control, "scrubs", tenant, sealer, _CHECKS)


def _fields(done: Scrubbed) -> dict[str, Any]:
    return {
        "time": format_time(done.time),
        "through": format_time(done.through),
        "packs": done.packs,
        "bytes": done.bytes,
        "damaged": sorted(done.damaged),
        "heal": sorted(done.heal),
        "unreadable": list(done.unreadable),
    }


def _scrubbed(value: dict[str, Any]) -> Scrubbed:
    return Scrubbed(
        parse_time(value["time"]),
        parse_time(value["through"]),
        value["packs"],
        value["bytes"],
        frozenset(value["damaged"]),
        frozenset(value["heal"]),
        tuple(value["unreadable"]),
    )


_is_id = canonical.hexadecimal(32)


def _are(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(check, value))


_CHECKS: dict[str, Callable[[Any], bool]] = {
    "time": canonical.moment,
    "through": canonical.moment,
    "position": _is_id,
    "packs": canonical.count,
    "bytes": canonical.count,
    "damaged": _are(_is_id),
    "heal": _are(_is_id),
    "unreadable": _are(canonical.count),
}
