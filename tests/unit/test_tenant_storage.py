"""What the holder's operator learns of the peer's proofs, and how often it asks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from domicile.api.zone import Site
from domicile.backup import claims, proofs
from domicile.backup.claims import Claim, Mode
from domicile.backup.keys import TenantKey
from domicile.backup.stores.base import StoreError, UnavailableError
from domicile.controllers import sites as sites_module
from domicile.controllers.sites import KEY_TTL_SECONDS, PROOF_TTL_SECONDS, SiteStores
from domicile.controllers.tenant.storage import Known, TenantStorage
from tests.memory_bucket import CarelessBucket, MemoryBucket
from tests.unit.key_sites import TENANT, KeySites


class Estate:
    """Both sites in memory, as the operator of site ``one`` sees them; ``seconds`` is its clock."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sites = KeySites(folder)
        self.seconds = 0.0
        self.others: dict[tuple[str, str], MemoryBucket] = {}
        monkeypatch.setattr(sites_module, "open_bucket", self.open)
        stores = SiteStores(folder / "credentials", folder / "one", lambda: self.seconds)
        self.storage = TenantStorage(self.sites.zone("one"), stores)
        self.sites.mint()
        self.claim(1, "one")

    def open(self, site: Site, name: str, *_: object) -> MemoryBucket:
        known = {"keys": self.sites.keys(site.name), "control": self.sites.control(site.name)}
        role = name.rsplit("-", 1)[-1]
        return known.get(role) or self.others.setdefault((site.name, name), MemoryBucket(site.name, name))

    def claim(self, number: int, holder: str) -> None:
        controls = [self.sites.one_control, self.sites.two_control]
        claim = Claim.new(TENANT, number, holder=holder, mode=Mode.INITIAL, request_id="r")
        claims.write_claim(claim, controls)
        claims.mark_open(controls[0] if holder == "one" else controls[1], TENANT, number)

    def prove(self, key: TenantKey | None = None, age: timedelta = timedelta()) -> datetime:
        at = datetime.now(UTC) - age
        proofs.publish(self.sites.two_control, key or self.sites.open("two"), TENANT, "two", at)
        return at.replace(minute=0, second=0, microsecond=0)


@pytest.fixture
def estate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Estate:
    return Estate(tmp_path, monkeypatch)


def test_the_holder_learns_until_when_the_peers_proof_counts(estate: Estate) -> None:
    seen = estate.storage.observe(TENANT)
    assert seen.peer_proof is not None
    assert (seen.peer_proof.until, seen.peer_proof.fault) == (None, None)
    hour = estate.prove()
    estate.seconds += PROOF_TTL_SECONDS
    seen = estate.storage.observe(TENANT)
    assert seen.peer_proof is not None
    assert seen.peer_proof.until == hour + proofs.MAX_AGE


def test_a_proof_that_fails_is_told(estate: Estate) -> None:
    right = estate.sites.open("two")
    estate.prove(TenantKey(right.key_id, bytes(32)))
    seen = estate.storage.observe(TENANT)
    assert seen.peer_proof is not None
    assert "does not verify" in (seen.peer_proof.fault or "")


def test_a_standby_and_an_outage_ask_for_no_proof(estate: Estate) -> None:
    estate.prove()
    estate.claim(2, "two")
    assert estate.storage.observe(TENANT).peer_proof is None
    estate.claim(3, "one")

    def down(operation: str, name: str) -> None:
        raise UnavailableError("down")

    estate.sites.two_control.before = down
    estate.seconds += 100
    seen = estate.storage.observe(TENANT)
    assert (seen.peer_proof, seen.storage_error) == (None, None)
    assert "don't answer" in (seen.peer_error or "")


def test_keys_are_opened_and_proofs_read_once_in_five_minutes(estate: Estate) -> None:
    estate.prove()

    buckets = (estate.sites.one_keys, estate.sites.two_control)
    for bucket in buckets:
        bucket.calls.clear()

    def reads() -> int:
        return sum(name.startswith(("wraps/", "proofs/")) for b in buckets for _, name in b.calls)

    estate.storage.observe(TENANT)
    first = reads()
    assert first == 4
    for _ in range(3):
        estate.seconds += KEY_TTL_SECONDS / 4
        estate.storage.observe(TENANT)
    assert reads() == first
    estate.seconds += KEY_TTL_SECONDS / 4
    estate.storage.observe(TENANT)
    assert reads() == 2 * first


def test_a_key_that_is_gone_is_noticed_within_five_minutes(estate: Estate) -> None:
    assert estate.storage.observe(TENANT).key is not None
    estate.sites.one_keys.objects.clear()
    estate.seconds += KEY_TTL_SECONDS
    assert estate.storage.observe(TENANT).key is None


@pytest.mark.parametrize("site", ["one", "two"])
def test_no_tenant_is_opened_where_a_store_lets_claims_be_overwritten(estate: Estate, site: str) -> None:
    setattr(estate.sites, f"{site}_control", CarelessBucket(site, f"{site}-control"))
    tenant = "f" * 32
    assert estate.storage.provision(tenant, {}, Known(None, None, peer_answers=True), home=True)
    for _ in range(3):
        seen = estate.storage.observe(tenant)
        known = Known(seen.live_bucket, seen.claim, peer_answers=True)
        with pytest.raises(StoreError, match=f"site {site} overwrites"):
            estate.storage.provision(tenant, {}, known, home=True)
        assert claims.opened_name(tenant, 1) not in estate.sites.one_control.objects
