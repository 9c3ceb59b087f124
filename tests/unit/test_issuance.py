"""What is asked of cert-manager, by whom, and what a tenant is told of its answers."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from domicile.api.common import LABEL_TENANT_ID
from domicile.controllers.tenant import builders, issuance, policies
from domicile.controllers.tenant.view import Certificate, ClaimView, Issuance, TenantView, Workload
from tests.unit.test_front_door import named, with_door
from tests.unit.views import NOW, TENANT_ID

Object = dict[str, Any]
STANDBY = ClaimView(2, "aws-frankfurt", stands=True, opened=True, everywhere=True)
INSTALLED = Issuance(installed=True, asked=True)


def asked(*, issuance: Issuance | None = INSTALLED, **changes: Any) -> TenantView:
    access = {"tls": {"issuer": {"name": "letsencrypt"}}, "host": "bank.example:8443"}
    return with_door(access, issuance=issuance, **changes)


def condition(seen: TenantView) -> tuple[str, str, str]:
    [verdict] = [v for v in policies.judge(seen) if v.type == "FrontDoorReady"]
    return verdict.status, verdict.reason, verdict.message


def test_the_site_that_serves_asks_for_a_certificate_of_the_host() -> None:
    spec = named(builders.build(asked()), "Certificate")["spec"]
    assert spec["dnsNames"] == ["bank.example"]
    assert spec["issuerRef"] == {"name": "letsencrypt", "kind": "ClusterIssuer", "group": "cert-manager.io"}
    assert spec["secretName"] == "front-door-tls"
    assert spec["privateKey"] == {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Always"}
    # A later tenant of the name must not take it for its own.
    assert spec["secretTemplate"] == {"labels": {LABEL_TENANT_ID: TENANT_ID}}
    volumes = named(builders.build(asked()), "Deployment")["spec"]["template"]["spec"]["volumes"]
    assert [v["secret"]["secretName"] for v in volumes if v["name"] == "tls"] == ["front-door-tls"]


@pytest.mark.parametrize(
    "seen",
    [
        with_door(issuance=INSTALLED),
        asked(claim=STANDBY),
        asked(issuance=Issuance(installed=False)),
        asked(tenant_id=None),
    ],
    ids=["a Secret is named", "standby", "no cert-manager", "no identity yet"],
)
def test_nobody_else_does(seen: TenantView) -> None:
    assert "Certificate" not in {o["kind"] for o in builders.build(seen)}


def test_what_the_standby_keeps_is_taken_over_by_its_cert_manager_without_a_new_order() -> None:
    pair = {"tls.crt": "Yw==", "tls.key": "aw=="}
    mirrored = {"front-door-tls": pair, "other": {"k": "dg=="}}
    objects = builders.build(
        asked(claim=STANDBY, missing_secrets=("front-door-tls", "other"), mirrored_secrets=mirrored)
    )
    copy, other = named(objects, "Secret", "front-door-tls"), named(objects, "Secret", "other")
    assert copy["type"] == "kubernetes.io/tls"
    assert copy["metadata"]["labels"][LABEL_TENANT_ID] == TENANT_ID
    assert copy["metadata"]["annotations"] == {
        "cert-manager.io/issuer-name": "letsencrypt",
        "cert-manager.io/issuer-kind": "ClusterIssuer",
        "cert-manager.io/issuer-group": "cert-manager.io",
        "cert-manager.io/certificate-name": "front-door",
    }
    assert other["type"] == "Opaque"
    assert "annotations" not in other["metadata"]


def test_an_issued_secret_goes_to_the_peer() -> None:
    assert "front-door-tls" in asked().spec.named_secrets


GOOD = Certificate(NOW + timedelta(days=60))
LATE = Certificate(NOW + timedelta(days=5), late=True)
SERVING = {"helpdesk": Workload(2, updated=True), "front-door": Workload(2, updated=True)}
REFUSED = replace(INSTALLED, words="Failed: order is in an invalid state")


@pytest.mark.parametrize(
    ("seen", "status", "reason", "words"),
    [
        (asked(certificate=None), "False", "CertificateNotIssued", "look whether it runs"),
        (asked(certificate=None, issuance=REFUSED), "False", "CertificateNotIssued", "order is in an invalid state"),
        (asked(certificate=None, issuance=Issuance(installed=False)), "False", "CertManagerMissing", "letsencrypt"),
        (asked(certificate=None, claim=STANDBY), "False", "CertificateAwaited", "has not handed on"),
        (
            asked(certificate=LATE, issuance=REFUSED, workloads=SERVING),
            "True",
            "CertificateExpiresSoon",
            "Failed: order",
        ),
        (asked(certificate=GOOD, issuance=REFUSED, workloads=SERVING), "True", "Serving", ""),
        (
            asked(certificate=Certificate(NOW, ("CertificateExpired", "tls.crt has expired")), issuance=REFUSED),
            "False",
            "CertificateExpired",
            "should have renewed it: look at Certificate front-door. Failed: order",
        ),
        (
            asked(certificate=replace(GOOD, fault=("CertificateBroken", "x")), issuance=Issuance(installed=False)),
            "False",
            "CertificateBroken",
            "cert-manager is gone",
        ),
    ],
)
def test_the_condition_says_what_keeps_the_certificate_away(
    seen: TenantView, status: str, reason: str, words: str
) -> None:
    told = condition(seen)
    assert told[:2] == (status, reason)
    assert words in told[2]


def test_long_words_fit_into_a_condition() -> None:
    told = condition(asked(certificate=None, issuance=replace(INSTALLED, words="x" * 5000)))
    assert len(told[2]) == 1024


def certificate(*conditions: tuple[str, str, str], labels: Object | None = None) -> Object:
    shown = [{"type": t, "status": s, "reason": r, "message": f"{r} it is"} for t, s, r in conditions]
    return {"metadata": {"labels": labels or {}}, "status": {"conditions": shown}}


@pytest.mark.parametrize(
    ("conditions", "words"),
    [
        ((), ""),
        ((("Ready", "True", "Ready"),), ""),
        ((("Ready", "False", "DoesNotExist"), ("Issuing", "True", "DoesNotExist")), "DoesNotExist: DoesNotExist it is"),
        ((("Ready", "False", "DoesNotExist"), ("Issuing", "False", "Failed")), "Failed: Failed it is"),
        # The one before still counts, and the next was refused.
        ((("Ready", "True", "Ready"), ("Issuing", "False", "Failed")), "Failed: Failed it is"),
        ((("Ready", "False", "Expired"), ("Issuing", "False", "Issued")), "Expired: Expired it is"),
    ],
)
def test_the_reason_of_a_refusal_comes_before_the_lack_of_a_certificate(
    conditions: tuple[tuple[str, str, str], ...], words: str
) -> None:
    assert issuance.look_at(certificate(*conditions), installed=True).words == words


def test_a_certificate_that_a_person_made_is_not_ours() -> None:
    assert not issuance.look_at(None, installed=True).asked
    assert not issuance.look_at(certificate(), installed=True).asked
    made = named(builders.build(asked()), "Certificate")
    assert issuance.look_at(made, installed=True).asked
