"""Views for tests of pure code: a served EU zone of two compatible sites and a tenant that runs well."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from domicile.api.sites import ServedZone
from domicile.api.tenant import AssistantTenantSpec, AssistantTenantStatus, CommitStatus
from domicile.api.zone import ResidencyZoneSpec
from domicile.controllers.tenant import reach
from domicile.controllers.tenant.view import (
    ClaimView,
    Ownership,
    Platform,
    Proof,
    Residency,
    Run,
    Standing,
    TenantView,
    Workload,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
TENANT_ID = "0123456789abcdef0123456789abcdef"
CONTRACT = {
    "processor": "Models Ltd",
    "regions": ["germanywestcentral"],
    "dataProcessing": True,
    "noTraining": True,
    "retentionDays": 30,
    "statement": "Contract 17, looked at in the yearly review.",
    "attestedOn": "2026-01-01",
    "expiresOn": "2027-01-01",
}
OUTSIDE: dict[str, Any] = {
    "name": "outside",
    "baseUrl": "https://models.example/v1",
    "models": ["big"],
    "contract": CONTRACT,
}
"""A provider that may process where no zone of the tests lets it, unless its modelRegions say so."""


def site(name: str, cloud: str, region: str, address: str) -> dict[str, Any]:
    """One compatible site."""
    return {
        "name": name,
        "cloud": cloud,
        "region": region,
        "stores": {
            "profile": "compatible",
            "endpoint": f"http://{address}:9000",
            "replica": f"{name}-replica",
            "keys": f"{name}-keys",
            "control": f"{name}-control",
            "live": {"pool": [f"{name}-live-1", f"{name}-live-2"]},
        },
        "key": {"name": name},
    }


def zone_spec(**changes: Any) -> ResidencyZoneSpec:
    """The EU zone."""
    wire: dict[str, Any] = {
        "jurisdiction": "EU",
        "allowedRegions": [
            {"cloud": "gcp", "regions": ["europe-west3"]},
            {"cloud": "aws", "regions": ["eu-central-1"]},
        ],
        "sites": [
            site("gcp-frankfurt", "gcp", "europe-west3", "192.0.2.1"),
            site("aws-frankfurt", "aws", "eu-central-1", "192.0.2.2"),
        ],
        "modelProviders": [
            {
                "name": "local",
                "service": {"namespace": "models", "name": "provider", "port": 8080, "podLabels": {"app": "model"}},
                "models": ["small"],
            },
            OUTSIDE,
        ],
    }
    return ResidencyZoneSpec.model_validate(wire | changes)


def tenant_spec(**changes: Any) -> AssistantTenantSpec:
    """A bank with one assistant."""
    wire: dict[str, Any] = {
        "zone": "eu",
        "assistants": [{"name": "helpdesk", "mode": "free", "image": "registry.example/helpdesk:1"}],
        "model": {"providers": [{"name": "local"}], "model": "small"},
        "access": {"clients": [{"namespace": "clients"}]},
    }
    return AssistantTenantSpec.model_validate(wire | changes)


def view(spec: AssistantTenantSpec | None = None, **changes: Any) -> TenantView:
    """A tenant that is served here and replicated in time; ``changes`` spoil it."""
    served = ServedZone(name="eu", site="gcp-frankfurt", spec=zone_spec())
    good = TenantView(
        name="bank",
        generation=3,
        spec=spec or tenant_spec(),
        status=AssistantTenantStatus(),
        platform=Platform(
            "domicile-system",
            "domicile.dev/domicile:0.1.0",
            "Always",
            ("gcp-frankfurt",),
            "domicile.dev/frontdoor:0.1.0",
            "domicile.dev/gateway:0.1.0",
        ),
        now=NOW,
        created=NOW - timedelta(days=30),
        known_zones=("eu", "us"),
        zone=served,
        zone_sites=("gcp-frankfurt", "aws-frankfurt"),
        namespace=Ownership.OURS,
        nodes_in_region=2,
        residency=Residency(Standing.COMPLIANT),
        tenant_id=TENANT_ID,
        claim=ClaimView(1, "gcp-frankfurt", stands=True, opened=True, everywhere=True),
        live_bucket="gcp-frankfurt-live-1",
        key_id="k1",
        workloads={"helpdesk": Workload(ready=2, updated=True), "gateway": Workload(ready=2, updated=True)},
        vault_key=b"k" * 32,
        vault_password="vault-password-0123456789",
        peer_proof=Proof(until=NOW + timedelta(days=1)),
        last_commit=CommitStatus(seq=4, epoch=1, cut_time=NOW - timedelta(minutes=30), target="aws-frankfurt"),
    )
    made = replace(good, **changes)
    return made if "runs" in changes else replace(made, runs=verified(made))


def verified(of: TenantView) -> dict[str, Run]:
    """Checks that found everything as it should be, a moment ago."""
    return {check.job: Run(of.now, check.allowed) for check in reach.checks(of)}
