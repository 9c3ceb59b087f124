"""What reaches a provider through the whole gateway: its process, the real anonymiser, TLS at both ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.integration.gateway_estate import Estate, estate

pytestmark = pytest.mark.asyncio(loop_scope="module")

MAIN = ["-c", "from domicile.gateway.questions.process import main; raise SystemExit(main())"]
CARD = "4111111111111111"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Estate]:
    """One for all tests here, that looks at texts as a tenant's does."""
    async with estate(tmp_path_factory.mktemp("anonymiser"), start=False) as made:
        made.main = MAIN
        await made.start(DOMICILE_ANALYSERS="1")
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
