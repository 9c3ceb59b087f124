"""All recorded conversations of the bucket as JSON lines (https://jsonlines.org), for who administers the tenant."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from .conversation import PREFIX, Recorded
from .store import Store

BATCH_TURNS = 8

_SESSION = re.compile(rf"{PREFIX}([0-9a-f]{{64}})/")


def lines(store: Store) -> Iterator[bytes]:
    """Batches of lines, one line a turn, by name: {"name", "time", "question", "answer", "sources"}.

    What its user has not agreed to or has withdrawn is left out. Holds one conversation's names and one batch of its
    turns at a time. Raises StoreError.
    """
    found = (_SESSION.match(entry.name) for entry in store.each(PREFIX))
    for session, _ in groupby(match[1] for match in found if match):
        recorded = Recorded(store, session)
        state = recorded.state()
        for start in range(0, len(state.turns), BATCH_TURNS):
            batch = recorded.records(state, state.turns[start : start + BATCH_TURNS])
            if batch:
                yield b"".join(_line(recorded.turn_name(n), record) for n, record in batch.items())


def _line(name: str, record: dict[str, Any]) -> bytes:
    shown = {"name": name, **{field: record[field] for field in ("time", "question", "answer", "sources")}}
    return json.dumps(shown, ensure_ascii=False).encode() + b"\n"
