"""The reference assistant's knowledge where names are taken out of it first."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.assistant import knowledge
from examples.assistant.anonymiser import AnonymiserError
from examples.assistant.knowledge import Index, Knowledge
from examples.assistant.store import Entry

QUESTION = "Who is the caretaker?"


class Files:
    """A bucket of one knowledge file."""

    def __init__(self, text: str) -> None:
        self._numbers = count()
        self.write(text)

    def write(self, text: str) -> None:
        self._text, self._version = text, str(next(self._numbers))

    def each(self, prefix: str) -> Iterator[Entry]:
        yield Entry(f"{prefix}staff.md", self._version, len(self._text))

    def list(self, prefix: str) -> list[Entry]:
        return list(self.each(prefix))

    def read(self, name: str) -> bytes:
        assert name.endswith("staff.md")
        return self._text.encode()

    def create(self, name: str, data: bytes) -> None:
        raise AssertionError((name, data))

    def delete(self, name: str) -> None:
        raise AssertionError(name)


def clock() -> Callable[[], float]:
    """A later refresh with each question."""
    ticks = count(0, 10)
    return lambda: float(next(ticks))


def bodies(found: Knowledge) -> list[str]:
    return [passage.body for passage in found.search(QUESTION)]


@pytest.mark.parametrize("other", ["", "The opening hours are nine to five."])
def test_a_file_that_comes_back_after_a_search_is_found(other: str) -> None:
    index = Index()
    index.put("other.md", other)
    index.put("staff.md", "The caretaker is Zelimir.")
    assert index.search(QUESTION)
    index.remove("staff.md")
    assert index.search(QUESTION) == []
    index.put("staff.md", "The caretaker is away.")
    assert [passage.body for passage in index.search(QUESTION)] == ["The caretaker is away."]


def test_nobody_waits_for_names_and_nothing_is_found_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knowledge, "WAIT_SECONDS", 0.01)
    go, ended = threading.Event(), threading.Semaphore(0)

    def slow(texts: Sequence[str]) -> list[str]:
        go.wait(20)
        ended.release()
        return [text.replace("Zelimir", "[PERSON]") for text in texts]

    files = Files("The caretaker is Zelimir.")
    found = Knowledge(files, clock(), slow)
    assert (bodies(found), found.waiting) == ([], 1)
    # What has changed meanwhile is never there.
    files.write("The caretaker is away, says Zelimir.")
    assert bodies(found) == []
    go.set()
    for _ in range(2):
        assert ended.acquire(timeout=20)
    monkeypatch.setattr(knowledge, "WAIT_SECONDS", 20)
    assert bodies(found) == ["The caretaker is away, says [PERSON]."]
    assert found.waiting == 0


def test_a_changed_file_is_not_known_until_it_is_looked_at_again() -> None:
    down = False

    def remove(texts: Sequence[str]) -> list[str]:
        if down:
            raise AnonymiserError("the gateway answered 503")
        return [text.replace("Zelimir", "[PERSON]") for text in texts]

    files = Files("The caretaker is Zelimir.")
    found = Knowledge(files, clock(), remove)
    assert bodies(found) == ["The caretaker is [PERSON]."]
    down = True
    assert bodies(found) == ["The caretaker is [PERSON]."]
    files.write("The caretaker is Zelimir, or nobody.")
    assert (bodies(found), found.waiting) == ([], 1)
    down = False
    assert (bodies(found), found.waiting) == (["The caretaker is [PERSON], or nobody."], 0)


@given(st.text(alphabet="ab\n\r\u2028", max_size=60))
def test_pieces_are_the_text(text: str) -> None:
    assert "".join(knowledge.chunks(text)) == text
