"""How a tenant's questions are anonymised before a model sees them."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from domicile.api.common import LIST_SET, Model, list_map
from domicile.api.gateway import Pattern, Placeholders


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


KindName = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]{1,31}$")]


class Threshold(Model):
    """From which score on a finding counts."""

    kind: Annotated[KindName, Field(description="Kind of finding, such as PERSON (docs/privacy.md).")]
    score: Annotated[float, Field(description="The least score, from 0 (any) to 1.", ge=0, le=1)]


class PrivacyPolicy(Model):
    """What is found, and what becomes of it."""

    placeholders: Annotated[
        Placeholders, Field(description="reversible: the answer's reader gets the values back; irreversible: nobody.")
    ] = Placeholders.REVERSIBLE
    vault_hours: Annotated[
        int, Field(description="How long the values of a conversation can be put back (hours).", ge=1, le=720)
    ] = 24
    thresholds: Annotated[
        list[Threshold],
        Field(description="Where the defaults don't suit.", max_length=64, json_schema_extra=list_map("kind")),
    ] = []
    patterns: Annotated[
        list[Pattern],
        Field(
            description="What is looked for beyond what is built in.", max_length=64, json_schema_extra=list_map("name")
        ),
    ] = []
    refuse: Annotated[
        list[KindName],
        Field(
            description="Kinds, such as CREDIT_CARD and HEALTH, whose presence refuses the question.",
            max_length=64,
            json_schema_extra=LIST_SET,
        ),
    ] = []
    store_anonymised: Annotated[
        bool, Field(description="Whether assistants keep recorded conversations with placeholders only.")
    ] = False
    knowledge_anonymised: Annotated[
        bool,
        Field(description="Whether assistants take names out of knowledge for good, before they index it."),
    ] = False
    images: Annotated[bool, Field(description="Whether images may go to the model, as they are.")] = False
