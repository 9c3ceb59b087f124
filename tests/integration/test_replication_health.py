"""What a tenant's ReplicationHealthy says on a real API server: held runs, accepted changes, volumes left behind."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from domicile.cli.main import main
from domicile.controllers.tenant.replication import cron_job_name
from tests.integration.test_tenant import Object, World, keys, world  # noqa: F401  fixtures

SYSTEM = "domicile-system"
CONTEXT = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def pod_spec(account: str, **more: Any) -> Object:
    return {
        "serviceAccountName": account,
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "replicator", "image": "i:1", "securityContext": CONTEXT}],
        **more,
    }


@pytest.fixture
def system(world: World) -> Iterator[World]:  # noqa: F811
    """The tenant's world with the site's replicator as the chart makes it."""
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "replicate", "namespace": SYSTEM}}
    world.apiserver.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}}, account)
    template = {"spec": {"template": {"spec": pod_spec("replicate", restartPolicy="Never")}}}
    world.apiserver.apply(
        {
            "apiVersion": "batch/v1",
            "kind": "CronJob",
            "metadata": {"name": cron_job_name("gcp-frankfurt"), "namespace": SYSTEM},
            "spec": {"schedule": "* * * * *", "jobTemplate": template},
        }
    )
    yield world
    world.apiserver.kubectl("delete", "jobs,pods", "--all", "-n", SYSTEM, "--force", "--grace-period=0")


def jobs(world: World, tenant: str) -> list[list[str]]:  # noqa: F811
    found = world.apiserver.get("jobs", "-n", SYSTEM)["items"]
    args = [job["spec"]["template"]["spec"]["containers"][0]["args"] for job in found]
    return [a for a in args if tenant in a]


async def snapshot(world: World, *args: str) -> int:  # noqa: F811
    """Ask as a person does; nobody runs the Job here, so the command gives up."""
    command = asyncio.create_task(asyncio.to_thread(main, ["snapshot", world.tenant, *args, "--timeout", "2"]))
    while not command.done():
        await world.reconcile()
        await asyncio.sleep(0.1)
    return await command


async def test_a_large_change_is_accepted_for_one_run(system: World) -> None:
    system.apply_zone()
    system.apply_tenant()
    await system.reconcile()
    tenant = (await system.status())["tenantId"]
    plain = ["replicate", "--tenant", tenant, "--site", "gcp-frankfurt"]
    assert await snapshot(system, "--accept-change") == 1
    assert jobs(system, tenant) == [[*plain, "--accept-change"]]
    system.controllers = system.operator()
    await system.reconcile()
    assert jobs(system, tenant) == [[*plain, "--accept-change"]]
    # The word is still on the object, and counts for no other run.
    assert await snapshot(system) == 1
    assert sorted(jobs(system, tenant)) == [plain, [*plain, "--accept-change"]]


async def test_a_held_run_is_said_with_what_to_do(system: World) -> None:
    system.apply_zone()
    system.apply_tenant()
    await system.reconcile()
    tenant = (await system.status())["tenantId"]
    meta = {"name": f"run-{tenant}", "namespace": SYSTEM, "labels": {"app.kubernetes.io/component": "replicator"}}
    system.apiserver.apply({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": pod_spec("replicate")})
    told = json.dumps({tenant: {"reason": "Held", "message": "more than half is gone"}})
    ended = {"exitCode": 5, "finishedAt": "2026-01-01T00:00:00Z", "message": told}
    one = {"name": "replicator", "image": "i", "imageID": "", "ready": False, "restartCount": 0}
    patch = {"status": {"containerStatuses": [one | {"state": {"terminated": ended}}]}}
    system.apiserver.kubectl(
        "patch", "pod", meta["name"], "-n", SYSTEM, "--subresource=status", "--type=merge", "-p", json.dumps(patch)
    )
    healthy = (await system.reconcile())["ReplicationHealthy"]
    assert (healthy["status"], healthy["reason"]) == ("False", "Held")
    assert healthy["message"].startswith("more than half is gone")
    assert f"kubectl domicile snapshot {system.tenant} --accept-change" in healthy["message"]


async def test_every_volume_that_nothing_replicates_is_named(world: World) -> None:  # noqa: F811
    world.apply_zone()
    volumes = [
        {"name": "cache", "emptyDir": {}},
        {"name": "own", "persistentVolumeClaim": {"claimName": "notes"}},
        {"name": "inline", "csi": {"driver": "files.example"}},
        {"name": "scratch", "ephemeral": {"volumeClaimTemplate": {"spec": claim("x")["spec"]}}},
    ]
    template = {"spec": {"volumes": volumes}}
    world.apply_tenant(assistants=[{"name": "helpdesk", "mode": "free", "image": "i:1", "podTemplate": template}])
    await world.reconcile()
    healthy = (await world.reconcile())["ReplicationHealthy"]
    assert (healthy["status"], healthy["reason"]) == ("False", "VolumeNotReplicated")
    assert "claim notes, volume inline (csi)." in healthy["message"]
    world.apply_tenant()
    await world.reconcile()
    assert (await world.reconcile())["ReplicationHealthy"]["reason"] == "AwaitingFirstSnapshot"
    # A claim counts though no pod of the tenant's assistants mounts it.
    pod = {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "1"}
    for name, owners in (("data", []), ("p-scratch", [pod])):
        meta = {"name": name, "namespace": world.tenant, "ownerReferences": owners}
        world.apiserver.apply({**claim(name), "metadata": meta})
    healthy = (await world.reconcile())["ReplicationHealthy"]
    assert healthy["reason"] == "VolumeNotReplicated"
    assert f"in namespace {world.tenant}: claim data." in healthy["message"]


def claim(name: str) -> Object:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec}
