"""What an identity server tells of a realm's logins: failed and other ones, and the sessions there are.

Source: https://www.keycloak.org/docs-api/latest/rest-api/ (EventRepresentation, UserSessionRepresentation).
"""

from __future__ import annotations

from typing import Any

from keycloak import KeycloakAdmin
from keycloak.exceptions import KeycloakGetError

from domicile.api.sso import PersonRole
from domicile.controllers.realm.desired import CLIENT, FAILED_LOGINS, LOGIN
from domicile.controllers.realm.mend import rest
from domicile.controllers.realm.watch import BreakGlass, Look, Session

Object = dict[str, Any]

_PAGE = 1000
# A flood must not keep the operator reading: as many are enough to judge it.
_MOST = 5000


async def look(admin: KeycloakAdmin, since: float) -> Look:
    """The logins since a time (Unix time, to the server's clock) and the sessions of now. Raises KeycloakError."""
    events = await pages(admin, "events", most=_MOST, type=[LOGIN, *FAILED_LOGINS], dateFrom=int(since * 1000))
    failures = [e for e in events if e["type"] != LOGIN]
    return Look(
        since=since,
        failures=tuple(_account(e) for e in failures),
        logins=len(events) - len(failures),
        sessions=tuple(Session(s["userId"], s.get("ipAddress") or "") for s in await sessions(admin)),
    )


async def sessions(admin: KeycloakAdmin) -> list[Object]:
    """The sessions of the front door's people, each a UserSessionRepresentation. Raises KeycloakError."""
    client = await admin.a_get_client_id(CLIENT)
    return await pages(admin, f"clients/{client}/user-sessions", most=_MOST) if client else []


async def break_glass(admin: KeycloakAdmin, name: str, since: float, known: str | None = None) -> BreakGlass:
    """The account for emergencies, and its logins since a time (Unix time). Raises KeycloakError.

    To find it by its name the server asks every directory, too; by its id, where that is ``known``, it asks none.
    """
    found = await _by_id(admin, known) if known else await _by_name(admin, name)
    if found is None or found["username"] != name.lower():
        return BreakGlass(usable=False)
    account = str(found["id"])
    roles = {r["name"] for r in await admin.a_get_composite_realm_roles_of_user(account)}
    events = await pages(admin, "events", type=[LOGIN], user=account, dateFrom=int(since * 1000))
    reachable = bool(found.get("email")) and found.get("emailVerified", False)
    usable = found["enabled"] and reachable and PersonRole.OWNER in roles
    return BreakGlass(usable, tuple(e["time"] / 1000 for e in events), account)


async def _by_name(admin: KeycloakAdmin, name: str) -> Object | None:
    return next(iter(await admin.a_get_users({"username": name, "exact": True})), None)


async def _by_id(admin: KeycloakAdmin, account: str) -> Object | None:
    try:
        return dict(await admin.a_get_user(account))
    except KeycloakGetError as error:
        if error.response_code == 404:
            return None
        raise


def _account(event: Object) -> str:
    """Whose login it was; the name that was typed where there is no such account."""
    return str(event.get("userId") or event.get("details", {}).get("username", "")).lower()


async def pages(admin: KeycloakAdmin, within: str, *, most: int | None = None, **query: Any) -> list[Object]:
    """What a path of the realm lists; about ``most`` of it, if given. Raises KeycloakError."""
    found: list[Object] = []
    while most is None or len(found) < most:
        page = await rest.get(admin, within, **query, first=len(found), max=_PAGE)
        found += page
        if len(page) < _PAGE:
            break
    return found
