"""The realm as it is created: closed, and whole but for people's ways in. Pure.

One request makes it in one transaction. Piece by piece it takes four times as long: each write of a flow makes Keycloak
load the realm anew.
"""

from __future__ import annotations

from typing import Any

from domicile.controllers.realm.desired import ACTIONS, CLIENT, OWNER, Desired
from domicile.controllers.realm.flows import FEDERATED, Flow, Part, Step

Object = dict[str, Any]


def representation(desired: Desired) -> Object:
    """A RealmRepresentation for POST /admin/realms. Its settings, providers and directories come by repair."""
    flows: list[Object] = []
    configs: list[Object] = []
    for flow in desired.flows:
        _write(flow, flow.alias, flow.steps, flows, configs)
    return {
        "realm": desired.name,
        "enabled": False,
        "sslRequired": "all",
        "attributes": {OWNER: desired.owner},
        "authenticationFlows": flows,
        "authenticatorConfig": configs,
        "clients": [desired.client],
        "roles": {"realm": [{"name": role} for role in desired.roles]},
        "scopeMappings": [{"client": CLIENT, "roles": [r for r in desired.roles if r != FEDERATED]}],
        "requiredActions": [
            {"alias": a, "providerId": a, "name": name, "enabled": a in desired.actions, "defaultAction": False}
            for a, name in ACTIONS.items()
        ],
    }


def _write(flow: Flow, alias: str, steps: tuple[Step | Part, ...], flows: list[Object], configs: list[Object]) -> None:
    executions: list[Object] = []
    for n, step in enumerate(steps):
        execution: Object = {"requirement": step.requirement, "priority": n, "userSetupAllowed": False}
        if isinstance(step, Part):
            part = f"{flow.alias} {step.name}"
            execution |= {"authenticatorFlow": True, "flowAlias": part}
            _write(flow, part, step.steps, flows, configs)
        else:
            execution |= {"authenticatorFlow": False, "authenticator": step.provider}
            if step.config:
                execution["authenticatorConfig"] = f"{alias} {n}"
                configs.append({"alias": f"{alias} {n}", "config": dict(step.config)})
        executions.append(execution)
    flows.append(
        {
            "alias": alias,
            "providerId": "basic-flow",
            "topLevel": alias == flow.alias,
            "builtIn": False,
            "authenticationExecutions": executions,
        }
    )
