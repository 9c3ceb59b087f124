"""Crypto-shredding: nothing is left, nothing opens, and where that can't be shown nothing is certified."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domicile.api.sites import ServedZone
from domicile.api.zone import Attestation
from domicile.backup import keys, mirror
from domicile.backup.keys import store_wrap
from domicile.backup.residency import ResidencyError
from domicile.backup.shred import Evidence, ShredIncompleteError, shred
from domicile.backup.stores.base import DeniedError, NotFoundError, UnavailableError
from tests.memory_bucket import MemoryBucket
from tests.unit.key_sites import TENANT, KeySites

NOW = datetime(2026, 1, 31, 12, 34, 56, tzinfo=UTC)
OTHER = "f" * 32


@pytest.fixture
def sites(tmp_path: Path) -> KeySites:
    return prepared(KeySites(tmp_path))


@pytest.fixture(scope="module")
def reused_sites(tmp_path_factory: pytest.TempPathFactory) -> KeySites:
    return KeySites(tmp_path_factory.mktemp("keys"))


def prepared(sites: KeySites, **facts: Any) -> KeySites:
    final = {"versioned": False, "keeps_deleted": False} | facts
    sites.fresh_buckets()
    sites.one_keys = MemoryBucket("one", "one-keys", **final)
    sites.two_keys = MemoryBucket("two", "two-keys", **final)
    sites.mint()
    # A tenant whose wraps came from more than one key of the tenant and of the site.
    sites.mint_another()
    store_wrap(sites.own("two"), sites.two_keys, TENANT, "eu", sites.open("two"))
    keys.mint_tenant_key(sites.own("one"), sites.one_keys, OTHER, "eu", sites.peer_of("one"), sites.two_keys)
    return sites


def run(sites: KeySites, site: str = "one", zone: ServedZone | None = None) -> Evidence:
    zone = zone or sites.zone(site)
    assert zone.peer is not None
    buckets = [(zone.own, sites.keys(zone.own.name)), (zone.peer, sites.keys(zone.peer.name))]
    return shred(zone, sites.own(site), TENANT, buckets, NOW)


def left(sites: KeySites) -> int:
    return sum(TENANT in name for bucket in (sites.one_keys, sites.two_keys) for name in bucket.objects)


@pytest.mark.parametrize("site", ["one", "two"])
def test_nothing_opens_any_more_and_other_tenants_do(sites: KeySites, site: str) -> None:
    sites.one_keys.create(f"wraps/{TENANT}/of-an-earlier-format", b"?")
    names = sorted(n for b in (sites.one_keys, sites.two_keys) for n in b.objects if TENANT in n)
    mirror.publish([sites.one_control], sites.open("one"), TENANT, "eu", {"a": 1})
    evidence = run(sites, site)
    assert left(sites) == 0
    for at in ("one", "two"):
        with pytest.raises(NotFoundError):
            sites.open(at)
        assert keys.open_tenant_key(sites.own(at), sites.keys(at), OTHER, "eu")
    assert sites.one_control.objects
    document = evidence.document
    assert sorted(name for s in document["sites"] for name in s["deleted"]) == names
    assert {(s["site"], s["left"], s["deletionFinal"]) for s in document["sites"]} == {
        ("one", 0, "Verified"),
        ("two", 0, "Verified"),
    }
    assert (document["tenant"], document["zone"], document["at"]) == (TENANT, "eu", "2026-01-31T12:34:56.000000Z")
    told = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    assert evidence.digest == hashlib.sha256(told).hexdigest()


def test_shredding_again_says_that_nothing_was_left_to_delete(sites: KeySites) -> None:
    run(sites)
    assert [s["deleted"] for s in run(sites).document["sites"]] == [[], []]


@pytest.mark.parametrize("facts", [{"keeps_deleted": True}, {"versioned": True}, {"keeps_deleted": None}])
@pytest.mark.parametrize("site", ["one", "two"])
def test_nothing_is_deleted_where_deleting_is_not_final(sites: KeySites, site: str, facts: dict[str, Any]) -> None:
    final = {"versioned": False, "keeps_deleted": False}
    spoilt = MemoryBucket(site, f"{site}-keys", **final | facts)
    spoilt.objects = sites.keys(site).objects
    setattr(sites, f"{site}_keys", spoilt)
    before = left(sites)
    with pytest.raises(ResidencyError, match=f"keys bucket {site}-keys of site {site}"):
        run(sites)
    assert left(sites) == before


def test_a_persons_word_that_deleting_is_final_shows_as_such(sites: KeySites) -> None:
    for site in ("one", "two"):
        quiet = MemoryBucket(site, f"{site}-keys", versioned=None, keeps_deleted=None)
        quiet.objects = sites.keys(site).objects
        setattr(sites, f"{site}_keys", quiet)
    zone = sites.zone("one")
    words = [
        Attestation.model_validate(
            {
                "site": site,
                "subject": "versioning",
                "statement": "no versioning on this appliance",
                "attestedOn": "2026-01-01",
                "expiresOn": "2027-01-01",
            }
        )
        for site in ("one", "two")
    ]
    spec = zone.spec.model_copy(update={"attestations": words})
    evidence = run(sites, zone=zone.model_copy(update={"spec": spec}))
    assert {s["deletionFinal"] for s in evidence.document["sites"]} == {"Attested"}


def test_a_site_that_refuses_is_named_and_the_own_wraps_are_gone(sites: KeySites) -> None:
    def refuse(operation: str, name: str) -> None:
        if operation == "delete":
            raise DeniedError("bucket two-keys of site two: refused")

    sites.two_keys.before = refuse
    with pytest.raises(ShredIncompleteError, match=r"site two refuses .*run `domicile keys shred` at that site"):
        run(sites)
    with pytest.raises(NotFoundError):
        sites.open("one")
    sites.calm()
    run(sites, "two")
    assert left(sites) == 0


def test_wraps_that_a_run_under_way_makes_anew_go_too_or_are_said(sites: KeySites) -> None:
    key, times = sites.open("one"), 2

    def again(operation: str, name: str) -> None:
        nonlocal times
        if operation == "delete" and times:
            times -= 1
            store_wrap(sites.own("one"), sites.one_keys, TENANT, "eu", key)

    sites.one_keys.before = again
    run(sites)
    assert left(sites) == 0
    times = 99
    store_wrap(sites.own("one"), sites.one_keys, TENANT, "eu", key)
    with pytest.raises(ShredIncompleteError, match="left at site one: somebody makes them anew"):
        run(sites)


def test_the_buckets_must_be_those_of_the_zone(sites: KeySites) -> None:
    zone = sites.zone("one")
    with pytest.raises(ValueError, match="in this order"):
        shred(zone, sites.own("one"), TENANT, [(zone.own, sites.one_keys)], NOW)
    alone = zone.model_copy(update={"spec": zone.spec.model_copy(update={"sites": zone.spec.sites[:1]})})
    evidence = shred(alone, sites.own("one"), TENANT, [(alone.own, sites.one_keys)], NOW)
    assert [s["site"] for s in evidence.document["sites"]] == ["one"]


@settings(max_examples=60, deadline=None)
@given(
    faults=st.lists(
        st.tuples(
            st.sampled_from(["one", "two"]),
            st.sampled_from(["list", "delete", "facts", "read"]),
            st.sampled_from(["request", "answer"]),
            st.integers(1, 3),
        ),
        max_size=5,
    )
)
def test_after_any_fault_it_is_certified_only_when_nothing_is_left(
    reused_sites: KeySites, faults: list[tuple[str, str, str, int]]
) -> None:
    sites = prepared(reused_sites)
    for site, operation, lost, times in faults:
        sites.keys(site).fail(operation, lost=lost, times=times)
        with suppress(UnavailableError):
            run(sites)
            assert left(sites) == 0
    sites.calm()
    run(sites)
    assert left(sites) == 0
