"""Tenant keys: made once at home, wrapped for each site's own key, opened by that site alone.

A wrap is ``wraps/<tenant>/<keyId>/<key>-<content>`` in a site's keys bucket: the tenant key's 32 bytes, encrypted by
the site's key whose digest is ``<key>``; ``<content>`` are 16 hex digits of the SHA-256 of the wrap. Its context binds
format, tenant, key id and zone. A key id is ``<number>-<commitment>``: the number orders a tenant's keys, the
commitment fixes the secret, so that no wrap can pass another secret off as this key.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from contextlib import suppress
from dataclasses import dataclass, field

from domicile.backup.errors import BackupError, WrongKeyError
from domicile.backup.kek import OwnKey, PeerKey
from domicile.backup.kek.base import Context
from domicile.backup.sealing import hkdf
from domicile.backup.stores.base import AlreadyExistsError, Bucket, NotFoundError

SECRET_BYTES = 32
_WRAP = re.compile(r"wraps/([0-9a-f]{32})/([0-9]{10}-[0-9a-f]{32})/([0-9a-f]{16})-[0-9a-f]{16}", re.ASCII)


@dataclass(frozen=True, slots=True)
class TenantKey:
    """A tenant's key: its id, and 32 bytes that never appear in a repr."""

    key_id: str
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Wrap:
    """One stored wrap: of which key of the tenant, for which key of the site, and the object's name."""

    key_id: str
    kek: str
    name: str


def mint_tenant_key(
    own: OwnKey,
    own_keys: Bucket,
    tenant: str,
    zone: str,
    peer: PeerKey | None = None,
    peer_keys: Bucket | None = None,
) -> str:
    """Make sure that the tenant has a key that both sites can open, and return the newest key id.

    The own wrap is written first: after a crash between the two writes a later call opens it and wraps the same key for
    the peer. The peer gets a wrap for its present key, too, where it has only some for earlier ones. ``peer`` and
    ``peer_keys`` are None in a zone of one site. Raises StoreError, KeyUnavailableError, WrongKeyError; call it again
    after any of them.
    """
    if not key_ids(own_keys, tenant):
        secret = secrets.token_bytes(SECRET_BYTES)
        # Two that mint at once make two keys; the commitment keeps them apart and orders them.
        store_wrap(own, own_keys, tenant, zone, TenantKey(f"{1:010d}-{_commitment(secret)}", secret))
    supply_peer(own, own_keys, tenant, zone, peer, peer_keys)
    return key_ids(own_keys, tenant)[-1]


def supply_peer(
    own: OwnKey, own_keys: Bucket, tenant: str, zone: str, peer: PeerKey | None, peer_keys: Bucket | None
) -> None:
    """Give the peer a wrap of each of the tenant's keys for its present key, where it has none.

    Raises what ``mint_tenant_key`` raises.
    """
    if (peer is None) != (peer_keys is None):
        raise ValueError("peer and peer_keys go together")
    if peer is None or peer_keys is None:
        return
    there = {wrap.key_id for wrap in wraps(peer_keys, tenant) if wrap.kek == peer.digest}
    for key_id in key_ids(own_keys, tenant):
        if key_id not in there:
            key = open_tenant_key(own, own_keys, tenant, zone, key_id=key_id)
            store_wrap(peer, peer_keys, tenant, zone, key)


def open_tenant_key(own: OwnKey, own_keys: Bucket, tenant: str, zone: str, *, key_id: str | None = None) -> TenantKey:
    """The tenant's key of that id (by default the newest), opened with the own site's key.

    Any wrap will do; those for the present key are tried first. Raises NotFoundError where the tenant has no such wrap
    here, KeyUnavailableError where the site's key is missing, WrongKeyError where it opens none, StoreError.
    """
    error: BackupError | None = None
    # Once more where a rewrap takes the wraps away between the listing and the reads.
    for _ in range(2):
        found = wraps(own_keys, tenant)
        wanted = key_id or max((w.key_id for w in found), default="")
        for wrap in sorted((w for w in found if w.key_id == wanted), key=lambda w: w.kek != own.digest):
            try:
                return open_wrap(own, own_keys, tenant, zone, wrap)
            except NotFoundError:
                continue
            except BackupError as refusal:
                error = error or refusal
        if error is not None:
            raise error
    raise _no_wrap(own_keys, tenant, key_id or "")


def open_wrap(own: OwnKey, own_keys: Bucket, tenant: str, zone: str, wrap: Wrap) -> TenantKey:
    """The key in one wrap. Raises NotFoundError, KeyUnavailableError, WrongKeyError, StoreError."""
    secret = own.decrypt(wrap.kek, own_keys.read(wrap.name), _context(tenant, zone, wrap.key_id))
    if len(secret) != SECRET_BYTES or not hmac.compare_digest(_commitment(secret), wrap.key_id.split("-")[1]):
        raise WrongKeyError(f"a wrap of key {wrap.key_id} of tenant {tenant} holds another secret than that key's")
    return TenantKey(wrap.key_id, secret)


def store_wrap(to: OwnKey | PeerKey, bucket: Bucket, tenant: str, zone: str, key: TenantKey) -> Wrap:
    """Wrap a key for a site and store it in that site's keys bucket. Raises StoreError, KeyUnavailableError."""
    wrapped = to.encrypt(key.secret, _context(tenant, zone, key.key_id))
    content = hashlib.sha256(wrapped).hexdigest()[:16]
    wrap = Wrap(key.key_id, to.digest, f"{_folder(tenant)}{key.key_id}/{to.digest}-{content}")
    # The name tells the content: what exists already are these very bytes.
    with suppress(AlreadyExistsError):
        bucket.create(wrap.name, wrapped)
    return wrap


def wraps(keys_bucket: Bucket, tenant: str) -> list[Wrap]:
    """All wraps of a tenant in a site's keys bucket, by key id. Foreign names don't count. Raises StoreError."""
    matches = (_WRAP.fullmatch(info.name) for info in keys_bucket.list(_folder(tenant)))
    return [Wrap(m[2], m[3], m[0]) for m in matches if m and m[1] == tenant]


def key_ids(keys_bucket: Bucket, tenant: str) -> list[str]:
    """Ids of the tenant's keys that have a wrap in a site's keys bucket, the newest last. Raises StoreError."""
    return sorted({wrap.key_id for wrap in wraps(keys_bucket, tenant)})


def tenants(keys_bucket: Bucket) -> list[str]:
    """Ids of all tenants that have a wrap in a site's keys bucket, ascending. Raises StoreError."""
    matches = (_WRAP.fullmatch(info.name) for info in keys_bucket.list("wraps/"))
    return sorted({m[1] for m in matches if m})


def _no_wrap(bucket: Bucket, tenant: str, key_id: str) -> NotFoundError:
    return NotFoundError(
        f"tenant {tenant} has no wrapped key {key_id} in bucket {bucket.name} of site {bucket.site};"
        " its home site must replicate once more, or the tenant was erased"
    )


def _folder(tenant: str) -> str:
    return f"wraps/{tenant}/"


def _context(tenant: str, zone: str, key_id: str) -> Context:
    # Audit trails keep it: a zone's name is the user's own word, so only its digest goes there.
    zone_digest = hashlib.sha256(f"zone:{zone}".encode()).hexdigest()[:16]
    return {"format": "domicile-wrap-2", "keyId": key_id, "tenant": tenant, "zone": zone_digest}


def _commitment(secret: bytes) -> str:
    return hkdf(secret, b"", b"domicile/v1/key-id")[:16].hex()
