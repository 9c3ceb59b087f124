"""Does a live object already say what is desired? Pure functions on plain objects.

An object is as desired where its fields hold the desired values, nobody else owns a field of substance, and we own none
that we no longer want. Server-side apply alone can't tell: it never removes what others have added.
Source: https://kubernetes.io/docs/reference/using-api/server-side-apply/ (managedFields, fieldsV1)
"""

from __future__ import annotations

import json
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from domicile.api.common import FIELD_MANAGER

Object = dict[str, Any]

# Merge keys of the lists that server-side apply merges, by field name; all other lists are compared as they are.
_MERGE_KEYS: Final[dict[str, tuple[str, ...]]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "ephemeralContainers": ("name",),
    "volumes": ("name",),
    "env": ("name",),
    "imagePullSecrets": ("name",),
    "secrets": ("name",),
    "volumeMounts": ("mountPath",),
    "ports": ("name", "port", "containerPort", "protocol"),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
}
# Order is meaning here: a native sidecar starts before the containers that follow it.
_ORDERED: Final = frozenset({"initContainers"})
_QUANTITIES: Final = frozenset({"limits", "requests", "hard", "capacity"})
_DEFAULTS: Final[dict[str, Any]] = {"protocol": "TCP"}
# The API server stores these only where they are not zero. For any other field absent is not the same as false or 0.
_ZERO_IS_ABSENT: Final = frozenset(
    {
        "hostNetwork", "hostPID", "hostIPC", "readOnly", "stdin", "tty", "paused", "publishNotReadyAddresses",
        "initialDelaySeconds", "minReadySeconds", "value",
    }
)  # fmt: skip
_SUFFIXES: Final[dict[str, Decimal]] = {
    **{
        s: Decimal(1000) ** p
        for s, p in {"n": -3, "u": -2, "m": -1, "k": 1, "M": 2, "G": 3, "T": 4, "P": 5, "E": 6}.items()
    },
    **{s: Decimal(1024) ** p for s, p in {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}.items()},
}
_NO_SUBSTANCE: Final = frozenset({"f:metadata", "f:status", "f:apiVersion", "f:kind"})


def quantity(value: Any) -> Decimal | None:
    """A Kubernetes quantity ("500m", "1Gi", 2) as a number, or None where it isn't one."""
    text = str(value)
    suffix = next((s for s in sorted(_SUFFIXES, key=len, reverse=True) if text.endswith(s)), "")
    try:
        return Decimal(text.removesuffix(suffix)) * _SUFFIXES.get(suffix, Decimal(1))
    except InvalidOperation:
        return None


def _is_empty(value: Any) -> bool:
    return value is None or value in ({}, [])


def covers(live: Any, desired: Any, field: str = "") -> bool:
    """Whether ``live`` holds every value of ``desired``. Empty means absent; lists hold no extras."""
    if _is_empty(desired):
        return not isinstance(live, list) or not live
    if isinstance(desired, dict):
        return isinstance(live, dict) and all(_field(live, key, value, field) for key, value in desired.items())
    if isinstance(desired, list):
        return isinstance(live, list) and _list(live, desired, field)
    return type(live) is type(desired) and bool(live == desired)


def _field(live: Object, key: str, value: Any, parent: str) -> bool:
    if parent in _QUANTITIES:
        return key in live and quantity(live[key]) == quantity(value)
    if key not in live and key in _ZERO_IS_ABSENT and value in (False, 0, ""):
        return True
    return covers(live.get(key), value, key)


def _list(live: list[Any], desired: list[Any], field: str) -> bool:
    if len(live) != len(desired):
        return False
    keys = _MERGE_KEYS.get(field)
    if keys and field not in _ORDERED and all(isinstance(item, dict) for item in [*live, *desired]):

        def identity(item: Object) -> str:
            return json.dumps([item.get(key, _DEFAULTS.get(key)) for key in keys])

        live = sorted(live, key=identity)
        desired = sorted(desired, key=identity)
    return all(covers(a, b, field) for a, b in zip(live, desired, strict=True))


def foreign(live: Object) -> list[str]:
    """Managers other than our own apply that own a field of substance (all but metadata and status).

    An entry of our own name by update counts, too: apply can't give up what update holds. Writes to a subresource
    (status, scale) don't. No entry of ours at all means that ownership was wiped, and with it every trace.
    """
    entries = live.get("metadata", {}).get("managedFields", [])
    others = [
        f"{e.get('manager', '')}/{e.get('operation', '')}"
        for e in entries
        if not is_ours(e) and not e.get("subresource") and set(e.get("fieldsV1", {})) - _NO_SUBSTANCE
    ]
    return others if any(is_ours(e) for e in entries) else [*others, "unknown"]


def is_ours(entry: Object) -> bool:
    """Whether a managedFields entry is that of our server-side apply."""
    return entry.get("manager") == FIELD_MANAGER and entry.get("operation") == "Apply" and not entry.get("subresource")


def stale(live: Object, desired: Object) -> bool:
    """Whether we own a field that is no longer desired; the next apply removes it."""
    entries = live.get("metadata", {}).get("managedFields", [])
    return any(not _wanted(e.get("fieldsV1", {}), desired) for e in entries if is_ours(e))


def _wanted(owned: Object, desired: Any) -> bool:
    for path, below in owned.items():
        if path == ".":
            continue
        sign, _, name = path.partition(":")
        if sign == "f":
            if not isinstance(desired, dict) or name not in desired:
                return False
            child = desired[name]
        elif sign == "k":
            child = _item(desired, json.loads(name))
            if child is None:
                return False
        elif sign == "v":
            if not isinstance(desired, list) or json.loads(name) not in desired:
                return False
            continue
        else:
            continue
        if below and not _wanted(below, child):
            return False
    return True


def _item(desired: Any, key: Object) -> Any:
    if not isinstance(desired, list):
        return None
    for item in desired:
        if isinstance(item, dict) and all(item.get(k, _DEFAULTS.get(k)) == v for k, v in key.items()):
            return item
    return None


def rules_equal(live: Object, desired: Object) -> bool:
    """Whether two NetworkPolicy specs mean the same, exactly: here an empty selector is everything, and none is not."""
    return bool(_normal(live.get("spec", {})) == _normal(desired.get("spec", {})))


def _normal(node: Any, field: str = "") -> Any:
    if isinstance(node, dict):
        filled = {"protocol": "TCP", **node} if field == "ports" else node
        return {k: _normal(v, k) for k, v in filled.items() if v not in (None, [])}
    if isinstance(node, list):
        items = [_normal(item, field) for item in node]
        return sorted(items) if field == "policyTypes" else items
    return node


def as_desired(live: Object, desired: Object) -> bool:
    """Whether nothing needs to be written."""
    if not covers(_substance(live), _substance(desired)) or stale(live, desired):
        return False
    if desired["kind"] == "NetworkPolicy" and not rules_equal(live, desired):
        return False
    # A namespace's spec is the cluster's own; ours are its labels only.
    return desired["kind"] == "Namespace" or not foreign(live)


def _substance(obj: Object) -> Object:
    meta = obj.get("metadata", {})
    kept = {k: meta[k] for k in ("labels", "annotations", "finalizers") if k in meta}
    return {
        **{k: v for k, v in obj.items() if k not in {"metadata", "status", "apiVersion", "kind"}},
        "metadata": {**kept, "ownerReferences": meta["ownerReferences"]} if "ownerReferences" in meta else kept,
    }
