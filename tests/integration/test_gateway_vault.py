"""Conversations and budgets: real redis over TLS, as the site's session store runs it."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from redis.exceptions import NoPermissionError

from domicile.credentials import Credentials
from domicile.gateway.questions.store import connect
from tests.integration.door_server import end
from tests.integration.gateway_estate import TENANT, Estate, estate
from tests.integration.gateway_store import gateway_store, prepare
from tests.integration.session_server import Store

pytestmark = pytest.mark.asyncio(loop_scope="module")

ASKED = "Frau Erika Mustermann, erika@example.com"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with gateway_store(tmp_path_factory.mktemp("sessions") / "store") as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(store: Store, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Estate]:
    async with estate(tmp_path_factory.mktemp("gateway"), start=False) as made:
        prepare(made, store)
        await made.start()
        yield made


def named(conversation: str) -> dict[str, str]:
    return {"Domicile-Conversation": conversation}


async def anonymise(house: Estate, text: str, conversation: str, route: str = "anonymise") -> str:
    status, answer = await house.post(f"/domicile/{route}", {"texts": [text]}, **named(conversation))
    assert status == 200, answer
    return str(answer["texts"][0])


async def restore(house: Estate, text: str, conversation: str) -> str:
    return await anonymise(house, text, conversation, "restore")


async def test_what_one_request_hid_another_gives_back(house: Estate, store: Store) -> None:
    hidden = await anonymise(house, ASKED, "c1")
    assert "rika" not in hidden
    assert await anonymise(house, ASKED, "c1") == hidden
    assert await anonymise(house, hidden, "c1") == hidden
    assert await restore(house, hidden, "c1") == ASKED
    assert await restore(house, hidden.replace("PERSON", "person"), "c1") == ASKED
    assert await restore(house, f"[PERSON_AAAAAAAAAAAAAA] {hidden}", "c1") == f"[PERSON_AAAAAAAAAAAAAA] {ASKED}"
    assert await anonymise(house, ASKED, "c2") != hidden
    assert await restore(house, hidden, "c2") == hidden
    name = f"vault:{TENANT}:{hashlib.sha256(b'c1').hexdigest()}"
    assert store.ask("HLEN", name) == ":2"
    assert 86_000 < int(store.ask("TTL", name)[1:]) <= 86_400


async def test_a_question_with_an_earlier_answers_placeholder_gets_its_value(house: Estate) -> None:
    hidden = await anonymise(house, ASKED, "c3")
    house.provider.forget()
    answer = await house.client.chat.completions.create(
        model="small", messages=[{"role": "user", "content": hidden}], extra_headers=named("c3")
    )
    assert answer.choices[0].message.content == ASKED
    assert json.dumps(hidden).encode()[1:-1] in house.provider.received
    assert b"rika" not in house.provider.received
    assert b"c3" not in house.provider.received


async def test_a_value_is_hidden_where_only_the_conversation_tells_it(house: Estate) -> None:
    """What a model makes of a value may be nothing that anybody finds."""
    told, said = "My name is Zelimir.", "Hello Zelimir, Zelimirs"
    assert await anonymise(house, said, "c11") == said
    status, answer = await house.post("/domicile/anonymise", {"texts": [told, said]}, **named("c11"))
    placeholder = answer["texts"][0].removeprefix("My name is ").removesuffix(".")
    assert answer["texts"] == [f"My name is {placeholder}.", f"Hello {placeholder}, {placeholder}s"]
    # Also where only the placeholder of an earlier request tells it.
    status, answer = await house.post("/domicile/anonymise", {"texts": [f"Of {placeholder}.", said]}, **named("c11"))
    assert (status, answer["texts"]) == (200, [f"Of {placeholder}.", f"Hello {placeholder}, {placeholder}s"])


async def test_texts_can_be_hidden_for_good(house: Estate, store: Store) -> None:
    before = store.ask("DBSIZE")
    body = {"texts": [ASKED], "irreversible": True}
    assert (await house.post("/domicile/anonymise", body, **named("c13")))[1]["texts"] == [
        "Frau [PERSON], [EMAIL_ADDRESS]"
    ]
    assert store.ask("DBSIZE") == before
    for wrong in ({**body, "irreversible": False}, {**body, "irreversible": None}, {**body, "more": 1}):
        status, answer = await house.post("/domicile/anonymise", wrong)
        assert (status, answer["error"]["code"]) == (400, "invalid_value")
    status, answer = await house.post("/domicile/restore", body, **named("c13"))
    assert (status, answer["error"]["code"]) == (400, "invalid_value")


async def test_what_looks_like_a_placeholder_is_looked_at(house: Estate) -> None:
    text = "[PERSON_AAAAAAAAAAAAAA] [erika@example.com_AAAAAAAAAAAAAA]"
    hidden = await anonymise(house, text, "c4")
    assert "erika" not in hidden


async def test_the_store_holds_no_text(house: Estate, store: Store) -> None:
    hidden = await anonymise(house, "Erika Mustermann", "c5")
    name = f"vault:{TENANT}:{hashlib.sha256(b'c5').hexdigest()}"
    tls = Credentials(house.folder / "tls", "ca.crt", connects=True)
    async with connect(f"localhost:{store.port}", tls, house.folder / "vault") as redis:
        [sealed] = await redis.hmget(name, [hidden])
        assert len(sealed) == 12 + len("Erika Mustermann") + 16
        assert b"rika" not in sealed
        # Its account reaches nobody else's.
        with pytest.raises(NoPermissionError):
            await redis.get("vault:another")


async def test_an_entry_opens_in_its_own_place_only(house: Estate, store: Store) -> None:
    hidden = await anonymise(house, "Erika Mustermann", "c6")
    name = f"vault:{TENANT}:{hashlib.sha256(b'c6').hexdigest()}"
    elsewhere = f"vault:{TENANT}:{hashlib.sha256(b'c7').hexdigest()}"
    assert store.ask("COPY", name, elsewhere) == ":1"
    assert await restore(house, hidden, "c6") == "Erika Mustermann"
    other = await anonymise(house, "Erika Mustermann", "c8")
    assert store.ask("HSET", f"vault:{TENANT}:{hashlib.sha256(b'c8').hexdigest()}", other, "rubbish") == ":0"
    assert await restore(house, other, "c8") == other


async def test_budgets(store: Store, tmp_path_factory: pytest.TempPathFactory) -> None:
    async with estate(tmp_path_factory.mktemp("budget"), start=False) as house:
        prepare(house, store, limits={"requestsPerDay": 3})
        await house.start()
        body = {"model": "small", "messages": [{"role": "user", "content": "Hallo"}]}
        statuses = [(await house.post("/chat/completions", body))[0] for _ in range(4)]
        assert statuses == [200, 200, 200, 429]
        answer = await house.http.post(f"{house.url}/chat/completions", json=body)
        assert answer.json()["error"]["code"] == "budget_exhausted"
        assert 0 < int(answer.headers["Retry-After"]) <= 86_400
        assert len(house.provider.seen) == 3
        house.write(redis=f"localhost:{store.port}", limits={"tokensPerDay": 20})
        await house.until_told("a new config is taken")
        day = await asyncio.to_thread(store.ask, "KEYS", "budget*")
        assert day
        # Each answer has 11 tokens, streams included.
        streamed = await house.http.post(f"{house.url}/chat/completions", json=body | {"stream": True})
        assert streamed.text.endswith("[DONE]\n\n")
        assert "usage" not in streamed.text
        async with asyncio.timeout(10):
            while (await house.post("/chat/completions", body))[0] != 429:
                pass
        assert len(house.provider.seen) in {5, 6}


async def test_irreversible_placeholders_need_no_store(house: Estate, store: Store) -> None:
    house.write(redis=f"localhost:{store.port}", privacy={"placeholders": "irreversible"})
    house.told.clear()
    await house.until_told("a new config is taken")
    assert await anonymise(house, ASKED, "c9") == "Frau [PERSON], [EMAIL_ADDRESS]"
    house.write(redis=f"localhost:{store.port}", privacy={"refuse": ["DIAGNOSIS"]})
    house.told.clear()
    await house.until_told("a new config is taken")
    status, answer = await house.post("/domicile/anonymise", {"texts": ["Migräne von Erika Mustermann"]})
    assert (status, answer["error"]["code"]) == (422, "forbidden_content")
    assert "DIAGNOSIS" in answer["error"]["message"]
    assert "Migr" not in json.dumps(answer)


async def test_without_the_store_only_what_needs_it_fails(house: Estate, store: Store) -> None:
    body = {"model": "small", "messages": [{"role": "user", "content": ASKED}]}
    end(store.process)
    house.provider.forget()
    status, answer = await house.post("/chat/completions", body, **named("c10"))
    assert (status, answer["error"]["code"]) == (503, "store_unavailable")
    assert house.provider.seen == []
    assert (await house.post("/chat/completions", body))[0] == 200
