"""Tenants' realms on a real identity server, and the providers that their people come from."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest_asyncio

from domicile.api.sso import Directory, IdentityProvider, Mfa, MfaMode, OidcProvider, PersonRole, RoleMapping, Sso
from domicile.controllers.realm.desired import CALLBACK, CLIENT, Subject, build, realm_name
from domicile.controllers.realm.discovery import Endpoints
from domicile.controllers.realm.drift import Drift, compare
from domicile.controllers.realm.mail import Mail
from domicile.controllers.realm.repair import Outcome, ensure, observe
from domicile.controllers.realm.server import Account, IdentityServer
from tests.integration.directory_server import BASE, BIND_DN, BIND_PASSWORD
from tests.integration.identity_server import Client, Person
from tests.testbed.keycloak import ADMIN_ID, KeycloakServer

Object = dict[str, Any]
_numbers = itertools.count()
_people = itertools.count()
PASSWORD = "Correct-Horse-42!"
MAPPINGS = [
    RoleMapping(group="chiefs (all)", role=PersonRole.OWNER),
    RoleMapping(group="support", role=PersonRole.MANAGER, assistants=["helpdesk"]),
    RoleMapping(group="staff", role=PersonRole.MEMBER),
    RoleMapping(group="guests", role=PersonRole.MEMBER),
]


def somebody() -> str:
    """A user name that no other test has."""
    return f"person{next(_people)}"


def connect(keycloak: KeycloakServer) -> IdentityServer:
    """The operator's connection."""
    account = Account(client_id=ADMIN_ID, client_secret=keycloak.admin_secret)
    return IdentityServer(keycloak.url, account, str(keycloak.authority))


class Upstream:
    """Somebody else's identity server: a realm of plain Keycloak with people in groups."""

    def __init__(self, server: IdentityServer, url: str) -> None:
        self.realm = f"corp-{secrets.token_hex(4)}"
        self.issuer = f"{url}/realms/{self.realm}"
        self._server = server
        self._url = url
        self._groups: dict[str, str] = {}

    async def create(self) -> None:
        async with self._server.realm(self.realm) as admin:
            await admin.a_create_realm({"realm": self.realm, "enabled": True})

    async def client(self, tenant_realm: str, alias: str, **claims: str) -> str:
        """Register a tenant's realm as relying party; with claims that every one of its tokens carries."""
        redirect = f"{self._url}/realms/{tenant_realm}/broker/{alias}/endpoint"
        mappers = [
            {
                "name": "groups",
                "protocol": "openid-connect",
                "protocolMapper": "oidc-group-membership-mapper",
                "config": {"claim.name": "groups", "full.path": "false", "id.token.claim": "true"},
            },
            *(
                {
                    "name": name,
                    "protocol": "openid-connect",
                    "protocolMapper": "oidc-hardcoded-claim-mapper",
                    "config": {"claim.name": name, "claim.value": value, "id.token.claim": "true"},
                }
                for name, value in claims.items()
            ),
        ]
        async with self._server.realm(self.realm) as admin:
            await admin.a_create_client(
                {
                    "clientId": f"{tenant_realm}-{alias}",
                    "secret": "upstream-secret",
                    "redirectUris": [redirect],
                    "protocolMappers": mappers,
                }
            )
        return f"{tenant_realm}-{alias}"

    async def saml_client(self, tenant_realm: str, alias: str) -> str:
        """Register a tenant's realm as SAML service provider; the URL of our metadata. Only assertions are signed."""
        acs = f"{self._url}/realms/{tenant_realm}/broker/{alias}/endpoint"
        groups = {"attribute.name": "groups", "attribute.nameformat": "Basic", "single": "true", "full.path": "false"}
        async with self._server.realm(self.realm) as admin:
            await admin.a_create_client(
                {
                    "clientId": f"{self._url}/realms/{tenant_realm}",
                    "protocol": "saml",
                    "redirectUris": [acs],
                    "attributes": {
                        "saml.assertion.signature": "true",
                        "saml.server.signature": "false",
                        "saml.client.signature": "false",
                        "saml.force.post.binding": "true",
                        "saml_name_id_format": "persistent",
                        "saml_force_name_id_format": "true",
                        "saml_assertion_consumer_url_post": acs,
                    },
                    "protocolMappers": [
                        {
                            "name": "groups",
                            "protocol": "saml",
                            "protocolMapper": "saml-group-membership-mapper",
                            "config": groups,
                        }
                    ],
                }
            )
        return f"{self.issuer}/protocol/saml/descriptor"

    async def user(self, name: str, *groups: str, **changes: Any) -> str:
        """A person with PASSWORD, or with ``changes``; their id."""
        async with self._server.realm(self.realm) as admin:
            for group in groups:
                if group not in self._groups:
                    self._groups[group] = str(await admin.a_create_group({"name": group}))
            found: str = await admin.a_create_user(user_named(name) | changes)
            for group in groups:
                await admin.a_group_user_add(found, self._groups[group])
        return found

    async def leave(self, user: str, group: str) -> None:
        async with self._server.realm(self.realm) as admin:
            await admin.a_group_user_remove(user, self._groups[group])


def user_named(name: str) -> Object:
    return {
        "username": name,
        "email": f"{name}@corp.example",
        "emailVerified": True,
        "firstName": "Some",
        "lastName": "One",
        "enabled": True,
        "credentials": [{"type": "password", "value": PASSWORD, "temporary": False}],
    }


class Tenant:
    """One tenant's realm."""

    def __init__(self, server: IdentityServer, **sso: Any) -> None:
        self.server = server
        self.sso = Sso(**sso)
        self.mail: Mail | None = None
        self.subject = Subject(
            tenant=f"acme{next(_numbers)}",
            tenant_id=secrets.token_hex(16),
            assistants=("helpdesk", "sales"),
            host="acme.example",
            client_secret=secrets.token_hex(16),
            secrets={},
        )

    @property
    def realm(self) -> str:
        return realm_name(self.subject.tenant, self.subject.tenant_id)

    @property
    def client(self) -> Client:
        return Client(CLIENT, self.subject.client_secret, f"https://acme.example{CALLBACK}")

    async def trust(self, upstream: Upstream, alias: str = "corp", *, mfa: Mfa | None = None, **claims: str) -> None:
        client = await upstream.client(self.realm, alias, **claims)
        oidc = OidcProvider(issuer=upstream.issuer, client_id=client, client_secret=alias)
        self.add(alias, "upstream-secret", mfa=mfa or Mfa(mode=MfaMode.LOCAL), oidc=oidc)

    def add(self, alias: str, secret: str, **provider: Any) -> None:
        """One more identity provider, with MAPPINGS unless it says otherwise."""
        made = IdentityProvider.model_validate(
            {"name": alias, "mfa": Mfa(mode=MfaMode.LOCAL), "role_mappings": MAPPINGS, **provider}
        )
        self.sso = self.sso.model_copy(update={"identity_providers": [*self.sso.identity_providers, made]})
        self.subject.secrets[alias] = secret  # type: ignore[index]

    async def ensure(self, *, changed: bool = False, known: Mapping[str, Endpoints] | None = None) -> Outcome:
        async with self.server.realm(self.realm) as admin:
            return await ensure(admin, build(self.subject, self.sso, self.mail), known or {}, changed=changed)

    async def drift(self) -> Drift:
        async with self.server.realm(self.realm) as admin:
            return compare(build(self.subject, self.sso, self.mail), await observe(admin, self.realm) or {})

    async def user(self, *roles: str, **changes: Any) -> str:
        """Somebody of the tenant's own, with PASSWORD and a verified address, or with ``changes``; their name."""
        name = somebody()
        async with self.server.realm(self.realm) as admin:
            user: str = await admin.a_create_user(user_named(name) | changes)
            await admin.a_assign_realm_roles(user, [await admin.a_get_realm_role(r) for r in roles])
        return name


def federate(tenant: Tenant, url: str, password: str = BIND_PASSWORD, **changes: Any) -> None:
    """Let people of a directory in: one of directory_server's, unless ``changes`` say otherwise."""
    made = Directory.model_validate(
        {
            "name": "staff",
            "vendor": "other",
            "url": url,
            "bind_dn": BIND_DN,
            "bind_secret": "staff-bind",
            "users_dn": f"ou=people,{BASE}",
            "groups_dn": f"ou=groups,{BASE}",
            "role_mappings": MAPPINGS,
            **changes,
        }
    )
    tenant.sso = tenant.sso.model_copy(update={"directories": [made]})
    tenant.subject.secrets["staff"] = password  # type: ignore[index]


async def log_in(person: Person, tenant: Tenant, provider: str | None = None, **parameters: str) -> Object:
    return await asyncio.to_thread(person.log_in, tenant.realm, tenant.client, provider, **parameters)


@asynccontextmanager
async def forwarding(to: int) -> AsyncIterator[int]:
    """A port that leads to another one; its server is gone afterwards."""

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    opened: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_connection("127.0.0.1", to)
        opened.extend((writer, forth))
        await asyncio.gather(pipe(reader, forth), pipe(back, writer), return_exceptions=True)

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield listening.sockets[0].getsockname()[1]
    listening.close()
    # The identity server keeps its connections for the next request.
    for writer in opened:
        writer.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def identity(keycloak: KeycloakServer) -> AsyncIterator[IdentityServer]:
    """The operator's connection; tests that use it run in the session's event loop."""
    made = connect(keycloak)
    yield made
    await made.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def upstream(identity: IdentityServer, keycloak: KeycloakServer) -> Upstream:
    """An identity server of somebody else's; tests keep to people and clients of their own."""
    made = Upstream(identity, keycloak.url)
    await made.create()
    return made
