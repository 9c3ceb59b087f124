"""What a site does every hour for a tenant whose replica and wraps it keeps, with no help from the other site."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pydantic import ValidationError

from domicile.api.sites import ServedZone
from domicile.api.tenant import SnapshotRetention
from domicile.api.zone import Site
from domicile.backup import keys, mirror, proofs, prune, records, residency, retention, scrub
from domicile.backup.errors import BackupError, IntegrityError, WrongKeyError
from domicile.backup.kek import KeyRing
from domicile.backup.keys import TenantKey
from domicile.backup.prune import Pruned
from domicile.backup.residency import Purpose
from domicile.backup.retention import Retention
from domicile.backup.scrub import Scrubbed
from domicile.backup.sealing import Sealer
from domicile.backup.stores.base import Bucket, NotFoundError

# Both read the lists of all snapshots, half a minute's work for a million objects; an hour's would not be worth it.
PRUNE_EVERY = timedelta(hours=23)
SCRUB_EVERY = timedelta(hours=5)


class DamagedError(BackupError):
    """Something that a kept snapshot needs is damaged or missing in the replica."""


@dataclass(frozen=True, slots=True)
class _Charge:
    """A tenant whose replica this site keeps."""

    zone: ServedZone
    key: TenantKey
    control: Bucket
    replica: Bucket


@dataclass(frozen=True, slots=True)
class Keeper:
    """Tends tenants of the served zones. ``bucket`` opens a bucket of a site."""

    bucket: Callable[[Site, str], Bucket]
    keys: KeyRing
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)

    def tend_any(self, tenant: str, zones: Sequence[ServedZone]) -> bool:
        """``tend`` in that one of the zones whose tenant it is; False where the tenant has no wrap here.

        Two zones may share a site's buckets; the tenant's key tells them apart. Raises what ``tend`` raises.
        """
        error: WrongKeyError | None = None
        for zone in zones:
            try:
                self.tend(tenant, zone)
                return True
            except NotFoundError:
                continue
            except WrongKeyError as refusal:
                error = refusal
        if error is not None:
            raise error
        return False

    def tend(self, tenant: str, zone: ServedZone) -> None:
        """The duties of an hour: open each of the tenant's keys with this site's own and publish the proof.

        Raises NotFoundError where the tenant has no wrap here, WrongKeyError where it is of another zone, and what
        ``open_tenant_key`` and ``proofs.publish`` raise.
        """
        site, own = zone.own, self.keys.own(zone)
        wraps, control = self.bucket(site, site.stores.keys), self.bucket(site, site.stores.control)
        ids: Sequence[str | None] = keys.key_ids(wraps, tenant) or [None]
        for key_id in ids:
            key = keys.open_tenant_key(own, wraps, tenant, zone.name, key_id=key_id)
            proofs.publish(control, key, tenant, site.name, self.clock())
        proofs.prune(control, tenant, self.clock())

    def prune(
        self,
        tenant: str,
        zones: Sequence[ServedZone],
        *,
        every: timedelta = timedelta(0),
        given_up: Collection[int] = (),
        dry_run: bool = False,
    ) -> Pruned | None:
        """Prune the tenant's replica at this site as its definition says.

        None where there is none, where nobody says what to keep, or where less than ``every`` has passed since the last
        time and all that was kept then may still be. Raises ResidencyError, WrongKeyError before anything is deleted,
        and what ``prune.prune`` raises.
        """
        charge = self._charge(tenant, zones)
        if charge is None or (keep := self._keep(tenant, charge)) is None:
            return None
        control, key, now = charge.control, charge.key, self.clock()
        last = prune.newest(control, tenant, Sealer(key.key_id, key.secret))
        if last and _is_recent(last.time, now, every) and retention.kept(last.kept, now, keep) == last.kept.keys():
            return None
        zone = charge.zone.name
        return prune.prune(
            control, charge.replica, key, tenant, zone, keep, self.clock, given_up=given_up, dry_run=dry_run
        )

    def scrub(self, tenant: str, zones: Sequence[ServedZone], *, every: timedelta = timedelta(0)) -> Scrubbed | None:
        """Read the share of the tenant's replica at this site that is due.

        None where there is none, or where it has come to less than ``every`` before now and all was well then.
        Raises DamagedError, ResidencyError, WrongKeyError, and what ``scrub.scrub`` raises.
        """
        charge = self._charge(tenant, zones)
        if charge is None:
            return None
        control, key = charge.control, charge.key
        last = scrub.newest(control, tenant, Sealer(key.key_id, key.secret))
        if last and _is_recent(last.through, self.clock(), every) and not (last.damaged or last.unreadable):
            return None
        found = scrub.scrub(control, charge.replica, key, tenant, charge.zone.name, self.clock)
        if found is not None and (found.damaged or found.unreadable):
            raise DamagedError(_damage(tenant, charge.zone.site, found))
        return found

    def _charge(self, tenant: str, zones: Sequence[ServedZone]) -> _Charge | None:
        error: WrongKeyError | None = None
        for zone in zones:
            site = zone.own
            control, replica = self.bucket(site, site.stores.control), self.bucket(site, site.stores.replica)
            try:
                key = keys.open_tenant_key(self.keys.own(zone), self.bucket(site, site.stores.keys), tenant, zone.name)
            except NotFoundError:
                continue
            except WrongKeyError as refusal:
                error = refusal
                continue
            if records.highest(control, tenant) is None:
                return None
            checked = (site, control, Purpose.CONTROL), (site, replica, Purpose.REPLICA)
            residency.require(zone.spec, self.clock().date(), *checked)
            return _Charge(zone, key, control, replica)
        if error is not None:
            raise error
        return None

    def _keep(self, tenant: str, charge: _Charge) -> Retention | None:
        """What the tenant's definition says; None where it is gone: what is left then is for an erasure to remove."""
        found = mirror.read(charge.control, charge.key, tenant, charge.zone.name)
        if found is None or found[1].get("deleted"):
            return None
        try:
            spec = found[1].get("spec", {}).get("replication", {}).get("retention", {})
            said = SnapshotRetention.model_validate(spec)
        except (AttributeError, ValidationError):
            raise IntegrityError(
                f"mirror {found[0]} of tenant {tenant} says in no known way which snapshots to keep; nothing was pruned"
            ) from None
        longest = timedelta(days=said.longest_days) if said.longest_days else None
        return Retention(said.hourly, said.daily, said.monthly, longest)


def _is_recent(last: datetime, now: datetime, every: timedelta) -> bool:
    """Whether less than ``every`` has passed; what a wrong clock dated ahead is not recent for ever."""
    return timedelta(0) <= now - last < every


def _damage(tenant: str, site: str, found: Scrubbed) -> str:
    told = []
    if found.heal:
        told.append(f"{len(found.heal)} packs of the newest snapshot, whose objects the next run seals anew")
    if older := found.damaged - found.heal:
        told.append(f"{len(older)} packs of older snapshots (`domicile verify --all` says of which)")
    if found.unreadable:
        told.append(f"the lists of snapshots {', '.join(map(str, found.unreadable))}")
    return (
        f"damaged or missing in the replica of tenant {tenant} at site {site}: {'; '.join(told)}; older snapshots that"
        " can't be mended are given up with `domicile prune --give-up`"
    )
