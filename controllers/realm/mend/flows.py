"""Authentication flows: built beside those in use, or anew in place while the realm is closed."""

from __future__ import annotations

from typing import Any

from keycloak import KeycloakAdmin

from domicile.controllers.realm.flows import Flow, Part, Step
from domicile.controllers.realm.mend import rest

Object = dict[str, Any]


async def build(admin: KeycloakAdmin, flow: Flow, present: str | None) -> None:
    """Build a flow; ``present`` is the id of the one of its name that is other than it should be."""
    if present is None:
        present = await _new(admin, flow.alias, top=True)
    else:
        for execution in await admin.a_get_authentication_flow_executions(flow.alias):
            if execution["level"] == 0:
                await admin.a_delete_authentication_flow_execution(execution["id"])
    await _add(admin, flow, present, flow.steps)


async def forget(admin: KeycloakAdmin, aliases: tuple[str, ...]) -> None:
    """Delete flows that nothing uses any more."""
    for flow in await admin.a_get_authentication_flows() if aliases else []:
        if flow["alias"] in aliases:
            await admin.a_delete_authentication_flow(flow["id"])


async def _new(admin: KeycloakAdmin, alias: str, *, top: bool) -> str:
    flow = {"alias": alias, "providerId": "basic-flow", "topLevel": top, "builtIn": False}
    return await rest.create(admin, "authentication/flows", flow)


async def _add(admin: KeycloakAdmin, flow: Flow, within: str, steps: tuple[Step | Part, ...]) -> None:
    for step in steps:
        execution: Object = {"parentFlow": within, "requirement": step.requirement}
        if isinstance(step, Part):
            # Names of subflows are unique in a realm.
            part = await _new(admin, f"{flow.alias} {step.name}", top=False)
            execution |= {"authenticatorFlow": True, "flowId": part}
            await rest.create(admin, "authentication/executions", execution)
            await _add(admin, flow, part, step.steps)
            continue
        execution |= {"authenticator": step.provider, "authenticatorFlow": False}
        made = await rest.create(admin, "authentication/executions", execution)
        if step.config:
            await admin.a_create_execution_config(made, {"alias": made, "config": dict(step.config)})
