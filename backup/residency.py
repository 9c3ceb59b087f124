"""Whether a bucket may hold a zone's data: what its store says of it, judged before the first byte moves.

Unknown counts as outside. With profile ``cloud`` every question must be answered; with profile ``compatible`` a
person's dated attestation may stand in where the store has no answer, and never against one. What no API shows of a
site needs an attestation with either profile. docs/residency.md lists every check.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import NamedTuple

from domicile.api.zone import Attestation, Cloud, Profile, ResidencyZoneSpec, Site, Subject
from domicile.backup import canonical
from domicile.backup.errors import BackupError
from domicile.backup.stores.base import Bucket, BucketFacts, StoreError, UnavailableError

# Erasure must be able to end within this many days.
_HELD_DAYS = 7
SITE_SUBJECTS = {
    Subject.LOG_LOCATION: "where the clouds' and the cluster's own logs of it are kept",
    Subject.ETCD_ENCRYPTION: "whether its cluster encrypts Secrets in etcd",
    Subject.TELEMETRY: "where the telemetry of its cluster and stores goes",
    Subject.IDENTITY_SERVER: "where its identity server, that one's database and its mail server run",
}


class Purpose(StrEnum):
    """What a bucket is used for."""

    LIVE = "live"
    REPLICA = "replica"
    KEYS = "keys"
    CONTROL = "control"


class Verdict(StrEnum):
    """Outcome of one check: Verified by the store's own answer, Attested by a person, Violated, or Unknown."""

    VERIFIED = "Verified"
    ATTESTED = "Attested"
    VIOLATED = "Violated"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """One judged property of one bucket; ``message`` says what was found, what is allowed and what to do."""

    subject: Subject
    verdict: Verdict
    message: str


class ResidencyError(BackupError):
    """A bucket may not be used; ``findings`` are the judgements that forbid it. Nothing was moved."""

    def __init__(self, message: str, findings: tuple[Finding, ...]) -> None:
        super().__init__(message)
        self.findings = findings


def judge(
    zone: ResidencyZoneSpec,
    site: Site,
    bucket_name: str,
    facts: BucketFacts | StoreError,
    purpose: Purpose,
    today: date,
) -> tuple[Finding, ...]:
    """One finding for each subject that matters for the purpose; ``facts`` may be the error that asking raised."""
    where = f"{purpose} bucket {bucket_name} of site {site.name}"
    if isinstance(facts, StoreError):
        verdict = Verdict.VIOLATED if site.stores.profile is Profile.CLOUD else Verdict.UNKNOWN
        message = f"{where}: the store did not describe it ({facts}); make it reachable and readable for this site"
        return tuple(Finding(subject, verdict, message) for subject, _ in _checks(purpose))
    findings = []
    for subject, check in _checks(purpose):
        answer = check(_Case(zone, site, facts))
        if answer is None:
            findings.append(_unanswered(zone, site, where, subject, _what(subject, facts), today))
        else:
            fault = "; ".join(answer)
            verdict = Verdict.VIOLATED if fault else Verdict.VERIFIED
            findings.append(Finding(subject, verdict, f"{where}: {fault or 'as required'}"))
    return tuple(findings)


def judge_site(zone: ResidencyZoneSpec, site: Site, today: date) -> tuple[Finding, ...]:
    """One finding for each property of a site that no API shows: Attested, or Unknown."""
    findings = []
    for subject, question in SITE_SUBJECTS.items():
        if subject is Subject.IDENTITY_SERVER and zone.identity is None:
            continue
        attested, state = _attested(zone, site, subject, today)
        verdict = Verdict.ATTESTED if attested else Verdict.UNKNOWN
        message = f"site {site.name}: {subject} attested in the zone"
        if not attested:
            message = (
                f"site {site.name}: no API shows {question}, and {state}; add a dated attestation of {subject}"
                " to the zone"
            )
        findings.append(Finding(subject, verdict, message))
    return tuple(findings)


def compliant(findings: Iterable[Finding]) -> bool:
    """True where there are findings and each is Verified or Attested."""
    verdicts = {finding.verdict for finding in findings}
    return bool(verdicts) and verdicts <= {Verdict.VERIFIED, Verdict.ATTESTED}


def evidence_digest(*facts: BucketFacts) -> str:
    """SHA-256 (hex) over the canonical JSON of the raw answers, in the given order."""
    return hashlib.sha256(canonical.encode([dict(fact.raw) for fact in facts])).hexdigest()


def require(zone: ResidencyZoneSpec, today: date, *buckets: tuple[Site, Bucket, Purpose]) -> str:
    """Ask every bucket's store what it is, and return the evidence digest of the answers if all may be used.

    Of each bucket's site what no API shows must be attested, too.

    Call it before the first byte moves. Raises ResidencyError naming every fault, UnavailableError where a store gives
    no answer (an outage, which proves nothing either way: nothing may move then, too).
    """
    answers: list[BucketFacts] = []
    sites = {site.name: site for site, _, _ in buckets}
    findings = [finding for site in sites.values() for finding in judge_site(zone, site, today)]
    for site, bucket, purpose in buckets:
        if bucket.site != site.name:
            raise ValueError(f"bucket {bucket.name} belongs to site {bucket.site}, not to {site.name}")
        facts: BucketFacts | StoreError
        try:
            facts = bucket.facts()
            answers.append(facts)
        except UnavailableError:
            raise
        except StoreError as error:
            facts = error
        findings += judge(zone, site, bucket.name, facts, purpose, today)
    require_compliant(findings, ", ".join(sites))
    return evidence_digest(*answers)


def require_compliant(findings: Iterable[Finding], where: str) -> None:
    """Raise ResidencyError, naming every fault, unless all findings are Verified or Attested.

    ``where`` names the sites. No findings are no proof, and raise, too.
    """
    findings = tuple(findings)
    if compliant(findings):
        return
    faults = tuple(finding for finding in findings if not compliant([finding]))
    # The subjects of an unreadable bucket share one message.
    messages = " | ".join(dict.fromkeys(finding.message for finding in faults)) or "nothing was checked"
    raise ResidencyError(f"nothing was moved, for stores of {where or 'no site'} may not be used: {messages}", faults)


class _Case(NamedTuple):
    zone: ResidencyZoneSpec
    site: Site
    facts: BucketFacts


# A check answers None (the store doesn't say) or the list of faults, empty where all is well.
_Check = Callable[[_Case], list[str] | None]


def _checks(purpose: Purpose) -> list[tuple[Subject, _Check]]:
    checks: list[tuple[Subject, _Check]] = [
        (Subject.LOCATION, _location),
        (Subject.ENCRYPTION, _encryption),
        (Subject.PUBLIC_ACCESS, _public_access),
        (Subject.TRANSPORT, _transport),
        (Subject.OUTFLOWS, _outflows),
        # A tenant's own rules may expire what its assistant wrote; what this product wrote nobody else may delete.
        (Subject.RETENTION, _retention if purpose is Purpose.LIVE else _retention_of_records),
    ]
    if purpose is Purpose.LIVE:
        checks.append((Subject.VERSIONING, _versioning_on))
    if purpose is Purpose.KEYS:
        checks.append((Subject.VERSIONING, _deletion_final))
    return checks


def allowed_regions(zone: ResidencyZoneSpec, cloud: Cloud) -> tuple[str, ...]:
    """The regions of a cloud in which the zone's data may be; exact names."""
    return tuple(region for entry in zone.allowed_regions if entry.cloud == cloud for region in entry.regions)


def _location(case: _Case) -> list[str] | None:
    zone, site, facts = case
    allowed = allowed_regions(zone, site.cloud)
    faults = []
    if site.region not in allowed:
        faults.append(
            f"the site's own region {site.region} is outside the zone"
            f" (allowed of {site.cloud}: {', '.join(allowed) or 'none'}); correct the zone's sites"
        )
    if facts.location is not None and facts.location != site.region:
        inside = "inside" if facts.location in allowed else "outside"
        faults.append(
            f"it lies in {facts.location}, {inside} the zone, and the site is {site.region}"
            f" (allowed of {site.cloud}: {', '.join(allowed) or 'none'}); name a bucket in {site.region}"
        )
    if site.cloud is Cloud.AWS and site.stores.profile is Profile.CLOUD and site.stores.account_id is None:
        faults.append("nobody says whose it is; name the account that owns it in the site's stores.accountId")
    if facts.multi_region:
        faults.append(f"it spans several regions; name a bucket in the single region {site.region}")
    if faults:
        return faults
    return None if facts.location is None or facts.multi_region is None else []


def _encryption(case: _Case) -> list[str] | None:
    facts = case.facts
    if facts.encrypted is None:
        return None
    if not facts.encrypted:
        return ["it has no default encryption; enable it"]
    faults = _key_faults(case.site, facts.kms_key) if facts.kms_key else []
    if facts.kms_fault and not faults:
        faults.append(f"its KMS key {facts.kms_fault}; use a single-region key of the site's region")
    return faults


def _key_faults(site: Site, key: str) -> list[str]:
    """Faults of a KMS key's location: a GCP resource name, an AWS ARN, or an AWS id or alias (its bucket's region)."""
    if "mrk-" in key:
        return ["its KMS key is a multi-region key; use a single-region key of the site's region"]
    found = re.match(r"projects/[^/]+/locations/([^/]+)/|arn:[a-z-]+:kms:([^:]+):", key)
    region = (found[1] or found[2]) if found else None
    if region is None and site.cloud is not Cloud.GCP and not key.startswith("arn:"):
        return []
    if region != site.region:
        return [f"its KMS key lies in {region or 'an unknown place'}; use a key in {site.region}"]
    return []


def _public_access(case: _Case) -> list[str] | None:
    if case.facts.public is None:
        return None
    return ["public access is not blocked; block it"] if case.facts.public else []


def _versioning_on(case: _Case) -> list[str] | None:
    if case.facts.versioned is None:
        return None
    return [] if case.facts.versioned else ["object versioning is off; enable it"]


def _deletion_final(case: _Case) -> list[str] | None:
    if case.facts.versioned or case.facts.keeps_deleted:
        return ["it keeps what is deleted (versioning, soft delete or retention); use a bucket that never had them on"]
    return None if case.facts.keeps_deleted is None else []


def _transport(case: _Case) -> list[str] | None:
    facts, faults = case.facts, []
    if facts.accelerated:
        faults.append("its transfer acceleration takes bytes in anywhere in the world; suspend it")
    if facts.tls_only is False:
        faults.append("its policy does not deny requests without TLS (aws:SecureTransport); add the statement")
    if faults:
        return faults
    unknown = facts.tls_only is None or (case.site.stores.profile is Profile.CLOUD and facts.accelerated is None)
    return None if unknown else []


def _outflows(case: _Case) -> list[str] | None:
    zone, site, facts = case
    if facts.outflows is None:
        return None
    allowed = allowed_regions(zone, site.cloud)
    outside = [flow for flow in facts.outflows if flow.told and flow.region not in allowed]
    if outside:
        return [
            f"its {flow.kind} goes to {flow.region or 'a place that the store does not name'}, outside the zone;"
            " remove it"
            for flow in dict.fromkeys(outside)
        ]
    return [] if all(flow.told for flow in facts.outflows) else None


def _retention(case: _Case) -> list[str] | None:
    facts, faults = case.facts, []
    if facts.locked:
        faults.append("its lock is one that nobody can lift (compliance mode, locked policy); use governance mode")
    if facts.held_days is not None and facts.held_days > _HELD_DAYS:
        held = "without end" if math.isinf(facts.held_days) else f"for {facts.held_days:g} days"
        faults.append(f"it holds what is deleted {held}, and erasure must end within {_HELD_DAYS}; shorten it")
    if faults:
        return faults
    return None if facts.held_days is None or facts.locked is None else []


def _retention_of_records(case: _Case) -> list[str] | None:
    faults = _retention(case)
    if case.facts.expires:
        return [*(faults or ()), "a lifecycle rule deletes or archives its objects; remove the rule"]
    return None if case.facts.expires is None and not faults else faults


def _what(subject: Subject, facts: BucketFacts) -> str:
    """What the store left unanswered, for a person who has to grant a permission."""
    untold = [flow.kind for flow in facts.outflows or () if not flow.told] if subject is Subject.OUTFLOWS else []
    return f"{subject} ({', '.join(untold)})" if untold else str(subject)


def _unanswered(zone: ResidencyZoneSpec, site: Site, where: str, subject: Subject, what: str, today: date) -> Finding:
    if site.stores.profile is Profile.CLOUD:
        message = (
            f"{where}: the store does not say its {what}, and profile cloud needs the answer; grant the permission"
        )
        return Finding(subject, Verdict.VIOLATED, message)
    attested, state = _attested(zone, site, subject, today)
    if attested:
        return Finding(subject, Verdict.ATTESTED, f"{where}: {subject} attested in the zone")
    message = f"{where}: the store can't say its {what} and {state}; add a dated attestation to the zone"
    return Finding(subject, Verdict.UNKNOWN, message)


def _attested(zone: ResidencyZoneSpec, site: Site, subject: Subject, today: date) -> tuple[bool, str]:
    """Whether a person vouches for the subject today, and in words why not."""
    attestation = next((a for a in zone.attestations if (a.site, a.subject) == (site.name, subject)), None)
    if attestation is not None and _counts(attestation, today):
        return True, ""
    return False, "there is no attestation" if attestation is None else "the attestation is not valid today"


def _counts(attestation: Attestation, today: date) -> bool:
    return attestation.attested_on <= today < attestation.expires_on
