"""What somebody suffers from, and what they take for it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.resources import files

from domicile.api.privacy import Kind
from domicile.gateway.privacy import context
from domicile.gateway.privacy.finding import Finding
from domicile.gateway.privacy.spelling import entries, folded

_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
_CODE = re.compile(r"(?<![\w.-])[A-TV-Z]\d{2}(?:\.\d{1,2})?[GVAZRLB]?(?![\w-])")
_TOLD = context.words("icd", "diagnos", "befund", "code", "schlüssel")
_SUFFERING = re.compile(
    r"(?:itis|ose|osis|karzinom|carcinoma|sarkom|leukämie|leukemia|insuffizienz|syndrom|syndrome|pathie|pathy|tumor|krebs"
    r"|infarkt|embolie|thrombose|psychose|phobie|neurose|anämie|anaemia|anemia)$",
    re.IGNORECASE,
)
_HARMLESS = frozenset({"hose", "rose", "dose", "lose", "those", "whose", "close", "chose", "purpose", "suppose", "propose",
    "nose", "loose", "choose", "diagnose", "prognose", "virtuose", "arbeitslose", "kostenlose", "franzose", "mimose",
    "prose", "expose", "impose", "dispose", "compose", "metamorphose", "hypnose", "narkose", "aprikose", "matrose",
    "sympathie", "antipathie", "telepathie", "homöopathie", "empathie", "sympathy", "empathy", "apathy", "soße"})  # fmt: skip


def _harmless(word: str) -> bool:
    return word in _HARMLESS or word.endswith(("lose", "hose", "dose", "pose"))


class Diagnoses:
    """The listed words, their compounds, and codes of the ICD-10."""

    def __init__(self) -> None:
        listed = entries(files(__package__).joinpath("health.txt"))
        self._words = frozenset(folded(entry) for entry in listed)

    def find(self, text: str) -> Iterator[Finding]:
        """Diagnoses and medicines in ``text``."""
        for found in _WORD.finditer(text):
            word = folded(found[0])
            if word in self._words or word.rstrip("sn") in self._words:
                yield Finding(*found.span(), Kind.HEALTH, 0.8)
            elif len(word) > 6 and _SUFFERING.search(found[0]) and not _harmless(found[0].lower()):
                yield Finding(*found.span(), Kind.HEALTH, 0.5)
        for found in _CODE.finditer(text):
            told = context.before(_TOLD, text, found.start())
            yield Finding(*found.span(), Kind.HEALTH, 0.8 if told else 0.5 if "." in found[0] else 0.2)
