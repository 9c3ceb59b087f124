"""The words around a value that say what it is, in German and English."""

from __future__ import annotations

import re
from collections.abc import Iterable

BEFORE = 48
"""How many code points before a value are read."""
_AFTER = 24


def words(*stems: str) -> re.Pattern[str]:
    """A pattern for any of the stems, which are regular expressions, at the beginning of a word."""
    return re.compile(rf"(?<![^\W_])(?:{'|'.join(stems)})", re.IGNORECASE)


def before(pattern: re.Pattern[str], text: str, start: int, reach: int = BEFORE) -> bool:
    """Whether one of the words stands shortly before ``start``."""
    return bool(pattern.search(text, max(0, start - reach), start))


def mentions(stems: Iterable[str], text: str, start: int, end: int) -> bool:
    """Whether one of ``stems``, in lower case, is part of the text around a value."""
    near = text[max(0, start - BEFORE) : end + _AFTER].lower()
    return any(stem in near for stem in stems)


CARD = words(r"\w{0,24}karte", "card", "visa", "master", "amex", "maestro", "kreditk", "debit")
PHONE = words(
    r"\w{0,24}tel\b", r"tel\.", r"\w{0,24}telefon", "handy", "mobil", "rufnummer", "fon", "fax", "phone", "cell", "call", "anruf",
    "rückruf", "rueckruf", "zurückruf", "durchwahl", "erreich", "reach", "ring", r"text me", "whatsapp", "sms", "nummer ist",
)  # fmt: skip
TAX_NUMBER = words(r"steuer-?\s?n(?:umme)?r", r"st\.?\s?-?n(?:umme)?r", "steuernr", "tax n", "finanzamt")
TAX_ID = words(r"steuer\w{0,24}-?\s?id", "idnr", r"id-nr", "identifikationsn", "tax id", "tin", "steuerliche")
PENSION = words(r"\w{0,24}rentenvers", r"sozialvers", "rvnr", r"sv-?n", "versicherungsn", "social insurance", "pension")
HEALTH_INSURANCE = words(
    r"\w{0,24}krankenvers\w{0,24}", "kvnr", "versicherten", "versichertenn", "gesundheitskarte", "egk", "health ins"
)
ACCOUNT = words(
    r"konto\w{0,24}", r"kto\b", "blz", "bankleitzahl", r"\w{0,24}kundenn", r"kd\.?-?nr", r"\w{0,24}depotn", r"\w{0,24}mitgliedsn", r"\w{0,24}vertragsn",
    r"\w{0,24}versicherungss?(?:chein)?n", "policen", r"police\b", r"\w{0,24}patientenn", r"\w{0,24}fallnummer", r"aktenzeichen", r"az\.",
    r"kassenzeichen", r"vorgangsn", r"personaln", r"matrikel", r"\w{0,24}zählern", r"pin\b", r"tan\b", r"cvv", r"cvc", r"prüfziffer",
    "account", "acct", r"a/c", "sort code", "routing", "customer (?:n|id)", "member(?:ship)? (?:n|id)", "policy (?:n|id)",
    "patient (?:n|id)", "case (?:n|id)", "reference (?:n|id)", "employee (?:n|id)", "student (?:n|id)", r"mrn\b", "record n",
    r"\w{0,24}ausweisn", r"kartenn", "card n", "steuern", "tax n", "insurance n", "security n", r"ssn\b", "nhs", "versichertenn",
    "identifikationsn", r"steuer-?id", r"security code", r"\w{0,24}nummer\b", r"\w{0,24}number\b",
)  # fmt: skip
DOCUMENT = words(
    r"\w{0,24}ausweis", r"\w{0,24}\breisepass", r"\w{0,24}passn", r"pass\b", "führerschein", "fuehrerschein", "aufenthaltstitel",
    "passport", r"id card", r"identity card", "driving licen", r"driver'?s? licen", "licence n", "license n", "dokumentenn",
)  # fmt: skip
PLATE = words(
    r"\w{0,24}kennzeichen",
    "kfz",
    "nummernschild",
    r"auto\b",
    "wagen",
    "fahrzeug",
    "plate",
    "registration",
    "vehicle",
    "car\b",
)
BORN = words(
    r"geb\.", "geboren", "geburtsdat", "geburtstag", r"geb\b", r"\w{0,24}geburts", "born", r"d\.?o\.?b\b", "date of birth", "birth",
    "jahrgang", r"\w?ge?bo\w{2,3} am",
)  # fmt: skip
SSN = words("ssn", "social sec", "itin", "taxpayer")
