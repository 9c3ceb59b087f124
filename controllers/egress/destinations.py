"""What a tenant may reach through the site's way out, and why it may not reach what it asks for. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date
from urllib.parse import urlsplit

from domicile.api.egress import AdditionalEgress, AllowedDestination
from domicile.api.providers import ModelProvider
from domicile.api.tenant import AssistantTenantSpec
from domicile.api.zone import ResidencyZoneSpec
from domicile.controllers.egress.accounts import Destination, destination

TENANT_SECRET = "egress"  # noqa: S105 - the name of a Secret
"""Of a tenant's namespace: what its gateway proves itself by."""
TENANT_KEY = "egress"
"""Its key; the value is ``<account>:<password>``, as HTTP's basic scheme has them (RFC 7617)."""


PORT = 3129
HTTPS = 443


def url(namespace: str) -> str:
    """Of the site's way out; it wants a certificate of the pods' authority, and shows one with this host."""
    return f"https://domicile-egress.{namespace}.svc:{PORT}"


def destinations(
    providers: Iterable[ModelProvider], spec: AssistantTenantSpec, zone: ResidencyZoneSpec, today: date
) -> tuple[Destination, ...]:
    """The model ``providers`` that it may ask, where they are outside the site, and what it asks for and its zone
    allows today.

    What no destination can be is left out.
    """
    found = []
    for provider in providers:
        for url in (provider.base_url, provider.token_url):
            if url is None:
                continue
            base = urlsplit(url)
            host, port = base.hostname or "", base.port or 443
            named = next((d for d in zone.allowed_destinations if (d.host, d.port) == (host, port)), None)
            found.append((host, port, named.cidrs if named else []))
    found += [(allowed.host, allowed.port, allowed.cidrs) for allowed in _allowed(spec, zone, today)]
    return tuple(sorted({d for each in found if isinstance(d := destination(*each), Destination)}))


def services(spec: AssistantTenantSpec, zone: ResidencyZoneSpec, today: date) -> tuple[AllowedDestination, ...]:
    """What the tenant's gateway may ask beside models today: what it asks for and its zone allows, on port 443.

    A model provider's host is none: what is asked there has fields that are known.
    """
    providers = {urlsplit(p.base_url).hostname for p in zone.model_providers if p.base_url is not None}
    return tuple(d for d in _allowed(spec, zone, today) if d.port == HTTPS and d.host not in providers)


def objections(spec: AssistantTenantSpec, zone: ResidencyZoneSpec, today: date) -> tuple[str, ...]:
    """One sentence for each host that the tenant asks for and its zone does not allow today."""
    found = []
    for asked in spec.network.additional_egress:
        told = _objection(asked, _listed(asked, zone), today)
        if told is not None:
            found.append(f"{asked.host}:{asked.port} {told}.")
    return tuple(found)


def attestations(spec: AssistantTenantSpec, zone: ResidencyZoneSpec) -> tuple[str, ...]:
    """One sentence for each processor that the tenant's data may go to, beyond its model provider."""
    listed = [d.contract for asked in spec.network.additional_egress if (d := _listed(asked, zone)) is not None]
    return tuple(sorted({f"{c.processor} processes data in {c.place}, as attested." for c in listed}))


def _allowed(spec: AssistantTenantSpec, zone: ResidencyZoneSpec, today: date) -> Iterator[AllowedDestination]:
    for asked in spec.network.additional_egress:
        allowed = _listed(asked, zone)
        if allowed is not None and _objection(asked, allowed, today) is None:
            yield allowed


def _listed(asked: AdditionalEgress, zone: ResidencyZoneSpec) -> AllowedDestination | None:
    return next((d for d in zone.allowed_destinations if (d.host, d.port) == (asked.host, asked.port)), None)


def _objection(asked: AdditionalEgress, allowed: AllowedDestination | None, today: date) -> str | None:
    if allowed is None:
        return "is not among the zone's allowedDestinations"
    contract = allowed.contract
    if asked.contract != contract.processor:
        return f"is processed by {contract.processor}, and the tenant names another contract"
    if not contract.counts(today):
        return "has an attestation that does not count today"
    if isinstance(destination(allowed.host, allowed.port, allowed.cidrs), str):
        return "has cidrs where no destination may be"
    return None
