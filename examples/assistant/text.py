"""Words of German and English text, made comparable: folding, light stems, coverage, language."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

MAX_TERMS = 32

_GERMAN = """
aber als am an auch auf aus bei bin bis bitte da damit dann das dass dein dem den der des die dies diese dieser doch
du ein eine einem einen einer eines er es euch euer eure eurem euren eurer für habe haben hat hatte ich ihr im in ist
ja kann kannst kein keine können lang lange machen man mein meine meinem meinen meiner mir mit muss nach nicht noch
nun nur oder ohne schon sehr sein sich sie sind so über um und uns unser viel viele vom von vor wann war waren warum
was welche welchem welchen welcher welches wenn wer werden wie wieviel wir wird wo wozu zu zum zur
"""
_ENGLISH = """
a about after an and any are as at be been but by can could did do does for from get had has have how i if in into is
it its just know long many may me much must my no not of on or our please shall should so some tell than that the
their them then there these they this to until us was we were what when where which who whom why will with would you
your
"""
_ENDINGS = ("ungen", "ung", "ing", "ies", "ern", "est", "en", "er", "em", "es", "ed", "et", "y", "e", "n", "s", "t")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")


def fold(text: str) -> str:
    """Lower case without diacritics; ``ß`` is ss, and ae, oe, ue are taken for the umlauts that they may spell."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    plain = "".join(c for c in plain if not unicodedata.combining(c)).casefold()
    # After a, e and q a "ue" is no umlaut (Dauer, neue, question).
    return re.sub(r"(?<![aeq])ue", "u", plain.replace("ae", "a").replace("oe", "o"))


GERMAN = frozenset(fold(_GERMAN).split())
ENGLISH = frozenset(fold(_ENGLISH).split())
_STOP = GERMAN | ENGLISH


def words(text: str) -> list[str]:
    """Folded words of the text, in order."""
    return re.findall(r"[^\W_]+", fold(text))


def sentences(text: str) -> list[str]:
    """The text's sentences and lines, without empty ones."""
    return [s for s in (part.strip() for part in _SENTENCE_END.split(text)) if s]


@dataclass(frozen=True, slots=True)
class Term:
    """A content word to look for: the start of a word where ``prefix``, else a whole word."""

    stem: str
    prefix: bool

    def matches(self, word: str) -> bool:
        """Whether a folded word is meant."""
        return word.startswith(self.stem) if self.prefix else word == self.stem


def _term(word: str) -> Term:
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 4:
            return Term(word.removesuffix(ending), prefix=True)
    return Term(word, prefix=len(word) >= 4)


def terms(text: str) -> list[Term]:
    """The text's content words, each once, at most MAX_TERMS."""
    return list(dict.fromkeys(_term(w) for w in words(text) if w not in _STOP))[:MAX_TERMS]


def coverage(wanted: list[Term], text: str) -> float:
    """Share (0 to 1) of the wanted terms that occur in the text; 0 where none is wanted."""
    present = set(words(text))
    found = sum(any(term.matches(word) for word in present) for term in wanted)
    return found / len(wanted) if wanted else 0.0


def is_german(text: str) -> bool:
    """Whether the text reads more like German than like English."""
    spoken = words(text)
    german = sum(w in GERMAN for w in spoken) + sum(c in "äöüß" for c in text.casefold())
    return german > sum(w in ENGLISH for w in spoken)
