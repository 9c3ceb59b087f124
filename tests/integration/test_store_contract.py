"""What the engine relies on at a store's raw API, asked of every test server, and what each of them does instead.

A capability is a probe that says in a word what happened. The clouds' answer (by their public references) is the
expected one; where a server differs, GAPS holds its own word, so that a mended server fails here, too. Programs are
tested against a server only for what it can do: https://cloud.google.com/storage/docs/json_api and the Amazon S3 API
reference say what the clouds do.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import quote

import boto3
import pytest
import requests
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.integration.stores_fixture import StandinSite, StoreSites, moto

REGION, LOCATION = "eu-central-1", "EUROPE-WEST3"
KEY = "projects/p/locations/europe-west3/keyRings/r/cryptoKeys/k"
NAMES = {
    "a//b": "a//b",
    "dir/": "dir/",
    "/lead": "/lead",
    "./here": "./here",
    "up/../down": "up/../down",
    "a name below a name": "below/x",
    "plus, percent and blank": "a+b%2Bc d%",
    "query and fragment": "q?x=1#y&z",
    "tab": "a\tb",
    "1,024 bytes": "漢" * 341 + "x",
}


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


Probe = Callable[[Any], str]
BOTH: dict[str, tuple[str, Probe]] = {}
GCS: dict[str, tuple[str, Probe]] = {}
AWS: dict[str, tuple[str, Probe]] = {}
AWS_SERVICES: dict[str, tuple[str, Probe]] = {}


def capability(of: dict[str, tuple[str, Probe]], name: str, expected: str) -> Callable[[Probe], Probe]:
    def register(probe: Probe) -> Probe:
        assert name not in of
        of[name] = (expected, probe)
        return probe

    return register


@capability(BOTH, "a name is created once", "refused")
def _create_once(store: Client) -> str:
    bucket = store.make_bucket()
    assert store.put(bucket, "x", b"first", create=True)
    again = store.put(bucket, "x", b"other", create=True)
    assert store.get(bucket, "x") == (b"first" if again is None else b"other")
    return "refused" if again is None else "overwritten"


@capability(BOTH, "of many creators one wins", "one wins")
def _create_race(store: Client) -> str:
    bucket = store.make_bucket()

    def create(number: int) -> bool:
        try:
            return store.put(bucket, "x", b"%d" % number, create=True) is not None
        except ClientError as error:
            # S3 may ask for a retry instead (PutObject: 409 ConditionalRequestConflict).
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 409:
                return False
            raise

    with ThreadPoolExecutor(8) as pool:
        won = sum(pool.map(create, range(16)))
    return "one wins" if won == 1 else "several win"


@capability(BOTH, "a deleted name can be created again", "created")
def _create_after_delete(store: Client) -> str:
    bucket = store.make_bucket(versioned=True)
    store.put(bucket, "x", b"first")
    store.delete(bucket, "x")
    return "refused" if store.put(bucket, "x", b"other", create=True) is None else "created"


@capability(BOTH, "a pinned read refuses another version", "refused")
def _pinned_read(store: Client) -> str:
    bucket = store.make_bucket()
    first = store.put(bucket, "x", b"first")
    assert store.get(bucket, "x", pin=first) == b"first"
    store.put(bucket, "x", b"other")
    read = store.get(bucket, "x", pin=first)
    return "refused" if read is None else f"reads {read.decode()}"


@capability(BOTH, "a conditional delete spares another version", "refused")
def _pinned_delete(store: Client) -> str:
    bucket = store.make_bucket()
    first = store.put(bucket, "x", b"first")
    second = store.put(bucket, "x", b"other")
    if store.delete(bucket, "x", pin=first):
        return "deletes"
    assert store.delete(bucket, "x", pin=second)
    return "refused"


@capability(BOTH, "an overwritten version is kept where versioning is on", "listed and readable")
def _noncurrent(store: Client) -> str:
    bucket = store.make_bucket(versioned=True)
    store.put(bucket, "x", b"first")
    store.put(bucket, "x", b"other")
    versions = store.versions(bucket, "x")
    if len(versions) != 2:
        return f"lists {len(versions)} of 2"
    return "listed and readable" if store.version(bucket, "x", versions[0]) == b"first" else "reads another"


@capability(BOTH, "a deleted version is kept where versioning is on", "listed and readable")
def _deleted(store: Client) -> str:
    bucket = store.make_bucket(versioned=True)
    store.put(bucket, "x", b"first")
    store.delete(bucket, "x")
    assert not any(store.names(bucket, size=9))
    versions = store.versions(bucket, "x")
    if len(versions) != 1:
        return f"lists {len(versions)} of 1"
    return "listed and readable" if store.version(bucket, "x", versions[0]) == b"first" else "reads another"


@capability(BOTH, "lists are in the order of UTF-8", "in order")
def _order(store: Client) -> str:
    bucket = store.make_bucket()
    # U+1F642 sorts before U+FFEE in UTF-16, '-' and '.' before '/' where trees of directories don't.
    names = ["!", "A", "a-b", "a.b", "a/b", "ab", "é", "漢", "\uffee", "🙂"]
    for name in reversed(names):
        store.put(bucket, name, b"x")
    [listed] = store.names(bucket, size=100)
    assert sorted(listed) == sorted(names)
    return "in order" if listed == names else "in another order"


@capability(BOTH, "lists come in pages", "3, 3, 1")
def _pages(store: Client) -> str:
    bucket = store.make_bucket()
    for number in range(7):
        store.put(bucket, f"{number}", b"x")
    pages = store.names(bucket, size=3)
    assert [name for page in pages for name in page] == [f"{number}" for number in range(7)]
    return ", ".join(str(len(page)) for page in pages)


@capability(BOTH, "a list starts at a name", "starts there")
def _start(store: Client) -> str:
    bucket = store.make_bucket()
    for name in ("a", "b", "c/1", "c/2", "d"):
        store.put(bucket, name, b"x")
    assert store.names(bucket, size=9, prefix="c/", start="c/2") in ([["c/2"]], [[]])
    listed = [name for page in store.names(bucket, size=2, start="b") for name in page]
    # startOffset includes the name, StartAfter does not.
    expected = ["b", "c/1", "c/2", "d"] if isinstance(store, Gcs) else ["c/1", "c/2", "d"]
    return "starts there" if listed == expected else f"lists {','.join(listed)}"


@capability(BOTH, "a wrong checksum is refused", "400")
def _checksum(store: Client) -> str:
    bucket = store.make_bucket()
    status = store.put_with_wrong_checksum(bucket, "x", b"data")
    assert status == 400 or store.get(bucket, "x") == b"data"
    return str(status)


def _kept(name: str) -> Probe:
    def probe(store: Client) -> str:
        bucket = store.make_bucket()
        store.put(bucket, "below" if name == "below/x" else "z", b"other")
        try:
            store.put(bucket, name, b"data")
            listed = {found for page in store.names(bucket, size=9) for found in page}
            return "kept" if name in listed and store.get(bucket, name) == b"data" else "another name"
        except (ClientError, RefusedError):
            return "refused"

    return probe


for _case, _name in NAMES.items():
    capability(BOTH, f"name {_case}", "kept")(_kept(_name))


@capability(GCS, "each bucket has its own location", "EUROPE-WEST3 region, EU multi-region")
def _locations(gcs: Gcs) -> str:
    found = [gcs.described(gcs.bucket({"location": location})) for location in (LOCATION, "EU")]
    return ", ".join(f"{bucket['location']} {bucket.get('locationType')}" for bucket in found)


@capability(GCS, "a custom dual-region names its regions", "dual-region EUROPE-WEST1+EUROPE-WEST4")
def _placement(gcs: Gcs) -> str:
    placement = {"dataLocations": ["EUROPE-WEST1", "EUROPE-WEST4"]}
    found = gcs.described(gcs.bucket({"location": "EU", "customPlacementConfig": placement}))
    return f"{found.get('locationType')} {'+'.join(found.get('customPlacementConfig', {}).get('dataLocations', ()))}"


@capability(GCS, "the storage layout names the location", "EUROPE-WEST3")
def _layout(gcs: Gcs) -> str:
    answer = gcs.http.get(f"{gcs.url}/storage/v1/b/{gcs.bucket()}/storageLayout", timeout=20)
    return answer.json()["location"] if answer.status_code == 200 else str(answer.status_code)


@capability(GCS, "a bucket is changed if its metageneration matches", "refused")
def _metageneration(gcs: Gcs) -> str:
    bucket = gcs.bucket()
    held = gcs.described(bucket).get("metageneration", "1")
    for expected in ("refused", "changed"):
        status = gcs.status(
            "PATCH",
            f"/storage/v1/b/{bucket}",
            params={"ifMetagenerationMatch": str(int(held) + (expected == "refused"))},
            json={"labels": {"a": "b"}},
        )
        if expected == "refused" and status != 412:
            return "changed" if status == 200 else str(status)
        assert expected == "refused" or status == 200
    return "refused"


@capability(GCS, "a bucket says what protects it", "enforced, no logging, versioned, KMS key")
def _protected(gcs: Gcs) -> str:
    bucket = gcs.bucket(
        {
            "iamConfiguration": {"publicAccessPrevention": "enforced", "uniformBucketLevelAccess": {"enabled": True}},
            "encryption": {"defaultKmsKeyName": KEY},
            "versioning": {"enabled": True},
        }
    )
    found = gcs.described(bucket)
    words = [
        found.get("iamConfiguration", {}).get("publicAccessPrevention", "unsaid"),
        "logging" if "logging" in found else "no logging",
        "versioned" if found.get("versioning", {}).get("enabled") else "unversioned",
        "KMS key" if found.get("encryption", {}).get("defaultKmsKeyName") == KEY else "no KMS key",
    ]
    return ", ".join(words)


@capability(GCS, "access logs show where they go", "logs")
def _logging(gcs: Gcs) -> str:
    bucket, logs = gcs.bucket(), gcs.bucket()
    status = gcs.status("PATCH", f"/storage/v1/b/{bucket}", json={"logging": {"logBucket": logs}})
    if status != 200:
        return str(status)
    return "logs" if gcs.described(bucket).get("logging", {}).get("logBucket") == logs else "forgotten"


@capability(GCS, "notifications show where they go", "topic")
def _notifications(gcs: Gcs) -> str:
    bucket, topic = gcs.bucket(), "//pubsub.googleapis.com/projects/p/topics/t"
    path = f"{gcs.url}/storage/v1/b/{bucket}/notificationConfigs"
    made = gcs.http.post(path, json={"topic": topic, "payload_format": "NONE"}, timeout=20)
    if made.status_code != 200:
        return str(made.status_code)
    found = gcs.http.get(path, timeout=20).json().get("items", [])
    return "topic" if [entry["topic"] for entry in found] == [topic] else "forgotten"


@capability(GCS, "an object names the KMS key it is sealed with", "key version")
def _object_key(gcs: Gcs) -> str:
    made = gcs.made(gcs.bucket({"encryption": {"defaultKmsKeyName": KEY}}), "x", b"x")
    return "key version" if made.get("kmsKeyName", "").startswith(f"{KEY}/cryptoKeyVersions/") else "unsaid"


@capability(GCS, "a KMS key of another place is refused", "400")
def _foreign_key(gcs: Gcs) -> str:
    body = {"name": f"t-{uuid.uuid4().hex}", "location": LOCATION}
    body["encryption"] = {"defaultKmsKeyName": KEY.replace("europe-west3", "us-east1")}  # type: ignore[assignment]
    return str(gcs.status("POST", "/storage/v1/b", params={"project": "p"}, json=body))


@capability(GCS, "a partial answer holds only what was asked for", "name, size and token")
def _fields(gcs: Gcs) -> str:
    bucket = gcs.bucket()
    for name in ("a", "b"):
        gcs.made(bucket, name, b"x")
    page = gcs.listed(bucket, fields="items(name,size),nextPageToken", maxResults=1)
    assert page["items"][0]["name"] == "a"
    assert page.get("nextPageToken")
    exact = page.keys() == {"items", "nextPageToken"} and page["items"][0].keys() == {"name", "size"}
    return "name, size and token" if exact else "more"


@capability(GCS, "an unknown field is refused", "400")
def _unknown_field(gcs: Gcs) -> str:
    return str(gcs.status("GET", f"/storage/v1/b/{gcs.bucket()}/o", params={"fields": "items(name,nonsense)"}))


@capability(GCS, "a list shows the checksum", "CRC32C")
def _listed_checksum(gcs: Gcs) -> str:
    bucket = gcs.bucket()
    gcs.made(bucket, "x", b"123456789")
    [entry] = gcs.listed(bucket)["items"]
    # The check value of CRC-32C (Castagnoli): 0xE3069283.
    return "CRC32C" if entry.get("crc32c") == "4waSgw==" else "none"


@capability(GCS, "a download carries checksum and generation", "both")
def _download_headers(gcs: Gcs) -> str:
    bucket = gcs.bucket()
    made = gcs.made(bucket, "x", b"123456789")
    words = []
    for path in (gcs.at(bucket, "x"), f"/download{gcs.at(bucket, 'x')}"):
        headers = gcs.call("GET", path, {200, 206}, params={"alt": "media"}, headers={"Range": "bytes=1-2"}).headers
        checked = "crc32c=4waSgw==" in headers.get("X-Goog-Hash", "")
        words.append((checked, headers.get("X-Goog-Generation") == made["generation"]))
    return "both" if all(all(pair) for pair in words) else "not both"


@capability(GCS, "an overwrite if the generation matches", "refused")
def _compare_and_swap(gcs: Gcs) -> str:
    bucket = gcs.bucket()
    first = gcs.made(bucket, "x", b"first")["generation"]
    second = gcs.upload(bucket, "x", b"other", ifGenerationMatch=first)
    assert second.status_code == 200
    third = gcs.upload(bucket, "x", b"third", ifGenerationMatch=first).status_code
    return "refused" if third == 412 else "overwrites"


@capability(GCS, "metadata are changed if the metageneration matches", "refused")
def _object_metageneration(gcs: Gcs) -> str:
    bucket = gcs.bucket()
    gcs.made(bucket, "x", b"x")
    status = gcs.status(
        "PATCH", gcs.at(bucket, "x"), params={"ifMetagenerationMatch": 7}, json={"metadata": {"a": "b"}}
    )
    return "refused" if status == 412 else str(status)


@capability(GCS, "an unchanged object is not sent again", "304")
def _not_modified(gcs: Gcs) -> str:
    bucket = gcs.bucket()
    made = gcs.made(bucket, "x", b"x")
    query = {"alt": "media", "ifGenerationNotMatch": made["generation"]}
    return str(gcs.status("GET", gcs.at(bucket, "x"), params=query))


@capability(GCS, "soft delete is on unless it is turned off", "604800, 0")
def _soft_delete_default(gcs: Gcs) -> str:
    found = [gcs.described(gcs.bucket(resource)) for resource in ({"softDeletePolicy": None}, {})]
    return ", ".join(str(bucket.get("softDeletePolicy", {}).get("retentionDurationSeconds")) for bucket in found)


@capability(GCS, "a soft-deleted object is listed and restored", "listed, restored")
def _soft_delete(gcs: Gcs) -> str:
    bucket = gcs.bucket({"softDeletePolicy": {"retentionDurationSeconds": "604800"}})
    made = gcs.made(bucket, "x", b"data")
    gcs.call("DELETE", gcs.at(bucket, "x"))
    answer = gcs.http.get(f"{gcs.url}/storage/v1/b/{bucket}/o", params={"softDeleted": "true"}, timeout=20)
    if [entry["generation"] for entry in answer.json().get("items", ())] != [made["generation"]]:
        return "not listed"
    restored = gcs.status("POST", gcs.at(bucket, "x", "/restore"), params={"generation": made["generation"]})
    return "listed, restored" if restored == 200 and gcs.get(bucket, "x") == b"data" else "listed"


@capability(GCS, "retention forbids to delete and to overwrite", "403, 403")
def _retention(gcs: Gcs) -> str:
    bucket = gcs.bucket({"retentionPolicy": {"retentionPeriod": "3600"}})
    gcs.made(bucket, "x", b"x")
    return f"{gcs.upload(bucket, 'x', b'y').status_code}, {gcs.status('DELETE', gcs.at(bucket, 'x'))}"


@capability(GCS, "a hold forbids to delete until it is released", "403, 204")
def _hold(gcs: Gcs) -> str:
    bucket = gcs.bucket()
    gcs.made(bucket, "x", b"x")
    if gcs.status("PATCH", gcs.at(bucket, "x"), json={"temporaryHold": True}) != 200:
        return "no holds"
    held = gcs.status("DELETE", gcs.at(bucket, "x"))
    gcs.status("PATCH", gcs.at(bucket, "x"), json={"temporaryHold": False})
    return f"{held}, {gcs.status('DELETE', gcs.at(bucket, 'x'))}"


@capability(GCS, "an interrupted upload says how far it came", "308 bytes=0-262143, whole")
def _resumable(gcs: Gcs) -> str:
    bucket, data = gcs.bucket(), bytes(range(256)) * 1025
    start = gcs.call(
        *("POST", f"/upload/storage/v1/b/{bucket}/o"), params={"uploadType": "resumable"}, json={"name": "x"}
    )
    place, part = start.headers["Location"], 256 * 1024
    gcs.http.put(place, data=data[:part], headers={"Content-Range": f"bytes 0-{part - 1}/*"}, timeout=20)
    asked = gcs.http.put(place, headers={"Content-Range": "bytes */*"}, timeout=20)
    rest = {"Content-Range": f"bytes {part}-{len(data) - 1}/{len(data)}"}
    gcs.http.put(place, data=data[part:], headers=rest, timeout=20)
    whole = "whole" if gcs.get(bucket, "x") == data else "broken"
    return f"{asked.status_code} {asked.headers.get('Range')}, {whole}"


@capability(GCS, "gzip content is sent as stored only to who accepts it", "stored, unpacked")
def _gzip(gcs: Gcs) -> str:
    import gzip

    bucket, packed = gcs.bucket(), gzip.compress(b"text")
    assert gcs.upload(bucket, "x", packed, contentEncoding="gzip").status_code == 200
    words = []
    for accepted in ("gzip", "identity"):
        query, headers = {"alt": "media"}, {"Accept-Encoding": accepted}
        with gcs.http.get(
            f"{gcs.url}{gcs.at(bucket, 'x')}", params=query, headers=headers, stream=True, timeout=20
        ) as answer:
            words.append({packed: "stored", b"text": "unpacked"}.get(answer.raw.read(), "broken"))
    return ", ".join(words)


def _word(error: ClientError) -> str:
    return f"{error.response['ResponseMetadata']['HTTPStatusCode']} {error.response['Error'].get('Code')}"


def _said(call: Callable[[], Any]) -> str:
    try:
        call()
    except ClientError as error:
        return _word(error)
    return "answered"


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
    put = _said(lambda: aws.s3.put_object(Bucket=bucket, Key="x", Body=b"x", ExpectedBucketOwner=other))
    return f"{put}, {_said(lambda: aws.s3.head_bucket(Bucket=bucket, ExpectedBucketOwner=other))}"


@capability(AWS, "an overwrite if the ETag matches", "refused")
def _etag_swap(aws: S3) -> str:
    bucket = aws.make_bucket()
    first = aws.put(bucket, "x", b"first")
    assert _said(lambda: aws.s3.put_object(Bucket=bucket, Key="x", Body=b"other", IfMatch=first)) == "answered"
    again = _said(lambda: aws.s3.put_object(Bucket=bucket, Key="x", Body=b"third", IfMatch=first))
    return "refused" if again == "412 PreconditionFailed" else again


@capability(AWS, "a read brings the stored CRC32C", "4waSgw==")
def _crc32c(aws: S3) -> str:
    bucket = aws.make_bucket()
    aws.s3.put_object(Bucket=bucket, Key="x", Body=b"123456789", ChecksumCRC32C="4waSgw==")
    return str(aws.s3.get_object(Bucket=bucket, Key="x", ChecksumMode="ENABLED").get("ChecksumCRC32C"))


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
    return _said(lambda: aws.s3.delete_object(Bucket=bucket, Key="x", VersionId=made["VersionId"]))


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
            _said(lambda: aws.allow(other, {"Service": "logging.s3.amazonaws.com"}, "s3:PutObject"))
        text = json.dumps(setting).replace("BUCKET", bucket).replace("OTHER", other)
        value = text if name == "bucket_policy" else json.loads(text)
        unset = _said(lambda: getattr(aws.s3, ask)(Bucket=bucket))
        made = _said(lambda: getattr(aws.s3, f"put_{name}")(Bucket=bucket, **identity, **{argument: value}))
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
    _said(lambda: aws.s3.delete_public_access_block(Bucket=bucket))
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
    other = _said(lambda: kms.decrypt(KeyId=key, CiphertextBlob=sealed, EncryptionContext={"a": "c"}))
    return f"{'opened' if opened == b'data' else 'broken'}, {other}"


@capability(AWS_SERVICES, "a disabled KMS key opens nothing", "400 DisabledException")
def _kms_disabled(session: Any) -> str:
    kms = session("kms")
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    sealed = kms.encrypt(KeyId=key, Plaintext=b"data")["CiphertextBlob"]
    kms.disable_key(KeyId=key)
    return _said(lambda: kms.decrypt(KeyId=key, CiphertextBlob=sealed))


@capability(AWS_SERVICES, "STS names the account", "123456789012")
def _sts(session: Any) -> str:
    return str(session("sts").get_caller_identity()["Account"])


_NOT_IMPLEMENTED = "unset 501 NotImplemented, put 501 NotImplemented"
# What a server does instead of what the cloud does, in the word of the capability's probe.
GAPS: dict[tuple[str, str], str] = {
    # fake-gcs-server: one location for all buckets; its filesystem backend keeps no versions (500).
    ("fake-gcs", "each bucket has its own location"): "EUROPE-WEST3 region, EUROPE-WEST3 region",
    ("fake-gcs", "a custom dual-region names its regions"): "region ",
    ("fake-gcs", "a deleted name can be created again"): "500",
    ("fake-gcs", "an overwritten version is kept where versioning is on"): "500",
    ("fake-gcs", "a deleted version is kept where versioning is on"): "500",
    ("fake-gcs", "a bucket says what protects it"): "500",
    # Preconditions count for uploads only.
    ("fake-gcs", "a pinned read refuses another version"): "reads other",
    ("fake-gcs", "a conditional delete spares another version"): "deletes",
    ("fake-gcs", "a bucket is changed if its metageneration matches"): "changed",
    ("fake-gcs", "metadata are changed if the metageneration matches"): "200",
    ("fake-gcs", "an unchanged object is not sent again"): "200",
    ("fake-gcs", "a wrong checksum is refused"): "200",
    ("fake-gcs", "an interrupted upload says how far it came"): "200 bytes=0-262144, broken",
    ("fake-gcs", "a partial answer holds only what was asked for"): "more",
    ("fake-gcs", "an unknown field is refused"): "200",
    ("fake-gcs", "access logs show where they go"): "forgotten",
    ("fake-gcs", "notifications show where they go"): "201",
    ("fake-gcs", "an object names the KMS key it is sealed with"): "unsaid",
    ("fake-gcs", "a KMS key of another place is refused"): "200",
    ("fake-gcs", "soft delete is on unless it is turned off"): "None, None",
    ("fake-gcs", "a soft-deleted object is listed and restored"): "not listed",
    ("fake-gcs", "retention forbids to delete and to overwrite"): "200, 200",
    ("fake-gcs", "a hold forbids to delete until it is released"): "200, 404",
    # It keeps objects as files of a directory tree.
    ("fake-gcs", "name a//b"): "another name",
    ("fake-gcs", "name dir/"): "another name",
    ("fake-gcs", "name /lead"): "another name",
    ("fake-gcs", "name ./here"): "another name",
    ("fake-gcs", "name up/../down"): "another name",
    ("fake-gcs", "name a name below a name"): "refused",
    ("fake-gcs", "name 1,024 bytes"): "refused",
    # versitygw: so does it; in a versioned bucket its If-None-Match takes a delete marker for an object.
    ("versitygw", "name a//b"): "another name",
    ("versitygw", "name dir/"): "refused",
    ("versitygw", "name /lead"): "another name",
    ("versitygw", "name ./here"): "another name",
    ("versitygw", "name up/../down"): "another name",
    ("versitygw", "name a name below a name"): "refused",
    ("versitygw", "name 1,024 bytes"): "refused",
    ("versitygw", "a deleted name can be created again"): "refused",
    ("versitygw", "a PUT says how it was encrypted"): "None, None",
    ("versitygw", "bucket_encryption is shown"): _NOT_IMPLEMENTED,
    ("versitygw", "public_access_block is shown"): _NOT_IMPLEMENTED,
    ("versitygw", "bucket_replication is shown"): _NOT_IMPLEMENTED,
    ("versitygw", "bucket_logging is shown"): _NOT_IMPLEMENTED,
    ("versitygw", "bucket_notification_configuration is shown"): _NOT_IMPLEMENTED,
    ("versitygw", "bucket_inventory_configuration is shown"): _NOT_IMPLEMENTED,
    ("versitygw", "bucket_analytics_configuration is shown"): _NOT_IMPLEMENTED,
    ("versitygw", "bucket_lifecycle_configuration is shown"): _NOT_IMPLEMENTED,
    # moto: the defaults of AWS before 2023 (no encryption, no public access block), and nothing is checked.
    ("moto", "a PUT says how it was encrypted"): "None, aws:kms arn:aws:kms:eu-central-1:1:key/k",
    ("moto", "bucket_encryption is shown"): "unset 404 ServerSideEncryptionConfigurationNotFoundError, set shown",
    ("moto", "public_access_block is shown"): "unset 404 NoSuchPublicAccessBlockConfiguration, set shown",
    ("moto", "bucket_analytics_configuration is shown"): "unset answered, put 400 IllegalLocationConstraintException",
    ("moto", "a wrong checksum is refused"): "200",
    ("moto", "a read brings the stored CRC32C"): "None",
    ("moto", "another owner's bucket is refused"): "answered, answered",
    ("moto", "a KMS key names its region and whether it is multi-region"): "eu-central-1, None",
    ("moto", "a disabled KMS key opens nothing"): "answered",
}

CAPABILITIES = {
    "standin": BOTH | GCS,
    "fake-gcs": BOTH | GCS,
    "versitygw": BOTH | AWS,
    "moto": BOTH | AWS | AWS_SERVICES,
}


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    with moto() as server:
        yield server.url


def _aws(service: str, url: str, access: str, secret: str) -> Any:
    make: Any = boto3.client
    return make(
        service,
        endpoint_url=url,
        region_name=REGION,
        aws_access_key_id=access,
        aws_secret_access_key=secret,
        config=Config(
            retries={"total_max_attempts": 1},
            read_timeout=20,
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": "path"},
        ),
    )


def _client(request: pytest.FixtureRequest, server: str, name: str) -> Any:
    if server == "standin":
        standin: StandinSite = request.getfixturevalue("standin_site")
        return Gcs(standin.state.url)
    if server == "moto":
        url = request.getfixturevalue("moto_url")
        if name in AWS_SERVICES:
            return lambda service: _aws(service, url, "test", "test-secret")
        return S3(_aws("s3", url, "test", "test-secret"))
    sites: StoreSites = request.getfixturevalue("store_sites")
    if server == "fake-gcs":
        return Gcs(sites.gcp_server.url)
    return S3(_aws("s3", sites.aws_server.url, "test", "test-secret"))


@pytest.mark.parametrize(
    ("server", "name"), [(server, name) for server in CAPABILITIES for name in CAPABILITIES[server]]
)
def test_a_server_does_what_is_known_of_it(request: pytest.FixtureRequest, server: str, name: str) -> None:
    expected, probe = CAPABILITIES[server][name]
    try:
        happened = probe(_client(request, server, name))
    except ClientError as error:
        happened = _word(error)
    except RefusedError as error:
        happened = f"{error.status}"
    assert happened == GAPS.get((server, name), expected)


def test_gaps_are_of_known_servers_and_differ_from_what_is_expected() -> None:
    for (server, name), instead in GAPS.items():
        assert instead != CAPABILITIES[server][name][0], (server, name)
