"""The sealed mirror: what two sites hold of a tenant's definition comes together again."""

from __future__ import annotations

from domicile.backup import mirror
from tests.memory_bucket import MemoryBucket
from tests.unit.world import KEY, TENANT, ZONE


def test_equal_documents_are_written_once() -> None:
    one, two = MemoryBucket("one", "control"), MemoryBucket("two", "control")
    for _ in range(2):
        assert mirror.publish([one, two], KEY, TENANT, ZONE, {"name": "bank"}) == 1
    assert one.objects.keys() == two.objects.keys() == {f"tenants/{TENANT}/{1:010d}"}


def test_a_revision_that_both_sites_wrote_while_cut_off_is_superseded() -> None:
    one, two = MemoryBucket("one", "control"), MemoryBucket("two", "control")
    mirror.publish([one], KEY, TENANT, ZONE, {"name": "stale"})
    mirror.publish([two], KEY, TENANT, ZONE, {"name": "ruling"})
    assert mirror.publish([two, one], KEY, TENANT, ZONE, {"name": "ruling"}) == 2
    assert mirror.read(one, KEY, TENANT, ZONE) == mirror.read(two, KEY, TENANT, ZONE) == (2, {"name": "ruling"})
