"""What S3 buckets and KMS keys say of themselves, at AWS's own endpoints as moto answers them; profile cloud.

moto answers in this process. What it can't be brought to say (refusals, other features) is put into its mouth.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import botocore.session
import pytest
from botocore.awsrequest import AWSResponse
from moto import mock_aws

from domicile.api.zone import ResidencyZoneSpec, Site, Subject
from domicile.backup.residency import (
    SITE_SUBJECTS,
    Purpose,
    ResidencyError,
    Verdict,
    compliant,
    evidence_digest,
    judge,
    require,
)
from domicile.backup.stores import Deadlines, open_bucket
from domicile.backup.stores.base import (
    AlreadyExistsError,
    DeniedError,
    EncryptionError,
    Sse,
    UnavailableError,
)
from domicile.backup.stores.s3 import S3Bucket
from domicile.backup.stores.s3_config import require_sse, tls_only
from tests.integration.stores_fixture import StoreSites, make_site

TODAY = date(2026, 3, 10)
HOME, ABROAD, ACCOUNT = "eu-central-1", "us-east-1", "123456789012"
S3_HOSTS = {f"s3.{HOME}.amazonaws.com"}
KEYS = {"aws_access_key_id": "id", "aws_secret_access_key": "secret"}
SITE = make_site("aws-frankfurt", "aws", HOME, None, accountId=ACCOUNT)


def zone(*sites: Site) -> ResidencyZoneSpec:
    dates = {"attestedOn": "2026-01-01", "expiresOn": "2027-01-01", "statement": "the tests' own cloud"}
    wire = {
        "jurisdiction": "EU",
        "allowedRegions": [{"cloud": "aws", "regions": [HOME, "eu-west-1"]}],
        "sites": [site.to_wire() for site in sites],
        "attestations": [{"site": s.name, "subject": subject, **dates} for s in sites for subject in SITE_SUBJECTS],
    }
    return ResidencyZoneSpec.model_validate(wire)


class Aws:
    """A cloud of these tests, seen by its owner (``s3``, ``kms``) and by the product (``bucket``)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / f"{SITE.name}.json").write_text(json.dumps({"accessKeyId": "id", "secretAccessKey": "secret"}))
        self.s3, self.kms = self.client("s3"), self.client("kms")
        self.name = ""
        self.hooks: list[Callable[[], None]] = []

    @staticmethod
    @cache
    def client(service: str, region: str = HOME) -> Any:
        return boto3.client(service, region_name=region, **KEYS)  # type: ignore[call-overload]

    def hook(self, client: Any, event: str, handler: Callable[..., Any]) -> None:
        """Have the product's client call a handler until the test ends."""
        client.meta.events.register_first(event, handler)
        self.hooks.append(lambda: client.meta.events.unregister(event, handler))

    @property
    def bucket(self) -> S3Bucket:
        found = open_bucket(SITE, self.name, self.folder, Deadlines(retries=0))
        assert isinstance(found, S3Bucket)
        return found

    def other(self, region: str) -> str:
        """A bucket of the same owner in some region."""
        name = f"o-{uuid.uuid4().hex}"
        made = {"CreateBucketConfiguration": {"LocationConstraint": region}} if region != ABROAD else {}
        self.client("s3", region).create_bucket(Bucket=name, **made)
        self.client("s3", region).put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        return name

    def says(self, operation: str, status: int, body: str, service: str = "s3") -> None:
        """From now on the product's client gets this answer to an operation."""
        client = self.bucket._s3 if service == "s3" else self.bucket._config._kms()
        raw = type("Raw", (), {"stream": lambda self: iter([body.encode()])})()

        def answer(request: Any, **_: Any) -> AWSResponse:
            return AWSResponse(request.url, status, {"content-type": "application/xml"}, raw)

        self.hook(client, f"before-send.{service}.{operation}", answer)

    def refuses(self, operation: str, status: int, code: str) -> None:
        self.says(operation, status, f"<Error><Code>{code}</Code><Message>m</Message></Error>")

    def judged(self, purpose: Purpose = Purpose.LIVE) -> dict[Subject, tuple[Verdict, str]]:
        found = judge(zone(SITE), SITE, self.name, self.bucket.facts(), purpose, TODAY)
        return {finding.subject: (finding.verdict, finding.message) for finding in found}

    def key(self, **how: Any) -> str:
        arn: str = self.kms.create_key(**how)["KeyMetadata"]["Arn"]
        return arn

    def encrypt_by(self, key: str | None) -> None:
        default = {"SSEAlgorithm": "aws:kms"} | ({"KMSMasterKeyID": key} if key else {})
        rules = {"Rules": [{"ApplyServerSideEncryptionByDefault": default}]}
        self.s3.put_bucket_encryption(Bucket=self.name, ServerSideEncryptionConfiguration=rules)


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aws]:
    with mock_aws():
        yield Aws(tmp_path_factory.mktemp("cloud"))


@pytest.fixture
def aws(cloud: Aws) -> Iterator[Aws]:
    cloud.name = f"t-{uuid.uuid4().hex}"
    cloud.bucket.create_bucket()
    try:
        yield cloud
    finally:
        while cloud.hooks:
            cloud.hooks.pop()()


def replicate_to(aws: Aws, target: str, status: str = "Enabled") -> None:
    rule = {"ID": "r", "Priority": 1, "Filter": {"Prefix": "secret/"}, "Status": status}
    rule |= {"Destination": {"Bucket": f"arn:aws:s3:::{target}"}, "DeleteMarkerReplication": {"Status": "Disabled"}}
    config = {"Role": f"arn:aws:iam::{ACCOUNT}:role/jane.doe", "Rules": [rule]}
    aws.s3.put_bucket_replication(Bucket=aws.name, ReplicationConfiguration=config)


def inventory_to(aws: Aws, target: str, identity: str = "i", *, enabled: bool = True) -> None:
    destination = {"S3BucketDestination": {"Bucket": f"arn:aws:s3:::{target}", "Format": "CSV", "Prefix": "secret/"}}
    report = {"Id": identity, "IsEnabled": enabled, "IncludedObjectVersions": "All", "Schedule": {"Frequency": "Daily"}}
    report |= {"Destination": destination}
    aws.s3.put_bucket_inventory_configuration(Bucket=aws.name, Id=identity, InventoryConfiguration=report)


def log_to(aws: Aws, target: str) -> None:
    body = f"<LoggingEnabled><TargetBucket>{target}</TargetBucket><TargetPrefix>secret/</TargetPrefix></LoggingEnabled>"
    aws.says("GetBucketLogging", 200, f"<BucketLoggingStatus>{body}</BucketLoggingStatus>")


def analyse_to(aws: Aws, target: str) -> None:
    target = f"<S3BucketDestination><Format>CSV</Format><Bucket>arn:aws:s3:::{target}</Bucket></S3BucketDestination>"
    export = f"<OutputSchemaVersion>V_1</OutputSchemaVersion><Destination>{target}</Destination>"
    analysis = f"<StorageClassAnalysis><DataExport>{export}</DataExport></StorageClassAnalysis>"
    one = f"<AnalyticsConfiguration><Id>a</Id>{analysis}</AnalyticsConfiguration>"
    body = f"<ListBucketAnalyticsConfigurationsResult>{one}</ListBucketAnalyticsConfigurationsResult>"
    aws.says("ListBucketAnalyticsConfigurations", 200, body)


def notify(aws: Aws, kind: str, arn: str) -> None:
    tag = {"sns": "Topic", "sqs": "Queue", "lambda": "CloudFunction"}[kind]
    one = f"<{tag}Configuration><Id>n</Id><{tag}>{arn}</{tag}><Event>s3:ObjectCreated:*</Event></{tag}Configuration>"
    body = f"<NotificationConfiguration>{one}</NotificationConfiguration>"
    aws.says("GetBucketNotificationConfiguration", 200, body)


def use_event_bridge(aws: Aws) -> None:
    body = "<NotificationConfiguration><EventBridgeConfiguration/></NotificationConfiguration>"
    aws.says("GetBucketNotificationConfiguration", 200, body)


def table_in(aws: Aws, region: str) -> None:
    arn = f"arn:aws:s3tables:{region}:{ACCOUNT}:bucket/aws-s3"
    result = f"<DestinationResult><TableBucketArn>{arn}</TableBucketArn></DestinationResult>"
    result = f"<MetadataConfigurationResult>{result}</MetadataConfigurationResult>"
    body = f"<GetBucketMetadataConfigurationResult>{result}</GetBucketMetadataConfigurationResult>"
    aws.says("GetBucketMetadataConfiguration", 200, body)


def lock(aws: Aws, mode: str, **how_long: int) -> None:
    aws.name = f"l-{uuid.uuid4().hex}"
    where = {"LocationConstraint": HOME}
    aws.s3.create_bucket(Bucket=aws.name, CreateBucketConfiguration=where, ObjectLockEnabledForBucket=True)
    rule = {"DefaultRetention": {"Mode": mode, **how_long}}
    config = {"ObjectLockEnabled": "Enabled", "Rule": rule}
    aws.s3.put_object_lock_configuration(Bucket=aws.name, ObjectLockConfiguration=config)


def expire(aws: Aws, **rule: Any) -> None:
    rules = [{"ID": "x", "Filter": {"Prefix": "secret/"}, "Status": "Enabled", **rule}]
    aws.s3.put_bucket_lifecycle_configuration(Bucket=aws.name, LifecycleConfiguration={"Rules": rules})


@pytest.mark.parametrize("purpose", Purpose)
def test_a_bucket_that_the_product_makes_passes_every_check(aws: Aws, purpose: Purpose) -> None:
    if purpose is Purpose.KEYS:
        aws.name = SITE.stores.keys
        aws.bucket.create_bucket()
    found = aws.judged(purpose)
    assert {verdict for verdict, _ in found.values()} == {Verdict.VERIFIED}, found
    assert len(require(zone(SITE), TODAY, (SITE, aws.bucket, purpose))) == 64


DRIFTS: list[tuple[str, Callable[[Aws], Any], Subject, str]] = [
    ("replicated abroad", lambda a: replicate_to(a, a.other(ABROAD)), Subject.OUTFLOWS, "replication rule goes to us-"),
    ("replicated to London", lambda a: replicate_to(a, a.other("eu-west-2")), Subject.OUTFLOWS, "eu-west-2"),
    ("reported abroad", lambda a: inventory_to(a, a.other(ABROAD)), Subject.OUTFLOWS, "inventory report goes to us-"),
    ("logged abroad", lambda a: log_to(a, a.other(ABROAD)), Subject.OUTFLOWS, "access log goes to us-east-1"),
    ("logged to nobody knows where", lambda a: log_to(a, "no-such-bucket"), Subject.OUTFLOWS, "does not name"),
    ("analysed abroad", lambda a: analyse_to(a, a.other(ABROAD)), Subject.OUTFLOWS, "analytics export goes to us-"),
    ("told to a topic", lambda a: notify(a, "sns", "arn:aws:sns:us-east-1:1:t"), Subject.OUTFLOWS, "us-east-1"),
    ("told to a queue", lambda a: notify(a, "sqs", "arn:aws:sqs:us-west-2:1:q"), Subject.OUTFLOWS, "us-west-2"),
    (
        "told to a function",
        lambda a: notify(a, "lambda", "arn:aws:lambda:us-east-2:1:function:f"),
        Subject.OUTFLOWS,
        "us-east-2",
    ),
    ("told to EventBridge", use_event_bridge, Subject.OUTFLOWS, "event notification goes to a place"),
    ("listed in a table abroad", lambda a: table_in(a, ABROAD), Subject.OUTFLOWS, "metadata table goes to us-east-1"),
    (
        "default encryption gone",
        lambda a: a.s3.delete_bucket_encryption(Bucket=a.name),
        Subject.ENCRYPTION,
        "no default encryption",
    ),
    ("multi-region key", lambda a: a.encrypt_by(a.key(MultiRegion=True)), Subject.ENCRYPTION, "multi-region"),
    (
        "alias of a multi-region key",
        lambda a: (
            a.kms.create_alias(AliasName="alias/a", TargetKeyId=a.key(MultiRegion=True)),
            a.encrypt_by("alias/a"),
        ),
        Subject.ENCRYPTION,
        "multi-region",
    ),
    (
        "key in an external store",
        lambda a: a.encrypt_by(a.key(Origin="EXTERNAL_KEY_STORE")),
        Subject.ENCRYPTION,
        "external key store",
    ),
    (
        "key abroad",
        lambda a: a.encrypt_by(f"arn:aws:kms:us-east-1:{ACCOUNT}:key/{uuid.uuid4()}"),
        Subject.ENCRYPTION,
        "does not say its encryption",
    ),
    ("unknown key", lambda a: a.encrypt_by(str(uuid.uuid4())), Subject.ENCRYPTION, "does not say its encryption"),
    (
        "no public access block",
        lambda a: a.s3.delete_public_access_block(Bucket=a.name),
        Subject.PUBLIC_ACCESS,
        "not blocked",
    ),
    (
        "half a public access block",
        lambda a: a.s3.put_public_access_block(
            Bucket=a.name, PublicAccessBlockConfiguration={"BlockPublicAcls": True, "IgnorePublicAcls": True}
        ),
        Subject.PUBLIC_ACCESS,
        "not blocked",
    ),
    ("open to plain HTTP", lambda a: a.s3.delete_bucket_policy(Bucket=a.name), Subject.TRANSPORT, "SecureTransport"),
    (
        "accelerated",
        lambda a: a.s3.put_bucket_accelerate_configuration(
            Bucket=a.name, AccelerateConfiguration={"Status": "Enabled"}
        ),
        Subject.TRANSPORT,
        "acceleration",
    ),
    (
        "versioning suspended",
        lambda a: a.s3.put_bucket_versioning(Bucket=a.name, VersioningConfiguration={"Status": "Suspended"}),
        Subject.VERSIONING,
        "versioning is off",
    ),
    ("locked for good", lambda a: lock(a, "COMPLIANCE", Days=1), Subject.RETENTION, "nobody can lift"),
    ("locked too long", lambda a: lock(a, "GOVERNANCE", Days=8), Subject.RETENTION, "for 8 days"),
    ("locked for years", lambda a: lock(a, "GOVERNANCE", Years=2), Subject.RETENTION, "for 730 days"),
]


@pytest.mark.parametrize(("change", "subject", "words"), [d[1:] for d in DRIFTS], ids=[d[0] for d in DRIFTS])
def test_drift_is_violated(aws: Aws, change: Callable[[Aws], Any], subject: Subject, words: str) -> None:
    before = evidence_digest(aws.bucket.facts())
    change(aws)
    verdict, message = aws.judged()[subject]
    assert verdict is Verdict.VIOLATED
    assert words in message
    assert evidence_digest(aws.bucket.facts()) != before
    with pytest.raises(ResidencyError):
        require(zone(SITE), TODAY, (SITE, aws.bucket, Purpose.LIVE))


FINE: list[tuple[str, Callable[[Aws], Any]]] = [
    ("replicated inside", lambda a: replicate_to(a, a.other("eu-west-1"))),
    ("replication switched off", lambda a: replicate_to(a, a.other(ABROAD), "Disabled")),
    ("reported inside", lambda a: inventory_to(a, a.other(HOME))),
    ("report switched off", lambda a: inventory_to(a, a.other(ABROAD), enabled=False)),
    ("logged inside", lambda a: log_to(a, a.other("eu-west-1"))),
    ("analysed inside", lambda a: analyse_to(a, a.other(HOME))),
    ("told inside", lambda a: notify(a, "sqs", f"arn:aws:sqs:{HOME}:1:q")),
    ("listed in a table here", lambda a: table_in(a, HOME)),
    ("single-region key", lambda a: a.encrypt_by(a.key())),
    ("the cloud's own key", lambda a: a.encrypt_by(None)),
    (
        "acceleration suspended",
        lambda a: a.s3.put_bucket_accelerate_configuration(
            Bucket=a.name, AccelerateConfiguration={"Status": "Suspended"}
        ),
    ),
    ("no acceleration here (405)", lambda a: a.refuses("GetBucketAccelerateConfiguration", 405, "MethodNotAllowed")),
    ("no acceleration here (400)", lambda a: a.refuses("GetBucketAccelerateConfiguration", 400, "UnsupportedArgument")),
    ("no tables (404)", lambda a: a.refuses("GetBucketMetadataConfiguration", 404, "MetadataConfigurationNotFound")),
    ("no tables here (501)", lambda a: a.refuses("GetBucketMetadataConfiguration", 501, "NotImplemented")),
    ("a tenant's data expires", lambda a: expire(a, Expiration={"Days": 30})),
]


@pytest.mark.parametrize("change", [d[1] for d in FINE], ids=[d[0] for d in FINE])
def test_what_stays_inside_passes(aws: Aws, change: Callable[[Aws], Any]) -> None:
    change(aws)
    found = aws.judged()
    assert {verdict for verdict, _ in found.values()} == {Verdict.VERIFIED}, found


def test_a_short_lock_in_governance_mode_leaves_room_for_erasure(aws: Aws) -> None:
    lock(aws, "GOVERNANCE", Days=7)
    assert aws.judged()[Subject.RETENTION][0] is Verdict.VERIFIED


@pytest.mark.parametrize("purpose", [Purpose.REPLICA, Purpose.CONTROL])
@pytest.mark.parametrize(
    ("rule", "fine"),
    [
        ({"Expiration": {"Days": 30}}, False),
        ({"Transitions": [{"Days": 1, "StorageClass": "DEEP_ARCHIVE"}]}, False),
        ({"Transitions": [{"Days": 30, "StorageClass": "GLACIER_IR"}]}, True),
        ({"Status": "Disabled", "Expiration": {"Days": 30}}, True),
        ({"NoncurrentVersionExpiration": {"NoncurrentDays": 1}}, True),
        ({"AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1}}, True),
        ({"Expiration": {"ExpiredObjectDeleteMarker": True}}, True),
    ],
)
def test_no_lifecycle_rule_takes_what_the_product_wrote(
    aws: Aws, rule: dict[str, Any], fine: bool, purpose: Purpose
) -> None:
    expire(aws, **rule)
    verdict, message = aws.judged(purpose)[Subject.RETENTION]
    assert verdict is (Verdict.VERIFIED if fine else Verdict.VIOLATED), message


UNANSWERED = {
    "GetBucketLocation": Subject.LOCATION,
    "GetBucketEncryption": Subject.ENCRYPTION,
    "GetBucketVersioning": Subject.VERSIONING,
    "GetPublicAccessBlock": Subject.PUBLIC_ACCESS,
    "GetBucketPolicy": Subject.TRANSPORT,
    "GetBucketAccelerateConfiguration": Subject.TRANSPORT,
    "GetBucketReplication": Subject.OUTFLOWS,
    "ListBucketInventoryConfigurations": Subject.OUTFLOWS,
    "GetBucketLogging": Subject.OUTFLOWS,
    "ListBucketAnalyticsConfigurations": Subject.OUTFLOWS,
    "GetBucketNotificationConfiguration": Subject.OUTFLOWS,
    "GetBucketMetadataConfiguration": Subject.OUTFLOWS,
    "GetObjectLockConfiguration": Subject.RETENTION,
    "GetBucketLifecycleConfiguration": Subject.RETENTION,
}


@pytest.mark.parametrize(("operation", "subject"), UNANSWERED.items())
@pytest.mark.parametrize(("status", "code"), [(403, "AccessDenied"), (501, "NotImplemented")])
def test_cloud_fails_closed_on_each_question_that_is_refused(
    aws: Aws, operation: str, subject: Subject, status: int, code: str
) -> None:
    if (operation, status) == ("GetBucketMetadataConfiguration", 501):
        return
    aws.refuses(operation, status, code)
    found = aws.judged(Purpose.LIVE if subject is Subject.VERSIONING else Purpose.REPLICA)
    assert found[subject][0] is Verdict.VIOLATED
    assert "grant the permission" in found[subject][1]
    assert {s for s, (verdict, _) in found.items() if verdict is Verdict.VIOLATED} == {subject}


def test_cloud_fails_closed_where_kms_refuses_to_describe_the_key(aws: Aws) -> None:
    aws.encrypt_by(aws.key())
    aws.says("DescribeKey", 400, json.dumps({"__type": "AccessDeniedException"}), "kms")
    assert aws.judged()[Subject.ENCRYPTION][0] is Verdict.VIOLATED


@pytest.mark.parametrize(
    ("operation", "service", "status", "body"),
    [
        ("GetBucketReplication", "s3", 503, "<Error><Code>SlowDown</Code></Error>"),
        ("GetBucketLocation", "s3", 500, "<Error><Code>InternalError</Code></Error>"),
        ("DescribeKey", "kms", 400, json.dumps({"__type": "ThrottlingException"})),
        ("DescribeKey", "kms", 500, json.dumps({"__type": "KMSInternalException"})),
    ],
)
def test_an_outage_is_no_refusal(aws: Aws, operation: str, service: str, status: int, body: str) -> None:
    aws.encrypt_by(aws.key())
    aws.says(operation, status, body, service)
    with pytest.raises(UnavailableError):
        require(zone(SITE), TODAY, (SITE, aws.bucket, Purpose.LIVE))


@pytest.mark.parametrize("region", [HOME, ABROAD])
def test_a_target_of_others_names_its_region_by_refusing(aws: Aws, region: str) -> None:
    """AWS refuses GetBucketLocation to strangers, and names the region in the headers of its refusal of HeadBucket."""
    replicate_to(aws, "theirs")

    def refuse(request: Any, **_: Any) -> AWSResponse | None:
        if "theirs" not in request.url:
            return None
        headers = {"x-amz-bucket-region": region} if request.method == "HEAD" else {}
        raw = type("Raw", (), {"stream": lambda self: iter([b"<Error><Code>AccessDenied</Code></Error>"])})()
        return AWSResponse(request.url, 403, headers, raw)

    aws.hook(aws.bucket._s3, "before-send.s3", refuse)
    verdict, message = aws.judged()[Subject.OUTFLOWS]
    assert verdict is (Verdict.VERIFIED if region == HOME else Verdict.VIOLATED), message


def test_what_an_earlier_call_left_undone_is_done_by_the_next(aws: Aws) -> None:
    aws.s3.delete_public_access_block(Bucket=aws.name)
    aws.s3.delete_bucket_policy(Bucket=aws.name)
    with pytest.raises(AlreadyExistsError):
        aws.bucket.create_bucket()
    assert {verdict for verdict, _ in aws.judged().values()} == {Verdict.VERIFIED}


def test_a_listing_of_reports_is_read_to_its_end(aws: Aws) -> None:
    inventory_to(aws, aws.other(ABROAD))

    pages = 0

    def first_page(parsed: dict[str, Any], **_: Any) -> None:
        nonlocal pages
        pages += 1
        if pages == 1:
            parsed |= {"IsTruncated": True, "NextContinuationToken": "2", "InventoryConfigurationList": []}

    aws.hook(aws.bucket._s3, "after-call.s3.ListBucketInventoryConfigurations", first_page)
    assert aws.judged()[Subject.OUTFLOWS][0] is Verdict.VIOLATED
    assert pages == 2


def test_a_bucket_of_another_region_is_found_out(aws: Aws) -> None:
    aws.name = aws.other(ABROAD)
    verdict, message = aws.judged()[Subject.LOCATION]
    assert verdict is Verdict.VIOLATED
    assert "us-east-1, outside the zone" in message


def test_every_question_names_the_owner_and_goes_to_the_region(aws: Aws) -> None:
    asked: list[Any] = []
    aws.encrypt_by(aws.key())
    for service, client in (("s3", aws.bucket._s3), ("kms", aws.bucket._config._kms())):
        aws.hook(client, f"before-send.{service}", lambda request, **_: asked.append(request))
    facts = aws.bucket.facts()
    assert compliant(judge(zone(SITE), SITE, aws.name, facts, Purpose.LIVE, TODAY))
    hosts = {urlsplit(request.url).netloc for request in asked}
    assert hosts == S3_HOSTS | {f"{aws.name}.s3.{HOME}.amazonaws.com", f"kms.{HOME}.amazonaws.com"}
    to_s3 = [request for request in asked if f"s3.{HOME}" in request.url]
    assert len(to_s3) == len(UNANSWERED) + 3
    assert {request.headers["x-amz-expected-bucket-owner"] for request in to_s3} == {ACCOUNT.encode()}


def test_evidence_holds_nothing_of_persons_and_objects(aws: Aws) -> None:
    replicate_to(aws, aws.other(HOME))
    inventory_to(aws, aws.other(HOME))
    expire(aws, Expiration={"Days": 1})
    grant = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:user/jane.doe"}, "Action": "s3:GetObject"}
    held = json.loads(aws.s3.get_bucket_policy(Bucket=aws.name)["Policy"])
    held["Statement"].append(grant | {"Resource": f"arn:aws:s3:::{aws.name}/secret/*"})
    aws.s3.put_bucket_policy(Bucket=aws.name, Policy=json.dumps(held))
    facts = aws.bucket.facts()
    assert facts.tls_only
    text = json.dumps(dict(facts.raw))
    assert "jane" not in text
    assert "secret" not in text
    assert evidence_digest(facts) == evidence_digest(aws.bucket.facts())


BUCKET, OBJECTS = "arn:aws:s3:::b", "arn:aws:s3:::b/*"
DENY: dict[str, Any] = {
    "Effect": "Deny",
    "Principal": "*",
    "Action": "s3:*",
    "Resource": [BUCKET, OBJECTS],
    "Condition": {"Bool": {"aws:SecureTransport": "false"}},
}


@pytest.mark.parametrize(
    ("statements", "closed"),
    [
        (DENY, True),
        ([DENY], True),
        ([{**DENY, "Resource": BUCKET}, {**DENY, "Resource": OBJECTS}], True),
        ([{**DENY, "Principal": {"AWS": "*"}, "Action": ["*"], "Resource": "*"}], True),
        ([{**DENY, "Condition": {"Bool": {"AWS:securetransport": ["false"]}}}], True),
        ([{**DENY, "Resource": ["arn:aws-eusc:s3:::b", "arn:aws-eusc:s3:::b/*"]}], True),
        ([], False),
        ([{**DENY, "Effect": "Allow"}], False),
        ([{**DENY, "Resource": OBJECTS}], False),
        ([{**DENY, "Resource": BUCKET}], False),
        ([{**DENY, "Resource": ["arn:aws:s3:::other", "arn:aws:s3:::other/*"]}], False),
        ([{**DENY, "Action": "s3:GetObject"}], False),
        ([{**DENY, "Principal": {"AWS": "arn:aws:iam::1:role/x"}}], False),
        ([{**DENY, "Condition": {"Bool": {"aws:SecureTransport": "true"}}}], False),
        ([{**DENY, "Condition": {**DENY["Condition"], "StringEquals": {"aws:SourceVpc": "vpc-1"}}}], False),
        ([{**DENY, "Condition": {"Bool": {"aws:SecureTransport": "false", "aws:ViaAWSService": "true"}}}], False),
        ([{key: value for key, value in DENY.items() if key != "Condition"}], False),
        ([{**{k: v for k, v in DENY.items() if k != "Resource"}, "NotResource": OBJECTS}], False),
    ],
)
def test_only_a_whole_denial_counts_as_tls_only(statements: Any, closed: bool) -> None:
    assert tls_only(json.dumps({"Version": "2012-10-17", "Statement": statements}), "b") is closed


ARN = f"arn:aws:kms:{HOME}:{ACCOUNT}:key/k"
BY_KMS = {"x-amz-server-side-encryption": "aws:kms", "X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id": ARN}


@pytest.mark.parametrize(
    ("expected", "headers", "words"),
    [
        (None, {}, None),
        (Sse("AES256"), {"X-Amz-Server-Side-Encryption": "AES256"}, None),
        (Sse("aws:kms", ARN), BY_KMS, None),
        (Sse("aws:kms"), BY_KMS, None),
        (Sse("AES256"), {}, "encryption none, not AES256"),
        (Sse("AES256"), BY_KMS, "encryption aws:kms, not AES256"),
        (Sse("aws:kms", ARN), {"x-amz-server-side-encryption": "AES256"}, "encryption AES256, not aws:kms"),
        (Sse("aws:kms", ARN), {"x-amz-server-side-encryption": "aws:kms"}, "another KMS key"),
        (Sse("aws:kms", f"{ARN}2"), BY_KMS, "another KMS key"),
    ],
)
def test_the_answer_to_a_write_must_name_the_buckets_encryption(
    expected: Sse | None, headers: dict[str, str], words: str | None
) -> None:
    if words is None:
        require_sse(expected, headers, "bucket b")
    else:
        with pytest.raises(EncryptionError, match=words):
            require_sse(expected, headers, "bucket b")


def test_a_write_is_held_against_what_the_bucket_said_last(aws: Aws) -> None:
    aws.encrypt_by(aws.key())
    # moto takes the denial of plain HTTP for one of everything.
    aws.s3.delete_bucket_policy(Bucket=aws.name)
    written = aws.s3.put_object(Bucket=aws.name, Key="k", Body=b"x")["ResponseMetadata"]["HTTPHeaders"]
    bucket = aws.bucket
    bucket._config.require_written({})
    bucket.facts()
    bucket._config.require_written(written)
    aws.encrypt_by(aws.key())
    written = aws.s3.put_object(Bucket=aws.name, Key="k", Body=b"x")["ResponseMetadata"]["HTTPHeaders"]
    with pytest.raises(EncryptionError, match="another KMS key"):
        bucket._config.require_written(written)


def test_a_server_that_ignores_encryption_is_caught_by_its_answer(store_sites: StoreSites) -> None:
    bucket = open_bucket(store_sites.aws, f"t-{uuid.uuid4().hex}", store_sites.credentials)
    bucket.create_bucket()
    client = bucket._s3  # type: ignore[attr-defined]
    demand = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": ARN}
    answer = client.put_object(Bucket=bucket.name, Key="k", Body=b"x", **demand)
    with pytest.raises(EncryptionError, match="encryption none"):
        require_sse(Sse("aws:kms", ARN), answer["ResponseMetadata"]["HTTPHeaders"], "bucket b")


def test_a_bucket_of_another_account_is_refused(store_sites: StoreSites) -> None:
    mine = store_sites.aws
    name = f"t-{uuid.uuid4().hex}"
    open_bucket(mine, name, store_sites.credentials).create_bucket()
    stores = mine.stores.model_copy(update={"account_id": "999999999999"})
    theirs = mine.model_copy(update={"stores": stores})
    with pytest.raises(DeniedError):
        open_bucket(theirs, name, store_sites.credentials).facts()


def test_a_workloads_identity_is_exchanged_in_the_region(
    aws: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"{SITE.name}.token").write_text("a.token.of-this-cluster")
    (tmp_path / f"{SITE.name}.json").write_text(json.dumps({"roleArn": f"arn:aws:iam::{ACCOUNT}:role/replicator"}))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    environment = {
        "AWS_ROLE_ARN": f"arn:aws:iam::{ACCOUNT}:role/other",
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "missing"),
        "AWS_DEFAULT_REGION": ABROAD,
        "AWS_STS_REGIONAL_ENDPOINTS": "legacy",
        "AWS_ENDPOINT_URL_STS": "https://elsewhere.example",
        "AWS_ENDPOINT_URL_S3": "https://elsewhere.example",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    asked: list[str] = []
    original = botocore.session.get_session

    def watched() -> Any:
        session = original()
        session.get_component("event_emitter").register_first(
            "before-send", lambda request, **_: asked.append(urlsplit(request.url).netloc)
        )
        return session

    monkeypatch.setattr(botocore.session, "get_session", watched)
    aws.encrypt_by(aws.key())
    asked.clear()
    assert open_bucket(SITE, aws.name, tmp_path).facts().encrypted
    hosts = {f"sts.{HOME}.amazonaws.com", f"{aws.name}.s3.{HOME}.amazonaws.com", f"kms.{HOME}.amazonaws.com"}
    assert set(asked) == S3_HOSTS | hosts
