"""Texts that a model may read as one, such as parts of a message: a value may be cut over them.

Only what is near a cut is looked at once more, for the texts themselves are looked at anyway.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from domicile.gateway.privacy.finding import Finding

REACH: Final = 256
"""Code points on either side of a cut: more than a value and the words before it have."""
SURE: Final = 0.6
"""The least score of a finding in a joint: any few numbers beside each other look like one long number."""
# Some models get parts without anything between, others with a line's end.
_BETWEEN: Final = ("", "\n")

_Place = tuple[int, int]


class _Piece(NamedTuple):
    """Code points from ``skipped`` on of the text at a place, as they stand at ``start`` of a joint."""

    place: _Place
    start: int
    length: int
    skipped: int


class Joint(NamedTuple):
    """Ends and beginnings of texts as one text."""

    text: str
    pieces: list[_Piece]

    def apart(self, finding: Finding) -> list[tuple[_Place, Finding]]:
        """What each text has of a finding."""
        made = []
        for piece in self.pieces[bisect_right(self.pieces, finding.start, key=_end) :]:
            if finding.end <= piece.start:
                break
            start, end = max(finding.start - piece.start, 0), min(finding.end - piece.start, piece.length)
            if start < end:
                made.append((piece.place, finding._replace(start=start + piece.skipped, end=end + piece.skipped)))
        return made


def _end(piece: _Piece) -> int:
    return piece.start + piece.length


def joints(texts: Sequence[tuple[_Place, str]]) -> Iterator[Joint]:
    """The joints of texts that follow each other; a long one ends a joint and begins the next."""
    for between in _BETWEEN:
        made: list[str] = []
        pieces: list[_Piece] = []
        size = 0
        for place, text in texts:
            long = len(text) > 2 * REACH
            head = text[:REACH] if long else text
            made.append(head)
            pieces.append(_Piece(place, size, len(head), 0))
            size += len(head) + len(between)
            if long:
                if len(pieces) > 1:
                    yield Joint(between.join(made), pieces)
                made, pieces = [text[-REACH:]], [_Piece(place, 0, REACH, len(text) - REACH)]
                size = REACH + len(between)
        if len(pieces) > 1:
            yield Joint(between.join(made), pieces)


def together(findings: Sequence[Finding]) -> list[Finding]:
    """The findings sorted and apart, those that overlap as one of the kind that was found surest."""
    made: list[Finding] = []
    for finding in sorted(findings):
        if made and finding.start < made[-1].end:
            last = made[-1]
            surest = max(last, finding, key=lambda each: each.score)
            made[-1] = surest._replace(start=last.start, end=max(last.end, finding.end))
        else:
            made.append(finding)
    return made
