"""What a run has sealed so far: a run that died is resumed, and the shards of a large one find each other's work.

``<tenant>/journals/<seq>-<share>-<seconds since 1970>-<random>`` lists entries whose packs are written; ``seq`` is the
slot that the run means to commit. A journal only saves work: whoever uses it checks name and version against its own
listing, and a journal that is missing, damaged or stale costs no more than sealing again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from domicile.backup import manifest
from domicile.backup.errors import IntegrityError, TooLargeError
from domicile.backup.manifest import Entry
from domicile.backup.snapshot import Scope, new_name, put
from domicile.backup.stores.base import Bucket, NotFoundError

# An older one would save little any more; of what it names pruning spares everything until its slot is taken (prune).
MAX_AGE = timedelta(hours=24)
_NAME = re.compile(r"(\d{10})-(\d+of\d+)-(\d{10})-([0-9a-f]{32}|done)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Share:
    """The part of a run that one of ``count`` workers does; ``index`` counts from 0."""

    index: int
    count: int

    def __str__(self) -> str:
        return f"{self.index}of{self.count}"


WHOLE = Share(0, 1)


class _Chapter(NamedTuple):
    first: str
    last: str
    name: str


class Journal:
    """The journals of the run that means to commit slot ``seq`` under ``epoch``, of what it reads from ``source``."""

    def __init__(
        self,
        replica: Bucket,
        scope: Scope,
        seq: int,
        epoch: int,
        share: Share,
        clock: Callable[[], datetime],
        source: str = "",
    ) -> None:
        self._replica = replica
        self._scope = scope
        self._seq = seq
        self._epoch = epoch
        self._share = share
        self._clock = clock
        self._folder = f"{scope.tenant}/journals/"
        # Another bucket may have the same versions for other bytes.
        self._bound = f"{seq} {source}"
        self._known: set[str] = set()
        self._unread: list[str] = []
        self._chapters: list[_Chapter] = []
        self._held: list[tuple[str, dict[str, Entry]]] = []
        self.done: set[str] = set()

    def write(self, entries: Sequence[Entry]) -> None:
        """Record entries whose packs are all written, in order of names."""
        try:
            plain = manifest.encode_entries(entries)
        except TooLargeError:
            half = len(entries) // 2
            if not half:
                raise
            self.write(entries[:half])
            self.write(entries[half:])
            return
        name = f"{self._seq:010d}-{self._share}-{int(self._clock().timestamp()):010d}-{new_name()}"
        sealed = self._scope.seal("journal", name, self._bound, self._epoch, plain)
        put(self._replica, self._folder + name, sealed)

    def finish(self) -> None:
        """Say that this share's work is all recorded."""
        now = int(self._clock().timestamp())
        put(self._replica, f"{self._folder}{self._seq:010d}-{self._share}-{now:010d}-done", b"")

    def refresh(self) -> bool:
        """Look for journals that came since; True where one did. Raises StoreError."""
        before = len(self._known)
        oldest = (self._clock() - MAX_AGE).timestamp()
        for info in self._replica.list(f"{self._folder}{self._seq:010d}-"):
            name = info.name.removeprefix(self._folder)
            match = _NAME.fullmatch(name)
            if match is None or name in self._known or int(match[3]) < oldest:
                continue
            self._known.add(name)
            if match[4] == "done":
                self.done.add(match[2])
            else:
                self._unread.append(name)
        return len(self._known) > before

    def find(self, name: str, version: str) -> Entry | None:
        """The entry of an object at a version, if it was sealed already. Names ascend from call to call."""
        if self._unread:
            for unread in self._unread:
                if entries := self._open(unread):
                    self._chapters.append(_Chapter(min(entries), max(entries), unread))
            self._unread.clear()
            self._chapters.sort(reverse=True)
        while self._chapters and self._chapters[-1].first <= name:
            chapter = self._chapters.pop()
            if chapter.last >= name:
                self._held.append((chapter.last, self._open(chapter.name)))
        self._held = [(last, entries) for last, entries in self._held if last >= name]
        for _, entries in self._held:
            entry = entries.get(name)
            if entry and entry.version == version:
                return entry
        return None

    def _open(self, name: str) -> dict[str, Entry]:
        path = self._folder + name
        try:
            plain = self._scope.open("journal", name, self._bound, self._epoch, self._replica.read(path))
            return {entry.name: entry for entry in manifest.decode_entries(plain, path)}
        except (IntegrityError, NotFoundError):
            return {}
