"""External issuers: what their metadata and keys must say, what a mapping gives, and what the conditions tell."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from domicile.api.sites import ServedZone
from domicile.api.sso import ExternalIssuer, SignatureAlgorithm
from domicile.api.tenant import Assistant
from domicile.api.zone import ApprovedIssuer
from domicile.controllers.door.httpd import render
from domicile.controllers.issuer.metadata import IssuerError, check, usable_keys
from domicile.controllers.issuer.state import IssuerState
from domicile.controllers.realm.state import RealmState
from domicile.controllers.tenant import builders, front_door, identity, network
from domicile.controllers.tenant.policies import judge, ready
from domicile.controllers.tenant.rules.verdict import Verdict
from domicile.controllers.tenant.view import DoorSecrets, TenantView
from examples.assistant import identity as verifier
from examples.assistant.trust import Trust, TrustError, parse
from tests import identities
from tests.unit.test_door import any_of
from tests.unit.views import tenant_spec, view, zone_spec
from tests.vendors import document

Object = dict[str, Any]
ISSUER = "https://login.bank.example/staff"
RS256, ES256, PS256 = SignatureAlgorithm.RS256, SignatureAlgorithm.ES256, SignatureAlgorithm.PS256
EXTERNAL: Object = {
    "issuer": ISSUER,
    "clientId": "assistants",
    "clientSecret": "corp-login",
    "mfa": {"claim": "amr", "values": ["mfa", "hwk"]},
    "roleMappings": [
        {"group": "chiefs (all)", "role": "owner"},
        {"group": "support", "role": "manager", "assistants": ["helpdesk"]},
        {"group": "staff", "role": "member"},
        {"group": "leads", "role": "member"},
    ],
}
APPROVED: Object = {
    "issuer": ISSUER,
    "hosts": ["tokens.bank.example"],
    "cidrs": ["203.0.113.0/24"],
    "place": "Frankfurt am Main, Germany",
    "statement": "see the contract with whoever runs it",
    "attestedOn": "2026-01-01",
    "expiresOn": "2027-01-01",
}
METADATA: Object = {
    "issuer": ISSUER,
    "authorization_endpoint": f"{ISSUER}/auth",
    "token_endpoint": "https://tokens.bank.example/token",
    "jwks_uri": f"{ISSUER}/keys",
    "end_session_endpoint": f"{ISSUER}/logout",
    "response_types_supported": ["code", "id_token"],
    "id_token_signing_alg_values_supported": ["RS256", "HS256", "none"],
    "code_challenge_methods_supported": ["plain", "S256"],
    "backchannel_logout_supported": True,
    "authorization_response_iss_parameter_supported": True,
}


def approved(**changes: Any) -> ApprovedIssuer:
    return ApprovedIssuer.model_validate(APPROVED | changes)


def seen(
    external: Object | None = None, approval: Object | None = None, metadata: Object | None = None, **changes: Any
) -> TenantView:
    """A tenant whose issuer was looked at and is good."""
    wire = EXTERNAL | (external or {})
    access = {"host": "bank.example", "tls": {"secret": "tls"}, "sso": {"external": wire}}
    zone = zone_spec(externalIssuers=[APPROVED | (approval or {})])
    algorithm = ExternalIssuer.model_validate(wire).algorithm
    keys = usable_keys({"keys": [identities.jwk("first"), identities.ec_jwk("curve")]}, ISSUER, algorithm)
    found = check(METADATA | (metadata or {}), approved(), RS256)
    good = {
        "zone": ServedZone(name="eu", site="gcp-frankfurt", spec=zone),
        "door": DoorSecrets("ours-0123456789abcdef", "passphrase-0123456789"),
        "provider_secrets": {"external": "theirs-0123456789abcdef"},
        "sessions_password": "sessions-password-0123456789",
        "identity_authorities": "PEM",
        "issuer": IssuerState(found, keys),
    }
    return view(tenant_spec(access=access), **(good | changes))


@pytest.mark.parametrize(
    ("change", "reason", "told"),
    [
        ({"issuer": f"{ISSUER}/"}, "IssuerMetadataWrong", "of another issuer"),
        ({"issuer": None}, "IssuerMetadataWrong", "of another issuer"),
        ({"token_endpoint": "http://tokens.bank.example/token"}, "IssuerMetadataWrong", "token_endpoint"),
        ({"token_endpoint": None}, "IssuerMetadataWrong", "token_endpoint"),
        ({"authorization_endpoint": "https://login.bank.example@evil.example/"}, "IssuerMetadataWrong", "with https"),
        ({"token_endpoint": "https://tokens.bank.example:99999/token"}, "IssuerMetadataWrong", "token_endpoint"),
        ({"jwks_uri": f"{ISSUER}:0/keys".replace("/staff", "")}, "IssuerMetadataWrong", "jwks_uri"),
        ({"end_session_endpoint": f"{ISSUER}/{'x' * 1024}"}, "IssuerMetadataWrong", "1024 characters"),
        ({"authorization_endpoint": f'{ISSUER}/a"b'}, "IssuerMetadataWrong", "authorization_endpoint"),
        ({"authorization_endpoint": "https://evil.example/auth"}, "IssuerEndpointOutside", "host evil.example"),
        ({"token_endpoint": "https://login.bank.example.evil.example/"}, "IssuerEndpointOutside", "does not name"),
        ({"end_session_endpoint": "https://evil.example/out"}, "IssuerEndpointOutside", "end_session_endpoint"),
        ({"jwks_uri": "https://login.bank.example:8443/keys"}, "IssuerEndpointOutside", "the port 8443"),
        ({"response_types_supported": ["id_token"]}, "IssuerMetadataWrong", "does not offer code"),
        ({"response_types_supported": "code"}, "IssuerMetadataWrong", "must have the list response_types_supported"),
        ({"grant_types_supported": ["implicit"]}, "IssuerMetadataWrong", "does not offer authorization_code"),
        ({"code_challenge_methods_supported": ["plain"]}, "IssuerMetadataWrong", "does not offer S256"),
        ({"id_token_signing_alg_values_supported": ["HS256", "none"]}, "IssuerMetadataWrong", "does not offer RS256"),
        ({"token_endpoint_auth_methods_supported": ["none"]}, "IssuerMetadataWrong", "takes none of client_secret"),
    ],
)
def test_metadata_that_does_not_hold_is_refused_with_its_cause(change: Object, reason: str, told: str) -> None:
    with pytest.raises(IssuerError, match=told) as refused:
        check(METADATA | change, approved(), RS256)
    assert refused.value.reason == reason


def test_an_issuer_that_says_nothing_of_pkce_is_not_taken_to_know_it() -> None:
    silent = {k: v for k, v in METADATA.items() if k != "code_challenge_methods_supported"}
    with pytest.raises(IssuerError, match="S256"):
        check(silent, approved(), RS256)


def test_what_an_issuer_does_not_offer_is_not_used() -> None:
    least = {k: v for k, v in METADATA.items() if "logout" not in k and "session" not in k and "iss_" not in k}
    found = check(least | {"token_endpoint_auth_methods_supported": ["client_secret_post"]}, approved(), RS256)
    assert (found.end_session, found.back_channel, found.names_itself) == (None, False, False)
    assert found.token_auth == "client_secret_post"
    bare = seen()
    config = render(front_door.describe(replace(bare, issuer=replace(bare.issuer or IssuerState(), metadata=found))))
    assert "OIDCProviderEndSessionEndpoint" not in config
    assert "OIDCProviderBackChannelLogoutSupported Off" in config
    assert "OIDCProviderTokenEndpointAuth client_secret_post" in config
    assert "&)iss=" not in config


@pytest.mark.parametrize("vendor", ["okta", "okta-custom"])
def test_documents_of_vendors_that_say_all_that_is_needed_are_taken(vendor: str) -> None:
    published = document(vendor)
    assert check(published, approved(issuer=published["issuer"]), RS256).token == published["token_endpoint"]


def test_only_public_keys_of_the_one_algorithm_are_handed_on() -> None:
    rsa, short, curve = identities.jwk("first"), identities.jwk("short"), identities.ec_jwk("curve")
    private = rsa | {"d": "secret", "x5c": ["MII"]}
    encrypting, nameless = rsa | {"kid": "e", "use": "enc"}, {k: v for k, v in rsa.items() if k != "kid"}
    shared = {"kty": "oct", "kid": "s", "k": "c2VjcmV0"}
    listed = {"keys": [curve, shared, short, encrypting, nameless, private, "x", {}]}
    [found] = usable_keys(listed, ISSUER, RS256)
    assert found == {k: rsa[k] for k in ("kty", "use", "alg", "kid", "n", "e")}
    assert [k["kid"] for k in usable_keys(listed, ISSUER, ES256)] == ["curve"]
    plain = {k: v for k, v in rsa.items() if k != "alg"}
    assert usable_keys({"keys": [plain]}, ISSUER, PS256)[0]["alg"] == "PS256"


@pytest.mark.parametrize(
    "keys", [[], None, "x", [identities.ec_jwk("curve")], [identities.jwk("short")], [identities.jwk("first")] * 2]
)
def test_without_a_key_nobody_could_be_known(keys: Any) -> None:
    with pytest.raises(IssuerError, match="key id") as refused:
        usable_keys({"keys": keys}, ISSUER, RS256)
    assert refused.value.reason == "IssuerMetadataWrong"


def test_the_door_compares_the_issuers_own_values() -> None:
    config = render(front_door.describe(seen()))
    assert f'OIDCProviderIssuer "{ISSUER}"' in config
    assert 'OIDCClientID "assistants"' in config
    assert 'OIDCProviderTokenEndpoint "https://tokens.bank.example/token"' in config
    assert any_of("amr", "hwk", "mfa") in config
    assert any_of("groups", "chiefs [(]all[)]", "leads", "staff", "support") in config
    assert "roles:" not in config
    assert "UserInfo" not in config
    assert "OIDCSessionMaxDuration 0" in config
    assert "OIDCRefresh" not in config
    assert "acr_values" not in config, "the issuer is asked for acr only"


def test_roles_that_nobody_has_open_nothing() -> None:
    """An empty list of claims would be no requirement."""
    config = render(front_door.describe(seen({"roleMappings": []}))).splitlines()
    for path in ("^/helpdesk/", "(?i)^/helpdesk/+admin(?:[^a-z0-9_-]|$)"):
        at = config.index(f'<LocationMatch "{path}">')
        section = config[at : config.index("</LocationMatch>", at)]
        assert "Require all denied" in section[section.index("<RequireAll>") : section.index("</RequireAll>")]


def test_the_secret_is_the_issuers_and_only_in_the_secret() -> None:
    made = builders.build(seen())
    [secret] = [o for o in made if (o["kind"], o["metadata"]["name"]) == ("Secret", front_door.NAME)]
    assert "theirs-0123456789abcdef" not in json.dumps([o for o in made if o is not secret])
    assert front_door.client_secret(seen()) == "theirs-0123456789abcdef"


@pytest.mark.parametrize(
    "changes", [{"provider_secrets": {"external": None}}, {"issuer": None}, {"provider_secrets": {"external": "a b"}}]
)
def test_before_all_is_known_there_is_no_door(changes: Object) -> None:
    kinds = {o["kind"] for o in front_door.objects(seen(**changes))}
    assert kinds <= {"Secret"}


def test_the_door_reaches_the_issuer_where_the_zone_says_it_is() -> None:
    def egress(of: TenantView) -> list[Object]:
        [policy] = [p for p in network.network_policies(of) if p["metadata"]["name"] == "allow-door-identity"]
        found: list[Object] = policy["spec"]["egress"]
        return found

    peer = {"ipBlock": {"cidr": "203.0.113.0/24"}}
    assert egress(seen()) == [{"to": [peer], "ports": [{"port": 443, "protocol": "TCP"}]}]
    assert egress(seen(approval={"issuer": f"{ISSUER}/other"}, issuer=None)) == []


# ---- the assistant ----


def trust(external: Object | None = None) -> Trust:
    made = identity.config_map(seen(external))
    assert made is not None
    return parse(made["data"]["helpdesk.json"].encode())


def test_each_assistant_hears_which_of_its_own_paths_are_open_to_everybody() -> None:
    known = seen()
    paths = [{"prefix": "/forms/complaint", "public": True}, {"prefix": "/reports", "roles": ["owner"]}]
    assistants = [
        Assistant.model_validate({"name": name, "mode": "free", "image": "registry.example/a:1", "paths": given})
        for name, given in (("helpdesk", paths), ("internal", []))
    ]
    known = replace(known, spec=known.spec.model_copy(update={"assistants": assistants}))
    made = identity.config_map(known)
    assert made is not None
    found = {name: parse(text.encode()).public for name, text in made["data"].items()}
    assert found == {"helpdesk.json": (("forms", "complaint"),), "internal.json": ()}
    for assistant in assistants:
        items = identity.volume(assistant)["configMap"]["items"]
        assert items == [{"key": f"{assistant.name}.json", "path": "identity.json"}]


def token(*groups: str, **changed: Any) -> str:
    made = {"iss": ISSUER, "aud": "assistants", "azp": "assistants", "amr": ["pwd", "mfa"], "groups": list(groups)}
    return identities.sign(identities.claims("owner", **(made | changed)))


@pytest.mark.parametrize(
    ("groups", "roles"),
    [
        ((), set()),
        (("staff",), {"member"}),
        (("support",), {"manager", "assistant.helpdesk"}),
        (("chiefs (all)", "support", "x"), {"owner", "manager", "assistant.helpdesk"}),
        (("Staff", "staff ", "staf", "owner", "assistant.helpdesk"), set()),
    ],
)
def test_an_assistant_gives_the_roles_of_the_mapping_and_no_others(groups: tuple[str, ...], roles: set[str]) -> None:
    assert verifier.verify(token(*groups), trust()).roles == roles


def test_a_single_value_and_an_object_count_like_a_list() -> None:
    assert verifier.verify(token(groups="staff"), trust()).roles == {"member"}
    nested = trust({"groupsClaim": "access.groups"})
    assert verifier.verify(token(access={"groups": ["staff"]}), nested).roles == {"member"}
    assert verifier.verify(token(access="staff"), nested).roles == set()
    with pytest.raises(verifier.IdentityError, match="malformed"):
        verifier.verify(token(groups=[["staff"]]), trust())


@pytest.mark.parametrize(
    "changed",
    [
        {"amr": []},
        {"amr": ["pwd"]},
        {"amr": "MFA"},
        {"amr": [["mfa"]]},
        {"amr": None},
        {"amr": {"mfa": True}},
        {"aud": "other"},
        {"aud": ["assistants", "other"]},
        {"azp": "other"},
        {"iss": f"{ISSUER}/"},
        {"exp": identities.claims()["iat"] + 7200},
    ],
)
def test_a_token_without_the_second_factor_or_for_somebody_else_is_refused(changed: Object) -> None:
    with pytest.raises(verifier.IdentityError):
        verifier.verify(token("staff", **changed), trust())


def test_a_token_of_an_hour_counts_and_none_that_says_nothing_of_factors() -> None:
    assert verifier.verify(token("staff", exp=identities.claims()["iat"] + 3600), trust()).roles == {"member"}
    with pytest.raises(verifier.IdentityError, match="lacks a claim"):
        verifier.verify(identities.sign(identities.claims(iss=ISSUER, aud="assistants", azp="assistants")), trust())


def test_acr_is_one_text_of_several() -> None:
    asked = trust({"mfa": {"claim": "acr", "values": ["gold", "mfa"]}})
    assert verifier.verify(token("staff", acr="gold"), asked).roles == {"member"}
    for acr in ("pwd", ["gold"]):
        with pytest.raises(verifier.IdentityError, match="not strong enough"):
            verifier.verify(token("staff", acr=acr), asked)


def test_an_assistant_that_does_not_know_of_mappings_lets_in_nobody() -> None:
    made = identity.config_map(seen())
    assert made is not None
    assert "acr" not in json.loads(made["data"]["helpdesk.json"])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"mfa": {"claim": "amr", "values": ["mfa"]}}, "in place of acr"),
        ({"acr": None, "mfa": {"claim": "amr", "values": []}}, "mfa.values"),
        ({"acr": None, "mfa": ["mfa"]}, "mfa must be an object"),
        ({"acr": None, "mfa": {"values": ["mfa"]}}, "claim must be a text"),
        ({"roles": {"claim": "groups"}}, "with claim and of"),
        ({"roles": ["owner"]}, "with claim and of"),
        ({"roles": {"claim": "groups", "of": {"staff": "owner"}}}, "must be a list"),
        ({"roles": {"claim": "groups", "of": {"staff": [""]}}}, "roles.of"),
        ({"roles": {"of": {"staff": ["owner"]}}}, "claim must be a text"),
    ],
)
def test_a_file_that_says_it_wrongly_closes_the_assistant(change: Object, told: str) -> None:
    made = {k: v for k, v in (identities.document() | change).items() if v is not None}
    with pytest.raises(TrustError, match=told):
        parse(json.dumps(made).encode())


# ---- conditions ----


def verdict(of: TenantView, kind: str) -> Verdict:
    return next(v for v in judge(of) if v.type == kind)


def test_an_issuer_that_holds_is_told_with_what_to_register_there() -> None:
    found = verdict(seen(), "SSOConfigured")
    assert (found.status, found.reason) == ("True", "IssuerTrusted")
    assert "https://bank.example/oauth2/callback" in found.message
    assert "?logout=backchannel" in found.message
    compliant = verdict(seen(), "ResidencyCompliant")
    assert (compliant.status, compliant.reason) == ("True", "Attested")
    assert "Frankfurt am Main, Germany" in compliant.message
    assert verdict(seen(), "DirectoryReachable").reason == "NotAskedFor"


@pytest.mark.parametrize(
    ("changes", "status", "reason"),
    [
        ({"provider_secrets": {"external": None}}, "False", "IssuerSecretMissing"),
        ({"provider_secrets": {"external": "short"}}, "False", "IssuerSecretUnusable"),
        ({"issuer": None}, "Unknown", "AwaitingIssuer"),
        ({"issuer": IssuerState(error=("IssuerUnreachable", "x"))}, "False", "IssuerUnreachable"),
        ({"realm": RealmState("", error=("IdentityServerUnreachable", "x"))}, "False", "IdentityServerUnreachable"),
    ],
)
def test_each_cause_has_a_reason(changes: Object, status: str, reason: str) -> None:
    found = verdict(seen(**changes), "SSOConfigured")
    assert (found.status, found.reason) == (status, reason)
    assert "short" not in found.message
    assert ready(seen(**changes), judge(seen(**changes))).status == "False"


def test_a_grant_of_an_assistant_that_is_not_there_is_told() -> None:
    grants = [{"group": "g", "role": "manager", "assistants": ["nowhere"]}]
    assert verdict(seen({"roleMappings": grants}), "SSOConfigured").reason == "AssistantUnknown"


@pytest.mark.parametrize(
    ("approval", "reason"),
    [
        ({"issuer": f"{ISSUER}/other"}, "IssuerNotApproved"),
        ({"expiresOn": "2026-01-02"}, "IssuerNotAttested"),
        ({"attestedOn": "2026-01-03"}, "IssuerNotAttested"),
    ],
)
def test_an_issuer_that_nobody_vouches_for_blocks(approval: Object, reason: str) -> None:
    """The views' day is 2026-01-02."""
    zone = zone_spec(externalIssuers=[APPROVED | approval])
    found = verdict(seen(zone=ServedZone(name="eu", site="gcp-frankfurt", spec=zone)), "ResidencyCompliant")
    assert (found.status, found.reason, found.blocks) == ("False", reason, True)
    assert date.fromisoformat("2026-01-02") == seen().now.date()
