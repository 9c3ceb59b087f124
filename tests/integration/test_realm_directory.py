"""A directory of a tenant's realm: a real OpenLDAP behind a real Keycloak."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
import pytest_asyncio

from domicile.api.sso import RoleMapping
from domicile.controllers.realm.server import IdentityServer
from tests.integration import directory_server
from tests.integration.apiserver import Authority
from tests.integration.directory_server import BASE, BIND_PASSWORD
from tests.integration.identity_server import DeniedError, Person
from tests.integration.realm_estate import PASSWORD, Tenant, federate, log_in
from tests.testbed.keycloak import KeycloakServer

pytestmark = pytest.mark.asyncio(loop_scope="session")
PEOPLE = {
    "dora": ("chiefs (all)", "staff"),
    "dave": ("support", "other"),
    "dan": ("other",),
    "gone": ("staff",),
    "chief": ("chiefs (all)", "staff"),
    "dirk": ("support",),
    "mailless": ("staff",),
}


@pytest.fixture(scope="module")
def authority(keycloak: KeycloakServer) -> Authority:
    """The one that the Keycloak trusts."""
    return Authority(keycloak.authority.parent)


@pytest.fixture(scope="module")
def directory(authority: Authority) -> Iterator[directory_server.Directory]:
    with directory_server.running(authority, PEOPLE, PASSWORD) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def tenant(identity: IdentityServer, directory: directory_server.Directory) -> Tenant:
    made = Tenant(identity, local_users=True)
    federate(made, directory.url)
    await made.ensure()
    assert (await made.ensure()).mended == ()
    return made


async def test_people_of_a_directory_log_in_by_password_and_second_factor_with_the_roles_of_their_groups(
    keycloak: KeycloakServer, tenant: Tenant, directory: directory_server.Directory
) -> None:
    dora = Person(keycloak, "dora", PASSWORD)
    claims = await log_in(dora, tenant)
    assert dora.asked == ["password", "enrolment"]
    assert (claims["acr"], sorted(claims["roles"])) == ("mfa", ["member", "owner"])
    dave = await log_in(Person(keycloak, "dave", PASSWORD), tenant)
    assert sorted(dave["roles"]) == ["assistant.helpdesk", "manager"]
    assert (await log_in(Person(keycloak, "dan", PASSWORD), tenant)).get("roles", []) == []
    with pytest.raises(DeniedError):
        await log_in(Person(keycloak, "dora", "Wrong-Horse-42!"), tenant)


async def test_who_left_the_directory_is_out(
    keycloak: KeycloakServer, tenant: Tenant, directory: directory_server.Directory
) -> None:
    gone = Person(keycloak, "gone", PASSWORD)
    await log_in(gone, tenant)
    directory.modify(f"dn: uid=gone,ou=people,{BASE}\nchangetype: delete\n")
    with pytest.raises(DeniedError):
        await log_in(gone.elsewhere(), tenant)


async def test_nobody_of_a_directory_is_asked_for_an_address(
    keycloak: KeycloakServer, tenant: Tenant, directory: directory_server.Directory
) -> None:
    directory.modify(f"dn: uid=mailless,ou=people,{BASE}\nchangetype: modify\ndelete: mail\n")
    assert (await log_in(Person(keycloak, "mailless", PASSWORD), tenant))["roles"] == ["member"]
    async with tenant.server.realm(tenant.realm) as admin:
        (dora,) = await admin.a_get_users({"username": "dora", "exact": True})
        assert (dora["email"], dora["emailVerified"]) == ("dora@bank.example", True)


async def test_beside_a_directory_no_account_of_the_tenants_own_gets_in_unless_it_is_asked_for(
    identity: IdentityServer, keycloak: KeycloakServer, directory: directory_server.Directory
) -> None:
    tenant = Tenant(identity)
    federate(tenant, directory.url)
    await tenant.ensure()
    ann = Person(keycloak, await tenant.user("owner"), PASSWORD)
    with pytest.raises(DeniedError, match="Access denied"):
        await log_in(ann, tenant)
    assert ann.asked == ["password"]
    assert (await log_in(Person(keycloak, "dan", PASSWORD), tenant))["acr"] == "mfa"


async def test_a_role_goes_with_its_mapping(
    keycloak: KeycloakServer, tenant: Tenant, directory: directory_server.Directory
) -> None:
    chief = Person(keycloak, "chief", PASSWORD)
    await log_in(chief, tenant)
    federate(tenant, directory.url, role_mappings=[RoleMapping.model_validate({"group": "staff", "role": "member"})])
    await tenant.ensure()
    assert (await log_in(chief.elsewhere(), tenant))["roles"] == ["member"]
    federate(tenant, directory.url)
    await tenant.ensure()
    assert sorted((await log_in(chief.elsewhere(), tenant))["roles"]) == ["member", "owner"]


async def test_a_wrong_bind_password_is_told(tenant: Tenant) -> None:
    tenant.subject.secrets["staff"] = "wrong"  # type: ignore[index]
    assert "bindSecret" in (await tenant.ensure(changed=True)).unreachable["staff"]
    tenant.subject.secrets["staff"] = BIND_PASSWORD  # type: ignore[index]
    assert (await tenant.ensure(changed=True)).unreachable == {}


async def test_who_tampers_with_a_directory_is_undone_and_its_people_log_in_as_before(
    keycloak: KeycloakServer, tenant: Tenant
) -> None:
    async with tenant.server.realm(tenant.realm) as admin:
        [component] = await admin.a_get_components({"name": "staff"})
        await admin.a_create_component({**component, "id": None})
        writable = {**component["config"], "editMode": ["WRITABLE"], "connectionUrl": ["ldap://other.example"]}
        await admin.a_update_component(component["id"], {**component, "config": writable})
        for name in ("all-owners", "groups"):
            await admin.a_create_component(
                {
                    "name": name,
                    "providerId": "hardcoded-ldap-role-mapper",
                    "providerType": "org.keycloak.storage.ldap.mappers.LDAPStorageMapper",
                    "parentId": component["id"],
                    "config": {"role": ["owner"]},
                }
            )
        folder = next(g for g in await admin.a_get_groups() if g["name"] == "staff")
        group = next(g for g in await admin.a_get_group_children(folder["id"]) if g["name"] == "guests")
        await admin.a_assign_group_realm_roles(group["id"], [await admin.a_get_realm_role("owner")])
    mended = (await tenant.ensure()).mended
    assert "directory staff" in mended
    assert any("directory mapping staff/all-owners" in m for m in mended)
    assert (await tenant.ensure()).mended == ()
    claims = await log_in(Person(keycloak, "dirk", PASSWORD), tenant)
    assert sorted(claims["roles"]) == ["assistant.helpdesk", "manager"]


async def test_a_directory_that_hangs_keeps_nobody_else_out(
    keycloak: KeycloakServer, tenant: Tenant, directory: directory_server.Directory
) -> None:
    name = await tenant.user("owner")
    assert (await tenant.ensure()).unreachable == {}
    directory.process.send_signal(signal.SIGSTOP)
    try:
        assert (await tenant.ensure()).unreachable.keys() == {"staff"}
        assert (await log_in(Person(keycloak, name, PASSWORD), tenant))["roles"] == ["owner"]
    finally:
        directory.process.send_signal(signal.SIGCONT)
    assert (await tenant.ensure()).unreachable == {}


async def test_people_read_in_by_hand_are_no_tampering(tenant: Tenant) -> None:
    async with tenant.server.realm(tenant.realm) as admin:
        [component] = [c for c in await admin.a_get_components({"name": "staff"}) if c["config"]["enabled"] == ["true"]]
        path = f"admin/realms/{tenant.realm}/user-storage/{component['id']}/sync"
        answer = await admin.connection.a_raw_post(path, data="", action="triggerFullSync")
        assert answer.status_code == 200, answer.text
    assert (await tenant.ensure()).mended == ()


async def test_a_directory_that_left_the_spec_lets_nobody_in(keycloak: KeycloakServer, tenant: Tenant) -> None:
    tenant.sso = tenant.sso.model_copy(update={"directories": []})
    await tenant.ensure()
    with pytest.raises(DeniedError):
        await log_in(Person(keycloak, "dora", PASSWORD), tenant)
