"""Replicate a tenant: list the live bucket, seal what is new, commit a snapshot at the other site.

Nothing that exists is ever touched: packs, shards, deltas and manifest get new opaque names, the commit slot is
create-once. Whatever happens on the way, the last commit stays whole, and what an aborted run leaves are orphans
without a name in any manifest.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime

from domicile.backup import diff, ephemeral, records, snapshot
from domicile.backup.canonical import format_time
from domicile.backup.diff import Group, Kept, Pages
from domicile.backup.errors import FencedError, HeldError, IntegrityError
from domicile.backup.journal import Journal, Share
from domicile.backup.keys import TenantKey
from domicile.backup.layout import Layout, worn_packs
from domicile.backup.manifest import Entry, Root
from domicile.backup.packing import Packer
from domicile.backup.records import Slot, Tip
from domicile.backup.sealing import Sealer
from domicile.backup.snapshot import Scope, Snapshot
from domicile.backup.stores.base import Bucket, ChangedError, ObjectInfo

JOURNAL_BYTES = 256 << 20
# Whoever commits holds a journal of each share in memory, about 600 bytes a row.
JOURNAL_ROWS = 8192
HELD_SHARE = 0.5
HELD_OBJECTS = 100


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run committed. ``changed`` objects were sealed anew, as ``bytes_sealed`` bytes of ciphertext; ``left``
    objects changed faster than they could be read and stand as they were in the last snapshot, if they were in it.
    """

    seq: int
    cut_time: datetime
    objects: int
    changed: int
    bytes_sealed: int
    unchanged: bool
    left: int = 0


@dataclass(slots=True)
class Counts:
    """How far a run is; read by whoever shows its progress. ``lost`` and ``altered`` are of the last snapshot."""

    listed: int = 0
    changed: int = 0
    bytes_sealed: int = 0
    resumed: int = 0
    left: int = 0
    lost: int = 0
    altered: int = 0


def replicate(
    source: Bucket,
    replica: Bucket,
    control_target: Bucket,
    control_own: Bucket,
    key: TenantKey,
    *,
    tenant: str,
    zone: str,
    epoch: int,
    residency_digest: str,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    known_seq: int | None = None,
    full: bool = False,
    accept_change: bool = False,
    distrusted: frozenset[str] = frozenset(),
    share: Share | None = None,
    counts: Counts | None = None,
    may_go_on: Callable[[], None] = lambda: None,
) -> Outcome | None:
    """Commit a snapshot of ``source`` (a live bucket) to ``replica``, with its slot in ``control_target``.

    Ephemeral objects are no part of it. ``epoch`` is the number of the claim that this site holds,
    ``residency_digest`` 64 hex digits. ``full`` seals everything anew, whether or not the last snapshot can be read;
    objects in ``distrusted`` packs are sealed anew, too.
    With a ``share`` only that share of the work is done and journaled, nothing is committed, and None is returned.
    ``may_go_on`` is called between steps and just before the commit; it raises to end the run. Before the first byte
    is written the chain at the target is checked. Raises HeldError where more than half of the last snapshot's objects
    are gone or changed (with ``full``, or of another bucket: where there are less than half as many objects), unless
    ``accept_change``; FencedError, RollbackError, WrongKeyError, ConcurrentRunError, IntegrityError, StoreError.
    """
    sealer = Sealer(key.key_id, key.secret)
    scope = Scope(tenant, zone, sealer)
    echo = records.highest_echo(control_own, tenant)
    tip = records.tip(control_target, tenant, sealer, known_seq=known_seq, echo=echo)
    _require_writer(tip, tenant, epoch)
    where = f"{source.site}/{source.name}"
    root = _last_root(replica, scope, tip, full=full)
    last = Snapshot(replica, scope, root) if root and root.source == where and not full else None

    seq, prev = (tip.slot.seq + 1, tip.slot.digest) if tip.slot else (1, None)
    cut_time = clock()
    at = format_time(cut_time)
    with Layout(replica, scope, seq, epoch, last) as layout:
        run = _Run(
            counts if counts is not None else Counts(),
            last,
            Packer(source, replica, scope, epoch, may_go_on),
            Journal(replica, scope, seq, epoch, share or Share(0, 1), clock, where),
            layout,
            share,
            distrusted | (worn_packs(last.root) if last else set()),
            root.objects if root and not accept_change else None,
        )
        run.seal(lambda after: ephemeral.lasting(source.pages(after=after)))
        if share:
            run.journal.finish()
            return None
        may_go_on()
        frame = Root(tenant, zone, seq, epoch, prev, at, key.key_id, where, (), (), {})
        made = layout.root(frame, run.packer.packs)
    name, digest = snapshot.write_root(replica, scope, made)
    slot = Slot(
        kind="commit",
        tenant=tenant,
        seq=seq,
        epoch=epoch,
        prev=prev,
        write_id=secrets.token_hex(16),
        key_id=key.key_id,
        key_commitment=sealer.commitment,
        manifest=name,
        manifest_digest=digest,
        cut_time=at,
        residency_digest=residency_digest,
    )
    may_go_on()
    records.append(control_target, control_own, slot.signed(sealer))
    unchanged = root is not None and root.shards == made.shards
    done = run.counts
    return Outcome(seq, cut_time, made.objects, done.changed, done.bytes_sealed, unchanged, done.left)


def _last_root(replica: Bucket, scope: Scope, tip: Tip, *, full: bool) -> Root | None:
    try:
        return snapshot.read_root(replica, scope, tip.commit) if tip.commit else None
    except IntegrityError:
        if not full:
            raise
        return None


def _require_writer(tip: Tip, tenant: str, epoch: int) -> None:
    if tip.slot and not records.follows(tip.slot, "commit", epoch):
        raise FencedError(
            f"tenant {tenant} has slot {tip.slot.seq} ({tip.slot.kind}) of epoch {tip.slot.epoch} at the target; this"
            f" site has epoch {epoch} and must not commit any more: it was taken over"
        )


@dataclass(slots=True)
class _Waiting:
    """A group whose objects are being sealed."""

    item: Kept | Group
    old: dict[str, Entry]
    found: dict[str, Entry | None]
    missing: int


@dataclass(slots=True)
class _Run:
    counts: Counts
    last: Snapshot | None
    packer: Packer
    journal: Journal
    layout: Layout
    share: Share | None
    unwanted: frozenset[str] | set[str]
    held_of: int | None

    def seal(self, pages: Pages) -> None:
        """List, compare, seal and lay out everything."""
        # Whoever sealed a share before counts on what was sealed, but compares anew.
        self.counts.listed = self.counts.resumed = self.counts.left = self.counts.lost = self.counts.altered = 0
        self.journal.refresh()
        waiting: deque[_Waiting] = deque()
        unrecorded: list[Entry] = []
        size = 0
        # Closed at once where they fail: threads that list and read ahead would outlive the run, and the process.
        with (
            closing(diff.compare(pages, self.last, read_all=bool(self.unwanted))) as items,
            closing(self.packer.run(self._wanted(items, waiting))) as results,
        ):
            for info, result in results:
                group = waiting[0]
                group.missing -= 1
                if isinstance(result, Entry):
                    group.found[info.name] = result
                    self.counts.changed += 1
                    self.counts.bytes_sealed += sum(part.length for part in result.parts)
                    unrecorded.append(result)
                    size += result.size
                elif isinstance(result, ChangedError):
                    group.found[info.name] = group.old.get(info.name)
                    self.counts.left += 1
                self._lay_out(waiting)
                if size >= JOURNAL_BYTES or len(unrecorded) >= JOURNAL_ROWS:
                    self.journal.write(unrecorded)
                    unrecorded, size = [], 0
        self._lay_out(waiting)
        assert not waiting
        if self.last is None and self.held_of is not None:
            # Of another bucket's objects only the number can be compared.
            self.counts.lost = max(self.held_of - self.counts.listed, 0)
            self._hold()
        if self.share and unrecorded:
            self.journal.write(unrecorded)

    def _wanted(self, items: Iterator[Kept | Group], waiting: deque[_Waiting]) -> Iterator[ObjectInfo]:
        """What has to be sealed; its groups go into ``waiting``."""
        for number, item in enumerate(items):
            if isinstance(item, Kept):
                self.counts.listed += item.shard.objects
                waiting.append(_Waiting(item, {}, {}, 0))
                self._lay_out(waiting)
                continue
            self.counts.listed += len(item.listed.names)
            if self.share and number % self.share.count != self.share.index:
                continue
            group = self._plan(item)
            wanted = [i for i, name in enumerate(item.listed.names) if name not in group.found]
            group.missing = len(wanted)
            waiting.append(group)
            # The next result is of the first group that waits for one.
            self._lay_out(waiting)
            yield from diff.infos(item.listed, wanted)

    def _plan(self, group: Group) -> _Waiting:
        """What of a group is known already. Raises HeldError."""
        listed = group.listed
        old = {entry.name: entry for entry in group.old}
        plan = _Waiting(group, old, {}, 0)
        altered = 0
        for name, version, size in zip(*listed[:3], strict=True):
            entry = old.get(name)
            if entry and (entry.version, entry.size) == (version, size):
                if self._is_wanted(entry):
                    plan.found[name] = entry
                    continue
            else:
                altered += entry is not None
            sealed = self.journal.find(name, version)
            if sealed and sealed.size == size and self._is_wanted(sealed):
                plan.found[name] = sealed
                self.counts.resumed += 1
        self.counts.altered += altered
        self.counts.lost += len(old) - sum(name in old for name in listed.names)
        self._hold()
        return plan

    def _is_wanted(self, entry: Entry) -> bool:
        return not self.unwanted or self.unwanted.isdisjoint(part.pack for part in entry.parts)

    def _hold(self) -> None:
        gone = self.counts.lost + self.counts.altered
        if self.held_of is not None and gone >= HELD_OBJECTS and gone > HELD_SHARE * self.held_of:
            raise HeldError(
                f"more than {HELD_SHARE:.0%} of the {self.held_of} objects of the last snapshot are gone"
                f" ({self.counts.lost} so far) or changed ({self.counts.altered}): nothing was committed, the last"
                " snapshot stands; find out why, and accept the change if it was meant"
            )

    def _lay_out(self, waiting: deque[_Waiting]) -> None:
        while waiting and not waiting[0].missing:
            group = waiting.popleft()
            if self.share:
                continue
            if isinstance(group.item, Kept):
                self.layout.keep(group.item.index)
                continue
            names = group.item.listed.names
            entries = [entry for name in names if (entry := group.found.get(name))]
            self.layout.lay(group.item, entries, group.old)
