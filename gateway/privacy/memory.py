"""What was found in the texts of a conversation, which come again with each question."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence

from domicile.gateway.privacy.finding import Finding

FINDINGS = 100_000
"""How many findings are remembered, at most; a text without any counts as one."""


def fingerprint(text: str) -> bytes:
    """SHA-256 of the text; half a surrogate pair is a character like others."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


class Memory:
    """Findings by fingerprint of their text, which is not kept; what was not asked for longest goes first."""

    def __init__(self, most: int = FINDINGS) -> None:
        self._most = most
        self._held = 0
        self._found: OrderedDict[bytes, tuple[Finding, ...]] = OrderedDict()

    def get(self, key: bytes) -> list[Finding] | None:
        """The findings of a text, or None where it is not remembered."""
        if (found := self._found.get(key)) is None:
            return None
        self._found.move_to_end(key)
        return list(found)

    def put(self, key: bytes, findings: Sequence[Finding]) -> None:
        """Remember the findings of a text; more than all the room there is are not remembered."""
        if key in self._found or len(findings) > self._most:
            return
        self._found[key] = tuple(findings)
        self._held += max(1, len(findings))
        while self._held > self._most:
            _, gone = self._found.popitem(last=False)
            self._held -= max(1, len(gone))
