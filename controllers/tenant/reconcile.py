"""One level-based reconcile of an AssistantTenant: gather, judge, provision, build, apply, report."""

from __future__ import annotations

import asyncio
import logging
import secrets
from dataclasses import replace
from typing import Any

from domicile.api.common import API_VERSION, FINALIZER, LABEL_COMPONENT, LABEL_TENANT
from domicile.api.conditions import Condition, ConditionType, merge
from domicile.api.tenant import AssistantTenantStatus
from domicile.backup.errors import BackupError
from domicile.backup.stores.base import StoreError
from domicile.controllers.tenant import builders, policies, status
from domicile.controllers.tenant.gather import Gatherer, with_storage
from domicile.controllers.tenant.replication import awaits_snapshot, request_replication
from domicile.controllers.tenant.storage import Known
from domicile.controllers.tenant.view import Ownership, Platform, TenantView
from domicile.controllers.zones import Zones
from domicile.kube.apply import apply
from domicile.kube.client import InvalidError, Kube
from domicile.kube.events import Events
from domicile.kube.status import add_finalizer, patch_status, remove_finalizer

Object = dict[str, Any]

log = logging.getLogger(__name__)

_WHILE_PROGRESSING = 2.0
_PASSES = 4
_CHILDREN = (
    ("apps/v1", "Deployment"),
    ("v1", "Service"),
    ("policy/v1", "PodDisruptionBudget"),
    ("v1", "ServiceAccount"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
)


class TenantController:
    """Reconciles tenants. One call at a time for each name (the queue sees to it)."""

    def __init__(self, kube: Kube, events: Events, zones: Zones, platform: Platform, resync_seconds: float) -> None:
        self._kube = kube
        self._events = events
        self._zones = zones
        self._platform = platform
        self._resync = resync_seconds
        self._gatherer = Gatherer(kube, zones, platform)

    async def reconcile(self, name: str) -> float | None:
        """Bring one tenant to its desired state; returns seconds to the next look, None where it is gone."""
        tenant = await self._kube.read(API_VERSION, "AssistantTenant", name)
        if tenant is None:
            return None
        if tenant["metadata"].get("deletionTimestamp"):
            return await self._retire(tenant)
        if tenant["spec"].get("suspend"):
            await self._say_suspended(tenant)
            return self._resync
        view = await self._gatherer.gather(tenant)
        blocked = policies.blocking(policies.judge(view))
        if blocked is None:
            tenant = await add_finalizer(self._kube, tenant, FINALIZER)
            view = await self._provision(tenant, view)
            blocked = policies.blocking(policies.judge(view))
        if blocked is None:
            view = await self._apply(view)
            view = await request_replication(self._kube, view, _annotations(tenant))
        return await self._report(tenant, view)

    async def _provision(self, tenant: Object, view: TenantView) -> TenantView:
        """Give the tenant an identity, bucket, key and claim, as far as this site's role goes."""
        zone = view.zone
        if zone is None or view.storage_error is not None or view.namespace is Ownership.FOREIGN:
            return view
        home = view.home_site == zone.site
        if view.tenant_id is None:
            if not home or view.peer_error is not None:
                return view
            # The id is on record before any store knows it: a crash leaves no tenant without an owner.
            minted = view.status.model_copy(update={"tenant_id": secrets.token_hex(16)})
            tenant.update(await patch_status(self._kube, tenant, minted.to_wire()))
            view = replace(view, tenant_id=minted.tenant_id, status=minted)
        if view.claim is None and view.peer_error is not None:
            return view
        storage = self._zones.storage(zone)
        document = await self._document(tenant, view)
        try:
            # Each pass adds one thing and looks again: bucket, then key and claim, then the mirror.
            for _ in range(_PASSES):
                known = Known(view.live_bucket, view.claim, view.peer_error is None)
                if not await asyncio.to_thread(storage.provision, view.tenant_id or "", document, known, home=home):
                    break
                observed = await asyncio.to_thread(storage.observe, view.tenant_id, view.status.last_commit)
                view = with_storage(view, observed, self._zones)
        except (StoreError, BackupError) as error:
            log.warning("provisioning failed", extra={"tenant_id": view.tenant_id, "error": type(error).__name__})
            return replace(view, storage_error=str(error))
        return view

    async def _document(self, tenant: Object, view: TenantView) -> Object:
        """What the peer needs to run the tenant: its spec and the Secrets that it names."""
        names = sorted({s for a in view.spec.assistants for s in a.env_secrets})
        found = await asyncio.gather(*(self._kube.read("v1", "Secret", n, view.name) for n in names))
        return {
            "name": view.name,
            "labels": tenant["metadata"].get("labels", {}),
            "spec": view.spec.model_copy(update={"home_site": view.home_site}).to_wire(),
            "secrets": {s["metadata"]["name"]: s.get("data", {}) for s in found if s is not None},
        }

    async def _apply(self, view: TenantView) -> TenantView:
        if view.live_bucket is not None and view.tenant_id is not None:
            built = builders.build(view)
        elif view.namespace is Ownership.OURS:
            # The stores don't say what should run; that it stays isolated needs no store.
            built = [builders.namespace(view), *builders.network_policies(view)]
        else:
            return view
        refusal = None
        for wanted in built:
            try:
                await apply(self._kube, wanted)
            except InvalidError as error:
                # Its text quotes values, and those of a Secret are nobody's business.
                why = "" if wanted["kind"] == "Secret" else f": {error}"
                refusal = f"The API server refuses {wanted['kind']} {wanted['metadata']['name']}{why}"
                break
        # Seen anew, so that the status speaks of what is there now.
        return replace(await self._gatherer.refresh(view), refusal=refusal)

    async def _report(self, tenant: Object, view: TenantView) -> float:
        verdicts = policies.judge(view)
        new = status.build(view, verdicts, _annotations(tenant))
        await patch_status(self._kube, tenant, new.to_wire())
        await self._tell(tenant, view.status.conditions, new.conditions)
        settled = next(c for c in new.conditions if c.type == ConditionType.READY).status == "True"
        waiting = awaits_snapshot(view) or not (settled or policies.blocking(verdicts))
        return _WHILE_PROGRESSING if waiting else self._resync

    async def _tell(self, tenant: Object, old: list[Condition], new: list[Condition]) -> None:
        """One event for each condition whose status or reason changed."""
        before = {c.type: (c.status, c.reason) for c in old}
        for c in new:
            if c.type not in {ConditionType.RECONCILING, ConditionType.STALLED} and before.get(c.type) != (
                c.status,
                c.reason,
            ):
                await self._events.post(
                    tenant, c.reason, f"{c.type}: {c.message}", type_="Warning" if c.status == "False" else "Normal"
                )

    async def _say_suspended(self, tenant: Object) -> None:
        known = AssistantTenantStatus.model_validate(tenant.get("status") or {})
        verdict = policies.Verdict(
            ConditionType.RECONCILING,
            "True",
            "Suspended",
            "spec.suspend is set: what runs goes on, nothing is changed.",
        )
        kept = [c for c in known.conditions if c.type not in {ConditionType.RECONCILING, ConditionType.STALLED}]
        shown = [*kept, status.condition(verdict, tenant["metadata"]["generation"])]
        update = {"conditions": merge(known.conditions, shown, self._gatherer.now())}
        await patch_status(self._kube, tenant, known.model_copy(update=update).to_wire())

    async def _retire(self, tenant: Object) -> float | None:
        """Deleted: isolate and stop at once, keep the data, say where it is, then let the object go."""
        if FINALIZER not in tenant["metadata"].get("finalizers", []):
            return None
        name = tenant["metadata"]["name"]
        namespace = await self._kube.read("v1", "Namespace", name)
        if namespace is not None and namespace["metadata"].get("labels", {}).get(LABEL_TENANT) == name:
            await apply(self._kube, builders.isolation(name, tenant["spec"]["zone"]))
            for api_version, kind in _CHILDREN:
                for child in await self._kube.list(api_version, kind, name, labels=f"{LABEL_TENANT}={name}"):
                    if child["metadata"]["name"] != builders.DENY_ALL:
                        await self._kube.delete(api_version, kind, child["metadata"]["name"], name)
            if await self._kube.list("v1", "Pod", name, labels=f"{LABEL_COMPONENT}=assistant"):
                return _WHILE_PROGRESSING
        known = AssistantTenantStatus.model_validate(tenant.get("status") or {})
        zone = await self._zones.served(tenant["spec"]["zone"])
        if zone is not None and known.tenant_id is not None:
            try:
                await asyncio.to_thread(self._zones.storage(zone).retire, known.tenant_id, name)
            except BackupError as error:
                log.warning(
                    "deletion not mirrored", extra={"tenant_id": known.tenant_id, "error": type(error).__name__}
                )
        await self._events.post(tenant, "Deleted", _farewell(known))
        await remove_finalizer(self._kube, tenant, FINALIZER)
        return None


def _annotations(tenant: Object) -> dict[str, str]:
    return dict(tenant["metadata"].get("annotations") or {})


def _farewell(known: AssistantTenantStatus) -> str:
    if known.tenant_id is None or known.storage is None:
        return "The tenant had no data here."
    commit = known.last_commit
    copy = f"; snapshot {commit.seq} lies at {commit.target}" if commit else ""
    return (
        f"Stopped and isolated. The data was kept: tenant id {known.tenant_id}, live bucket {known.storage.bucket}"
        f" at {known.site}{copy}."
    )
