"""Layout and snapshot against a dict, over long histories of commits and with tiny sizes; no live bucket, no packs."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Event

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domicile.backup import diff, layout, manifest
from domicile.backup.diff import Kept
from domicile.backup.errors import IntegrityError, TooLargeError
from domicile.backup.layout import Layout
from domicile.backup.manifest import Change, Entry, Part, Root
from domicile.backup.sealing import Sealer
from domicile.backup.snapshot import Scope, Snapshot
from domicile.backup.stores.base import Page
from tests.memory_bucket import MemoryBucket
from tests.unit.world import KEY, TENANT, ZONE

SCOPE = Scope(TENANT, ZONE, Sealer(KEY.key_id, KEY.secret))
PACK = "0" * 32
ALPHABET = ["a", "b", "/", "\x01", "ÿ", "￿", "\U00010000", "\U0010ffff"]
NAMES = st.text(ALPHABET, min_size=1, max_size=3)


@pytest.fixture(autouse=True, scope="module")
def tiny() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(diff, "SHARD_OBJECTS", 3)
        patch.setattr(diff, "_RANGE_SHARDS", 1)
        patch.setattr(layout, "SHARD_OBJECTS", 3)
        patch.setattr(layout, "_FOLD_SHARE", 2)
        patch.setattr(layout, "MAX_DELTA_ROWS", 6)
        patch.setattr(manifest, "MAX_OBJECTS", 6)
        yield


def entry(name: str, version: int, parts: int = 1) -> Entry:
    empty = tuple(Part(f"{i:032x}", 0, 0, 1) for i in range(1, parts))
    return Entry(name, str(version), version, version, (Part(PACK, 0, version, 1), *empty))


class History:
    """Commits one state after the other, as a run does whose packs are always written."""

    def __init__(self, page_size: int = 4, parts: int = 1) -> None:
        self.replica = MemoryBucket("two", "replica")
        self.page_size = page_size
        self.parts = parts
        self.last: Snapshot | None = None
        self.seq = 0

    def commit(self, state: Mapping[str, int], *, read_all: bool = False) -> Snapshot:
        self.seq += 1
        with Layout(self.replica, SCOPE, self.seq, 1, self.last) as laid:
            for item in diff.compare(lambda after: self._pages(state, after), self.last, read_all=read_all):
                if isinstance(item, Kept):
                    laid.keep(item.index)
                    continue
                found = [entry(name, int(version), self.parts) for name, version in zip(*item.listed[:2], strict=True)]
                laid.lay(item, found, {each.name: each for each in item.old})
            root = laid.root(Root(TENANT, ZONE, self.seq, 1, None, "", "k1", "one/live", (), (), {}), {})
        data = manifest.encode_root(replace(root, cut_time="2026-01-31T12:00:00.000000Z"))
        self.last = Snapshot(self.replica, SCOPE, manifest.decode_root(data, "root"))
        return self.last

    def _pages(self, state: Mapping[str, int], after: str) -> Iterator[Page]:
        names = sorted(name for name in state if name > after)
        for i in range(0, len(names), self.page_size):
            some = names[i : i + self.page_size]
            yield Page(some, [str(state[n]) for n in some], [state[n] for n in some], [None] * len(some))


def contents(found: Snapshot, prefix: str = "") -> dict[str, int]:
    return {each.name: int(each.version) for shard in found.read(prefix) for each in shard}


CHANGES = st.dictionaries(NAMES, st.none() | st.integers(1, 9), max_size=12)
COMMITS = st.lists(st.tuples(CHANGES, st.booleans()), max_size=12)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.dictionaries(NAMES, st.integers(1, 9), max_size=40),
    st.lists(st.tuples(CHANGES, st.booleans()), max_size=12),
    st.integers(1, 5),
    NAMES,
)
def test_every_commit_holds_what_was_there_and_nothing_else(
    state: dict[str, int], commits: list[tuple[dict[str, int | None], bool]], page_size: int, prefix: str
) -> None:
    history = History(page_size)
    made = [(dict(state), history.commit(state))]
    for changes, read_all in commits:
        state = {name: v for name, v in (state | changes).items() if v is not None}
        made.append((state, history.commit(state, read_all=read_all)))
    for expected, found in made:
        assert contents(found) == expected
        live = sum(entry(name, version).parts[0].length for name, version in expected.items())
        assert {pack: usage.live for pack, usage in found.root.packs.items()} == ({PACK: live} if live else {})
        assert contents(found, prefix) == {n: v for n, v in expected.items() if n.startswith(prefix)}


def test_a_run_that_changes_more_than_a_delta_takes_can_be_read() -> None:
    """Few changes in each of many shards: each shard would keep its own, all together no reader takes."""
    history, state = History(), {f"{i:03}": 1 for i in range(60)}
    history.commit(state)
    state |= {f"{i:03}": 2 for i in range(0, 60, 3)}
    assert contents(history.commit(state)) == state
    assert contents(history.commit(state)) == state


def test_what_is_larger_than_a_reader_takes_is_written_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """As objects of terabytes are, of many parts each."""
    history, state = History(parts=40), {f"{i:02}": 1 for i in range(12)}
    shards = len(History(parts=40).commit(state).root.shards)
    with monkeypatch.context() as patch:
        patch.setattr(manifest, "MAX_PLAINTEXT", 2450)
        found = History(parts=40).commit(state)
        assert contents(found) == state
        assert len(found.root.shards) == 2 * shards
    monkeypatch.setattr(manifest, "MAX_PLAINTEXT", 2750)
    history.commit(state)
    state |= dict.fromkeys(list(state)[::3], 2)
    found = history.commit(state)
    assert contents(found) == state
    assert len(found.root.deltas) == 2
    history.parts = 400
    with pytest.raises(TooLargeError, match="2750"):
        history.commit(state | {"12": 1})


@pytest.mark.parametrize(("name", "version"), [("x" * 1025, "1"), ("\ud800", "1"), ("a", ""), ("a", "v" * 257)])
def test_what_no_reader_would_take_is_not_written(name: str, version: str) -> None:
    unreadable = entry("a", 1)._replace(name=name, version=version)
    with pytest.raises(IntegrityError, match="no snapshot can hold it"):
        manifest.encode_entries([unreadable])
    with pytest.raises(IntegrityError, match="no snapshot can hold it"):
        manifest.encode_changes([Change(name, 1, unreadable)])


def test_a_name_that_is_no_text_is_refused() -> None:
    text = zlib.decompress(manifest.encode_entries([entry("a", 1)])).replace(b'"a"', b'"\\ud800"')
    with pytest.raises(IntegrityError, match="malformed names"):
        manifest.decode_entries(zlib.compress(text), "it")


def test_a_prefix_finds_names_whatever_follows_it() -> None:
    state = dict.fromkeys(["p", "p/", "p\U0010ffff", *(f"p\U0010ffff{i}" for i in range(9)), "q"], 1)
    found = History().commit(state)
    for prefix in ("", "p", "p\U0010ffff", "p\U0010ffff4", "q", "x"):
        assert contents(found, prefix) == {name: 1 for name in state if name.startswith(prefix)}


def test_a_snapshot_whose_store_hangs_delays_no_other() -> None:
    """One process replicates many tenants."""
    hung, other, state = History(), History(), {f"{i}": 1 for i in range(9)}
    for history in (hung, other):
        history.commit(state)
        history.commit(state | {"0": 2})
    reached, released = Event(), Event()

    def hang(operation: str, name: str) -> None:
        if operation == "read" and "/deltas/" in name:
            reached.set()
            released.wait(20)

    hung.replica.before = hang
    with ThreadPoolExecutor(2) as pool:
        try:
            waiting = pool.submit(lambda: hung.last and hung.last.changes)
            assert reached.wait(20)
            assert pool.submit(lambda: other.last and other.last.changes).result(5)
            assert not waiting.done()
        finally:
            released.set()


def test_shards_stay_few_where_old_names_vanish_and_new_ones_come() -> None:
    """As names that begin with a date do: an hour's shards empty, and nobody would ever merge them."""
    history = History()
    for hour in range(60):
        state = {f"{hour + i:03}/{n}": 1 for i in range(4) for n in range(5)}
        found = history.commit(state)
        assert contents(found) == state
        assert len(found.root.shards) <= 12
        assert all(shard.objects for shard in found.root.shards[:-1])
