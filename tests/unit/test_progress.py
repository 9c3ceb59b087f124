"""Progress: what a terminal and what a log is told, and that it ends with the work."""

from __future__ import annotations

import io
import json
import threading

from domicile.backup.progress import Progress

TENANT, OTHER = "0123456789abcdef" * 2, "f" * 32


class Terminal(io.StringIO):
    """Hands out what was written once somebody waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.told = threading.Event()

    def write(self, text: str) -> int:
        done = super().write(text)
        self.told.set()
        return done


def test_a_terminal_has_one_line_that_is_renewed_and_cleared() -> None:
    out, now = io.StringIO(), [100.0]
    progress = Progress(out, "x", terminal=True, clock=lambda: now[0])
    counts = {"listed": 0, "bytesSealed": 0}
    with progress.of(TENANT, lambda: counts):
        now[0] += 2
        progress.tell()
        counts |= {"listed": 20_000, "bytesSealed": 3 << 19}
        now[0] += 1
        progress.tell()
    progress.tell()
    assert out.getvalue().split("\r\x1b[K") == ["", "01234567: 2 s", "01234567: 3 s, 20,000 listed, 1.5 MiB sealed", ""]


def test_a_log_gets_a_json_line_for_each_tenant() -> None:
    out, now = io.StringIO(), [100.0]
    progress = Progress(out, "domicile.replicate", terminal=False, clock=lambda: now[0])
    with progress.of(TENANT, lambda: {"listed": 5, "left": 0}), progress.of(OTHER, dict):
        now[0] += 7.4
        progress.tell()
    progress.tell()
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert {line.pop("time")[:2] for line in lines} == {"20"}
    head = {"logger": "domicile.replicate", "event": "progress", "seconds": 7}
    assert lines == [{**head, "tenant": TENANT, "listed": 5}, {**head, "tenant": OTHER}]


def test_it_tells_by_itself_while_something_runs_and_stops_with_its_block() -> None:
    out = Terminal()
    with Progress(out, "x", terminal=False, every=0.01) as progress, progress.of(TENANT, lambda: {"listed": 1}):
        assert out.told.wait(10)
    assert "progress" not in {thread.name for thread in threading.enumerate()}
    assert json.loads(out.getvalue().splitlines()[0])["listed"] == 1
