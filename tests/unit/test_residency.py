"""Every judgement of backup/residency.py: subject x profile x answer x attestation."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import date
from itertools import product
from typing import Any

import pytest

from domicile.api.zone import ResidencyZoneSpec, Site, Subject
from domicile.backup.residency import (
    SITE_SUBJECTS,
    Purpose,
    ResidencyError,
    Verdict,
    compliant,
    evidence_digest,
    judge,
    judge_site,
    require,
    require_compliant,
)
from domicile.backup.stores.base import BucketFacts, DeniedError, NotFoundError, Outflow, UnavailableError
from tests.memory_bucket import MemoryBucket

TODAY = date(2026, 3, 10)
GOOD = BucketFacts(
    "eu-central-1",
    False,
    True,
    None,
    True,
    False,
    {"location": "eu-central-1"},
    False,
    outflows=(),
    tls_only=True,
    accelerated=False,
    held_days=0,
    locked=False,
    expires=False,
)
GAPS = {
    Subject.TRANSPORT: {"tls_only": None},
    Subject.OUTFLOWS: {"outflows": None},
    Subject.RETENTION: {"held_days": None},
    Subject.LOCATION: {"location": None},
    Subject.ENCRYPTION: {"encrypted": None},
    Subject.PUBLIC_ACCESS: {"public": None},
    Subject.VERSIONING: {"versioned": None, "keeps_deleted": None},
}
FAULTS = [
    (Purpose.LIVE, Subject.LOCATION, {"location": "us-east-1"}, "outside the zone"),
    (Purpose.LIVE, Subject.LOCATION, {"location": "eu-west-1"}, "inside the zone"),
    (Purpose.LIVE, Subject.LOCATION, {"location": "eu-central-2"}, "outside"),
    (Purpose.LIVE, Subject.LOCATION, {"location": "eu-central-1x"}, "outside"),
    (Purpose.LIVE, Subject.LOCATION, {"multi_region": True}, "several regions"),
    (Purpose.LIVE, Subject.LOCATION, {"location": "eu", "multi_region": True}, "outside"),
    (Purpose.LIVE, Subject.LOCATION, {"location": None, "multi_region": True}, "several regions"),
    (Purpose.REPLICA, Subject.ENCRYPTION, {"encrypted": False}, "default encryption"),
    (Purpose.REPLICA, Subject.ENCRYPTION, {"kms_key": "arn:aws:kms:us-east-1:1:key/abc"}, "us-east-1"),
    (Purpose.REPLICA, Subject.ENCRYPTION, {"kms_key": "arn:aws:kms:eu-central-1:1:key/mrk-abc"}, "multi-region"),
    (Purpose.REPLICA, Subject.ENCRYPTION, {"kms_key": "arn:something:else"}, "unknown place"),
    (Purpose.REPLICA, Subject.ENCRYPTION, {"kms_fault": "lies in an external key store"}, "external key store"),
    (Purpose.CONTROL, Subject.PUBLIC_ACCESS, {"public": True}, "not blocked"),
    (Purpose.CONTROL, Subject.TRANSPORT, {"tls_only": False}, "aws:SecureTransport"),
    (Purpose.LIVE, Subject.TRANSPORT, {"accelerated": True}, "acceleration"),
    (Purpose.LIVE, Subject.TRANSPORT, {"accelerated": True, "tls_only": None}, "acceleration"),
    (Purpose.LIVE, Subject.OUTFLOWS, {"outflows": (Outflow("replication rule", "us-east-1"),)}, "us-east-1, outside"),
    (Purpose.LIVE, Subject.OUTFLOWS, {"outflows": (Outflow("access log", "eu-central-2"),)}, "eu-central-2, outside"),
    (Purpose.LIVE, Subject.OUTFLOWS, {"outflows": (Outflow("access log", None),)}, "does not name"),
    (
        Purpose.LIVE,
        Subject.OUTFLOWS,
        {"outflows": (Outflow("inventory report", told=False), Outflow("access log", "us-east-1"))},
        "access log",
    ),
    (Purpose.REPLICA, Subject.RETENTION, {"held_days": 7.5}, "for 7.5 days"),
    (Purpose.REPLICA, Subject.RETENTION, {"held_days": math.inf}, "without end"),
    (Purpose.LIVE, Subject.RETENTION, {"held_days": 1, "locked": True}, "nobody can lift"),
    (Purpose.REPLICA, Subject.RETENTION, {"expires": True}, "lifecycle"),
    (Purpose.CONTROL, Subject.RETENTION, {"expires": True, "held_days": None}, "lifecycle"),
    (Purpose.KEYS, Subject.RETENTION, {"expires": True, "held_days": 30}, "for 30 days"),
    (Purpose.LIVE, Subject.VERSIONING, {"versioned": False}, "off"),
    (Purpose.KEYS, Subject.VERSIONING, {"versioned": True, "keeps_deleted": True}, "keeps what is deleted"),
    (Purpose.KEYS, Subject.VERSIONING, {"versioned": False, "keeps_deleted": True}, "keeps what is deleted"),
]


def site(profile: str = "cloud", cloud: str = "aws", region: str = "eu-central-1") -> Site:
    stores: dict[str, Any] = {
        "profile": profile,
        "replica": "replica",
        "keys": "keys",
        "control": "control",
        "live": {"createPrefix": "live"},
    }
    if profile == "compatible":
        stores["endpoint"] = "http://127.0.0.1:9"
    elif cloud == "aws":
        stores["accountId"] = "111122223333"
    return Site.model_validate(
        {"name": "home", "cloud": cloud, "region": region, "stores": stores, "key": {"name": "home"}}
    )


def zone(
    of: Site, attested: dict[Subject, tuple[str, str]] | None = None, attested_site: str = "home"
) -> ResidencyZoneSpec:
    return ResidencyZoneSpec.model_validate(
        {
            "jurisdiction": "EU",
            "allowedRegions": [
                {"cloud": "aws", "regions": ["eu-central-1", "eu-west-1"]},
                {"cloud": "gcp", "regions": ["europe-west3"]},
            ],
            "sites": [of.to_wire()],
            "identity": {"url": "https://sso.example"},
            "attestations": [
                {
                    "site": attested_site,
                    "subject": subject,
                    "statement": "see the audit of the store",
                    "attestedOn": begin,
                    "expiresOn": end,
                }
                for subject, (begin, end) in (attested or {}).items()
            ],
        }
    )


def verdict(of: ResidencyZoneSpec, facts: Any, purpose: Purpose, subject: Subject) -> tuple[Verdict, str]:
    found = judge(of, of.sites[0], "b", facts, purpose, TODAY)
    [finding] = [finding for finding in found if finding.subject == subject]
    return finding.verdict, finding.message


STORE_SUBJECTS = [subject for subject in Subject if subject not in SITE_SUBJECTS]
ALL_ATTESTED = dict.fromkeys(Subject, ("2026-01-01", "2027-01-01"))
SITE_ATTESTED = {subject: ALL_ATTESTED[subject] for subject in SITE_SUBJECTS}


@pytest.mark.parametrize("profile", ["cloud", "compatible"])
@pytest.mark.parametrize("purpose", Purpose)
def test_a_good_bucket_is_verified(profile: str, purpose: Purpose) -> None:
    facts = replace(GOOD, versioned=purpose is not Purpose.KEYS)
    findings = judge(zone(site(profile)), site(profile), "b", facts, purpose, TODAY)
    assert {finding.verdict for finding in findings} == {Verdict.VERIFIED}
    assert compliant(findings)
    subjects = [finding.subject for finding in findings]
    assert (Subject.VERSIONING in subjects) == (purpose in {Purpose.LIVE, Purpose.KEYS})
    assert {*STORE_SUBJECTS} - {Subject.VERSIONING} <= set(subjects)


@pytest.mark.parametrize(("purpose", "subject", "change", "words"), FAULTS)
@pytest.mark.parametrize("profile", ["cloud", "compatible"])
def test_a_known_fault_is_violated_and_no_attestation_overrules_it(
    profile: str, purpose: Purpose, subject: Subject, change: dict[str, Any], words: str
) -> None:
    found, message = verdict(zone(site(profile), ALL_ATTESTED), replace(GOOD, **change), purpose, subject)
    assert found is Verdict.VIOLATED
    assert words in message
    assert "bucket b of site home" in message


@pytest.mark.parametrize(("subject", "attested"), list(product(STORE_SUBJECTS, [None, ALL_ATTESTED])))
@pytest.mark.parametrize("purpose", [Purpose.LIVE, Purpose.KEYS])
def test_cloud_fails_closed_on_what_is_unknown(
    subject: Subject, attested: dict[Subject, tuple[str, str]] | None, purpose: Purpose
) -> None:
    facts = replace(GOOD, **({"versioned": purpose is Purpose.LIVE} | GAPS[subject]))
    assert verdict(zone(site(), attested), facts, purpose, subject)[0] is Verdict.VIOLATED


@pytest.mark.parametrize("subject", STORE_SUBJECTS)
@pytest.mark.parametrize("purpose", [Purpose.LIVE, Purpose.KEYS])
@pytest.mark.parametrize(
    ("days", "expected"),
    [
        (("2026-01-01", "2026-03-11"), Verdict.ATTESTED),
        (("2026-03-10", "2026-03-11"), Verdict.ATTESTED),
        (("2026-01-01", "2026-03-10"), Verdict.UNKNOWN),
        (("2026-03-11", "2027-01-01"), Verdict.UNKNOWN),
        (None, Verdict.UNKNOWN),
    ],
)
def test_compatible_needs_an_attestation_that_counts_today(
    subject: Subject, purpose: Purpose, days: tuple[str, str] | None, expected: Verdict
) -> None:
    of = zone(site("compatible"), {subject: days} if days else {})
    facts = replace(GOOD, **({"versioned": purpose is Purpose.LIVE} | GAPS[subject]))
    assert verdict(of, facts, purpose, subject)[0] is expected


@pytest.mark.parametrize("subject", STORE_SUBJECTS)
def test_an_attestation_of_another_site_or_subject_does_not_count(subject: Subject) -> None:
    facts = replace(GOOD, **GAPS[subject])
    elsewhere = zone(site("compatible"), ALL_ATTESTED, attested_site="peer")
    others = zone(site("compatible"), {s: d for s, d in ALL_ATTESTED.items() if s != subject})
    for of in (elsewhere, others):
        assert verdict(of, facts, Purpose.LIVE, subject)[0] is Verdict.UNKNOWN


@pytest.mark.parametrize("profile", ["cloud", "compatible"])
@pytest.mark.parametrize("subject", SITE_SUBJECTS)
@pytest.mark.parametrize(
    ("days", "expected"),
    [
        (("2026-03-10", "2026-03-11"), Verdict.ATTESTED),
        (("2026-01-01", "2026-03-10"), Verdict.UNKNOWN),
        (("2026-03-11", "2027-01-01"), Verdict.UNKNOWN),
        (None, Verdict.UNKNOWN),
    ],
)
def test_what_no_api_shows_needs_an_attestation_with_either_profile(
    profile: str, subject: Subject, days: tuple[str, str] | None, expected: Verdict
) -> None:
    of = zone(site(profile), ALL_ATTESTED | ({subject: days} if days else {}))
    if days is None:
        of = zone(site(profile), {s: d for s, d in ALL_ATTESTED.items() if s != subject})
    verdicts = {finding.subject: finding.verdict for finding in judge_site(of, of.sites[0], TODAY)}
    assert verdicts == dict.fromkeys(SITE_SUBJECTS, Verdict.ATTESTED) | {subject: expected}
    elsewhere = zone(site(profile), ALL_ATTESTED, attested_site="peer")
    assert {f.verdict for f in judge_site(elsewhere, elsewhere.sites[0], TODAY)} == {Verdict.UNKNOWN}


def test_where_nobody_logs_in_no_identity_server_is_asked_after() -> None:
    of = zone(site("cloud"), ALL_ATTESTED).model_copy(update={"identity": None})
    assert Subject.IDENTITY_SERVER not in {f.subject for f in judge_site(of, of.sites[0], TODAY)}


@pytest.mark.parametrize("profile", ["cloud", "compatible"])
def test_nothing_moves_while_a_site_is_not_attested(profile: str) -> None:
    home = site(profile)
    with pytest.raises(ResidencyError, match="no API shows where the clouds' and the cluster's own logs") as refused:
        require(zone(home), TODAY, (home, bucket(), Purpose.LIVE), (home, bucket(), Purpose.CONTROL))
    assert [finding.subject for finding in refused.value.findings] == list(SITE_SUBJECTS)


@pytest.mark.parametrize("kind", ["replication rule", "metadata table"])
def test_outflows_that_stay_inside_are_fine_and_untold_ones_are_named(kind: str) -> None:
    inside = (Outflow("access log", "eu-central-1"), Outflow(kind, "eu-west-1"))
    assert verdict(zone(site()), replace(GOOD, outflows=inside), Purpose.LIVE, Subject.OUTFLOWS)[0] is Verdict.VERIFIED
    untold = replace(GOOD, outflows=(*inside, Outflow(kind, told=False)))
    found, message = verdict(zone(site()), untold, Purpose.LIVE, Subject.OUTFLOWS)
    assert found is Verdict.VIOLATED
    assert f"outflows ({kind})" in message
    attested = zone(site("compatible"), ALL_ATTESTED)
    assert verdict(attested, untold, Purpose.LIVE, Subject.OUTFLOWS)[0] is Verdict.ATTESTED


def test_outflows_of_one_cloud_are_judged_by_its_own_regions() -> None:
    flows = (Outflow("access log", "europe-west3"),)
    facts = replace(GOOD, outflows=flows)
    assert verdict(zone(site()), facts, Purpose.LIVE, Subject.OUTFLOWS)[0] is Verdict.VIOLATED


@pytest.mark.parametrize("purpose", Purpose)
def test_seven_days_may_pass_and_a_tenants_own_data_may_expire(purpose: Purpose) -> None:
    facts = replace(GOOD, held_days=7, versioned=purpose is Purpose.LIVE)
    assert verdict(zone(site()), facts, purpose, Subject.RETENTION)[0] is Verdict.VERIFIED
    expected = Verdict.VERIFIED if purpose is Purpose.LIVE else Verdict.VIOLATED
    assert verdict(zone(site()), replace(facts, expires=True), purpose, Subject.RETENTION)[0] is expected
    unknown = replace(facts, expires=None)
    assert verdict(zone(site()), unknown, purpose, Subject.RETENTION)[0] is expected


def test_cloud_needs_the_answer_on_acceleration_and_others_do_not() -> None:
    facts = replace(GOOD, accelerated=None)
    assert verdict(zone(site()), facts, Purpose.LIVE, Subject.TRANSPORT)[0] is Verdict.VIOLATED
    assert verdict(zone(site("compatible")), facts, Purpose.LIVE, Subject.TRANSPORT)[0] is Verdict.VERIFIED


def test_a_bucket_in_aws_that_no_account_is_named_for_is_violated() -> None:
    home = site()
    nobody = home.model_copy(update={"stores": home.stores.model_copy(update={"account_id": None})})
    found, message = verdict(zone(nobody, ALL_ATTESTED), GOOD, Purpose.LIVE, Subject.LOCATION)
    assert found is Verdict.VIOLATED
    assert "stores.accountId" in message
    assert verdict(zone(site("compatible")), GOOD, Purpose.LIVE, Subject.LOCATION)[0] is Verdict.VERIFIED


@pytest.mark.parametrize(
    ("found", "key", "fine"),
    [
        ("eusc-de-east-1", "arn:aws-eusc:kms:eusc-de-east-1:111122223333:key/k", True),
        ("eusc-de-east-1", "arn:aws:kms:eu-central-1:111122223333:key/k", False),
        ("eu-central-1", None, False),
    ],
)
def test_the_sovereign_cloud_is_a_region_like_any_other(found: str, key: str | None, fine: bool) -> None:
    home = site(region="eusc-de-east-1")
    allowed = [{"cloud": "aws", "regions": ["eusc-de-east-1"]}]
    of = ResidencyZoneSpec.model_validate(zone(home).to_wire() | {"allowedRegions": allowed})
    findings = judge(of, home, "b", replace(GOOD, location=found, kms_key=key), Purpose.LIVE, TODAY)
    assert compliant(findings) is fine


def test_unknown_multi_region_needs_an_attestation_of_the_location() -> None:
    facts = replace(GOOD, multi_region=None)
    assert verdict(zone(site()), facts, Purpose.LIVE, Subject.LOCATION)[0] is Verdict.VIOLATED
    assert verdict(zone(site("compatible")), facts, Purpose.LIVE, Subject.LOCATION)[0] is Verdict.UNKNOWN
    attested = zone(site("compatible"), ALL_ATTESTED)
    assert verdict(attested, facts, Purpose.LIVE, Subject.LOCATION)[0] is Verdict.ATTESTED


@pytest.mark.parametrize("profile", ["cloud", "compatible"])
def test_a_site_outside_its_zone_is_violated_whatever_the_store_says(profile: str) -> None:
    us = site(profile, region="us-east-1")
    for location in ("us-east-1", "eu-central-1", None):
        facts = replace(GOOD, location=location)
        found, message = verdict(zone(us, ALL_ATTESTED), facts, Purpose.LIVE, Subject.LOCATION)
        assert found is Verdict.VIOLATED
        assert "us-east-1" in message


def test_regions_of_one_cloud_do_not_count_for_another() -> None:
    gcp = site("compatible", cloud="gcp", region="eu-central-1")
    assert verdict(zone(gcp, ALL_ATTESTED), GOOD, Purpose.LIVE, Subject.LOCATION)[0] is Verdict.VIOLATED


@pytest.mark.parametrize(
    ("cloud", "region", "key", "fine"),
    [
        ("aws", "eu-central-1", "arn:aws:kms:eu-central-1:1:key/abc", True),
        ("aws", "eu-central-1", "arn:aws-eusc:kms:eu-central-1:1:key/abc", True),
        ("aws", "eu-central-1", "0b1c-id-of-the-same-region", True),
        ("aws", "eu-central-1", "mrk-0b1c", False),
        ("gcp", "europe-west3", "projects/p/locations/europe-west3/keyRings/r/cryptoKeys/k", True),
        ("gcp", "europe-west3", "projects/p/locations/europe-west3/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1", True),
        ("gcp", "europe-west3", "projects/p/locations/europe/keyRings/r/cryptoKeys/k", False),
        ("gcp", "europe-west3", "projects/p/locations/global/keyRings/r/cryptoKeys/k", False),
        ("gcp", "europe-west3", "k", False),
    ],
)
def test_a_kms_key_must_lie_in_the_region(cloud: str, region: str, key: str, fine: bool) -> None:
    of = zone(site(cloud=cloud, region=region))
    facts = replace(GOOD, location=region, kms_key=key)
    expected = Verdict.VERIFIED if fine else Verdict.VIOLATED
    assert verdict(of, facts, Purpose.LIVE, Subject.ENCRYPTION)[0] is expected


@pytest.mark.parametrize("error", [NotFoundError("gone"), DeniedError("refused"), UnavailableError("silent")])
@pytest.mark.parametrize(("profile", "expected"), [("cloud", Verdict.VIOLATED), ("compatible", Verdict.UNKNOWN)])
def test_a_store_that_describes_nothing_is_never_compliant(error: Exception, profile: str, expected: Verdict) -> None:
    findings = judge(zone(site(profile), ALL_ATTESTED), site(profile), "b", error, Purpose.KEYS, TODAY)  # type: ignore[arg-type]
    assert {finding.verdict for finding in findings} == {expected}
    assert not compliant(findings)


def test_no_findings_are_no_proof() -> None:
    assert not compliant(())
    with pytest.raises(ResidencyError, match="nothing was checked"):
        require_compliant((), "home")


def test_the_digest_depends_on_every_raw_answer_and_on_nothing_else() -> None:
    one, other = replace(GOOD, raw={"a": 1, "b": [None]}), replace(GOOD, raw={"b": [None], "a": 1}, public=None)
    assert evidence_digest(one) == evidence_digest(other)
    assert len(evidence_digest(one)) == 64
    assert evidence_digest(one) != evidence_digest(replace(one, raw={"a": 2, "b": [None]}))
    assert evidence_digest(one, GOOD) != evidence_digest(GOOD, one)


def bucket(**facts: Any) -> MemoryBucket:
    return MemoryBucket("home", "b", **({"location": "eu-central-1"} | facts))


def test_require_returns_the_digest_and_only_asks_for_facts() -> None:
    of, live, keys = zone(site(), SITE_ATTESTED), bucket(), bucket(versioned=False)
    digest = require(of, TODAY, (site(), live, Purpose.LIVE), (site(), keys, Purpose.KEYS))
    assert digest == evidence_digest(live.facts(), keys.facts())
    assert {operation for operation, _ in live.calls + keys.calls} == {"facts"}


def test_require_names_role_site_found_allowed_and_what_to_do() -> None:
    with pytest.raises(ResidencyError) as refused:
        require(
            zone(site(), SITE_ATTESTED), TODAY, (site(), bucket(location="us-east-1", public=True), Purpose.REPLICA)
        )
    message = str(refused.value)
    for words in (
        "replica bucket b of site home",
        "us-east-1",
        "eu-central-1, eu-west-1",
        "name a bucket in",
        "block it",
    ):
        assert words in message
    assert [finding.subject for finding in refused.value.findings] == [Subject.LOCATION, Subject.PUBLIC_ACCESS]


def test_require_tells_an_outage_from_a_refusal() -> None:
    silent, missing = bucket(), bucket(exists=False)
    silent.fail("facts")
    with pytest.raises(UnavailableError):
        require(zone(site(), SITE_ATTESTED), TODAY, (site(), silent, Purpose.LIVE))
    with pytest.raises(ResidencyError, match="no bucket b"):
        require(zone(site(), SITE_ATTESTED), TODAY, (site(), missing, Purpose.LIVE))


def test_require_refuses_a_bucket_of_another_site() -> None:
    with pytest.raises(ValueError, match="belongs to site peer"):
        require(zone(site(), SITE_ATTESTED), TODAY, (site(), MemoryBucket("peer", "b"), Purpose.LIVE))
