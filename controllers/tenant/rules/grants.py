"""Roles that name assistants, whoever gives them."""

from __future__ import annotations

from domicile.api.conditions import ConditionType
from domicile.controllers.tenant.rules.verdict import Verdict, no
from domicile.controllers.tenant.view import TenantView


def granted_assistants_exist(view: TenantView) -> Verdict | None:
    """A grant for an assistant that isn't there is a mistake in writing."""
    known = {a.name for a in view.spec.assistants}
    sources = view.spec.access.sso.sources if view.spec.access.sso else ()
    wrong = sorted({a for s in sources for m in s.role_mappings for a in m.assistants} - known)
    if not wrong:
        return None
    return no(
        ConditionType.SSO_CONFIGURED,
        "AssistantUnknown",
        f"roleMappings grant assistants that the tenant doesn't have: {', '.join(wrong)} (it has:"
        f" {', '.join(sorted(known))}).",
    )
