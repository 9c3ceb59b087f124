"""What the site's lease agents say of a tenant, asked as the operator."""

from __future__ import annotations

import json
import ssl

import aiohttp

from domicile.controllers.pki import holders
from domicile.controllers.pki.authority import BrokenError
from domicile.controllers.pki.keeper import Keeper
from domicile.controllers.pki.leaf import BUNDLE, PAIR, Leaf
from domicile.controllers.tenant.view import Platform
from domicile.credentials import connecting

_TIMEOUT = aiohttp.ClientTimeout(total=3)


class Leases:
    """Asks by a certificate of the operator's own."""

    def __init__(self, pki: Keeper, platform: Platform) -> None:
        self._pki = pki
        self._platform = platform
        self._shown: Leaf = {}
        self._context: ssl.SSLContext | None = None

    async def refusal(self, tenant_id: str) -> str | None:
        """Why the tenant has no lease here, in words; None where it has one."""
        url = f"{self._platform.lease_url}/v1/lease/{tenant_id}"
        try:
            context = await self._tls()
            async with aiohttp.ClientSession(timeout=_TIMEOUT) as session, session.get(url, ssl=context) as answer:
                if answer.status == 200:
                    return None
                return f"The lease agent refuses: {(await answer.json()).get('message', answer.status)}"
        except BrokenError as error:
            return f"The lease agent can't be asked: {error}"
        except (aiohttp.ClientError, TimeoutError, json.JSONDecodeError):
            return f"The lease agent does not answer; look at Deployment domicile-lease in {self._platform.namespace}."

    async def _tls(self) -> ssl.SSLContext:
        shown = await self._pki.own(holders.operator(self._platform.namespace))
        if self._context is None or shown != self._shown:
            self._shown, self._context = shown, connecting(shown[PAIR], shown[BUNDLE])
        return self._context
