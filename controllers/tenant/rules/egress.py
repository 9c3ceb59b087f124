"""What the tenant's pods were seen to reach: the condition EgressVerified."""

from __future__ import annotations

from domicile.api.conditions import ConditionType
from domicile.controllers.tenant import reach
from domicile.controllers.tenant.rules.verdict import Rule, Verdict, no
from domicile.controllers.tenant.view import Run, TenantView

KIND = ConditionType.EGRESS_VERIFIED
NOT_ENFORCED = "PoliciesNotEnforced"
REACHABLE = "ForbiddenReachable"
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
        NOT_ENFORCED,
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
        REACHABLE,
        f"Pods reach what no policy of the tenant's opens ({told}). Look for policies of others, also of the cluster's"
        " network plugin.",
    )


def tried(view: TenantView) -> Verdict | None:
    """Where a check can't be run nothing is known, except that what was seen to be open has not been seen closed."""
    fault = _fault(view)
    if fault is None:
        return None
    last = _last(view)
    if last is not None and last.reason in {NOT_ENFORCED, REACHABLE}:
        return last
    return Verdict(KIND, "Unknown", FAILED, fault)


def _fault(view: TenantView) -> str | None:
    """What keeps a check from running."""
    if view.check_refusal is not None:
        return view.check_refusal
    ended = ((c, r) for c, r in _runs(view) if reach.overdue(r, view.now) or (r.finished and r.reached is None))
    broken = min((check.job for check, _ in ended), default=None)
    if broken is None:
        return None
    return (
        f"What the tenant's pods reach could not be tried: look at Job {broken} in namespace {view.name}. It is"
        " repeated within two minutes."
    )


def _last(view: TenantView) -> Verdict | None:
    """What the last runs that ended said."""
    known = next((c for c in view.status.conditions if c.type == KIND and c.status != "Unknown"), None)
    return Verdict(KIND, known.status, known.reason, known.message) if known is not None else None


def awaited(view: TenantView) -> Verdict | None:
    """While a check is under way the last verdict stands."""
    ended = {check.job for check, run in _runs(view) if run.finished is not None}
    if all(check.job in ended for check in reach.checks(view)):
        return None
    return _last(view) or Verdict(KIND, "Unknown", AWAITING, "What the tenant's pods reach is being tried.")


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


RULES: tuple[Rule, ...] = (policies_enforced, nothing_else_reached, tried, awaited, ways_open, egress_verified)
