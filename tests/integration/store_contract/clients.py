"""The raw APIs of both clouds, as thin as possible: what a store answers, not what a library makes of it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import quote

import requests
from botocore.exceptions import ClientError

REGION, LOCATION = "eu-central-1", "EUROPE-WEST3"


class RefusedError(Exception):
    """A server of Cloud Storage's API answers with an error that the probe does not ask for."""

    def __init__(self, answer: requests.Response) -> None:
        super().__init__(f"{answer.status_code} {answer.text[:300]}")
        self.status = answer.status_code


class Client(Protocol):
    """The operations that both APIs have, as thin as possible. ``None`` and False: the server refused with 412."""

    def make_bucket(self, *, versioned: bool = False) -> str: ...
    def put(self, bucket: str, name: str, data: bytes, *, create: bool = False) -> str | None: ...
    def get(self, bucket: str, name: str, *, pin: str | None = None) -> bytes | None: ...
    def delete(self, bucket: str, name: str, *, pin: str | None = None) -> bool: ...
    def names(self, bucket: str, *, size: int, start: str = "", prefix: str = "") -> list[list[str]]: ...
    def versions(self, bucket: str, name: str) -> list[str]: ...
    def version(self, bucket: str, name: str, version: str) -> bytes: ...
    def put_with_wrong_checksum(self, bucket: str, name: str, data: bytes) -> int: ...


@dataclass
class Gcs:
    """Cloud Storage's JSON API by HTTP alone."""

    url: str
    http: requests.Session = field(default_factory=requests.Session)

    def call(self, method: str, path: str, want: set[int] | None = None, **arguments: Any) -> requests.Response:
        answer = self.http.request(method, f"{self.url}{path}", timeout=20, **arguments)
        if answer.status_code not in (want or {200, 204}):
            raise RefusedError(answer)
        return answer

    def status(self, method: str, path: str, **arguments: Any) -> int:
        return self.http.request(method, f"{self.url}{path}", timeout=20, **arguments).status_code

    def bucket(self, resource: dict[str, Any] | None = None) -> str:
        name = f"t-{uuid.uuid4().hex}"
        body = {"name": name, "location": LOCATION, "softDeletePolicy": {"retentionDurationSeconds": "0"}}
        self.call("POST", "/storage/v1/b", params={"project": "p"}, json=body | (resource or {}))
        return name

    def described(self, bucket: str) -> dict[str, Any]:
        found: dict[str, Any] = self.call("GET", f"/storage/v1/b/{bucket}").json()
        return found

    def listed(self, bucket: str, **parameters: Any) -> dict[str, Any]:
        found: dict[str, Any] = self.call("GET", f"/storage/v1/b/{bucket}/o", params=parameters).json()
        return found

    def upload(self, bucket: str, name: str, data: bytes, headers: Any = None, **parameters: Any) -> requests.Response:
        query = {"uploadType": "media", "name": name, **parameters}
        return self.http.post(
            f"{self.url}/upload/storage/v1/b/{bucket}/o", params=query, data=data, headers=headers, timeout=20
        )

    def made(self, bucket: str, name: str, data: bytes) -> dict[str, Any]:
        answer = self.upload(bucket, name, data)
        if answer.status_code != 200:
            raise RefusedError(answer)
        found: dict[str, Any] = answer.json()
        return found

    @staticmethod
    def at(bucket: str, name: str, below: str = "") -> str:
        return f"/storage/v1/b/{bucket}/o/{quote(name, safe='')}{below}"

    def make_bucket(self, *, versioned: bool = False) -> str:
        return self.bucket({"versioning": {"enabled": True}} if versioned else None)

    def put(self, bucket: str, name: str, data: bytes, *, create: bool = False) -> str | None:
        answer = self.upload(bucket, name, data, **({"ifGenerationMatch": 0} if create else {}))
        if create and answer.status_code == 412:
            return None
        if answer.status_code != 200:
            raise RefusedError(answer)
        return str(answer.json()["generation"])

    def get(self, bucket: str, name: str, *, pin: str | None = None) -> bytes | None:
        pinned = {"ifGenerationMatch": pin} if pin else {}
        answer = self.call("GET", self.at(bucket, name), {200, 412}, params={"alt": "media", **pinned})
        return answer.content if answer.status_code == 200 else None

    def delete(self, bucket: str, name: str, *, pin: str | None = None) -> bool:
        pinned = {"ifGenerationMatch": pin} if pin else {}
        return self.call("DELETE", self.at(bucket, name), {200, 204, 412}, params=pinned).status_code != 412

    def names(self, bucket: str, *, size: int, start: str = "", prefix: str = "") -> list[list[str]]:
        pages: list[list[str]] = []
        query: dict[str, Any] = {"maxResults": size, "startOffset": start, "prefix": prefix}
        query = {name: value for name, value in query.items() if value}
        while True:
            found = self.listed(bucket, **query)
            pages.append([entry["name"] for entry in found.get("items", ())])
            if "nextPageToken" not in found:
                return pages
            query["pageToken"] = found["nextPageToken"]

    def versions(self, bucket: str, name: str) -> list[str]:
        found = self.listed(bucket, versions="true", prefix=name).get("items", ())
        return [entry["generation"] for entry in found]

    def version(self, bucket: str, name: str, version: str) -> bytes:
        return self.call("GET", self.at(bucket, name), params={"alt": "media", "generation": version}).content

    def put_with_wrong_checksum(self, bucket: str, name: str, data: bytes) -> int:
        return self.upload(bucket, name, data, {"X-Goog-Hash": "crc32c=AAAAAA=="}).status_code


@dataclass
class S3:
    """Amazon S3's API by boto3, which neither retries nor adds checksums here."""

    s3: Any

    def make_bucket(self, *, versioned: bool = False) -> str:
        name = f"t-{uuid.uuid4().hex}"
        self.s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
        if versioned:
            self.s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        return name

    def allow(self, bucket: str, principal: Any, action: str) -> None:
        statement = {"Effect": "Allow", "Principal": principal, "Action": action}
        policy = {"Version": "2012-10-17", "Statement": [statement | {"Resource": f"arn:aws:s3:::{bucket}/*"}]}
        self.s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))

    def _unless_412(self, operation: str, **arguments: Any) -> Any:
        try:
            return getattr(self.s3, operation)(**arguments)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 412:
                return None
            raise

    def put(self, bucket: str, name: str, data: bytes, *, create: bool = False) -> str | None:
        once = {"IfNoneMatch": "*"} if create else {}
        answer = self._unless_412("put_object", Bucket=bucket, Key=name, Body=data, **once)
        return None if answer is None else str(answer["ETag"])

    def get(self, bucket: str, name: str, *, pin: str | None = None) -> bytes | None:
        pinned = {"IfMatch": pin} if pin else {}
        answer = self._unless_412("get_object", Bucket=bucket, Key=name, **pinned)
        return None if answer is None else bytes(answer["Body"].read())

    def delete(self, bucket: str, name: str, *, pin: str | None = None) -> bool:
        pinned = {"IfMatch": pin} if pin else {}
        return self._unless_412("delete_object", Bucket=bucket, Key=name, **pinned) is not None

    def names(self, bucket: str, *, size: int, start: str = "", prefix: str = "") -> list[list[str]]:
        query = {"Bucket": bucket, "MaxKeys": size, "Prefix": prefix, **({"StartAfter": start} if start else {})}
        pages: list[list[str]] = []
        while True:
            found = self.s3.list_objects_v2(**query)
            pages.append([entry["Key"] for entry in found.get("Contents", ())])
            if not found["IsTruncated"]:
                return pages
            query["ContinuationToken"] = found["NextContinuationToken"]

    def versions(self, bucket: str, name: str) -> list[str]:
        found = self.s3.list_object_versions(Bucket=bucket, Prefix=name).get("Versions", ())
        return [entry["VersionId"] for entry in reversed(found)]

    def version(self, bucket: str, name: str, version: str) -> bytes:
        return bytes(self.s3.get_object(Bucket=bucket, Key=name, VersionId=version)["Body"].read())

    def put_with_wrong_checksum(self, bucket: str, name: str, data: bytes) -> int:
        try:
            answer = self.s3.put_object(Bucket=bucket, Key=name, Body=data, ChecksumCRC32C="AAAAAA==")
        except ClientError as error:
            answer = error.response
        return int(answer["ResponseMetadata"]["HTTPStatusCode"])


def word(error: ClientError) -> str:
    """Status and code of an error of S3."""
    return f"{error.response['ResponseMetadata']['HTTPStatusCode']} {error.response['Error'].get('Code')}"


def said(call: Callable[[], Any]) -> str:
    """What S3 answers: ``answered``, or status and code of its error."""
    try:
        call()
    except ClientError as error:
        return word(error)
    return "answered"
