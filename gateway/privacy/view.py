"""A text as a recogniser reads it, and where each of its characters stands in the text as it came."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Edit(NamedTuple):
    """Code points ``start`` to ``end`` (exclusive) of a view read as ``text``."""

    start: int
    end: int
    text: str


class View(NamedTuple):
    """``text``, and for each code point of it the [start, end) in the original that it stands for."""

    text: str
    starts: Sequence[int]
    ends: Sequence[int]

    @classmethod
    def of(cls, text: str) -> View:
        """The text as it is."""
        return cls(text, range(len(text)), range(1, len(text) + 1))

    @classmethod
    def inside(cls, text: str, start: int, end: int) -> View:
        """A text that was packed into [start, end) of the original: no part of that can be told from another."""
        return cls(text, array("I", [start]) * len(text), array("I", [end]) * len(text))

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Where [start, end) of the view stands in the original."""
        return self.starts[start], self.ends[end - 1]

    def edited(self, edits: Iterable[Edit]) -> View:
        """The view with ``edits`` made, sorted and disjoint ones. Every replacing character stands for the whole."""
        parts: list[str] = []
        starts, ends = array("I"), array("I")
        at = 0
        for edit in edits:
            parts += (self.text[at : edit.start], edit.text)
            starts.extend(self.starts[at : edit.start])
            ends.extend(self.ends[at : edit.start])
            starts.extend([self.starts[edit.start]] * len(edit.text))
            ends.extend([self.ends[edit.end - 1]] * len(edit.text))
            at = edit.end
        if not parts:
            return self
        parts.append(self.text[at:])
        starts.extend(self.starts[at:])
        ends.extend(self.ends[at:])
        return View("".join(parts), starts, ends)
