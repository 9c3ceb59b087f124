"""Well-known identity providers in a realm of a real Keycloak, by the documents that their vendors publish.

The vendors themselves are out of reach: people come from a realm whose tokens carry the claims that they document.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio

from domicile.api.sso import PersonRole, RoleMapping
from domicile.controllers.realm.desired import Desired, build
from domicile.controllers.realm.repair import Outcome, ensure, observe
from domicile.controllers.realm.server import IdentityServer
from tests.integration.identity_server import DeniedError, Person
from tests.integration.realm_estate import PASSWORD, Tenant, Upstream, log_in
from tests.testbed.keycloak import KeycloakServer
from tests.vendors import PROVIDERS, document, provider

pytestmark = pytest.mark.asyncio(loop_scope="session")
Object = dict[str, Any]
MEMBERS = [RoleMapping(group="staff", role=PersonRole.MEMBER)]


@pytest_asyncio.fixture(loop_scope="session")
async def upstream(identity: IdentityServer, keycloak: KeycloakServer) -> Upstream:
    """A vendor of this test's own: its scopes are changed."""
    made = Upstream(identity, keycloak.url)
    await made.create()
    return made


def _desired(tenant: Tenant, documents: dict[str, Object]) -> Desired:
    """A tenant's realm whose providers' documents are these, and are not asked for over the network."""
    texts = {name: json.dumps(text) for name, text in documents.items()}
    return replace(build(tenant.subject, tenant.sso), metadata=texts)


def _with(identity: IdentityServer, *names: str) -> Tenant:
    made = Tenant(identity)
    for name in names:
        _add(made, name)
    return made


def _add(tenant: Tenant, vendor: str, **changes: Any) -> None:
    made = provider(vendor, **changes)
    listed = [*tenant.sso.identity_providers, made]
    tenant.sso = tenant.sso.model_copy(update={"identity_providers": listed})
    tenant.subject.secrets[made.name] = "upstream-secret"  # type: ignore[index]


async def _ensure(tenant: Tenant, desired: Desired) -> Outcome:
    async with tenant.server.realm(tenant.realm) as admin:
        return await ensure(admin, desired, {}, changed=False)


async def test_a_realm_with_all_of_them_has_the_documented_endpoints_and_no_drift(
    identity: IdentityServer,
) -> None:
    tenant = _with(identity, *PROVIDERS)
    desired = _desired(tenant, {name: document(name) for name in PROVIDERS})
    assert (await _ensure(tenant, desired)).faults == {}
    assert (await _ensure(tenant, desired)).mended == ()
    async with identity.realm(tenant.realm) as admin:
        observed = await observe(admin, tenant.realm) or {}
    found = {p["alias"]: p for p in observed["identityProviders"]}
    assert found.keys() == PROVIDERS.keys()
    for name, one in found.items():
        published, config = document(name), one["config"]
        assert one["enabled"], name
        assert (config["authorizationUrl"], config["tokenUrl"], config["jwksUrl"], config["userInfoUrl"]) == (
            published["authorization_endpoint"],
            published["token_endpoint"],
            published["jwks_uri"],
            published["userinfo_endpoint"],
        )
        assert config.get("logoutUrl") == published.get("end_session_endpoint"), name


@pytest.mark.parametrize(
    ("name", "changes", "told"),
    [
        # What Entra answers at common and organizations in place of a tenant's id.
        ("entra", {"issuer": "https://login.microsoftonline.com/{tenantid}/v2.0"}, "names another issuer"),
        ("okta", {"issuer": "https://bank.okta.com/oauth2/default"}, "names another issuer"),
        ("google", {"issuer": "accounts.google.com"}, "names another issuer"),
        ("onelogin", {"jwks_uri": None}, "lacks jwksUrl"),
        ("okta-custom", {"token_endpoint": "http://bank.okta.com/oauth2/default/v1/token"}, "lacks tokenUrl"),
    ],
)
async def test_a_document_that_is_not_the_vendors_closes_its_provider(
    identity: IdentityServer,
    name: str,
    changes: Object,
    told: str,
) -> None:
    tenant = _with(identity, name)
    outcome = await _ensure(tenant, _desired(tenant, {name: document(name) | changes}))
    assert told in outcome.faults[name]
    async with identity.realm(tenant.realm) as admin:
        assert (await observe(admin, tenant.realm) or {})["identityProviders"] == []


@pytest.mark.parametrize(
    "changes",
    [
        {"userinfo_endpoint": "http://bank.okta.com/userinfo"},
        {"userinfo_endpoint": "nonsense"},
        {"end_session_endpoint": "http://bank.okta.com/logout"},
        {"end_session_endpoint": "javascript:alert(1)"},
        {"token_endpoint": "https://[bank.okta.com"},
    ],
)
async def test_a_document_that_the_identity_server_refuses_closes_nobody_elses_way_in(
    identity: IdentityServer, changes: Object
) -> None:
    tenant = _with(identity, "google", "okta-custom")
    documents = {name: document(name) for name in ("google", "okta-custom")}
    assert (await _ensure(tenant, _desired(tenant, documents))).faults == {}
    outcome = await _ensure(tenant, _desired(tenant, documents | {"okta-custom": document("okta-custom") | changes}))
    assert outcome.faults.keys() == {"okta-custom"}
    async with identity.realm(tenant.realm) as admin:
        observed = await observe(admin, tenant.realm) or {}
    assert observed["enabled"]
    assert {p["alias"]: p.get("enabled") for p in observed["identityProviders"]} == {
        "google": True,
        "okta-custom": False,
    }


def _moved(desired: Desired, upstream: Upstream, clients: dict[str, str]) -> Desired:
    """The same realm, where an issuer of ours stands in for the vendors'."""
    moved = [
        {**p, "config": {**p["config"], "issuer": upstream.issuer, "clientId": clients[p["alias"]]}}
        for p in desired.providers
    ]
    return replace(desired, providers=tuple(moved))


async def _told(upstream: Upstream, client: str, claim: str, value: Any) -> None:
    """Every ID token for the client carries a claim of any type."""
    config = {
        "claim.name": claim,
        "claim.value": json.dumps(value),
        "jsonType.label": "JSON",
        "id.token.claim": "true",
    }
    mapper = {"name": claim, "protocol": "openid-connect", "protocolMapper": "oidc-hardcoded-claim-mapper"}
    async with upstream._server.realm(upstream.realm) as admin:
        found = await admin.a_get_client_id(client)
        await admin.a_add_mapper_to_client(found or "", mapper | {"config": config})


async def _log_in_by(keycloak: KeycloakServer, tenant: Tenant, alias: str) -> Person | None:
    """Bob after his login by a provider; None where he was refused on his return from there."""
    bob = Person(keycloak, "bob", PASSWORD)
    try:
        claims = await log_in(bob, tenant, alias)
    except DeniedError:
        assert bob.asked == [f"provider {alias}", "password"]
        return None
    assert (claims["acr"], claims["roles"]) == ("mfa", ["member"])
    return bob


async def test_of_googles_accounts_only_those_of_the_domain_get_in(
    identity: IdentityServer,
    keycloak: KeycloakServer,
    upstream: Upstream,
) -> None:
    await upstream.user("bob")
    domains = {
        "ours": "bank.example",
        "another": "evil.example",
        "longer": "bank.example.evil.example",
        "similar": "bankxexample",
        "private": None,
    }
    tenant = Tenant(identity)
    for alias in domains:
        _add(tenant, "google", name=alias, roleMappings=[RoleMapping(group="bank.example", role=PersonRole.MEMBER)])
    clients = {
        alias: await upstream.client(tenant.realm, alias, **({"hd": domain} if domain else {}))
        for alias, domain in domains.items()
    }
    desired = _moved(build(tenant.subject, tenant.sso), upstream, clients)
    assert (await _ensure(tenant, desired)).faults == {}
    bob = await _log_in_by(keycloak, tenant, "ours")
    assert bob is not None
    assert bob.asked == ["provider ours", "password", "enrolment"]
    for alias in domains.keys() - {"ours"}:
        assert await _log_in_by(keycloak, tenant, alias) is None, alias


@pytest.mark.parametrize(
    ("name", "claim", "good", "bad"),
    [("okta", "amr", ["pwd", "mfa", "otp"], ["pwd"]), ("entra", "acrs", ["c1", "c7"], ["c12", "p1"])],
)
async def test_a_second_factor_counts_where_the_vendor_says_that_it_was_given(
    identity: IdentityServer,
    keycloak: KeycloakServer,
    upstream: Upstream,
    name: str,
    claim: str,
    good: list[str],
    bad: list[str],
) -> None:
    await upstream.user("bob", "staff")
    tenant = Tenant(identity)
    clients: dict[str, str] = {}
    for alias, value in (("strong", good), ("weak", bad), ("mute", None)):
        _add(tenant, name, name=alias, roleMappings=MEMBERS)
        clients[alias] = await upstream.client(tenant.realm, alias)
        if value is not None:
            await _told(upstream, clients[alias], claim, value)
    desired = _moved(build(tenant.subject, tenant.sso), upstream, clients)
    # The groups scope is the vendor's; a plain Keycloak refuses what it doesn't know.
    await _know_scope(upstream, "groups")
    assert (await _ensure(tenant, desired)).faults == {}
    bob = await _log_in_by(keycloak, tenant, "strong")
    assert bob is not None
    assert bob.asked == ["provider strong", "password"]
    for alias in ("weak", "mute"):
        assert await _log_in_by(keycloak, tenant, alias) is None, alias


async def _know_scope(upstream: Upstream, scope: str) -> None:
    async with upstream._server.realm(upstream.realm) as admin:
        made = await admin.a_create_client_scope({"name": scope, "protocol": "openid-connect"})
        for client in await admin.a_get_clients():
            await admin.a_add_client_optional_client_scope(client["id"], made, {})


async def test_groups_that_only_the_userinfo_endpoint_tells_count(
    identity: IdentityServer,
    keycloak: KeycloakServer,
    upstream: Upstream,
) -> None:
    """Okta's own authorization server leaves them out of ID tokens that come with an access token."""
    await upstream.user("bob", "staff", "others")
    tenant = Tenant(identity)
    _add(tenant, "okta", name="thin", roleMappings=MEMBERS, mfa={"mode": "local"})
    client = await upstream.client(tenant.realm, "thin")
    await _know_scope(upstream, "groups")
    async with identity.realm(upstream.realm) as admin:
        found = await admin.a_get_client_id(client) or ""
        [groups] = await admin.a_get_mappers_from_client(found)
        only = {"id.token.claim": "false", "access.token.claim": "false", "userinfo.token.claim": "true"}
        await admin.a_update_client_mapper(found, groups["id"], {**groups, "config": {**groups["config"], **only}})
    assert (await _ensure(tenant, _moved(build(tenant.subject, tenant.sso), upstream, {"thin": client}))).faults == {}
    assert await _log_in_by(keycloak, tenant, "thin") is not None
