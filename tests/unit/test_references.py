"""What commits refer to: everything they need is found, in whatever order they are asked, and nothing is read twice."""

from __future__ import annotations

from itertools import permutations

import pytest

from domicile.backup import records
from domicile.backup.errors import IntegrityError
from domicile.backup.references import References
from tests.unit.test_prune_model import SCOPE, PruneWorld
from tests.unit.test_replication_model import shrink_sizes
from tests.unit.world import TENANT


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> PruneWorld:
    """Four commits with shards in common, and deltas that hide ever more of them."""
    shrink_sizes(monkeypatch)
    world = PruneWorld()
    for n in range(12):
        world.write(f"o/{n:02}", b"%d" % n * 40)
    world.replicate()
    for changed in (1, 7, 4):
        world.write(f"o/{changed:02}", b"new" * 30)
        world.replicate()
    return world


def found(world: PruneWorld, *seqs: int) -> set[str]:
    references, packs = References(world.replica, SCOPE), set()
    for seq in seqs:
        for entries in references.entries(records.read(world.control_two, TENANT, seq)):
            packs |= {f"packs/{part.pack}" for entry in entries for part in entry.parts}
    return {f"{TENANT}/{name}" for name in references.names | packs}


def test_nothing_is_missed_in_any_order(world: PruneWorld) -> None:
    for count in (1, 2, 3, 4):
        for seqs in permutations((1, 2, 3, 4), count):
            assert found(world, *seqs) >= world.needed(*seqs)


def test_from_the_oldest_on_nothing_is_read_twice_or_counted_in_vain(world: PruneWorld) -> None:
    before = len(world.replica.calls)
    names = found(world, 1, 2, 3, 4)
    reads = [name for operation, name in world.replica.calls[before:] if operation == "read"]
    assert names == world.needed(1, 2, 3, 4)
    assert sorted(reads) == sorted(name for name in names if "/packs/" not in name)


def test_a_list_that_is_damaged_is_an_error(world: PruneWorld) -> None:
    for name in [n for n in world.needed(4) if "/packs/" not in n]:
        good = world.replica.objects.pop(name)
        with pytest.raises(IntegrityError, match=name):
            found(world, 4)
        world.replica.objects[name] = good
