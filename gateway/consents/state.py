"""What one person has accepted and agreed to, as a value: parsed from a record, and written into the next one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Accepted:
    """The notice that somebody has accepted, when (RFC 3339, UTC), and the age (years) that they declared to be of."""

    version: str
    language: str
    digest: str
    time: str
    age: int | None = None


@dataclass(frozen=True, slots=True)
class Decided:
    """What somebody said of a purpose, when, and of which text."""

    granted: bool
    version: str
    language: str
    digest: str
    time: str


@dataclass(frozen=True, slots=True)
class State:
    """All that somebody has said; nothing at first."""

    accepted: Accepted | None = None
    decided: Mapping[str, Decided] = field(default_factory=dict)


def encode(state: State, time: str, write_id: str) -> bytes:
    """A record (docs/consents.md): whole in itself, so that none needs another."""
    notice = state.accepted and _plain(state.accepted)
    consents = {name: _plain(each) for name, each in sorted(state.decided.items())}
    record = {"format": FORMAT, "time": time, "notice": notice, "consents": consents, "writeId": write_id}
    return json.dumps(record, ensure_ascii=False).encode()


def _plain(said: Accepted | Decided) -> dict[str, Any]:
    return {name: value for name in said.__slots__ if (value := getattr(said, name)) is not None}


def decode(data: bytes) -> State:
    """What a record says. One that can't be read says nothing: nothing is accepted, and nothing agreed to."""
    try:
        record = json.loads(data)
        if record["format"] != FORMAT:
            return State()
        notice = record["notice"]
        consents = {str(name): Decided(**each) for name, each in record["consents"].items()}
        state = State(None if notice is None else Accepted(**notice), consents)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return State()
    return state if _sound(state) else State()


def _sound(state: State) -> bool:
    said: list[Accepted | Decided] = [*state.decided.values(), *([state.accepted] if state.accepted else [])]
    texts = all(
        isinstance(text, str) for each in said for text in (each.version, each.language, each.digest, each.time)
    )
    age = state.accepted.age if state.accepted else None
    return (
        texts
        and all(each.granted in (True, False) for each in state.decided.values())
        and (age is None or type(age) is int)
    )
