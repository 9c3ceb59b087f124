"""Scrubbing: what is read and when, what counts as damage, and that the next run heals it."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domicile.backup import prune, scrub
from domicile.backup.errors import ConcurrentRunError, IntegrityError, WrongKeyError
from domicile.backup.keys import TenantKey
from domicile.backup.retention import Retention
from domicile.backup.scrub import Scrubbed
from domicile.backup.stores.base import DeniedError, UnavailableError
from tests.unit.test_prune import chain, commit
from tests.unit.test_prune_model import SEALER, PruneWorld
from tests.unit.test_replication_model import AtOperation, CrashError, shrink_sizes
from tests.unit.world import KEY, TENANT, ZONE, World, contents

HOUR = timedelta(hours=1)
PROMISE = timedelta(days=30)


def tend(world: PruneWorld) -> Scrubbed:
    found = scrub.scrub(world.control_two, world.replica, KEY, TENANT, ZONE, lambda: world.now)
    assert found is not None
    return found


def to_heal(world: PruneWorld) -> frozenset[str]:
    """What the writer reads before its next run."""
    said = scrub.newest(world.control_two, TENANT, SEALER)
    return said.heal if said else frozenset()


def packs(world: PruneWorld, *seqs: int) -> set[str]:
    return {name[-32:] for name in world.needed(*seqs) if "/packs/" in name}


def read_by(world: PruneWorld) -> tuple[Scrubbed, set[str]]:
    """A scrub, and the packs that it read."""
    before = len(world.replica.calls)
    found = tend(world)
    calls = world.replica.calls[before:]
    return found, {name[-32:] for operation, name in calls if operation == "read" and "/packs/" in name}


def spoil(world: World, pack: str, at: int = -1) -> None:
    name = f"{TENANT}/packs/{pack}"
    generation, data = world.replica.objects[name]
    changed = bytearray(data)
    changed[at] ^= 1
    world.replica.objects[name] = (generation, bytes(changed))


@pytest.fixture
def many(monkeypatch: pytest.MonkeyPatch) -> PruneWorld:
    """A world of many packs, in three snapshots."""
    shrink_sizes(monkeypatch)
    world = PruneWorld()
    for n in range(60):
        world.write(f"o/{n:03}", bytes([n]) * 90)
    commit(world)
    for n in range(0, 60, 3):
        world.write(f"o/{n:03}", bytes([n]) * 80)
    commit(world)
    commit(world, large=b"x" * 1500)
    assert len(packs(world)) > 50
    return world


def test_all_packs_are_read_in_thirty_days(many: PruneWorld) -> None:
    start, seen, most = many.now, set(), 0
    while many.now - start < PROMISE:
        found, read = read_by(many)
        assert read
        seen |= read
        most = max(most, len(read))
        assert (found.packs, found.damaged, found.unreadable) == (len(read), frozenset(), ())
        many.now += 6 * HOUR
        if seen == packs(many):
            break
    assert seen == packs(many)
    assert most < 9


@settings(max_examples=8)
@given(st.lists(st.integers(1, 48), min_size=30, max_size=40), st.integers())
def test_hours_that_were_missed_are_made_up_for(gaps: list[int], seed: int) -> None:
    """Whatever the gaps, up to two days: no pack is left unread for more than 30 days, old or new."""
    with pytest.MonkeyPatch.context() as patch:
        shrink_sizes(patch)
        world, order = PruneWorld(), random.Random(seed)
        last_read = {}
        for gap in gaps:
            name = f"o/{order.randrange(99)}"
            commit(world, after=timedelta(hours=gap), **{name: b"x" * order.randrange(300)})
            world.prune()
            _, read = read_by(world)
            last_read = {pack: last_read.get(pack, world.now) for pack in packs(world)}
            last_read |= dict.fromkeys(read & last_read.keys(), world.now)
            assert world.now - min(last_read.values()) <= PROMISE


def test_a_long_outage_is_made_up_for_within_a_day_and_in_pieces(many: PruneWorld) -> None:
    tend(many)
    many.now += timedelta(days=90)
    seen, runs = set(), 0
    while seen != packs(many):
        found, read = read_by(many)
        assert len(read) < len(packs(many)) / 4
        seen |= read
        runs += 1
        many.now += HOUR
    assert 5 < runs <= 30
    assert found.through <= many.now


def test_a_run_ends_after_so_many_bytes_and_the_next_goes_on(many: PruneWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    tend(many)
    many.now += timedelta(days=10)
    monkeypatch.setattr(scrub, "_MAX_BYTES", 300)
    seen, found = set(), tend(many)
    while found.through < many.now:
        before = found.through
        found, read = read_by(many)
        assert found.bytes < 300 + 500
        assert found.through > before
        assert not read & seen
        seen |= read
    assert seen


def test_a_tenant_without_objects_or_snapshots_has_nothing_to_scrub() -> None:
    world = PruneWorld()
    assert scrub.scrub(world.control_two, world.replica, KEY, TENANT, ZONE, lambda: world.now) is None
    commit(world)
    for _ in range(3):
        world.now += HOUR
        assert (tend(world).packs, tend(world).through) == (0, world.now)


@pytest.mark.parametrize("damage", ["changed", "cut", "gone", "swapped"])
def test_damage_is_found_and_healed_by_the_next_run(damage: str) -> None:
    world = chain(2)
    pack, other = min(packs(world, 2)), min(packs(world, 1))
    good = world.restored(2)
    name = f"{TENANT}/packs/{pack}"
    if damage == "changed":
        spoil(world, pack, 50)
    elif damage == "cut":
        world.replica.objects[name] = (1, world.replica.objects[name][1][:-1])
    elif damage == "gone":
        del world.replica.objects[name]
    else:
        world.replica.objects[name] = world.replica.objects[f"{TENANT}/packs/{other}"]
    while not (found := tend(world)).damaged:
        world.now += HOUR
    assert found.damaged == found.heal == to_heal(world) == {pack}
    assert scrub.newest(world.control_two, TENANT, SEALER) == found
    with pytest.raises(IntegrityError):
        world.restored(2)
    world.now += HOUR
    world.replicate(clock=lambda: world.now, distrusted=to_heal(world))
    assert world.restored(3) == world.contents() == {name: good[name] for name in world.contents()}
    found = tend(world)
    assert (found.damaged, found.heal) == ({pack}, frozenset())
    assert to_heal(world) == frozenset()
    prune.prune(world.control_two, world.replica, KEY, TENANT, ZONE, Retention(1, 0, 0), lambda: world.now)
    assert tend(world).damaged == frozenset()


def test_damage_in_any_part_of_a_large_object_is_healed(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink_sizes(monkeypatch)
    for number in range(5):
        world = PruneWorld()
        commit(world, large=b"abc" * 100)
        spoil(world, sorted(packs(world))[number])
        while not tend(world).damaged:
            world.now += HOUR
        world.replicate(clock=lambda world=world: world.now, distrusted=to_heal(world))
        assert world.restored() == contents(world.live)


def test_what_no_standing_snapshot_refers_to_is_not_read() -> None:
    world = chain(5)
    doomed = packs(world, *range(1, 6)) - packs(world, 5)
    assert doomed
    prune.prune(world.control_two, world.replica, KEY, TENANT, ZONE, Retention(1, 0, 0), lambda: world.now)
    for _ in range(9):
        world.now += timedelta(days=4)
        found, read = read_by(world)
        assert not found.damaged
        assert not read & doomed


def test_a_snapshot_whose_lists_are_damaged_is_named_and_the_rest_is_read() -> None:
    world = chain(3)
    shard = next(n for n in world.needed(2) - world.needed(1, 3) if "/shards/" in n)
    pack = min(packs(world, 3))
    del world.replica.objects[shard]
    spoil(world, pack)
    while not (found := tend(world)).damaged:
        world.now += HOUR
    assert found.unreadable == (2,)
    assert found.heal == {pack}


def test_a_pack_that_is_pruned_meanwhile_is_no_damage() -> None:
    for number in range(1, 40):
        world = chain(4)
        world.now += timedelta(days=2)

        def drop(world: PruneWorld = world) -> None:
            world.prune(Retention(1, 0, 0))

        with AtOperation(world, number, drop, "before"):
            found = tend(world)
        assert (found.damaged, found.unreadable) == (frozenset(), ())


@pytest.mark.parametrize("error", [UnavailableError, DeniedError])
def test_a_store_that_does_not_answer_is_no_damage(error: type[Exception]) -> None:
    world = chain(2)

    def fail(operation: str, name: str) -> None:
        if operation == "read" and "/packs/" in name:
            raise error("?")

    world.replica.before = fail
    with pytest.raises(error):
        tend(world)
    assert scrub.newest(world.control_two, TENANT, SEALER) is None


def test_a_run_that_dies_reads_the_same_again(many: PruneWorld) -> None:
    tend(many)
    many.now += timedelta(hours=9)

    def die() -> None:
        raise CrashError

    with AtOperation(many, 1, die, "before", "create scrubs/"), pytest.raises(CrashError):
        tend(many)
    _, read = read_by(many)
    assert read

    def other() -> None:
        many.now += HOUR
        tend(many)

    with AtOperation(many, 1, other, "before", "create scrubs/"), pytest.raises(ConcurrentRunError):
        tend(many)


def test_forty_notes_are_kept_and_a_foreign_one_stops_it() -> None:
    world = chain(2)
    for _ in range(45):
        world.now += HOUR
        tend(world)
    names = sorted(n for n in world.control_two.objects if n.startswith("scrubs/"))
    assert (len(names), names[-1][-10:]) == (40, "0000000045")
    other = TenantKey("k1", bytes(32))
    with pytest.raises(WrongKeyError):
        scrub.scrub(world.control_two, world.replica, other, TENANT, ZONE, lambda: world.now)
    world.control_two.objects[names[-1]] = (1, world.control_two.objects[names[-2]][1])
    with pytest.raises(IntegrityError, match="note 45 under scrubs/"):
        tend(world)
    with pytest.raises(IntegrityError):
        to_heal(world)
