"""Values of a conversation wherever they stand, also where nobody would find them: in what a model has made of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

SHORTEST: Final = 3
"""Code points of a value: shorter ones are in too many words."""


class Hider:
    """Puts placeholders where their values stand, the longest first.

    Also within a word: a model writes a name with an ending of its own. What is hidden too much comes back like all.
    """

    def __init__(self, placeholders: Mapping[str, str]) -> None:
        """``placeholders``: by value."""
        self._placeholders = placeholders
        lengths: dict[str, set[int]] = defaultdict(set)
        for value in self._placeholders:
            if len(value) >= SHORTEST:
                lengths[value[:SHORTEST]].add(len(value))
        self._lengths = {head: sorted(found, reverse=True) for head, found in lengths.items()}

    def text(self, text: str, split: Callable[[str], Iterable[tuple[str, bool]]]) -> str:
        """The text with placeholders for values. ``split``: into parts, those that are placeholders already marked."""
        if not self._lengths:
            return text
        return "".join(part if ours else "".join(self._hidden(part)) for part, ours in split(text))

    def _hidden(self, part: str) -> Iterator[str]:
        at = start = 0
        while start <= len(part) - SHORTEST:
            found = self._value(part, start)
            if found is None:
                start += 1
                continue
            yield part[at:start]
            yield self._placeholders[found]
            at = start = start + len(found)
        yield part[at:]

    def _value(self, part: str, start: int) -> str | None:
        for length in self._lengths.get(part[start : start + SHORTEST], ()):
            if (value := part[start : start + length]) in self._placeholders:
                return value
        return None
