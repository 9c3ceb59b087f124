"""Two sites in memory, and what a tenant's data should look like there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from domicile.backup import records
from domicile.backup.keys import TenantKey
from domicile.backup.records import Fence
from domicile.backup.replicate import Outcome, replicate
from domicile.backup.restore import Restored, restore
from domicile.backup.sealing import Sealer
from domicile.backup.stores.base import ObjectInfo
from tests.memory_bucket import MemoryBucket

TENANT = "ab" * 16
ZONE = "eu"
KEY = TenantKey("k1", bytes(range(32)))
DIGEST = "0" * 64


class WithoutChecksums(MemoryBucket):
    """A bucket whose listing names no checksum, as S3's."""

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        for info in super().list(prefix):
            yield ObjectInfo(info.name, info.version, info.size)


class World:
    """Site ``one`` serves the tenant, site ``two`` keeps the replica."""

    def __init__(self) -> None:
        self.live = MemoryBucket("one", "live")
        self.control_one = MemoryBucket("one", "control")
        self.control_two = MemoryBucket("two", "control")
        self.replica = MemoryBucket("two", "replica")

    @property
    def buckets(self) -> list[MemoryBucket]:
        return [self.live, self.control_one, self.control_two, self.replica]

    def write(self, name: str, data: bytes) -> None:
        self.live.write(name, iter((data,)), len(data))

    def contents(self) -> dict[str, bytes]:
        return contents(self.live)

    def replicate(self, *, key: TenantKey = KEY, epoch: int = 1, **other: Any) -> Outcome:
        return replicate(
            self.live,
            self.replica,
            self.control_two,
            self.control_one,
            key,
            **{"tenant": TENANT, "zone": ZONE, "epoch": epoch, "residency_digest": DIGEST} | other,
        )

    def restore(self, target: MemoryBucket | None = None, *, key: TenantKey = KEY, **other: Any) -> Restored:
        scope = {"tenant": TENANT, "zone": ZONE} | other
        return restore(self.control_two, self.replica, target or MemoryBucket("two", "fresh"), key, **scope)

    def restored(self, seq: int | None = None) -> dict[str, bytes]:
        target = MemoryBucket("two", "fresh")
        self.restore(target, seq=seq)
        return contents(target)

    def fence(self, epoch: int) -> Fence:
        return records.fence(self.control_two, TENANT, epoch, Sealer(KEY.key_id, KEY.secret))

    def highest(self) -> int:
        slot = records.highest(self.control_two, TENANT)
        return slot.seq if slot else 0


def contents(bucket: MemoryBucket) -> dict[str, bytes]:
    """Names and bytes of all objects, past any hook."""
    return {name: data for name, (_, data) in bucket.objects.items()}
