"""The site file: what a site's lease agent and replicator know of the zones that their cluster serves.

The operator renders it from the ResidencyZones into a ConfigMap; lease agent and replicator read it as a mounted file,
so neither needs the Kubernetes API.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from domicile.api.common import DnsLabel, Model
from domicile.api.zone import ResidencyZoneSpec, Site

SITE_FILE_KEY = "sites.json"


class ServedZone(Model):
    """A zone and the one of its sites that this cluster is."""

    name: Annotated[DnsLabel, Field(description="Name of the ResidencyZone.")]
    site: Annotated[DnsLabel, Field(description="Name of the zone's site that this cluster serves.")]
    spec: Annotated[ResidencyZoneSpec, Field(description="The zone.")]

    @property
    def own(self) -> Site:
        """The site that this cluster serves."""
        return next(s for s in self.spec.sites if s.name == self.site)

    @property
    def peer(self) -> Site | None:
        """The zone's other site, if it has one."""
        return next((s for s in self.spec.sites if s.name != self.site), None)


class SiteFile(Model):
    """All zones that a cluster serves."""

    zones: Annotated[list[ServedZone], Field(description="One entry for each served zone.")] = []


def load(path: Path) -> SiteFile:
    """Read a site file. Raises OSError, or pydantic.ValidationError where it is not one."""
    return SiteFile.model_validate_json(path.read_bytes())
