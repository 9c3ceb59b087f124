"""The reconcile queue: one key for each object, coalesced, never worked on twice at once, with back-off per key.

``Schedule`` decides what is due; it holds no clock and no tasks. ``ReconcileQueue`` runs it with a number of workers.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple, Protocol

log = logging.getLogger(__name__)

FIRST_BACKOFF: Final = 1.0
LONGEST_BACKOFF: Final = 300.0


class Key(NamedTuple):
    """What is reconciled: an object of one of our kinds."""

    kind: str
    name: str


class Schedule:
    """When each key is due. Times are seconds on any monotonic clock, given by the caller."""

    def __init__(
        self,
        *,
        first: float = FIRST_BACKOFF,
        longest: float = LONGEST_BACKOFF,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Back-off doubles from ``first`` to ``longest`` seconds; ``jitter`` (0 to 1) spreads it by a quarter."""
        self._first = first
        self._longest = longest
        self._jitter = jitter
        self._due: dict[Key, float] = {}
        self._heap: list[tuple[float, int, Key]] = []
        self._order = 0
        self._working: set[Key] = set()
        self._failures: dict[Key, int] = {}

    @property
    def waiting(self) -> int:
        """Number of keys that wait, due or not."""
        return len(self._due)

    @property
    def working(self) -> int:
        """Number of keys that are being worked on."""
        return len(self._working)

    def failures(self, key: Key) -> int:
        """How many times in a row the key has failed."""
        return self._failures.get(key, 0)

    def add(self, key: Key, now: float, after: float = 0.0) -> None:
        """Something happened to the key: it is due in ``after`` seconds, or earlier if it was already.

        A failing key waits ``first`` seconds at least, for its own status write is an event, too.
        """
        after = max(after, self._first) if key in self._failures else after
        if now + after < self._due.get(key, float("inf")):
            self._set(key, now + after)

    def resync(self, key: Key, now: float, after: float = 0.0) -> None:
        """Nothing is known to have happened: due in ``after`` seconds unless the key waits or is worked on already."""
        if key not in self._due and key not in self._working:
            self._set(key, now + after)

    def take(self, now: float) -> Key | None:
        """The key that has been due for longest and is not being worked on; it counts as worked on until ``done``."""
        while self._heap and self._heap[0][0] <= now:
            due, _, key = heapq.heappop(self._heap)
            if self._due.get(key) != due or key in self._working:
                continue
            del self._due[key]
            self._working.add(key)
            return key
        return None

    def done(self, key: Key, now: float, *, failed: bool, after: float | None = None) -> None:
        """Work on the key ended. It is due again by back-off where it failed, else in ``after`` seconds if given."""
        self._working.discard(key)
        if failed:
            self._failures[key] = self._failures.get(key, 0) + 1
            after = self._backoff(self._failures[key])
        else:
            self._failures.pop(key, None)
        # What happened meanwhile was only noted, for the key was in work.
        noted = self._due.pop(key, None)
        if failed and noted is not None:
            noted = max(noted, now + self._first)
        due = min((t for t in (noted, None if after is None else now + after) if t is not None), default=None)
        if due is not None:
            self._set(key, due)

    def due_in(self, now: float) -> float | None:
        """Seconds until a key is due that is not being worked on, at least 0; None while nothing waits."""
        while self._heap:
            due, _, key = self._heap[0]
            if self._due.get(key) == due and key not in self._working:
                return max(0.0, due - now)
            heapq.heappop(self._heap)
        return None

    def _backoff(self, failures: int) -> float:
        doubled = self._first * 2.0 ** min(failures - 1, 30)
        return min(self._longest, max(self._first, doubled * (0.75 + 0.5 * self._jitter())))

    def _set(self, key: Key, due: float) -> None:
        self._due[key] = due
        if key not in self._working:
            self._order += 1
            heapq.heappush(self._heap, (due, self._order, key))


class Observer(Protocol):
    """Told of each reconcile."""

    def reconciled(self, kind: str, seconds: float, error: str | None) -> None:
        """A reconcile of a kind took so long; ``error`` is the class name of what it raised."""

    def depth(self, waiting: int, working: int) -> None:
        """How many keys wait and how many are in work."""


class ReconcileQueue:
    """Workers that reconcile what is due."""

    def __init__(
        self,
        reconcile: Callable[[str, str], Awaitable[float | None]],
        *,
        workers: int,
        observer: Observer,
        expected: tuple[type[Exception], ...] = (),
        schedule: Schedule | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``reconcile(kind, name)`` returns seconds until the object wants to be looked at again, or None.

        Errors of the ``expected`` kinds are logged by their message, all others with their traceback.
        """
        self._reconcile = reconcile
        self._workers = workers
        self._observer = observer
        self._expected = expected
        self._schedule = schedule or Schedule()
        self._clock = clock
        self._wake = asyncio.Event()
        self._progress = clock()

    def add(self, kind: str, name: str, after: float = 0.0) -> None:
        """Something happened to an object: reconcile it in ``after`` seconds at the latest."""
        self._schedule.add(Key(kind, name), self._clock(), after)
        self._wake.set()

    def resync(self, kind: str, name: str, after: float = 0.0) -> None:
        """Reconcile an object in ``after`` seconds unless it waits or is in work already."""
        self._schedule.resync(Key(kind, name), self._clock(), after)
        self._wake.set()

    def stuck_seconds(self) -> float:
        """For how long a key has been due without any worker beginning or ending; 0 while nothing is due."""
        now = self._clock()
        return now - self._progress if self._schedule.due_in(now) == 0 else 0.0

    async def run(self) -> None:
        """Work until cancelled; what is in work is cancelled, too."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._wake.clear()
                while self._schedule.working < self._workers:
                    key = self._schedule.take(self._clock())
                    if key is None:
                        break
                    self._progress = self._clock()
                    group.create_task(self._work(key))
                self._observer.depth(self._schedule.waiting, self._schedule.working)
                await self._sleep()

    async def _sleep(self) -> None:
        free = self._schedule.working < self._workers
        try:
            async with asyncio.timeout(self._schedule.due_in(self._clock()) if free else None):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _work(self, key: Key) -> None:
        begun = self._clock()
        after: float | None = None
        error: str | None = None
        try:
            after = await self._reconcile(key.kind, key.name)
        except Exception as e:
            error = type(e).__name__
            known = isinstance(e, self._expected)
            log.warning("%s %s: %s: %s", key.kind, key.name, error, e, exc_info=None if known else e)
        now = self._clock()
        self._progress = now
        self._observer.reconciled(key.kind, now - begun, error)
        self._schedule.done(key, now, failed=error is not None, after=after)
        self._wake.set()
