"""The way out on a real cluster: what it answers, whom it lets in, where it can go, and what happens when it breaks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from domicile.controllers.egress.destinations import PORT as PROXY_PORT
from domicile.controllers.tenant.network import GATEWAY_PORT, LEASE_PORT, SESSIONS_PORT
from tests.e2e import matrix
from tests.e2e.asking import EGRESS, decisions, now, reached
from tests.estate import NAMESPACE, Estate, GaveUpError, Talk, tenant, wait_for
from tests.testbed.testbed import Site
from tests.testbed.topology import API_PORT, STORE_PORT, WORLD
from tests.testbed.world import HOST, OTHER_HOST, OTHER_PORT, PORT, REBOUND_HOST, World

Object = dict[str, Any]
FIRST, SECOND = "gcp-frankfurt", "aws-frankfurt"
TEST_NET = "198.51.100.7"  # RFC 5737
METADATA = "169.254.169.254"
ONE = {"name": "helpdesk", "image": "domicile.dev/assistant:0.1.0", "replicas": 1, "mode": "free"}
GATEWAY, ASSISTANT = "app.kubernetes.io/instance=gateway", "app.kubernetes.io/instance=helpdesk"
_COMPONENT = "app.kubernetes.io/component="
# What a gateway does, by the asyncio of its own image: CONNECT by its own certificate and account, TLS, a word.
_ASK = """
import asyncio, base64, json, ssl, sys
host, port, name = sys.argv[1:4]
proxy, folder = "domicile-egress.domicile-system.svc", "/etc/domicile/"
pod = ssl.create_default_context(cafile=folder + "tls/ca.crt")
pod.load_cert_chain(folder + "tls/tls.crt", folder + "tls/tls.key")
proof = base64.b64encode(open(folder + "providers/egress", "rb").read().strip()).decode()
async def ask():
    reader, writer = await asyncio.open_connection(proxy, 3129, ssl=pod, server_hostname=proxy)
    head = [f"CONNECT {host}:{port} HTTP/1.1", f"Host: {host}:{port}", f"Proxy-Authorization: Basic {proof}", "", ""]
    writer.write("\\r\\n".join(head).encode())
    status = int((await reader.readuntil(b"\\r\\n\\r\\n")).split()[1])
    if status != 200:
        return (await reader.readline()).decode().strip()
    try:
        await asyncio.wait_for(writer.start_tls(ssl._create_unverified_context(), server_hostname=name), 5)
        writer.write(b"GET /v1/models HTTP/1.0\\r\\n\\r\\n")
        return (await asyncio.wait_for(reader.read(12), 5)).decode()
    except (OSError, TypeError):
        return "ended"
print(asyncio.run(ask()))
"""
ANSWERED = "HTTP/1.0 200"


@pytest.fixture(scope="module")
def site(estate: Estate) -> Site:
    """The home site."""
    return estate.site(FIRST)


@pytest.fixture(scope="module")
def names(estate: Estate, site: Site, named: Callable[[str], str]) -> Iterator[tuple[str, str]]:
    """Two tenants at the first site; each asks a model at a host of its own, the first one more hosts, too."""
    own, neighbour = named("outward"), named("beside")
    more = [{"host": h, "port": PORT, "contract": "World Ltd"} for h in (OTHER_HOST, REBOUND_HOST)]
    site.apply(
        _tenant(own, "world", network={"additionalEgress": more}),
        _tenant(neighbour, "other"),
    )
    for name in (own, neighbour):
        estate.wait_condition(site, name, "Ready", "True", 180, "Serving")
    yield own, neighbour
    site.kubectl("delete", "assistanttenant", own, neighbour)


@pytest.fixture(scope="module")
def stranger(estate: Estate, site: Site, named: Callable[[str], str]) -> Iterator[str]:
    """Namespace of a pod that belongs to no tenant, under no policy, and calls itself a gateway."""
    with matrix.stranger(estate, site, named("foreign"), {"app.kubernetes.io/component": "gateway"}) as name:
        yield name


def _tenant(name: str, provider: str, **spec: Any) -> Object:
    model = {"providers": [{"name": provider}], "model": "extractive-1"}
    return tenant(name, "open", assistants=[ONE], model=model, **spec)


def _pods(estate: Estate, site: Site, namespace: str, selector: str) -> list[Object]:
    found = estate.pods(site, namespace, selector)
    return [p for p in found if "deletionTimestamp" not in p["metadata"] and p["status"].get("podIP")]


def _address(estate: Estate, site: Site, namespace: str, selector: str) -> str:
    return str(_pods(estate, site, namespace, selector)[0]["status"]["podIP"])


def _ask(site: Site, namespace: str, host: str, port: int = PORT, sni: str = "") -> str:
    """What a tenant's gateway gets from the way out: a reason, how an answer from behind it begins, or ``ended``."""
    command = ["python3", "-c", _ASK, host, str(port), sni or host]
    return site.kubectl("exec", "-n", namespace, "deploy/gateway", "-c", "gateway", "--", *command).strip()


def test_a_question_goes_out_anonymised_and_its_answer_comes_back(
    estate: Estate, site: Site, names: tuple[str, str], world: World
) -> None:
    own, _ = names
    outside = estate.testbed.counters().outside.packets
    talk = Talk(own, "helpdesk")
    talk.start(site)
    world.forget()
    talk.ask(site, "My name is Erika Mustermann and my IBAN is DE89 3704 0044 0532 0130 00.", seconds=60)
    answer = talk.ask(site, "What is my IBAN?", seconds=30).body["answer"]
    assert "DE89 3704 0044 0532 0130 00" in answer
    received = world.received()
    assert {r["peer"] for r in received} <= {p["status"]["podIP"] for p in _pods(estate, site, NAMESPACE, EGRESS)}
    text = json.dumps(received)
    assert "[IBAN" in text
    assert not any(word in text for word in ("Mustermann", "Erika", "3704", "DE89", own))
    account = estate.status(site, own)["tenantId"]
    opened = wait_for("a decision", lambda: decisions(site, event="opened", host=HOST, account=account), 10)[-1]
    wanted = {"reason": "allowed", "sni": HOST, "port": PORT, "method": "CONNECT"}
    assert opened.items() >= wanted.items()
    closed = wait_for("its end", lambda: decisions(site, event="closed", host=HOST, account=account), 10)[-1]
    assert closed["address"] == WORLD
    assert closed["sent"] > 500
    assert "Mustermann" not in site.kubectl("logs", "-n", NAMESPACE, "-l", EGRESS, "--all-containers", "--tail=-1")
    assert estate.testbed.counters().outside.packets == outside


def test_each_tenant_has_a_list_of_its_own(site: Site, estate: Estate, names: tuple[str, str]) -> None:
    own, neighbour = names
    assert _ask(site, own, HOST) == _ask(site, own, OTHER_HOST) == _ask(site, neighbour, OTHER_HOST) == ANSWERED
    assert _ask(site, neighbour, HOST) == "not-listed"
    account = estate.status(site, neighbour)["tenantId"]
    assert wait_for("a refusal", lambda: decisions(site, event="refused", host=HOST, account=account), 10)
    assert _ask(site, own, HOST, OTHER_PORT) == "port"
    assert _ask(site, own, WORLD) == "not-listed"
    # A name that its zone lists and that leads into the site.
    assert _ask(site, own, REBOUND_HOST) == "private-destination"
    # Within the tunnel no other name is asked for.
    assert _ask(site, neighbour, OTHER_HOST, sni=HOST) == "ended"
    assert wait_for("a refusal", lambda: decisions(site, reason="sni-mismatch", host=OTHER_HOST, sni=HOST), 10)


def test_only_gateways_with_somewhere_to_go_reach_it(
    estate: Estate, site: Site, names: tuple[str, str], stranger: str
) -> None:
    own, neighbour = names
    address = _address(estate, site, NAMESPACE, EGRESS)
    doors = {str(port): (address, port) for port in (PROXY_PORT, 3128, 8081, 8082)}
    proxy_alone = {name: name == str(PROXY_PORT) for name in doors}
    nothing = dict.fromkeys(doors, False)
    for name in names:
        assert reached(site, name, "deploy/gateway", "gateway", doors) == proxy_alone
    for name in (own, neighbour):
        assistant = _pods(estate, site, name, ASSISTANT)[0]["metadata"]["name"]
        assert reached(site, name, assistant, "assistant", doors) == nothing
    assert reached(site, stranger, "main", "", doors) == nothing
    client = _pods(estate, site, "clients", "app=client")[0]["metadata"]["name"]
    assert reached(site, "clients", client, "", doors) == nothing
    # By an account of its own, to stores.
    assert reached(site, NAMESPACE, "deploy/domicile-operator", "", doors) == proxy_alone


def _flows(estate: Estate, site: Site) -> dict[str, tuple[str, int]]:
    return {
        "DNS": (_address(estate, site, "kube-system", "k8s-app=kube-dns"), 53),
        "world": (WORLD, PORT),
    }


def _forbidden(estate: Estate, site: Site, own: str) -> dict[str, tuple[str, int]]:
    """Servers that do listen, and which the way out must not reach."""
    peer = estate.site(SECOND)
    return {
        "another port of the world": (WORLD, OTHER_PORT),
        "API server": (site.cluster.control_plane.address, API_PORT),
        "API server's service": (estate.testbed.network.plan.service(site.cluster.spec, 1), 443),
        "model": (_address(estate, site, "models", "app=model-provider"), 8080),
        "own store": (site.store.address, STORE_PORT),
        "peer's store": (peer.store.address, STORE_PORT),
        "peer's API server": (peer.cluster.control_plane.address, API_PORT),
        "kubelet": (site.nodes[0].address, 10250),
    }


def test_it_reaches_the_world_at_declared_ports_and_nothing_inside(
    estate: Estate, site: Site, names: tuple[str, str], stranger: str
) -> None:
    own, _ = names
    allowed, forbidden = _flows(estate, site), _forbidden(estate, site, own)
    assert reached(site, stranger, "main", "", allowed | forbidden) == dict.fromkeys(allowed | forbidden, True)
    closed_to_all = {
        "gateway": (_address(estate, site, own, GATEWAY), GATEWAY_PORT),
        "guard": (_address(estate, site, own, ASSISTANT), 8080),
        "vault": (_address(estate, site, NAMESPACE, f"{_COMPONENT}sessions"), SESSIONS_PORT),
        "lease agent": (_address(estate, site, NAMESPACE, f"{_COMPONENT}lease-agent"), LEASE_PORT),
        "operator": (_address(estate, site, NAMESPACE, f"{_COMPONENT}operator"), 8080),
        "test network": (TEST_NET, 443),
        "metadata server": (METADATA, 443),
        "metadata server without TLS": (METADATA, 80),
    }
    before = estate.testbed.counters().outside.packets
    targets = allowed | forbidden | closed_to_all
    found = reached(site, NAMESPACE, "deploy/domicile-egress", "egress", targets)
    assert found == {name: name in allowed for name in targets}
    assert estate.testbed.counters().outside.packets == before


def test_a_gateway_reaches_the_world_by_it_alone(estate: Estate, site: Site, names: tuple[str, str]) -> None:
    direct = {"world": (WORLD, PORT), "another port": (WORLD, OTHER_PORT), "test network": (TEST_NET, 443)}
    before = estate.testbed.counters().outside.packets
    for name in names:
        assert reached(site, name, "deploy/gateway", "gateway", direct) == dict.fromkeys(direct, False)
    assert estate.testbed.counters().outside.packets == before


def test_each_policy_is_needed(estate: Estate, site: Site, names: tuple[str, str]) -> None:
    own, _ = names
    address = _address(estate, site, NAMESPACE, EGRESS)
    inwards, outwards = {"proxy": (address, PROXY_PORT)}, _flows(estate, site)
    inside = {"API server": (site.cluster.control_plane.address, API_PORT)}

    def flows() -> dict[str, bool]:
        found = reached(site, own, "deploy/gateway", "gateway", inwards)
        return found | reached(site, NAMESPACE, "deploy/domicile-egress", "egress", outwards | inside)

    open_flows = {"proxy": True, "DNS": True, "world": True, "API server": False}
    assert flows() == open_flows
    policies = {n: _policy(estate, site, n) for n in ("domicile-egress", "domicile-default-deny")}
    try:
        site.kubectl("delete", "networkpolicy", "-n", NAMESPACE, "domicile-egress")
        # What is left denies all of it.
        wait_for("closed", lambda: not any(flows().values()), 20)
        site.kubectl("delete", "networkpolicy", "-n", NAMESPACE, "domicile-default-deny")
        wait_for("open", lambda: all(flows().values()), 20)
    finally:
        site.apply(*policies.values())
    wait_for("as before", lambda: flows() == open_flows, 20)
    site.kubectl("patch", "assistanttenant", own, "--type=merge", "-p", '{"spec": {"suspend": true}}')
    estate.wait_condition(site, own, "Reconciling", "True", 30, "Suspended")
    site.kubectl("delete", "networkpolicy", "-n", own, "allow-gateway-egress")
    wait_for("closed", lambda: flows() == open_flows | {"proxy": False}, 20)
    site.kubectl("patch", "assistanttenant", own, "--type=merge", "-p", '{"spec": {"suspend": false}}')
    wait_for("as before", lambda: flows() == open_flows, 30)


def _policy(estate: Estate, site: Site, name: str) -> Object:
    found = estate.get(site, "networkpolicy", name, NAMESPACE)
    assert found is not None
    meta = {k: found["metadata"][k] for k in ("name", "namespace", "labels", "annotations")}
    return {"apiVersion": found["apiVersion"], "kind": found["kind"], "metadata": meta, "spec": found["spec"]}


def test_what_the_zone_drops_is_closed_within_seconds(estate: Estate, site: Site, names: tuple[str, str]) -> None:
    own, neighbour = names
    zone = estate.get(site, "residencyzone", "open")
    assert zone is not None
    listed = zone["spec"]["allowedDestinations"]

    def drop(kept: list[Object]) -> float:
        change = {"spec": {"allowedDestinations": kept}}
        site.kubectl("patch", "residencyzone", "open", "--type=merge", "-p", json.dumps(change))
        return now()

    assert _ask(site, own, OTHER_HOST) == ANSWERED
    begun = drop([d for d in listed if d["host"] != OTHER_HOST])
    try:
        wait_for("closed", lambda: _ask(site, own, OTHER_HOST) == "not-listed", 30)
        print(f"measured: a dropped destination is closed after {now() - begun:.1f} s")
        estate.wait_condition(site, own, "ResidencyCompliant", "False", 30, "EgressNotAllowed")
        assert _ask(site, own, HOST) == _ask(site, neighbour, OTHER_HOST) == ANSWERED
    finally:
        drop(listed)
    estate.wait_condition(site, own, "Ready", "True", 60, "Serving")
    wait_for("open again", lambda: _ask(site, own, OTHER_HOST) == ANSWERED, 60)


def test_one_of_two_is_killed_and_answers_go_on(
    estate: Estate, site: Site, names: tuple[str, str], world: World
) -> None:
    own, _ = names
    talk = Talk(own, "helpdesk")
    talk.start(site)
    world.forget()
    pods = [p["metadata"]["name"] for p in _pods(estate, site, NAMESPACE, EGRESS)]
    assert len(pods) == 2
    site.kubectl("delete", "pod", "-n", NAMESPACE, pods[0], "--grace-period=0", "--force")
    begun, slowest = now(), 0.0
    for _ in range(8):
        asked = now()
        # The assistant asks a model only about what it was told, and that lately.
        talk.ask(site, "My room is on the second floor.", seconds=20)
        assert "second floor" in talk.ask(site, "Where is my room?", seconds=20).body["answer"]
        slowest = max(slowest, now() - asked)
    assert len(world.received()) >= 8
    print(f"measured: slowest of 8 answers {slowest:.1f} s, within {now() - begun:.1f} s of a kill")
    site.kubectl("rollout", "status", "-n", NAMESPACE, "deploy/domicile-egress", "--timeout=60s", seconds=70)


def test_a_tenant_of_the_other_site_gets_a_way_out_when_it_needs_one(
    estate: Estate, named: Callable[[str], str], world: World
) -> None:
    site, name = estate.site(SECOND), named("afar")
    site.apply(_tenant(name, "local", homeSite=SECOND))
    estate.wait_condition(site, name, "Ready", "True", 180, "Serving")
    proxy = {"proxy": (_address(estate, site, NAMESPACE, EGRESS), PROXY_PORT)}
    assert reached(site, name, "deploy/gateway", "gateway", proxy) == {"proxy": False}
    change = {"spec": {"model": {"providers": [{"name": "world"}]}}}
    site.kubectl("patch", "assistanttenant", name, "--type=merge", "-p", json.dumps(change))
    wait_for("a way", lambda: _opened(site, name, proxy), 120)
    world.forget()
    talk = Talk(name, "helpdesk")
    talk.start(site)

    def answered() -> list[Object]:
        """What reached the world: a gateway's pod of before asks as before."""
        assert talk.ask(site, "My room is on the second floor.", seconds=60).status == 200
        assert "second floor" in talk.ask(site, "Where is my room?", seconds=60).body["answer"]
        return world.received()

    received = wait_for("a question outside", answered, 120, 2)
    assert {r["peer"] for r in received} <= {p["status"]["podIP"] for p in _pods(estate, site, NAMESPACE, EGRESS)}
    site.kubectl("delete", "assistanttenant", name)


def _opened(site: Site, name: str, proxy: dict[str, tuple[str, int]]) -> bool:
    try:
        return all(reached(site, name, "deploy/gateway", "gateway", proxy).values())
    except GaveUpError:
        return False
