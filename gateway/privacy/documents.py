"""What is found by the words around it: documents, number plates, dates of birth."""

from __future__ import annotations

import re
from collections.abc import Iterator

from domicile.api.privacy import Kind
from domicile.gateway.privacy import context
from domicile.gateway.privacy.finding import Finding

_DOCUMENT = re.compile(r"(?<![^\W_])(?=[A-Za-z]{0,5}\d)[A-Za-z0-9](?:[ -]?[A-Za-z0-9]){5,17}(?![^\W_])")
_SERIAL = re.compile(r"(?<![^\W_])[CFGHJKLMNPRTVWXYZ][CFGHJKLMNPRTVWXYZ0-9]{8}(?:\d|D|<)?(?![^\W_])", re.IGNORECASE)
_PLATE = re.compile(r"(?<![\w-])[A-ZÄÖÜ]{1,3}[ -][A-Z]{1,2}[ -]?\d{1,4}[EH]?(?![\w])")
_TOLD_PLATE = re.compile(
    r"(?<![\w-])[A-ZÄÖÜ]{1,3}[ -]{0,3}[A-Z]{1,3}[ -]{0,3}\d{1,4}[EH]?(?![\w])|(?<!\w)[A-Z]{2}\d{2} ?[A-Z]{3}(?!\w)",
    re.IGNORECASE,
)
_MONTHS = (
    "januar|jänner|februar|märz|maerz|april|mai|juni|juli|august|september|oktober|november|dezember|january|february"
    "|march|may|june|july|october|december|jan|feb|mär|mar|apr|jun|jul|aug|sept|sep|okt|oct|nov|dez|dec"
)
_DATE = re.compile(
    r"(?<!\d)(?:\d{1,2} ?[./-] ?\d{1,2} ?[./-] ?(?:\d{4}|\d{2})|\d{4}[./-]\d{1,2}[./-]\d{1,2}"
    rf"|\d{{1,2}}(?:\.|st|nd|rd|th)? ?(?:of )?(?:{_MONTHS})\.?,? ?'?(?:\d{{4}}|\d{{2}})"
    rf"|(?:{_MONTHS})\.? \d{{1,2}}(?:st|nd|rd|th)?,? \d{{4}}|(?<=[* ])(?:19\d\d|20[01]\d))(?!\d)",
    re.IGNORECASE,
)
_STAR = re.compile(r"(?:\*|†) ?$")
_WEIGHTS = (7, 3, 1)


def has_check_digit(serial: str) -> bool:
    """Whether 10 characters of a document end in the check digit of ICAO 9303."""
    values = [int(c, 36) for c in serial[:9]]
    return sum(v * _WEIGHTS[i % 3] for i, v in enumerate(values)) % 10 == int(serial[9])


def papers(text: str) -> Iterator[Finding]:
    """Identity cards, passports and driving licences."""
    for found in _SERIAL.finditer(text):
        value = found[0].upper()
        digits = sum(c.isdigit() for c in value)
        if digits >= 3 and len(value) == 10 and value[9].isdigit() and has_check_digit(value):
            yield Finding(*found.span(), Kind.ID_DOCUMENT, 0.9)
        elif digits >= 4 and found[0].isupper() and digits < len(value):
            yield Finding(*found.span(), Kind.ID_DOCUMENT, 0.5)
    for word in context.DOCUMENT.finditer(text):
        for found in _DOCUMENT.finditer(text, word.end(), min(len(text), word.end() + 60)):
            if sum(c.isdigit() for c in found[0]) >= 4:
                yield Finding(*found.span(), Kind.ID_DOCUMENT, 0.7)
                break


def plates(text: str) -> Iterator[Finding]:
    """Number plates of cars."""
    for found in _PLATE.finditer(text):
        yield Finding(*found.span(), Kind.LICENSE_PLATE, 0.5 if "-" in found[0] else 0.3)
    for word in context.PLATE.finditer(text):
        if told := _TOLD_PLATE.search(text, word.end(), min(len(text), word.end() + 40)):
            yield Finding(*told.span(), Kind.LICENSE_PLATE, 0.7)


def births(text: str) -> Iterator[Finding]:
    """Dates that are somebody's birth."""
    for found in _DATE.finditer(text):
        start, end = found.span()
        told = context.before(context.BORN, text, start, 40) or _STAR.search(text, max(0, start - 3), start)
        after = re.match(
            r"[^.!?\n]{0,24}?\b(?:geboren|geb\b|geburt|born|birth|dob)", text[end : end + 40], re.IGNORECASE
        )
        if told or after:
            yield Finding(start, end, Kind.DATE_OF_BIRTH, 0.8)
        elif (year := re.search(r"(?:19[2-9]\d|200\d)|(?<=\D)[3-9]\d$", found[0])) and len(found[0]) > len(year[0]):
            # A day so long ago is hardly ever anything else in what customers ask.
            yield Finding(start, end, Kind.DATE_OF_BIRTH, 0.4)
