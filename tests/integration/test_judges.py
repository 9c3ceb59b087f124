"""kubeconform and kube-score on what the operator applies for a tenant."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from domicile.controllers.tenant import builders
from domicile.controllers.tenant.view import ClaimView, TenantView
from tests import judges
from tests.unit.test_front_door import with_door
from tests.unit.views import tenant_spec, view

ASSISTANTS = [
    {"name": "helpdesk", "image": "registry.example/helpdesk:1", "envSecrets": ["crm"]},
    {
        "name": "intranet",
        "image": "registry.example/intranet:2",
        "replicas": 3,
        "podTemplate": {"spec": {"nodeSelector": {"disk": "ssd"}}},
    },
]
TENANTS: dict[str, TenantView] = {
    "active": view(),
    "active, with credentials, a mirrored Secret and two assistants": view(
        tenant_spec(assistants=ASSISTANTS),
        live_credentials=b"{}",
        missing_secrets=("crm",),
        mirrored_secrets={"crm": {"TOKEN": "dg=="}},
    ),
    "standby": view(claim=ClaimView(2, "aws-frankfurt", stands=True, opened=True, everywhere=True)),
    "closed to all clients": view(tenant_spec(access={})),
    "with a front door": with_door({"edge": {"clientCa": "cdn-ca"}}),
}


def manifests(seen: TenantView) -> str:
    return yaml.safe_dump_all(builders.build(seen))


@pytest.fixture(scope="module")
def schemas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("schemas")
    judges.write_schemas(folder, {o["kind"] for seen in TENANTS.values() for o in builders.build(seen)})
    return folder


@pytest.mark.parametrize("seen", TENANTS.values(), ids=TENANTS)
def test_judges_have_nothing_critical_to_say_of_a_tenants_objects(schemas: Path, seen: TenantView) -> None:
    assert judges.kubeconform(schemas, manifests(seen)) == []
    assert judges.kube_score(manifests(seen)) == []


def test_judges_object_to_a_loosened_tenant(schemas: Path) -> None:
    objects = builders.build(replace(TENANTS["active"]))
    pod: dict[str, Any] = next(o for o in objects if o["kind"] == "Deployment")["spec"]["template"]["spec"]
    pod["containers"][0]["securityContext"] = {"privileged": True}
    pod["containers"][0]["readynessProbe"] = {}
    text = yaml.safe_dump_all(objects)
    assert [f["name"] for f in judges.kubeconform(schemas, text)] == ["helpdesk"]
    assert any("privileged" in finding for finding in judges.kube_score(text))
