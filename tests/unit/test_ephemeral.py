"""What ends with a session enters no snapshot, comes back by no restore, and is in no restore's way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domicile.backup import changes, ephemeral, records
from domicile.backup.errors import LiveNotEmptyError
from domicile.backup.restore import Mode, require_restorable
from domicile.backup.sealing import Sealer
from domicile.backup.snapshot import Scope, Snapshot, read_root
from domicile.backup.stores.base import ObjectInfo, infos_of, pages_of
from tests.memory_bucket import MemoryBucket
from tests.unit.world import KEY, TENANT, ZONE, World, contents

LASTING = {"a": b"1", "ephemeral": b"2", "ephemeral.txt": b"3", "ephemeral0": b"4", "ephemerals/x": b"5", "z": b"6"}
ENDING = {"ephemeral/": b"7", "ephemeral/1/turn": b"8", "ephemeral/\U0001f600": b"9"}


def filled(**more: bytes) -> World:
    world = World()
    for name, data in {**LASTING, **ENDING, **more}.items():
        world.write(name, data)
    return world


def test_a_snapshot_has_everything_but_what_ends_with_a_session() -> None:
    world = filled()
    outcome = world.replicate()
    assert (outcome.objects, outcome.changed) == (len(LASTING), len(LASTING))
    assert world.restored() == LASTING
    world.write("ephemeral/2/turn", b"later")
    assert world.replicate().unchanged
    assert not [n for op, n in world.live.calls if op == "read" and n.startswith("ephemeral/")]


@given(
    st.lists(st.sampled_from([*LASTING, *ENDING, "ephemeral/~", "ephemerak", "\U0010ffff"]), unique=True),
    st.integers(1, 4),
)
def test_a_listing_loses_these_names_and_no_other(names: list[str], size: int) -> None:
    infos = [ObjectInfo(name, "1", 1) for name in sorted(names)]
    left = list(infos_of(ephemeral.lasting(pages_of(infos, size))))
    assert left == [info for info in infos if not ephemeral.is_ephemeral(info.name)]


@pytest.mark.parametrize(("mode", "left"), [(Mode.FRESH, False), (Mode.EXACT, False), (Mode.MERGE, True)])
def test_what_a_live_bucket_holds_of_ended_sessions_is_in_no_restores_way(mode: Mode, left: bool) -> None:
    world = filled()
    world.replicate()
    home = MemoryBucket("two", "home")
    for name, data in (ENDING | {"a": b"1"}).items():
        home.write(name, iter((data,)), len(data))
    require_restorable(world.control_two, world.replica, home, KEY, TENANT, ZONE)
    counted = world.restore(home, mode=mode, dry_run=True)
    assert contents(home) == ENDING | {"a": b"1"}
    done = world.restore(home, mode=mode)
    assert (done.deleted, done.skipped) == (counted.deleted, 1) == (0 if left else len(ENDING), 1)
    assert contents(home) == LASTING | (ENDING if left else {})


def test_what_else_a_live_bucket_holds_still_is() -> None:
    world = filled()
    world.replicate()
    home = MemoryBucket("two", "home")
    for name in ("ephemeral/1", "said"):
        home.write(name, iter((b"x",)), 1)
    with pytest.raises(LiveNotEmptyError, match="1 of 1"):
        world.restore(home)
    assert contents(home).keys() == {"ephemeral/1", "said"}


def test_they_are_no_difference() -> None:
    world = filled()
    world.replicate()
    world.write("b", b"new")
    scope = Scope(TENANT, ZONE, Sealer(KEY.key_id, KEY.secret))
    commit = records.tip(world.control_two, TENANT, scope.sealer).commit
    assert commit is not None
    last = Snapshot(world.replica, scope, read_root(world.replica, scope, commit))
    found = [d.name for d in changes.since(last, world.live) if d.kind is not changes.Kind.UNCHANGED]
    assert found == ["b"]
