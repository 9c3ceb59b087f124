"""The operator process on a real API server: events arrive, one leads, another takes over, and kopf writes nothing."""

from __future__ import annotations

import json
import os
import re
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.authorities import SERVER, Authority, write
from tests.integration import acme_server
from tests.integration.apiserver import ApiServer, free_port, running
from tests.integration.cilium_server import cilium_kinds

ROOT = Path(__file__).parents[2]
Object = dict[str, Any]
LABELS = {"app.kubernetes.io/managed-by": "domicile", "domicile.dev/tenant": "watched"}


def wait_for(what: Callable[[], Any], seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if result := what():
            return result
        time.sleep(0.05)
    raise AssertionError(f"not so within {seconds} s")


class Operator:
    """One operator process."""

    def __init__(self, folder: Path, kubeconfig: Path, **settings: str) -> None:
        folder.mkdir(exist_ok=True)
        self.log = folder / "reconciles"
        self.log.touch()
        self.port, self.metrics_port = free_port(), free_port()
        servers, clients = Authority("servers"), Authority("clients")
        mounted = folder / "metrics"
        write(mounted, "tls", servers.issue("operator", use=SERVER, hosts=("127.0.0.1",)))
        (mounted / "clients.crt").write_bytes(clients.pem)
        self._tls = ssl.create_default_context(cadata=servers.pem.decode())
        self._tls.load_cert_chain(*write(folder, "client", clients.issue("prometheus")))
        env = {
            **os.environ,
            "KUBECONFIG": str(kubeconfig),
            "DOMICILE_SITES": "one",
            "DOMICILE_NAMESPACE": "domicile-system",
            "DOMICILE_PORT": str(self.port),
            "DOMICILE_METRICS_DIR": str(mounted),
            "DOMICILE_METRICS_PORT": str(self.metrics_port),
            "DOMICILE_METRICS_NETWORKS": "127.0.0.1/32",
            **{f"DOMICILE_{k.upper()}": v for k, v in settings.items()},
        }
        self.output = (folder / "output").open("ab")
        args = [sys.executable, "-m", "tests.integration.operator_process", str(self.log)]
        self.process = subprocess.Popen(args, cwd=ROOT, env=env, stdout=self.output, stderr=self.output)

    def reconciled(self) -> list[tuple[str, str]]:
        entries = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [(e["kind"], e["name"]) for e in entries]

    def count(self, kind: str, name: str) -> int:
        return self.reconciled().count((kind, name))

    def get(self, path: str) -> tuple[int, str]:
        return self._get(f"http://127.0.0.1:{self.port}{path}")

    def metrics(self) -> str:
        return self._get(f"https://127.0.0.1:{self.metrics_port}/metrics")[1]

    def _get(self, url: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(url, timeout=5, context=self._tls) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def leads(self) -> bool:
        return "domicile_leading 1.0" in self.metrics()

    def words(self) -> str:
        return Path(self.output.name).read_text()

    def stop(self) -> None:
        self.output.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """An API server of our own: nobody else's objects are watched, and it may be stopped."""
    with running(tmp_path_factory.mktemp("app")) as server:
        server.kubectl("create", "namespace", "domicile-system")
        yield server


@contextmanager
def operators(tmp_path: Path, cluster: ApiServer) -> Iterator[Callable[..., Operator]]:
    with ExitStack() as stack:

        def start(name: str = "one", **settings: str) -> Operator:
            own = {"lease_name": tmp_path.name.lower().replace("_", "-")}
            operator = Operator(tmp_path / name, cluster.kubeconfig, **(own | settings))
            stack.callback(operator.stop)
            return operator

        yield start


@pytest.fixture
def start(tmp_path: Path, cluster: ApiServer) -> Iterator[Callable[..., Operator]]:
    with operators(tmp_path, cluster) as starter:
        yield starter


def tenant(name: str, **annotations: str) -> Object:
    spec = {
        "zone": "eu",
        "assistants": [{"name": "a", "mode": "free", "image": "i"}],
        "model": {"providers": [{"name": "p"}], "model": "m"},
    }
    return {
        "apiVersion": "domicile.dev/v1alpha1",
        "kind": "AssistantTenant",
        "metadata": {"name": name, "annotations": {f"test/{k}": v for k, v in annotations.items()}},
        "spec": spec,
    }


def failover(name: str) -> Object:
    spec = {"zone": "eu", "targetSite": "one", "tenants": {"names": ["a"]}, "acceptedDataLossSeconds": 60}
    spec |= {"sourceIsDown": "the region is down, says its status page"}
    return {"apiVersion": "domicile.dev/v1alpha1", "kind": "Failover", "metadata": {"name": name}, "spec": spec}


def child(api_version: str, kind: str, **rest: Any) -> Object:
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {"name": "c", "namespace": "ns", "labels": LABELS},
        **rest,
    }


_POD = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "a", "image": "i"}]}}
_SELECTOR = {"matchLabels": {"a": "b"}}
CHILDREN = [
    child("v1", "ServiceAccount"),
    child("v1", "Service", spec={"ports": [{"port": 80}]}),
    child("apps/v1", "Deployment", spec={"selector": _SELECTOR, "template": _POD}),
    child("networking.k8s.io/v1", "NetworkPolicy", spec={"podSelector": {}}),
    child("policy/v1", "PodDisruptionBudget", spec={"selector": _SELECTOR, "minAvailable": 1}),
]


def test_events_of_owners_and_children_arrive_and_nothing_is_written(
    cluster: ApiServer, start: Callable[..., Operator]
) -> None:
    cluster.kubectl("create", "namespace", "ns")
    cluster.kubectl("create", "-f", "-", stdin=tenant("before"))
    operator = start(resync_seconds="3600")
    wait_for(operator.leads)
    assert operator.get("/healthz") == (200, "ok")
    assert operator.get("/readyz") == (200, "ok")
    wait_for(lambda: operator.count("AssistantTenant", "before"))

    # The list may have been the tick's: from here on only the watches can tell.
    cluster.kubectl("create", "-f", "-", stdin=tenant("watched"))
    wait_for(lambda: operator.count("AssistantTenant", "watched"))
    cluster.kubectl("create", "-f", "-", stdin=failover("order"))
    wait_for(lambda: operator.count("Failover", "order"))
    for obj in CHILDREN:
        for verb in ("create", "delete"):
            seen = operator.count("AssistantTenant", "watched")
            cluster.kubectl(verb, "-f", "-", stdin=obj)
            wait_for(lambda seen=seen: operator.count("AssistantTenant", "watched") > seen)
    seen = operator.count("AssistantTenant", "watched")
    cluster.kubectl("label", "namespace", "ns", *(f"{k}={v}" for k, v in LABELS.items()))
    wait_for(lambda: operator.count("AssistantTenant", "watched") > seen)
    cluster.kubectl("delete", "assistanttenant", "watched")
    wait_for(lambda: operator.reconciled()[-1] == ("AssistantTenant", "watched"))

    for obj in cluster.get("assistanttenants")["items"] + cluster.get("failovers")["items"]:
        assert set(obj["metadata"].get("annotations", {})) <= {"test/fail"}
        assert not obj["metadata"].get("finalizers")
        assert "status" not in obj
    kopf_writes = cluster.audit("kopf")
    ours = [e for e in cluster.audit("domicile") if e["objectRef"]["resource"] != "leases"]
    assert kopf_writes == []
    assert ours == []
    agents = {e["userAgent"] for e in cluster.audit("", ("watch",)) if "domicile.dev" in e["requestURI"]}
    assert any(agent.startswith("kopf") for agent in agents), "the watches were not kopf's"
    watched = [e["requestURI"] for e in cluster.audit("kopf", ("watch",)) if "/deployments" in e["requestURI"]]
    assert watched
    assert all("labelSelector=app.kubernetes.io/managed-by=domicile" in urllib.parse.unquote(uri) for uri in watched)


def test_a_cluster_may_have_cert_manager_or_not(cluster: ApiServer, start: Callable[..., Operator]) -> None:
    without = start("without", resync_seconds="3600")
    cluster.kubectl("create", "-f", "-", stdin=tenant("certified"))
    wait_for(lambda: without.count("AssistantTenant", "certified"))
    without.stop()
    [crd] = [path for path in acme_server.crds() if path.name.endswith("_certificates.yaml")]
    cluster.kubectl("apply", "--server-side", "-f", str(crd))
    cluster.kubectl("wait", "--for=condition=Established", "crd/certificates.cert-manager.io")
    with_it = start("with", resync_seconds="3600", lease_name="another")
    wait_for(lambda: with_it.count("AssistantTenant", "certified"))
    issuer = {"name": "i", "kind": "ClusterIssuer"}
    spec = {"secretName": "s", "dnsNames": ["bank.example"], "issuerRef": issuer}
    made = child("cert-manager.io/v1", "Certificate", spec=spec)
    made["metadata"] |= {"namespace": "certified", "labels": {**LABELS, "domicile.dev/tenant": "certified"}}
    cluster.kubectl("create", "namespace", "certified")
    cluster.kubectl("create", "-f", "-", stdin=made)
    seen = with_it.count("AssistantTenant", "certified")
    patch = json.dumps({"status": {"renewalTime": "2030-01-01T00:00:00Z"}})
    name = ("certificates.cert-manager.io", "c", "-n", "certified")
    cluster.kubectl("patch", *name, "--subresource=status", "--type=merge", "-p", patch)
    wait_for(lambda: with_it.count("AssistantTenant", "certified") > seen)
    cluster.kubectl("delete", "-f", str(crd))
    cluster.kubectl("delete", "assistanttenant", "certified")


def test_a_policy_of_ciliums_that_changes_is_looked_at(cluster: ApiServer, start: Callable[..., Operator]) -> None:
    cluster.kubectl("create", "-f", "-", stdin=tenant("named"))
    cluster.kubectl("create", "namespace", "named")
    with cilium_kinds(cluster):
        operator = start(resync_seconds="3600")
        wait_for(lambda: operator.count("AssistantTenant", "named"))
        rule = {"endpointSelector": {}, "egress": [{"toFQDNs": [{"matchName": "s3.bank.example"}]}]}
        made = child("cilium.io/v2", "CiliumNetworkPolicy", spec=rule)
        made["metadata"] |= {"namespace": "named", "labels": {**LABELS, "domicile.dev/tenant": "named"}}
        seen = operator.count("AssistantTenant", "named")
        cluster.kubectl("create", "-f", "-", stdin=made)
        wait_for(lambda: operator.count("AssistantTenant", "named") > seen)
        operator.stop()
    cluster.kubectl("delete", "assistanttenant", "named")


def test_a_failing_reconcile_is_retried_with_backoff(cluster: ApiServer, start: Callable[..., Operator]) -> None:
    cluster.kubectl("create", "-f", "-", stdin=tenant("failing", fail="yes"))
    operator = start(resync_seconds="1")
    begun = time.monotonic()
    wait_for(lambda: operator.count("AssistantTenant", "failing") >= 4, 30)
    # One, two and four seconds, each by a quarter less at most; the tick of each second must not shorten them.
    assert time.monotonic() - begun > 5
    reason = 'domicile_reconcile_errors_total{kind="AssistantTenant",reason="RuntimeError"}'
    assert reason in operator.metrics()
    cluster.kubectl("annotate", "assistanttenant", "failing", "test/fail-")


def test_the_tick_sees_every_object(cluster: ApiServer, start: Callable[..., Operator]) -> None:
    operator = start(resync_seconds="1")
    cluster.kubectl("create", "-f", "-", stdin=tenant("ticked"))
    wait_for(lambda: operator.count("AssistantTenant", "ticked") >= 4)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_another_takes_over_within_20_seconds(
    cluster: ApiServer, start: Callable[..., Operator], number: signal.Signals
) -> None:
    first = start("one")
    wait_for(first.leads)
    second = start("two")
    wait_for(lambda: second.get("/readyz")[0] == 200)
    assert not second.leads()
    assert second.get("/healthz")[0] == 200
    assert second.reconciled() == []
    begun = time.monotonic()
    first.process.send_signal(number)
    wait_for(lambda: second.leads() and second.reconciled(), 20)
    print(f"taken over after {time.monotonic() - begun:.1f} s")
    if number is signal.SIGSTOP:
        first.process.send_signal(signal.SIGCONT)
        assert first.process.wait(20) == 1
        assert "not renewed" in first.words()
        assert second.leads()


def test_a_terminated_leader_hands_over_at_once(cluster: ApiServer, start: Callable[..., Operator]) -> None:
    first = start("one")
    wait_for(first.leads)
    second = start("two")
    wait_for(lambda: second.get("/readyz")[0] == 200)
    begun = time.monotonic()
    first.process.terminate()
    wait_for(second.leads, 12)
    print(f"handed over after {time.monotonic() - begun:.1f} s")
    assert first.process.wait(10) == 0


def test_an_operator_without_crds_waits_and_says_so(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    with running(tmp_path_factory.mktemp("bare"), crds=False) as bare, operators(tmp_path, bare) as start:
        bare.kubectl("create", "namespace", "domicile-system")
        operator = start()
        wait_for(lambda: "install the chart's CRDs" in operator.words())
        assert operator.get("/readyz")[0] == 503
        assert operator.get("/healthz")[0] == 200
        bare.kubectl("apply", "--server-side", "-f", str(ROOT / "crds"))
        wait_for(operator.leads)
        assert operator.get("/readyz")[0] == 200


def test_the_operator_ends_when_the_api_server_is_gone_for_good(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with running(tmp_path_factory.mktemp("lost")) as lost, operators(tmp_path, lost) as start:
        lost.kubectl("create", "namespace", "domicile-system")
        operator = start()
        wait_for(operator.leads)
        lost.stop("kube-apiserver", kill=True)
        assert operator.process.wait(30) == 1
        assert re.search(r"lease domicile-system/\S+ not renewed for \d+ s", operator.words())
