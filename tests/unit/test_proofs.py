"""Proofs that a site opens a tenant's key: who can write one, which count, and how long they are kept."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from domicile.backup import proofs
from domicile.backup.errors import IntegrityError, WrongKeyError
from domicile.backup.keeper import Keeper
from domicile.backup.kek import KeyUnavailableError
from domicile.backup.keys import TenantKey, key_ids
from domicile.backup.proofs import NotProvenError
from domicile.backup.stores.base import NotFoundError, UnavailableError
from tests.memory_bucket import MemoryBucket
from tests.unit.key_sites import TENANT, KeySites

NOW = datetime(2026, 1, 31, 12, 34, 56, tzinfo=UTC)
HOUR = datetime(2026, 1, 31, 12, tzinfo=UTC)
KEY = TenantKey(f"{1:010d}-{'a' * 32}", bytes(range(32)))
NAME = f"proofs/{TENANT}/{KEY.key_id}/2026013112"


@pytest.fixture
def control() -> MemoryBucket:
    return MemoryBucket("two", "two-control")


def publish(control: MemoryBucket, now: datetime = NOW, key: TenantKey = KEY, site: str = "two") -> None:
    proofs.publish(control, key, TENANT, site, now)


def newest(control: MemoryBucket, now: datetime = NOW, key: TenantKey = KEY) -> datetime | None:
    return proofs.newest(control, key, TENANT, "two", now)


def test_a_proof_is_one_object_an_hour(control: MemoryBucket) -> None:
    publish(control)
    publish(control, NOW + timedelta(minutes=20))
    assert list(control.objects) == [NAME]
    written = json.loads(control.read(NAME))
    mac = written.pop("mac")
    assert len(mac) == 64
    assert written == {"version": 1, "tenant": TENANT, "keyId": KEY.key_id, "site": "two", "hour": "2026013112"}
    assert newest(control) == HOUR
    publish(control, NOW + timedelta(hours=1))
    assert newest(control, NOW + timedelta(hours=1)) == HOUR + timedelta(hours=1)


def test_the_hour_is_utc_wherever_the_clock_is(control: MemoryBucket) -> None:
    publish(control, NOW.astimezone().astimezone(UTC))
    publish(control, datetime.fromisoformat("2026-01-31T18:04:56+05:30"))
    assert list(control.objects) == [NAME]


@pytest.mark.parametrize(("hours", "counts"), [(0, True), (2, True), (3, False), (40, False)])
def test_a_proof_counts_for_two_hours_and_the_rest_of_one(control: MemoryBucket, hours: int, counts: bool) -> None:
    publish(control)
    now = HOUR + timedelta(hours=hours, minutes=1)
    if counts:
        proofs.require(control, KEY, TENANT, "two", now)
    else:
        with pytest.raises(NotProvenError, match=f"site two has not shown.*{KEY.key_id} of tenant {TENANT}"):
            proofs.require(control, KEY, TENANT, "two", now)


def test_no_proof_is_none(control: MemoryBucket) -> None:
    assert newest(control) is None
    with pytest.raises(NotProvenError):
        proofs.require(control, KEY, TENANT, "two", NOW)
    publish(control, key=TenantKey(f"{2:010d}-{'b' * 32}", bytes(32)))
    assert newest(control) is None


def test_a_proof_of_another_key_site_tenant_or_hour_does_not_verify(control: MemoryBucket) -> None:
    forgeries = []
    for key, site, tenant, now in (
        (replace(KEY, secret=bytes(32)), "two", TENANT, NOW),
        (KEY, "one", TENANT, NOW),
        (KEY, "two", "f" * 32, NOW),
        (KEY, "two", TENANT, NOW - timedelta(hours=1)),
    ):
        scratch = MemoryBucket()
        proofs.publish(scratch, key, tenant, site, now)
        forgeries += [data for _, data in scratch.objects.values()]
    publish(scratch := MemoryBucket())
    good = scratch.read(NAME)
    forgeries += [good[:-2], good + b" ", b"", good.replace(b'"version":1', b'"version":2')]
    for data in forgeries:
        control.objects.clear()
        control.create(NAME, data)
        with pytest.raises(IntegrityError, match=r"proof 2026013112 of site two .* does not verify"):
            newest(control)
        with pytest.raises(IntegrityError):
            proofs.require(control, KEY, TENANT, "two", NOW)
        with pytest.raises(IntegrityError, match="something else stands"):
            publish(control)


def test_a_proof_from_the_future_is_no_proof(control: MemoryBucket) -> None:
    publish(control, NOW + timedelta(hours=1))
    assert newest(control) == HOUR + timedelta(hours=1)
    publish(control, NOW + timedelta(hours=2))
    with pytest.raises(IntegrityError, match="in the future: correct that site's clock"):
        newest(control)


def test_an_hour_that_does_not_exist_is_said(control: MemoryBucket) -> None:
    control.create(f"{NAME[:-4]}9999", b"{}")
    with pytest.raises(IntegrityError):
        newest(control)
    strange = proofs._proof(KEY, TENANT, "two", "2026019999")
    control.objects[f"{NAME[:-4]}9999"] = (1, strange)
    with pytest.raises(IntegrityError, match="no hour that exists"):
        newest(control)


def test_a_lost_answer_does_no_harm(control: MemoryBucket) -> None:
    control.fail("create", lost="answer")
    publish(control)
    assert newest(control) == HOUR
    control.fail("create", lost="request")
    with pytest.raises(UnavailableError):
        publish(control, NOW + timedelta(hours=1))


def test_a_proof_pruned_while_it_is_looked_for_is_none(control: MemoryBucket) -> None:
    publish(control)
    control.before = lambda operation, _: control.objects.clear() if operation == "read" else None
    assert newest(control) is None


def test_two_days_of_proofs_are_kept(control: MemoryBucket) -> None:
    for hours in range(60):
        publish(control, NOW - timedelta(hours=hours))
    others = [f"proofs/{'f' * 32}/{KEY.key_id}/2020010100", f"proofs/{TENANT}/what/2020010100", "claims/x"]
    for name in others:
        control.create(name, b"?")
    assert proofs.prune(control, TENANT, NOW) == 11
    kept = [name for name in control.objects if name.startswith(f"proofs/{TENANT}/{KEY.key_id}/")]
    assert (len(kept), min(kept)[-10:]) == (49, "2026012912")
    assert set(others) <= set(control.objects)
    assert proofs.prune(control, TENANT, NOW) == 0


class At:
    """A keeper of one of two sites, which sees its own stores only."""

    def __init__(self, sites: KeySites, site: str) -> None:
        self.sites, self.site = sites, site
        self.keeper = Keeper(self.bucket, sites.ring(site), lambda: NOW)

    def bucket(self, at: object, name: str) -> MemoryBucket:
        assert getattr(at, "name", None) == self.site, "the other site may be down: it must not be asked"
        return self.sites.keys(self.site) if name.endswith("-keys") else self.sites.control(self.site)

    def tend(self) -> None:
        self.keeper.tend(TENANT, self.sites.zone(self.site))


@pytest.fixture
def sites(tmp_path: Path) -> KeySites:
    made = KeySites(tmp_path)
    made.mint()
    return made


@pytest.mark.parametrize("site", ["one", "two"])
def test_a_keeper_proves_each_key_with_its_own_stores_alone(sites: KeySites, site: str) -> None:
    sites.mint_another()
    old = proofs._name(TENANT, key_ids(sites.one_keys, TENANT)[0], "2026010100")
    sites.control(site).create(old, b"old")
    At(sites, site).tend()
    other = sites.open("two" if site == "one" else "one")
    assert proofs.newest(sites.control(site), other, TENANT, site, NOW) == HOUR
    assert len(sites.control(site).objects) == 2
    assert old not in sites.control(site).objects


def test_a_keeper_that_cannot_open_proves_nothing(sites: KeySites) -> None:
    private = sites.folder / "two" / "two.private.json"
    content = private.read_bytes()
    private.unlink()
    with pytest.raises(KeyUnavailableError, match=r"two\.private\.json"):
        At(sites, "two").tend()
    private.write_bytes((sites.folder / "one" / "one.private.json").read_bytes())
    with pytest.raises(WrongKeyError):
        At(sites, "two").tend()
    private.write_bytes(content)
    sites.two_keys.objects.clear()
    with pytest.raises(NotFoundError):
        At(sites, "two").tend()
    assert not sites.two_control.objects
