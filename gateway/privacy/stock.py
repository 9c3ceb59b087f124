"""Presidio's own recognisers, where they are good: their patterns, checks and context words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import regex
from presidio_analyzer import PatternRecognizer
from presidio_analyzer import predefined_recognizers as presidio

from domicile.api.privacy import Kind
from domicile.gateway.privacy import context
from domicile.gateway.privacy.finding import Finding

_KINDS: dict[Callable[[], PatternRecognizer], Kind] = {
    presidio.CryptoRecognizer: Kind.WALLET,
    presidio.DeBsnrRecognizer: Kind.PROFESSIONAL_ID,
    presidio.DeFuehrerscheinRecognizer: Kind.ID_DOCUMENT,
    presidio.DeHandelsregisterRecognizer: Kind.PROFESSIONAL_ID,
    presidio.DeIdCardRecognizer: Kind.ID_DOCUMENT,
    presidio.DeLanrRecognizer: Kind.PROFESSIONAL_ID,
    presidio.DePassportRecognizer: Kind.ID_DOCUMENT,
    presidio.DeSocialSecurityRecognizer: Kind.PENSION_INSURANCE,
    presidio.DeVatIdRecognizer: Kind.VAT_ID,
    presidio.IpRecognizer: Kind.IP_ADDRESS,
    presidio.MacAddressRecognizer: Kind.DEVICE,
    presidio.NhsRecognizer: Kind.UK_NHS,
    presidio.UkDrivingLicenceRecognizer: Kind.ID_DOCUMENT,
    presidio.UkNinoRecognizer: Kind.UK_INSURANCE,
    presidio.UsItinRecognizer: Kind.US_TAX_ID,
    presidio.UsNpiRecognizer: Kind.PROFESSIONAL_ID,
    presidio.UsPassportRecognizer: Kind.ID_DOCUMENT,
    presidio.UsSsnRecognizer: Kind.US_TAX_ID,
}
_BOOST = 0.35


class _Rule(NamedTuple):
    recogniser: PatternRecognizer
    kind: Kind
    patterns: list[tuple[regex.Pattern[str], float]]
    context: list[str]


class Stock:
    """Presidio's recognisers, asked one by one: its engine would skip, and not tell, one that takes too long."""

    def __init__(self) -> None:
        made = [(recogniser(), kind) for recogniser, kind in _KINDS.items()]
        self._rules = [
            _Rule(
                each,
                kind,
                [(regex.compile(p["regex"], each.global_regex_flags), p["score"]) for p in each.to_dict()["patterns"]],
                [word.lower() for word in each.context or []],
            )
            for each, kind in made
        ]

    def find(self, text: str) -> Iterator[Finding]:
        """What they find in ``text``."""
        for rule in self._rules:
            for pattern, score in rule.patterns:
                for found in pattern.finditer(text):
                    if found[0] and (points := self._score(rule, score, found[0], text, found.start(), found.end())):
                        yield Finding(found.start(), found.end(), rule.kind, points)

    @staticmethod
    def _score(rule: _Rule, score: float, value: str, text: str, start: int, end: int) -> float:
        valid = rule.recogniser.validate_result(value)
        if valid is False or rule.recogniser.invalidate_result(value):
            return 0.0
        if valid:
            score = 1.0
        return min(1.0, score + _BOOST) if context.mentions(rule.context, text, start, end) else score
