"""Analysers in processes: batches, long texts, what is remembered, and what happens when one doesn't answer."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise

import pytest

from domicile.api.gateway import Pattern, Privacy
from domicile.gateway.privacy import pool as module
from domicile.gateway.privacy.finding import AnalyzerError, Finding
from domicile.gateway.privacy.memory import Memory, fingerprint
from domicile.gateway.privacy.pool import Pool
from domicile.gateway.privacy.windows import OVERLAP, SIZE, windows

EVIL = Privacy(patterns=[Pattern(name="EVIL", regex="(a+)+$")])
ENDLESS = "a" * 64 + "b"


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool(EVIL, processes=1, timeout_seconds=20) as made:
        yield made


@pytest.fixture(scope="module")
def hasty() -> Iterator[Pool]:
    with Pool(EVIL, processes=1, timeout_seconds=0.5) as made:
        yield made


async def test_all_texts_of_a_request_are_looked_at(pool: Pool) -> None:
    texts = ["für Anna Schmidt", "nichts", "", "\ud800 IBAN DE89370400440532013000", "für Anna Schmidt"]
    first, nothing, empty, account, again = await pool.find(texts)
    assert [f.kind for f in first] == ["PERSON"] == [f.kind for f in again]
    assert [(f.kind, f.start) for f in account] == [("IBAN", 7)]
    assert nothing == empty == []
    assert pool.ready()


async def test_a_value_on_the_border_of_two_pieces_is_found_whole(pool: Pool) -> None:
    value = "DE89 3704 0044 0532 0130 00"
    ahead = ("nichts " * SIZE)[: SIZE - 10]
    text = f"{ahead} {value} und weiter mit nichts"
    assert [(f.start, f.end) for (found,) in [await pool.find([text])] for f in found] == [
        (SIZE - 9, SIZE - 9 + len(value))
    ]


async def test_many_requests_at_once_get_their_own_answers(pool: Pool) -> None:
    texts = [f"{'x ' * i}IBAN DE89370400440532013000" for i in range(20)]
    answers = await asyncio.gather(*(pool.find([text]) for text in texts))
    assert [found[0].start for (found,) in answers] == [2 * i + 5 for i in range(20)]


async def test_a_text_that_takes_too_long_is_an_error_and_the_next_is_looked_at(hasty: Pool) -> None:
    with pytest.raises(AnalyzerError, match=r"^a text took longer than 0\.5 s$"):
        await hasty.find([ENDLESS])
    assert [f.kind for f in (await hasty.find(["Herr Quaddeldorp"]))[0]] == ["PERSON"]


async def test_a_worker_that_ends_is_an_error_and_another_takes_its_place() -> None:
    others = set(multiprocessing.active_children())
    with Pool(EVIL, processes=1, timeout_seconds=60) as pool:
        await pool.find(["loaded"])
        (worker,) = set(multiprocessing.active_children()) - others
        asked = asyncio.create_task(pool.find([ENDLESS]))
        while not pool._under_way:
            await asyncio.sleep(0)
        os.kill(worker.pid or 0, signal.SIGKILL)
        with pytest.raises(AnalyzerError, match=r"^a worker ended while it looked at a text$"):
            await asked
        assert [f.kind for f in (await pool.find(["Frau Quaddeldorp"]))[0]] == ["PERSON"]
        assert pool.ready()


async def test_no_text_of_one_thing_again_and_again_keeps_a_worker_busy(pool: Pool) -> None:
    """Each was one on which a pattern that can be read in two ways takes minutes, or might."""
    repeated = (
        "Aa-a", "a-", "a.", "a@a.", "a at ", "1-", "1,", "1 ", "_", "|", "%41", "Aa Aa ", "Am Aa ", "Herr A. ", "von ",
        "D E 1", "12 Aa ", "vier ", "\u0301", "\u200b", "аa", "&#65;", "QUJD", "Ausweis A1 ", "geb. ", "1.1.70 ",
    )  # fmt: skip
    await pool.find([each * (4096 // len(each)) for each in repeated])


async def test_more_than_may_wait_is_refused(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PIECES", 2)
    with pytest.raises(AnalyzerError, match=r"^overloaded: 0 pieces of texts are under way, and 2 may be$"):
        await pool.find(["b" * 3 * SIZE])
    assert await pool.find(["c"]) == [[]]


def test_what_is_wrong_in_the_config_is_told_at_once() -> None:
    with pytest.raises(ValueError, match="no such kind"):
        Pool(Privacy(thresholds={"PHON": 1}), processes=1, timeout_seconds=1)


def test_pieces_overlap_and_miss_nothing() -> None:
    text = "".join(chr(32 + i % 90) for i in range(3 * SIZE))
    pieces = list(windows(text))
    assert all(text[at : at + len(piece)] == piece and len(piece) <= SIZE for at, piece in pieces)
    assert [b - a for (a, _), (b, _) in pairwise(pieces)] == [SIZE - OVERLAP] * (len(pieces) - 1)
    assert pieces[-1][0] + len(pieces[-1][1]) == len(text)
    assert list(windows("")) == [(0, "")]


def test_the_memory_holds_findings_only_and_forgets_the_oldest() -> None:
    memory = Memory(most=3)
    a, b, c = (fingerprint(text) for text in ("a", "b", "c"))
    finding = Finding(0, 1, "PERSON", 1.0)
    memory.put(a, [finding])
    memory.put(b, [])
    assert memory.get(a) == [finding]
    memory.put(c, [finding, finding])
    assert (memory.get(b), memory.get(a), memory.get(c)) == (None, [finding], [finding] * 2)
    memory.put(b, [finding] * 4)
    assert memory.get(b) is None


async def test_what_is_remembered_is_not_asked_again(hasty: Pool) -> None:
    text = "Frau Quaddeldorp, nochmals"
    (first,) = await hasty.find([text])
    first.clear()
    before = hasty._pool.schedule
    hasty._pool.schedule = None  # type: ignore[assignment, method-assign]
    try:
        assert [f.kind for f in (await hasty.find([text]))[0]] == ["PERSON"]
    finally:
        hasty._pool.schedule = before  # type: ignore[method-assign]


def test_who_hands_texts_out_holds_no_recognisers() -> None:
    code = """
import sys
from domicile.api.gateway import Privacy
from domicile.gateway.privacy.pool import Pool
if __name__ == "__main__":
    with Pool(Privacy(), processes=1, timeout_seconds=20):
        print(sorted({"presidio_analyzer", "spacy"} & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
