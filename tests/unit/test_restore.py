"""Restore: what is damaged, foreign, rolled back or of another key is refused, and nothing wrong is written."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domicile.backup import manifest, packing, records, restore, snapshot
from domicile.backup.errors import (
    BackupError,
    IntegrityError,
    LiveNotEmptyError,
    NoSnapshotError,
    RollbackError,
    WrongKeyError,
)
from domicile.backup.keys import TenantKey
from domicile.backup.sealing import Sealer
from domicile.backup.stores.base import UnavailableError
from tests.memory_bucket import MemoryBucket
from tests.unit.test_replication_model import ENDS, shrink_sizes
from tests.unit.world import DIGEST, KEY, TENANT, ZONE, WithoutChecksums, World, contents


def filled() -> World:
    world = World()
    for name in ("a", "b", *ENDS[:2]):
        world.write(name, name.encode() * 9)
    world.write("large", bytes(range(250)))
    world.replicate()
    return world


def replace(bucket: MemoryBucket, name: str, data: bytes) -> None:
    bucket.objects[name] = (bucket.objects[name][0], data)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["flip", "cut", "swap", "remove"]), st.integers(0, 1 << 32).map(random.Random))
def test_any_damage_is_refused(damage: str, chance: random.Random) -> None:
    with pytest.MonkeyPatch.context() as patch:
        shrink_sizes(patch)
        world = filled()
        bucket = chance.choice([world.replica, world.control_two])
        name = chance.choice(sorted(name for name in bucket.objects if "/journals/" not in name))
        original = bucket.objects[name][1]
        if damage == "flip":
            bit = int(chance.random() * len(original) * 8)
            flipped = bytearray(original)
            flipped[bit // 8] ^= 1 << bit % 8
            replace(bucket, name, bytes(flipped))
        elif damage == "cut":
            replace(bucket, name, original[: int(chance.random() * len(original))])
        elif damage == "swap":
            others = [other for other in sorted(bucket.objects) if bucket.objects[other][1] != original]
            if others:
                replace(bucket, name, bucket.objects[chance.choice(others)][1])
            else:
                replace(bucket, name, original + original)
        else:
            del bucket.objects[name]
        target = MemoryBucket("two", "fresh")
        with pytest.raises(BackupError) as caught:
            world.restore(target)
        if "/packs/" in name:
            assert isinstance(caught.value, IntegrityError)
            assert name.rpartition("/")[2] in str(caught.value)
        assert contents(target).items() <= world.contents().items()
        for known in world.contents():
            assert len(known) < 3 or known not in str(caught.value)
        with pytest.raises(BackupError):
            restore.verify(world.control_two, world.replica, KEY, TENANT, ZONE)


def test_verify_reads_everything_and_writes_nothing() -> None:
    world = filled()
    for bucket in world.buckets:
        bucket.calls.clear()
    done = restore.verify(world.control_two, world.replica, KEY, TENANT, ZONE)
    assert (done.seq, done.objects) == (1, 5)
    assert {op for bucket in world.buckets for op, _ in bucket.calls} == {"read", "list"}
    assert {name for op, name in world.replica.calls if op == "read"} == world.replica.objects.keys()


def test_a_wrong_key_is_told_from_damage_before_anything_is_opened() -> None:
    world = filled()
    for key in (TenantKey("k2", KEY.secret), TenantKey("k1", bytes(32))):
        reads = len(world.replica.calls)
        with pytest.raises(WrongKeyError, match="check the wrapped keys"):
            world.restore(key=key)
        with pytest.raises(WrongKeyError):
            world.replicate(key=key)
        assert len(world.replica.calls) == reads


def test_a_foreign_tenants_snapshot_is_refused() -> None:
    world, other = filled(), "cd" * 16
    for bucket in (world.control_two, world.replica):
        for name in list(bucket.objects):
            bucket.objects[name.replace(TENANT, other)] = bucket.objects[name]
    with pytest.raises(IntegrityError):
        world.restore(tenant=other)
    with pytest.raises(IntegrityError):
        world.restore(zone="us")


def test_rolled_back_slots_are_refused() -> None:
    world = filled()
    world.write("a", b"2")
    world.replicate()
    newest = records.slot_name(TENANT, 2)
    kept = world.control_two.objects.pop(newest)
    with pytest.raises(RollbackError, match="rolled back"):
        world.restore(known_seq=2)
    creates = len(world.replica.calls)
    with pytest.raises(RollbackError, match="restore it"):
        world.replicate()
    assert len(world.replica.calls) == creates
    world.control_two.objects[newest] = kept
    del world.control_two.objects[records.slot_name(TENANT, 1)]
    world.replicate()
    del world.control_two.objects[newest]
    world.replicate()
    world.control_two.objects[records.slot_name(TENANT, 1)] = kept
    with pytest.raises(RollbackError, match="missing"):
        world.restore()


def test_another_commit_in_place_of_the_own_one_is_a_rollback() -> None:
    world = filled()
    theirs = World()
    theirs.replicate()
    name = records.slot_name(TENANT, 1)
    world.control_two.objects[name] = theirs.control_two.objects[name]
    with pytest.raises(RollbackError, match="not the commit that this site made"):
        world.replicate()


def test_the_newest_commit_below_a_fence_is_restored() -> None:
    world = filled()
    fence = world.fence(2)
    assert (fence.seq, fence.commit and fence.commit.seq) == (2, 1)
    assert world.restored() == world.contents()
    assert world.restored(1) == world.contents()
    with pytest.raises(NoSnapshotError, match="is a fence"):
        world.restore(seq=2)
    with pytest.raises(RollbackError):
        world.restore(seq=3)
    with pytest.raises(NoSnapshotError, match="nothing was replicated"):
        World().restore()


def test_a_fence_needs_no_key_and_restores_all_the_same() -> None:
    world = filled()
    assert records.fence(world.control_two, TENANT, 2, None).seq == 2
    assert world.restored() == world.contents()
    assert records.verify_chain(world.control_two, TENANT, Sealer(KEY.key_id, KEY.secret)) == 2


def test_a_restore_goes_on_where_it_stopped() -> None:
    world, target = filled(), MemoryBucket("two", "fresh")
    target.fail("create", matching="large")
    with pytest.raises(UnavailableError):
        world.restore(target)
    there = len(target.objects)
    assert 0 < there < 5
    writes = len(target.calls)
    done = world.restore(target)
    assert (done.skipped, done.objects) == (there, 5)
    assert sum(op == "create" for op, _ in target.calls[writes:]) == 5 - there
    assert contents(target) == world.contents()


@pytest.mark.parametrize(("name", "data"), [("other", b""), ("a", b"else"), ("a", b"A" * 9)])
def test_a_live_bucket_with_something_else_is_left_alone(name: str, data: bytes) -> None:
    world, target = filled(), MemoryBucket("two", "used")
    target.write(name, iter((data,)), len(data))
    with pytest.raises(LiveNotEmptyError, match="quarantine"):
        world.restore(target)
    assert contents(target) == {name: data}


def test_a_live_bucket_without_checksums_is_compared_by_its_bytes() -> None:
    world, target = filled(), WithoutChecksums("two", "fresh")
    world.restore(target)
    assert world.restore(target).skipped == 5
    target.write("b", iter((b"B" * 9,)), 9)
    with pytest.raises(LiveNotEmptyError):
        world.restore(target)


def test_a_source_that_lies_about_its_bytes_is_not_committed() -> None:
    world = World()
    world.write("a", b"text")
    world.live.read = lambda *_, **__: b"tex!"  # type: ignore[method-assign]
    with pytest.raises(IntegrityError, match="arrived with other bytes"):
        world.replicate()
    assert world.highest() == 0


def test_objects_of_the_real_sizes() -> None:
    world = World()
    for name, size in (("empty", 0), ("part", packing.PART_BYTES + 5), ("edge", packing.LARGE_BYTES), ("one", 1)):
        world.write(name, (b"%d" % size) * (size // len(b"%d" % size)) + b"." * (size % len(b"%d" % size)))
    world.replicate()
    assert world.restored() == world.contents()
    assert max(len(data) for data in contents(world.replica).values()) <= packing.PACK_BYTES + (1 << 16)


def test_every_field_of_a_slot_is_under_its_mac() -> None:
    world = filled()
    name = records.slot_name(TENANT, 1)
    original = world.control_two.objects[name][1]
    for old, new in ((DIGEST, "f" * 64), (b'"epoch":1'.decode(), '"epoch":2'), ('"cutTime":"2', '"cutTime":"1')):
        assert old.encode() in original
        replace(world.control_two, name, original.replace(old.encode(), new.encode()))
        with pytest.raises(IntegrityError, match="MAC"):
            world.restore()


def test_a_manifest_in_place_of_the_committed_one_is_refused_even_if_well_sealed() -> None:
    world = filled()
    commit = records.read(world.control_two, TENANT, 1)
    scope = snapshot.Scope(TENANT, ZONE, Sealer(KEY.key_id, KEY.secret))
    root = snapshot.read_root(world.replica, scope, commit)
    sealed = scope.seal("manifest", str(commit.manifest), "1", 1, manifest.encode_root(root))
    replace(world.replica, f"{TENANT}/manifests/{commit.manifest}", sealed)
    with pytest.raises(IntegrityError, match="digest"):
        world.restore()


def test_a_restore_that_was_thought_dead_does_not_undo_what_was_written_since() -> None:
    world = filled()
    target = MemoryBucket("two", "fresh")

    def slow(operation: str, name: str) -> None:
        if operation in {"create", "write"} and name == "a":
            target.before = lambda _operation, _name: None
            target.write("a", iter((b"newer",)), 5)

    target.before = slow
    with pytest.raises(LiveNotEmptyError):
        world.restore(target)
    assert contents(target)["a"] == b"newer"


def test_what_is_read_ahead_and_given_up_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is closed by the garbage collector, to wait for a thread would be a dead-lock."""
    shrink_sizes(monkeypatch)
    for module, name in ((packing, "LARGE_BYTES"), (packing, "PART_BYTES")):
        monkeypatch.setattr(module, name, 100)
    world, over = World(), threading.Event()
    for number in range(200):
        world.write(f"{number:03}", b"x")
    world.write("large", bytes(500))
    world.replicate()
    found = _snapshot_of(world)
    [large] = [entry for entries in found.read() for entry in entries if entry.name == "large"]
    assert len(found.root.shards) > 2
    assert len(large.parts) > 2
    for readers in (found.read(), restore._chunks(world.replica, found._scope, large)):
        begun = itertools.count()

        def hang(operation: str, _: str, begun: Iterator[int] = begun) -> None:
            if operation == "read" and next(begun):
                over.wait(30)

        world.replica.before = hang
        over.clear()
        next(iter(readers))
        closing = threading.Thread(target=readers.close)
        closing.start()
        closing.join(10)
        assert not closing.is_alive()
        over.set()


@pytest.mark.parametrize("mode", ["merge", "exact"])
def test_of_what_the_snapshot_lacks_any_number_may_be_there(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restore, "_EXTRA_OBJECTS", 7)
    world = filled()
    saved = world.contents()
    extra = {f"{prefix}{number}": b"other" for prefix in ("", "b", "\U0010ffff") for number in range(20)}
    for name, data in extra.items():
        world.write(name, data)
    done = world.restore(world.live, mode=restore.Mode(mode))
    assert world.contents() == (saved if mode == "exact" else saved | extra)
    assert (done.skipped, done.deleted) == (len(saved), len(extra) if mode == "exact" else 0)
    seen = [len(there) for _, there in restore._joined(world.live, _snapshot_of(world), "")]
    assert max(seen) <= 7 + len(saved)


def _snapshot_of(world: World) -> snapshot.Snapshot:
    scope = snapshot.Scope(TENANT, ZONE, Sealer(KEY.key_id, KEY.secret))
    commit = restore.choose(world.control_two, scope)
    return snapshot.Snapshot(world.replica, scope, snapshot.read_root(world.replica, scope, commit))


def test_no_restore_takes_back_a_withdrawal() -> None:
    world = World()
    world.write("domicile/consents/aa/000001.json", b"granted")
    world.write("a", b"1")
    world.replicate()
    world.write("domicile/consents/aa/000002.json", b"withdrawn")
    world.write("b", b"2")
    done = world.restore(world.live, mode=restore.Mode.EXACT)
    assert done.deleted == 1
    assert contents(world.live).keys() == {
        "a",
        "domicile/consents/aa/000001.json",
        "domicile/consents/aa/000002.json",
    }
