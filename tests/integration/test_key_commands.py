"""The life of a tenant's key on two real stores, by command: minted, proven, rewrapped at both sites, shredded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from domicile.api.sites import ServedZone, SiteFile
from domicile.api.zone import ResidencyZoneSpec, Site, Subject
from domicile.backup import keys
from domicile.backup.kek import KeyRing, generate
from domicile.backup.stores import open_bucket
from domicile.backup.stores.base import NotFoundError
from domicile.cli.main import main
from tests.integration.stores_fixture import StoreSites, make_site
from tests.unit.key_sites import TENANT

NAMES = ("gcp-frankfurt", "aws-frankfurt")


class Estate:
    """Two sites of a zone with keys buckets of their own, and the command line at each of them."""

    def __init__(self, stores: StoreSites, folder: Path) -> None:
        self.folder, self.credentials = folder, stores.credentials
        self.keys = {name: name for name in NAMES}
        self.previous: dict[str, list[str]] = {name: [] for name in NAMES}
        self.stores = {site.name: self._prepared(site) for site in (stores.gcp, stores.aws)}
        for name in NAMES:
            self.add_key(name, name)

    def _prepared(self, site: Site) -> Site:
        names = {role: f"{site.cloud}-kc-{role}" for role in ("replica", "keys", "control")}
        made = make_site(site.name, site.cloud, site.region, site.stores.endpoint, **names)
        for role in ("keys", "control"):
            open_bucket(made, names[role], self.credentials).create_bucket()
        return made

    def add_key(self, site: str, name: str) -> None:
        public, _ = generate(name, self.folder / site)
        other = self.folder / next(n for n in NAMES if n != site)
        other.mkdir(exist_ok=True)
        (other / public.name).write_bytes(public.read_bytes())

    def replace_key(self, site: str, name: str) -> None:
        self.previous[site] = [self.keys[site]]
        self.keys[site] = name

    def zone(self, site: str) -> ServedZone:
        dates = {"attestedOn": "2026-01-01", "expiresOn": "2099-01-01"}
        wire = [
            self.stores[n].to_wire()
            | {"key": {"name": self.keys[n], "previous": [{"name": p} for p in self.previous[n]]}}
            for n in NAMES
        ]
        spec = {
            "jurisdiction": "EU",
            "allowedRegions": [{"cloud": s["cloud"], "regions": [s["region"]]} for s in wire],
            "sites": wire,
            "attestations": [
                {"site": n, "subject": subject, "statement": "a test's server", **dates}
                for n in NAMES
                for subject in Subject
            ],
        }
        return ServedZone(name="eu", site=site, spec=ResidencyZoneSpec.model_validate(spec))

    def wraps(self, site: str) -> list[keys.Wrap]:
        return keys.wraps(open_bucket(self.stores[site], self.stores[site].stores.keys, self.credentials), TENANT)

    def open(self, site: str) -> keys.TenantKey:
        zone = self.zone(site)
        bucket = open_bucket(zone.own, zone.own.stores.keys, self.credentials)
        return keys.open_tenant_key(KeyRing(self.folder / site, self.credentials).own(zone), bucket, TENANT, "eu")

    def mint(self) -> str:
        zone, ring = self.zone(NAMES[0]), KeyRing(self.folder / NAMES[0], self.credentials)
        one, two = (open_bucket(s, s.stores.keys, self.credentials) for s in zone.spec.sites)
        return keys.mint_tenant_key(ring.own(zone), one, TENANT, "eu", ring.peer(zone), two)

    def run(self, site: str, *words: str) -> int:
        path = self.folder / f"{site}.json"
        path.write_text(SiteFile(zones=[self.zone(site)]).model_dump_json(by_alias=True, exclude_none=True))
        files = ["--sites", str(path), "--keys", str(self.folder / site), "--credentials", str(self.credentials)]
        return main(["keys", *words, *files])


def test_the_life_of_a_key(store_sites: StoreSites, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    estate = Estate(store_sites, tmp_path)
    key_id = estate.mint()
    before = estate.open(NAMES[0])
    assert (before.key_id, estate.open(NAMES[1])) == (key_id, before)
    for site in NAMES:
        assert estate.run(site, "prove") == 0
    for site in NAMES:
        old = estate.wraps(site)
        estate.add_key(site, f"{site}-next")
        estate.replace_key(site, f"{site}-next")
        assert estate.run(site, "rewrap", "--tenant", TENANT) == 0
        [new] = estate.wraps(site)
        assert new not in old
        (tmp_path / site / f"{site}.private.json").unlink()
        estate.previous[site] = []
        assert estate.open(site) == before
    capsys.readouterr()
    assert estate.run(NAMES[1], "shred", "--tenant", TENANT, "--yes-destroy") == 0
    document = json.loads(capsys.readouterr().out)["evidence"]
    assert [(s["site"], len(s["deleted"]), s["left"]) for s in document["sites"]] == [
        (NAMES[1], 1, 0),
        (NAMES[0], 1, 0),
    ]
    for site in NAMES:
        assert estate.wraps(site) == []
        with pytest.raises(NotFoundError):
            estate.open(site)
