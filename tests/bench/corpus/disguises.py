"""How a number may be written so that a simple pattern misses it, and people read it all the same."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from random import Random

_LOOKALIKES = str.maketrans("ABEKMHOPCTX", "АВЕКМНОРСТХ")
_WORDS = "null eins zwei drei vier fünf sechs sieben acht neun".split()
_ENGLISH = "zero one two three four five six seven eight nine".split()


def invisible(value: str, random: Random) -> str:
    """With characters that nobody sees."""
    at = random.randrange(1, len(value))
    return value[:at] + random.choice("\u200b\u200c\u2060\ufeff\u00ad\u200e") + value[at:]


def wide(value: str, random: Random) -> str:
    """In full-width forms."""
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in value)


def decomposed(value: str, random: Random) -> str:
    """With marks as characters of their own."""
    return unicodedata.normalize("NFD", value)


def foreign(value: str, random: Random) -> str:
    """With letters of another script that look the same, and digits of another one."""
    return value.translate(_LOOKALIKES).translate(
        str.maketrans("0123456789", random.choice(["٠١٢٣٤٥٦٧٨٩", "0123456789"]))
    )


def spaced(value: str, random: Random) -> str:
    """Letter by letter."""
    return random.choice([" ", ".", "-"]).join(c for c in value if c.isalnum())


def spoken(value: str, random: Random) -> str:
    """Digit by digit, in words."""
    words = random.choice([_WORDS, _ENGLISH])
    return " ".join(words[int(c)] if c.isdigit() else c for c in value if c.isalnum())


DISGUISES: dict[str, Callable[[str, Random], str]] = {
    "invisible": invisible,
    "wide": wide,
    "decomposed": decomposed,
    "foreign": foreign,
    "spaced": spaced,
    "spoken": spoken,
}
