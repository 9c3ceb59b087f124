"""Somebody else's OpenID Connect issuer: a realm of plain Keycloak in which the operator has no say."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from datetime import date
from typing import Any, TypeVar

from keycloak import KeycloakAdmin

from domicile.api.sso import ExternalIssuer
from domicile.api.zone import ApprovedIssuer
from tests.integration.identity_server import Client, Person
from tests.integration.realm_estate import connect, user_named
from tests.testbed.keycloak import KeycloakServer

PASSWORD = "Correct-Horse-42!"
CLIENT = "assistants"
FACTOR = "mfa"
MAPPINGS: list[dict[str, Any]] = [
    {"group": "Bank chiefs (all)", "role": "owner"},
    {"group": "ops", "role": "admin"},
    {"group": "support", "role": "manager", "assistants": ["helpdesk"]},
    {"group": "staff", "role": "member"},
]
_T = TypeVar("_T")


def _mapper(name: str, kind: str, **config: str) -> dict[str, Any]:
    config = {"claim.name": name, "id.token.claim": "true", **config}
    return {"name": name, "protocol": "openid-connect", "protocolMapper": kind, "config": config}


class ForeignIssuer:
    """A realm whose tokens say a person's factors in ``amr`` and, where that scope is asked for, groups in ``groups``.

    It also writes ``roles`` into each token, as an issuer may who means something else by it.
    """

    def __init__(self, keycloak: KeycloakServer) -> None:
        self.keycloak = keycloak
        self.realm = f"foreign-{secrets.token_hex(4)}"
        self.secret = secrets.token_hex(16)
        self._groups: dict[str, str] = {}

    @property
    def issuer(self) -> str:
        return f"{self.keycloak.url}/realms/{self.realm}"

    @property
    def authorities(self) -> str:
        return self.keycloak.authority.read_text()

    def ask(self, what: Callable[[KeycloakAdmin], Awaitable[_T]]) -> _T:
        """Do something as who runs it."""

        async def go() -> _T:
            server = connect(self.keycloak)
            try:
                async with server.realm(self.realm) as admin:
                    return await what(admin)
            finally:
                await server.close()

        return asyncio.run(go())

    def create(self, *homes: str) -> None:
        """Make it, with a client for doors at these URLs."""

        async def make(admin: KeycloakAdmin) -> None:
            await admin.a_create_realm({"realm": self.realm, "enabled": True})
            await admin.a_create_realm_role({"name": FACTOR})
            groups = _mapper("groups", "oidc-group-membership-mapper", **{"full.path": "false"})
            scope = {"name": "groups", "protocol": "openid-connect", "protocolMappers": [groups]}
            scope_id = await admin.a_create_client_scope(scope)
            for name in (CLIENT, "other"):
                client = await admin.a_create_client(self._client(name, homes))
                await admin.a_add_client_optional_client_scope(client, scope_id, {})

        self.ask(make)

    def _client(self, name: str, homes: tuple[str, ...]) -> dict[str, Any]:
        return {
            "clientId": name,
            "secret": self.secret,
            "redirectUris": [f"{home}/oauth2/callback" for home in homes],
            "attributes": {
                "pkce.code.challenge.method": "S256",
                "post.logout.redirect.uris": "##".join(f"{home}/" for home in homes),
                "backchannel.logout.url": f"{homes[0]}/oauth2/callback?logout=backchannel",
                "backchannel.logout.session.required": "true",
            },
            "protocolMappers": [
                _mapper("amr", "oidc-usermodel-realm-role-mapper", multivalued="true"),
                _mapper(
                    "roles", "oidc-hardcoded-claim-mapper", **{"claim.value": '["owner"]', "jsonType.label": "JSON"}
                ),
            ],
        }

    def user(self, *groups: str, factor: bool = True) -> str:
        """A person with PASSWORD; their name."""
        name = f"p{secrets.token_hex(4)}"

        async def make(admin: KeycloakAdmin) -> None:
            user: str = await admin.a_create_user(user_named(name))
            for group in groups:
                if group not in self._groups:
                    self._groups[group] = str(await admin.a_create_group({"name": group}))
                await admin.a_group_user_add(user, self._groups[group])
            if factor:
                await admin.a_assign_realm_roles(user, [await admin.a_get_realm_role(FACTOR)])

        self.ask(make)
        return name

    def id_token(self, name: str, home: str, client: str = CLIENT) -> str:
        """What the issuer gives for a person to one of its clients."""
        relying = Client(client, self.secret, f"{home}/oauth2/callback")
        person = Person(self.keycloak, name, PASSWORD)
        return person.id_token(self.realm, relying, scope="openid groups", acr_values="")

    def spec(self, **changes: Any) -> ExternalIssuer:
        """It, as a tenant's spec names it."""
        return ExternalIssuer.model_validate(self.wire(**changes))

    def wire(self, **changes: Any) -> dict[str, Any]:
        """The same as it is written."""
        return {
            "issuer": self.issuer,
            "clientId": CLIENT,
            "clientSecret": "corp-login",
            "scopes": ["groups"],
            "mfa": {"claim": "amr", "values": [FACTOR]},
            "roleMappings": MAPPINGS,
            **changes,
        }

    def approved(self, **changes: Any) -> ApprovedIssuer:
        """It, as the zone approves of it."""
        return ApprovedIssuer.model_validate(self.approval(**changes))

    def approval(self, **changes: Any) -> dict[str, Any]:
        """The same as it is written."""
        return {
            "issuer": self.issuer,
            "cidrs": ["127.0.0.0/8"],
            "port": self.keycloak.port,
            "place": "Frankfurt am Main, Germany",
            "statement": "a test's server on this machine",
            "attestedOn": str(date(2026, 1, 1)),
            "expiresOn": str(date(2099, 1, 1)),
            **changes,
        }
