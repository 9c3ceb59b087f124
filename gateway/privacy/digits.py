"""Runs of digits: groups of them with little between, and which of those are only dates, times and amounts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

# No two parts match the same character, so that each text is read once.
_RUN = re.compile(r"\d(?:[\W_]{0,3}\d)*")
_GROUP = re.compile(r"\d+")
_DAY, _MONTH = r"(?:0?[1-9]|[12]\d|3[01])", r"(?:0?[1-9]|1[0-2])"
_YEAR = r"(?:(?:1[89]|20)\d\d|\d\d)"
_UNIT = (
    r"(?:€|\$|£|%|(?:eur|euros?|usd|chf|gbp|dollars?|pounds?|cents?|ct|tsd|mio|mrd|prozent|percent|stück|stk|kg|km|mg|ml|m²"
    r"|qm|kwh|gb|mb|tb|px|bytes?)\b)"
)
# Nobody has more than that: what is longer, or goes on before or after, is a number that stands beside a unit.
_AMOUNT = r"(?:\d{1,3}(?:[.,']\d{3}){1,3}(?:[.,]\d{1,2})?|\d{1,7}[.,]\d{1,2}|\d{1,7})"
ORDINARY = re.compile(
    rf"(?<![\d.])(?:{_DAY}\. ?{_MONTH}\. ?{_YEAR}|{_DAY}/{_MONTH}/{_YEAR}|{_MONTH}/{_DAY}/{_YEAR}|{_DAY}-{_MONTH}-\d{{4}})(?![\d])"
    rf"|(?<![\d-])(?:19|20)\d\d[-/.](?:0[1-9]|1[0-2])[-/.](?:0[1-9]|[12]\d|3[01])(?!\d)"
    r"|(?<![\d:])(?:[01]?\d|2[0-4])[:.][0-5]\d(?:[:.][0-5]\d)?(?= ?(?:uhr|h\b|am\b|pm\b|-)| *$)"
    r"|(?<![\d:])(?:[01]?\d|2[0-4]):[0-5]\d(?::[0-5]\d)?(?![\d:])"
    rf"|(?<![\d.,])(?<!\d[ ./)-])(?<!\d\) ){_AMOUNT} ?{_UNIT}"
    rf"|(?:€|\$|£|\b(?:eur|usd|chf|gbp)) ?{_AMOUNT}(?![ ./-]?\d)"
    r"|(?<![\d.,])\d{1,3}(?:\.\d{3}){1,3},\d{1,2}(?!\d)|(?<![\d.,])\d{1,3}(?:,\d{3}){1,3}(?:\.\d{1,2})?(?!,?\d)",
    re.IGNORECASE | re.MULTILINE,
)
"""Dates, times and amounts of money and goods."""


class Group(NamedTuple):
    """Digits without anything between: ``start`` and ``end`` (exclusive) in the text."""

    start: int
    end: int
    digits: str


class Run(NamedTuple):
    """Groups of digits that follow each other; ``between[i]`` stands after ``groups[i]``."""

    groups: list[Group]
    between: list[str]

    @property
    def start(self) -> int:
        """Where it begins in the text."""
        return self.groups[0].start

    @property
    def end(self) -> int:
        """Where it ends in the text, exclusive."""
        return self.groups[-1].end

    @property
    def digits(self) -> str:
        """All its digits."""
        return "".join(group.digits for group in self.groups)

    @property
    def shape(self) -> tuple[int, ...]:
        """How many digits each group has."""
        return tuple(len(group.digits) for group in self.groups)

    def part(self, first: int, last: int) -> Run:
        """Groups ``first`` to ``last`` (exclusive)."""
        return Run(self.groups[first:last], self.between[first : last - 1])

    def split(self, separators: str) -> Iterator[Run]:
        """The runs between which one of ``separators`` stands."""
        first = 0
        for i, between in enumerate(self.between):
            if any(separator in between for separator in separators):
                yield self.part(first, i + 1)
                first = i + 1
        yield self.part(first, len(self.groups))


@lru_cache(maxsize=1)
def runs(text: str) -> list[Run]:
    """All runs of digits in ``text``: at most three other characters, no letters, between one digit and the next.

    The last answer is kept, for several recognisers ask for it.
    """
    found = []
    for match in _RUN.finditer(text):
        groups = [Group(m.start(), m.end(), m[0]) for m in _GROUP.finditer(text, *match.span())]
        found.append(Run(groups, [text[a.end : b.start] for a, b in pairwise(groups)]))
    return found


def suspicious(text: str, run: Run) -> Iterator[Run]:
    """What is left of a run without dates, times and amounts."""
    ordinary = [m.span() for m in ORDINARY.finditer(text, max(0, run.start - 5), min(len(text), run.end + 12))]
    first = 0
    for i, group in enumerate(run.groups):
        if any(start <= group.start and group.end <= end for start, end in ordinary):
            if first < i:
                yield run.part(first, i)
            first = i + 1
    if first < len(run.groups):
        yield run.part(first, len(run.groups))
