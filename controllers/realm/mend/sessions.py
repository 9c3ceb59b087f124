"""Sessions: all of a realm's are ended, and the front door is told of each."""

from __future__ import annotations

from keycloak import KeycloakAdmin
from keycloak.exceptions import KeycloakDeleteError

from domicile.controllers.realm import logins
from domicile.controllers.realm.mend import rest


async def end(admin: KeycloakAdmin) -> int:
    """End all sessions of a realm; how many the door was told of. Raises KeycloakError.

    One by one, for to end all at once, or all of a person, sends no back-channel logout for each (keycloak#22914). What
    is left is ended at once all the same, and no token from before is renewed.
    """
    told = 0
    try:
        for session in await logins.sessions(admin):
            told += await end_one(admin, str(session["id"]))
    finally:
        await rest.post(admin, "logout-all")
    return told


async def end_one(admin: KeycloakAdmin, session: str) -> bool:
    """End a session of the realm; whether there was one. Raises KeycloakError."""
    try:
        await rest.delete(admin, f"sessions/{session}")
    except KeycloakDeleteError as error:
        if error.response_code != 404:
            raise
        # Its person logged out in between.
        return False
    return True
