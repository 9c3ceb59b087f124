"""External issuers on a real API server: which specs are accepted, and with which words others are refused."""

from __future__ import annotations

from typing import Any

import pytest

from domicile.api.tenant import AssistantTenantSpec
from domicile.api.zone import ResidencyZoneSpec
from tests.integration.apiserver import ApiServer
from tests.integration.test_crds import Object, refusal, tenant, zone
from tests.unit.test_external_issuer import APPROVED, EXTERNAL

_LOGIN = {"claim": "acr", "values": ["urn:x:mfa"]}
_CORP = {"name": "corp", "oidc": {k: EXTERNAL[k] for k in ("issuer", "clientId", "clientSecret")}}


def with_sso(**sso: Any) -> Object:
    obj = tenant()
    obj["spec"]["access"] = {"host": "bank.example", "tls": {"secret": "bank-tls"}, "sso": sso}
    return obj


def with_issuer(**changes: Any) -> Object:
    obj = zone()
    made = {k: v for k, v in (APPROVED | changes).items() if v is not None}
    obj["spec"]["externalIssuers"] = [made]
    return obj


def test_an_external_issuer_is_accepted_also_with_every_default_written_out(apiserver: ApiServer) -> None:
    # So the peer gets it: what a rule takes for absent may be there and empty.
    plain, told = with_sso(external=EXTERNAL | {"scopes": ["groups"]}), with_sso(external=EXTERNAL)
    told["spec"] = AssistantTenantSpec.model_validate(told["spec"]).to_wire()
    assert told["spec"]["access"]["sso"]["identityProviders"] == []
    approved, listed = with_issuer(), with_issuer()
    listed["spec"] = ResidencyZoneSpec.model_validate(listed["spec"]).to_wire()
    for obj in (plain, told, approved, listed):
        apiserver.kubectl("create", "--validate=strict", "-f", "-", stdin=obj)
    shown = apiserver.get("assistanttenant", plain["metadata"]["name"])["spec"]["access"]["sso"]["external"]
    assert (shown["algorithm"], shown["groupsClaim"]) == ("RS256", "groups")
    assert apiserver.get("residencyzone", approved["metadata"]["name"])["spec"]["externalIssuers"][0]["port"] == 443


@pytest.mark.parametrize(
    ("sso", "told"),
    [
        ({"localUsers": True}, "external stands alone"),
        ({"identityProviders": [_CORP | {"mfa": {"mode": "local"}}]}, "external stands alone"),
        ({"localUsers": True, "passwords": {"dormantDays": 90}}, "external stands alone"),
        ({"passwords": {"breakGlass": "emergency"}}, "external stands alone"),
        (
            {
                "directories": [
                    {
                        "name": "branch",
                        "vendor": "other",
                        "url": "ldaps://dc.example",
                        "bindDn": "cn=r",
                        "bindSecret": "b",
                        "usersDn": "ou=p",
                        "groupsDn": "ou=g",
                    }
                ]
            },
            "external stands alone",
        ),
    ],
)
def test_what_the_zones_identity_server_does_is_refused_beside_it(apiserver: ApiServer, sso: Object, told: str) -> None:
    assert told in refusal(apiserver, "create", with_sso(external=EXTERNAL, **sso))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"mfa": None}, "mfa: Required value"),
        ({"mfa": {"claim": "amr"}}, "mfa.values: Required value"),
        ({"mfa": {"claim": "amr", "values": []}}, "mfa.values"),
        ({"mfa": {"values": ["mfa"]}}, "mfa.claim: Required value"),
        ({"mfa": {"claim": "sub", "values": ["x"]}}, "says nothing of a second factor"),
        ({"mfa": {"claim": "amr", "values": [".*"]}}, "mfa.values[0]"),
        ({"mfa": _LOGIN | {"mode": "local"}}, "unknown field"),
        ({"issuer": "http://login.bank.example"}, "external.issuer"),
        ({"issuer": "https://login.bank.example/?a=b"}, "external.issuer"),
        ({"algorithm": "HS256"}, "Unsupported value"),
        ({"algorithm": "none"}, "Unsupported value"),
        ({"clientSecret": "front-door"}, "the operator's own Secrets"),
        ({"clientId": 'a"b'}, "clientId consists of"),
        ({"scopes": ["offline_access"]}, "no token is renewed"),
        ({"scopes": ["a b"]}, "scopes[0]"),
        ({"groupsClaim": "a..b"}, "groupsClaim"),
        ({"roleMappings": [{"group": 'g"', "role": "member"}]}, "with external a group consists of"),
        ({"roleMappings": [{"group": "ü", "role": "member"}]}, "with external a group consists of"),
        ({"roleMappings": [{"group": "g", "role": "manager"}]}, "a manager needs assistants"),
        ({"roleMappings": [{"group": "g", "role": "root"}]}, "Unsupported value"),
    ],
)
def test_an_issuer_that_says_too_little_or_wrongly_is_refused(apiserver: ApiServer, change: Object, told: str) -> None:
    external = {k: v for k, v in (EXTERNAL | change).items() if v is not None}
    assert told in refusal(apiserver, "create", with_sso(external=external))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"place": None}, "place: Required value"),
        ({"attestedOn": None}, "attestedOn: Required value"),
        ({"statement": "yes"}, "statement"),
        ({"cidrs": []}, "cidrs"),
        ({"cidrs": ["203.0.113.1/24"]}, "give networks such as"),
        ({"cidrs": ["everywhere"]}, "give networks such as"),
        ({"expiresOn": "2025-12-31"}, "expiresOn must be after attestedOn"),
        ({"hosts": ["https://x.example"]}, "hosts[0]"),
        ({"port": 0}, "greater than or equal to 1"),
    ],
)
def test_an_approval_that_says_too_little_or_wrongly_is_refused(
    apiserver: ApiServer, change: Object, told: str
) -> None:
    assert told in refusal(apiserver, "create", with_issuer(**change))
