"""Who may be sent questions: the condition ModelApproved."""

from __future__ import annotations

import re

from domicile.api.conditions import ConditionType
from domicile.api.intents import problem
from domicile.api.privacy import Kind
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


def services_keyed(view: TenantView) -> Verdict | None:
    """A service that wants a key is asked with it or not at all."""
    for service in pool.unkeyed(view):
        name = service.key.name if service.key else ""
        return no(
            ConditionType.MODEL_APPROVED,
            "ServiceKeyMissing",
            f"The operator's Secret of model keys lacks {name}.key, by which {service.host} is asked: add it.",
        )
    return None


def privacy_understood(view: TenantView) -> Verdict | None:
    """A gateway takes no rules that it can't follow: it goes on by those before, or doesn't start."""
    asked = view.spec.privacy
    for pattern in asked.patterns:
        if pattern.name in set(Kind):
            return _not_understood(f"pattern {pattern.name} has the name of a kind that is built in")
        try:
            re.compile(pattern.regex)
        except re.error as error:
            return _not_understood(f"pattern {pattern.name} is no regular expression of Python's ({error})")
    known = {*Kind, *(p.name for p in asked.patterns)}
    unknown = sorted({*(t.kind for t in asked.thresholds), *asked.refuse} - known)
    return _not_understood(f"there is no kind {', '.join(unknown)} (docs/privacy.md)") if unknown else None


def intents_understood(view: TenantView) -> Verdict | None:
    """As for privacy: what can't be followed is not taken."""
    for assistant in view.spec.assistants:
        if (wrong := problem(assistant.intents or [])) is not None:
            return no(
                ConditionType.MODEL_APPROVED,
                "IntentsNotUnderstood",
                f"What people may ask assistant {assistant.name} can't be followed: {wrong}. Mend its intents.",
            )
    return None


def _not_understood(why: str) -> Verdict:
    return no(ConditionType.MODEL_APPROVED, "PrivacyNotUnderstood", f"spec.privacy can't be followed: {why}. Mend it.")


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


RULES: tuple[Rule, ...] = (
    privacy_understood,
    intents_understood,
    providers_approved,
    services_keyed,
    contracts_lasting,
    model_fine,
)
