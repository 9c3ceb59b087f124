"""A residency zone on the running testbed: its buckets, accounts, keys and the ResidencyZone that names them."""

from __future__ import annotations

import datetime
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from domicile.api.common import API_VERSION
from domicile.api.providers import ModelProvider, ServiceRef
from domicile.api.zone import (
    AllowedRegions,
    Attestation,
    Cloud,
    IdentityServer,
    LiveBuckets,
    OnPartition,
    Profile,
    ResidencyZoneSpec,
    SiteKey,
    Stores,
    Subject,
)
from domicile.api.zone import Site as ZoneSite
from tests.testbed import buckets as prepared
from tests.testbed.buckets import Buckets
from tests.testbed.identity import Identity
from tests.testbed.keycloak import ADMIN_ID
from tests.testbed.testbed import Site, Testbed

MODEL_PROVIDER = ModelProvider(
    name="local",
    service=ServiceRef(namespace="models", name="provider", port=8080, pod_labels={"app": "model-provider"}),
    models=["extractive-1"],
)
# What the testbed's servers have no answer for; versitygw does report location, versioning and locks.
_UNANSWERED = {
    True: tuple(Subject),
    False: tuple(s for s in Subject if s not in {Subject.LOCATION, Subject.VERSIONING}),
}


@dataclass(frozen=True)
class Zone:
    """A zone whose stores are prepared."""

    name: str
    spec: ResidencyZoneSpec
    folder: Path
    buckets: dict[str, Buckets]

    def manifest(self) -> dict[str, Any]:
        """The ResidencyZone, for ``kubectl apply``."""
        return {
            "apiVersion": API_VERSION,
            "kind": "ResidencyZone",
            "metadata": {"name": self.name},
            "spec": self.spec.to_wire(),
        }

    def credentials(self, site: str) -> Path:
        """Folder of what a site's operator holds: its account at each store, and those for its live buckets."""
        return self.folder / "credentials" / site

    def lease_credentials(self, site: str) -> Path:
        """Folder of what a site's lease agents hold: accounts that can only read control buckets."""
        return self.folder / "lease" / site

    def live_credentials(self, site: str, bucket: str) -> Path:
        """An account for one live bucket only; the file is absent where the store knows no accounts."""
        return self.credentials(site) / f"live-{bucket}.json"

    @property
    def identity(self) -> Path:
        """Folder of the operators' account at the zone's identity server; missing where there is none."""
        return self.folder / "identity"

    def keys(self, site: str) -> Path:
        """Folder of the keys that a site holds: its own pair and the public keys of the zone."""
        return self.folder / "keys" / site


def create_zone(
    testbed: Testbed,
    name: str = "eu",
    sites: Sequence[str] = ("gcp-frankfurt", "aws-frankfurt"),
    *,
    jurisdiction: str = "EU",
    pool: int = 6,
    lease_seconds: int = 30,
    on_partition: OnPartition = OnPartition.SERVE,
    suffix: str = "",
    identity: Identity | None = None,
    sealed: bool = False,
    **more: Any,
) -> Zone:
    """Prepare the stores of one or two running sites for a zone, or find them prepared.

    Zones of the same sites need a ``suffix`` each: it keeps their buckets and keys apart. ``sealed``: its stores have
    TLS and names. ``more``: of its spec.
    """
    members = [testbed.site(s) for s in sites]
    folder = testbed.state / "zones" / name
    names = {s.name: Buckets.of(f"{s.name}{suffix}", pool) for s in members}
    for site in members:
        prepared.create(site.store, names[site.name])
        peers = [s.name for s in members if s is not site]
        if not site.spec.is_gcs:
            accounts = prepared.grant(site.store, names[site.name], peers, folder.parent / "accounts" / site.name)
            for member in members:
                _copy(accounts["lease"], folder / "lease" / member.name / f"{site.name}.json")
            for account, path in accounts.items():
                if account == "lease":
                    continue
                holder = account if account in peers else site.name
                file = f"{account}.json" if account.startswith("live-") else f"{site.name}.json"
                _copy(path, folder / "credentials" / holder / file)
        (folder / "credentials" / site.name).mkdir(parents=True, exist_ok=True)
    _keys(folder / "keys", list(sites), suffix)
    spec = ResidencyZoneSpec(
        jurisdiction=jurisdiction,
        allowed_regions=_regions(members),
        sites=[_site(s, names[s.name], suffix, sealed=sealed) for s in members],
        lease_seconds=lease_seconds,
        on_partition=on_partition,
        **{"model_providers": [MODEL_PROVIDER], **more},
        attestations=[a for s in members for a in _attestations(s)],
        identity=_identity(identity, folder / "identity", name) if identity else None,
    )
    return Zone(name, spec, folder, names)


def _identity(identity: Identity, folder: Path, zone: str) -> IdentityServer:
    """The zone's entry for its identity server, which all its sites share; the operator's account as files."""
    folder.mkdir(parents=True, exist_ok=True)
    account = {"clientId": ADMIN_ID, "clientSecret": identity.server.admin_secret}
    (folder / f"{zone}.json").write_text(json.dumps(account))
    _copy(identity.server.authority, folder / f"{zone}.pem")
    return IdentityServer(url=identity.url, admin_url=identity.url, cidrs=[f"{identity.address}/32"])


def _regions(members: list[Site]) -> list[AllowedRegions]:
    clouds: dict[str, list[str]] = {}
    for site in members:
        clouds.setdefault(site.spec.cloud, []).append(site.spec.region)
    return [AllowedRegions(cloud=Cloud(c), regions=sorted(set(r))) for c, r in clouds.items()]


def _site(site: Site, names: Buckets, suffix: str, *, sealed: bool) -> ZoneSite:
    stores = Stores(
        profile=Profile.COMPATIBLE,
        endpoint=site.store.sealed_endpoint if sealed else site.store.endpoint,
        endpoint_cidrs=[f"{site.store.address}/32"] if sealed else [],
        replica=names.replica,
        keys=names.keys,
        control=names.control,
        live=LiveBuckets(pool=list(names.live)),
    )
    cloud = Cloud(site.spec.cloud)
    return ZoneSite(
        name=site.name,
        cloud=cloud,
        region=site.spec.region,
        stores=stores,
        store_ca_bundle=site.store.authority if sealed else None,
        key=SiteKey(name=f"{site.name}{suffix}"),
    )


def _attestations(site: Site) -> list[Attestation]:
    today = datetime.datetime.now(datetime.UTC).date()
    return [
        Attestation(
            site=site.name,
            subject=subject,
            statement="Testbed store: one disk of this machine, reachable from the testbed's own network only.",
            attested_on=today,
            expires_on=today + datetime.timedelta(days=365),
        )
        for subject in _UNANSWERED[site.spec.is_gcs]
    ]


def _keys(folder: Path, sites: list[str], suffix: str) -> None:
    from domicile.backup.kek import generate

    for site in sites:
        if not (folder / site / f"{site}{suffix}.public.json").exists():
            generate(f"{site}{suffix}", folder / site)
    for holder in sites:
        for site in sites:
            if site != holder:
                public = f"{site}{suffix}.public.json"
                _copy(folder / site / public, folder / holder / public)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = target.with_suffix(".new")
    shutil.copy(source, scratch)
    scratch.replace(target)
