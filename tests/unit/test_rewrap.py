"""A site's key is replaced: at no moment, and whatever fails, is a tenant's key lost."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domicile.backup import keys, proofs
from domicile.backup.errors import WrongKeyError
from domicile.backup.kek import KeyUnavailableError
from domicile.backup.keys import TenantKey
from domicile.backup.proofs import NotProvenError
from domicile.backup.rewrap import rewrap
from domicile.backup.stores.base import NotFoundError, UnavailableError
from tests.memory_bucket import MemoryBucket
from tests.unit.key_sites import TENANT, KeySites

NOW = datetime(2026, 1, 31, 12, 34, tzinfo=UTC)
OTHER = {"one": "two", "two": "one"}


@pytest.fixture
def sites(tmp_path: Path) -> KeySites:
    made = KeySites(tmp_path)
    made.mint()
    prove(made)
    for site in OTHER:
        made.add_key(site, f"{site}-next")
    return made


@pytest.fixture(scope="module")
def reused_sites(tmp_path_factory: pytest.TempPathFactory) -> KeySites:
    made = KeySites(tmp_path_factory.mktemp("keys"))
    for site in OTHER:
        made.add_key(site, f"{site}-next")
    return made


def prove(sites: KeySites) -> None:
    for site in OTHER:
        for key_id in keys.key_ids(sites.keys(site), TENANT):
            proofs.publish(sites.control(site), sites.open(site, key_id), TENANT, site, NOW)


def run(sites: KeySites, site: str, now: datetime = NOW) -> int:
    peer = OTHER[site]

    def peer_opens(key: TenantKey) -> None:
        proofs.require(sites.control(peer), key, TENANT, peer, now)

    return rewrap(sites.own(site), sites.keys(site), TENANT, "eu", peer_opens)


def keks(sites: KeySites, site: str) -> list[str]:
    return [wrap.kek for wrap in keys.wraps(sites.keys(site), TENANT)]


@pytest.mark.parametrize("site", ["one", "two"])
def test_wraps_move_to_the_new_key_and_the_old_key_is_needless(sites: KeySites, site: str) -> None:
    before = sites.open(site)
    sites.replace_key(site, f"{site}-next", site)
    assert run(sites, site) == 1
    assert keks(sites, site) == [sites.own(site).digest]
    (sites.folder / site / f"{site}.private.json").unlink()
    sites.replace_key(site, f"{site}-next")
    assert sites.open(site) == before
    assert sites.open(OTHER[site]) == before
    # What was copied from the bucket before opens with the old key only.
    with pytest.raises(KeyUnavailableError):
        sites.own(site).decrypt("0" * 16, b"", {})


def test_the_same_key_may_wrap_anew_for_its_kms_made_a_new_version(sites: KeySites) -> None:
    before, wraps = sites.open("one"), keys.wraps(sites.one_keys, TENANT)
    assert run(sites, "one") == 1
    assert sites.open("one") == before
    assert keys.wraps(sites.one_keys, TENANT) != wraps


def test_every_key_of_the_tenant_is_rewrapped(sites: KeySites) -> None:
    sites.mint_another()
    prove(sites)
    ids = keys.key_ids(sites.one_keys, TENANT)
    before = [sites.open("one", key_id) for key_id in ids]
    sites.replace_key("one", "one-next", "one")
    assert run(sites, "one") == len(ids) == 2
    sites.replace_key("one", "one-next")
    assert [sites.open("one", key_id) for key_id in ids] == before


@pytest.mark.parametrize("hours", [0, 2])
def test_the_old_wrap_stays_until_the_peer_has_proven_that_it_opens(sites: KeySites, hours: int) -> None:
    sites.replace_key("one", "one-next", "one")
    if hours:
        run_at = NOW + timedelta(hours=hours + 2)
    else:
        sites.two_control.objects.clear()
        run_at = NOW
    old = keks(sites, "one")
    with pytest.raises(NotProvenError, match=r"site two has not shown.*domicile keys prove"):
        run(sites, "one", run_at)
    assert set(old) < set(keks(sites, "one"))
    proofs.publish(sites.two_control, sites.open("two"), TENANT, "two", run_at)
    run(sites, "one", run_at)
    assert keks(sites, "one") == [sites.own("one").digest]


def test_the_old_wrap_stays_where_the_new_one_does_not_open(sites: KeySites) -> None:
    old = keys.wraps(sites.one_keys, TENANT)
    sites.replace_key("one", "one-next", "one")
    # The public file of another key: what it wraps is lost.
    sites.add_key("two", "stray")
    (sites.folder / "one" / "one-next.public.json").write_bytes(
        (sites.folder / "two" / "stray.public.json").read_bytes()
    )
    with pytest.raises(WrongKeyError):
        run(sites, "one")
    assert set(old) < set(keys.wraps(sites.one_keys, TENANT))
    assert sites.open("one") == sites.open("two")


def test_a_tenant_without_wraps_is_said(sites: KeySites) -> None:
    sites.one_keys.objects.clear()
    with pytest.raises(NotFoundError, match="no wrapped key"):
        run(sites, "one")


def test_two_rewraps_at_once_leave_the_key_open(sites: KeySites) -> None:
    before = sites.open("one")
    sites.replace_key("one", "one-next", "one")
    running: list[bool] = []

    def rival(operation: str, name: str) -> None:
        if operation == "create" and not running:
            running.append(True)
            run(sites, "one")

    sites.one_keys.before = rival
    run(sites, "one")
    sites.calm()
    sites.replace_key("one", "one-next")
    assert sites.open("one") == before


def crash_at(number: int, lost: str) -> Callable[[str, str], None]:
    """A hook that ends the process at the operation of that number: before it took effect, or behind it."""
    count = 0

    def hook(operation: str, name: str) -> None:
        nonlocal count
        count += 1
        if count == number:
            raise UnavailableError(f"crashed at operation {number} ({lost})")

    return hook


@settings(max_examples=80, deadline=None)
@given(
    crashes=st.lists(st.tuples(st.sampled_from(["request", "answer"]), st.integers(1, 9)), max_size=5),
    site=st.sampled_from(["one", "two"]),
)
def test_a_crash_at_any_step_leaves_the_key_open(
    reused_sites: KeySites, crashes: list[tuple[str, int]], site: str
) -> None:
    sites = reused_sites
    sites.specs.clear()
    sites.fresh_buckets()
    sites.mint()
    prove(sites)
    before = sites.open(site)
    sites.replace_key(site, f"{site}-next", site)
    bucket: MemoryBucket = sites.keys(site)
    for lost, number in crashes:
        setattr(bucket, "before" if lost == "request" else "after", crash_at(number, lost))
        with suppress(UnavailableError):
            run(sites, site)
        sites.calm()
        assert sites.open(site) == before
        assert sites.open(OTHER[site]) == before
    run(sites, site)
    assert keks(sites, site) == [sites.own(site).digest]
    assert sites.open(site) == before
