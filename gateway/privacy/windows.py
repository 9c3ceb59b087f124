"""Long texts in pieces, so that the time that one piece takes is bounded, and all together take no more than in one."""

from __future__ import annotations

from collections.abc import Iterator

SIZE = 16384
"""Code points of a piece, at most."""
OVERLAP = 2048
"""How many code points of a piece the next one has, too: no value is longer, so one of them has it whole."""


def windows(text: str) -> Iterator[tuple[int, str]]:
    """Pieces of ``text``, and where each begins in it. A text that is short enough is its only piece."""
    at = 0
    while True:
        yield at, text[at : at + SIZE]
        if at + SIZE >= len(text):
            return
        at += SIZE - OVERLAP
