"""The kinds of personal data that are built in, from how many points a finding counts, and which of them win."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple


class Kind(StrEnum):
    """What a found value is."""

    IBAN = "IBAN"
    CREDIT_CARD = "CREDIT_CARD"
    TAX_ID = "TAX_ID"
    """German Steuer-ID: 11 digits."""
    TAX_NUMBER = "TAX_NUMBER"
    """German Steuernummer, of a Land or unified."""
    VAT_ID = "VAT_ID"
    PENSION_INSURANCE = "PENSION_INSURANCE"
    """German Rentenversicherungsnummer."""
    HEALTH_INSURANCE = "HEALTH_INSURANCE"
    """German Krankenversichertennummer."""
    US_TAX_ID = "US_TAX_ID"
    """SSN or ITIN of the United States."""
    UK_INSURANCE = "UK_INSURANCE"
    """National Insurance number of the United Kingdom."""
    UK_NHS = "UK_NHS"
    EMAIL = "EMAIL"
    PHONE = "PHONE"
    ID_DOCUMENT = "ID_DOCUMENT"
    """Identity card, passport or driving licence."""
    PROFESSIONAL_ID = "PROFESSIONAL_ID"
    """Number of a physician, practice or company in a public register."""
    ACCOUNT = "ACCOUNT"
    """A number that the words before it call an account, customer, member, patient or case."""
    NUMBER = "NUMBER"
    """A number so long or so grouped that it stands for somebody, whatever it is."""
    IP_ADDRESS = "IP_ADDRESS"
    DEVICE = "DEVICE"
    """Hardware address."""
    WALLET = "WALLET"
    """Address of a cryptocurrency."""
    LICENSE_PLATE = "LICENSE_PLATE"
    DATE_OF_BIRTH = "DATE_OF_BIRTH"
    HEALTH = "HEALTH"
    """Diagnosis or medicine."""
    ADDRESS = "ADDRESS"
    PERSON = "PERSON"


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
