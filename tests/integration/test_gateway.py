"""The gateway end to end, without a conversation: the real client in front, a provider that repeats behind."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import openai
import pytest
import pytest_asyncio
from aiohttp import web

from domicile.controllers.pki import holders
from tests.integration.gateway_estate import ASSISTANT, SECRET, Estate, estate
from tests.integration.gateway_provider import chat, chunks
from tests.pods import calling

ASKED = 'Frau Erika Mustermann, erika@example.com, zahlt von DE02120300000000202051. Firma "Nord\\Süd" 😀'
HIDDEN = (b"Erika", b"Mustermann", b"erika@", b"DE0212", b"Nord")
SAY = [{"role": "user", "content": ASKED}]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Estate]:
    async with estate(tmp_path_factory.mktemp("gateway")) as made:
        yield made


@pytest.fixture(autouse=True)
def fresh(request: pytest.FixtureRequest) -> None:
    if "house" in request.fixturenames:
        house: Estate = request.getfixturevalue("house")
        house.provider.forget()


pytestmark = pytest.mark.asyncio(loop_scope="module")


def clean(house: Estate) -> None:
    """The provider was asked, and saw nothing of it."""
    assert house.provider.seen
    assert not [word for word in HIDDEN if word in house.provider.received]
    assert not [w for w in HIDDEN if w in house.provider.received.decode("unicode_escape", "replace").encode()]


async def test_a_chat_goes_out_without_names_and_comes_back_with_them(house: Estate) -> None:
    answer = await house.client.chat.completions.create(
        model="small",
        messages=SAY,
        user="erika",
        metadata={"who": "erika"},
        store=True,  # type: ignore[arg-type]
    )
    assert answer.choices[0].message.content == ASKED
    assert answer.model == "small"
    clean(house)
    [seen] = house.provider.seen
    assert seen.body.keys() == {"model", "messages", "store"}
    assert seen.body["model"] == "m-1"
    assert seen.body["store"] is False
    assert seen.headers["Authorization"] == f"Bearer {SECRET}"
    assert "Cookie" not in seen.headers
    line = await house.line()
    assert line["status"] == 200
    assert line["provider"] == "first"
    assert line["tokens"] == 11
    assert line["found"] == {"PERSON": 1, "EMAIL_ADDRESS": 1, "IBAN": 1, "QUOTE": 1}
    assert "rika" not in json.dumps(line)


@pytest.mark.parametrize("split", [False, True])
async def test_a_stream_comes_back_with_names(house: Estate, split: bool) -> None:
    house.provider.split = split
    stream = await house.client.chat.completions.create(model="small", messages=SAY, stream=True)  # type: ignore[call-overload]
    got = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in got) == ASKED
    assert {chunk.model for chunk in got} == {"small"}
    assert all(chunk.choices and chunk.usage is None for chunk in got)
    clean(house)
    assert (await house.line())["tokens"] == 11


async def test_who_asks_for_usage_gets_it(house: Estate) -> None:
    stream = await house.client.chat.completions.create(
        model="small",
        messages=SAY,
        stream=True,
        stream_options={"include_usage": True},  # type: ignore[call-overload]
    )
    assert [chunk.usage.total_tokens async for chunk in stream if chunk.usage] == [11]


async def test_responses(house: Estate) -> None:
    answer = await house.client.responses.create(model="small", input=ASKED, instructions="Antworte Erika Mustermann.")
    assert answer.output_text == ASKED
    assert answer.model == "small"
    clean(house)


async def test_streamed_responses(house: Estate) -> None:
    house.provider.split = True
    stream = await house.client.responses.create(model="small", input=ASKED, stream=True)
    events = [event async for event in stream]
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == ASKED
    [whole] = [e.response for e in events if e.type == "response.completed"]
    assert whole.output_text == ASKED
    assert [e.sequence_number for e in events] == list(range(len(events)))
    clean(house)


async def test_embeddings(house: Estate) -> None:
    answer = await house.client.embeddings.create(model="small", input=[ASKED, "nichts"], encoding_format="float")
    assert answer.data[0].embedding == [0.5, 0.25]
    clean(house)


async def test_arguments_of_tools_are_looked_at_and_given_back_as_json(house: Estate) -> None:
    inner = json.dumps({"Erika Mustermann": [ASKED], "card": 4111111111111111, "deep": json.dumps({"of": ASKED})})
    call = {"id": "call_1", "type": "function", "function": {"name": "pay", "arguments": inner}}

    async def calls(request: web.Request) -> web.Response:
        arguments = house.provider.seen[-1].body["messages"][0]["tool_calls"][0]["function"]["arguments"]
        made = {"id": "call_2", "type": "function", "function": {"name": "pay", "arguments": arguments}}
        return web.json_response(chat("", tool_calls=[made]))

    house.provider.handler = calls
    messages: Any = [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": ASKED},
    ]
    answer = await house.client.chat.completions.create(model="small", messages=messages)
    clean(house)
    assert b"4111" not in house.provider.received
    [back] = answer.choices[0].message.tool_calls or []
    assert back.type == "function"
    given = json.loads(back.function.arguments)
    assert given["Erika Mustermann"] == [ASKED]
    assert given["card"] == "4111111111111111"


async def test_models_are_those_of_the_config(house: Estate) -> None:
    assert [model.id async for model in house.client.models.list()] == ["small"]
    assert (await house.client.models.retrieve("small")).id == "small"
    with pytest.raises(openai.NotFoundError, match="no such model"):
        await house.client.models.retrieve("large")
    assert not house.provider.seen


GOOD: dict[str, Any] = {"model": "small", "messages": [{"role": "user", "content": "Hallo"}]}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
REFUSED: dict[str, tuple[Any, int, str]] = {
    "unknown field": (GOOD | {"erika": 1}, 400, "unknown_field"),
    "unknown field inside": (GOOD | {"messages": [{"role": "user", "content": "x", "ä": 1}]}, 400, "unknown_field"),
    "model": (GOOD | {"model": "large"}, 404, "model_not_found"),
    "no messages": ({"model": "small"}, 400, "missing_field"),
    "role": (GOOD | {"messages": [{"role": "erika", "content": "x"}]}, 400, "unsupported_type"),
    "image": (GOOD | {"messages": [{"role": "user", "content": [IMAGE]}]}, 400, "images_refused"),
    "file": (GOOD | {"messages": [{"role": "user", "content": [{"type": "file"}]}]}, 400, "content_refused"),
    "web search": (GOOD | {"web_search_options": {}}, 400, "tool_refused"),
    "a name with a person": (
        GOOD | {"tools": [{"type": "function", "function": {"name": "send.to.a@example.com"}}]}, 400, "invalid_value"),
    "NaN": (b'{"model": "small", "messages": [], "temperature": NaN}', 400, "invalid_json"),
    "twice": (b'{"model": "small", "model": "small", "messages": []}', 400, "invalid_json"),
    "no UTF-8": (b'{"model": "\xff"}', 400, "invalid_json"),
    "half a pair": (b'{"model": "\\ud800"}', 400, "invalid_json"),
    "deep": (b'{"messages":' + b"[" * 50_000 + b"]" * 50_000 + b"}", 400, "invalid_json"),
    "long number": (b'{"seed": ' + b"9" * 5000 + b"}", 400, "invalid_json"),
    "no object": (b"[]", 400, "invalid_json"),
    "nothing": (b"", 400, "invalid_json"),
    "analyser": (GOOD | {"messages": [{"role": "user", "content": "ANALYSER-DOWN"}]}, 503, "analyzer_unavailable"),
    "number with a card": (GOOD | {"seed": 4111111111111111}, 422, "personal_data"),
    "10 MB": (b'{"model": "small", "messages": ["' + b"x" * 10_000_000 + b'"]}', 413, "body_too_large"),
}  # fmt: skip


@pytest.mark.parametrize("why", REFUSED)
async def test_what_is_refused_reaches_no_provider(house: Estate, why: str) -> None:
    body, status, code = REFUSED[why]
    got, answer = await house.post("/chat/completions", body)
    assert (got, answer["error"]["code"]) == (status, code)
    assert answer["error"].keys() == {"message", "type", "param", "code"}
    assert house.provider.seen == []
    line = await house.line()
    assert (line["status"], line["code"]) == (status, code)


@pytest.mark.parametrize("item", ["previous_response_id", "conversation", "prompt"])
async def test_state_at_a_provider_is_refused(house: Estate, item: str) -> None:
    status, answer = await house.post("/responses", {"model": "small", "input": "x", item: "resp_1"})
    assert (status, answer["error"]["code"]) == (400, "stored_state")
    assert house.provider.seen == []


HEADERS: dict[str, tuple[dict[str, str], int, str]] = {
    "form": ({"Content-Type": "application/x-www-form-urlencoded"}, 415, "unsupported_content_type"),
    "latin": ({"Content-Type": "application/json; charset=latin-1"}, 415, "unsupported_content_type"),
    "gzip": ({"Content-Encoding": "gzip"}, 415, "unsupported_content_encoding"),
    "conversation": ({"Domicile-Conversation": "a b"}, 400, "invalid_conversation"),
}


@pytest.mark.parametrize("why", HEADERS)
async def test_headers_that_are_refused(house: Estate, why: str) -> None:
    headers, status, code = HEADERS[why]
    got, answer = await house.post("/chat/completions", GOOD, **headers)
    assert (got, answer["error"]["code"]) == (status, code)
    assert house.provider.seen == []


@pytest.mark.parametrize(
    "path", ["/completions", "/files", "/chat/completions/", "/chat/completions?x=1", "/audio/speech", "/../v1/models"]
)
async def test_other_routes_there_are_none(house: Estate, path: str) -> None:
    status, answer = await house.post(path, GOOD)
    assert (status, answer["error"]["code"]) == (404, "unknown_route")
    assert house.provider.seen == []


async def test_a_body_in_chunks_is_counted_while_it_comes(house: Estate) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"[" * 100_000

    headers = {"Content-Type": "application/json"}
    answer = await house.http.post(f"{house.url}/chat/completions", content=endless(), headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")
    assert house.provider.seen == []


async def test_who_waits_for_a_word_before_the_body_gets_it(house: Estate) -> None:
    reader, writer = await asyncio.open_connection("localhost", house.port, ssl=calling(ASSISTANT))
    body = json.dumps(GOOD).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n"
    writer.write(f"{head}Content-Type: application/json\r\nExpect: 100-continue\r\n\r\n".encode())
    async with asyncio.timeout(20):
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body)
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
    writer.close()


AMBIGUOUS = (
    "Content-Length: 2\r\nTransfer-Encoding: chunked",
    "Content-Length: 2\r\nContent-Length: 3",
    "Connection: x-a",
)


@pytest.mark.parametrize("fields", AMBIGUOUS)
async def test_framing_that_could_be_read_in_two_ways_is_refused(house: Estate, fields: str) -> None:
    reader, writer = await asyncio.open_connection("localhost", house.port, ssl=calling(ASSISTANT))
    writer.write(f"POST /v1/responses HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n{{}}".encode())
    async with asyncio.timeout(20):
        assert (await reader.readline()).split()[1] == b"400"
    writer.close()
    assert house.provider.seen == []


async def test_nobody_else_is_served(house: Estate) -> None:
    for holder in (holders.assistant("clinic", "helpdesk"), holders.door("bank")):
        async with httpx2.AsyncClient(verify=calling(holder)) as stranger:
            answer = await stranger.post(f"{house.url}/chat/completions", json=GOOD)
            assert answer.status_code == 403
    assert house.provider.seen == []


async def test_headers_of_the_client_go_nowhere(house: Estate) -> None:
    await house.post("/chat/completions", GOOD, Authorization="Bearer erika", Cookie="a=erika", **{"X-User": "erika"})
    assert b"erika" not in house.provider.received


async def test_texts_alone(house: Estate) -> None:
    status, answer = await house.post("/domicile/anonymise", {"texts": [ASKED, ""]})
    assert status == 200
    assert "Erika" not in answer["texts"][0]
    assert answer["texts"][1] == ""
    status, answer = await house.post("/domicile/restore", {"texts": []})
    assert (status, answer["error"]["code"]) == (400, "conversation_missing")
    assert house.provider.seen == []


INTENT = {
    "name": "appointment",
    "phrases": ["When is my appointment on {day}?", "I was born on {day}."],
    "slots": [{"name": "day", "type": "date"}],
}


async def test_in_mode_structured_nothing_but_declared_questions_reaches_a_provider(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    structured = {"id": ASSISTANT.id, "intents": [INTENT]}
    async with estate(tmp_path_factory.mktemp("structured"), callers=[structured]) as house:
        asked: Any = [{"role": "system", "content": "Frau Erika Mustermann"}, {"role": "user", "content": ASKED}]
        for path, body in (
            ("/chat/completions", {"messages": asked}),
            ("/chat/completions", {"messages": [{"role": "user", "content": "ANALYSER-DOWN"}]}),
            ("/responses", {"input": ASKED}),
            ("/embeddings", {"input": ["When is my appointment on 2099-05-03?", ASKED]}),
        ):
            status, answer = await house.post(path, {"model": "small", **body})
            assert (status, answer["error"]["code"]) == (422, "intent_unknown")
            assert "rika" not in json.dumps(answer)
            assert (await house.line())["code"] == "intent_unknown"
        declared = await house.http.get(f"{house.url}/domicile/intents")
        assert (declared.status_code, declared.json()) == (200, {"object": "list", "data": [INTENT]})
        assert house.provider.seen == []
        said = {"role": "user", "content": "  WHEN is my\u00a0appointment on 2099-05-03\uff1f"}
        made = await house.client.chat.completions.create(model="small", messages=[asked[0], said])
        assert made.choices[0].message.content == "When is my appointment on 2099-05-03?"
        assert b"rika" not in house.provider.received
        # Whoever is told of no mode is not free.
        house.write(callers=[{"id": ASSISTANT.id}])
        await house.until_told("a new config is taken")
        body = {"model": "small", "messages": [said]}
        assert (await house.post("/chat/completions", body))[1]["error"]["code"] == "intent_unknown"
        wrong = INTENT | {"slots": []}
        house.write(callers=[{"id": ASSISTANT.id, "mode": "structured", "intents": [wrong]}])
        await house.until_told("may be asked nothing: intents: intent appointment has no slot day")
        assert (await house.post("/chat/completions", body))[0] == 422
        house.told.clear()
        house.write(callers=[{"id": ASSISTANT.id, "mode": "free"}])
        await house.until_told("a new config is taken")
        assert (await house.post("/chat/completions", body))[0] == 200
        assert (await house.http.get(f"{house.url}/domicile/intents")).json()["data"] == []
        # Whose intents can't be followed is not as free as before.
        house.told.clear()
        house.write(callers=[{"id": ASSISTANT.id, "mode": "structured", "intents": [wrong]}])
        await house.until_told("a new config is taken")
        assert (await house.post("/chat/completions", body))[0] == 422


async def _hang(request: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError


async def _hang_within(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await answer.prepare(request)
    await answer.write(f"data: {chunks('Hallo')[1]}\n\n".encode())
    await asyncio.Event().wait()
    raise AssertionError
