"""Consent rules of the reference assistant: what may be in the bucket, under any order of events and any crash."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.assistant import conversation
from examples.assistant.conversation import CONSENT_VERSION, Conversation, Turn, is_token, new_token
from examples.assistant.store import Entry, ExistsError, NotFoundError

TOKEN = new_token()


class CrashError(BaseException):
    """The process ends here."""


class Objects:
    """A strongly consistent bucket in memory, as GCS and S3 are; ``before`` runs ahead of each of its calls."""

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}
        self.before: Callable[[], None] = lambda: None

    def list(self, prefix: str) -> list[Entry]:
        self.before()
        return [Entry(n, "1", len(d)) for n, d in sorted(self.held.items()) if n.startswith(prefix)]

    def read(self, name: str) -> bytes:
        self.before()
        if name not in self.held:
            raise NotFoundError
        return self.held[name]

    def create(self, name: str, data: bytes) -> None:
        self.before()
        if name in self.held:
            raise ExistsError
        self.held[name] = data

    def delete(self, name: str) -> None:
        self.before()
        self.held.pop(name, None)


def _turns(store: Objects) -> list[dict[str, Any]]:
    return [json.loads(d) for n, d in store.held.items() if "consent-" not in n]


class At:
    """Runs an action once, ahead of the store's call number ``call``."""

    def __init__(self, call: int, action: Callable[[], None]) -> None:
        self.left, self.action = call, action

    def __call__(self) -> None:
        self.left -= 1
        if self.left == -1:
            self.action()


def _crash() -> None:
    raise CrashError


def _ask(store: Objects, question: str) -> bool:
    session = Conversation(store, TOKEN)
    return session.append(Turn(question, "answer", ("a.md",)), session.state())


def _decide(store: Objects, recording: bool) -> None:
    Conversation(store, TOKEN).decide(recording, CONSENT_VERSION)


_EVENTS = st.lists(st.sampled_from(["agree", "withdraw", "ask"]), max_size=12)


@given(_EVENTS)
def test_the_bucket_holds_the_turns_of_the_present_agreement_and_no_others(events: list[str]) -> None:
    store = Objects()
    agreed, expected = False, list[str]()
    for n, event in enumerate(events):
        if event == "ask":
            assert _ask(store, str(n)) is agreed
            expected += [str(n)] if agreed else []
        else:
            agreed = event == "agree"
            _decide(store, agreed)
            expected = expected if agreed else []
        assert sorted(t["question"] for t in _turns(store)) == sorted(expected)
        session = Conversation(store, TOKEN)
        assert [t.question for t in session.turns(session.state())] == expected
        assert session.state().recording is agreed
    if "agree" not in events:
        assert store.held == {}


@given(st.integers(0, 12), st.lists(st.sampled_from(["agree", "withdraw", "ask"]), min_size=1, max_size=3))
def test_a_turn_in_flight_never_outlives_a_withdrawal(call: int, meanwhile: list[str]) -> None:
    """Other requests of the session run ahead of any one store call of a request that writes a turn."""
    store = Objects()
    _decide(store, True)

    def others() -> None:
        store.before = lambda: None
        for event in meanwhile:
            if event == "ask":
                _ask(store, "other")
            else:
                _decide(store, event == "agree")

    session = Conversation(store, TOKEN)
    state = session.state()
    store.before = At(call, others)
    recorded = session.append(Turn("early", "answer"), state)
    before_done = store.before.left >= 0 if isinstance(store.before, At) else False
    found = [t["question"] for t in _turns(store)].count("early")
    if before_done or "withdraw" not in meanwhile:
        assert (recorded, found) == (True, 1)
    else:
        assert found == 0


@given(st.integers(0, 12))
def test_a_withdrawal_deletes_a_turn_written_meanwhile(call: int) -> None:
    store = Objects()
    _decide(store, True)
    _ask(store, "first")
    late = Conversation(store, TOKEN)
    state = late.state()

    def write() -> None:
        store.before = lambda: None
        late.append(Turn("late", "answer"), state)

    store.before = At(call, write)
    _decide(store, False)
    store.before = lambda: None
    assert _turns(store) == []


@given(st.sampled_from(["ask", "withdraw"]), st.integers(0, 12), st.booleans())
def test_what_a_crash_leaves_is_not_shown_after_a_withdrawal_and_goes_with_the_next_decision(
    crashing: str, call: int, again: bool
) -> None:
    store = Objects()
    _decide(store, True)
    assert _ask(store, "acknowledged")
    store.before = At(call, _crash)
    try:
        if crashing == "ask":
            _ask(store, "broken off")
        else:
            _decide(store, False)
    except CrashError:
        pass
    store.before = lambda: None
    session = Conversation(store, TOKEN)
    state = session.state()
    shown = [t.question for t in session.turns(state)]
    assert shown[:1] == (["acknowledged"] if state.recording else [])
    _decide(store, False)
    assert _turns(store) == []
    if again:
        _decide(store, True)
        assert session.turns(session.state()) == []


def test_a_left_turn_of_an_earlier_agreement_is_neither_shown_nor_kept() -> None:
    store = Objects()
    _decide(store, True)
    _ask(store, "early")
    left = {n: d for n, d in store.held.items() if "consent-" not in n}
    _decide(store, False)
    store.held |= left
    session = Conversation(store, TOKEN)
    assert session.turns(session.state()) == []
    _decide(store, True)
    assert _turns(store) == []
    # As a writer leaves it that ends between its write and its second look, after all that.
    store.held |= left
    assert session.turns(session.state()) == []


def test_a_new_consent_text_stops_recording_and_keeps_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Objects()
    _decide(store, True)
    _ask(store, "early")
    monkeypatch.setattr(conversation, "CONSENT_VERSION", "next")
    session = Conversation(store, TOKEN)
    assert not _ask(store, "unasked")
    assert [t.question for t in session.turns(session.state())] == ["early"]
    assert session.decide(True, "next").recording
    assert _ask(store, "late")
    assert [t.question for t in session.turns(session.state())] == ["early", "late"]


def test_objects_say_when_and_to_what_and_names_tell_no_token() -> None:
    store = Objects()
    _decide(store, True)
    _ask(store, "hello")
    names = sorted(n.rpartition("/")[2] for n in store.held)
    assert names == ["000001.json", "consent-000001.json"]
    assert all(TOKEN not in n for n in store.held)
    consent = json.loads(next(d for n, d in store.held.items() if "consent-" in n))
    assert consent["recording"] is True
    assert consent["textVersion"] == CONSENT_VERSION
    assert consent["time"].endswith("+00:00")


@given(st.text())
def test_only_a_token_is_a_token(value: str) -> None:
    assert not is_token(value) or len(value) == 43
    assert is_token(new_token())
    assert not is_token(None)
