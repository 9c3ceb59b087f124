"""The testbed is what it claims to be: enforced policies, cuts, outages, and nothing that gets out."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.testbed import cgroups, instance
from tests.testbed.process import TestbedError, eventually
from tests.testbed.testbed import Site, Testbed
from tests.testbed.topology import EU_AND_US_IN_ONE, STORE_PORT, Topology, one_site

STRAY = "198.51.100.7"  # TEST-NET-2 (RFC 5737)
NAMESPACE = "walled"
CONNECT = "import socket,sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 3)"
# Asks twice over one connection, the second time when told to; says what came back.
KEEP_ALIVE = f"""
import http.client, sys
c = http.client.HTTPConnection(sys.argv[1], {STORE_PORT}, timeout=3)
for _ in range(2):
    c.request("GET", sys.argv[2])
    try: c.getresponse().read(); print("answered", flush=True)
    except TimeoutError: print("silence", flush=True)
    sys.stdin.readline()
"""


def _reaches(site: Site, address: str, port: int) -> bool:
    try:
        site.exec_client("python3", "-c", CONNECT, address, str(port))
    except TestbedError:
        return False
    return True


def test_nodes_carry_their_region_and_zone(testbed: Testbed) -> None:
    for site in testbed.sites.values():
        for node in json.loads(site.kubectl("get", "nodes", "-o", "json"))["items"]:
            assert node["metadata"]["labels"]["topology.kubernetes.io/region"] == site.spec.region
            assert node["metadata"]["labels"]["topology.kubernetes.io/zone"].startswith(site.spec.region)


def test_pods_resolve_names_and_reach_services(testbed: Testbed) -> None:
    code = "import urllib.request as u; print(u.urlopen('http://provider.models.svc:8080/v1/models', timeout=5).status)"
    for site in testbed.sites.values():
        assert site.exec_client("python3", "-c", code).strip() == "200"


def _pod(name: str, reference: str) -> dict[str, Any]:
    container = {
        "name": "main",
        "image": reference,
        "imagePullPolicy": "Never",
        "command": ["python3", "-m", "http.server", "8080", "--directory", "/var"],
        "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
    }
    spec = {"containers": [container], "terminationGracePeriodSeconds": 0}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"app": name}},
        "spec": spec,
    }


@pytest.fixture(scope="module")
def walled(testbed: Testbed) -> Iterator[Site]:
    """A site with a namespace of two servers, ``near`` and ``far``."""
    site = testbed.site("gcp-frankfurt")
    reference = testbed.images.built["client"][1]
    site.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    site.apply(_pod("near", reference), _pod("far", reference))
    site.kubectl("wait", "-n", NAMESPACE, "--for=condition=Ready", "pod", "--all", "--timeout=60s")
    yield site
    site.kubectl("delete", "namespace", NAMESPACE)


def _address(site: Site, pod: str) -> str:
    return site.kubectl("get", "pod", "-n", NAMESPACE, pod, "-o", "jsonpath={.status.podIP}")


def _policy(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "test", "namespace": NAMESPACE},
        "spec": spec,
    }


def test_network_policies_are_enforced(walled: Site) -> None:
    near, far = _address(walled, "near"), _address(walled, "far")
    assert _reaches(walled, near, 8080)
    walled.apply(_policy(podSelector={}, policyTypes=["Ingress"]))
    eventually(lambda: not _reaches(walled, near, 8080), "closed door", 10)
    assert not _reaches(walled, far, 8080)
    clients = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "clients"}}}
    rule = {"from": [clients], "ports": [{"port": 8080}]}
    walled.apply(_policy(podSelector={"matchLabels": {"app": "near"}}, policyTypes=["Ingress"], ingress=[rule]))
    eventually(lambda: _reaches(walled, near, 8080), "opening for clients", 10)
    inside = ["exec", "-n", NAMESPACE, "far", "--", "python3", "-c", CONNECT, near, "8080"]
    with pytest.raises(TestbedError, match="timed out"):
        walled.kubectl(*inside)
    walled.kubectl("delete", "networkpolicy", "-n", NAMESPACE, "test")
    eventually(lambda: walled.kubectl(*inside) == "", "open door", 10)


def test_a_cut_link_stalls_open_connections_and_heals(testbed: Testbed) -> None:
    near, far = testbed.site("aws-frankfurt"), testbed.site("gcp-frankfurt")
    command = [*near.nodes[0].enter(), sys.executable, "-c", KEEP_ALIVE, far.store.address, "/storage/v1/b?project=p"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as talk:
        assert talk.stdin
        assert talk.stdout
        assert talk.stdout.readline() == "answered\n"
        testbed.cut(near.name, far.name)
        try:
            before = testbed.counters().to_store(far.name, near.name)
            talk.stdin.write("\n")
            talk.stdin.flush()
            assert talk.stdout.readline() == "silence\n"
            assert not _reaches(near, far.store.address, STORE_PORT)
            assert testbed.counters().to_store(far.name, near.name) == before
            assert _reaches(near, near.store.address, STORE_PORT)
        finally:
            testbed.heal(near.name, far.name)
    assert testbed.network.cuts() == []
    assert _reaches(near, far.store.address, STORE_PORT)
    assert testbed.counters().to_store(far.name, near.name).packets > before.packets


def test_a_single_store_can_be_cut_off(testbed: Testbed) -> None:
    site = testbed.site("gcp-frankfurt")
    testbed.cut(site.name, f"store:{site.name}")
    try:
        assert testbed.network.cuts() == ["gcp-frankfurt | store:gcp-frankfurt"]
        assert not _reaches(site, site.store.address, STORE_PORT)
    finally:
        testbed.heal(site.name, f"store:{site.name}")
    assert _reaches(site, site.store.address, STORE_PORT)


def test_stray_packets_are_counted_and_answered_by_nobody(testbed: Testbed) -> None:
    site = testbed.site("gcp-frankfurt")
    before = testbed.counters().outside
    code = f"import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(bytes(100), ('{STRAY}', 9))"
    site.exec_client("python3", "-c", code)
    stray = testbed.counters().outside - before
    assert (stray.packets, stray.bytes) == (1, 128)
    assert any(flow.endswith(STRAY) for flow in testbed.network.outside_flows())
    assert not _reaches(site, STRAY, 443)


def test_names_outside_the_cluster_are_not_asked_of_anybody(testbed: Testbed) -> None:
    before = testbed.counters().outside
    with pytest.raises(TestbedError, match="gaierror"):
        testbed.site("gcp-frankfurt").exec_client("python3", "-c", "import socket; socket.gethostbyname('example.org')")
    assert testbed.counters().outside == before


def test_a_killed_site_is_silent_and_returns_with_its_disks(testbed: Testbed) -> None:
    near, far = testbed.site("gcp-frankfurt"), testbed.site("aws-frankfurt")
    s3 = far.store.s3()
    s3.create_bucket(Bucket="kept", CreateBucketConfiguration={"LocationConstraint": far.spec.region})
    s3.put_object(Bucket="kept", Key="object", Body=b"kept")
    query = ["get", "pods", "-n", "clients", "-o", "jsonpath={.items[0].metadata.uid}"]
    node = ["get", "nodes", "-o", "jsonpath={.items[0].metadata.uid}"]
    uids = far.kubectl(*query), far.kubectl(*node)
    testbed.kill(far.name)
    try:
        assert cgroups.pids(far.cluster.group) == []
        with pytest.raises(TestbedError, match="timed out"):
            near.exec_client("python3", "-c", CONNECT, far.store.address, str(STORE_PORT))
    finally:
        testbed.start(far.name)
    assert (far.kubectl(*query), far.kubectl(*node)) == uids
    assert s3.get_object(Bucket="kept", Key="object")["Body"].read() == b"kept"
    restarts = "jsonpath={.items[0].status.containerStatuses[0].restartCount}"
    assert int(far.kubectl("get", "pods", "-n", "clients", "-o", restarts)) >= 1
    assert _reaches(near, far.store.address, STORE_PORT)


def test_a_container_can_be_paused(walled: Site) -> None:
    near = _address(walled, "near")
    fetch = ["python3", "-c", f"import urllib.request as u; u.urlopen('http://{near}:8080', timeout=2)"]
    pid = walled.cluster.container_pid(NAMESPACE, "near", "main")
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(TestbedError, match="timed out"):
            walled.exec_client(*fetch)
    finally:
        os.kill(pid, signal.SIGCONT)
    walled.exec_client(*fetch)


def test_what_a_dead_run_left_is_recognised_and_removed() -> None:
    dead = Testbed(Topology((one_site("lost", "aws", "eu-central-1"),)), name="dead", images=(), quiet=True)
    dead.up()
    index = dead.instance.index
    cgroups.kill(dead.instance.group)
    owner = dead.instance.owner
    # Another checkout's, so that only its death allows to touch it.
    (instance.REGISTER / str(index) / "owner.json").write_text(json.dumps({**owner, "checkout": "/nowhere"}))
    assert instance.Instance(index).leftovers()
    probe = instance.claim("probe")
    try:
        assert probe.index == index or instance.Instance(index).leftovers() == []
    finally:
        probe.remove()
    assert instance.Instance(index).leftovers() == []


def test_one_cluster_serves_two_regions() -> None:
    testbed = Testbed(EU_AND_US_IN_ONE, name="worldwide", images=("client", "model-provider"), quiet=True)
    try:
        testbed.up()
        cluster = testbed.clusters["gcp-worldwide"]
        regions = "jsonpath={.items[*].metadata.labels.topology\\.kubernetes\\.io/region}"
        assert cluster.kubectl("get", "nodes", "-o", regions).split() == ["europe-west3", "us-central1"]
        where = {}
        for site in testbed.sites.values():
            bucket = site.store.gcs().create_bucket("here")
            where[site.name] = bucket.location
            pod = _pod(site.name, testbed.images.built["client"][1])
            pod["metadata"]["namespace"] = "default"
            pod["spec"]["nodeSelector"] = {"topology.kubernetes.io/region": site.spec.region}
            cluster.apply(pod)
        assert where == {"gcp-frankfurt": "EUROPE-WEST3", "gcp-iowa": "US-CENTRAL1"}
        cluster.kubectl("wait", "--for=condition=Ready", "pod", "--all", "--timeout=60s")
        iowa = cluster.kubectl("get", "pod", "gcp-iowa", "-o", "jsonpath={.status.podIP}")
        reach = ["exec", "gcp-frankfurt", "--", "python3", "-c", CONNECT, iowa, "8080"]
        assert cluster.kubectl(*reach) == ""
        testbed.cut("gcp-frankfurt", "gcp-iowa")
        with pytest.raises(TestbedError, match="timed out"):
            cluster.kubectl(*reach)
    finally:
        testbed.down()
