"""What a site does for the replicas that it keeps: for whom, by whose word, and apart from each other's failures."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from domicile.api.sites import ServedZone, SiteFile
from domicile.backup import keys, mirror, prune, records, scrub, sharding, worker
from domicile.backup.errors import IntegrityError, WrongKeyError
from domicile.backup.journal import Share
from domicile.backup.keeper import PRUNE_EVERY, SCRUB_EVERY, DamagedError, Keeper
from domicile.backup.residency import ResidencyError
from domicile.backup.sealing import Sealer
from domicile.backup.stores.base import UnavailableError
from domicile.backup.worker import Replicator
from tests.memory_bucket import MemoryBucket
from tests.unit.test_worker import NOW, Sites, zone

HOUR = timedelta(hours=1)


class Kept(Sites):
    """Tenants at site ``one`` whose replicas site ``two`` keeps."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.now = NOW
        self.replicator = Replicator(SiteFile(zones=self.zones), self.bucket, self.keys, clock=lambda: self.now)
        self.there = [ServedZone(name="eu", site="two", spec=self.zones[0].spec)]
        self.keeper = Keeper(self.bucket, self.keys, lambda: self.now)

    def say(self, tenant: str, document: dict[str, Any]) -> None:
        controls = [self.at("one", "control"), self.at("two", "control")]
        mirror.publish(controls, self.key(tenant), tenant, "eu", document)

    def keep(self, tenant: str, **retention: int) -> None:
        self.say(tenant, {"spec": {"replication": {"retention": retention}}})

    def key(self, tenant: str) -> keys.TenantKey:
        return keys.open_tenant_key(self.keys.own(self.zones[0]), self.at("one", "keys"), tenant, "eu")

    def replicate(self, tenant: str, count: int = 1) -> None:
        for _ in range(count):
            self.now += HOUR
            assert self.replicator.run_one(tenant, self.zones)

    def standing(self, tenant: str) -> list[int]:
        key = self.key(tenant)
        found = prune.standing(self.at("two", "control"), tenant, Sealer(key.key_id, key.secret))
        return [commit.seq for commit in found]

    def spoil(self, tenant: str, kind: str = "packs") -> None:
        replica = self.at("two", "replica")
        newest = max((at, n) for n, (at, _) in replica.objects.items() if n.startswith(f"{tenant}/{kind}/"))
        name = newest[1]
        generation, data = replica.objects[name]
        replica.objects[name] = (generation, data[:-1] + bytes([data[-1] ^ 1]))


@pytest.fixture
def sites(tmp_path: Path) -> Kept:
    return Kept(tmp_path)


def test_snapshots_are_kept_as_the_definition_says(sites: Kept) -> None:
    tenant = sites.tenant(1)
    sites.replicate(tenant, 5)
    sites.keep(tenant, hourly=2, daily=0, monthly=0)
    found = sites.keeper.prune(tenant, sites.there)
    assert found is not None
    assert (found.kept, found.dropped) == ((4, 5), (1, 2, 3))
    assert sites.standing(tenant) == [4, 5]
    other = sites.tenant(2)
    sites.replicate(other, 5)
    assert sites.keeper.prune(other, sites.there)
    assert sites.standing(other) == [1, 2, 3, 4, 5]


def test_once_a_day_is_enough_but_for_what_must_go_now(sites: Kept) -> None:
    tenant = sites.tenant(1)
    sites.keep(tenant, hourly=9, longestDays=2)
    sites.replicate(tenant, 3)
    assert sites.keeper.prune(tenant, sites.there, every=PRUNE_EVERY)
    sites.replicate(tenant)
    assert sites.keeper.prune(tenant, sites.there, every=PRUNE_EVERY) is None
    sites.keep(tenant, hourly=2, daily=0, monthly=0, longestDays=2)
    found = sites.keeper.prune(tenant, sites.there, every=PRUNE_EVERY)
    assert found is not None
    assert found.kept == (3, 4)
    sites.now += PRUNE_EVERY
    assert sites.keeper.prune(tenant, sites.there, every=PRUNE_EVERY)
    sites.now += timedelta(hours=48) - PRUNE_EVERY
    found = sites.keeper.prune(tenant, sites.there, every=PRUNE_EVERY)
    assert found is not None
    assert (found.kept, found.dropped) == ((4,), (3,))


def test_a_share_every_few_hours_is_enough_but_for_damage(sites: Kept) -> None:
    tenant = sites.tenant(1)
    sites.replicate(tenant)
    assert sites.keeper.scrub(tenant, sites.there, every=SCRUB_EVERY)
    sites.now += HOUR
    assert sites.keeper.scrub(tenant, sites.there, every=SCRUB_EVERY) is None
    sites.spoil(tenant)
    sites.now += SCRUB_EVERY
    for _ in range(3):
        sites.now += HOUR
        with pytest.raises(DamagedError):
            sites.keeper.scrub(tenant, sites.there, every=SCRUB_EVERY)


def test_what_is_not_kept_here_or_not_said_is_left_alone(sites: Kept) -> None:
    tenant = sites.tenant(1)
    sites.replicate(tenant, 3)
    assert sites.keeper.prune(tenant, sites.zones) is None, "the writer's own site keeps no replica of it"
    assert sites.keeper.scrub(tenant, sites.zones) is None
    assert sites.keeper.prune("f" * 32, sites.there) is None
    assert sites.keeper.scrub("f" * 32, sites.there) is None
    sites.say(tenant, {"name": "acme", "deleted": True})
    assert sites.keeper.prune(tenant, sites.there) is None
    for name in [n for n in sites.at("two", "control").objects if n.startswith("tenants/")]:
        sites.at("two", "control").delete(name)
    assert sites.keeper.prune(tenant, sites.there) is None
    assert sites.standing(tenant) == [1, 2, 3]


@pytest.mark.parametrize(
    "document", [{"spec": 1}, {"spec": {"replication": {"retention": {"hourly": -1}}}}, {"spec": {"replication": []}}]
)
def test_a_definition_that_says_nothing_known_prunes_nothing(sites: Kept, document: dict[str, Any]) -> None:
    tenant = sites.tenant(1)
    sites.replicate(tenant, 3)
    sites.say(tenant, document)
    before = dict(sites.at("two", "replica").objects)
    with pytest.raises(IntegrityError, match="says in no known way which snapshots to keep"):
        sites.keeper.prune(tenant, sites.there)
    assert sites.at("two", "replica").objects == before


@pytest.mark.parametrize("role", ["replica", "control"])
def test_nothing_is_read_or_deleted_where_a_bucket_drifted(sites: Kept, role: str) -> None:
    tenant = sites.tenant(1)
    sites.replicate(tenant, 3)
    old = sites.at("two", role)
    drifted = MemoryBucket("two", old.name, location="us-east1")
    drifted.objects = old.objects
    sites.buckets["two", old.name] = drifted
    replica = sites.at("two", "replica")
    calls = len(replica.calls)
    for duty in (sites.keeper.prune, sites.keeper.scrub):
        with pytest.raises(ResidencyError, match="us-east1"):
            duty(tenant, sites.there)
    assert {operation for operation, _ in replica.calls[calls:]} <= {"facts"}


def test_two_zones_that_share_buckets_are_told_apart_by_the_key(sites: Kept) -> None:
    tenant = sites.tenant(1)
    sites.replicate(tenant, 3)
    other = ServedZone(name="de", site="two", spec=zone())
    assert sites.keeper.prune(tenant, [other, *sites.there])
    assert sites.keeper.scrub(tenant, [other, *sites.there])
    for duty in (sites.keeper.prune, sites.keeper.scrub):
        with pytest.raises(WrongKeyError):
            duty(tenant, [other])


def test_damage_is_told_and_healed_by_the_next_run(sites: Kept) -> None:
    tenant = sites.tenant(1)
    sites.replicate(tenant)
    sites.spoil(tenant)
    with pytest.raises(DamagedError, match=r"1 packs of the newest snapshot, whose objects the next run seals anew"):
        sites.keeper.scrub(tenant, sites.there)
    sites.replicate(tenant)
    with pytest.raises(DamagedError, match=r"1 packs of older snapshots .*domicile prune --give-up"):
        sites.keeper.scrub(tenant, sites.there)
    assert sites.keeper.prune(tenant, sites.there, given_up=[1])
    assert sites.keeper.scrub(tenant, sites.there)


@pytest.mark.parametrize("shares", [1, 2])
@pytest.mark.parametrize("kind", ["manifests", "shards"])
def test_a_newest_snapshot_that_cannot_be_read_is_replaced_by_the_next_run(sites: Kept, kind: str, shares: int) -> None:
    tenant = sites.tenant(1)
    if shares > 1:
        share = next(s for s in (Share(0, 2), Share(1, 2)) if sharding.commits(s, tenant))
        sites.replicate(tenant)
        sites.replicator = replace(sites.replicator, share=share)
    sites.replicate(tenant)
    sites.spoil(tenant, kind)
    newest = max(sites.standing(tenant))
    with pytest.raises(DamagedError, match=rf"the lists of snapshots (1, )?{newest};"):
        sites.keeper.scrub(tenant, sites.there)
    key = sites.key(tenant)
    said = scrub.newest(sites.at("two", "control"), tenant, Sealer(key.key_id, key.secret))
    assert said is not None
    sites.replicate(tenant)
    with pytest.raises(IntegrityError, match="nothing was pruned: snapshot"):
        sites.keeper.prune(tenant, sites.there)
    assert sites.keeper.prune(tenant, sites.there, given_up=said.unreadable)
    assert sites.keeper.scrub(tenant, sites.there)
    sites.replicate(tenant)


def test_a_scrub_note_that_was_changed_stops_the_writer(sites: Kept) -> None:
    tenant = sites.tenant(1)
    sites.replicate(tenant)
    assert sites.keeper.scrub(tenant, sites.there)
    control = sites.at("two", "control")
    name = next(n for n in control.objects if n.startswith("scrubs/"))
    control.objects[name] = (1, control.objects[name][1].replace(b'"packs":1', b'"packs":2'))
    with pytest.raises(IntegrityError, match="note 1 under scrubs/"):
        sites.replicate(tenant)


def test_neither_tenants_nor_duties_stop_each_other(sites: Kept, capsys: pytest.CaptureFixture[str]) -> None:
    good, unread, damaged, stray = (sites.tenant(n) for n in (1, 2, 3, 4))
    for tenant in (good, unread, damaged):
        sites.keep(tenant, hourly=1, daily=0, monthly=0)
        sites.replicate(tenant, 2)
    key = sites.key(unread)
    newest = records.highest(sites.at("two", "control"), unread)
    assert newest is not None
    del sites.at("two", "replica").objects[f"{unread}/manifests/{newest.manifest}"]
    sites.spoil(damaged)
    capsys.readouterr()
    tenants = dict.fromkeys((good, unread, damaged, stray), sites.there)
    failures = worker.keep_all(sites.keeper, tenants)
    assert {t: type(e) for t, e in failures.items()} == {unread: IntegrityError, damaged: DamagedError}
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    events = {(line["tenant"], line["event"]) for line in lines}
    assert events == {
        (good, "pruned"),
        (good, "scrubbed"),
        (unread, "not pruned"),
        (unread, "not scrubbed"),
        (damaged, "pruned"),
        (damaged, "not scrubbed"),
    }
    told = next(line for line in lines if (line["tenant"], line["event"]) == (good, "pruned"))
    assert (told["kept"], told["dropped"], told["foreign"]) == (1, 1, 0)
    assert key.secret.hex() not in str(lines)
    assert json.loads(worker.summary(failures))[damaged]["reason"] == "Damaged"


def test_a_store_that_fails_for_one_tenant_is_that_tenants_failure(sites: Kept) -> None:
    good, bad = sites.tenant(1), sites.tenant(2)
    for tenant in (good, bad):
        sites.replicate(tenant)
    sites.at("two", "replica").fail("read", times=99, matching=bad)
    failures = worker.keep_all(sites.keeper, dict.fromkeys((good, bad), sites.there))
    assert {t: type(e) for t, e in failures.items()} == {bad: UnavailableError}


def test_a_due_run_keeps_the_replicas_of_the_minute(
    sites: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tenant = sites.tenant(1)
    sites.replicate(tenant, 2)
    sites.spoil(tenant)
    monkeypatch.setattr(worker, "minute_of", lambda _: NOW.minute)
    monkeypatch.setattr(worker, "open_bucket", lambda at, name, _: sites.bucket(at, name))
    told = tmp_path / "termination-log"
    told.touch()
    code = worker.run(SiteFile(zones=sites.there), tmp_path, tmp_path, None, NOW, termination=told)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {(line["tenant"], line["event"]) for line in lines} >= {(tenant, "pruned"), (tenant, "not scrubbed")}
    assert (code, json.loads(told.read_text())[tenant]["reason"]) == (1, "Damaged")
    by_hand = worker.run(SiteFile(zones=sites.there), tmp_path, tmp_path, tenant, NOW, termination=told)
    assert by_hand == worker.NOT_HOLDER
    assert not [line for line in capsys.readouterr().out.splitlines() if "scrubbed" in line]
