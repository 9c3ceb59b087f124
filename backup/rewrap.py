"""A site's key is replaced by another: each tenant's wraps are made anew, and the old ones go once they are needless.

Run it at the site whose key changed; only it can open its wraps, and only it may delete them.
"""

from __future__ import annotations

from collections.abc import Callable

from domicile.backup import keys
from domicile.backup.kek import OwnKey
from domicile.backup.keys import TenantKey
from domicile.backup.stores.base import Bucket, NotFoundError


def rewrap(
    own: OwnKey, own_keys: Bucket, tenant: str, zone: str, require_peer_opens: Callable[[TenantKey], None]
) -> int:
    """Wrap all of a tenant's keys with the site's present key, and remove their older wraps; returns how many went.

    A new wrap is read back and opened, and ``require_peer_opens(key)`` must be content that the peer opens that key by
    its own wrap, before the first older one goes. So at each moment, and whatever fails, at least one wrap of each key
    opens at this site. Safe to repeat and to race. Raises what ``require_peer_opens`` raises, NotFoundError where the
    tenant has no wrap here, KeyUnavailableError, WrongKeyError, StoreError.
    """
    before = keys.wraps(own_keys, tenant)
    if not before:
        raise NotFoundError(f"tenant {tenant} has no wrapped key in bucket {own_keys.name} of site {own_keys.site}")
    for key_id in sorted({wrap.key_id for wrap in before}):
        key = keys.open_tenant_key(own, own_keys, tenant, zone, key_id=key_id)
        fresh = keys.store_wrap(own, own_keys, tenant, zone, key)
        # As the store gives it back; the key id commits to the secret, so what opens is this very key.
        keys.open_wrap(own, own_keys, tenant, zone, fresh)
        require_peer_opens(key)
        for wrap in before:
            if wrap.key_id == key_id:
                own_keys.delete(wrap.name)
    return len(before)
