"""How pods reach their live bucket where the installation goes through the site's way out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from domicile.api.conditions import ConditionType
from domicile.controllers.egress.accounts import Destination
from domicile.controllers.tenant import builders, by_name, network, plan, policies, reach, way
from domicile.controllers.tenant.view import TenantView
from tests.unit import views
from tests.unit.test_by_name import placed

Object = dict[str, Any]
BUCKET = "live-one"
CLOUD: Object = {"profile": "cloud", "endpoint": None}
NETWORKS = ["10.20.0.0/26"]
NAMED = {"endpoint": "https://s3.bank.example:9000", "endpointCidrs": NETWORKS}
AMAZON = CLOUD | {"accountId": "123456789012"}


def seen(stores: Object, *, goes_out: bool = True, bucket: str = BUCKET, **place: Any) -> TenantView:
    made = views.view(zone=placed(stores, **place), live_bucket=bucket, by_name=())
    return replace(made, platform=replace(made.platform, goes_out=goes_out))


@pytest.mark.parametrize(
    ("view", "found"),
    [
        (seen(CLOUD), ("storage.europe-west3.rep.googleapis.com", 443, ())),
        (
            seen(AMAZON, cloud="aws", region="eu-central-1"),
            (f"{BUCKET}.s3.eu-central-1.amazonaws.com", 443, ()),
        ),
        (
            seen(AMAZON, bucket="live.one", cloud="aws", region="eu-central-1"),
            ("s3.eu-central-1.amazonaws.com", 443, ()),
        ),
        (seen(NAMED), ("s3.bank.example", 9000, tuple(NETWORKS))),
        (seen(NAMED | {"endpointCidrs": ["169.254.0.0/16"]}), None),
    ],
    ids=["Google", "Amazon", "Amazon, by path", "a name", "networks where nothing may be"],
)
def test_the_list_has_the_buckets_host_alone(view: TenantView, found: tuple[str, int, tuple[str, ...]] | None) -> None:
    assert way.destinations(view) == ((Destination(*found),) if found else ())


def _containers(view: TenantView) -> tuple[Object, Object, Object]:
    """Guard, assistant and the pod."""
    assert view.zone
    pod = builders.deployment(view, view.spec.assistants[0], view.zone)["spec"]["template"]["spec"]
    return pod["initContainers"][0], pod["containers"][0], pod


def _env(container: Object) -> dict[str, str]:
    return {e["name"]: e["value"] for e in container["env"]}


def _store_policy(view: TenantView) -> list[Object]:
    [policy] = [p for p in network.network_policies(view) if p["metadata"]["name"] == "allow-store"]
    found: list[Object] = policy["spec"]["egress"]
    return found


def test_the_guard_leads_and_no_address_of_the_store_is_open() -> None:
    view = seen(NAMED)
    guard, assistant, pod = _containers(view)
    assert _env(guard)["DOMICILE_WAY_OUT"] == "domicile-egress.domicile-system.svc:3129"
    assert _env(assistant)["HTTPS_PROXY"] == f"http://127.0.0.1:{_env(guard)['DOMICILE_WAY_OUT_PORT']}"
    [mount] = [m for m in guard["volumeMounts"] if m["name"] == way.SECRET]
    assert _env(guard)["DOMICILE_WAY_OUT_ACCOUNT"] == f"{mount['mountPath']}/egress"
    assert way.SECRET not in {m["name"] for m in assistant["volumeMounts"]}, "the account is the guard's alone"
    [volume] = [v for v in pod["volumes"] if v["name"] == way.SECRET]
    assert volume["secret"]["secretName"] == way.SECRET
    [rule] = _store_policy(view)
    [peer] = rule["to"]
    assert peer["podSelector"]["matchLabels"] == {"app.kubernetes.io/component": "egress"}
    assert peer["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "domicile-system"}
    assert rule["ports"] == [{"port": 3129, "protocol": "TCP"}]
    assert "allow-store-by-name" not in {p["metadata"]["name"] for p in by_name.policies(view)}
    places = {p.name: p.open_to for p in reach.checks(view)[0].places}
    assert places["store"] == frozenset()
    assert reach.ASSISTANT in places["way out"]


@pytest.mark.parametrize(
    "view",
    [seen(NAMED, goes_out=False), seen({"endpoint": "http://s3.bank.example:9000", "endpointCidrs": NETWORKS})],
    ids=["no way out", "in the clear"],
)
def test_others_reach_it_themselves(view: TenantView) -> None:
    guard, assistant, pod = _containers(view)
    assert not [name for name in (*_env(guard), *_env(assistant)) if "WAY_OUT" in name or "PROXY" in name]
    assert way.SECRET not in {v["name"] for v in pod["volumes"]}
    assert way.destinations(view) == ()
    assert [to["ipBlock"]["cidr"] for rule in _store_policy(view) for to in rule["to"]] == NETWORKS
    places = {p.name: p.open_to for p in reach.checks(view)[0].places}
    assert reach.ASSISTANT in places["store"]
    assert reach.ASSISTANT not in places["way out"]


def test_its_addresses_need_not_be_known() -> None:
    stores = NAMED | {"endpointCidrs": []}
    reasons = {
        goes_out: {v.reason for v in policies.judge(replace(seen(stores, goes_out=goes_out), by_name=None))}
        for goes_out in (False, True)
    }
    assert "StoreAddressUnknown" in reasons[False]
    assert "StoreAddressUnknown" not in reasons[True]
    judged = [v for v in policies.judge(seen(stores)) if v.type is ConditionType.NETWORK_ISOLATED]
    assert [v.status for v in judged] == ["True"]


def test_networks_where_nothing_may_be_are_told() -> None:
    judged = policies.judge(seen(NAMED | {"endpointCidrs": ["169.254.0.0/16"]}))
    [verdict] = [v for v in judged if v.type is ConditionType.NETWORK_ISOLATED]
    assert (verdict.status, verdict.reason) == ("False", "StoreAddressRefused")
    assert "169.254.0.0/16" in verdict.message


def test_a_plan_shows_it() -> None:
    view = seen(NAMED)
    assert view.zone
    told = plan.plan(view.name, view.spec, view.zone, view.platform, view.now)
    assert (way.SECRET, "Secret") in {(o["metadata"]["name"], o["kind"]) for o in told.objects}
    assert any(f.source == "helpdesk" and "egress" in f.target and f.port == "3129/TCP" for f in told.flows)
