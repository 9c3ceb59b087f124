"""Compare a listing with the last snapshot, shard by shard and in bounded memory.

A shard that the listing repeats is recognised by one digest and never read; of any other one the entries are fetched,
some shards ahead.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from queue import SimpleQueue
from threading import BoundedSemaphore, Event

from domicile.backup.manifest import Entry, Shard, rows_digest
from domicile.backup.snapshot import Snapshot
from domicile.backup.stores.base import ObjectInfo, Page

SHARD_OBJECTS = 1024
_AHEAD = 8
_RANGES = 8
_RANGE_SHARDS = 4
_HELD_GROUPS = 8


@dataclass(frozen=True, slots=True)
class Kept:
    """A shard that the listing repeats."""

    index: int
    shard: Shard


@dataclass(slots=True)
class Group:
    """Listed objects whose names follow ``after``, up to ``until`` or the shard's end, and what was there before.

    ``index`` is the last snapshot's shard, None where there was none. ``whole`` says that it is all of that shard;
    of a shard that has grown much there are several groups.
    """

    index: int | None
    after: str
    until: str | None
    whole: bool
    listed: Page
    old: list[Entry] = field(default_factory=list)


Pages = Callable[[str], Iterator[Page]]
"""Lists the objects behind a name."""


def compare(pages: Pages, last: Snapshot | None, *, read_all: bool = False) -> Generator[Kept | Group, None, None]:
    """What the listing means for each shard of ``last``, in order of names. Raises what reading and listing raise.

    With ``read_all`` no shard is kept without a look at its entries.
    """
    shards = last.root.shards if last else ()
    if last is None or not shards:
        yield from _fresh(_Buffer(pages("")))
        return
    count = max(1, min(_RANGES, len(shards) // _RANGE_SHARDS))
    bounds = [len(shards) * i // count for i in range(count + 1)]
    ranges = [partial(_raw, pages, shards, a, b, read_all=read_all) for a, b in pairwise(bounds)]
    with closing(_at_once(ranges)) as items, ThreadPoolExecutor(_AHEAD) as pool:
        waiting: deque[tuple[Kept | Group, Future[list[Entry]] | None]] = deque()
        try:
            for item in items:
                read = (
                    pool.submit(last.entries, item.index)
                    if isinstance(item, Group) and item.index is not None
                    else None
                )
                waiting.append((item, read))
                while len(waiting) > _AHEAD or (waiting and waiting[0][1] is None):
                    yield _resolved(*waiting.popleft())
            while waiting:
                yield _resolved(*waiting.popleft())
        finally:
            for _, read in waiting:
                if read:
                    read.cancel()


def _fresh(buffer: _Buffer) -> Iterator[Group]:
    after, whole = "", False
    while not whole:
        listed, whole = buffer.take(None, SHARD_OBJECTS)
        yield Group(None, after, None, whole, listed)
        after = listed.names[-1] if listed.names else after


def _at_once(ranges: Sequence[Callable[[], Iterator[Kept | Group]]]) -> Generator[Kept | Group, None, None]:
    """The items of all ranges in order, while all of them are listed at the same time."""
    stop = Event()
    running = [_Range(items, stop) for items in ranges]
    with ThreadPoolExecutor(len(running)) as pool:
        try:
            for each in running:
                pool.submit(each.produce)
            for each in running:
                yield from each.items()
        finally:
            stop.set()


class _Range:
    """One range of a listing, read by a thread of its own; of its groups, which are large, a few are held."""

    def __init__(self, source: Callable[[], Iterator[Kept | Group]], stop: Event) -> None:
        self._source = source
        self._stop = stop
        self._queue: SimpleQueue[Kept | Group | BaseException | None] = SimpleQueue()
        self._room = BoundedSemaphore(_HELD_GROUPS)

    def produce(self) -> None:
        try:
            for item in self._source():
                while isinstance(item, Group) and not self._room.acquire(timeout=0.2):
                    if self._stop.is_set():
                        return
                if self._stop.is_set():
                    return
                self._queue.put(item)
            self._queue.put(None)
        except BaseException as error:  # noqa: BLE001  it is raised where the items are taken
            self._queue.put(error)

    def items(self) -> Iterator[Kept | Group]:
        while (item := self._queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            if isinstance(item, Group):
                self._room.release()
            yield item


def _raw(pages: Pages, shards: tuple[Shard, ...], first: int, end: int, *, read_all: bool) -> Iterator[Kept | Group]:
    buffer = _Buffer(pages(shards[first].after))
    for index in range(first, end):
        shard = shards[index]
        until = shards[index + 1].after if index + 1 < len(shards) else None
        listed, whole = buffer.take(until, 4 * SHARD_OBJECTS)
        same = whole and len(listed.names) == shard.objects and shard.rows == rows_digest(*listed[:3])
        if same and not read_all:
            yield Kept(index, shard)
            continue
        after = shard.after
        while True:
            yield Group(index, after, None if whole else listed.names[-1], whole and after == shard.after, listed)
            if whole:
                break
            after = listed.names[-1]
            listed, whole = buffer.take(until, SHARD_OBJECTS)


def _resolved(item: Kept | Group, read: Future[list[Entry]] | None) -> Kept | Group:
    if isinstance(item, Group) and read:
        old = read.result()
        names = [entry.name for entry in old]
        end = len(names) if item.until is None else bisect_right(names, item.until)
        item.old = old[bisect_right(names, item.after) : end]
    return item


class _Buffer:
    """Pages of a listing, taken by names instead of by pages."""

    def __init__(self, pages: Iterator[Page]) -> None:
        self._pages = pages
        self._held = Page([], [], [], [])
        self._ended = False

    def take(self, until: str | None, limit: int) -> tuple[Page, bool]:
        """At most ``limit`` objects of names up to ``until``, and whether these are all up to there."""
        while not self._ended and len(self._held.names) <= limit and (until is None or not self._beyond(until)):
            page = next(self._pages, None)
            if page is None:
                self._ended = True
            else:
                self._held = self._held.and_then(page)
        names = self._held.names
        end = len(names) if until is None else bisect_right(names, until)
        cut = min(end, limit)
        taken, self._held = self._held.cut(0, cut), self._held.cut(cut)
        return taken, cut == end and (self._ended or until is not None)

    def _beyond(self, until: str) -> bool:
        return bool(self._held.names) and self._held.names[-1] > until


def infos(page: Page, indexes: Iterable[int]) -> list[ObjectInfo]:
    """Some of a page's objects."""
    return [ObjectInfo(page.names[i], page.versions[i], page.sizes[i], page.crcs[i]) for i in indexes]
