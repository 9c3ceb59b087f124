"""Proofs that a site can open a tenant's key: each hour one create-once object in the site's own control bucket.

``proofs/<tenant>/<keyId>/<YYYYMMDDHH>`` (UTC) is canonical JSON; its ``mac`` is the HMAC-SHA256 of all other fields by
a key derived from the tenant key, so whoever wrote it had the tenant key open. Proofs older than two days are removed
by the site that wrote them.
"""

from __future__ import annotations

import hmac
import re
from datetime import UTC, datetime, timedelta

from domicile.backup import canonical
from domicile.backup.errors import BackupError, IntegrityError
from domicile.backup.keys import TenantKey
from domicile.backup.sealing import hkdf
from domicile.backup.stores.base import Bucket, NotFoundError, create_once

# Two hours, and the rest of the hour whose number stands for the whole of it.
MAX_AGE = timedelta(hours=3)
KEEP = timedelta(hours=48)
_AHEAD = timedelta(hours=1)
_VERSION = 1
_FORMAT = "%Y%m%d%H"
_NAME = re.compile(r"proofs/([0-9a-f]{32})/([0-9]{10}-[0-9a-f]{32})/([0-9]{10})", re.ASCII)


class NotProvenError(BackupError):
    """A site has not shown lately that it opens a tenant's key."""


def publish(control_own: Bucket, key: TenantKey, tenant: str, site: str, now: datetime) -> None:
    """Say that this site has just opened the key; once an hour is enough, more are harmless.

    Raises IntegrityError where something else stands in this hour's place, StoreError.
    """
    hour = _hour(now)
    if not create_once(control_own, _name(tenant, key.key_id, hour), _proof(key, tenant, site, hour)):
        raise IntegrityError(
            f"something else stands in the place of site {site}'s proof {hour} for tenant {tenant}; find out who writes"
            f" to bucket {control_own.name}"
        )


def newest(control: Bucket, key: TenantKey, tenant: str, site: str, now: datetime) -> datetime | None:
    """Start of the hour of a site's newest proof, which was verified; None where there is none.

    Raises IntegrityError for one that does not verify or lies in the future, StoreError.
    """
    hour = max((h for k, h in _listed(control, tenant) if k == key.key_id), default=None)
    if hour is None:
        return None
    try:
        data = control.read(_name(tenant, key.key_id, hour))
    except NotFoundError:
        return None  # Pruned since it was listed: older than two days.
    what = f"proof {hour} of site {site} for tenant {tenant}"
    if not hmac.compare_digest(data, _proof(key, tenant, site, hour)):
        raise IntegrityError(f"{what} does not verify: that site opens another key, or somebody else wrote it")
    started = _start(hour, what)
    if started > now + _AHEAD:
        raise IntegrityError(f"{what} lies in the future: correct that site's clock, or this one's")
    return started


def require(control: Bucket, key: TenantKey, tenant: str, site: str, now: datetime) -> None:
    """Raise NotProvenError unless the site has a proof that counts; IntegrityError, StoreError."""
    proven = newest(control, key, tenant, site, now)
    if proven is None or now - proven > MAX_AGE:
        raise NotProvenError(
            f"site {site} has not shown in the last hours that it opens key {key.key_id} of tenant {tenant}; run"
            " `domicile keys prove` there and look at what it says"
        )


def prune(control_own: Bucket, tenant: str, now: datetime) -> int:
    """Remove the site's own proofs of a tenant that are older than two days; returns how many. Raises StoreError."""
    oldest = _hour(now - KEEP)
    old = [_name(tenant, key_id, hour) for key_id, hour in _listed(control_own, tenant) if hour < oldest]
    for name in old:
        control_own.delete(name)
    return len(old)


def _listed(control: Bucket, tenant: str) -> list[tuple[str, str]]:
    """Key id and hour of each proof of a tenant."""
    matches = (_NAME.fullmatch(info.name) for info in control.list(f"proofs/{tenant}/"))
    return [(m[2], m[3]) for m in matches if m and m[1] == tenant]


def _name(tenant: str, key_id: str, hour: str) -> str:
    return f"proofs/{tenant}/{key_id}/{hour}"


def _hour(at: datetime) -> str:
    return at.astimezone(UTC).strftime(_FORMAT)


def _start(hour: str, what: str) -> datetime:
    try:
        return datetime.strptime(hour, _FORMAT).replace(tzinfo=UTC)
    except ValueError:
        raise IntegrityError(f"{what} is of no hour that exists") from None


def _proof(key: TenantKey, tenant: str, site: str, hour: str) -> bytes:
    """The one sequence of bytes that is this proof."""
    fields = {"version": _VERSION, "tenant": tenant, "keyId": key.key_id, "site": site, "hour": hour}
    secret = hkdf(key.secret, b"", b"domicile/v1/proof")
    return canonical.encode(fields | {"mac": hmac.digest(secret, canonical.encode(fields), "sha256").hex()})
