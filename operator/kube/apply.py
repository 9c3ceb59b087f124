"""Server-side apply that also takes back what others have added.

Apply with force sets our fields, yet leaves additions of others in place: an extra ingress rule, container or volume,
or hostNetwork. Where any are found the object is replaced (PUT) by what is desired, under its resource version.
In the steady state nothing is written.
Source: https://kubernetes.io/docs/reference/using-api/server-side-apply/
"""

from __future__ import annotations

from enum import Enum, StrEnum
from typing import Final

from domicile.api.common import FIELD_MANAGER
from domicile.kube import compare
from domicile.kube.client import APPLY_PATCH, Kube, Object, object_path


class Change(StrEnum):
    """What an apply did."""

    UNCHANGED = "unchanged"
    CREATED = "created"
    APPLIED = "applied"
    REPLACED = "replaced"


class _Unknown(Enum):
    UNKNOWN = 0


UNKNOWN: Final = _Unknown.UNKNOWN

# A Namespace's spec belongs to the cluster, and a Job's template can't be changed at all.
_NEVER_REPLACED: Final = frozenset({"Namespace", "Job"})
# The first replacement may give us fields that the API server sets back to their defaults; the second gives them up.
_REPLACEMENTS: Final = 2


async def apply(kube: Kube, desired: Object, *, live: Object | _Unknown | None = UNKNOWN) -> tuple[Object, Change]:
    """Make the object as desired; returns it as the API server now has it, and what was done.

    ``live`` spares the read: the object as last read with its managedFields, or None where it is known to be absent.
    Raises ConflictError where the object changed meanwhile (reconcile again), InvalidError where it is refused.
    """
    if live is UNKNOWN:
        meta = desired["metadata"]
        live = await kube.read(desired["apiVersion"], desired["kind"], meta["name"], meta.get("namespace", ""))
    if live is not None and compare.as_desired(live, desired):
        return live, Change.UNCHANGED
    change = Change.CREATED if live is None else Change.APPLIED
    live = await _server_side_apply(kube, desired)
    if desired["kind"] in _NEVER_REPLACED:
        return live, change
    for _ in range(_REPLACEMENTS):
        if compare.as_desired(live, desired):
            break
        live = await kube.request(
            "PUT", object_path(desired), _replacement(live, desired), query={"fieldManager": FIELD_MANAGER}
        )
        change = Change.REPLACED
    return live, change


async def _server_side_apply(kube: Kube, desired: Object) -> Object:
    return await kube.request(
        "PATCH",
        object_path(desired),
        desired,
        query={"fieldManager": FIELD_MANAGER, "force": "true"},
        content_type=APPLY_PATCH,
    )


def _replacement(live: Object, desired: Object) -> Object:
    """The desired object with the live one's identity; labels, annotations, finalizers and owners of others stay."""
    old, new = live["metadata"], desired["metadata"]
    meta = {
        **{k: old[k] for k in ("finalizers", "ownerReferences") if k in old},
        **new,
        "labels": {**old.get("labels", {}), **new.get("labels", {})},
        "annotations": {**old.get("annotations", {}), **new.get("annotations", {})},
        "uid": old["uid"],
        "resourceVersion": old["resourceVersion"],
        # Others lose their ownership with their fields, else an equal value would count as foreign for ever.
        "managedFields": [e for e in old.get("managedFields", []) if compare.is_ours(e) or e.get("subresource")],
    }
    return {**desired, "metadata": meta}
