"""OpenID providers of a tenant's realm, on real Keycloaks: whose people get in, and with which roles."""

from __future__ import annotations

import dataclasses

import pytest
import pytest_asyncio

from domicile.api.sso import Mfa, MfaMode, OidcProvider, PersonRole
from domicile.controllers.realm.server import IdentityServer
from tests.integration.apiserver import free_port
from tests.integration.identity_server import DeniedError, Person
from tests.integration.realm_estate import PASSWORD, Tenant, Upstream, forwarding, log_in, somebody
from tests.testbed.keycloak import KeycloakServer

pytestmark = pytest.mark.asyncio(loop_scope="session")
PROOF = Mfa(mode=MfaMode.UPSTREAM, claim="proof", values=["mfa", "hwk"])


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def rogue(identity: IdentityServer, keycloak: KeycloakServer) -> Upstream:
    """Another provider of the tenant, which vouches for whom it wants."""
    made = Upstream(identity, keycloak.url)
    await made.create()
    return made


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def tenant(identity: IdentityServer, upstream: Upstream, rogue: Upstream) -> Tenant:
    made = Tenant(identity, local_users=True)
    await made.trust(upstream)
    await made.trust(rogue, "rogue")
    await made.trust(upstream, "strong", mfa=PROOF, proof="hwk")
    await made.trust(upstream, "weak", mfa=PROOF, proof="pwd-hwk")
    await made.trust(upstream, "mute", mfa=PROOF)
    assert (await made.ensure()).faults == {}
    return made


async def test_people_of_a_provider_bring_their_roles_and_enrol_here(
    keycloak: KeycloakServer, upstream: Upstream, tenant: Tenant
) -> None:
    bob, eve, zoe = (Person(keycloak, somebody(), PASSWORD) for _ in range(3))
    bob_id = await upstream.user(bob.name, "support", "guests", "other")
    await upstream.user(eve.name, "other")
    await upstream.user(zoe.name, "chiefs (all)", "staff")

    claims = await log_in(bob, tenant, "corp")
    assert bob.asked == ["provider corp", "password", "enrolment"]
    assert claims["acr"] == "mfa"
    assert sorted(claims["roles"]) == ["assistant.helpdesk", "manager", "member"]
    assert sorted((await log_in(zoe, tenant, "corp"))["roles"]) == ["member", "owner"]
    assert (await log_in(eve, tenant, "corp")).get("roles", []) == []

    await upstream.leave(bob_id, "support")
    assert (await log_in(bob.elsewhere(), tenant, "corp"))["roles"] == ["member"]


async def test_a_second_factor_upstream_counts_and_a_weak_login_upstream_does_not(
    keycloak: KeycloakServer, upstream: Upstream, tenant: Tenant
) -> None:
    bob = Person(keycloak, somebody(), PASSWORD)
    await upstream.user(bob.name, "staff")
    claims = await log_in(bob, tenant, "strong")
    assert (claims["acr"], claims["roles"]) == ("mfa", ["member"])
    assert bob.asked == ["provider strong", "password"]
    for alias in ("weak", "mute"):
        with pytest.raises(DeniedError):
            await log_in(Person(keycloak, bob.name, PASSWORD), tenant, alias)


async def test_two_providers_never_share_an_account(
    keycloak: KeycloakServer, upstream: Upstream, rogue: Upstream, tenant: Tenant
) -> None:
    name = somebody()
    await upstream.user(name, "chiefs (all)")
    await rogue.user(name)
    bob = await log_in(Person(keycloak, name, PASSWORD), tenant, "corp")
    impostor = await log_in(Person(keycloak, name, PASSWORD), tenant, "rogue")
    assert bob["sub"] != impostor["sub"]
    assert (bob["roles"], impostor.get("roles", [])) == (["owner"], [])


async def test_a_providers_person_never_gets_in_by_a_password_of_ours(
    keycloak: KeycloakServer, upstream: Upstream, tenant: Tenant
) -> None:
    bob = Person(keycloak, somebody(), PASSWORD)
    await upstream.user(bob.name, "staff")
    claims = await log_in(bob, tenant, "corp")
    async with tenant.server.realm(tenant.realm) as admin:
        name = (await admin.a_get_user(claims["sub"]))["username"]
        await admin.a_set_user_password(claims["sub"], PASSWORD, temporary=False)
    by_password = bob.elsewhere(name)
    with pytest.raises(DeniedError):
        await log_in(by_password, tenant)
    assert by_password.asked == ["password"]


async def test_a_person_who_comes_back_within_the_session_is_asked_nothing(
    keycloak: KeycloakServer, upstream: Upstream, tenant: Tenant
) -> None:
    name = somebody()
    await upstream.user(name, "staff")
    for alias in ("corp", "strong"):
        bob = Person(keycloak, name, PASSWORD)
        await log_in(bob, tenant, alias)
        bob.asked.clear()
        assert (await log_in(bob, tenant))["acr"] == "mfa"
        assert bob.asked == []


async def test_one_providers_wrong_metadata_closes_nothing_but_itself(
    identity: IdentityServer, keycloak: KeycloakServer, upstream: Upstream
) -> None:
    tenant = Tenant(identity)
    await tenant.trust(upstream, "corp")
    dead = f"https://localhost:{free_port()}/realms/none"
    tenant.add("dead", "x", oidc=OidcProvider(issuer=dead, client_id="c", client_secret="dead"))
    outcome = await tenant.ensure()
    assert outcome.faults.keys() == {"dead"}
    assert dead in outcome.faults["dead"]
    name = somebody()
    await upstream.user(name, "staff")
    assert (await log_in(Person(keycloak, name, PASSWORD), tenant, "corp"))["roles"] == ["member"]


async def test_a_provider_that_is_silent_for_a_while_stays(identity: IdentityServer, keycloak: KeycloakServer) -> None:
    quiet = Upstream(identity, keycloak.url)
    await quiet.create()
    async with forwarding(keycloak.port) as port:
        async with identity.realm(quiet.realm) as admin:
            await admin.a_update_realm(quiet.realm, {"attributes": {"frontendUrl": f"https://localhost:{port}"}})
        quiet.issuer = f"https://localhost:{port}/realms/{quiet.realm}"
        tenant = Tenant(identity)
        await tenant.trust(quiet)
        first = await tenant.ensure()
        assert first.faults == {}
    outcome = await tenant.ensure(known=first.endpoints)
    assert outcome.faults.keys() == {"corp"}
    assert outcome.mended == ()
    async with identity.realm(tenant.realm) as admin:
        assert (await admin.a_get_idp("corp"))["enabled"] is True
        found = await admin.a_get_idp("corp")
        elsewhere = {**found["config"], "jwksUrl": "https://evil.example/jwks"}
        await admin.a_update_idp("corp", {**found, "config": elsewhere})
    assert (await tenant.ensure(known=first.endpoints)).mended == ("identity provider corp",)


async def test_a_role_goes_with_its_mapping_and_a_grant_with_its_assistant(
    identity: IdentityServer, keycloak: KeycloakServer, upstream: Upstream
) -> None:
    tenant = Tenant(identity)
    await tenant.trust(upstream)
    await tenant.ensure()
    name = somebody()
    await upstream.user(name, "chiefs (all)", "support", "staff")
    bob = Person(keycloak, name, PASSWORD)
    assert sorted((await log_in(bob, tenant, "corp"))["roles"]) == ["assistant.helpdesk", "manager", "member", "owner"]
    [provider] = tenant.sso.identity_providers
    kept = [m for m in provider.role_mappings if m.role != PersonRole.OWNER]
    tenant.sso = tenant.sso.model_copy(
        update={"identity_providers": [provider.model_copy(update={"role_mappings": kept})]}
    )
    tenant.subject = dataclasses.replace(tenant.subject, assistants=("sales",))
    await tenant.ensure()
    again = bob.elsewhere()
    assert sorted((await log_in(again, tenant, "corp"))["roles"]) == ["manager", "member"]


async def test_a_provider_that_left_the_spec_is_closed_and_keeps_its_people(
    identity: IdentityServer, keycloak: KeycloakServer, upstream: Upstream
) -> None:
    tenant = Tenant(identity)
    await tenant.trust(upstream)
    await tenant.trust(upstream, "other")
    await tenant.ensure()
    name = somebody()
    await upstream.user(name, "staff")
    bob = Person(keycloak, name, PASSWORD)
    before = await log_in(bob, tenant, "corp")
    kept = tenant.sso
    tenant.sso = kept.model_copy(update={"identity_providers": kept.identity_providers[1:]})
    await tenant.ensure(changed=True)
    with pytest.raises(DeniedError):
        await log_in(Person(keycloak, name, PASSWORD), tenant, "corp")
    with pytest.raises(DeniedError):
        await log_in(bob, tenant)
    tenant.sso = kept
    await tenant.ensure()
    again = bob.elsewhere()
    assert (await log_in(again, tenant, "corp"))["sub"] == before["sub"]


async def test_a_new_secret_at_the_provider_is_written_when_asked(
    identity: IdentityServer, keycloak: KeycloakServer, upstream: Upstream
) -> None:
    tenant = Tenant(identity)
    await tenant.trust(upstream)
    tenant.subject.secrets["corp"] = "wrong"  # type: ignore[index]
    await tenant.ensure()
    name = somebody()
    await upstream.user(name, "staff")
    with pytest.raises(DeniedError):
        await log_in(Person(keycloak, name, PASSWORD), tenant, "corp")
    tenant.subject.secrets["corp"] = "upstream-secret"  # type: ignore[index]
    await tenant.ensure(changed=True)
    assert (await log_in(Person(keycloak, name, PASSWORD), tenant, "corp"))["roles"] == ["member"]


async def test_a_name_that_comes_back_for_another_issuer_gets_nobodys_account(
    identity: IdentityServer, keycloak: KeycloakServer, upstream: Upstream, rogue: Upstream
) -> None:
    tenant = Tenant(identity)
    await tenant.trust(upstream)
    await tenant.trust(upstream, "other")
    assert (await tenant.ensure()).faults == {}
    kept = tenant.sso
    tenant.sso = kept.model_copy(update={"identity_providers": kept.identity_providers[1:]})
    await tenant.ensure(changed=True)
    await tenant.trust(rogue, "corp")
    faults = (await tenant.ensure(changed=True)).faults
    assert upstream.issuer in faults["corp"]
    assert "another name" in faults["corp"]
    async with identity.realm(tenant.realm) as admin:
        assert (await admin.a_get_idp("corp"))["enabled"] is False
    tenant.sso = kept
    assert (await tenant.ensure(changed=True)).faults == {}


async def test_one_more_provider_ends_no_session(
    identity: IdentityServer, keycloak: KeycloakServer, upstream: Upstream, rogue: Upstream
) -> None:
    tenant = Tenant(identity)
    await tenant.trust(upstream)
    await tenant.ensure()
    bob = Person(keycloak, somebody(), PASSWORD)
    await upstream.user(bob.name, "staff")
    await log_in(bob, tenant, "corp")
    bob.asked.clear()
    await tenant.trust(rogue, "rogue")
    await tenant.ensure(changed=True)
    await log_in(bob, tenant)
    assert bob.asked == []
