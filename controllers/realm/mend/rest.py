"""Requests to a realm for which python-keycloak has no method. They raise KeycloakError as its own do."""

from __future__ import annotations

import json
from typing import Any

from keycloak import KeycloakAdmin
from keycloak.exceptions import KeycloakDeleteError, KeycloakGetError, KeycloakPostError, raise_error_from_response


def _path(admin: KeycloakAdmin, within: str) -> str:
    return f"admin/realms/{admin.connection.realm_name}/{within}"


async def get(admin: KeycloakAdmin, within: str, **query: Any) -> Any:
    """What lies at a path of the realm. ``query``: parameters, a list for one that repeats; none within the path."""
    answer = await admin.connection.a_raw_get(_path(admin, within), **query)
    return raise_error_from_response(answer, KeycloakGetError)


async def post(admin: KeycloakAdmin, within: str, body: Any = None) -> Any:
    """Send something, and return the response."""
    data = "" if body is None else json.dumps(body)
    answer = await admin.connection.a_raw_post(_path(admin, within), data=data)
    raise_error_from_response(answer, KeycloakPostError)
    return answer


async def create(admin: KeycloakAdmin, within: str, body: Any) -> str:
    """Make an object; its id."""
    return str((await post(admin, within, body)).headers["location"].rsplit("/", 1)[1])


async def delete(admin: KeycloakAdmin, within: str, body: Any = None) -> None:
    """Delete what lies at a path, or of it what the body lists."""
    data = None if body is None else json.dumps(body)
    answer = await admin.connection.a_raw_delete(_path(admin, within), data=data)
    raise_error_from_response(answer, KeycloakDeleteError, expected_codes=[204])
