"""One finding for each place: what overlaps or touches becomes one, of the kind that says most."""

from __future__ import annotations

from collections.abc import Iterable

from domicile.gateway.privacy.finding import Finding
from domicile.gateway.privacy.kinds import RULES

_ORDER = {kind: i for i, kind in enumerate(RULES)}


def _rank(finding: Finding) -> tuple[bool, float, int, int]:
    """What is greater says more: a tenant's own or a structured kind, then surety, length, and the kinds' order."""
    rule = RULES.get(finding.kind)
    return (
        rule is None or rule.structured,
        round(finding.score, 1),
        finding.end - finding.start,
        -_ORDER.get(finding.kind, -1),
    )


def resolved(findings: Iterable[Finding]) -> list[Finding]:
    """The findings sorted, none touching another. All that any of them covers stays covered."""
    merged: list[Finding] = []
    best: list[Finding] = []
    for finding in sorted(findings):
        if merged and finding.start <= merged[-1].end:
            if _rank(finding) > _rank(best[-1]):
                best[-1] = finding
            last = merged[-1]
            merged[-1] = Finding(last.start, max(last.end, finding.end), best[-1].kind, best[-1].score)
        else:
            merged.append(finding)
            best.append(finding)
    return merged
