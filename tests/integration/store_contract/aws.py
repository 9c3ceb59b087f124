"""What AWS does beyond: owners, encryption, bucket configuration, object lock, KMS, STS.

Source: Amazon S3, AWS KMS and AWS STS API references.
"""

from __future__ import annotations

import json
import uuid
from typing import Any
from xml.etree import ElementTree

import requests

from tests.integration.store_contract.capability import Capabilities, Probe, capability
from tests.integration.store_contract.clients import REGION, S3, said

AWS: Capabilities = {}
AWS_SERVICES: Capabilities = {}


@capability(AWS, "HeadBucket names the region", REGION)
def _head_region(aws: S3) -> str:
    answer = aws.s3.head_bucket(Bucket=aws.make_bucket())
    return str(answer["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region"))


@capability(AWS, "GetBucketLocation names the region", REGION)
def _location(aws: S3) -> str:
    return str(aws.s3.get_bucket_location(Bucket=aws.make_bucket())["LocationConstraint"])


@capability(AWS, "another owner's bucket is refused", "403 AccessDenied, 403 403")
def _owner(aws: S3) -> str:
    bucket, other = aws.make_bucket(), "111111111111"
    put = said(lambda: aws.s3.put_object(Bucket=bucket, Key="x", Body=b"x", ExpectedBucketOwner=other))
    return f"{put}, {said(lambda: aws.s3.head_bucket(Bucket=bucket, ExpectedBucketOwner=other))}"


@capability(AWS, "an overwrite if the ETag matches", "refused")
def _etag_swap(aws: S3) -> str:
    bucket = aws.make_bucket()
    first = aws.put(bucket, "x", b"first")
    assert said(lambda: aws.s3.put_object(Bucket=bucket, Key="x", Body=b"other", IfMatch=first)) == "answered"
    again = said(lambda: aws.s3.put_object(Bucket=bucket, Key="x", Body=b"third", IfMatch=first))
    return "refused" if again == "412 PreconditionFailed" else again


@capability(AWS, "a read brings the stored CRC32C", "4waSgw==")
def _crc32c(aws: S3) -> str:
    bucket = aws.make_bucket()
    aws.s3.put_object(Bucket=bucket, Key="x", Body=b"123456789", ChecksumCRC32C="4waSgw==")
    return str(aws.s3.get_object(Bucket=bucket, Key="x", ChecksumMode="ENABLED").get("ChecksumCRC32C"))


@capability(AWS, "a list encodes names where asked, and says so", "a%2Bb, url")
def _encoding(aws: S3) -> str:
    bucket = aws.make_bucket()
    aws.put(bucket, "a+b", b"x")
    asked = {"Bucket": bucket, "EncodingType": "url"}
    url = aws.s3.generate_presigned_url("list_objects_v2", Params=asked)
    tree = ElementTree.fromstring(requests.get(url, timeout=20).content)
    return f"{tree.findtext('{*}Contents/{*}Key')}, {tree.findtext('{*}EncodingType') or 'unsaid'}"


@capability(AWS, "a PUT says how it was encrypted", "AES256, aws:kms arn:aws:kms:eu-central-1:1:key/k")
def _put_encryption(aws: S3) -> str:
    bucket, key = aws.make_bucket(), "arn:aws:kms:eu-central-1:1:key/k"
    words = []
    for arguments in ({}, {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": key}):
        answer = aws.s3.put_object(Bucket=bucket, Key="x", Body=b"x", **arguments)
        words.append(f"{answer.get('ServerSideEncryption')} {answer.get('SSEKMSKeyId', '')}".strip())
    return ", ".join(words)


@capability(AWS, "a locked version can't be deleted", "403 AccessDenied")
def _lock(aws: S3) -> str:
    bucket = f"t-{uuid.uuid4().hex}"
    where = {"LocationConstraint": REGION}
    aws.s3.create_bucket(Bucket=bucket, CreateBucketConfiguration=where, ObjectLockEnabledForBucket=True)
    rule = {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}}
    configuration = {"ObjectLockEnabled": "Enabled", "Rule": rule}
    aws.s3.put_object_lock_configuration(Bucket=bucket, ObjectLockConfiguration=configuration)
    # AWS takes any checksum for a locked object, moto the oldest one only.
    checked = {"ChecksumCRC32C": "4waSgw==", "ContentMD5": "JfnnlDI7RTiF9RgfG2JNCw=="}
    made = aws.s3.put_object(Bucket=bucket, Key="x", Body=b"123456789", **checked)
    return said(lambda: aws.s3.delete_object(Bucket=bucket, Key="x", VersionId=made["VersionId"]))


# By configuration: the setting to make, how to make and ask for it, and what an unset one answers.
_ROLE, _TARGET = "arn:aws:iam::123456789012:role/r", "arn:aws:s3:::OTHER"
_QUEUE = "arn:aws:sqs:eu-central-1:123456789012:q"
CONFIGURATIONS: dict[str, tuple[str, dict[str, Any], str]] = {
    "bucket_encryption": (
        "ServerSideEncryptionConfiguration",
        {"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": "k"}}]},
        "answered",
    ),
    "public_access_block": (
        "PublicAccessBlockConfiguration",
        dict.fromkeys(("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True),
        # Buckets made since April 2023 have it on.
        "answered",
    ),
    "bucket_replication": (
        "ReplicationConfiguration",
        {"Role": _ROLE, "Rules": [{"Status": "Enabled", "Prefix": "", "Destination": {"Bucket": _TARGET}}]},
        "404 ReplicationConfigurationNotFoundError",
    ),
    "bucket_logging": (
        "BucketLoggingStatus",
        {"LoggingEnabled": {"TargetBucket": "OTHER", "TargetPrefix": "logs/"}},
        "answered",
    ),
    "bucket_notification_configuration": (
        "NotificationConfiguration",
        {"QueueConfigurations": [{"Id": "n", "QueueArn": _QUEUE, "Events": ["s3:ObjectCreated:*"]}]},
        "answered",
    ),
    "bucket_inventory_configuration": (
        "InventoryConfiguration",
        {
            "Id": "i",
            "IsEnabled": True,
            "IncludedObjectVersions": "All",
            "Schedule": {"Frequency": "Daily"},
            "Destination": {"S3BucketDestination": {"Bucket": _TARGET, "Format": "CSV"}},
        },
        "answered",
    ),
    "bucket_analytics_configuration": (
        "AnalyticsConfiguration",
        {"Id": "i", "StorageClassAnalysis": {}},
        "answered",
    ),
    "bucket_lifecycle_configuration": (
        "LifecycleConfiguration",
        {"Rules": [{"ID": "l", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 9}}]},
        "404 NoSuchLifecycleConfiguration",
    ),
    "bucket_policy": (
        "Policy",
        {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Deny",
                    "Principal": "*",
                    "Action": "s3:*",
                    "Resource": "arn:aws:s3:::BUCKET/*",
                    "Condition": {"Bool": {"aws:SecureTransport": "false"}},
                }
            ],
        },
        "404 NoSuchBucketPolicy",
    ),
}


# What the answer must hold of the setting; by default the other bucket's name.
_SHOWN = {
    "bucket_encryption": "aws:kms",
    "public_access_block": "true",
    "bucket_notification_configuration": _QUEUE,
    "bucket_analytics_configuration": "StorageClassAnalysis",
    "bucket_lifecycle_configuration": '"Days": 9',
    "bucket_policy": "aws:SecureTransport",
}


def _configured(name: str) -> Probe:
    argument, setting, _ = CONFIGURATIONS[name]
    # Inventories and analytics have ids that only a list can tell.
    identity, ask = ({"Id": "i"}, f"list_{name}s") if "Id" in setting else ({}, f"get_{name}")

    def probe(aws: S3) -> str:
        bucket, other = aws.make_bucket(versioned=True), aws.make_bucket(versioned=True)
        if name == "bucket_logging":
            said(lambda: aws.allow(other, {"Service": "logging.s3.amazonaws.com"}, "s3:PutObject"))
        text = json.dumps(setting).replace("BUCKET", bucket).replace("OTHER", other)
        value = text if name == "bucket_policy" else json.loads(text)
        unset = said(lambda: getattr(aws.s3, ask)(Bucket=bucket))
        made = said(lambda: getattr(aws.s3, f"put_{name}")(Bucket=bucket, **identity, **{argument: value}))
        if made != "answered":
            return f"unset {unset}, put {made}"
        shown = json.dumps(getattr(aws.s3, ask)(Bucket=bucket), default=str)
        return f"unset {unset}, set {'shown' if _SHOWN.get(name, other) in shown else 'forgotten'}"

    return probe


for _case, (_, _, _unset) in CONFIGURATIONS.items():
    capability(AWS, f"{_case} is shown", f"unset {_unset}, set shown")(_configured(_case))


@capability(AWS, "a public policy shows as public", "True")
def _policy_status(aws: S3) -> str:
    bucket = aws.make_bucket()
    said(lambda: aws.s3.delete_public_access_block(Bucket=bucket))
    aws.allow(bucket, "*", "s3:GetObject")
    return str(aws.s3.get_bucket_policy_status(Bucket=bucket)["PolicyStatus"]["IsPublic"])


@capability(AWS_SERVICES, "a KMS key names its region and whether it is multi-region", "eu-central-1, False")
def _kms_key(session: Any) -> str:
    kms = session("kms")
    found = kms.describe_key(KeyId=kms.create_key()["KeyMetadata"]["KeyId"])["KeyMetadata"]
    return f"{found['Arn'].split(':')[3]}, {found.get('MultiRegion')}"


@capability(
    AWS_SERVICES, "KMS opens what it sealed, in the same context only", "opened, 400 InvalidCiphertextException"
)
def _kms_seal(session: Any) -> str:
    kms = session("kms")
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    sealed = kms.encrypt(KeyId=key, Plaintext=b"data", EncryptionContext={"a": "b"})["CiphertextBlob"]
    opened = kms.decrypt(KeyId=key, CiphertextBlob=sealed, EncryptionContext={"a": "b"})["Plaintext"]
    other = said(lambda: kms.decrypt(KeyId=key, CiphertextBlob=sealed, EncryptionContext={"a": "c"}))
    return f"{'opened' if opened == b'data' else 'broken'}, {other}"


@capability(AWS_SERVICES, "a disabled KMS key opens nothing", "400 DisabledException")
def _kms_disabled(session: Any) -> str:
    kms = session("kms")
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    sealed = kms.encrypt(KeyId=key, Plaintext=b"data")["CiphertextBlob"]
    kms.disable_key(KeyId=key)
    return said(lambda: kms.decrypt(KeyId=key, CiphertextBlob=sealed))


@capability(AWS_SERVICES, "STS names the account", "123456789012")
def _sts(session: Any) -> str:
    return str(session("sts").get_caller_identity()["Account"])
