"""The chart installed into a real API server: order of CRDs and zones, Pod Security, the rights of each account."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import pytest

from domicile.controllers.tenant import consents, front_door, gateway, identity
from tests.integration.apiserver import ApiServer, binary, running
from tests.integration.test_chart import API_SERVER, CHART, EU, IDENTITY, pods, render

NAMESPACE = "domicile-system"
OPERATOR = f"system:serviceaccount:{NAMESPACE}:domicile-operator"


def run(server: ApiServer, tool: str, *args: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [binary(tool), f"--kubeconfig={server.kubeconfig}", *args]
    return subprocess.run(command, check=False, input=stdin, capture_output=True, text=True)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A server of its own that knows no CRDs yet, with the chart installed, and all that it may hold."""
    with running(tmp_path_factory.mktemp("chart"), crds=False) as server:
        _install(server)
        yield server


def _install(server: ApiServer) -> None:
    namespace = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": NAMESPACE, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
    }
    made = run(server, "kubectl", "apply", "--filename=-", stdin=json.dumps(namespace))
    assert made.returncode == 0, made.stderr
    done = run(server, "helm", "install", "domicile", str(CHART), f"--namespace={NAMESPACE}", *EU, *IDENTITY)
    assert done.returncode == 0, done.stderr


def test_zones_come_with_the_release(release: ApiServer) -> None:
    found = run(release, "kubectl", "get", "residencyzone", "eu", "--output=jsonpath={.spec.sites[*].name}")
    assert found.stdout == "gcp-frankfurt aws-frankfurt", found.stderr


def test_pods_pass_pod_security_restricted(release: ApiServer) -> None:
    for name, template in pods(render(*EU, *IDENTITY)).items():
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, **template["metadata"]},
            "spec": template["spec"],
        }
        made = run(
            release,
            "kubectl",
            "create",
            "--dry-run=server",
            f"--namespace={NAMESPACE}",
            "--filename=-",
            stdin=json.dumps(pod),
        )
        assert made.returncode == 0, made.stderr


@pytest.mark.parametrize(
    ("verb", "resource", "namespace", "allowed"),
    [
        ("list", "assistanttenants.domicile.dev", "", True),
        ("update", "failovers.domicile.dev/status", "", True),
        ("patch", "failovers.domicile.dev/status", "", False),
        ("watch", "restores.domicile.dev", "", True),
        ("patch", "restores.domicile.dev", "", True),
        ("update", "restores.domicile.dev/status", "", True),
        ("list", "persistentvolumeclaims", "acme", True),
        ("get", "persistentvolumeclaims", "acme", False),
        ("patch", "deployments.apps", "acme", True),
        ("get", "secrets/named", "acme", True),
        ("patch", "jobs.batch", NAMESPACE, True),
        ("get", "cronjobs.batch/domicile-replicate-gcp-frankfurt", NAMESPACE, True),
        ("get", "cronjobs.batch/domicile-replicate-gcp-iowa", NAMESPACE, False),
        ("patch", "configmaps/domicile-sites", NAMESPACE, True),
        ("list", "secrets", "", False),
        ("list", "secrets", "acme", False),
        ("list", "secrets", NAMESPACE, False),
        ("create", "pods", "acme", False),
        ("create", "pods/exec", "acme", False),
        ("create", "serviceaccounts/token", "acme", False),
        ("create", "clusterrolebindings", "", False),
        ("patch", "configmaps/other", NAMESPACE, False),
        *(
            (verb, f"configmaps/{name}", "acme", True)
            for name in (identity.CONFIG, front_door.NAME, gateway.NAME, consents.NAME)
            for verb in ("create", "patch", "delete")
        ),
        ("patch", "configmaps/coredns", "kube-system", False),
        ("list", "configmaps", "acme", False),
        ("create", "jobs.batch", "acme", True),
        ("patch", "jobs.batch", "acme", False),
        ("delete", "assistanttenants.domicile.dev", "", False),
        ("create", "failovers.domicile.dev", "", False),
        ("create", "restores.domicile.dev", "", False),
        ("delete", "restores.domicile.dev", "", False),
        ("patch", "nodes", "", False),
    ],
)
def test_the_operators_role(release: ApiServer, verb: str, resource: str, namespace: str, *, allowed: bool) -> None:
    where = [f"--namespace={namespace}"] if namespace else ["--all-namespaces"]
    subresource: list[str] = []
    kind, _, rest = resource.partition("/")
    if rest in {"status", "exec", "token"}:
        resource, subresource = kind, [f"--subresource={rest}"]
    answer = run(release, "kubectl", "auth", "can-i", verb, resource, *subresource, *where, f"--as={OPERATOR}")
    assert answer.stdout.strip() == ("yes" if allowed else "no"), answer.stderr


@pytest.mark.parametrize("account", ["domicile-lease", "domicile-replicate"])
def test_the_others_may_do_nothing(release: ApiServer, account: str) -> None:
    user = f"--as=system:serviceaccount:{NAMESPACE}:{account}"
    for verb, resource in (("get", "secrets"), ("list", "pods"), ("list", "assistanttenants.domicile.dev")):
        answer = run(release, "kubectl", "auth", "can-i", verb, resource, f"--namespace={NAMESPACE}", user)
        assert answer.stdout.strip() == "no", (verb, resource)


def test_an_upgrade_changes_the_zone_and_keeps_its_rules(release: ApiServer) -> None:
    arguments = (
        f"--namespace={NAMESPACE}",
        f"--values={CHART}/values-eu.yaml",
        "--set=sites={gcp-frankfurt}",
        API_SERVER,
    )
    changed = run(release, "helm", "upgrade", "domicile", str(CHART), *arguments, "--set=zones.eu.onPartition=stop")
    assert changed.returncode == 0, changed.stderr
    refused = run(release, "helm", "upgrade", "domicile", str(CHART), *arguments, "--set=zones.eu.leaseSeconds=60")
    assert refused.returncode != 0
    assert "is immutable" in refused.stderr
