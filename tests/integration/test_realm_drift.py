"""Whoever tampers with a tenant's realm, on a real Keycloak: it is found, told and undone."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from keycloak import KeycloakAdmin

from domicile.controllers.realm.desired import CLIENT, OWNER, build
from domicile.controllers.realm.directories import LDAP_MAPPER, USER_STORAGE
from domicile.controllers.realm.mend import spare
from domicile.controllers.realm.repair import UnstableError
from domicile.controllers.realm.server import IdentityServer
from tests.integration import active_directory
from tests.integration.apiserver import free_port
from tests.integration.identity_server import Person
from tests.integration.realm_estate import PASSWORD, Object, Tenant, Upstream, federate, log_in
from tests.testbed.keycloak import KeycloakServer

pytestmark = pytest.mark.asyncio(loop_scope="session")

Tamper = Callable[[KeycloakAdmin, Tenant], Awaitable[Any]]


async def _client_id(admin: KeycloakAdmin, name: str = CLIENT) -> str:
    return str(await admin.a_get_client_id(name))


async def _execution(admin: KeycloakAdmin, tenant: Tenant, purpose: str, provider: str) -> tuple[str, Object]:
    flow = next(f.alias for f in build(tenant.subject, tenant.sso).flows if f.purpose == purpose)
    return flow, next(
        e for e in await admin.a_get_authentication_flow_executions(flow) if e.get("providerId") == provider
    )


async def _skip_otp(admin: KeycloakAdmin, tenant: Tenant) -> None:
    flow, step = await _execution(admin, tenant, "browser", "auth-otp-form")
    await admin.a_update_authentication_flow_executions({**step, "requirement": "DISABLED"}, flow)


async def _skip_otp_after_login(admin: KeycloakAdmin, tenant: Tenant) -> None:
    _, step = await _execution(admin, tenant, "after-login-local", "auth-otp-form")
    await admin.a_delete_authentication_flow_execution(step["id"])


async def _lower_level(admin: KeycloakAdmin, tenant: Tenant) -> None:
    _, step = await _execution(admin, tenant, "after-login-local", "conditional-level-of-authentication")
    path = f"admin/realms/{tenant.realm}/authentication/config/{step['authenticationConfig']}"
    found = (await admin.connection.a_raw_get(path)).json()
    found["config"]["loa-condition-level"] = "3"
    assert (await admin.connection.a_raw_put(path, data=json.dumps(found))).status_code == 204


async def _built_in_flow(admin: KeycloakAdmin, tenant: Tenant) -> None:
    await admin.a_update_realm(tenant.realm, {"browserFlow": "browser", "directGrantFlow": "direct grant"})


async def _weak_client(admin: KeycloakAdmin, tenant: Tenant) -> None:
    client = await _client_id(admin)
    found = await admin.a_get_client(client)
    weak = {**found["attributes"], "minimum.acr.value": "pwd", "pkce.code.challenge.method": ""}
    await admin.a_update_client(
        client, {**found, "directAccessGrantsEnabled": True, "redirectUris": ["https://*"], "attributes": weak}
    )


async def _claim_all_roles(admin: KeycloakAdmin, tenant: Tenant) -> None:
    await admin.a_add_mapper_to_client(
        await _client_id(admin),
        {
            "name": "more",
            "protocol": "openid-connect",
            "protocolMapper": "oidc-hardcoded-claim-mapper",
            "config": {"claim.name": "acr", "claim.value": "mfa", "id.token.claim": "true"},
        },
    )


async def _change_claim(admin: KeycloakAdmin, tenant: Tenant) -> None:
    client = await _client_id(admin)
    mapper = next(m for m in await admin.a_get_mappers_from_client(client) if m["name"] == "roles")
    await admin.a_update_client_mapper(
        client, mapper["id"], {**mapper, "config": {**mapper["config"], "claim.name": "x"}}
    )


async def _add_scope(admin: KeycloakAdmin, tenant: Tenant) -> None:
    scope = await admin.a_get_client_scope_by_name("profile")
    assert scope is not None
    await admin.a_add_client_default_client_scope(
        await _client_id(admin), scope["id"], {"realm": tenant.realm, "client": CLIENT, "clientScopeId": scope["id"]}
    )


async def _narrow_scope(admin: KeycloakAdmin, tenant: Tenant) -> None:
    await admin.a_delete_realm_roles_of_client_scope(await _client_id(admin), [await admin.a_get_realm_role("owner")])


async def _everybody_owner(admin: KeycloakAdmin, tenant: Tenant) -> None:
    default = f"default-roles-{tenant.realm}"
    await admin.a_add_composite_realm_roles_to_role(default, [await admin.a_get_realm_role("owner")])


async def _member_is_owner(admin: KeycloakAdmin, tenant: Tenant) -> None:
    await admin.a_add_composite_realm_roles_to_role("member", [await admin.a_get_realm_role("owner")])


async def _lose_role(admin: KeycloakAdmin, tenant: Tenant) -> None:
    await admin.a_delete_realm_role("manager")


async def _other_client(admin: KeycloakAdmin, tenant: Tenant) -> None:
    await admin.a_create_client({"clientId": "side-door", "publicClient": True, "directAccessGrantsEnabled": True})


async def _other_provider(admin: KeycloakAdmin, tenant: Tenant) -> None:
    found = await admin.a_get_idp("corp")
    await admin.a_create_idp({**found, "alias": "rogue", "internalId": None, "postBrokerLoginFlowAlias": ""})


async def _no_flow_after_login(admin: KeycloakAdmin, tenant: Tenant) -> None:
    await admin.a_update_idp("corp", {**await admin.a_get_idp("corp"), "postBrokerLoginFlowAlias": ""})


async def _no_signatures(admin: KeycloakAdmin, tenant: Tenant) -> None:
    found = await admin.a_get_idp("corp")
    await admin.a_update_idp("corp", {**found, "config": {**found["config"], "validateSignature": "false"}})


async def _all_owners(admin: KeycloakAdmin, tenant: Tenant) -> None:
    found = next(m for m in await admin.a_get_idp_mappers("corp") if m["name"] == "owner")
    claims = json.dumps([{"key": "groups", "value": ".*"}])
    await admin.a_update_mapper_in_idp("corp", found["id"], {**found, "config": {**found["config"], "claims": claims}})


async def _extra_mapping(admin: KeycloakAdmin, tenant: Tenant) -> None:
    await admin.a_add_mapper_to_idp(
        "corp",
        {
            "name": "more",
            "identityProviderAlias": "corp",
            "identityProviderMapper": "oidc-hardcoded-role-idp-mapper",
            "config": {"role": "owner", "syncMode": "FORCE"},
        },
    )


async def _more_actions(admin: KeycloakAdmin, tenant: Tenant) -> None:
    answer = await admin.connection.a_raw_post(
        f"admin/realms/{tenant.realm}/authentication/register-required-action",
        data=json.dumps({"providerId": "delete_credential", "name": "Delete Credential"}),
    )
    assert answer.status_code == 204, answer.text


async def _remove_enrolment(admin: KeycloakAdmin, tenant: Tenant) -> None:
    path = f"admin/realms/{tenant.realm}/authentication/required-actions/CONFIGURE_TOTP"
    assert (await admin.connection.a_raw_delete(path)).status_code == 204


async def _no_enrolment(admin: KeycloakAdmin, tenant: Tenant) -> None:
    found = await admin.a_get_required_action_by_alias("CONFIGURE_TOTP")
    assert found is not None
    await admin.a_update_required_action("CONFIGURE_TOTP", {**found, "enabled": False})


async def _no_verification(admin: KeycloakAdmin, tenant: Tenant) -> None:
    found = await admin.a_get_required_action_by_alias("VERIFY_EMAIL")
    assert found is not None
    await admin.a_update_required_action("VERIFY_EMAIL", {**found, "enabled": False})


async def _other_mail_server(admin: KeycloakAdmin, tenant: Tenant) -> None:
    evil = {"host": "mail.evil.example", "port": "465", "ssl": "true", "from": "no-reply@evil.example"}
    await admin.a_update_realm(tenant.realm, {"smtpServer": evil})


async def _lasting_links(admin: KeycloakAdmin, tenant: Tenant) -> None:
    found = await admin.a_get_realm(tenant.realm)
    lasting = {**found["attributes"], "actionTokenGeneratedByUserLifespan.verify-email": "864000"}
    await admin.a_update_realm(tenant.realm, {"attributes": lasting})


async def _directory(admin: KeycloakAdmin, tenant: Tenant) -> None:
    config = {
        "vendor": ["other"],
        "connectionUrl": ["ldap://directory.example"],
        "usersDn": ["dc=example"],
        "usernameLDAPAttribute": ["uid"],
        "rdnLDAPAttribute": ["uid"],
        "uuidLDAPAttribute": ["entryUUID"],
        "userObjectClasses": ["person"],
        "authType": ["none"],
        "editMode": ["READ_ONLY"],
        "enabled": ["true"],
    }
    await admin.a_create_component(
        {
            "name": "directory",
            "providerId": "ldap",
            "providerType": "org.keycloak.storage.UserStorageProvider",
            "config": config,
        }
    )


async def _other_flow_for_client(admin: KeycloakAdmin, tenant: Tenant) -> None:
    client = await _client_id(admin)
    weak = next(f["id"] for f in await admin.a_get_authentication_flows() if f["alias"] == "browser")
    found = await admin.a_get_client(client)
    await admin.a_update_client(client, {**found, "authenticationFlowBindingOverrides": {"browser": weak}})


async def _other_levels_for_client(admin: KeycloakAdmin, tenant: Tenant) -> None:
    client = await _client_id(admin)
    found = await admin.a_get_client(client)
    levels = {**found["attributes"], "acr.loa.map": json.dumps({"mfa": 1}), "access.token.lifespan": "86400"}
    await admin.a_update_client(client, {**found, "attributes": levels})


async def _authorization_services(admin: KeycloakAdmin, tenant: Tenant) -> None:
    client = await _client_id(admin)
    on = {"authorizationServicesEnabled": True, "serviceAccountsEnabled": True}
    await admin.a_update_client(client, {**await admin.a_get_client(client), **on})
    # They outlive the account that they need to be made.
    await admin.a_update_client(client, {**await admin.a_get_client(client), "serviceAccountsEnabled": False})


async def _client_policy(admin: KeycloakAdmin, tenant: Tenant) -> None:
    policy = {"name": "weak", "enabled": True, "conditions": [], "profiles": []}
    answer = await admin.connection.a_raw_put(
        f"admin/realms/{tenant.realm}/client-policies/policies", data=json.dumps({"policies": [policy]})
    )
    assert answer.status_code == 204, answer.text


async def _signing_key(admin: KeycloakAdmin, tenant: Tenant) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    config = {"privateKey": [pem], "priority": ["1000"], "enabled": ["true"], "active": ["true"]}
    await admin.a_create_component(
        {"name": "mine", "providerId": "rsa", "providerType": "org.keycloak.keys.KeyProvider", "config": config}
    )


async def _group_with_role(admin: KeycloakAdmin, tenant: Tenant) -> None:
    group = str(await admin.a_create_group({"name": "chiefs"}))
    await admin.a_assign_group_realm_roles(group, [await admin.a_get_realm_role("owner")])


async def _default_group(admin: KeycloakAdmin, tenant: Tenant) -> None:
    group = str(await admin.a_create_group({"name": "everybody"}))
    path = f"admin/realms/{tenant.realm}/default-groups/{group}"
    assert (await admin.connection.a_raw_put(path, data="")).status_code == 204


async def _open_kept_client(admin: KeycloakAdmin, tenant: Tenant) -> None:
    client = await _client_id(admin, "broker")
    found = await admin.a_get_client(client)
    await admin.a_update_client(client, {**found, "bearerOnly": False, "publicClient": True})


async def _lose_owner(admin: KeycloakAdmin, tenant: Tenant) -> None:
    await admin.a_update_realm(tenant.realm, {"attributes": {"somebody": "was here"}})


async def _more_config(admin: KeycloakAdmin, tenant: Tenant) -> None:
    found = await admin.a_get_idp("corp")
    await admin.a_update_idp("corp", {**found, "config": {**found["config"], "disableNonce": "true"}})


async def _other_endpoint(admin: KeycloakAdmin, tenant: Tenant) -> None:
    found = await admin.a_get_idp("corp")
    await admin.a_update_idp("corp", {**found, "config": {**found["config"], "jwksUrl": "https://evil.example/jwks"}})


async def _awkward_composite(admin: KeycloakAdmin, tenant: Tenant) -> None:
    await admin.a_create_realm_role({"name": "a/b c"})
    found = next(r for r in await admin.a_get_realm_roles() if r["name"] == "a/b c")
    path = f"admin/realms/{tenant.realm}/roles-by-id/{found['id']}/composites"
    body = json.dumps([await admin.a_get_realm_role("owner")])
    assert (await admin.connection.a_raw_post(path, data=body)).status_code == 204


async def _loose_settings(admin: KeycloakAdmin, tenant: Tenant) -> None:
    await admin.a_update_realm(
        tenant.realm,
        {
            "sslRequired": "none",
            "registrationAllowed": True,
            "bruteForceProtected": False,
            "passwordPolicy": "length(4)",
            "ssoSessionMaxLifespan": 864000,
            "attributes": {OWNER: tenant.subject.tenant_id, "acr.loa.map": json.dumps({"mfa": 1, "pwd": 1})},
        },
    )


_LOOSE_SETTINGS: Object = {
    "attributes": {"frontendUrl": "https://evil.example"},
    "defaultSignatureAlgorithm": "HS256",
    "browserSecurityHeaders": {"contentSecurityPolicy": "", "xFrameOptions": ""},
    "quickLoginCheckMilliSeconds": 0,
    "minimumQuickLoginWaitSeconds": 0,
    "bruteForceStrategy": "LINEAR",
    "organizationsEnabled": True,
    "verifyEmail": False,
}
_LOOSE_CLIENT: Object = {
    "bearerOnly": True,
    "adminUrl": "https://evil.example",
    "rootUrl": "https://evil.example",
    "notBefore": 2100000000,
}


_TAMPERED: dict[str, tuple[Tamper, str]] = {
    "flow: no second factor": (_skip_otp, "flow browser"),
    "flow: no second factor after a provider's login": (_skip_otp_after_login, "flow after-login-local"),
    "flow: another level": (_lower_level, "flow after-login-local"),
    "flow: Keycloak's own": (_built_in_flow, "setting browserFlow"),
    "client: weak": (_weak_client, f"client {CLIENT} (directAccessGrantsEnabled)"),
    "client: another claim": (_claim_all_roles, f"client {CLIENT} (protocolMappers)"),
    "client: a changed claim": (_change_claim, f"client {CLIENT} (protocolMappers)"),
    "client: another scope": (_add_scope, f"client {CLIENT} (defaultClientScopes)"),
    "client: fewer roles": (_narrow_scope, "scope of the client"),
    "roles: everybody an owner": (_everybody_owner, "composite role"),
    "roles: every member an owner": (_member_is_owner, "composite role member"),
    "roles: one gone": (_lose_role, "role manager"),
    "clients: another one": (_other_client, "client side-door"),
    "providers: another one": (_other_provider, "identity provider rogue"),
    "providers: no flow after the login": (_no_flow_after_login, "identity provider corp"),
    "providers: no signatures": (_no_signatures, "identity provider corp"),
    "mappings: everybody an owner": (_all_owners, "role mappings of corp"),
    "mappings: one more": (_extra_mapping, "role mapping corp/more"),
    "actions: one more": (_more_actions, "required action delete_credential"),
    "actions: no enrolment": (_no_enrolment, "required action CONFIGURE_TOTP"),
    "actions: enrolment gone": (_remove_enrolment, "required action CONFIGURE_TOTP"),
    "actions: no verification": (_no_verification, "required action VERIFY_EMAIL"),
    "mail: a server of somebody's": (_other_mail_server, "setting smtpServer"),
    "mail: links that last": (_lasting_links, "setting attributes"),
    "a directory": (_directory, "user storage directory"),
    "client: another flow": (_other_flow_for_client, f"client {CLIENT} (authenticationFlowBindingOverrides)"),
    "client: other levels": (_other_levels_for_client, f"client {CLIENT} (attributes)"),
    "client: permissions by its own rules": (
        _authorization_services,
        f"client {CLIENT} (authorizationServicesEnabled)",
    ),
    "a client policy": (_client_policy, "setting clientPolicies"),
    "a signing key": (_signing_key, "signing key mine"),
    "a group with a role": (_group_with_role, "group with roles chiefs"),
    "a group for everybody": (_default_group, "default group everybody"),
    "clients: Keycloak's own opened": (_open_kept_client, "client broker"),
    "the owner's mark": (_lose_owner, "setting attributes"),
    "providers: a looser check": (_more_config, "identity provider corp"),
    "providers: another endpoint": (_other_endpoint, "identity provider corp"),
    "roles: a composite with an awkward name": (_awkward_composite, "composite role a/b c"),
    "settings": (_loose_settings, "setting sslRequired"),
}


async def _mapper(admin: KeycloakAdmin, name: str) -> Object:
    [directory] = await _enabled(admin)
    found: list[Object] = await admin.a_get_components({"parent": directory["id"], "name": name})
    return next(m for m in found if m["name"] == name)


async def _enabled(admin: KeycloakAdmin) -> list[Object]:
    listed: list[Object] = await admin.a_get_components({"type": USER_STORAGE})
    return [c for c in listed if c["config"]["enabled"] == ["true"]]


async def _add_mapper(admin: KeycloakAdmin, name: str, provider: str, config: Object) -> None:
    [directory] = await _enabled(admin)
    made = {"name": name, "providerId": provider, "providerType": LDAP_MAPPER, "parentId": directory["id"]}
    await admin.a_create_component({**made, "config": config})


async def _change(admin: KeycloakAdmin, component: Object, **config: str) -> None:
    changed = {**component["config"], **{k.replace("_", "."): [v] for k, v in config.items()}}
    await admin.a_update_component(component["id"], {**component, "config": changed})


async def _owners_by_the_groups_name(admin: KeycloakAdmin, _: Tenant) -> None:
    await _add_mapper(admin, "groups", "hardcoded-ldap-role-mapper", {"role": ["owner"]})


async def _groups_twice(admin: KeycloakAdmin, _: Tenant) -> None:
    found = await _mapper(admin, "groups")
    await _add_mapper(admin, "groups", "group-ldap-mapper", {**found["config"], "groups.path": ["/"]})


async def _groups_swapped(admin: KeycloakAdmin, tenant: Tenant) -> None:
    await admin.a_delete_component((await _mapper(admin, "groups"))["id"])
    await _owners_by_the_groups_name(admin, tenant)


async def _directory_twice(admin: KeycloakAdmin, _: Tenant) -> None:
    [found] = await _enabled(admin)
    config = {**found["config"], "connectionUrl": ["ldaps://evil.example"], "bindCredential": ["x"]}
    await admin.a_create_component({**found, "id": None, "config": config})


async def _copied_and_changed(admin: KeycloakAdmin, tenant: Tenant) -> None:
    """The copy is as ours should be; by ours people came, and are locked out without it."""
    [found] = await _enabled(admin)
    await admin.a_create_component({**found, "id": None})
    await _change(admin, found, editMode="WRITABLE")


async def _another_kind(admin: KeycloakAdmin, _: Tenant) -> None:
    [found] = await _enabled(admin)
    await admin.a_delete_component(found["id"])
    key = {"name": "staff", "providerId": "hmac-generated", "providerType": "org.keycloak.keys.KeyProvider"}
    await admin.a_create_component({**key, "id": found["id"], "config": {"priority": ["1"]}})


async def _username_by_mail(admin: KeycloakAdmin, _: Tenant) -> None:
    await _change(admin, await _mapper(admin, "username"), ldap_attribute="mail")


async def _username_twice(admin: KeycloakAdmin, _: Tenant) -> None:
    found = await _mapper(admin, "username")
    await _add_mapper(admin, "alias", found["providerId"], {**found["config"], "ldap.attribute": ["mail"]})


async def _no_account_control(admin: KeycloakAdmin, _: Tenant) -> None:
    await admin.a_delete_component((await _mapper(admin, "MSAD account controls"))["id"])


async def _account_control_of_first_login(admin: KeycloakAdmin, _: Tenant) -> None:
    await _change(admin, await _mapper(admin, "MSAD account controls"), always_read_enabled_value_from_ldap="false")


async def _groups_attributes(admin: KeycloakAdmin, _: Tenant) -> None:
    await _change(admin, await _mapper(admin, "groups"), mapped_group_attributes="description")


async def _follow_referrals(admin: KeycloakAdmin, _: Tenant) -> None:
    [found] = await _enabled(admin)
    await _change(admin, found, referral="follow")


_TAMPERED_DIRECTORY: dict[str, tuple[Tamper, str]] = {
    "everybody an owner, by the name of our mapper": (_owners_by_the_groups_name, "directory mapping staff/groups"),
    "groups read twice": (_groups_twice, "directory mapping staff/groups"),
    "our mapper swapped for another": (_groups_swapped, "directory staff"),
    "the groups' mapper: one key more": (_groups_attributes, "directory staff"),
    "another directory of its name": (_directory_twice, "user storage staff"),
    "another directory in place of it": (_copied_and_changed, "user storage staff"),
    "another kind in place of it": (_another_kind, "directory staff"),
    "user names from another attribute": (_username_by_mail, "directory staff"),
    "user names from two attributes": (_username_twice, "directory mapping staff/alias"),
    "accounts closed in the directory open here": (_no_account_control, "directory staff"),
    "accounts closed in the directory seen once": (_account_control_of_first_login, "directory staff"),
    "its referrals followed": (_follow_referrals, "directory staff"),
}


def _federate(tenant: Tenant, **changes: Any) -> None:
    """The tenant has an Active Directory that nobody answers for."""
    federate(tenant, f"ldaps://localhost:{free_port()}", **{**active_directory.FIELDS, **changes})


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def federated(identity: IdentityServer) -> Tenant:
    made = Tenant(identity)
    _federate(made)
    await made.ensure()
    return made


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def tenant(identity: IdentityServer, upstream: Upstream) -> Tenant:
    made = Tenant(identity, local_users=True)
    await made.trust(upstream)
    assert (await made.ensure()).faults == {}
    return made


@pytest.mark.parametrize("case", _TAMPERED)
async def test_what_was_tampered_with_is_found_told_and_undone(case: str, tenant: Tenant) -> None:
    tamper, told = _TAMPERED[case]
    async with tenant.server.realm(tenant.realm) as admin:
        await tamper(admin, tenant)
    mended = (await tenant.ensure()).mended
    assert any(told in m for m in mended), mended
    assert (await tenant.ensure()).mended == ()


async def test_each_realm_setting_and_each_of_the_clients_that_opens_or_closes_a_way_is_mended(tenant: Tenant) -> None:
    async with tenant.server.realm(tenant.realm) as admin:
        before = await admin.a_get_realm(tenant.realm)
        await admin.a_update_realm(tenant.realm, {**before, **_LOOSE_SETTINGS})
        client = await admin.a_get_client(await _client_id(admin))
        await admin.a_update_client(client["id"], {**client, **_LOOSE_CLIENT})
    mended = set((await tenant.ensure()).mended)
    assert {
        "setting attributes",
        *(f"setting {s}" for s in _LOOSE_SETTINGS if s != "attributes"),
        *(f"client {CLIENT} ({c})" for c in _LOOSE_CLIENT),
    } == mended
    assert (await tenant.ensure()).mended == ()
    async with tenant.server.realm(tenant.realm) as admin:
        realm = await admin.a_get_realm(tenant.realm)
        assert realm["browserSecurityHeaders"] == before["browserSecurityHeaders"]
        assert not realm["attributes"].get("frontendUrl")


@pytest.mark.parametrize("case", _TAMPERED_DIRECTORY)
async def test_a_directory_that_was_tampered_with_is_found_told_and_undone(case: str, federated: Tenant) -> None:
    tamper, told = _TAMPERED_DIRECTORY[case]
    async with federated.server.realm(federated.realm) as admin:
        [before] = await _enabled(admin)
        await tamper(admin, federated)
    mended = (await federated.ensure()).mended
    assert any(told in m for m in mended), mended
    assert (await federated.ensure()).mended == ()
    async with federated.server.realm(federated.realm) as admin:
        assert [c["id"] for c in await _enabled(admin)] == [before["id"]]


async def test_a_vendor_that_is_corrected_brings_what_keycloak_makes_for_it_at_creation_only(
    identity: IdentityServer,
) -> None:
    tenant = Tenant(identity)
    _federate(tenant, vendor="other")
    await tenant.ensure()
    _federate(tenant)
    await tenant.ensure(changed=True)
    async with identity.realm(tenant.realm) as admin:
        assert (await _mapper(admin, "username"))["config"]["ldap.attribute"] == ["sAMAccountName"]
        control = await _mapper(admin, "MSAD account controls")
    assert control["providerId"] == "msad-user-account-control-mapper"
    assert (await tenant.ensure()).mended == ()


async def test_who_got_in_while_the_realm_was_tampered_with_is_out(keycloak: KeycloakServer, tenant: Tenant) -> None:
    ann = Person(keycloak, await tenant.user("owner"), PASSWORD)
    await log_in(ann, tenant)
    ann.asked.clear()
    await log_in(ann, tenant)
    assert ann.asked == [], "the session counts"
    async with tenant.server.realm(tenant.realm) as admin:
        await _member_is_owner(admin, tenant)
    await tenant.ensure()
    await log_in(ann, tenant)
    assert ann.asked == ["password", "otp"]


async def test_who_got_in_is_out_though_the_spec_changed_at_the_same_time(
    keycloak: KeycloakServer, tenant: Tenant
) -> None:
    ann = Person(keycloak, await tenant.user("owner"), PASSWORD)
    await log_in(ann, tenant)
    async with tenant.server.realm(tenant.realm) as admin:
        await _built_in_flow(admin, tenant)
    await tenant.ensure(changed=True)
    ann.asked.clear()
    await log_in(ann, tenant)
    assert ann.asked == ["password", "otp"]


async def test_a_realm_that_cannot_be_mended_is_closed(
    keycloak: KeycloakServer, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: Any) -> None:
        return None

    async with tenant.server.realm(tenant.realm) as admin:
        await _member_is_owner(admin, tenant)
        with monkeypatch.context() as without:
            without.setattr(spare, "remove", never)
            with pytest.raises(UnstableError, match="composite role member"):
                await tenant.ensure()
        assert (await admin.a_get_realm(tenant.realm))["enabled"] is False
    await tenant.ensure()
    async with tenant.server.realm(tenant.realm) as admin:
        assert (await admin.a_get_realm(tenant.realm))["enabled"] is True


async def test_a_realm_that_was_tampered_with_still_serves_its_people(keycloak: KeycloakServer, tenant: Tenant) -> None:
    ann = Person(keycloak, await tenant.user("admin"), PASSWORD)
    await log_in(ann, tenant)
    async with tenant.server.realm(tenant.realm) as admin:
        await _skip_otp(admin, tenant)
        await _lose_role(admin, tenant)
    await tenant.ensure()
    again = ann.elsewhere()
    assert (await log_in(again, tenant))["roles"] == ["admin"]
    assert again.asked == ["password", "otp"]
