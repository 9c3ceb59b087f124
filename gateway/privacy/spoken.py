"""Numbers in words, as they are dictated: read as digits, so that they are found like others."""

from __future__ import annotations

import re
from collections.abc import Iterator

from domicile.gateway.privacy.view import Edit, View

_UNITS = {
    "null": 0, "eins": 1, "ein": 1, "eine": 1, "zwei": 2, "zwo": 2, "drei": 3, "vier": 4, "fünf": 5, "fuenf": 5,
    "sechs": 6, "sieben": 7, "acht": 8, "neun": 9, "zero": 0, "oh": 0, "nought": 0, "one": 1, "two": 2, "three": 3,
    "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9,
}  # fmt: skip
_TEENS = {
    "zehn": 10, "elf": 11, "zwölf": 12, "zwoelf": 12, "dreizehn": 13, "vierzehn": 14, "fünfzehn": 15, "fuenfzehn": 15,
    "sechzehn": 16, "siebzehn": 17, "achtzehn": 18, "neunzehn": 19, "ten": 10, "eleven": 11, "twelve": 12,
    "thirteen": 13, "fourteen": 14, "fifteen": 15, "sixteen": 16, "seventeen": 17, "eighteen": 18, "nineteen": 19,
}  # fmt: skip
_TENS = {
    "zwanzig": 20, "dreißig": 30, "dreissig": 30, "vierzig": 40, "fünfzig": 50, "fuenfzig": 50, "sechzig": 60,
    "siebzig": 70, "achtzig": 80, "neunzig": 90,
}  # fmt: skip
_ENGLISH_TENS = {
    "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90,
}  # fmt: skip


def _words() -> dict[str, str]:
    german = ("ein", "zwei", "drei", "vier", "fünf", "fuenf", "sechs", "sieben", "acht", "neun")
    english = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    values = _UNITS | _TEENS | _TENS | _ENGLISH_TENS
    values |= {f"{unit}und{ten}": _UNITS[unit] + _TENS[ten] for unit in german for ten in _TENS}
    for parting in ("-", " "):
        values |= {f"{t}{parting}{unit}": _ENGLISH_TENS[t] + _UNITS[unit] for t in _ENGLISH_TENS for unit in english}
    return {word: str(value) for word, value in values.items()}


_VALUES = _words()
_WORD = "(?:" + "|".join(sorted((re.escape(word) for word in _VALUES), key=len, reverse=True)) + ")"
_TIMES = {"doppel": 2, "doppelt": 2, "double": 2, "zweimal": 2, "triple": 3, "dreimal": 3}
_NUMBER = re.compile(rf"(?<!\w)(?:(doppelt?|double|triple|zweimal|dreimal)[ -]?)?({_WORD})(?!\w)", re.IGNORECASE)
_GLUED = re.compile(rf"(?<!\w)(?:[a-z]{{2}})?((?:{'|'.join(_UNITS)}){{4,}})(?!\w)", re.IGNORECASE)
_UNIT = re.compile("|".join(sorted(_UNITS, key=len, reverse=True)), re.IGNORECASE)
NUMBER_WORD = rf"(?:(?:doppelt?|double|triple|zweimal|dreimal)[ -]?)?{_WORD}(?!\w)"
"""A number in one word."""
_PLUS = re.compile(r"(?<!\w)plus(?= *\d)", re.IGNORECASE)
_THEN_DIGIT = re.compile(r"[\W_]{1,3}\d")
_AFTER_DIGIT = re.compile(r"\d[\W_]{1,3}$")
_NEAR = re.compile(r"[\W_]{1,3}")
_LETTERS = re.compile(r"(?<![^\W_])[A-Za-z]{1,2}[\W_]{1,3}$")


def _edits(view: View) -> Iterator[Edit]:
    """The words that stand next to another number."""
    text = view.text
    found = list(_NUMBER.finditer(text))
    for i, word in enumerate(found):
        follows = i > 0 and _NEAR.fullmatch(text, found[i - 1].end(), word.start())
        leads = i + 1 < len(found) and _NEAR.fullmatch(text, word.end(), found[i + 1].start())
        digit = _THEN_DIGIT.match(text, word.end()) or _AFTER_DIGIT.search(
            text[max(0, word.start() - 4) : word.start()]
        )
        if follows or leads or digit or _LETTERS.search(text[max(0, word.start() - 5) : word.start()]):
            times = _TIMES.get((word[1] or "").lower(), 1)
            yield Edit(*word.span(), _VALUES[word[2].lower()] * times)


def in_digits(view: View) -> View:
    """The view with number words next to another number as digits; the same object where there are none."""
    glued = view.edited(
        Edit(*m.span(1), "".join(str(_UNITS[unit[0].lower()]) for unit in _UNIT.finditer(m[1])))
        for m in _GLUED.finditer(view.text)
    )
    spoken = glued.edited(_edits(glued))
    return spoken if spoken is view else spoken.edited(Edit(*m.span(), "+") for m in _PLUS.finditer(spoken.text))
