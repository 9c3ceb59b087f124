"""Server-side apply on a real API server: what others add goes, and the steady state writes nothing."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from domicile.kube.apply import Change, apply
from domicile.kube.client import InvalidError, Kube
from tests.integration.apiserver import ApiServer

Object = dict[str, Any]
_names = itertools.count()


@pytest.fixture
async def kube(apiserver: ApiServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Kube]:
    monkeypatch.setenv("KUBECONFIG", str(apiserver.kubeconfig))
    client = await Kube.connect(user_agent=f"apply-test-{next(_names)}-")
    yield client
    await client.close()


@pytest.fixture(scope="module")
def namespace(apiserver: ApiServer) -> str:
    apiserver.kubectl("create", "namespace", "apply-test")
    return "apply-test"


def named(kind: str, api_version: str, **rest: Any) -> Object:
    meta = {
        "name": f"x-{next(_names)}",
        "namespace": "apply-test",
        "labels": {"app.kubernetes.io/managed-by": "domicile"},
    }
    return {"apiVersion": api_version, "kind": kind, "metadata": meta, **rest}


def deny_all() -> Object:
    spec = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    return named("NetworkPolicy", "networking.k8s.io/v1", spec=spec)


def one_opening() -> Object:
    peer = {"namespaceSelector": {"matchLabels": {"a": "b"}}, "podSelector": {"matchLabels": {"c": "d"}}}
    rule = {"from": [peer], "ports": [{"port": 8080}]}
    spec = {"podSelector": {"matchLabels": {"x": "y"}}, "policyTypes": ["Ingress"], "ingress": [rule], "egress": []}
    return named("NetworkPolicy", "networking.k8s.io/v1", spec=spec)


def deployment() -> Object:
    labels = {"app": "x"}
    hardened = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    guard = {
        "name": "guard",
        "image": "domicile.dev/domicile:0.1.0",
        "restartPolicy": "Always",
        "ports": [{"containerPort": 8080}],
        "securityContext": hardened,
    }
    main = {
        "name": "assistant",
        "image": "domicile.dev/assistant:0.1.0",
        "env": [{"name": "PORT", "value": "8081"}, {"name": "EMPTY", "value": ""}],
        "resources": {"requests": {"cpu": "1000m", "memory": "1024Mi"}, "limits": {"memory": "1Gi"}},
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": 8081}, "initialDelaySeconds": 0},
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
        "securityContext": hardened,
    }
    pod = {
        "automountServiceAccountToken": False,
        "hostNetwork": False,
        "securityContext": {"runAsNonRoot": True},
        "initContainers": [guard],
        "containers": [main],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
        "tolerations": [],
        "topologySpreadConstraints": [
            {
                "topologyKey": "topology.kubernetes.io/zone",
                "whenUnsatisfiable": "ScheduleAnyway",
                "maxSkew": 1,
                "labelSelector": {"matchLabels": labels},
            }
        ],
    }
    template = {"metadata": {"labels": labels}, "spec": pod}
    spec = {"replicas": 2, "selector": {"matchLabels": labels}, "template": template}
    return named("Deployment", "apps/v1", spec=spec)


def service() -> Object:
    spec = {"selector": {"app": "x"}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}
    return named("Service", "v1", spec=spec)


def disruption_budget() -> Object:
    spec = {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "x"}}}
    return named("PodDisruptionBudget", "policy/v1", spec=spec)


def service_account() -> Object:
    return named("ServiceAccount", "v1", automountServiceAccountToken=False)


def config_map() -> Object:
    return named("ConfigMap", "v1", data={"sites.json": "{}"})


def secret() -> Object:
    return named("Secret", "v1", type="Opaque", data={"key": "dmFsdWU="})


def cron_job() -> Object:
    pod = {
        "restartPolicy": "Never",
        "containers": [{"name": "replicate", "image": "i", "resources": {"requests": {"cpu": "0.5"}}}],
    }
    job = {"spec": {"backoffLimit": 0, "template": {"spec": pod}}}
    spec = {"schedule": "* * * * *", "concurrencyPolicy": "Forbid", "jobTemplate": job}
    return named("CronJob", "batch/v1", spec=spec)


def job() -> Object:
    pod = {"restartPolicy": "Never", "containers": [{"name": "replicate", "image": "i"}]}
    return named("Job", "batch/v1", spec={"backoffLimit": 0, "template": {"spec": pod}})


def a_namespace() -> Object:
    labels = {"pod-security.kubernetes.io/enforce": "restricted", "domicile.dev/tenant": "x"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": f"ns-{next(_names)}", "labels": labels}}


MAKERS = [
    deny_all, one_opening, deployment, service, disruption_budget, service_account, config_map, secret, cron_job, job,
    a_namespace,
]  # fmt: skip


def edit(apiserver: ApiServer, obj: Object, *patch: Object, manager: str = "kubectl-edit") -> None:
    meta = obj["metadata"]
    where = ["-n", meta["namespace"]] if "namespace" in meta else []
    apiserver.kubectl(
        "patch", obj["kind"], meta["name"], *where, f"--field-manager={manager}", "--type=json", "-p", json.dumps(patch)
    )


def add(path: str, value: object) -> Object:
    return {"op": "add", "path": path, "value": value}


def remove(path: str) -> Object:
    return {"op": "remove", "path": path}


def substance(obj: Object) -> Object:
    meta = obj["metadata"]
    kept = {"metadata": {"labels": meta.get("labels"), "annotations": meta.get("annotations")}}
    return {k: v for k, v in obj.items() if k not in {"metadata", "status"}} | kept


def writes(apiserver: ApiServer, kube: Kube) -> list[str]:
    return [f"{e['verb']} {e['requestURI']}" for e in apiserver.audit(kube.user_agent)]


async def settled(apiserver: ApiServer, kube: Kube, obj: Object) -> None:
    """Reconciling again finds nothing to do: no write, whether the object is read or given as listed."""
    before = writes(apiserver, kube)
    _, change = await apply(kube, obj)
    assert change is Change.UNCHANGED
    items = await kube.list(obj["apiVersion"], obj["kind"], obj["metadata"].get("namespace", ""))
    live = next(item for item in items if item["metadata"]["name"] == obj["metadata"]["name"])
    _, change = await apply(kube, obj, live=live)
    assert change is Change.UNCHANGED
    assert writes(apiserver, kube) == before


@pytest.mark.parametrize("make", MAKERS, ids=lambda m: m.__name__)
async def test_created_once_then_silent(apiserver: ApiServer, kube: Kube, namespace: str, make: Any) -> None:
    obj = make()
    created, change = await apply(kube, obj)
    assert change is Change.CREATED
    assert created["metadata"]["name"] == obj["metadata"]["name"]
    assert len(writes(apiserver, kube)) == 1
    await settled(apiserver, kube, obj)


_OPEN: list[Object] = [{}]
_SIDECAR = {"name": "spy", "image": "spy"}
_TEMPLATE = "/spec/template/spec"

TAMPERINGS: list[tuple[Any, list[Object]]] = [
    (deny_all, [add("/spec/ingress", _OPEN)]),
    (deny_all, [add("/spec/egress", _OPEN)]),
    (deny_all, [add("/spec/podSelector/matchLabels", {"only": "this"})]),
    (deny_all, [add("/spec/policyTypes", ["Ingress"])]),
    (one_opening, [add("/spec/ingress/-", {})]),
    (one_opening, [add("/spec/egress", _OPEN)]),
    (one_opening, [add("/spec/ingress/0/from/-", {"ipBlock": {"cidr": "0.0.0.0/0"}})]),
    (one_opening, [add("/spec/ingress/0/from/0/namespaceSelector", {})]),
    (one_opening, [remove("/spec/ingress/0/from/0/podSelector")]),
    (one_opening, [remove("/spec/ingress/0/ports")]),
    (one_opening, [add("/spec/ingress/0/ports/0/endPort", 9000)]),
    (deployment, [add(f"{_TEMPLATE}/containers/-", _SIDECAR)]),
    (deployment, [add(f"{_TEMPLATE}/containers/0", _SIDECAR)]),
    (deployment, [add(f"{_TEMPLATE}/initContainers/-", _SIDECAR)]),
    (deployment, [add(f"{_TEMPLATE}/hostNetwork", True)]),
    (deployment, [add(f"{_TEMPLATE}/hostPID", True)]),
    (deployment, [add(f"{_TEMPLATE}/serviceAccountName", "other"), add(f"{_TEMPLATE}/serviceAccount", "other")]),
    (deployment, [add(f"{_TEMPLATE}/nodeSelector", {"topology.kubernetes.io/region": "us-east-1"})]),
    (deployment, [add(f"{_TEMPLATE}/volumes/-", {"name": "host", "hostPath": {"path": "/"}})]),
    (deployment, [add(f"{_TEMPLATE}/containers/0/image", "evil")]),
    (deployment, [add(f"{_TEMPLATE}/containers/0/command", ["sh"])]),
    (deployment, [add(f"{_TEMPLATE}/containers/0/env/-", {"name": "LD_PRELOAD", "value": "x"})]),
    (deployment, [add(f"{_TEMPLATE}/containers/0/env/1/value", "not empty")]),
    (deployment, [add(f"{_TEMPLATE}/containers/0/securityContext/capabilities/add", ["NET_ADMIN"])]),
    (deployment, [remove(f"{_TEMPLATE}/containers/0/securityContext")]),
    (deployment, [remove(f"{_TEMPLATE}/automountServiceAccountToken")]),
    (deployment, [remove(f"{_TEMPLATE}/initContainers")]),
    (deployment, [add("/spec/template/metadata/labels/extra", "x")]),
    (deployment, [add("/spec/replicas", 0)]),
    (deployment, [add("/spec/revisionHistoryLimit", 3)]),
    (deployment, [add("/spec/paused", True)]),
    (service, [add("/spec/selector/app", "other")]),
    (service, [add("/spec/selector/more", "x")]),
    (service, [add("/spec/externalIPs", ["192.0.2.1"])]),
    (service, [add("/spec/ports/-", {"name": "more", "port": 81})]),
    (service, [add("/spec/type", "NodePort")]),
    (disruption_budget, [add("/spec/maxUnavailable", "100%")]),
    (service_account, [add("/automountServiceAccountToken", True)]),
    (service_account, [add("/imagePullSecrets", [{"name": "x"}])]),
    (config_map, [add("/data/more", "x")]),
    (config_map, [add("/data/sites.json", "[]")]),
    (secret, [add("/data/key", "b3RoZXI=")]),
    (cron_job, [add("/spec/suspend", True)]),
    (cron_job, [add("/spec/jobTemplate/spec/template/spec/hostNetwork", True)]),
    (deployment, [remove("/metadata/labels")]),
    (deployment, [add("/metadata/labels/app.kubernetes.io~1managed-by", "someone")]),
    (a_namespace, [add("/metadata/labels/pod-security.kubernetes.io~1enforce", "privileged")]),
]


@pytest.mark.parametrize(
    ("make", "patch"), TAMPERINGS, ids=[f"{m.__name__}{p[0]['op']}{p[0]['path']}" for m, p in TAMPERINGS]
)
async def test_edits_of_others_are_undone(
    apiserver: ApiServer, kube: Kube, namespace: str, make: Any, patch: list[Object]
) -> None:
    obj = make()
    original, _ = await apply(kube, obj)
    edit(apiserver, obj, *patch)
    repaired, change = await apply(kube, obj)
    assert change is not Change.UNCHANGED
    assert substance(repaired) == substance(original)
    await settled(apiserver, kube, obj)


@pytest.mark.parametrize("manager", ["domicile", "before-first-apply", "kube-controller-manager"])
@pytest.mark.parametrize("make", [deny_all, deployment], ids=lambda m: m.__name__)
async def test_no_manager_name_hides_an_edit(
    apiserver: ApiServer, kube: Kube, namespace: str, make: Any, manager: str
) -> None:
    obj = make()
    original, _ = await apply(kube, obj)
    path = "/spec/ingress" if make is deny_all else f"{_TEMPLATE}/hostPID"
    edit(apiserver, obj, add(path, _OPEN if make is deny_all else True), manager=manager)
    repaired, _ = await apply(kube, obj)
    assert substance(repaired) == substance(original)
    await settled(apiserver, kube, obj)


@pytest.mark.parametrize("make", [deny_all, deployment], ids=lambda m: m.__name__)
async def test_an_apply_under_our_own_name_is_undone(
    apiserver: ApiServer, kube: Kube, namespace: str, make: Any
) -> None:
    obj = make()
    original, _ = await apply(kube, obj)
    forged = copy.deepcopy(obj)
    if make is deny_all:
        forged["spec"]["egress"] = _OPEN
    else:
        forged["spec"]["template"]["spec"]["hostPID"] = True
    apiserver.apply(forged, manager="domicile")
    repaired, change = await apply(kube, obj)
    assert change is Change.APPLIED
    assert substance(repaired) == substance(original)
    await settled(apiserver, kube, obj)


async def test_an_equal_apply_by_another_does_not_loop(apiserver: ApiServer, kube: Kube, namespace: str) -> None:
    obj = deployment()
    await apply(kube, obj)
    apiserver.apply(obj, manager="gitops")
    _, change = await apply(kube, obj)
    assert change is Change.REPLACED
    await settled(apiserver, kube, obj)


async def test_wiped_ownership_hides_nothing(apiserver: ApiServer, kube: Kube, namespace: str) -> None:
    obj = deny_all()
    original, _ = await apply(kube, obj)
    edit(apiserver, obj, add("/spec/egress", _OPEN))
    edit(apiserver, obj, add("/metadata/managedFields", [{}]))
    repaired, _ = await apply(kube, obj)
    assert substance(repaired) == substance(original)
    await settled(apiserver, kube, obj)


async def test_a_deleted_child_is_back(apiserver: ApiServer, kube: Kube, namespace: str) -> None:
    obj = deny_all()
    await apply(kube, obj)
    apiserver.kubectl("delete", "networkpolicy", obj["metadata"]["name"], "-n", namespace)
    _, change = await apply(kube, obj)
    assert change is Change.CREATED


async def test_what_is_no_longer_desired_is_removed(apiserver: ApiServer, kube: Kube, namespace: str) -> None:
    obj = deployment()
    obj["spec"]["template"]["spec"]["containers"].append({"name": "second", "image": "i"})
    obj["spec"]["template"]["spec"]["priorityClassName"] = "high"
    await apply(kube, obj)
    pod = obj["spec"]["template"]["spec"]
    pod["containers"].pop()
    del pod["priorityClassName"]
    live, change = await apply(kube, obj)
    assert change is Change.APPLIED
    assert [c["name"] for c in live["spec"]["template"]["spec"]["containers"]] == ["assistant"]
    assert "priorityClassName" not in live["spec"]["template"]["spec"]
    await settled(apiserver, kube, obj)


async def test_labels_and_annotations_of_others_stay(apiserver: ApiServer, kube: Kube, namespace: str) -> None:
    obj = deployment()
    await apply(kube, obj)
    edit(apiserver, obj, add("/metadata/labels/cost-center", "42"), add("/metadata/annotations", {"note": "x"}))
    await settled(apiserver, kube, obj)
    edit(apiserver, obj, add(f"{_TEMPLATE}/hostPID", True))
    live, change = await apply(kube, obj)
    assert change is Change.REPLACED
    assert live["metadata"]["labels"]["cost-center"] == "42"
    assert live["metadata"]["annotations"] == {"note": "x"}


async def test_an_adopted_namespace_keeps_its_own_labels(apiserver: ApiServer, kube: Kube) -> None:
    obj = a_namespace()
    name = obj["metadata"]["name"]
    apiserver.kubectl("create", "-f", "-", stdin={**obj, "metadata": {"name": name, "labels": {"team": "a"}}})
    live, _ = await apply(kube, obj)
    assert live["metadata"]["labels"]["team"] == "a"
    assert live["spec"]["finalizers"] == ["kubernetes"]
    await settled(apiserver, kube, obj)


async def test_an_object_that_others_made_is_taken_over(apiserver: ApiServer, kube: Kube, namespace: str) -> None:
    obj = deny_all()
    apiserver.kubectl("create", "-f", "-", stdin={**obj, "spec": {**obj["spec"], "ingress": _OPEN}})
    live, change = await apply(kube, obj)
    assert change is Change.REPLACED
    assert "ingress" not in live["spec"]
    await settled(apiserver, kube, obj)


async def test_a_refused_object_says_why(kube: Kube, namespace: str) -> None:
    obj = service()
    obj["spec"]["ports"][0]["port"] = 70000
    with pytest.raises(InvalidError, match="must be between 1 and 65535"):
        await apply(kube, obj)
