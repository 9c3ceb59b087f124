"""One operator serves an EU and a US site in one cluster: every tenant stays on the nodes and stores of its site."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

import pytest

from tests.estate import NAMESPACE, Estate, Object, Talk, tenant, wait_for
from tests.testbed.process import TestbedError
from tests.testbed.testbed import Site, Testbed
from tests.testbed.topology import EU_AND_US_IN_ONE, STORE_PORT
from tests.testbed.zone import create_zone

EU, US = "gcp-frankfurt", "gcp-iowa"
REGIONS = {EU: "europe-west3", US: "us-central1"}
TENANTS = {"stadtwerke": ("eu", EU), "acme": ("us", US)}
REGION = "topology.kubernetes.io/region"
MARK = b"Rheinpegel-7431"
CONNECT = "import socket,sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 3)"
# What a user's pod template may say to get out of the region; only a template without a way home may wait.
LURES: dict[str, Object] = {
    "selector": {"nodeSelector": {REGION: REGIONS[US]}},
    "affinity": {
        "affinity": {
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [
                        {"matchExpressions": [{"key": REGION, "operator": "In", "values": [REGIONS[US]]}]}
                    ]
                }
            }
        }
    },
    "preference": {
        "affinity": {
            "nodeAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution": [
                    {
                        "weight": 100,
                        "preference": {
                            "matchExpressions": [{"key": REGION, "operator": "In", "values": [REGIONS[US]]}]
                        },
                    }
                ]
            }
        }
    },
    "node": {"nodeName": "gcp-worldwide-2"},
}
NO_WAY_HOME = {"selector", "affinity"}


@pytest.fixture(scope="module")
def estate() -> Iterator[Estate]:
    """One cluster with a node and a store in each of two regions, and a tenant of each zone that serves."""
    testbed = Testbed(EU_AND_US_IN_ONE, name="pinning")
    testbed.down()
    try:
        testbed.up()
        zones = (create_zone(testbed, "eu", (EU,)), create_zone(testbed, "us", (US,), jurisdiction="US"))
        estate = Estate(testbed, *zones)
        estate.install(operator={"replicas": 1, "regions": [REGIONS[EU]]})
        for name, (zone, site) in TENANTS.items():
            estate.site(site).apply(tenant(name, zone))
        for name, (_, site) in TENANTS.items():
            estate.wait_condition(estate.site(site), name, "Ready", "True", 120, "Serving")
        yield estate
    finally:
        testbed.down()


def node_of(site: Site) -> str:
    numbers = [n for n, spec in enumerate(site.cluster.spec.nodes, 1) if spec.region == site.spec.region]
    assert len(numbers) == 1
    return site.cluster.spec.node_name(numbers[0])


def nodes(pods: list[Object]) -> list[str]:
    """Where each pod is; "" where it waits."""
    return [p["spec"].get("nodeName", "") for p in pods]


def waits(pod: Object) -> bool:
    """The scheduler looked at it and found no node."""
    found = {c["type"]: c for c in pod["status"].get("conditions", [])}.get("PodScheduled", {})
    return found.get("reason") == "Unschedulable" and not pod["spec"].get("nodeName")


def alive(pods: list[Object]) -> list[Object]:
    return [p for p in pods if not p["metadata"].get("deletionTimestamp")]


def test_each_tenant_runs_on_its_regions_node(estate: Estate) -> None:
    for name, (_, site_name) in TENANTS.items():
        site = estate.site(site_name)
        assert nodes(estate.pods(site, name)) == [node_of(site)] * 2
        replication = estate.conditions(site, name)["ReplicationHealthy"]
        assert (replication["status"], replication["reason"]) == ("False", "NoPeer")
    operator = estate.pods(estate.site(EU), NAMESPACE, "app.kubernetes.io/component=operator")
    assert nodes(operator) == [node_of(estate.site(EU))]


def test_no_pod_template_leads_out_of_the_region(estate: Estate) -> None:
    site = estate.site(EU)
    assistants = [
        {
            "name": n,
            "mode": "free",
            "image": "domicile.dev/assistant:0.1.0",
            "replicas": 1,
            "podTemplate": {"spec": spec},
        }
        for n, spec in LURES.items()
    ]
    site.apply(tenant("lured", "eu", assistants=assistants))

    def settled() -> dict[str, Object] | None:
        pods = {p["metadata"]["labels"]["app.kubernetes.io/instance"]: p for p in estate.pods(site, "lured")}
        done = set(pods) == set(LURES) and all(p["spec"].get("nodeName") or waits(p) for p in pods.values())
        return pods if done else None

    pods = wait_for("every assistant placed or refused", settled, 60)
    assert {n: p["spec"].get("nodeName", "") for n, p in pods.items()} == {
        n: "" if n in NO_WAY_HOME else node_of(site) for n in LURES
    }


def test_without_a_node_at_home_pods_wait(estate: Estate) -> None:
    site = estate.site(EU)
    site.kubectl("cordon", node_of(site))
    try:
        site.kubectl("delete", "pods", "--all", "-n", "stadtwerke", "--wait=false")

        def replaced() -> list[Object] | None:
            pods = alive(estate.pods(site, "stadtwerke"))
            return pods if len(pods) == 2 and all(waits(p) for p in pods) else None

        wait_for("both pods waiting", replaced, 60)
        # The operator has seen it, and its look must not help them abroad.
        estate.wait_condition(site, "stadtwerke", "WorkloadReady", "False", 30, "Progressing")
        assert nodes(alive(estate.pods(site, "stadtwerke"))) == ["", ""]
    finally:
        site.kubectl("uncordon", node_of(site))
    estate.wait_condition(site, "stadtwerke", "Ready", "True", 90, "Serving")
    assert nodes(alive(estate.pods(site, "stadtwerke"))) == [node_of(site)] * 2


def test_nothing_of_a_tenant_reaches_the_other_zones_store(estate: Estate) -> None:
    home, abroad = estate.site(EU), estate.site(US)
    estate.put(home, estate.live_bucket(home, "stadtwerke"), "knowledge/river.md", b"# Level\n\nMark: " + MARK)
    talk = Talk("stadtwerke", "helpdesk")
    talk.start(home)
    assert talk.ask(home, "What mark has the level?", seconds=30).status == 200

    for pod in estate.pods(home, "stadtwerke"):
        inside = ("exec", "-n", "stadtwerke", pod["metadata"]["name"], "-c", "assistant", "--")
        connect = ("python3", "-c", CONNECT)
        home.kubectl(*inside, *connect, home.store.address, str(STORE_PORT))
        with pytest.raises(TestbedError, match=r"TimeoutError|timed out"):
            home.kubectl(*inside, *connect, abroad.store.address, str(STORE_PORT))

    # The counting sees a tenant's pods at their own store, and the shared operator at both.
    assert {p["status"]["podIP"] for p in estate.pods(home, "stadtwerke")} & estate.testbed.network.callers(home.name)
    assert addresses(estate, home, "operator") <= estate.testbed.network.callers(abroad.name)
    for site, other in ((home, abroad), (abroad, home)):
        _replicators_stay(estate, site)
        shared = addresses(estate, site, "operator") | addresses(estate, site, "lease-agent")
        host = estate.testbed.network.plan.host
        callers = estate.testbed.network.callers(other.name)
        foreign = {a for a in callers if a != host and a in _range(estate, site)}
        assert foreign <= shared, f"{foreign - shared} in {site.spec.region} spoke to the store of {other.name}"

    words = [estate.status(home, "stadtwerke")["tenantId"].encode(), MARK, b"stadtwerke"]
    kept = contents(abroad)
    assert any(estate.status(abroad, "acme")["tenantId"] in name for name in kept)
    for name, data in kept.items():
        assert not any(w in name.encode() or w in data for w in words), name
    assert estate.testbed.counters().outside.bytes == 0


def _replicators_stay(estate: Estate, site: Site) -> None:
    selector = f"app.kubernetes.io/component=replicator,domicile.dev/site={site.name}"

    def placed() -> list[str] | None:
        return [n for n in nodes(estate.pods(site, NAMESPACE, selector)) if n] or None

    assert set(wait_for(f"a run of the replicator of {site.name}", placed, 75)) == {node_of(site)}


def addresses(estate: Estate, site: Site, component: str) -> set[str]:
    pods = estate.pods(site, NAMESPACE, f"app.kubernetes.io/component={component}")
    return {p["status"]["podIP"] for p in pods}


def _range(estate: Estate, site: Site) -> set[str]:
    """Every address of the site's nodes and their pods."""
    plan = estate.testbed.network.plan
    blocks = [b for b in plan.addresses(site.name) if b != f"{site.store.address}/32"]
    return {str(a) for b in blocks for a in ipaddress.ip_network(b)}


def contents(site: Site) -> dict[str, bytes]:
    """Every object of a Google-like store by ``bucket/name``."""
    client = site.store.gcs()
    return {
        f"{b.name}/{o.name}": o.download_as_bytes() for b in client.list_buckets() for o in client.list_blobs(b.name)
    }
