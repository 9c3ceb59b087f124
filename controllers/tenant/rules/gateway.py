"""The way to the model: the condition GatewayReady."""

from __future__ import annotations

from domicile.api.conditions import ConditionType
from domicile.api.tenant import Role
from domicile.controllers.tenant.gateway import NAME
from domicile.controllers.tenant.rules.verdict import Rule, Verdict, no
from domicile.controllers.tenant.view import TenantView


def gateway_rests(view: TenantView) -> Verdict | None:
    """At the standby there are no pods."""
    if view.role is Role.ACTIVE:
        return None
    return Verdict(ConditionType.GATEWAY_READY, "True", "Standby", "The gateway is ready to be started here.")


def gateway_serves(view: TenantView) -> Verdict | None:
    """Its pods must be there."""
    found = view.workloads.get(NAME)
    if found is None:
        return Verdict(ConditionType.GATEWAY_READY, "Unknown", "AwaitingPods", "The gateway has not started yet.")
    if found.trouble is not None:
        reason, message = found.trouble
        return no(ConditionType.GATEWAY_READY, reason, f"The gateway: {message}")
    if found.ready == 0 or not found.updated:
        return no(ConditionType.GATEWAY_READY, "AwaitingPods", "The gateway's pods are not ready yet.")
    return None


def gateway_fine(_: TenantView) -> Verdict:
    """Questions get through, without what was found in them."""
    return Verdict(ConditionType.GATEWAY_READY, "True", "Serving", "Questions pass the gateway, anonymised.")


RULES: tuple[Rule, ...] = (gateway_rests, gateway_serves, gateway_fine)
