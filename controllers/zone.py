"""Reconcile ResidencyZones: say which of their sites this cluster is, write the site file, follow the mirror."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from domicile.api.common import API_VERSION, FIELD_MANAGER, LABEL_MANAGED_BY
from domicile.api.conditions import Condition, ConditionType, merge
from domicile.api.zone import ResidencyZoneSpec, ResidencyZoneStatus
from domicile.controllers.authorities import readable
from domicile.controllers.egress import own
from domicile.controllers.egress.accounts import LOGINS, OWN
from domicile.controllers.egress.keeper import Egress
from domicile.controllers.mirrors import MirrorController
from domicile.controllers.pki import holders
from domicile.controllers.pki.keeper import Keeper
from domicile.controllers.pki.leaf import Holder
from domicile.controllers.tenant.session_store import SessionStore
from domicile.controllers.zones import Zones, config_map, serve
from domicile.kube.apply import apply
from domicile.kube.client import Kube
from domicile.kube.status import patch_status
from domicile.metrics import Metrics

Object = dict[str, Any]

log = logging.getLogger(__name__)


class ZoneController:
    """Reconciles zones."""

    def __init__(
        self,
        kube: Kube,
        zones: Zones,
        mirrors: MirrorController,
        sessions: SessionStore,
        egress: Egress,
        pki: Keeper,
        metrics: Metrics,
        namespace: str,
        sites: tuple[str, ...],
        resync: float,
        wake: Callable[[str], None],
        *,
        goes_out: bool,
    ) -> None:
        """``wake`` asks for a reconcile of a tenant; ``goes_out``: the installation goes through the site's way out."""
        self._kube = kube
        self._zones = zones
        self._sessions = sessions
        self._egress = egress
        self._pki = pki
        self._metrics = metrics
        self._mirrors = mirrors
        self._namespace = namespace
        self._sites = sites
        self._resync = resync
        self._wake = wake
        self._goes_out = goes_out

    async def reconcile(self, name: str) -> float | None:
        """Bring the site file and one zone's status up to date, and follow its mirror."""
        zone = await self._kube.read(API_VERSION, "ResidencyZone", name)
        self._zones.forget()
        labels = {LABEL_MANAGED_BY: FIELD_MANAGER}
        site_file = await self._zones.site_file()
        await apply(self._kube, config_map(site_file, self._namespace, labels))
        if self._goes_out:
            await self._certify(holders.outwards(self._namespace))
        zones, today = [z.spec for z in site_file.zones] if self._goes_out else [], datetime.now(UTC).date()
        await self._egress.see_to_own(OWN, own.stores(zones))
        await self._egress.see_to_own(LOGINS, own.logins(zones, today))
        if zone is None:
            return None
        spec = ResidencyZoneSpec.model_validate(zone["spec"])
        known = ResidencyZoneStatus.model_validate(zone.get("status") or {})
        if known.observed_generation != zone["metadata"]["generation"]:
            await self._wake_tenants(name)
        served = serve(name, spec, self._sites)
        faults = own.faults(spec, today) if self._goes_out else ()
        ready = _judge(spec, served.site if served else None, self._sites, zone["metadata"]["generation"], faults)
        status = ResidencyZoneStatus(
            observed_generation=zone["metadata"]["generation"],
            site=served.site if served else None,
            conditions=merge(known.conditions, [ready], datetime.now(UTC)),
        )
        await patch_status(self._kube, zone, status.to_wire())
        if served is not None:
            await self._certify(holders.lease(self._namespace))
            await self._certify(holders.sessions(self._namespace))
            # The session store waits for its accounts before the first tenant is there.
            await self._sessions.passwords()
            if spec.leads_outside or self._goes_out:
                await self._certify(holders.egress(self._namespace))
                await self._egress.keep(await self._tenant_ids())
            await self._mirrors.follow(served)
        return self._resync

    async def _wake_tenants(self, zone: str) -> None:
        """What a zone no longer allows ends with the change, and not at its tenants' next look."""
        for tenant in await self._kube.list(API_VERSION, "AssistantTenant"):
            if tenant["spec"]["zone"] == zone:
                self._wake(tenant["metadata"]["name"])

    async def _tenant_ids(self) -> set[str]:
        found = await self._kube.list(API_VERSION, "AssistantTenant")
        return {tenant_id for t in found if (tenant_id := (t.get("status") or {}).get("tenantId"))}

    async def _certify(self, holder: Holder) -> None:
        """Shared pods get their certificate before the first of them can start; what keeps them from it is logged."""
        standing = await self._pki.see_to(holder)
        self._metrics.pods_certificates(f"{holder.namespace}/{holder.secret}", [standing.until])
        if standing.fault is not None:
            log.error("no certificate for %s: %s", holder.account, standing.fault)


# Of a condition's message (characters).
_LONGEST: Final = 1024


def _judge(
    spec: ResidencyZoneSpec, site: str | None, sites: tuple[str, ...], generation: int, faults: tuple[str, ...]
) -> Condition:
    here = [s.name for s in spec.sites if s.name in sites]
    broken = [s.name for s in spec.sites if s.store_ca_bundle is not None and not readable(s.store_ca_bundle)]
    if broken:
        status, reason = "False", "StoreAuthoritiesUnreadable"
        told = f"The storeCaBundle of {' and '.join(broken)} holds something that is no certificate"
        message = f"{told}: no store of theirs is asked. Put whole certificates of authorities there, as PEM."
    elif site is not None and faults:
        told = f"Correct where the way out does not lead: {' '.join(faults)}"
        status, reason, message = "False", "AddressesRefused", told[:_LONGEST]
    elif site is not None:
        status, reason, message = "True", "Served", f"This cluster is the zone's site {site}."
    elif here:
        status, reason = "False", "SitesShareACluster"
        message = f"This cluster claims to be {' and '.join(here)}: two sites of one zone must not share a cluster."
    else:
        status, reason = "True", "NotServedHere"
        message = "No site of the zone is in this cluster; its tenants are refused here."
    return Condition.model_validate(
        {
            "type": ConditionType.READY,
            "status": status,
            "reason": reason,
            "message": message,
            "observedGeneration": generation,
        }
    )
