"""Required actions: what people may do to their own account."""

from __future__ import annotations

from typing import Any

from keycloak import KeycloakAdmin

from domicile.controllers.realm.desired import ACTIONS
from domicile.controllers.realm.mend import rest

Object = dict[str, Any]


async def switch(admin: KeycloakAdmin, observed: Object, action: str, *, on: bool) -> None:
    """Switch an action on or off; one that was removed is registered again."""
    known = next((a for a in observed.get("requiredActions", []) if a["alias"] == action), None)
    if known is None:
        await rest.post(
            admin, "authentication/register-required-action", {"providerId": action, "name": ACTIONS[action]}
        )
        known = await admin.a_get_required_action_by_alias(action) or {}
    await admin.a_update_required_action(action, {**known, "enabled": on, "defaultAction": False})
