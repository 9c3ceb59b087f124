"""Tenants that the peer mirrors: create those that are missing here, give those that are here their identity."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from domicile.api.common import API_VERSION, GROUP
from domicile.api.sites import ServedZone
from domicile.api.tenant import AssistantTenantStatus
from domicile.backup import mirror
from domicile.backup.errors import BackupError
from domicile.backup.stores.base import StoreError
from domicile.controllers.zones import Zones
from domicile.kube.client import ConflictError, Kube, KubeError, object_path
from domicile.kube.status import patch_status

Object = dict[str, Any]

log = logging.getLogger(__name__)

LABEL_MIRRORED = f"{GROUP}/mirrored"


class MirrorController:
    """Follows the sealed mirror in the own control bucket of each served zone."""

    def __init__(self, kube: Kube, zones: Zones) -> None:
        self._kube = kube
        self._zones = zones

    async def follow(self, zone: ServedZone) -> None:
        """One look at a zone's mirror. What can't be opened is logged by its opaque id and left alone."""
        storage = self._zones.storage(zone)
        try:
            ids = await asyncio.to_thread(mirror.tenants, self._zones.stores.control(zone.own))
        except StoreError as error:
            log.warning("mirror not readable", extra={"zone": zone.name, "error": type(error).__name__})
            return
        tenants = {t["metadata"]["name"]: t for t in await self._kube.list(API_VERSION, "AssistantTenant")}
        by_id = {(t.get("status") or {}).get("tenantId"): t for t in tenants.values()}
        for tenant_id in ids:
            here = by_id.get(tenant_id)
            if here is not None and not _stands_by(here, zone):
                continue
            try:
                document = await asyncio.to_thread(storage.mirrored, tenant_id)
            except (StoreError, BackupError) as error:
                log.warning("mirrored tenant not opened", extra={"tenant_id": tenant_id, "error": type(error).__name__})
                continue
            if document is None:
                continue
            try:
                await self._heed(zone, tenant_id, document, here, tenants)
            except KubeError as error:
                # One tenant that the API server won't have must not keep the others from their standby.
                log.warning("mirrored tenant refused", extra={"tenant_id": tenant_id, "error": type(error).__name__})

    async def _heed(
        self, zone: ServedZone, tenant_id: str, document: Object, here: Object | None, tenants: dict[str, Object]
    ) -> None:
        if document.get("deleted"):
            if here is not None and _home(here, zone) != zone.site:
                await self._release(here)
        elif here is not None:
            await self._update(here, document)
        elif document["spec"].get("homeSite") != zone.site:
            await self._adopt(zone, tenant_id, document, tenants.get(document["name"]))

    async def _adopt(self, zone: ServedZone, tenant_id: str, document: Object, tenant: Object | None) -> None:
        tenant = tenant or await self._create(document)
        if (
            tenant is None
            or tenant["spec"]["zone"] != zone.name
            or _home(tenant, zone) != document["spec"].get("homeSite")
        ):
            # One that starts elsewhere is another tenant of the same name.
            return
        status = AssistantTenantStatus.model_validate(tenant.get("status") or {})
        if status.tenant_id is None:
            # Identity is given once: a tenant that has one never takes over another's data.
            adopted = status.model_copy(update={"tenant_id": tenant_id})
            await patch_status(self._kube, tenant, adopted.to_wire())

    async def _release(self, tenant: Object) -> None:
        """Its tenant was deleted where it was active: the name may come to stand for another, the data never."""
        known = AssistantTenantStatus.model_validate(tenant["status"])
        nobody = AssistantTenantStatus(observed_generation=known.observed_generation, conditions=known.conditions)
        await patch_status(self._kube, tenant, nobody.to_wire())

    async def _update(self, tenant: Object, document: Object) -> None:
        if LABEL_MIRRORED not in (tenant["metadata"].get("labels") or {}):
            return
        if tenant["spec"] != document["spec"]:
            await self._kube.request("PUT", object_path(tenant), {**tenant, "spec": document["spec"]})

    async def _create(self, document: Object) -> Object | None:
        try:
            return await self._kube.create(
                {
                    "apiVersion": API_VERSION,
                    "kind": "AssistantTenant",
                    "metadata": {"name": document["name"], "labels": {**document["labels"], LABEL_MIRRORED: "true"}},
                    "spec": document["spec"],
                }
            )
        except ConflictError:
            return None


def _home(tenant: Object, zone: ServedZone) -> str:
    return str(tenant["spec"].get("homeSite") or zone.spec.sites[0].name)


def _stands_by(tenant: Object, zone: ServedZone) -> bool:
    """Whether the mirror speaks to this object: only while another site is active. It rules only what it made."""
    return (tenant.get("status") or {}).get("activeSite") not in {None, zone.site}
