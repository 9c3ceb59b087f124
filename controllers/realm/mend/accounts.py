"""Dormant accounts are disabled. One request for each account that may be: the server keeps no date of a last login."""

from __future__ import annotations

from typing import Any

from keycloak import KeycloakAdmin

from domicile.api.sso import Passwords, PersonRole
from domicile.controllers.realm import logins
from domicile.controllers.realm.desired import LOGIN, LOGINS_KNOWN_SINCE
from domicile.controllers.realm.dormancy import DAY_SECONDS, Account, dormant
from domicile.controllers.realm.flows import FEDERATED
from domicile.controllers.realm.mend import rest

Object = dict[str, Any]


async def disable_dormant(admin: KeycloakAdmin, passwords: Passwords, now: float) -> int:
    """Disable who has not logged in for ``dormantDays`` until ``now`` (Unix time); how many. Raises KeycloakError."""
    cutoff = now - (passwords.dormant_days or 0) * DAY_SECONDS
    realm = await admin.a_get_realm(admin.connection.realm_name or "")
    known = realm.get("attributes", {}).get(LOGINS_KNOWN_SINCE)
    if known is None or float(known) > cutoff:
        return 0
    owners = {u["id"] for u in await logins.pages(admin, f"roles/{PersonRole.OWNER}/users")}
    federated = {u["id"] for u in await logins.pages(admin, f"roles/{FEDERATED}/users")}
    accounts = []
    for user in await logins.pages(admin, "users", briefRepresentation="false"):
        own = user["id"] not in federated and not user.get("federationLink")
        asked = own and user["enabled"] and user["createdTimestamp"] / 1000 < cutoff
        accounts.append(
            Account(
                id=user["id"],
                created=user["createdTimestamp"] / 1000,
                enabled=user["enabled"],
                own=own,
                owner=user["id"] in owners,
                used=not asked or await _used(admin, user["id"], cutoff),
                kept=user["username"] == passwords.break_glass,
            )
        )
    found = dormant(accounts, cutoff, float(known))
    for user_id in found:
        await admin.a_update_user(user_id, {**await admin.a_get_user(user_id), "enabled": False})
    return len(found)


async def _used(admin: KeycloakAdmin, user: str, cutoff: float) -> bool:
    return bool(await rest.get(admin, "events", type=[LOGIN], user=user, dateFrom=int(cutoff * 1000), max=1))
