"""Makes the corpus: the same for the same seed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from random import Random
from typing import NamedTuple

from tests.bench.corpus import held_out, people, tuning
from tests.bench.corpus.disguises import DISGUISES
from tests.bench.corpus.values import MAKERS, digits

_SLOT = re.compile(r"\{([A-Z_]+)\}")
_DISGUISED = ("IBAN", "CREDIT_CARD", "TAX_ID", "PENSION_INSURANCE", "HEALTH_INSURANCE")
_TRANSCRIBED = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue"})


class Label(NamedTuple):
    """Code points ``start`` to ``end`` (exclusive) of a question are personal."""

    start: int
    end: int
    kind: str


class Question(NamedTuple):
    """What a customer asks."""

    text: str
    labels: list[Label]
    german: bool


class _Half(NamedTuple):
    templates: Sequence[str]
    german: bool
    first: Sequence[str]
    last: Sequence[str]
    streets: Sequence[str]
    towns: Sequence[str]
    roads: Sequence[str]
    cities: Sequence[tuple[str, str]]


def _address(half: _Half, random: Random) -> str:
    if half.german:
        number = f"{random.randint(1, 180)}{random.choice(['', '', 'a', ' b'])}"
        town = f"{random.randint(10115, 99998)} {random.choice(half.towns)}"
        return f"{random.choice(half.streets)} {number}, {town}"
    city, code = random.choice(half.cities)
    return f"{random.randint(1, 990)} {random.choice(half.roads)}, {city}{' ' if code[2:3] != ' ' else ', '}{code}"


def _mail(half: _Half, random: Random) -> str:
    first, last = (re.sub(r"[^a-z]", "", random.choice(names).lower()) for names in (half.first, half.last))
    host = random.choice(people.HOSTS)
    return random.choice(
        [f"{first}.{last}@{host}", f"{first[0]}{last}{digits(random, 2)}@{host}", f"{last} (at) {host}"]
    )


def _value(kind: str, half: _Half, random: Random) -> tuple[str, str]:
    """A value for a slot, and its kind."""
    if kind == "PERSON":
        return f"{random.choice(half.first)} {random.choice(half.last)}", "PERSON"
    if kind in {"FIRST", "LAST"}:
        return random.choice(half.first if kind == "FIRST" else half.last), "PERSON"
    if kind == "ADDRESS":
        return _address(half, random), kind
    if kind == "EMAIL":
        return _mail(half, random), kind
    value = MAKERS[kind](random, half.german)
    if kind in _DISGUISED and random.random() < 0.3:
        value = DISGUISES[random.choice(list(DISGUISES))](value, random)
    return value, kind


def _misspelt(words: str, random: Random) -> str:
    """Words with two letters of one swapped."""
    at = random.randrange(max(1, len(words) - 2))
    if not words[at : at + 2].isalpha():
        return words
    return words[:at] + words[at + 1 : at + 2] + words[at] + words[at + 2 :]


def _question(template: str, half: _Half, random: Random) -> Question:
    small, transcribed, misspelt = random.random() < 0.1, random.random() < 0.1, random.random() < 0.15
    text, labels, at = "", [], 0
    template = template.replace("\\n", "\n")
    for slot in _SLOT.finditer(template):
        words = template[at : slot.start()]
        text += _misspelt(words, random) if misspelt and len(words) > 12 else words
        value, kind = _value(slot[1], half, random)
        value = value.translate(_TRANSCRIBED) if transcribed and kind in {"PERSON", "ADDRESS"} else value
        labels.append(Label(len(text), len(text) + len(value), kind))
        text += value
        at = slot.end()
    text += template[at:]
    if small and len(text.lower()) == len(text):
        text = text.lower()
    return Question(text, labels, half.german)


def _made(halves: Sequence[_Half], count: int, seed: int) -> list[Question]:
    random = Random(seed)
    return [_question(half.templates[i % len(half.templates)], half, random) for half in halves for i in range(count)]


def tuning_half(count: int = 600) -> list[Question]:
    """``count`` German and as many English questions that recognisers may be tuned by."""
    rest = (
        people.TUNING_FIRST,
        people.TUNING_LAST,
        people.TUNING_STREETS,
        people.TUNING_TOWNS,
        people.TUNING_ROADS,
        people.TUNING_CITIES,
    )
    return _made([_Half(tuning.GERMAN, True, *rest), _Half(tuning.ENGLISH, False, *rest)], count, 1)


def held_out_half(count: int = 600) -> list[Question]:
    """``count`` German and as many English questions of other templates, about people whose names are in no list."""
    rest = (
        people.HELD_FIRST,
        people.HELD_LAST,
        people.HELD_STREETS,
        people.HELD_TOWNS,
        people.HELD_ROADS,
        people.HELD_CITIES,
    )
    return _made([_Half(held_out.GERMAN, True, *rest), _Half(held_out.ENGLISH, False, *rest)], count, 2)
