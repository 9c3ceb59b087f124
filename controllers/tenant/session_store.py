"""The account of the front doors at the site's session store: a Secret of the operator's own namespace, made once."""

from __future__ import annotations

import asyncio
import base64
import secrets

from domicile.api.common import FIELD_MANAGER, LABEL_COMPONENT, LABEL_MANAGED_BY
from domicile.controllers.door.sessions import render_users
from domicile.controllers.tenant.front_door import SESSIONS_USER
from domicile.kube.apply import apply
from domicile.kube.client import Kube

SECRET = "domicile-sessions"  # noqa: S105 - the name of a Secret
_PASSWORD = "password"  # noqa: S105 - its key


class SessionStore:
    """Knows the password; every call is one read at most."""

    def __init__(self, kube: Kube, namespace: str) -> None:
        self._kube = kube
        self._namespace = namespace
        self._making = asyncio.Lock()

    async def password(self) -> str:
        """The password, minted where there is none. Raises what the API server refuses."""
        async with self._making:
            found = await self._kube.read("v1", "Secret", SECRET, self._namespace)
            if encoded := ((found or {}).get("data") or {}).get(_PASSWORD):
                return base64.b64decode(encoded).decode()
            password = secrets.token_urlsafe(32)
            await apply(self._kube, self._secret(password))
            return password

    def _secret(self, password: str) -> dict[str, object]:
        data = {_PASSWORD: password, "users.acl": render_users(SESSIONS_USER, password)}
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
