"""What a tenant's spec says of consent: what its guards are told and given, and what is told of it."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from domicile.api.consent import Basis
from domicile.api.guard import GuardConsents
from domicile.controllers.tenant import builders, consents, front_door, policies
from domicile.controllers.tenant.plan import plan
from domicile.controllers.tenant.rules.verdict import Verdict
from tests.unit.views import NOW, tenant_spec, view

Object = dict[str, Any]
TODAY = NOW.date()
TEXTS = {"en": "May we?"}


def basis(begins: int, ends: int) -> Object:
    """One that counts between these days from today on."""
    return {
        "statement": "Contract 17, section 4.",
        "attestedOn": (TODAY + timedelta(begins)).isoformat(),
        "expiresOn": (TODAY + timedelta(ends)).isoformat(),
    }


def judged(consent: Object | None) -> Verdict:
    seen = view(tenant_spec(**({} if consent is None else {"consent": consent})))
    return next(v for v in policies.judge(seen) if v.type == "ConsentsValid")


@pytest.mark.parametrize(
    ("purposes", "status", "reason", "says"),
    [
        ([], "True", "Valid", "accepted"),
        ([{"name": "SMS", "version": "1", "texts": TEXTS}], "True", "Valid", ""),
        ([{"name": "SMS", "basis": basis(0, 31)}], "True", "Valid", ""),
        ([{"name": "SMS", "basis": basis(0, 30)}], "True", "BasisExpiring", "From 2026-02-01 on SMS"),
        ([{"name": "SMS", "basis": basis(-9, 1)}], "True", "BasisExpiring", "2026-01-03"),
        ([{"name": "SMS", "basis": basis(-9, 0)}], "False", "BasisExpired", "ended on 2026-01-02"),
        ([{"name": "SMS", "basis": basis(1, 99)}], "False", "BasisNotBegun", "from 2026-01-03 on"),
        (
            [{"name": "Training", "basis": basis(-1, 9)}, {"name": "SMS", "basis": basis(-9, -1)}],
            "False",
            "BasisExpired",
            "SMS",
        ),
    ],
)
def test_a_basis_counts_until_it_ends_and_that_is_told_before(
    purposes: list[Object], status: str, reason: str, says: str
) -> None:
    found = judged({"purposes": purposes})
    assert (found.status, found.reason, found.blocks) == (status, reason, False)
    assert says in found.message
    for purpose in purposes:
        if "basis" in purpose and len(purposes) == 1:
            assert Basis.model_validate(purpose["basis"]).counts(TODAY) is (status == "True")


def test_nobody_is_asked_unless_the_spec_says_so() -> None:
    found = judged(None)
    assert (found.status, found.reason) == ("True", "NotAsked")
    seen = view()
    assert not [o for o in builders.build(seen) if o["metadata"]["name"] == consents.NAME]
    (guard,) = pod(seen)["initContainers"]
    assert not [e for e in guard["env"] if e["name"] in {"DOMICILE_CONSENTS", "DOMICILE_STORE"}]
    assert [m["name"] for m in guard["volumeMounts"]] == ["pods-tls"]
    assert guard["resources"]["limits"]["memory"] == "128Mi"


def pod(seen: Any) -> Object:
    made = next(o for o in builders.build(seen) if o["kind"] == "Deployment" and o["metadata"]["name"] == "helpdesk")
    spec: Object = made["spec"]["template"]["spec"]
    return spec


def test_a_guard_is_told_what_to_ask_and_where_to_keep_it() -> None:
    consent = {"notice": {"version": "3", "texts": TEXTS, "minimumAge": 16}, "purposes": [
        {"name": "Recording", "version": "2", "texts": TEXTS}, {"name": "SMS", "basis": basis(0, 99)},
    ]}  # fmt: skip
    seen = view(tenant_spec(consent=consent), live_credentials=b'{"accessKeyId": "k", "secretAccessKey": "hidden"}')
    objects = builders.build(seen)
    names = [(o["kind"], o["metadata"]["name"]) for o in objects]
    assert names.index(("ConfigMap", "consents")) < names.index(("Deployment", "helpdesk"))
    (data,) = objects[names.index(("ConfigMap", "consents"))]["data"].items()
    assert data[0] == "consents.json"
    assert "hidden" not in data[1]
    told = GuardConsents.model_validate_json(data[1])
    assert json.loads(data[1])["consent"] == {"purposes": [], "notice": {}} | consent
    assert (told.site.name, told.bucket) == ("gcp-frankfurt", "gcp-frankfurt-live-1")

    spec = pod(seen)
    (guard,) = spec["initContainers"]
    env = {e["name"]: e["value"] for e in guard["env"]}
    mounts = {m["name"]: m for m in guard["volumeMounts"]}
    volumes = {v["name"]: v for v in spec["volumes"]}
    assert env["DOMICILE_CONSENTS"] == mounts["consents"]["mountPath"] + "/consents.json"
    assert env["DOMICILE_STORE"] == mounts["consents-store"]["mountPath"]
    assert all(mount["readOnly"] for mount in mounts.values())
    assert volumes["consents"]["configMap"]["name"] == "consents"
    # By the site's name, for so the store's credentials are looked for.
    assert volumes["consents-store"]["secret"] == {
        "secretName": "store-credentials",
        "items": [{"key": "store.json", "path": "gcp-frankfurt.json"}],
        "defaultMode": 0o440,
        # Minted ones may come later than the pod.
        "optional": True,
    }
    assistant = next(c for c in spec["containers"] if c["name"] == "assistant")
    assert "consents" not in {m["name"] for m in assistant["volumeMounts"]}
    assert guard["resources"]["limits"]["memory"] == "256Mi"


def test_a_plan_shows_what_a_guard_would_be_told() -> None:
    seen = view()
    made = plan("bank", tenant_spec(consent={}), seen.zone, seen.platform, NOW)
    assert [o["metadata"]["name"] for o in made.objects if "consents.json" in o.get("data", {})] == ["consents"]


def test_with_an_identity_of_its_own_a_guard_gets_no_credentials() -> None:
    spec = pod(view(tenant_spec(consent={})))
    assert [m["name"] for m in spec["initContainers"][0]["volumeMounts"]] == ["pods-tls", "consents"]
    assert "consents-store" not in {v["name"] for v in spec["volumes"]}


def test_a_door_lets_people_to_the_pages_of_a_tenant_that_asks() -> None:
    for consent, asks in ((None, False), ({}, True)):
        changes = {} if consent is None else {"consent": consent}
        spec = tenant_spec(**changes)
        assert front_door._assistant(view(spec), spec.assistants[0]).asks is asks


def test_a_template_can_not_change_what_a_guard_is_told() -> None:
    volumes = [{"name": n, "configMap": {"name": "mine"}} for n in ("consents", "consents-store")]
    assistants = [{"name": "helpdesk", "image": "i", "podTemplate": {"spec": {"volumes": volumes}}}]
    spec = pod(view(tenant_spec(consent={}, assistants=assistants), live_credentials=b"{}"))
    made = {v["name"]: v for v in spec["volumes"]}
    assert made["consents"]["configMap"]["name"] == "consents"
    assert made["consents-store"]["secret"]["secretName"] == "store-credentials"
