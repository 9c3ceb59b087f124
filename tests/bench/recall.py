"""What of the personal data in the corpus' questions is found, by the gateway's analyser and by stock Presidio."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import tldextract
from presidio_analyzer import RecognizerRegistry
from presidio_analyzer.recognizer_registry import RecognizerRegistryProvider

from domicile.api.gateway import Privacy
from domicile.gateway.privacy.analyzer import Analyzer
from domicile.gateway.privacy.finding import Finding
from domicile.gateway.privacy.kinds import RULES
from tests.bench.corpus.questions import Label, Question

Find = Callable[[Question], list[Finding]]


class Counts(NamedTuple):
    """What there is and was found of a half, by (kind, whether German), and how many findings are right."""

    there: Counter[tuple[str, bool]]
    found: Counter[tuple[str, bool]]
    findings: int
    right: int
    missed: list[tuple[str, str]]

    def recall(self, kind: str | None = None, german: bool | None = None) -> float:
        """Share of the labels that were found to their last letter."""
        keys = [key for key in self.there if kind in {None, key[0]} and german in {None, key[1]}]
        return sum(self.found[key] for key in keys) / sum(self.there[key] for key in keys)

    def leaked(self) -> int:
        """How many structured values were not found, or not whole."""
        return sum(n - self.found[key] for key, n in self.there.items() if RULES[key[0]].structured)


def _covered(text: str, label: Label, findings: Sequence[Finding]) -> bool:
    return all(any(f.start <= i < f.end for f in findings) for i in range(label.start, label.end) if text[i].isalnum())


def measured(questions: Sequence[Question], find: Find) -> Counts:
    """Look at all questions."""
    there: Counter[tuple[str, bool]] = Counter()
    found: Counter[tuple[str, bool]] = Counter()
    missed = []
    findings = right = 0
    for question in questions:
        result = find(question)
        findings += len(result)
        right += sum(any(f.start < label.end and label.start < f.end for label in question.labels) for f in result)
        for label in question.labels:
            there[label.kind, question.german] += 1
            if _covered(question.text, label, result):
                found[label.kind, question.german] += 1
            else:
                missed.append((label.kind, f"{question.text[label.start : label.end]!r} in {question.text!r}"))
    return Counts(there, found, findings, right, missed)


def ours() -> Find:
    """The gateway's analyser as it is by default."""
    analyzer = Analyzer(Privacy())
    return lambda question: analyzer.find(question.text)


def stock() -> Find:
    """Presidio's recognisers for the question's language as they are by default, but that of URLs."""
    # It would ask the network for a list of domains; the one that comes along does.
    tldextract.extract = tldextract.TLDExtract(suffix_list_urls=())
    registries: dict[str, RecognizerRegistry] = {}
    for language in ("de", "en"):
        registry = RecognizerRegistryProvider(registry_configuration={"supported_languages": [language]})
        registries[language] = registry.create_recognizer_registry()
    asked = {
        language: [r for r in registry.recognizers if r.supported_language == language and r.name != "UrlRecognizer"]
        for language, registry in registries.items()
    }

    def find(question: Question) -> list[Finding]:
        return [
            Finding(result.start, result.end, result.entity_type, result.score)
            for recogniser in asked["de" if question.german else "en"]
            for result in recogniser.analyze(question.text, recogniser.supported_entities, None)
        ]

    return find
