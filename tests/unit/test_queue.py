"""The reconcile queue: what is due when, in virtual time, and workers in real time."""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter, defaultdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from domicile.queue import Key, ReconcileQueue, Schedule

KEYS = [Key("AssistantTenant", name) for name in "abcd"]
keys = st.sampled_from(KEYS)
seconds = st.integers(0, 400).map(float)


class Machine(RuleBasedStateMachine):
    """The schedule against a model of plain dictionaries."""

    def __init__(self) -> None:
        super().__init__()
        self.schedule = Schedule(jitter=lambda: 0.5)
        self.now = 1000.0
        self.working: set[Key] = set()
        self.owed: dict[Key, float] = {}  # the latest time by which a key must be due
        self.failures: Counter[Key] = Counter()

    def owe(self, key: Key, due: float) -> None:
        self.owed[key] = min(due, self.owed.get(key, float("inf")))

    @rule(key=keys, after=seconds)
    def add(self, key: Key, after: float) -> None:
        self.schedule.add(key, self.now, after)
        self.owe(key, self.now + (max(after, 1.0) if self.failures[key] else after))

    @rule(key=keys, after=seconds)
    def resync(self, key: Key, after: float) -> None:
        self.schedule.resync(key, self.now, after)
        if key not in self.owed and key not in self.working:
            self.owe(key, self.now + after)

    @rule(passed=seconds)
    def time_passes(self, passed: float) -> None:
        self.now += passed

    @rule()
    def take(self) -> None:
        due = [(t, k) for k, t in self.owed.items() if t <= self.now and k not in self.working]
        key = self.schedule.take(self.now)
        if not due:
            assert key is None
            return
        assert key is not None
        assert key not in self.working, "a key is worked on twice at once"
        assert self.owed[key] == min(t for t, _ in due), "another key has been due for longer"
        del self.owed[key]
        self.working.add(key)

    @precondition(lambda self: self.working)
    @rule(data=st.data(), after=st.none() | seconds)
    def succeeds(self, data: st.DataObject, after: float | None) -> None:
        key = data.draw(st.sampled_from(sorted(self.working)))
        self.working.discard(key)
        self.failures.pop(key, None)
        self.schedule.done(key, self.now, failed=False, after=after)
        if after is not None:
            self.owe(key, self.now + after)

    @precondition(lambda self: self.working)
    @rule(data=st.data())
    def fails(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.working)))
        self.working.discard(key)
        self.failures[key] += 1
        self.schedule.done(key, self.now, failed=True)
        noted = self.owed.pop(key, None)
        if noted is not None:
            self.owe(key, max(noted, self.now + 1.0))
        self.owe(key, self.now + min(300.0, 2.0 ** (self.failures[key] - 1)))

    @invariant()
    def counts_agree(self) -> None:
        assert self.schedule.waiting == len(self.owed)
        assert self.schedule.working == len(self.working)
        assert all(self.schedule.failures(k) == self.failures[k] for k in KEYS)

    @invariant()
    def due_in_is_the_next_due_time(self) -> None:
        waiting = [t for k, t in self.owed.items() if k not in self.working]
        expected = max(0.0, min(waiting) - self.now) if waiting else None
        assert self.schedule.due_in(self.now) == expected


TestSchedule = Machine.TestCase
TestSchedule.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)


@given(st.floats(0, 1), st.integers(1, 60))
def test_backoff_doubles_within_its_bounds(jitter: float, failures: int) -> None:
    schedule, key, now = Schedule(jitter=lambda: jitter), KEYS[0], 0.0
    schedule.add(key, now)
    delays = []
    for _ in range(failures):
        assert schedule.take(now) == key
        schedule.done(key, now, failed=True)
        delay = schedule.due_in(now)
        assert delay is not None
        delays.append(delay)
        now += delay
    expected = [min(300.0, max(1.0, 2.0**n * (0.75 + 0.5 * jitter))) for n in range(failures)]
    assert delays == pytest.approx(expected)
    assert delays[-1] == pytest.approx(300.0) or failures < 10


def test_a_thousand_keys_of_one_burst_are_taken_once_and_in_order() -> None:
    schedule = Schedule()
    names = [Key("AssistantTenant", f"t{n}") for n in range(1000)]
    for _ in range(3):
        for key in names:
            schedule.add(key, 0.0)
    taken = [schedule.take(0.0) for _ in range(1000)]
    assert taken == names
    assert schedule.take(0.0) is None
    assert heapq.nsmallest(1, schedule._heap) == []


class Recorder:
    """Observes a queue and records who is in work."""

    def __init__(self) -> None:
        self.running: Counter[str] = Counter()
        self.peak = 0
        self.done: Counter[str] = Counter()
        self.errors: list[str | None] = []
        self.changed = asyncio.Event()
        self.fails: dict[str, int] = defaultdict(int)
        self.after: dict[str, float] = {}
        self.hold: asyncio.Event | None = None

    def reconciled(self, _kind: str, seconds: float, error: str | None) -> None:
        assert seconds >= 0
        self.errors.append(error)

    def depth(self, waiting: int, working: int) -> None:
        assert waiting >= 0
        assert working <= 4

    async def reconcile(self, _kind: str, name: str) -> float | None:
        self.running[name] += 1
        self.changed.set()
        assert self.running[name] == 1, "a key is worked on twice at once"
        self.peak = max(self.peak, sum(self.running.values()))
        try:
            await (self.hold.wait() if self.hold else asyncio.sleep(0.001))
            if self.fails[name] > 0:
                self.fails[name] -= 1
                raise ConnectionError("no answer")
            return self.after.pop(name, None)
        finally:
            self.running[name] -= 1
            self.done[name] += 1
            self.changed.set()

    async def until(self, condition: Any) -> None:
        async with asyncio.timeout(10):
            while not condition():
                self.changed.clear()
                await self.changed.wait()


@pytest.fixture
async def recorder() -> Recorder:
    return Recorder()


def queue_of(recorder: Recorder) -> ReconcileQueue:
    schedule = Schedule(first=0.02, longest=0.1)
    return ReconcileQueue(
        recorder.reconcile, workers=4, observer=recorder, expected=(ConnectionError,), schedule=schedule
    )


async def test_workers_are_bounded_and_all_is_done(recorder: Recorder) -> None:
    queue = queue_of(recorder)
    task = asyncio.create_task(queue.run())
    for n in range(100):
        queue.add("AssistantTenant", f"t{n}")
    await recorder.until(lambda: len(recorder.done) == 100)
    assert recorder.peak == 4
    assert set(recorder.done.values()) == {1}
    task.cancel()


async def test_what_happens_during_work_is_done_again_once(recorder: Recorder) -> None:
    recorder.hold = asyncio.Event()
    queue = queue_of(recorder)
    task = asyncio.create_task(queue.run())
    queue.add("AssistantTenant", "a")
    await recorder.until(lambda: recorder.running["a"])
    for _ in range(5):
        queue.add("AssistantTenant", "a")
    recorder.hold.set()
    await recorder.until(lambda: recorder.done["a"] == 2)
    await asyncio.sleep(0.05)
    assert recorder.done["a"] == 2
    task.cancel()


async def test_failures_are_retried_and_do_not_stop_others(recorder: Recorder) -> None:
    recorder.fails["bad"] = 3
    queue = queue_of(recorder)
    task = asyncio.create_task(queue.run())
    queue.add("AssistantTenant", "bad")
    queue.add("AssistantTenant", "good")
    await recorder.until(lambda: recorder.done["bad"] == 4)
    assert recorder.done["good"] == 1
    assert recorder.errors.count("ConnectionError") == 3
    assert not task.done()
    task.cancel()


async def test_requeue_after(recorder: Recorder) -> None:
    recorder.after["a"] = 0.03
    queue = queue_of(recorder)
    task = asyncio.create_task(queue.run())
    begun = asyncio.get_running_loop().time()
    queue.add("AssistantTenant", "a")
    await recorder.until(lambda: recorder.done["a"] == 2)
    assert asyncio.get_running_loop().time() - begun >= 0.03
    task.cancel()


async def test_stuck_workers_show(recorder: Recorder) -> None:
    now = 0.0
    recorder.hold = asyncio.Event()
    queue = ReconcileQueue(recorder.reconcile, workers=1, observer=recorder, clock=lambda: now)
    task = asyncio.create_task(queue.run())
    queue.add("AssistantTenant", "a")
    await recorder.until(lambda: recorder.running["a"])
    now = 500.0
    assert queue.stuck_seconds() == 0.0, "nothing waits"
    queue.add("AssistantTenant", "b")
    assert queue.stuck_seconds() == 500.0
    recorder.hold.set()
    await recorder.until(lambda: recorder.done["b"] == 1)
    assert queue.stuck_seconds() == 0.0
    task.cancel()


async def test_cancelling_the_queue_cancels_the_work(recorder: Recorder) -> None:
    recorder.hold = asyncio.Event()
    task = asyncio.create_task((queue := queue_of(recorder)).run())
    queue.add("AssistantTenant", "a")
    await recorder.until(lambda: recorder.running["a"])
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert recorder.running["a"] == 0
