"""What was found in a text, and who finds it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class Finding(NamedTuple):
    """Code points ``start`` to ``end`` (exclusive) of a text are of a ``kind``, such as IBAN; ``score`` is 0 to 1."""

    start: int
    end: int
    kind: str
    score: float


class AnalyzerError(Exception):
    """The texts could not be looked at, in whole: nothing of them may be sent. The message quotes none of them."""


class Finder(Protocol):
    """Looks for personal data."""

    async def find(self, texts: Sequence[str]) -> list[list[Finding]]:
        """The findings of each text, sorted, none touching another.

        Raises AnalyzerError where a text was not looked at to its end.
        """
        ...
