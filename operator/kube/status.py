"""Writes to objects that users own: status and finalizer, one conflict-safe request each.

Source: https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#status-subresource
"""

from __future__ import annotations

from domicile.kube.client import MERGE_PATCH, Kube, Object, object_path


async def patch_status(kube: Kube, obj: Object, status: Object) -> Object:
    """Replace the status of an object as read; returns it as stored. An equal status sends nothing.

    Raises ConflictError where the object changed since it was read, NotFoundError where it is gone.
    """
    if obj.get("status", {}) == status:
        return obj
    return await kube.request("PUT", object_path(obj, "status"), {**obj, "status": status})


async def add_finalizer(kube: Kube, obj: Object, finalizer: str) -> Object:
    """Add a finalizer to an object as read; returns it as stored. Raises ConflictError where it changed since."""
    present = obj["metadata"].get("finalizers", [])
    if finalizer in present:
        return obj
    return await _patch_finalizers(kube, obj, [*present, finalizer])


async def remove_finalizer(kube: Kube, obj: Object, finalizer: str) -> Object:
    """Remove a finalizer from an object as read; returns it as stored. Raises ConflictError where it changed since."""
    present = obj["metadata"].get("finalizers", [])
    if finalizer not in present:
        return obj
    return await _patch_finalizers(kube, obj, [f for f in present if f != finalizer])


async def _patch_finalizers(kube: Kube, obj: Object, finalizers: list[str]) -> Object:
    # A merge patch that names uid and resource version answers 409 where they differ; a failed JSON patch test: 422.
    meta = {k: obj["metadata"][k] for k in ("uid", "resourceVersion")} | {"finalizers": finalizers}
    return await kube.request("PATCH", object_path(obj), {"metadata": meta}, content_type=MERGE_PATCH)
