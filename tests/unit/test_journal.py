"""What a run has sealed is not sealed again, and is trusted only for what it is."""

from __future__ import annotations

import itertools
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime

import pytest

from domicile.backup import layout, replicate
from domicile.backup.errors import HeldError, IntegrityError
from domicile.backup.journal import Journal, Share
from domicile.backup.manifest import Entry, Part
from domicile.backup.sealing import Sealer
from domicile.backup.snapshot import Scope
from domicile.backup.stores.base import UnavailableError
from tests.memory_bucket import MemoryBucket
from tests.unit.test_replication_model import AtOperation, CrashError, shrink_sizes
from tests.unit.world import KEY, TENANT, ZONE, World

SCOPE = Scope(TENANT, ZONE, Sealer(KEY.key_id, KEY.secret))


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink_sizes(monkeypatch)


def packs(world: World) -> set[str]:
    return {name for name in world.replica.objects if "/packs/" in name}


def dies_before_its_manifest(world: World, **arguments: object) -> None:
    world.replica.fail("create", matching="/manifests/")
    with pytest.raises(UnavailableError):
        world.replicate(**arguments)  # type: ignore[arg-type]


def test_another_live_bucket_of_equal_versions_is_sealed_anew() -> None:
    """A version names bytes within its bucket only."""
    world = World()
    for i in range(9):
        world.write(f"k/{i}", b"one" * 9)
    dies_before_its_manifest(world)
    world.live = MemoryBucket("one", "another")
    for i in range(9):
        world.write(f"k/{i}", b"two" * 9)
    world.replicate()
    assert world.restored() == world.contents()


@pytest.mark.parametrize("how", ["full", "distrusted", "worn"])
def test_sealing_anew_goes_on_where_it_ended(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    for i in range(30):
        world.write(f"k/{i:02}", bytes([i]) * 40)
    world.replicate()
    everything = frozenset(name.rpartition("/")[2] for name in packs(world))
    arguments: dict[str, object] = {}
    if how == "worn":
        monkeypatch.setattr(replicate, "worn_packs", lambda _: set(everything))
    else:
        arguments = {"full": True} if how == "full" else {"distrusted": everything}
    dies_before_its_manifest(world, **arguments)
    before = packs(world)
    outcome = world.replicate(**arguments)
    assert outcome.changed <= 1
    assert len(packs(world) - before) <= 1
    for name in everything:
        del world.replica.objects[f"{TENANT}/packs/{name}"]
    assert world.restored() == world.contents()


def journaled(world: World) -> set[str]:
    """Names of what can be resumed, found by opening the journals as a run would."""
    journal = Journal(world.replica, SCOPE, 1, 1, Share(0, 1), lambda: datetime.now(UTC), "one/live")
    journal.refresh()
    return {name for name, (version, _) in sorted(world.live.objects.items()) if journal.find(name, str(version))}


@pytest.mark.parametrize("count", [1, 3])
def test_a_run_cut_off_at_any_operation_sends_nothing_again_that_was_journaled(count: int) -> None:
    saved = []
    for number in itertools.count(1):
        world, died = World(), []
        for i in range(18):
            world.write(f"k/{i:02}", bytes([i]) * 30)
        world.write("large", bytes(150))

        def die(died: list[bool] = died) -> None:
            died.append(True)
            raise CrashError

        with AtOperation(world, number, die, "after"), suppress(CrashError):
            for index in range(count):
                world.replicate(share=Share(index, count) if count > 1 else None)
        if world.highest():
            break
        resumable = journaled(world)
        world.live.calls.clear()
        before, counts = packs(world), replicate.Counts()
        assert world.replicate(counts=counts).changed == 19 - len(resumable)
        assert counts.resumed == len(resumable)
        assert resumable.isdisjoint(name for operation, name in world.live.calls if operation == "read")
        assert len(packs(world) - before) <= 19 - len(resumable) + 2
        assert world.restored() == world.contents()
        saved.append(len(resumable))
        if not died:
            break
    assert number > 20
    assert {0, saved[-1]} < set(saved)
    assert saved[-1] >= 18


def test_what_a_held_run_has_journaled_is_used_once_its_change_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replicate, "HELD_OBJECTS", 5)
    world = World()
    for i in range(90):
        world.write(f"k/{i:02}", b"old" * 9)
    world.replicate()
    expected = world.contents()
    for i in range(90):
        world.write(f"k/{i:02}", b"new" * 9)
    with pytest.raises(HeldError):
        world.replicate()
    assert (world.highest(), world.restored()) == (1, expected)
    resumed = replicate.Counts()
    outcome = world.replicate(accept_change=True, counts=resumed)
    assert resumed.resumed > 0
    assert outcome.changed + resumed.resumed == 90
    assert world.restored() == world.contents()


def test_of_shares_each_seals_its_own_and_who_commits_nothing_more() -> None:
    world = World()
    for i in range(60):
        world.write(f"k/{i:02}", bytes([i]) * 40)
    for index in range(3):
        assert world.replicate(share=Share(index, 3)) is None
    assert world.highest() == 0
    before, reads = packs(world), Counter(name for operation, name in world.live.calls if operation == "read")
    assert set(reads.values()) == {1}
    assert len(reads) == 60
    assert world.replicate().changed == 0
    assert packs(world) == before
    assert world.restored() == world.contents()


def test_a_share_whose_worker_died_is_sealed_by_who_commits() -> None:
    world = World()
    for i in range(60):
        world.write(f"k/{i:02}", bytes([i]) * 40)
    world.replicate(share=Share(0, 3))
    world.replica.fail("create", matching="/packs/", lost="answer")
    world.replicate(share=Share(1, 3))
    world.replica.fail("create", matching="/journals/", times=20)
    with pytest.raises(UnavailableError):
        world.replicate(share=Share(2, 3))
    world.replica.before = lambda *_: None
    assert 0 < world.replicate().changed <= 30
    assert world.restored() == world.contents()


def test_journals_that_overlap_are_read_twice_and_no_more() -> None:
    """Once for where they begin and end; then held only while names of theirs come."""
    replica = MemoryBucket("two", "replica")

    def journal() -> Journal:
        return Journal(replica, SCOPE, 1, 1, Share(0, 1), lambda: datetime(2026, 3, 1, tzinfo=UTC), "one/live")

    def entry(i: int) -> Entry:
        return Entry(f"{i:03}", "1", 1, 1, (Part("0" * 32, 0, 1, 1),))

    for share in range(12):
        for half in (range(0, 120, 12), range(120, 240, 12)):
            journal().write([entry(i + share) for i in half])
    reader = journal()
    assert reader.refresh()
    replica.calls.clear()
    for i in range(240):
        assert reader.find(f"{i:03}", "1") == entry(i)
        assert reader.find(f"{i:03}", "2") is None
        assert reader.find(f"{i:03}x", "1") is None
    assert set(Counter(name for operation, name in replica.calls if operation == "read").values()) == {2}


def test_foreign_and_damaged_journals_only_cost_their_work() -> None:
    world = World()
    for i in range(30):
        world.write(f"k/{i:02}", bytes([i]) * 40)
    dies_before_its_manifest(world)
    folder = f"{TENANT}/journals/"
    journals = sorted(name for name in world.replica.objects if name.startswith(folder))
    damaged = journals[0]
    world.replica.objects[damaged] = (1, b"x" + world.replica.objects[damaged][1])
    stale = journals[1]
    world.replica.objects[stale.replace(stale.split("-")[-2], "0000000001")] = world.replica.objects.pop(stale)
    moved = journals[2]
    world.replica.objects[moved[:-32] + "0" * 32] = world.replica.objects.pop(moved)
    for name in ("", "x", "0000000001-0of1-9999999999-" + "g" * 32, "0000000001-9999of1-9999999999-done", "../../up"):
        world.replica.objects[folder + name] = (1, b"foreign")
    counts = replicate.Counts()
    world.replicate(counts=counts)
    assert 0 < counts.resumed < 30
    assert len(journals) > 3
    assert world.restored() == world.contents()


def test_compaction_empties_worn_packs_and_every_snapshot_restores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "PACK_BYTES", 100)
    world, states = World(), {}
    for i in range(40):
        world.write(f"k/{i:02}", bytes([i]) * 40)
    states[world.replicate().seq] = world.contents()
    first = packs(world)
    for start in range(2):
        for i in range(start, 40, 3):
            world.write(f"k/{i:02}", bytes([i]) * 41)
        states[world.replicate().seq] = world.contents()
    while (outcome := world.replicate()).changed:
        states[outcome.seq] = world.contents()
    states[outcome.seq] = world.contents()
    for seq, expected in states.items():
        assert world.restored(seq) == expected
    for name in first:
        del world.replica.objects[name]
    with pytest.raises(IntegrityError):
        world.restored(1)
    assert world.restored() == world.contents()
