"""Who may do what in the site's session store: redis' access control list (https://redis.io/docs, "ACL")."""

from __future__ import annotations

import hashlib

from domicile.controllers.door.words import label, quoted_secret

# All that mod_auth_openidc 2.4 sends. Keys are hashes over each door's own passphrase: whoever can't list them can't
# name another tenant's.
_COMMANDS = ("auth", "select", "ping", "get", "set", "setex", "expire", "del")


def render_users(user: str, password: str) -> str:
    """The file ``users.acl``: one user for all doors, and nobody else. Raises ValueError, not showing the password.

    The store learns a SHA-256 digest of the password only.
    """
    quoted_secret(password, "the session store's password")
    digest = hashlib.sha256(password.encode()).hexdigest()
    allowed = " ".join(f"+{command}" for command in _COMMANDS)
    name = label(user, "the session store's user")
    return f"user default off\nuser {name} on #{digest} resetchannels ~* -@all {allowed}\n"
