"""What buckets of Cloud Storage say of themselves, as the stand-in answers under profile cloud."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from datetime import date
from typing import Any

import pytest

from domicile.api.zone import ResidencyZoneSpec, Site, Subject
from domicile.backup.residency import (
    SITE_SUBJECTS,
    Purpose,
    ResidencyError,
    Verdict,
    evidence_digest,
    judge,
    require,
)
from domicile.backup.stores import open_bucket
from domicile.backup.stores.base import EncryptionError
from domicile.backup.stores.gcs import GcsBucket
from domicile.backup.stores.gcs_config import require_kms_key
from tests.gcs_standin import accounts
from tests.gcs_standin.bucket import Bucket as Held
from tests.integration.stores_fixture import StandinSite

TODAY = date(2026, 3, 10)
DAY = 86_400
KEY = "projects/p/locations/europe-west3/keyRings/r/cryptoKeys/k"
PRIVATE = {"publicAccessPrevention": "enforced", "uniformBucketLevelAccess": {"enabled": True}}


def zone(site: Site, *, attested: bool = False) -> ResidencyZoneSpec:
    dates = {"attestedOn": "2026-01-01", "expiresOn": "2027-01-01", "statement": "the tests' own cloud"}
    subjects = list(Subject) if attested else list(SITE_SUBJECTS)
    wire = {
        "jurisdiction": "EU",
        "allowedRegions": [{"cloud": "gcp", "regions": ["europe-west3", "europe-west4"]}],
        "sites": [site.to_wire()],
        "attestations": [{"site": site.name, "subject": subject, **dates} for subject in subjects],
    }
    return ResidencyZoneSpec.model_validate(wire)


class Gcp:
    """A bucket as its owner changes it (``change``, ``http``) and as the product sees it (``judged``)."""

    def __init__(self, at: StandinSite, name: str = "") -> None:
        self.at, self.name = at, name or f"t-{uuid.uuid4().hex}"
        self.bucket.create_bucket()

    @property
    def bucket(self) -> GcsBucket:
        found = open_bucket(self.at.site, self.name, self.at.credentials)
        assert isinstance(found, GcsBucket)
        return found

    @property
    def held(self) -> Held:
        return self.at.state.bucket(self.name)

    def change(self, **resource: Any) -> None:
        self.at.state.change(self.name, **resource)

    def call(self, path: str, body: dict[str, Any]) -> None:
        self.bucket._gcs._connection.api_request(method="POST", path=f"/b/{self.name}/{path}", data=body)

    def other(self, location: str) -> str:
        name = f"o-{uuid.uuid4().hex}"
        self.at.state.add_bucket(name, location)
        return name

    def judged(self, purpose: Purpose = Purpose.LIVE) -> dict[Subject, tuple[Verdict, str]]:
        site = self.at.site
        found = judge(zone(site, attested=True), site, self.name, self.bucket.facts(), purpose, TODAY)
        return {finding.subject: (finding.verdict, finding.message) for finding in found}


@pytest.fixture
def gcp(cloud_standin_site: StandinSite) -> Gcp:
    return Gcp(cloud_standin_site)


def notify(gcp: Gcp) -> None:
    topic = "//pubsub.googleapis.com/projects/p/topics/t"
    gcp.call("notificationConfigs", {"topic": topic, "payload_format": "JSON_API_V1", "object_name_prefix": "secret/"})


def expire(gcp: Gcp, condition: dict[str, Any], action: str = "Delete") -> None:
    gcp.change(lifecycle={"rule": [{"action": {"type": action}, "condition": condition}]})


@pytest.mark.parametrize("purpose", Purpose)
def test_a_bucket_that_the_product_makes_passes_every_check(cloud_standin_site: StandinSite, purpose: Purpose) -> None:
    site = cloud_standin_site.site
    made = Gcp(cloud_standin_site, site.stores.keys if purpose is Purpose.KEYS else "")
    found = made.judged(purpose)
    assert {verdict for verdict, _ in found.values()} == {Verdict.VERIFIED}, found
    assert len(require(zone(site), TODAY, (site, made.bucket, purpose))) == 64


DRIFTS: list[tuple[str, Callable[[Gcp], Any], Subject, str]] = [
    ("relocated", lambda g: g.change(location="US-EAST1"), Subject.LOCATION, "us-east1, outside the zone"),
    ("relocated inside", lambda g: g.change(location="EUROPE-WEST4"), Subject.LOCATION, "europe-west4, inside"),
    (
        "multi-region",
        lambda g: g.change(location="EU", locationType="multi-region"),
        Subject.LOCATION,
        "spans several regions",
    ),
    (
        "dual-region of listed members",
        lambda g: g.change(
            location="EU",
            locationType="dual-region",
            customPlacementConfig={"dataLocations": ["EUROPE-WEST3", "EUROPE-WEST4"]},
        ),
        Subject.LOCATION,
        "spans several regions",
    ),
    ("custom placement", lambda g: g.change(customPlacementConfig={"dataLocations": []}), Subject.LOCATION, ""),
    (
        "being relocated",
        lambda g: g.call("relocate", {"destinationLocation": "US-EAST1"}),
        Subject.OUTFLOWS,
        "relocation goes to us-east1",
    ),
    ("logged abroad", lambda g: g.change(logging={"logBucket": g.other("US-EAST1")}), Subject.OUTFLOWS, "us-east1"),
    ("logged to a multi-region", lambda g: g.change(logging={"logBucket": g.other("EU")}), Subject.OUTFLOWS, "to eu,"),
    ("logged anywhere", lambda g: g.change(logging={"logBucket": "no-such-bucket"}), Subject.OUTFLOWS, "not name"),
    ("told to a topic", notify, Subject.OUTFLOWS, "Pub/Sub notification goes to a place"),
    (
        "key abroad",
        lambda g: g.change(encryption={"defaultKmsKeyName": KEY.replace("europe-west3", "us-east1")}),
        Subject.ENCRYPTION,
        "us-east1",
    ),
    (
        "key of a multi-region",
        lambda g: g.change(encryption={"defaultKmsKeyName": KEY.replace("europe-west3", "europe")}),
        Subject.ENCRYPTION,
        "use a key in europe-west3",
    ),
    (
        "public",
        lambda g: g.change(iamConfiguration={"publicAccessPrevention": "inherited"}),
        Subject.PUBLIC_ACCESS,
        "not blocked",
    ),
    ("versioning off", lambda g: g.change(versioning={"enabled": False}), Subject.VERSIONING, "versioning is off"),
    (
        "locked",
        lambda g: g.change(retentionPolicy={"retentionPeriod": str(DAY), "isLocked": True}),
        Subject.RETENTION,
        "nobody can lift",
    ),
    (
        "retained too long",
        lambda g: g.change(retentionPolicy={"retentionPeriod": str(8 * DAY)}),
        Subject.RETENTION,
        "for 8 days",
    ),
    (
        "soft-deleted for too long",
        lambda g: g.change(softDeletePolicy={"retentionDurationSeconds": str(90 * DAY)}),
        Subject.RETENTION,
        "for 90 days",
    ),
    ("held", lambda g: g.change(defaultEventBasedHold=True), Subject.RETENTION, "without end"),
]


@pytest.mark.parametrize(("change", "subject", "words"), [d[1:] for d in DRIFTS], ids=[d[0] for d in DRIFTS])
def test_drift_is_violated(gcp: Gcp, change: Callable[[Gcp], Any], subject: Subject, words: str) -> None:
    before = evidence_digest(gcp.bucket.facts())
    change(gcp)
    verdict, message = gcp.judged()[subject]
    assert verdict is Verdict.VIOLATED
    assert words in message
    assert evidence_digest(gcp.bucket.facts()) != before
    with pytest.raises(ResidencyError):
        require(zone(gcp.at.site), TODAY, (gcp.at.site, gcp.bucket, Purpose.LIVE))


@pytest.mark.parametrize(
    "change",
    [
        lambda g: g.change(logging={"logBucket": g.other("EUROPE-WEST4")}),
        lambda g: g.change(encryption={"defaultKmsKeyName": KEY}),
        lambda g: g.change(retentionPolicy={"retentionPeriod": str(7 * DAY)}),
        lambda g: g.call("relocate", {"destinationLocation": "US-EAST1", "validateOnly": True}),
        lambda g: g.held.operations.append({"done": False, "metadata": {"@type": "x/BulkRestoreObjectsMetadata"}}),
        lambda g: expire(g, {"age": 30}),
    ],
)
def test_what_stays_inside_passes(gcp: Gcp, change: Callable[[Gcp], Any]) -> None:
    change(gcp)
    found = gcp.judged()
    assert {verdict for verdict, _ in found.values()} == {Verdict.VERIFIED}, found


def test_a_relocation_counts_until_it_is_done_and_is_found_on_every_page(gcp: Gcp) -> None:
    gcp.at.state.page_limit = 1
    gcp.held.operations.append({"done": True, "metadata": {"destinationLocation": "US-EAST1"}})
    gcp.call("relocate", {"destinationLocation": "US-EAST1"})
    assert gcp.judged()[Subject.OUTFLOWS][0] is Verdict.VIOLATED
    gcp.held.operations[1]["done"] = True
    assert gcp.judged()[Subject.OUTFLOWS][0] is Verdict.VERIFIED


@pytest.mark.parametrize("purpose", [Purpose.REPLICA, Purpose.CONTROL, Purpose.KEYS])
@pytest.mark.parametrize(
    ("action", "condition", "fine"),
    [
        ("Delete", {"age": 30}, False),
        ("Delete", {"age": 30, "isLive": True}, False),
        ("Delete", {"age": 30, "matchesPrefix": ["secret/"]}, False),
        ("Delete", {"age": 30, "isLive": False}, True),
        ("Delete", {"daysSinceNoncurrentTime": 1}, True),
        ("Delete", {"numNewerVersions": 3}, True),
        ("SetStorageClass", {"age": 30}, True),
        ("AbortIncompleteMultipartUpload", {"age": 1}, True),
    ],
)
def test_no_lifecycle_rule_takes_what_the_product_wrote(
    gcp: Gcp, action: str, condition: dict[str, Any], fine: bool, purpose: Purpose
) -> None:
    expire(gcp, condition, action)
    verdict, message = gcp.judged(purpose)[Subject.RETENTION]
    assert verdict is (Verdict.VERIFIED if fine else Verdict.VIOLATED), message


@pytest.mark.parametrize(
    ("without", "kind"), [("storage.buckets.get", "did not describe"), ("storage.bucketOperations.list", "relocation")]
)
def test_cloud_fails_closed_on_what_the_account_may_not_ask(gcp: Gcp, without: str, kind: str) -> None:
    granted = gcp.at.state.accounts.grants["site@standin.iam.gserviceaccount.com"]
    granted["*"] = accounts.ADMIN - {without}
    with pytest.raises(ResidencyError, match=kind):
        require(zone(gcp.at.site, attested=True), TODAY, (gcp.at.site, gcp.bucket, Purpose.LIVE))


def test_a_log_bucket_that_the_account_may_not_see_is_outside(gcp: Gcp) -> None:
    target = gcp.other("EUROPE-WEST3")
    gcp.change(logging={"logBucket": target})
    assert gcp.judged()[Subject.OUTFLOWS][0] is Verdict.VERIFIED
    granted = gcp.at.state.accounts.grants["site@standin.iam.gserviceaccount.com"]
    granted[gcp.name] = granted.pop("*")
    verdict, message = gcp.judged()[Subject.OUTFLOWS]
    assert verdict is Verdict.VIOLATED
    assert "access log goes to a place that the store does not name" in message


def test_a_compatible_store_says_nothing_by_leaving_a_field_out(standin_site: StandinSite) -> None:
    made = Gcp(standin_site)
    del made.held.resource["softDeletePolicy"]
    found = {subject: verdict for subject, (verdict, _) in made.judged().items()}
    unsaid = {Subject.ENCRYPTION, Subject.TRANSPORT, Subject.OUTFLOWS, Subject.RETENTION}
    assert {subject for subject, verdict in found.items() if verdict is Verdict.ATTESTED} == unsaid
    made.change(logging={"logBucket": made.other("US-EAST1")}, retentionPolicy={"retentionPeriod": str(30 * DAY)})
    found = {subject: verdict for subject, (verdict, _) in made.judged().items()}
    assert (found[Subject.OUTFLOWS], found[Subject.RETENTION]) == (Verdict.VIOLATED, Verdict.VIOLATED)


def test_evidence_holds_nothing_of_objects(gcp: Gcp) -> None:
    gcp.change(logging={"logBucket": gcp.other("EUROPE-WEST3"), "logObjectPrefix": "secret/"})
    expire(gcp, {"age": 3, "matchesPrefix": ["secret/"]})
    notify(gcp)
    facts = gcp.bucket.facts()
    assert "secret" not in json.dumps(dict(facts.raw))
    assert evidence_digest(facts) == evidence_digest(gcp.bucket.facts())


@pytest.mark.parametrize(
    ("expected", "kept", "fine"),
    [
        (None, None, True),
        (KEY, f"{KEY}/cryptoKeyVersions/3", True),
        (KEY, None, False),
        (None, f"{KEY}/cryptoKeyVersions/3", False),
        (KEY, f"{KEY}2/cryptoKeyVersions/3", False),
    ],
)
def test_a_written_object_must_have_the_buckets_key(expected: str | None, kept: str | None, fine: bool) -> None:
    if fine:
        require_kms_key(expected, kept, "bucket b")
    else:
        with pytest.raises(EncryptionError, match="another KMS key"):
            require_kms_key(expected, kept, "bucket b")


def test_a_write_is_held_against_what_the_bucket_said_last(gcp: Gcp) -> None:
    gcp.change(encryption={"defaultKmsKeyName": KEY})
    bucket = gcp.bucket
    bucket._config.require_written("anything")
    bucket.facts()
    blob = bucket._gcs.bucket(gcp.name).blob("k")
    blob.upload_from_string(b"x")
    bucket._config.require_written(blob.kms_key_name)
    with pytest.raises(EncryptionError):
        bucket._config.require_written(None)


@pytest.mark.parametrize("size", [1, (8 << 20) + 1])
def test_an_object_that_the_store_kept_under_another_key_is_found_out(gcp: Gcp, size: int) -> None:
    gcp.change(encryption={"defaultKmsKeyName": KEY})
    bucket = gcp.bucket
    bucket.facts()
    bucket.write("before", iter((bytes(size),)), size)
    gcp.change(encryption={"defaultKmsKeyName": f"{KEY}2"})
    with pytest.raises(EncryptionError, match="another KMS key"):
        bucket.write("after", iter((bytes(size),)), size)
