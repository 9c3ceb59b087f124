"""Crypto-shredding: every wrap of a tenant's keys is deleted at every site, and that nothing opens any more is shown.

What was sealed under those keys, replicas and mirrors of any age included, stays closed for ever. Who has a key open in
memory keeps it until it forgets it (docs/keys.md).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from domicile.api.sites import ServedZone
from domicile.api.zone import Site, Subject
from domicile.backup import canonical, keys, residency
from domicile.backup.errors import BackupError
from domicile.backup.kek import OwnKey
from domicile.backup.residency import Purpose, Verdict
from domicile.backup.stores.base import Bucket, BucketFacts, DeniedError, NotFoundError

_PASSES = 3


class ShredIncompleteError(BackupError):
    """A wrap is left at some site; the message says where and what to do."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was deleted and how it was shown that nothing is left, for a certificate; ``digest`` is its SHA-256."""

    document: dict[str, Any]

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the canonical JSON of the document."""
        return hashlib.sha256(canonical.encode(self.document)).hexdigest()


def shred(
    zone: ServedZone, own: OwnKey, tenant: str, buckets: Sequence[tuple[Site, Bucket]], now: datetime
) -> Evidence:
    """Delete every wrap of a tenant in the keys buckets of all its zone's sites, this cluster's own first.

    It can't be undone. Safe to repeat after any failure: a site that refuses, or does not answer, keeps its wraps.
    Raises ResidencyError before anything is deleted where a bucket keeps what is deleted; ShredIncompleteError where a
    wrap is left; StoreError.
    """
    if [site for site, _ in buckets] != [zone.own, *([zone.peer] if zone.peer else [])]:
        raise ValueError("buckets are those of the zone's own site and of its peer, in this order")
    for site, bucket in buckets:
        _final(zone, site, bucket, now)
    # The own wraps go first: from them a run that is under way could make the peer's anew.
    deleted = {site.name: _delete(site, bucket, tenant) for site, bucket in buckets}
    # Only now, behind the last deletion: each listing shows the state that is certified.
    for site, bucket in buckets:
        if left := sum(1 for _ in bucket.list(_folder(tenant))):
            raise ShredIncompleteError(
                f"{left} wraps of tenant {tenant} are left at site {site.name}: somebody makes them anew; end the"
                " tenant's jobs and run it again"
            )
    try:
        keys.open_tenant_key(own, buckets[0][1], tenant, zone.name)
    except NotFoundError:
        pass
    else:
        raise ShredIncompleteError(f"the key of tenant {tenant} still opens at site {zone.site}; run it again")
    return Evidence(
        {
            "version": 1,
            "kind": "crypto-shred",
            "tenant": tenant,
            "zone": zone.name,
            "at": canonical.format_time(now),
            "sites": [
                {
                    "site": site.name,
                    "bucket": bucket.name,
                    "deleted": deleted[site.name],
                    "left": 0,
                    **_final(zone, site, bucket, now),
                }
                for site, bucket in buckets
            ],
        }
    )


def _final(zone: ServedZone, site: Site, bucket: Bucket, now: datetime) -> dict[str, str]:
    """How it is known that deleting from the bucket is final, and the digest of the store's raw answers."""
    facts: BucketFacts = bucket.facts()
    judged = residency.judge(zone.spec, site, bucket.name, facts, Purpose.KEYS, now.date())
    findings = [f for f in judged if f.subject is Subject.VERSIONING]
    residency.require_compliant(findings, site.name)
    verdict = Verdict.ATTESTED if Verdict.ATTESTED in {f.verdict for f in findings} else Verdict.VERIFIED
    return {"deletionFinal": str(verdict), "facts": residency.evidence_digest(facts)}


def _delete(site: Site, bucket: Bucket, tenant: str) -> list[str]:
    """Delete all that lies in the tenant's folder; returns the names. A few passes, for a run may be under way."""
    deleted: list[str] = []
    for _ in range(_PASSES):
        names = [info.name for info in bucket.list(_folder(tenant))]
        if not names:
            break
        for name in names:
            try:
                bucket.delete(name)
            except DeniedError as error:
                raise ShredIncompleteError(
                    f"site {site.name} refuses to delete wraps of tenant {tenant} ({error}); run `domicile keys shred`"
                    " at that site, whose own identity may: it then certifies for both"
                ) from None
        deleted += names
    return sorted(deleted)


def _folder(tenant: str) -> str:
    return f"wraps/{tenant}/"
