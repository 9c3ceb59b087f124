"""A tenant's gateway: whom it may ask, why not others, and the objects that it is made of."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from domicile.api.gateway import GatewayConfig
from domicile.api.providers import Contract, ModelProvider
from domicile.api.sites import ServedZone
from domicile.api.tenant import Role
from domicile.controllers.egress.accounts import Destination
from domicile.controllers.pki.authority import bundle
from domicile.controllers.tenant import builders, gateway, model_keys, policies, pool
from domicile.controllers.tenant.flows import flows
from domicile.controllers.tenant.view import ClaimView, TenantView
from domicile.gateway.privacy.analyzer import Analyzer
from tests.pods import authority
from tests.unit.views import CONTRACT, NOW, OUTSIDE, tenant_spec, view, zone_spec

Object = dict[str, Any]
LOCAL = {
    "name": "local",
    "service": {"namespace": "models", "name": "m", "port": 80, "targetPort": 8000, "podLabels": {"app": "m"}},
    "models": ["big"],
}
KEY = "sk-0123456789abcdef"


def pooled(
    *providers: Object, needs: tuple[str, ...] = (), weights: dict[str, int] | None = None, **changes: Any
) -> TenantView:
    """A tenant that may ask ``providers`` for the model big."""
    zone = zone_spec(modelProviders=list(providers), modelRegions=["germanywestcentral"])
    shares = [{"name": p["name"], "weight": (weights or {}).get(p["name"], 1)} for p in providers]
    model = {"model": "big", "providers": shares, **changes.pop("model", {})}
    spec = tenant_spec(model=model, compliance=list(needs), privacy=changes.pop("privacy", {}))
    return view(spec, zone=ServedZone(name="eu", site="gcp-frankfurt", spec=zone), **changes)


def outside(**contract: Any) -> Object:
    return OUTSIDE | {"contract": CONTRACT | contract}


def approved(seen: TenantView) -> tuple[str, str, str]:
    [found] = [v for v in policies.judge(seen) if v.type == "ModelApproved"]
    return found.status, found.reason, found.message


def named(objects: list[Object], kind: str, name: str = gateway.NAME) -> Object:
    [found] = [o for o in objects if (o["kind"], o["metadata"]["name"]) == (kind, name)]
    return found


def told(seen: TenantView) -> GatewayConfig:
    """What the gateway reads."""
    return GatewayConfig.model_validate_json(named(builders.build(seen), "ConfigMap")["data"]["gateway.json"])


DAY = {"name": "day", "type": "choice", "values": ["Monday", "Tuesday"]}
WHEN = {"name": "when", "phrases": ["When is my appointment on {day}?"], "slots": [DAY]}


def structured(*intents: Object) -> TenantView:
    """A tenant whose assistant may be asked that only; structured is the default."""
    return view(tenant_spec(assistants=[{"name": "helpdesk", "image": "i", "intents": list(intents)}]))


def test_an_assistant_may_be_asked_its_intents_only_and_knows_it() -> None:
    seen = structured(WHEN)
    [caller] = told(seen).callers
    assert (caller.mode, [intent.name for intent in caller.intents]) == ("structured", ["when"])
    pod = named(builders.build(seen), "Deployment", "helpdesk")["spec"]["template"]["spec"]
    assert {"name": "ASSISTANT_MODE", "value": "structured"} in pod["containers"][0]["env"]
    assert approved(seen)[:2] == ("True", "Approved")


@pytest.mark.parametrize(
    ("asked", "told"),
    [({}, ("false", "false")), ({"storeAnonymised": True, "knowledgeAnonymised": True}, ("true",) * 2)],
)
def test_assistants_are_told_what_to_anonymise_themselves(asked: Object, told: tuple[str, str]) -> None:
    pod = named(builders.build(pooled(LOCAL, privacy=asked)), "Deployment", "helpdesk")["spec"]["template"]["spec"]
    env = {each["name"]: each["value"] for each in pod["containers"][0]["env"]}
    assert (env["ASSISTANT_STORE_ANONYMISED"], env["ASSISTANT_KNOWLEDGE_ANONYMISED"]) == told


def test_a_service_that_the_zone_allows_is_told_with_its_last_day() -> None:
    word = {"processor": "Acme Ltd", "place": "Ireland", "statement": "The contract of the 3rd of May."}
    listed = {"host": "api.acme.example", "port": 443}
    dated = {**listed, "contract": word | {"attestedOn": "2026-01-01", "expiresOn": "2027-01-01"}}
    asked = {"additionalEgress": [{**listed, "contract": "Acme Ltd"}]}
    served = ServedZone(name="eu", site="gcp-frankfurt", spec=zone_spec(allowedDestinations=[dated]))
    seen = view(tenant_spec(network=asked), zone=served)
    assert [service.to_wire() for service in told(seen).services] == [{"host": listed["host"], "until": "2027-01-01"}]
    assert told(seen).egress is not None
    assert told(replace(seen, now=NOW.replace(year=2027, month=1, day=1))).services == []


def served_with_key(**changes: Any) -> TenantView:
    """The same, with a service that wants a key."""
    word = {"processor": "Acme Ltd", "place": "Ireland", "statement": "The contract of the 3rd of May."}
    word |= {"attestedOn": "2026-01-01", "expiresOn": "2027-01-01"}
    listed = {"host": "api.acme.example", "port": 443}
    keyed = {**listed, "contract": word, "key": {"name": "acme", "header": "X-Api-Key"}}
    asked = {"additionalEgress": [{**listed, "contract": "Acme Ltd"}]}
    served = ServedZone(name="eu", site="gcp-frankfurt", spec=zone_spec(allowedDestinations=[keyed]))
    return view(tenant_spec(network=asked), zone=served, **changes)


def test_a_services_key_is_the_gateways_alone() -> None:
    seen = served_with_key(service_keys={"api.acme.example": KEY})
    [service] = told(seen).services
    assert (service.host, service.header) == ("api.acme.example", "X-Api-Key")
    objects = builders.build(seen)
    [secret] = [o for o in objects if o["kind"] == "Secret" and o["metadata"]["name"] == "gateway"]
    assert base64.b64decode(secret["data"]["api.acme.example.service"]).decode() == KEY
    pod = named(objects, "Deployment")["spec"]["template"]["spec"]
    [volume] = [v for v in pod["volumes"] if v["name"] == "providers"]
    assert "api.acme.example.service" in mounted(volume)["gateway"]
    assert KEY not in repr([o for o in objects if o["kind"] != "Secret"])
    assert approved(seen)[0] == "True"


def test_without_its_key_a_service_is_not_asked_and_a_person_is_told() -> None:
    seen = served_with_key(service_keys={"api.acme.example": None})
    assert told(seen).services == []
    status, reason, message = approved(seen)
    assert (status, reason) == ("False", "ServiceKeyMissing")
    assert "acme.key" in message
    assert "api.acme.example" in message


def test_keys_of_services_are_read_as_they_are(tmp_path: Path) -> None:
    zone = served_with_key().zone
    assert zone
    listed = zone.spec.allowed_destinations
    assert model_keys.of_services(tmp_path, listed) == {"api.acme.example": None}
    for content, found in (("Bearer abc\n", "Bearer abc"), ("", None), ("a\nX-Evil: b", None)):
        (tmp_path / "acme.key").write_text(content)
        assert model_keys.of_services(tmp_path, listed) == {"api.acme.example": found}


VERTEX = {"name": "vertex", "type": "gemini", "key": "vertex", "tokenUrl": "https://sts.example/v1/token"}
POOL = "//iam.googleapis.com/projects/123/locations/global/workloadIdentityPools/site/providers/cluster"


def test_a_key_that_gets_tokens_is_one_of_googles_and_the_clusters_word_is_mounted_for_it() -> None:
    vertex = outside() | VERTEX
    federated = json.dumps({"type": "external_account", "audience": POOL})
    seen = pooled(vertex, model_keys={"vertex": federated})
    assert approved(seen)[:2] == ("True", "Approved")
    assert told(seen).endpoints[0].token_url == VERTEX["tokenUrl"]
    assert Destination("sts.example") in pool.reached(seen)
    pod = named(builders.build(seen), "Deployment")["spec"]["template"]["spec"]
    [sources] = [v["projected"]["sources"] for v in pod["volumes"] if v["name"] == "providers"]
    assert {
        "serviceAccountToken": {"path": "vertex.subject", "audience": f"https:{POOL}", "expirationSeconds": 3600}
    } in sources
    account = json.dumps({"type": "service_account", "client_email": "a", "private_key": "b"})
    pod = named(builders.build(pooled(vertex, model_keys={"vertex": account})), "Deployment")["spec"]["template"][
        "spec"
    ]
    assert "serviceAccountToken" not in json.dumps(pod)
    status, reason, message = approved(pooled(vertex, LOCAL, model_keys={"vertex": KEY}))
    assert (status, reason) == ("False", "ModelKeyUnusable")
    assert KEY not in message


def test_intents_that_nobody_can_follow_are_a_condition() -> None:
    status, reason, message = approved(structured(WHEN | {"phrases": ["When on {dya}?"]}))
    assert (status, reason) == ("False", "IntentsNotUnderstood")
    assert "helpdesk" in message
    assert "dya" in message


REFUSED: dict[str, tuple[Object, str]] = {
    "not yet": (outside(attestedOn="2026-01-03"), "ContractExpired"),
    "over": (outside(attestedOn="2025-01-01", expiresOn="2026-01-02"), "ContractExpired"),
    "no agreement": (outside(dataProcessing=False), "NoDataProcessingAgreement"),
    "training": (outside(noTraining=False), "TrainsOnQuestions"),
    "authorities of nothing": (
        OUTSIDE | {"caBundle": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"},
        "AuthoritiesUnreadable",
    ),
    "no key": (OUTSIDE | {"key": "models"}, "ModelKeyMissing"),
}


@pytest.mark.parametrize(("provider", "reason"), REFUSED.values(), ids=REFUSED)
def test_who_lacks_something_is_not_asked_and_the_others_are(provider: Object, reason: str) -> None:
    seen = pooled(provider, LOCAL)
    status, found, message = approved(seen)
    assert (status, found) == ("False", reason)
    assert provider["name"] in message
    assert policies.blocking(policies.judge(seen)) is None
    assert policies.ready(seen, policies.judge(seen)).reason == reason
    assert [e.name for e in told(seen).endpoints] == ["local"]


NEEDS: dict[str, tuple[str, Object]] = {
    "HIPAA": ("HIPAA", {"businessAssociate": True}),
    "retention": ("ZeroRetention", {"retentionDays": 0}),
    "SOC 2": ("SOC2", {"attestations": ["SOC2"]}),
    "STAR": ("CSA-STAR", {"attestations": ["CSA-STAR"]}),
    "ISO 27001": ("ISO27001", {"attestations": ["ISO27001"]}),
    "ISO 42001": ("ISO42001", {"attestations": ["ISO42001"]}),
    "registered": ("RegisteredUse", {"useCase": "case-17"}),
}


@pytest.mark.parametrize(("need", "met"), NEEDS.values(), ids=NEEDS)
def test_what_a_tenant_needs_every_provider_must_offer(need: str, met: Object) -> None:
    other = outside(**met) | {"name": "second"}
    both = pooled(outside(), other, needs=(need,))
    status, reason, message = approved(both)
    assert (status, reason) == ("False", "ComplianceUnmet")
    assert need in message
    assert "outside" in message
    assert [e.name for e in told(both).endpoints] == ["second"]
    assert approved(pooled(other, LOCAL, needs=(need,)))[0] == "True"


def test_a_contract_warns_for_thirty_days_and_stops_on_its_last() -> None:
    for ends, said in {
        "2026-02-02": "Approved",
        "2026-02-01": "ContractExpiring",
        "2026-01-03": "ContractExpiring",
    }.items():
        status, reason, message = approved(pooled(outside(attestedOn="2025-01-01", expiresOn=ends)))
        assert (status, reason) == ("True", said)
        assert (ends in message) == (said == "ContractExpiring")
    [endpoint] = told(pooled(outside(expiresOn="2026-02-01"))).endpoints
    assert endpoint.until == date(2026, 2, 1)
    assert NOW.date() == date(2026, 1, 2)


def test_a_provider_that_may_process_elsewhere_ends_everything() -> None:
    seen = pooled(outside(regions=["germanywestcentral", "swedencentral"]))
    blocked = policies.blocking(policies.judge(seen))
    assert blocked is not None
    assert blocked.reason == "ModelProviderOutside"
    assert "swedencentral" in blocked.message
    assert "germanywestcentral," not in blocked.message


NOT_UNDERSTOOD: dict[str, tuple[Object, str]] = {
    "no expression": ({"patterns": [{"name": "MEMBER", "regex": "M-(["}]}, "MEMBER"),
    "a name that is taken": ({"patterns": [{"name": "IBAN", "regex": "M-[0-9]+"}]}, "IBAN"),
    "no such kind": ({"thresholds": [{"kind": "SHOE_SIZE", "score": 0.5}]}, "SHOE_SIZE"),
    "nothing to refuse": ({"refuse": ["SHOE_SIZE"]}, "SHOE_SIZE"),
}


@pytest.mark.parametrize(("privacy", "word"), NOT_UNDERSTOOD.values(), ids=NOT_UNDERSTOOD)
def test_what_no_gateway_could_follow_is_told(privacy: Object, word: str) -> None:
    seen = pooled(LOCAL, privacy=privacy)
    status, reason, message = approved(seen)
    assert (status, reason) == ("False", "PrivacyNotUnderstood")
    assert word in message
    with pytest.raises(ValueError, match=word):
        Analyzer(told(seen).privacy)


def test_a_pattern_may_be_refused_by_its_name() -> None:
    privacy = {"patterns": [{"name": "MEMBER", "regex": "M-[0-9]+"}], "refuse": ["MEMBER"]}
    seen = pooled(LOCAL, privacy=privacy | {"thresholds": [{"kind": "MEMBER", "score": 1}]})
    assert approved(seen)[0] == "True"
    assert [f.kind for f in Analyzer(told(seen).privacy).find("It is M-12.")] == ["MEMBER"]


def test_a_gateway_is_told_whom_to_ask_and_what_to_look_for() -> None:
    privacy = {
        "placeholders": "irreversible",
        "vaultHours": 2,
        "thresholds": [{"kind": "PERSON", "score": 0.3}],
        "patterns": [{"name": "MEMBER_ID", "regex": "M-[0-9]{6}"}],
        "refuse": ["HEALTH", "CREDIT_CARD"],
        "images": True,
    }
    azure = outside() | {"type": "azure", "deployments": {"big": "big-de"}, "key": "azure"}
    roots = bundle((authority(),)).decode()
    azure["caBundle"] = roots
    asked = {"budget": {"requestsPerDay": 10, "tokensPerDay": 2000}}
    seen = pooled(azure, LOCAL, weights={"local": 0}, model=asked, privacy=privacy, model_keys={"outside": KEY})
    assert told(seen).to_wire() == {
        "tenantId": seen.tenant_id,
        "callers": [{"id": "spiffe://domicile/ns/bank/sa/helpdesk", "mode": "free", "intents": []}],
        "endpoints": [
            {
                "name": "outside", "kind": "azure", "baseUrl": "https://models.example/v1", "models": {"big": "big-de"},
                "weight": 1, "keyed": True, "throughEgress": True, "until": "2027-01-01",
                "caBundle": roots,
            },
            {
                "name": "local", "kind": "compatible", "baseUrl": "http://m.models.svc:80/v1", "models": {"big": "big"},
                "weight": 0, "keyed": False, "throughEgress": False,
            },
        ],
        "services": [],
        "privacy": {
            "placeholders": "irreversible", "vaultSeconds": 7200, "thresholds": {"PERSON": 0.3}, "images": True,
            "patterns": [{"name": "MEMBER_ID", "regex": "M-[0-9]{6}"}], "refuse": ["CREDIT_CARD", "HEALTH"],
        },
        "limits": told(seen).limits.to_wire() | {"requestsPerDay": 10, "tokensPerDay": 2000},
        "egress": "https://domicile-egress.domicile-system.svc:3129",
        "redis": "domicile-sessions.domicile-system.svc:6379",
    }  # fmt: skip


def test_keys_lie_in_the_gateways_secret_and_nowhere_else() -> None:
    seen = pooled(OUTSIDE | {"key": "models"}, model_keys={"outside": KEY})
    objects = builders.build(seen)
    secret = {k: base64.b64decode(v) for k, v in named(objects, "Secret")["data"].items()}
    assert secret == {
        "vault.key": b"k" * 32,
        "vault.user": b"gateways",
        "vault.password": b"vault-password-0123456789",
        "outside.model-key": KEY.encode(),
    }
    rest = repr([o for o in objects if o["kind"] != "Secret"])
    for value in secret.values():
        assert value.decode() not in rest
        assert base64.b64encode(value).decode() not in rest


def mounted(volume: Object) -> dict[str, list[str]]:
    """Keys by Secret."""
    return {s["secret"]["name"]: [i["key"] for i in s["secret"]["items"]] for s in volume["projected"]["sources"]}


def test_the_pods_hold_only_what_they_need() -> None:
    seen = pooled(OUTSIDE | {"key": "models"}, LOCAL, model_keys={"outside": KEY})
    pod = named(builders.build(seen), "Deployment")["spec"]["template"]["spec"]
    volumes = {v["name"]: v for v in pod["volumes"]}
    assert mounted(volumes["providers"]) == {"gateway": ["outside.model-key"], "egress": ["egress"]}
    assert mounted(volumes["vault"]) == {"gateway": ["vault.key", "vault.user", "vault.password"]}
    assert pod["automountServiceAccountToken"] is False
    [unkeyed] = [
        v
        for v in named(builders.build(pooled(LOCAL)), "Deployment")["spec"]["template"]["spec"]["volumes"]
        if v["name"] == "providers"
    ]
    # Of a Secret without items all would be mounted.
    assert mounted(unkeyed) == {}


def test_no_gateway_before_it_has_its_secrets_and_no_pods_at_the_standby() -> None:
    for missing in ({"vault_key": None}, {"vault_password": None}):
        assert not [o for o in builders.build(view(**missing)) if o["metadata"]["name"] == gateway.NAME]
    standby = view(claim=ClaimView(2, "aws-frankfurt", stands=True, opened=True, everywhere=True))
    assert standby.role is Role.STANDBY
    assert named(builders.build(standby), "Deployment")["spec"]["replicas"] == 0


def test_only_the_gateway_reaches_a_model_and_only_assistants_reach_it() -> None:
    objects = builders.build(pooled(LOCAL))
    rules = [o for o in objects if o["kind"] == "NetworkPolicy"]
    pods = {
        o["metadata"]["name"]: o["spec"]["template"]["metadata"]["labels"] for o in objects if o["kind"] == "Deployment"
    }
    found = flows(rules, pods)
    assert [f.source for f in found if f.target.startswith("models/")] == ["gateway"]
    assert [(f.source, f.port) for f in found if f.target == "gateway"] == [("helpdesk", "8443/TCP")]
    assert {f.port for f in found if f.target.startswith("models/")} == {"8000/TCP"}


def test_keys_are_read_as_they_can_be_sent(tmp_path: Path) -> None:
    contents = {"good": f"{KEY}\n".encode(), "empty": b" \n", "split": b"a\r\nX-Evil: 1", "odd": "schlüssel".encode()}
    for name, content in contents.items():
        (tmp_path / f"{name}.key").write_bytes(content)
    keyed = [ModelProvider.model_validate(OUTSIDE | {"name": n, "key": n}) for n in (*contents, "absent")]
    plain = ModelProvider.model_validate(LOCAL)
    found = model_keys.read(tmp_path, [*keyed, plain])
    assert found == {"good": KEY, "empty": None, "split": None, "odd": None, "absent": None}


def test_needs_are_met_by_what_the_contract_says() -> None:
    bare = Contract.model_validate(CONTRACT)
    assert pool.outside(pooled(OUTSIDE), bare) == []
    assert pool.outside(view(), bare) == ["germanywestcentral"]
