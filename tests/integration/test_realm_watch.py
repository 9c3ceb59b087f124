"""Who watches over the logins of a tenant's realm: what a real Keycloak keeps of them, and what is made of it."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
import pytest_asyncio
from keycloak import KeycloakAdmin
from keycloak.exceptions import KeycloakError

from domicile.api.sso import Passwords
from domicile.controllers.realm import logins, watch
from domicile.controllers.realm.desired import CALLBACK, LOGINS_KNOWN_SINCE
from domicile.controllers.realm.mend import accounts, rest, sessions
from domicile.controllers.realm.repair import ListMissingError
from domicile.controllers.realm.server import IdentityServer
from domicile.controllers.realm.watch import Look
from tests.integration.apiserver import Authority
from tests.integration.identity_server import DeniedError, Person
from tests.integration.realm_estate import PASSWORD, Tenant, Upstream, log_in, somebody, user_named
from tests.testbed import keycloak as testbed
from tests.testbed.keycloak import KeycloakServer

pytestmark = pytest.mark.asyncio(loop_scope="session")

Object = dict[str, Any]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def tenant(identity: IdentityServer) -> Tenant:
    made = Tenant(identity, local_users=True)
    await made.ensure()
    return made


async def fail(keycloak: KeycloakServer, tenant: Tenant, name: str) -> None:
    with pytest.raises(DeniedError):
        await log_in(Person(keycloak, name, "Wrong-Horse-42!"), tenant)


async def test_logins_are_kept_for_a_while_and_nothing_else_of_people(keycloak: KeycloakServer, tenant: Tenant) -> None:
    name = await tenant.user("member")
    logged = keycloak.log.stat().st_size
    await log_in(Person(keycloak, name, PASSWORD), tenant)
    await fail(keycloak, tenant, name)
    async with tenant.server.realm(tenant.realm) as admin:
        kept = await admin.a_get_events()
        settings = await admin.a_get_realm(tenant.realm)
        changes = await rest.get(admin, "admin-events")
    assert sorted(e["type"] for e in kept) == ["LOGIN", "LOGIN_ERROR"]
    assert 0 < settings["eventsExpiration"] <= 31 * 86400
    assert settings["attributes"]["adminEventsExpiration"] == str(settings["eventsExpiration"])
    assert changes, "who gave a person a role can be read nowhere else"
    assert not any("representation" in c for c in changes)
    with keycloak.log.open() as log:
        log.seek(logged)
        assert tenant.realm not in log.read(), "the server's log shows names and addresses of whoever fails"


@pytest.mark.parametrize(
    "change",
    [
        {"eventsEnabled": False},
        {"eventsExpiration": 0},
        {"enabledEventTypes": []},
        {"enabledEventTypes": ["LOGIN"]},
        {"eventsListeners": ["jboss-logging"]},
        {"adminEventsEnabled": False},
        {"adminEventsDetailsEnabled": True},
    ],
    ids=str,
)
async def test_who_turns_the_watch_off_is_undone(tenant: Tenant, change: Object) -> None:
    async with tenant.server.realm(tenant.realm) as admin:
        await admin.a_update_realm(tenant.realm, change)
    assert (await tenant.ensure()).mended == (f"setting {next(iter(change))}",)
    assert (await tenant.ensure()).mended == ()


@pytest.fixture
def breached(keycloak: KeycloakServer) -> Iterator[str]:
    """Name of a list of breached passwords on the server's disk."""
    folder = testbed.home() / "data" / "password-blacklists"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"breached-{secrets.token_hex(4)}.txt"
    path.write_text("summer-holiday-42!\n")
    yield path.name
    path.unlink()


class FrontDoor:
    """A listener at the address that the realm sends logouts to, and the sessions that they named."""

    def __init__(self, folder: Path) -> None:
        name = f"door-{secrets.token_hex(4)}"
        Authority(folder).issue(name, "localhost")
        told = self.told = list[str]()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                form = parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())
                payload = form["logout_token"][0].split(".")[1]
                told.append(json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["sid"])
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Nothing on standard error."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / f"{name}.crt", folder / f"{name}.key")
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.host = f"localhost:{self.server.server_port}"


@pytest.fixture
def front_door(keycloak: KeycloakServer) -> Iterator[FrontDoor]:
    made = FrontDoor(keycloak.authority.parent)
    thread = threading.Thread(target=made.server.serve_forever)
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


async def look(tenant: Tenant, since: float) -> Look:
    async with tenant.server.realm(tenant.realm) as admin:
        return await logins.look(admin, since)


async def test_a_look_counts_failed_logins_by_account_and_the_sessions_there_are(
    keycloak: KeycloakServer, identity: IdentityServer
) -> None:
    tenant = Tenant(identity, local_users=True)
    await tenant.ensure()
    begun = time.time()
    ann, bob = await tenant.user("owner"), await tenant.user("member")
    await log_in(Person(keycloak, ann, PASSWORD), tenant)
    for name in (bob, bob, "nobody-at-all", "Nobody-At-All"):
        await fail(keycloak, tenant, name)
    seen = await look(tenant, begun)
    counts = sorted(seen.failures.count(a) for a in set(seen.failures))
    assert (counts, seen.logins, len(seen.sessions)) == ([2, 2], 1, 1)
    assert seen.sessions[0].address == "127.0.0.1"
    assert "nobody-at-all" in seen.failures
    assert (await look(tenant, time.time())).failures == ()


async def test_a_burst_of_guesses_on_a_real_server_is_told_once(
    keycloak: KeycloakServer, identity: IdentityServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = Tenant(identity, local_users=True)
    await tenant.ensure()
    name = await tenant.user("owner")
    begun = time.time()
    for _ in range(watch.FAILURES_OF_ONE - 1):
        await fail(keycloak, tenant, name)
    alerts, memory = watch.judge(await look(tenant, begun), None, time.time())
    assert alerts == ()
    await fail(keycloak, tenant, name)
    [alert], memory = watch.judge(await look(tenant, begun), memory, time.time())
    assert alert.reason == "LoginBurst"
    assert f"{watch.FAILURES_OF_ONE} of them of one account" in alert.message
    assert watch.judge(await look(tenant, begun), memory, time.time())[0] == ()
    # A page and a flood end where they should.
    monkeypatch.setattr(logins, "_PAGE", 3)
    assert len((await look(tenant, begun)).failures) == watch.FAILURES_OF_ONE
    monkeypatch.setattr(logins, "_MOST", 6)
    assert len((await look(tenant, begun)).failures) == 6


async def test_a_wrong_one_time_password_after_a_provider_counts(
    keycloak: KeycloakServer, identity: IdentityServer, upstream: Upstream
) -> None:
    tenant = Tenant(identity)
    await tenant.trust(upstream)
    await tenant.ensure()
    name = somebody()
    await upstream.user(name, "staff")
    bob = Person(keycloak, name, PASSWORD)
    await log_in(bob, tenant, "corp")
    begun = time.time()
    other = bob.elsewhere()
    other.otp = b"somebody-elses-secret"
    with pytest.raises(DeniedError, match="no fresh one-time password"):
        await log_in(other, tenant, "corp")
    failures = (await look(tenant, begun)).failures
    assert len(failures) >= 3, "the server tells each of them twice"
    assert len(set(failures)) == 1


async def test_a_breached_password_is_refused(identity: IdentityServer, breached: str) -> None:
    tenant = Tenant(identity, local_users=True, passwords=Passwords(breached_list=breached))
    await tenant.ensure()
    assert (await tenant.ensure()).mended == ()
    name = await tenant.user("member")
    async with tenant.server.realm(tenant.realm) as admin:
        user = str(await admin.a_get_user_id(name))
        with pytest.raises(KeycloakError) as refused:
            await admin.a_set_user_password(user, "Summer-Holiday-42!", temporary=False)
        assert refused.value.response_code == 400
        await admin.a_set_user_password(user, "Winter-Holiday-42!", temporary=False)


async def test_a_list_that_the_server_lacks_is_told_and_keeps_nothing_else_from_holding(
    keycloak: KeycloakServer, identity: IdentityServer
) -> None:
    tenant = Tenant(identity, local_users=True, passwords=Passwords(breached_list="nowhere.txt"))
    for _ in range(2):
        with pytest.raises(ListMissingError, match=r"nowhere\.txt: put it into its folder data/password-blacklists"):
            await tenant.ensure()
    assert (await tenant.drift()).settings == ("passwordPolicy",)
    name = await tenant.user("member")
    await log_in(Person(keycloak, name, PASSWORD), tenant)
    async with tenant.server.realm(tenant.realm) as admin:
        user = str(await admin.a_get_user_id(name))
        with pytest.raises(KeycloakError, match=r"(?i)password"):
            await admin.a_set_user_password(user, "short", temporary=False)


async def test_the_account_for_emergencies_is_an_owners_and_each_login_of_it_is_seen(
    keycloak: KeycloakServer, tenant: Tenant
) -> None:
    begun = time.time()
    owner, member = await tenant.user("owner"), await tenant.user("member")
    async with tenant.server.realm(tenant.realm) as admin:
        assert not (await logins.break_glass(admin, "nobody-at-all", begun)).usable
        assert not (await logins.break_glass(admin, member, begun)).usable
        for unverified in ({"emailVerified": False}, {"email": ""}):
            stranded = await tenant.user("owner", **unverified)
            assert not (await logins.break_glass(admin, stranded, begun)).usable
        assert await logins.break_glass(admin, owner, begun) == watch.BreakGlass(usable=True)
    await log_in(Person(keycloak, member, PASSWORD), tenant)
    await log_in(Person(keycloak, owner, PASSWORD), tenant)
    async with tenant.server.realm(tenant.realm) as admin:
        [at] = (await logins.break_glass(admin, owner, begun)).logins
        assert begun <= at <= time.time()
        await admin.a_update_user(str(await admin.a_get_user_id(owner)), {"enabled": False})
        assert not (await logins.break_glass(admin, owner, begun)).usable


async def test_the_door_is_told_of_every_session_that_is_ended(
    keycloak: KeycloakServer, identity: IdentityServer, front_door: FrontDoor
) -> None:
    tenant = Tenant(identity, local_users=True)
    tenant.subject = replace(tenant.subject, host=front_door.host)
    client = replace(tenant.client, redirect=f"https://{front_door.host}{CALLBACK}")
    await tenant.ensure()
    ann = Person(keycloak, await tenant.user("owner"), PASSWORD)
    bob = Person(keycloak, await tenant.user("member"), PASSWORD)
    for person in (ann, bob):
        await asyncio.to_thread(person.log_in, tenant.realm, client)
    await asyncio.to_thread(ann.elsewhere().log_in, tenant.realm, client)
    async with tenant.server.realm(tenant.realm) as admin:
        open_ones = [s["id"] for s in await logins.sessions(admin)]
        assert await sessions.end(admin) == 3
        assert await logins.sessions(admin) == []
        assert await sessions.end(admin) == 0
    assert sorted(front_door.told) == sorted(open_ones)
    ann.asked.clear()
    await asyncio.to_thread(ann.log_in, tenant.realm, client)
    assert ann.asked == ["password", "otp"], "the cookie of the ended session counts no more"


async def test_accounts_that_nobody_uses_are_disabled_and_an_owner_is_left(
    keycloak: KeycloakServer, identity: IdentityServer, upstream: Upstream
) -> None:
    passwords = Passwords(dormant_days=90, break_glass="emergency-owner")
    tenant = Tenant(identity, local_users=True)
    await tenant.trust(upstream)
    await tenant.ensure()
    tenant.sso = tenant.sso.model_copy(update={"passwords": passwords})
    assert (await tenant.ensure()).mended == ("setting eventsExpiration",)
    owner, idle, active = [await tenant.user(r) for r in ("owner", "member", "member")]
    visitor = somebody()
    await upstream.user(visitor, "staff")
    await log_in(Person(keycloak, visitor, PASSWORD), tenant, "corp")
    begun = time.time()
    await log_in(Person(keycloak, active, PASSWORD), tenant)

    async def disabled(admin: KeycloakAdmin) -> list[str]:
        return [u["username"] for u in await admin.a_get_users({}) if not u["enabled"]]

    async with tenant.server.realm(tenant.realm) as admin:
        assert await accounts.disable_dormant(admin, passwords, begun) == 0, "no login is on record from so long ago"
        assert await accounts.disable_dormant(admin, passwords, begun + 90 * 86400) == 1
        assert await disabled(admin) == [idle]
        left = (await admin.a_get_users({"username": idle, "exact": True}))[0]
        assert (left["email"], left["firstName"]) == (f"{idle}@corp.example", "Some")
        # With another owner who is in use the first may go, and the one for emergencies stays.
        await admin.a_create_user(user_named("emergency-owner"))
        spare = str(await admin.a_get_user_id("emergency-owner"))
        await admin.a_assign_realm_roles(spare, [await admin.a_get_realm_role("owner")])
        later = time.time() + 91 * 86400
        assert await accounts.disable_dormant(admin, passwords, later) == 2
        assert sorted(await disabled(admin)) == sorted([idle, owner, active])
    with pytest.raises(DeniedError):
        await log_in(Person(keycloak, idle, PASSWORD), tenant)
    # Whoever turned the record off has taken away what people could be judged by.
    async with tenant.server.realm(tenant.realm) as admin:
        await admin.a_update_realm(tenant.realm, {"attributes": {LOGINS_KNOWN_SINCE: "1"}, "eventsEnabled": False})
    await tenant.ensure()
    async with tenant.server.realm(tenant.realm) as admin:
        assert float((await admin.a_get_realm(tenant.realm))["attributes"][LOGINS_KNOWN_SINCE]) >= int(begun)
