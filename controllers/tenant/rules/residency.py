"""Where a tenant and its data may be: the condition ResidencyCompliant."""

from __future__ import annotations

from domicile.api.conditions import ConditionType
from domicile.controllers.egress.destinations import attestations, objections
from domicile.controllers.tenant import pool
from domicile.controllers.tenant.rules.verdict import Rule, Verdict, no
from domicile.controllers.tenant.view import Standing, TenantView

# Reasons that the replicator gives (backup.worker): a store may not be used, or kept an object otherwise encrypted.
_REFUSED_FOR_RESIDENCY = {"Residency", "Encryption"}


def zone_exists(view: TenantView) -> Verdict | None:
    """The zone must be known."""
    if view.spec.zone in view.known_zones:
        return None
    known = ", ".join(view.known_zones) or "none"
    return no(
        ConditionType.RESIDENCY_COMPLIANT,
        "ZoneNotFound",
        f"ResidencyZone {view.spec.zone} does not exist here (known: {known}). Create it, or create the tenant anew"
        " with another zone.",
        blocks=True,
    )


def zone_served(view: TenantView) -> Verdict | None:
    """This cluster must be one of the zone's sites: elsewhere nothing of the tenant may exist."""
    if view.zone is not None:
        return None
    return no(
        ConditionType.RESIDENCY_COMPLIANT,
        "ZoneNotServedHere",
        f"This cluster serves {', '.join(view.platform.sites) or 'no site'}; zone {view.spec.zone} has"
        f" {', '.join(view.zone_sites)}. Nothing was created. Apply the tenant in a cluster of its zone.",
        blocks=True,
    )


def home_site_known(view: TenantView) -> Verdict | None:
    """``homeSite`` must be one of the zone's sites."""
    if view.home_site in view.zone_sites:
        return None
    return no(
        ConditionType.RESIDENCY_COMPLIANT,
        "HomeSiteUnknown",
        f"homeSite {view.home_site} is no site of zone {view.spec.zone} ({', '.join(view.zone_sites)})."
        " Create the tenant anew with one of these.",
        blocks=True,
    )


def model_in_zone(view: TenantView) -> Verdict | None:
    """Questions go to providers of the zone only, for models that it lists, and nowhere else than in its regions."""
    known = {p.name: p for p in view.zone.spec.model_providers} if view.zone else {}
    model = view.spec.model.model
    for share in view.spec.model.providers:
        provider = known.get(share.name)
        if provider is None:
            return no(
                ConditionType.RESIDENCY_COMPLIANT,
                "ModelProviderUnknown",
                f"Zone {view.spec.zone} has no model provider {share.name} (it has:"
                f" {', '.join(known) or 'none'}). Correct spec.model.providers.",
                blocks=True,
            )
        if model not in provider.models:
            return no(
                ConditionType.RESIDENCY_COMPLIANT,
                "ModelNotAllowed",
                f"Model {model} is not allowed at provider {share.name} ({', '.join(provider.models)})."
                " Correct spec.model.model.",
                blocks=True,
            )
        if provider.contract is not None and (outside := pool.outside(view, provider.contract)):
            return no(
                ConditionType.RESIDENCY_COMPLIANT,
                "ModelProviderOutside",
                f"Model provider {share.name} may process in {', '.join(outside)}, which zone {view.spec.zone} does not"
                " list in modelRegions. Choose another provider, or agree with it on regions of the zone.",
                blocks=True,
            )
    return None


def issuer_in_zone(view: TenantView) -> Verdict | None:
    """Who sees people's logins processes personal data: somebody must vouch for where."""
    external, approved = view.external, view.approved_issuer
    if external is None:
        return None
    if approved is None:
        return no(
            ConditionType.RESIDENCY_COMPLIANT,
            "IssuerNotApproved",
            f"Zone {view.spec.zone} does not have {external.issuer} among its externalIssuers. If it keeps"
            " people's data in the zone, attest that there; otherwise let people log in at the zone's identity server.",
            blocks=True,
        )
    if not approved.counts(view.now.date()):
        return no(
            ConditionType.RESIDENCY_COMPLIANT,
            "IssuerNotAttested",
            f"The attestation of {external.issuer} in externalIssuers of zone {view.spec.zone} does not count today:"
            " look again where it keeps people's data, and renew the attestation.",
            blocks=True,
        )
    return None


def egress_in_zone(view: TenantView) -> Verdict | None:
    """What leaves a tenant goes where somebody vouches for, and nowhere else."""
    refused = objections(view.spec, view.zone.spec, view.now.date()) if view.zone else ()
    if not refused:
        return None
    return no(
        ConditionType.RESIDENCY_COMPLIANT,
        "EgressNotAllowed",
        f"spec.network.additionalEgress: {' '.join(refused)} Correct it, or attest the host in zone {view.spec.zone}.",
        blocks=True,
    )


def stores_at_home(view: TenantView) -> Verdict | None:
    """Every store involved must be where the zone says and as protected as it says."""
    messages = " ".join(view.residency.messages)
    if view.residency.standing is Standing.VIOLATED:
        return no(ConditionType.RESIDENCY_COMPLIANT, "StoreOutsideZone", messages, blocks=True)
    if view.residency.standing is Standing.UNKNOWN:
        # Before a bucket is bound nothing may be assumed; later an outage doesn't tear a running tenant down.
        return Verdict(
            ConditionType.RESIDENCY_COMPLIANT, "Unknown", "StoreNotVerified", messages, blocks=view.live_bucket is None
        )
    if view.peer_error is not None:
        return Verdict(ConditionType.RESIDENCY_COMPLIANT, "Unknown", "PeerNotVerified", view.peer_error)
    return None


def run_found_home(view: TenantView) -> Verdict | None:
    """What the last run of the replicator was refused for stands until a run succeeds: it asked anew, as another."""
    if view.replication_failure is None or view.replication_failure[0] not in _REFUSED_FOR_RESIDENCY:
        return None
    return no(
        ConditionType.RESIDENCY_COMPLIANT,
        "RunRefused",
        f"{view.replication_failure[1]} (Once it is mended: kubectl domicile snapshot {view.name}.)",
    )


def residency_fine(view: TenantView) -> Verdict:
    """Everything that was asked is inside the zone."""
    issuer = view.approved_issuer
    told: tuple[str, ...] = (f"{issuer.issuer} keeps people's data in {issuer.place}, as attested.",) if issuer else ()
    told += attestations(view.spec, view.zone.spec) if view.zone else ()
    attested = " ".join((*view.residency.messages, *told))
    return Verdict(
        ConditionType.RESIDENCY_COMPLIANT,
        "True",
        "Attested" if attested else "Verified",
        attested or "Stores, nodes and model are inside the zone.",
    )


RULES: tuple[Rule, ...] = (
    zone_exists,
    zone_served,
    home_site_known,
    model_in_zone,
    issuer_in_zone,
    egress_in_zone,
    stores_at_home,
    run_found_home,
    residency_fine,
)
