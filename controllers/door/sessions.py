"""Who may do what in the site's session store: redis' access control list (https://redis.io/docs, "ACL")."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from domicile.controllers.door.words import label, quoted_secret

# All that mod_auth_openidc 2.4 sends. Keys are hashes over each door's own passphrase: whoever can't list them can't
# name another tenant's.
_OF_DOORS = "~* -@all +auth +select +ping +get +set +setex +expire +del"
# Keys of gateways name the tenant's random id, and what lies there is sealed.
_OF_GATEWAYS = "~vault:* ~budget:* -@all +auth +ping +hlen +hmget +hsetnx +expire +get +incrby"


def render_users(doors: Mapping[str, str], gateways: Mapping[str, str]) -> str:
    """The file ``users.acl``: users by their passwords, and nobody else. Raises ValueError, not showing a password.

    The store learns SHA-256 digests of the passwords only.
    """
    lines = ["user default off"]
    for users, allowed in ((doors, _OF_DOORS), (gateways, _OF_GATEWAYS)):
        for user, password in users.items():
            quoted_secret(password, "the session store's password")
            digest = hashlib.sha256(password.encode()).hexdigest()
            name = label(user, "the session store's user")
            lines.append(f"user {name} on #{digest} resetchannels {allowed}")
    return "".join(f"{line}\n" for line in lines)
