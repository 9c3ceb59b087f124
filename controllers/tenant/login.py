"""Whom a tenant's front doors ask when people log in, and how they get there. Pure.

Where the installation goes through the site's way out, a sidecar of the door's leads there from the pod's loopback.
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlsplit

from domicile.api.egress import is_outside
from domicile.controllers.egress.accounts import Destination, destination
from domicile.controllers.tenant.view import TenantView

SECRET = "door-way-out"  # noqa: S105 - the name of a Secret


class Servers(NamedTuple):
    """Hosts, their one TCP port, and networks that their addresses lie in; none: they are not named."""

    hosts: tuple[str, ...]
    port: int
    cidrs: tuple[str, ...]


def servers(view: TenantView) -> Servers | None:
    """None where they are pods of the cluster, or not known."""
    if view.spec.access.sso is None:
        return None
    if view.external is not None:
        approved = view.approved_issuer
        if approved is None:
            return None
        hosts = {urlsplit(approved.issuer).hostname or "", *approved.hosts}
        return Servers(tuple(sorted(hosts)), approved.port, tuple(sorted(approved.cidrs)))
    identity = view.zone.spec.identity if view.zone else None
    if identity is None or identity.pods is not None:
        return None
    url = urlsplit(identity.for_doors)
    return Servers((url.hostname or "",), url.port or 443, tuple(sorted(identity.cidrs)))


def led(view: TenantView) -> bool:
    """Whether doors reach them through the way out."""
    asked = servers(view)
    return view.platform.goes_out and asked is not None and all(is_outside(host) for host in asked.hosts)


def destinations(view: TenantView) -> tuple[Destination, ...]:
    """What doors may reach there today."""
    approved = view.approved_issuer
    lapsed = approved is not None and not approved.counts(view.now.date())
    return () if lapsed or fault(view) else tuple(d for d in _tried(view) if isinstance(d, Destination))


def fault(view: TenantView) -> str | None:
    """Why the way out does not lead there; None where it does, or need not."""
    return next((found for found in _tried(view) if isinstance(found, str)), None)


def _tried(view: TenantView) -> list[Destination | str]:
    asked = servers(view)
    if asked is None or not led(view):
        return []
    return [destination(host, asked.port, asked.cidrs) for host in asked.hosts]
