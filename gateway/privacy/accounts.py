"""Bank accounts, payment cards, and numbers that stand for somebody without it being said which."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

from presidio_analyzer.predefined_recognizers.generic.iban_patterns import regex_per_country
from stdnum import iban, luhn

from domicile.api.privacy import Kind
from domicile.gateway.privacy import context
from domicile.gateway.privacy.digits import Run, runs, suspicious
from domicile.gateway.privacy.finding import Finding

_COUNTRIES: dict[str, str] = dict(regex_per_country)
# It takes nothing, for the letters before a number may be the end of a word and its beginning.
_LETTERS = re.compile(r"(?=([A-Za-z])[\W_]{0,3}([A-Za-z])[\W_]{0,3}[\dOoIl][\W_]{0,3}[\dOoIl])")
_GLUED = re.compile(r"(?<![^\W_])(?:iban|konto)$", re.IGNORECASE)
_CHARACTER = re.compile(r"[A-Za-z0-9]")
_GAP = re.compile(r"[\W_]*")
_LONGEST = 34
# Quantities of so many digits are written in groups, or with their unit, which is looked at before.
_LONG = 6
_CARD = re.compile(r"4|5[0-9]|6|2[2-7]|3[04-9]")
_SHAPES = {(4, 4, 4, 4), (4, 6, 5), (4, 6, 4), (4, 4, 4, 3), (4, 4, 4, 5), (4, 4, 4, 4, 3)}
_DIGITS_FOR = str.maketrans("OoIl", "0011")


_PIECE = re.compile(r"\(\[[^ \]]+\]\[ \]\?\)\{(\d+)\}|\[[^ \]]+\](?:\{(\d+)\})?\[ \]\?")


@cache
def _structure(country: str) -> tuple[re.Pattern[str], int, bool] | None:
    """Pattern and length of a country's IBAN, and whether it has digits only after the country."""
    if not (pattern := _COUNTRIES.get(country)):
        return None
    length = 2 + sum(int(m[1] or m[2] or 1) for m in _PIECE.finditer(pattern))
    return re.compile(pattern.replace("[ ]?", "")), length, "A-Z" not in pattern[4:]


def _characters(text: str, start: int) -> Iterator[tuple[int, str]]:
    """Letters and digits from ``start`` on, with at most three other characters between, and where they stand."""
    at = start
    while at < len(text) and (found := _CHARACTER.match(text, at)):
        yield at, found[0]
        gap = _GAP.match(text, at + 1, min(len(text), at + 5))
        at = gap.end() if gap else at + 1
        if at - start > 4 * _LONGEST:
            return


def ibans(text: str) -> Iterator[Finding]:
    """International account numbers, grouped anyhow, in capitals or not, also with a wrong or lost character."""
    for found in _LETTERS.finditer(text):
        start = found.start()
        before = text[max(0, start - 8) : start]
        if before[-1:].isalnum() and not _GLUED.search(before):
            continue
        country = f"{found[1]}{found[2]}".upper()
        if not (structure := _structure(country)):
            continue
        pattern, length, numeric = structure
        taken = [*zip(range(_LONGEST), _characters(text, start), strict=False)]
        value = raw = "".join(c for _, (_, c) in taken).upper()
        if numeric:
            value = value[:2] + value[2:].translate(_DIGITS_FOR).replace("O", "0").replace("I", "1").replace("L", "1")
        if pattern.fullmatch(value[:length]):
            end = taken[length - 1][1][0] + 1
            yield Finding(start, end, Kind.IBAN, 1.0 if iban.is_valid(value[:length]) else 0.6)
        elif lost := re.match(r"[A-Z]{2}\d{2}(?:[A-Z]{0,4}\d{10,})", raw):
            # A character too few or too many, or a letter where none is: as far as it looks like one.
            end = taken[lost.end() - 1][1][0] + 1
            yield Finding(start, end, Kind.IBAN, 0.5)


def _cards(run: Run) -> Iterator[Finding]:
    groups = run.groups
    for first in range(len(groups)):
        digits = ""
        for last in range(first, min(len(groups), first + 19)):
            digits += groups[last].digits
            if len(digits) > 19:
                break
            if len(digits) >= 13 and _CARD.match(digits) and luhn.is_valid(digits):
                yield Finding(groups[first].start, groups[last].end, Kind.CREDIT_CARD, 0.95)
            elif run.part(first, last + 1).shape in _SHAPES and _CARD.match(digits):
                yield Finding(groups[first].start, groups[last].end, Kind.CREDIT_CARD, 0.6)


def cards(text: str) -> Iterator[Finding]:
    """Payment cards: by their check digit, or grouped like one."""
    for run in runs(text):
        if len(run.digits) < 13:
            continue
        left = [*suspicious(text, run)]
        # A run may be cut by something in it that looks like an amount, but not where that is all there is.
        if left:
            yield from _cards(run)
        for part in left:
            digits = part.digits
            if 13 <= len(digits) <= 19 and _CARD.match(digits) and context.before(context.CARD, text, part.start):
                yield Finding(part.start, part.end, Kind.CREDIT_CARD, 0.6)


def _telling(part: Run) -> bool:
    """Whether its length or its groups say that it is a number of somebody, not a quantity."""
    shape, total = part.shape, sum(part.shape)
    if max(shape) >= 9:
        return True
    if len(set(part.between)) == 1 and len(part.between[0]) == 1 and total >= 10:
        return part.between[0] in " -./" and (total / len(shape) >= 2 or len(shape) >= 10)
    # Grouped now like this, now like that, or digit by digit: nobody writes a quantity so.
    return total >= 11 and (total / len(shape) >= 2 or len(shape) >= 10)


def numbers(text: str) -> Iterator[Finding]:
    """Numbers that the words before them call somebody's, and those that are too long to be anything else."""
    for run in runs(text):
        for part in suspicious(text, run):
            for whole in part.split(",;|\n"):
                total = len(whole.digits)
                if total >= 4 and context.before(context.ACCOUNT, text, whole.start, 32):
                    yield Finding(whole.start, whole.end, Kind.ACCOUNT, 0.6)
                elif _telling(whole):
                    yield Finding(whole.start, whole.end, Kind.NUMBER, 0.5)
                else:
                    for group in whole.groups:
                        if len(group.digits) >= _LONG:
                            yield Finding(group.start, group.end, Kind.NUMBER, 0.4)
            if "," not in "".join(part.between) and "\n" not in "".join(part.between):
                continue
            if (len(part.digits) >= 13 and len(part.digits) >= 2 * len(part.groups)) or len(part.groups) >= 13:
                yield Finding(part.start, part.end, Kind.NUMBER, 0.4)
