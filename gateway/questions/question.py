"""A question on its way out: everything in it is looked at at once, and replaced, or nothing is sent."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any

from domicile.api.gateway import Privacy
from domicile.gateway.privacy.finding import Finder, Finding
from domicile.gateway.questions.placeholders import Placeholders, canonical
from domicile.gateway.questions.refusal import RefusedError
from domicile.gateway.questions.rules import Rule, Walk

log = logging.getLogger(__name__)


class Question:
    """Texts of one request of a conversation."""

    def __init__(self, finder: Finder, privacy: Privacy, placeholders: Placeholders) -> None:
        self._finder = finder
        self._privacy = privacy
        self._placeholders = placeholders
        self.earlier: set[str] = set()
        """Placeholders of the conversation that were in the texts."""
        self.found: Counter[str] = Counter()
        """Findings by kind."""

    async def body(self, rule: Rule, body: Any) -> Any:
        """The JSON that may be sent for a body. Raises RefusedError."""
        walk = Walk(images=self._privacy.images)
        node = rule.apply(walk, body, "")
        return walk.render(node, await self.texts(walk.texts))

    async def texts(self, texts: Sequence[str]) -> list[str]:
        """Each text with placeholders for what was found in it. Raises RefusedError."""
        parts = [list(self._placeholders.split(text)) for text in texts]
        # Many are the same, such as keys.
        asked = list(dict.fromkeys(p for split in parts for p, ours in split if not ours and not p.isspace()))
        findings = dict(zip(asked, await self._ask(asked), strict=True))
        self.earlier |= {canonical(part) for split in parts for part, ours in split if ours}
        return [
            "".join(part if ours else self._replace(part, findings.get(part, [])) for part, ours in split)
            for split in parts
        ]

    async def _ask(self, texts: list[str]) -> list[list[Finding]]:
        try:
            findings = await self._finder.find(texts) if texts else []
            whole = len(findings) == len(texts) and all(map(_sound, texts, findings))
        except Exception as error:  # noqa: BLE001 - whatever it is, nothing was looked at
            # Its text may quote a question.
            log.error("the texts were not looked at: %s", type(error).__name__)  # noqa: TRY400
            whole = False
        if not whole:
            raise RefusedError(
                503, "analyzer_unavailable", "The question could not be looked at, so it was not sent.", retry_after=1
            )
        self.found.update(finding.kind for each in findings for finding in each)
        if refused := sorted(set(self._privacy.refuse) & set(self.found)):
            raise RefusedError(
                422, "forbidden_content", f"The question holds what the tenant lets nobody ask: {', '.join(refused)}."
            )
        return findings

    def _replace(self, text: str, findings: list[Finding]) -> str:
        made, at = [], 0
        for start, end, kind, _ in findings:
            made += [text[at:start], self._placeholders.of(kind, text[start:end])]
            at = end
        return "".join([*made, text[at:]])


def _sound(text: str, findings: list[Finding]) -> bool:
    """Whether findings are in order, none within another, and within the text."""
    ends = [0, *(finding.end for finding in findings)]
    return ends[-1] <= len(text) and all(
        last <= finding.start < finding.end for last, finding in zip(ends, findings, strict=False)
    )
