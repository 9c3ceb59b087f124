"""Operations on objects through the JSON API: describe, list, change, delete, restore.

Source: Cloud Storage JSON API v1, Objects; Object naming requirements.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tests.gcs_standin import conditions
from tests.gcs_standin.protocol import Call, operation
from tests.gcs_standin.refusal import Answer, RefusedError
from tests.gcs_standin.versions import Listing, Mark, Place, Version

_FIELDS = """kind id selfLink mediaLink name bucket generation metageneration storageClass size md5Hash crc32c etag
    timeCreated updated timeStorageClassUpdated timeFinalized timeDeleted softDeleteTime hardDeleteTime
    retentionExpirationTime kmsKeyName contentType contentEncoding contentDisposition contentLanguage cacheControl
    metadata customTime eventBasedHold temporaryHold acl componentCount contexts customerEncryption owner restoreToken
    retention"""
SCHEMA: dict[str, Any] = dict.fromkeys(_FIELDS.split())
_LIST_SCHEMA = {"kind": None, "nextPageToken": None, "prefixes": None, "items": SCHEMA}
_SETTABLE: dict[str, type] = {
    "contentType": str,
    "contentEncoding": str,
    "contentDisposition": str,
    "contentLanguage": str,
    "cacheControl": str,
    "customTime": str,
    "storageClass": str,
    "metadata": dict,
    "eventBasedHold": bool,
    "temporaryHold": bool,
}


def settings_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that a client may set. Raises RefusedError (400; 501 for those that the stand-in lacks)."""
    for name, value in body.items():
        kind = _SETTABLE.get(name)
        if kind is None:
            status, reason = (501, "notImplemented") if name in SCHEMA else (400, "invalid")
            raise RefusedError(status, reason, f"Field {name} of an object can't be set here")
        if value is not None and not isinstance(value, kind):
            raise RefusedError(400, "invalid", f"Invalid value of {name}")
    if not all(isinstance(value, str) for value in (body.get("metadata") or {}).values() if value is not None):
        raise RefusedError(400, "invalid", "Values of metadata are strings")
    return dict(body)


def check_name(name: str) -> None:
    """Raise RefusedError (400) for a name that no object can have."""
    if not 1 <= len(name.encode()) <= 1024 or name in {".", ".."} or name.startswith(".well-known/acme-challenge/"):
        raise RefusedError(400, "invalid", f"Invalid object name of {len(name.encode())} bytes")
    if "\r" in name or "\n" in name:
        raise RefusedError(400, "invalid", "Object names can't contain carriage returns or line feeds")


def found(call: Call, *, soft_deleted: bool = False) -> Version:
    """The version that a call names, if its preconditions hold. Raises RefusedError (304, 400, 403, 404, 412)."""
    generation = call.integer("generation")
    versions = call.bucket.objects
    if soft_deleted:
        if generation is None:
            raise RefusedError(400, "required", "Required parameter: generation")
        version = versions.restorable(call.object_name, generation, call.state.now())
    else:
        version = versions.find(call.object_name, generation)
    if version is None:
        # Who may not list is not told what is missing (Cloud Storage: troubleshooting, 403 instead of 404).
        call.require("storage.objects.list", "object")
        raise RefusedError(404, "notFound", f"No such object: {call.bucket.name}/{call.object_name}")
    conditions.check_object(call, version)
    return version


def shown(call: Call, version: Version) -> dict[str, Any]:
    """The Object resource."""
    return version.shown(_place(call))


def _place(call: Call) -> Place:
    return Place(call.bucket.name, call.base, call.bucket.retention_seconds)


def store(call: Call, version: Version) -> None:
    """Make a version the live one, if preconditions, permissions, holds and retention of the present one allow it.

    Raises RefusedError (304, 403, 412).
    """
    bucket = call.bucket
    present = bucket.objects.live.get(version.name)
    if present and call.state.permission_before_precondition:
        call.require("storage.objects.delete", "object")
    conditions.check_object(call, present)
    if present:
        call.require("storage.objects.delete", "object")
        present.check_removable(bucket.name, bucket.retention_seconds, call.state.now())
    if bucket.resource.get("defaultEventBasedHold"):
        version.settings.setdefault("eventBasedHold", True)
    bucket.objects.put(version, versioned=bucket.versioned, soft_seconds=bucket.soft_delete_seconds)


def remove(call: Call) -> Answer:
    """Delete the object or one generation of it."""
    conditions.refuse_etags(call)
    version = found(call)
    bucket, now = call.bucket, call.state.now()
    version.check_removable(bucket.name, bucket.retention_seconds, now)
    bucket.objects.remove(
        version.name,
        call.integer("generation"),
        now,
        versioned=bucket.versioned,
        soft_seconds=bucket.soft_delete_seconds,
    )
    return Answer(204)


@operation(
    "objects.list",
    *("GET", "/storage/v1/b/{bucket}/o", "storage.objects.list"),
    *("prefix", "delimiter", "startOffset", "endOffset", "includeTrailingDelimiter", "maxResults", "pageToken"),
    *("versions", "softDeleted", "projection"),
)
def list_(call: Call) -> Answer:
    versions, soft_deleted = call.flag("versions"), call.flag("softDeleted")
    bucket = call.bucket
    if soft_deleted and versions:
        raise RefusedError(400, "invalid", "versions and softDeleted exclude each other")
    if soft_deleted and not bucket.soft_delete_seconds and not bucket.objects.soft:
        raise RefusedError(400, "invalid", "SoftDeletePolicyRequired")
    wanted = Listing(
        "versions" if versions else "softDeleted" if soft_deleted else "live",
        call.query.get("prefix", ""),
        call.query.get("delimiter", ""),
        call.query.get("startOffset", ""),
        call.query.get("endOffset", ""),
        call.flag("includeTrailingDelimiter"),
    )
    limit = min(call.integer("maxResults") or call.state.page_limit, call.state.page_limit)
    items, prefixes, mark = bucket.objects.page(wanted, _mark(call.query.get("pageToken")), limit, call.state.now())
    page: dict[str, Any] = {"kind": "storage#objects"}
    if mark:
        page["nextPageToken"] = base64.urlsafe_b64encode(json.dumps(mark).encode()).decode()
    if prefixes:
        page["prefixes"] = prefixes
    if items:
        place, names = _place(call), call.selected("items")
        page["items"] = [version.shown(place, names) for version in items]
    return call.json(page, _LIST_SCHEMA)


def _mark(token: str | None) -> Mark | None:
    if not token:
        return None
    try:
        name, generation, prefix = json.loads(base64.urlsafe_b64decode(token))
    except (ValueError, TypeError, binascii.Error):
        raise RefusedError(400, "invalid", "Invalid pageToken") from None
    return str(name), int(generation), bool(prefix)


@operation(
    "objects.patch",
    *("PATCH", "/storage/v1/b/{bucket}/o/{object}", "storage.objects.update"),
    *("generation", "projection", *conditions.OBJECT),
)
def patch(call: Call) -> Answer:
    conditions.refuse_etags(call)
    version = found(call)
    change = settings_of(call.document())
    if version.settings.get("eventBasedHold") and change.get("eventBasedHold") is False:
        version.retained_from = call.state.now()
    metadata = {**version.settings.get("metadata", {}), **(change.pop("metadata", None) or {})}
    version.settings |= change
    version.settings = {name: value for name, value in version.settings.items() if value is not None}
    version.settings.pop("metadata", None)
    if kept := {name: value for name, value in metadata.items() if value is not None}:
        version.settings["metadata"] = kept
    version.metageneration += 1
    version.updated = call.state.now()
    return call.json(shown(call, version), SCHEMA)


@operation(
    "objects.delete",
    *("DELETE", "/storage/v1/b/{bucket}/o/{object}", "storage.objects.delete"),
    *("generation", *conditions.OBJECT),
)
def delete(call: Call) -> Answer:
    return remove(call)


@operation(
    "objects.restore",
    *("POST", "/storage/v1/b/{bucket}/o/{object}/restore", "storage.objects.restore"),
    *("generation", "projection", *conditions.OBJECT),
)
def restore(call: Call) -> Answer:
    call.require("storage.objects.create", "object")
    generation = call.integer("generation")
    if generation is None:
        raise RefusedError(400, "required", "Required parameter: generation")
    now = call.state.now()
    kept = call.bucket.objects.restorable(call.object_name, generation, now)
    if kept is None:
        raise RefusedError(404, "notFound", f"No such object: {call.bucket.name}/{call.object_name}")
    # The restored object is a copy with a generation of its own (Soft delete: restore soft-deleted objects).
    made = replace(
        kept,
        generation=call.state.next_generation(),
        metageneration=1,
        created=now,
        updated=None,
        noncurrent=None,
        soft_deleted=None,
        hard_deleted=None,
        settings=dict(kept.settings),
    )
    store(call, made)
    return call.json(shown(call, made), SCHEMA)
