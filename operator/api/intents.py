"""What people may ask an assistant whose questions are declared beforehand."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Annotated, Final, NamedTuple

from pydantic import ConfigDict, Field

from domicile.api.common import LIST_SET, DnsLabel, Model, cel, list_map, validations

_NAME: Final = "[a-z][a-z0-9_]{0,31}"
_CLASS: Final = r"\[(?:[A-Z]-[A-Z]|[a-z]-[a-z]|[0-9]-[0-9]|[A-Za-z0-9])+\]"
_PLAIN: Final = "[A-Za-z0-9_/-]"
# Without groups, alternatives and repetition without an end: whoever follows it never goes back.
_CODE: Final = rf"^(?:(?:{_CLASS}|{_PLAIN})(?:\{{[0-9]{{1,2}}(?:,[0-9]{{1,2}})?\}})?)+$"
_ITEM: Final = re.compile(rf"({_CLASS}|{_PLAIN})(?:\{{([0-9]{{1,2}})(?:,([0-9]{{1,2}}))?\}})?", re.ASCII)
_RANGE: Final = re.compile(r"(.)-(.)|(.)", re.ASCII)
_SLOT: Final = re.compile(rf"\{{({_NAME})\}}", re.ASCII)
CODE_LENGTH: Final = 32
"""Characters of a code: more leaves room for a text."""


class Mode(StrEnum):
    """What people may ask an assistant."""

    STRUCTURED = "structured"
    """What its intents declare, and nothing else."""
    FREE = "free"


class SlotType(StrEnum):
    """What may stand in a slot; none of them is free text."""

    CHOICE = "choice"
    DATE = "date"
    """A day of the calendar: 2026-05-03 or 3.5.2026."""
    NUMBER = "number"
    """A whole number."""
    CODE = "code"


class Slot(Model):
    """A place in a phrase that people fill in."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            cel("has(self.values) == (self.type == 'choice')", "values are those of a choice, which needs them"),
            cel(
                "has(self.minimum) == (self.type == 'number') && has(self.maximum) == (self.type == 'number')",
                "minimum and maximum are those of a number, which needs both",
            ),
            cel("has(self.regex) == (self.type == 'code')", "regex is that of a code, which needs it"),
        )
    )

    name: Annotated[str, Field(description="As phrases name it in braces.", pattern=f"^{_NAME}$")]
    type: Annotated[SlotType, Field(description="What may stand there.")]
    values: Annotated[
        list[Annotated[str, Field(pattern=r"^[^\s{}]([^{}]*[^\s{}])?$", max_length=64)]] | None,
        Field(description="What can be chosen.", min_length=1, max_length=64, json_schema_extra=LIST_SET),
    ] = None
    minimum: Annotated[int | None, Field(description="The least number.", ge=-(10**15), le=10**15)] = None
    maximum: Annotated[int | None, Field(description="The largest number.", ge=-(10**15), le=10**15)] = None
    regex: Annotated[
        str | None,
        Field(
            description="What a code looks like, such as M-[0-9]{6}: letters, digits, hyphens, underscores, slashes and"
            " classes of letters and digits, each perhaps with {n} or {n,m}; 32 characters at most.",
            pattern=_CODE,
            max_length=64,
        ),
    ] = None


class Intent(Model):
    """One thing that people may ask for, in each of its wordings."""

    name: Annotated[DnsLabel, Field(description="For people who read the spec.")]
    phrases: Annotated[
        list[Annotated[str, Field(pattern=rf"^[^{{}}]*(\{{{_NAME}\}}[^{{}}]*)*$", min_length=1, max_length=256)]],
        Field(
            description="Its wordings, with slots in braces: When is my appointment on {day}? Case and white space"
            " don't count, all else does.",
            min_length=1,
            max_length=32,
            json_schema_extra=LIST_SET,
        ),
    ]
    slots: Annotated[
        list[Slot],
        Field(description="The slots of its phrases.", max_length=8, json_schema_extra=list_map("name")),
    ] = []


class Item(NamedTuple):
    """Part of a code: from ``least`` to ``most`` of these characters."""

    characters: frozenset[str]
    least: int
    most: int


def items(regex: str) -> list[Item]:
    """The parts of a code's regular expression, one after another. Raises ValueError saying what is wrong."""
    made = []
    for what, least, most in _ITEM.findall(regex):
        low = int(least or 1)
        made.append(Item(_characters(what), low, int(most or low)))
    if any(not each.characters or each.least > each.most for each in made):
        raise ValueError("has a range whose end comes before its beginning")
    if not 0 < sum(each.most for each in made) <= CODE_LENGTH:
        raise ValueError(f"admits more than {CODE_LENGTH} characters, or none")
    return made


def _characters(what: str) -> frozenset[str]:
    if not what.startswith("["):
        return frozenset(what)
    found = set[str]()
    for first, last, single in _RANGE.findall(what[1:-1]):
        span = {chr(code) for code in range(ord(first or single), ord(last or single) + 1)}
        if not span:
            return frozenset()
        found |= span
    return frozenset(found)


def parts(phrase: str) -> Iterator[tuple[str, bool]]:
    """The parts of a phrase in their order; True: the name of a slot."""
    at = 0
    for found in _SLOT.finditer(phrase):
        if found.start() > at:
            yield phrase[at : found.start()], False
        yield found[1], True
        at = found.end()
    if at < len(phrase):
        yield phrase[at:], False


def problem(intents: Sequence[Intent]) -> str | None:
    """Why intents can't be followed, in words; None where they can."""
    return next(_problems(intents), None)


def _problems(intents: Sequence[Intent]) -> Iterator[str]:
    for intent in intents:
        own = {slot.name for slot in intent.slots}
        used = {part for phrase in intent.phrases for part, is_slot in parts(phrase) if is_slot}
        if used - own:
            yield f"intent {intent.name} has no slot {', '.join(sorted(used - own))}"
        if own - used:
            yield f"no phrase of intent {intent.name} has the slot {', '.join(sorted(own - used))}"
        if not all(phrase.strip() for phrase in intent.phrases):
            yield f"intent {intent.name} has an empty phrase"
        for slot in intent.slots:
            if (wrong := _slot_problem(slot)) is not None:
                yield f"slot {slot.name} of intent {intent.name} {wrong}"


def _slot_problem(slot: Slot) -> str | None:
    match slot.type:
        case SlotType.CHOICE if not slot.values:
            return "has nothing to choose"
        case SlotType.NUMBER if slot.minimum is None or slot.maximum is None or slot.minimum > slot.maximum:
            return "has no number between its bounds"
        case SlotType.CODE:
            try:
                items(slot.regex or "")
            except ValueError as error:
                return str(error)
    return None
