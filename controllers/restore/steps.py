"""The steps of a restore in the object stores: survey, rehearse, write. Blocking, and without Kubernetes.

Each may be repeated after a crash at any point: the snapshot that was chosen stays the one, a bucket beside is reserved
under the Restore's id, and what is there already and equal is not written again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from domicile.api.restore import Into, RestoreSpec, RestoreStatus
from domicile.api.sites import ServedZone
from domicile.backup.recovery import Kept, Recovery
from domicile.backup.residency import Purpose
from domicile.backup.restore import Mode, Restored
from domicile.backup.stores.base import Bucket
from domicile.backup.targets import Nowhere, Watched
from domicile.controllers.sites import SiteStores
from domicile.controllers.tenant.storage import TenantStorage


class RefusedError(Exception):
    """The restore must not go on; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Order:
    """One Restore. ``uid`` is its id; ``may_go_on`` is asked before each change and raises to end it."""

    zone: ServedZone
    stores: SiteStores
    spec: RestoreSpec
    tenant: str
    uid: str
    may_go_on: Callable[[], None] = lambda: None


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be restored, and into which bucket (None: into a fresh one, which a dry run does not take)."""

    recovery: Recovery
    kept: Kept
    bucket: Bucket | None


def survey(order: Order, known: RestoreStatus) -> Plan:
    """Choose the snapshot and the bucket, and make sure that this site may write to it. Nothing is moved.

    Raises RefusedError, StoreError, BackupError.
    """
    zone, stores, spec = order.zone, order.stores, order.spec
    recovery = Recovery(zone, order.tenant, stores.tenant_key(zone, order.tenant), stores.bucket)
    if not recovery.holds():
        raise RefusedError(
            f"site {zone.site} does not hold the tenant, so what is restored here nobody would read; create the Restore"
            " in the cluster of the site that holds it"
        )
    if known.seq is not None:
        kept = recovery.choose(seq=known.seq, site=known.kept_at, dropped=True)
    else:
        kept = recovery.choose(seq=spec.seq, at=spec.at, site=spec.kept_at)
    # Asked before a fresh bucket is taken, too: an order that is refused must not use one up.
    recovery.require_home(kept.site, (zone.own, stores.control(zone.own), Purpose.CONTROL))
    bucket = _bucket(order, recovery)
    if bucket is not None:
        recovery.require_home(kept.site, (zone.own, bucket, Purpose.LIVE))
    return Plan(recovery, kept, bucket)


def _bucket(order: Order, recovery: Recovery) -> Bucket | None:
    if order.spec.into is Into.LIVE:
        return recovery.live()
    if order.spec.dry_run:
        return None
    storage = TenantStorage(order.zone, order.stores)
    return recovery.bucket(storage.bind_beside(order.tenant, order.uid))


def rehearse(order: Order, plan: Plan) -> Restored:
    """What would be written, in numbers. For a live bucket all of it is read and authenticated beforehand, too.

    Raises LiveNotEmptyError, IntegrityError, StoreError, and what ``may_go_on`` raises.
    """
    spec, live = order.spec, order.spec.into is Into.LIVE
    target = plan.bucket if live and plan.bucket else Nowhere()
    done = plan.recovery.restore(plan.kept, target, prefix=spec.prefix, mode=_mode(spec), dry_run=True)
    if live and not spec.dry_run:
        plan.recovery.restore(plan.kept, Watched(Nowhere(), order.may_go_on), prefix=spec.prefix)
    return done


def write(order: Order, plan: Plan) -> Restored:
    """Restore. Raises LiveNotEmptyError, IntegrityError, StoreError, and what ``may_go_on`` raises."""
    assert plan.bucket
    target = Watched(plan.bucket, order.may_go_on)
    return plan.recovery.restore(plan.kept, target, prefix=order.spec.prefix, mode=_mode(order.spec))


def _mode(spec: RestoreSpec) -> Mode:
    return Mode(spec.mode.value)
