"""A tenant on a real cluster: what its pods reach, what the operator repairs, what it says, and how it ends."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from domicile.controllers.egress.destinations import PORT as EGRESS_PORT
from domicile.controllers.tenant.network import GATEWAY_PORT, LEASE_PORT, SESSIONS_PORT
from tests.e2e import matrix
from tests.e2e.asking import Asking, now, reached
from tests.estate import NAMESPACE, Estate, Talk, tenant, wait_for
from tests.testbed.testbed import Site
from tests.testbed.topology import API_PORT, STORE_PORT

Object = dict[str, Any]
FIRST, SECOND = "gcp-frankfurt", "aws-frankfurt"
OUTSIDE = "198.51.100.7"  # TEST-NET-2 (RFC 5737)
METADATA = "169.254.169.254"
ONE = {"name": "helpdesk", "mode": "free", "image": "domicile.dev/assistant:0.1.0", "replicas": 1}
# Each opening, and the only flow of the matrix that it lets through.
OPENINGS = {
    "allow-clients": "client to guard",
    "allow-gateway": "gateway",
    "allow-store": "own store",
    "allow-lease": "lease agent",
    "allow-dns": "DNS",
}
GATEWAY = "app.kubernetes.io/instance=gateway"
OF_GATEWAY = {
    "allow-gateway-assistants": "assistant",
    "allow-gateway-models": "model",
    "allow-gateway-vault": "vault",
    "allow-gateway-dns": "DNS",
}
_RECEIVED = """
import sys, urllib.request
asked = urllib.request.Request("http://provider.models.svc:8080/received", method=sys.argv[1])
print(urllib.request.urlopen(asked, timeout=10).read().decode())
"""
_RECONCILES = """
import ssl, urllib.request
folder = "/etc/domicile/metrics"
tls = ssl.create_default_context(cafile=folder + "/clients.crt")
tls.load_cert_chain(folder + "/tls.crt", folder + "/tls.key")
text = urllib.request.urlopen("https://127.0.0.1:8443/metrics", timeout=5, context=tls).read().decode()
lines = [l for l in text.splitlines() if l.startswith('domicile_reconcile_seconds_count{kind="AssistantTenant"')]
print(sum(float(l.split()[-1]) for l in lines))
"""


@pytest.fixture(scope="module")
def site(estate: Estate) -> Site:
    """The home site."""
    return estate.site(FIRST)


@pytest.fixture(scope="module")
def names(estate: Estate, site: Site, named: Callable[[str], str]) -> Iterator[tuple[str, str]]:
    """Two tenants that serve at the first site: the one under test and its neighbour."""
    own, neighbour = named("acme"), named("neighbour")
    site.apply(tenant(own, assistants=[ONE]), tenant(neighbour, assistants=[ONE]))
    for name in (own, neighbour):
        estate.wait_condition(site, name, "Ready", "True", 180, "Serving")
    yield own, neighbour
    site.kubectl("delete", "assistanttenant", own, neighbour)


@pytest.fixture(scope="module")
def stranger(estate: Estate, site: Site, named: Callable[[str], str]) -> Iterator[str]:
    """Namespace of a pod that belongs to no tenant, under no policy."""
    with matrix.stranger(estate, site, named("stranger"), {}) as name:
        yield name


@pytest.fixture(scope="module")
def quiet(estate: Estate, site: Site, names: tuple[str, str]) -> tuple[int, float, dict[str, Object]]:
    """From here on nobody changes the two tenants: length of the audit log, reconciles and commits so far."""
    for name in names:
        wait_for("rest", lambda n=name: "Reconciling" not in estate.conditions(site, n), 60)
        estate.wait_condition(site, name, "EgressVerified", "True", 120, "Verified")
    return len(_audit(site)), _reconciles(estate, site), _commits(estate, site, names)


def _audit(site: Site) -> list[str]:
    return site.cluster.control_plane.audit_log.read_text().splitlines()


def _commits(estate: Estate, site: Site, names: tuple[str, str]) -> dict[str, Object]:
    return {n: estate.status(site, n).get("lastCommit", {}) for n in names}


def _reconciles(estate: Estate, site: Site) -> float:
    """Reconciles of tenants by all operators of the site."""
    pods = estate.pods(site, NAMESPACE, "app.kubernetes.io/component=operator")
    found = [
        site.kubectl("exec", "-n", NAMESPACE, p["metadata"]["name"], "--", "python3", "-c", _RECONCILES) for p in pods
    ]
    return sum(map(float, found))


def _pod(estate: Estate, site: Site, name: str) -> Object:
    return next(p for p in estate.pods(site, name) if "deletionTimestamp" not in p["metadata"])


def _address(estate: Estate, site: Site, namespace: str, selector: str) -> str:
    return str(estate.pods(site, namespace, selector)[0]["status"]["podIP"])


def _allowed(estate: Estate, site: Site, own: str) -> dict[str, tuple[str, int]]:
    """Where an assistant may go, by address: names need DNS, which is one of the flows."""
    return {
        "own store": (site.store.address, STORE_PORT),
        "DNS": (_address(estate, site, "kube-system", "k8s-app=kube-dns"), 53),
        "gateway": (_address(estate, site, own, GATEWAY), GATEWAY_PORT),
        "lease agent": (_address(estate, site, NAMESPACE, "app.kubernetes.io/component=lease-agent"), LEASE_PORT),
    }


def _model(estate: Estate, site: Site) -> tuple[str, int]:
    return _address(estate, site, "models", "app=model-provider"), 8080


def _vault(estate: Estate, site: Site) -> tuple[str, int]:
    return _address(estate, site, NAMESPACE, "app.kubernetes.io/component=sessions"), SESSIONS_PORT


def _forbidden(estate: Estate, site: Site, neighbour: str) -> dict[str, tuple[str, int]]:
    """Servers that do listen and that an assistant must not reach."""
    peer = estate.site(SECOND)
    return {
        "API server": (site.cluster.control_plane.address, API_PORT),
        "API server's service": (estate.testbed.network.plan.service(site.cluster.spec, 1), 443),
        "neighbour's guard": (_pod(estate, site, neighbour)["status"]["podIP"], 8080),
        "neighbour's gateway": (_address(estate, site, neighbour, GATEWAY), GATEWAY_PORT),
        "model": _model(estate, site),
        "vault": _vault(estate, site),
        "way out": (_address(estate, site, NAMESPACE, "app.kubernetes.io/component=egress"), EGRESS_PORT),
        "neighbour's assistant": (_pod(estate, site, neighbour)["status"]["podIP"], 8081),
        "operator": (_address(estate, site, NAMESPACE, "app.kubernetes.io/component=operator"), 8080),
        "peer's store": (peer.store.address, STORE_PORT),
        "peer's API server": (peer.cluster.control_plane.address, API_PORT),
        "kubelet": (site.nodes[0].address, 10250),
    }


def _client(estate: Estate, site: Site, targets: dict[str, tuple[str, int]]) -> dict[str, bool]:
    pod = estate.pods(site, "clients", "app=client")[0]["metadata"]["name"]
    return reached(site, "clients", pod, "", targets)


def test_clients_reach_the_guard_and_nobody_else_reaches_anything(
    estate: Estate, site: Site, names: tuple[str, str], stranger: str, quiet: object
) -> None:
    own, neighbour = names
    address = _pod(estate, site, own)["status"]["podIP"]
    doors = {"guard": (address, 8080), "assistant": (address, 8081)}
    assert _client(estate, site, doors) == {"guard": True, "assistant": False}
    assert reached(site, stranger, "main", "", doors) == {"guard": False, "assistant": False}
    other = _pod(estate, site, neighbour)["metadata"]["name"]
    assert reached(site, neighbour, other, "assistant", doors) == {"guard": False, "assistant": False}


def test_an_assistant_reaches_what_it_needs_and_nothing_else(
    estate: Estate, site: Site, names: tuple[str, str], stranger: str, quiet: object
) -> None:
    own, neighbour = names
    pod = _pod(estate, site, own)["metadata"]["name"]
    allowed, forbidden = _allowed(estate, site, own), _forbidden(estate, site, neighbour)
    # They all answer somebody whom no policy binds; only tenants' own doors are closed to strangers, too.
    closed_to_all = {"operator", "vault", "way out"}
    open_to_all = {n: t for n, t in forbidden.items() if "neighbour" not in n and n not in closed_to_all}
    assert reached(site, stranger, "main", "", open_to_all) == dict.fromkeys(open_to_all, True)
    before = estate.testbed.counters().outside.packets
    places = {"outside": (OUTSIDE, 443), "metadata server": (METADATA, 80)}
    found = reached(site, own, pod, "assistant", {**allowed, **forbidden, **places})
    assert found == {**dict.fromkeys(allowed, True), **dict.fromkeys([*forbidden, *places], False)}
    assert estate.testbed.counters().outside.packets == before
    # The counter does count: a stranger's attempts get as far as the outside.
    reached(site, stranger, "main", "", places)
    assert estate.testbed.counters().outside.packets > before
    code = "import socket; socket.getaddrinfo('provider.models.svc', 8080)"
    site.kubectl("exec", "-n", own, pod, "-c", "assistant", "--", "python3", "-c", code)


def test_a_gateway_reaches_its_models_and_nothing_else(
    estate: Estate, site: Site, names: tuple[str, str], quiet: object
) -> None:
    own, neighbour = names
    needed = {"model": _model(estate, site), "vault": _vault(estate, site), "DNS": _allowed(estate, site, own)["DNS"]}
    other = {
        **{n: t for n, t in _forbidden(estate, site, neighbour).items() if n not in needed},
        **{n: t for n, t in _allowed(estate, site, own).items() if n not in {*needed, "gateway"}},
        "own assistant": (_pod(estate, site, own)["status"]["podIP"], 8080),
        "outside": (OUTSIDE, 443),
        "metadata server": (METADATA, 80),
    }
    found = reached(site, own, "deploy/gateway", "gateway", needed | other)
    assert found == dict.fromkeys(needed, True) | dict.fromkeys(other, False)


def test_what_names_somebody_never_reaches_the_model_and_comes_back(
    estate: Estate, site: Site, names: tuple[str, str]
) -> None:
    talk = Talk(names[0], "helpdesk")
    talk.start(site)
    site.exec_client("python3", "-c", _RECEIVED, "DELETE")
    talk.ask(site, "My name is Erika Mustermann and my IBAN is DE89 3704 0044 0532 0130 00.", seconds=60)
    answer = talk.ask(site, "What is my IBAN?", seconds=30).body["answer"]
    received = site.exec_client("python3", "-c", _RECEIVED, "GET")
    assert "[IBAN" in received
    assert not any(word in received for word in ("Mustermann", "Erika", "3704", "DE89"))
    assert "DE89 3704 0044 0532 0130 00" in answer
    pods = site.kubectl("logs", "-n", names[0], "-l", GATEWAY, "--tail=-1")
    assert '"route"' in pods
    assert not any(word in pods for word in ("Mustermann", "3704", "IBAN is"))


def test_a_settled_tenant_is_looked_at_and_not_written_to(
    estate: Estate, site: Site, names: tuple[str, str], quiet: tuple[int, float, dict[str, Object]]
) -> None:
    lines, reconciles, commits = quiet
    known = len(json.loads(site.kubectl("get", "assistanttenants", "-o", "json"))["items"])
    wait_for("two resyncs of all tenants", lambda: _reconciles(estate, site) >= reconciles + 2 * known, 120, 2)
    events = [json.loads(line) for line in _audit(site)[lines:]]
    # A snapshot at the tenant's minute is news, and the status tells it.
    settled = {n for n in names if _commits(estate, site, names)[n] == commits[n]}
    refs = [e["objectRef"] for e in events if e.get("userAgent", "").startswith("domicile-operator")]
    writes = [r for r in refs if r.get("name") in settled or r.get("namespace") in settled]
    assert settled
    assert not writes


def test_what_is_deleted_or_edited_is_back_within_seconds(estate: Estate, site: Site, names: tuple[str, str]) -> None:
    own = names[0]
    kinds = [("networkpolicy", "default-deny"), ("networkpolicy", "allow-lease"), ("service", "helpdesk"),
             ("pdb", "helpdesk"), ("serviceaccount", "helpdesk"), ("deployment", "helpdesk")]  # fmt: skip
    took = {}
    for kind, name in kinds:
        before = _shape(estate, site, own, kind, name)
        site.kubectl("delete", kind, "-n", own, name, "--wait=true")
        begun = now()
        wait_for(f"{kind} {name}", lambda k=kind, n=name, b=before: _shape(estate, site, own, k, n) == b, 20)
        took[f"{kind} {name} deleted"] = now() - begun
    everyone = {"op": "add", "path": "/spec/ingress/-", "value": {}}
    edits = [
        ("networkpolicy", "allow-clients", everyone),
        ("networkpolicy", "default-deny", {"op": "add", "path": "/spec/egress", "value": [{}]}),
        ("service", "helpdesk", {"op": "replace", "path": "/spec/type", "value": "NodePort"}),
        ("deployment", "helpdesk", {"op": "replace", "path": "/spec/replicas", "value": 3}),
        ("deployment", "helpdesk", {"op": "remove", "path": "/spec/template/spec/affinity"}),
    ]
    for kind, name, change in edits:
        before = _shape(estate, site, own, kind, name)
        site.kubectl("patch", kind, "-n", own, name, "--type=json", "-p", json.dumps([change]))
        begun = now()
        wait_for(f"{kind} {name}", lambda k=kind, n=name, b=before: _shape(estate, site, own, k, n) == b, 20)
        took[f"{kind} {name} edited"] = now() - begun
    print(f"measured: slowest repair {max(took.values()):.2f} s: {max(took, key=lambda k: took[k])}")
    assert max(took.values()) < 10
    estate.wait_condition(site, own, "Ready", "True", 120, "Serving")


def _shape(estate: Estate, site: Site, namespace: str, kind: str, name: str) -> Object | None:
    """What somebody declared of an object, without what the cluster chose."""
    found = estate.get(site, kind, name, namespace)
    if found is None:
        return None
    chosen = ("clusterIP", "clusterIPs")
    return {
        "labels": found["metadata"]["labels"],
        "spec": {k: v for k, v in found.get("spec", {}).items() if k not in chosen},
    }


def test_each_opening_is_needed_for_its_flow(estate: Estate, site: Site, names: tuple[str, str]) -> None:
    own = names[0]
    pod = _pod(estate, site, own)
    allowed, guard = _allowed(estate, site, own), {"client to guard": (pod["status"]["podIP"], 8080)}

    def flows() -> dict[str, bool]:
        return reached(site, own, pod["metadata"]["name"], "assistant", allowed) | _client(estate, site, guard)

    assert all(flows().values())
    site.kubectl("patch", "assistanttenant", own, "--type=merge", "-p", '{"spec": {"suspend": true}}')
    estate.wait_condition(site, own, "Reconciling", "True", 30, "Suspended")
    closed: set[str] = set()
    for opening, flow in OPENINGS.items():
        site.kubectl("delete", "networkpolicy", "-n", own, opening)
        closed.add(flow)
        wanted = {f: f not in closed for f in OPENINGS.values()}
        wait_for(f"closed: {sorted(closed)}", lambda w=wanted: flows() == w, 20)
    gateway = {"model": _model(estate, site), "vault": _vault(estate, site), "DNS": allowed["DNS"]}
    to_gateway = {"assistant": allowed["gateway"]}

    def flows_of_gateway() -> dict[str, bool]:
        found = reached(site, own, "deploy/gateway", "gateway", gateway)
        return found | reached(site, own, pod["metadata"]["name"], "assistant", to_gateway)

    site.kubectl("patch", "assistanttenant", own, "--type=merge", "-p", '{"spec": {"suspend": false}}')
    wait_for("all flows", lambda: all([*flows().values(), *flows_of_gateway().values()]), 30)
    site.kubectl("patch", "assistanttenant", own, "--type=merge", "-p", '{"spec": {"suspend": true}}')
    estate.wait_condition(site, own, "Reconciling", "True", 30, "Suspended")
    closed = set()
    for opening, flow in OF_GATEWAY.items():
        site.kubectl("delete", "networkpolicy", "-n", own, opening)
        closed.add(flow)
        wanted = {f: f not in closed for f in OF_GATEWAY.values()}
        wait_for(f"closed: {sorted(closed)}", lambda w=wanted: flows_of_gateway() == w, 20)
    site.kubectl("patch", "assistanttenant", own, "--type=merge", "-p", '{"spec": {"suspend": false}}')
    wait_for("all flows", lambda: all([*flows().values(), *flows_of_gateway().values()]), 30)


@contextmanager
def applied(site: Site, policy: Object) -> Iterator[None]:
    """A policy of somebody else's for the body."""
    meta = policy["metadata"]
    where = ["-n", meta["namespace"]] if "namespace" in meta else []
    site.apply(policy)
    try:
        yield
    finally:
        kind = f"{policy['kind']}.{policy['apiVersion'].split('/')[0]}"
        site.kubectl("delete", kind, *where, meta["name"])


def test_what_pods_reach_is_tried_and_told(estate: Estate, site: Site, names: tuple[str, str]) -> None:
    own = names[0]
    estate.wait_condition(site, own, "EgressVerified", "True", 120, "Verified")
    server = {"ipBlock": {"cidr": f"{site.cluster.control_plane.address}/32"}}
    opening = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "theirs", "namespace": own},
        "spec": {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": [server]}]},
    }
    with applied(site, opening):
        told = estate.wait_condition(site, own, "EgressVerified", "False", 120, "ForbiddenReachable")
        assert "assistant: API server; gateway: API server" in told["message"]
    estate.wait_condition(site, own, "EgressVerified", "True", 120, "Verified")
    estate.wait_condition(site, own, "Ready", "True", 60, "Serving")
    # As on a cluster whose network plugin knows no policies.
    everything = {
        "apiVersion": "crd.projectcalico.org/v1",
        "kind": "GlobalNetworkPolicy",
        "metadata": {"name": "everything"},
        "spec": {
            "order": 1,
            "selector": "all()",
            "types": ["Ingress", "Egress"],
            "ingress": [{"action": "Allow"}],
            "egress": [{"action": "Allow"}],
        },
    }
    with applied(site, everything):
        site.kubectl("delete", "jobs", "-n", own, "--all")
        estate.wait_condition(site, own, "EgressVerified", "False", 120, "PoliciesNotEnforced")
        estate.wait_condition(site, own, "Ready", "False", 30, "PoliciesNotEnforced")
    site.kubectl("delete", "jobs", "-n", own, "--all")
    estate.wait_condition(site, own, "EgressVerified", "True", 120, "Verified")
    jobs = json.loads(site.kubectl("get", "jobs", "-n", own, "-o", "json"))["items"]
    tried = [json.loads(e["value"]) for j in jobs for e in _env(j) if e["name"] == "DOMICILE_PLACES"]
    assert len(tried) == 2
    for places in tried:
        assert {f"{OUTSIDE}:443", "another tenant's server 1", "store of aws-frankfurt", "assistant helpdesk"} <= set(
            places
        )
    assert names[1] not in json.dumps(jobs)


def _env(job: Object) -> list[Object]:
    found: list[Object] = job["spec"]["template"]["spec"]["containers"][0]["env"]
    return found


OWN, SYSTEM = ("assistant", "gateway"), ("operator", "lease-agent", "sessions", "egress")
# Of everything that listens: guard or health, assistant, model, TLS of gateways and metrics, leases, sessions, way out.
PORTS = (8080, 8081, 8082, 8443, LEASE_PORT, SESSIONS_PORT, EGRESS_PORT)
CHAIN = {
    *(
        pair
        for who in ("own ", "neighbour's ")
        for pair in (
            (f"{who}assistant", f"{who}gateway", GATEWAY_PORT),
            (f"{who}assistant", "lease-agent", LEASE_PORT),
            (f"{who}gateway", "sessions", SESSIONS_PORT),
        )
    ),
    ("operator", "lease-agent", LEASE_PORT),
    ("operator", "egress", EGRESS_PORT),
    ("lease-agent", "egress", EGRESS_PORT),
    ("client", "own assistant", 8080),
    ("client", "neighbour's assistant", 8080),
}


def _bare(estate: Estate, site: Site, namespace: str, labels: dict[str, str]) -> Object:
    """A pod that only the policy of its whole namespace, or of all our pods, binds."""
    confined = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    container = {"name": "main", "image": estate.testbed.images.built["client"][1], "imagePullPolicy": "Never"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "bare",
            "namespace": namespace,
            "labels": {"app.kubernetes.io/component": "bare", **labels},
        },
        "spec": {
            "containers": [container | {"securityContext": confined}],
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 0,
        },
    }


@pytest.fixture
def everybody(estate: Estate, site: Site, names: tuple[str, str]) -> Iterator[list[matrix.Pod]]:
    """A pod of each kind: of two tenants, the system, a client, and a bare one in two namespaces."""
    own, neighbour = names
    bare = [_bare(estate, site, own, {}), _bare(estate, site, NAMESPACE, {"app.kubernetes.io/name": "domicile"})]
    site.apply(*bare)
    for pod in bare:
        site.kubectl("wait", "-n", pod["metadata"]["namespace"], "--for=condition=Ready", "pod/bare", "--timeout=60s")
    client = estate.pods(site, "clients", "app=client")[0]
    yield [
        *matrix.pods(estate, site, own, "own ", *OWN, "bare"),
        *matrix.pods(estate, site, neighbour, "neighbour's ", *OWN),
        *matrix.pods(estate, site, NAMESPACE, "", *SYSTEM, "bare"),
        matrix.Pod("client", "clients", client["metadata"]["name"], "", client["status"]["podIP"]),
    ]
    for namespace in (own, NAMESPACE):
        site.kubectl("delete", "pod", "bare", "-n", namespace)


def test_every_pair_of_pods_talks_as_the_chain_says(site: Site, everybody: list[matrix.Pod]) -> None:
    assert matrix.tried(site, everybody, everybody, PORTS) == CHAIN


def test_each_policy_of_the_whole_is_needed(
    estate: Estate, site: Site, names: tuple[str, str], everybody: list[matrix.Pod]
) -> None:
    server = matrix.Pod("API server", "", "", "", site.cluster.control_plane.address)

    ports = {LEASE_PORT, SESSIONS_PORT, GATEWAY_PORT, API_PORT}

    def found() -> set[tuple[str, str, int]]:
        admitted = {(who, server.kind, API_PORT) for who in ("operator", "client")}
        return matrix.tried(site, everybody, [*everybody, server], ports) - admitted

    site.kubectl("patch", "assistanttenant", names[0], "--type=merge", "-p", '{"spec": {"suspend": true}}')
    estate.wait_condition(site, names[0], "Reconciling", "True", 30, "Suspended")
    before = found()
    assert before == {flow for flow in CHAIN if flow[2] in ports}
    lease = {flow for flow in before if flow[1] == "lease-agent"}
    changes = {
        (NAMESPACE, "domicile-lease"): lambda seen: not lease & seen,
        (NAMESPACE, "domicile-sessions"): lambda seen: ("own gateway", "sessions", SESSIONS_PORT) not in seen,
        (NAMESPACE, "domicile-operator"): lambda seen: ("operator", "lease-agent", LEASE_PORT) not in seen,
        (NAMESPACE, "domicile-default-deny"): lambda seen: ("bare", "API server", API_PORT) in seen,
        (names[0], "default-deny"): lambda seen: ("own bare", "API server", API_PORT) in seen,
    }
    for (namespace, name), changed in changes.items():
        policy = estate.get(site, "networkpolicy", name, namespace)
        assert policy is not None
        site.kubectl("delete", "networkpolicy", "-n", namespace, name)
        try:
            wait_for(f"what {name} was for", lambda c=changed: c(found()), 30)
        finally:
            kept = {k: v for k, v in policy["metadata"].items() if k in {"name", "namespace", "labels", "annotations"}}
            site.apply({**policy, "metadata": kept})
    wait_for("the chain", lambda: found() == before, 30)
    site.kubectl("patch", "assistanttenant", names[0], "--type=merge", "-p", '{"spec": {"suspend": false}}')


def test_bad_input_is_named_heals_and_a_deleted_tenant_stops_at_once(
    estate: Estate, site: Site, named: Callable[[str], str]
) -> None:
    name = named("typo")
    wrong = {**ONE, "image": "domicile.dev/assistent:0.1.0", "envSecrets": ["crm"]}
    site.apply(tenant(name, assistants=[wrong]))
    missing = estate.wait_condition(site, name, "WorkloadReady", "False", 90, "SecretMissing")
    assert "crm" in missing["message"]
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "crm", "namespace": name}}
    site.apply({**secret, "stringData": {"CRM_URL": "http://crm.example"}})
    pull = estate.wait_condition(site, name, "WorkloadReady", "False", 90, "ErrImageNeverPull")
    assert "spec.assistants[].image" in pull["message"]
    right = tenant(name, assistants=[{**wrong, "image": ONE["image"]}])
    site.apply(right)
    estate.wait_condition(site, name, "Ready", "True", 120, "Serving")
    bucket, identity = estate.live_bucket(site, name), estate.status(site, name)["tenantId"]
    estate.put(site, bucket, "knowledge/kept.md", b"# Kept\n")
    with Asking(site, _pod(estate, site, name)) as asking:
        asking.wait_open(0)
        site.kubectl("delete", "assistanttenant", name, "--wait=false")
        begun = now()
        wait_for("the end of the pods", lambda: not estate.pods(site, name), 60)
        served = asking.last_served() - begun
    print(f"measured: deleted tenant answers last {served:.2f} s after the order")
    assert served < 10
    wait_for("the end of the object", lambda: estate.get(site, "assistanttenant", name) is None, 90)
    assert not estate.pods(site, name)
    assert set(_policies(site, name)) == {"default-deny"}
    assert estate.names(site, bucket) == ["knowledge/kept.md"]
    told = json.loads(site.kubectl("get", "events", "-o", "json", "--field-selector", "reason=Deleted"))["items"]
    notes = [e["message"] for e in told if e["involvedObject"]["name"] == name]
    assert len(notes) == 1
    assert identity in notes[0]
    assert bucket in notes[0]


def _policies(site: Site, namespace: str) -> list[str]:
    found = json.loads(site.kubectl("get", "networkpolicies", "-n", namespace, "-o", "json"))["items"]
    return [p["metadata"]["name"] for p in found]
