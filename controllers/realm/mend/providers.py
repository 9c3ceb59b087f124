"""Identity providers and their mappers. Nobody comes in by one before its mappers say who they are."""

from __future__ import annotations

from typing import Any

from keycloak import KeycloakAdmin

from domicile.controllers.realm.desired import Desired
from domicile.controllers.realm.drift import Drift

Object = dict[str, Any]


async def write(admin: KeycloakAdmin, desired: Desired, observed: Object, drift: Drift, *, secrets: bool) -> None:
    """Create or replace what differs; with ``secrets`` every provider, for an export doesn't show them."""
    known = {p["alias"]: p for p in observed["identityProviders"]}
    for provider in desired.providers:
        alias = provider["alias"]
        if alias not in known:
            await admin.a_create_idp({**provider, "enabled": False})
        if alias in drift.mappers:
            await _mappers(admin, desired, alias)
        if alias in drift.providers or secrets:
            present = known.get(alias) or await admin.a_get_idp(alias)
            await admin.a_update_idp(alias, {**present, **provider})


async def close(admin: KeycloakAdmin, desired: Desired, alias: str) -> None:
    """Switch a provider off. Deleted, it would take along which of its people is which user here."""
    found = await admin.a_get_idp(alias)
    flows = {"firstBrokerLoginFlowAlias": desired.closed_flow, "postBrokerLoginFlowAlias": desired.closed_flow}
    await admin.a_update_idp(alias, {**found, **flows, "enabled": False, "linkOnly": True})


async def _mappers(admin: KeycloakAdmin, desired: Desired, alias: str) -> None:
    present = {m["name"]: m for m in await admin.a_get_idp_mappers(alias)}
    for mapper in desired.mappers[alias]:
        found = present.get(mapper["name"])
        if found is None:
            await admin.a_add_mapper_to_idp(alias, mapper)
        else:
            await admin.a_update_mapper_in_idp(alias, found["id"], {"id": found["id"], **mapper})
