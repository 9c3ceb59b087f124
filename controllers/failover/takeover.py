"""An emergency take-over of one tenant, step by step: survey, claim, fence, restore, wait out the old leases, open.

Calls no API but those of this site's own stores (and the peer's where it still answers). Every step is create-once
under the Failover's id, so a new leader repeats it harmlessly.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from domicile.api.failover import FailoverSpec, Phase
from domicile.api.sites import ServedZone
from domicile.backup import binding, claims, records, residency, restore
from domicile.backup.canonical import parse_time
from domicile.backup.claims import Claim, Mode, Ruling
from domicile.backup.residency import Purpose
from domicile.backup.stores.base import Bucket, StoreError
from domicile.controllers.sites import SiteStores
from domicile.controllers.tenant.storage import TenantStorage, sealer

log = logging.getLogger(__name__)


class RefusedError(Exception):
    """The take-over must not go on; the message says why and what to do."""


@dataclass(frozen=True)
class Progress:
    """A step that was reached, with what is known by then."""

    phase: Phase
    claim: int | None = None
    commit_seq: int | None = None
    rpo_seconds: float | None = None


def take_over(
    zone: ServedZone,
    stores: SiteStores,
    spec: FailoverSpec,
    tenant: str,
    request_id: str,
    report: Callable[[Progress], None],
    known_seq: int | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Move one tenant to this site; blocking. ``report`` is told of every step.

    For a tenant that is here already the order is a person's word that the other site is down, and nothing else.

    Raises RefusedError, StoreError or BackupError; what was reached stays, and a further Failover goes on from there.
    """
    storage = TenantStorage(zone, stores)
    control = stores.control(zone.own)
    started = datetime.now(UTC)
    ruling, peer = _survey(zone, stores, storage, tenant)
    if ruling is None:
        raise RefusedError("no claim of the tenant is known here; it was never replicated to this site")
    if ruling.holder == zone.site and ruling.opened:
        # The tenant is here already: what the order adds is the person's word that the other site is down.
        if not spec.dry_run:
            claims.give_word(control, tenant, ruling.number, request_id)
        report(Progress(Phase.REHEARSED if spec.dry_run else Phase.OPENED, ruling.number, ruling.claim.base_commit))
        return
    live = binding.live_bucket(control, tenant)
    if live is None:
        raise RefusedError(f"no live bucket is bound at {zone.site}; wait until the standby's StorageReady is True")
    residency.require_compliant(stores.findings(zone, zone.own, live, Purpose.LIVE), zone.site)
    key = storage.open_key(tenant)
    commit = records.tip(control, tenant, sealer(key), known_seq=known_seq).commit
    if commit is None or commit.cut_time is None:
        raise RefusedError("no snapshot of the tenant lies here; there is nothing to restore from")
    rpo = (started - parse_time(commit.cut_time)).total_seconds()
    if rpo > spec.accepted_data_loss_seconds:
        raise RefusedError(
            f"the newest snapshot is {rpo:.0f} s old and acceptedDataLossSeconds is {spec.accepted_data_loss_seconds};"
            " accept more, or bring the source back"
        )
    replica, bucket = stores.bucket(zone.own, zone.own.stores.replica), stores.bucket(zone.own, live)
    # Before the claim: from there on nobody serves until the restore is through.
    restore.require_restorable(control, replica, bucket, key, tenant, zone.name)
    if spec.dry_run:
        report(Progress(Phase.REHEARSED, commit_seq=commit.seq, rpo_seconds=rpo))
        return
    claim = _claim(zone, control, peer, tenant, ruling, request_id, commit.seq)
    waited_from = time.monotonic()
    report(Progress(Phase.CLAIMED, claim.number, commit.seq, rpo))
    base = records.fence(control, tenant, claim.number, sealer(key)).commit or commit
    report(Progress(Phase.FENCED, claim.number, base.seq, rpo))
    restored = restore.restore(control, replica, bucket, key, tenant, zone.name, known_seq=known_seq)
    rpo = (started - restored.cut_time).total_seconds()
    report(Progress(Phase.RESTORED, claim.number, restored.seq, rpo))
    sleep(max(0.0, zone.spec.lease_seconds * claims.DRIFT - (time.monotonic() - waited_from)))
    claims.mark_open(control, tenant, claim.number)
    report(Progress(Phase.OPENED, claim.number, restored.seq, rpo))


def _survey(
    zone: ServedZone, stores: SiteStores, storage: TenantStorage, tenant: str
) -> tuple[Ruling | None, Bucket | None]:
    """The highest claim, and the peer's control bucket if it answers: it may well die under the order."""
    if zone.peer is not None and storage.peer_answers():
        try:
            return storage.ruling(tenant, ask_peer=True), stores.control(zone.peer)
        except StoreError as error:
            log.warning("the source stopped answering: %s", type(error).__name__)
    return storage.ruling(tenant, ask_peer=False), None


def _claim(
    zone: ServedZone, own: Bucket, peer: Bucket | None, tenant: str, ruling: Ruling, request_id: str, base: int
) -> Claim:
    if ruling.holder == zone.site:
        # An earlier try got this far: its claim rules already and is only opened here.
        return ruling.claim
    number = claims.next_number(ruling.number, claims.site_index(zone.spec, zone.site))
    claim = Claim.new(tenant, number, holder=zone.site, mode=Mode.EMERGENCY, request_id=request_id, base_commit=base)
    claims.write_claim(claim, [own])
    if peer is not None:
        try:
            claims.complete(tenant, number, own, peer)
        except StoreError as error:
            # It stands by the person's word; the operator completes it once the peer is back.
            log.warning("claim not copied to the source: %s", type(error).__name__)
    return claim
