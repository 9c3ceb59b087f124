"""Replication against a model: whatever happens, every committed snapshot restores to what the model says."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from domicile.backup import diff, layout, packing, records, replicate, restore, snapshot
from domicile.backup.errors import BackupError, ConcurrentRunError, FencedError, HeldError
from domicile.backup.journal import Share
from domicile.backup.manifest import Entry
from domicile.backup.replicate import Counts
from domicile.backup.sealing import Sealer
from domicile.backup.snapshot import Scope, Snapshot
from domicile.backup.stores.base import AlreadyExistsError, UnavailableError
from tests.memory_bucket import MemoryBucket
from tests.unit.format_reader import Reader
from tests.unit.world import KEY, TENANT, ZONE, WithoutChecksums, World, contents

# Sizes at which a few hundred bytes already make shared packs, full packs and objects of many parts.
SMALL = {
    packing: {"PACK_BYTES": 400, "LARGE_BYTES": 100, "PART_BYTES": 60},
    restore: {"PACK_BYTES": 150, "LARGE_BYTES": 100},
    diff: {"SHARD_OBJECTS": 3, "_RANGE_SHARDS": 1},
    layout: {"PACK_BYTES": 400, "LARGE_BYTES": 100, "SHARD_OBJECTS": 3, "MAX_DELTA_ROWS": 5, "_FOLD_SHARE": 2},
    replicate: {"JOURNAL_BYTES": 50},
}
ENDS = [n for i in range(2000) if hashlib.sha256((n := f"k/{i}").encode()).digest()[0] == 0]
NAMES = st.sampled_from([*ENDS[:4], "a", "a/b", "a//b", "dir/", "/lead", "ü/ß", "\U0001f600", "zz", " ", "k/0"])
DATA = st.one_of(st.binary(max_size=20), st.integers(0, 400).map(lambda n: bytes([n % 251]) * n))


SIDES = st.sampled_from(["before", "after"])


class CrashError(Exception):
    """The process died here."""


class AtOperation:
    """Runs ``action`` once, at the ``number``-th store operation of the world that ``matching`` names."""

    def __init__(self, world: World, number: int, action: Callable[[], None], side: str, matching: str = "") -> None:
        self._left, self._action, self._matching, self._lock = number, action, matching, threading.Lock()
        self._buckets, self._side = world.buckets, side

    def __enter__(self) -> None:
        for bucket in self._buckets:
            setattr(bucket, self._side, self._count)

    def __exit__(self, *_: object) -> None:
        for bucket in self._buckets:
            bucket.before = bucket.after = lambda *_: None

    def _count(self, operation: str, name: str) -> None:
        if not f"{operation} {name}".startswith(self._matching):
            return
        with self._lock:
            self._left -= 1
            if self._left:
                return
        self._action()


def shrink_sizes(patch: pytest.MonkeyPatch) -> None:
    for module, sizes in SMALL.items():
        for name, value in sizes.items():
            patch.setattr(module, name, value)


class Replication(RuleBasedStateMachine):
    """The model is a dict; ``committed`` is what it was at each commit."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        shrink_sizes(self.patch)
        self.patch.setattr(replicate, "HELD_OBJECTS", 8)
        self.world, self.epoch, self.fenced = World(), 1, False
        self.model: dict[str, bytes] = {}
        self.committed: dict[int, dict[str, bytes]] = {}
        self.late: tuple[int, bytes, dict[str, bytes]] | None = None

    def teardown(self) -> None:
        try:
            for seq, expected in self.committed.items():
                assert self.world.restored(seq) == expected
        finally:
            self.patch.undo()

    @rule(name=NAMES, data=DATA)
    def write(self, name: str, data: bytes) -> None:
        self.world.write(name, data)
        self.model[name] = data

    @rule(start=st.integers(0, 30), count=st.integers(1, 20), data=DATA)
    def write_many(self, start: int, count: int, data: bytes) -> None:
        for i in range(start, start + count):
            self.write(f"m/{i:02}", data)

    @rule(name=NAMES)
    def delete(self, name: str) -> None:
        self.world.live.delete(name)
        self.model.pop(name, None)

    @rule(start=st.integers(0, 30), count=st.integers(1, 20))
    def delete_many(self, start: int, count: int) -> None:
        for i in range(start, start + count):
            self.delete(f"m/{i:02}")

    @rule()
    def another_live_bucket(self) -> None:
        """With the same objects and, as it happens, with versions that the old one had for other bytes."""
        self.world.live = MemoryBucket("one", f"{self.world.live.name}x")
        for name in sorted(self.model):
            self.world.write(name, self.model[name])

    @precondition(lambda self: not self.fenced)
    @rule(full=st.booleans())
    def replicate(self, full: bool) -> None:
        self._run(full=full)

    @precondition(lambda self: not self.fenced)
    @rule()
    def replicate_what_is_meant_to_be(self) -> None:
        """A run is held exactly where too much is gone or changed, and then it is a person's word that lets it go."""
        before = self.world.highest()
        counts = Counts()
        last = len(self.committed.get(before, ()))
        try:
            seq = self.world.replicate(epoch=self.epoch, counts=counts).seq
        except HeldError:
            assert counts.lost + counts.altered >= max(8, last // 2 + 1)
            assert self.world.highest() == before
            self._run()
        else:
            self._commit(seq, self.model)
            gone = [name for name in self.committed.get(before, ()) if name not in self.model]
            assert len(gone) < 8 or len(gone) * 2 <= last or self.fence_was(before)

    def fence_was(self, seq: int) -> bool:
        return seq not in self.committed

    @precondition(lambda self: not self.fenced and self.committed)
    @rule(which=st.randoms(use_true_random=False))
    def distrust(self, which: random.Random) -> None:
        """Nothing that the commit names lies in a pack that was distrusted."""
        known = sorted({part.pack for entry in self._entries() for part in entry.parts})
        bad = frozenset(which.sample(known, which.randint(0, len(known))))
        self._run(distrusted=bad)
        assert bad.isdisjoint(part.pack for entry in self._entries() for part in entry.parts)

    @precondition(lambda self: not self.fenced)
    @rule(index=st.integers(0, 2), number=st.none() | st.integers(1, 30), side=SIDES, lost=st.booleans())
    def share(self, index: int, number: int | None, side: str, lost: bool) -> None:
        """A worker seals a third of what there is, or dies at it; it never commits."""
        before = self.world.highest()
        with self._dying(number or -1, side, lost=lost):
            assert self.world.replicate(epoch=self.epoch, accept_change=True, share=Share(index, 3)) is None
        assert self.world.highest() == before

    @precondition(lambda self: not self.fenced)
    @rule(number=st.integers(1, 60), side=SIDES, lost=st.booleans())
    def crash(self, number: int, side: str, lost: bool) -> None:
        """A crash, or a lost request or answer, at any store operation."""
        before = self.world.highest()
        with self._dying(number, side, lost=lost):
            self.world.replicate(epoch=self.epoch, accept_change=True)
        if (now := self.world.highest()) != before:
            self._commit(now, self.model)

    @precondition(lambda self: not self.fenced)
    @rule()
    def every_answer_comes_twice(self) -> None:
        """A create that had succeeded is sent again by some layer below, and so refused."""

        def refuse(operation: str, _: str) -> None:
            if operation == "create":
                raise AlreadyExistsError("retried")

        for bucket in self.world.buckets:
            bucket.after = refuse
        try:
            self._run()
        finally:
            for bucket in self.world.buckets:
                bucket.after = lambda *_: None

    @precondition(lambda self: not self.fenced and self.late is None)
    @rule()
    def a_commit_is_delayed(self) -> None:
        """Its request is given up by the client and still on its way."""
        with pytest.MonkeyPatch.context() as patch:
            create = self.world.control_two.create

            def delay(name: str, data: bytes) -> None:
                if not name.startswith("commits/"):
                    create(name, data)
                    return
                self.late = int(name[-10:]), data, dict(self.model)
                raise UnavailableError("no answer")

            patch.setattr(self.world.control_two, "create", delay)
            with pytest.raises(UnavailableError):
                self.world.replicate(epoch=self.epoch, accept_change=True)

    @precondition(lambda self: self.late)
    @rule()
    def the_delayed_commit_arrives(self) -> None:
        """It counts if its slot is free, and then its snapshot is whole."""
        assert self.late
        (seq, data, contents), self.late = self.late, None
        with contextlib.suppress(AlreadyExistsError):
            self.world.control_two.create(records.slot_name(TENANT, seq), data)
            self._commit(seq, contents)

    @precondition(lambda self: not self.fenced)
    @rule(number=st.integers(1, 12), name=NAMES, data=st.none() | DATA)
    def change_meanwhile(self, number: int, name: str, data: bytes | None) -> None:
        """Another write while the run reads: each object is in the snapshot as it was before, or as it was after."""
        before = dict(self.model)

        def change() -> None:
            if data is None:
                self.delete(name)
            else:
                self.write(name, data)

        with AtOperation(self.world, number, change, "before", "read "):
            seq = self.world.replicate(epoch=self.epoch, accept_change=True).seq
        found = self.world.restored(seq)
        for each in {*before, *self.model, *found}:
            assert found.get(each) in (before.get(each), self.model.get(each))
        self._commit(seq, found)

    @precondition(lambda self: not self.fenced)
    @rule(lost=st.booleans())
    def concurrent_run(self, lost: bool) -> None:
        """A second run of the same site commits first."""

        def other() -> None:
            self._run()
            if lost:
                raise UnavailableError("lost")

        with AtOperation(self.world, 1, other, "before", "create commits/"), pytest.raises(ConcurrentRunError):
            self.world.replicate(epoch=self.epoch, accept_change=True)

    @precondition(lambda self: not self.fenced)
    @rule(late=st.booleans())
    def take_over(self, late: bool) -> None:
        """The other site fences, between runs or just before a commit; the old writer never commits again."""

        def fence() -> None:
            fence = self.world.fence(self.epoch + 1)
            assert (fence.commit.seq if fence.commit else None) == max(self.committed, default=None)
            assert self.world.fence(self.epoch + 1) == fence

        if late:
            with AtOperation(self.world, 1, fence, "before", "create commits/"), pytest.raises(FencedError):
                self.world.replicate(epoch=self.epoch, accept_change=True)
        else:
            fence()
        self.fenced = True

    @precondition(lambda self: self.fenced)
    @rule()
    def refused(self) -> None:
        calls = len(self.world.replica.calls)
        for epoch in (self.epoch, self.epoch + 1):
            for share in (None, Share(0, 2)):
                with pytest.raises(FencedError, match="taken over"):
                    self.world.replicate(epoch=epoch, share=share)
        assert len(self.world.replica.calls) == calls

    @precondition(lambda self: self.fenced)
    @rule()
    def fail_back(self) -> None:
        self.epoch, self.fenced = self.epoch + 2, False

    @precondition(lambda self: not self.fenced)
    @rule()
    def claim_again(self) -> None:
        """An epoch rises without a fence where the holder renews its claim."""
        self.epoch += 1

    @invariant()
    def the_last_commit_is_whole(self) -> None:
        if not self.committed:
            return
        expected = self.committed[max(self.committed)]
        assert self.world.restored() == expected
        control, replica = self.world.control_two.objects, self.world.replica.objects
        reader = Reader(lambda n: control[n][1], lambda n: replica[n][1], KEY.secret, TENANT, ZONE)
        assert reader.snapshot(self.world.highest()) == expected

    @invariant()
    def the_last_commit_knows_what_it_uses_of_each_pack(self) -> None:
        if not self.committed:
            return
        used: Counter[str] = Counter()
        for entry in self._entries():
            assert len(entry.parts) == 1 or entry.size > packing.PART_BYTES
            if entry.size <= packing.LARGE_BYTES:
                used[entry.parts[0].pack] += entry.parts[0].length
        root = self._last().root
        assert {pack: usage.live for pack, usage in root.packs.items()} == used
        assert all(usage.live <= usage.bytes for usage in root.packs.values())
        assert all(shard.objects for shard in root.shards[:-1])

    def _run(self, **arguments: Any) -> None:
        outcome = self.world.replicate(epoch=self.epoch, accept_change=True, **arguments)
        self._commit(outcome.seq, self.model)

    def _commit(self, seq: int, contents: dict[str, bytes]) -> None:
        assert seq not in self.committed
        self.committed[seq] = dict(contents)

    def _last(self) -> Snapshot:
        scope = Scope(TENANT, ZONE, Sealer(KEY.key_id, KEY.secret))
        commit = records.tip(self.world.control_two, TENANT).commit
        assert commit
        return Snapshot(self.world.replica, scope, snapshot.read_root(self.world.replica, scope, commit))

    def _entries(self) -> list[Entry]:
        return [entry for entries in self._last().read() for entry in entries]

    @contextlib.contextmanager
    def _dying(self, number: int, side: str, *, lost: bool) -> Iterator[None]:
        def die() -> None:
            raise UnavailableError("lost") if lost else CrashError

        with AtOperation(self.world, number, die, side), contextlib.suppress(CrashError, UnavailableError):
            yield


TestReplication = Replication.TestCase
TestReplication.settings = settings(
    max_examples=30, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)
)


@pytest.mark.parametrize("side", ["before", "after"])
def test_a_crash_at_every_store_operation_leaves_the_last_snapshot(side: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shrink_sizes(monkeypatch)
    for number in itertools.count(1):
        world, died = World(), []
        for name in ("a", "b", *ENDS[:2]):
            world.write(name, name.encode() * 9)
        first = world.contents()
        world.replicate()
        world.write("a", b"new")
        world.write("large", b"x" * 250)
        world.live.delete("b")

        def die(died: list[bool] = died) -> None:
            died.append(True)
            raise CrashError

        with AtOperation(world, number, die, side), contextlib.suppress(CrashError):
            world.replicate()
        assert world.restored(1) == first
        assert world.restored() == (world.contents() if world.highest() == 2 else first)
        world.replicate()
        assert world.restored() == world.contents()
        if not died:
            break
    assert number > 12


def test_an_object_that_changes_at_every_try_stands_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.write("hot", b"old")
    world.replicate()
    world.write("hot", b"0")
    world.write("cold", b"still")
    world.live.before = lambda op, name: world.write("hot", name.encode()) if (op, name) == ("read", "hot") else None
    outcome = world.replicate()
    world.live.before = lambda *_: None
    assert (outcome.left, outcome.changed) == (1, 1)
    assert world.restored() == {"hot": b"old", "cold": b"still"}
    assert world.replicate().left == 0
    assert world.restored() == world.contents()


def test_an_object_that_grows_large_while_it_is_read_is_not_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink_sizes(monkeypatch)
    world = World()
    world.write("a", b"")
    world.write("b", b"beside")
    grown = bytes(250)
    with AtOperation(world, 1, lambda: world.write("b", grown), "before", "read b"):
        outcome = world.replicate()
    assert (outcome.changed, outcome.left) == (2, 0)
    assert world.restored() == {"a": b"", "b": grown}


def test_a_run_whose_source_is_gone_ends_soon() -> None:
    world = World()
    for i in range(3000):
        world.write(f"k/{i:04}", bytes(4096))

    def gone(operation: str, _: str) -> None:
        if operation == "read":
            time.sleep(0.02)
            raise UnavailableError("gone")

    world.live.before = gone
    with pytest.raises(UnavailableError, match="gone"):
        world.replicate()
    assert sum(operation == "read" for operation, _ in world.live.calls) < 200


def test_a_run_that_fails_leaves_no_thread_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that lists on keeps the process from ending."""
    shrink_sizes(monkeypatch)
    world = World()
    for i in range(300):
        world.write(f"{i:03}", b"1")
    world.replicate()
    for i in range(300):
        world.write(f"{i:03}", b"2")
    running = threading.active_count()
    world.replica.fail("create", times=9, matching="/packs/")
    with pytest.raises(UnavailableError) as lost:
        world.replicate(accept_change=True)
    assert threading.active_count() == running
    world.replica.before = lambda *_: None
    with pytest.raises(HeldError) as held:
        world.replicate()
    assert threading.active_count() == running
    # Whoever keeps the errors keeps what they were raised in.
    assert lost.value.__traceback__
    assert held.value.__traceback__


def test_a_run_that_is_told_to_stop_commits_nothing() -> None:
    world = World()
    world.write("a", b"1")

    def stop() -> None:
        if any(operation == "create" for operation, _ in world.replica.calls):
            raise BackupError("over")

    with pytest.raises(BackupError, match="over"):
        world.replicate(may_go_on=stop)
    assert world.highest() == 0


def written(world: World) -> int:
    """Bytes of the manifest, in all its parts, that the world's replica holds."""
    return sum(len(data) for name, data in contents(world.replica).items() if "/packs/" not in name)


def test_a_thousandth_of_changes_writes_about_a_thousandth_of_the_manifest() -> None:
    world = World()
    for i in range(20_000):
        world.write(f"k/{i}", b"%d" % i)
    world.replicate()
    whole, before = written(world), world.replica.objects.keys()
    for i in range(20):
        world.write(f"k/{i * 997}", b"new")
    outcome = world.replicate()
    assert (outcome.changed, outcome.objects, outcome.unchanged) == (20, 20_000, False)
    root = next(len(data) for name, (_, data) in world.replica.objects.items() if "/manifests/" in name)
    assert written(world) - whole < whole / 500 + 1.2 * root
    calls = len(world.replica.calls)
    assert world.replicate().unchanged
    assert [name.split("/")[1] for op, name in world.replica.calls[calls:] if op == "read"] == ["manifests"]
    assert world.restored() == world.contents()
    assert before <= world.replica.objects.keys()


def test_a_deletion_ahead_of_many_changes_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink_sizes(monkeypatch)
    world = World()
    for i in range(12):
        world.write(f"k/{i:02}", b"old")
    world.replicate()
    world.live.delete("k/00")
    for i in range(3, 12):
        world.write(f"k/{i:02}", b"new")
    assert world.replicate().objects == 11
    assert world.restored() == world.contents()


def test_another_live_bucket_is_not_compared_by_version() -> None:
    world = World()
    world.write("a", b"one")
    world.replicate()
    world.live = MemoryBucket("one", "other")
    world.write("a", b"two")
    world.replicate()
    assert world.restored() == {"a": b"two"}


def test_an_overwrite_of_equal_size_is_seen_without_checksums() -> None:
    world = World()
    world.live = WithoutChecksums("one", "live")
    world.write("a", b"one")
    world.write("b", b"two")
    world.replicate()
    world.write("a", b"ONE")
    assert world.replicate().changed == 1
    assert world.restored() == {"a": b"ONE", "b": b"two"}
