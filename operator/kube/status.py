"""Writes to objects that users own: status, finalizer, one annotation-free and conflict-safe request each.

Source: https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#status-subresource
"""

from __future__ import annotations

from domicile.kube.client import JSON_PATCH, Kube, Object, object_path


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
    meta = obj["metadata"]
    patch = [
        {"op": "test", "path": "/metadata/uid", "value": meta["uid"]},
        {"op": "test", "path": "/metadata/resourceVersion", "value": meta["resourceVersion"]},
        {"op": "add", "path": "/metadata/finalizers", "value": finalizers},
    ]
    return await kube.request("PATCH", object_path(obj), patch, content_type=JSON_PATCH)
