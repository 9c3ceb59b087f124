"""The front door's client: its claims, flows and attributes, and the roles that its tokens may name."""

from __future__ import annotations

from typing import Any

from keycloak import KeycloakAdmin

from domicile.controllers.realm.desired import CLIENT, Desired
from domicile.controllers.realm.drift import NOTES
from domicile.controllers.realm.flows import FEDERATED

Object = dict[str, Any]


async def write(admin: KeycloakAdmin, desired: Desired, observed: Object) -> None:
    """Create or replace the client, its secret included."""
    found = next((c for c in observed["clients"] if c["clientId"] == CLIENT), None)
    if found is None:
        await admin.a_create_client(desired.client)
        return
    for scope in (*found.get("defaultClientScopes", []), *found.get("optionalClientScopes", [])):
        known = await admin.a_get_client_scope_by_name(scope)
        if known is not None:
            await admin.a_delete_client_default_client_scope(found["id"], known["id"])
            await admin.a_delete_client_optional_client_scope(found["id"], known["id"])
    # An empty text takes away what somebody added.
    cleared = dict.fromkeys(found["attributes"].keys() - NOTES, "")
    wanted = {
        **desired.client,
        "id": found["id"],
        "attributes": {**cleared, **desired.client["attributes"]},
        "authenticationFlowBindingOverrides": dict.fromkeys(found.get("authenticationFlowBindingOverrides", {}), ""),
    }
    await admin.a_update_client(found["id"], wanted)


async def scope(admin: KeycloakAdmin, desired: Desired, observed: Object) -> None:
    """Let its tokens name the tenant's roles, and no others."""
    client = await admin.a_get_client_id(CLIENT) or ""
    roles = {r["name"]: r for r in await admin.a_get_realm_roles()}
    wanted = set(desired.roles) - {FEDERATED}
    present = {r["name"] for r in await admin.a_get_realm_roles_of_client_scope(client)}
    if spare := [roles[r] for r in sorted(present - wanted) if r in roles]:
        await admin.a_delete_realm_roles_of_client_scope(client, spare)
    if missing := [roles[r] for r in sorted(wanted - present)]:
        await admin.a_assign_realm_roles_to_client_scope(client, missing)
    for owner in observed.get("clientScopeMappings", {}):
        owner_id = await admin.a_get_client_id(owner) or ""
        if given := await admin.a_get_client_roles_of_client_scope(client, owner_id):
            await admin.a_delete_client_roles_of_client_scope(client, owner_id, given)
