"""Pruning against a model: whatever else goes on, every kept snapshot restores, and in the end nothing else is left."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from domicile.backup import prune, records, snapshot
from domicile.backup.errors import BackupError, ConcurrentRunError, FencedError, IntegrityError
from domicile.backup.prune import Pruned
from domicile.backup.retention import Retention
from domicile.backup.sealing import Sealer
from domicile.backup.snapshot import Scope, Snapshot
from domicile.backup.stores.base import UnavailableError
from tests.unit.test_replication_model import DATA, NAMES, AtOperation, CrashError, shrink_sizes
from tests.unit.world import KEY, TENANT, ZONE, World

SEALER = Sealer(KEY.key_id, KEY.secret)
SCOPE = Scope(TENANT, ZONE, SEALER)
START = datetime(2026, 1, 31, 12, 34, 56, tzinfo=UTC)
FEW = Retention(hourly=2, daily=2, monthly=1)
KEEPS = st.sampled_from([FEW, Retention(1, 0, 0), Retention(), Retention(9, 9, 9, timedelta(days=3))])
Point = tuple[int, str]
FOREIGN = f"{TENANT}/packs/not-ours"
GRACES = st.sampled_from([timedelta(0), prune.GRACE])
SIDES = st.sampled_from(["before", "after"])
# At any operation, or at one of those few that write.
POINTS = st.tuples(st.integers(1, 40), st.just("")) | st.tuples(st.integers(1, 7), st.just("create "))


class PruneWorld(World):
    """Two sites with a clock each."""

    def __init__(self) -> None:
        super().__init__()
        self.now = START

    def prune(
        self,
        keep: Retention = FEW,
        *,
        given_up: tuple[int, ...] = (),
        grace: timedelta = timedelta(0),
        dry_run: bool = False,
    ) -> Pruned | None:
        scope = {"given_up": given_up, "grace": grace, "dry_run": dry_run}
        return prune.prune(self.control_two, self.replica, KEY, TENANT, ZONE, keep, clock=lambda: self.now, **scope)

    def standing(self) -> list[int]:
        return [commit.seq for commit in prune.standing(self.control_two, TENANT, SEALER)]

    def needed(self, *seqs: int) -> set[str]:
        """Names of everything that these commits (by default the standing ones) refer to, each read whole."""
        names = set()
        for commit in (records.read(self.control_two, TENANT, seq) for seq in seqs or self.standing()):
            found = Snapshot(self.replica, SCOPE, snapshot.read_root(self.replica, SCOPE, commit))
            names |= {f"manifests/{commit.manifest}", *(f"shards/{shard.name}" for shard in found.root.shards)}
            names |= {f"deltas/{delta.name}" for delta in found.root.deltas}
            names |= {f"packs/{part.pack}" for entries in found.read() for entry in entries for part in entry.parts}
        return {f"{TENANT}/{name}" for name in names}


def dying(steps: int, error: type[Exception] = CrashError) -> Callable[[], None]:
    """What ends a run at its ``steps``-th step."""
    left = itertools.count(steps - 1, -1)

    def may_go_on() -> None:
        if next(left) <= 0:
            raise error

    return may_go_on


class Pruning(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        shrink_sizes(self.patch)
        self.patch.setattr(prune, "_SPARE", 2)
        self.world, self.epoch, self.fenced = PruneWorld(), 1, False
        self.skew = timedelta(0)
        self.model: dict[str, bytes] = {}
        self.committed: dict[int, dict[str, bytes]] = {}
        self.dropped: set[int] = set()
        self.world.replica.create(FOREIGN, b"?")

    def teardown(self) -> None:
        try:
            if self.fenced:
                self.fail_back()
            for _ in range(2):
                self._replicate()
                self._prune(FEW)
            assert self.world.replica.objects.keys() == self.world.needed() | {FOREIGN}
            numbers = [int(n[-10:]) for n in self.world.control_two.objects if n.startswith("commits/")]
            assert min(numbers) == max(1, min(*self.world.standing(), max(numbers) - 2))
            assert records.verify_chain(self.world.control_two, TENANT, SEALER) == len(numbers)
        finally:
            self.patch.undo()

    @rule(name=NAMES, data=DATA)
    def write(self, name: str, data: bytes) -> None:
        self.world.write(name, data)
        self.model[name] = data

    @rule(name=NAMES)
    def delete(self, name: str) -> None:
        self.world.live.delete(name)
        self.model.pop(name, None)

    @rule(passed=st.sampled_from([timedelta(minutes=9), timedelta(hours=1), timedelta(days=1), timedelta(days=40)]))
    def wait(self, passed: timedelta) -> None:
        self.world.now += passed

    @rule(hours=st.integers(-60, 60))
    def set_the_writers_clock(self, hours: int) -> None:
        self.skew = timedelta(hours=hours)

    @precondition(lambda self: not self.fenced)
    @rule(full=st.booleans(), number=st.integers(0, 5))
    def replicate(self, full: bool, number: int) -> None:
        """A run, perhaps one that seals anew what lies in some pack."""
        packs = sorted(name[-32:] for name in self.world.replica.objects if "/packs/" in name and name != FOREIGN)
        self._replicate(full=full, distrusted=frozenset(packs[number : number + 1]))

    @precondition(lambda self: not self.fenced)
    @rule(name=NAMES, data=DATA, point=POINTS, side=SIDES, lost=st.booleans())
    def crash(self, name: str, data: bytes, point: Point, side: str, lost: bool) -> None:
        """A run that dies or loses an answer; what it journaled is found by the next one."""
        self.write(name, data)
        before = self.world.highest()
        with self._at(point, _failing(lost), side), contextlib.suppress(CrashError, UnavailableError):
            self._run()
        if (now := self.world.highest()) != before:
            self._commit(now)

    @rule(keep=KEEPS)
    def prune(self, keep: Retention) -> None:
        self._prune(keep)

    @rule(keep=KEEPS.filter(lambda keep: keep.longest is None))
    def prune_with_grace(self, keep: Retention) -> None:
        """What is dropped can be read until a prune that comes later."""
        before = {seq: self.world.needed(seq) for seq in self.world.standing()}
        done = self.world.prune(keep, grace=prune.GRACE)
        self._look()
        for seq in done.dropped if done else ():
            assert before[seq] <= self.world.replica.objects.keys()
            assert self.world.restored(seq) == self.committed[seq]

    @rule(
        keep=KEEPS,
        point=POINTS | st.tuples(st.integers(1, 9), st.just("delete ")),
        side=SIDES,
        lost=st.booleans(),
        grace=GRACES,
    )
    def prune_dies(self, keep: Retention, point: Point, side: str, lost: bool, grace: timedelta) -> None:
        with self._at(point, _failing(lost), side), contextlib.suppress(CrashError, UnavailableError):
            self.world.prune(keep, grace=grace)
        self._look()

    @precondition(lambda self: not self.fenced)
    @rule(keep=KEEPS, name=NAMES, data=DATA, point=POINTS, side=SIDES)
    def prune_during_a_run(self, keep: Retention, name: str, data: bytes, point: Point, side: str) -> None:
        self.write(name, data)
        with self._at(point, lambda: self._prune(keep), side):
            self._replicate()

    @precondition(lambda self: not self.fenced)
    @rule(keep=KEEPS, point=POINTS, side=SIDES, steps=st.none() | st.integers(1, 6))
    def run_during_a_prune(self, keep: Retention, point: Point, side: str, steps: int | None) -> None:
        def run() -> None:
            if steps is None:
                self._replicate()
                return
            with contextlib.suppress(CrashError):
                self._run(may_go_on=dying(steps))
                self._commit(self.world.highest())

        with self._at(point, run, side):
            done = self.world.prune(keep)
        self._look()
        assert done is None or set(done.kept) <= set(self.world.standing())

    @precondition(lambda self: not self.fenced)
    @rule(keep=KEEPS, point=POINTS, side=SIDES)
    def a_run_loses_its_slot_and_its_base(self, keep: Retention, point: Point, side: str) -> None:
        """Another run commits first, and what the loser builds on is pruned."""
        before = self.world.highest()

        def other() -> None:
            if self.world.highest() == before:
                self._replicate()
                self._prune(keep)

        with self._at(point, other, side), contextlib.suppress(ConcurrentRunError, IntegrityError):
            self._commit(self._run())
        self._look()

    @rule(keep=KEEPS, point=POINTS, side=SIDES)
    def two_prunes(self, keep: Retention, point: Point, side: str) -> None:
        with self._at(point, lambda: self._prune(FEW), side), contextlib.suppress(BackupError):
            self.world.prune(keep)
        self._look()

    @precondition(lambda self: not self.fenced)
    @rule(keep=KEEPS, late=st.booleans())
    def take_over(self, keep: Retention, late: bool) -> None:
        """The other site fences, between runs or just before a commit, and prunes."""

        def fence() -> None:
            self.world.fence(self.epoch + 1)
            self._prune(keep)

        if late:
            with AtOperation(self.world, 1, fence, "before", "create commits/"), pytest.raises(FencedError):
                self._run()
        else:
            fence()
        self.fenced = True

    @precondition(lambda self: self.fenced)
    @rule()
    def fail_back(self) -> None:
        self.epoch, self.fenced = self.epoch + 2, False

    def _at(self, point: Point, action: Callable[[], None], side: str) -> AtOperation:
        return AtOperation(self.world, point[0], action, side, point[1])

    def _run(self, **other: object) -> int:
        clock = lambda: self.world.now + self.skew  # noqa: E731
        return self.world.replicate(epoch=self.epoch, clock=clock, accept_change=True, **other).seq

    def _replicate(self, **other: object) -> None:
        self._commit(self._run(**other))

    def _commit(self, seq: int) -> None:
        assert seq not in self.committed
        self.committed[seq] = dict(self.model)

    def _prune(self, keep: Retention) -> None:
        done = self.world.prune(keep)
        note = prune.newest(self.world.control_two, TENANT, SEALER)
        if done is None:
            assert not self.committed
            return
        assert note is not None
        assert note.kept.keys() == set(done.kept)
        assert not {f"{TENANT}/{name}" for name in note.doomed} & self.world.replica.objects.keys()
        assert done.foreign == 1
        self._look()

    def _look(self) -> None:
        """Every commit that stands restores; one that was dropped stands no more, and never again."""
        standing = set(self.world.standing())
        tip = records.tip(self.world.control_two, TENANT, SEALER)
        assert tip.commit is None or tip.commit.seq in standing
        assert not standing & self.dropped
        self.dropped |= self.committed.keys() - standing
        # A run that is under way may have committed already, and not have said so.
        for seq in standing & self.committed.keys():
            assert self.world.restored(seq) == self.committed[seq]


def _failing(lost: bool) -> Callable[[], None]:
    def fail() -> None:
        raise UnavailableError("lost") if lost else CrashError

    return fail


TestPruning = Pruning.TestCase
TestPruning.settings = settings(
    max_examples=40, stateful_step_count=16, deadline=None, suppress_health_check=list(HealthCheck)
)
