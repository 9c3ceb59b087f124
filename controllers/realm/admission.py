"""The operator's own account at an identity server, made by its administrator, and no stronger than it must be.

Keycloak's Admin REST API, sections Clients, Role Mapper and Realms Admin.
"""

from __future__ import annotations

from typing import Any

import httpx

from domicile.controllers.realm.server import Account, IdentityError, Object, RefusedError, UnreachableError

_MASTER = "/admin/realms/master"
# Whoever makes a realm may manage it, and no other.
_ROLE = "create-realm"
# Keycloak gives them to everybody; they are about one's own account.
_EVERYBODYS = "default-roles-master"


def admit(web: httpx.Client, bootstrap: Account, operator: Account, console: str | None) -> None:
    """Bring the account to what it should be, whatever is there.

    ``web`` speaks to the server's base URL; ``console``: where its administrators log in, if not where people do.
    Raises IdentityError.
    """
    try:
        _Administrator(web, bootstrap).admit(operator, console)
    except httpx.TransportError as error:
        raise UnreachableError(f"The identity server {web.base_url} does not answer ({error}).") from None


class _Administrator:
    def __init__(self, web: httpx.Client, account: Account) -> None:
        self._web = web
        grant = {
            "grant_type": "client_credentials",
            "client_id": account.client_id,
            "client_secret": account.client_secret,
        }
        answer = web.post("/realms/master/protocol/openid-connect/token", data=grant)
        if answer.status_code in {400, 401}:
            raise RefusedError(
                f"The identity server {web.base_url} refuses its administrator {account.client_id}: it knows the secret"
                " of its first start. Correct it there, or in the Secret."
            )
        self._headers = {"Authorization": f"Bearer {_checked(answer).json()['access_token']}"}

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        answer = _checked(self._web.request(method, f"{_MASTER}{path}", json=body, headers=self._headers))
        return answer.json() if answer.content else None

    def admit(self, operator: Account, console: str | None) -> None:
        wanted = _client(operator)
        for _ in range(2):
            if found := self._ask("GET", f"/clients?clientId={operator.client_id}"):
                break
            self._ask("POST", "/clients", wanted)
        [present] = found
        self._ask("PUT", f"/clients/{present['id']}", {**present, **wanted})
        self._weaken(self._ask("GET", f"/clients/{present['id']}/service-account-user")["id"])
        if console is not None:
            # Last, for tokens are of an issuer, which this changes.
            attributes = self._ask("GET", "")["attributes"]
            self._ask("PUT", "", {"attributes": {**attributes, "frontendUrl": console}})

    def _weaken(self, user: str) -> None:
        """One role of the realm master, and none that somebody added."""
        mappings = f"/users/{user}/role-mappings/realm"
        present: list[Object] = self._ask("GET", mappings)
        if more := [role for role in present if role["name"] not in {_ROLE, _EVERYBODYS}]:
            self._ask("DELETE", mappings, more)
        self._ask("POST", mappings, [self._ask("GET", f"/roles/{_ROLE}")])


def _client(operator: Account) -> Object:
    return {
        "clientId": operator.client_id,
        "secret": operator.client_secret,
        "enabled": True,
        "publicClient": False,
        "serviceAccountsEnabled": True,
        "standardFlowEnabled": False,
        "implicitFlowEnabled": False,
        "directAccessGrantsEnabled": False,
        "redirectUris": [],
        # An ordinary token lists all roles in all realms, as of its issue.
        "attributes": {"client.use.lightweight.access.token.enabled": "true"},
    }


def _checked(answer: httpx.Response) -> httpx.Response:
    if not answer.is_success:
        raise IdentityError(
            f"The identity server answered {answer.status_code} to {answer.request.method} {answer.request.url.path}."
        )
    return answer
