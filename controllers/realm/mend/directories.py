"""Directories: the component, its mappers, and the groups of the realm that hold the roles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from keycloak import KeycloakAdmin
from keycloak.exceptions import KeycloakPostError

from domicile.controllers.realm.directories import LDAP_MAPPER, Federation
from domicile.controllers.realm.drift import COMPONENT_NOTES, ours
from domicile.controllers.realm.mend import rest

Object = dict[str, Any]

_CONNECTION = (
    "connectionUrl",
    "authType",
    "bindDn",
    "bindCredential",
    "useTruststoreSpi",
    "connectionTimeout",
    "startTls",
)


async def write(admin: KeycloakAdmin, federation: Federation) -> None:
    """Create or replace a directory. Groups come first: a mapper needs the folder that it puts them into.

    One that is there opens last: nobody comes in by it before its mappers say who they are.
    """
    await _groups(admin, federation)
    # Of all components: another kind by its id is in its place, and becomes it.
    found = next((c for c in await admin.a_get_components() if c["id"] == federation.id), None)
    if found is None:
        await admin.a_create_component(federation.component)
    mappers = await admin.a_get_components({"parent": federation.id, "type": LDAP_MAPPER})
    for wanted in federation.mappers:
        if (present := ours(mappers, wanted)) is not None:
            await _update(admin, present, wanted)
        else:
            await admin.a_create_component({**wanted, "parentId": federation.id})
    if found is not None:
        await _update(admin, found, federation.component)


@dataclass(frozen=True)
class Fault:
    """Why a directory can't be used now. ``refused``: it answers, and does not take bindDn or password."""

    message: str
    refused: bool


async def fault(admin: KeycloakAdmin, federation: Federation) -> Fault | None:
    """Why the identity server can't use the directory now; None where it can. It tries the password once."""
    url = federation.component["config"]["connectionUrl"][0]
    if await _works(admin, federation, "testAuthentication"):
        return None
    if await _works(admin, federation, "testConnection"):
        return Fault(f"The directory at {url} refuses bindDn or the password of bindSecret: correct them.", True)
    return Fault(f"The directory at {url} can't be reached by the identity server: is it up?", False)


async def _works(admin: KeycloakAdmin, federation: Federation, action: str) -> bool:
    config = {k: v[0] for k, v in federation.component["config"].items()}
    try:
        await rest.post(admin, "testLDAPConnection", {"action": action, **{k: config[k] for k in _CONNECTION}})
    except KeycloakPostError as error:
        if error.response_code != 400:
            raise
        return False
    return True


async def _groups(admin: KeycloakAdmin, federation: Federation) -> None:
    folder = await _group(admin, None, federation.name)
    for name, roles in federation.groups.items():
        group = await _group(admin, folder, name)
        present = {r["name"] for r in await admin.a_get_group_realm_roles(group)}
        if spare := [await admin.a_get_realm_role(r) for r in sorted(present - set(roles))]:
            await admin.a_delete_group_realm_roles(group, spare)
        if missing := [await admin.a_get_realm_role(r) for r in roles if r not in present]:
            await admin.a_assign_group_realm_roles(group, missing)


async def _group(admin: KeycloakAdmin, parent: str | None, name: str) -> str:
    if parent is None:
        listed = await admin.a_get_groups({"search": name, "exact": True})
    else:
        listed = await admin.a_get_group_children(parent)
    found = next((g["id"] for g in listed if g["name"] == name), None)
    return str(found or await admin.a_create_group({"name": name}, parent=parent))


async def _update(admin: KeycloakAdmin, found: Object, wanted: Object) -> None:
    # An empty list takes away what somebody added.
    cleared: Object = {k: [] for k in found["config"].keys() - COMPONENT_NOTES}
    await admin.a_update_component(found["id"], {**found, **wanted, "config": {**cleared, **wanted["config"]}})
