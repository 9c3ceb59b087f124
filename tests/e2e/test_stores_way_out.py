"""Stores with TLS and names on real clusters: reached through the way out, and in no other way."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.e2e.asking import EGRESS, decisions, reached
from tests.estate import NAMESPACE, Estate, Talk, tenant, wait_for
from tests.testbed.testbed import Site
from tests.testbed.topology import SEALED_PORT, STORE_PORT

Object = dict[str, Any]
FIRST, SECOND = "gcp-frankfurt", "aws-frankfurt"
ONE = {"name": "helpdesk", "image": "domicile.dev/assistant:0.1.0", "replicas": 1, "mode": "free"}


# Whether a name has an address for this pod; whether this server answers, by UDP and by TCP (RFC 1035).
_LOOK_UP = """
import json, socket, struct, sys
name = "kubernetes.default.svc.cluster.local"
labels = b"".join(bytes([len(l)]) + l.encode() for l in name.split(".")) + b"\\0"
question = struct.pack(">HHHHHH", 7, 0x100, 1, 0, 0, 0) + labels + struct.pack(">HH", 1, 1)
def named():
    return bool(socket.getaddrinfo(name, 443))
def asked(kind):
    with socket.socket(socket.AF_INET, kind) as way:
        way.settimeout(3)
        way.connect((sys.argv[1], 53))
        way.sendall(question if kind == socket.SOCK_DGRAM else struct.pack(">H", len(question)) + question)
        return bool(way.recv(512))
found = []
for how in (named, lambda: asked(socket.SOCK_DGRAM), lambda: asked(socket.SOCK_STREAM)):
    try:
        found.append(how())
    except OSError:
        found.append(False)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def home(estate: Estate) -> Site:
    """Where the tenant serves: the site whose store has accounts."""
    return estate.site(SECOND)


@pytest.fixture(scope="module")
def name(estate: Estate, home: Site, named: Callable[[str], str]) -> Iterator[str]:
    """A tenant whose stores have TLS and names."""
    name = named("sealed")
    home.apply(tenant(name, "sealed", assistants=[ONE], homeSite=SECOND))
    estate.wait_condition(home, name, "Ready", "True", 240, "Serving")
    yield name
    for site in (home, estate.site(FIRST)):
        site.kubectl("delete", "assistanttenant", "--ignore-not-found", name)


def _hosts(site: Site, account: str) -> set[tuple[str, int]]:
    """Where an account got to."""
    return {(line["host"], line["port"]) for line in decisions(site, event="opened", account=account)}


def test_a_tenant_is_served_and_replicated_through_it(estate: Estate, home: Site, name: str) -> None:
    talk = Talk(name, "helpdesk")
    talk.start(home)
    assert talk.ask(home, "My contract number is KV-48213.", seconds=60).body["recorded"]
    bucket = estate.live_bucket(home, name)
    assert estate.names(home, bucket, "conversations/")
    estate.plugin(home, "snapshot", name)
    commit = estate.status(home, name)["lastCommit"]
    assert commit["target"] == FIRST
    own, peer = ((s.store.host, SEALED_PORT) for s in (home, estate.site(FIRST)))
    account = estate.status(home, name)["tenantId"]
    wait_for("the assistant's way", lambda: _hosts(home, f"store{account}") == {own}, 30)
    wait_for("the installation's ways", lambda: _hosts(home, "installation") == {own, peer}, 30)


def test_the_peer_knows_it_through_its_own(estate: Estate, home: Site, name: str) -> None:
    first = estate.site(FIRST)
    first.apply(tenant(name, "sealed", assistants=[ONE], homeSite=SECOND))
    estate.wait_condition(first, name, "Ready", "True", 180, "Standby")
    wanted = {(s.store.host, SEALED_PORT) for s in (home, first)}
    wait_for("ways to both stores", lambda: _hosts(first, "installation") == wanted, 30)


def test_no_pod_reaches_a_store_by_itself(estate: Estate, home: Site, name: str) -> None:
    stores = {
        f"{site.name} {port}": (site.store.address, port)
        for site in (home, estate.site(FIRST))
        for port in (STORE_PORT, SEALED_PORT)
    }
    pod = next(p for p in estate.pods(home, name) if "deletionTimestamp" not in p["metadata"])
    assert reached(home, name, pod["metadata"]["name"], "assistant", stores) == dict.fromkeys(stores, False)
    for deployment in ("domicile-operator", "domicile-lease"):
        found = reached(home, NAMESPACE, f"deploy/{deployment}", "", stores)
        # Other zones name the same stores in the clear.
        assert found == {place: port == STORE_PORT for place, (_, port) in stores.items()}
    estate.wait_condition(home, name, "EgressVerified", "True", 120, "Verified")


def test_assistants_look_up_no_names(estate: Estate, home: Site, name: str) -> None:
    """Nor does anybody else hear of one: a name can carry bytes."""
    dns = home.kubectl("get", "service", "kube-dns", "-n", "kube-system", "-o", "jsonpath={.spec.clusterIP}").strip()

    def answered(container: str, deployment: str) -> list[bool]:
        command = ["python3", "-c", _LOOK_UP, dns]
        where = ["-n", name, f"deploy/{deployment}", "-c", container]
        found: list[bool] = json.loads(home.kubectl("exec", *where, "--", *command))
        return found

    assert answered("gateway", "gateway") == [True, True, True], "whom the question itself is good enough for"
    for container in ("assistant", "guard"):
        assert answered(container, "helpdesk") == [False, False, False]
    services = {"domicile-lease.domicile-system.svc", f"gateway.{name}.svc", "domicile-egress.domicile-system.svc"}
    pod = next(p for p in estate.pods(home, name) if "deletionTimestamp" not in p["metadata"])
    assert {host for alias in pod["spec"]["hostAliases"] for host in alias["hostnames"]} == services


def test_one_of_two_is_killed_and_leases_last(estate: Estate, home: Site, name: str) -> None:
    talk = Talk(name, "helpdesk")
    talk.start(home)
    pod = estate.pods(home, NAMESPACE, EGRESS)[0]["metadata"]["name"]
    home.kubectl("delete", "pod", "-n", NAMESPACE, pod, "--grace-period=0", "--force")
    for number in range(8):
        asked = talk.ask(home, f"My room is {number}.", seconds=0)
        assert (asked.status, asked.body["recorded"]) == (200, True), asked
    home.kubectl("rollout", "status", "-n", NAMESPACE, "deploy/domicile-egress", "--timeout=60s", seconds=70)
