"""Which texts are instances of declared intents (``domicile.api.intents``).

A text is compared as a whole, after NFKC (Unicode Standard Annex 15), case folding and with white space as single
spaces; nothing else of it is forgiven. Wherever a phrase may go on is followed at once and never gone back to, so time
is bounded by the text's length.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from typing import Final

from domicile.api.intents import Intent, Item, Slot, SlotType, items, parts, problem

_LONGEST: Final = 2048
_SPACE: Final = re.compile(r"\s+")
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,15})", re.ASCII)
_DATES: Final = (
    re.compile(r"(?P<year>[0-9]{4})-(?P<month>[0-9]{2})-(?P<day>[0-9]{2})", re.ASCII),
    re.compile(r"(?P<day>[0-9]{1,2})\.(?P<month>[0-9]{1,2})\.(?P<year>[0-9]{4})", re.ASCII),
)

_Ends = Callable[[str, int], Iterator[tuple[int, str]]]
"""Where a part that begins at a place of a folded text may end, and what it says there."""


class Intents:
    """Those of one assistant."""

    def __init__(self, intents: Sequence[Intent]) -> None:
        """Raises ValueError saying which can't be followed."""
        if (wrong := problem(intents)) is not None:
            raise ValueError(f"intents: {wrong}")
        self.declared = tuple(intents)
        self._phrases = [_phrase(phrase, intent.slots) for intent in intents for phrase in intent.phrases]

    def instance(self, text: str) -> str | None:
        """The declared phrase that a text is, with its slots filled; None: it is none."""
        if len(text) > _LONGEST:
            return None
        folded = _fold(text).strip()
        found = (_follow(phrase, folded) for phrase in self._phrases)
        return next((said for said in found if said is not None), None)


def _fold(text: str) -> str:
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return _SPACE.sub(" ", plain)


def _follow(phrase: Sequence[_Ends], text: str) -> str | None:
    reached = {0: ""}
    for part in phrase:
        after: dict[int, str] = {}
        for at, said in reached.items():
            for end, more in part(text, at):
                after.setdefault(end, said + more)
        reached = after
    return reached.get(len(text))


def _phrase(phrase: str, slots: Sequence[Slot]) -> list[_Ends]:
    known = {slot.name: _slot(slot) for slot in slots}
    return [known[part] if is_slot else _words(part) for part, is_slot in parts(_SPACE.sub(" ", phrase).strip())]


def _words(*words: str) -> _Ends:
    folded = [(_fold(word), word) for word in words]

    def ends(text: str, at: int) -> Iterator[tuple[int, str]]:
        for plain, word in folded:
            if text.startswith(plain, at):
                yield at + len(plain), word

    return ends


def _slot(slot: Slot) -> _Ends:
    match slot.type:
        case SlotType.CHOICE:
            return _words(*(slot.values or []))
        case SlotType.DATE:
            return _date
        case SlotType.NUMBER:
            return _number(slot.minimum or 0, slot.maximum or 0)
        case SlotType.CODE:
            return _code(items(slot.regex or ""))


def _date(text: str, at: int) -> Iterator[tuple[int, str]]:
    for shape in _DATES:
        if found := shape.match(text, at):
            try:
                date(*(int(found[name]) for name in ("year", "month", "day")))
            except ValueError:
                continue
            yield found.end(), found[0]


def _number(least: int, most: int) -> _Ends:
    def ends(text: str, at: int) -> Iterator[tuple[int, str]]:
        if (found := _NUMBER.match(text, at)) and least <= int(found[0]) <= most:
            yield found.end(), found[0]

    return ends


def _code(wanted: Sequence[Item]) -> _Ends:
    def ends(text: str, at: int) -> Iterator[tuple[int, str]]:
        reached = {at: ""}
        for item in wanted:
            after: dict[int, str] = {}
            for start, said in reached.items():
                for end, more in _run(item, text, start):
                    after.setdefault(end, said + more)
            reached = after
        yield from reached.items()

    return ends


def _run(item: Item, text: str, at: int) -> Iterator[tuple[int, str]]:
    """Ends of from ``least`` to ``most`` of an item's characters; letters as the item has them."""
    said = ""
    for count in range(item.most + 1):
        if count >= item.least:
            yield at + count, said
        here = text[at + count : at + count + 1]
        one = next((each for each in (here, here.upper()) if each and each in item.characters), None)
        if one is None:
            return
        said += one
