"""What a tenant is told of the logins of its people, on real servers."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from datetime import UTC, datetime

import pytest

from domicile.api.common import ANNOTATION_END_SESSIONS
from domicile.controllers.realm import logins, realms, watch
from domicile.kube.events import Events
from domicile.metrics import Metrics
from tests.integration.identity_server import DeniedError, Person
from tests.integration.realm_estate import PASSWORD, somebody
from tests.integration.test_tenant import world  # noqa: F401  fixture
from tests.integration.test_tenant_sso import Door, door, keys  # noqa: F401  fixtures


async def guess(door: Door, name: str) -> None:  # noqa: F811
    with pytest.raises(DeniedError):
        Person(door.keycloak, name, "Wrong-Horse-42!").log_in(await door.realm(), door.client())


async def test_a_burst_of_guesses_is_a_warning_that_names_nobody(
    door: Door,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    metrics, name = Metrics(), somebody()
    events = Events(door.world.kube, "test", metrics.posted)
    monkeypatch.setattr(door.world.controllers._tenants, "_events", events)
    monkeypatch.setattr(realms, "LOOK_SECONDS", 0.0)
    door.apply_zone()
    door.apply(localUsers=True)
    await door.world.reconcile()
    await door.add_user(name, "owner")
    for _ in range(watch.FAILURES_OF_ONE):
        await guess(door, name)
    for _ in range(2):
        conditions = await door.world.reconcile()
    [told] = door.events("LoginBurst")
    assert f"{watch.FAILURES_OF_ONE} of them of one account" in told
    assert conditions["SSOConfigured"]["status"] == "True"
    counted = metrics.render().decode()
    assert 'domicile_events_total{reason="LoginBurst",type="Warning"} 1.0' in counted
    said = json.dumps(door.world.apiserver.get("events", "-A")["items"]) + json.dumps(await door.world.status())
    for text in (said, caplog.text, counted):
        assert name not in text
        assert "127.0.0.1" not in text


async def test_the_account_for_emergencies_warns_when_it_logs_in_and_when_it_is_not_there(
    door: Door,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(realms, "LOOK_SECONDS", 0.0)
    door.apply_zone()
    door.apply(localUsers=True, passwords={"breakGlass": "emergency-owner"})
    for _ in range(2):
        await door.world.reconcile()
    assert len(door.events("BreakGlassMissing")) == 1
    await door.add_user("emergency-owner", "owner")
    person = Person(door.keycloak, "emergency-owner", PASSWORD)
    person.log_in(await door.realm(), door.client())
    for _ in range(2):
        await door.world.reconcile()
    [told] = door.events("BreakGlassLogin")
    assert "emergency-owner" not in told
    # A fresh operator finds the login again, and the API server knows that it was told.
    door.world.controllers = door.world.operator()
    await door.world.reconcile()
    assert door.events("BreakGlassLogin") == [told]


async def test_a_missing_list_of_breached_passwords_is_a_condition(door: Door) -> None:  # noqa: F811
    door.apply_zone()
    door.apply(localUsers=True, passwords={"breachedList": "nowhere.txt"})
    conditions = await door.world.reconcile()
    sso = conditions["SSOConfigured"]
    assert (sso["status"], sso["reason"]) == ("False", "BreachedListMissing")
    assert "nowhere.txt" in sso["message"]
    assert conditions["Ready"]["status"] == "False"


async def test_an_administrator_ends_all_sessions_once(door: Door) -> None:  # noqa: F811
    door.apply_zone()
    door.apply(localUsers=True)
    await door.world.reconcile()
    await door.add_user("ann", "owner")

    async def log_in() -> list[str]:
        await door.log_in("ann")
        async with door.server.realm(await door.realm()) as admin:
            return [s["id"] for s in await logins.sessions(admin)]

    async def reconciled() -> list[str]:
        await door.world.reconcile()
        async with door.server.realm(await door.realm()) as admin:
            return [s["id"] for s in await logins.sessions(admin)]

    before = await log_in()
    assert await reconciled() == before
    command = [sys.executable, "-m", "domicile.cli.main", "sessions", "end", door.world.tenant, "--timeout=60"]
    asking = await asyncio.create_subprocess_exec(
        *command, env={**os.environ, "KUBECONFIG": str(door.world.apiserver.kubeconfig)}, stdout=asyncio.subprocess.PIPE
    )
    while await reconciled():
        assert asking.returncode is None, "the command ended before the sessions did"
    out, _ = await asyncio.wait_for(asking.communicate(), 60)
    assert (asking.returncode, out.decode()) == (0, f"{door.world.tenant}: all sessions are ended\n")
    assert len(door.events("SessionsEnded")) == 1


async def test_an_administrator_lists_sessions_and_ends_one(door: Door) -> None:  # noqa: F811
    door.apply_zone()
    door.apply(localUsers=True)
    await door.world.reconcile()
    for name in ("ann", "bob"):
        await door.add_user(name, "member")
        await door.log_in(name)

    async def command(*words: str) -> tuple[int | None, str, str]:
        asking = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "domicile.cli.main", "sessions", *words),
            env={**os.environ, "KUBECONFIG": str(door.world.apiserver.kubeconfig)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(asking.communicate(), 60)
        return asking.returncode, out.decode(), err.decode()

    async def listed() -> dict[str, str]:
        code, out, err = await command("list", door.world.tenant, f"--accounts={door.world.identity}")
        assert (code, err) == (0, "")
        head, *lines = [line.split() for line in out.splitlines()]
        assert head == ["SESSION", "BEGAN", "LAST", "SEEN", "ADDRESS", "PERSON"]
        assert all(datetime.fromisoformat(line[1]) <= datetime.now(UTC) for line in lines)
        return {line[-1]: line[0] for line in lines}

    found = await listed()
    assert set(found) == {"ann", "bob"}
    end = ("end", door.world.tenant, f"--accounts={door.world.identity}", "--session")
    code, out, _ = await command(*end, found["ann"])
    assert (code, out) == (0, f"session {found['ann']} is ended\n")
    assert set(await listed()) == {"bob"}
    code, _, err = await command(*end, found["ann"])
    assert (code, "has no session" in err) == (1, True)
    async with door.server.realm(await door.realm()) as admin:
        [bob] = [u["id"] for u in await admin.a_get_users({"username": "bob"})]
    code, _, err = await command(*end, f"../users/{bob}")
    assert (code, "letters, digits" in err) == (1, True)
    assert set(await listed()) == {"bob"}
    code, _, err = await command("list", "nobody")
    assert (code, "is no tenant with a realm" in err) == (1, True)
    code, _, err = await command("list", door.world.tenant)
    assert (code, "clientSecret" in err) == (1, True), "no account in the current folder"


async def test_sessions_that_cannot_be_ended_now_are_told_and_ended_later(door: Door) -> None:  # noqa: F811
    door.apply_zone()
    door.apply(localUsers=True)
    await door.world.reconcile()
    await door.add_user("ann", "owner")
    await door.log_in("ann")
    asked = f"{ANNOTATION_END_SESSIONS}=one"
    door.world.apiserver.kubectl("annotate", "assistanttenant", door.world.tenant, asked)
    account = door.world.identity / f"{door.world.zone_name}.json"
    content = account.read_bytes()
    account.unlink()
    sso = (await door.world.reconcile())["SSOConfigured"]
    assert (sso["status"], sso["reason"]) == ("False", "IdentityServerRefused")
    assert sso["message"].startswith("The sessions of the tenant's people are not all ended yet.")
    assert "lastHandledEndSessionsAt" not in await door.world.status()
    account.write_bytes(content)
    sso = (await door.world.reconcile())["SSOConfigured"]
    assert sso["status"] == "True"
    assert (await door.world.status())["lastHandledEndSessionsAt"] == "one"
    async with door.server.realm(await door.realm()) as admin:
        assert await logins.sessions(admin) == []


async def test_dormant_accounts_are_disabled_and_told_as_a_number(
    door: Door,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    door.apply_zone()
    door.apply(localUsers=True, passwords={"dormantDays": 7})
    await door.world.reconcile()
    for name in ("somebody-idle", "somebody-else"):
        await door.add_user(name, "member")
    monkeypatch.setattr(realms, "LOOK_SECONDS", 0.0)
    await door.world.reconcile()
    assert door.events("DormantDisabled") == []
    monkeypatch.setattr(door.world.controllers._tenants._realms, "_now", lambda: time.time() + 8 * 86400)
    for _ in range(2):
        await door.world.reconcile()
    [told] = door.events("DormantDisabled")
    assert "dormantDays: 2." in told
    assert "somebody" not in told
