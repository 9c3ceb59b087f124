"""Who reaches whom: the condition NetworkIsolated."""

from __future__ import annotations

from domicile.api.conditions import ConditionType
from domicile.controllers.tenant import by_name, way
from domicile.controllers.tenant.addresses import store_peers
from domicile.controllers.tenant.rules.verdict import Rule, Verdict, no
from domicile.controllers.tenant.view import TenantView


def store_reachable_by_pods(view: TenantView) -> Verdict | None:
    """Network policies open addresses, so the store's must be known where pods reach it themselves."""
    if view.zone is None:
        return None
    if way.led(view):
        if (why := way.fault(view.zone.own)) is None:
            return None
        return no(
            ConditionType.NETWORK_ISOLATED,
            "StoreAddressRefused",
            f"The way out does not lead to the store of site {view.zone.site}: {why}. Correct its endpointCidrs.",
        )
    if store_peers(view.zone.own)[0]:
        return None
    if view.by_name is not None and by_name.store_named(view.zone.own):
        return None
    return no(
        ConditionType.NETWORK_ISOLATED,
        "StoreAddressUnknown",
        f"Site {view.zone.site} names no endpointCidrs for its store: its pods can't reach it. Add them to the zone.",
    )


def policies_applied(view: TenantView) -> Verdict | None:
    """Default deny and its openings must stand."""
    if not view.policies_missing:
        return None
    return no(
        ConditionType.NETWORK_ISOLATED,
        "PoliciesMissing",
        f"Network policies are missing: {', '.join(view.policies_missing)}. They are being applied.",
    )


def no_other_openings(view: TenantView) -> Verdict | None:
    """Network policies only ever add: one of somebody else opens what ours deny."""
    if not view.policies_foreign:
        return None
    return no(
        ConditionType.NETWORK_ISOLATED,
        "ForeignPolicies",
        f"Network policies of others in namespace {view.name} open more than the tenant's own:"
        f" {', '.join(view.policies_foreign)}. Remove them.",
    )


def network_fine(_: TenantView) -> Verdict:
    """Policies stand; whether the cluster's network enforces them is EgressVerified's to say."""
    return Verdict(
        ConditionType.NETWORK_ISOLATED,
        "True",
        "PoliciesApplied",
        "Default deny and the named openings are applied.",
    )


RULES: tuple[Rule, ...] = (store_reachable_by_pods, policies_applied, no_other_openings, network_fine)
