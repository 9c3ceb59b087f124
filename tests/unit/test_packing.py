"""Runs of one process share a bound on memory, and nothing else: a store that hangs holds up its own tenants only."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from domicile.backup import packing
from domicile.backup.manifest import Entry
from domicile.backup.packing import Packer
from domicile.backup.sealing import Sealer
from domicile.backup.snapshot import Scope
from tests.memory_bucket import MemoryBucket

SIZE = (8 << 20) + 1


def packer(number: int, source: MemoryBucket, replica: MemoryBucket) -> Packer:
    return Packer(source, replica, Scope(f"{number:032x}", "eu", Sealer("k", bytes(32))), 1, lambda: None)


def filled(site: str) -> MemoryBucket:
    bucket = MemoryBucket(site, "live")
    for name in ("a", "b", "c"):
        bucket.write(name, iter((bytes(SIZE),)), SIZE)
    return bucket


def test_a_store_that_hangs_delays_no_tenant_of_another() -> None:
    over, hung = threading.Event(), threading.Semaphore(0)

    def hang(operation: str, _: str) -> None:
        if operation == "create":
            hung.release()
            over.wait(60)

    live, dead = filled("one"), MemoryBucket("two", "replica", before=hang)
    with ThreadPoolExecutor(8) as tenants:
        waiting = [tenants.submit(lambda n: list(packer(n, live, dead).run(live.list())), n) for n in range(6)]
        try:
            for _ in range(4):
                assert hung.acquire(timeout=20)
            others = [(filled("three"), MemoryBucket("two")), (live, MemoryBucket("four"))]
            for source, replica in others:
                served = tenants.submit(lambda s, r: list(packer(9, s, r).run(s.list())), source, replica)
                assert len(served.result(20)) == 3
            assert not any(run.done() for run in waiting)
        finally:
            over.set()
        assert all(len(run.result(20)) == 3 for run in waiting)


def test_of_all_tenants_of_two_stores_at_most_four_packs_are_in_memory() -> None:
    lock, now, most = threading.Lock(), [0], [0]

    def begin(operation: str, _: str) -> None:
        if operation == "read":
            with lock:
                now[0] += 1
                most[0] = max(most[0], now[0])

    def end(operation: str, _: str) -> None:
        if operation == "create":
            with lock:
                now[0] -= 1

    live = filled("one")
    live.before = begin
    replica = MemoryBucket("two", "replica", after=end)
    with ThreadPoolExecutor(6) as tenants:
        runs = [tenants.submit(lambda n: list(packer(n, live, replica).run(live.list())), n) for n in range(6)]
        assert all(len(run.result(60)) == 3 for run in runs)
    assert 1 < most[0] <= 4


def test_tiny_objects_fill_a_pack_by_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "PACK_OBJECTS", 10)
    live, replica = MemoryBucket("one", "live"), MemoryBucket("two", "replica")
    for n in range(35):
        live.write(f"{n:03}", iter((bytes(n % 2),)), n % 2)
    results = [result for _, result in packer(1, live, replica).run(live.list())]
    packs = Counter(part.pack for entry in results if isinstance(entry, Entry) for part in entry.parts)
    assert list(packs.values()) == [10, 10, 10, 5]
    assert len(list(replica.list())) == 4
