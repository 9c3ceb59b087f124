"""The replicator: who is due, who may replicate, and that one tenant's failure reaches nobody else."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from domicile.api.sites import ServedZone, SiteFile
from domicile.api.zone import ResidencyZoneSpec, Site
from domicile.backup import binding, claims, kek, keys, mirror, proofs, records, worker
from domicile.backup.claims import Claim, Mode
from domicile.backup.errors import FencedError, HeldError, IntegrityError, WrongKeyError
from domicile.backup.keeper import Keeper
from domicile.backup.kek import KeyRing
from domicile.backup.progress import Fields
from domicile.backup.residency import SITE_SUBJECTS, ResidencyError
from domicile.backup.stores.base import DeniedError, EncryptionError, NotFoundError, StoreError
from domicile.backup.worker import DeadlineError, NotHolderError, Replicator
from tests.memory_bucket import MemoryBucket

NOW = datetime(2026, 1, 31, 12, 34, 56, tzinfo=UTC)


def site(name: str, region: str) -> dict[str, Any]:
    stores = {"profile": "compatible", "endpoint": "http://127.0.0.1:9", "live": {"pool": [f"{name}-live"]}}
    stores |= {role: f"{name}-{role}" for role in ("replica", "keys", "control")}
    return {"name": name, "cloud": "gcp", "region": region, "stores": stores, "key": {"name": name}}


def zone(sites: int = 2, **other: Any) -> ResidencyZoneSpec:
    regions = ["europe-west3", "europe-west4"]
    both = [site("one", regions[0]), site("two", regions[1])][:sites]
    allowed = [{"cloud": "gcp", "regions": regions}]
    dates = {"attestedOn": "2026-01-01", "expiresOn": "2027-01-01", "statement": "two sites in memory"}
    attestations = [{"site": s["name"], "subject": subject, **dates} for s in both for subject in SITE_SUBJECTS]
    wire = {"jurisdiction": "EU", "allowedRegions": allowed, "sites": both, "attestations": attestations}
    return ResidencyZoneSpec.model_validate(wire | other)


class Sites:
    """Both sites in memory, as site ``one`` sees them, and tenants that it holds."""

    def __init__(self, folder: Path, spec: ResidencyZoneSpec | None = None) -> None:
        spec = spec or zone()
        for name in ("one", "two"):
            kek.generate(name, folder)
        self.buckets: dict[tuple[str, str], MemoryBucket] = {}
        self.keys = KeyRing(folder, folder)
        self.zones = [ServedZone(name="eu", site="one", spec=spec)]
        self.replicator = Replicator(SiteFile(zones=self.zones), self.bucket, self.keys, clock=lambda: NOW)

    def bucket(self, at: Site, name: str) -> MemoryBucket:
        known = self.buckets.get((at.name, name))
        return known or self.buckets.setdefault((at.name, name), MemoryBucket(at.name, name, location=at.region))

    def at(self, name: str, role: str) -> MemoryBucket:
        spec = next(s for s in self.zones[0].spec.sites if s.name == name)
        return self.bucket(spec, f"{name}-{role}")

    def tenant(self, number: int, *, holder: str = "one", opened: bool = True) -> str:
        tenant = f"{number:032x}"
        one, two = self.at("one", "keys"), self.at("two", "keys")
        own = self.keys.own(self.zones[0])
        keys.mint_tenant_key(own, one, tenant, "eu", self.keys.peer(self.zones[0]), two)
        controls = [self.at("one", "control"), self.at("two", "control")]
        claim = Claim.new(tenant, 1, holder=holder, mode=Mode.INITIAL, request_id=tenant)
        claims.write_claim(claim, controls)
        if opened:
            claims.mark_open(controls[0], tenant, 1)
        binding.bind_live(controls[0], tenant, f"live-{number}")
        self.live(number).write("a", iter((b"text",)), 4)
        mirror.publish(controls, keys.open_tenant_key(own, one, tenant, "eu"), tenant, "eu", {"n": number})
        return tenant

    def live(self, number: int) -> MemoryBucket:
        return self.bucket(self.zones[0].own, f"live-{number}")

    def commit(self, tenant: str) -> records.Slot | None:
        return records.highest(self.at("two", "control"), tenant)

    def highest(self, tenant: str) -> int:
        slot = self.commit(tenant)
        return slot.seq if slot else 0


@pytest.fixture
def sites(tmp_path: Path) -> Sites:
    return Sites(tmp_path)


def test_minutes_spread_over_the_hour() -> None:
    minutes = Counter(worker.minute_of(f"{i:032x}") for i in range(6000))
    assert set(minutes) == set(range(60))
    assert max(minutes.values()) < 200


def test_due_are_the_tenants_of_the_minute(sites: Sites) -> None:
    tenants = [sites.tenant(i) for i in range(4)]
    found = [t for m in range(60) for t in sites.replicator.due(NOW.replace(minute=m))]
    assert sorted(found) == sorted(tenants)
    assert all(t in sites.replicator.due(NOW.replace(minute=worker.minute_of(t))) for t in tenants)


def test_a_held_tenant_is_replicated_once_an_hour(sites: Sites) -> None:
    tenant = sites.tenant(1)
    outcome = sites.replicator.run_one(tenant, sites.zones, NOW)
    assert outcome is not None
    assert (outcome.seq, outcome.objects) == (1, 1)
    slot = sites.commit(tenant)
    assert slot is not None
    assert slot.epoch == 1
    assert slot.residency_digest != "0" * 64
    assert sites.replicator.run_one(tenant, sites.zones, NOW) is None
    assert sites.replicator.run_one(tenant, sites.zones, NOW + timedelta(hours=1)) is not None
    assert sites.replicator.run_one(tenant, sites.zones) is not None


def test_a_tenant_that_is_not_held_or_not_open_is_left_alone(sites: Sites) -> None:
    for number, options in ((1, {"holder": "two"}), (2, {"opened": False})):
        tenant = sites.tenant(number, **options)
        with pytest.raises(NotHolderError):
            sites.replicator.run_one(tenant, sites.zones)
        assert sites.commit(tenant) is None
        assert not [c for c in sites.live(number).calls if c[0] == "read"]
    taken = sites.tenant(3)
    claim = Claim.new(taken, 2, holder="two", mode=Mode.EMERGENCY, request_id="r")
    claims.write_claim(claim, [sites.at("two", "control")])
    with pytest.raises(NotHolderError):
        sites.replicator.run_one(taken, sites.zones)
    with pytest.raises(NotHolderError):
        sites.replicator.run_one("f" * 32, sites.zones)


@pytest.mark.parametrize("role", ["live", "replica", "control"])
def test_no_byte_moves_to_or_from_a_bucket_outside_the_zone(sites: Sites, role: str) -> None:
    tenant = sites.tenant(1)
    outside = sites.live(1) if role == "live" else sites.at("two", role)
    elsewhere = MemoryBucket(outside.site, outside.name, location="us-east1")
    elsewhere.objects = outside.objects
    sites.buckets[outside.site, outside.name] = elsewhere
    with pytest.raises(ResidencyError, match="us-east1"):
        sites.replicator.run_one(tenant, sites.zones)
    assert sites.commit(tenant) is None
    for bucket in (sites.live(1), sites.at("two", "replica")):
        assert not [c for c in bucket.calls if c[0] in {"read", "create"} or c == ("list", "")]


def test_a_run_over_its_time_commits_nothing(sites: Sites) -> None:
    tenant = sites.tenant(1)
    late = Replicator(SiteFile(zones=sites.zones), sites.bucket, sites.keys, deadline_seconds=-1)
    with pytest.raises(DeadlineError):
        late.run_one(tenant, sites.zones)
    assert sites.commit(tenant) is None


def test_a_run_that_would_lose_most_is_held_until_a_person_accepts_it(
    sites: Sites, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = sites.tenant(1)
    for i in range(150):
        sites.live(1).write(f"{i:03}", iter((b"text",)), 4)
    asked: list[dict[str, int]] = []

    @contextmanager
    def watch(watched: str, fields: Fields) -> Iterator[None]:
        assert watched == tenant
        yield
        asked.append(dict(fields()))

    watched = replace(sites.replicator, watch=watch)
    watched.run_one(tenant, sites.zones)
    assert asked[0].items() >= {"listed": 151, "changed": 151}.items()
    for i in range(120):
        sites.live(1).delete(f"{i:03}")
    told = tmp_path / "termination-log"
    told.touch()
    monkeypatch.setattr(worker, "open_bucket", lambda at, name, _: sites.bucket(at, name))
    arguments = (SiteFile(zones=sites.zones), tmp_path, tmp_path, tenant, NOW)
    assert worker.run(*arguments, termination=told) == 5
    assert json.loads(told.read_text())[tenant]["reason"] == "Held"
    assert sites.highest(tenant) == 1
    assert worker.run(*arguments, accept_change=True, termination=told) == 0
    assert sites.highest(tenant) == 2


def test_one_tenants_failure_reaches_no_other(sites: Sites, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad, worse = (sites.tenant(i) for i in (1, 2, 3))
    sites.live(2).fail("list")
    sites.live(3).list = lambda *_: 1 / 0  # type: ignore[assignment]
    failures = worker.run_all({t: lambda t=t: sites.replicator.run_one(t, sites.zones) for t in (bad, good, worse)})
    assert failures.keys() == {bad, worse}
    assert sites.commit(good)
    lines = {line["tenant"]: line for line in map(json.loads, capsys.readouterr().out.splitlines())}
    assert lines[good]["event"] == "replicated"
    assert lines[bad]["reason"] == "Unavailable"
    assert lines[worse] | {"seconds": 0, "time": 0} == lines[worse] | {"reason": "Internal", "seconds": 0, "time": 0}
    told = json.loads(worker.summary(failures))
    assert told[bad]["reason"] == "Unavailable"
    assert "division" not in told[worse]["message"]


def test_a_summary_fits_a_termination_message() -> None:
    failures: dict[str, Exception] = {f"{i:032x}": IntegrityError("x" * 900) for i in range(40)}
    told = worker.summary(failures)
    assert len(told) <= 4096
    assert len(json.loads(told)) >= 5


@pytest.mark.parametrize(
    ("errors", "code"),
    [
        ([], 0),
        ([StoreError(""), ResidencyError("", ()), NotHolderError("")], 1),
        ([ResidencyError("", ()), NotHolderError("")], 3),
        ([EncryptionError("")], 3),
        ([NotHolderError("")], 4),
        ([FencedError("")], 4),
        ([HeldError(""), FencedError("")], 4),
        ([HeldError("")], 5),
        ([ValueError("")], 1),
    ],
)
def test_exit_codes(errors: list[Exception], code: int) -> None:
    assert worker.exit_code(errors) == code


def test_the_command_reports_what_it_could_not_do(tmp_path: Path) -> None:
    spec = zone()
    told = tmp_path / "termination-log"
    told.touch()
    site_file = SiteFile(zones=[ServedZone(name="eu", site="one", spec=spec)])
    code = worker.run(site_file, tmp_path, tmp_path, "a" * 32, NOW, termination=told)
    assert code == 1
    assert set(json.loads(told.read_text())) == {"a" * 32}
    assert worker.run(SiteFile(), tmp_path, tmp_path, None, NOW, termination=tmp_path / "absent") == 0
    assert worker.run(SiteFile(), tmp_path, tmp_path, "a" * 32, NOW, termination=told) == 4


def test_a_due_run_proves_the_keys_of_held_and_other_tenants_alike(
    sites: Sites, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    held, kept, shredded, stray = (
        sites.tenant(1),
        sites.tenant(2, holder="two"),
        sites.tenant(3, holder="two"),
        sites.tenant(4, holder="two"),
    )
    wraps = sites.at("one", "keys")
    for name in [n for n in wraps.objects if f"/{shredded}/" in n]:
        wraps.delete(name)
    for name in [n for n in wraps.objects if f"/{stray}/" in n]:
        wraps.objects[name] = (1, b"damaged")
    monkeypatch.setattr(worker, "minute_of", lambda _: NOW.minute)
    monkeypatch.setattr(worker, "open_bucket", lambda at, name, _: sites.bucket(at, name))
    told = tmp_path / "termination-log"
    told.touch()
    code = worker.run(SiteFile(zones=sites.zones), tmp_path, tmp_path, None, NOW, termination=told)
    assert code == 1
    assert json.loads(told.read_text()).keys() == {stray}
    control, own = sites.at("one", "control"), sites.keys.own(sites.zones[0])
    now = datetime.now(UTC)
    for tenant in (held, kept):
        key = keys.open_tenant_key(own, wraps, tenant, "eu")
        proofs.require(control, key, tenant, "one", now)
    assert not [n for n in control.objects if n.startswith((f"proofs/{shredded}", f"proofs/{stray}"))]
    assert sites.commit(held)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    events = {(line["tenant"], line["event"]) for line in lines}
    assert events >= {(held, "proved"), (kept, "proved"), (shredded, "no key here"), (stray, "not proved")}


def test_two_zones_that_share_buckets_are_told_apart_by_the_key_for_a_proof(sites: Sites) -> None:
    tenant = sites.tenant(1, holder="two")
    other = ServedZone(name="de", site="one", spec=zone())
    keeper = Keeper(sites.bucket, sites.keys)
    assert worker.tend_all(keeper, {tenant: [other, *sites.zones]}) == {}
    assert [n for n in sites.at("one", "control").objects if n.startswith(f"proofs/{tenant}/")]
    failures = worker.tend_all(keeper, {tenant: [other]})
    assert [type(e) for e in failures.values()] == [WrongKeyError]


def test_a_zone_of_one_site_has_nothing_to_replicate_to(tmp_path: Path) -> None:
    sites = Sites(tmp_path, zone(1))
    assert sites.replicator.due(NOW) == {}


def test_two_zones_that_share_a_control_bucket_are_told_apart_by_the_key(sites: Sites) -> None:
    tenant = sites.tenant(1)
    other = ServedZone(name="de", site="one", spec=zone())
    outcome = sites.replicator.run_one(tenant, [other, *sites.zones])
    assert outcome is not None
    sites.at("one", "keys").objects.clear()
    with pytest.raises((NotFoundError, DeniedError)):
        sites.replicator.run_one(tenant, [other, *sites.zones])
