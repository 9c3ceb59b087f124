"""The way to the model: the condition GatewayReady."""

from __future__ import annotations

from domicile.api.conditions import ConditionType
from domicile.controllers.tenant.gateway import NAME
from domicile.controllers.tenant.rules import pods
from domicile.controllers.tenant.rules.verdict import Rule, Verdict
from domicile.controllers.tenant.view import TenantView


def gateway_rests(view: TenantView) -> Verdict | None:
    """At the standby there are no pods."""
    return pods.rest(view, ConditionType.GATEWAY_READY, "gateway")


def gateway_serves(view: TenantView) -> Verdict | None:
    """Its pods must be there."""
    return pods.serve(view, ConditionType.GATEWAY_READY, NAME, "gateway")


def gateway_fine(_: TenantView) -> Verdict:
    """Questions get through, without what was found in them."""
    return Verdict(ConditionType.GATEWAY_READY, "True", "Serving", "Questions pass the gateway, anonymised.")


RULES: tuple[Rule, ...] = (gateway_rests, gateway_serves, gateway_fine)
