"""Realms of tenants on a real Keycloak: their own people log in by its pages, and nobody without a second factor."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytest_asyncio
from keycloak.exceptions import KeycloakError

from domicile.api.sso import Session
from domicile.controllers.realm.desired import OWNER, realm_name
from domicile.controllers.realm.drift import Drift
from domicile.controllers.realm.repair import ConflictError
from domicile.controllers.realm.server import (
    Account,
    IdentityServer,
    RefusedError,
    UnreachableError,
    load_account,
)
from tests.integration.apiserver import free_port
from tests.integration.identity_server import DeniedError, Person
from tests.integration.realm_estate import PASSWORD, Tenant, log_in
from tests.testbed.keycloak import ADMIN_ID, KeycloakServer

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def tenant(identity: IdentityServer) -> Tenant:
    made = Tenant(identity, local_users=True)
    assert (await made.ensure()).mended == (f"realm {made.realm}",)
    return made


async def test_a_realm_that_is_as_desired_is_left_alone(tenant: Tenant) -> None:
    assert (await tenant.ensure()).mended == ()
    assert await tenant.drift() == Drift()


async def test_a_person_of_the_tenants_own_enrols_a_second_factor_and_needs_it_ever_after(
    keycloak: KeycloakServer, tenant: Tenant
) -> None:
    ann = Person(keycloak, await tenant.user("owner"), PASSWORD)
    claims = await log_in(ann, tenant)
    assert ann.asked == ["password", "enrolment"]
    assert claims["acr"] == "mfa"
    assert claims["roles"] == ["owner"]
    assert not claims.keys() & {"email", "name", "given_name", "family_name", "preferred_username"}

    again = ann.elsewhere()
    assert (await log_in(again, tenant))["acr"] == "mfa"
    assert again.asked == ["password", "otp"]


@pytest.mark.parametrize("acr", ["pwd", "", "0", "nonsense"])
async def test_no_tampered_request_gets_a_token_without_the_second_factor(
    keycloak: KeycloakServer, tenant: Tenant, acr: str
) -> None:
    ann = Person(keycloak, await tenant.user("member"), PASSWORD)
    assert (await log_in(ann, tenant, acr_values=acr))["acr"] == "mfa"
    assert ann.asked == ["password", "enrolment"]


async def test_a_wrong_password_opens_nothing_and_locks_after_a_burst(keycloak: KeycloakServer, tenant: Tenant) -> None:
    name = await tenant.user("member")
    for _ in range(6):
        with pytest.raises(DeniedError):
            await log_in(Person(keycloak, name, "Wrong-Horse-42!"), tenant)
    with pytest.raises(DeniedError):
        await log_in(Person(keycloak, name, PASSWORD), tenant)


@pytest.mark.parametrize(
    "password",
    [
        "Short-42!",
        "no-upper-case-42!",
        "NO-LOWER-CASE-42!",
        "No-Digits-At-All!",
        "NoSpecialChars42",
        "{tenant}-Rocks-42!",
        "{user}-Rocks-42!A",
    ],
)
async def test_weak_passwords_are_refused(tenant: Tenant, password: str) -> None:
    name = await tenant.user("member")
    weak = password.format(tenant=tenant.subject.tenant.upper(), user=name)
    async with tenant.server.realm(tenant.realm) as admin:
        user = await admin.a_get_user_id(name)
        with pytest.raises(KeycloakError) as refused:
            await admin.a_set_user_password(str(user), weak, temporary=False)
        assert refused.value.response_code == 400


async def test_without_local_users_no_password_leads_in(identity: IdentityServer, keycloak: KeycloakServer) -> None:
    tenant = Tenant(identity)
    await tenant.ensure()
    ann = Person(keycloak, await tenant.user("owner"), PASSWORD)
    with pytest.raises(DeniedError, match="Access denied"):
        await log_in(ann, tenant)
    assert ann.asked == ["password"]


async def test_a_reused_name_gets_another_realm_and_a_foreign_realm_is_left_alone(identity: IdentityServer) -> None:
    assert realm_name("acme", "a" * 32) != realm_name("acme", "b" * 32)
    tenant = Tenant(identity)
    async with identity.realm(tenant.realm) as admin:
        theirs = {"realm": tenant.realm, "displayName": "theirs", "attributes": {OWNER: "somebody"}}
        await admin.a_create_realm(theirs)
    with pytest.raises(ConflictError):
        await tenant.ensure()
    async with identity.realm(tenant.realm) as admin:
        assert (await admin.a_get_realm(tenant.realm))["displayName"] == "theirs"


async def test_a_shorter_session_is_a_setting_and_rebuilds_no_flow(keycloak: KeycloakServer, tenant: Tenant) -> None:
    before, name = tenant.sso, await tenant.user("owner")
    tenant.sso = tenant.sso.model_copy(update={"session": Session(idle_seconds=300, max_seconds=600)})
    assert set((await tenant.ensure()).mended) == {
        "setting offlineSessionMaxLifespan",
        "setting ssoSessionIdleTimeout",
        "setting ssoSessionMaxLifespan",
    }
    assert (await log_in(Person(keycloak, name, PASSWORD), tenant))["acr"] == "mfa"
    assert await tenant.drift() == Drift()
    tenant.sso = before


async def test_a_server_that_is_down_and_one_that_refuses_say_so(keycloak: KeycloakServer, tmp_path: Path) -> None:
    bundle = str(keycloak.authority)
    down = IdentityServer(f"https://localhost:{free_port()}", Account(client_id="a", client_secret="b"), bundle)
    wrong = IdentityServer(keycloak.url, Account(client_id=ADMIN_ID, client_secret="no"), bundle)
    mistrusted = IdentityServer(keycloak.url, Account(client_id=ADMIN_ID, client_secret=keycloak.admin_secret), True)
    for server, error in ((down, UnreachableError), (wrong, RefusedError), (mistrusted, UnreachableError)):
        with pytest.raises(error, match=server.url):
            await Tenant(server).ensure()
        await server.close()
    with pytest.raises(RefusedError, match=r"eu\.json"):
        load_account(tmp_path, "eu")
    (tmp_path / "eu.json").write_text('{"clientId": "a", "clientSecret": "b"}')
    assert load_account(tmp_path, "eu") == (Account(client_id="a", client_secret="b"), None)
