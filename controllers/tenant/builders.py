"""What should be: the objects of a tenant in this cluster, as pure functions of the view.

Every list that security depends on is written out even when empty: under server-side apply an absent field is nobody's,
and somebody else's addition to it would stay.
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

from domicile.api.common import (
    FIELD_MANAGER,
    LABEL_COMPONENT,
    LABEL_INSTANCE,
    LABEL_JURISDICTION,
    LABEL_MANAGED_BY,
    LABEL_NAME,
    LABEL_TENANT,
    LABEL_TENANT_ID,
    LABEL_TOPOLOGY_ZONE,
    LABEL_ZONE,
)
from domicile.api.sites import ServedZone
from domicile.api.tenant import Assistant, Role
from domicile.api.zone import Cloud, ModelProvider, Profile, Site
from domicile.controllers.tenant.template import merge_template
from domicile.controllers.tenant.view import TenantView

Object = dict[str, Any]

GUARD_PORT = 8080
ASSISTANT_PORT = 8081
STORE_SECRET = "store-credentials"  # noqa: S105 - the name of a Secret
DENY_ALL = "default-deny"
STORE_MOUNT = "/etc/assistant"
_RUN_AS = 65532
_RESTRICTED: Object = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "runAsUser": _RUN_AS,
    "runAsGroup": _RUN_AS,
    "seccompProfile": {"type": "RuntimeDefault"},
}
_ASSISTANT_SELECTOR = {LABEL_COMPONENT: "assistant"}


def build(view: TenantView) -> list[Object]:
    """All objects of the tenant, namespace first, workloads last, isolated before anything can run."""
    zone = _zone(view)
    objects = [namespace(view), *network_policies(view)]
    if view.live_credentials is not None:
        objects.append(store_secret(view, view.live_credentials))
    # What the peer mirrored is put down only where nobody has provided it (GitOps may have), and follows the peer while
    # that is the active one.
    wanted = {*view.missing_secrets, *(view.copied_secrets if view.role is Role.STANDBY else ())}
    objects += [mirrored_secret(view, n, data) for n, data in sorted(view.mirrored_secrets.items()) if n in wanted]
    for assistant in view.spec.assistants:
        objects += [
            service_account(view, assistant),
            service(view, assistant),
            disruption_budget(view, assistant),
            deployment(view, assistant, zone),
        ]
    return objects


def _zone(view: TenantView) -> ServedZone:
    if view.zone is None:
        raise ValueError("builders need a served zone; the policies gate on it")
    return view.zone


def _labels(view: TenantView, **more: str) -> dict[str, str]:
    return {LABEL_MANAGED_BY: FIELD_MANAGER, LABEL_TENANT: view.name, LABEL_ZONE: view.spec.zone, **more}


def _assistant_labels(view: TenantView, assistant: Assistant) -> dict[str, str]:
    return _labels(view) | {LABEL_NAME: "assistant", LABEL_INSTANCE: assistant.name, **_ASSISTANT_SELECTOR}


def _object(api_version: str, kind: str, tenant: str, name: str, labels: Mapping[str, str]) -> Object:
    meta = {"name": name, "namespace": tenant, "labels": dict(labels)}
    return {"apiVersion": api_version, "kind": kind, "metadata": meta}


def namespace(view: TenantView) -> Object:
    """The tenant's namespace, under the restricted Pod Security Standard."""
    labels = _labels(view) | {
        LABEL_JURISDICTION: _zone(view).spec.jurisdiction,
        "pod-security.kubernetes.io/enforce": "restricted",
        "pod-security.kubernetes.io/warn": "restricted",
        "pod-security.kubernetes.io/audit": "restricted",
    }
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": view.name, "labels": labels}}


def service_account(view: TenantView, assistant: Assistant) -> Object:
    """An identity without permissions and without a token for the API server."""
    return _object("v1", "ServiceAccount", view.name, assistant.name, _assistant_labels(view, assistant)) | {
        "automountServiceAccountToken": False
    }


def store_secret(view: TenantView, credentials: bytes) -> Object:
    """Static credentials of the tenant's own live bucket (development profile only)."""
    return _object("v1", "Secret", view.name, STORE_SECRET, _labels(view)) | {
        "type": "Opaque",
        "data": {"store.json": base64.b64encode(credentials).decode()},
    }


def mirrored_secret(view: TenantView, name: str, data: Mapping[str, str]) -> Object:
    """A Secret that an assistant names, as the tenant's active site sealed it for this one."""
    labels = _labels(view) | {LABEL_TENANT_ID: view.tenant_id or ""}
    return _object("v1", "Secret", view.name, name, labels) | {"type": "Opaque", "data": dict(data)}


def service(view: TenantView, assistant: Assistant) -> Object:
    """The assistant's address in the cluster: port 80 of its guards."""
    labels = _assistant_labels(view, assistant)
    return _object("v1", "Service", view.name, assistant.name, labels) | {
        "spec": {
            "type": "ClusterIP",
            "selector": {LABEL_INSTANCE: assistant.name, **_ASSISTANT_SELECTOR},
            "ports": [{"name": "http", "port": 80, "targetPort": GUARD_PORT, "protocol": "TCP"}],
        }
    }


def disruption_budget(view: TenantView, assistant: Assistant) -> Object:
    """At most one pod of an assistant leaves at a time."""
    labels = _assistant_labels(view, assistant)
    return _object("policy/v1", "PodDisruptionBudget", view.name, assistant.name, labels) | {
        "spec": {
            "maxUnavailable": 1,
            "selector": {"matchLabels": {LABEL_INSTANCE: assistant.name, **_ASSISTANT_SELECTOR}},
        }
    }


def store_url(site: Site, bucket: str) -> str:
    """``ASSISTANT_STORE_URL`` of a live bucket (docs/assistant-contract.md)."""
    scheme = "gs" if site.cloud is Cloud.GCP else "s3"
    query = {"region": site.region}
    if site.stores.endpoint:
        query["endpoint"] = site.stores.endpoint
    return f"{scheme}://{bucket}?{urlencode(query)}"


def model_provider(view: TenantView) -> ModelProvider | None:
    """The provider that the tenant chose, if its zone has it."""
    providers = view.zone.spec.model_providers if view.zone else []
    return next((p for p in providers if p.name == view.spec.model.provider), None)


def _model_url(view: TenantView) -> str:
    provider = model_provider(view)
    if provider is None or provider.service is None:
        raise ValueError("builders need an in-cluster model provider; the policies gate on it")
    return f"http://{provider.service.name}.{provider.service.namespace}.svc:{provider.service.port}/v1"


def deployment(view: TenantView, assistant: Assistant, zone: ServedZone) -> Object:
    """The assistant and its guard, on nodes of the site's region only; without pods unless this site may write.

    While a Restore writes to the live bucket nobody else may.
    """
    labels = _assistant_labels(view, assistant)
    selector = {LABEL_INSTANCE: assistant.name, **_ASSISTANT_SELECTOR}
    ours: Object = {
        "metadata": {"labels": labels | {LABEL_TENANT_ID: view.tenant_id or ""}},
        "spec": {
            "serviceAccountName": assistant.name,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": _RUN_AS,
                "runAsGroup": _RUN_AS,
                "fsGroup": _RUN_AS,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "initContainers": [_guard(view)],
            "containers": [_assistant(view, assistant, zone)],
            "volumes": _volumes(view),
        },
    }
    defaults: Object = {
        "spec": {
            "terminationGracePeriodSeconds": 30,
            "topologySpreadConstraints": [
                _spread(k, selector) for k in (LABEL_TOPOLOGY_ZONE, "kubernetes.io/hostname")
            ],
            "containers": [{"name": "assistant", "resources": _resources("50m", "2", "256Mi")}],
        }
    }
    return _object("apps/v1", "Deployment", view.name, assistant.name, labels) | {
        "spec": {
            "replicas": assistant.replicas if view.role is Role.ACTIVE and view.restoring is None else 0,
            "revisionHistoryLimit": 3,
            "selector": {"matchLabels": selector},
            "template": merge_template(defaults, assistant.pod_template, ours, zone.own.region),
        }
    }


def _spread(key: str, selector: Mapping[str, str]) -> Object:
    return {
        "maxSkew": 1,
        "topologyKey": key,
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": dict(selector)},
    }


def _probe(path: str, port: int, *, period: int = 10, failures: int = 3) -> Object:
    return {
        "httpGet": {"path": path, "port": port, "scheme": "HTTP"},
        "periodSeconds": period,
        "timeoutSeconds": 3,
        "failureThreshold": failures,
    }


def _resources(cpu: str, cpu_limit: str, memory: str) -> Object:
    # The limit bounds what one tenant can take from the others on its node.
    return {
        "requests": {"cpu": cpu, "memory": memory, "ephemeral-storage": "64Mi"},
        "limits": {"cpu": cpu_limit, "memory": memory, "ephemeral-storage": "64Mi"},
    }


def _guard(view: TenantView) -> Object:
    # A sidecar in the sense of KEP-753: it starts before the assistant and stops after it.
    return {
        "name": "guard",
        "image": view.platform.image,
        "imagePullPolicy": view.platform.image_pull_policy,
        "restartPolicy": "Always",
        "args": ["guard"],
        "env": [
            {"name": "DOMICILE_TENANT_ID", "value": view.tenant_id or ""},
            {"name": "DOMICILE_LEASE_URL", "value": view.platform.lease_url},
            {"name": "DOMICILE_UPSTREAM", "value": f"http://127.0.0.1:{ASSISTANT_PORT}"},
        ],
        "ports": [{"name": "http", "containerPort": GUARD_PORT, "protocol": "TCP"}],
        "startupProbe": _probe("/domicile/healthz", GUARD_PORT, period=1, failures=60),
        "readinessProbe": _probe("/domicile/readyz", GUARD_PORT, period=2),
        "livenessProbe": _probe("/domicile/healthz", GUARD_PORT, failures=6),
        "resources": _resources("20m", "1", "128Mi"),
        "securityContext": dict(_RESTRICTED),
    }


def _assistant(view: TenantView, assistant: Assistant, zone: ServedZone) -> Object:
    env = {
        "PORT": str(ASSISTANT_PORT),
        "ASSISTANT_NAME": assistant.name,
        "ASSISTANT_STORE_URL": store_url(zone.own, view.live_bucket or ""),
        "ASSISTANT_BASE_URL": _model_url(view),
        "ASSISTANT_MODEL": view.spec.model.model,
        "ASSISTANT_LEASE_URL": f"http://127.0.0.1:{GUARD_PORT}/domicile/lease",
    }
    mounts = [{"name": "tmp", "mountPath": "/tmp"}]  # noqa: S108 - inside the container
    if view.live_credentials is not None:
        env["ASSISTANT_STORE_CREDENTIALS"] = f"{STORE_MOUNT}/store.json"
        mounts.append({"name": STORE_SECRET, "mountPath": STORE_MOUNT, "readOnly": True})  # type: ignore[dict-item]
    return {
        "name": "assistant",
        "image": assistant.image,
        "imagePullPolicy": view.platform.image_pull_policy,
        "env": [{"name": k, "value": v} for k, v in env.items()],
        "envFrom": [{"secretRef": {"name": s, "optional": False}} for s in assistant.env_secrets],
        "ports": [{"name": "assistant", "containerPort": ASSISTANT_PORT, "protocol": "TCP"}],
        "startupProbe": _probe("/healthz", ASSISTANT_PORT, period=1, failures=120),
        "readinessProbe": _probe("/readyz", ASSISTANT_PORT, period=2),
        "livenessProbe": _probe("/healthz", ASSISTANT_PORT, failures=6),
        "securityContext": dict(_RESTRICTED),
        "volumeMounts": mounts,
    }


def _volumes(view: TenantView) -> list[Object]:
    volumes: list[Object] = [{"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}}]
    if view.live_credentials is not None:
        volumes.append({"name": STORE_SECRET, "secret": {"secretName": STORE_SECRET, "defaultMode": 0o440}})
    return volumes


def isolation(tenant: str, zone: str) -> Object:
    """Default deny, both ways, for every pod of the namespace."""
    return _policy(tenant, zone, DENY_ALL, {}, ingress=[], egress=[])


def network_policies(view: TenantView) -> list[Object]:
    """Default deny and the named openings of the assistants."""
    zone = _zone(view)
    clients = [_namespace_peer(c.namespace) for c in view.spec.access.clients]
    provider = model_provider(view)
    ref = provider.service if provider else None
    agents = _namespace_peer(view.platform.namespace) | {
        "podSelector": {"matchLabels": {LABEL_COMPONENT: "lease-agent"}}
    }
    dns = _namespace_peer("kube-system") | {"podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}
    model = (
        _namespace_peer(ref.namespace) | {"podSelector": {"matchLabels": dict(ref.pod_labels)}}
        if ref is not None
        else None
    )
    return [
        isolation(view.name, view.spec.zone),
        # An empty `from` would admit everybody: without clients there is no rule at all.
        _opening(view, "allow-clients", ingress=[_rule("from", clients, GUARD_PORT)] if clients else []),
        _opening(view, "allow-dns", egress=[{"to": [dns], "ports": [_port(53, "UDP"), _port(53, "TCP")]}]),
        _opening(view, "allow-lease", egress=[_rule("to", [agents], 8080)]),
        _opening(
            view, "allow-model", egress=[_rule("to", [model], ref.target_port or ref.port)] if ref and model else []
        ),
        _opening(view, "allow-store", egress=_store_rule(zone.own)),
    ]


def store_peers(site: Site) -> tuple[list[str], int]:
    """CIDRs and TCP port of a site's store; no CIDRs where the zone doesn't name them."""
    url = urlsplit(site.stores.endpoint or "https://")
    port = url.port or (443 if url.scheme == "https" else 80)
    cidrs = list(site.stores.endpoint_cidrs)
    if not cidrs and site.stores.profile is Profile.COMPATIBLE and url.hostname and _is_ipv4(url.hostname):
        cidrs = [f"{url.hostname}/32"]
    return cidrs, port


def _is_ipv4(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).version == 4
    except ValueError:
        return False


def _store_rule(site: Site) -> list[Object]:
    cidrs, port = store_peers(site)
    return [_rule("to", [{"ipBlock": {"cidr": c}} for c in cidrs], port)] if cidrs else []


def _namespace_peer(name: str) -> Object:
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}


def _port(port: int, protocol: str = "TCP") -> Object:
    return {"port": port, "protocol": protocol}


def _rule(direction: str, peers: list[Object], port: int) -> Object:
    return {direction: peers, "ports": [_port(port)]}


def _opening(
    view: TenantView, name: str, *, ingress: list[Object] | None = None, egress: list[Object] | None = None
) -> Object:
    return _policy(
        view.name, view.spec.zone, name, {"matchLabels": _ASSISTANT_SELECTOR}, ingress=ingress, egress=egress
    )


def _policy(
    tenant: str,
    zone: str,
    name: str,
    pods: Object,
    *,
    ingress: list[Object] | None = None,
    egress: list[Object] | None = None,
) -> Object:
    types = [t for t, rules in (("Ingress", ingress), ("Egress", egress)) if rules is not None]
    spec: Object = {"podSelector": pods, "policyTypes": types, "ingress": ingress or [], "egress": egress or []}
    labels = {LABEL_MANAGED_BY: FIELD_MANAGER, LABEL_TENANT: tenant, LABEL_ZONE: zone}
    return _object("networking.k8s.io/v1", "NetworkPolicy", tenant, name, labels) | {"spec": spec}
