"""Every rule of the tenant's policy chains has a view that trips it, and says what to do."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from domicile.api.conditions import ConditionType
from domicile.api.sites import ServedZone
from domicile.api.tenant import AssistantTenantStatus, CommitStatus
from domicile.controllers.realm.state import RealmState
from domicile.controllers.tenant import policies, status
from domicile.controllers.tenant.replication import awaits_snapshot
from domicile.controllers.tenant.rules.verdict import Verdict
from domicile.controllers.tenant.view import (
    Certificate,
    ClaimView,
    Ownership,
    Proof,
    Residency,
    Standing,
    TenantView,
    Workload,
)
from tests.unit.views import NOW, tenant_spec, view, zone_spec


def verdict(of: TenantView, kind: str) -> Verdict:
    return next(v for v in policies.judge(of) if v.type == kind)


def test_a_good_tenant_is_ready_and_nothing_blocks() -> None:
    verdicts = policies.judge(view())
    assert {v.status for v in verdicts} == {"True"}
    assert policies.blocking(verdicts) is None
    ready = policies.ready(view(), verdicts)
    assert (ready.status, ready.reason) == ("True", "Serving")
    assert policies.progress(ready) is None


def model(provider: str, name: str) -> dict[str, Any]:
    return {"spec": tenant_spec(model={"providers": [{"name": provider}], "model": name})}


RUNS = Workload(ready=2, updated=True)
CORP = {
    "name": "corp",
    "oidc": {"issuer": "https://login.example", "clientId": "c", "clientSecret": "corp-login"},
    "mfa": {"mode": "local"},
}
STAFF = {
    "name": "staff",
    "vendor": "activeDirectory",
    "url": "ldaps://dc.bank.example",
    "bindDn": "cn=reader",
    "bindSecret": "staff-bind",
    "usersDn": "ou=people",
    "groupsDn": "ou=groups",
}
GRANT = {"group": "g", "role": "manager", "assistants": ["nobody", "helpdesk", "elsewhere"]}
ISSUER = "https://sso.example/realms/bank-01234567"
IDENTITY = {"url": "https://sso.example", "mail": {"host": "smtp.example", "sender": "no-reply@example"}}
NO_IDENTITY = ServedZone(name="eu", site="gcp-frankfurt", spec=zone_spec())
WITH_IDENTITY = ServedZone(name="eu", site="gcp-frankfurt", spec=zone_spec(identity=IDENTITY))
WITHOUT_MAIL = ServedZone(name="eu", site="gcp-frankfurt", spec=zone_spec(identity={"url": "https://sso.example"}))


def sso(
    provider: dict[str, Any] | None = None,
    directories: list[dict[str, Any]] | None = None,
    *,
    local_users: bool = True,
    **changes: Any,
) -> dict[str, Any]:
    """Changes to the view of a tenant whose people log in well."""
    asked = {
        "identityProviders": [CORP | (provider or {})],
        "directories": directories or [],
        "localUsers": local_users,
    }
    access = {"host": "bank.example", "tls": {"secret": "bank-tls"}, "sso": asked}
    good = {
        "zone": WITH_IDENTITY,
        "provider_secrets": {"corp": "s", "staff": "s"},
        "realm": RealmState(ISSUER),
        "certificate": Certificate(NOW + timedelta(days=30)),
        "workloads": {name: Workload(ready=2, updated=True) for name in ("helpdesk", "gateway", "front-door")},
    }
    return {"spec": tenant_spec(access=access)} | good | changes


PEER_DOWN = "The stores of peer site aws-frankfurt don't answer (Unavailable)."


def reaching(contract: str = "Acme Ltd", host: str = "api.acme.example", **changes: Any) -> dict[str, Any]:
    """A tenant that asks for a host, in a zone that lists api.acme.example."""
    word = {"processor": "Acme Ltd", "place": "Ireland", "statement": "The contract of the 3rd of May."}
    word |= {"attestedOn": "2026-01-01", "expiresOn": "2027-01-01"} | changes
    listed = {"host": "api.acme.example", "port": 443, "contract": word}
    asked = {"host": host, "port": 443, "contract": contract}
    served = ServedZone(name="eu", site="gcp-frankfurt", spec=zone_spec(allowedDestinations=[listed]))
    return {"spec": tenant_spec(network={"additionalEgress": [asked]}), "zone": served}


NOT_ALLOWED = ("ResidencyCompliant", "False", "EgressNotAllowed", True)
CASES: list[tuple[dict[str, Any], str, str, str, bool, str]] = [
    ({"spec": tenant_spec(zone="mars")}, "ResidencyCompliant", "False", "ZoneNotFound", True, "known: eu, us"),
    ({"zone": None}, "ResidencyCompliant", "False", "ZoneNotServedHere", True, "Nothing was created"),
    (
        {"spec": tenant_spec(homeSite="gcp-iowa")},
        "ResidencyCompliant",
        "False",
        "HomeSiteUnknown",
        True,
        "gcp-frankfurt, aws-frankfurt",
    ),
    (model("nobody", "x"), "ResidencyCompliant", "False", "ModelProviderUnknown", True, "local, outside"),
    (model("outside", "big"), "ResidencyCompliant", "False", "ModelProviderOutside", True, "germanywestcentral"),
    (
        reaching(host="www.acme.example"),
        *NOT_ALLOWED,
        "www.acme.example:443 is not among the zone's allowedDestinations",
    ),
    (reaching("Globex"), *NOT_ALLOWED, "processed by Acme Ltd"),
    (reaching(expiresOn="2026-01-02"), *NOT_ALLOWED, "does not count today"),
    (reaching(attestedOn="2026-02-01"), *NOT_ALLOWED, "does not count today"),
    (reaching(), "ResidencyCompliant", "True", "Attested", False, "Acme Ltd processes data in Ireland, as attested."),
    (model("local", "big"), "ResidencyCompliant", "False", "ModelNotAllowed", True, "small"),
    (
        {"residency": Residency(Standing.VIOLATED, ("the live bucket is in US-EAST1",))},
        "ResidencyCompliant",
        "False",
        "StoreOutsideZone",
        True,
        "US-EAST1",
    ),
    (
        {"residency": Residency(Standing.UNKNOWN, ("no answer",)), "live_bucket": None},
        "ResidencyCompliant",
        "Unknown",
        "StoreNotVerified",
        True,
        "no answer",
    ),
    (
        {"residency": Residency(Standing.UNKNOWN, ("no answer",))},
        "ResidencyCompliant",
        "Unknown",
        "StoreNotVerified",
        False,
        "no answer",
    ),
    (
        {"replication_failure": ("Residency", "its replication rule goes to us-east-1")},
        "ResidencyCompliant",
        "False",
        "RunRefused",
        False,
        "kubectl domicile snapshot bank",
    ),
    (
        {"replication_failure": ("Encryption", "another KMS key")},
        "ResidencyCompliant",
        "False",
        "RunRefused",
        False,
        "another KMS key",
    ),
    ({"peer_error": PEER_DOWN}, "ResidencyCompliant", "Unknown", "PeerNotVerified", False, "aws-frankfurt"),
    ({"namespace": Ownership.FOREIGN}, "WorkloadReady", "False", "NamespaceConflict", True, "domicile.dev/tenant=bank"),
    ({"storage_error": "it fails"}, "StorageReady", "False", "StoreUnreachable", False, "it fails"),
    (
        {"tenant_id": None, "live_bucket": None, "claim": None, "key_id": None},
        "StorageReady",
        "Unknown",
        "AwaitingIdentity",
        False,
        "identity",
    ),
    ({"live_bucket": None}, "StorageReady", "Unknown", "AwaitingBucket", False, "bucket"),
    ({"claim": None}, "StorageReady", "False", "ClaimPending", False, "both control buckets"),
    ({"key_error": "no private key"}, "EncryptionReady", "False", "KeyUnavailable", False, "no private key"),
    ({"key_id": None}, "EncryptionReady", "Unknown", "AwaitingKey", False, "key"),
    ({"policies_missing": ("default-deny",)}, "NetworkIsolated", "False", "PoliciesMissing", False, "default-deny"),
    ({"policies_foreign": ("allow-all",)}, "NetworkIsolated", "False", "ForeignPolicies", False, "allow-all"),
    ({"refusal": "env is invalid"}, "WorkloadReady", "False", "Refused", False, "env is invalid"),
    (
        {
            "spec": tenant_spec(assistants=[{"name": "helpdesk", "mode": "free", "image": "i", "envSecrets": ["crm"]}]),
            "missing_secrets": ("corp-login", "crm"),
        },
        "WorkloadReady",
        "False",
        "SecretMissing",
        False,
        "in namespace bank: crm.",
    ),
    ({"nodes_in_region": 0}, "WorkloadReady", "False", "NoNodeInRegion", False, "europe-west3"),
    ({"workloads": {}}, "WorkloadReady", "False", "Progressing", False, "helpdesk"),
    ({"workloads": {"helpdesk": RUNS}}, "GatewayReady", "Unknown", "AwaitingPods", False, "gateway"),
    (
        {"workloads": {"helpdesk": RUNS, "gateway": Workload(0, True)}},
        "GatewayReady",
        "False",
        "AwaitingPods",
        False,
        "",
    ),
    (
        {"workloads": {"helpdesk": RUNS, "gateway": Workload(1, False)}},
        "GatewayReady",
        "False",
        "AwaitingPods",
        False,
        "",
    ),
    (
        {"workloads": {"helpdesk": RUNS, "gateway": Workload(0, True, ("ErrImagePull", "no image."))}},
        "GatewayReady",
        "False",
        "ErrImagePull",
        False,
        "no image",
    ),
    ({"workloads": {"helpdesk": Workload(1, True)}}, "WorkloadReady", "False", "Progressing", False, "starting"),
    (
        {"workloads": {"helpdesk": Workload(0, True, ("ErrImagePull", "its image can't be pulled."))}},
        "WorkloadReady",
        "False",
        "ErrImagePull",
        False,
        "helpdesk: its image",
    ),
    ({"lease_refusal": "no"}, "WorkloadReady", "False", "NoLease", False, "no"),
    ({"last_commit": None}, "ReplicationHealthy", "Unknown", "AwaitingFirstSnapshot", False, "hour"),
    ({"now": NOW + timedelta(hours=3)}, "ReplicationHealthy", "False", "SnapshotOverdue", False, "7200 s"),
    ({"peer_proof": Proof(fault="it lies")}, "ReplicationHealthy", "False", "PeerCannotOpen", False, "it lies"),
    (
        {"peer_proof": Proof(until=NOW - timedelta(seconds=1))},
        "ReplicationHealthy",
        "False",
        "PeerCannotOpen",
        False,
        "Site aws-frankfurt has not shown for hours",
    ),
    ({"peer_proof": Proof()}, "ReplicationHealthy", "False", "PeerCannotOpen", False, "its KMS"),
    ({"replica_error": ("Rollback", "slot")}, "ReplicationHealthy", "False", "Rollback", False, "slot"),
    ({"replication_failure": ("Denied", "no")}, "ReplicationHealthy", "False", "Denied", False, "no"),
    (
        {"replication_failure": ("Held", "most of it is gone")},
        "ReplicationHealthy",
        "False",
        "Held",
        False,
        "most of it is gone (If it was meant: kubectl domicile snapshot bank --accept-change.)",
    ),
    (
        {"volumes": ("claim data", "volume scratch (csi)")},
        "ReplicationHealthy",
        "False",
        "VolumeNotReplicated",
        False,
        "claim data, volume scratch (csi)",
    ),
    (sso(zone=NO_IDENTITY), "SSOConfigured", "False", "NoIdentityServer", False, "add spec.identity"),
    (sso(provider={"roleMappings": [GRANT]}), "SSOConfigured", "False", "AssistantUnknown", False, "elsewhere, nobody"),
    (sso(realm=None), "SSOConfigured", "Unknown", "AwaitingRealm", False, "no realm yet"),
    (
        sso(realm=RealmState("i", error=("IdentityServerUnreachable", "it is down"))),
        "SSOConfigured",
        "False",
        "IdentityServerUnreachable",
        False,
        "it is down",
    ),
    (sso(provider_secrets={}), "SSOConfigured", "False", "ProviderFailed", False, "Secret corp-login with the key"),
    (
        sso(realm=RealmState("i", faults={"corp": "it lies."})),
        "SSOConfigured",
        "False",
        "ProviderFailed",
        False,
        "corp: it lies. All others work.",
    ),
    (sso(local_users=False, provider_secrets={}), "SSOConfigured", "False", "NobodyCanLogIn", False, "no other way in"),
    (
        sso(directories=[STAFF], provider_secrets={"corp": "s"}),
        "DirectoryReachable",
        "False",
        "DirectoryUnreachable",
        False,
        "Secret staff-bind is missing",
    ),
    (sso(directories=[STAFF], realm=None), "DirectoryReachable", "Unknown", "AwaitingRealm", False, "SSOConfigured"),
    (
        sso(directories=[STAFF], realm=RealmState("i", unreachable={"staff": "no answer."})),
        "DirectoryReachable",
        "False",
        "DirectoryUnreachable",
        False,
        "staff: no answer.",
    ),
    (sso(zone=WITHOUT_MAIL), "EmailVerifiable", "False", "NoMailServer", False, "add spec.identity.mail"),
    (
        sso(realm=RealmState("i", mail=("MailLoginRefused", "It says no."))),
        "EmailVerifiable",
        "False",
        "MailLoginRefused",
        False,
        "It says no. Until then only accounts log in",
    ),
    (sso(realm=None), "EmailVerifiable", "Unknown", "AwaitingRealm", False, "SSOConfigured"),
    (sso(certificate=None), "FrontDoorReady", "False", "CertificateMissing", False, "Secret bank-tls"),
    (
        sso(certificate=Certificate(NOW, ("CertificateExpired", "tls.crt has expired"))),
        "FrontDoorReady",
        "False",
        "CertificateExpired",
        False,
        "Secret bank-tls: tls.crt has expired. Renew it",
    ),
    (
        sso(certificate=Certificate(NOW + timedelta(days=3), late=True)),
        "FrontDoorReady",
        "True",
        "CertificateExpiresSoon",
        False,
        "Secret bank-tls: tls.crt expires soon",
    ),
    (
        sso(workloads={"helpdesk": Workload(ready=2, updated=True)}),
        "FrontDoorReady",
        "Unknown",
        "AwaitingPods",
        False,
        "not started yet",
    ),
    (
        sso(workloads={"front-door": Workload(ready=0, updated=True)}),
        "FrontDoorReady",
        "False",
        "AwaitingPods",
        False,
        "not ready yet",
    ),
    (
        sso(workloads={"front-door": Workload(0, updated=True, trouble=("ErrImagePull", "no image."))}),
        "FrontDoorReady",
        "False",
        "ErrImagePull",
        False,
        "The front door: no image.",
    ),
    ({"restoring": "bank-1"}, "WorkloadReady", "False", "Restoring", False, "Restore bank-1"),
]


@pytest.mark.parametrize(("changes", "kind", "state", "reason", "blocks", "says"), CASES, ids=[c[3] for c in CASES])
def test_each_fault_is_named(
    changes: dict[str, Any], kind: str, state: str, reason: str, blocks: bool, says: str
) -> None:
    found = verdict(view(**changes), kind)
    assert (found.status, found.reason, found.blocks) == (state, reason, blocks)
    assert says in found.message


def test_every_condition_has_a_verdict_whatever_is_wrong() -> None:
    for changes, *_ in CASES:
        verdicts = policies.judge(view(**changes))
        kinds = [v.type for v in verdicts]
        assert len(kinds) == len(set(kinds)) == 14


@pytest.mark.parametrize(
    "changes",
    [
        {"peer_proof": Proof(), "created": NOW - timedelta(hours=2)},
        {"peer_proof": None, "peer_error": PEER_DOWN},
        {"peer_proof": Proof(), "claim": ClaimView(2, "aws-frankfurt", stands=True, opened=True, everywhere=True)},
    ],
)
def test_a_missing_proof_is_no_fault_at_first_nor_in_an_outage_nor_at_the_standby(changes: dict[str, Any]) -> None:
    assert verdict(view(**changes), "ReplicationHealthy").status == "True"


def test_addresses_are_verifiable_or_no_matter_and_no_mail_server_keeps_nobody_from_being_served() -> None:
    assert verdict(view(**sso()), "EmailVerifiable").reason == "Verifiable"
    for changes in (sso(local_users=False, zone=WITHOUT_MAIL), {}):
        assert verdict(view(**changes), "EmailVerifiable").reason == "NotAskedFor"
    silent = view(**sso(zone=WITHOUT_MAIL))
    assert policies.ready(silent, policies.judge(silent)).status == "True"


def test_people_can_log_in_and_are_told_where() -> None:
    found = verdict(view(**sso()), "SSOConfigured")
    assert (found.status, found.reason) == ("True", "Configured")
    assert f"{ISSUER}/broker/<name>/endpoint" in found.message
    door = verdict(view(**sso()), "FrontDoorReady")
    assert (door.status, door.reason, door.message) == ("True", "Serving", "People open https://bank.example.")


def test_a_door_that_starts_needs_time_and_nobody() -> None:
    starting = view(**sso(workloads={"helpdesk": Workload(2, updated=True), "front-door": Workload(0, updated=True)}))
    found = policies.progress(policies.ready(starting, policies.judge(starting)))
    assert found is not None
    assert (found.type, found.reason) == (ConditionType.RECONCILING, "AwaitingPods")


def test_a_standbys_front_door_needs_its_certificate_and_no_pods() -> None:
    away = ClaimView(2, "aws-frankfurt", stands=True, opened=True, everywhere=True)
    rests = verdict(view(**sso(claim=away, workloads={})), "FrontDoorReady")
    assert (rests.status, rests.reason) == ("True", "Standby")
    assert verdict(view(**sso(claim=away, certificate=None)), "FrontDoorReady").reason == "CertificateMissing"


def test_a_tenant_is_served_though_one_of_its_identity_providers_fails_and_not_without_a_realm() -> None:
    one = view(**sso(realm=RealmState(ISSUER, faults={"corp": "it lies."})))
    assert policies.ready(one, policies.judge(one)).status == "True"
    shut = view(**sso(local_users=False, realm=RealmState(ISSUER, faults={"corp": "it lies."})))
    assert policies.ready(shut, policies.judge(shut)).reason == "NobodyCanLogIn"
    none = view(**sso(realm=RealmState(ISSUER, error=("IdentityServerUnreachable", "it is down"))))
    top = policies.ready(none, policies.judge(none))
    assert (top.status, top.reason) == ("False", "IdentityServerUnreachable")
    waiting = policies.progress(top)
    assert waiting is not None
    assert waiting.type == ConditionType.RECONCILING


def test_a_standby_is_ready_and_says_so() -> None:
    other = view(claim=ClaimView(2, "aws-frankfurt", stands=True, opened=True, everywhere=True), workloads={})
    ready = policies.ready(other, policies.judge(other))
    assert (ready.status, ready.reason) == ("True", "Standby")
    assert "aws-frankfurt" in ready.message


def test_the_survivor_of_an_outage_is_ready_though_the_peer_cannot_be_verified() -> None:
    alone = view(peer_error=PEER_DOWN, now=NOW + timedelta(days=1))
    verdicts = policies.judge(alone)
    assert policies.ready(alone, verdicts).status == "True"
    assert verdict(alone, "ReplicationHealthy").status == "False"
    assert verdict(alone, "ResidencyCompliant").status == "Unknown"


def test_a_store_that_proves_nothing_is_not_ready_though_its_tenant_goes_on() -> None:
    expired = view(residency=Residency(Standing.UNKNOWN, ("the attestation is not valid today",)))
    verdicts = policies.judge(expired)
    assert policies.blocking(verdicts) is None
    assert policies.ready(expired, verdicts).status == "False"


def test_a_claim_without_its_opening_mark_runs_nothing() -> None:
    assert view(claim=ClaimView(2, "gcp-frankfurt", stands=True, opened=False, everywhere=True)).role == "Standby"
    assert view(claim=ClaimView(1, "gcp-frankfurt", stands=False, opened=True, everywhere=False)).role == "Standby"


def test_status_is_a_fixed_point() -> None:
    first = status.build(view(), policies.judge(view()), {})
    later = replace(view(), status=first, now=NOW + timedelta(seconds=30))
    assert status.build(later, policies.judge(later), {}) == first


def test_blocked_is_stalled_and_starting_is_reconciling() -> None:
    for changes, expected in (({"zone": None}, ConditionType.STALLED), ({"workloads": {}}, ConditionType.RECONCILING)):
        seen = view(**changes)
        found = policies.progress(policies.ready(seen, policies.judge(seen)))
        assert found is not None
        assert found.type is expected


def test_a_tenant_is_not_served_while_it_is_restored_and_remembers_by_what() -> None:
    held = view(restoring="bank-1", missing_secrets=("crm",), workloads={})
    verdicts = policies.judge(held)
    assert policies.ready(held, verdicts).reason == "Restoring"
    found = policies.progress(policies.ready(held, verdicts))
    assert found is not None
    assert found.type is ConditionType.RECONCILING
    known = status.build(held, verdicts, {})
    assert known.restore == "bank-1"
    assert status.build(view(status=known), policies.judge(view()), {}).restore is None


def test_a_request_to_reconcile_is_acknowledged() -> None:
    asked = {"reconcile.domicile.dev/requested-at": "2026-01-02T03:04:05Z"}
    assert status.build(view(), policies.judge(view()), asked).last_handled_reconcile_at == "2026-01-02T03:04:05Z"


@pytest.mark.parametrize(
    ("asked", "changes", "waits"),
    [
        (None, {}, False),
        ("no time", {}, False),
        ("2026-01-02T03:04:00", {}, False),
        ("2026-01-02T03:04:00+00:00", {}, True),
        ("2026-01-02T02:30:00+00:00", {}, False),
        ("2026-01-02T03:04:00+00:00", {"last_commit": None}, True),
        ("2026-01-02T03:04:00+00:00", {"replication_failure": ("Denied", "no")}, False),
        (
            "2026-01-02T03:04:00+00:00",
            {"last_commit": CommitStatus(seq=5, epoch=1, cut_time=NOW, target="aws-frankfurt")},
            False,
        ),
    ],
)
def test_a_requested_snapshot_is_looked_for_until_it_comes(
    asked: str | None, changes: dict[str, Any], waits: bool
) -> None:
    known = AssistantTenantStatus(last_handled_replicate_at=asked)
    assert awaits_snapshot(view(status=known, **changes)) is waits
