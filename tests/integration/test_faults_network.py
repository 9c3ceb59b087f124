"""Replication and restore over a network that fails: they go through byte for byte, or end in time and say why."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from domicile.api.zone import Site
from domicile.backup import records, replicate
from domicile.backup.errors import BackupError
from domicile.backup.keys import TenantKey
from domicile.backup.restore import Mode, restore, verify
from domicile.backup.stores import Deadlines, open_bucket
from domicile.backup.stores.base import Bucket, StoreError, UnavailableError
from tests.integration.flaky_proxy import KINDS, Faults, Proxy, arrive, flaky
from tests.integration.stores_fixture import StandinSite, StoreSites, make_site

KEY = TenantKey("k1", bytes(range(32)))
ZONE = "eu"
PATIENT = Deadlines(connect=1.0, read=1.0, retries=5)
SHORT = Deadlines(connect=0.3, read=0.3, retries=1)
DATA = {
    **{f"small/{i:03}": bytes([i]) * (i * 37) for i in range(40)},
    "large": os.urandom((9 << 20) + 5),
    "empty": b"",
    "Grüße \U0001f600": b"hello",
}


class Way:
    """From one store to another, each behind a flaky proxy of its own; ``calm`` reaches them directly."""

    def __init__(self, source: Site, target: Site, proxies: dict[str, Proxy], credentials: Path) -> None:
        self.sites = {"source": source, "target": target}
        self.proxies = proxies
        self.credentials = credentials
        self.tenant = secrets.token_hex(16)
        self.deadlines = PATIENT

    def bucket(self, role: str, side: str, *, calm: bool = False) -> Bucket:
        site = self.sites[side]
        url = self.proxies[side].target if calm else self.proxies[side].url
        through = make_site(site.name, site.cloud, site.region, url)
        return open_bucket(through, f"{role}-{self.tenant[:12]}", self.credentials, None if calm else self.deadlines)

    def buckets(self, *, calm: bool = False) -> tuple[Bucket, Bucket, Bucket, Bucket]:
        """The live objects, the replica's, and the control buckets of the replica's site and of the home site."""
        return (
            self.bucket("live", "source", calm=calm),
            self.bucket("replica", "target", calm=calm),
            self.bucket("control", "target", calm=calm),
            self.bucket("control", "source", calm=calm),
        )

    def replicate(self, *, calm: bool = False) -> Any:
        return replicate.replicate(
            *self.buckets(calm=calm), KEY, tenant=self.tenant, zone=ZONE, epoch=1, residency_digest="0" * 64
        )

    def restore(self, live: Bucket, *, calm: bool = False) -> None:
        _, replica, control, _ = self.buckets(calm=calm)
        restore(control, replica, live, KEY, self.tenant, ZONE, mode=Mode.MERGE)

    def verify(self) -> int:
        _, replica, control, _ = self.buckets(calm=True)
        return verify(control, replica, KEY, self.tenant, ZONE).objects

    def highest(self) -> int:
        slot = records.highest(self.bucket("control", "target", calm=True), self.tenant)
        return slot.seq if slot else 0

    def strike(self, *kinds: str, **options: Any) -> None:
        for proxy in self.proxies.values():
            proxy.faults = Faults(kinds, **options) if kinds else None
            proxy.struck.clear()

    def struck(self) -> set[str]:
        return {kind for proxy in self.proxies.values() for kind in proxy.struck}


@contextmanager
def made(names: str, store_sites: StoreSites, standin_site: StandinSite) -> Iterator[Way]:
    sites = {"s3": store_sites.aws, "gcs": store_sites.gcp, "standin": standin_site.site}
    source, target = (sites[name] for name in names.split(" to "))
    with ExitStack() as stack:
        proxies = {
            side: stack.enter_context(flaky(site.stores.endpoint or ""))
            for side, site in (("source", source), ("target", target))
        }
        way = Way(source, target, proxies, store_sites.credentials)
        for bucket in way.buckets(calm=True):
            bucket.create_bucket()
        live = way.bucket("live", "source", calm=True)
        for name, data in DATA.items():
            live.write(name, iter((data,)), len(data))
        yield way


@pytest.fixture(params=["s3 to gcs", "gcs to s3", "s3 to standin", "standin to s3"])
def way(request: pytest.FixtureRequest, store_sites: StoreSites, standin_site: StandinSite) -> Iterator[Way]:
    with made(request.param, store_sites, standin_site) as way:
        yield way


def contents(bucket: Bucket) -> dict[str, bytes]:
    return {info.name: bucket.read(info.name) for info in bucket.list()}


def until_done(way: Way, run: Callable[[], object], tries: int = 6) -> None:
    """Run again after each clear error, as the hours do; after each what is committed is whole."""
    for _ in range(tries):
        try:
            run()
        except (StoreError, BackupError):
            if way.highest():
                way.verify()
        else:
            return
    raise AssertionError(f"{tries} runs did not get through")


def test_whatever_the_network_does_in_turn_is_survived(way: Way) -> None:
    kinds = tuple(kind for kind in KINDS if kind != "stall")
    way.strike(*kinds, every=4)
    until_done(way, way.replicate)
    assert way.struck() == set(kinds)
    assert way.verify() == len(DATA)
    assert sum(arrive(proxy) for proxy in way.proxies.values())
    assert way.verify() == len(DATA)
    home = way.bucket("home", "target", calm=True)
    home.create_bucket()
    way.strike(*kinds, every=4)
    until_done(way, lambda: way.restore(way.bucket("home", "target")))
    assert way.struck() >= {"reset", "lost", "503", "cut"}
    assert contents(home) == DATA
    way.strike()
    assert way.replicate().changed == 0


@pytest.mark.parametrize(
    ("way", "kinds"),
    [("gcs to s3", ("503", "429")), ("s3 to standin", ("reset", "cut")), ("standin to s3", ("slow", "twice"))],
    indirect=["way"],
)
def test_a_run_goes_through_a_bad_patch(way: Way, kinds: tuple[str, ...]) -> None:
    """Of each twenty requests two in a row fail, and the store may ask for a second of peace."""
    for proxy in way.proxies.values():
        proxy.peace = 1
    way.strike(*kinds, every=10, burst=2)
    assert way.replicate().objects == len(DATA)
    assert way.struck() == set(kinds)
    assert way.verify() == len(DATA)


@pytest.mark.parametrize(
    ("way", "kind"), [("gcs to s3", "twice"), ("s3 to standin", "twice"), ("gcs to s3", "slow")], indirect=["way"]
)
def test_answers_that_come_in_pieces_or_again_are_no_one_else_s(way: Way, kind: str) -> None:
    way.strike(kind, every=1)
    assert way.replicate().objects == len(DATA)
    home = way.bucket("home", "target", calm=True)
    home.create_bucket()
    way.restore(way.bucket("home", "target"))
    assert contents(home) == DATA


@pytest.mark.parametrize("way", ["s3 to standin", "standin to s3"], indirect=True)
@pytest.mark.parametrize("kind", ["reset", "stall", "503", "late", "cut"])
@pytest.mark.parametrize("side", ["source", "target"])
def test_a_fault_that_does_not_end_ends_the_run_in_time(way: Way, kind: str, side: str) -> None:
    """Each request has its deadline and its tries, and one that gives up ends all."""
    way.deadlines = SHORT
    way.strike(kind, every=1, after=8)
    way.proxies["target" if side == "source" else "source"].faults = None
    begun = time.monotonic()
    with pytest.raises(UnavailableError) as ended:
        way.replicate()
    assert time.monotonic() - begun < 10
    assert way.sites[side].name in str(ended.value)
    assert not any(name in str(ended.value) for name in DATA)
    # A request whose answer is cut off was carried out: a commit may stand that its writer takes for lost.
    if way.highest():
        assert kind == "cut"
        assert way.verify() == len(DATA)
    way.strike()
    for proxy in way.proxies.values():
        arrive(proxy)
    way.deadlines = PATIENT
    assert way.replicate().objects == len(DATA)
    assert way.verify() == len(DATA)


@pytest.mark.parametrize("way", ["gcs to s3", "s3 to standin"], indirect=True)
def test_of_writes_whose_answers_are_all_lost_none_is_taken_for_lost(way: Way) -> None:
    way.strike("lost", every=1, methods=("PUT", "POST"))
    assert way.replicate().objects == len(DATA)
    assert way.struck() == {"lost"}
    assert way.verify() == len(DATA)


@pytest.mark.parametrize("way", ["s3 to standin", "standin to s3"], indirect=True)
@pytest.mark.parametrize("methods", [("PUT", "POST"), ("POST",)])
@pytest.mark.parametrize("kind", ["reset", "lost", "503", "cut"])
def test_a_large_upload_goes_on_where_it_was_disturbed(way: Way, kind: str, methods: tuple[str, ...]) -> None:
    # In parts of 8 MiB. Every second request is struck: of the POSTs at S3 the one that ends the upload, at Cloud
    # Storage, where a small object is one, the one that opens it.
    data = os.urandom((17 << 20) + 3)
    live = way.bucket("live", "source")
    way.strike(kind, every=2, methods=methods)
    live.write("one byte", iter((b"x",)), 1)
    version = live.write("very large", iter((data,)), len(data))
    assert way.struck() == {kind}
    way.strike()
    assert live.read("very large", version=version) == data
