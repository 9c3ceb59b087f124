"""The gateway's tables of fields: all that the real client can send is handled or refused on purpose."""

from __future__ import annotations

import asyncio
import itertools
import json
import typing
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types import embedding_create_params
from openai.types.chat import completion_create_params
from openai.types.responses import response_create_params

from domicile.api.gateway import Privacy
from domicile.gateway.privacy.finding import AnalyzerError, Finding
from domicile.gateway.questions.asking import FIELDS
from domicile.gateway.questions.placeholders import Placeholders
from domicile.gateway.questions.question import Question
from domicile.gateway.questions.refusal import RefusedError
from domicile.gateway.questions.rules import ByWord, Each, Either, Fields
from domicile.gateway.questions.strict import DEPTH, decode, encode
from domicile.gateway.questions.tools import PASSED

SECRET = "Erika"
CARD = 4111111111111111


class Known:
    """Finds ``SECRET`` and ``CARD``, or what a test puts in."""

    def __init__(self, answer: Any = None) -> None:
        self.asked: list[Sequence[str]] = []
        self._answer = answer

    async def find(self, texts: Sequence[str]) -> list[list[Finding]]:
        self.asked.append(texts)
        if isinstance(self._answer, Exception):
            raise self._answer
        if self._answer is not None:
            return self._answer  # type: ignore[no-any-return]
        return [
            [Finding(at, at + len(word), "X", 1) for word in (SECRET, str(CARD)) if (at := text.find(word)) >= 0]
            for text in texts
        ]


def sent(path: str, body: Any, *, images: bool = False, finder: Known | None = None, reversible: bool = True) -> Any:
    """What would be sent."""
    placeholders = Placeholders(bytes(32), "c", reversible=reversible)
    question = Question(finder or Known(), Privacy(images=images, refuse=["BANNED"]), placeholders)
    return asyncio.run(question.body(FIELDS[path], body))


def refused(path: str, body: Any, **options: Any) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        sent(path, body, **options)
    assert SECRET not in str(caught.value)
    return caught.value


PARAMS = {
    "/chat/completions": (
        completion_create_params.CompletionCreateParamsStreaming,
        completion_create_params.CompletionCreateParamsNonStreaming,
    ),
    "/responses": (
        response_create_params.ResponseCreateParamsStreaming,
        response_create_params.ResponseCreateParamsNonStreaming,
    ),
    "/embeddings": (embedding_create_params.EmbeddingCreateParams,),
}


@pytest.mark.parametrize("path", PARAMS)
def test_each_field_that_the_real_client_has_is_in_the_table_and_no_other(path: str) -> None:
    known = {name for params in PARAMS[path] for name in typing.get_type_hints(params)}
    assert FIELDS[path].table.keys() == known


def rules(rule: Any, word: str | None) -> Any:
    """Each object's rule below one, with the field by which it was chosen."""
    match rule:
        case Fields(table):
            yield table, word
            for each in table.values():
                yield from rules(each, None)
        case ByWord(key, table):
            for each in table.values():
                yield from rules(each, key)
        case Each(inner):
            yield from rules(inner, None)
        case Either(string, other):
            yield from itertools.chain(rules(string, None), rules(other, None))


@pytest.mark.parametrize("path", FIELDS)
def test_a_field_is_passed_unseen_only_where_it_has_chosen_the_rule(path: str) -> None:
    found = list(rules(FIELDS[path], "model"))
    assert found
    for table, word in found:
        assert {key for key, rule in table.items() if rule is PASSED} <= {word}


ASK = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
RESPOND = {"model": "m", "input": "x"}
SCHEMA = {
    "type": "object",
    "title": SECRET,
    "description": f"of {SECRET}",
    "properties": {
        SECRET: {"type": "string", "enum": [SECRET], "default": SECRET, "examples": [SECRET, CARD]},
        "n": {"anyOf": [{"const": CARD}, {"type": ["null", "string"], "pattern": SECRET, "maxLength": 5}]},
    },
    "required": [SECRET],
    "additionalProperties": False,
    f"x-{SECRET}": {"type": SECRET},
    "$defs": {SECRET: {"items": {"description": SECRET}, "type": SECRET}},
    "maxLength": CARD,
}
TOOL = {"name": "f", "description": SECRET, "parameters": SCHEMA, "strict": True}
NESTED = json.dumps({SECRET: json.dumps({"a": [json.dumps({"b": SECRET}), CARD]})})
CALL = {"id": f"call_{SECRET}", "type": "function", "function": {"name": "f", "arguments": NESTED}}
OLD_CALL = {"name": "f", "arguments": NESTED}
CUSTOM = {"id": "call_2", "type": "custom", "custom": {"name": "g", "input": f"input {SECRET}"}}
CHATS: dict[str, Any] = {
    "a string": {"messages": [{"role": "user", "name": SECRET, "content": SECRET}]},
    "parts": {"messages": [{"role": "system", "content": [{"type": "text", "text": f"{SECRET}."}]}]},
    "an answer": {"messages": [{"role": "assistant", "refusal": SECRET, "tool_calls": [CALL, CUSTOM]}]},
    "an old call": {
        "messages": [
            {"role": "assistant", "content": None, "function_call": OLD_CALL, "annotations": [SECRET]},
        ]
    },
    "a tool's": {"messages": [{"role": "tool", "tool_call_id": SECRET, "content": json.dumps({"a\n": SECRET})}]},
    "escaped": {"messages": [{"role": "user", "content": '{"a": "\\u0045rika"}'}]},
    "tools": {"tools": [{"type": "function", "function": TOOL}]},
    "functions": {"functions": [TOOL]},
    "a grammar": {
        "tools": [
            {
                "type": "custom",
                "custom": {
                    "name": "g",
                    "description": SECRET,
                    "format": {"type": "grammar", "grammar": {"definition": SECRET, "syntax": "regex"}},
                },
            }
        ]
    },
    "a format": {
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "n", "description": SECRET, "schema": SCHEMA, "strict": True},
        }
    },
    "stops": {"stop": [SECRET, "x"]},
    "a stop": {"stop": SECRET},
    "a prediction": {"prediction": {"type": "content", "content": [{"type": "text", "text": SECRET}]}},
    "dropped": {
        "user": SECRET, "metadata": {SECRET: SECRET}, "safety_identifier": SECRET, "prompt_cache_key": SECRET,
        "prompt_cache_retention": SECRET, "prompt_cache_options": {"mode": SECRET},
    },
}  # fmt: skip
ITEMS: dict[str, Any] = {
    "a message": {"role": "user", "content": SECRET},
    "parts": {"type": "message", "role": "user", "content": [{"type": "input_text", "text": SECRET}]},
    "an answer": {
        "type": "message",
        "id": SECRET,
        "role": "assistant",
        "status": "completed",
        "content": [
            {"type": "output_text", "text": SECRET, "annotations": [{"url": SECRET}], "logprobs": [SECRET]},
            {"type": "refusal", "refusal": SECRET},
        ],
    },
    "a call": {"type": "function_call", "call_id": SECRET, "name": "f", "arguments": NESTED},
    "its output": {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": SECRET}]},
    "a custom call": {"type": "custom_tool_call", "call_id": "c", "name": "f", "input": SECRET},
    "its output, too": {"type": "custom_tool_call_output", "call_id": "c", "output": SECRET},
    "reasoning": {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [{"type": "summary_text", "text": SECRET}],
        "content": [{"type": "reasoning_text", "text": SECRET}],
    },
}
REST: dict[str, Any] = {
    "instructions": {"instructions": SECRET},
    "tools": {"tools": [{"type": "function", **TOOL}, {"type": "custom", "name": "g", "description": SECRET}]},
    "a format": {"text": {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA}, "verbosity": "low"}},
}
BODIES = {
    **{f"chat: {name}": ("/chat/completions", ASK | body) for name, body in CHATS.items()},
    **{f"item: {name}": ("/responses", RESPOND | {"input": [item]}) for name, item in ITEMS.items()},
    **{f"responses: {name}": ("/responses", RESPOND | body) for name, body in REST.items()},
    "responses: a string": ("/responses", RESPOND | {"input": SECRET}),
    "embeddings": ("/embeddings", {"model": "m", "input": [SECRET, "x"], "user": SECRET}),
    "one embedding": ("/embeddings", {"model": "m", "input": SECRET}),
}


@pytest.mark.parametrize("name", BODIES)
def test_no_name_is_left_anywhere(name: str) -> None:
    path, body = BODIES[name]
    finder = Known()
    made = encode(sent(path, body, finder=finder))
    assert SECRET not in made
    assert str(CARD) not in made
    assert len(finder.asked) == 1
    assert ("[X_" in made) is (name != "chat: dropped")


@pytest.mark.parametrize("name", BODIES)
def test_where_nothing_is_found_all_that_is_passed_on_is_as_it_was(name: str) -> None:
    path, body = BODIES[name]
    plain = json.loads(json.dumps(body).replace(SECRET, "Nobody").replace(str(CARD), "17"))
    made = sent(path, plain)
    for key in made.keys() & plain.keys():
        if key not in {"messages", "input"}:
            assert made[key] == plain[key]


def test_keys_and_what_refers_to_them_stay_the_same() -> None:
    made = sent("/chat/completions", ASK | {"functions": [TOOL]})["functions"][0]["parameters"]
    [name] = made["required"]
    assert list(made["properties"]) == [name, "n"]
    assert made["properties"][name]["enum"] == [name]
    assert made["type"] == "object"
    assert made["additionalProperties"] is False


def test_numbers_in_which_something_is_found_become_strings() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": f'{{"a": {CARD}, "b": 1.5, "c": 2}}'}}
    made = sent("/chat/completions", ASK | {"messages": [{"role": "assistant", "tool_calls": [call]}]})
    arguments = json.loads(made["messages"][0]["tool_calls"][0]["function"]["arguments"])
    assert arguments["a"].startswith("[X_")
    assert (arguments["b"], arguments["c"]) == (1.5, 2)


def test_a_number_in_the_form_of_a_float_is_looked_at_as_the_number_it_is() -> None:
    for digits in ("4111111111111111.0", "4.111111111111111e15"):
        call = {"name": "f", "arguments": f"[{digits}]"}
        made = sent("/chat/completions", ASK | {"messages": [{"role": "assistant", "function_call": call}]})
        assert "4111" not in encode(made)
        assert "4.111" not in encode(made)


def test_decimals_of_a_number_hold_nothing() -> None:
    body = ASK | {"temperature": 0.4111111111111111, "top_p": 0.95, "logit_bias": {"50256": -99.4111111111111}}
    made = sent("/chat/completions", body)
    assert (made["temperature"], made["top_p"], made["logit_bias"]) == (0.4111, 0.95, {"50256": -99.4111})


def test_what_is_forced() -> None:
    for path, body in (("/chat/completions", ASK), ("/responses", RESPOND)):
        for store in ({}, {"store": True}, {"store": None}):
            assert sent(path, body | store)["store"] is False


IMAGE = "data:image/png;base64,aGFsbG8="


def image(url: str) -> dict[str, Any]:
    return ASK | {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]}


def test_images_go_out_only_where_they_may_and_only_as_data() -> None:
    assert refused("/chat/completions", image(IMAGE)).code == "images_refused"
    assert sent("/chat/completions", image(IMAGE), images=True) == image(IMAGE) | {"store": False}
    for url in ("https://example.com/a.png", "data:text/html;base64,AAAA", f"{IMAGE}#{SECRET}", "file:///etc/passwd"):
        assert refused("/chat/completions", image(url), images=True).code == "url_refused"
    part = {"type": "input_image", "detail": "low", "image_url": IMAGE}
    body = RESPOND | {"input": [{"role": "user", "content": [part]}]}
    assert sent("/responses", body, images=True)["input"] == body["input"]
    assert refused("/responses", body).code == "images_refused"


WRONG: dict[str, tuple[str, dict[str, Any], str]] = {
    "encrypted reasoning": (
        "/responses", {"input": [{"type": "reasoning", "encrypted_content": SECRET}]}, "content_refused"),
    "reference": ("/responses", {"input": [{"type": "item_reference", "id": "x"}]}, "stored_state"),
    "background": ("/responses", {"background": True}, "invalid_value"),
    "include": ("/responses", {"include": ["reasoning.encrypted_content"]}, "invalid_value"),
    "tokens": ("/embeddings", {"input": [1, 2]}, "invalid_value"),
    "audio": ("/chat/completions", {"modalities": ["audio"]}, "invalid_value"),
    "temperature": ("/chat/completions", {"temperature": CARD}, "invalid_value"),
    "boolean as a number": ("/chat/completions", {"n": True}, "invalid_value"),
    "bias": ("/chat/completions", {"logit_bias": {SECRET: 1}}, "invalid_value"),
    "service tier": ("/chat/completions", {"service_tier": SECRET}, "invalid_value"),
    "seed": ("/chat/completions", {"seed": CARD}, "personal_data"),
    "name of a tool": ("/chat/completions", {"functions": [{"name": SECRET}]}, "personal_data"),
    "name with spaces": ("/chat/completions", {"functions": [{"name": f"a {SECRET}"}]}, "invalid_value"),
    "broken arguments": (
        "/chat/completions",
        {"messages": [{"role": "assistant", "function_call": {"name": "f", "arguments": "{"}}]}, "invalid_value"),
    "arguments with a key twice": (
        "/chat/completions",
        {"messages": [{"role": "assistant", "function_call": {"name": "f", "arguments": '{"a":1,"a":2}'}}]},
        "invalid_json"),
    "a list instead": ("/chat/completions", {"messages": {SECRET: 1}}, "invalid_value"),
    **{
        f"tool {kind}": ("/responses", {"tools": [{"type": kind}]}, "tool_refused")
        for kind in ("web_search", "file_search", "code_interpreter", "mcp", "image_generation")
    },
    "an unknown tool": ("/responses", {"tools": [{"type": SECRET}]}, "unsupported_type"),
    "an unknown item": ("/responses", {"input": [{"type": SECRET}]}, "unsupported_type"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_refused(name: str) -> None:
    path, body, code = WRONG[name]
    assert (
        refused(path, (RESPOND if path == "/responses" else ASK if "chat" in path else {"model": "m"}) | body).code
        == code
    )


def test_unknown_fields_are_refused_at_every_place_by_their_path() -> None:
    def places(value: Any, path: str) -> Any:
        if isinstance(value, dict):
            yield value, path
            for key, each in value.items():
                yield from places(each, f"{path}.{key}" if path else key)
        elif isinstance(value, list):
            for at, each in enumerate(value):
                yield from places(each, f"{path}[{at}]")

    body = json.loads(json.dumps(ASK | CHATS["an answer"] | CHATS["a grammar"] | CHATS["a prediction"]))
    found = list(places(body, ""))
    assert len(found) > 8
    for place, path in found:
        place["zzz"] = SECRET
        error = refused("/chat/completions", body)
        del place["zzz"]
        assert error.code == "unknown_field"
        assert str(error).startswith(f"{path}.zzz " if path else "zzz ")


def test_json_in_strings_has_an_end() -> None:
    text = json.dumps(SECRET)
    for _ in range(6):
        text = json.dumps([text])
    error = refused("/chat/completions", ASK | {"messages": [{"role": "user", "content": text}]})
    assert error.code == "invalid_value"


def test_keys_that_would_become_one_are_refused() -> None:
    call = {"name": "f", "arguments": json.dumps({SECRET: 1, str(CARD): 2})}
    body = ASK | {"messages": [{"role": "assistant", "function_call": call}]}
    assert refused("/chat/completions", body, reversible=False).code == "ambiguous_keys"


FOUND = [
    AnalyzerError("down"),
    RuntimeError(SECRET),
    [],
    [[], []],
    [[Finding(0, 99, "X", 1)]],
    [[Finding(1, 1, "X", 1)]],
    [[Finding(-1, 1, "X", 1)]],
    [[Finding(0, 2, "X", 1), Finding(1, 3, "X", 1)]],
]


@pytest.mark.parametrize("answer", FOUND)
def test_a_finder_that_fails_or_says_nonsense_sends_nothing(answer: Any) -> None:
    assert refused("/responses", RESPOND | {"input": "hallo"}, finder=Known(answer)).code == "analyzer_unavailable"


def test_kinds_that_are_refused_are_named() -> None:
    error = refused("/responses", RESPOND | {"input": "hallo"}, finder=Known([[Finding(0, 2, "BANNED", 1)]]))
    assert (error.status, error.code) == (422, "forbidden_content")
    assert "BANNED" in str(error)


FIELD_NAMES = sorted({key for path in FIELDS for table, _ in rules(FIELDS[path], None) for key in table})
WORDS = st.sampled_from(
    [*FIELD_NAMES, "function", "custom", "text", "message", "input_text", "object", "properties", SECRET]
)
ANY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | WORDS
    | st.just(CARD),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)


def mutated(value: Any, draw: Any) -> Any:
    """The value with another one at a random place."""
    if isinstance(value, list) and value and draw(st.booleans()):
        at = draw(st.integers(0, len(value) - 1))
        return [*value[:at], mutated(value[at], draw), *value[at + 1 :]]
    if isinstance(value, dict) and value and (deeper := draw(st.integers(0, 4))):
        if deeper == 1:
            return {**value, draw(WORDS): draw(ANY)}
        key = draw(st.sampled_from(sorted(value)))
        return {**value, key: mutated(value[key], draw)}
    return draw(ANY)


@settings(max_examples=500)
@given(st.data())
def test_whatever_is_asked_is_refused_or_goes_without_names(data: st.DataObject) -> None:
    path, body = data.draw(st.sampled_from(sorted(BODIES.values(), key=str)))
    body = mutated(body, data.draw)
    try:
        made = sent(path, body)
    except RefusedError:
        return
    # Nobody but the config names a model.
    left = encode({**made, "model": None})
    assert SECRET not in left
    assert str(CARD) not in left


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(JSON)
def test_strict_json_reads_what_json_writes(value: Any) -> None:
    assert decode(encode(value).encode()) == value


BAD = [
    b'{"a":1,"a":2}',
    b'{"a":1,"\\u0061":2}',
    b"NaN",
    b"[Infinity]",
    b"-Infinity",
    b"1e999",
    b"9" * 41,
    b"\xff",
    b'"\\ud800"',
    b'{"\\udfff":1}',
    b"\xef\xbb\xbf{}",
    b"[" * (DEPTH + 1) + b"]" * (DEPTH + 1),
    b"[" * 100_000,
    b"",
    b"{",
    b"{}{}",
    b"'a'",
    b"[1,]",
    b'{"a":1,}',
    b"01",
    b'"\x01"',
    b"// x\n1",
]


@pytest.mark.parametrize("raw", BAD, ids=lambda raw: str(raw[:12]))
def test_json_that_could_be_read_in_two_ways_is_refused(raw: bytes) -> None:
    with pytest.raises(RefusedError) as caught:
        decode(raw)
    assert (caught.value.status, caught.value.code) == (400, "invalid_json")
