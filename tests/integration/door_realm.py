"""A tenant's realm on a real Keycloak, its door's neighbours, and people who come to the door with a browser."""

from __future__ import annotations

import asyncio
import secrets
import ssl
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urljoin

import httpx
from keycloak import KeycloakAdmin

from domicile.api.sso import Sso
from domicile.controllers.door.door import Assistant as Served
from domicile.controllers.door.door import Door, Endpoints, Limits, PathRule, Secrets
from domicile.controllers.pki.authority import Authority as PodsAuthority
from domicile.controllers.realm.desired import CLIENT, Subject, build, realm_name
from domicile.controllers.realm.repair import ensure
from domicile.controllers.realm.server import Account, IdentityError, IdentityServer
from tests.integration import door_server
from tests.integration.apiserver import Authority, free_port
from tests.integration.door_server import Assistant, DoorServer
from tests.integration.identity_server import DeniedError, Person
from tests.integration.realm_estate import PASSWORD, user_named
from tests.integration.session_server import Store, session_store
from tests.testbed.keycloak import ADMIN_ID, KeycloakServer

ASSISTANTS = ("helpdesk", "sales")
_T = TypeVar("_T")


@dataclass
class Realm:
    """One tenant's realm; ``public`` is the identity server as people and the door reach it, ``keycloak`` itself."""

    keycloak: KeycloakServer
    subject: Subject
    public: KeycloakServer

    @property
    def name(self) -> str:
        return realm_name(self.subject.tenant, self.subject.tenant_id)

    @property
    def endpoints(self) -> Endpoints:
        """URLs as Keycloak's discovery document has them."""
        issuer = f"{self.public.url}/realms/{self.name}"
        base = f"{issuer}/protocol/openid-connect"
        return Endpoints(issuer, f"{base}/auth", f"{base}/token", f"{base}/certs", f"{base}/logout")

    def ask(self, what: Callable[[KeycloakAdmin], Awaitable[_T]]) -> _T:
        """Do something as the operator."""

        async def go() -> _T:
            account = Account(client_id=ADMIN_ID, client_secret=self.keycloak.admin_secret)
            server = IdentityServer(self.keycloak.url, account, str(self.keycloak.authority))
            try:
                async with server.realm(self.name) as admin:
                    return await what(admin)
            finally:
                await server.close()

        return asyncio.run(go())

    def create(self) -> None:
        """Make it. A busy server may go on making it when nobody waits any more, so it is asked until it is done."""
        desired = build(self.subject, Sso(local_users=True))

        def made() -> bool:
            try:
                self.ask(lambda admin: ensure(admin, desired, {}, changed=False))
            except IdentityError:
                return False
            return True

        door_server.until("the realm is made", made, 120)

    def user(self, name: str, *roles: str) -> str:
        """A person of the tenant's own with PASSWORD; their id."""

        async def make(admin: KeycloakAdmin) -> str:
            found: str = await admin.a_create_user(user_named(name))
            await admin.a_assign_realm_roles(found, [await admin.a_get_realm_role(r) for r in roles])
            return found

        return self.ask(make)


class Visitor(Person):
    """A person who goes to a door and follows wherever it leads."""

    underway: Callable[[str], str] = staticmethod(lambda url: url)
    """What somebody does to the links that the browser is sent to."""

    def visit(self, url: str) -> httpx.Response:
        """The answer at the end of all redirects and forms. Raises DeniedError where the identity server says no."""
        page = self.web.get(url)
        for _ in range(25):
            if page.is_redirect:
                page = self.web.get(self.underway(urljoin(str(page.url), page.headers["location"])))
            elif "kc-page-title" in page.text:
                page = self._answer(page, None)
            else:
                return page
        raise DeniedError("the pages go round in a circle")

    def elsewhere(self, name: str | None = None) -> Visitor:
        """As Person's."""
        other = Visitor(self._server, name or self.name, self.password)
        other.otp, other._used = self.otp, self._used
        return other

    @property
    def context(self) -> ssl.SSLContext:
        """Whom the browser trusts."""
        return ssl.create_default_context(cafile=self._server.authority)

    @property
    def session(self) -> str:
        """The door's cookie."""
        return next((c.value or "" for c in self.web.cookies.jar if c.name == "__Host-door"), "")

    def at(self, visitor_at: DoorServer, path: str, method: str = "GET", **kwargs: Any) -> httpx.Response:
        """One request to a replica, with the session that was opened at another; no redirect is followed."""
        headers = {
            "Host": visitor_at.door.host,
            "Cookie": f"__Host-door={self.session}",
            **kwargs.pop("headers", {}),
        }
        return httpx.request(method, visitor_at.url + path, headers=headers, verify=self.context, timeout=30, **kwargs)


@dataclass
class Estate:
    """A realm, its door, an assistant behind it and a session store beside it."""

    realm: Realm
    door: DoorServer
    assistant: Assistant
    store: Store
    hidden: Secrets
    authority: Authority
    folder: Path
    _stack: ExitStack

    def visitor(self, name: str) -> Visitor:
        return Visitor(self.realm.public, name, PASSWORD)

    def person(self, *roles: str) -> Visitor:
        """Somebody new with these roles, logged in and standing at the list of assistants."""
        name = f"p{secrets.token_hex(4)}"
        self.realm.user(name, *roles)
        visitor = self.visitor(name)
        assert visitor.visit(self.door.url + "/").status_code == 200
        self.assistant.seen.clear()
        return visitor

    def another(self, door: Door | None = None, hidden: Secrets | None = None, **more: Any) -> DoorServer:
        """One more door on ports of its own: a replica, or a door of other data or secrets."""
        made = door_server.replica(door or self.door.door)
        folder = self.folder / f"door-{made.https_port}"
        trust = self.realm.keycloak.authority.read_text()
        return self._stack.enter_context(
            door_server.running(folder, made, self.authority, hidden or self.hidden, trust, **more)
        )


@contextmanager
def estate(
    keycloak: KeycloakServer,
    folder: Path,
    *rules: PathRule,
    public: KeycloakServer | None = None,
    pods: PodsAuthority | None = None,
    **more: Any,
) -> Iterator[Estate]:
    """All of it, running. ``public``: as people and doors reach it, if not itself; ``pods``: the authority of pods, if
    not one of its own; ``more``: fields of the Door.
    """
    with ExitStack() as stack:
        assistant = stack.enter_context(Assistant().running())
        store = stack.enter_context(session_store(folder / "sessions", pods))
        https, health = free_port(), free_port()
        hidden = Secrets(secrets.token_hex(16), secrets.token_hex(24), "doors", store.password)
        subject = Subject(
            tenant=f"door{secrets.token_hex(3)}",
            tenant_id=secrets.token_hex(16),
            assistants=ASSISTANTS,
            host=f"localhost:{https}",
            client_secret=hidden.client_secret,
            secrets={},
        )
        realm = Realm(keycloak, subject, public or keycloak)
        realm.create()
        door = Door(
            host=subject.host,
            client_id=CLIENT,
            endpoints=realm.endpoints,
            assistants=tuple(Served(name, assistant.address, rules) for name in ASSISTANTS),
            redis=store.address,
            # Tests ask more often than people do.
            limits=Limits(client_requests=30000, tenant_requests=30000),
            https_port=https,
            health_port=health,
        )
        authority = Authority(keycloak.authority.parent)
        trust = keycloak.authority.read_text()
        server = stack.enter_context(
            door_server.running(folder / "door", replace(door, **more), authority, hidden, trust)
        )
        yield Estate(realm, server, assistant, store, hidden, authority, folder, stack)
