"""Cilium's policies on a real API server with Cilium's schema. Cilium isn't there: nothing enforces them here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from domicile.controllers.tenant import by_name
from tests.integration.apiserver import ApiServer
from tests.integration.cilium_server import cilium_kinds
from tests.integration.test_tenant import World, keys, world  # noqa: F401  fixtures
from tests.unit import views
from tests.unit.test_by_name import CLOUD, DOOR, IDENTITY, LOCAL, placed, seen
from tests.unit.test_external_issuer import APPROVED, EXTERNAL

Object = dict[str, Any]
NAME = "allow-store-by-name"


@pytest.fixture
def cilium(apiserver: ApiServer) -> Iterator[None]:
    with cilium_kinds(apiserver):
        yield


def named(world: World) -> None:  # noqa: F811
    """The zone's own store has a name, as the test's server has another one."""
    endpoint = (world.gcp.stores.endpoint or "").replace("127.0.0.1", "localhost")
    assert "localhost" in endpoint
    stores = world.gcp.stores.model_copy(update={"endpoint": endpoint})
    world.apply_zone(world.gcp.model_copy(update={"stores": stores}), world.aws)


async def policies(world: World) -> dict[str, Object]:  # noqa: F811
    found = await world.kube.list_if_known(by_name.API, by_name.KIND, world.tenant)
    return {p["metadata"]["name"]: p for p in found or []}


async def test_a_store_is_opened_by_name_and_kept_so(world: World, cilium: None) -> None:  # noqa: F811
    named(world)
    world.apply_tenant()
    for _ in range(3):
        conditions = await world.reconcile()
    made = (await policies(world))[NAME]
    asked, reached = made["spec"]["egress"]
    assert reached["toFQDNs"] == asked["toPorts"][0]["rules"]["dns"] == [{"matchName": "localhost"}]
    assert made["spec"]["endpointSelector"]["matchLabels"] == {"app.kubernetes.io/component": "assistant"}
    assert conditions["NetworkIsolated"]["status"] == "True"
    before = world.apiserver.audit(world.kube.user_agent)
    await world.reconcile()
    assert world.apiserver.audit(world.kube.user_agent) == before
    for change in (
        {"spec": {"ingress": [{"fromEntities": ["all"]}]}},
        {"spec": {"egress": [{"toEntities": ["world"]}]}},
        {"specs": [{"endpointSelector": {}, "egress": [{"toEntities": ["world"]}]}]},
        {"spec": {"egress": [{**reached, "toFQDNs": [{"matchPattern": "*"}]}]}},
    ):
        world.apiserver.kubectl(
            "patch", "ciliumnetworkpolicy", NAME, "-n", world.tenant, "--type=merge", "-p", json.dumps(change)
        )
        await world.reconcile()
        mended = (await policies(world))[NAME]
        assert mended["spec"]["egress"] == [asked, reached]
        assert not mended["spec"].get("ingress")
        assert not mended.get("specs")
    world.apiserver.kubectl("delete", "ciliumnetworkpolicy", NAME, "-n", world.tenant)
    await world.reconcile()
    assert NAME in await policies(world)


async def test_what_is_no_longer_named_is_taken_away_and_others_policies_are_told(
    world: World,  # noqa: F811
    cilium: None,
) -> None:
    named(world)
    world.apply_tenant()
    await world.reconcile()
    everywhere = {"endpointSelector": {}, "egress": [{"toEntities": ["world"]}]}
    # One of them has the name of a policy of ours, which is of another kind.
    for name in ("theirs", "allow-dns"):
        meta = {"name": name, "namespace": world.tenant}
        world.apiserver.apply({"apiVersion": by_name.API, "kind": by_name.KIND, "metadata": meta, "spec": everywhere})
        isolated = (await world.reconcile())["NetworkIsolated"]
        assert (isolated["status"], isolated["reason"]) == ("False", "ForeignPolicies")
        assert name in isolated["message"]
    world.apiserver.kubectl("delete", "ciliumnetworkpolicy", "allow-dns", "-n", world.tenant)
    # As of a front door that the tenant had.
    meta |= {"name": "allow-door-identity-by-name", "labels": {"domicile.dev/tenant": world.tenant}}
    world.apiserver.apply({"apiVersion": by_name.API, "kind": by_name.KIND, "metadata": meta, "spec": everywhere})
    await world.reconcile()
    assert set(await policies(world)) == {NAME, "theirs"}
    world.apiserver.kubectl("delete", "ciliumnetworkpolicy", "theirs", "-n", world.tenant)
    assert (await world.reconcile())["NetworkIsolated"]["status"] == "True"


async def test_they_go_with_the_tenant(world: World, cilium: None) -> None:  # noqa: F811
    named(world)
    world.apply_tenant()
    await world.reconcile()
    assert set(await policies(world)) == {NAME}
    world.apiserver.kubectl("delete", "assistanttenant", world.tenant, "--wait=false")
    while await world.controllers.reconcile("AssistantTenant", world.tenant) is not None:
        continue
    assert await policies(world) == {}


async def test_a_cluster_that_gets_cilium_gets_the_policies(world: World, apiserver: ApiServer) -> None:  # noqa: F811
    named(world)
    world.apply_tenant()
    await world.reconcile()
    assert await policies(world) == {}
    with cilium_kinds(apiserver):
        await world.reconcile()
        assert set(await policies(world)) == {NAME}
    await world.reconcile()
    assert await policies(world) == {}


def test_all_of_their_shapes_are_ciliums(apiserver: ApiServer, cilium: None) -> None:
    apiserver.kubectl("create", "namespace", "bank")
    amazon = placed(CLOUD | {"accountId": "111122223333"}, cloud="aws", region="eu-west-1", identity=IDENTITY)
    foreign = placed(externalIssuers=[APPROVED | {"hosts": ["keys.example"]}])
    for view in (
        seen(amazon, spec=views.tenant_spec(access=LOCAL)),
        seen(foreign, spec=views.tenant_spec(access=DOOR | {"sso": {"external": EXTERNAL}})),
    ):
        for policy in by_name.policies(view):
            apiserver.kubectl(
                "apply", "--server-side", "--force-conflicts", "--validate=strict", "-f", "-", stdin=policy
            )
    assert len(apiserver.get("ciliumnetworkpolicies", "-n", "bank")["items"]) == 2
