"""Merge a user's pod template into ours: the user may add and tune, region, guard and confinement always win."""

from __future__ import annotations

import copy
from typing import Any

from domicile.api.common import LABEL_REGION, is_own_secret

Object = dict[str, Any]

# Lists of a pod spec that Kubernetes merges by name (API reference, patchMergeKey).
_NAMED = {"containers", "initContainers", "volumes", "env", "ports", "imagePullSecrets", "ephemeralContainers"}
_KEY = {"ports": "containerPort"}
# Would bypass the scheduler, share the node's namespaces, or run an unrestricted identity.
_FORBIDDEN = (
    "nodeName",
    "hostNetwork",
    "hostPID",
    "hostIPC",
    "hostUsers",
    "shareProcessNamespace",
    "ephemeralContainers",
    "serviceAccount",
)
_HANDLERS = ("httpGet", "tcpSocket")
_RESERVED = "guard"
_SHARED = "tmp"


def merge_template(defaults: Object, users: Object, ours: Object, region: str) -> Object:
    """``ours`` over ``users`` over ``defaults``, pinned to ``region``.

    The result is a PodTemplateSpec. Only labels, annotations and ``spec`` of the user's template count;
    fields that could leave the region or the confinement, the operator's own Secrets and volumes, and tokens of the
    cluster's are dropped: a cloud that trusts the cluster would take the pod for somebody.
    """
    wanted = {
        "metadata": {k: v for k, v in (users.get("metadata") or {}).items() if v and k in {"labels", "annotations"}},
        "spec": {
            k: _without_proofs(v) for k, v in (users.get("spec") or {}).items() if v is not None and k not in _FORBIDDEN
        },
    }
    if "dnsConfig" in ours["spec"]:
        wanted["spec"].pop("dnsConfig", None)
    # What the guard proves itself by is in volumes of the pod; a user's container would read it by naming them.
    sealed = {v["name"] for v in ours["spec"].get("volumes", ())} - {_SHARED}
    for containers in ("containers", "initContainers"):
        # A merged guard would run the user's command or environment under the guard's name.
        if containers in wanted["spec"]:
            wanted["spec"][containers] = [c for c in wanted["spec"][containers] if c.get("name") != _RESERVED]
            for container in wanted["spec"][containers]:
                if isinstance(mounts := container.get("volumeMounts"), list):
                    container["volumeMounts"] = [m for m in mounts if not _names(m, sealed)]
    merged: Object = _merge(_merge(defaults, wanted), ours)
    _pin(merged["spec"], region)
    return merged


def _without_proofs(value: Any) -> Any:
    """The value without tokens, without volumes and variables of Secrets by which the operator's pods prove it, and
    without hosts of probes and handlers: the node would look them up, and connect.
    """
    if isinstance(value, dict):
        return {k: _without_proofs(_without_host(v) if k in _HANDLERS else v) for k, v in value.items()}
    if isinstance(value, list):
        return [_without_proofs(v) for v in value if not _proves(v)]
    return value


def _without_host(handler: Any) -> Any:
    return {k: v for k, v in handler.items() if k != "host"} if isinstance(handler, dict) else handler


def _names(mount: Any, volumes: set[str]) -> bool:
    return isinstance(mount, dict) and mount.get("name") in volumes


def _proves(entry: Any) -> bool:
    """Whether a volume, a source of a projected one, of ``env`` or of ``envFrom`` is a token or such a Secret."""
    if not isinstance(entry, dict):
        return False
    if "serviceAccountToken" in entry:
        return True
    holder = entry.get("valueFrom") or entry
    sources = [holder.get(kind) for kind in ("secret", "secretRef", "secretKeyRef")]
    named = [s.get(key) for s in sources if isinstance(s, dict) for key in ("secretName", "name")]
    return any(isinstance(name, str) and is_own_secret(name) for name in named)


def _merge(base: Any, over: Any, field: str = "") -> Any:
    # A handler is one whole: with a user's host or headers in it, a probe would ask somebody else.
    if isinstance(base, dict) and isinstance(over, dict) and field != "httpGet":
        merged = {k: copy.deepcopy(v) for k, v in base.items()}
        for name, value in over.items():
            merged[name] = _merge(merged[name], value, name) if name in merged else copy.deepcopy(value)
        return merged
    if isinstance(base, list) and isinstance(over, list) and field in _NAMED:
        return _merge_named(base, over, _KEY.get(field, "name"))
    if isinstance(base, list) and isinstance(over, list) and field in {"volumeMounts", "envFrom"}:
        return copy.deepcopy(over) + [copy.deepcopy(b) for b in base if b not in over]
    return copy.deepcopy(over)


def _merge_named(base: list[Any], over: list[Any], key: str) -> list[Any]:
    merged = [copy.deepcopy(b) for b in base]
    index = {b.get(key): i for i, b in enumerate(merged) if isinstance(b, dict)}
    for entry in over:
        at = index.get(entry.get(key))
        if at is None:
            merged.append(copy.deepcopy(entry))
        else:
            merged[at] = _merge(merged[at], entry)
    return merged


def _pin(spec: Object, region: str) -> None:
    """Require the region in every alternative of the node affinity: terms are ORed, expressions in a term are ANDed."""
    expression = {"key": LABEL_REGION, "operator": "In", "values": [region]}
    affinity: Object = spec.get("affinity") or {}
    node: Object = affinity.get("nodeAffinity") or {}
    required: Object = node.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    terms = [
        term | {"matchExpressions": [e for e in term.get("matchExpressions") or [] if e != expression] + [expression]}
        for term in required.get("nodeSelectorTerms") or [{}]
    ]
    node = node | {"requiredDuringSchedulingIgnoredDuringExecution": required | {"nodeSelectorTerms": terms}}
    spec["affinity"] = affinity | {"nodeAffinity": node}
