"""A question on its way out: everything in it is looked at at once, and replaced, or nothing is sent."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any

from domicile.api.gateway import Privacy
from domicile.gateway.privacy.finding import Finder, Finding
from domicile.gateway.questions.joints import SURE, Joint, joints, together
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
        return walk.render(node, await self.texts(walk.texts, walk.beside))

    async def texts(self, texts: Sequence[str], beside: Sequence[Sequence[int]] = ()) -> list[str]:
        """Each text with placeholders for what was found in it, or in those that are ``beside`` it, read as one.

        Raises RefusedError.
        """
        parts = [list(self._placeholders.split(text)) for text in texts]
        # Many are the same, such as keys.
        asked = list(dict.fromkeys(p for split in parts for p, ours in split if not ours and not p.isspace()))
        joined = _joined(parts, beside)
        whole = list(dict.fromkeys([*asked, *(joint.text for joint in joined)]))
        findings = dict(zip(whole, await self._ask(whole), strict=True))
        self.found.update(finding.kind for part in asked for finding in findings[part])
        found = {
            (i, j): list(findings.get(part, []))
            for i, split in enumerate(parts)
            for j, (part, ours) in enumerate(split)
            if not ours
        }
        for joint in joined:
            for finding in findings[joint.text]:
                if finding.score >= SURE:
                    pieces = joint.apart(finding)
                    self.found[finding.kind] += len(pieces) > 1 or finding.kind not in self.found
                    for place, piece in pieces:
                        found[place].append(piece)
        if refused := sorted(set(self._privacy.refuse) & set(self.found)):
            raise RefusedError(
                422, "forbidden_content", f"The question holds what the tenant lets nobody ask: {', '.join(refused)}."
            )
        self.earlier |= {canonical(part) for split in parts for part, ours in split if ours}
        return [
            "".join(
                part if ours else self._replace(part, together(found[i, j])) for j, (part, ours) in enumerate(split)
            )
            for i, split in enumerate(parts)
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
        return findings

    def _replace(self, text: str, findings: list[Finding]) -> str:
        made, at = [], 0
        for start, end, kind, _ in findings:
            made += [text[at:start], self._placeholders.of(kind, text[start:end])]
            at = end
        return "".join([*made, text[at:]])


def _joined(parts: Sequence[Sequence[tuple[str, bool]]], beside: Sequence[Sequence[int]]) -> list[Joint]:
    """The joints of texts, and of the parts of a text between which placeholders stand."""
    own = [[(i, j) for j, (_, ours) in enumerate(split) if not ours] for i, split in enumerate(parts)]
    chains = [*own, *([place for i in chain for place in own[i]] for chain in beside)]
    return [
        joint for chain in chains if len(chain) > 1 for joint in joints([((i, j), parts[i][j][0]) for i, j in chain])
    ]


def _sound(text: str, findings: list[Finding]) -> bool:
    """Whether findings are in order, none within another, and within the text."""
    ends = [0, *(finding.end for finding in findings)]
    return ends[-1] <= len(text) and all(
        last <= finding.start < finding.end for last, finding in zip(ends, findings, strict=False)
    )
