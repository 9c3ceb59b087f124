"""Values in place of their placeholders, in whole texts and in texts that come in pieces."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from domicile.gateway.questions.placeholders import canonical, like

# What the text may end with while a placeholder is on its way; "[" stands at its start only.
_BEGUN: Final = re.compile(r"\[[A-Za-z0-9_]{0,70}\Z")


def in_json(value: str) -> str:
    """A value as it stands within a JSON string."""
    return json.dumps(value, ensure_ascii=False)[1:-1]


class Restorer:
    """Knows the values of placeholders. Those that it does not know stay as they are."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values
        self._begun = {placeholder[:length] for placeholder in values for length in range(1, len(placeholder))}

    def text(self, text: str, *, escaped: bool = False) -> str:
        """The text with its values; ``escaped``: it is JSON, so values are escaped as in its strings."""
        made, at = [], 0
        for found in like(text):
            if (value := self._values.get(canonical(found[0]))) is not None:
                made += [text[at : found.start()], in_json(value) if escaped else value]
                at = found.end()
        return "".join([*made, text[at:]]) if made else text

    def tree(self, value: Any, *, json_answer: bool = False) -> Any:
        """Any JSON with values in its texts. ``json_answer``: the answer's own text is JSON, too."""
        return self._tree(value, "", json_answer)

    def _tree(self, value: Any, key: str, json_answer: bool) -> Any:
        match value:
            case str():
                return self.text(value, escaped=is_json(key, json_answer=json_answer))
            case list():
                return [self._tree(each, key, json_answer) for each in value]
            case dict():
                return {self.text(name): self._tree(each, name, json_answer) for name, each in value.items()}
            case _:
                return value

    def held(self, text: str) -> int:
        """How many characters at the end of a text may be the beginning of a placeholder."""
        found = _BEGUN.search(text)
        return len(found[0]) if found and canonical(found[0]) in self._begun else 0


def is_json(key: str, *, json_answer: bool) -> bool:
    """Whether the text in a field of an answer is JSON: arguments of tools always."""
    return key == "arguments" or (json_answer and key in {"content", "text"})


class Pieces:
    """One text that comes in pieces; what is put out lags behind only while it could be a placeholder."""

    def __init__(self, restorer: Restorer, *, escaped: bool) -> None:
        self._restorer = restorer
        self._escaped = escaped
        self._rest = ""

    def feed(self, piece: str) -> str:
        """What can be put out now."""
        text = self._rest + piece
        keep = len(text) - self._restorer.held(text)
        self._rest = text[keep:]
        return self._restorer.text(text[:keep], escaped=self._escaped)

    def end(self) -> str:
        """What was held back; no more is coming."""
        rest, self._rest = self._rest, ""
        return rest
