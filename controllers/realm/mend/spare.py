"""What nobody asked for is taken back or switched off; nothing of people is deleted with it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

from keycloak import KeycloakAdmin
from keycloak.exceptions import KeycloakError

from domicile.controllers.realm.desired import Desired
from domicile.controllers.realm.drift import KEPT_CLIENTS, Spare
from domicile.controllers.realm.mend import actions, providers, rest

Object = dict[str, Any]


async def remove(admin: KeycloakAdmin, desired: Desired, observed: Object, spare: tuple[Spare, ...]) -> None:
    """Remove each. One that can't be removed keeps none of the others; its KeycloakError is raised at the end."""
    failed: list[KeycloakError] = []
    for one in spare:
        try:
            if one.kind == "identity provider":
                await providers.close(admin, desired, one.id)
            elif one.kind == "client":
                await _client(admin, observed, one)
            elif one.kind == "required action":
                await actions.switch(admin, observed, one.id, on=False)
            else:
                await _REMOVE[one.kind](admin, one)
        except KeycloakError as error:
            failed.append(error)
    if failed:
        raise failed[0]


async def _client(admin: KeycloakAdmin, observed: Object, spare: Spare) -> None:
    found = next(c for c in observed["clients"] if c["id"] == spare.id)
    kept = found["clientId"] in KEPT_CLIENTS
    closed = {"bearerOnly": True, "publicClient": False} if kept else {"enabled": False}
    await admin.a_update_client(spare.id, {"clientId": found["clientId"], **closed})


async def _role_mapping(admin: KeycloakAdmin, spare: Spare) -> None:
    alias = quote(spare.name.split("/", 1)[0], safe="")
    await rest.delete(admin, f"identity-provider/instances/{alias}/mappers/{spare.id}")


async def _composite(admin: KeycloakAdmin, spare: Spare) -> None:
    parts = await admin.a_get_role_composites_by_id(spare.id)
    await rest.delete(admin, f"roles-by-id/{spare.id}/composites", parts)


async def _grant(admin: KeycloakAdmin, spare: Spare) -> None:
    await admin.a_delete_role_by_id(spare.id)


async def _default_group(admin: KeycloakAdmin, spare: Spare) -> None:
    await rest.delete(admin, f"default-groups/{spare.id}")


async def _group_roles(admin: KeycloakAdmin, spare: Spare) -> None:
    within = f"groups/{spare.id}/role-mappings"
    found = await rest.get(admin, within)
    if roles := found.get("realmMappings"):
        await rest.delete(admin, f"{within}/realm", roles)
    for client in found.get("clientMappings", {}).values():
        await rest.delete(admin, f"{within}/clients/{client['id']}", client["mappings"])


async def _component(admin: KeycloakAdmin, spare: Spare) -> None:
    found = await admin.a_get_component(spare.id)
    await admin.a_update_component(spare.id, {**found, "config": {**found["config"], "enabled": ["false"]}})


async def _directory_mapping(admin: KeycloakAdmin, spare: Spare) -> None:
    await admin.a_delete_component(spare.id)


_REMOVE: dict[str, Callable[[KeycloakAdmin, Spare], Awaitable[None]]] = {
    "role mapping": _role_mapping,
    "composite role": _composite,
    "grant": _grant,
    "default group": _default_group,
    "group with roles": _group_roles,
    "user storage": _component,
    "signing key": _component,
    "directory mapping": _directory_mapping,
}
