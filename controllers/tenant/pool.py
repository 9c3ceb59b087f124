"""Which model providers a tenant's questions may go to, and why not to others. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import NamedTuple

from domicile.api import google
from domicile.api.egress import AllowedDestination
from domicile.api.providers import Contract, ModelProvider
from domicile.api.tenant import ProviderShare
from domicile.controllers.authorities import readable
from domicile.controllers.egress import destinations as egress
from domicile.controllers.egress.accounts import Destination
from domicile.controllers.tenant.view import TenantView

WARNED = timedelta(days=30)
"""How long before its end a contract is told of."""


class Fault(NamedTuple):
    """Why a provider is not asked, as reason and in words."""

    reason: str
    message: str


class Member(NamedTuple):
    """One provider of the tenant's pool that its zone has."""

    share: ProviderShare
    provider: ModelProvider


def members(view: TenantView) -> list[Member]:
    """The pool, in its order; without those that the zone doesn't know."""
    known = {p.name: p for p in view.zone.spec.model_providers} if view.zone else {}
    return [Member(s, known[s.name]) for s in view.spec.model.providers if s.name in known]


def usable(view: TenantView) -> list[Member]:
    """Those that may be asked now."""
    return [m for m in members(view) if fault(view, m.provider) is None]


def reached(view: TenantView) -> tuple[Destination, ...]:
    """What the tenant may reach through the site's way out."""
    if view.zone is None:
        return ()
    providers = (m.provider for m in usable(view))
    return egress.destinations(providers, view.spec, view.zone.spec, view.now.date())


def services(view: TenantView) -> tuple[AllowedDestination, ...]:
    """Hosts that are no model provider's, and can be asked now."""
    return tuple(d for d in _services(view) if not _lacks_key(view, d))


def unkeyed(view: TenantView) -> list[AllowedDestination]:
    """Those that could be, had the operator their key."""
    return [d for d in _services(view) if _lacks_key(view, d)]


def _lacks_key(view: TenantView, service: AllowedDestination) -> bool:
    return service.key is not None and not view.service_keys.get(service.host)


def _services(view: TenantView) -> tuple[AllowedDestination, ...]:
    return egress.services(view.spec, view.zone.spec, view.now.date()) if view.zone else ()


def federated(view: TenantView, provider: ModelProvider) -> google.Federated | None:
    """Whom the cluster vouches for at a provider that may be asked; None: nobody."""
    if provider.token_url is None:
        return None
    key = google.read(view.model_keys.get(provider.name) or "")
    return key if isinstance(key, google.Federated) else None


def fault(view: TenantView, provider: ModelProvider) -> Fault | None:
    """What speaks against asking a provider today; None where nothing does."""
    return next(_faults(view, provider), None)


def outside(view: TenantView, contract: Contract) -> list[str]:
    """Regions of a contract that the zone doesn't list."""
    inside = view.zone.spec.model_regions if view.zone else []
    return sorted(set(contract.regions) - set(inside))


def _faults(view: TenantView, provider: ModelProvider) -> Iterator[Fault]:
    name, contract, today = provider.name, provider.contract, view.now.date()
    if contract is not None:
        if outside(view, contract):
            yield Fault("ModelProviderOutside", f"{name} may process outside zone {view.spec.zone}.")
        if not contract.counts(today):
            yield Fault(
                "ContractExpired",
                f"The contract with {name} in zone {view.spec.zone} does not count today: nothing is sent there. Look"
                " at it again, and renew its dates.",
            )
        if not contract.data_processing:
            yield Fault("NoDataProcessingAgreement", f"There is no data processing agreement with {name}: make one.")
        if not contract.no_training:
            yield Fault("TrainsOnQuestions", f"{name} may train on what it is sent: agree that it doesn't.")
    # What runs in the site's own cluster is nobody else's.
    if provider.base_url is not None:
        unmet = sorted(n.value for n in view.spec.compliance if contract is None or not contract.meets(n))
        if unmet:
            yield Fault(
                "ComplianceUnmet",
                f"The contract with {name} lacks what spec.compliance asks for ({', '.join(unmet)}): it is not asked."
                " Take it out of spec.model.providers, or agree on it.",
            )
    if provider.ca_bundle is not None and not readable(provider.ca_bundle):
        yield Fault(
            "AuthoritiesUnreadable",
            f"The caBundle of {name} in zone {view.spec.zone} holds something that is no certificate: it is not asked."
            " Put whole certificates of authorities there, as PEM.",
        )
    if provider.key is not None:
        yield from _key_faults(provider, view.model_keys.get(provider.name) or "")


def _key_faults(provider: ModelProvider, held: str) -> Iterator[Fault]:
    if not held:
        yield Fault(
            "ModelKeyMissing",
            f"The operator's Secret of model keys lacks {provider.key}.key, by which {provider.name} is asked: add it.",
        )
    elif provider.token_url is not None:
        try:
            google.read(held)
        except ValueError as error:
            yield Fault(
                "ModelKeyUnusable",
                f"{provider.key}.key of the operator's Secret of model keys is no key of Google's ({error}), and"
                f" {provider.name} has a tokenUrl: correct one of them.",
            )
