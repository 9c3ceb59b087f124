"""Carry out a Restore: survey and rehearse, stop the tenant where its live bucket is written to, write, report.

The steps are taken one Restore at a time, for each holds packs in memory; a Restore that waits for pods to end lets
others go first.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

from domicile.api.common import API_VERSION, FINALIZER_RESTORE, LABEL_COMPONENT, LABEL_INSTANCE
from domicile.api.conditions import Condition, ConditionType, merge
from domicile.api.restore import Into, Phase, RestoreSpec, RestoreStatus
from domicile.api.tenant import AssistantTenantStatus
from domicile.backup.binding import BucketTakenError
from domicile.backup.errors import BackupError
from domicile.backup.restore import Restored
from domicile.backup.stores.base import StoreError, UnavailableError
from domicile.controllers.restore import steps
from domicile.controllers.restore.steps import Order, Plan, RefusedError
from domicile.controllers.tenant.reach import NAME as REACH_CHECK
from domicile.controllers.zones import Zones
from domicile.kube.client import ConflictError, Kube
from domicile.kube.events import Events
from domicile.kube.status import add_finalizer, patch_status, remove_finalizer

Object = dict[str, Any]
T = TypeVar("T")

log = logging.getLogger(__name__)

FINAL = {Phase.RESTORED, Phase.REHEARSED, Phase.FAILED}
_SOON = 2.0
_CAUSE_CHARS = 700
_TOLD = {
    Phase.PENDING: "The snapshot is being read and authenticated; nothing was written yet.",
    Phase.VERIFIED: "The snapshot is sound; its turn to be written comes.",
    Phase.STOPPING: "The tenant's pods are being stopped, so that nothing writes meanwhile.",
    Phase.WRITING: "The snapshot is being written.",
}


class StoppedError(Exception):
    """This operator is to end; another one goes on from where it came to."""


class RestoreController:
    """Reconciles Restores; ``wake`` asks for a reconcile of a tenant."""

    def __init__(self, kube: Kube, events: Events, zones: Zones, wake: Callable[[str], None]) -> None:
        self._kube = kube
        self._events = events
        self._zones = zones
        self._wake = wake
        self._turn = asyncio.Lock()
        self._pool = ThreadPoolExecutor(1, "restore")

    async def reconcile(self, name: str) -> float | None:
        """Carry a Restore on by as many steps as can be taken; a finished one is never touched again."""
        restore = await self._kube.read(API_VERSION, "Restore", name)
        if restore is None:
            return None
        spec = RestoreSpec.model_validate(restore["spec"])
        known = RestoreStatus.model_validate(restore.get("status") or {})
        if restore["metadata"].get("deletionTimestamp") or known.phase in FINAL:
            # While a step runs the queue calls nobody else for this Restore: nothing is being written any more.
            if FINALIZER_RESTORE in restore["metadata"].get("finalizers", []):
                await remove_finalizer(self._kube, restore, FINALIZER_RESTORE)
                self._wake(spec.tenant)
            return None
        run = _Run(self._kube, self._events, await add_finalizer(self._kube, restore, FINALIZER_RESTORE), known)
        try:
            after = await self._advance(run, spec)
        except (UnavailableError, BucketTakenError) as error:
            await run.wait("StoreUnreachable", f"{_sentence(error)} It is tried again.")
            raise
        except (RefusedError, StoreError, BackupError) as error:
            log.warning("restore failed", extra={"restore": name, "error": type(error).__name__})
            await run.fail(_sentence(error))
            after = None
        if run.status.phase in FINAL:
            await run.release()
            self._wake(spec.tenant)
        return after

    async def _advance(self, run: _Run, spec: RestoreSpec) -> float | None:
        tenant = await self._kube.read(API_VERSION, "AssistantTenant", spec.tenant)
        order, stop = await self._order(run, spec, tenant)
        if run.status.phase is Phase.STOPPING and not await self._stopped(run, spec, tenant):
            return _SOON
        if self._turn.locked():
            if run.status.phase is Phase.PENDING:
                await run.wait("Waiting", "Another Restore is at work; this one comes next.")
            return _SOON
        async with self._turn:
            plan = await self._step(stop, partial(steps.survey, order, run.status))
            if run.status.phase is Phase.PENDING:
                await run.reached(Phase.PENDING, plan)
                if not await self._rehearsed(run, order, plan, stop):
                    return None
            if run.status.phase is Phase.VERIFIED and spec.into is Into.LIVE and not spec.while_serving:
                await run.reached(Phase.STOPPING, holds=True)
                return 0.0
            await run.reached(Phase.WRITING)
            done = await self._step(stop, partial(steps.write, order, plan))
            await run.finish(Phase.RESTORED, done, f"Snapshot {done.seq} was restored, byte for byte.")
        return None

    async def _order(self, run: _Run, spec: RestoreSpec, tenant: Object | None) -> tuple[Order, threading.Event]:
        zone = await self._zones.served(tenant["spec"]["zone"]) if tenant else None
        status = AssistantTenantStatus.model_validate((tenant or {}).get("status") or {})
        if zone is None or status.tenant_id is None:
            raise RefusedError(
                f"this cluster has no AssistantTenant {spec.tenant} with an identity in a zone of its own"
            )
        stop = threading.Event()

        def may_go_on() -> None:
            if stop.is_set():
                raise StoppedError

        return Order(zone, self._zones.stores, spec, status.tenant_id, run.uid, may_go_on), stop

    async def _rehearsed(self, run: _Run, order: Order, plan: Plan, stop: threading.Event) -> bool:
        """True where writing comes next."""
        done = await self._step(stop, partial(steps.rehearse, order, plan))
        if order.spec.dry_run:
            await run.finish(Phase.REHEARSED, done, "Dry run: nothing was written.")
            return False
        await run.reached(Phase.VERIFIED)
        return True

    async def _stopped(self, run: _Run, spec: RestoreSpec, tenant: Object | None) -> bool:
        """Whether nothing of the tenant runs, and nothing will until this Restore lets go."""
        if tenant is None:
            return False
        status = AssistantTenantStatus.model_validate(tenant.get("status") or {})
        if status.restore != run.name:
            if status.restore is not None and await self._at_work(status.restore):
                await run.wait("Waiting", f"Restore {status.restore} writes to the tenant's live bucket.")
                return False
            await patch_status(self._kube, tenant, status.model_copy(update={"restore": run.name}).to_wire())
            self._wake(spec.tenant)
            return False
        # Without the word of a reconcile that saw this Restore, an earlier one could still start pods.
        said = any(c.reason == "Restoring" and c.message.startswith(f"Restore {run.name} ") for c in status.conditions)
        suspended = tenant["spec"].get("suspend", False) and any(c.reason == "Suspended" for c in status.conditions)
        writers = f"{LABEL_COMPONENT}=assistant,{LABEL_INSTANCE}!={REACH_CHECK}"
        pods = await self._kube.list("v1", "Pod", spec.tenant, labels=writers)
        if pods and suspended:
            await run.wait(
                "TenantSuspended",
                "spec.suspend of the tenant is set, so its pods are left running. End the suspension, or scale them to"
                f" zero: kubectl scale deployment --all --replicas=0 --namespace {spec.tenant}.",
            )
        return not pods and (said or suspended)

    async def _at_work(self, name: str) -> bool:
        other = await self._kube.read(API_VERSION, "Restore", name)
        status = RestoreStatus.model_validate((other or {}).get("status") or {})
        return status.holds and status.phase not in FINAL

    async def _step(self, stop: threading.Event, work: Callable[[], T]) -> T:
        """Run a step in its thread. When cancelled, end it first: a successor must find nobody writing."""
        future = asyncio.get_running_loop().run_in_executor(self._pool, work)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            stop.set()
            await asyncio.wait([future])
            future.exception()
            raise


class _Run:
    """The status of one Restore while it is carried out; one writer."""

    def __init__(self, kube: Kube, events: Events, restore: Object, known: RestoreStatus) -> None:
        self._kube = kube
        self._events = events
        self._object = restore
        self.status = known
        self.name: str = restore["metadata"]["name"]
        self.uid: str = restore["metadata"]["uid"]

    async def reached(self, phase: Phase, plan: Plan | None = None, *, holds: bool = False) -> None:
        update: dict[str, Any] = {"phase": phase, "holds": holds or self.status.holds}
        if plan:
            update |= {"seq": plan.kept.commit.seq, "cut_time": plan.kept.cut, "kept_at": plan.kept.site.name}
            update["bucket"] = plan.bucket.name if plan.bucket else None
        new = phase is not self.status.phase or plan is not None
        await self._save(update, "Restoring", _TOLD[phase])
        if new:
            await self._events.post(self._object, str(phase), _TOLD[phase])

    async def wait(self, reason: str, message: str) -> None:
        await self._save({}, reason, message)

    async def fail(self, message: str) -> None:
        writing, message = self.status.phase is Phase.WRITING, message[:_CAUSE_CHARS]
        message += f" Bucket {self.status.bucket} may be half restored." if writing else " Nothing was written."
        message += " Once it is mended, create another Restore."
        if self.status.holds:
            message += f" Until then nothing of the tenant runs; to let it run as it is, delete Restore {self.name}."
        await self._save({"phase": Phase.FAILED}, "RestoreFailed", message, stalled=True)
        await self._events.post(self._object, "RestoreFailed", message, type_="Warning")

    async def finish(self, phase: Phase, done: Restored, message: str) -> None:
        numbers = {n: getattr(done, n) for n in ("objects", "bytes", "skipped", "overwritten", "deleted")}
        await self._save({"phase": phase, "holds": False, **numbers}, str(phase), message, ready=True)
        await self._events.post(self._object, str(phase), message)

    async def release(self) -> None:
        self._object = await remove_finalizer(self._kube, self._object, FINALIZER_RESTORE)

    async def _save(
        self, update: dict[str, Any], reason: str, message: str, *, ready: bool = False, stalled: bool = False
    ) -> None:
        shown = [_condition(ConditionType.READY, "True" if ready else "False", reason, message)]
        if not ready:
            kind = ConditionType.STALLED if stalled else ConditionType.RECONCILING
            shown.append(_condition(kind, "True", reason, message))
        generation = self._object["metadata"]["generation"]
        conditions = merge(self.status.conditions, shown, datetime.now(UTC))
        update = {**update, "observed_generation": generation, "conditions": conditions}
        self.status = self.status.model_copy(update=update)
        while True:
            try:
                self._object = await patch_status(self._kube, self._object, self.status.to_wire())
                return
            except ConflictError:
                # Somebody changed labels or asked for its deletion; the status is ours alone.
                newest = await self._kube.read(API_VERSION, "Restore", self.name)
                if newest is None or newest["metadata"]["uid"] != self.uid:
                    raise
                self._object = newest


def _sentence(error: Exception) -> str:
    text = str(error)
    return text[:1].upper() + text[1:].removesuffix(".") + "."


def _condition(kind: ConditionType, status: str, reason: str, message: str) -> Condition:
    return Condition.model_validate(
        {"type": kind, "status": status, "reason": reason, "message": message[:1024], "observedGeneration": 1}
    )
