"""Which live bucket serves which tenant at a site. Create-once records in the site's own control bucket.

``pool/<bucket>`` = tenant is written first: it makes sure that a bucket serves one tenant only, for ever.
``live/<tenant>`` = bucket follows: it makes sure that a tenant has one live bucket.
A bucket that a snapshot is restored into beside the live one is reserved by ``pool/<bucket>`` = tenant and restore, and
so never becomes a live one; ``beside/<restore>`` = bucket follows.
"""

from __future__ import annotations

from domicile.backup import canonical
from domicile.backup.errors import BackupError, IntegrityError
from domicile.backup.stores.base import Bucket, NotFoundError, create_once


class BucketTakenError(BackupError):
    """The bucket serves another tenant; choose another one."""


def bind_live(control_own: Bucket, tenant: str, bucket: str) -> str:
    """Give ``bucket`` to the tenant; returns the tenant's live bucket, which is another one if it had one already.

    Safe to repeat and to race. A bucket that lost the second step stays reserved for the tenant and unused.
    Raises BucketTakenError where the bucket serves another tenant, StoreError.
    """
    if bound := live_bucket(control_own, tenant):
        return bound
    if not create_once(control_own, f"pool/{bucket}", canonical.encode({"tenant": tenant})):
        raise BucketTakenError(f"bucket {bucket} of site {control_own.site} serves another tenant")
    # Two racing binders of one tenant write equal bytes for equal buckets only, so the read back tells who won.
    create_once(control_own, f"live/{tenant}", canonical.encode({"bucket": bucket}))
    bound = live_bucket(control_own, tenant)
    if bound is None:
        raise IntegrityError(f"live/{tenant} was written at site {control_own.site} but can't be read")
    return bound


def live_bucket(control_own: Bucket, tenant: str) -> str | None:
    """Name of the tenant's live bucket at this site; None if it has none. Raises IntegrityError."""
    return _bucket_in(control_own, f"live/{tenant}")


def bind_beside(control_own: Bucket, tenant: str, restore: str, bucket: str) -> str:
    """Reserve ``bucket`` for a restore beside the tenant's live one; returns the one that the restore has.

    ``restore`` is an opaque id. Safe to repeat and to race. Raises BucketTakenError where the bucket serves a tenant or
    another restore, StoreError.
    """
    if bound := beside_bucket(control_own, restore):
        return bound
    if not create_once(control_own, f"pool/{bucket}", canonical.encode({"tenant": tenant, "restore": restore})):
        raise BucketTakenError(f"bucket {bucket} of site {control_own.site} serves a tenant or another restore")
    create_once(control_own, f"beside/{restore}", canonical.encode({"bucket": bucket}))
    return beside_bucket(control_own, restore) or bucket


def beside_bucket(control_own: Bucket, restore: str) -> str | None:
    """Name of the bucket that is reserved for a restore; None if it has none. Raises IntegrityError."""
    return _bucket_in(control_own, f"beside/{restore}")


def taken(control_own: Bucket) -> set[str]:
    """Names of all buckets that serve, or once were reserved for, a tenant."""
    return {info.name.removeprefix("pool/") for info in control_own.list("pool/")}


def _bucket_in(control_own: Bucket, name: str) -> str | None:
    try:
        data = control_own.read(name)
    except NotFoundError:
        return None
    value = canonical.fields(canonical.decode(data, name), name, bucket=canonical.text)
    bucket: str = value["bucket"]
    return bucket
