"""The one writer of a tenant's status: verdicts and view in, status out, equal input to equal output."""

from __future__ import annotations

from domicile.api.common import ANNOTATION_RECONCILE
from domicile.api.conditions import Condition, merge
from domicile.api.tenant import AssistantTenantStatus, ClaimStatus, LiveStorage
from domicile.controllers.tenant.policies import progress, ready
from domicile.controllers.tenant.rules.verdict import Verdict
from domicile.controllers.tenant.view import TenantView


def build(view: TenantView, verdicts: tuple[Verdict, ...], annotations: dict[str, str]) -> AssistantTenantStatus:
    """The status that the view deserves; transition times are kept where a condition did not change."""
    top = ready(view, verdicts)
    shown = [top, *([p] if (p := progress(top)) else []), *verdicts]
    return view.status.model_copy(
        update={
            "observed_generation": view.generation,
            "tenant_id": view.tenant_id,
            "role": view.role if view.claim else None,
            "site": view.zone.site if view.zone else None,
            "active_site": view.claim.holder if view.claim else view.status.active_site,
            "storage": LiveStorage(bucket=view.live_bucket) if view.live_bucket else view.status.storage,
            "claim": ClaimStatus(number=view.claim.number, holder=view.claim.holder or "")
            if view.claim
            else view.status.claim,
            "last_commit": view.last_commit or view.status.last_commit,
            "last_handled_reconcile_at": annotations.get(ANNOTATION_RECONCILE, view.status.last_handled_reconcile_at),
            "restore": view.restoring,
            "conditions": merge(view.status.conditions, [condition(v, view.generation) for v in shown], view.now),
        }
    )


def condition(verdict: Verdict, generation: int) -> Condition:
    """A verdict as a condition; its transition time is set by ``merge``."""
    return Condition(
        type=verdict.type,
        status=verdict.status,
        reason=verdict.reason,
        message=verdict.message[:1024],
        observed_generation=generation,
    )
