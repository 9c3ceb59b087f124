"""A language model for names and places, where one is mounted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import spacy

from domicile.api.privacy import Kind
from domicile.gateway.privacy.finding import Finding

_KINDS = {"PER": Kind.PERSON, "PERSON": Kind.PERSON, "LOC": Kind.ADDRESS, "GPE": Kind.ADDRESS}
_SCORE = 0.7


class Model:
    """A spaCy pipeline from a folder. Raises ValueError where the folder holds none."""

    def __init__(self, folder: Path) -> None:
        try:
            self._pipeline = spacy.load(folder)
        except (OSError, ValueError) as error:
            raise ValueError(f"model: {folder.name}: no spaCy pipeline that can be loaded: {error}") from None

    def find(self, text: str) -> Iterator[Finding]:
        """People and places in ``text``."""
        for entity in self._pipeline(text).ents:
            if kind := _KINDS.get(entity.label_):
                yield Finding(entity.start_char, entity.end_char, kind, _SCORE)
