"""What should be: the objects of a tenant in this cluster, as pure functions of the view.

Every list that security depends on is written out even when empty: under server-side apply an absent field is nobody's,
and somebody else's addition to it would stay.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from urllib.parse import urlencode

from domicile.api import live_credentials
from domicile.api.common import LABEL_INSTANCE, LABEL_JURISDICTION, LABEL_NAME, LABEL_TENANT_ID, LABEL_TOPOLOGY_ZONE
from domicile.api.sites import ServedZone
from domicile.api.tenant import Assistant, Role
from domicile.api.zone import Cloud, Site
from domicile.controllers.pki import holders
from domicile.controllers.tenant import access, by_name, consents, front_door, gateway, identity, issuance, names, way
from domicile.controllers.tenant.access import STORE_SECRET
from domicile.controllers.tenant.network import GUARD_PORT, GUARD_TLS_PORT, network_policies
from domicile.controllers.tenant.parts import (
    ASSISTANTS,
    RESTRICTED,
    Object,
    account,
    budget,
    labels_of,
    named,
    of_secret,
    pod_security,
    probe,
    resources,
    spread,
)
from domicile.controllers.tenant.template import merge_template
from domicile.controllers.tenant.view import TenantView

ASSISTANT_PORT = 8081
MODEL_PORT = 8082
STORE_MOUNT = "/etc/assistant"
PODS_TLS = ("tls.crt", "tls.key", "ca.crt")


def build(view: TenantView) -> list[Object]:
    """All objects of the tenant, namespace first, workloads last, isolated before anything can run."""
    zone = _zone(view)
    objects = [namespace(view), *network_policies(view), *by_name.policies(view)]
    if view.has_store_secret:
        objects.append(store_secret(view))
    # What the peer mirrored is put down only where nobody has provided it (GitOps may have), and follows the peer while
    # that is the active one.
    wanted = {*view.missing_secrets, *(view.copied_secrets if view.role is Role.STANDBY else ())}
    objects += [mirrored_secret(view, n, data) for n, data in sorted(view.mirrored_secrets.items()) if n in wanted]
    if (told := consents.config_map(view)) is not None:
        objects.append(told)
    for assistant in view.spec.assistants:
        objects += [
            account(view, assistant.name, _assistant_labels(view, assistant)),
            service(view, assistant),
            budget(view, assistant.name, _assistant_labels(view, assistant), _selector(assistant)),
            *([deployment(view, assistant, zone)] if not (_replicas(view, assistant) and names.missing(view)) else []),
        ]
    return [*objects, *gateway.objects(view), *front_door.objects(view)]


def _zone(view: TenantView) -> ServedZone:
    if view.zone is None:
        raise ValueError("builders need a served zone; the policies gate on it")
    return view.zone


def _selector(assistant: Assistant) -> dict[str, str]:
    return {LABEL_INSTANCE: assistant.name, **ASSISTANTS}


def _assistant_labels(view: TenantView, assistant: Assistant) -> dict[str, str]:
    return labels_of(view) | {LABEL_NAME: "assistant", **_selector(assistant)}


def namespace(view: TenantView) -> Object:
    """The tenant's namespace, under the restricted Pod Security Standard."""
    labels = labels_of(view) | {
        LABEL_JURISDICTION: _zone(view).spec.jurisdiction,
        "pod-security.kubernetes.io/enforce": "restricted",
        "pod-security.kubernetes.io/warn": "restricted",
        "pod-security.kubernetes.io/audit": "restricted",
    }
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": view.name, "labels": labels}}


def store_secret(view: TenantView) -> Object:
    """What opens the tenant's own live bucket: static keys (development profile), or minted ones while some count."""
    made = named("v1", "Secret", view.name, STORE_SECRET, labels_of(view)) | {"type": "Opaque"}
    content = view.live_credentials
    if view.live_identity is not None:
        content = view.live_access.content if view.live_access else None
        made["metadata"]["annotations"] = access.told_in(view)
    data = {} if content is None else {live_credentials.FILE: base64.b64encode(content).decode()}
    return made | {"data": data}


def mirrored_secret(view: TenantView, name: str, data: Mapping[str, str]) -> Object:
    """A Secret that an assistant names, as the tenant's active site sealed it for this one."""
    labels = labels_of(view) | {LABEL_TENANT_ID: view.tenant_id or ""}
    kind, annotations = issuance.of_copy(view, name)
    made = named("v1", "Secret", view.name, name, labels) | {"type": kind, "data": dict(data)}
    return made | {"metadata": made["metadata"] | {"annotations": annotations}} if annotations else made


def service(view: TenantView, assistant: Assistant) -> Object:
    """The assistant's address in the cluster: its guards, for the front door by TLS on port 443, else on port 80."""
    labels = _assistant_labels(view, assistant)
    port = {"name": "http", "port": 80, "targetPort": GUARD_PORT, "protocol": "TCP"}
    if view.spec.access.sso is not None:
        port = {"name": "https", "port": 443, "targetPort": GUARD_TLS_PORT, "protocol": "TCP"}
    return named("v1", "Service", view.name, assistant.name, labels) | {
        "spec": {
            "type": "ClusterIP",
            "selector": _selector(assistant),
            "ports": [port],
        }
    }


def store_url(site: Site, bucket: str) -> str:
    """``ASSISTANT_STORE_URL`` of a live bucket (docs/assistant-contract.md)."""
    scheme = "gs" if site.cloud is Cloud.GCP else "s3"
    query = {"region": site.region}
    if site.stores.endpoint:
        query["endpoint"] = site.stores.endpoint
    return f"{scheme}://{bucket}?{urlencode(query)}"


def deployment(view: TenantView, assistant: Assistant, zone: ServedZone) -> Object:
    """The assistant and its guard, on nodes of the site's region only; without pods unless this site may write.

    While a Restore writes to the live bucket nobody else may.
    """
    labels = _assistant_labels(view, assistant)
    selector = _selector(assistant)
    ours: Object = {
        "metadata": {"labels": labels | {LABEL_TENANT_ID: view.tenant_id or ""}},
        "spec": {
            "serviceAccountName": assistant.name,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": pod_security(),
            "initContainers": [_guard(view)],
            "containers": [_assistant(view, assistant, zone)],
            "volumes": _volumes(view, assistant),
            **names.of_pod(view),
        },
    }
    defaults: Object = {
        "spec": {
            "terminationGracePeriodSeconds": 30,
            "topologySpreadConstraints": [spread(k, selector) for k in (LABEL_TOPOLOGY_ZONE, "kubernetes.io/hostname")],
            "containers": [{"name": "assistant", "resources": resources("50m", "2", "256Mi")}],
        }
    }
    return named("apps/v1", "Deployment", view.name, assistant.name, labels) | {
        "spec": {
            "replicas": _replicas(view, assistant),
            "revisionHistoryLimit": 3,
            "selector": {"matchLabels": selector},
            "template": merge_template(defaults, assistant.pod_template, ours, zone.own.region),
        }
    }


def _replicas(view: TenantView, assistant: Assistant) -> int:
    return assistant.replicas if view.role is Role.ACTIVE and view.restoring is None else 0


def _guard(view: TenantView) -> Object:
    env = {
        "DOMICILE_TENANT_ID": view.tenant_id or "",
        "DOMICILE_LEASE_URL": view.platform.lease_url,
        "DOMICILE_UPSTREAM": f"http://127.0.0.1:{ASSISTANT_PORT}",
        "DOMICILE_MODEL_URL": gateway.url(view.name),
        "DOMICILE_MODEL_PORT": str(MODEL_PORT),
    }
    ports = {"http": GUARD_PORT}
    if view.spec.access.sso is not None:
        env["DOMICILE_CLIENT"] = holders.door(view.name).id
        ports["https"] = GUARD_TLS_PORT
    env |= consents.env(view) | way.guard_env(view)
    memory = "128Mi" if view.spec.consent is None else consents.MEMORY
    # A sidecar in the sense of KEP-753: it starts before the assistant and stops after it.
    return {
        "name": "guard",
        "image": view.platform.image,
        "imagePullPolicy": view.platform.image_pull_policy,
        "restartPolicy": "Always",
        "args": ["guard"],
        "env": [{"name": k, "value": v} for k, v in env.items()],
        "ports": [{"name": k, "containerPort": v, "protocol": "TCP"} for k, v in ports.items()],
        "startupProbe": probe("/domicile/healthz", GUARD_PORT, period=1, failures=60),
        "readinessProbe": probe("/domicile/readyz", GUARD_PORT, period=2),
        "livenessProbe": probe("/domicile/healthz", GUARD_PORT, failures=6),
        "resources": resources("20m", "1", memory),
        "securityContext": dict(RESTRICTED),
        "volumeMounts": [
            {"name": "pods-tls", "mountPath": holders.MOUNT, "readOnly": True},
            *consents.mounts(view),
            *([way.mount(way.SECRET)] if way.led(view) else []),
        ],
    }


def _assistant(view: TenantView, assistant: Assistant, zone: ServedZone) -> Object:
    env = {
        "PORT": str(ASSISTANT_PORT),
        "ASSISTANT_NAME": assistant.name,
        "ASSISTANT_STORE_URL": store_url(zone.own, view.live_bucket or ""),
        "ASSISTANT_BASE_URL": f"http://127.0.0.1:{MODEL_PORT}/v1",
        "ASSISTANT_MODEL": view.spec.model.model,
        "ASSISTANT_MODE": assistant.mode.value,
        "ASSISTANT_STORE_ANONYMISED": _word(view.spec.privacy.store_anonymised),
        "ASSISTANT_KNOWLEDGE_ANONYMISED": _word(view.spec.privacy.knowledge_anonymised),
        "ASSISTANT_LEASE_URL": f"http://127.0.0.1:{GUARD_PORT}/domicile/lease",
    }
    mounts: list[Object] = [{"name": "tmp", "mountPath": "/tmp"}]  # noqa: S108 - inside the container
    if view.has_store_secret:
        env["ASSISTANT_STORE_CREDENTIALS"] = f"{STORE_MOUNT}/{live_credentials.FILE}"
        mounts.append({"name": STORE_SECRET, "mountPath": STORE_MOUNT, "readOnly": True})
    env |= way.assistant_env(view)
    if zone.own.store_ca_bundle is not None:
        env["ASSISTANT_STORE_AUTHORITIES"] = zone.own.store_ca_bundle
    if view.spec.access.sso is not None:
        env |= identity.ENV
        mounts.append(identity.MOUNT)
    return {
        "name": "assistant",
        "image": assistant.image,
        "imagePullPolicy": view.platform.image_pull_policy,
        "env": [{"name": k, "value": v} for k, v in env.items()],
        "envFrom": [{"secretRef": {"name": s, "optional": False}} for s in assistant.env_secrets],
        "ports": [{"name": "assistant", "containerPort": ASSISTANT_PORT, "protocol": "TCP"}],
        "startupProbe": probe("/healthz", ASSISTANT_PORT, period=1, failures=120),
        "readinessProbe": probe("/readyz", ASSISTANT_PORT, period=2),
        "livenessProbe": probe("/healthz", ASSISTANT_PORT, failures=6),
        "securityContext": dict(RESTRICTED),
        "volumeMounts": mounts,
    }


def _word(wanted: bool) -> str:
    return "true" if wanted else "false"


def _volumes(view: TenantView, assistant: Assistant) -> list[Object]:
    volumes: list[Object] = [
        {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}},
        of_secret("pods-tls", holders.secret_of(assistant.name), *PODS_TLS),
    ]
    if view.has_store_secret:
        volumes.append({"name": STORE_SECRET, "secret": {"secretName": STORE_SECRET, "defaultMode": 0o440}})
    if view.spec.access.sso is not None:
        volumes.append(identity.volume(assistant))
    return [*volumes, *consents.volumes(view, STORE_SECRET), *([way.volume(way.SECRET)] if way.led(view) else [])]
