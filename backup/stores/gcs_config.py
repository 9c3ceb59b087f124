"""What a bucket of Cloud Storage says of its own configuration, and how one is made.

Source: Cloud Storage JSON API v1 reference (the Bucket resource; notifications and operations of a bucket; relocation)
and its regional endpoints.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, TypeVar
from urllib.parse import quote

from google.api_core import exceptions as api

from domicile.api.zone import Profile, Site
from domicile.backup.stores.base import (
    AlreadyExistsError,
    BucketFacts,
    ChangedError,
    DeniedError,
    EncryptionError,
    Outflow,
    StoreError,
)
from domicile.backup.stores.deadlines import Deadlines

_FACT_FIELDS = (
    "location",
    "locationType",
    "customPlacementConfig",
    "encryption",
    "versioning",
    "softDeletePolicy",
    "retentionPolicy",
    "defaultEventBasedHold",
    "iamConfiguration",
)
_DAY_SECONDS = 86_400
# Lifecycle conditions that only objects meet which are no longer current (Object Lifecycle Management).
_OLD_VERSIONS = {"daysSinceNoncurrentTime", "noncurrentTimeBefore", "numNewerVersions"}
_T = TypeVar("_T")


def endpoint(site: Site) -> str:
    """URL of the site's store: of the cloud always the regional one, whose data path stays in the region."""
    return site.stores.endpoint or f"https://storage.{site.region}.rep.googleapis.com"


def require_kms_key(expected: str | None, kms_key: str | None, where: str) -> None:
    """Raise EncryptionError unless an object was kept under the key (a version of it), or the cloud's own for None."""
    if kms_key is None or expected is None:
        same = kms_key == expected
    else:
        same = kms_key.partition("/cryptoKeyVersions/")[0] == expected
    if not same:
        raise EncryptionError(f"{where} kept an object under another KMS key than the bucket's")


class GcsConfig:
    """The configuration of one bucket; ``translated`` turns the library's errors into a store's."""

    def __init__(
        self,
        site: Site,
        name: str,
        gcs: Any,
        deadlines: Deadlines,
        translated: Callable[[type[StoreError]], AbstractContextManager[None]],
    ) -> None:
        self._site = site
        self._name = name
        self._gcs = gcs
        self._deadlines = deadlines
        self._translated = translated
        self._single: dict[str, Any] = {"timeout": (deadlines.connect, deadlines.read), "retry": None}
        self._cloud = site.stores.profile is Profile.CLOUD
        self._asked = False
        self._expected: str | None = None

    def facts(self) -> BucketFacts:
        """What the store says of the bucket. Raises NotFoundError where it is missing."""

        def get() -> dict[str, Any]:
            # The answer as received: the library has accessors for parts of it only.
            bucket = self._gcs.bucket(self._name)
            bucket.reload(projection="noAcl", **self._single)
            return dict(bucket._properties)

        answer = self._call(get, ChangedError)
        raw: dict[str, Any] = {"site": self._site.name, "bucket": self._name, "endpoint": endpoint(self._site)}
        raw |= {field: answer[field] for field in _FACT_FIELDS if field in answer}
        kind = answer.get("locationType")
        kms_key = (answer.get("encryption") or {}).get("defaultKmsKeyName") or None
        # Absent means off in the cloud (Bucket resource: versioning). Compatible servers that can't version at all
        # answer false, too: of those only a true is an answer.
        versioned = bool((answer.get("versioning") or {}).get("enabled")) or (False if self._cloud else None)
        # Conditions and prefixes may hold names of objects, so of the rules only what they do is kept.
        raw["lifecycle"] = sorted(rule["action"]["type"] for rule in (answer.get("lifecycle") or {}).get("rule", ()))
        outflows = [*self._logging(answer), *self._notifications(), *self._relocation()]
        raw["outflows"] = [[flow.kind, flow.region, flow.told] for flow in outflows]
        held, locked = _held(answer)
        known = self._cloud or held > 0 or "softDeletePolicy" in answer
        self._expected, self._asked = kms_key, True
        return BucketFacts(
            location=str(answer["location"]).lower() if answer.get("location") else None,
            multi_region=None if kind is None else kind != "region" or bool(answer.get("customPlacementConfig")),
            # The cloud encrypts every object at rest (Cloud Storage: default encryption at rest); others must say so.
            encrypted=True if self._cloud or kms_key else None,
            kms_key=kms_key,
            versioned=versioned,
            public=_public(answer),
            raw=raw,
            keeps_deleted=_keeps_deleted(answer, versioned),
            outflows=tuple(outflows),
            # The cloud's JSON API has no plain port; what a compatible server listens on it does not say.
            tls_only=True if self._cloud else None,
            accelerated=False,
            held_days=held if known else None,
            locked=locked if known else None,
            expires=_expires(answer) or (False if self._cloud else None),
        )

    def require_written(self, kms_key: str | None) -> None:
        """Raise EncryptionError where a written object (its kmsKeyName) has another key than ``facts`` found last."""
        if self._asked:
            require_kms_key(self._expected, kms_key, self._where)

    def create(self) -> None:
        """Create the bucket in the site's region: private, and versioned unless it holds keys.

        A keys bucket gets soft delete 0 and no versioning: there, deleting is shredding. Raises AlreadyExistsError.
        """

        versioned = self._name != self._site.stores.keys
        if versioned and not self._cloud:
            # A compatible server may lack versioning and say so with any error; the zone then needs an attestation.
            try:
                with self._translated(AlreadyExistsError):
                    return self._create_bucket(versioned=True)
            except (AlreadyExistsError, DeniedError):
                raise
            except StoreError:
                versioned = False
        return self._call(partial(self._create_bucket, versioned=versioned), AlreadyExistsError)

    def _create_bucket(self, *, versioned: bool) -> None:
        if self._gcs.project is None:
            raise DeniedError(
                f"{self._where} can't be made: its identity is of no project; name a service account by"
                f" service_account_impersonation_url in {self._site.name}.json, or make the bucket yourself"
            )
        bucket = self._gcs.bucket(self._name)
        bucket.iam_configuration.uniform_bucket_level_access_enabled = True
        bucket.iam_configuration.public_access_prevention = "enforced"
        if versioned:
            bucket.versioning_enabled = True
        if self._name == self._site.stores.keys:
            bucket.soft_delete_policy.retention_duration_seconds = 0
        self._gcs.create_bucket(bucket, location=self._site.region.upper(), **self._single)

    @property
    def _where(self) -> str:
        return f"bucket {self._name} of site {self._site.name}"

    def _logging(self, answer: dict[str, Any]) -> list[Outflow]:
        kind, target = "access log", (answer.get("logging") or {}).get("logBucket")
        if not target:
            # Absent means none in the cloud (Bucket resource); a compatible server may have no such field.
            return [] if self._cloud else [Outflow(kind, told=False)]
        told = self._ask(f"/b/{quote(target, safe='')}", "location")
        return [Outflow(kind, str(told["location"]).lower() if told and told.get("location") else None)]

    def _notifications(self) -> list[Outflow]:
        # A topic has no region in its name, and where its messages are kept is no answer of Cloud Storage.
        kind = "Pub/Sub notification"
        told = self._ask(f"/b/{self._name}/notificationConfigs", "items(id)")
        return [Outflow(kind, told=False)] if told is None else [Outflow(kind) for _ in told.get("items", ())]

    def _relocation(self) -> list[Outflow]:
        """A relocation copies objects to its destination long before the bucket's location changes."""
        kind, token, found = "relocation", "", list[Outflow]()
        while True:
            fields = "operations(done,metadata),nextPageToken"
            told = self._ask(f"/b/{self._name}/operations", fields, **({"pageToken": token} if token else {}))
            if told is None:
                return [Outflow(kind, told=False)]
            running = [one.get("metadata") or {} for one in told.get("operations", ()) if not one.get("done")]
            moves = [metadata for metadata in running if _relocates(metadata)]
            found += [Outflow(kind, str(move.get("destinationLocation", "")).lower() or None) for move in moves]
            token = told.get("nextPageToken", "")
            if not token:
                return found

    def _ask(self, path: str, fields: str, **query: str) -> dict[str, Any] | None:
        """The answer to a GET; None where the store refuses it or lacks it."""

        def get() -> dict[str, Any] | None:
            try:
                told = self._gcs._connection.api_request(
                    method="GET",
                    path=path,
                    query_params={"fields": fields, **query},
                    timeout=self._single["timeout"],
                    retry=None,
                )
            except api.GoogleAPICallError as error:
                if int(error.code or 0) in {400, 401, 403, 404, 405, 501}:
                    return None
                raise
            # A server that knows no such resource may answer with a page for people.
            return told if isinstance(told, dict) else None

        return self._call(get, ChangedError)

    def _call(self, call: Callable[[], _T], conflict: type[StoreError]) -> _T:
        def once() -> _T:
            with self._translated(conflict):
                return call()

        return self._deadlines.run(once)


def _public(answer: dict[str, Any]) -> bool | None:
    iam = answer.get("iamConfiguration") or {}
    prevention = iam.get("publicAccessPrevention")
    return None if prevention is None else prevention != "enforced"


def _keeps_deleted(answer: dict[str, Any], versioned: bool | None) -> bool | None:
    soft = answer.get("softDeletePolicy")
    if versioned or answer.get("retentionPolicy") or int((soft or {}).get("retentionDurationSeconds", 0)):
        return True
    return None if versioned is None or soft is None else False


def _held(answer: dict[str, Any]) -> tuple[float, bool]:
    """Days for which a new object can't be destroyed for good, and whether nobody can shorten them."""
    retention = answer.get("retentionPolicy") or {}
    soft = (answer.get("softDeletePolicy") or {}).get("retentionDurationSeconds", 0)
    seconds = max(int(retention.get("retentionPeriod", 0)), int(soft))
    held = math.inf if answer.get("defaultEventBasedHold") else seconds / _DAY_SECONDS
    return held, bool(retention.get("isLocked"))


def _relocates(metadata: dict[str, Any]) -> bool:
    named = "destinationLocation" in metadata or "relocat" in str(metadata.get("@type", "")).lower()
    return named and not metadata.get("validateOnly")


def _expires(answer: dict[str, Any]) -> bool:
    """Whether a lifecycle rule deletes objects that are current."""
    rules = (answer.get("lifecycle") or {}).get("rule", ())
    deleting = [rule.get("condition", {}) for rule in rules if rule.get("action", {}).get("type") == "Delete"]
    return any(when.get("isLive") is not False and not _OLD_VERSIONS & when.keys() for when in deleting)
