"""What a site does every hour for a tenant whose replica and wraps it keeps, with no help from the other site."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from domicile.api.sites import ServedZone
from domicile.api.zone import Site
from domicile.backup import keys, proofs
from domicile.backup.errors import WrongKeyError
from domicile.backup.kek import KeyRing
from domicile.backup.stores.base import Bucket, NotFoundError


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
