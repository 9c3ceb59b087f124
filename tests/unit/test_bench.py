"""What the benchmark computes and draws, and the distance that its proxy makes."""

from __future__ import annotations

import asyncio
import hashlib
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.bench import chart, digest, results
from tests.bench.delay import listen
from tests.bench.measure import Run
from tests.bench.tools import BEST, DEFAULTS, OURS


def run(wall: float, cpu: float = 1.0, rss: float = 80.0, foreign: float = 0.0) -> Run:
    return Run(wall, cpu, rss, 0.5, foreign, {"s3": {"PUT": 3}, "gcs": {}}, 1000)


def case(ours: float, best: float, defaults: float, **figures: float) -> dict[str, Any]:
    runs = {OURS: [run(ours * share, **figures) for share in (1, 9, 0.5)]}
    return results.case(runs | {BEST: [run(best, cpu=4.0)], DEFAULTS: [run(defaults, cpu=3.0)]})


def test_a_ratio_is_of_medians_and_of_rclones_best() -> None:
    made = case(2.0, 9.0, 6.0)
    assert made["ratio"] == {"wall": 3.0, "cpu": 3.0}
    assert made["tools"][OURS]["median"]["wall"] == 2.0
    assert len(made["tools"][OURS]["runs"]) == 3


def test_a_run_that_others_disturbed_is_counted() -> None:
    assert case(2.0, 9.0, 6.0, foreign=0.35)["tools"][OURS]["disturbed"] == 2
    assert case(2.0, 9.0, 6.0, foreign=0.05)["tools"][OURS]["disturbed"] == 0


def test_the_line_takes_the_worst_restore_and_the_highest_memory() -> None:
    cases = {f"{results.PRIMARY}/small/{step}": case(1.0, 4.0, 5.0) for step in ("cold", "noop", "delta")}
    cases[f"{results.PRIMARY}/large/cold"] = case(2.0, 3.0, 3.0, rss=200.2)
    cases[f"{results.PRIMARY}/small/restore"] = case(1.0, 3.0, 3.0)
    cases[f"{results.PRIMARY}/large/restore"] = case(2.0, 2.5, 3.0)
    cases["s3-s3/plain/small/restore"] = case(2.0, 1.0, 1.0)
    told = "small=4.00 noop=4.00 delta=4.00 large=1.50 restore=1.25 cpu=3.00 rss_mib=201"
    assert results.line(cases) == told
    del cases[f"{results.PRIMARY}/large/cold"]
    assert " large=- " in results.line(cases)


def test_results_survive_the_file_and_show_in_the_chart(tmp_path: Path) -> None:
    path = tmp_path / "results" / "replication.json"
    assert results.load(path) == {"cases": {}}
    found = {"cases": {f"{results.PRIMARY}/small/cold": case(1.0, 4.0, 12.0)}}
    results.save(path, found)
    assert results.load(path) == found
    drawn = ElementTree.fromstring(chart.draw(found))
    bars = [float(each.get("width", 0)) for each in drawn.iter("{http://www.w3.org/2000/svg}rect")][-3:]
    assert bars[1] == 4 * bars[0]
    assert bars[2] == 2 * bars[1]  # cut, and marked with an arrow
    assert [text for text in drawn.itertext() if text.endswith(" →")] == ["12.00 s →"]


def test_a_digest_is_of_names_and_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_bytes(b"x")
    (tmp_path / ".sgwtmp").mkdir()
    (tmp_path / ".sgwtmp" / "unfinished").write_bytes(b"y")
    same = digest.of_rows([("a/b", hashlib.sha256(b"x").hexdigest())])
    assert digest.of_folder(tmp_path) == same
    assert same.startswith("1 ")
    (tmp_path / "a" / "b").write_bytes(b"z")
    assert digest.of_folder(tmp_path) != same


async def test_the_proxy_delays_every_answer_and_keeps_all_bytes_in_order() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.close()

    delay = 0.02
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    proxy = await listen(delay, server.sockets[0].getsockname()[1])
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.sockets[0].getsockname()[1])

    async def trip() -> float:
        begun = time.perf_counter()
        writer.write(b"ping")
        assert await reader.readexactly(4) == b"ping"
        return time.perf_counter() - begun

    assert await trip() >= 4 * delay  # with the handshake's round trip
    assert await trip() >= 2 * delay
    sent = b"".join(number.to_bytes(4, "big") for number in range(1 << 20))

    async def send() -> None:
        writer.write(sent)
        await writer.drain()

    _, back = await asyncio.gather(send(), reader.readexactly(len(sent)))
    assert back == sent
    writer.close()
    proxy.close()
    server.close()


async def test_the_proxy_ends_a_connection_that_it_can_not_make() -> None:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    proxy = await listen(0.001, port)
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.sockets[0].getsockname()[1])
    with pytest.raises(asyncio.IncompleteReadError):
        await asyncio.wait_for(reader.readexactly(1), 10)
    writer.close()
    proxy.close()
