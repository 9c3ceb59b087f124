"""All controllers of one operator, behind the one call that the queue makes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from domicile.controllers.egress.keeper import Egress
from domicile.controllers.failover.reconcile import FailoverController
from domicile.controllers.issuer.issuers import Issuers
from domicile.controllers.mirrors import MirrorController
from domicile.controllers.pki.keeper import Keeper
from domicile.controllers.realm.realms import Realms
from domicile.controllers.restore.reconcile import RestoreController
from domicile.controllers.sites import SiteStores
from domicile.controllers.tenant.reconcile import TenantController
from domicile.controllers.tenant.session_store import SessionStore
from domicile.controllers.tenant.view import Platform
from domicile.controllers.zone import ZoneController
from domicile.controllers.zones import Zones
from domicile.kube.client import Kube
from domicile.kube.events import Events
from domicile.metrics import Metrics


class Controllers:
    """Reconciles any of our kinds by name."""

    def __init__(
        self,
        kube: Kube,
        events: Events,
        platform: Platform,
        *,
        credentials: Path,
        keys: Path,
        identity: Path,
        models: Path,
        resync_seconds: float,
        wake: Callable[[str, str], None],
        metrics: Metrics,
        logins: str | None = None,
    ) -> None:
        """``wake(kind, name)`` asks for a reconcile; the paths are the mounted folders. ``logins``: URL of a proxy that
        leads to who logs people in.
        """
        zones = Zones(kube, SiteStores(credentials, keys), platform.sites)
        mirrors = MirrorController(kube, zones)
        sessions = SessionStore(kube, platform.namespace)
        egress = Egress(kube, platform.namespace)
        pki = Keeper(kube, platform.namespace)
        self._tenants = TenantController(
            kube,
            events,
            zones,
            Realms(identity, proxy=logins),
            Issuers(proxy=logins),
            sessions,
            egress,
            pki,
            metrics,
            platform,
            resync_seconds,
            models,
        )
        self._failovers = FailoverController(kube, events, zones, lambda name: wake("AssistantTenant", name))
        self._restores = RestoreController(kube, events, zones, lambda name: wake("AssistantTenant", name))
        self._zones = ZoneController(
            kube,
            zones,
            mirrors,
            sessions,
            egress,
            pki,
            metrics,
            platform.namespace,
            platform.sites,
            resync_seconds,
            lambda name: wake("AssistantTenant", name),
            goes_out=platform.goes_out,
        )

    async def reconcile(self, kind: str, name: str) -> float | None:
        """Reconcile one object; returns seconds until it wants to be looked at again, None where it doesn't."""
        match kind:
            case "AssistantTenant":
                return await self._tenants.reconcile(name)
            case "Failover":
                return await self._failovers.reconcile(name)
            case "Restore":
                return await self._restores.reconcile(name)
            case "ResidencyZone":
                return await self._zones.reconcile(name)
        raise KeyError(f"no controller for kind {kind}")
