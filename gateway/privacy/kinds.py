"""The kinds of personal data that are built in, from how many points a finding counts, and which of them win."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from domicile.api.privacy import Kind


class Rule(NamedTuple):
    """``threshold``: the least score that counts, 0 to 1. ``structured``: its form can be checked, unlike a name's."""

    threshold: float
    structured: bool


# In the order in which they win where findings overlap.
RULES: Mapping[str, Rule] = {
    Kind.IBAN: Rule(0.4, structured=True),
    Kind.CREDIT_CARD: Rule(0.4, structured=True),
    Kind.PENSION_INSURANCE: Rule(0.4, structured=True),
    Kind.HEALTH_INSURANCE: Rule(0.4, structured=True),
    Kind.VAT_ID: Rule(0.4, structured=True),
    Kind.EMAIL: Rule(0.4, structured=True),
    Kind.TAX_NUMBER: Rule(0.4, structured=True),
    Kind.TAX_ID: Rule(0.4, structured=True),
    Kind.US_TAX_ID: Rule(0.4, structured=True),
    Kind.UK_INSURANCE: Rule(0.4, structured=True),
    Kind.UK_NHS: Rule(0.4, structured=True),
    Kind.ID_DOCUMENT: Rule(0.5, structured=True),
    Kind.PROFESSIONAL_ID: Rule(0.5, structured=True),
    Kind.PHONE: Rule(0.4, structured=True),
    Kind.IP_ADDRESS: Rule(0.5, structured=True),
    Kind.DEVICE: Rule(0.5, structured=True),
    Kind.WALLET: Rule(0.5, structured=True),
    Kind.ACCOUNT: Rule(0.4, structured=True),
    Kind.LICENSE_PLATE: Rule(0.5, structured=True),
    Kind.NUMBER: Rule(0.4, structured=True),
    Kind.DATE_OF_BIRTH: Rule(0.4, structured=True),
    Kind.HEALTH: Rule(0.5, structured=False),
    Kind.ADDRESS: Rule(0.4, structured=False),
    Kind.PERSON: Rule(0.4, structured=False),
}


def thresholds(own: Mapping[str, float], names: frozenset[str] = frozenset()) -> dict[str, float]:
    """By kind, the least score that counts: ``own`` over the defaults. ``names`` are the kinds of a tenant's patterns.

    Raises ValueError for a kind that there isn't.
    """
    known = {str(kind): rule.threshold for kind, rule in RULES.items()} | dict.fromkeys(names, 0.0)
    if unknown := sorted(own.keys() - known.keys()):
        raise ValueError(f"thresholds: no such kind: {', '.join(unknown)}; there are {', '.join(sorted(known))}")
    return known | dict(own)
