"""Whether the pods of one of the tenant's servers are there."""

from __future__ import annotations

from domicile.api.conditions import ConditionType
from domicile.api.tenant import Role
from domicile.controllers.tenant.rules.verdict import Verdict, no
from domicile.controllers.tenant.view import TenantView


def rest(view: TenantView, kind: ConditionType, server: str) -> Verdict | None:
    """At the standby there are none; ``server`` is what messages call it, such as gateway."""
    if view.role is Role.ACTIVE:
        return None
    return Verdict(kind, "True", "Standby", f"The {server} is ready to be started here.")


def serve(view: TenantView, kind: ConditionType, workload: str, server: str) -> Verdict | None:
    """One at least must be ready, and none of an older template."""
    found = view.workloads.get(workload)
    if found is None:
        return Verdict(kind, "Unknown", "AwaitingPods", f"The {server} has not started yet.")
    if found.trouble is not None:
        reason, message = found.trouble
        return no(kind, reason, f"The {server}: {message}")
    if found.ready == 0 or not found.updated:
        return no(kind, "AwaitingPods", f"The {server}'s pods are not ready yet.")
    return None
