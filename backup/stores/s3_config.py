"""What an S3 bucket says of its own configuration, and how one is made.

Source: Amazon S3 API reference (HeadBucket, GetBucketLocation, GetBucketEncryption, CreateBucket and others) and
AWS KMS API reference (DescribeKey).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from botocore import exceptions as boto

from domicile.api.zone import Cloud, Profile, Site
from domicile.backup.stores.base import (
    AlreadyExistsError,
    BucketFacts,
    EncryptionError,
    NotFoundError,
    Outflow,
    Sse,
    StoreError,
    UnavailableError,
)
from domicile.backup.stores.deadlines import Deadlines
from domicile.backup.stores.s3_client import endpoint

OWNER_HEADER = "x-amz-expected-bucket-owner"
_REGION_HEADER = "x-amz-bucket-region"
_SSE_HEADER = "x-amz-server-side-encryption"
_UNSUPPORTED_CODES = {"NotImplemented", "MethodNotAllowed"}
_PUBLIC_GROUPS = ("/groups/global/AllUsers", "/groups/global/AuthenticatedUsers")
_BLOCKS = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
# From these classes an object can't be read before it was restored, hours later (S3 User Guide: storage classes).
_ARCHIVES = {"GLACIER", "DEEP_ARCHIVE"}
# EventBridge delivers to the account's bus, whose rules send on to any region and are no answer of S3.
_EVENT_BRIDGE = "EventBridge"
_ASKED_AT_ONCE = 6


class OwnedError(AlreadyExistsError):
    """The bucket exists and is ours."""


def status_of(error: boto.ClientError) -> int:
    """HTTP status of a refusal; 0 where it has none."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def code_of(error: boto.ClientError) -> str:
    """S3's name of a refusal, such as AccessDenied."""
    return str(error.response.get("Error", {}).get("Code", ""))


def owner(site: Site) -> dict[str, str]:
    """The argument that makes S3 refuse a call on a bucket of another account; empty where the zone names none."""
    return {"ExpectedBucketOwner": site.stores.account_id} if site.stores.account_id else {}


def require_sse(expected: Sse | None, headers: Mapping[str, str], where: str) -> None:
    """Raise EncryptionError unless the answer to a write names the encryption that the bucket demands.

    Some servers accept a demand for encryption and ignore it. ``expected`` None demands nothing.
    """
    if expected is None:
        return
    told = {name.lower(): value for name, value in headers.items()}
    algorithm, key = told.get(_SSE_HEADER), told.get(f"{_SSE_HEADER}-aws-kms-key-id")
    if algorithm != expected.algorithm:
        raise EncryptionError(f"{where} kept an object with encryption {algorithm or 'none'}, not {expected.algorithm}")
    if expected.key is not None and key != expected.key:
        raise EncryptionError(f"{where} kept an object under another KMS key than the bucket's")


class _Question(NamedTuple):
    """One configuration API: what of its answer counts, and the refusals that mean that nothing is configured."""

    operation: str
    answer: Callable[[Mapping[str, Any], str], Any]
    nothing: frozenset[str] = frozenset()


def _grants(answer: Mapping[str, Any], _: str) -> list[str]:
    groups = [grant.get("Grantee", {}).get("URI", "") for grant in answer.get("Grants", ())]
    return sorted(group for group in groups if group.endswith(_PUBLIC_GROUPS))


def _replication(answer: Mapping[str, Any], _: str) -> list[str]:
    rules = answer.get("ReplicationConfiguration", {}).get("Rules", ())
    return sorted({rule["Destination"]["Bucket"] for rule in rules if rule.get("Status") != "Disabled"})


def _inventory(answer: Mapping[str, Any], _: str) -> list[str]:
    reports = answer.get("InventoryConfigurationList", ())
    return sorted({report["Destination"]["S3BucketDestination"]["Bucket"] for report in reports if report["IsEnabled"]})


def _logging(answer: Mapping[str, Any], _: str) -> list[str]:
    enabled = answer.get("LoggingEnabled")
    return [enabled["TargetBucket"]] if enabled else []


def _analytics(answer: Mapping[str, Any], _: str) -> list[str]:
    exports = [one["StorageClassAnalysis"].get("DataExport") for one in answer.get("AnalyticsConfigurationList", ())]
    return sorted({export["Destination"]["S3BucketDestination"]["Bucket"] for export in exports if export})


def _notification(answer: Mapping[str, Any], _: str) -> list[str]:
    kinds = {"TopicConfigurations": "TopicArn", "QueueConfigurations": "QueueArn"}
    kinds["LambdaFunctionConfigurations"] = "LambdaFunctionArn"
    found = {one[arn] for kind, arn in kinds.items() for one in answer.get(kind, ())}
    return sorted(found | ({_EVENT_BRIDGE} if "EventBridgeConfiguration" in answer else set()))


def _metadata_tables(answer: Mapping[str, Any], _: str) -> list[str]:
    result = answer.get("GetBucketMetadataConfigurationResult", {}).get("MetadataConfigurationResult", {})
    arn = result.get("DestinationResult", {}).get("TableBucketArn")
    return [arn] if arn else []


def _policy(answer: Mapping[str, Any], bucket: str) -> dict[str, Any]:
    text = answer["Policy"]
    return {"tlsOnly": tls_only(text, bucket), "sha256": hashlib.sha256(text.encode()).hexdigest()}


def _lock(answer: Mapping[str, Any], _: str) -> dict[str, Any]:
    rule = answer["ObjectLockConfiguration"].get("Rule", {}).get("DefaultRetention", {})
    return {"mode": rule.get("Mode"), "days": rule.get("Days", 0) + 365 * rule.get("Years", 0)}


def _lifecycle(answer: Mapping[str, Any], _: str) -> list[str]:
    rules = [rule for rule in answer.get("Rules", ()) if rule["Status"] == "Enabled"]
    deletes = any({"Days", "Date"} & rule.get("Expiration", {}).keys() for rule in rules)
    archives = {move["StorageClass"] for rule in rules for move in rule.get("Transitions", ())} & _ARCHIVES
    return sorted(archives | ({"Expiration"} if deletes else set()))


_QUESTIONS = {
    "location": _Question("get_bucket_location", lambda a, _: a.get("LocationConstraint")),
    "encryption": _Question(
        "get_bucket_encryption",
        lambda a, _: a["ServerSideEncryptionConfiguration"].get("Rules", []),
        frozenset({"ServerSideEncryptionConfigurationNotFoundError"}),
    ),
    "versioning": _Question("get_bucket_versioning", lambda a, _: a.get("Status")),
    "publicAccessBlock": _Question(
        "get_public_access_block",
        lambda a, _: a["PublicAccessBlockConfiguration"],
        frozenset({"NoSuchPublicAccessBlockConfiguration"}),
    ),
    "policyStatus": _Question(
        "get_bucket_policy_status", lambda a, _: a["PolicyStatus"].get("IsPublic"), frozenset({"NoSuchBucketPolicy"})
    ),
    "publicGrants": _Question("get_bucket_acl", _grants),
    "policy": _Question("get_bucket_policy", _policy, frozenset({"NoSuchBucketPolicy"})),
    # Regions without acceleration refuse the question in these two ways (hashicorp/terraform-provider-aws#6853).
    "acceleration": _Question(
        "get_bucket_accelerate_configuration",
        lambda a, _: a.get("Status"),
        frozenset({"MethodNotAllowed", "UnsupportedArgument"}),
    ),
    "replication": _Question(
        "get_bucket_replication", _replication, frozenset({"ReplicationConfigurationNotFoundError"})
    ),
    "inventory": _Question("list_bucket_inventory_configurations", _inventory),
    "logging": _Question("get_bucket_logging", _logging),
    "analytics": _Question("list_bucket_analytics_configurations", _analytics),
    "notification": _Question("get_bucket_notification_configuration", _notification),
    # A table bucket lies in its bucket's own region (MetadataTableConfigurationResult), so that a region without the
    # feature, which refuses the question, can have none elsewhere.
    "metadataTables": _Question(
        "get_bucket_metadata_configuration",
        _metadata_tables,
        frozenset({"MetadataConfigurationNotFound", "MethodNotAllowed", "NotImplemented"}),
    ),
    "objectLock": _Question(
        "get_object_lock_configuration", _lock, frozenset({"ObjectLockConfigurationNotFoundError"})
    ),
    "lifecycle": _Question(
        "get_bucket_lifecycle_configuration", _lifecycle, frozenset({"NoSuchLifecycleConfiguration"})
    ),
}
_OUTFLOWS = {
    "replication": "replication rule",
    "inventory": "inventory report",
    "logging": "access log",
    "analytics": "analytics export",
    "notification": "event notification",
    "metadataTables": "metadata table",
}


def tls_only(policy: str, bucket: str) -> bool:
    """Whether a bucket policy denies everybody everything that does not come by TLS, on the bucket and its objects."""
    statements = json.loads(policy).get("Statement", [])
    covered: set[str] = set()
    for statement in [statements] if isinstance(statements, dict) else statements:
        condition = {
            test: {name.lower(): _listed(value) for name, value in keys.items()}
            for test, keys in statement.get("Condition", {}).items()
        }
        plain = [{"Bool": {"aws:securetransport": [no]}} for no in ("false", False)]
        everyone = statement.get("Principal") in ("*", {"AWS": "*"}, {"AWS": ["*"]})
        everything = {"*", "s3:*"} & set(_listed(statement.get("Action")))
        if statement.get("Effect") == "Deny" and everyone and everything and condition in plain:
            covered.update(resource.rpartition(":")[2] for resource in _listed(statement.get("Resource", [])))
    return bool({"*", f"{bucket}*"} & covered) or {bucket, f"{bucket}/*"} <= covered


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _tls_policy(bucket: str, partition: str) -> str:
    arn = f"arn:{partition}:s3:::{bucket}"
    denied = {"Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": [arn, f"{arn}/*"]}
    insecure = {"Bool": {"aws:SecureTransport": "false"}}
    return json.dumps({"Version": "2012-10-17", "Statement": [{"Sid": "TlsOnly", **denied, "Condition": insecure}]})


def _named_region(error: boto.ClientError) -> str | None:
    headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    region = headers.get(_REGION_HEADER) or error.response.get("Error", {}).get("Region")
    return str(region) if region else None


def _head_region(answer: Mapping[str, Any]) -> str | None:
    region = answer.get("BucketRegion") or answer["ResponseMetadata"]["HTTPHeaders"].get(_REGION_HEADER)
    return str(region) if region else None


def _region(constraint: str | None) -> str:
    """The region that a LocationConstraint means (GetBucketLocation)."""
    return {None: "us-east-1", "": "us-east-1", "EU": "eu-west-1"}.get(constraint, str(constraint))


def _default_sse(asked: Mapping[str, Any]) -> Sse | None:
    rules: Iterable[Mapping[str, Any]] = asked.get("answer") or ()
    defaults = [rule.get("ApplyServerSideEncryptionByDefault", {}) for rule in rules]
    named = [default for default in defaults if default.get("SSEAlgorithm")]
    return Sse(named[0]["SSEAlgorithm"], named[0].get("KMSMasterKeyID")) if named else None


def _public(raw: Mapping[str, Any]) -> bool | None:
    block = raw["publicAccessBlock"]
    if "answer" in block:
        return not all((block["answer"] or {}).get(flag) for flag in _BLOCKS)
    return True if raw["policyStatus"].get("answer") or raw["publicGrants"].get("answer") else None


class S3Config:
    """The configuration of one bucket. ``translated`` turns the library's errors into a store's; ``kms`` opens a
    client of the region's KMS and is called only for a bucket with a key.
    """

    def __init__(
        self,
        site: Site,
        name: str,
        s3: Any,
        deadlines: Deadlines,
        translated: Callable[[type[StoreError]], AbstractContextManager[None]],
        kms: Callable[[], Any],
    ) -> None:
        self._site = site
        self._name = name
        self._s3 = s3
        self._deadlines = deadlines
        self._translated = translated
        self._kms = kms
        self._cloud = site.stores.profile is Profile.CLOUD
        self._expected: Sse | None = None

    def facts(self) -> BucketFacts:
        """What the store says of the bucket. Raises NotFoundError where it is missing."""
        raw: dict[str, Any] = {"site": self._site.name, "bucket": self._name, "endpoint": endpoint(self._site)}
        raw["headRegion"], elsewhere = self._head()
        if elsewhere:
            return BucketFacts(raw["headRegion"], False, None, None, None, None, raw)
        with ThreadPoolExecutor(_ASKED_AT_ONCE) as pool:
            raw |= zip(_QUESTIONS, pool.map(self._ask, _QUESTIONS.values()), strict=True)
        outflows = [flow for question, kind in _OUTFLOWS.items() for flow in self._outflows(raw[question], kind)]
        raw["outflows"] = [[flow.kind, flow.region, flow.told] for flow in outflows]
        encrypted, sse, kms_fault = self._encryption(raw)
        self._expected = sse
        versioning, lock, lifecycle = raw["versioning"], raw["objectLock"], raw["lifecycle"]
        return BucketFacts(
            location=self._location(raw),
            multi_region=False,
            encrypted=encrypted,
            kms_key=sse.key if sse else None,
            versioned=None if "error" in versioning else versioning["answer"] == "Enabled",
            public=_public(raw),
            raw=raw,
            # A suspended bucket still holds its old versions. S3 has no soft delete, and locks imply versioning.
            keeps_deleted=None if "error" in versioning else bool(versioning["answer"]),
            outflows=tuple(outflows),
            tls_only=self._tls_only(raw["policy"]),
            accelerated=None if "error" in raw["acceleration"] else raw["acceleration"]["answer"] == "Enabled",
            held_days=None if "error" in lock else (lock["answer"] or {"days": 0})["days"],
            locked=None if "error" in lock else (lock["answer"] or {"mode": None})["mode"] == "COMPLIANCE",
            expires=None if "error" in lifecycle else bool(lifecycle["answer"]),
            sse=sse,
            kms_fault=kms_fault,
        )

    def require_written(self, headers: Mapping[str, str]) -> None:
        """Raise EncryptionError where a write's answer shows another encryption than ``facts`` found last."""
        require_sse(self._expected, headers, self._where)

    def create(self) -> None:
        """Create the bucket in the site's region: private, encrypted, by TLS only, and versioned unless it holds keys.

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
        if self._cloud:
            self._configure("put_bucket_policy", Policy=_tls_policy(self._name, self._s3.meta.partition))
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

    def _head(self) -> tuple[str | None, bool]:
        """Region by HeadBucket, and whether the store sent us to another one."""

        def head() -> tuple[str | None, bool]:
            with self._translated(StoreError):
                try:
                    answer = self._s3.head_bucket(Bucket=self._name, **owner(self._site))
                except boto.ClientError as error:
                    region = _named_region(error) or self._region_of_refusal(error)
                    if region and region != self._site.region:
                        return region, True
                    if status_of(error) == 404:
                        raise NotFoundError(f"there is no {self._where}") from None
                    raise
                return _head_region(answer), False

        return self._deadlines.run(head)

    def _region_of_refusal(self, head: boto.ClientError) -> str | None:
        """The region that the store names in a refusal's body, which HeadBucket lacks."""
        if status_of(head) != 400:
            return None
        try:
            self._s3.get_bucket_location(Bucket=self._name, **owner(self._site))
        except boto.ClientError as error:
            return _named_region(error)
        return None

    def _ask(self, question: _Question) -> dict[str, Any]:
        """{"answer": what counts of it} or {"error": code} of one configuration API, all its pages."""
        call = getattr(self._s3, question.operation)

        def once() -> dict[str, Any]:
            with self._translated(StoreError):
                return self._refusable(question.nothing, pages)

        def pages() -> Any:
            answer = call(Bucket=self._name, **owner(self._site))
            value = question.answer(answer, self._name)
            while answer.get("IsTruncated"):
                token = answer["NextContinuationToken"]
                answer = call(Bucket=self._name, ContinuationToken=token, **owner(self._site))
                value = sorted({*value, *question.answer(answer, self._name)})
            return value

        return self._deadlines.run(once)

    @staticmethod
    def _refusable(nothing: frozenset[str], call: Callable[[], Any]) -> dict[str, Any]:
        try:
            return {"answer": call()}
        except boto.ClientError as error:
            if code_of(error) in nothing:
                return {"answer": None}
            if status_of(error) in {400, 401, 403, 404, 405, 501}:
                return {"error": code_of(error)}
            raise

    def _location(self, raw: Mapping[str, Any]) -> str | None:
        head, location = raw["headRegion"], raw["location"]
        if "error" in location:
            # The cloud answers both; where one is withheld the other alone proves too little.
            return None if self._cloud else head
        named = _region(location["answer"])
        if head is None and self._cloud:
            return None
        return named if head in {None, named} else f"{named} (GetBucketLocation), {head} (HeadBucket)"

    def _encryption(self, raw: dict[str, Any]) -> tuple[bool | None, Sse | None, str | None]:
        """Whether new objects are encrypted, how, and what is wrong with the key: in the cloud KMS itself is asked."""
        asked = raw["encryption"]
        sse = _default_sse(asked)
        if "error" in asked or sse is None:
            return (None if "error" in asked else False), None, None
        if not (self._cloud and self._site.cloud is Cloud.AWS and sse.algorithm.startswith("aws:kms")):
            return True, sse, None
        told = raw["kmsKey"] = self._describe(sse.key or "alias/aws/s3")
        if "error" in told:
            return None, sse, None
        key = told["answer"]
        fault = "is a multi-region key" if key["multiRegion"] else None
        if key["origin"] == "EXTERNAL_KEY_STORE":
            fault = "lies in an external key store, in a place that the cloud can't show"
        return True, Sse(sse.algorithm, key["arn"]), fault

    def _describe(self, key: str) -> dict[str, Any]:
        def once() -> dict[str, Any]:
            with self._translated(StoreError):
                return self._refusable(frozenset(), describe)

        def describe() -> dict[str, Any]:
            try:
                told = self._kms().describe_key(KeyId=key)["KeyMetadata"]
            except boto.ClientError as error:
                if code_of(error) == "ThrottlingException":
                    raise UnavailableError(f"{self._where}: its region's KMS is too busy to describe the key") from None
                raise
            return {"arn": told["Arn"], "multiRegion": told.get("MultiRegion"), "origin": told.get("Origin")}

        return self._deadlines.run(once)

    def _outflows(self, asked: Mapping[str, Any], kind: str) -> list[Outflow]:
        if "error" in asked:
            return [Outflow(kind, told=False)]
        return [Outflow(kind, self._place(target)) for target in asked["answer"] or ()]

    def _place(self, target: str) -> str | None:
        """Region of what an ARN or a bucket's name stands for; an S3 ARN has none in it, so its bucket is asked."""
        if target == _EVENT_BRIDGE:
            return None
        if not target.startswith("arn:"):
            return self._region_of(target)
        _, _, service, region, _, name = target.split(":", 5)
        return region or (self._region_of(name) if service == "s3" else None)

    def _region_of(self, bucket: str) -> str | None:
        """Region of any bucket: S3 names it even in most refusals (HeadBucket: x-amz-bucket-region)."""

        def once() -> str | None:
            with self._translated(StoreError):
                for ask, told in ((self._s3.get_bucket_location, _constrained), (self._s3.head_bucket, _head_region)):
                    try:
                        return told(ask(Bucket=bucket))
                    except boto.ClientError as error:
                        if region := _named_region(error):
                            return region
                        if status_of(error) >= 500 and status_of(error) != 501:
                            raise
            return None

        return self._deadlines.run(once)

    def _tls_only(self, asked: Mapping[str, Any]) -> bool | None:
        if "error" in asked:
            return None
        denied = bool(asked["answer"] and asked["answer"]["tlsOnly"])
        # A compatible server may have no plain port that a policy would have to close.
        return denied or (False if self._cloud else None)

    def _configure(self, operation: str, **arguments: Any) -> None:
        def once() -> None:
            with self._translated(StoreError):
                try:
                    getattr(self._s3, operation)(Bucket=self._name, **owner(self._site), **arguments)
                except boto.ClientError as error:
                    unsupported = status_of(error) in {405, 501} or code_of(error) in _UNSUPPORTED_CODES
                    if self._cloud or not unsupported:
                        raise

        self._deadlines.run(once)


def _constrained(answer: Mapping[str, Any]) -> str:
    return _region(answer.get("LocationConstraint"))
