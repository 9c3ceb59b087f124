"""The texts that people are shown: which language, which version, and the digest that tells what was shown."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from domicile.api.consent import Notice, Texts

PLATFORM_VERSION = "1"
"""Of the text below; with another text it must be another one, and everybody is asked anew."""
_PLATFORM = {
    "de": "Hier antwortet eine künstliche Intelligenz (KI), kein Mensch. Sie kann sich irren: Antworten können falsch,"
    " unvollständig oder veraltet sein. Prüfen Sie nach, worauf Sie sich verlassen wollen.",
    "en": "An artificial intelligence (AI) answers here, not a person. It can err: answers may be wrong, incomplete or"
    " out of date. Check whatever you want to rely on.",
}
LANGUAGES = tuple(_PLATFORM)
_DEFAULT = "en"


class Shown(NamedTuple):
    """A text as somebody reads it: its version, its language, and the SHA-256 (hex) of its UTF-8."""

    version: str
    language: str
    text: str

    @property
    def digest(self) -> str:
        """What tells this text from any other."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def language_of(accepted: str) -> str:
    """The language that a header Accept-Language prefers (RFC 9110, section 12.5.4)."""
    best, found = 0.0, _DEFAULT
    for entry in accepted.split(","):
        tag, _, quality = entry.strip().lower().partition(";q=")
        weight = _weight(quality)
        if weight > best and (language := tag.partition("-")[0]) in LANGUAGES:
            best, found = weight, language
    return found


def _weight(text: str) -> float:
    digits = text.replace(".", "", 1)
    return float(text) if digits.isascii() and digits.isdigit() and len(text) <= 5 else 1.0 if not text else 0.0


def of_notice(notice: Notice, language: str) -> Shown:
    """The platform's text, which says that an AI answers and can err, and then the tenant's rules."""
    rules = _in(notice.texts, language) if notice.texts else ""
    version = f"{PLATFORM_VERSION}.{notice.version or 0}"
    return Shown(version, language, "\n\n".join(part for part in (_PLATFORM[language], rules) if part))


def of_purpose(version: str, texts: Texts, language: str) -> Shown:
    """What is agreed to."""
    return Shown(version, language, _in(texts, language))


def _in(texts: Texts, language: str) -> str:
    wanted, other = (texts.de, texts.en) if language == "de" else (texts.en, texts.de)
    return wanted or other or ""
