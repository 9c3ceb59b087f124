"""Client, status, finalizers, events and election on a real API server."""

from __future__ import annotations

import asyncio
import itertools
import signal
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import yaml

from domicile.kube import client as client_module
from domicile.kube.client import (
    ConflictError,
    ForbiddenError,
    InvalidError,
    Kube,
    NotFoundError,
    UnavailableError,
)
from domicile.kube.election import Election, LeadershipLostError
from domicile.kube.events import Events
from domicile.kube.status import add_finalizer, patch_status, remove_finalizer
from tests.integration.apiserver import ApiServer, free_port, running

Object = dict[str, Any]
API = "domicile.dev/v1alpha1"
_names = itertools.count()


@pytest.fixture
async def kube(apiserver: ApiServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Kube]:
    monkeypatch.setenv("KUBECONFIG", str(apiserver.kubeconfig))
    client = await Kube.connect(user_agent=f"client-test-{next(_names)}-")
    yield client
    await client.close()


async def tenant(kube: Kube) -> Object:
    spec = {
        "zone": "eu",
        "assistants": [{"name": "a", "mode": "free", "image": "i"}],
        "model": {"providers": [{"name": "p"}], "model": "m"},
    }
    meta = {"name": f"client-{next(_names)}"}
    return await kube.create({"apiVersion": API, "kind": "AssistantTenant", "metadata": meta, "spec": spec})


def writes(apiserver: ApiServer, kube: Kube) -> int:
    return len(apiserver.audit(kube.user_agent))


async def test_absent_objects_are_none_and_their_deletion_is_no_error(kube: Kube) -> None:
    assert await kube.read("v1", "ConfigMap", "absent", "default") is None
    await kube.delete("v1", "ConfigMap", "absent", "default")


async def test_errors_are_ours(kube: Kube) -> None:
    obj = await tenant(kube)
    plain = {k: obj[k] for k in ("apiVersion", "kind", "spec")} | {"metadata": {"name": obj["metadata"]["name"]}}
    with pytest.raises(ConflictError, match="AlreadyExists"):
        await kube.create(plain)
    with pytest.raises(InvalidError, match="DNS label"):
        await kube.create({**plain, "metadata": {"name": "a.b"}})
    with pytest.raises(NotFoundError):
        await kube.request("GET", "/apis/nothing.example.org/v1/things")
    with pytest.raises(ValueError, match="needs its namespace"):
        await kube.read("v1", "Secret", "x")


async def test_delete_only_that_very_object(kube: Kube) -> None:
    obj = await tenant(kube)
    name = obj["metadata"]["name"]
    with pytest.raises(ConflictError):
        await kube.delete(API, "AssistantTenant", name, uid="00000000-0000-0000-0000-000000000000")
    await kube.delete(API, "AssistantTenant", name, uid=obj["metadata"]["uid"])
    assert await kube.read(API, "AssistantTenant", name) is None


async def test_lists_are_read_in_pages_by_label(kube: Kube, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "_PAGE", 2)
    for n in range(5):
        meta = {"name": f"paged-{n}", "namespace": "default", "labels": {"paged": "yes"}}
        await kube.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta})
    found = await kube.list("v1", "ConfigMap", labels="paged=yes")
    assert [o["metadata"]["name"] for o in found] == [f"paged-{n}" for n in range(5)]
    assert {(o["apiVersion"], o["kind"]) for o in found} == {("v1", "ConfigMap")}
    assert await kube.list("v1", "ConfigMap", "kube-system", labels="paged=yes") == []


async def test_a_dead_server_is_unavailable(apiserver: ApiServer, kube: Kube, monkeypatch: pytest.MonkeyPatch) -> None:
    config = yaml.safe_load(apiserver.kubeconfig.read_text())
    config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{free_port()}"
    path = apiserver.folder / "dead.kubeconfig"
    path.write_text(yaml.safe_dump(config))
    monkeypatch.setenv("KUBECONFIG", str(path))
    dead = await Kube.connect(timeout=2)
    with pytest.raises(UnavailableError, match="no answer"):
        await dead.read("v1", "ConfigMap", "x", "default")
    await dead.close()


async def test_a_token_without_rights_is_forbidden(
    apiserver: ApiServer, kube: Kube, monkeypatch: pytest.MonkeyPatch
) -> None:
    meta = {"name": "powerless", "namespace": "default"}
    await kube.create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta})
    token = apiserver.kubectl("create", "token", "powerless", "-n", "default").stdout.strip()
    config = yaml.safe_load(apiserver.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": token}
    path = apiserver.folder / "powerless.kubeconfig"
    path.write_text(yaml.safe_dump(config))
    monkeypatch.setenv("KUBECONFIG", str(path))
    powerless = await Kube.connect()
    with pytest.raises(ForbiddenError, match="system:serviceaccount:default:powerless"):
        await powerless.list("v1", "Secret")
    await powerless.close()


async def test_status_is_written_on_change_only_and_never_over_a_newer_object(apiserver: ApiServer, kube: Kube) -> None:
    obj = await tenant(kube)
    status = {"observedGeneration": 1, "site": "one", "conditions": []}
    written = await patch_status(kube, obj, status)
    assert (written["status"], written["spec"]) == (status, obj["spec"])
    before = writes(apiserver, kube)
    assert await patch_status(kube, written, dict(status)) is written
    assert writes(apiserver, kube) == before
    with pytest.raises(ConflictError):
        await patch_status(kube, obj, {"site": "two"})
    replaced = await patch_status(kube, written, {"observedGeneration": 1})
    assert replaced["status"] == {"observedGeneration": 1}
    assert replaced["metadata"]["generation"] == 1


async def test_finalizers(kube: Kube) -> None:
    obj = await tenant(kube)
    one = await add_finalizer(kube, obj, "domicile.dev/tenant")
    assert one["metadata"]["finalizers"] == ["domicile.dev/tenant"]
    assert await add_finalizer(kube, one, "domicile.dev/tenant") is one
    with pytest.raises(ConflictError):
        await add_finalizer(kube, obj, "domicile.dev/other")
    two = await add_finalizer(kube, one, "example.org/other")
    left = await remove_finalizer(kube, two, "domicile.dev/tenant")
    assert left["metadata"]["finalizers"] == ["example.org/other"]
    assert await remove_finalizer(kube, left, "domicile.dev/tenant") is left
    bare = await remove_finalizer(kube, left, "example.org/other")
    assert not bare["metadata"].get("finalizers")


async def test_events_are_told_once_even_by_two_processes(apiserver: ApiServer, kube: Kube) -> None:
    obj = await tenant(kube)
    first, second = Events(kube, "one"), Events(kube, "two")
    assert await first.post(obj, "Serving", "serves at one")
    assert not await first.post(obj, "Serving", "serves at one")
    assert not await second.post(obj, "Serving", "serves at one")
    assert await second.post(obj, "Stopped", "x" * 2000, type_="Warning")
    assert writes(apiserver, kube) == 1 + 3
    told = apiserver.kubectl(
        "events", "--for", f"assistanttenant.domicile.dev/{obj['metadata']['name']}", "-n", "default"
    )
    assert "serves at one" in told.stdout
    assert "Stopped" in told.stdout


async def lead_forever(started: asyncio.Event) -> None:
    started.set()
    await asyncio.Event().wait()


async def test_leaving_in_good_order_hands_over_at_once(apiserver: ApiServer, kube: Kube) -> None:
    first, second = asyncio.Event(), asyncio.Event()
    one = asyncio.create_task(Election(kube, "default", "orderly", "one").run(lambda: lead_forever(first)))
    await asyncio.wait_for(first.wait(), 5)
    two = asyncio.create_task(Election(kube, "default", "orderly", "two").run(lambda: lead_forever(second)))
    await asyncio.sleep(2.5)
    assert not second.is_set()
    begun = time.monotonic()
    one.cancel()
    await asyncio.wait_for(second.wait(), 10)
    assert time.monotonic() - begun < 4
    spec = apiserver.get("lease", "orderly", "-n", "default")["spec"]
    assert (spec["holderIdentity"], spec["leaseTransitions"], spec["leaseDurationSeconds"]) == ("two", 1, 15)
    two.cancel()
    await asyncio.gather(one, two, return_exceptions=True)


async def test_only_one_of_many_leads(kube: Kube) -> None:
    leading: list[str] = []

    async def lead(name: str) -> None:
        leading.append(name)
        await asyncio.Event().wait()

    names = [f"candidate-{n}" for n in range(8)]
    tasks = [
        asyncio.create_task(Election(kube, "default", "crowd", n).run(lambda n=n: lead(n)))  # type: ignore[misc]
        for n in names
    ]
    await asyncio.sleep(5)
    assert len(leading) == 1
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_the_end_of_the_work_ends_the_leadership(kube: Kube) -> None:
    async def fail() -> None:
        raise RuntimeError("work failed")

    with pytest.raises(RuntimeError, match="work failed"):
        await Election(kube, "default", "failing", "one").run(fail)
    lease = await kube.read("coordination.k8s.io/v1", "Lease", "failing", "default")
    assert lease is not None
    assert lease["spec"].get("holderIdentity", "") == ""


async def test_a_stolen_lease_ends_the_leadership(kube: Kube) -> None:
    started = asyncio.Event()
    election = Election(kube, "default", "stolen", "one", lease_seconds=4, renew_seconds=2, retry_seconds=0.3)
    task = asyncio.create_task(election.run(lambda: lead_forever(started)))
    await asyncio.wait_for(started.wait(), 5)
    path = "/apis/coordination.k8s.io/v1/namespaces/default/leases/stolen"
    patch = {"spec": {"holderIdentity": "thief"}}
    await kube.request("PATCH", path, patch, content_type=client_module.MERGE_PATCH)
    with pytest.raises(LeadershipLostError):
        await asyncio.wait_for(task, 6)
    assert not election.leading


@pytest.mark.parametrize("fault", ["killed", "frozen"])
async def test_leadership_is_lost_without_the_api_server(
    fault: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(tmp_path_factory.mktemp(fault), crds=False) as server:
        monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig))
        kube = await Kube.connect()
        started = asyncio.Event()
        election = Election(kube, "default", "lonely", "one", lease_seconds=7, renew_seconds=5, retry_seconds=0.5)
        task = asyncio.create_task(election.run(lambda: lead_forever(started)))
        await asyncio.wait_for(started.wait(), 10)
        if fault == "killed":
            server.stop("kube-apiserver", kill=True)
        else:
            server.signal("kube-apiserver", signal.SIGSTOP)
        begun = time.monotonic()
        with pytest.raises(LeadershipLostError):
            await asyncio.wait_for(task, 15)
        # At most: renew deadline, one hanging request, one retry period.
        assert time.monotonic() - begun < 5 + 4 + 0.5 + 1
        await kube.close()


def test_times_must_fit() -> None:
    with pytest.raises(ValueError, match="retry < renew < lease"):
        Election(None, "n", "l", "i", lease_seconds=5)  # type: ignore[arg-type]
