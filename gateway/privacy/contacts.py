"""How somebody is reached: telephone numbers, and mail addresses, also those that were made hard to read."""

from __future__ import annotations

import re
from collections.abc import Iterator

import phonenumbers

from domicile.api.privacy import Kind
from domicile.gateway.privacy import context
from domicile.gateway.privacy.digits import Run, runs, suspicious
from domicile.gateway.privacy.finding import Finding

_MAIL = re.compile(
    r"(?<![\w.+-])[\w.!#$'*+/=?^`{|}~-]{1,64} ?@ ?(?:[^\W_](?:[\w-]{0,62}[^\W_])?\s?\.\s?){1,8}[^\W\d_][\w-]{1,24}(?![\w-])"
)
_AT = r"(?: ?[(\[{<] ?(?:at|ät|ad|@) ?[)\]}>] ?| (?:at|ät|klammeraffe) )"
_DOT = r"(?: ?[(\[{<] ?(?:dot|punkt|\.) ?[)\]}>] ?| (?:dot|punkt) |\.)"
# No part matches what another one does: each text is read once.
_JOINT = rf"(?:{_DOT}| (?:minus|unterstrich|underscore|dash|bindestrich) )"
_TOP = r"(?:de|com|net|org|eu|at|ch|info|io|uk|biz|edu|gov|example|test|fr|it|pl|tr)"
_SPELT = re.compile(
    rf"(?<!\w)\w[\w+-]{{0,40}}(?:{_JOINT}\w[\w+-]{{0,40}}){{0,3}}{_AT}\w[\w-]{{0,40}}(?:{_JOINT}\w[\w-]{{0,40}}){{0,3}}{_DOT}{_TOP}(?!\w)",
    re.IGNORECASE,
)
_REGIONS = ("DE", "GB", "AT", "CH")


def mails(text: str) -> Iterator[Finding]:
    """Mail addresses, with spaces around their signs, or with words for these."""
    if "@" in text:
        for found in _MAIL.finditer(text):
            yield Finding(*found.span(), Kind.EMAIL, 0.95)
    for found in _SPELT.finditer(text):
        yield Finding(*found.span(), Kind.EMAIL, 0.7)


def _valid(digits: str, region: str | None) -> bool:
    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(digits, region))
    except phonenumbers.NumberParseException:
        return False


def _prefix(text: str, run: Run) -> str:
    return text[max(0, run.start - 3) : run.start]


def _score(text: str, run: Run) -> float:
    digits, shape = run.digits, run.shape
    international = "+" in _prefix(text, run) or digits.startswith("00")
    if international and 8 <= len(digits) <= 17:
        return 0.8
    if not 5 <= len(digits) <= 15:
        return 0.0
    if context.before(context.PHONE, text, run.start, 32):
        return 0.7
    if digits[0] == "0" and digits[1] != "0" and 7 <= len(digits) <= 14:
        if any(_valid(digits, region) for region in _REGIONS):
            return 0.7
        # A ratio such as 0.12345 has a dot and nothing else.
        return 0.45 if len(shape) > 1 and len(digits) >= 8 and "." not in run.between else 0.0
    if (len(digits) == 10 and shape in {(3, 3, 4), (3, 7)}) or (len(digits) == 11 and shape == (1, 3, 3, 4)):
        return 0.7 if _valid(digits, "US") else 0.45
    return 0.0


def _reaching(text: str, run: Run) -> Run | None:
    """The most groups from the first on that can be dialled."""
    for last in range(min(len(run.groups), 12), 0, -1):
        part = run.part(0, last)
        if _score(text, part):
            return part
    return None


def _start(text: str, run: Run) -> int:
    lead = re.search(r"(?:\+ ?\(?|\(\+? ?)$", _prefix(text, run))
    return run.start - len(lead[0]) if lead else run.start


def phones(text: str) -> Iterator[Finding]:
    """Telephone numbers of Germany, Austria, Switzerland, the United Kingdom, the United States, and with a country code."""
    for run in runs(text):
        for part in suspicious(text, run):
            for whole in part.split(",;:|\n+"):
                at = 0
                while at < len(whole.groups):
                    if found := _reaching(text, whole.part(at, len(whole.groups))):
                        yield Finding(_start(text, found), found.end, Kind.PHONE, _score(text, found))
                    at += len(found.groups) if found else 1
