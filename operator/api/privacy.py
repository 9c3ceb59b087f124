"""How a tenant's questions are anonymised before a model sees them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from domicile.api.common import LIST_SET, Model, list_map
from domicile.api.gateway import Pattern, Placeholders

Kind = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]{1,31}$")]


class Threshold(Model):
    """From which score on a finding counts."""

    kind: Annotated[Kind, Field(description="Kind of finding, such as PERSON (docs/privacy.md).")]
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
        list[Kind],
        Field(
            description="Kinds, such as CREDIT_CARD and HEALTH, whose presence refuses the question.",
            max_length=64,
            json_schema_extra=LIST_SET,
        ),
    ] = []
    images: Annotated[bool, Field(description="Whether images may go to the model, as they are.")] = False
