"""What Cloud Storage does beyond: locations, partial answers, soft delete, retention, holds, KMS names.

Source: Cloud Storage JSON API v1 reference.
"""

from __future__ import annotations

import gzip
import uuid

from tests.integration.store_contract.capability import Capabilities, capability
from tests.integration.store_contract.clients import LOCATION, Gcs

GCS: Capabilities = {}
KEY = "projects/p/locations/europe-west3/keyRings/r/cryptoKeys/k"


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
