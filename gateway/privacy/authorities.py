"""Numbers that tax offices and social insurance give out, in Germany, the United Kingdom and the United States."""

from __future__ import annotations

import re
from collections.abc import Iterator

from stdnum.de import idnr, stnr
from stdnum.de import vat as german_vat
from stdnum.gb import nhs

from domicile.api.privacy import Kind
from domicile.gateway.privacy import context
from domicile.gateway.privacy.digits import Run, runs
from domicile.gateway.privacy.finding import Finding

_GAP = r"[\W_]{0,2}"
_PENSION = re.compile(rf"(?<!\d)\d(?:{_GAP}\d){{7}}{_GAP}[A-Za-z](?:{_GAP}\d){{3}}(?!\d)")
_HEALTH = re.compile(rf"(?<![^\W_])(?:[A-Za-z](?:{_GAP}\d){{9}}|[A-Za-z][\dOoIl]{{9}})(?![^\W_])")
_VAT = re.compile(
    rf"(?<![^\W_])(?:D{_GAP}E(?:{_GAP}\d){{9}}|ATU{_GAP}\d(?:{_GAP}\d){{7}}|CHE(?:{_GAP}\d){{9}})(?!\d)", re.IGNORECASE
)
_TAX_NUMBER = re.compile(r"(?<![\d/])(?:\d{2,3} ?[/-] ?\d{3,4} ?[/-] ?\d{4,5}|\d{3} ?/ ?\d{4} ?/ ?\d{4})(?![\d/])")
_INSURANCE = re.compile(
    rf"(?<![^\W_])(?![DFIQUV])[A-Z](?![DFIOQUV])[A-Z](?:{_GAP}\d){{6}}{_GAP}[A-D](?![^\W_])", re.IGNORECASE
)
_WEIGHTS = (2, 1, 2, 5, 7, 1, 2, 1, 2, 1, 2, 1)
_OTHER_DATES = 50


def _compact(value: str) -> str:
    return re.sub(r"[\W_]", "", value).upper()


def _cross_sum(value: int) -> int:
    return value // 10 + value % 10


def is_pension_number(value: str) -> bool:
    """Whether 12 characters, such as 12150780J009, have the right check digit."""
    letter = ord(value[8]) - 64
    digits = f"{value[:8]}{letter:02d}{value[9:11]}"
    return sum(_cross_sum(int(d) * w) for d, w in zip(digits, _WEIGHTS, strict=True)) % 10 == int(value[11])


def is_health_number(value: str) -> bool:
    """Whether 10 characters, such as A123456780, have the right check digit."""
    digits = f"{ord(value[0]) - 64:02d}{value[1:9]}"
    return sum(_cross_sum(int(d) * (1 + i % 2)) for i, d in enumerate(digits)) % 10 == int(value[9])


def insured(text: str) -> Iterator[Finding]:
    """Pension and health insurance of Germany, National Insurance of the United Kingdom; wrong check digits, too."""
    for found in _PENSION.finditer(text):
        value = _compact(found[0])
        day, month = int(value[2:4]) % _OTHER_DATES, int(value[4:6])
        if is_pension_number(value):
            yield Finding(*found.span(), Kind.PENSION_INSURANCE, 1.0)
        elif (day <= 31 and month <= 12) or context.before(context.PENSION, text, found.start()):
            yield Finding(*found.span(), Kind.PENSION_INSURANCE, 0.6)
    for found in _HEALTH.finditer(text):
        compact = _compact(found[0])
        value = compact[0] + compact[1:].replace("O", "0").replace("I", "1").replace("L", "1")
        if is_health_number(value):
            yield Finding(*found.span(), Kind.HEALTH_INSURANCE, 0.9)
        elif found[0][1:].isdigit() or context.before(context.HEALTH_INSURANCE, text, found.start()):
            yield Finding(*found.span(), Kind.HEALTH_INSURANCE, 0.5)
    for found in _INSURANCE.finditer(text):
        yield Finding(*found.span(), Kind.UK_INSURANCE, 0.7)


def taxed(text: str) -> Iterator[Finding]:
    """VAT and tax numbers that have letters or slashes in them."""
    for found in _VAT.finditer(text):
        valid = german_vat.is_valid(_compact(found[0]))
        yield Finding(*found.span(), Kind.VAT_ID, 0.95 if valid else 0.6)
    for found in _TAX_NUMBER.finditer(text):
        value = found[0]
        told = context.before(context.TAX_NUMBER, text, found.start())
        if told or stnr.is_valid(value) or len(_compact(value)) >= 10:
            yield Finding(*found.span(), Kind.TAX_NUMBER, 0.8 if told else 0.5)


def _of(text: str, run: Run) -> Finding | None:
    digits, start, end = run.digits, run.start, run.end
    if len(digits) == 11 and idnr.is_valid(digits):
        return Finding(start, end, Kind.TAX_ID, 0.95)
    if 10 <= len(digits) <= 12 and context.before(context.TAX_ID, text, start):
        return Finding(start, end, Kind.TAX_ID, 0.8)
    if len(digits) == 11 and run.shape == (2, 3, 3, 3):
        return Finding(start, end, Kind.TAX_ID, 0.5)
    if 9 <= len(digits) <= 13 and context.before(context.TAX_NUMBER, text, start):
        return Finding(start, end, Kind.TAX_NUMBER, 0.7)
    if len(digits) == 13 and stnr.is_valid(digits):
        return Finding(start, end, Kind.TAX_NUMBER, 0.5)
    if run.shape == (3, 2, 4) and len(set(run.between)) == 1:
        return Finding(start, end, Kind.US_TAX_ID, 0.7)
    if len(digits) == 9 and context.before(context.SSN, text, start):
        return Finding(start, end, Kind.US_TAX_ID, 0.7)
    if len(digits) == 10 and run.shape == (3, 3, 4) and nhs.is_valid(digits):
        return Finding(start, end, Kind.UK_NHS, 0.5)
    return None


def numbered(text: str) -> Iterator[Finding]:
    """Tax and health numbers of digits only, grouped anyhow."""
    for run in runs(text):
        wholes = [run, *run.split(",;|\n")] if any(c in "".join(run.between) for c in ",;|\n") else [run]
        for whole in wholes:
            if found := _of(text, whole):
                yield found
