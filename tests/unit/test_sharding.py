"""A run split over several pods: whoever commits waits for the others, and never for ever."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from domicile.backup import sharding
from domicile.backup.errors import BackupError
from domicile.backup.journal import Journal, Share
from domicile.backup.sealing import Sealer
from domicile.backup.snapshot import Scope
from tests.unit.world import KEY, TENANT, ZONE, World

SCOPE = Scope(TENANT, ZONE, Sealer(KEY.key_id, KEY.secret))


def filled(objects: int = 5000) -> World:
    world = World()
    for i in range(objects):
        world.write(f"k/{i:05d}", b"%d" % i)
    return world


def waited(world: World, share: Share, on_sleep: Callable[[float], None] = lambda _: None) -> tuple[bool, float]:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds
        on_sleep(now[0])

    done = sharding.await_others(world.replica, SCOPE, 1, share, lambda: None, monotonic=lambda: now[0], sleep=sleep)
    return done, now[0]


def journal(world: World, share: Share) -> Journal:
    return Journal(world.replica, SCOPE, 1, 1, share, lambda: datetime.now(UTC))


def test_shares_divide_the_work_and_the_commit_sends_nothing_twice() -> None:
    world = filled()
    for index in range(3):
        assert world.replicate(share=Share(index, 3)) is None
    assert world.highest() == 0
    packs = [name for name in world.replica.objects if "/packs/" in name]
    outcome = world.replicate()
    assert outcome is not None
    assert (outcome.seq, outcome.objects, outcome.changed) == (1, 5000, 0)
    assert [name for name in world.replica.objects if "/packs/" in name] == packs
    assert len(packs) == 3
    assert world.restored() == world.contents()


def test_a_share_that_never_came_is_done_by_the_one_that_commits() -> None:
    world = filled()
    world.replicate(share=Share(0, 3))
    world.write("k/00000", b"changed meanwhile")
    world.live.delete("k/00001")
    outcome = world.replicate()
    assert outcome is not None
    assert 2900 < outcome.changed < 5000
    assert world.restored() == world.contents()


def test_every_tenant_is_committed_by_one_pod() -> None:
    tenants = [f"{i:032x}" for i in range(300)]
    by_pod = [sum(sharding.commits(Share(index, 4), tenant) for tenant in tenants) for index in range(4)]
    assert sum(by_pod) == 300
    assert min(by_pod) > 40


def test_new_and_large_tenants_are_split(monkeypatch: pytest.MonkeyPatch) -> None:
    world = filled(10)
    assert sharding.next_run(world.control_two, world.replica, SCOPE) == (1, True)
    world.replicate()
    assert sharding.next_run(world.control_two, world.replica, SCOPE) == (2, False)
    monkeypatch.setattr(sharding, "LARGE_OBJECTS", 10)
    assert sharding.next_run(world.control_two, world.replica, SCOPE) == (2, True)


def test_waiting_ends_when_all_others_are_done() -> None:
    world = filled(10)

    def others(now: float) -> None:
        if now == 60:
            journal(world, Share(1, 3)).finish()
        if now == 150:
            journal(world, Share(2, 3)).finish()

    assert waited(world, Share(0, 3), others) == (True, 150)


def test_waiting_ends_two_minutes_after_the_last_sign() -> None:
    world = filled(3000)
    journal(world, Share(1, 3)).finish()

    def others(now: float) -> None:
        if now == 100:
            world.replicate(share=Share(2, 3))
            for name in [n for n in world.replica.objects if n.endswith("done") and "-2of3-" in n]:
                del world.replica.objects[name]

    assert waited(world, Share(0, 3), others) == (False, 222)


def test_waiting_ends_with_the_run() -> None:
    def over() -> None:
        raise BackupError("over")

    with pytest.raises(BackupError, match="over"):
        sharding.await_others(World().replica, SCOPE, 1, Share(0, 2), over)
