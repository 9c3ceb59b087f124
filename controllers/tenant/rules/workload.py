"""What runs: the condition WorkloadReady."""

from __future__ import annotations

from domicile.api.conditions import ConditionType
from domicile.api.tenant import Role
from domicile.controllers.tenant import names
from domicile.controllers.tenant.rules.verdict import Rule, Verdict, no
from domicile.controllers.tenant.view import Ownership, TenantView


def namespace_free(view: TenantView) -> Verdict | None:
    """A namespace of somebody else is never taken."""
    if view.namespace is not Ownership.FOREIGN:
        return None
    return no(
        ConditionType.WORKLOAD_READY,
        "NamespaceConflict",
        f"Namespace {view.name} exists and belongs to someone else; it was left alone. Rename the tenant, or hand the"
        f" namespace over with the label domicile.dev/tenant={view.name}.",
        blocks=True,
    )


def secrets_present(view: TenantView) -> Verdict | None:
    """Every Secret that an assistant names must exist."""
    missing = [s for s in view.missing_secrets if s in view.spec.workload_secrets]
    if not missing:
        return None
    return no(
        ConditionType.WORKLOAD_READY,
        "SecretMissing",
        f"Create the missing Secrets in namespace {view.name}: {', '.join(missing)}.",
    )


def objects_accepted(view: TenantView) -> Verdict | None:
    """The API server must take what is built, a user's pod template included."""
    return None if view.refusal is None else no(ConditionType.WORKLOAD_READY, "Refused", view.refusal)


def nodes_in_region(view: TenantView) -> Verdict | None:
    """Pods run on nodes of the site's region only."""
    if view.nodes_in_region or view.zone is None:
        return None
    return no(
        ConditionType.WORKLOAD_READY,
        "NoNodeInRegion",
        f"No node carries topology.kubernetes.io/region={view.zone.own.region}. Add nodes; pods run nowhere else.",
    )


def not_being_restored(view: TenantView) -> Verdict | None:
    """Nothing runs while the live bucket is written to by a Restore."""
    if view.restoring is None:
        return None
    return no(
        ConditionType.WORKLOAD_READY,
        "Restoring",
        f"Restore {view.restoring} writes to the live bucket; nothing runs until it is done. See its status.",
    )


def standby(view: TenantView) -> Verdict | None:
    """A standby runs nothing."""
    if view.role is Role.ACTIVE:
        return None
    holder = view.claim.holder if view.claim and view.claim.holder else "no site"
    return Verdict(
        ConditionType.WORKLOAD_READY, "True", "Standby", f"The claim is held by {holder}; nothing runs here."
    )


def services_addressed(view: TenantView) -> Verdict | None:
    """Pods that look up no names must be told the addresses of what they call."""
    missing = names.missing(view)
    if not missing:
        return None
    return no(
        ConditionType.WORKLOAD_READY,
        "ServiceMissing",
        f"Services without an address: {', '.join(missing)}. Until they have one no assistant is started or changed:"
        " is the chart whole?",
    )


def pods_ready(view: TenantView) -> Verdict | None:
    """All pods of all assistants are ready."""
    for assistant in view.spec.assistants:
        workload = view.workloads.get(assistant.name)
        if workload is None:
            return no(ConditionType.WORKLOAD_READY, "Progressing", f"Assistant {assistant.name} is being created.")
        if workload.trouble is not None:
            reason, message = workload.trouble
            return no(ConditionType.WORKLOAD_READY, reason, f"Assistant {assistant.name}: {message}")
        if not workload.updated or workload.ready < assistant.replicas:
            return no(ConditionType.WORKLOAD_READY, "Progressing", f"Assistant {assistant.name} is starting.")
    return None


def lease_granted(view: TenantView) -> Verdict | None:
    """Pods without a lease answer 503."""
    if view.lease_refusal is None:
        return None
    return no(ConditionType.WORKLOAD_READY, "NoLease", view.lease_refusal)


def workload_fine(_: TenantView) -> Verdict:
    """Pods are ready and hold a lease."""
    return Verdict(ConditionType.WORKLOAD_READY, "True", "Serving", "All assistants are ready and hold a write lease.")


RULES: tuple[Rule, ...] = (
    namespace_free,
    not_being_restored,
    secrets_present,
    objects_accepted,
    nodes_in_region,
    standby,
    services_addressed,
    pods_ready,
    lease_granted,
    workload_fine,
)
