"""Pieces that the objects of a tenant share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from domicile.api.common import FIELD_MANAGER, LABEL_COMPONENT, LABEL_MANAGED_BY, LABEL_TENANT, LABEL_ZONE
from domicile.controllers.tenant.view import TenantView

Object = dict[str, Any]

RUN_AS = 65532
RESTRICTED: Object = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "runAsUser": RUN_AS,
    "runAsGroup": RUN_AS,
    "seccompProfile": {"type": "RuntimeDefault"},
}
# The cluster's DNS: where its pods and its Service are, and what both are labelled.
DNS_NAMESPACE = "kube-system"
DNS_LABEL, DNS_VALUE = "k8s-app", "kube-dns"
ASSISTANTS = {LABEL_COMPONENT: "assistant"}
DOORS = {LABEL_COMPONENT: "front-door"}
GATEWAYS = {LABEL_COMPONENT: "gateway"}


def labels_of(view: TenantView) -> dict[str, str]:
    """Labels of every object of a tenant."""
    return {LABEL_MANAGED_BY: FIELD_MANAGER, LABEL_TENANT: view.name, LABEL_ZONE: view.spec.zone}


def named(api_version: str, kind: str, tenant: str, name: str, labels: Mapping[str, str]) -> Object:
    """An object of the tenant's namespace, without its content."""
    meta = {"name": name, "namespace": tenant, "labels": dict(labels)}
    return {"apiVersion": api_version, "kind": kind, "metadata": meta}


def emptied(name: str, tenant: str, zone: str) -> Object:
    """A Secret of a tenant that is no more, without what it held."""
    labels = {LABEL_MANAGED_BY: FIELD_MANAGER, LABEL_TENANT: tenant, LABEL_ZONE: zone}
    return named("v1", "Secret", tenant, name, labels) | {"type": "Opaque", "data": {}}


def spread(key: str, selector: Mapping[str, str]) -> Object:
    """Pods spread over places that a node label tells apart, as far as that goes."""
    return {
        "maxSkew": 1,
        "topologyKey": key,
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": dict(selector)},
    }


def probe(path: str, port: int, *, period: int = 10, failures: int = 3) -> Object:
    """A probe by plain HTTP."""
    return {
        "httpGet": {"path": path, "port": port, "scheme": "HTTP"},
        "periodSeconds": period,
        "timeoutSeconds": 3,
        "failureThreshold": failures,
    }


def resources(cpu: str, cpu_limit: str, memory: str) -> Object:
    """Requests and limits of a container."""
    # The limit bounds what one tenant can take from the others on its node.
    return {
        "requests": {"cpu": cpu, "memory": memory, "ephemeral-storage": "64Mi"},
        "limits": {"cpu": cpu_limit, "memory": memory, "ephemeral-storage": "64Mi"},
    }


def pod_security() -> Object:
    """Security context of a pod under the restricted Pod Security Standard."""
    return {
        "runAsNonRoot": True,
        "runAsUser": RUN_AS,
        "runAsGroup": RUN_AS,
        "fsGroup": RUN_AS,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def of_secret(volume: str, secret: str, *keys: str, optional: bool = False) -> Object:
    """A volume of some keys of a Secret, for which pods wait unless it is ``optional``."""
    source: Object = {"secretName": secret, "items": [{"key": k, "path": k} for k in keys], "defaultMode": 0o440}
    return {"name": volume, "secret": source | ({"optional": True} if optional else {})}


def account(view: TenantView, name: str, labels: Mapping[str, str]) -> Object:
    """An identity without permissions and without a token for the API server."""
    return named("v1", "ServiceAccount", view.name, name, labels) | {"automountServiceAccountToken": False}


def budget(view: TenantView, name: str, labels: Mapping[str, str], selector: Mapping[str, str]) -> Object:
    """At most one of these pods leaves at a time."""
    return named("policy/v1", "PodDisruptionBudget", view.name, name, labels) | {
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": dict(selector)}}
    }
