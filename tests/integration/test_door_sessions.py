"""Sessions of a real front door: two replicas, one session store, and every way by which a session ends."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest
from jwcrypto import jwk, jwt
from keycloak import KeycloakAdmin

from domicile.controllers.realm.desired import CLIENT
from tests.integration import door_server
from tests.integration.door_realm import Estate, Visitor, estate
from tests.integration.door_server import DoorServer, until
from tests.testbed.keycloak import KeycloakServer

API = "/helpdesk/api/x"


@pytest.fixture(scope="module")
def site(keycloak: KeycloakServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Estate]:
    with estate(keycloak, tmp_path_factory.mktemp("door")) as made:
        yield made


@pytest.fixture(scope="module")
def twin(site: Estate) -> DoorServer:
    return site.another()


@pytest.fixture
def ann(site: Estate, twin: DoorServer) -> Visitor:
    person = site.person("member")
    assert both(person, site, twin) == (200, 200)
    return person


def both(person: Visitor, site: Estate, twin: DoorServer) -> tuple[int, int]:
    return person.at(site.door, API).status_code, person.at(twin, API).status_code


def logout(site: Estate) -> str:
    return f"/oauth2/callback?logout=https://{site.door.door.host}/"


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Referer": "https://{host}/"},
        {"Referer": "https://evil.example/"},
        {"Referer": "https://{host}.evil.example/"},
        {},
    ],
)
def test_another_sites_page_logs_nobody_out(
    site: Estate, twin: DoorServer, ann: Visitor, headers: dict[str, str]
) -> None:
    sent = {name: value.format(host=site.door.door.host) for name, value in headers.items()}
    assert ann.at(site.door, logout(site), headers=sent).status_code == 403
    assert both(ann, site, twin) == (200, 200)


@pytest.mark.parametrize("headers", [{"Sec-Fetch-Site": "same-origin"}, {"Referer": "https://{host}/helpdesk/"}])
def test_a_logout_ends_the_session_at_every_replica_and_at_the_identity_server(
    site: Estate, twin: DoorServer, ann: Visitor, headers: dict[str, str]
) -> None:
    sent = {name: value.format(host=site.door.door.host) for name, value in headers.items()}
    answer = ann.at(site.door, logout(site), headers=sent)
    assert answer.status_code == 302
    target = httpx.URL(answer.headers["location"])
    assert str(target).startswith(site.realm.endpoints.end_session)
    assert target.params["post_logout_redirect_uri"] == f"https://{site.door.door.host}/"
    assert target.params["id_token_hint"]
    assert both(ann, site, twin) == (401, 401)
    assert ann.web.get(str(target)).headers["location"] == f"https://{site.door.door.host}/"
    ann.asked.clear()
    assert ann.visit(site.door.url + "/helpdesk/").status_code == 200
    assert ann.asked == ["password", "otp"]


def test_a_session_that_ends_at_the_identity_server_ends_at_every_replica(
    site: Estate, twin: DoorServer, ann: Visitor
) -> None:
    """Each session by itself: one logout of a whole user names one session only (keycloak#22914)."""
    elsewhere = ann.elsewhere()
    assert elsewhere.visit(site.door.url + "/helpdesk/").status_code == 200

    async def end(admin: KeycloakAdmin) -> None:
        user = await admin.a_get_user_id(ann.name)
        for session in await admin.a_get_sessions(user or ""):
            path = f"admin/realms/{site.realm.name}/sessions/{session['id']}"
            assert (await admin.connection.a_raw_delete(path)).status_code == 204

    site.realm.ask(end)
    assert both(ann, site, twin) == (401, 401)
    assert both(elsewhere, site, twin) == (401, 401)


def test_nobody_else_ends_a_session_by_the_back_channel(site: Estate, twin: DoorServer, ann: Visitor) -> None:
    assert ann.at(site.door, "/helpdesk/x").status_code == 200
    (token,) = site.assistant.seen[-1].header("Domicile-Identity")
    part = token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    event = {"events": {"http://schemas.openid.net/event/backchannel-logout": {}}}
    body = {k: claims[k] for k in ("iss", "aud", "sub", "sid")} | {"iat": int(time.time()), "jti": "1"} | event
    forged = jwt.JWT(header={"alg": "RS256", "typ": "logout+jwt"}, claims=body)
    forged.make_signed_token(jwk.JWK.generate(kty="RSA", size=2048))
    symmetric = jwt.JWT(header={"alg": "HS256", "typ": "logout+jwt"}, claims=body)
    symmetric.make_signed_token(jwk.JWK.generate(kty="oct", size=256))
    none = ".".join(
        base64.urlsafe_b64encode(json.dumps(p).encode()).rstrip(b"=").decode() for p in ({"alg": "none"}, body)
    )
    url = f"{site.door.url}/oauth2/callback?logout=backchannel"
    for attempt in (forged.serialize(), symmetric.serialize(), f"{none}.", token, "", "x.y.z"):
        answer = httpx.post(url, data={"logout_token": attempt}, verify=ann.context)
        assert answer.status_code >= 400, attempt
    assert both(ann, site, twin) == (200, 200)
    assert claims["aud"] == CLIENT


def test_a_session_ends_when_nobody_uses_it_and_when_it_is_old(site: Estate) -> None:
    short = site.another(replace(site.door.door, idle_seconds=10, max_seconds=15))
    person = site.person("member")
    opened = time.monotonic()
    used, idle = _open(person, site, short), _open(person, site, short)
    while (age := time.monotonic() - opened) < 13:
        assert _with(used, person, short) == 200, age
        time.sleep(1)
    assert _with(idle, person, short) == 401
    until("the session is too old", lambda: _with(used, person, short) == 401, 5)


def _open(person: Visitor, site: Estate, door: DoorServer) -> str:
    """Log in anew at a replica that is not at the address which its host name says; the session's cookie."""
    person.web.cookies.delete("__Host-door")
    port, other = f":{site.door.door.https_port}/", f":{door.door.https_port}/"
    person.web.event_hooks["request"] = [lambda r: _redirect(r, port, other, site.door.door.host)]
    try:
        assert person.visit(site.door.url + "/helpdesk/").status_code == 200
    finally:
        person.web.event_hooks["request"] = []
    return person.session


def _redirect(request: httpx.Request, port: str, other: str, host: str) -> None:
    if port in str(request.url) and str(request.url).startswith(f"https://{host}"):
        request.url = httpx.URL(str(request.url).replace(port, other, 1))
        request.headers["Host"] = host


def _with(cookie: str, person: Visitor, door: DoorServer) -> int:
    headers = {"Host": door.door.host, "Cookie": f"__Host-door={cookie}"}
    return httpx.get(door.url + API, headers=headers, verify=person.context).status_code


@pytest.mark.parametrize(
    "words",
    [("KEYS", "*"), ("SCAN", "0"), ("RANDOMKEY",), ("FLUSHALL",), ("FLUSHDB",), ("DBSIZE",), ("MONITOR",), ("INFO",),
     ("CONFIG", "GET", "*"), ("ACL", "LIST"), ("DUMP", "x"), ("RENAME", "x", "y"), ("EVAL", "return 1", "0"),
     ("SAVE",), ("SHUTDOWN",), ("CLIENT", "LIST"), ("SUBSCRIBE", "x")],
)  # fmt: skip
def test_a_door_can_not_look_around_in_the_session_store(site: Estate, words: tuple[str, ...]) -> None:
    assert "NOPERM" in site.store.ask(*words)


def test_the_session_store_knows_nobody_else(site: Estate) -> None:
    assert "WRONGPASS" in site.store.ask("PING", user="default")


def test_without_the_session_store_nobody_gets_in_and_with_it_everything_works_again(
    site: Estate, twin: DoorServer, ann: Visitor
) -> None:
    door_server.end(site.store.process)
    site.assistant.seen.clear()
    assert not {200, 302} & set(both(ann, site, twin))
    assert ann.at(site.door, "/helpdesk/x").status_code != 200
    assert site.assistant.seen == []
    assert site.door.healthy()
    site.store.start()
    # What the store forgot costs a redirect: the identity server knows the person still.
    ann.asked.clear()
    assert ann.visit(site.door.url + "/helpdesk/").status_code == 200
    assert ann.asked == []
    assert both(ann, site, twin) == (200, 200)
