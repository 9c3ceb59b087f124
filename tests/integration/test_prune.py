"""Pruning and scrubbing at real stores, in both directions: killed at any point, with damage, and under a lock."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import threading
from datetime import UTC, datetime, timedelta

import pytest

from domicile.backup import prune, records, scrub
from domicile.backup.errors import BackupError
from domicile.backup.prune import Pruned
from domicile.backup.replicate import replicate
from domicile.backup.restore import restore
from domicile.backup.retention import Retention
from domicile.backup.sealing import Sealer
from tests.integration.stores_fixture import StandinSite, StoreSites
from tests.integration.test_replication import KEY, ZONE, Deadly, Lane, lane
from tests.memory_bucket import MemoryBucket
from tests.unit.world import contents

LAST_TWO = Retention(2, 0, 0)
SEALER = Sealer(KEY.key_id, KEY.secret)
START = datetime(2026, 1, 31, 12, tzinfo=UTC)


class Keeping:
    """A lane whose target prunes; its clock goes on by an hour with each run."""

    def __init__(self, way: Lane) -> None:
        self.way = way
        self.now = START
        self.committed: dict[int, dict[str, bytes]] = {}

    def run(self, **written: bytes) -> int:
        self.now += timedelta(hours=1)
        for name, data in written.items():
            self.way.write(name, data)
        scope = {"tenant": self.way.tenant, "zone": ZONE, "epoch": 1, "residency_digest": "0" * 64}
        said = scrub.newest(self.way.buckets()[2], self.way.tenant, SEALER)
        heal = said.heal if said else frozenset()
        seq = replicate(*self.way.buckets(), KEY, **scope, clock=lambda: self.now, distrusted=heal).seq
        self.committed[seq] = self.way.live()
        return seq

    def prune(self, keep: Retention = LAST_TWO) -> Pruned:
        return pruned(self.way, self.now, keep)

    def scrub(self) -> scrub.Scrubbed:
        _, replica, control, _ = self.way.buckets()
        found = scrub.scrub(control, replica, KEY, self.way.tenant, ZONE, lambda: self.now)
        assert found is not None
        return found

    def standing(self) -> list[int]:
        return [commit.seq for commit in prune.standing(self.way.buckets()[2], self.way.tenant, SEALER)]

    def restored(self, seq: int) -> dict[str, bytes]:
        target = MemoryBucket()
        _, replica, control, _ = self.way.buckets()
        restore(control, replica, target, KEY, self.way.tenant, ZONE, seq=seq)
        return contents(target)

    def look(self) -> None:
        """Every snapshot that stands restores byte for byte, and the newest one stands."""
        standing = self.standing()
        assert standing[-1] == max(self.committed)
        for seq in standing:
            assert self.restored(seq) == self.committed[seq]

    def names(self, kind: str = "") -> list[str]:
        return [info.name for info in self.way.buckets()[1].list(f"{self.way.tenant}/{kind}")]


def pruned(way: Lane, now: datetime, keep: Retention, left: itertools.count[int] | None = None) -> Pruned:
    """Prune at the target; the process is killed after so many store operations."""
    _, replica, control, _ = way.buckets()
    if left is not None:
        lock = threading.Lock()
        replica, control = Deadly(replica, left, lock), Deadly(control, left, lock)  # type: ignore[assignment]
    found = prune.prune(control, replica, KEY, way.tenant, ZONE, keep, lambda: now, grace=timedelta(0))
    assert found is not None
    return found


def prune_and_die(way: Lane, now: datetime, after: int) -> None:
    pruned(way, now, LAST_TWO, itertools.count(after, -1))


@pytest.fixture(params=["gcs to s3", "s3 to gcs"])
def keeping(request: pytest.FixtureRequest, store_sites: StoreSites) -> Keeping:
    sites = (store_sites.gcp, store_sites.aws)
    return Keeping(lane(*(sites if request.param == "gcs to s3" else sites[::-1]), store_sites.credentials))


def test_old_snapshots_go_and_the_others_stay(keeping: Keeping) -> None:
    for n in range(5):
        keeping.run(**{"each": os.urandom(900), f"own-{n}": os.urandom(900), "knowledge/Grüße": b"%d" % n})
        keeping.way.bucket(keeping.way.source, "live").delete(f"own-{n}")
    before = len(keeping.names())
    found = keeping.prune()
    assert (found.kept, found.dropped, found.locked, found.foreign) == ((4, 5), (1, 2, 3), 0, 0)
    assert len(keeping.names()) == before - found.objects
    assert len(keeping.names("manifests/")) == 2
    keeping.look()
    for seq in found.dropped:
        with pytest.raises(BackupError):
            keeping.restored(seq)
    assert keeping.run(each=b"goes on") == 6
    keeping.look()
    _, _, control, _ = keeping.way.buckets()
    assert records.verify_chain(control, keeping.way.tenant, SEALER) == 6


def test_what_is_damaged_is_found_and_healed(keeping: Keeping) -> None:
    keeping.run(small=os.urandom(900), large=os.urandom(20 << 20))
    _, replica, _, _ = keeping.way.buckets()
    victims = keeping.names("packs/")
    assert len(victims) > 2
    for name in victims[1:]:
        data = replica.read(name)
        replica.write(name, iter((data[:-1] + bytes([data[-1] ^ 1]),)), len(data))
    replica.delete(victims[0])
    found = set()
    while len(found) < len(victims):
        keeping.now += timedelta(days=3)
        found |= keeping.scrub().heal
    keeping.run()
    assert keeping.restored(2) == keeping.committed[2]
    assert keeping.scrub().heal == frozenset()
    keeping.prune(Retention(1, 0, 0))
    assert keeping.scrub().damaged == frozenset()
    keeping.look()


def test_a_prune_killed_after_any_store_operation_is_finished_by_the_next(store_sites: StoreSites) -> None:
    keeping = Keeping(lane(store_sites.aws, store_sites.gcp, store_sites.credentials))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    seen = set()
    for after in itertools.count(1, 2):
        while len(keeping.committed) < 3 or len(keeping.standing()) < 3:
            keeping.run(each=os.urandom(500), other=b"%d" % after)
        process = context.Process(target=prune_and_die, args=(keeping.way, keeping.now, after))
        process.start()
        process.join(60)
        seen.add(process.exitcode)
        keeping.look()
        if process.exitcode != -signal.SIGKILL:
            break
    assert seen == {0, -signal.SIGKILL}
    assert after > 12
    for _ in range(2):
        keeping.run(each=os.urandom(500), other=b"last")
        keeping.prune()
        keeping.look()
    assert len(keeping.names("manifests/")) == 2
    assert len(keeping.names("packs/")) == 2


def test_a_run_that_was_killed_leaves_nothing_for_long(store_sites: StoreSites) -> None:
    keeping = Keeping(lane(store_sites.gcp, store_sites.aws, store_sites.credentials))
    keeping.run(each=b"1")
    source, replica, control, own = keeping.way.buckets()
    keeping.way.write("late", os.urandom(999))
    steps = itertools.count()

    def may_go_on() -> None:
        if next(steps) == 2:
            raise BackupError("killed")

    scope = {"tenant": keeping.way.tenant, "zone": ZONE, "epoch": 1, "residency_digest": "0" * 64}
    with pytest.raises(BackupError, match="killed"):
        replicate(source, replica, control, own, KEY, **scope, may_go_on=may_go_on)
    assert keeping.prune().waiting
    keeping.run()
    assert keeping.prune().objects
    assert len(keeping.names("packs/")) == 2
    keeping.look()


def test_a_locked_object_goes_when_its_lock_has_ended(store_sites: StoreSites, standin_site: StandinSite) -> None:
    credentials = store_sites.credentials
    keeping = Keeping(lane(store_sites.aws, standin_site.site, credentials))
    for n in range(3):
        keeping.run(each=b"%d" % n * 99)
    bucket = keeping.way.buckets()[1].name
    standin_site.state.change(bucket, retentionPolicy={"retentionPeriod": "3600"})
    found = keeping.prune(Retention(1, 0, 0))
    assert (found.dropped, found.objects) == ((1, 2), 0)
    assert found.locked >= 6
    keeping.look()
    standin_site.state.ahead = timedelta(hours=2)
    assert keeping.prune(Retention(1, 0, 0)).objects == found.locked
    standin_site.state.ahead = timedelta()
    assert len(keeping.names("manifests/")) == 1
    keeping.look()
