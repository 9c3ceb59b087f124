"""How long a gateway takes, how much it takes on and holds: the real process, with all that is around it in a pod.

Client and provider share one process; the provider repeats the question at once. Each prompt is sent twice: straight
to the provider, and through the gateway, in turns.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import count, islice
from pathlib import Path
from statistics import mean, median, quantiles
from typing import Any

import aiohttp

from tests.bench.memory import pss_mib
from tests.bench.prompts import Prompt, prompts
from tests.integration.gateway_estate import ASSISTANT, Estate, estate
from tests.integration.gateway_store import gateway_store, prepare
from tests.pods import calling

Ask = Callable[[Prompt], Awaitable[float]]
"""Sends a prompt; returns the milliseconds until its answer was there."""
_COMMAND = (str(Path(sys.executable).with_name("domicile")), "gateway")
_ANALYSERS = 2
_WARM = 20
_START_SECONDS = 60


def spread(milliseconds: Sequence[float]) -> dict[str, float]:
    """The 50th and the 99th percentile."""
    cuts = quantiles(milliseconds, n=100, method="inclusive")
    return {"p50": round(cuts[49], 3), "p99": round(cuts[98], 3)}


async def in_turns(asked: Sequence[Prompt], ways: dict[str, Ask]) -> dict[str, list[float]]:
    """Each prompt by each way, one at a time; who is first changes."""
    found: dict[str, list[float]] = {way: [] for way in ways}
    for number, prompt in enumerate(asked):
        for way in list(ways)[:: -1 if number % 2 else 1]:
            found[way].append(await ways[way](prompt))
    return found


async def at_once(source: Iterator[Prompt], ask: Ask, clients: int, seconds: float) -> dict[str, float]:
    """What so many clients get answered, each of which asks again when it has its answer."""
    taken: list[float] = []
    begun = time.perf_counter()

    async def client() -> None:
        while time.perf_counter() < begun + seconds:
            taken.append(await ask(next(source)))

    await asyncio.gather(*(client() for _ in range(clients)))
    return {"clients": clients, "rps": len(taken) / (time.perf_counter() - begun), **spread(taken)}


def _way(session: aiohttp.ClientSession, url: str, model: str, house: Estate) -> Ask:
    numbers = count(1)

    async def ask(prompt: Prompt) -> float:
        content = json.dumps({"model": model, "messages": prompt.messages}).encode()
        headers = {"Content-Type": "application/json", "Domicile-Conversation": f"bench-{next(numbers)}"}
        begun = time.perf_counter()
        async with session.post(f"{url}/chat/completions", data=content, headers=headers) as answer:
            raw = await answer.read()
        taken = (time.perf_counter() - begun) * 1000
        house.provider.seen.clear()
        if answer.status != 200 or json.loads(raw)["choices"][0]["message"]["content"] != prompt.question:
            raise SystemExit(f"bench: {url} answered {answer.status}: {raw[:500].decode()}")
        return taken

    return ask


async def _ready(house: Estate, session: aiohttp.ClientSession) -> None:
    async with asyncio.timeout(_START_SECONDS):
        while True:
            async with session.get(f"{house.health}/readyz") as answer:
                if answer.status == 200:
                    return
            await asyncio.sleep(0.05)


async def asked(
    folder: Path, texts: Sequence[str], pairs: int, clients: Sequence[int], seconds: float
) -> dict[str, Any]:
    """Ask ``pairs`` prompts in turns, then as many as ``clients`` at once get answered in ``seconds``."""
    with gateway_store(folder / "store") as store:
        (folder / "gateway").mkdir()
        async with estate(folder / "gateway", start=False, limits={}) as house:
            prepare(house, store, limits={})
            await house.start(*_COMMAND, DOMICILE_ANALYSERS=str(_ANALYSERS), DOMICILE_METRICS_PORT="0")
            context = calling(ASSISTANT)
            context.load_verify_locations(house.folder / "roots.pem")
            connector = aiohttp.TCPConnector(ssl=context, limit=0)
            async with aiohttp.ClientSession(connector=connector) as session:
                await _ready(house, session)
                source = prompts(texts, 1)
                straight = _way(session, house.provider.url, "m-1", house)
                through = _way(session, house.url, "small", house)
                await asyncio.gather(*(way(each) for each in islice(source, _WARM) for way in (straight, through)))
                chosen = list(islice(source, pairs))
                runs = await in_turns(chosen, {"straight": straight, "through": through})
                busy = [await at_once(source, through, each, seconds) for each in clients]
                assert house.process is not None
                return {
                    "pairs": pairs,
                    "characters": {
                        "prompt": median(prompt.characters for prompt in chosen),
                        "question": median(len(prompt.question) for prompt in chosen),
                    },
                    **{way: spread(each) for way, each in runs.items()},
                    "busy": busy,
                    "findings": round(mean(sum(each["found"].values()) for each in house.lines), 1),
                    "analysers": _ANALYSERS,
                    "pss_mib": round(pss_mib(house.process.pid), 1),
                }
