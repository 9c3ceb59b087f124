"""Replication and restore between two real stores, with the replicator killed at every store operation of a run."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import secrets
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from domicile.api.zone import Site
from domicile.backup import records
from domicile.backup.errors import BackupError, IntegrityError, LiveNotEmptyError
from domicile.backup.keys import TenantKey
from domicile.backup.replicate import Outcome, replicate
from domicile.backup.restore import restore, verify
from domicile.backup.stores import open_bucket
from domicile.backup.stores.base import Bucket
from tests.integration.stores_fixture import StoreSites, store_sites  # noqa: F401
from tests.memory_bucket import MemoryBucket
from tests.unit.world import contents

KEY = TenantKey("k1", bytes(range(32)))
ZONE = "eu"


@dataclass(frozen=True)
class Lane:
    """A tenant on its way from one site to another, in buckets of its own."""

    source: Site
    target: Site
    credentials: Path
    tenant: str

    def bucket(self, site: Site, role: str) -> Bucket:
        return open_bucket(site, f"{role}-{self.tenant[:12]}", self.credentials)

    def buckets(self) -> list[Bucket]:
        source, target = self.source, self.target
        return [
            self.bucket(source, "live"),
            self.bucket(target, "replica"),
            self.bucket(target, "control"),
            self.bucket(source, "control"),
        ]

    def replicate(self, buckets: list[Any] | None = None) -> Outcome:
        scope = {"tenant": self.tenant, "zone": ZONE, "epoch": 1, "residency_digest": "0" * 64}
        return replicate(*(buckets or self.buckets()), KEY, **scope)

    def write(self, name: str, data: bytes) -> None:
        self.bucket(self.source, "live").write(name, iter((data,)), len(data))

    def live(self) -> dict[str, bytes]:
        bucket = self.bucket(self.source, "live")
        return {info.name: bucket.read(info.name) for info in bucket.list()}

    def restored(self) -> dict[str, bytes]:
        target = MemoryBucket()
        _, replica, control, _ = self.buckets()
        restore(control, replica, target, KEY, self.tenant, ZONE)
        return contents(target)


def lane(source: Site, target: Site, credentials: Path) -> Lane:
    made = Lane(source, target, credentials, secrets.token_hex(16))
    for bucket in made.buckets():
        bucket.create_bucket()
    return made


@pytest.fixture(params=["gcs to s3", "s3 to gcs"])
def either(request: pytest.FixtureRequest, store_sites: StoreSites) -> Lane:  # noqa: F811
    sites = (store_sites.gcp, store_sites.aws)
    return lane(*(sites if request.param == "gcs to s3" else sites[::-1]), store_sites.credentials)


class Deadly:
    """A bucket whose process is killed right after its share of the run's operations."""

    def __init__(self, bucket: Bucket, left: Iterator[int], lock: threading.Lock) -> None:
        self._bucket, self._left, self._lock = bucket, left, lock
        self.site, self.name = bucket.site, bucket.name

    def __getattr__(self, operation: str) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            result = getattr(self._bucket, operation)(*args, **options)
            result = list(result) if operation == "list" else result
            with self._lock:
                if next(self._left) == 1:
                    os.kill(os.getpid(), signal.SIGKILL)
            return result

        return call


def replicate_and_die(lane: Lane, after: int) -> None:
    left, lock = itertools.count(after, -1), threading.Lock()
    lane.replicate([Deadly(bucket, left, lock) for bucket in lane.buckets()])


def test_a_run_killed_after_any_store_operation_leaves_the_last_commit(store_sites: StoreSites) -> None:  # noqa: F811
    way = lane(store_sites.gcp, store_sites.aws, store_sites.credentials)
    for i in range(4):
        way.write(f"knowledge/{i}.md", os.urandom(500 + i))
    way.replicate()
    committed = {1: way.live()}
    way.bucket(way.source, "live").delete("knowledge/0.md")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    seen = set()
    for after in itertools.count(1):
        way.write("knowledge/1.md", b"%d" % after)
        way.write("conversations/new", b"%d" % after)
        process = context.Process(target=replicate_and_die, args=(way, after))
        process.start()
        process.join(60)
        slot = records.highest(way.bucket(way.target, "control"), way.tenant)
        assert slot is not None
        committed.setdefault(slot.seq, way.live())
        assert way.restored() == committed[slot.seq]
        seen.add(process.exitcode)
        if process.exitcode != -signal.SIGKILL:
            break
    assert seen == {0, -signal.SIGKILL}
    assert after > 12
    assert way.replicate().seq == max(committed) + 1
    _, replica, control, _ = way.buckets()
    assert verify(control, replica, KEY, way.tenant, ZONE).objects == 4


def test_there_and_back(either: Lane) -> None:
    either.write("knowledge/Grüße \U0001f600.md", b"hello")
    either.write("knowledge/empty", b"")
    either.write("conversations/large", os.urandom(40 << 20))
    for i in range(100):
        either.write(f"conversations/{i}/turn", os.urandom(i))
    first = either.replicate()
    assert (first.seq, first.objects, first.changed) == (1, 103, 103)
    second = either.replicate()
    assert second.unchanged
    assert second.bytes_sealed == 0
    _, replica, control, _ = either.buckets()
    home = either.bucket(either.target, "live")
    home.create_bucket()
    done = restore(control, replica, home, KEY, either.tenant, ZONE)
    assert (done.seq, done.objects, done.skipped) == (2, 103, 0)
    assert {info.name: home.read(info.name) for info in home.list()} == either.live()
    assert restore(control, replica, home, KEY, either.tenant, ZONE).skipped == 103
    home.write("conversations/0/turn", iter((b"later",)), 5)
    with pytest.raises(LiveNotEmptyError, match="1 of 103"):
        restore(control, replica, home, KEY, either.tenant, ZONE)


def test_what_ends_with_a_session_enters_no_snapshot(either: Lane) -> None:
    lasting = {"conversations/1/turn": b"agreed to", "ephemeral.md": b"a file", "z": b"last"}
    for name, data in (lasting | {"ephemeral/1/turn": b"not agreed to"}).items():
        either.write(name, data)
    assert either.replicate().objects == len(lasting)
    assert either.restored() == lasting
    either.write("ephemeral/2/turn", b"neither")
    assert either.replicate().unchanged


def test_damage_at_a_real_store_is_named(either: Lane) -> None:
    either.write("a", b"x" * 100)
    either.replicate()
    _, replica, control, _ = either.buckets()
    good = {info.name: replica.read(info.name) for info in replica.list()}
    for name, data in good.items():
        for bad in (data[:-1], data[:-1] + bytes([data[-1] ^ 1]), b""):
            replica.write(name, iter((bad,)), len(bad))
            with pytest.raises(IntegrityError, match=name.rpartition("/")[2]):
                restore(control, replica, MemoryBucket(), KEY, either.tenant, ZONE)
        replica.delete(name)
        with pytest.raises(BackupError, match=name.rpartition("/")[2]):
            restore(control, replica, MemoryBucket(), KEY, either.tenant, ZONE)
        replica.write(name, iter((data,)), len(data))
    assert verify(control, replica, KEY, either.tenant, ZONE).objects == 1
