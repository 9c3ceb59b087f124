"""Pruning, case by case: what goes, what stays, in which order, and what others do meanwhile."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest

from domicile.backup import diff, layout, ledger, prune, records
from domicile.backup.canonical import parse_time
from domicile.backup.errors import ConcurrentRunError, IntegrityError, RollbackError, WrongKeyError
from domicile.backup.keys import TenantKey
from domicile.backup.prune import Pruned
from domicile.backup.restore import restore
from domicile.backup.retention import Retention
from domicile.backup.stores.base import DeniedError, UnavailableError
from tests.memory_bucket import MemoryBucket
from tests.unit.test_prune_model import FEW, FOREIGN, SCOPE, SEALER, START, PruneWorld, dying
from tests.unit.test_replication_model import AtOperation, CrashError, shrink_sizes
from tests.unit.world import KEY, TENANT, ZONE, contents

LAST = Retention(1, 0, 0)
HOUR = timedelta(hours=1)


def commit(world: PruneWorld, *, after: timedelta = HOUR, **written: bytes) -> int:
    """A run, some time after the one before it, of these objects added."""
    world.now += after
    for name, data in written.items():
        world.write(name, data)
    return world.replicate(clock=lambda: world.now, accept_change=True).seq


def chain(count: int, *, every: timedelta = HOUR) -> PruneWorld:
    """A world with some commits, each with an object of its own instead of the last one's."""
    world = PruneWorld()
    for n in range(count):
        commit(world, after=every, **{f"own-{n}": b"%d" % n * 50, "same": b"same", "each": b"%d" % n})
        world.live.delete(f"own-{n}")
    return world


def done(pruned: Pruned | None) -> Pruned:
    assert pruned is not None
    return pruned


def test_what_is_dropped_is_gone_and_what_is_kept_restores() -> None:
    world = chain(6)
    before = len(world.replica.objects)
    kept = {seq: world.restored(seq) for seq in (4, 5, 6)}
    found = done(world.prune(Retention(3, 0, 0)))
    assert (found.seq, found.kept, found.dropped) == (6, (4, 5, 6), (1, 2, 3))
    assert (found.locked, found.waiting, found.foreign) == (0, 0, 0)
    assert found.objects == before - len(world.replica.objects)
    assert world.replica.objects.keys() == world.needed()
    assert {seq: world.restored(seq) for seq in world.standing()} == kept
    for seq in (1, 2, 3):
        with pytest.raises(IntegrityError, match="missing"):
            world.restored(seq)
    again = done(world.prune(Retention(3, 0, 0)))
    assert (again.kept, again.dropped, again.objects, again.bytes) == ((4, 5, 6), (), 0, 0)


def test_a_snapshot_that_is_dropped_while_it_is_restored_is_restored_whole() -> None:
    for number in itertools.count(1):
        world, target, came = chain(6), MemoryBucket(), list[int]()
        expected = world.restored(2)

        def drop(world: PruneWorld = world, came: list[int] = came) -> None:
            came.append(done(world.prune(LAST, grace=prune.GRACE)).leaving)

        with AtOperation(world, number, drop, "after"):
            restore(world.control_two, world.replica, target, KEY, TENANT, ZONE, seq=2)
        assert contents(target) == expected
        if not came:
            break
        assert came[0] > 0
    assert number > 6


def test_what_was_dropped_goes_after_its_grace() -> None:
    world = chain(6)
    told = done(world.prune(Retention(4, 0, 0), grace=prune.GRACE, dry_run=True))
    first = done(world.prune(Retention(4, 0, 0), grace=prune.GRACE))
    assert told == first
    assert (first.dropped, first.objects) == ((1, 2), 0)
    world.now += prune.GRACE / 2
    second = done(world.prune(Retention(3, 0, 0), grace=prune.GRACE))
    assert (second.dropped, second.objects) == ((3,), 0)
    assert second.leaving > first.leaving
    world.now += prune.GRACE / 2
    third = done(world.prune(Retention(3, 0, 0), grace=prune.GRACE))
    assert (third.objects, third.leaving) == (first.leaving, second.leaving - first.leaving)


def test_a_clock_that_was_ahead_when_it_dropped_something_keeps_that_for_no_longer_nor_shorter() -> None:
    world = chain(4)
    world.now += timedelta(days=400)
    for keep in (3, 2):
        told = done(world.prune(Retention(keep, 0, 0), grace=prune.GRACE))
        world.now += HOUR
    world.now -= timedelta(days=400)
    found = []
    for _ in range(3):
        found.append(done(world.prune(Retention(), grace=prune.GRACE)))
        commit(world, after=prune.GRACE / 2)
    assert [each.objects for each in found] == [0, 0, told.leaving]
    assert [each.leaving for each in found[:2]] == [told.leaving, told.leaving]


@pytest.mark.parametrize("expired", [True, False])
def test_what_is_too_old_or_given_up_has_no_grace(expired: bool) -> None:
    world = chain(6, every=timedelta(days=1))
    keep = Retention(99, 0, 0, timedelta(days=6) if expired else None)
    found = done(world.prune(keep, grace=prune.GRACE, given_up=() if expired else (1, 2)))
    assert (found.dropped, found.leaving) == ((1, 2) if not expired else (), 0)
    if expired:
        world.now += timedelta(days=2)
        found = done(world.prune(keep, grace=prune.GRACE))
        assert (found.dropped, found.leaving) == ((1,), 0)
    assert found.objects > 0
    assert world.replica.objects.keys() == world.needed()


def test_what_is_displaced_does_not_outlive_its_class_for_its_grace() -> None:
    world = chain(6, every=timedelta(days=1))
    found = done(world.prune(Retention(2, 0, 0, timedelta(days=6)), grace=prune.GRACE))
    assert found.dropped == (1, 2, 3, 4)
    kept = set(world.replica.objects) - world.needed()
    assert found.leaving == len(kept) > 0
    for seq, there in ((1, False), (2, True), (3, True), (4, True)):
        path = f"{TENANT}/manifests/{records.read(world.control_two, TENANT, seq).manifest}"
        assert (path in kept) is there


def test_a_dry_run_says_the_same_and_does_nothing() -> None:
    world = chain(6)
    before = [dict(bucket.objects) for bucket in world.buckets]
    told = world.prune(dry_run=True)
    assert [bucket.objects for bucket in world.buckets] == before
    assert told == world.prune()
    assert done(told).bytes == sum(map(len, [d for _, d in before[3].values()])) - sum(
        map(len, contents(world.replica).values())
    )


def test_nothing_was_replicated_so_nothing_is_pruned() -> None:
    world = PruneWorld()
    world.replica.create(f"{TENANT}/packs/{'0' * 32}", b"of a first run")
    assert world.prune() is None
    world.fence(2)
    assert world.prune() is None
    assert len(world.replica.objects) == 1


def test_what_a_dead_run_left_goes_once_the_chain_went_on() -> None:
    world = chain(2)
    done(world.prune())
    world.write("new", b"x" * 99)
    with pytest.raises(CrashError):
        world.replicate(may_go_on=dying(3), clock=lambda: world.now)
    assert not world.replica.objects.keys() <= world.needed()
    for _ in range(3):
        world.now += timedelta(days=400)
        found = done(world.prune())
        assert (found.waiting, found.objects) == (1, 0)
    commit(world)
    assert done(world.prune()).waiting == 0
    assert world.replica.objects.keys() == world.needed()


def test_a_fence_makes_the_chain_go_on_too() -> None:
    world = chain(2)
    orphan = f"{TENANT}/packs/{'0' * 32}"
    world.replica.create(orphan, b"of the old writer")
    done(world.prune())
    world.fence(2)
    assert done(world.prune()).objects == 1
    assert orphan not in world.replica.objects


def test_journals_go_once_their_slot_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink_sizes(monkeypatch)
    world = chain(1)
    done(world.prune())
    for n in range(9):
        world.write(f"new-{n}", b"x" * 60)
    with pytest.raises(CrashError):
        world.replicate(may_go_on=dying(7), clock=lambda: world.now)
    journals = [name for name in world.replica.objects if "/journals/" in name]
    assert journals
    done(world.prune())
    assert journals == [name for name in world.replica.objects if "/journals/" in name]
    commit(world)
    assert world.restored() == world.contents()
    done(world.prune())
    assert not [name for name in world.replica.objects if "/journals/" in name]


def test_foreign_objects_stay_and_are_counted() -> None:
    world = chain(3)
    foreign = [FOREIGN, f"{TENANT}/what", f"{TENANT}/packs/{'0' * 31}G", f"{TENANT}/journals/1-2", f"{TENANT}/"]
    others = [f"{'cd' * 16}/packs/{'0' * 32}", "readme"]
    for name in foreign + others:
        world.replica.create(name, b"?")
    for _ in range(3):
        commit(world)
        assert done(world.prune()).foreign == len(foreign)
    assert set(foreign + others) <= world.replica.objects.keys()


def test_a_locked_object_goes_when_its_lock_has_ended() -> None:
    world = chain(3)
    locked = True

    def refuse(operation: str, name: str) -> None:
        if locked and operation == "delete" and "/packs/" in name:
            raise DeniedError("its lock has not ended")

    world.replica.before = refuse
    first = done(world.prune(LAST))
    assert (first.dropped, first.locked) == ((1, 2), 2)
    second = done(world.prune(LAST))
    assert (second.dropped, second.locked, second.objects, second.bytes) == ((), 2, 0, 0)
    locked = False
    third = done(world.prune(LAST))
    assert (third.locked, third.objects) == (0, 2)
    assert world.replica.objects.keys() == world.needed()


@pytest.mark.parametrize("kind", ["manifests", "shards", "deltas"])
@pytest.mark.parametrize("damage", ["gone", "changed"])
def test_nothing_goes_where_a_kept_snapshot_cannot_be_read(
    kind: str, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diff, "SHARD_OBJECTS", 3)
    monkeypatch.setattr(layout, "_FOLD_SHARE", 2)
    world = chain(6)
    commit(world, **{f"many-{n}": b"1" for n in range(8)})
    commit(world, **{"many-1": b"2"})
    victim = next(name for name in sorted(world.needed(8)) if f"/{kind}/" in name)
    good = world.replica.objects[victim]
    if damage == "gone":
        del world.replica.objects[victim]
    else:
        world.replica.objects[victim] = (1, good[1][:-1] + bytes([good[1][-1] ^ 1]))
    before = [dict(bucket.objects) for bucket in world.buckets]
    with pytest.raises(IntegrityError, match=r"nothing was pruned: snapshot \d of tenant .*give it up"):
        world.prune(Retention(7, 0, 0))
    assert [bucket.objects for bucket in world.buckets] == before
    world.replica.objects[victim] = good
    assert done(world.prune(Retention(7, 0, 0))).dropped == (1,)


def test_a_damaged_snapshot_can_be_given_up_but_not_the_newest() -> None:
    world = chain(4)
    path = f"{TENANT}/manifests/{records.read(world.control_two, TENANT, 2).manifest}"
    del world.replica.objects[path]
    with pytest.raises(IntegrityError, match="nothing was pruned: snapshot 2"):
        world.prune(Retention())
    found = done(world.prune(Retention(), given_up=(2, 4)))
    assert (found.kept, found.dropped) == ((1, 3, 4), (2,))
    commit(world)
    done(world.prune(Retention()))
    assert world.replica.objects.keys() == world.needed()
    assert world.standing() == [1, 3, 4, 5]


def test_a_snapshot_once_dropped_stays_dropped_whatever_is_to_be_kept_now() -> None:
    world = chain(6)
    assert done(world.prune(LAST)).kept == (6,)
    commit(world)
    assert done(world.prune(Retention(99, 99, 99))).kept == (6, 7)


def test_a_replica_of_another_key_or_a_chain_that_went_back_is_refused() -> None:
    world = chain(3)
    done(world.prune(Retention()))
    before = dict(world.replica.objects)
    with pytest.raises(WrongKeyError):
        prune.prune(world.control_two, world.replica, TenantKey("k1", bytes(32)), TENANT, ZONE, LAST, lambda: world.now)
    del world.control_two.objects[records.slot_name(TENANT, 3)]
    with pytest.raises(RollbackError, match="slot 3 is known"):
        world.prune(LAST)
    assert world.replica.objects == before


@pytest.mark.parametrize("change", [b"}", b'"seq":3'])
def test_a_note_that_was_changed_stops_everything(change: bytes) -> None:
    world = chain(3)
    done(world.prune(Retention()))
    name = next(n for n in world.control_two.objects if n.startswith("prunes/"))
    data = world.control_two.objects[name][1]
    world.control_two.objects[name] = (1, data.replace(change, b'"seq":2' if b"seq" in change else b"} "))
    before = dict(world.replica.objects)
    with pytest.raises(IntegrityError, match=r"note 1 under prunes/.* (was changed|is not canonical)"):
        world.prune(LAST)
    with pytest.raises(IntegrityError):
        world.standing()
    assert world.replica.objects == before


def test_a_note_of_another_tenant_or_number_is_no_note() -> None:
    world = chain(2)
    done(world.prune(Retention()))
    data = world.control_two.read(f"prunes/{TENANT}/0000000001")
    for name in (f"prunes/{TENANT}/0000000002", f"prunes/{'cd' * 16}/0000000001"):
        world.control_two.create(name, data)
        with pytest.raises(IntegrityError):
            prune.newest(world.control_two, name.split("/")[1], SEALER)


def test_few_notes_are_kept() -> None:
    world = chain(1)
    for _ in range(6):
        done(world.prune())
    names = [n for n in world.control_two.objects if n.startswith("prunes/")]
    assert [int(n[-10:]) for n in sorted(names)] == [4, 5, 6]
    assert ledger.Ledger(world.control_two, "prunes", TENANT, SEALER, prune._CHECKS).newest()[0] == 6


def test_old_slots_go_with_their_snapshots_and_writer_and_reader_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prune, "_SPARE", 1)
    world = chain(5)
    done(world.prune(LAST))
    assert [n for n in world.control_two.objects if n.startswith("commits/")] == [
        records.slot_name(TENANT, seq) for seq in (4, 5)
    ]
    assert commit(world) == 6
    assert records.verify_chain(world.control_two, TENANT, SEALER) == 3
    assert world.fence(2).seq == 7


def test_a_writer_that_died_before_its_echo_goes_on_though_its_echos_slot_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(prune, "_SPARE", 0)
    world = chain(1)
    world.control_one.fail("create", matching="echo/")
    world.now += HOUR
    with pytest.raises(UnavailableError):
        world.replicate(clock=lambda: world.now)
    world.control_one.before = lambda *_: None
    assert done(world.prune(LAST)).kept == (2,)
    assert records.slot_name(TENANT, 1) not in world.control_two.objects
    assert commit(world) == 3
    del world.control_two.objects[records.slot_name(TENANT, 2)]
    del world.control_two.objects[records.slot_name(TENANT, 3)]
    with pytest.raises(RollbackError):
        commit(world)


def times(world: PruneWorld) -> dict[int, timedelta]:
    note = prune.newest(world.control_two, TENANT, SEALER)
    assert note is not None
    return {seq: at - START for seq, at in note.kept.items()}


def test_a_writers_wrong_clock_pushes_no_good_snapshot_out() -> None:
    world = chain(40)
    keep = Retention(48, 0, 0)
    assert len(done(world.prune(keep)).kept) == 40
    for n in range(60):
        world.replicate(clock=lambda n=n: world.now - n * HOUR)
    for n in range(60):
        world.replicate(clock=lambda n=n: world.now + n * timedelta(days=30))
    world.now += HOUR
    found = done(world.prune(keep))
    assert set(range(1, 16)) <= set(found.kept), "nothing from before the day of the last pruning is pushed out"
    assert max(times(world).values()) == world.now - START
    world.now += timedelta(days=2)
    assert commit(world) == 161
    assert set(done(world.prune(Retention(3, 0, 0))).kept) > {161}


def test_a_keepers_clock_that_was_ahead_once_costs_no_good_snapshot() -> None:
    keep, day = Retention(48, 30, 12), timedelta(days=1)
    world = chain(3, every=day)
    world.now += 40 * day
    done(world.prune(keep))
    world.now -= 40 * day
    for number in range(20):
        commit(world, after=day, later=b"%d" % number)
        assert not done(world.prune(keep)).dropped
    assert world.standing() == list(range(1, 24))


def test_dates_are_the_writers_where_they_can_be_true() -> None:
    world = chain(3)
    done(world.prune(Retention()))
    assert times(world) == {1: HOUR, 2: 2 * HOUR, 3: 3 * HOUR}
    slot = records.read(world.control_two, TENANT, 2)
    assert parse_time(str(slot.cut_time)) == START + 2 * HOUR


class Estate:
    """A world in which all is there that pruning looks at: old and new commits, a dead run, a note, new garbage."""

    def __init__(self) -> None:
        self.world = world = PruneWorld()
        for n in range(3):
            commit(world, **{f"o-{n}": b"%d" % n * 70, "each": b"%d" % n})
        self.die(1)
        done(world.prune(FEW))
        for n in range(3):
            commit(world, **{f"p-{n}": b"%d" % n * 70, "each": b"p%d" % n})
            world.live.delete(f"o-{n}")
        self.die(2)
        self.committed = {seq: world.restored(seq) for seq in range(2, 7)}

    def copy(self) -> Estate:
        """The same once more."""
        other = object.__new__(Estate)
        other.world, other.committed = PruneWorld(), dict(self.committed)
        other.world.now = self.world.now
        for mine, theirs in zip(self.world.buckets, other.world.buckets, strict=True):
            theirs.objects.update(mine.objects)
            theirs._generation = mine._generation
        return other

    def die(self, steps: int) -> None:
        self.world.write("dead", b"%d" % steps * 60)
        with pytest.raises(CrashError):
            self.world.replicate(may_go_on=dying(2 + steps), clock=lambda: self.world.now)

    def run(self) -> None:
        self.world.write("late", b"late" * 20)
        seq = self.world.replicate(clock=lambda: self.world.now).seq
        self.committed[seq] = self.world.contents()

    def look(self) -> None:
        standing = self.world.standing()
        tip = records.tip(self.world.control_two, TENANT, SEALER).commit
        assert tip is not None
        assert tip.seq in standing
        assert {seq: self.world.restored(seq) for seq in standing} == {seq: self.committed[seq] for seq in standing}

    def end(self) -> None:
        """After a quiet hour or two nothing but the kept snapshots is left."""
        for _ in range(2):
            self.world.now += HOUR
            self.run()
            done(self.world.prune(FEW))
            self.look()
        assert self.world.replica.objects.keys() == self.world.needed()


def at_every_operation(
    side: str, least: int = 20
) -> Iterator[tuple[Estate, Callable[[Callable[[], None]], AtOperation], list[int]]]:
    """Estates, one for each operation that something does; ends when it has done all without an interruption."""
    original = Estate()
    for number in itertools.count(1):
        estate, came = original.copy(), list[int]()

        def interrupt(
            action: Callable[[], None], estate: Estate = estate, came: list[int] = came, number: int = number
        ) -> AtOperation:
            def once() -> None:
                came.append(number)
                action()

            return AtOperation(estate.world, number, once, side)

        yield estate, interrupt, came
        if not came:
            assert number > least
            return


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink_sizes(monkeypatch)
    monkeypatch.setattr(prune, "_SPARE", 1)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("side", ["before", "after"])
def test_a_prune_that_dies_at_any_operation_harms_nothing_and_is_finished_later(side: str) -> None:
    def die() -> None:
        raise CrashError

    for estate, interrupt, _ in at_every_operation(side):
        with interrupt(die), contextlib.suppress(CrashError):
            estate.world.prune(FEW)
        estate.look()
        done(estate.world.prune(FEW))
        estate.look()
        estate.end()


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("side", ["before", "after"])
def test_a_prune_at_any_operation_of_a_run_takes_nothing_from_it(side: str) -> None:
    for estate, interrupt, _ in at_every_operation(side):
        with interrupt(lambda estate=estate: done(estate.world.prune(FEW)) and None):
            estate.run()
        estate.look()
        estate.end()


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("side", ["before", "after"])
def test_a_run_at_any_operation_of_a_prune_loses_nothing(side: str) -> None:
    for estate, interrupt, _ in at_every_operation(side):
        with interrupt(estate.run):
            done(estate.world.prune(FEW))
        estate.look()
        estate.end()


@pytest.mark.usefixtures("small")
def test_of_two_prunes_at_once_one_at_least_is_done() -> None:
    for estate, interrupt, came in at_every_operation("before"):
        with interrupt(lambda estate=estate: done(estate.world.prune(LAST)) and None):
            try:
                done(estate.world.prune(FEW))
            except ConcurrentRunError:
                assert came
        estate.look()
        estate.end()


@pytest.mark.usefixtures("small")
def test_who_asks_what_stands_is_answered_while_another_prunes() -> None:
    for estate, interrupt, _ in at_every_operation("before", 8):
        with interrupt(lambda estate=estate: done(estate.world.prune(LAST)) and None):
            found = estate.world.standing()
        assert 6 in found
        assert prune.standing(estate.world.control_two, TENANT, SCOPE.sealer)[-1].seq == 6


def test_a_bucket_that_does_not_answer_is_an_error_and_no_harm() -> None:
    world = chain(3)
    world.replica.fail("list")
    with pytest.raises(UnavailableError):
        world.prune(LAST)
    world.replica.fail("delete", times=1)
    with pytest.raises(UnavailableError):
        world.prune(LAST)
    world.replica.before = lambda *_: None
    done(world.prune(LAST))
    assert world.replica.objects.keys() == world.needed()
    assert isinstance(world.replica, MemoryBucket)
