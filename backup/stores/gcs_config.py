"""What a bucket of Cloud Storage says of its own configuration, and how one is made.

Source: Cloud Storage JSON API v1 reference (the Bucket resource) and its regional endpoints.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, TypeVar

from domicile.api.zone import Profile, Site
from domicile.backup.stores.base import AlreadyExistsError, BucketFacts, ChangedError, DeniedError, StoreError
from domicile.backup.stores.deadlines import Deadlines

_FACT_FIELDS = (
    "location",
    "locationType",
    "customPlacementConfig",
    "encryption",
    "versioning",
    "softDeletePolicy",
    "retentionPolicy",
    "iamConfiguration",
)
_T = TypeVar("_T")


def endpoint(site: Site) -> str:
    """URL of the site's store: of the cloud always the regional one, whose data path stays in the region."""
    return site.stores.endpoint or f"https://storage.{site.region}.rep.googleapis.com"


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
        cloud = self._site.stores.profile is Profile.CLOUD
        # Absent means off in the cloud (Bucket resource: versioning). Compatible servers that can't version at all
        # answer false, too: of those only a true is an answer.
        versioned = bool((answer.get("versioning") or {}).get("enabled")) or (False if cloud else None)
        return BucketFacts(
            location=str(answer["location"]).lower() if answer.get("location") else None,
            multi_region=None if kind is None else kind != "region" or bool(answer.get("customPlacementConfig")),
            # The cloud encrypts every object at rest (Cloud Storage: default encryption at rest); others must say so.
            encrypted=True if cloud or kms_key else None,
            kms_key=kms_key,
            versioned=versioned,
            public=_public(answer),
            raw=raw,
            keeps_deleted=_keeps_deleted(answer, versioned),
        )

    def create(self) -> None:
        """Create the bucket in the site's region: private, and versioned unless it holds keys.

        A keys bucket gets soft delete 0 and no versioning: there, deleting is shredding. Raises AlreadyExistsError.
        """

        versioned = self._name != self._site.stores.keys
        if versioned and self._site.stores.profile is Profile.COMPATIBLE:
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
        bucket = self._gcs.bucket(self._name)
        bucket.iam_configuration.uniform_bucket_level_access_enabled = True
        bucket.iam_configuration.public_access_prevention = "enforced"
        if versioned:
            bucket.versioning_enabled = True
        if self._name == self._site.stores.keys:
            bucket.soft_delete_policy.retention_duration_seconds = 0
        self._gcs.create_bucket(bucket, location=self._site.region.upper(), **self._single)

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
