"""What a tenant needs in the stores: the conditions StorageReady and EncryptionReady."""

from __future__ import annotations

from domicile.api.conditions import ConditionType
from domicile.controllers.tenant import access
from domicile.controllers.tenant.rules.verdict import Rule, Verdict, no
from domicile.controllers.tenant.view import TenantView


def storage_answers(view: TenantView) -> Verdict | None:
    """The site's own stores must answer."""
    if view.storage_error is None:
        return None
    return no(ConditionType.STORAGE_READY, "StoreUnreachable", view.storage_error)


def live_bucket_bound(view: TenantView) -> Verdict | None:
    """The tenant needs a live bucket of its own."""
    if view.live_bucket is not None:
        return None
    if view.tenant_id is None:
        return Verdict(ConditionType.STORAGE_READY, "Unknown", "AwaitingIdentity", _awaiting(view))
    return Verdict(ConditionType.STORAGE_READY, "Unknown", "AwaitingBucket", "No live bucket is bound yet.")


def _awaiting(view: TenantView) -> str:
    if view.zone is not None and view.home_site != view.zone.site:
        return f"The tenant's identity comes from its home site {view.home_site}; apply it there if it isn't yet."
    return view.peer_error or "The tenant has no identity yet."


def claim_stands(view: TenantView) -> Verdict | None:
    """Nobody serves without a claim that stands."""
    claim = view.claim
    if view.tenant_id is None or (claim is not None and claim.stands):
        return None
    return no(
        ConditionType.STORAGE_READY,
        "ClaimPending",
        "No claim stands for the tenant yet: it must be in both control buckets."
        + (f" {view.peer_error}" if view.peer_error else ""),
    )


def access_lasts(view: TenantView) -> Verdict | None:
    """Where the pods' access to the live bucket ends by itself, it must be renewed in time."""
    if view.live_access is None or view.live_access.fault is None or not access.ends_soon(view.live_access, view.now):
        return None
    end = view.live_access.end
    left = f"ends at {end:%H:%M} UTC" if view.live_access.content and end else "has ended, or never began"
    return no(
        ConditionType.STORAGE_READY,
        "AccessNotRenewed",
        f"The assistants' access to their live bucket {left}, and can't be renewed: {view.live_access.fault}",
    )


def storage_fine(_: TenantView) -> Verdict:
    """Bucket bound and claim standing."""
    return Verdict(ConditionType.STORAGE_READY, "True", "Bound", "The live bucket is bound and its claim stands.")


def key_opens(view: TenantView) -> Verdict | None:
    """This site must be able to open the tenant's key with its own key alone."""
    if view.key_error is not None:
        return no(ConditionType.ENCRYPTION_READY, "KeyUnavailable", view.key_error)
    if view.key_id is None:
        return Verdict(ConditionType.ENCRYPTION_READY, "Unknown", "AwaitingKey", "The tenant has no key yet.")
    return None


def encryption_fine(_: TenantView) -> Verdict:
    """The key was opened a few minutes ago at most."""
    return Verdict(
        ConditionType.ENCRYPTION_READY, "True", "KeyProven", "This site opened the tenant's key with its own."
    )


STORAGE: tuple[Rule, ...] = (storage_answers, live_bucket_bound, claim_stands, access_lasts, storage_fine)
ENCRYPTION: tuple[Rule, ...] = (key_opens, encryption_fine)
