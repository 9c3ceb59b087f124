"""What an S3 bucket says of its own configuration, and how one is made.

Source: Amazon S3 API reference (HeadBucket, GetBucketLocation, GetBucketEncryption, CreateBucket and others).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from botocore import exceptions as boto

from domicile.api.zone import Profile, Site
from domicile.backup.stores.base import AlreadyExistsError, BucketFacts, NotFoundError, StoreError
from domicile.backup.stores.deadlines import Deadlines
from domicile.backup.stores.s3_client import endpoint

_REGION_HEADER = "x-amz-bucket-region"
_UNSUPPORTED_CODES = {"NotImplemented", "MethodNotAllowed"}
_PUBLIC_GROUPS = ("/groups/global/AllUsers", "/groups/global/AuthenticatedUsers")
_BLOCKS = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")


class OwnedError(AlreadyExistsError):
    """The bucket exists and is ours."""


def status_of(error: boto.ClientError) -> int:
    """HTTP status of a refusal; 0 where it has none."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def code_of(error: boto.ClientError) -> str:
    """S3's name of a refusal, such as AccessDenied."""
    return str(error.response.get("Error", {}).get("Code", ""))


def _named_region(error: boto.ClientError) -> str | None:
    headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    region = headers.get(_REGION_HEADER) or error.response.get("Error", {}).get("Region")
    return str(region) if region else None


def _encryption(asked: Mapping[str, Any]) -> tuple[bool | None, str | None]:
    if "error" in asked:
        return (False if asked["error"] == "ServerSideEncryptionConfigurationNotFoundError" else None), None
    defaults = [rule.get("ApplyServerSideEncryptionByDefault", {}) for rule in asked["answer"] or ()]
    kms_keys = [default["KMSMasterKeyID"] for default in defaults if default.get("KMSMasterKeyID")]
    return any(default.get("SSEAlgorithm") for default in defaults), next(iter(kms_keys), None)


def _public_grants(asked: Mapping[str, Any]) -> Mapping[str, Any]:
    if "error" in asked:
        return asked
    groups = [grant.get("Grantee", {}).get("URI", "") for grant in asked["answer"] or ()]
    return {"answer": sorted(group for group in groups if group.endswith(_PUBLIC_GROUPS))}


def _public(raw: Mapping[str, Any]) -> bool | None:
    block = raw["publicAccessBlock"]
    if "answer" in block:
        return not all((block["answer"] or {}).get(flag) for flag in _BLOCKS)
    opened = raw["policyStatus"].get("answer") or raw["publicGrants"].get("answer")
    return True if opened or block["error"] == "NoSuchPublicAccessBlockConfiguration" else None


class S3Config:
    """The configuration of one bucket; ``translated`` turns the library's errors into a store's."""

    def __init__(
        self,
        site: Site,
        name: str,
        s3: Any,
        deadlines: Deadlines,
        translated: Callable[[type[StoreError]], AbstractContextManager[None]],
    ) -> None:
        self._site = site
        self._name = name
        self._s3 = s3
        self._deadlines = deadlines
        self._translated = translated

    def facts(self) -> BucketFacts:
        """What the store says of the bucket. Raises NotFoundError where it is missing."""
        raw: dict[str, Any] = {"site": self._site.name, "bucket": self._name, "endpoint": endpoint(self._site)}
        raw["headRegion"], elsewhere = self._head_region()
        if elsewhere:
            return BucketFacts(raw["headRegion"], False, None, None, None, None, raw)
        raw["location"] = self._ask("get_bucket_location", "LocationConstraint")
        raw["encryption"] = self._ask("get_bucket_encryption", "ServerSideEncryptionConfiguration", "Rules")
        raw["versioning"] = self._ask("get_bucket_versioning", "Status")
        raw["publicAccessBlock"] = self._ask("get_public_access_block", "PublicAccessBlockConfiguration")
        raw["policyStatus"] = self._ask("get_bucket_policy_status", "PolicyStatus", "IsPublic")
        raw["publicGrants"] = _public_grants(self._ask("get_bucket_acl", "Grants"))
        encrypted, kms_key = _encryption(raw["encryption"])
        versioning = raw["versioning"]
        versioned = None if "error" in versioning else versioning["answer"] == "Enabled"
        return BucketFacts(
            location=self._location(raw),
            multi_region=False,
            encrypted=encrypted,
            kms_key=kms_key,
            versioned=versioned,
            public=_public(raw),
            raw=raw,
            # A suspended bucket still holds its old versions. S3 has no soft delete, and locks imply versioning.
            keeps_deleted=None if versioned is None else bool(versioning["answer"]),
        )

    def create(self) -> None:
        """Create the bucket in the site's region: private, encrypted, and versioned unless it holds keys.

        Where we own it already its settings are set again (an earlier call may have died between them) before
        AlreadyExistsError is raised.
        """
        # us-east-1 has no LocationConstraint (API_CreateBucket); any other must be named or the bucket lands there.
        where = {"LocationConstraint": self._site.region}
        known = {"CreateBucketConfiguration": where} if self._site.region != "us-east-1" else {}
        existed: OwnedError | None = None
        try:
            self._create(known)
        except OwnedError as error:
            existed = error
        self._configure("put_public_access_block", PublicAccessBlockConfiguration=dict.fromkeys(_BLOCKS, True))
        rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
        self._configure("put_bucket_encryption", ServerSideEncryptionConfiguration={"Rules": [rule]})
        if self._name != self._site.stores.keys:
            self._configure("put_bucket_versioning", VersioningConfiguration={"Status": "Enabled"})
        if existed:
            raise existed

    @property
    def _where(self) -> str:
        return f"bucket {self._name} of site {self._site.name}"

    def _create(self, known: Mapping[str, Any]) -> None:
        def once() -> None:
            with self._translated(AlreadyExistsError):
                self._s3.create_bucket(Bucket=self._name, **known)

        self._deadlines.run(once)

    def _head_region(self) -> tuple[str | None, bool]:
        """Region by HeadBucket, and whether the store sent us to another one."""

        def head() -> tuple[str | None, bool]:
            with self._translated(StoreError):
                try:
                    answer = self._s3.head_bucket(Bucket=self._name)
                except boto.ClientError as error:
                    region = _named_region(error) or self._region_of_refusal(error)
                    if region and region != self._site.region:
                        return region, True
                    if status_of(error) == 404:
                        raise NotFoundError(f"there is no {self._where}") from None
                    raise
                region = answer.get("BucketRegion") or answer["ResponseMetadata"]["HTTPHeaders"].get(_REGION_HEADER)
                return region, False

        return self._deadlines.run(head)

    def _region_of_refusal(self, head: boto.ClientError) -> str | None:
        """The region that the store names in a refusal's body, which HeadBucket lacks."""
        if status_of(head) != 400:
            return None
        try:
            self._s3.get_bucket_location(Bucket=self._name)
        except boto.ClientError as error:
            return _named_region(error)
        return None

    def _ask(self, operation: str, *path: str) -> dict[str, Any]:
        """{"answer": value at path} or {"error": code} of one configuration API."""

        def once() -> dict[str, Any]:
            with self._translated(StoreError):
                try:
                    value = getattr(self._s3, operation)(Bucket=self._name)
                except boto.ClientError as error:
                    if status_of(error) in {400, 401, 403, 404, 405, 501}:
                        return {"error": code_of(error)}
                    raise
            for step in path:
                value = value.get(step) if value else None
            return {"answer": value}

        return self._deadlines.run(once)

    def _location(self, raw: Mapping[str, Any]) -> str | None:
        head, location = raw["headRegion"], raw["location"]
        if "error" in location:
            # The cloud answers both; where one is withheld the other alone proves too little.
            return None if self._site.stores.profile is Profile.CLOUD else head
        named = {None: "us-east-1", "": "us-east-1", "EU": "eu-west-1"}.get(location["answer"], location["answer"])
        if head is None and self._site.stores.profile is Profile.CLOUD:
            return None
        return str(named) if head in {None, named} else f"{named} (GetBucketLocation), {head} (HeadBucket)"

    def _configure(self, operation: str, **arguments: Any) -> None:
        def once() -> None:
            with self._translated(StoreError):
                try:
                    getattr(self._s3, operation)(Bucket=self._name, **arguments)
                except boto.ClientError as error:
                    compatible = self._site.stores.profile is Profile.COMPATIBLE
                    if not (compatible and (status_of(error) in {405, 501} or code_of(error) in _UNSUPPORTED_CODES)):
                        raise

        self._deadlines.run(once)
