"""Consent rules of the reference assistant: what may be in the bucket, under any order of events and any crash."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.assistant import conversation, export
from examples.assistant.conversation import (
    CONSENT_VERSION,
    Conversation,
    OtherPersonError,
    Turn,
    is_token,
    new_token,
)
from examples.assistant.store import Entry, ExistsError, NotFoundError

TOKEN = new_token()


class CrashError(BaseException):
    """The process ends here."""


class Objects:
    """A strongly consistent bucket in memory, as GCS and S3 are; ``before`` runs ahead of each of its calls."""

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}
        self.before: Callable[[], None] = lambda: None

    def each(self, prefix: str) -> Iterator[Entry]:
        yield from self.list(prefix)

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


ANN, BOB = "https://sso.example#7b1c2d3e", "https://sso.example#0b0b0b0b"
_NAMES = {ANN: "ann", BOB: "bob", None: "nobody"}
_STEPS = st.tuples(st.sampled_from([ANN, BOB, None]), st.sampled_from(["agree", "withdraw", "ask", "look"]))


def _step(store: Objects, person: str | None, event: str) -> list[str]:
    session = Conversation(store, TOKEN, person)
    if event == "ask":
        session.append(Turn(_NAMES[person], "answer"), session.state())
    elif event != "look":
        session.decide(event == "agree", CONSENT_VERSION)
    return [t.question for t in session.turns(session.state())]


@given(st.lists(_STEPS, max_size=10))
def test_a_token_opens_a_persons_conversation_to_that_person_only(steps: list[tuple[str | None, str]]) -> None:
    store = Objects()
    owner: str | None = None
    for person, event in steps:
        if owner not in (None, person):
            before = dict(store.held)
            with pytest.raises(OtherPersonError):
                _step(store, person, event)
            assert store.held == before
            continue
        decided = sum("consent-" in n for n in store.held)
        shown = _step(store, person, event)
        if sum("consent-" in n for n in store.held) > decided:
            owner = person
        assert set(shown) <= {_NAMES[owner], "nobody"}
    assert not any(ANN in n or BOB in n or b"7b1c2d3e" in d for n, d in store.held.items())


@given(st.integers(0, 12))
def test_of_two_who_agree_at_once_with_one_token_one_has_the_conversation(call: int) -> None:
    store = Objects()

    def bob() -> None:
        store.before = lambda: None
        with suppress(OtherPersonError):
            _step(store, BOB, "agree")

    store.before = At(call, bob)
    won = True
    try:
        _step(store, ANN, "agree")
    except OtherPersonError:
        won = False
    store.before = lambda: None
    for person, allowed in ((ANN, won), (BOB, not won)):
        if allowed:
            assert Conversation(store, TOKEN, person).state().recording
        else:
            with pytest.raises(OtherPersonError):
                Conversation(store, TOKEN, person).state()
    assert len({json.loads(d)["person"] for d in store.held.values()}) == 1


def test_two_conversations_of_a_person_do_not_show_it() -> None:
    store = Objects()
    for token in (TOKEN, new_token()):
        Conversation(store, token, ANN).decide(True, CONSENT_VERSION)
    assert len({json.loads(d)["person"] for d in store.held.values()}) == 2


def _exported(store: Objects) -> list[dict[str, Any]]:
    return [json.loads(line) for batch in export.lines(store) for line in batch.splitlines()]


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["agree", "withdraw", "ask"])), max_size=30))
def test_an_export_holds_what_its_users_see(events: list[tuple[int, str]]) -> None:
    store = Objects()
    store.held["knowledge/a.md"] = store.held["conversations/readme"] = b"no conversation"
    sessions = [Conversation(store, c * 43) for c in "abc"]
    for who, event in events:
        if event == "ask":
            sessions[who].append(Turn(f"{who}\n", "ä"), sessions[who].state())
        else:
            sessions[who].decide(event == "agree", CONSENT_VERSION)
    found = _exported(store)
    assert [f["name"] for f in found] == sorted(f["name"] for f in found)
    for session in sessions:
        mine = [f for f in found if session.id in f["name"]]
        assert [f["question"] for f in mine] == [t.question for t in session.turns(session.state())]
        assert all(f["name"] in store.held for f in mine)
    assert all(f.keys() == {"name", "time", "question", "answer", "sources"} for f in found)


def test_an_export_reads_no_further_than_it_is_asked_for() -> None:
    store = Objects()
    _decide(store, True)
    for n in range(3 * export.BATCH_TURNS):
        _ask(store, str(n))
    calls = 0

    def count() -> None:
        nonlocal calls
        calls += 1

    store.before = count
    batches = export.lines(store)
    assert calls == 0
    sizes = []
    for batch in batches:
        sizes.append(batch.count(b"\n"))
        # Two listings and the decision, then a batch of turns at a time.
        assert calls == 3 + sum(sizes)
    assert sizes == [export.BATCH_TURNS] * 3


def test_what_a_crash_left_of_a_withdrawn_conversation_is_not_exported() -> None:
    store = Objects()
    _decide(store, True)
    _ask(store, "early")
    left = {n: d for n, d in store.held.items() if "consent-" not in n}
    _decide(store, False)
    store.held |= left
    assert _exported(store) == []
