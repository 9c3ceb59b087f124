"""Profiles of well-known identity providers become what the vendors document, and nothing looser."""

from __future__ import annotations

from typing import Any

import pytest

from domicile.api.sso import Mfa, MfaMode, Sso
from domicile.api.tenant import AssistantTenantSpec
from domicile.controllers.realm.desired import Subject, build
from domicile.controllers.realm.profiles import ClaimFilter, expand
from tests.vendors import PROVIDERS, TENANT, document, provider

SUBJECT = Subject(
    tenant="bank",
    tenant_id="0123456789abcdef0123456789abcdef",
    assistants=(),
    host="bank.example",
    client_secret="door",
    secrets=dict.fromkeys(PROVIDERS, "s"),
)
POST, BASIC = "client_secret_post", "client_secret_basic"
ENTRA = f"https://login.microsoftonline.com/{TENANT}/v2.0"
EXPECTED: dict[str, tuple[str, str, tuple[str, ...], ClaimFilter | None, str]] = {
    "google": ("https://accounts.google.com", "hd", (), ClaimFilter("hd", ("bank.example",)), POST),
    "entra": (ENTRA, "groups", (), ClaimFilter("acrs", ("c1", "c2")), POST),
    "okta": ("https://bank.okta.com", "groups", ("groups",), ClaimFilter("amr", ("mfa",)), BASIC),
    "okta-custom": ("https://bank.okta.com/oauth2/default", "groups", (), None, BASIC),
    "onelogin": ("https://bank.onelogin.com/oidc/2", "groups", ("groups",), None, BASIC),
}


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_profile_is_what_its_vendor_documents(name: str) -> None:
    made = expand(provider(name))
    assert made.provider.oidc is not None
    assert (made.provider.oidc.issuer, made.provider.oidc.groups_claim, *made[1:]) == EXPECTED[name]
    assert (made.provider.oidc.client_id, made.provider.secret) == ("c", ("login", "client-secret"))
    assert (made.provider.google, made.provider.entra, made.provider.okta, made.provider.one_login) == (None,) * 4


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_vendors_discovery_document_offers_what_its_profile_uses(name: str) -> None:
    published = document(name)
    [config] = [p["config"] for p in build(SUBJECT, Sso(identity_providers=[provider(name)])).providers]
    assert published["issuer"] == config["issuer"]
    assert set(config["defaultScope"].split()) <= set(published["scopes_supported"])
    assert config["clientAuthMethod"] in published["token_endpoint_auth_methods_supported"]
    # Entra takes S256 and doesn't publish that it does.
    assert config["pkceMethod"] in published.get("code_challenge_methods_supported", ["S256"])


def test_a_provider_without_a_profile_stays_as_it_is() -> None:
    oidc = {"issuer": "https://login.example", "clientId": "c", "clientSecret": "login"}
    plain = provider("google", google=None, oidc=oidc)
    assert expand(plain) == (plain, (), None, POST)


def test_app_roles_of_entra_stand_for_groups_where_asked_for() -> None:
    entra = PROVIDERS["entra"]["entra"] | {"groupsClaim": "roles"}
    made = expand(provider("entra", entra=entra)).provider.oidc
    assert made is not None
    assert made.groups_claim == "roles"


def test_googles_domain_is_checked_and_the_second_factor_asked_here_whatever_the_spec_says() -> None:
    proof = Mfa(mode=MfaMode.UPSTREAM, claim="amr", values=["mfa"])
    local, upstream = (
        build(SUBJECT, Sso(identity_providers=[provider("google", **changes)])) for changes in ({}, {"mfa": proof})
    )
    [config] = [p["config"] for p in upstream.providers]
    assert (config["filteredByClaim"], config["claimFilterName"]) == ("true", "hd")
    assert config["claimFilterValue"] == r"bank\.example"
    assert upstream.providers == local.providers
    assert upstream.flows == local.flows


def test_the_secrets_of_profiles_are_named_for_the_peer_as_well() -> None:
    providers: list[dict[str, Any]] = []
    for name, made in PROVIDERS.items():
        [kind] = made.keys() - {"mfa"}
        providers.append({"name": name, **made, kind: made[kind] | {"clientSecret": f"{name}-login"}})
    spec = AssistantTenantSpec.model_validate(
        {
            "zone": "eu",
            "assistants": [{"name": "a", "mode": "free", "image": "i"}],
            "model": {"providers": [{"name": "p"}], "model": "m"},
            "access": {"host": "bank.example", "sso": {"identityProviders": providers}},
        }
    )
    assert spec.named_secrets == tuple(sorted(f"{name}-login" for name in PROVIDERS))
