"""The benchmark of the gateway: what of the personal data in questions it finds.

    python -m tests.bench.gateway [--misses]

A corpus of made-up questions, half of which recognisers were tuned by; the other half has other templates, and names
that are in no list. docs/privacy.md says what the figures mean. The last line holds them: all of the held-out half, but
leaked_structured, which is of both. ``--misses`` shows what was missed of the first half.
"""

from __future__ import annotations

import argparse
import logging
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
from tests.bench.corpus.questions import Label, Question, held_out_half, tuning_half

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


def _show(name: str, counts: Counts) -> None:
    print(f"{name}: {sum(counts.there.values())} values, {counts.findings} findings, {counts.right} of them right")
    for kind in sorted({kind for kind, _ in counts.there}):
        shares = [
            f"{counts.recall(kind, german):.3f}" if counts.there[kind, german] else "-" for german in (True, False)
        ]
        print(f"  {kind:20} de {shares[0]:>6}  en {shares[1]:>6}")


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.gateway")
    parser.add_argument("--misses", action="store_true", help="show what was missed of the half for tuning")
    misses = parser.parse_args().misses
    logging.getLogger("presidio-analyzer").setLevel(logging.ERROR)
    find = ours()
    tuned, held = measured(tuning_half(), find), measured(held_out_half(), find)
    plain = measured(held_out_half(), stock())
    for name, counts in (("tuning", tuned), ("held out", held), ("held out, stock Presidio", plain)):
        _show(name, counts)
    if misses:
        print(*(f"{kind} {text}" for kind, text in tuned.missed), sep="\n")
    print(
        f"leaked_structured={tuned.leaked() + held.leaked()} recall_de={held.recall(german=True):.3f}"
        f" recall_en={held.recall(german=False):.3f} recall_names_unlisted={held.recall('PERSON'):.3f}"
        f" precision={held.right / held.findings:.3f} stock_recall_de={plain.recall(german=True):.3f}"
    )


if __name__ == "__main__":
    main()
