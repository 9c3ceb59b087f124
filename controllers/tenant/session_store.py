"""The accounts of doors and gateways at the site's session store: a Secret beside the operator, made once."""

from __future__ import annotations

import asyncio
import base64
import secrets
from typing import NamedTuple

from domicile.api.common import FIELD_MANAGER, LABEL_COMPONENT, LABEL_MANAGED_BY
from domicile.controllers.door.sessions import render_users
from domicile.controllers.tenant.front_door import SESSIONS_USER
from domicile.controllers.tenant.gateway import VAULT_USER
from domicile.kube.apply import apply
from domicile.kube.client import Kube

SECRET = "domicile-sessions"  # noqa: S105 - the name of a Secret
_USERS = "users.acl"


class Passwords(NamedTuple):
    """One for all doors of the site, one for all gateways."""

    doors: str
    gateways: str


_KEYS = Passwords("password", "gateways-password")


class SessionStore:
    """Knows the passwords; every call is one read at most."""

    def __init__(self, kube: Kube, namespace: str) -> None:
        self._kube = kube
        self._namespace = namespace
        self._making = asyncio.Lock()

    async def passwords(self) -> Passwords:
        """The passwords, minted where there are none. Raises what the API server refuses."""
        async with self._making:
            secret = await self._kube.read("v1", "Secret", SECRET, self._namespace)
            found = {k: base64.b64decode(v).decode() for k, v in ((secret or {}).get("data") or {}).items()}
            known = Passwords(*(found.get(key) or secrets.token_urlsafe(32) for key in _KEYS))
            users = render_users({SESSIONS_USER: known.doors}, {VAULT_USER: known.gateways})
            wanted = {**dict(zip(_KEYS, known, strict=True)), _USERS: users}
            if wanted != found:
                await apply(self._kube, self._secret(wanted))
            return known

    def _secret(self, data: dict[str, str]) -> dict[str, object]:
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": SECRET,
                "namespace": self._namespace,
                "labels": {LABEL_MANAGED_BY: FIELD_MANAGER, LABEL_COMPONENT: "sessions"},
            },
            "type": "Opaque",
            "data": {k: base64.b64encode(v.encode()).decode() for k, v in data.items()},
        }
