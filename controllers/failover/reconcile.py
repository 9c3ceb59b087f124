"""Carry out a Failover: select tenants, take each over in a thread of its own, report every step."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from domicile.api.common import API_VERSION
from domicile.api.conditions import Condition, ConditionType, merge
from domicile.api.failover import FailoverSpec, FailoverStatus, Phase, PhaseTime, TenantTakeover
from domicile.api.sites import ServedZone
from domicile.api.tenant import AssistantTenantStatus
from domicile.backup.errors import BackupError
from domicile.backup.stores.base import StoreError
from domicile.controllers.failover.takeover import Progress, RefusedError, take_over
from domicile.controllers.zones import Zones
from domicile.kube.client import Kube
from domicile.kube.events import Events
from domicile.kube.status import patch_status

Object = dict[str, Any]

log = logging.getLogger(__name__)

_PARALLEL = 8
_FINAL = {Phase.OPENED, Phase.FAILED, Phase.REHEARSED}


class FailoverController:
    """Reconciles Failovers; ``wake`` asks for a reconcile of a tenant."""

    def __init__(self, kube: Kube, events: Events, zones: Zones, wake: Callable[[str], None]) -> None:
        self._kube = kube
        self._events = events
        self._zones = zones
        self._wake = wake

    async def reconcile(self, name: str) -> float | None:
        """Carry a Failover to its end; a finished one is never touched again."""
        failover = await self._kube.read(API_VERSION, "Failover", name)
        if failover is None or failover["metadata"].get("deletionTimestamp"):
            return None
        spec = FailoverSpec.model_validate(failover["spec"])
        known = FailoverStatus.model_validate(failover.get("status") or {})
        if known.conditions and all(t.phase in _FINAL for t in known.tenants) and known.observed_generation:
            return None
        run = _Run(self._kube, self._events, failover, known)
        zone = await self._zones.served(spec.zone)
        if zone is None or zone.site != spec.target_site:
            here = zone.site if zone else "no site of that zone"
            await run.refuse(
                f"targetSite {spec.target_site} is not served by this cluster, which is {here}. Run it there."
            )
            return None
        tenants = await self._select(spec)
        if not tenants:
            await run.refuse("No tenant of the zone is selected here. Correct spec.tenants in a new Failover.")
            return None
        await run.begin([t["metadata"]["name"] for t in tenants])
        gate = asyncio.Semaphore(_PARALLEL)
        await asyncio.gather(*(self._one(run, gate, zone, spec, t) for t in tenants))
        await run.finish()
        return None

    async def _select(self, spec: FailoverSpec) -> list[Object]:
        every = await self._kube.list(API_VERSION, "AssistantTenant")
        labels = spec.tenants.match_labels
        return [
            t
            for t in every
            if t["spec"]["zone"] == spec.zone
            and (
                t["metadata"]["name"] in (spec.tenants.names or ())
                if labels is None
                else labels.items() <= (t["metadata"].get("labels") or {}).items()
            )
        ]

    async def _one(
        self, run: _Run, gate: asyncio.Semaphore, zone: ServedZone, spec: FailoverSpec, tenant: Object
    ) -> None:
        name = tenant["metadata"]["name"]
        status = AssistantTenantStatus.model_validate(tenant.get("status") or {})
        if run.finished(name):
            return
        async with gate:
            if status.tenant_id is None:
                await run.fail(name, "The tenant has no identity here; it was never replicated to this site.")
                return
            loop = asyncio.get_running_loop()

            def report(progress: Progress) -> None:
                asyncio.run_coroutine_threadsafe(run.reached(name, progress), loop).result()
                self._wake(name)

            known_seq = (
                status.last_commit.seq if status.last_commit and status.last_commit.target == zone.site else None
            )
            try:
                await asyncio.to_thread(
                    take_over, zone, self._zones.stores, spec, status.tenant_id, run.uid, report, known_seq
                )
            except (RefusedError, StoreError, BackupError) as error:
                log.warning("take-over failed", extra={"tenant_id": status.tenant_id, "error": type(error).__name__})
                await run.fail(name, f"{error}.".replace("..", "."))


class _Run:
    """The status of one Failover while it is carried out; one writer."""

    def __init__(self, kube: Kube, events: Events, failover: Object, known: FailoverStatus) -> None:
        self._kube = kube
        self._events = events
        self._object = failover
        self._tenants = {t.tenant: t for t in known.tenants}
        self._conditions = known.conditions
        self._ordered = datetime.fromisoformat(failover["metadata"]["creationTimestamp"])
        self._lock = asyncio.Lock()
        self.uid: str = failover["metadata"]["uid"]

    def finished(self, tenant: str) -> bool:
        """Whether an earlier leader brought the tenant to an end."""
        return self._tenants[tenant].phase in _FINAL

    async def refuse(self, message: str) -> None:
        await self._write(
            _condition(ConditionType.STALLED, "True", "Refused", message), ready=("False", "Refused", message)
        )
        await self._events.post(self._object, "Refused", message, type_="Warning")

    async def begin(self, names: list[str]) -> None:
        now = datetime.now(UTC)
        for name in names:
            self._tenants.setdefault(name, TenantTakeover(tenant=name, phase=Phase.PENDING, started_at=now))
        await self._write(
            _condition(ConditionType.RECONCILING, "True", "TakingOver", "Tenants are being taken over."),
            ready=("False", "TakingOver", "Tenants are being taken over."),
        )

    async def reached(self, tenant: str, progress: Progress) -> None:
        entry = self._tenants[tenant]
        elapsed = (datetime.now(UTC) - self._ordered).total_seconds()
        times = [t for t in entry.phases if t.phase is not progress.phase]
        self._tenants[tenant] = entry.model_copy(
            update={
                "phase": progress.phase,
                "claim": progress.claim,
                "commit_seq": progress.commit_seq,
                "rpo_seconds": None if progress.rpo_seconds is None else round(progress.rpo_seconds, 3),
                "rto_seconds": round(elapsed, 3) if progress.phase is Phase.OPENED else None,
                "phases": [*times, PhaseTime(phase=progress.phase, seconds=round(elapsed, 3))],
            }
        )
        await self._write()
        await self._events.post(self._object, str(progress.phase), f"Tenant {tenant}: {progress.phase}.")

    async def fail(self, tenant: str, message: str) -> None:
        self._tenants[tenant] = self._tenants[tenant].model_copy(
            update={"phase": Phase.FAILED, "message": message[:1024]}
        )
        await self._write()
        await self._events.post(self._object, "TakeOverFailed", f"Tenant {tenant}: {message}", type_="Warning")

    async def finish(self) -> None:
        failed = sorted(t.tenant for t in self._tenants.values() if t.phase is Phase.FAILED)
        if failed:
            message = (
                f"Not taken over: {', '.join(failed)}. See status.tenants; create a new Failover once it is mended."
            )
            await self._write(
                _condition(ConditionType.STALLED, "True", "TakeOverFailed", message),
                ready=("False", "TakeOverFailed", message),
            )
            return
        rehearsed = all(t.phase is Phase.REHEARSED for t in self._tenants.values())
        reason, message = (
            ("Rehearsed", "Dry run: nothing was written.") if rehearsed else ("TakenOver", "All tenants are open.")
        )
        await self._write(ready=("True", reason, message))

    async def _write(self, *progress: Condition, ready: tuple[str, str, str] | None = None) -> None:
        async with self._lock:
            if ready is not None:
                self._conditions = merge(
                    self._conditions, [_condition(ConditionType.READY, *ready), *progress], datetime.now(UTC)
                )
            status = FailoverStatus(
                observed_generation=self._object["metadata"]["generation"],
                tenants=list(self._tenants.values()),
                conditions=self._conditions,
            )
            self._object = await patch_status(self._kube, self._object, status.to_wire())


def _condition(kind: ConditionType, status: str, reason: str, message: str) -> Condition:
    return Condition.model_validate(
        {"type": kind, "status": status, "reason": reason, "message": message[:1024], "observedGeneration": 1}
    )
