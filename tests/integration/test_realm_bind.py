"""A directory that refuses the operator's password: whoever goes on trying locks the account, also for who knows it."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio

from domicile.api.sites import ServedZone
from domicile.api.sso import Directory, Sso
from domicile.controllers.realm.desired import Subject, realm_name
from domicile.controllers.realm.realms import FAULT_SECONDS, Realms
from domicile.controllers.realm.refusals import REFUSED_SECONDS
from domicile.controllers.realm.state import RealmState
from tests.integration import directory_server
from tests.integration.apiserver import Authority
from tests.integration.directory_server import BASE, BIND_DN, BIND_PASSWORD
from tests.integration.realm_estate import MAPPINGS, PASSWORD, Tenant, connect, user_named
from tests.testbed.keycloak import ADMIN_ID, KeycloakServer
from tests.unit.views import zone_spec

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class World:
    """One tenant's realm with a directory, and an operator's clock."""

    keycloak: KeycloakServer
    zone: ServedZone
    accounts: Path
    directory: directory_server.Directory
    subject: Subject
    sso: Sso
    ahead: float = 0.0
    realms: Realms = field(init=False)

    def __post_init__(self) -> None:
        self.realms = Realms(self.accounts, lambda: time.monotonic() + self.ahead, lambda: time.time() + self.ahead)

    async def look(self, password: str, version: str = "1") -> tuple[RealmState, int]:
        """What a look finds, and how many binds the directory has refused since."""
        before = self.directory.refused()
        secrets: Mapping[str, str | None] = {"staff": password}
        state = await self.realms.see_to(
            self.zone, replace(self.subject, secrets=secrets, versions={"staff": version}), self.sso
        )
        assert state.error is None
        return state, self.directory.refused() - before


@pytest.fixture(scope="module")
def directory(keycloak: KeycloakServer) -> Iterator[directory_server.Directory]:
    with directory_server.running(Authority(keycloak.authority.parent), {"ann": ("staff",)}, PASSWORD) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(
    keycloak: KeycloakServer, directory: directory_server.Directory, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    accounts = tmp_path_factory.mktemp("accounts")
    (accounts / "eu.json").write_text(json.dumps({"clientId": ADMIN_ID, "clientSecret": keycloak.admin_secret}))
    (accounts / "eu.pem").write_bytes(keycloak.authority.read_bytes())
    staff = Directory.model_validate(
        {
            "name": "staff",
            "vendor": "other",
            "url": directory.url,
            "bind_dn": BIND_DN,
            "bind_secret": "staff-bind",
            "users_dn": f"ou=people,{BASE}",
            "groups_dn": f"ou=groups,{BASE}",
            "role_mappings": MAPPINGS,
        }
    )
    spec = zone_spec(identity={"url": keycloak.url, "adminUrl": keycloak.url})
    zone = ServedZone(name="eu", site="gcp-frankfurt", spec=spec)
    sso = Sso.model_validate(
        {"local_users": True, "directories": [staff], "passwords": {"break_glass": "emergency", "dormant_days": 30}}
    )
    subject = Tenant(None).subject  # type: ignore[arg-type]
    yield World(keycloak, zone, accounts, directory, subject, sso)


async def test_a_refused_password_is_tried_once_until_it_changes_or_an_hour_is_over(world: World) -> None:
    state, tried = await world.look("wrong")
    assert tried == 1
    told = state.unreachable["staff"]
    again = datetime.fromtimestamp(time.time() + REFUSED_SECONDS, UTC)
    assert "refuses bindDn or the password of bindSecret" in told
    assert f"{again:%H:%M}" in told
    for _ in range(3):
        world.ahead += FAULT_SECONDS + 1
        state, tried = await world.look("wrong")
        assert (state.unreachable["staff"], tried) == (told, 0)
    # Somebody has touched the Secret, such as to say that the account is no longer locked.
    assert (await world.look("wrong", "2"))[1] == 1
    world.ahead += REFUSED_SECONDS - 2 * FAULT_SECONDS
    assert (await world.look("wrong", "2"))[1] == 0
    world.ahead += 3 * FAULT_SECONDS
    assert (await world.look("wrong", "2"))[1] == 1
    state, tried = await world.look(BIND_PASSWORD, "3")
    assert (state.unreachable, tried) == ({}, 0)


async def test_the_account_for_emergencies_is_watched_while_a_directory_refuses_us(world: World) -> None:
    """To look for it by name, the server would ask the directory."""
    async with connect(world.keycloak).realm(realm_name(world.subject.tenant, world.subject.tenant_id)) as admin:
        user = await admin.a_create_user(user_named("emergency"))
        await admin.a_assign_realm_roles(user, [await admin.a_get_realm_role("owner")])
        assert (await world.look(BIND_PASSWORD, "6"))[0].alerts == ()
        assert (await world.look("wrong", "7"))[1] == 1
        await admin.a_update_user(user, {"enabled": False})
        world.ahead += FAULT_SECONDS + 1
        state, tried = await world.look("wrong", "7")
        assert ([a.reason for a in state.alerts], tried) == (["BreakGlassMissing"], 0)
    assert (await world.look(BIND_PASSWORD, "8"))[0].unreachable == {}


async def test_a_silent_directory_is_asked_again_soon(world: World) -> None:
    world.directory.pause()
    try:
        assert "can't be reached" in (await world.look(BIND_PASSWORD, "4"))[0].unreachable["staff"]
    finally:
        world.directory.resume()
    world.ahead += FAULT_SECONDS + 1
    assert (await world.look(BIND_PASSWORD, "4"))[0].unreachable == {}
