"""A tenant's front door on a real cluster: people with a real browser, and whoever tries to get around it.

DOMICILE_SCREENSHOTS names a folder for pictures of what the person sees.
"""

from __future__ import annotations

import json
import os
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from domicile.api.common import LABEL_INSTANCE
from domicile.controllers.realm.desired import realm_name
from tests.browser import Visitor, browser
from tests.e2e.asking import decisions, reached
from tests.estate import Estate, tenant, wait_for
from tests.testbed.identity import Identity
from tests.testbed.pki import Authority
from tests.testbed.testbed import Site

Object = dict[str, Any]
HOST = "assistants.bank.test"
PASSWORD = "Correct-Horse-42!"
QUESTION = "When is the customer centre open?"
SHOTS = Path(os.environ["DOMICILE_SCREENSHOTS"]) if "DOMICILE_SCREENSHOTS" in os.environ else None
DOOR = f"{LABEL_INSTANCE}=front-door"


@dataclass
class Bank:
    """A tenant whose people log in, at the first site."""

    estate: Estate
    site: Site
    name: str
    identity: Identity
    authority: Authority
    visitors: int = field(default=0)

    @property
    def realm(self) -> str:
        return realm_name(self.name, self.estate.status(self.site, self.name)["tenantId"])

    def doors(self) -> list[str]:
        """Addresses of the door's ready pods."""
        pods = self.estate.pods(self.site, self.name, DOOR)
        ready = [
            p for p in pods if any(c["type"] == "Ready" and c["status"] == "True" for c in p["status"]["conditions"])
        ]
        return sorted(p["status"]["podIP"] for p in ready)

    def names(self, door: str) -> dict[str, str]:
        """What a browser elsewhere finds where."""
        return {HOST: f"{door}:8443", self.identity.host: self.identity.address}

    def visitor(self, role: str) -> Visitor:
        """Somebody new with an account of the tenant's own."""
        self.visitors += 1
        name = f"{role}{self.visitors}"
        admin = self._admin()
        made = {"username": name, "enabled": True, "firstName": "A", "lastName": "B"}
        made |= {"email": f"{name}@bank.test", "emailVerified": True}
        credentials = [{"type": "password", "value": PASSWORD, "temporary": False}]
        location = (
            admin.post("/users", json={**made, "credentials": credentials}).raise_for_status().headers["location"]
        )
        found = admin.get(f"/roles/{role}").raise_for_status().json()
        admin.post(f"{location}/role-mappings/realm", json=[found]).raise_for_status()
        return Visitor(name, PASSWORD)

    def _admin(self) -> httpx.Client:
        server = self.identity.server
        account = {"grant_type": "client_credentials", "client_id": "operator", "client_secret": server.admin_secret}
        web = httpx.Client(verify=ssl.create_default_context(cafile=str(server.authority)), timeout=30)
        url = f"{server.url}/realms/master/protocol/openid-connect/token"
        token = web.post(url, data=account).raise_for_status().json()["access_token"]
        web.headers["Authorization"] = f"Bearer {token}"
        web.base_url = httpx.URL(f"{server.url}/admin/realms/{self.realm}")
        return web

    def ask(self, door: str, path: str, **headers: str) -> httpx.Response:
        """One request to one of the door's pods, by a client that is not logged in."""
        trusted = ssl.create_default_context(cafile=str(self.authority.certificate))
        with httpx.Client(verify=trusted, timeout=10) as web:
            request = web.build_request("GET", f"https://{door}:8443{path}", headers={"Host": HOST, **headers})
            request.extensions["sni_hostname"] = HOST
            return web.send(request)


@pytest.fixture(scope="module")
def bank(estate: Estate, identity: Identity, named: Callable[[str], str], tmp_path_factory: Any) -> Iterator[Bank]:
    site, name = estate.site("gcp-frankfurt"), named("bank")
    authority = Authority(tmp_path_factory.mktemp("authority"))
    certificate, key = authority.issue("door", "door", hosts=(HOST,))
    access = {
        "host": HOST,
        "tls": {"secret": "bank-tls"},
        "sso": {"localUsers": True},
        "clients": [{"namespace": "clients"}],
        "sources": [f"{estate.testbed.network.plan.host}/32"],
    }
    one = {"name": "helpdesk", "mode": "free", "image": "domicile.dev/assistant:0.1.0", "replicas": 1}
    site.apply(tenant(name, "people", assistants=[one], access=access))
    wait_for("the tenant's namespace", lambda: estate.get(site, "namespace", name), 60)
    site.kubectl("create", "secret", "tls", "bank-tls", "-n", name, f"--cert={certificate}", f"--key={key}")
    estate.wait_condition(site, name, "WorkloadReady", "True", 180, "Serving")
    estate.wait_condition(site, name, "FrontDoorReady", "True", 180, "Serving")
    yield Bank(estate, site, name, identity, authority)
    site.kubectl("delete", "assistanttenant", name)


def test_the_doors_pods_reach_what_they_need_and_nothing_else(bank: Bank) -> None:
    told = bank.estate.wait_condition(bank.site, bank.name, "EgressVerified", "True", 180, "Verified")
    assert "assistant, gateway, front-door" in told["message"]


def test_a_person_logs_in_with_a_second_factor_and_talks_to_the_assistant(bank: Bank) -> None:
    ann = bank.visitor("member")
    bucket = bank.estate.live_bucket(bank.site, bank.name)
    bank.estate.put(bank.site, bucket, "knowledge/handbook.md", b"The customer centre is open from 8:00 to 18:00.\n")
    first, second = bank.doors()
    with browser(bank.names(first)) as page:
        page.goto(f"https://{HOST}/")
        ann.log_in(page, shots=SHOTS)
        page.wait_for_url(f"https://{HOST}/helpdesk/")
        page.fill("#message", QUESTION)
        page.click("#send")
        page.locator("#log", has_text="8:00").wait_for()
        if SHOTS:
            page.screenshot(path=SHOTS / "chat.png")
        denied = page.goto(f"https://{HOST}/helpdesk/admin/conversations")
        assert denied is not None
        assert denied.status == 403
        cookies = page.context.cookies(f"https://{HOST}/")
        page.goto(f"https://{HOST}/oauth2/callback?logout=https%3A%2F%2F{HOST}%2F")
        page.goto(f"https://{HOST}/helpdesk/")
        page.wait_for_selector("#password")
    # The session is gone at every replica, not only from the browser.
    stolen = "; ".join(f"{c['name']}={c['value']}" for c in cookies)
    for door in (first, second):
        assert bank.ask(door, "/helpdesk/api/conversation", Cookie=stolen).status_code == 401


def test_an_owner_may_export_and_every_replica_knows_the_session(bank: Bank) -> None:
    owner = bank.visitor("owner")
    first, second = bank.doors()
    with browser(bank.names(first)) as page:
        page.goto(f"https://{HOST}/helpdesk/")
        owner.log_in(page)
        page.wait_for_url(f"https://{HOST}/helpdesk/")
        cookies = "; ".join(f"{c['name']}={c['value']}" for c in page.context.cookies(f"https://{HOST}/"))
    for door in (first, second):
        assert bank.ask(door, "/helpdesk/admin/conversations", Cookie=cookies).status_code == 200


def test_whoever_has_not_logged_in_gets_nothing(bank: Bank) -> None:
    [door, *_] = bank.doors()
    assert bank.ask(door, "/helpdesk/api/conversation").status_code == 401
    assert bank.ask(door, "/helpdesk/api/conversation", **{"Domicile-Identity": "a.b.c"}).status_code == 401
    page = bank.ask(door, "/helpdesk/")
    assert page.status_code == 302
    assert page.headers["location"].startswith(f"{bank.identity.url}/realms/{bank.realm}/")


def test_no_way_leads_around_the_door_and_it_reaches_only_what_it_needs(bank: Bank) -> None:
    estate, site = bank.estate, bank.site
    guard = (f"helpdesk.{bank.name}.svc", 443)
    door = (f"front-door.{bank.name}.svc", 443)
    assert reached(site, "clients", "deploy/client", "", {"guard": guard, "door": door}) == {
        "guard": False,
        "door": True,
    }
    sessions = ("domicile-sessions.domicile-system.svc", 6379)
    needed = {"guard": guard, "sessions": sessions, "way out": ("domicile-egress.domicile-system.svc", 3129)}
    other = {
        "identity": (bank.identity.address, 8443),
        "store": (site.store.address, 9000),
        "model": ("provider.models.svc", 8080),
        "lease": ("domicile-lease.domicile-system.svc", 443),
        "API": (site.cluster.control_plane.server.removeprefix("https://").partition(":")[0], 6443),
    }
    found = reached(site, bank.name, "deploy/front-door", "", needed | other)
    assert found == dict.fromkeys(needed, True) | dict.fromkeys(other, False)
    assistant = reached(site, bank.name, "deploy/helpdesk", "assistant", {"sessions": sessions, "door": door})
    assert assistant == {"sessions": False, "door": False}
    assert estate.conditions(site, bank.name)["NetworkIsolated"]["status"] == "True"


def test_who_logs_people_in_is_asked_through_the_way_out(bank: Bank) -> None:
    """By the doors for tokens, and by the operator for the realm."""
    tenant_id = bank.estate.status(bank.site, bank.name)["tenantId"]

    def opened(account: str) -> set[tuple[str, int]]:
        return {(d["host"], d["port"]) for d in decisions(bank.site, event="opened", account=account)}

    wait_for("the door's way", lambda: opened(f"door{tenant_id}") == {(bank.identity.host, 8443)}, 30)
    wait_for("the operator's way", lambda: (bank.identity.host, 8443) in opened("logins"), 30)


def test_logs_of_the_door_name_nobody(bank: Bank) -> None:
    lines = bank.site.kubectl("logs", "-n", bank.name, "-l", DOOR, "--tail=-1", "--all-containers").splitlines()
    requests = [json.loads(line) for line in lines if '"method"' in line]
    assert requests, "somebody asked"
    assert {frozenset(r) for r in requests} == {
        frozenset({"time", "request", "method", "assistant", "status", "bytes", "ms"})
    }
    text = "\n".join(lines)
    assert not any(
        word in text for word in ("member1", "owner2", "customer centre", bank.estate.testbed.network.plan.host)
    )


def test_a_new_certificate_is_taken_without_a_restart(bank: Bank, tmp_path: Path) -> None:
    renewed = Authority(tmp_path)
    certificate, key = renewed.issue("door", "door", hosts=(HOST,))
    before = {p["metadata"]["uid"] for p in bank.estate.pods(bank.site, bank.name, DOOR)}
    given = bank.site.kubectl(
        "create", "secret", "tls", "bank-tls", "-n", bank.name, f"--cert={certificate}", f"--key={key}",
        "--dry-run=client", "-o", "json",
    )  # fmt: skip
    bank.site.kubectl("replace", "-f", "-", given=given)
    bank.authority = renewed
    [door, *_] = bank.doors()

    def taken() -> bool:
        try:
            return bank.ask(door, "/helpdesk/api/conversation").status_code == 401
        except httpx.ConnectError:
            return False

    # The kubelet looks at Secrets about once a minute.
    wait_for("the new certificate", taken, 150, pause=1)
    assert {p["metadata"]["uid"] for p in bank.estate.pods(bank.site, bank.name, DOOR)} == before
