"""What a tenant's conditions say: the rules in their order, and what Ready makes of them. Pure."""

from __future__ import annotations

from domicile.api.conditions import ConditionType
from domicile.api.tenant import Role
from domicile.controllers.issuer.metadata import UNREACHABLE
from domicile.controllers.tenant.rules import (
    consents,
    door,
    egress,
    gateway,
    login,
    mail,
    model,
    network,
    replication,
    residency,
    storage,
    workload,
)
from domicile.controllers.tenant.rules.external import AWAITING
from domicile.controllers.tenant.rules.login import PROVIDER_FAILED
from domicile.controllers.tenant.rules.verdict import Rule, Verdict
from domicile.controllers.tenant.view import TenantView

CHAINS: tuple[tuple[Rule, ...], ...] = (
    residency.RULES,
    storage.STORAGE,
    storage.ENCRYPTION,
    network.RULES,
    egress.RULES,
    model.RULES,
    workload.RULES,
    gateway.RULES,
    consents.RULES,
    replication.RULES,
    login.LOGINS,
    login.DIRECTORIES,
    mail.RULES,
    door.RULES,
)

_NOT_LOOKED = {
    ConditionType.STORAGE_READY,
    ConditionType.ENCRYPTION_READY,
    ConditionType.NETWORK_ISOLATED,
    ConditionType.EGRESS_VERIFIED,
    ConditionType.MODEL_APPROVED,
    ConditionType.WORKLOAD_READY,
    ConditionType.GATEWAY_READY,
    ConditionType.CONSENTS_VALID,
    ConditionType.REPLICATION_HEALTHY,
    ConditionType.SSO_CONFIGURED,
    ConditionType.DIRECTORY_REACHABLE,
    ConditionType.EMAIL_VERIFIABLE,
    ConditionType.FRONT_DOOR_READY,
}


def judge(view: TenantView) -> tuple[Verdict, ...]:
    """One verdict for each condition, in a fixed order; behind one that blocks the others are Unknown."""
    verdicts: list[Verdict] = []
    for chain in CHAINS:
        verdict = next(v for rule in chain if (v := rule(view)) is not None)
        verdicts.append(verdict)
        if verdict.blocks:
            seen = {v.type for v in verdicts}
            verdicts += [
                Verdict(t, "Unknown", "Blocked", f"Not looked at while {verdict.type} is {verdict.status}.")
                for t in ConditionType
                if t in _NOT_LOOKED - seen
            ]
            break
    return tuple(verdicts)


def blocking(verdicts: tuple[Verdict, ...]) -> Verdict | None:
    """The verdict that forbids any change, if there is one."""
    return next((v for v in verdicts if v.blocks), None)


_READY_NEEDS = (
    ConditionType.RESIDENCY_COMPLIANT,
    ConditionType.STORAGE_READY,
    ConditionType.ENCRYPTION_READY,
    ConditionType.NETWORK_ISOLATED,
    ConditionType.EGRESS_VERIFIED,
    ConditionType.MODEL_APPROVED,
    ConditionType.WORKLOAD_READY,
    ConditionType.GATEWAY_READY,
    ConditionType.SSO_CONFIGURED,
    ConditionType.FRONT_DOOR_READY,
)
# Not all is well, and yet the tenant is served.
_SERVED_NONETHELESS = {"PeerNotVerified", PROVIDER_FAILED, egress.AWAITING, egress.BLOCKED, egress.FAILED}


def ready(view: TenantView, verdicts: tuple[Verdict, ...]) -> Verdict:
    """Ready: every condition that serving needs holds. A standby is ready, too, with reason Standby.

    Replication isn't needed to serve; what can't be verified during an outage of the peer doesn't stop the survivor.
    """
    by_type = {v.type: v for v in verdicts}
    for kind in _READY_NEEDS:
        verdict = by_type[kind]
        if verdict.status != "True" and verdict.reason not in _SERVED_NONETHELESS:
            return Verdict(ConditionType.READY, "False", verdict.reason, verdict.message)
    if view.role is Role.STANDBY:
        return Verdict(ConditionType.READY, "True", "Standby", by_type[ConditionType.WORKLOAD_READY].message)
    return Verdict(ConditionType.READY, "True", "Serving", "The tenant is served here.")


# Reasons that time heals: everything else waits for a person.
_PASSING = {
    "Progressing",
    "AwaitingIdentity",
    "AwaitingBucket",
    "AwaitingKey",
    "ClaimPending",
    "PoliciesMissing",
    "NoLease",
    "Restoring",
    "StoreUnreachable",
    "StoreNotVerified",
    "AwaitingRealm",
    "AwaitingPods",
    "IdentityServerUnreachable",
    AWAITING,
    UNREACHABLE,
}


def progress(verdict: Verdict) -> Verdict | None:
    """Reconciling while time will heal what keeps Ready from True, Stalled where a person must act (kstatus)."""
    if verdict.status == "True":
        return None
    kind = ConditionType.RECONCILING if verdict.reason in _PASSING else ConditionType.STALLED
    return Verdict(kind, "True", verdict.reason, verdict.message)
