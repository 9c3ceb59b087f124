"""What a tenant wants found, checked: its own patterns and how sure a finding must be.

Apart from what finds it, so that who only checks a config needs no recognisers: they take some 100 MiB.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from domicile.api.gateway import Privacy
from domicile.gateway.privacy.kinds import RULES, thresholds


class Wanted(NamedTuple):
    """The tenant's ``patterns`` by kind, and by kind the least score that counts."""

    patterns: Mapping[str, re.Pattern[str]]
    thresholds: Mapping[str, float]


def understood(privacy: Privacy) -> Wanted:
    """What is wanted. Raises ValueError for kinds that there aren't and patterns that aren't any."""
    patterns = _patterns(privacy)
    known = thresholds(privacy.thresholds, frozenset(patterns))
    if unknown := sorted(set(privacy.refuse) - known.keys()):
        raise ValueError(f"refuse: no such kind: {', '.join(unknown)}; there are {', '.join(sorted(known))}")
    return Wanted(patterns, known)


def _patterns(privacy: Privacy) -> dict[str, re.Pattern[str]]:
    found = {}
    for pattern in privacy.patterns:
        try:
            found[pattern.name] = re.compile(pattern.regex)
        except re.error as error:
            # Its text may quote the pattern, and that somebody.
            raise ValueError(f"patterns: {pattern.name}: not a regular expression from {error.pos or 0} on") from None
        if pattern.name in RULES:
            raise ValueError(f"patterns: {pattern.name}: a kind of that name is built in")
    return found
