"""When a directory that refused our password is asked again."""

from __future__ import annotations

from domicile.controllers.realm.refusals import REFUSED_SECONDS, Refusal, remember, spared, told

KNOWN = {"staff": Refusal("a", 100.0, "why")}


def test_the_same_is_not_tried_within_the_hour() -> None:
    assert spared(KNOWN, {"staff": "a"}, 100.0 + REFUSED_SECONDS - 1) == {"staff": "why"}
    assert spared(KNOWN, {"staff": "a"}, 100.0 + REFUSED_SECONDS) == {}


def test_something_else_is_tried_at_once() -> None:
    assert spared(KNOWN, {"staff": "b"}, 101.0) == {}
    assert spared(KNOWN, {"guests": "a"}, 101.0) == {}


def test_only_what_still_counts_is_remembered() -> None:
    assert remember(KNOWN, ["staff"], {}, {"staff": "a"}, 200.0) == KNOWN
    assert remember(KNOWN, [], {}, {"staff": "a"}, 200.0) == {}
    assert remember(KNOWN, [], {"staff": "again"}, {"staff": "b"}, 200.0) == {"staff": Refusal("b", 200.0, "again")}


def test_a_person_is_told_until_when() -> None:
    assert "not asked again before 1970-01-01 02:00 UTC" in told("It refuses.", 3600.0)
