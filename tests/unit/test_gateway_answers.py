"""Placeholders, and values in their place: in whole texts, and in streams that are cut anywhere."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from domicile.gateway.questions import placeholders as module
from domicile.gateway.questions.answers import Answer, BrokenAnswerError, ChatAnswer, ResponsesAnswer
from domicile.gateway.questions.placeholders import Placeholders
from domicile.gateway.questions.restoring import Pieces, Restorer
from domicile.gateway.questions.sse import BrokenStreamError, Event, Reader

KEY = bytes(range(32))
VALUES = ("Erika Mustermann", 'Firma "Nord\\Süd"\n', "[PERSON_", "😀", "")


def made(conversation: str = "c", key: bytes = KEY) -> Placeholders:
    return Placeholders(key, conversation, reversible=True)


OURS = made()
NAMES = [OURS.of(kind, value) for kind, value in zip(("PERSON", "ORG", "A_B2", "X", "PERSON"), VALUES, strict=True)]
RESTORER = Restorer(OURS.made)


def test_a_value_has_one_placeholder_in_a_conversation_and_others_elsewhere() -> None:
    one = made().of("PERSON", "Erika")
    assert made().of("PERSON", "Erika") == one
    assert (
        len({one, made("d").of("PERSON", "Erika"), made(key=bytes(32)).of("PERSON", "Erika"), made().of("X", "Erika")})
        == 4
    )
    assert made().of("PERSON", "erika") != one
    assert Placeholders(KEY, "c", reversible=False).of("PERSON", "Erika") == "[PERSON]"


def test_a_kind_that_could_not_be_read_again_is_refused() -> None:
    for kind in ("", "person", "A]", "9A", "A" * 49):
        with pytest.raises(ValueError, match="kind"):
            made().of(kind, "x")


def test_only_those_of_the_conversation_are_known() -> None:
    text = f"a{NAMES[0]}b{NAMES[1].lower()}c"
    assert list(made().split(text)) == [
        ("a", False),
        (NAMES[0], True),
        ("b", False),
        (NAMES[1].lower(), True),
        ("c", False),
    ]
    assert list(made("d").split(text)) == [(text, False)]
    forged = NAMES[0].replace("PERSON", "ERIKA_MUSTERMANN")
    assert list(made().split(forged)) == [(forged, False)]


def test_values_that_collide_get_longer_placeholders(monkeypatch: pytest.MonkeyPatch) -> None:
    digest = Placeholders._digest

    def short(self: Placeholders, what: str, *parts: str) -> str:
        long = digest(self, what, *parts)
        return "A" * 10 + long[10:] if what == "value" else long

    monkeypatch.setattr(Placeholders, "_digest", short)
    ours = made()
    one, other = ours.of("X", "one"), ours.of("X", "other")
    assert len(other) - len(one) == module._LONG - module._SHORT
    assert ours.of("X", "other") == other
    assert ours.made == {one: "one", other: "other"}
    assert list(ours.split(other)) == [(other, True)]
    assert Restorer(ours.made).text(one + other) == "oneother"


PART = st.sampled_from(
    [*NAMES, *(name.lower() for name in NAMES), *(name[:7] for name in NAMES), "[", "]", "ä", "[PERSON_ab", '"']
)
TEXT = st.lists(PART | st.text(max_size=5)).map("".join)


def cut(text: str, places: Iterable[int]) -> list[str]:
    """The text in pieces."""
    at = [0, *sorted({place % (len(text) + 1) for place in places}), len(text)]
    return [text[a:b] for a, b in pairwise(at)]


@given(TEXT, st.lists(st.integers(0, 500)), st.booleans())
def test_any_pieces_come_to_the_same_as_the_whole(text: str, places: list[int], escaped: bool) -> None:
    pieces = Pieces(RESTORER, escaped=escaped)
    got = "".join([*(pieces.feed(piece) for piece in cut(text, places)), pieces.end()])
    assert got == RESTORER.text(text, escaped=escaped)


@given(TEXT)
def test_nothing_is_held_back_but_what_may_become_a_placeholder(text: str) -> None:
    pieces = Pieces(RESTORER, escaped=False)
    pieces.feed(text)
    rest = pieces.end()
    assert rest == "" or any(name.startswith(rest.upper()) for name in NAMES)


def test_values_in_json_are_escaped() -> None:
    arguments = json.dumps({"of": NAMES[1], NAMES[3]: 1})
    assert json.loads(RESTORER.text(arguments, escaped=True)) == {"of": VALUES[1], VALUES[3]: 1}


def test_values_are_not_looked_at_again() -> None:
    ours = made()
    inner = ours.of("X", "secret")
    outer = ours.of("Y", inner)
    assert Restorer(ours.made).text(outer) == inner


BASE = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m-1"}


def chat(json_answer: bool = False, usage: bool = False) -> ChatAnswer:
    return ChatAnswer(RESTORER, "asked", json_answer=json_answer, usage=usage)


def responses(json_answer: bool = False) -> ResponsesAnswer:
    return ResponsesAnswer(RESTORER, "asked", json_answer=json_answer)


def chunk(*choices: dict[str, Any], **more: Any) -> Event:
    return Event("", json.dumps({**BASE, "choices": choices, **more}))


def run(answer: Answer, events: Iterable[Event]) -> list[dict[str, Any]]:
    reader = Reader(1_000_000)
    read = [out for event in events for raw in answer.event(event) for out in reader.feed(raw)]
    return [json.loads(out.data) for out in read if out.data != "[DONE]"]


@given(TEXT, TEXT, st.lists(st.integers(0, 500)), st.booleans())
def test_choices_and_calls_are_streams_of_their_own(one: str, two: str, places: list[int], finish: bool) -> None:
    """Interleaved piece by piece, with and without a last chunk that says so."""
    events = []
    for a, b in zip(cut(one, places), cut(two, places), strict=False):
        call = {"index": 1, "function": {"arguments": b}}
        events += [
            chunk({"index": 0, "delta": {"content": a, "reasoning_content": b}, "finish_reason": None}),
            chunk({"index": 1, "delta": {"content": b, "tool_calls": [call]}, "finish_reason": None}),
        ]
    left, right = "".join(cut(one, places)[: len(events) // 2]), "".join(cut(two, places)[: len(events) // 2])
    if finish:
        events += [chunk({"index": at, "delta": {}, "finish_reason": "stop"}) for at in (0, 1)]
    got = run(chat(), [*events, Event("", "[DONE]")])
    texts = {(0, "content"): "", (0, "reasoning_content"): "", (1, "content"): "", (1, "arguments"): ""}
    for each in got:
        for choice in each["choices"]:
            for key, value in choice["delta"].items():
                if key == "tool_calls":
                    assert [call["index"] for call in value] == [1]
                    texts[choice["index"], "arguments"] += value[0]["function"]["arguments"]
                else:
                    texts[choice["index"], key] += value
    assert texts == {
        (0, "content"): RESTORER.text(left),
        (0, "reasoning_content"): RESTORER.text(right),
        (1, "content"): RESTORER.text(right),
        (1, "arguments"): RESTORER.text(right, escaped=True),
    }


def test_what_was_held_back_comes_before_the_end_of_its_choice() -> None:
    half = NAMES[0][:5]
    got = run(chat(), [
        chunk({"index": 0, "delta": {"content": f"a{half}"}, "finish_reason": None}),
        chunk({"index": 0, "delta": {}, "finish_reason": "length"}),
    ])  # fmt: skip
    assert [each["choices"][0]["delta"] for each in got] == [{"content": "a"}, {"content": half}]
    assert got[1]["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize("asked", [False, True])
def test_the_usage_of_a_stream_is_for_who_asked(asked: bool) -> None:
    answer = chat(usage=asked)
    got = run(answer, [chunk(usage={"total_tokens": 7}), Event("", "[DONE]")])
    assert len(got) == asked
    assert answer.tokens == 7
    assert answer.ended


def test_structured_answers_stay_json() -> None:
    content = json.dumps({"firm": NAMES[1]})
    body = {"model": "m-1", "choices": [{"message": {"content": content, "refusal": None}}], "extra": [NAMES[0]]}
    got = json.loads(chat(json_answer=True).whole(json.dumps(body).encode()))
    assert json.loads(got["choices"][0]["message"]["content"]) == {"firm": VALUES[1]}
    assert got["extra"] == [VALUES[0]]
    assert got["model"] == "asked"
    plain = json.loads(chat().whole(json.dumps(body).encode()))
    assert plain["choices"][0]["message"]["content"] == '{"firm": "' + VALUES[1] + '"}'


@given(TEXT, st.lists(st.integers(0, 500)), st.booleans())
def test_responses_in_any_pieces(text: str, places: list[int], json_answer: bool) -> None:
    place = {"item_id": "i", "output_index": 0, "content_index": 0}
    item = {"type": "message", "content": [{"type": "output_text", "text": text}]}
    bodies: list[dict[str, Any]] = [{"type": "response.created", "response": {"model": "m-1", "output": []}}]
    bodies += [{"type": "response.output_text.delta", **place, "delta": each} for each in cut(text, places)]
    bodies += [{"type": "response.output_text.done", **place, "text": text}]
    bodies += [
        {"type": "response.completed", "response": {"model": "m-1", "output": [item], "usage": {"total_tokens": 3}}}
    ]
    answer = responses(json_answer)
    got = run(answer, [Event(b["type"], json.dumps({**b, "sequence_number": n})) for n, b in enumerate(bodies)])
    want = RESTORER.text(text, escaped=json_answer)
    assert "".join(each["delta"] for each in got if each["type"].endswith(".delta")) == want
    assert [each["text"] for each in got if each["type"].endswith(".done")] == [want]
    assert got[-1]["response"]["output"][0]["content"][0]["text"] == want
    assert got[0]["response"]["model"] == got[-1]["response"]["model"] == "asked"
    assert [each["sequence_number"] for each in got] == list(range(len(got)))
    assert (answer.tokens, answer.ended) == (3, True)


def test_a_response_that_failed_does_not_say_how() -> None:
    body = {"type": "response.failed", "response": {"error": {"code": "x", "message": "Erika"}}}
    [got] = run(responses(), [Event("", json.dumps(body))])
    assert "Erika" not in json.dumps(got)


NO_CHUNKS = [
    "", "x", "[]", "1", '{"error": {}, "a": 1}', '{"choices": 1}', '{"choices": [1]}', '{"choices": [{"index": "a"}]}',
    '{"choices": [{"delta": []}]}', '{"error": 1}',
]  # fmt: skip


@pytest.mark.parametrize("data", NO_CHUNKS)
def test_chunks_that_are_none(data: str) -> None:
    with pytest.raises(BrokenAnswerError):
        chat().event(Event("", data))


@pytest.mark.parametrize("data", ["{}", '{"type": 1}', '{"type": "error", "message": "x"}', "[]"])
def test_events_that_are_none(data: str) -> None:
    with pytest.raises(BrokenAnswerError):
        responses().event(Event("", data))


WORDS = st.sampled_from(
    ["id", "type", "choices", "delta", "index", "usage", "total_tokens", "tool_calls", "function", "arguments",
     "content", "finish_reason", "response.output_text.delta", "response.output_text.done", "response.completed",
     "response", "sequence_number", "item_id", "model", "output", NAMES[0], "\ud800"]
)  # fmt: skip
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(WORDS, inner),
    max_leaves=20,
)
CHUNKS = st.fixed_dictionaries({}, optional={
    "choices": st.lists(st.fixed_dictionaries({}, optional={"index": ANY, "delta": ANY, "finish_reason": ANY})) | ANY,
    "usage": ANY, "model": ANY,
})  # fmt: skip
STEPS = st.fixed_dictionaries(
    {"type": WORDS}, optional={"delta": ANY, "response": ANY, "sequence_number": ANY, "item_id": ANY}
)


@given(st.lists(CHUNKS | STEPS | ANY))
def test_whatever_a_provider_says_is_an_answer_or_broken(said: list[Any]) -> None:
    for answer in (chat(), responses()):
        try:
            for each in said:
                answer.event(Event("", json.dumps(each)))
            answer.event(Event("", "[DONE]"))
            for each in said:
                answer.whole(json.dumps(each).encode())
        except BrokenAnswerError:
            pass


NAME = st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]), max_size=8).filter(
    lambda name: not name.startswith((" ", "\ufeff"))
)
DATA = st.lists(st.text(st.characters(exclude_characters="\r\0", exclude_categories=["Cs"]))).map("\n".join)
EVENTS = st.lists(st.builds(Event, NAME, DATA))


@given(EVENTS, st.sampled_from(["\n", "\r", "\r\n"]), st.lists(st.integers(0, 2000)), st.booleans())
def test_events_are_read_from_any_pieces(events: list[Event], end: str, places: list[int], bom: bool) -> None:
    text = ": hello\n\n" + "".join(event.encode().decode() + ":\nid: 1\nretry: 5\n\n" for event in events)
    raw = ("\ufeff" if bom else "").encode() + text.replace("\n", end).encode()
    reader = Reader(100_000)
    at = [0, *sorted({place % (len(raw) + 1) for place in places}), len(raw)]
    got = [event for a, b in pairwise(at) for event in reader.feed(raw[a:b])]
    assert got == events
    assert reader.comments == 1 + len(events)


@given(st.binary(), st.lists(st.integers(0, 2000)))
def test_any_bytes_are_events_or_broken(raw: bytes, places: list[int]) -> None:
    reader = Reader(100)
    assume(raw)
    at = [0, *sorted({place % (len(raw) + 1) for place in places}), len(raw)]
    try:
        for a, b in pairwise(at):
            for event in reader.feed(raw[a:b]):
                assert event.data.count("\n") <= 100
    except BrokenStreamError:
        pass


def test_lines_and_events_have_bounds() -> None:
    for endless in (b"data: " + b"x" * 50, b"x" * 101, b": " + b"x" * 200, b"data:\n" * 30, b"x"):
        reader = Reader(100)
        with pytest.raises(BrokenStreamError):
            assert [event for _ in range(200) for event in reader.feed(endless)] == []
