"""A session's conversation in the live bucket: what the user agreed to, and the turns recorded under it.

Objects, all create-once JSON under ``conversations/<id>/``, where the id is the SHA-256 of the session's token:
a listing of the bucket gives no session away.

    consent-<n:06d>.json   one decision of the user: {"recording", "textVersion", "time", "since", "person", ...}
    <n:06d>.json           one turn: {"question", "answer", "sources", "time", "consent", "hidden", ...}

The newest decision rules. A turn names the decision that it was written under. A withdrawal is recorded before the
turns are deleted, and who wrote a turn looks at the decision once more afterwards: whichever comes last deletes it.
What a crash in between leaves is never shown, and the next withdrawal, or the next agreement after one, deletes it.

Where people log in, a decision names its person, and the token is of no use to anybody else. The name is a hash that
the conversation's id salts: two conversations of a person don't show that they are one person's, unless one knows whom
to look for (as one must, to erase what is kept of somebody).
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from .store import ExistsError, NotFoundError, Store

# The text that the page shows. Give it a new version with every change of meaning: users are then asked again.
CONSENT_VERSION = "2"
FORMAT = 1
PREFIX = "conversations/"
MAX_SHOWN_TURNS = 200

_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")
_OBJECT = re.compile(r"(consent-)?(\d{6})\.json")


def new_token() -> str:
    """A session token that can't be guessed (256 random bits)."""
    return secrets.token_urlsafe(32)


def is_token(value: str | None) -> bool:
    """Whether the value has a session token's form."""
    return value is not None and _TOKEN.fullmatch(value) is not None


@dataclass(frozen=True, slots=True)
class Turn:
    """One question and its answer. ``sources`` are names of knowledge files; ``hidden``: both have placeholders."""

    question: str
    answer: str
    sources: tuple[str, ...] = ()
    hidden: bool = False


@dataclass(frozen=True, slots=True)
class Consent:
    """One decision. ``since`` is the number of the first decision of the unbroken run of agreements that it ends.

    ``person``: hash of who decided, None where nobody had logged in.
    """

    number: int
    recording: bool
    text_version: str
    since: int
    person: str | None

    @property
    def covers_new_turns(self) -> bool:
        """Whether turns may be recorded: the user agreed, and to the present text."""
        return self.recording and self.text_version == CONSENT_VERSION


@dataclass(frozen=True, slots=True)
class State:
    """What the bucket holds of a session: the newest decision and the numbers of all turns, ascending.

    ``person``: hash of who looks, None where nobody has logged in.
    """

    consent: Consent | None
    turns: tuple[int, ...]
    person: str | None = None

    @property
    def recording(self) -> bool:
        """Whether turns may be recorded now: under a decision of who looks."""
        return self.consent is not None and self.consent.covers_new_turns and self.consent.person == self.person


class OtherPersonError(Exception):
    """The session's conversation is another person's."""


class Recorded:
    """What the bucket holds of one session. Every method raises StoreError where the store fails."""

    def __init__(self, store: Store, session: str) -> None:
        self._store = store
        self.id = session
        self._prefix = f"{PREFIX}{session}/"

    def state(self) -> State:
        """Read the newest decision and list the turns."""
        decisions, turns = self._numbers()
        if not decisions:
            return State(None, tuple(turns))
        record = json.loads(self._store.read(self._consent_name(decisions[-1])))
        consent = Consent(
            decisions[-1], record["recording"], record["textVersion"], record["since"], record.get("person")
        )
        return State(consent, tuple(turns))

    def records(self, state: State, numbers: Sequence[int]) -> dict[int, dict[str, Any]]:
        """The turns of these numbers as they were written; none that the user has not agreed to, or has withdrawn."""
        consent = state.consent
        if consent is None or not consent.recording:
            return {}
        with ThreadPoolExecutor(max_workers=8) as pool:
            found = zip(numbers, pool.map(self._read_turn, numbers), strict=True)
            return {n: r for n, r in found if r is not None and r["consent"] >= consent.since}

    def turn_name(self, number: int) -> str:
        """Name of the turn's object."""
        return f"{self._prefix}{number:06d}.json"

    def _read_turn(self, number: int) -> dict[str, Any] | None:
        try:
            record: dict[str, Any] = json.loads(self._store.read(self.turn_name(number)))
        except NotFoundError:
            return None
        return record

    def _numbers(self) -> tuple[list[int], list[int]]:
        decisions: list[int] = []
        turns: list[int] = []
        for entry in self._store.list(self._prefix):
            found = _OBJECT.fullmatch(entry.name.removeprefix(self._prefix))
            if found:
                (decisions if found[1] else turns).append(int(found[2]))
        return sorted(decisions), sorted(turns)

    def _consent_name(self, number: int) -> str:
        return f"{self._prefix}consent-{number:06d}.json"


class Conversation(Recorded):
    """One session's part of the bucket, for who holds its token.

    ``person``: who that is, where people log in. Whatever reads the state raises OtherPersonError where somebody else,
    or nobody in particular, comes with the token of a person's conversation.
    """

    def __init__(self, store: Store, token: str, person: str | None = None) -> None:
        super().__init__(store, hashlib.sha256(b"assistant session\0" + token.encode()).hexdigest())
        # Of its own, so that neither the bucket nor the gateway's store tells the other's.
        self.topic = hashlib.sha256(b"assistant placeholders\0" + token.encode()).hexdigest()
        """What the gateway knows the conversation by."""
        self._person = None if person is None else _person_hash(self.id, person)

    def state(self) -> State:
        """Read the newest decision and list the turns. Raises OtherPersonError."""
        state = super().state()
        # What was recorded before people had to log in belongs to who holds its token, as it did then. Nothing more is
        # recorded there until somebody agrees, and it is theirs from then on.
        bound_to = state.consent.person if state.consent else None
        if bound_to is not None and bound_to != self._person:
            raise OtherPersonError
        return replace(state, person=self._person)

    def decide(self, recording: bool, text_version: str) -> State:
        """Record the decision. A withdrawal deletes all turns; with no agreement before it, it writes nothing."""
        state = self.state()
        before = state.consent
        if before is None and not recording:
            return state
        wanted = (recording, text_version, self._person)
        if before is None or (before.recording, before.text_version, before.person) != wanted:
            try:
                self._record(before, recording, text_version)
            except ExistsError:
                # Another request of the session decided meanwhile: ours is the later one.
                return self.decide(recording, text_version)
        if not recording:
            self._delete_turns()
        return self.state()

    def _record(self, before: Consent | None, recording: bool, text_version: str) -> None:
        if before is not None and not before.recording:
            self._delete_turns()
        number = before.number + 1 if before else 1
        record = {
            "recording": recording,
            "textVersion": text_version,
            "since": before.since if before and before.recording and recording else number,
            **({} if self._person is None else {"person": self._person}),
        }
        self._store.create(self._consent_name(number), _object(record))

    def append(self, turn: Turn, state: State) -> bool:
        """Write a turn under the decision that its question was asked under; True once it is durable.

        False, and nothing kept, where recording was not agreed to, or the user decided otherwise meanwhile.
        """
        if not state.recording or state.consent is None:
            return False
        data = _object(
            {
                "question": turn.question,
                "answer": turn.answer,
                "sources": list(turn.sources),
                "consent": state.consent.number,
                **({"hidden": True} if turn.hidden else {}),
            }
        )
        number = max(state.turns, default=0) + 1
        while True:
            try:
                self._store.create(self.turn_name(number), data)
                break
            except ExistsError:
                number += 1
        if self.state().consent == state.consent:
            return True
        self._store.delete(self.turn_name(number))
        return False

    def turns(self, state: State, limit: int = MAX_SHOWN_TURNS) -> list[Turn]:
        """The newest recorded turns, oldest first; none where the user has not agreed or has withdrawn."""
        records = self.records(state, state.turns[-limit:]).values()
        return [Turn(r["question"], r["answer"], tuple(r["sources"]), r.get("hidden", False)) for r in records]

    def _delete_turns(self) -> None:
        for number in self._numbers()[1]:
            self._store.delete(self.turn_name(number))


def _person_hash(session: str, person: str) -> str:
    return hashlib.sha256(f"assistant person\0{session}\0{person}".encode()).hexdigest()


def _object(record: dict[str, Any]) -> bytes:
    time = datetime.now(UTC).isoformat(timespec="milliseconds")
    return json.dumps(
        {"format": FORMAT, "time": time, **record, "writeId": secrets.token_hex(16)}, ensure_ascii=False
    ).encode()
