"""Buckets: their resource, its validation, and the operations on them and on their notifications and policy.

Source: Cloud Storage JSON API v1, Buckets, Notifications and Bucket locations. Lifecycle rules are kept, never run.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tests.gcs_standin import conditions
from tests.gcs_standin.protocol import Answer, Call, RefusedError, operation
from tests.gcs_standin.versions import Versions, timestamp

if TYPE_CHECKING:
    from tests.gcs_standin.state import State

_FIELDS = """kind selfLink id name projectNumber generation metageneration location locationType storageClass etag
    timeCreated updated softDeletePolicy iamConfiguration customPlacementConfig versioning retentionPolicy encryption
    logging lifecycle hierarchicalNamespace labels rpo defaultEventBasedHold acl autoclass billing cors defaultObjectAcl
    hardDeleteTime ipFilter objectRetention owner satisfiesPZI satisfiesPZS softDeleteTime website"""
SCHEMA: dict[str, Any] = dict.fromkeys(_FIELDS.split())
_LIST_SCHEMA = {"kind": None, "nextPageToken": None, "items": SCHEMA}
# What a client may set, by field: its inner fields, or None for free content.
_SETTABLE: dict[str, Any] = {
    "versioning": {"enabled": bool},
    "softDeletePolicy": {"retentionDurationSeconds": (str, int), "effectiveTime": str},
    "retentionPolicy": {"retentionPeriod": (str, int), "effectiveTime": str},
    "iamConfiguration": {
        "uniformBucketLevelAccess": {"enabled": bool},
        "bucketPolicyOnly": {"enabled": bool},
        "publicAccessPrevention": str,
    },
    "encryption": {"defaultKmsKeyName": str},
    "logging": {"logBucket": str, "logObjectPrefix": str},
    "lifecycle": {"rule": list},
    "hierarchicalNamespace": {"enabled": bool},
    "customPlacementConfig": {"dataLocations": list},
    "labels": dict,
    "defaultEventBasedHold": bool,
    "storageClass": str,
}
# Sent back by clients as they read them; not theirs to change.
_READ_ONLY = {"kind", "id", "name", "selfLink", "etag", "location", "locationType", "projectNumber"}
_REGION = re.compile(r"(AFRICA|ASIA|AUSTRALIA|EUROPE|ME|NORTHAMERICA|SOUTHAMERICA|US)-[A-Z]+\d+")
_MULTI_REGIONS = frozenset({"ASIA", "EU", "US", "IN"})
_DUAL_REGIONS = frozenset({"ASIA1", "EUR4", "EUR5", "EUR7", "EUR8", "NAM4"})
_KMS_KEY = re.compile(r"projects/[^/]+/locations/([^/]+)/keyRings/[^/]+/cryptoKeys/[^/]+")
_STORAGE_CLASSES = frozenset({"STANDARD", "NEARLINE", "COLDLINE", "ARCHIVE"})
_DAY = 86_400
DEFAULT_SOFT_DELETE = 7 * _DAY


@dataclass
class Bucket:
    """A bucket: its resource as clients set it, and its objects."""

    name: str
    resource: dict[str, Any]
    created: datetime
    generation: int
    metageneration: int = 1
    objects: Versions = field(default_factory=Versions)
    notifications: dict[str, dict[str, Any]] = field(default_factory=dict)
    policy: dict[str, Any] = field(default_factory=lambda: {"version": 1, "bindings": []})

    @property
    def versioned(self) -> bool:
        """Whether object versioning is on."""
        return bool(self.resource.get("versioning", {}).get("enabled"))

    @property
    def soft_delete_seconds(self) -> int:
        """For how long deleted objects can be restored."""
        return int(self.resource["softDeletePolicy"]["retentionDurationSeconds"])

    @property
    def retention_seconds(self) -> int:
        """How long objects can't be deleted."""
        return int(self.resource.get("retentionPolicy", {}).get("retentionPeriod", 0))

    @property
    def kms_key(self) -> str | None:
        """The default key of new objects."""
        found: str | None = self.resource.get("encryption", {}).get("defaultKmsKeyName")
        return found

    def shown(self, base: str) -> dict[str, Any]:
        """The Bucket resource."""
        etag = base64.b64encode(f"{self.generation}/{self.metageneration}".encode()).decode()
        return {
            "kind": "storage#bucket",
            "selfLink": f"{base}/storage/v1/b/{self.name}",
            "id": self.name,
            "name": self.name,
            "projectNumber": "1",
            "generation": str(self.generation),
            "metageneration": str(self.metageneration),
            "etag": etag,
            "timeCreated": timestamp(self.created),
            "updated": timestamp(self.created),
            **self.resource,
        }


def merged(held: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """``held`` patched: null takes a field away, objects are merged (JSON API: partial update)."""
    made = dict(held)
    for name, value in change.items():
        if value is None:
            made.pop(name, None)
        elif isinstance(value, dict) and isinstance(made.get(name), dict) and name != "lifecycle":
            made[name] = merged(made[name], value)
        else:
            made[name] = merged({}, value) if isinstance(value, dict) else value
    return made


def new_bucket(state: State, body: Mapping[str, Any]) -> Bucket:
    """A bucket by its Bucket resource. Raises RefusedError (400, 409)."""
    name = body.get("name")
    if not isinstance(name, str) or not re.fullmatch(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]", name) or "goog" in name:
        raise _invalid(f"Invalid bucket name: '{name}'")
    if name in state.buckets:
        raise RefusedError(
            409, "conflict", "Your previous request to create the named bucket succeeded and you already own it."
        )
    settings = {field: value for field, value in body.items() if field not in _READ_ONLY}
    _check(settings, _SETTABLE)
    _check_rules(settings)
    location, kind = _placed(str(body.get("location", "US")).upper(), settings.get("customPlacementConfig"))
    resource: dict[str, Any] = {"location": location, "locationType": kind, "storageClass": "STANDARD"}
    if kind != "region":
        resource["rpo"] = "DEFAULT"
    created = state.now()
    resource = merged(resource, settings)
    _complete(resource, location, created)
    return Bucket(name, resource, created, state.next_generation())


def _placed(location: str, placement: Mapping[str, Any] | None) -> tuple[str, str]:
    if placement is not None:
        regions = placement.get("dataLocations")
        if location not in _MULTI_REGIONS or not isinstance(regions, list) or len(set(regions)) != 2:
            raise _invalid("A custom dual-region needs a multi-region as its location and two dataLocations")
        if not all(_REGION.fullmatch(str(region)) for region in regions):
            raise _invalid("The specified dataLocations are not valid.")
        return location, "dual-region"
    if location in _MULTI_REGIONS:
        return location, "multi-region"
    if location in _DUAL_REGIONS:
        return location, "dual-region"
    if not _REGION.fullmatch(location):
        raise _invalid("The specified location constraint is not valid.")
    return location, "region"


def _check(given: Mapping[str, Any], known: Mapping[str, Any], where: str = "") -> None:
    for name, value in given.items():
        kind = known.get(name)
        if kind is None:
            if not where and name in SCHEMA:
                raise RefusedError(501, "notImplemented", f"The stand-in can't set {name}")
            raise _invalid(f"Unknown field {where}{name}")
        if isinstance(value, dict) and isinstance(kind, dict):
            _check(value, kind, f"{where}{name}.")
        elif value is not None and not isinstance(value, dict if isinstance(kind, dict) else kind):
            raise _invalid(f"Invalid value of {where}{name}")


def _check_rules(given: Mapping[str, Any]) -> None:
    for rule in (given.get("lifecycle") or {}).get("rule", []):
        if not isinstance(rule, dict) or not rule.get("condition") or not rule.get("action", {}).get("type"):
            raise _invalid("A lifecycle management rule needs an action and a condition.")


def _complete(resource: dict[str, Any], location: str, now: datetime) -> None:
    """Fill in what the server determines, and refuse what it would. Raises RefusedError (400)."""
    soft = resource.setdefault("softDeletePolicy", {})
    seconds = int(soft.setdefault("retentionDurationSeconds", str(DEFAULT_SOFT_DELETE)))
    if seconds and not 7 * _DAY <= seconds <= 90 * _DAY:
        raise _invalid("Soft delete policy retention duration must be 0 or between 7 and 90 days.")
    soft["retentionDurationSeconds"] = str(seconds)
    if seconds:
        soft.setdefault("effectiveTime", timestamp(now))
    else:
        soft.pop("effectiveTime", None)
    if policy := resource.get("retentionPolicy"):
        policy["retentionPeriod"] = str(int(policy.get("retentionPeriod", 0)))
        if int(policy["retentionPeriod"]) <= 0:
            raise _invalid("Retention period must be greater than 0.")
        policy.setdefault("effectiveTime", timestamp(now))
    iam = resource.setdefault("iamConfiguration", {})
    access = iam.get("uniformBucketLevelAccess") or iam.get("bucketPolicyOnly") or {}
    iam["uniformBucketLevelAccess"] = {"enabled": bool(access.get("enabled"))}
    iam["bucketPolicyOnly"] = dict(iam["uniformBucketLevelAccess"])
    if iam.setdefault("publicAccessPrevention", "inherited") not in {"inherited", "enforced"}:
        raise _invalid("Invalid value of iamConfiguration.publicAccessPrevention")
    if resource.get("hierarchicalNamespace", {}).get("enabled") and not access.get("enabled"):
        raise _invalid("Hierarchical namespace buckets must use uniform bucket-level access.")
    if resource["storageClass"] not in _STORAGE_CLASSES:
        raise _invalid("Invalid value of storageClass")
    if key := resource.get("encryption", {}).get("defaultKmsKeyName"):
        check_kms_key(key, location)


def check_kms_key(key: str, location: str) -> None:
    """Raise RefusedError (400) unless the key's name is one and the key lies where the bucket does."""
    found = _KMS_KEY.fullmatch(key)
    if not found:
        raise RefusedError(400, "cloudKmsBadKey", "Malformed Cloud KMS crypto key name.")
    if found[1].upper() != location:
        message = f"Cloud KMS key location {found[1]} can't be used for a bucket in {location}."
        raise RefusedError(400, "cloudKmsKeyLocationNotAllowed", message)


def _invalid(message: str) -> RefusedError:
    return RefusedError(400, "invalid", message)


@operation("buckets.insert", "POST", "/storage/v1/b", "storage.buckets.create", "project", "projection")
def insert(call: Call) -> Answer:
    if not call.query.get("project"):
        raise RefusedError(400, "required", "Required parameter: project")
    body = call.document()
    made = new_bucket(call.state, body)
    call.state.buckets[made.name] = made
    return call.json(made.shown(call.base), SCHEMA)


@operation(
    "buckets.list",
    *("GET", "/storage/v1/b", "storage.buckets.list"),
    *("project", "prefix", "maxResults", "pageToken", "projection"),
)
def list_(call: Call) -> Answer:
    if not call.query.get("project"):
        raise RefusedError(400, "required", "Required parameter: project")
    prefix, after = call.query.get("prefix", ""), call.query.get("pageToken", "")
    limit = min(call.integer("maxResults") or call.state.page_limit, call.state.page_limit)
    names = sorted(name for name in call.state.buckets if name.startswith(prefix) and name > after)
    items = [call.state.buckets[name].shown(call.base) for name in names[:limit]]
    page: dict[str, Any] = {"kind": "storage#buckets"}
    if len(names) > limit:
        page["nextPageToken"] = names[limit - 1]
    if items:
        page["items"] = items
    return call.json(page, _LIST_SCHEMA)


@operation("buckets.get", "GET", "/storage/v1/b/{bucket}", "storage.buckets.get", "projection", *conditions.BUCKET)
def get(call: Call) -> Answer:
    conditions.check_bucket(call, call.bucket.metageneration)
    return call.json(call.bucket.shown(call.base), SCHEMA)


@operation(
    "buckets.patch", "PATCH", "/storage/v1/b/{bucket}", "storage.buckets.update", "projection", *conditions.BUCKET
)
def patch(call: Call) -> Answer:
    bucket = call.bucket
    conditions.check_bucket(call, bucket.metageneration)
    body = call.document()
    if "location" in body or "customPlacementConfig" in body:
        raise _invalid("A bucket's location can't be changed by a patch.")
    _check(body, _SETTABLE)
    _check_rules(body)
    changed = merged(bucket.resource, body)
    _complete(changed, bucket.resource["location"], call.state.now())
    bucket.resource = changed
    bucket.metageneration += 1
    return call.json(bucket.shown(call.base), SCHEMA)


@operation("buckets.delete", "DELETE", "/storage/v1/b/{bucket}", "storage.buckets.delete", *conditions.BUCKET)
def delete(call: Call) -> Answer:
    conditions.check_bucket(call, call.bucket.metageneration)
    if call.bucket.objects:
        raise RefusedError(409, "conflict", "The bucket you tried to delete is not empty.")
    del call.state.buckets[call.bucket.name]
    return Answer(204)


@operation("buckets.getStorageLayout", "GET", "/storage/v1/b/{bucket}/storageLayout", "storage.objects.list", "prefix")
def storage_layout(call: Call) -> Answer:
    held = call.bucket.resource
    layout = {"kind": "storage#storageLayout", "bucket": call.bucket.name}
    names = ("location", "locationType", "customPlacementConfig", "hierarchicalNamespace")
    return call.json(layout | {name: held[name] for name in names if name in held})


@operation("buckets.getIamPolicy", "GET", "/storage/v1/b/{bucket}/iam", "storage.buckets.getIamPolicy")
def get_policy(call: Call) -> Answer:
    resource = {"kind": "storage#policy", "resourceId": f"projects/_/buckets/{call.bucket.name}"}
    return call.json(resource | call.bucket.policy | {"etag": "CAE="})


@operation("buckets.setIamPolicy", "PUT", "/storage/v1/b/{bucket}/iam", "storage.buckets.setIamPolicy")
def set_policy(call: Call) -> Answer:
    body = call.document()
    bindings = body.get("bindings", [])
    members = {member for binding in bindings for member in binding["members"]}
    enforced = call.bucket.resource["iamConfiguration"]["publicAccessPrevention"] == "enforced"
    if enforced and members & {"allUsers", "allAuthenticatedUsers"}:
        message = "The member bindings allUsers and allAuthenticatedUsers are not allowed: public access prevention."
        raise RefusedError(412, "conditionNotMet", message)
    call.bucket.policy = {"version": body.get("version", 1), "bindings": bindings}
    return get_policy(call)


@operation("buckets.testIamPermissions", "GET", "/storage/v1/b/{bucket}/iam/testPermissions", None, "permissions")
def test_permissions(call: Call) -> Answer:
    asked = call.query.get("permissions", "").split(",")
    accounts = call.state.accounts
    held = [permission for permission in asked if accounts.allowed(call.caller, call.bucket.name, permission)]
    return call.json({"kind": "storage#testIamPermissionsResponse", **({"permissions": held} if held else {})})


@operation("notifications.insert", "POST", "/storage/v1/b/{bucket}/notificationConfigs", "storage.buckets.update")
def insert_notification(call: Call) -> Answer:
    body = call.document()
    kinds = {"topic": str, "payload_format": str, "event_types": list, "object_name_prefix": str}
    _check(body, kinds | {"custom_attributes": dict})
    if not re.fullmatch(r"//pubsub\.googleapis\.com/projects/[^/]+/topics/[^/]+", str(body.get("topic"))):
        raise _invalid("Invalid Google Cloud Pub/Sub topic.")
    if body.get("payload_format") not in {"JSON_API_V1", "NONE"}:
        raise RefusedError(400, "required", "Required: payload_format")
    held = call.bucket.notifications
    identity = str(max(map(int, held), default=0) + 1)
    link = f"{call.base}/storage/v1/b/{call.bucket.name}/notificationConfigs/{identity}"
    held[identity] = {"kind": "storage#notification", "id": identity, "selfLink": link, "etag": identity, **body}
    return call.json(held[identity])


@operation("notifications.list", "GET", "/storage/v1/b/{bucket}/notificationConfigs", "storage.buckets.get")
def list_notifications(call: Call) -> Answer:
    items = list(call.bucket.notifications.values())
    return call.json({"kind": "storage#notifications", **({"items": items} if items else {})})


@operation("notifications.get", "GET", "/storage/v1/b/{bucket}/notificationConfigs/{id}", "storage.buckets.get")
def get_notification(call: Call) -> Answer:
    return call.json(_notification(call))


@operation(
    "notifications.delete", "DELETE", "/storage/v1/b/{bucket}/notificationConfigs/{id}", "storage.buckets.update"
)
def delete_notification(call: Call) -> Answer:
    del call.bucket.notifications[_notification(call)["id"]]
    return Answer(204)


def _notification(call: Call) -> dict[str, Any]:
    if call.names["id"] not in call.bucket.notifications:
        raise RefusedError(404, "notFound", "Not Found")
    return call.bucket.notifications[call.names["id"]]
