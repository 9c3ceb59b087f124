"""All recognisers together, on all readings of a text."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from domicile.api.gateway import Privacy
from domicile.gateway.privacy import accounts, authorities, contacts, documents
from domicile.gateway.privacy.addresses import Addresses
from domicile.gateway.privacy.diagnoses import Diagnoses
from domicile.gateway.privacy.finding import Finding
from domicile.gateway.privacy.loose import closed_up
from domicile.gateway.privacy.model import Model
from domicile.gateway.privacy.names import Names
from domicile.gateway.privacy.normal import normalised, tagged
from domicile.gateway.privacy.packed import DEPTH, guessed, unescaped, unpacked
from domicile.gateway.privacy.resolve import resolved
from domicile.gateway.privacy.spoken import in_digits
from domicile.gateway.privacy.stock import Stock
from domicile.gateway.privacy.view import View
from domicile.gateway.privacy.wanted import understood

Recogniser = Callable[[str], Iterable[Finding]]
CHECKED = 0.9
"""Score of what has the right check digits, at the least."""
NEVER_CHECKED: Sequence[Recogniser] = (accounts.numbers, contacts.phones, documents.plates, documents.births)
"""Whatever they find in a text of digits, its score is below ``CHECKED``."""
_DIGIT = re.compile(r"\d")


class Analyzer:
    """Finds personal data, in German and English alike. Not for several threads at once.

    ``model`` is the folder of a spaCy pipeline that finds people and places; it is read once. Raises ValueError for
    kinds that there aren't, patterns that aren't any, and a folder that holds no pipeline.
    """

    def __init__(self, privacy: Privacy, model: Path | None = None) -> None:
        self._patterns, self._thresholds = understood(privacy)
        self._with_checks: list[Recogniser] = [
            accounts.ibans, accounts.cards, authorities.insured, authorities.taxed, authorities.numbered,
            documents.papers, Stock().find,
        ]  # fmt: skip
        self._numbers = [*self._with_checks, *NEVER_CHECKED]
        self._words: list[Recogniser] = [contacts.mails, Names().find, Addresses().find, Diagnoses().find]
        if model:
            self._words.append(Model(model).find)

    def find(self, text: str) -> list[Finding]:
        """What is found in ``text``, sorted, none touching another."""
        found = [f for f in self._all(View.of(text), DEPTH) if f.score >= self._thresholds[f.kind]]
        return resolved(found)

    def _all(self, raw: View, depth: int) -> Iterator[Finding]:
        view = normalised(raw)
        yield from self._in(view)
        if view.text is not raw.text:
            # What a tenant's own pattern says of the text as it came holds, too.
            yield from self._own(raw)
        if (plain := unescaped(view)) is not view:
            plain = normalised(plain)
            yield from self._in(plain)
        if (spoken := in_digits(plain)) is not plain:
            yield from self._structured(spoken)
        if (closed := closed_up(plain)) is not plain:
            # Anything may be a long number here, so only what has the right check digits counts, and mail addresses.
            yield from self._checked(closed)
            if (told := in_digits(closed)) is not closed:
                yield from self._checked(told)
        if depth:
            if hidden := tagged(raw):
                yield from self._all(hidden, depth - 1)
            for inner in unpacked(plain):
                yield from self._all(inner, depth - 1)
            for inner in guessed(plain):
                yield from self._checked(inner)

    def _in(self, view: View) -> Iterator[Finding]:
        yield from self._own(view)
        for recogniser in self._words:
            yield from _mapped(view, recogniser(view.text))
        yield from self._structured(view)

    def _structured(self, view: View) -> Iterator[Finding]:
        return self._by(self._numbers, view)

    def _checked(self, view: View) -> Iterator[Finding]:
        found = itertools.chain(self._by(self._with_checks, view), _mapped(view, contacts.mails(view.text)))
        yield from (finding for finding in found if finding.score >= CHECKED)

    @staticmethod
    def _by(recognisers: Iterable[Recogniser], view: View) -> Iterator[Finding]:
        if _DIGIT.search(view.text):
            for recogniser in recognisers:
                yield from _mapped(view, recogniser(view.text))

    def _own(self, view: View) -> Iterator[Finding]:
        for name, pattern in self._patterns.items():
            yield from _mapped(view, (Finding(*m.span(), name, 1.0) for m in pattern.finditer(view.text) if m[0]))


def _mapped(view: View, findings: Iterable[Finding]) -> Iterator[Finding]:
    for finding in findings:
        yield Finding(*view.span(finding.start, finding.end), str(finding.kind), finding.score)
