"""Words of the lists, and one form for their spellings: capitals, umlauts as two letters, accents."""

from __future__ import annotations

import unicodedata
from importlib.resources.abc import Traversable

_UMLAUTS = str.maketrans(
    {"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss", "ø": "o", "ł": "l", "đ": "d", "ı": "i", "æ": "ae"}
)


def folded(word: str) -> str:
    """The word in small letters without umlauts and accents, as in ``mueller``."""
    small = word.lower().translate(_UMLAUTS)
    if small.isascii():
        return small
    return "".join(c for c in unicodedata.normalize("NFD", small) if not unicodedata.combining(c))


def bare(word: str) -> str:
    """The word in small letters, umlauts as the letters below their dots, as in ``muller``."""
    return "".join(c for c in unicodedata.normalize("NFD", word.lower()) if not unicodedata.combining(c))


def entries(file: Traversable) -> list[str]:
    """The words of a list, one to a line; what follows # is a remark."""
    lines = (line.partition("#")[0].strip() for line in file.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]
