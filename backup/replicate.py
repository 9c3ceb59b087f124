"""Replicate a tenant: list the live bucket, seal what is new, commit a snapshot at the other site.

Nothing that exists is ever touched: packs, shards and manifest get new opaque names, the commit slot is create-once.
Whatever happens on the way, the last commit stays whole, and what an aborted run leaves are orphans without a name in
any manifest.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime

from domicile.backup import records, snapshot
from domicile.backup.canonical import format_time
from domicile.backup.errors import FencedError
from domicile.backup.keys import TenantKey
from domicile.backup.packing import Packer
from domicile.backup.records import Slot, Tip
from domicile.backup.sealing import Sealer
from domicile.backup.snapshot import Entry, Root, Scope, Shard
from domicile.backup.stores.base import Bucket, ObjectInfo

_SHARD_WORKERS = 8


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
class _Plan:
    """What the listing means: shards that stay as they are, and groups of objects whose shards are written anew."""

    kept: list[tuple[str, Shard]] = field(default_factory=list)
    groups: list[list[ObjectInfo]] = field(default_factory=list)
    known: dict[str, Entry] = field(default_factory=dict)


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
    may_go_on: Callable[[], None] = lambda: None,
) -> Outcome:
    """Commit a snapshot of ``source`` (a live bucket) to ``replica``, with its slot in ``control_target``.

    ``epoch`` is the number of the claim that this site holds, ``residency_digest`` 64 hex digits. ``full`` seals
    everything anew, without a look at the last snapshot. ``may_go_on`` is called between steps and just before the
    commit; it raises to end the run. Before the first byte is written the chain at the target is checked. Raises
    FencedError, RollbackError, WrongKeyError, ConcurrentRunError, IntegrityError, StoreError.
    """
    sealer = Sealer(key.key_id, key.secret)
    scope = Scope(tenant, zone, sealer)
    echo = records.highest_echo(control_own, tenant)
    tip = records.tip(control_target, tenant, sealer, known_seq=known_seq, echo=echo)
    _require_writer(tip, tenant, epoch)
    last = snapshot.read_root(replica, scope, tip.commit) if tip.commit and not full else None

    where = f"{source.site}/{source.name}"
    cut_time = clock()
    listing = sorted(source.list(), key=lambda info: info.name)
    may_go_on()
    plan = _compare(listing, last if last and last.source == where else None, replica, scope)
    missing = [info for group in plan.groups for info in group if not _same(info, plan.known.get(info.name))]
    packer = Packer(source, replica, scope, epoch, may_go_on)
    sealed = packer.run(missing)

    entries = _entries(plan, sealed)
    may_go_on()
    with ThreadPoolExecutor(_SHARD_WORKERS) as pool:
        written = pool.map(lambda group: (group[0].name, snapshot.write_shard(replica, scope, epoch, group)), entries)
        shards = [shard for _, shard in sorted([*plan.kept, *written])]
    seq, prev = (tip.slot.seq + 1, tip.slot.digest) if tip.slot else (1, None)
    objects, size = sum(shard.objects for shard in shards), sum(shard.bytes for shard in shards)
    at = format_time(cut_time)
    root = Root(tenant, zone, seq, epoch, prev, at, key.key_id, where, objects, size, tuple(shards))
    name, digest = snapshot.write_root(replica, scope, root)
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
    unchanged = last is not None and last.shards == root.shards
    return Outcome(seq, cut_time, objects, packer.changed, packer.bytes_sealed, unchanged, packer.left)


def _require_writer(tip: Tip, tenant: str, epoch: int) -> None:
    if tip.slot and not records.follows(tip.slot, "commit", epoch):
        raise FencedError(
            f"tenant {tenant} has slot {tip.slot.seq} ({tip.slot.kind}) of epoch {tip.slot.epoch} at the target; this"
            f" site has epoch {epoch} and must not commit any more: it was taken over"
        )


def _same(info: ObjectInfo, entry: Entry | None) -> bool:
    return (
        entry is not None
        and (entry.version, entry.size) == (info.version, info.size)
        and info.crc32c in (None, entry.crc32c)
    )


def _compare(listing: list[ObjectInfo], last: Root | None, replica: Bucket, scope: Scope) -> _Plan:
    """Only shards of the last snapshot whose rows the listing no longer has are read."""
    plan, infos = _Plan(), {info.name: info for info in listing}
    before = {shard.rows: shard for shard in last.shards} if last else {}
    for names in snapshot.cut(infos):
        group = [infos[name] for name in names]
        shard = before.pop(snapshot.rows_digest((i.name, i.version, i.size) for i in group), None) if before else None
        if shard:
            plan.kept.append((names[0], shard))
        else:
            plan.groups.append(group)
    if before and plan.groups:
        with ThreadPoolExecutor(_SHARD_WORKERS) as pool:
            for entries in pool.map(lambda shard: snapshot.read_shard(replica, scope, shard), before.values()):
                plan.known.update((entry.name, entry) for entry in entries)
    return plan


def _entries(plan: _Plan, sealed: dict[str, Entry | None]) -> list[list[Entry]]:
    """The shards to write. An object that could not be read as a whole stands as it was known, or not at all."""
    groups = []
    for group in plan.groups:
        entries = [sealed.get(i.name) if i.name in sealed else plan.known.get(i.name) for i in group]
        if kept := [entry for entry in entries if entry is not None]:
            groups.append(kept)
    return groups
