"""`python -m tests`: every part runs and counts, and one failure is the run's."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.__main__ import main

ALL = """
import pytest
@pytest.fixture
def broken(): raise OSError
def test_passes(): pass
def test_fails(): assert False
def test_has_an_error(broken): pass
@pytest.mark.skip
def test_is_skipped(): pass
"""


def part(folder: Path, name: str, text: str) -> tuple[str, ...]:
    """A run of one file of tests."""
    file = folder / f"test_{name}.py"
    file.write_text(text)
    return ("-m", "pytest", "-p", "no:cacheprovider", f"--rootdir={folder}", str(file))


def test_all_parts_run_and_one_failure_is_that_of_the_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    parts = {"one": part(tmp_path, "one", ALL), "two": part(tmp_path, "two", "def test_passes(): pass")}
    assert main(parts, tmp_path) == 1
    assert "= 2 passed, 1 failed, 1 errors, 1 skipped in 0:" in capfd.readouterr().out.splitlines()[-1]


def test_a_part_that_leaves_no_report_fails_the_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    good = part(tmp_path, "good", "def test_passes(): pass")
    assert main({"good": good, "gone": ("-c", "import os; os._exit(0)")}, tmp_path) == 1
    assert "= 1 passed, 1 without a report: gone in 0:" in capfd.readouterr().out.splitlines()[-1]


def test_a_run_without_failures_passes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main({"good": part(tmp_path, "good", "def test_passes(): pass")}, tmp_path) == 0
    assert "= 1 passed in 0:" in capfd.readouterr().out.splitlines()[-1]
