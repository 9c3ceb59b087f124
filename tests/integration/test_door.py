"""People at a real front door before a real Keycloak: who gets in where, and who the assistant is told they are."""

from __future__ import annotations

import base64
import itertools
import json
import re
import secrets
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

import httpx
import pytest
from jwcrypto import jwk, jwt
from keycloak import KeycloakAdmin

from domicile.controllers.door.door import PathRule
from domicile.controllers.realm.desired import CLIENT
from tests.integration.door_realm import Estate, Visitor, estate
from tests.testbed.keycloak import KeycloakServer

RULES = (PathRule("/open", None), PathRule("/open/inner", ("owner",)), PathRule("/reports", ("owner", "manager")))


@pytest.fixture(scope="module")
def site(keycloak: KeycloakServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Estate]:
    with estate(keycloak, tmp_path_factory.mktemp("door"), *RULES) as made:
        yield made


@pytest.fixture(scope="module")
def member(site: Estate) -> Visitor:
    return site.person("member")


@pytest.fixture(scope="module")
def manager(site: Estate) -> Visitor:
    return site.person("manager", "assistant.helpdesk")


def status(visitor: Visitor, site: Estate, path: str, **headers: str) -> int:
    return visitor.web.get(site.door.url + path, headers=headers).status_code


def told(site: Estate) -> str:
    """The one identity that the assistant was told last."""
    (token,) = site.assistant.seen[-1].header("Domicile-Identity")
    return token


def claims(token: str) -> dict[str, Any]:
    part = token.split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return found


def test_a_person_logs_in_with_a_second_factor_and_the_assistant_gets_their_signed_identity(site: Estate) -> None:
    ann = site.person("member")
    assert ann.asked == ["password", "enrolment"]
    assert status(ann, site, "/helpdesk/x?y=1", Authorization="Bearer x") == 200
    (seen,) = site.assistant.seen
    assert seen.path == "/x?y=1"
    assert seen.header("X-Forwarded-Prefix") == ["/helpdesk"]
    assert seen.header("X-Forwarded-Host") == [site.door.door.host]
    assert seen.header("X-Forwarded-Proto") == ["https"]
    assert seen.header("X-Forwarded-Port") == [str(site.door.door.https_port)]
    assert not seen.header("Authorization")
    assert not seen.header("Cookie")

    keys = jwk.JWKSet.from_json(httpx.get(site.realm.endpoints.jwks, verify=ann.context).text)
    proven = json.loads(jwt.JWT(jwt=told(site), key=keys, algs=["RS256"]).claims)
    assert (proven["iss"], proven["aud"], proven["acr"]) == (site.realm.endpoints.issuer, CLIENT, "mfa")
    assert proven["roles"] == ["member"]
    assert 290 <= proven["exp"] - proven["iat"] <= 300
    assert not proven.keys() & {"email", "name", "preferred_username"}


def test_the_doors_cookies_stay_at_the_door(site: Estate, member: Visitor) -> None:
    member.web.cookies.set("mine", "1", domain="localhost.local")
    member.web.cookies.set("__Host-door-abc", "2", domain="localhost.local")
    forged = ("__Host-door=x; Path=/; Secure", "=__Host-door=x; Path=/; Secure", "theirs=1; Path=/")
    site.assistant.more_headers = [("Set-Cookie", cookie) for cookie in forged]
    try:
        answer = member.web.get(site.door.url + "/helpdesk/x")
    finally:
        site.assistant.more_headers = []
    assert site.assistant.seen[-1].header("Cookie") == ["mine=1"]
    set_by = answer.headers.get_list("set-cookie")
    assert not [c for c in set_by if "__Host-door=x" in c]
    assert "theirs=1; Path=/helpdesk/" in set_by
    assert status(member, site, "/helpdesk/x") == 200
    del member.web.cookies["mine"], member.web.cookies["__Host-door-abc"]


def test_a_login_below_the_second_factor_opens_nothing(site: Estate) -> None:
    """Even where the identity server would hand out such a token and the browser's owner asks for it."""

    async def weaken(admin: KeycloakAdmin, most: str) -> None:
        client = await admin.a_get_client_id(CLIENT)
        found = await admin.a_get_client(client or "")
        attributes = {**found["attributes"], "minimum.acr.value": most, "default.acr.values": most}
        await admin.a_update_client(client or "", {**found, "attributes": attributes})

    site.realm.user("weak", "owner")
    weak = site.visitor("weak")
    weak.underway = lambda url: url.replace("acr_values=mfa", "acr_values=pwd")
    site.realm.ask(lambda admin: weaken(admin, "pwd"))
    try:
        site.assistant.seen.clear()
        assert weak.visit(site.door.url + "/helpdesk/").status_code == 403
        assert weak.asked == ["password"]
        assert {status(weak, site, path) for path in ("/", "/sales/", "/helpdesk/api/x", "/helpdesk/admin/")} == {403}
        assert site.assistant.seen == []
    finally:
        site.realm.ask(lambda admin: weaken(admin, "mfa"))
    tampering = site.visitor("weak")
    tampering.underway = weak.underway
    assert tampering.visit(site.door.url + "/helpdesk/").status_code == 200
    assert tampering.asked == ["password", "enrolment"]
    assert claims(told(site))["acr"] == "mfa"


def test_roles_by_path(site: Estate, member: Visitor, manager: Visitor) -> None:
    people = {"owner": site.person("owner"), "admin": site.person("admin"), "none": site.person()}
    people |= {"member": member, "manager": manager, "lone manager": site.person("manager")}
    expected = {
        "/": set(people),
        "/helpdesk/": {"owner", "admin", "member", "manager"},
        "/helpdesk/api/x": {"owner", "admin", "member", "manager"},
        "/sales/": {"owner", "admin", "member"},
        "/helpdesk/open/x": set(people),
        "/helpdesk/open/inner/x": {"owner"},
        "/helpdesk/reports/q1": {"owner", "manager", "lone manager"},
        "/helpdesk/REPORTS/q1": {"owner", "manager"},
        "/helpdesk/admin/": {"owner", "admin"},
        "/nowhere/": set(),
    }
    found = {path: {n for n, p in people.items() if status(p, site, path) == 200} for path in expected}
    assert found == expected
    assert {status(people["none"], site, path) for path in ("/helpdesk/", "/nowhere/")} == {403}


def test_nobody_reaches_what_the_guard_says_to_pods(site: Estate, member: Visitor) -> None:
    site.assistant.seen.clear()
    owner = site.person("owner")
    for path in (
        "/domicile/lease",
        "/domicile",
        "//domicile/readyz",
        "/Domicile/lease",
        "/%64omicile/lease",
        "/x/../domicile/x",
    ):
        assert {status(who, site, f"/helpdesk{path}") for who in (owner, member, site.visitor("nobody"))} == {403}, path
    assert site.assistant.seen == []
    assert status(member, site, "/helpdesk/domiciles") == 200


def test_people_reach_what_a_guard_asks_them_and_nothing_else_of_it(site: Estate, member: Visitor) -> None:
    asking = tuple(replace(each, asks=True) for each in site.door.door.assistants)
    door = site.another(replace(site.door.door, assistants=asking))
    # The guard asks whoever may use anything; what they may use, the door and the assistant say.
    guest = site.person("manager")
    nobody = site.visitor("nobody")
    form = {"Content-Type": "application/x-www-form-urlencoded", "Origin": site.door.url}
    for who in (member, guest):
        for page in ("notice", "consents"):
            assert who.at(door, f"/helpdesk/domicile/{page}").status_code == 200
            assert site.assistant.seen[-1].header("Domicile-Identity")
            sent = who.at(door, f"/helpdesk/domicile/{page}", "POST", content=b"version=1.3&ofAge=true", headers=form)
            assert (sent.status_code, site.assistant.seen[-1].body) == (200, b"version=1.3&ofAge=true")
        public = who.at(door, "/helpdesk/domicile/public/notice")
        assert (public.status_code, site.assistant.seen[-1].header("Domicile-Identity")) == (200, [])
    assert nobody.at(door, "/helpdesk/domicile/notice").status_code == 302
    assert nobody.at(door, "/helpdesk/domicile/public/consents").status_code == 200
    assert site.assistant.seen[-1].header("X-Forwarded-Prefix") == ["/helpdesk"]
    site.assistant.seen.clear()
    for path in (
        "/domicile/lease",
        "/domicile/public/lease",
        "/domicile/public",
        "/domicile/notice/",
        "/domicile/notice/x",
        "/Domicile/notice",
        "//domicile//notice/../lease",
        "/domicile/public/../lease",
        "/domicile/noticeboard",
    ):
        assert {who.at(door, f"/helpdesk{path}").status_code for who in (member, nobody)} == {403}, path
    assert site.assistant.seen == []


def test_an_assistant_gets_no_authorization_on_any_path(site: Estate, member: Visitor) -> None:
    for path in ("/helpdesk/x", "/helpdesk/open/x"):
        assert status(member, site, path, Authorization="Bearer x") == 200
        assert not site.assistant.seen[-1].header("Authorization")


def test_no_spelling_of_a_path_leads_past_its_rule(site: Estate, member: Visitor) -> None:
    """Whatever reaches the assistant must not be what some server takes for a path under /admin or /open/inner."""
    bits = ("/admin/x", "//admin/x", "/./admin/x", "/y/../admin/x", "/%61dmin/x", "/admin;a=1/x", "/ADMIN/x", "/admin",
            "/%2e/admin/x", "/y/%2e%2e/admin/x", "/admin%2fx", "/admin.x", "/open/../admin/x", "/open/%2e%2e/admin/x",
            "/open//inner", "/open/INNER", "/open/./inner/x", "/open;/inner/x", "/open/inner;x", "/open/x/../inner/x",
            "/open\\inner", "/admin\\x", "/open/%5cinner/..;/inner", "/admin%00/x", "/open/..%2fadmin")  # fmt: skip
    site.assistant.seen.clear()
    refused = 0
    for path in bits:
        answer = site.door.raw(
            f"GET /helpdesk{path} HTTP/1.1",
            f"Host: {site.door.door.host}",
            f"Cookie: __Host-door={member.session}",
            "Connection: close",
        )
        refused += not answer.startswith(b"HTTP/1.1 200")
    for seen in site.assistant.seen:
        plain = re.sub(r";[^/]*", "", unquote(seen.path)).lower().replace("\\", "/")
        parts = [p for p in plain.split("/") if p not in {"", "."}]
        assert parts[:1] != ["admin"], seen.path
        assert parts[:2] != ["open", "inner"], seen.path
    assert refused >= len(bits) - 2


FORGED = ("Domicile-Identity", "Domicile_Identity", "dOmIcIlE-identity", "OIDC_id_token", "OIDC-id-token",
          "OIDC_access_token", "OIDC_userinfo", "OIDC_CLAIM_sub", "OIDC-CLAIM-roles", "X-Forwarded-User",
          "X_Forwarded_User", "X-Forwarded-For", "X_Forwarded_For", "X-Forwarded-Host", "X_FORWARDED_HOST",
          "X-Forwarded-Proto", "X-Forwarded-Prefix", "X_Forwarded_Prefix", "X-Forwarded-Port", "X-Forwarded-Email",
          "X-Forwarded_Groups", "Forwarded", "X-Real-IP", "X_Real_IP", "X-Real_IP", "X-Remote-User", "X_Remote_User",
          "X-Original-URL", "X_Original_URL", "X-Rewrite-URL",
          "Domicile-Other", "Domicile_Anything", "OIDC_CLAIM_anything", "OIDC-x", "X-Forwarded-Whatever")  # fmt: skip


def test_nobody_but_the_door_says_who_somebody_is(site: Estate, member: Visitor) -> None:
    for path, name in itertools.product(("/helpdesk/x", "/helpdesk/open/x"), FORGED):
        site.assistant.seen.clear()
        answer = member.web.get(site.door.url + path, headers={name: "evil"})
        assert answer.status_code in {200, 400}, name
        for seen in site.assistant.seen:
            assert "evil" not in {v for _, v in seen.headers}, (path, name)
            assert len(seen.header("Domicile-Identity")) == (0 if "/open/" in seen.path else 1)
    honest = dict.fromkeys(("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP"), "192.0.2.1")
    assert status(member, site, "/helpdesk/x", **honest) == 200


@pytest.mark.parametrize(
    "value", ["close, Domicile-Identity", "Domicile-Identity", "keep-alive, X-Forwarded-Prefix", "close,\tCookie"]
)
def test_a_client_names_no_header_that_the_door_should_drop(site: Estate, member: Visitor, value: str) -> None:
    assert status(member, site, "/helpdesk/x", Connection=value) == 400
    assert status(member, site, "/helpdesk/open/x", Connection=value) == 400
    assert status(member, site, "/helpdesk/x", Connection="Keep-Alive, TE") == 200


def _unsigned(issuer: str, audience: str) -> str:
    def part(value: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    now = int(time.time())
    body = {"iss": issuer, "aud": audience, "sub": "x", "acr": "mfa", "roles": ["owner"], "iat": now, "exp": now + 300}
    return f"{part({'alg': 'none', 'typ': 'JWT'})}.{part(body)}."


def test_a_token_opens_nothing(site: Estate, member: Visitor) -> None:
    """Not even one's own: what an assistant was told does not let it in as that person."""
    assert status(member, site, "/helpdesk/x") == 200
    mine = told(site)
    wrong_key = jwt.JWT(header={"alg": "RS256"}, claims=claims(mine) | {"roles": ["owner"]})
    wrong_key.make_signed_token(jwk.JWK.generate(kty="RSA", size=2048))
    other = claims(mine) | {"aud": "other", "iss": f"{site.realm.keycloak.url}/realms/master"}
    foreign = jwt.JWT(header={"alg": "RS256"}, claims=other)
    foreign.make_signed_token(jwk.JWK.generate(kty="RSA", size=2048))
    stranger = site.visitor("nobody")
    site.assistant.seen.clear()
    for token in (mine, wrong_key.serialize(), foreign.serialize(), _unsigned(site.realm.endpoints.issuer, CLIENT)):
        for headers in (
            {"Authorization": f"Bearer {token}"},
            {"Cookie": f"__Host-door={token}"},
            {"Domicile-Identity": token},
            {"Cookie": f"__Host-door={secrets.token_hex(16)}; __Host-door={token}"},
        ):
            assert status(stranger, site, "/helpdesk/api/x", **headers) == 401
            page = stranger.web.get(site.door.url + "/helpdesk/x", headers=headers)
            assert page.headers["location"].startswith(site.realm.endpoints.authorization)
        assert status(stranger, site, f"/helpdesk/api/x?access_token={token}") == 401
    assert site.assistant.seen == []


def test_without_a_session_a_page_leads_to_the_login_and_the_api_says_401(site: Estate) -> None:
    stranger = site.visitor("nobody")
    page = stranger.web.get(site.door.url + "/helpdesk/x")
    query = httpx.URL(page.headers["location"]).params
    assert page.status_code == 302
    assert query["code_challenge_method"] == "S256"
    assert query["acr_values"] == "mfa"
    assert len(query["state"]) > 20
    assert len(query["nonce"]) > 20
    for cookie in page.headers.get_list("set-cookie"):
        assert cookie.startswith("__Host-door-")
        assert {"path=/", "secure", "httponly", "samesite=lax"} <= {part.strip().lower() for part in cookie.split(";")}
    assert status(stranger, site, "/helpdesk/api/x") == 401
    assert status(stranger, site, "/helpdesk/open/x") == 200
    assert status(stranger, site, "/helpdesk") == 302


def test_a_session_that_somebody_planted_is_not_taken_over(site: Estate) -> None:
    planted = secrets.token_hex(20)
    site.realm.user("victim", "member")
    victim = site.visitor("victim")
    victim.web.cookies.set("__Host-door", planted, domain="localhost.local")
    assert victim.visit(site.door.url + "/helpdesk/x").status_code == 200
    assert victim.session
    assert victim.session != planted
    (cookie,) = (c for c in victim.web.cookies.jar if c.name == "__Host-door" and c.value != planted)
    assert (cookie.path, cookie.secure, cookie.expires) == ("/", True, None)
    attacker = site.visitor("nobody")
    assert status(attacker, site, "/helpdesk/api/x", Cookie=f"__Host-door={planted}") == 401


def test_a_code_counts_once_and_only_in_the_browser_that_asked(site: Estate) -> None:
    site.realm.user("carl", "member")
    carl = site.visitor("carl")
    answers: list[str] = []

    def underway(url: str) -> str:
        if "/oauth2/callback" in url:
            answers.append(url)
        return url

    carl.underway = underway
    assert carl.visit(site.door.url + "/helpdesk/x").status_code == 200
    (used,) = answers
    thief = site.visitor("nobody")
    assert thief.web.get(used).status_code != 200
    assert not thief.session
    assert status(thief, site, "/helpdesk/api/x") == 401
    before = carl.session
    carl.web.get(used)
    assert carl.session == before
    assert status(carl, site, "/helpdesk/x") == 200


@pytest.mark.parametrize(
    "query",
    [
        "logout=https://evil.example/",
        "logout=https%3A%2F%2Fevil.example%2F",
        "logout=https%3A%2F%2Flocalhost.evil.example%2F",
        "logout=//evil.example/",
        "iss=https://evil.example&target_link_uri=https://evil.example",
        "iss=https://evil.example&login_hint=x",
        "target_link_uri=https://evil.example",
        "info=json",
        "refresh=https://evil.example/",
        "remove_at_cache=x",
        "request_uri=x",
        "jwks=rsa",
        "session=logout",
        "logout=get",
        "logout=img",
        "revoke_session=x",
        "",
        "code=x&state=y&logout=https://evil.example/",
    ],
)
def test_the_callback_sends_nobody_elsewhere(site: Estate, member: Visitor, query: str) -> None:
    page = member.web.get(f"{site.door.url}/oauth2/callback?{query}")
    assert page.status_code == 404
    assert "location" not in page.headers
    assert status(member, site, "/helpdesk/x") == 200


def test_a_renewed_token_brings_what_has_changed(site: Estate) -> None:
    """The identity that assistants see is renewed before it ends; a role that was taken is gone with the next."""

    async def live(admin: KeycloakAdmin, seconds: int) -> None:
        await admin.a_update_realm(site.realm.name, {"accessTokenLifespan": seconds})

    async def demote(admin: KeycloakAdmin) -> None:
        await admin.a_delete_realm_roles_of_user(dora_id, [await admin.a_get_realm_role("member")])

    async def disable(admin: KeycloakAdmin) -> None:
        await admin.a_update_user(emil_id, {"enabled": False})

    def renewed(person: Visitor, than: int) -> None:
        # The door renews from 30 s before the end.
        time.sleep(max(0.0, than + 33 - 30 + 1.2 - time.time()))
        site.assistant.seen.clear()
        person.web.get(site.door.url + "/helpdesk/x")

    site.realm.ask(lambda admin: live(admin, 33))
    try:
        dora_id, emil_id = site.realm.user("dora", "member"), site.realm.user("emil", "member")
        people = site.visitor("dora"), site.visitor("emil")
        issued = []
        for person in people:
            assert person.visit(site.door.url + "/helpdesk/x").status_code == 200
            issued.append(claims(told(site))["iat"])
        renewed(people[0], issued[0])
        again = claims(told(site))["iat"]
        assert again > issued[0]
        site.realm.ask(demote)
        site.realm.ask(disable)
        renewed(people[0], again)
        renewed(people[1], issued[1])
        assert status(people[0], site, "/helpdesk/x") == 403
        assert status(people[1], site, "/helpdesk/api/x") == 401
        assert site.assistant.seen == []
    finally:
        site.realm.ask(lambda admin: live(admin, 300))


def test_logs_tell_nothing_of_people(site: Estate, member: Visitor) -> None:
    secret = "what-ails-me"
    assert status(member, site, "/helpdesk/x") == 200
    sub = claims(told(site))["sub"]
    member.web.get(f"{site.door.url}/helpdesk/{secret}?{secret}=<script>alert(1)</script>")
    member.web.post(f"{site.door.url}/helpdesk/api/x", json={"title": f"1' or '1'='1 union select {secret}"})
    member.web.get(f"{site.door.url}/{secret}/%zz")
    host = f"Host: {site.door.door.host}"
    for lines in (
        (f"{secret} / HTTP/1.1", host),
        (f"GET /{secret}", host),
        (f"GET / HTTP/1.1 {secret}", host),
        (secret,),
    ):
        site.door.raw(*lines, "Connection: close")
    lines = [json.loads(line) for line in (site.door.out + site.door.err).splitlines()]
    assert [line for line in lines if line.get("assistant") == "helpdesk" and line.get("status") == 403]
    assert [line for line in lines if line.get("rule", "").startswith("94")]
    said = site.door.out + site.door.err
    for hidden in (secret, sub, member.session, member.name, "127.0.0.1", *vars(site.hidden).values()):
        assert str(hidden) not in said.replace('"doors"', ""), hidden
    access = [line for line in lines if "ms" in line]
    assert {frozenset(line) for line in access} == {
        frozenset({"time", "request", "method", "assistant", "status", "bytes", "ms"})
    }
