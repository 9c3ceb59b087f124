"""``domicile keys``: what each command does to two sites in memory, what it prints and how it ends."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from domicile.api.sites import SiteFile
from domicile.api.zone import Site
from domicile.backup import keys, proofs
from domicile.backup.stores.base import NotFoundError
from domicile.cli import keys as command
from domicile.cli.main import main
from tests.memory_bucket import MemoryBucket
from tests.unit.key_sites import TENANT, KeySites

OTHER = "f" * 32


class Estate:
    """Two sites, and their operators' command line."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.sites = KeySites(folder)
        for site in ("one", "two"):
            bucket = MemoryBucket(site, f"{site}-keys", versioned=False, keeps_deleted=False)
            setattr(self.sites, f"{site}_keys", bucket)
        self.sites.mint()
        keys.mint_tenant_key(
            self.sites.own("one"), self.sites.one_keys, OTHER, "eu", self.sites.peer_of("one"), self.sites.two_keys
        )
        monkeypatch.setattr(command, "open_bucket", self.open)

    def open(self, site: Site, name: str, _: Path) -> MemoryBucket:
        return {"keys": self.sites.keys, "control": self.sites.control}[name.rsplit("-", 1)[-1]](site.name)

    def run(self, site: str, what: str, *args: str, zones: tuple[str, ...] = ("eu",)) -> int:
        path = self.folder / "sites.json"
        served = SiteFile(zones=[self.sites.zone(site, name) for name in zones])
        path.write_text(served.model_dump_json(by_alias=True, exclude_none=True))
        files = ["--sites", str(path), "--keys", str(self.folder / site), "--credentials", str(self.folder)]
        return main(["keys", what, *args, *files])

    def proven(self, site: str, tenant: str) -> bool:
        key = keys.open_tenant_key(self.sites.own("one"), self.sites.one_keys, tenant, "eu")
        return proofs.newest(self.sites.control(site), key, tenant, site, datetime.now(UTC)) is not None


@pytest.fixture
def estate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Estate:
    return Estate(tmp_path, monkeypatch)


def test_prove_shows_it_for_all_or_for_one(estate: Estate, capsys: pytest.CaptureFixture[str]) -> None:
    assert estate.run("two", "prove", "--tenant", TENANT) == 0
    assert (estate.proven("two", TENANT), estate.proven("two", OTHER)) == (True, False)
    assert estate.run("two", "prove", zones=("de", "eu")) == 0
    assert estate.proven("two", OTHER)
    assert f"{OTHER}: site two opens its keys" in capsys.readouterr().out


def test_one_tenant_that_fails_keeps_no_other_from_its_turn(estate: Estate, capsys: pytest.CaptureFixture[str]) -> None:
    [wrap] = keys.wraps(estate.sites.two_keys, TENANT)
    estate.sites.two_keys.objects[wrap.name] = (1, b"damaged")
    assert estate.run("two", "prove") == 1
    assert (estate.proven("two", TENANT), estate.proven("two", OTHER)) == (False, True)
    assert f"{TENANT}: key two does not open" in capsys.readouterr().err


def test_rewrap_replaces_wraps_once_the_peer_has_proven(estate: Estate, capsys: pytest.CaptureFixture[str]) -> None:
    before = estate.sites.open("one")
    estate.sites.add_key("one", "next")
    estate.sites.replace_key("one", "next", "one")
    assert estate.run("one", "rewrap", "--all") == 1
    assert f"{TENANT}: site two has not shown" in capsys.readouterr().err
    assert estate.run("two", "prove") == 0
    assert estate.run("one", "rewrap", "--all") == 0
    assert "wraps at site one were replaced" in capsys.readouterr().out
    estate.sites.replace_key("one", "next")
    for tenant in (TENANT, OTHER):
        [wrap] = keys.wraps(estate.sites.one_keys, tenant)
        assert wrap.kek == estate.sites.own("one").digest
    assert estate.sites.open("one") == before


def test_rewrap_gives_a_peer_that_lost_its_key_a_wrap_for_the_new_one(estate: Estate) -> None:
    before = estate.sites.open("one")
    estate.sites.add_key("two", "two-next")
    estate.sites.replace_key("two", "two-next")
    assert estate.run("one", "rewrap", "--tenant", TENANT) == 1
    assert estate.sites.open("two") == before
    assert estate.run("two", "prove", "--tenant", TENANT) == 0
    assert estate.run("one", "rewrap", "--tenant", TENANT) == 0


def test_rewrap_makes_no_key_for_a_tenant_that_has_none(estate: Estate, capsys: pytest.CaptureFixture[str]) -> None:
    assert estate.run("one", "rewrap", "--tenant", "a" * 32) == 1
    assert "no wrapped key" in capsys.readouterr().err
    assert keys.tenants(estate.sites.one_keys) == [TENANT, OTHER]


def test_shred_prints_evidence_and_leaves_nothing(estate: Estate, capsys: pytest.CaptureFixture[str]) -> None:
    assert estate.run("one", "shred", "--tenant", TENANT, "--yes-destroy") == 0
    told = json.loads(capsys.readouterr().out)
    canonical = json.dumps(told["evidence"], sort_keys=True, separators=(",", ":")).encode()
    assert told["sha256"] == hashlib.sha256(canonical).hexdigest()
    for site in ("one", "two"):
        assert keys.tenants(estate.sites.keys(site)) == [OTHER]
        with pytest.raises(NotFoundError):
            estate.sites.open(site)


def test_shred_wants_to_be_told_twice_and_which_zone(estate: Estate, capsys: pytest.CaptureFixture[str]) -> None:
    assert estate.run("one", "shred", "--tenant", TENANT) == 2
    assert "add --yes-destroy" in capsys.readouterr().err
    assert estate.run("one", "shred", "--tenant", TENANT, "--yes-destroy", zones=("eu", "de")) == 2
    assert "--zone; served here: de, eu" in capsys.readouterr().err
    assert estate.run("one", "shred", "--tenant", TENANT, "--yes-destroy", "--zone", "us") == 2
    assert keys.tenants(estate.sites.one_keys) == keys.tenants(estate.sites.two_keys) == [TENANT, OTHER]
    assert estate.run("one", "shred", "--tenant", TENANT, "--yes-destroy", "--zone", "eu", zones=("eu", "de")) == 0


def test_shred_is_refused_where_deleting_is_not_final(estate: Estate) -> None:
    kept = MemoryBucket("two", "two-keys", versioned=False, keeps_deleted=True)
    kept.objects = estate.sites.two_keys.objects
    estate.sites.two_keys = kept
    assert estate.run("one", "shred", "--tenant", TENANT, "--yes-destroy") == 3
    assert keys.tenants(estate.sites.one_keys) == [TENANT, OTHER]


@pytest.mark.parametrize("tenant", ["", "bank", "../x", TENANT.upper(), f"{TENANT}/"])
def test_a_tenant_is_named_by_its_id(estate: Estate, capsys: pytest.CaptureFixture[str], tenant: str) -> None:
    for what in (["prove"], ["rewrap"], ["shred", "--yes-destroy"]):
        assert estate.run("one", *what, "--tenant", tenant) == 2
        assert "32 hex digits" in capsys.readouterr().err


def test_a_missing_site_file_and_a_key_that_exists_are_wrong_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["keys", "prove", "--sites", str(tmp_path / "none")]) == 2
    (tmp_path / "broken").write_text("{")
    assert main(["keys", "prove", "--sites", str(tmp_path / "broken")]) == 2
    capsys.readouterr()
    assert main(["keys", "generate", "one", "--folder", str(tmp_path)]) == 0
    assert "wrote one.public.json" in capsys.readouterr().out
    assert main(["keys", "generate", "one", "--folder", str(tmp_path)]) == 2
    assert "never overwritten" in capsys.readouterr().err
    assert main(["keys", "generate", "../one", "--folder", str(tmp_path)]) == 2
