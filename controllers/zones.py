"""ResidencyZones as this cluster sees them: which it knows, which of their sites it is, and their site file."""

from __future__ import annotations

import time
from typing import Any

from domicile.api.common import API_VERSION
from domicile.api.sites import ServedZone, SiteFile
from domicile.api.zone import ResidencyZoneSpec
from domicile.controllers.sites import SiteStores
from domicile.controllers.tenant.storage import TenantStorage
from domicile.kube.client import Kube

_TTL_SECONDS = 2.0


class Zones:
    """Reads zones, for two seconds from memory."""

    def __init__(self, kube: Kube, stores: SiteStores, sites: tuple[str, ...]) -> None:
        self._kube = kube
        self._sites = sites
        self._known: dict[str, ResidencyZoneSpec] = {}
        self._read_at = float("-inf")
        self.stores = stores

    async def all(self) -> dict[str, ResidencyZoneSpec]:
        """Every zone by name."""
        if time.monotonic() - self._read_at > _TTL_SECONDS:
            listed = await self._kube.list(API_VERSION, "ResidencyZone")
            self._known = {z["metadata"]["name"]: ResidencyZoneSpec.model_validate(z["spec"]) for z in listed}
            self._read_at = time.monotonic()
        return self._known

    def forget(self) -> None:
        """Read the zones anew at the next question: one of them changed."""
        self._read_at = float("-inf")

    async def served(self, name: str) -> ServedZone | None:
        """The zone with its site in this cluster; None for an unknown zone and for one that has no site here."""
        spec = (await self.all()).get(name)
        return None if spec is None else serve(name, spec, self._sites)

    async def site_file(self) -> SiteFile:
        """All zones that have a site here, by name."""
        served = [serve(name, spec, self._sites) for name, spec in sorted((await self.all()).items())]
        return SiteFile(zones=[z for z in served if z is not None])

    def storage(self, zone: ServedZone) -> TenantStorage:
        """The tenants of a zone in the object stores."""
        return TenantStorage(zone, self.stores)


def serve(name: str, spec: ResidencyZoneSpec, sites: tuple[str, ...]) -> ServedZone | None:
    """The zone as its one site among ``sites``; None where it has none, or two: its sites must not share a cluster."""
    here = [s.name for s in spec.sites if s.name in sites]
    return ServedZone(name=name, site=here[0], spec=spec) if len(here) == 1 else None


def config_map(site_file: SiteFile, namespace: str, labels: dict[str, str]) -> dict[str, Any]:
    """The ConfigMap that the lease agents and replicators of this cluster mount."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "domicile-sites", "namespace": namespace, "labels": labels},
        "data": {"sites.json": site_file.model_dump_json(by_alias=True, exclude_none=True)},
    }
