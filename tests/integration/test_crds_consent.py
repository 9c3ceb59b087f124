"""Notice and consents on a real API server: which specs are accepted, and with which words others are refused."""

from __future__ import annotations

from typing import Any

import pytest

from domicile.api.tenant import AssistantTenantSpec
from tests.integration.apiserver import ApiServer
from tests.integration.test_crds import Object, refusal, tenant

TEXTS = {"de": "Regeln", "en": "Rules"}
BASIS = {"statement": "Contract 17, section 4.", "attestedOn": "2026-01-01", "expiresOn": "2099-01-01"}
ASKED: Object = {"name": "Recording", "version": "2", "texts": TEXTS}
BASED: Object = {"name": "CallBack", "basis": BASIS}
WHOLE: Object = {"notice": {"version": "3", "texts": TEXTS, "minimumAge": 16}, "purposes": [ASKED, BASED]}


def asking(consent: Any) -> Object:
    obj = tenant()
    obj["spec"]["consent"] = consent
    return obj


def test_consents_are_accepted_also_with_every_default_written_out(apiserver: ApiServer) -> None:
    # So the peer gets it: what a rule takes for absent may be there and empty.
    for consent in ({}, {"notice": {"minimumAge": 18}}, WHOLE):
        plain, told = asking(consent), asking(consent)
        told["spec"] = AssistantTenantSpec.model_validate(told["spec"]).to_wire()
        for obj in (plain, told):
            apiserver.kubectl("create", "--validate=strict", "-f", "-", stdin=obj)
            shown = apiserver.get("assistanttenant", obj["metadata"]["name"])["spec"]["consent"]
            assert AssistantTenantSpec.model_validate(obj["spec"] | {"consent": shown}).consent is not None


@pytest.mark.parametrize(
    ("consent", "told"),
    [
        ({"notice": {"version": "1"}}, "version and texts come together"),
        ({"notice": {"texts": TEXTS}}, "version and texts come together"),
        ({"notice": {"version": "1", "texts": {}}}, "give a text in de, en or both"),
        ({"notice": {"version": "1", "texts": {"de": ""}}}, "at least 1"),
        ({"notice": {"version": "1", "texts": {"fr": "x"}}}, "unknown field"),
        ({"notice": {"version": "1", "texts": {"de": "x" * 8193}}}, "Too long"),
        ({"notice": {"version": "a b", "texts": TEXTS}}, "should match"),
        ({"notice": {"version": "2, SMS=1", "texts": TEXTS}}, "should match"),
        ({"notice": {"version": "external", "texts": TEXTS}}, "choose another"),
        ({"notice": {"minimumAge": 5}}, "greater than or equal to 6"),
        ({"notice": {"minimumAge": 100}}, "less than or equal to 99"),
        ({"purposes": [ASKED | {"name": "Selling"}]}, "Unsupported value"),
        ({"purposes": [ASKED, ASKED]}, "Duplicate value"),
        ({"purposes": [ASKED | {"basis": BASIS}]}, "not both"),
        ({"purposes": [{"name": "SMS"}]}, "ask people by texts, or name a basis"),
        ({"purposes": [{"name": "SMS", "texts": TEXTS}]}, "version and texts come together"),
        ({"purposes": [{"name": "SMS", "version": "1", "basis": BASIS}]}, "version and texts come together"),
        ({"purposes": [{"name": "SMS", "version": "external", "texts": TEXTS}]}, "choose another"),
        ({"purposes": [BASED | {"basis": BASIS | {"expiresOn": "2026-01-01"}}]}, "expiresOn must be after attestedOn"),
        ({"purposes": [BASED | {"basis": BASIS | {"expiresOn": "soon"}}]}, "date"),
        ({"purposes": [BASED | {"basis": BASIS | {"statement": "yes"}}]}, "at least 10"),
    ],
)
def test_what_nobody_could_agree_to_is_refused(apiserver: ApiServer, consent: Object, told: str) -> None:
    assert told in refusal(apiserver, "create", asking(consent))


@pytest.mark.parametrize(
    ("change", "fine"),
    [
        ({"notice": WHOLE["notice"] | {"texts": {"de": "Regeln", "en": "Others"}}}, False),
        ({"notice": WHOLE["notice"] | {"texts": {"de": "Regeln"}}}, False),
        ({"notice": WHOLE["notice"] | {"version": "4", "texts": {"en": "Others"}}}, True),
        ({"notice": WHOLE["notice"] | {"minimumAge": 18}}, True),
        ({"notice": {}}, True),
        ({"purposes": [ASKED | {"texts": {"en": "More?"}}]}, False),
        ({"purposes": [ASKED | {"version": "3", "texts": {"en": "More?"}}]}, True),
        ({"purposes": [{"name": "Recording", "basis": BASIS}]}, True),
        ({"purposes": []}, True),
    ],
)
def test_another_text_needs_another_version(apiserver: ApiServer, change: Object, fine: bool) -> None:
    obj = asking(WHOLE)
    apiserver.kubectl("create", "-f", "-", stdin=obj)
    changed = obj | {"spec": obj["spec"] | {"consent": WHOLE | change}}
    done = apiserver.kubectl("replace", "-f", "-", stdin=changed, check=False)
    assert (done.returncode == 0) is fine, done.stderr
    if not fine:
        assert "give the changed text a new version" in done.stderr
