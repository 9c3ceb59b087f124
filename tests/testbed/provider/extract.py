"""The provider's answers: quotations from the prompt. Pure and deterministic."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator
from typing import Any

_STOP_WORDS = """
a an and any are as at be by can did do does for from have how i in is it long many me much my of on or our please
tell that the their there this to was we what when where which who why will with you your als am auf aus bei das dem
den der des die ein eine einen er es fur habe ich im ist kann lange mein meine mit nach sie sind und viel von wann war
welche wer wie wir wo zu zum zur
"""
_STOP = frozenset(_STOP_WORDS.split())
_OWN = re.compile(r"\b(i|my|me|mein\w*|ich|mir)\b", re.IGNORECASE)


def _keys(text: str) -> set[str]:
    plain = unicodedata.normalize("NFKD", text.casefold())
    words = re.findall(r"[^\W_]+", "".join(c for c in plain if not unicodedata.combining(c)))
    # Five letters stand for the word's stem: returns and returned, Lieferung and liefern.
    return {w[:5] for w in words if w not in _STOP}


def _sentences(text: str) -> list[str]:
    return [s for s in (part.strip() for part in re.split(r"(?<=[.!?])\s+|\n+", text)) if s]


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "\n".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return str(content or "")


def _passages(prompt: str) -> Iterator[tuple[str, str]]:
    for line in prompt.splitlines():
        try:
            passage = json.loads(line)
        except ValueError:
            continue
        if isinstance(passage, dict) and {"id", "text"} <= passage.keys():
            for sentence in _sentences(str(passage["text"])):
                yield sentence, f"[{passage['id']}]"


def answer(messages: list[dict[str, Any]]) -> str:
    """The best sentence for the last user message, with its mark: a passage's ``[id]``, or ``[conversation]``.

    Passages are lines of the assistant's instructions that are JSON objects with ``id`` and ``text``; the question is
    the last user message. What the user stated in earlier messages can be quoted, too, and comes first
    where a question about the user's own (my, mein) fits both equally well.
    """
    asked = [_text(m.get("content")) for m in messages if m.get("role") == "user"]
    if not asked:
        return "I don't know."
    question = asked[-1]
    questions = [s for s in _sentences(question) if s.endswith("?")]
    wanted = _keys(" ".join(questions) or question)
    stated = [(s, "[conversation]") for text in asked[:-1] for s in _sentences(text) if not s.endswith("?")]
    passages = [p for m in messages if m.get("role") == "system" for p in _passages(_text(m.get("content")))]
    candidates = [*stated[::-1], *passages] if _OWN.search(question) else [*passages, *stated[::-1]]
    best = max(candidates, key=lambda c: len(wanted & _keys(c[0])), default=None)
    if best is None or not wanted & _keys(best[0]):
        return "I don't know: neither the passages nor the conversation say so."
    return f"You said: “{best[0]}” [conversation]" if best[1] == "[conversation]" else f"{best[0]} {best[1]}"
