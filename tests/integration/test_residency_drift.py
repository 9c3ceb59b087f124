"""A bucket drifts: replication stops before a byte, and the tenant's condition turns; mended, both go on.

Cloud Storage is the stand-in under profile cloud, S3 is moto's server under profile compatible.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from domicile.api.sites import ServedZone, SiteFile
from domicile.api.zone import ResidencyZoneSpec, Site, Subject
from domicile.backup import kek, records, worker
from domicile.backup.stores import open_bucket
from domicile.backup.stores.base import Bucket
from domicile.controllers.sites import FACTS_TTL_SECONDS, LIVE_FACTS_TTL_SECONDS, SiteStores
from domicile.controllers.tenant import policies
from domicile.controllers.tenant.storage import Known, TenantStorage
from domicile.controllers.tenant.view import Standing
from tests.integration.stores_fixture import StandinSite, make_site, moto
from tests.unit.views import view, zone_spec

_numbers = itertools.count()
DIRECTIONS = [("gcp-frankfurt", "aws-frankfurt"), ("aws-frankfurt", "gcp-frankfurt")]


@pytest.fixture(scope="module")
def moto_url() -> Iterator[str]:
    with moto() as server:
        yield server.url


@dataclass
class Estate:
    """A tenant at ``home`` whose replica lies at ``peer``, and both clouds as their owner changes them."""

    home: Site
    peer: Site
    spec: ResidencyZoneSpec
    gcs: StandinSite
    s3: Any
    folder: Path
    tenant: str
    seconds: float = 0

    @property
    def zone(self) -> ServedZone:
        return ServedZone(name="eu", site=self.home.name, spec=self.spec)

    def bucket(self, site: Site, name: str) -> Bucket:
        return open_bucket(site, name, self.folder)

    def live(self, site: Site) -> str:
        return f"{site.stores.control}-live"

    def create(self) -> None:
        for site in (self.home, self.peer):
            stores = site.stores
            for name in (stores.control, stores.keys, stores.replica, self.live(site)):
                self.bucket(site, name).create_bucket()
            kek.generate(site.name, self.folder / "keys")
        stores_of_home = SiteStores(self.folder, self.folder / "keys")
        storage = TenantStorage(self.zone, stores_of_home)
        for _ in range(4):
            seen = storage.observe(self.tenant)
            known = Known(seen.live_bucket, seen.claim, peer_answers=True)
            if not storage.provision(self.tenant, {"name": "bank", "spec": {}}, known, home=True):
                break

    def write(self, name: str) -> None:
        self.bucket(self.home, self.live(self.home)).write(name, iter([b"text"]), 4)

    def run(self) -> tuple[int, dict[str, Any]]:
        """One run of the replicator: its exit code and what its termination message says of the tenant."""
        told = self.folder / "termination"
        told.touch()
        site_file = SiteFile(zones=[self.zone])
        code = worker.run(
            site_file, self.folder, self.folder / "keys", self.tenant, datetime.now(UTC), termination=told
        )
        outcome: dict[str, Any] = json.loads(told.read_text()).get(self.tenant, {})
        return code, outcome

    def at_peer(self) -> dict[str, list[str]]:
        """Names of all that the peer holds for the tenant."""
        names = (self.peer.stores.replica, self.peer.stores.control)
        return {name: [info.name for info in self.bucket(self.peer, name).list()] for name in names}

    def seq(self) -> int:
        slot = records.highest(self.bucket(self.peer, self.peer.stores.control), self.tenant)
        return slot.seq if slot else 0

    def operator(self) -> TenantStorage:
        """The operator's own eyes, whose memory of a bucket ends with this test's clock."""
        return TenantStorage(self.zone, SiteStores(self.folder, self.folder / "keys", clock=lambda: self.seconds))

    def target(self, cloud: str) -> str:
        """The bucket of that cloud through which the tenant's data goes."""
        return self.live(self.home) if self.home.cloud == cloud else self.peer.stores.replica


def s3_client(url: str, region: str) -> Any:
    config = Config(s3={"addressing_style": "path"})
    keys = {"aws_access_key_id": "id", "aws_secret_access_key": "secret"}
    return boto3.client("s3", endpoint_url=url, region_name=region, config=config, **keys)  # type: ignore[call-overload]


@pytest.fixture(params=DIRECTIONS, ids=["gcp to aws", "aws to gcp"])
def estate(request: pytest.FixtureRequest, cloud_standin_site: StandinSite, moto_url: str) -> Estate:
    folder, number = cloud_standin_site.credentials, next(_numbers)
    account = {"accessKeyId": "id", "secretAccessKey": "secret"}
    (folder / "aws-frankfurt.json").write_text(json.dumps(account))
    s3 = s3_client(moto_url, "eu-central-1")
    made = {}
    for name, cloud, region, url in (
        ("gcp-frankfurt", "gcp", "europe-west3", None),
        ("aws-frankfurt", "aws", "eu-central-1", moto_url),
    ):
        names = {role: f"{cloud}-{role}-{number}" for role in ("replica", "keys", "control")}
        made[name] = make_site(name, cloud, region, url, **names, live={"pool": [f"{cloud}-control-{number}-live"]})
    home, peer = (made[name] for name in request.param)
    dates = {"attestedOn": "2026-01-01", "expiresOn": "2099-01-01", "statement": "a test's server"}
    attestations = [{"site": name, "subject": subject, **dates} for name in made for subject in Subject]
    spec = zone_spec(sites=[home.to_wire(), peer.to_wire()], attestations=attestations)
    found = Estate(home, peer, spec, cloud_standin_site, s3, folder, f"{number:032x}")
    found.create()
    found.write("a")
    return found


Change = Callable[[Estate, str], Any]


def replicate_abroad(e: Estate, bucket: str) -> None:
    abroad = f"{bucket}-us"
    us = s3_client(e.s3.meta.endpoint_url, "us-east-1")
    us.create_bucket(Bucket=abroad)
    for client, name in ((us, abroad), (e.s3, bucket)):
        client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    rule = {"ID": "r", "Priority": 1, "Filter": {"Prefix": ""}, "Status": "Enabled"}
    rule |= {"Destination": {"Bucket": f"arn:aws:s3:::{abroad}"}, "DeleteMarkerReplication": {"Status": "Disabled"}}
    config = {"Role": "arn:aws:iam::123456789012:role/r", "Rules": [rule]}
    e.s3.put_bucket_replication(Bucket=bucket, ReplicationConfiguration=config)


def block(e: Estate, bucket: str) -> None:
    flags = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
    e.s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=dict.fromkeys(flags, True))


def encrypt(e: Estate, bucket: str) -> None:
    rules = {"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]}
    e.s3.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration=rules)


def relocate(e: Estate, bucket: str) -> None:
    metadata = {"@type": "x/RelocateBucketMetadata", "destinationLocation": "US-EAST1"}
    e.gcs.state.bucket(bucket).operations.append({"done": False, "metadata": metadata})


PUBLIC = {"iamConfiguration": {"publicAccessPrevention": "inherited"}}
PRIVATE = {"iamConfiguration": {"publicAccessPrevention": "enforced"}}
DRIFTS: dict[str, tuple[str, Change, Change, str]] = {
    "a replication rule to us-east-1": (
        "aws",
        replicate_abroad,
        lambda e, b: e.s3.delete_bucket_replication(Bucket=b),
        "replication rule goes to us-east-1",
    ),
    "encryption switched off": (
        "aws",
        lambda e, b: e.s3.delete_bucket_encryption(Bucket=b),
        encrypt,
        "no default encryption",
    ),
    "public in S3": ("aws", lambda e, b: e.s3.delete_public_access_block(Bucket=b), block, "public access"),
    "relocated": (
        "gcp",
        lambda e, b: e.gcs.state.change(b, location="US-EAST1"),
        lambda e, b: e.gcs.state.change(b, location="EUROPE-WEST3"),
        "us-east1, outside the zone",
    ),
    "about to be relocated": (
        "gcp",
        relocate,
        lambda e, b: e.gcs.state.bucket(b).operations.clear(),
        "relocation goes to us-east1",
    ),
    "public in Cloud Storage": (
        "gcp",
        lambda e, b: e.gcs.state.change(b, **PUBLIC),
        lambda e, b: e.gcs.state.change(b, **PRIVATE),
        "public access",
    ),
}


@pytest.mark.parametrize("drift", DRIFTS)
def test_drift_stops_replication_within_one_run_and_turns_the_condition(estate: Estate, drift: str) -> None:
    cloud, change, mend, words = DRIFTS[drift]
    assert estate.run() == (0, {})
    eyes = estate.operator()
    assert eyes.observe(estate.tenant).residency.standing is Standing.COMPLIANT
    held, seq = estate.at_peer(), estate.seq()

    estate.write("b")
    change(estate, estate.target(cloud))
    code, outcome = estate.run()
    assert (code, outcome["reason"]) == (worker.REFUSED, "Residency")
    assert words in outcome["message"]
    assert (estate.at_peer(), estate.seq()) == (held, seq)

    # What the run found shows at once; what the operator's own look finds, when its memory of the bucket ends.
    told = view(replication_failure=(outcome["reason"], outcome["message"]))
    assert condition(told) == ("False", "RunRefused")
    # A live bucket that was in order is looked at less often: its own run would have found it.
    estate.seconds += LIVE_FACTS_TTL_SECONDS if estate.home.cloud == cloud else FACTS_TTL_SECONDS
    seen = eyes.observe(estate.tenant).residency
    assert seen.standing is Standing.VIOLATED
    assert any(words in message for message in seen.messages)
    assert condition(view(residency=seen)) == ("False", "StoreOutsideZone")

    mend(estate, estate.target(cloud))
    assert estate.run() == (0, {})
    assert estate.seq() == seq + 1
    estate.seconds += FACTS_TTL_SECONDS
    assert eyes.observe(estate.tenant).residency.standing is Standing.COMPLIANT


def condition(of: Any) -> tuple[str, str]:
    verdict = next(v for v in policies.judge(of) if v.type == "ResidencyCompliant")
    return verdict.status, verdict.reason


def test_an_attestation_that_ends_stops_replication_and_nothing_else(estate: Estate) -> None:
    assert estate.run()[0] == 0
    held = estate.at_peer()
    past = {"expires_on": date(2026, 1, 2)}
    lapsed = [a.model_copy(update=past) if a.subject is Subject.TELEMETRY else a for a in estate.spec.attestations]
    estate.spec = estate.spec.model_copy(update={"attestations": lapsed})
    code, outcome = estate.run()
    assert code == worker.REFUSED
    assert "telemetry" in outcome["message"]
    assert estate.at_peer() == held
    seen = estate.operator().observe(estate.tenant).residency
    assert seen.standing is Standing.UNKNOWN
    verdict = next(v for v in policies.judge(view(residency=seen)) if v.type == "ResidencyCompliant")
    assert (verdict.status, verdict.blocks) == ("Unknown", False)
