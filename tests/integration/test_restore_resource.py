"""Restore on a real API server and real object stores: every step, every refusal, and a death at every write."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from domicile.api.common import FINALIZER_RESTORE
from domicile.api.sites import SiteFile
from domicile.api.zone import Site
from domicile.backup import binding, worker
from domicile.backup.stores import open_bucket
from domicile.backup.stores.base import Bucket, UnavailableError
from domicile.cli.main import main
from domicile.controllers import sites as sites_module
from domicile.controllers.registry import Controllers
from domicile.controllers.tenant.view import Platform
from domicile.kube.client import Kube, object_path
from domicile.kube.events import Events
from domicile.metrics import Metrics
from tests.integration.apiserver import ApiServer
from tests.integration.stores_fixture import StoreSites
from tests.integration.test_tenant import API, Object, World, keys  # noqa: F401  a fixture

_numbers = itertools.count(1000)
FIRST = {"knowledge/a.md": b"one", "conversations/1": b"said", "empty": b""}
SECOND = {"knowledge/a.md": b"two", "conversations/1": b"said", "conversations/2": b"more"}


class Estate(World):
    """A tenant at gcp-frankfurt with two snapshots at aws-frankfurt, and spare buckets in the pool."""

    def __init__(self, kube: Kube, admin: Kube, apiserver: ApiServer, stores: StoreSites, keys: Path) -> None:  # noqa: F811
        super().__init__(kube, apiserver, stores, keys)
        self.admin = admin
        self.number += next(_numbers) * 1000
        self.zone_name, self.tenant = f"zone{self.number}", f"tenant{self.number}"
        self.gcp, self.aws = self._site(stores.gcp), self._site(stores.aws)
        pool = [f"gcp-live-{self.number}", *(f"gcp-spare-{self.number}-{n}" for n in range(3))]
        for name in pool[1:]:
            open_bucket(self.gcp, name, self.credentials).create_bucket()
        live = self.gcp.stores.live.model_copy(update={"pool": pool})
        self.gcp = self.gcp.model_copy(update={"stores": self.gcp.stores.model_copy(update={"live": live})})
        self.names = (f"{self.tenant}-r{n}" for n in itertools.count())

    async def begin(self) -> None:
        self.apply_zone()
        self.apply_tenant()
        await self.reconcile()
        self.become(FIRST)
        await self.replicate()
        self.become(SECOND)
        await self.replicate()

    @property
    def live(self) -> Bucket:
        return open_bucket(self.gcp, f"gcp-live-{self.number}", self.credentials)

    def become(self, content: dict[str, bytes]) -> None:
        for info in self.live.list():
            if info.name not in content:
                self.live.delete(info.name)
        for name, data in content.items():
            self.live.write(name, iter((data,)), len(data))

    def content(self, bucket: Bucket | None = None) -> dict[str, bytes]:
        bucket = bucket or self.live
        return {info.name: bucket.read(info.name) for info in bucket.list()}

    async def replicate(self, **options: Any) -> None:
        site_file, tenant = SiteFile(zones=[self.served()]), (await self.status_now())["tenantId"]
        done = worker.run(
            site_file, self.credentials, self.keys, tenant, datetime.now(UTC), termination=self.keys / "none", **options
        )
        assert done == 0

    async def status_now(self) -> Object:
        found = await self.admin.read(API, "AssistantTenant", self.tenant)
        assert found
        return found["status"]

    async def order(self, **spec: Any) -> str:
        name = next(self.names)
        wanted = {"tenant": self.tenant, "into": "live", **spec}
        await self.admin.create({"apiVersion": API, "kind": "Restore", "metadata": {"name": name}, "spec": wanted})
        return name

    async def step(self, name: str, controllers: Controllers | None = None) -> Object:
        await (controllers or self.controllers).reconcile("Restore", name)
        return await self.restore(name)

    async def restore(self, name: str) -> Object:
        return (await self.admin.read(API, "Restore", name) or {}).get("status", {})

    async def carry_out(self, name: str) -> Object:
        """As the queue would: the Restore and the tenant in turns, to the end."""
        for _ in range(20):
            await self.controllers.reconcile("Restore", name)
            await self.controllers.reconcile("AssistantTenant", self.tenant)
            status = await self.restore(name)
            if status["phase"] in {"Restored", "Rehearsed", "Failed"}:
                return status
        raise AssertionError(status)

    async def replicas(self) -> int:
        found = await self.admin.read("apps/v1", "Deployment", "helpdesk", self.tenant)
        assert found
        return int(found["spec"]["replicas"])

    def pod(self, name: str, **labels: str) -> None:
        context = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        spec = {
            "serviceAccountName": "helpdesk",
            "automountServiceAccountToken": False,
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "a", "image": "i:1", "securityContext": context}],
        }
        meta = {
            "name": name,
            "namespace": self.tenant,
            "labels": {"app.kubernetes.io/component": "assistant", **labels},
        }
        self.apiserver.apply({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})

    async def finalizers(self, name: str) -> list[str]:
        found = await self.admin.read(API, "Restore", name)
        assert found
        return list(found["metadata"].get("finalizers", []))


def condition(status: Object, kind: str) -> Object:
    return next((c for c in status["conditions"] if c["type"] == kind), {})


@pytest.fixture
async def estate(
    apiserver: ApiServer,
    store_sites: StoreSites,
    keys: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Estate]:
    monkeypatch.setenv("KUBECONFIG", str(apiserver.kubeconfig))
    labels = {"topology.kubernetes.io/region": "europe-west3"}
    apiserver.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1", "labels": labels}})
    kube = await Kube.connect(user_agent=f"restore-test-{next(_numbers)}-")
    admin = await Kube.connect(user_agent="admin")
    made = Estate(kube, admin, apiserver, store_sites, keys)
    await made.begin()
    yield made
    await admin.close()
    await kube.close()


async def test_the_live_bucket_is_written_to_only_once_nothing_of_the_tenant_runs(estate: Estate) -> None:
    estate.pod("running")
    assert await estate.replicas() == 2
    name = await estate.order(seq=1, mode="exact")
    status = await estate.step(name)
    assert (status["phase"], status["holds"], status["seq"], status["keptAt"]) == ("Stopping", True, 1, "aws-frankfurt")
    assert await estate.finalizers(name) == [FINALIZER_RESTORE]
    for _ in range(3):
        await estate.step(name)
        conditions = await estate.reconcile()
    assert await estate.replicas() == 0
    assert (conditions["Ready"]["status"], conditions["WorkloadReady"]["reason"]) == ("False", "Restoring")
    assert ((await estate.restore(name))["phase"], estate.content()) == ("Stopping", SECOND)
    estate.apiserver.kubectl("delete", "pod", "running", "-n", estate.tenant, "--force", "--grace-period=0")
    status = await estate.step(name)
    assert status["phase"] == "Restored"
    assert estate.content() == FIRST
    assert {k: status[k] for k in ("objects", "skipped", "overwritten", "deleted")} == {
        "objects": 3,
        "skipped": 1,
        "overwritten": 1,
        "deleted": 1,
    }
    assert condition(status, "Ready")["status"] == "True"
    assert {c["type"] for c in status["conditions"]} == {"Ready"}
    conditions = await estate.reconcile()
    assert conditions["WorkloadReady"]["reason"] != "Restoring"
    assert (await estate.replicas(), "restore" in (await estate.status_now())) == (2, False)
    assert await estate.finalizers(name) == []
    await estate.step(name)
    assert await estate.restore(name) == status


async def test_a_restored_bucket_is_replicated_on_from(estate: Estate) -> None:
    await estate.carry_out(await estate.order(seq=1, mode="exact"))
    await estate.replicate()
    await estate.reconcile()
    assert (await estate.status_now())["lastCommit"]["seq"] == 3


async def test_beside_goes_into_a_fresh_bucket_that_never_becomes_live(estate: Estate) -> None:
    first = await estate.carry_out(await estate.order(seq=1, into="beside"))
    second = await estate.carry_out(await estate.order(into="beside", prefix="conversations/"))
    assert (first["phase"], second["phase"]) == ("Restored", "Restored")
    bucket = open_bucket(estate.gcp, first["bucket"], estate.credentials)
    assert estate.content(bucket) == FIRST
    other = open_bucket(estate.gcp, second["bucket"], estate.credentials)
    assert estate.content(other).keys() == {"conversations/1", "conversations/2"}
    assert len({first["bucket"], second["bucket"], estate.live.name}) == 3
    assert (estate.content(), await estate.replicas()) == (SECOND, 2)
    control = open_bucket(estate.gcp, estate.gcp.stores.control, estate.credentials)
    tenant = (await estate.status_now())["tenantId"]
    for anyone in (tenant, "f" * 32):
        with pytest.raises(binding.BucketTakenError):
            binding.bind_live(control, "f" * 32 if anyone == tenant else anyone, first["bucket"])
    assert binding.live_bucket(control, tenant) == estate.live.name
    await estate.carry_out(await estate.order(into="beside"))
    full = await estate.carry_out(await estate.order(into="beside"))
    assert full["phase"] == "Failed"
    assert "add buckets to its pool" in condition(full, "Stalled")["message"]


async def test_a_point_in_time(estate: Estate) -> None:
    first = await estate.carry_out(await estate.order(seq=1, into="beside"))
    status = await estate.carry_out(await estate.order(at=first["cutTime"], into="beside"))
    assert (status["seq"], status["cutTime"]) == (1, first["cutTime"])
    early = await estate.carry_out(await estate.order(at="2020-01-01T00:00:00Z", into="beside"))
    assert early["phase"] == "Failed"
    assert "keeps such a snapshot" in condition(early, "Ready")["message"]


@pytest.mark.parametrize(("into", "mode"), [("live", "exact"), ("live", "merge"), ("beside", "fresh")])
async def test_a_dry_run_writes_nothing(estate: Estate, into: str, mode: str) -> None:
    stored = [estate.objects(s) for s in (estate.gcp, estate.aws)]
    estate.pod("running")
    status = await estate.carry_out(await estate.order(seq=1, into=into, mode=mode, dryRun=True))
    assert (status["phase"], status["objects"], status["holds"]) == ("Rehearsed", 3, False)
    assert (status["overwritten"], status["deleted"]) == {"exact": (1, 1), "merge": (1, 0), "fresh": (0, 0)}[mode]
    assert [estate.objects(s) for s in (estate.gcp, estate.aws)] == stored
    assert (estate.content(), await estate.replicas()) == (SECOND, 2)


async def test_fresh_refuses_a_used_bucket_before_anything_stops(estate: Estate) -> None:
    status = await estate.carry_out(await estate.order(seq=1))
    assert (status["phase"], status["holds"]) == ("Failed", False)
    assert "Nothing was written" in condition(status, "Stalled")["message"]
    assert (estate.content(), await estate.replicas()) == (SECOND, 2)


async def test_merging_while_serving_stops_nothing(estate: Estate) -> None:
    estate.pod("running")
    status = await estate.carry_out(await estate.order(seq=1, mode="merge", whileServing=True))
    assert (status["phase"], status["holds"]) == ("Restored", False)
    assert estate.content() == SECOND | FIRST
    assert await estate.replicas() == 2


async def test_a_damaged_snapshot_is_found_before_the_tenant_is_stopped(estate: Estate) -> None:
    replica = open_bucket(estate.aws, estate.aws.stores.replica, estate.credentials)
    damaged = [info.name for info in replica.list() if "/packs/" in info.name]
    for name in damaged:
        data = replica.read(name)
        replica.write(name, iter((data[:-1] + bytes([data[-1] ^ 1]),)), len(data))
    status = await estate.carry_out(await estate.order(seq=1, mode="exact"))
    assert (status["phase"], status["holds"]) == ("Failed", False)
    message = condition(status, "Stalled")["message"]
    assert any(name.rpartition("/")[2] in message for name in damaged)
    assert not any(name in message for name in SECOND | FIRST)
    assert (estate.content(), await estate.replicas()) == (SECOND, 2)


async def test_a_site_that_does_not_hold_the_tenant_refuses(estate: Estate) -> None:
    platform = Platform(
        "domicile-system",
        "domicile.dev/domicile:0.1.0",
        "IfNotPresent",
        ("aws-frankfurt",),
        "domicile.dev/frontdoor:0.1.0",
        "domicile.dev/gateway:0.1.0",
    )
    peer = Controllers(
        estate.kube,
        Events(estate.kube, "peer"),
        platform,
        credentials=estate.credentials,
        identity=estate.identity,
        models=estate.identity,
        keys=estate.keys,
        resync_seconds=30,
        wake=lambda kind, name: None,
        metrics=Metrics(),
    )
    stored = [estate.objects(s) for s in (estate.gcp, estate.aws)]
    status = await estate.step(await estate.order(into="beside"), peer)
    assert status["phase"] == "Failed"
    assert "Site aws-frankfurt does not hold the tenant" in condition(status, "Stalled")["message"]
    nobody = await estate.step(await estate.order(tenant="nobody"))
    assert "no AssistantTenant nobody" in condition(nobody, "Stalled")["message"]
    assert [estate.objects(s) for s in (estate.gcp, estate.aws)] == stored


async def test_a_zone_that_is_not_compliant_is_refused(estate: Estate) -> None:
    estate.apply_zone(attestations=[])
    estate.controllers = estate.operator()
    stored = [estate.objects(s) for s in (estate.gcp, estate.aws)]
    for into in ("live", "beside"):
        status = await estate.step(await estate.order(into=into))
        assert (status["phase"], status["holds"]) == ("Failed", False)
        assert "Nothing was moved" in condition(status, "Stalled")["message"]
    assert [estate.objects(s) for s in (estate.gcp, estate.aws)] == stored


async def test_a_store_that_is_away_is_waited_for(estate: Estate, monkeypatch: pytest.MonkeyPatch) -> None:
    name = await estate.order(seq=1, mode="exact")
    dead = estate.aws.stores.model_copy(update={"endpoint": "http://127.0.0.1:1"})

    def away(site: Site, bucket: str, *rest: Any) -> Bucket:
        gone = site.name == "aws-frankfurt"
        return open_bucket(site.model_copy(update={"stores": dead}) if gone else site, bucket, *rest)

    named = await estate.order(seq=1, mode="exact", keptAt="aws-frankfurt")
    monkeypatch.setattr(sites_module, "open_bucket", away)
    assert "name the site" in condition(await estate.step(name), "Stalled")["message"]
    with pytest.raises(UnavailableError):
        await estate.step(named)
    assert condition(await estate.restore(named), "Reconciling")["reason"] == "StoreUnreachable"
    monkeypatch.setattr(sites_module, "open_bucket", open_bucket)
    assert (await estate.carry_out(named))["phase"] == "Restored"
    assert estate.content() == FIRST


class FaultyBucket:
    """A live bucket that takes some writes and then fails for good."""

    def __init__(self, bucket: Bucket, left: list[int]) -> None:
        self._bucket, self._left = bucket, left

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._bucket, name)
        if name not in {"create", "write"}:
            return found

        def counted(*args: Any, **options: Any) -> Any:
            self._left[0] -= 1
            if self._left[0] < 0:
                raise sites_module.StoreError("the disk of the store is full")
            return found(*args, **options)

        return counted


async def test_a_half_restored_bucket_is_not_served_until_a_person_decides(
    estate: Estate, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = [1]

    def faulty(site: Site, bucket: str, *rest: Any) -> Any:
        opened = open_bucket(site, bucket, *rest)
        return FaultyBucket(opened, left) if bucket == estate.live.name else opened

    monkeypatch.setattr(sites_module, "open_bucket", faulty)
    name = await estate.order(seq=1, mode="exact")
    status = await estate.carry_out(name)
    monkeypatch.setattr(sites_module, "open_bucket", open_bucket)
    assert (status["phase"], status["holds"]) == ("Failed", True)
    assert f"delete Restore {name}" in condition(status, "Stalled")["message"]
    assert "may be half restored" in condition(status, "Stalled")["message"]
    await estate.reconcile()
    assert (await estate.replicas(), (await estate.status_now())["restore"]) == (0, name)
    # Another Restore mends it and lets the tenant run.
    again = await estate.carry_out(await estate.order(seq=1, mode="exact"))
    assert (again["phase"], estate.content()) == ("Restored", FIRST)
    await estate.reconcile()
    assert await estate.replicas() == 2


async def test_a_deleted_restore_lets_the_tenant_run(estate: Estate) -> None:
    estate.pod("running")
    name = await estate.order(seq=1, mode="exact")
    for _ in range(2):
        await estate.step(name)
        await estate.reconcile()
    assert await estate.replicas() == 0
    estate.apiserver.kubectl("delete", "restore", name, "--wait=false")
    assert await estate.finalizers(name) == [FINALIZER_RESTORE]
    await estate.controllers.reconcile("Restore", name)
    assert await estate.kube.read(API, "Restore", name) is None
    await estate.reconcile()
    assert (await estate.replicas(), estate.content()) == (2, SECOND)
    assert "restore" not in (await estate.status_now())


async def test_of_two_restores_into_one_bucket_the_second_waits(estate: Estate) -> None:
    estate.pod("running")
    first, second = [await estate.order(seq=n, mode="exact") for n in (1, 2)]
    for _ in range(3):
        for name in (first, second):
            await estate.step(name)
        await estate.reconcile()
    assert f"Restore {first} writes" in condition(await estate.restore(second), "Ready")["message"]
    estate.apiserver.kubectl("delete", "pod", "running", "-n", estate.tenant, "--force", "--grace-period=0")
    assert (await estate.step(first))["phase"] == "Restored"
    assert estate.content() == FIRST
    assert (await estate.carry_out(second))["phase"] == "Restored"
    assert estate.content() == SECOND


async def test_what_the_tenant_said_of_an_earlier_restore_does_not_count_for_the_next(estate: Estate) -> None:
    first = await estate.order(seq=1, mode="exact")
    for _ in range(3):
        await estate.step(first)
        await estate.reconcile() if (await estate.restore(first))["phase"] == "Stopping" else None
    assert (await estate.restore(first))["phase"] == "Restored"
    # A reconcile that has seen the first one end may be about to start pods.
    second = await estate.order(seq=2, mode="exact")
    for _ in range(4):
        await estate.step(second)
    assert ((await estate.restore(second))["phase"], (await estate.status_now())["restore"]) == ("Stopping", second)
    await estate.reconcile()
    assert (await estate.step(second))["phase"] == "Restored"


async def test_a_suspended_tenant_is_stopped_by_a_person(estate: Estate) -> None:
    estate.pod("running")
    estate.apply_tenant(suspend=True)
    await estate.reconcile()
    name = await estate.order(seq=1, mode="exact")
    for _ in range(3):
        status = await estate.step(name)
        await estate.reconcile()
    assert condition(status, "Ready")["reason"] == "TenantSuspended"
    estate.apiserver.kubectl("delete", "pod", "running", "-n", estate.tenant, "--force", "--grace-period=0")
    assert (await estate.carry_out(name))["phase"] == "Restored"
    estate.apply_tenant(suspend=False)
    await estate.reconcile()
    assert (await estate.replicas(), estate.content()) == (2, FIRST)


class DeathError(BaseException):
    """The process died here."""


class Dying:
    """Counts the writes of a process, to stores and API server, and dies right before one of them."""

    def __init__(self, step: int) -> None:
        self.left = step

    def tick(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise DeathError

    def bucket(self, site: Site, name: str, *rest: Any) -> Any:
        opened, dying = open_bucket(site, name, *rest), self

        class Counted:
            def __getattr__(self, operation: str) -> Any:
                found = getattr(opened, operation)
                if operation not in {"create", "write", "delete"}:
                    return found

                def counted(*args: Any, **options: Any) -> Any:
                    dying.tick()
                    return found(*args, **options)

                return counted

        return Counted()

    def kube(self, kube: Kube) -> Any:
        request = kube.request

        async def counted(method: str, path: str, *args: Any, **options: Any) -> Object:
            if method != "GET" and "/events" not in path:
                self.tick()
            return await request(method, path, *args, **options)

        return counted


@pytest.mark.parametrize("into", ["live", "beside"])
async def test_an_operator_that_dies_at_any_write_is_succeeded(
    estate: Estate, into: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    died = 0
    for step in itertools.count(1):
        estate.become(SECOND)
        name = await estate.order(seq=1, into=into, mode="exact" if into == "live" else "fresh")
        dying = Dying(step)
        with monkeypatch.context() as patch:
            patch.setattr(sites_module, "open_bucket", dying.bucket)
            patch.setattr(estate.kube, "request", dying.kube(estate.kube))
            estate.controllers = estate.operator()
            try:
                await estate.carry_out(name)
                died_now = False
            except DeathError:
                died_now = True
        estate.controllers = estate.operator()
        status = await estate.carry_out(name)
        assert status["phase"] == "Restored", (step, status)
        if into == "live":
            await estate.reconcile()
            assert (estate.content(), await estate.replicas()) == (FIRST, 2), step
        else:
            bucket = open_bucket(estate.gcp, status["bucket"], estate.credentials)
            assert estate.content(bucket) == FIRST, step
            assert estate.content() == SECOND
            control = open_bucket(estate.gcp, estate.gcp.stores.control, estate.credentials)
            # So that the pool lasts: the test's own housekeeping.
            for info in [*control.list("beside/"), *control.list(f"pool/{bucket.name}")]:
                control.delete(info.name)
            for info in list(bucket.list()):
                bucket.delete(info.name)
        assert await estate.finalizers(name) == []
        if not died_now:
            break
        died += 1
    assert died >= 8


async def test_an_operator_that_ends_leaves_nobody_writing(estate: Estate, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()
    writes: list[str] = []

    def noted(site: Site, bucket: str, *rest: Any) -> Any:
        opened = open_bucket(site, bucket, *rest)
        if bucket != estate.live.name:
            return opened

        class Slow:
            def __getattr__(self, operation: str) -> Any:
                found = getattr(opened, operation)
                if operation not in {"create", "write", "delete"}:
                    return found

                def slow(*args: Any, **options: Any) -> Any:
                    loop.call_soon_threadsafe(begun.set)
                    result = found(*args, **options)
                    writes.append(operation)
                    return result

                return slow

        return Slow()

    estate.become({f"{n:03}": b"%d" % n for n in range(200)})
    await estate.replicate(accept_change=True)
    estate.become({})
    monkeypatch.setattr(sites_module, "open_bucket", noted)
    name = await estate.order(mode="exact")
    while (await estate.restore(name)).get("phase") != "Stopping" or "restore" not in (await estate.status_now()):
        await estate.step(name)
    await estate.reconcile()
    work = asyncio.ensure_future(estate.controllers.reconcile("Restore", name))
    await begun.wait()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    done = len(writes)
    stored = estate.content()
    estate.controllers = estate.operator()
    assert len(writes) == done < 200
    assert estate.content() == stored
    assert (await estate.carry_out(name))["phase"] == "Restored"
    assert len(estate.content()) == 200


async def test_the_command_orders_and_follows(estate: Estate, capsys: pytest.CaptureFixture[str]) -> None:
    async def order(*args: str) -> int:
        before = {r["metadata"]["name"] for r in await estate.kube.list(API, "Restore")}
        command = asyncio.create_task(asyncio.to_thread(main, ["restore", estate.tenant, *args, "--timeout", "60"]))
        while not command.done():
            for restore in await estate.kube.list(API, "Restore"):
                if restore["metadata"]["name"] not in before:
                    await estate.controllers.reconcile("Restore", restore["metadata"]["name"])
                    await estate.reconcile()
            await asyncio.sleep(0.1)
        return await command

    assert await order("--into", "live", "--seq", "1", "--mode", "exact", "--requested-by", "on-call") == 0
    told = capsys.readouterr().out
    assert "snapshot 1 of" in told
    assert "1 overwritten, 1 deleted" in told
    assert estate.content() == FIRST
    assert await order("--into", "beside", "--seq", "9") == 1
    assert "keeps such a snapshot" in capsys.readouterr().err
    assert await asyncio.to_thread(main, ["restore", estate.tenant, "--into", "beside", "--seq", "0"]) == 1
    assert "spec.seq" in capsys.readouterr().err
    assert await asyncio.to_thread(main, ["restore", estate.tenant, "--beside", "x"]) == 2
    assert "--into live or --into beside" in capsys.readouterr().err


async def test_the_status_is_kept_though_others_touch_the_object(estate: Estate) -> None:
    name = await estate.order(into="beside")
    original = estate.kube.request

    async def touching(method: str, path: str, *args: Any, **options: Any) -> Object:
        if method == "PUT" and path == object_path(
            {"apiVersion": API, "kind": "Restore", "metadata": {"name": name}}, "status"
        ):
            estate.apiserver.kubectl("annotate", "restore", name, f"touched={next(_numbers)}", "--overwrite")
            estate.kube.request = original  # type: ignore[method-assign]
        return await original(method, path, *args, **options)

    estate.kube.request = touching  # type: ignore[method-assign]
    assert (await estate.carry_out(name))["phase"] == "Restored"
