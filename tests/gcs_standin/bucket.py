"""A bucket: its resource, what the API lets clients set in it and what the server fills in.

Source: Cloud Storage JSON API v1, Buckets; Bucket locations. Lifecycle rules are kept, never run.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tests.gcs_standin.refusal import RefusedError
from tests.gcs_standin.versions import Versions, timestamp

if TYPE_CHECKING:
    from tests.gcs_standin.state import State

_FIELDS = """kind selfLink id name projectNumber generation metageneration location locationType storageClass etag
    timeCreated updated softDeletePolicy iamConfiguration customPlacementConfig versioning retentionPolicy encryption
    logging lifecycle hierarchicalNamespace labels rpo defaultEventBasedHold acl autoclass billing cors defaultObjectAcl
    hardDeleteTime ipFilter objectRetention owner satisfiesPZI satisfiesPZS softDeleteTime website"""
SCHEMA: dict[str, Any] = dict.fromkeys(_FIELDS.split())
# What a client may set, by field: its inner fields, or None for free content.
SETTABLE: dict[str, Any] = {
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
    updated: datetime | None = None
    objects: Versions = field(default_factory=Versions)
    notifications: dict[str, dict[str, Any]] = field(default_factory=dict)
    operations: list[dict[str, Any]] = field(default_factory=list)
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
            "updated": timestamp(self.updated or self.created),
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
        raise invalid(f"Invalid bucket name: '{name}'")
    if name in state.buckets:
        raise RefusedError(
            409, "conflict", "Your previous request to create the named bucket succeeded and you already own it."
        )
    settings = {field: value for field, value in body.items() if field not in _READ_ONLY}
    check(settings, SETTABLE)
    check_rules(settings)
    location, kind = _placed(str(body.get("location", "US")).upper(), settings.get("customPlacementConfig"))
    resource: dict[str, Any] = {"location": location, "locationType": kind, "storageClass": "STANDARD"}
    if kind != "region":
        resource["rpo"] = "DEFAULT"
    created = state.now()
    resource = merged(resource, settings)
    complete(resource, location, created)
    return Bucket(name, resource, created, state.next_generation())


def _placed(location: str, placement: Mapping[str, Any] | None) -> tuple[str, str]:
    if placement is not None:
        regions = placement.get("dataLocations")
        if location not in _MULTI_REGIONS or not isinstance(regions, list) or len(set(regions)) != 2:
            raise invalid("A custom dual-region needs a multi-region as its location and two dataLocations")
        if not all(_REGION.fullmatch(str(region)) for region in regions):
            raise invalid("The specified dataLocations are not valid.")
        return location, "dual-region"
    if location in _MULTI_REGIONS:
        return location, "multi-region"
    if location in _DUAL_REGIONS:
        return location, "dual-region"
    if not _REGION.fullmatch(location):
        raise invalid("The specified location constraint is not valid.")
    return location, "region"


def check(given: Mapping[str, Any], known: Mapping[str, Any], where: str = "") -> None:
    """Raise RefusedError (400, 501) for fields that a client can't set, or not so."""
    for name, value in given.items():
        kind = known.get(name)
        if kind is None:
            if not where and name in SCHEMA:
                raise RefusedError(501, "notImplemented", f"The stand-in can't set {name}")
            raise invalid(f"Unknown field {where}{name}")
        if isinstance(value, dict) and isinstance(kind, dict):
            check(value, kind, f"{where}{name}.")
        elif value is not None and not isinstance(value, dict if isinstance(kind, dict) else kind):
            raise invalid(f"Invalid value of {where}{name}")


def check_rules(given: Mapping[str, Any]) -> None:
    """Raise RefusedError (400) for a lifecycle rule without action or condition."""
    for rule in (given.get("lifecycle") or {}).get("rule", []):
        if not isinstance(rule, dict) or not rule.get("condition") or not rule.get("action", {}).get("type"):
            raise invalid("A lifecycle management rule needs an action and a condition.")


def complete(resource: dict[str, Any], location: str, now: datetime) -> None:
    """Fill in what the server determines, and refuse what it would. Raises RefusedError (400)."""
    soft = resource.setdefault("softDeletePolicy", {})
    seconds = int(soft.setdefault("retentionDurationSeconds", str(DEFAULT_SOFT_DELETE)))
    if seconds and not 7 * _DAY <= seconds <= 90 * _DAY:
        raise invalid("Soft delete policy retention duration must be 0 or between 7 and 90 days.")
    soft["retentionDurationSeconds"] = str(seconds)
    if seconds:
        soft.setdefault("effectiveTime", timestamp(now))
    else:
        soft.pop("effectiveTime", None)
    if policy := resource.get("retentionPolicy"):
        policy["retentionPeriod"] = str(int(policy.get("retentionPeriod", 0)))
        if int(policy["retentionPeriod"]) <= 0:
            raise invalid("Retention period must be greater than 0.")
        policy.setdefault("effectiveTime", timestamp(now))
    iam = resource.setdefault("iamConfiguration", {})
    access = iam.get("uniformBucketLevelAccess") or iam.get("bucketPolicyOnly") or {}
    iam["uniformBucketLevelAccess"] = {"enabled": bool(access.get("enabled"))}
    iam["bucketPolicyOnly"] = dict(iam["uniformBucketLevelAccess"])
    if iam.setdefault("publicAccessPrevention", "inherited") not in {"inherited", "enforced"}:
        raise invalid("Invalid value of iamConfiguration.publicAccessPrevention")
    if resource.get("hierarchicalNamespace", {}).get("enabled") and not access.get("enabled"):
        raise invalid("Hierarchical namespace buckets must use uniform bucket-level access.")
    if resource["storageClass"] not in _STORAGE_CLASSES:
        raise invalid("Invalid value of storageClass")
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


def invalid(message: str) -> RefusedError:
    """The refusal of a value."""
    return RefusedError(400, "invalid", message)
