"""The fields of POST /v1/responses (https://platform.openai.com/docs/api-reference/responses/create)."""

from __future__ import annotations

from typing import Final

from domicile.gateway.questions.rules import (
    Arguments,
    ByWord,
    Each,
    Either,
    Fields,
    Force,
    Image,
    Number,
    OneOf,
    Rule,
    Switch,
)
from domicile.gateway.questions.tools import (
    CHOICE_OF_RESPONSES,
    COMMON,
    CUSTOM_OF_RESPONSES,
    DETAIL,
    DROP,
    EFFORT,
    FILE,
    JSON_SCHEMA,
    KEPT,
    NAME,
    PASSED,
    PROSE,
    REACHES_OUT,
    SCHEMA,
    STATUS,
    SWITCH,
    UNSEEN,
    VERBOSITY,
    part,
)

_PARTS: Final[dict[str, Rule]] = {
    "input_text": part(text=PROSE),
    "output_text": part(text=PROSE, annotations=DROP, logprobs=DROP),
    "refusal": part(refusal=PROSE),
    "input_image": part(image_url=Image(), detail=DETAIL, file_id=FILE),
    "input_file": FILE,
    "input_audio": FILE,
}
_CONTENT: Final = Either(PROSE, Each(ByWord("type", _PARTS)))
_OUTPUT: Final = Either(
    PROSE, Each(ByWord("type", {kind: _PARTS[kind] for kind in ("input_text", "input_image", "input_file")}))
)
_CALLER: Final = ByWord("type", {"direct": Fields({"type": PASSED})})
_ITEM: Final[dict[str, Rule]] = {"type": PASSED, "id": PROSE, "call_id": PROSE, "status": STATUS, "caller": _CALLER}
_ITEMS: Final[dict[str, Rule]] = {
    "message": Fields(
        {
            "type": PASSED,
            "id": PROSE,
            "status": STATUS,
            "role": OneOf("user", "assistant", "system", "developer"),
            "content": _CONTENT,
            "phase": OneOf("commentary", "final_answer"),
        },
        ("role",),
    ),
    "function_call": Fields(_ITEM | {"name": NAME, "namespace": NAME, "arguments": Arguments()}),
    "function_call_output": Fields(_ITEM | {"name": NAME, "namespace": NAME, "output": _OUTPUT}),
    "custom_tool_call": Fields(_ITEM | {"name": NAME, "namespace": NAME, "input": PROSE}),
    "custom_tool_call_output": Fields(_ITEM | {"output": _OUTPUT}),
    "reasoning": Fields(
        {
            "type": PASSED,
            "id": PROSE,
            "status": STATUS,
            "summary": Each(Fields({"type": OneOf("summary_text"), "text": PROSE})),
            "content": Each(Fields({"type": OneOf("reasoning_text"), "text": PROSE})),
            "encrypted_content": UNSEEN,
        }
    ),
    "item_reference": KEPT,
}
_FORMATS: Final[dict[str, Rule]] = {
    "text": Fields({"type": PASSED}),
    "json_object": Fields({"type": PASSED}),
    "json_schema": Fields({"type": PASSED, **JSON_SCHEMA}),
}
_BUILT_IN: Final = (
    "apply_patch",
    "code_interpreter",
    "computer",
    "computer_use_preview",
    "file_search",
    "image_generation",
    "local_shell",
    "mcp",
    "shell",
    "tool_search",
    "web_search",
    "web_search_2025_08_26",
    "web_search_preview",
    "web_search_preview_2025_03_11",
)
_TOOLS: Final[dict[str, Rule]] = {
    "function": Fields(
        {
            "type": PASSED,
            "name": NAME,
            "description": PROSE,
            "parameters": SCHEMA,
            "output_schema": SCHEMA,
            "strict": SWITCH,
            "defer_loading": Switch(only=False),
            "allowed_callers": Each(OneOf("direct")),
        },
        ("name",),
    ),
    "custom": CUSTOM_OF_RESPONSES,
    **dict.fromkeys(_BUILT_IN, REACHES_OUT),
}
_SUMMARY: Final = OneOf("auto", "concise", "detailed")
_REASONING: Final[dict[str, Rule]] = {
    "effort": EFFORT,
    "summary": _SUMMARY,
    "generate_summary": _SUMMARY,
    "mode": OneOf("standard", "pro"),
    "context": OneOf("auto", "current_turn", "all_turns"),
}

RESPONSES: Final = Fields(
    COMMON
    | {
        "input": Either(PROSE, Each(ByWord("type", _ITEMS, otherwise="message"))),
        "access_programs": REACHES_OUT,
        "background": Switch(only=False),
        "background_options": KEPT,
        "context_management": KEPT,
        "conversation": KEPT,
        "image": REACHES_OUT,
        "include": Each(OneOf("message.output_text.logprobs")),
        "instructions": PROSE,
        "max_output_tokens": Number(0, 10_000_000),
        "max_tool_calls": Number(0, 10_000),
        "previous_response_id": KEPT,
        "prompt": KEPT,
        "reasoning": Fields(_REASONING),
        "store": Force(False),
        "stream_options": Fields({"include_obfuscation": SWITCH}),
        "text": Fields({"format": ByWord("type", _FORMATS), "verbosity": VERBOSITY}),
        "tool_choice": CHOICE_OF_RESPONSES,
        "tools": Each(ByWord("type", _TOOLS)),
        "truncation": OneOf("auto", "disabled"),
    },
    ("model", "input"),
)
