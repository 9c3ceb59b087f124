"""What people are told before their first question, and what they are asked to agree to."""

from __future__ import annotations

from datetime import date
from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from domicile.api.common import Dated, Model, cel, list_map, validations

EXTERNAL = "external"
"""Stands in the place of a version where an external basis counts."""

Version = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        max_length=32,
        json_schema_extra=validations(cel(f"self != '{EXTERNAL}'", f"{EXTERNAL} stands for a basis; choose another")),
    ),
]
Text = Annotated[str, Field(min_length=1, max_length=8192)]


def _unchanged(field: str) -> str:
    """CEL: an optional field of ``self`` is as it was."""
    return f"has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || self.{field} == oldSelf.{field})"


_VERSIONED = cel(
    f"!has(self.version) || !has(oldSelf.version) || self.version != oldSelf.version || ({_unchanged('texts')})",
    "people agreed to the text of this version; give the changed text a new version",
)

RECORDS = "domicile/consents/"
"""Names in a live bucket that start so are what people said; of each person's the newest counts."""


class Texts(Model):
    """A text in the languages that it is there in; whoever reads neither gets the first."""

    model_config = ConfigDict(
        json_schema_extra=validations(cel("has(self.de) || has(self.en)", "give a text in de, en or both"))
    )

    de: Annotated[Text | None, Field(description="German.")] = None
    en: Annotated[Text | None, Field(description="English.")] = None


class Notice(Model):
    """What is accepted before the first question: the platform's own text, then the tenant's rules of use."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            cel("has(self.version) == has(self.texts)", "version and texts come together"), _VERSIONED
        )
    )

    version: Annotated[Version | None, Field(description="Version of texts; who accepted another is asked anew.")] = (
        None
    )
    texts: Annotated[
        Texts | None,
        Field(description="Rules of use, shown after the platform's text, which says that an AI answers and can err."),
    ] = None
    minimum_age: Annotated[
        int | None, Field(description="Whoever accepts declares to be of this age (years).", ge=6, le=99)
    ] = None


class PurposeName(StrEnum):
    """What data may be used for beyond the answer."""

    RECORDING = "Recording"
    """Conversations outlast their session."""
    CALL_BACK = "CallBack"
    SMS = "SMS"
    OUTREACH = "Outreach"
    """Contact that the person has not asked for."""
    TRAINING = "Training"


class Basis(Dated):
    """A legal basis outside, such as a contract, as a person's dated word; nobody is asked then."""

    model_config = ConfigDict(
        json_schema_extra=validations(cel("self.attestedOn < self.expiresOn", "expiresOn must be after attestedOn"))
    )

    statement: Annotated[str, Field(description="What holds, and where the proof lies.", min_length=10, max_length=512)]
    attested_on: Annotated[date, Field(description="Day of this word (YYYY-MM-DD); before it nothing is granted.")]
    expires_on: Annotated[date, Field(description="First day on which it counts no more (YYYY-MM-DD).")]


class Purpose(Model):
    """A purpose that people may agree to, or that an external basis grants."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            cel("has(self.basis) != has(self.texts)", "ask people by texts, or name a basis; not both"),
            cel("has(self.version) == has(self.texts)", "version and texts come together"),
            _VERSIONED,
        )
    )

    name: Annotated[PurposeName, Field(description="The purpose.")]
    version: Annotated[Version | None, Field(description="Version of texts; an agreement counts for it alone.")] = None
    texts: Annotated[Texts | None, Field(description="What people agree to.")] = None
    basis: Annotated[Basis | None, Field(description="What grants it without asking anybody.")] = None


class Consent(Model):
    """Notice and consents. A purpose that is not listed is never granted."""

    notice: Annotated[Notice, Field(description="What is accepted before the first question.")] = Notice()
    purposes: Annotated[
        list[Purpose],
        Field(description="What may be agreed to, each by itself.", max_length=5, json_schema_extra=list_map("name")),
    ] = []
