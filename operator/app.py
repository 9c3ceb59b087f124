"""The operator process: leader election, watches by kopf, the queue, the tick, health. It wires and decides nothing.

kopf only watches: its handlers put keys into our own queue and write nothing, so no finalizer, annotation, status or
event of kopf's lands on anybody's object. It runs in a thread with an event loop of its own, for on exit it cancels
every task of its loop, and it takes the process's signals where it can.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import os
import secrets
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, Protocol

import kopf

from domicile import forwarding
from domicile.api.common import API_VERSION, GROUP, LABEL_MANAGED_BY, LABEL_TENANT, MANAGED_BY, VERSION
from domicile.backup.errors import BackupError
from domicile.backup.stores.base import StoreError
from domicile.health import Health, serving
from domicile.kube.client import Kube, KubeError, NotFoundError
from domicile.kube.election import Election, LeadershipLostError
from domicile.kube.events import Events
from domicile.metrics import Metrics
from domicile.queue import ReconcileQueue
from domicile.scraping import scraped
from domicile.settings import Settings

log = logging.getLogger(__name__)

# In the order of a tick: all others are judged by their zone.
KINDS: Final = {
    "ResidencyZone": "residencyzones",
    "AssistantTenant": "assistanttenants",
    "Failover": "failovers",
    "Restore": "restores",
}
CHILDREN: Final = (
    ("", "v1", "namespaces"),
    ("", "v1", "serviceaccounts"),
    ("", "v1", "services"),
    ("apps", "v1", "deployments"),
    ("batch", "v1", "jobs"),
    ("networking.k8s.io", "v1", "networkpolicies"),
    ("policy", "v1", "poddisruptionbudgets"),
    # Not in every cluster: kopf says so once and watches the others.
    ("cert-manager.io", "v1", "certificates"),
    ("cilium.io", "v2", "ciliumnetworkpolicies"),
)
_SELECTOR: Final = f"{LABEL_MANAGED_BY}={MANAGED_BY}"
_RETRY_SECONDS: Final = 2.0


class Reconciler(Protocol):
    """What the queue calls: domicile.controllers.registry.Controllers, or a stand-in of a test."""

    async def reconcile(self, kind: str, name: str) -> float | None:
        """Reconcile one object; returns seconds until it wants to be looked at again, None where it doesn't."""


Build = Callable[[Kube, Settings, Callable[[str, str], None], Metrics], Reconciler]


def build_controllers(kube: Kube, settings: Settings, wake: Callable[[str, str], None], metrics: Metrics) -> Reconciler:
    """The operator's controllers; ``wake(kind, name)`` puts an object into the queue."""
    from domicile.controllers.registry import Controllers
    from domicile.controllers.tenant.view import Platform

    platform = Platform(
        settings.namespace,
        settings.image,
        settings.image_pull_policy,
        settings.sites,
        settings.door_image,
        settings.gateway_image,
        settings.outside,
        goes_out=bool(settings.way_out),
    )
    return Controllers(
        kube,
        Events(kube, settings.identity, metrics.posted),
        platform,
        credentials=settings.credentials_dir,
        keys=settings.keys_dir,
        identity=settings.identity_dir,
        models=settings.models_dir,
        resync_seconds=settings.resync_seconds,
        wake=wake,
        metrics=metrics,
        logins=forwarding.start(os.environ, "logins") if settings.way_out else None,
    )


class Watches:
    """Turns watch events into calls of ``add(kind, name)``, in kopf's thread."""

    def __init__(self, add: Callable[[str, str], None]) -> None:
        self._add = add
        self.registry = kopf.OperatorRegistry()
        self.settings = kopf.OperatorSettings()
        self._configure()
        for kind, plural in KINDS.items():
            kopf.on.event(GROUP, VERSION, plural, id=plural, registry=self.registry)(partial(self._own, kind))
        for group, version, plural in CHILDREN:
            kopf.on.event(group, version, plural, id=plural, registry=self.registry)(self._child)
        kopf.on.login(id="login", registry=self.registry)(_login)

    def _configure(self) -> None:
        settings = self.settings
        settings.posting.enabled = False
        settings.scanning.disabled = True
        settings.process.ultimate_exiting_timeout = None
        settings.watching.server_timeout = 300
        settings.watching.client_timeout = 310
        settings.watching.connect_timeout = 30
        settings.networking.request_timeout = 30
        # Handlers only note a key: a worker is done at once, and must not idle beside a thousand objects.
        settings.queueing.worker_limit = 256
        settings.queueing.idle_timeout = 0.05
        for child in CHILDREN:
            settings.watching.label_selectors[child] = _SELECTOR

    async def _own(self, kind: str, *, name: str, **_: Any) -> None:
        self._add(kind, name)

    async def _child(self, *, labels: Mapping[str, str], **_: Any) -> None:
        tenant = labels.get(LABEL_TENANT)
        if tenant:
            self._add("AssistantTenant", tenant)

    async def run(self) -> None:
        """Watch until cancelled. Raises what ended kopf, or RuntimeError where it ended by itself."""
        stop = threading.Event()
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        thread = threading.Thread(
            target=self._thread, args=(stop, asyncio.get_running_loop(), ended), name="watches", daemon=True
        )
        thread.start()
        try:
            await asyncio.shield(ended)
            raise RuntimeError("the watches ended by themselves")
        finally:
            stop.set()
            await asyncio.to_thread(thread.join, 10)

    def _thread(self, stop: threading.Event, loop: asyncio.AbstractEventLoop, ended: asyncio.Future[None]) -> None:
        error: BaseException | None = None
        try:
            asyncio.run(
                kopf.operator(
                    registry=self.registry,
                    settings=self.settings,
                    standalone=True,
                    clusterwide=True,
                    stop_flag=stop,
                )
            )
        except BaseException as e:  # noqa: BLE001
            error = e
        with suppress(RuntimeError):  # the loop has closed: nobody waits any more
            loop.call_soon_threadsafe(_settle, ended, error)


def _settle(future: asyncio.Future[None], error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error if isinstance(error, Exception) else RuntimeError(f"watches: {error!r}"))
        future.exception()


async def _login(**kwargs: Any) -> kopf.ConnectionInfo | None:
    """The same choice as Kube.connect, and like it without need of the cluster's DNS."""
    if os.environ.get("KUBECONFIG"):
        return kopf.login_with_kubeconfig(**kwargs)
    info = kopf.login_with_service_account(**kwargs)
    if info is None:
        return kopf.login_with_kubeconfig(**kwargs)
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    return dataclasses.replace(info, server=f"https://{f'[{host}]' if ':' in host else host}:{port}")


async def _tick(kube: Kube, queue: ReconcileQueue, settings: Settings, beat: Callable[[], None]) -> None:
    """List our objects again and again: what a silent watch has missed is seen within one round."""
    while True:
        try:
            for kind in KINDS:
                objects = await kube.list(API_VERSION, kind)
                for n, obj in enumerate(objects):
                    queue.resync(kind, obj["metadata"]["name"], settings.resync_seconds * n / len(objects))
            beat()
        except KubeError as error:
            log.warning("tick: %s", error)
        await asyncio.sleep(settings.resync_seconds)


async def _lead(kube: Kube, settings: Settings, health: Health, metrics: Metrics, build: Build) -> None:
    loop = asyncio.get_running_loop()

    async def reconcile(kind: str, name: str) -> float | None:
        return await controllers.reconcile(kind, name)

    queue = ReconcileQueue(
        reconcile, workers=settings.workers, observer=metrics, expected=(KubeError, StoreError, BackupError)
    )
    controllers = build(kube, settings, queue.add, metrics)

    def noted(kind: str, name: str) -> None:
        metrics.event(kind)
        queue.add(kind, name)

    def from_thread(kind: str, name: str) -> None:
        with suppress(RuntimeError):  # the loop has closed: nobody works any more
            loop.call_soon_threadsafe(noted, kind, name)

    watches = Watches(from_thread)
    health.watch("workers", queue.stuck_seconds)
    metrics.leading(True)
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(queue.run())
            group.create_task(_tick(kube, queue, settings, health.pulse("tick")))
            group.create_task(watches.run())
    finally:
        metrics.leading(False)
        health.forget()


async def _connected(kube: Kube) -> None:
    """Wait until the API server answers and knows our kinds."""
    while True:
        try:
            for kind in KINDS:
                await kube.list(API_VERSION, kind)
            return
        except NotFoundError:
            log.warning("the cluster doesn't know the kinds of %s: install the chart's CRDs (crds/)", GROUP)
        except KubeError as error:
            log.warning("not connected: %s", error)
        await asyncio.sleep(_RETRY_SECONDS)


async def run(settings: Settings, build: Build = build_controllers) -> None:
    """Run the operator until cancelled. Raises LeadershipLostError, or what broke the watches: the process must end."""
    health, metrics = Health(settings.silence_seconds), Metrics()
    kube = await Kube.connect()
    kube.on_write = metrics.wrote
    # A process that comes back under the same host name must not take its predecessor's lease for its own.
    identity = f"{settings.identity}_{secrets.token_hex(4)}"
    election = Election(kube, settings.namespace, settings.lease_name, identity)
    try:
        async with serving(health, settings.port) as port, scraped(settings, metrics.render) as scrape_port:
            log.info("serving /healthz and /readyz on port %d, /metrics on %s", port, scrape_port or "none")
            await _connected(kube)
            health.ready = True
            await election.run(lambda: _lead(kube, settings, health, metrics, build))
    finally:
        await kube.close()


class _JsonFormatter(logging.Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["error"] = self.formatException(record.exc_info)
        return json.dumps(entry)


def configure_logging() -> None:
    """JSON lines on standard error; kopf only from warnings on, for it logs every event."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("kopf").setLevel(logging.WARNING)


async def _until_signalled(settings: Settings, build: Build) -> int:
    work = asyncio.ensure_future(run(settings, build))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, work.cancel)
    try:
        await work
    except asyncio.CancelledError:
        return 0
    except LeadershipLostError as error:
        log.critical("the operator ends: %s", error)
    except Exception:
        log.exception("the operator ends")
    # Another may lead by now: a thread that hangs in a store must not keep this process alive.
    logging.shutdown()
    os._exit(1)


def main(build: Build = build_controllers) -> int:
    """Run the operator by the environment's settings; returns the exit code: 0 after SIGTERM, 1 on loss or failure."""
    configure_logging()
    return asyncio.run(_until_signalled(Settings(), build))


if __name__ == "__main__":
    sys.exit(main())
