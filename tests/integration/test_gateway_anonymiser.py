"""What reaches a provider through the whole gateway: its process, the real anonymiser, TLS at both ends."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from domicile.gateway.privacy import windows
from tests.integration.gateway_estate import Estate, estate
from tests.integration.gateway_provider import chat

pytestmark = pytest.mark.asyncio(loop_scope="module")

COMMAND = (str(Path(sys.executable).with_name("domicile")), "gateway")
CARD = "4111111111111111"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Estate]:
    """One for all tests here, that looks at texts as a tenant's does."""
    async with estate(tmp_path_factory.mktemp("anonymiser"), start=False) as made:
        await made.start(*COMMAND, DOMICILE_ANALYSERS="1")
        async with asyncio.timeout(30):
            while (await made.http.get(made.health + "/readyz")).status_code != 200:
                await asyncio.sleep(0.1)
        yield made


def asked(content: Any) -> dict[str, Any]:
    return {"model": "small", "messages": [{"role": "user", "content": content}]}


async def reached(house: Estate, body: Any) -> str:
    """The question as the provider got it."""
    house.provider.forget()
    status, answer = await house.post("/chat/completions", body)
    assert status == 200, answer
    return house.provider.seen[-1].raw.decode()


@pytest.mark.parametrize("wrong", [{"patterns": [{"name": "OWN", "regex": "(Erika"}]}, {"refuse": ["NO_SUCH_KIND"]}])
async def test_a_config_by_which_nothing_can_be_looked_at_is_not_taken(house: Estate, wrong: dict[str, Any]) -> None:
    told = len(house.told)
    house.write(privacy=wrong)
    async with asyncio.timeout(20):
        while not any("stays as it was" in line for line in house.told[told:]):
            await asyncio.sleep(0.02)
    assert "Erika" not in "".join(house.told)
    assert CARD not in await reached(house, asked(f"Karte {CARD}"))
    house.write()
    async with asyncio.timeout(20):
        while not any("a new config is taken" in line for line in house.told[told:]):
            await asyncio.sleep(0.02)


def texts(*said: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": each} for each in said]


def told(arguments: Any) -> dict[str, Any]:
    """A question after a tool was called with these arguments."""
    call = {"id": "c", "type": "function", "function": {"name": "pay", "arguments": json.dumps(arguments)}}
    said = [{"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": "c", "content": "ok"}]
    return {"model": "small", "messages": said}


SPLIT: dict[str, dict[str, Any]] = {
    "halves of an account number in parts": asked(texts("IBAN DE89 3704 00", "44 0532 0130 00")),
    "each digit in a part": asked(texts(*CARD)),
    "a part of nothing between": asked(texts("4111 1111", "", "1111 1111")),
    "after a long part": asked(texts("Guten Tag. " * 2000 + "4111 1111 ", "1111 1111" + " Danke." * 2000)),
    "an address": asked(texts("schreib an jane.doe", "@example.com")),
    "the word that tells in another part": asked(texts("Meine Kontonummer ist", "4711")),
    "messages": {
        "model": "small",
        "messages": [{"role": "user", "content": "4111 1111"}, {"role": "user", "content": "1111 1111"}],
    },
    "messages with ids and names": {
        "model": "small",
        "messages": [
            {"role": "user", "name": "anna", "content": "4111 1111"},
            {"role": "user", "name": "anna", "content": "1111 1111"},
            {"role": "tool", "tool_call_id": "c", "content": "DE89 3704 00"},
            {"role": "tool", "tool_call_id": "d", "content": "44 0532 0130 00"},
        ],
    },
    "parts of JSON": asked(texts('"4111 1111\\n"', '"1111 1111\\n"')),
    "elements of a list": told({"card": [4111, 1111, 1111, 1111]}),
    "strings of a list": told({"card": ["4111", "1111", "1111", "1111"]}),
    "sequences that end": asked("x") | {"stop": ["4111", "1111", "1111", "1111"]},
}


@pytest.mark.parametrize("how", SPLIT)
async def test_a_value_that_is_cut_over_texts_that_stand_beside_each_other_reaches_nobody(
    house: Estate, how: str
) -> None:
    sent = await reached(house, SPLIT[how])
    left = "".join(c for c in re.sub(r"\[[A-Z_]+_[A-Z2-7]{14,20}\]", "", sent) if c.isdigit())
    assert "1111" not in left
    assert not any(part in sent for part in ("3704", "0532", "jane.doe", "4711"))


async def test_texts_beside_each_other_are_left_alone_where_nothing_is_cut(house: Estate) -> None:
    body = asked(texts("Guten Tag, wie lange dauert", "eine Auslandsüberweisung?"))
    assert json.loads(await reached(house, body))["messages"] == body["messages"]
    body = told(
        {
            "years": [2019, 2020, 2021, 2022],
            "count": [1200, 1300, 1400],
            "t": [41.2, 38.5, 39.1, 40.7, 36.6, 35.9, 44.0, 31.3],
        }
    )
    assert json.loads(await reached(house, body))["messages"] == body["messages"]


async def test_what_was_cut_comes_back_where_it_stood(house: Estate) -> None:
    house.provider.forget()

    async def repeat(request: web.Request) -> web.Response:
        said = [part["text"] for part in house.provider.seen[-1].body["messages"][0]["content"]]
        return web.json_response(chat("|".join(said)))

    house.provider.handler = repeat
    _, answer = await house.post("/chat/completions", asked(texts("Karte 4111 11", "11 1111 1111 bitte")))
    assert answer["choices"][0]["message"]["content"] == "Karte 4111 11|11 1111 1111 bitte"


BORDER = windows.SIZE
ODD: dict[str, dict[str, Any]] = {
    "a float": told({"card": float(CARD)}),
    "an exponent": asked("x")
    | {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"default": 4.111111111111111e15}}}]},
    "a fraction": told({"a": {"b": [{"c": 0.4111111111111111}]}}),
    "below zero": told({"a": -int(CARD)}),
    "a key": told({CARD: 1}),
    "JSON in JSON in JSON": told({"a": json.dumps({"b": json.dumps({"c": int(CARD)})})}),
    "temperature": asked("x") | {"temperature": 0.4111111111111111},
    "bias": asked("x") | {"logit_bias": {"1": 4.111111111111111}},
    "a name": {"model": "small", "messages": [{"role": "user", "name": f"c{CARD}", "content": "x"}]},
    "an id": {"model": "small", "messages": [{"role": "tool", "tool_call_id": f"call_{CARD}", "content": "x"}]},
    "metadata": asked("x") | {"metadata": {CARD: CARD}, "user": CARD, "safety_identifier": CARD},
    "a forged placeholder": asked(f"[N{CARD}_AAAAAAAAAAAAAA] [CARD_{CARD}] [PERSON_K7Q2XMABCD5RTA{CARD}]"),
    **{
        f"{at} from a border": asked("ab " * ((BORDER + at) // 3) + f" {CARD} " + "cd " * 9000)
        for at in (-windows.OVERLAP - 8, -windows.OVERLAP, -16, -8, 0, 8)
    },
}


@pytest.mark.parametrize("where", ODD)
async def test_a_card_at_an_odd_place_reaches_nobody(house: Estate, where: str) -> None:
    sent = await reached(house, ODD[where])
    assert "41111" not in sent
    assert "4.11111" not in sent


async def test_many_values_in_a_large_body_reach_nobody(house: Estate) -> None:
    sent = await reached(
        house, asked("Karte 4111 1111 1111 1111, IBAN DE89 3704 0044 0532 0130 00, danke schön. " * 4000)
    )
    assert "1111" not in sent
    assert "3704" not in sent


async def test_a_kind_that_is_refused_is_refused_in_pieces_too(house: Estate) -> None:
    told = len(house.told)
    house.write(privacy={"refuse": ["ACCOUNT"]})
    async with asyncio.timeout(20):
        while not any("a new config is taken" in line for line in house.told[told:]):
            await asyncio.sleep(0.02)
    house.provider.forget()
    status, answer = await house.post("/chat/completions", asked(texts("Meine Kontonummer ist", "4711")))
    assert (status, answer["error"]["code"]) == (422, "forbidden_content")
    assert house.provider.seen == []
