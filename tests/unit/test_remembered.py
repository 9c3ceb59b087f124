"""What the operator remembers of keys and stores, and for how long."""

from __future__ import annotations

from itertools import count

import pytest

from domicile.controllers.sites import Remembered


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_an_answer_is_asked_for_again_once_it_is_old() -> None:
    clock, numbers = Clock(), count()
    memory: Remembered[str, int] = Remembered(10, clock)
    assert memory.get("a", lambda: next(numbers)) == 0
    clock.now = 9.9
    assert memory.get("a", lambda: next(numbers)) == 0
    clock.now = 10
    assert memory.get("a", lambda: next(numbers)) == 1
    assert memory.get("b", lambda: next(numbers)) == 2


def test_what_is_old_is_gone_from_memory_whoever_asks() -> None:
    clock = Clock()
    memory: Remembered[str, bytes] = Remembered(10, clock)
    for name in ("a", "b"):
        memory.get(name, lambda: b"secret")
    clock.now = 5
    memory.get("c", lambda: b"other")
    clock.now = 12
    memory.get("d", lambda: b"other")
    assert "secret" not in repr(vars(memory))
    assert set(memory._known) == {"c", "d"}


def test_errors_are_not_remembered() -> None:
    memory: Remembered[str, int] = Remembered(10, Clock())
    with pytest.raises(ZeroDivisionError):
        memory.get("a", lambda: 1 // 0)
    assert memory.get("a", lambda: 1) == 1
