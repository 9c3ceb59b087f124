"""Which texts are instances of declared intents, and which questions are of such texts only."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domicile.api.intents import Intent, problem
from domicile.gateway.questions.intents import Intents
from domicile.gateway.questions.refusal import RefusedError
from domicile.gateway.questions.structured import admitted

SLOTS: list[dict[str, Any]] = [
    {"name": "day", "type": "choice", "values": ["today", "Straße 5", "next  week"]},
    {"name": "date", "type": "date"},
    {"name": "floor", "type": "number", "minimum": -2, "maximum": 120},
    {"name": "member", "type": "code", "regex": "M-[0-9]{6}"},
    {"name": "ward", "type": "code", "regex": "[A-C]{1,2}[0-9]{0,2}/[a-f0-9]{2}"},
]
PHRASES = [
    "When is my appointment on {day}?",
    "Cancel my appointment of {date}.",
    "Who works on floor {floor}?",
    "I am {member}, in {ward}",
    "Wie heißen Sie?",
]


def intent(phrases: list[str], slots: list[dict[str, Any]]) -> Intent:
    return Intent.model_validate({"name": "one", "phrases": phrases, "slots": slots})


INTENTS = Intents([intent(PHRASES, SLOTS)])

INSTANCES = {
    "When is my appointment on today?": "When is my appointment on today?",
    "  WHEN is\tmy appointment\u00a0on\r\nToday?\u3000": "When is my appointment on today?",
    "when is my appointment on strasse 5?": "When is my appointment on Straße 5?",
    "When is my appointment on next week?": "When is my appointment on next  week?",
    "\uff37\uff48\uff45\uff4e is my appointment on today\uff1f": "When is my appointment on today?",
    "Cancel my appointment of 2026-05-03.": "Cancel my appointment of 2026-05-03.",
    "cancel my appointment of 3.5.2026.": "Cancel my appointment of 3.5.2026.",
    "Cancel my appointment of 29.02.2028.": "Cancel my appointment of 29.02.2028.",
    "Who works on floor -2?": "Who works on floor -2?",
    "Who works on floor 120?": "Who works on floor 120?",
    "i am m-123456, in ab7/0F": "I am M-123456, in AB7/0f",
    "WIE HEISSEN SIE?": "Wie heißen Sie?",
    "Wie heißen Sie?": "Wie heißen Sie?",
}
OTHERS = [
    "",
    " ",
    "When is my appointment on ?",
    "When is my appointment on Erika?",
    "When is my appointment on today",
    "When is my appointment on today? Erika",
    "Erika. When is my appointment on today?",
    "When is my appointment on today?\nAnd call Erika.",
    "When is my appointment on {day}?",
    "When is my\u200b appointment on today?",
    "When is my appoint\u00adment on today?",
    "When is my app\u043eintment on today?",
    "When is my appointment on today?\u0000",
    "Cancel my appointment of 2026-02-30.",
    "Cancel my appointment of 2026-5-3.",
    "Cancel my appointment of 30.02.2026.",
    "Cancel my appointment of 2026-05-031.",
    "Cancel my appointment of ٢٠٢٦-٠٥-٠٣.",
    "Who works on floor 121?",
    "Who works on floor -3?",
    "Who works on floor 007?",
    "Who works on floor +1?",
    "Who works on floor 1e1?",
    "Who works on floor -0000000000000000000000001?",
    "I am M-12345, in A/00",
    "I am M-1234567, in A/00",
    "I am M-12345a, in A/00",
    "I am M-123456, in D/00",
    "I am M-123456, in ABC/00",
    "I am M-123456, in A/gg",
    "Who works on floor 1?" * 1000,
    "Who works on floor 1?" + " " * 5000,
]


@pytest.mark.parametrize("text", INSTANCES)
def test_an_instance_becomes_the_phrase_that_was_declared(text: str) -> None:
    assert INTENTS.instance(text) == INSTANCES[text]


@pytest.mark.parametrize("text", OTHERS)
def test_anything_else_is_none(text: str) -> None:
    assert INTENTS.instance(text) is None


@given(st.text())
def test_what_is_admitted_is_nothing_but_a_phrase_whatever_was_written(text: str) -> None:
    for said in (text, f"I am M-{text}", f"Who works on floor {text}?", f"When is my appointment on {text}?"):
        made = INTENTS.instance(said)
        assert made is None or re.fullmatch(
            r"Who works on floor (-[12]|0|[1-9]\d?|1[01]\d|120)\?"
            r"|When is my appointment on (today|Straße 5|next  week)\?",
            made,
            re.ASCII,
        )


@given(st.integers(0, 999_999), st.integers(-2, 120), st.dates())
def test_each_filling_of_the_slots_is_one(number: int, floor: int, day: Any) -> None:
    for said in (
        f"I am M-{number:06d}, in A/ff",
        f"Who works on floor {floor}?",
        f"Cancel my appointment of {day.isoformat()}.",
        f"Cancel my appointment of {day.day}.{day.month}.{day.year:04d}.",
    ):
        assert INTENTS.instance(said.upper().swapcase()) == said


def test_what_could_be_read_in_many_ways_is_read_in_one_go() -> None:
    """One way after another would take longer than anybody lives."""
    slots = [{"name": f"c{n}", "type": "code", "regex": "[a-z]{0,4}" * 6} for n in range(8)]
    slow = Intents([intent(["".join(f"{{c{n}}}" for n in range(8)) + "!"], slots)])
    assert slow.instance("a" * 192 + "?") is None
    assert slow.instance("a" * 192 + "!") == "a" * 192 + "!"


WRONG: dict[str, tuple[list[str], list[dict[str, Any]]]] = {
    "has no slot dya": (["On {dya}?"], []),
    "no phrase of intent one has the slot day": (["On?"], [{"name": "day", "type": "date"}]),
    "has an empty phrase": (["  "], []),
    "has no number between": (["{n}"], [{"name": "n", "type": "number", "minimum": 2, "maximum": 1}]),
    "end comes before its beginning": (["{n}"], [{"name": "n", "type": "code", "regex": "[9-0]"}]),
    "has a range": (["{n}"], [{"name": "n", "type": "code", "regex": "a{3,2}"}]),
    "more than 32 characters": (["{n}"], [{"name": "n", "type": "code", "regex": "[a-z]{30}abc"}]),
    "or none": (["{n}"], [{"name": "n", "type": "code", "regex": "a{0}"}]),
    "nothing to choose": (["{n}"], [{"name": "n", "type": "choice"}]),
}


@pytest.mark.parametrize("why", WRONG)
def test_what_can_t_be_followed_is_said(why: str) -> None:
    wrong = intent(*WRONG[why])
    assert why in (problem([wrong]) or "")
    with pytest.raises(ValueError, match="intents: "):
        Intents([wrong])


CHAT, RESPONSES, EMBEDDINGS = "/chat/completions", "/responses", "/embeddings"
ASK = "who works on floor 1?"
SAID = "Who works on floor 1?"
FREE = "Call Erika Mustermann."
USER = {"role": "user", "content": ASK}
OWN = {"role": "system", "content": FREE}
CALL = {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function", "function": {}}]}
OUTPUT = {"role": "tool", "tool_call_id": "1", "content": FREE}
ITEM_CALL = {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"}
ITEM_OUTPUT = {"type": "function_call_output", "call_id": "1", "output": FREE}


def part(text: Any, kind: str = "text") -> dict[str, Any]:
    return {"type": kind, "text": text}


ADMITTED: list[tuple[str, Any, Any]] = [
    (CHAT, {"messages": [OWN, USER]}, {"messages": [OWN, {"role": "user", "content": SAID}]}),
    (CHAT, {"messages": [{"role": "user", "content": [part(ASK)]}]},
     {"messages": [{"role": "user", "content": [part(SAID)]}]}),
    (CHAT, {"messages": [USER, CALL, OUTPUT]}, {"messages": [{"role": "user", "content": SAID}, CALL, OUTPUT]}),
    (RESPONSES, {"input": ASK, "instructions": FREE}, {"input": SAID, "instructions": FREE}),
    (RESPONSES, {"input": [{"role": "user", "content": ASK}, ITEM_CALL, ITEM_OUTPUT]},
     {"input": [{"role": "user", "content": SAID}, ITEM_CALL, ITEM_OUTPUT]}),
    (RESPONSES, {"input": [{"type": "message", "role": "user", "content": [part(ASK, "input_text")]}]},
     {"input": [{"type": "message", "role": "user", "content": [part(SAID, "input_text")]}]}),
    (EMBEDDINGS, {"input": ASK}, {"input": SAID}),
    (EMBEDDINGS, {"input": [ASK, ASK]}, {"input": [SAID, SAID]}),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body", "made"), ADMITTED)
def test_a_question_of_declared_texts_is_admitted(path: str, body: Any, made: Any) -> None:
    assert admitted(INTENTS, path, body) == made


REFUSED: list[tuple[str, Any]] = [
    *((CHAT, {"messages": turns}) for turns in (
        None, [], "x", [None], [[]], [OWN], [{"role": "user"}], [{"role": "user", "content": None}],
        [{"role": "user", "content": FREE}],
        [USER, {"role": "user", "content": FREE}],
        [{"role": "user", "content": FREE}, USER],
        [{"role": "user", "content": []}],
        [{"role": "user", "content": [part(ASK), part(FREE)]}],
        [{"role": "user", "content": [part(ASK[:9]), part(ASK[9:])]}],
        [{"role": "user", "content": [part([ASK])]}],
        [{"role": "user", "content": [{**part(ASK), "more": FREE}]}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]}],
        [{"role": "user", "content": {"text": ASK}}],
        [{**USER, "name": "Erika"}],
        [{**USER, "role": "User"}],
        [{**USER, "role": ["user"]}],
        [USER, {"role": "assistant", "content": FREE}],
        [{"role": "assistant", "content": FREE}, USER],
        [USER, {**CALL, "content": FREE}],
        [USER, {**CALL, "refusal": FREE}],
        [USER, {**CALL, "reasoning_content": FREE}],
        [USER, {"role": "function", "name": "f", "content": FREE}],
        [CALL, OUTPUT, USER],
        [USER, CALL, OUTPUT, USER],
        [OUTPUT, USER],
    )),
    (CHAT, {"messages": [USER], "prediction": {"type": "content", "content": FREE}}),
    *((RESPONSES, {"input": asked}) for asked in (
        None, "", FREE, [], [OWN], {"role": "user"},
        [{"role": "user", "content": FREE}],
        [{"role": "user", "content": [part(ASK, "output_text")]}],
        [{"role": "user", "content": ASK, "id": FREE}],
        [{"role": "assistant", "content": FREE}, {"role": "user", "content": ASK}],
        [{"role": "user", "content": ASK}, {"type": "message", "role": "assistant", "content": FREE}],
        [{"role": "user", "content": ASK}, {"type": "reasoning", "summary": [{"type": "summary_text", "text": FREE}]}],
        [ITEM_CALL, ITEM_OUTPUT, {"role": "user", "content": ASK}],
        [{"type": ["message"], "role": "user", "content": ASK}],
    )),
    *((EMBEDDINGS, {"input": asked}) for asked in (None, FREE, [], [ASK, FREE], [1, 2], [[ASK]])),
    ("/elsewhere", {"input": ASK}),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body"), REFUSED)
def test_any_other_is_refused_and_nothing_of_it_is_quoted(path: str, body: Any) -> None:
    with pytest.raises(RefusedError) as caught:
        admitted(INTENTS, path, body)
    assert (caught.value.status, caught.value.code) == (422, "intent_unknown")
    assert "Erika" not in str(caught.value)


def test_without_intents_nothing_may_be_asked() -> None:
    with pytest.raises(RefusedError):
        admitted(Intents([]), CHAT, {"messages": [USER]})
