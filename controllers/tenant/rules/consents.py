"""What counts without asking people: the condition ConsentsValid."""

from __future__ import annotations

from datetime import date

from domicile.api.conditions import ConditionType
from domicile.api.consent import Basis
from domicile.controllers.tenant.pool import WARNED
from domicile.controllers.tenant.rules.verdict import Rule, Verdict, no
from domicile.controllers.tenant.view import TenantView


def _bases(view: TenantView) -> list[tuple[str, Basis]]:
    purposes = view.spec.consent.purposes if view.spec.consent else []
    return [(p.name, p.basis) for p in purposes if p.basis is not None]


def bases_count(view: TenantView) -> Verdict | None:
    """The guards grant nothing by a basis that has ended, or has not begun."""
    today: date = view.now.date()
    for name, basis in _bases(view):
        if basis.counts(today):
            continue
        if today < basis.attested_on:
            reason, told = "BasisNotBegun", f"counts from {basis.attested_on} on. Until then"
        else:
            reason, told = (
                "BasisExpired",
                f"ended on {basis.expires_on}. Renew it and its dates, or ask people; until then",
            )
        return no(ConditionType.CONSENTS_VALID, reason, f"The basis of {name} {told} {name} is granted to nobody.")
    return None


def bases_lasting(view: TenantView) -> Verdict | None:
    """A basis that ends soon is told of."""
    for name, basis in _bases(view):
        if basis.expires_on - view.now.date() <= WARNED:
            return Verdict(
                ConditionType.CONSENTS_VALID,
                "True",
                "BasisExpiring",
                f"From {basis.expires_on} on {name} is granted to nobody: renew its basis, and the dates in"
                " spec.consent, or ask people.",
            )
    return None


def consents_fine(view: TenantView) -> Verdict:
    """Nothing counts that should not."""
    if view.spec.consent is None:
        message = "Nobody is asked: spec.consent is not set, and assistants are told of no consent."
        return Verdict(ConditionType.CONSENTS_VALID, "True", "NotAsked", message)
    message = "Whoever asks a question has accepted the notice; every basis counts."
    return Verdict(ConditionType.CONSENTS_VALID, "True", "Valid", message)


RULES: tuple[Rule, ...] = (bases_count, bases_lasting, consents_fine)
