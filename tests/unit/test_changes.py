"""What differs between snapshots, and since one: against a model, and by content where the store names no checksum."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domicile.backup import changes, records, snapshot
from domicile.backup.changes import Difference, Kind
from domicile.backup.sealing import Sealer
from domicile.backup.snapshot import Scope, Snapshot
from tests.memory_bucket import MemoryBucket
from tests.unit.world import KEY, TENANT, ZONE, WithoutChecksums, World

NAMES = st.sampled_from(["a", "a/", "a//b", "a/b", "b", "kb/\U0001f600", "z" * 1024])
STATE = st.dictionaries(NAMES, st.binary(max_size=2), max_size=6)


def committed(world: World, seq: int) -> Snapshot:
    scope = Scope(TENANT, ZONE, Sealer(KEY.key_id, KEY.secret))
    return Snapshot(
        world.replica, scope, snapshot.read_root(world.replica, scope, records.read(world.control_two, TENANT, seq))
    )


def become(world: World, state: dict[str, bytes]) -> None:
    for name in world.contents().keys() - state.keys():
        world.live.delete(name)
    for name, data in state.items():
        world.write(name, data)


def expected(old: dict[str, bytes], new: dict[str, bytes]) -> list[Difference]:
    found = []
    for name in sorted(old.keys() | new.keys()):
        if name not in old or name not in new:
            kind = Kind.ADDED if name in new else Kind.REMOVED
        else:
            kind = Kind.UNCHANGED if old[name] == new[name] else Kind.CHANGED
        found.append(Difference(kind, name, len(new.get(name, old.get(name, b"")))))
    return found


@settings(deadline=None, max_examples=50)
@given(STATE, STATE, st.sampled_from(["", "a/", "b", "none"]))
def test_a_difference_is_that_of_the_contents(old: dict[str, bytes], new: dict[str, bytes], prefix: str) -> None:
    world = World()
    become(world, old)
    world.replicate()
    become(world, new)
    model = [d for d in expected(old, new) if d.name.startswith(prefix)]
    assert list(changes.since(committed(world, 1), world.live, prefix)) == model
    world.replicate(accept_change=True)
    assert list(changes.between(committed(world, 1), committed(world, 2), prefix)) == model
    assert changes.count(iter(model)).objects == Counter(d.kind for d in model)


@pytest.mark.parametrize("kind", [MemoryBucket, WithoutChecksums])
def test_a_bucket_that_is_not_the_source_is_compared_by_content(kind: type[MemoryBucket]) -> None:
    world, other = World(), kind("two", "other")
    for name, data in (("a", b"same"), ("b", b"was!"), ("c", b"gone")):
        world.write(name, data)
    world.replicate()
    for name, data in (("a", b"same"), ("b", b"is!!"), ("d", b"new")):
        other.write(name, iter((data,)), len(data))
    found = list(changes.since(committed(world, 1), other))
    assert [(d.kind, d.name) for d in found] == [
        (Kind.UNCHANGED, "a"),
        (Kind.CHANGED, "b"),
        (Kind.REMOVED, "c"),
        (Kind.ADDED, "d"),
    ]


def test_what_the_source_lists_in_the_same_version_is_not_read() -> None:
    world = World()
    world.live = WithoutChecksums("one", "live")
    world.write("a", b"same")
    world.write("b", b"same")
    world.replicate()
    world.write("b", b"same")
    world.live.calls.clear()
    assert {d.kind for d in changes.since(committed(world, 1), world.live)} == {Kind.UNCHANGED}
    assert [name for op, name in world.live.calls if op == "read"] == ["b"]
