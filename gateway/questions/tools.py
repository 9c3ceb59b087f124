"""Rules that several routes share: messages' parts, tools, formats.

Field by field after https://platform.openai.com/docs/api-reference.
"""

from __future__ import annotations

from typing import Final

from domicile.gateway.questions.rules import (
    ByWord,
    Drop,
    Each,
    Either,
    Entry,
    Fields,
    Name,
    Number,
    OneOf,
    Prose,
    Refuse,
    Rule,
    Switch,
)
from domicile.gateway.questions.schema import Schema


class _Passed:
    """What ``ByWord`` has already looked at, and the model, which is one of the config's."""

    def apply(self, walk: object, value: object, path: str) -> object:  # noqa: ARG002
        """As Rule's."""
        return value


PASSED: Final = _Passed()

PROSE: Final = Prose()
NAME: Final = Name()
DROP: Final = Drop()
SWITCH: Final = Switch()
SCHEMA: Final = Schema()
STATUS: Final = OneOf("in_progress", "completed", "incomplete")
EFFORT: Final = OneOf("none", "minimal", "low", "medium", "high", "xhigh", "max")
VERBOSITY: Final = OneOf("low", "medium", "high")
TIER: Final = OneOf("auto", "default", "flex", "scale", "priority", "fast", "ultrafast")
DETAIL: Final = OneOf("auto", "low", "high", "original")
FILE: Final = Refuse("is a file or a recording, which can't be looked at", "content_refused")
REACHES_OUT: Final = Refuse("makes the provider reach out, or keep what it was asked", "tool_refused")
KEPT: Final = Refuse("would refer to what a provider keeps; send the whole conversation", "stored_state")
UNSEEN: Final = Refuse("holds what nobody here can look at", "content_refused")

COMMON: Final[dict[str, Entry]] = {
    "metadata": DROP,
    "model": PASSED,
    "parallel_tool_calls": SWITCH,
    "prompt_cache_key": DROP,
    "prompt_cache_options": DROP,
    "prompt_cache_retention": DROP,
    "safety_identifier": DROP,
    "service_tier": TIER,
    "stream": SWITCH,
    "stream_options": Fields({"include_usage": SWITCH, "include_obfuscation": SWITCH}),
    "temperature": Number(0, 2),
    "top_logprobs": Number(0, 20),
    "top_p": Number(0, 1),
    "user": DROP,
    "moderation": REACHES_OUT,
}
"""What chat completions and responses have in common; the model is replaced by what the provider calls it."""

_GRAMMAR: Final[dict[str, Rule]] = {"definition": PROSE, "syntax": OneOf("lark", "regex")}


def part(**rules: Entry) -> Fields:
    """A part of a message's content, which may mark how far a prompt is cached."""
    return Fields({"type": PASSED, "prompt_cache_breakpoint": DROP, **rules})


FUNCTION: Final = Fields({"name": NAME, "description": PROSE, "parameters": SCHEMA, "strict": SWITCH}, ("name",))
JSON_SCHEMA: Final[dict[str, Rule]] = {"name": NAME, "description": PROSE, "schema": SCHEMA, "strict": SWITCH}


def _custom(grammar: Rule) -> dict[str, Rule]:
    """A tool whose input is no JSON."""
    formats = {"text": Fields({"type": PASSED}), "grammar": grammar}
    return {"name": NAME, "description": PROSE, "format": ByWord("type", formats)}


CUSTOM_OF_CHAT: Final = Fields(_custom(Fields({"type": PASSED, "grammar": Fields(_GRAMMAR)})), ("name",))
CUSTOM_OF_RESPONSES: Final = Fields(
    {
        "type": PASSED,
        "defer_loading": Switch(only=False),
        "allowed_callers": Each(OneOf("direct")),
        **_custom(Fields({"type": PASSED, **_GRAMMAR})),
    },
    ("name",),
)

_NAMED: Final = Fields({"name": NAME}, ("name",))
_CHOICES_OF_CHAT: Final[dict[str, Rule]] = {
    "function": Fields({"type": PASSED, "function": _NAMED}, ("function",)),
    "custom": Fields({"type": PASSED, "custom": _NAMED}, ("custom",)),
}
_CHOICES_OF_RESPONSES: Final[dict[str, Rule]] = {
    "function": Fields({"type": PASSED, "name": NAME}, ("name",)),
    "custom": Fields({"type": PASSED, "name": NAME}, ("name",)),
}
_MODE: Final = OneOf("none", "auto", "required")


def _choice(choices: dict[str, Rule], allowed: Fields) -> Either:
    return Either(_MODE, ByWord("type", {**choices, "allowed_tools": allowed}))


def _allowed(choices: dict[str, Rule]) -> dict[str, Rule]:
    return {"mode": _MODE, "tools": Each(ByWord("type", choices))}


CHOICE_OF_CHAT: Final = _choice(
    _CHOICES_OF_CHAT, Fields({"type": PASSED, "allowed_tools": Fields(_allowed(_CHOICES_OF_CHAT))})
)
CHOICE_OF_RESPONSES: Final = _choice(_CHOICES_OF_RESPONSES, Fields({"type": PASSED, **_allowed(_CHOICES_OF_RESPONSES)}))
