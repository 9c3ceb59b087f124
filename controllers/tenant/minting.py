"""Keeps the credentials of a tenant's live bucket alive where they end by themselves."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from datetime import datetime, timedelta

from domicile.api import live_credentials
from domicile.api.tenant import Role
from domicile.backup.stores.base import StoreError
from domicile.controllers.tenant import access
from domicile.controllers.tenant.view import LiveAccess, TenantView
from domicile.controllers.zones import Zones
from domicile.kube.client import Kube

log = logging.getLogger(__name__)

# A tenant that isn't well is looked at every few seconds; its cloud is not asked as often.
_AFTER_A_REFUSAL = timedelta(minutes=1)


class Minting:
    """Mints at the site that is active for a tenant, and at no other one."""

    def __init__(self, kube: Kube, zones: Zones) -> None:
        self._kube = kube
        self._zones = zones
        self._refused: dict[str, tuple[datetime, str]] = {}

    def gone(self, name: str) -> None:
        """The tenant was deleted."""
        self._refused.pop(name, None)

    async def see_to(self, view: TenantView) -> TenantView:
        """The view with what opens the live bucket, newly minted where that is due."""
        if view.live_identity is None or view.live_bucket is None or view.role is not Role.ACTIVE:
            self.gone(view.name)
            return replace(view, live_access=None)
        known = access.look_at(view, await self._kube.read("v1", "Secret", access.STORE_SECRET, view.name))
        if not access.renewable(known, view.now):
            return replace(view, live_access=known)
        return replace(view, live_access=await self._renewed(view, known or LiveAccess()))

    async def _renewed(self, view: TenantView, known: LiveAccess) -> LiveAccess:
        last = self._refused.get(view.name)
        if last is not None and view.now - last[0] < _AFTER_A_REFUSAL:
            return replace(known, fault=last[1])
        if view.zone is None or view.live_bucket is None:
            raise ValueError("only what is bound in a served zone has a live identity")
        try:
            made = await asyncio.to_thread(self._zones.stores.mint_live, view.zone.own, view.live_bucket)
        except (StoreError, ValueError) as error:
            log.warning(
                "live credentials not minted", extra={"tenant_id": view.tenant_id, "error": type(error).__name__}
            )
            self._refused[view.name] = (view.now, str(error))
            return replace(known, fault=str(error))
        self.gone(view.name)
        return LiveAccess(live_credentials.render(made), view.now, made.expires_at)
