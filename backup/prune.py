"""Delete what no kept snapshot needs; done only by the site that keeps the replica, with no help from the writer.

No store's clock and no age decides whether an object that no commit names is garbage, or belongs to a run that is still
to commit: a run refers to what the newest commit refers to (which is always kept), to what it wrote itself, and to what
journals of its own slot name. So what was there when the chain ended in slot n belongs to runs that mean to commit slot
n + 1 or an earlier one; once another slot than n is the newest, what is still unnamed will never be named.

Before anything is deleted a note under ``prunes/`` says which commits are kept and what goes, so that a run that died
is finished by the next one, and a dropped snapshot is never taken for a damaged one. What only dropped snapshots need
stays for a while, in case one of them is being restored; not where its age or a person says that it must go. The note
also keeps when each commit came into being, within what this site has seen itself: a writer whose clock is wrong can't
push good snapshots out by the dates of bad ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import takewhile
from typing import Any

from domicile.backup import canonical, records, retention
from domicile.backup.canonical import format_time, parse_time
from domicile.backup.errors import ConcurrentRunError, IntegrityError, RollbackError
from domicile.backup.keys import TenantKey
from domicile.backup.ledger import Ledger
from domicile.backup.records import Slot
from domicile.backup.references import References
from domicile.backup.retention import Retention
from domicile.backup.sealing import Sealer
from domicile.backup.snapshot import Scope
from domicile.backup.stores.base import Bucket, DeniedError

# A run's listing starts so much before its commit at most; an older date is not believed.
_LATE = timedelta(days=1)
# Less than a day, so that each daily prune takes what the one before left.
GRACE = timedelta(hours=20)
# So close to the end of its class a snapshot has no grace: that and the wait for the prune that ends it are less.
_CLOSE = timedelta(days=2)
_KINDS = ("manifests", "shards", "deltas", "packs")
_OURS = re.compile(
    r"(?:manifests|shards|deltas|packs)/[0-9a-f]{32}|journals/([0-9]{10})-[0-9]+of[0-9]+-[0-9]{10}-([0-9a-f]{32}|done)"
)
_DELETERS = 8
_NOTES = 3
# Who has just listed the slots still finds the newest, though others came and went meanwhile.
_SPARE = 100


@dataclass(frozen=True, slots=True)
class Note:
    """What a site knows of a replica since it last pruned it: the newest slot then, the kept commits and when each came
    into being, what went, what stays for a while and since when, and what no commit named (names without the tenant's).
    """

    time: datetime
    seq: int
    kept: Mapping[int, datetime]
    doomed: frozenset[str]
    leaving: Mapping[datetime, frozenset[str]]
    unnamed: frozenset[str]


@dataclass(slots=True)
class Pruned:
    """What a run did (in a dry run: would do). ``locked`` objects may not be deleted yet, ``leaving`` ones belong to
    dropped snapshots and go after their grace, ``waiting`` ones are named by no commit and go once the chain has gone
    on; ``foreign`` ones are none of ours and stay.
    """

    seq: int
    kept: tuple[int, ...]
    dropped: tuple[int, ...]
    objects: int = 0
    bytes: int = 0
    locked: int = 0
    leaving: int = 0
    waiting: int = 0
    foreign: int = 0

    def told(self) -> dict[str, int]:
        """The same in numbers, for a log."""
        numbers = {"seq": self.seq, "kept": len(self.kept), "dropped": len(self.dropped), "objects": self.objects}
        numbers |= {"bytes": self.bytes, "locked": self.locked, "leaving": self.leaving}
        return numbers | {"waiting": self.waiting, "foreign": self.foreign}


@dataclass(slots=True)
class _Found:
    """A tenant's objects in the replica bucket: sizes of ours, by name without the tenant's."""

    sizes: dict[str, int] = field(default_factory=dict)
    journals: dict[str, int] = field(default_factory=dict)
    foreign: int = 0


def newest(control: Bucket, tenant: str, sealer: Sealer) -> Note | None:
    """The newest note; None where this replica was never pruned. Raises IntegrityError, WrongKeyError, StoreError."""
    return _note(*_ledger(control, tenant, sealer).newest())


def standing(control: Bucket, tenant: str, sealer: Sealer) -> list[Slot]:
    """The commits that were not dropped, authenticated, the oldest first.

    Raises RollbackError, WrongKeyError, IntegrityError, StoreError.
    """
    while True:
        last = newest(control, tenant, sealer)
        with suppress(ConcurrentRunError), unless_pruned(control, tenant, sealer, last):
            return _standing(control, tenant, sealer, last)


@contextmanager
def unless_pruned(control: Bucket, tenant: str, sealer: Sealer, last: Note | None) -> Iterator[None]:
    """Raise ConcurrentRunError for what is missing inside because somebody has pruned since the note ``last``."""
    try:
        yield
    except (IntegrityError, RollbackError):
        if newest(control, tenant, sealer) == last:
            raise
        raise ConcurrentRunError(f"tenant {tenant} was pruned meanwhile at site {control.site}; try again") from None


def prune(
    control: Bucket,
    replica: Bucket,
    key: TenantKey,
    tenant: str,
    zone: str,
    keep: Retention,
    clock: Callable[[], datetime],
    *,
    given_up: Collection[int] = (),
    grace: timedelta = GRACE,
    dry_run: bool = False,
) -> Pruned | None:
    """Drop the snapshots that ``keep`` does not keep, and those ``given_up``; delete what only they need, and garbage.

    What a snapshot needed that others only displaced is deleted by a prune that comes ``grace`` later.
    ``control`` and ``replica`` are of the site that keeps the replica. The newest snapshot is never dropped; None where
    there is none. Nothing is deleted where a kept snapshot can't be read whole but for its packs. Safe to repeat after
    any failure. Raises IntegrityError, RollbackError, WrongKeyError, ConcurrentRunError, StoreError.
    """
    scope = Scope(tenant, zone, Sealer(key.key_id, key.secret))
    ledger = _ledger(control, tenant, scope.sealer)
    number, value = ledger.newest()
    last = _note(number, value)
    # In this order: what is listed was written by runs that had seen no newer slot than the tip.
    found = _listed(replica, tenant)
    tip = records.tip(control, tenant, scope.sealer, known_seq=last.seq if last else None)
    if tip.slot is None or tip.commit is None:
        return None
    now = clock()
    with unless_pruned(control, tenant, scope.sealer, last):
        # A commit that came since refers to nothing that goes here, see above.
        commits = [c for c in _standing(control, tenant, scope.sealer, last) if c.seq <= tip.slot.seq]
        times = _times(commits, last, now)
        # Where this site's clock was ahead the last time, or is behind now, it can't tell what is too old.
        untimely = last is not None and now < last.time
        stay = set(times) if untimely else retention.kept(times, now, keep)
        stay = (stay - set(given_up)) | {tip.commit.seq}
        at_once = {seq for seq, at in times.items() if keep.longest and now - at > keep.longest - _CLOSE}
        displaced = times.keys() - stay - at_once.union(given_up)
        named, left, every = _references(replica, scope, commits, stay, displaced)

    leaving = {now: frozenset(left - named)}
    for since, names in (last.leaving if last else {}).items():
        # What a clock that was ahead says of later counts from now.
        at = min(since, now)
        leaving[at] = leaving.get(at, frozenset()) | (names - named)
    gone = ((every - left) | (last.doomed if last else set())) - named
    for since in [since for since in leaving if now - since >= grace]:
        gone |= leaving.pop(since)
    leaving = {since: there for since, names in leaving.items() if (there := (names & found.sizes.keys()) - gone)}
    unnamed = found.sizes.keys() - named - gone - frozenset().union(*leaving.values())
    if last and tip.slot.seq > last.seq:
        gone |= unnamed & last.unnamed
    unnamed -= gone
    gone &= found.sizes.keys()
    doomed = sorted(gone, key=lambda name: (_KINDS.index(name.split("/")[0]), name))
    doomed += [name for name, seq in found.journals.items() if seq <= tip.slot.seq]
    done = Pruned(tip.slot.seq, tuple(sorted(stay)), tuple(sorted(times.keys() - stay)))
    done.leaving, done.waiting, done.foreign = sum(map(len, leaving.values())), len(unnamed), found.foreign
    if dry_run:
        done.objects, done.bytes = len(doomed), sum(found.sizes.get(name, 0) for name in doomed)
        return done
    kept = {seq: times[seq] for seq in stay}
    note = Note(now, tip.slot.seq, kept, frozenset(gone), leaving, frozenset(unnamed))
    ledger.append(number + 1, _fields(note))
    _delete(replica, tenant, doomed, found.sizes, done)
    # Whoever restores what was dropped just now reads its slot.
    records.cut(control, tenant, min(*stay, *(displaced if leaving else ()), tip.slot.seq - _SPARE))
    ledger.trim(_NOTES)
    return done


def _standing(control: Bucket, tenant: str, sealer: Sealer, last: Note | None) -> list[Slot]:
    commits = records.commits(control, tenant, sealer)
    if last is None:
        return list(commits)[::-1]
    since = list(takewhile(lambda commit: commit.seq > last.seq, commits))
    kept = [records.read(control, tenant, seq) for seq in sorted(last.kept)]
    for commit in kept:
        commit.authenticate(sealer)
    return kept + since[::-1]


def _times(commits: Iterable[Slot], last: Note | None, now: datetime) -> dict[int, datetime]:
    """When each commit came into being: as its writer says, within what this site itself has seen."""
    known = last.kept if last else {}
    oldest = min(last.time, now) - _LATE if last else datetime.min.replace(tzinfo=now.tzinfo)
    return {
        commit.seq: known.get(commit.seq) or min(max(parse_time(str(commit.cut_time)), oldest), now)
        for commit in commits
    }


def _references(
    replica: Bucket, scope: Scope, commits: Iterable[Slot], stay: Collection[int], displaced: Collection[int]
) -> tuple[set[str], set[str], set[str]]:
    """Names that the kept commits refer to; these and what the displaced ones do; these and what the others do."""
    references, packs = References(replica, scope), set[str]()

    def add(commit: Slot) -> None:
        for entries in references.entries(commit):
            packs.update(f"packs/{part.pack}" for entry in entries for part in entry.parts)

    by_seq = {commit.seq: commit for commit in commits}
    # From the oldest on, see References.
    for seq in sorted(stay):
        try:
            add(by_seq[seq])
        except IntegrityError as error:
            raise IntegrityError(
                f"nothing was pruned: snapshot {seq} of tenant {scope.tenant} is to be kept and can't be"
                f" read ({error}); give it up if it can't be mended"
            ) from None
    found = [references.names | packs]
    for dropped in (displaced, by_seq.keys() - stay - set(displaced)):
        for seq in sorted(dropped):
            # What a damaged one alone referred to is named by no commit now, and goes as such.
            with suppress(IntegrityError):
                add(by_seq[seq])
        found.append(references.names | packs)
    named, left, every = found
    return named, left, every


def _listed(replica: Bucket, tenant: str) -> _Found:
    found, folder = _Found(), f"{tenant}/"
    for info in replica.list(folder):
        name = info.name.removeprefix(folder)
        match = _OURS.fullmatch(name)
        if match is None:
            found.foreign += 1
        elif match[1]:
            found.journals[name] = int(match[1])
        else:
            found.sizes[name] = info.size
    return found


def _delete(replica: Bucket, tenant: str, doomed: list[str], sizes: Mapping[str, int], done: Pruned) -> None:
    """Roots first: a snapshot that is half gone is seen to be gone."""

    def one(name: str) -> bool:
        try:
            replica.delete(f"{tenant}/{name}")
        except DeniedError:
            return False
        return True

    roots = sum(name.startswith("manifests/") for name in doomed)
    with ThreadPoolExecutor(_DELETERS) as pool:
        for names in (doomed[:roots], doomed[roots:]):
            for name, deleted in zip(names, pool.map(one, names), strict=True):
                done.objects += deleted
                done.bytes += sizes.get(name, 0) * deleted
                done.locked += not deleted


def _ledger(control: Bucket, tenant: str, sealer: Sealer) -> Ledger:
    return Ledger(control, "prunes", tenant, sealer, _CHECKS)


def _fields(note: Note) -> dict[str, Any]:
    return {
        "time": format_time(note.time),
        "seq": note.seq,
        "kept": [[seq, format_time(at)] for seq, at in sorted(note.kept.items())],
        "doomed": sorted(note.doomed),
        "leaving": [[format_time(since), sorted(names)] for since, names in sorted(note.leaving.items())],
        "unnamed": sorted(note.unnamed),
    }


def _note(number: int, value: Mapping[str, Any]) -> Note | None:
    if not number:
        return None
    return Note(
        parse_time(value["time"]),
        value["seq"],
        {seq: parse_time(at) for seq, at in value["kept"]},
        frozenset(value["doomed"]),
        {parse_time(since): frozenset(names) for since, names in value["leaving"]},
        frozenset(value["unnamed"]),
    )


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) and _OURS.fullmatch(name) for name in value)


def _are_leaving(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(row, list) and len(row) == 2 and canonical.moment(row[0]) and _are_names(row[1]) for row in value
    )


def _are_times(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(row, list) and len(row) == 2 and canonical.count(row[0]) and canonical.moment(row[1])
        for row in value
    )


_CHECKS: dict[str, Callable[[Any], bool]] = {
    "time": canonical.moment,
    "seq": canonical.count,
    "kept": _are_times,
    "doomed": _are_names,
    "leaving": _are_leaving,
    "unnamed": _are_names,
}
