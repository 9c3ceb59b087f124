"""What an unlucky or hostile world could do to replication, tried one by one."""

from __future__ import annotations

import pytest

from domicile.backup import manifest, replicate
from domicile.backup.stores.base import UnavailableError
from tests.unit.world import World, contents


def test_a_run_over_many_tiny_objects_is_journaled_and_resumed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their bytes alone would never fill a journal, and then their rows would be more than a reader takes."""
    monkeypatch.setattr(manifest, "MAX_OBJECTS", 1000)
    monkeypatch.setattr(replicate, "JOURNAL_ROWS", 1200)
    world = World()
    for i in range(3000):
        world.write(f"{i:04}", b"")
    world.replica.fail("create", matching="/manifests/")
    with pytest.raises(UnavailableError):
        world.replicate()
    assert sum("/journals/" in name for name in contents(world.replica)) == 4
    assert world.replicate().changed == 3000 - 2 * 1200
    assert world.restored() == world.contents()
