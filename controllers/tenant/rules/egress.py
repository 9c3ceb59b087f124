"""What the tenant's pods were seen to reach: the condition EgressVerified."""

from __future__ import annotations

from domicile.api.conditions import ConditionType
from domicile.controllers.tenant import reach
from domicile.controllers.tenant.rules.verdict import Rule, Verdict, no
from domicile.controllers.tenant.view import Run, TenantView

KIND = ConditionType.EGRESS_VERIFIED
BLOCKED = "WayBlocked"
AWAITING = "AwaitingCheck"
FAILED = "CheckFailed"


def _runs(view: TenantView) -> list[tuple[reach.Check, Run]]:
    return [(c, view.runs[c.job]) for c in reach.checks(view) if c.job in view.runs]


def _leaks(view: TenantView) -> dict[str, list[str]]:
    """What was reached and should not have been, by component."""
    seen = ((c, run.reached) for c, run in _runs(view) if run.reached is not None)
    return {c.component: found for c, reached in seen if (found := sorted(reached - c.allowed))}


def policies_enforced(view: TenantView) -> Verdict | None:
    """Where every component reaches what always answers, nobody enforces anything."""
    seen = [run.reached for _, run in _runs(view) if run.reached is not None]
    if not seen or not all(reached >= reach.ALWAYS_THERE for reached in seen):
        return None
    return no(
        KIND,
        "PoliciesNotEnforced",
        "The cluster's network doesn't enforce NetworkPolicies: the tenant's pods reach the API server and whatever"
        " else was tried. Give the cluster a network plugin that does.",
    )


def nothing_else_reached(view: TenantView) -> Verdict | None:
    """No place that the chain doesn't name for a component may answer it."""
    leaks = _leaks(view)
    if not leaks:
        return None
    told = "; ".join(f"{component}: {', '.join(names)}" for component, names in leaks.items())
    return no(
        KIND,
        "ForbiddenReachable",
        f"Pods reach what no policy of the tenant's opens ({told}). Look for policies of others, also of the cluster's"
        " network plugin.",
    )


def looked(view: TenantView) -> Verdict | None:
    """While a check is under way the last verdict stands; where one can't be run, nothing is known."""
    if view.check_refusal is not None:
        return Verdict(KIND, "Unknown", FAILED, view.check_refusal)
    known = {check.job: run for check, run in _runs(view)}
    waiting = [c for c in reach.checks(view) if c.job not in known or known[c.job].finished is None]
    if waiting:
        last = next((c for c in view.status.conditions if c.type == KIND and c.status != "Unknown"), None)
        if last is not None:
            return Verdict(KIND, last.status, last.reason, last.message)
        return Verdict(KIND, "Unknown", AWAITING, "What the tenant's pods reach is being tried.")
    broken = sorted(c.job for c, run in _runs(view) if run.reached is None)
    if broken:
        return Verdict(
            KIND,
            "Unknown",
            FAILED,
            f"What the tenant's pods reach could not be tried: look at Job {broken[0]} in namespace {view.name}."
            " It is repeated within two minutes.",
        )
    return None


def ways_open(view: TenantView) -> Verdict | None:
    """Each component must reach what the chain names for it."""
    missed = {c.component: sorted(c.allowed - (run.reached or frozenset())) for c, run in _runs(view)}
    told = "; ".join(f"{component}: {', '.join(names)}" for component, names in missed.items() if names)
    if not told:
        return None
    return no(
        KIND,
        BLOCKED,
        f"Pods don't reach what they need ({told}). Either that did not answer, or it has another address than the zone"
        " names. Tried again every ten minutes.",
    )


def egress_verified(view: TenantView) -> Verdict:
    """All was tried from pods of the same labels."""
    components = ", ".join(c.component for c in reach.checks(view))
    return Verdict(KIND, "True", "Verified", f"Pods of {components} reach what the chain names and nothing else.")


RULES: tuple[Rule, ...] = (policies_enforced, nothing_else_reached, looked, ways_open, egress_verified)
