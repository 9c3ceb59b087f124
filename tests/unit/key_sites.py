"""Two sites of the zone ``eu`` in memory, each with both public key files and its own private key only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from domicile.api.sites import ServedZone
from domicile.api.zone import ResidencyZoneSpec
from domicile.backup import keys
from domicile.backup.kek import KeyRing, OwnKey, PeerKey, generate
from domicile.backup.keys import TenantKey, mint_tenant_key, open_tenant_key
from tests.memory_bucket import MemoryBucket

TENANT = "0123456789abcdef0123456789abcdef"
REGIONS = {"one": "europe-west3", "two": "eu-central-1"}
CLOUDS = {"one": "gcp", "two": "aws"}


def zone(site: str, name: str = "eu", **refs: dict[str, Any]) -> ServedZone:
    """A zone as one of its sites sees it; ``one`` and ``two`` are the sites' keys, by default files of these names."""

    def wire(at: str) -> dict[str, Any]:
        roles = {role: f"{at}-{role}" for role in ("replica", "keys", "control")}
        stores = {"profile": "compatible", "endpoint": "http://127.0.0.1:9", "live": {"pool": [f"{at}-live"]}} | roles
        key = refs.get(at, {"name": at})
        return {"name": at, "cloud": CLOUDS[at], "region": REGIONS[at], "stores": stores, "key": key}

    allowed = [{"cloud": CLOUDS[at], "regions": [REGIONS[at]]} for at in CLOUDS]
    spec = {"jurisdiction": "EU", "allowedRegions": allowed, "sites": [wire("one"), wire("two")]}
    return ServedZone(name=name, site=site, spec=ResidencyZoneSpec.model_validate(spec))


class KeySites:
    """Both sites' folders of key files and their buckets."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.specs: dict[str, dict[str, Any]] = {}
        for name in ("one", "two"):
            self.add_key(name, name)
        self.fresh_buckets()

    def fresh_buckets(self) -> None:
        self.one_keys, self.two_keys = MemoryBucket("one", "one-keys"), MemoryBucket("two", "two-keys")
        self.one_control, self.two_control = MemoryBucket("one", "one-control"), MemoryBucket("two", "two-control")

    def add_key(self, site: str, name: str) -> None:
        """A key pair of a site; the other one gets the public file only."""
        public, _ = generate(name, self.folder / site)
        other = self.folder / ("two" if site == "one" else "one")
        other.mkdir(exist_ok=True)
        (other / public.name).write_bytes(public.read_bytes())

    def replace_key(self, site: str, name: str, *previous: str) -> None:
        """Name another key in the zone, and earlier ones."""
        self.specs[site] = {"name": name, "previous": [{"name": p} for p in previous]}

    def zone(self, site: str, name: str = "eu") -> ServedZone:
        return zone(site, name, **self.specs)

    def ring(self, site: str) -> KeyRing:
        return KeyRing(self.folder / site, self.folder / "credentials")

    def own(self, site: str) -> OwnKey:
        return self.ring(site).own(self.zone(site))

    def peer_of(self, site: str) -> PeerKey:
        peer = self.ring(site).peer(self.zone(site))
        assert peer is not None
        return peer

    def keys(self, site: str) -> MemoryBucket:
        return self.one_keys if site == "one" else self.two_keys

    def control(self, site: str) -> MemoryBucket:
        return self.one_control if site == "one" else self.two_control

    def mint(self) -> str:
        return mint_tenant_key(self.own("one"), self.one_keys, TENANT, "eu", self.peer_of("one"), self.two_keys)

    def mint_another(self) -> str:
        """A second key of the tenant, as two that mint at once make one; it becomes the newest."""
        first = keys.key_ids(self.one_keys, TENANT)[0]
        while True:
            rival = MemoryBucket("one", "one-keys")
            made = mint_tenant_key(self.own("one"), rival, TENANT, "eu")
            if made > first:
                break
        for name, (_, wrap) in rival.objects.items():
            self.one_keys.create(name, wrap)
        assert self.mint() == made
        return made

    def open(self, site: str, key_id: str | None = None) -> TenantKey:
        return open_tenant_key(self.own(site), self.keys(site), TENANT, "eu", key_id=key_id)

    def both(self, key_id: str | None = None) -> tuple[TenantKey, TenantKey]:
        return self.open("one", key_id), self.open("two", key_id)

    def calm(self) -> None:
        """End all faults."""
        for bucket in (self.one_keys, self.two_keys, self.one_control, self.two_control):
            bucket.before = bucket.after = lambda *_: None
