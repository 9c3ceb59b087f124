"""Who may be sent questions: the condition ModelApproved."""

from __future__ import annotations

from domicile.api.conditions import ConditionType
from domicile.controllers.tenant import pool
from domicile.controllers.tenant.rules.verdict import Rule, Verdict, no
from domicile.controllers.tenant.view import TenantView


def providers_approved(view: TenantView) -> Verdict | None:
    """Everything that a provider of the pool needs must be there; others of the pool are asked nonetheless."""
    for member in pool.members(view):
        fault = pool.fault(view, member.provider)
        if fault is not None:
            return no(ConditionType.MODEL_APPROVED, fault.reason, fault.message)
    return None


def contracts_lasting(view: TenantView) -> Verdict | None:
    """A contract that ends soon is told of."""
    for member in pool.members(view):
        contract = member.provider.contract
        if contract is not None and contract.expires_on - view.now.date() <= pool.WARNED:
            return Verdict(
                ConditionType.MODEL_APPROVED,
                "True",
                "ContractExpiring",
                f"From {contract.expires_on} on nothing is sent to {member.provider.name}: renew the contract, and its"
                " dates in the zone.",
            )
    return None


def model_fine(_: TenantView) -> Verdict:
    """All providers of the pool may be asked."""
    return Verdict(ConditionType.MODEL_APPROVED, "True", "Approved", "Every provider of the pool may be asked.")


RULES: tuple[Rule, ...] = (providers_approved, contracts_lasting, model_fine)
