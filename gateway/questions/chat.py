"""The fields of POST /v1/chat/completions (https://platform.openai.com/docs/api-reference/chat/create)."""

from __future__ import annotations

from typing import Final

from domicile.gateway.questions.rules import (
    Arguments,
    Bias,
    ByWord,
    Each,
    Either,
    Fields,
    Force,
    Image,
    Number,
    OneOf,
    Rule,
    Seed,
)
from domicile.gateway.questions.tools import (
    CHOICE_OF_CHAT,
    COMMON,
    CUSTOM_OF_CHAT,
    DETAIL,
    DROP,
    EFFORT,
    FILE,
    FUNCTION,
    JSON_SCHEMA,
    NAME,
    PASSED,
    PROSE,
    REACHES_OUT,
    SWITCH,
    VERBOSITY,
    part,
)

_TEXT: Final = part(text=PROSE)
_PARTS: Final[dict[str, Rule]] = {
    "text": _TEXT,
    "refusal": part(refusal=PROSE),
    "image_url": part(image_url=Fields({"url": Image(), "detail": DETAIL}, ("url",))),
    "input_audio": FILE,
    "file": FILE,
}


def _content(*kinds: str) -> Either:
    return Either(PROSE, Each(ByWord("type", {kind: _PARTS[kind] for kind in kinds})))


_CALL: Final = Fields({"name": NAME, "arguments": Arguments()}, ("name",))
_CALLS: Final = Each(
    ByWord(
        "type",
        {
            "function": Fields({"type": PASSED, "id": PROSE, "function": _CALL}, ("function",)),
            "custom": Fields({"type": PASSED, "id": PROSE, "custom": Fields({"name": NAME, "input": PROSE})}),
        },
    )
)
_SAID: Final = Fields({"role": PASSED, "name": PROSE, "content": _content("text")})
_MESSAGE: Final = ByWord(
    "role",
    {
        "developer": _SAID,
        "system": _SAID,
        "user": Fields({"role": PASSED, "name": PROSE, "content": _content(*_PARTS)}),
        "assistant": Fields(
            {
                "role": PASSED,
                "name": PROSE,
                "content": _content("text", "refusal"),
                "refusal": PROSE,
                "reasoning_content": PROSE,
                "tool_calls": _CALLS,
                "function_call": _CALL,
                "annotations": DROP,
                "audio": FILE,
            }
        ),
        "tool": Fields({"role": PASSED, "tool_call_id": PROSE, "content": _content("text")}),
        "function": Fields({"role": PASSED, "name": NAME, "content": PROSE}),
    },
)
_FORMATS: Final[dict[str, Rule]] = {
    "text": Fields({"type": PASSED}),
    "json_object": Fields({"type": PASSED}),
    "json_schema": Fields({"type": PASSED, "json_schema": Fields(JSON_SCHEMA)}),
}
_TOOLS: Final[dict[str, Rule]] = {
    "function": Fields({"type": PASSED, "function": FUNCTION}, ("function",)),
    "custom": Fields({"type": PASSED, "custom": CUSTOM_OF_CHAT}, ("custom",)),
}

CHAT: Final = Fields(
    COMMON
    | {
        "messages": Each(_MESSAGE),
        "audio": FILE,
        "frequency_penalty": Number(-2, 2),
        "function_call": Either(OneOf("none", "auto"), Fields({"name": NAME})),
        "functions": Each(FUNCTION),
        "logit_bias": Bias(),
        "logprobs": SWITCH,
        "max_completion_tokens": Number(0, 10_000_000),
        "max_tokens": Number(0, 10_000_000),
        "modalities": Each(OneOf("text")),
        "n": Number(1, 16),
        "prediction": ByWord("type", {"content": Fields({"type": PASSED, "content": _content("text")})}),
        "presence_penalty": Number(-2, 2),
        "reasoning_effort": EFFORT,
        "response_format": ByWord("type", _FORMATS),
        "seed": Seed(),
        "stop": Either(PROSE, Each(PROSE)),
        "store": Force(False),
        "tool_choice": CHOICE_OF_CHAT,
        "tools": Each(ByWord("type", _TOOLS)),
        "verbosity": VERBOSITY,
        "web_search_options": REACHES_OUT,
    },
    ("model", "messages"),
)
