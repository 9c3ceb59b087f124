"""What the gateway's benchmark asks, and how it counts."""

from __future__ import annotations

import asyncio
from itertools import islice

from tests.bench import gateway
from tests.bench.asking import at_once, in_turns, spread
from tests.bench.corpus.questions import tuning_half
from tests.bench.prompts import EXCHANGES, PASSAGE_CHARACTERS, PASSAGES, Prompt, prompts

TEXTS = [question.text for question in tuning_half(50)]


def test_no_text_is_asked_twice() -> None:
    contents = [message["content"] for prompt in islice(prompts(TEXTS, 1), 200) for message in prompt.messages]
    assert len(set(contents)) == len(contents)


def test_prompts_are_as_large_as_they_are_said_to_be() -> None:
    for prompt in islice(prompts(TEXTS, 1), 50):
        roles = [message["role"] for message in prompt.messages]
        assert roles == ["system", *["user", "assistant"] * EXCHANGES, "user"]
        assert PASSAGES * PASSAGE_CHARACTERS < prompt.characters < 6000
        assert prompt.question == prompt.messages[-1]["content"]


def test_prompts_are_the_same_each_time() -> None:
    assert list(islice(prompts(TEXTS, 1), 20)) == list(islice(prompts(TEXTS, 1), 20))
    assert next(prompts(TEXTS, 1)) != next(prompts(TEXTS, 2))


async def test_each_prompt_goes_both_ways_and_who_is_first_changes() -> None:
    sent: list[tuple[str, Prompt]] = []

    async def straight(prompt: Prompt) -> float:
        sent.append(("straight", prompt))
        return 1.0

    async def through(prompt: Prompt) -> float:
        sent.append(("through", prompt))
        return 5.0

    a, b, c = islice(prompts(TEXTS, 1), 3)
    found = await in_turns([a, b, c], {"straight": straight, "through": through})
    assert found == {"straight": [1.0] * 3, "through": [5.0] * 3}
    assert [way for way, _ in sent] == ["straight", "through", "through", "straight", "straight", "through"]
    assert [prompt for _, prompt in sent] == [a, a, b, b, c, c]


async def test_so_many_clients_ask_at_once_and_all_answers_count() -> None:
    under_way = most = answered = 0

    async def ask(prompt: Prompt) -> float:
        nonlocal under_way, most, answered
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1
        answered += 1
        return float(answered)

    found = await at_once(prompts(TEXTS, 1), ask, 3, 0.05)
    assert most == 3
    assert found["clients"] == 3
    assert 0 < found["rps"] <= answered / 0.05
    assert found["p50"] == (answered + 1) / 2


def test_percentiles_are_between_the_samples() -> None:
    assert spread([float(n) for n in range(101)]) == {"p50": 50.0, "p99": 99.0}


def test_the_closing_line_has_what_is_added_and_the_best_of_all_clients() -> None:
    corpus = {"leaked_structured": 0, "recall_de": 0.95, "recall_en": 0.9583, "recall_names_unlisted": 0.9061}
    requests = {
        "straight": {"p50": 0.7, "p99": 1.7},
        "through": {"p50": 46.5, "p99": 61.9},
        "busy": [{"clients": 4, "rps": 21.3}, {"clients": 8, "rps": 23.14}, {"clients": 16, "rps": 22.0}],
        "pss_mib": 289.7,
    }
    assert gateway.line(
        {"corpus": corpus | {"precision": 0.9645, "stock_recall_de": 0.1887}, "requests": requests}
    ) == (
        "leaked_structured=0 recall_de=0.950 recall_en=0.958 recall_names_unlisted=0.906 precision=0.965"
        " stock_recall_de=0.189 added_p50_ms=45.8 added_p99_ms=60.2 rps=23.1 rss_mib=290"
    )
