"""The gate before a real Keycloak: people log in, and nobody but listed administrators reaches anything else."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import ssl
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from domicile.controllers.door.gate import render
from tests.authorities import SERVER, Authority, Key, rsa_key, write
from tests.integration.door_realm import estate
from tests.integration.door_server import Assistant, events, raw, until
from tests.integration.gate_server import LISTED, Gated, GateServer, Pair, bootstrap, gated, plan, running
from tests.integration.identity_server import Client, Person
from tests.integration.realm_estate import PASSWORD, Tenant, Upstream, connect, somebody

Run = Callable[[Coroutine[Any, Any, Any]], Any]
OPEN = "/realms/x-01234567/protocol/openid-connect/certs"
ADMIN_PAGE = "/admin/master/console/"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gated]:
    with gated(tmp_path_factory.mktemp("gated")) as made:
        yield made


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """What asks Keycloak as the operator, in one loop."""
    with asyncio.Runner() as runner:
        yield runner.run


@pytest.fixture(scope="module")
def tenant(site: Gated, run: Run) -> Iterator[Tenant]:
    """A tenant whose people have accounts of their own, or come from another realm, all through the gate."""
    made = Tenant(connect(site.keycloak), local_users=True)
    upstream = Upstream(made.server, site.public.url)

    async def make() -> None:
        await upstream.create()
        await made.trust(upstream)
        assert (await made.ensure()).faults == {}
        await upstream.user("bob", "staff")
        async with made.server.realm(made.realm) as admin:
            # The other realm is behind the same gate, which opens no userinfo endpoint.
            corp = await admin.a_get_idp("corp")
            await admin.a_update_idp("corp", {**corp, "config": {**corp["config"], "disableUserInfo": "true"}})

    run(make())
    yield made
    run(made.server.close())


def test_people_log_in_through_the_gate(site: Gated, tenant: Tenant, run: Run) -> None:
    ann = Person(site.public, run(tenant.user("owner")), PASSWORD)
    claims = ann.log_in(tenant.realm, tenant.client)
    assert ann.asked == ["password", "enrolment"]
    assert (claims["acr"], claims["roles"]) == ("mfa", ["owner"])
    assert claims["iss"] == f"{site.public.url}/realms/{tenant.realm}"

    bob = Person(site.public, "bob", PASSWORD)
    assert bob.log_in(tenant.realm, tenant.client, "corp")["roles"] == ["member"]
    assert bob.asked == ["provider corp", "password", "enrolment"]


def test_a_front_door_needs_no_more_than_the_gate(site: Gated, tmp_path: Path) -> None:
    with estate(site.keycloak, tmp_path, public=site.public) as people:
        ann = people.person("member")
        assert ann.web.get(f"{people.door.url}/helpdesk/x").status_code == 200
        [seen] = people.assistant.seen
        assert seen.header("Domicile-Identity")
        home = f"https://{people.door.door.host}/"
        left = ann.at(people.door, f"/oauth2/callback?logout={home}", headers={"Sec-Fetch-Site": "same-origin"})
        ended = ann.web.get(left.headers["location"])
        assert str(ended.url).startswith(site.public.url)
        assert ended.headers["location"] == home
        assert ann.at(people.door, "/helpdesk/api/x").status_code == 401


def test_the_pages_of_a_login_are_whole(site: Gated, tenant: Tenant) -> None:
    realm = f"{site.public.url}/realms/{tenant.realm}"
    query = {
        "client_id": tenant.client.name, "redirect_uri": tenant.client.redirect, "response_type": "code",
        "scope": "openid", "code_challenge": "x" * 43, "code_challenge_method": "S256",
    }  # fmt: skip
    with httpx.Client(verify=ssl.create_default_context(cafile=str(site.keycloak.authority)), timeout=30) as web:
        page = web.get(f"{realm}/protocol/openid-connect/auth", params=query)
        assert page.status_code == 200
        assert page.headers["Strict-Transport-Security"] == "max-age=31536000"
        parts = set(re.findall(r'(?:href|src)="(/resources/[^"]+)"|"(/resources/[^"]+[.]js)"', page.text))
        found = {a or b for a, b in parts}
        assert len(found) > 5
        assert {part: web.get(site.public.url + part).status_code for part in found} == dict.fromkeys(found, 200)
        for path in (".well-known/openid-configuration", "protocol/openid-connect/certs"):
            assert web.get(f"{realm}/{path}").status_code == 200


def test_keycloak_learns_where_people_come_from_by_the_gate_alone(site: Gated, tenant: Tenant, run: Run) -> None:
    ann = Person(site.public, run(tenant.user("owner")), PASSWORD)
    ann.web.headers.update({"X-Forwarded-For": "203.0.113.9", "Forwarded": "for=203.0.113.9"})
    sub = ann.log_in(tenant.realm, tenant.client)["sub"]

    async def logins() -> list[dict[str, Any]]:
        async with tenant.server.realm(tenant.realm) as admin:
            found: list[dict[str, Any]] = await admin.a_get_events({"type": "LOGIN", "user": sub})
            return found

    events = run(logins())
    assert {e["ipAddress"] for e in events} == {"127.0.0.1"}


REALM = "{realm}"
CLOSED = [
    "/",
    "/admin",
    "/admin/",
    ADMIN_PAGE,
    "/admin/realms",
    "/admin/serverinfo",
    f"/admin/realms/{REALM}/users",
    f"/admin/{REALM}/console/",
    "/realms/master",
    "/realms/master/protocol/openid-connect/auth?client_id=security-admin-console",
    "/realms/master/protocol/openid-connect/token",
    "/realms/master/.well-known/openid-configuration",
    "/realms/MASTER/protocol/openid-connect/certs",
    f"/realms/{REALM}",
    f"/realms/{REALM}/account/",
    f"/realms/{REALM}/clients-registrations/openid-connect",
    f"/realms/{REALM}/clients-registrations/default",
    f"/realms/{REALM}/protocol/openid-connect/registrations",
    f"/realms/{REALM}/protocol/openid-connect/auth/device",
    f"/realms/{REALM}/protocol/openid-connect/token/introspect",
    f"/realms/{REALM}/login-actions/registration",
    f"/realms/{REALM}/login-actions/reset-credentials",
    f"/realms/{REALM}/broker/corp/token",
    f"/realms/{REALM}/authz/protection/resource_set",
    "/metrics",
    "/health",
    "/health/ready",
    "/lb-check",
    "/robots.txt",
    "/resources/x/admin/keycloak.v2/index.html",
    # Other spellings of the same, as some server may read them.
    "//admin/realms",
    "/./admin/realms",
    "/%61dmin/realms",
    "/%2e/admin/realms",
    "/%2E%2E/admin/realms",
    "/;jsessionid=1/admin/realms",
    "/admin;jsessionid=1/realms",
    "/realms/master%2fprotocol/openid-connect/token",
    "/realms/master%2Fprotocol%2Fopenid-connect%2Ftoken",
    "/realms//master/protocol/openid-connect/token",
    "/realms/%6daster/protocol/openid-connect/token",
    "/realms/master;x-01234567/protocol/openid-connect/token",
    "/realms\\master/protocol/openid-connect/token",
    f"/realms/{REALM}/../master/protocol/openid-connect/token",
    f"/realms/{REALM}/%2e%2e/master/protocol/openid-connect/token",
    f"/realms/{REALM}/..%2fmaster/protocol/openid-connect/token",
    f"/realms/{REALM}/..;/master/protocol/openid-connect/token",
    f"/realms/{REALM}%2f..%2fmaster/protocol/openid-connect/token",
    f"/realms/{REALM}/protocol/openid-connect/../../../master/protocol/openid-connect/token",
    f"/realms/{REALM}/protocol/openid-connect/token/../../../../../admin/realms",
    f"/realms/{REALM}/protocol/openid-connect/token;/../../../../../admin/realms",
    f"/realms/{REALM}/protocol/openid-connect/token%00/admin",
    f"/realms/{REALM}/protocol/openid-connect/token%3f/admin",
    "/resources/x/login/../../../admin/realms",
    "/resources/x/login/..%2f..%2f..%2fadmin/realms",
    "/resources/x/login/a/..;/..;/..;/..;/admin/realms",
    "/resources/x/login/%252e%252e/%252e%252e/%252e%252e/admin/realms",
    "https://{host}/admin/realms",
    "https://{host}/realms/{realm}/protocol/openid-connect/certs",
    "*",
]


def asked(site: Gated, method: str, target: str, *more: str) -> int:
    """The status of a request whose target is sent as it stands."""
    lines = (f"{method} {target} HTTP/1.1", f"Host: {site.gate.gate.host}", "Connection: close", *more)
    answer = raw(site.gate.gate.https_port, *lines)
    return int(answer.split(b" ", 2)[1])


@pytest.mark.parametrize("target", CLOSED)
def test_whatever_is_no_login_is_refused_from_the_public_port(site: Gated, tenant: Tenant, target: str) -> None:
    path = target.replace("{realm}", tenant.realm).replace("{host}", site.gate.gate.host)
    upgraded = ("X-Forwarded-Host: localhost", "X-Forwarded-Prefix: /admin", "X-Original-URL: /admin/realms")
    certificate = ("Client-Cert: :MIIB:", "SSL-Client-Cert: MIIB")
    refused = {400, 403, 404}
    if target == "*":
        assert asked(site, "OPTIONS", path) == 200, "httpd says what it can do, and asks nobody"
        return
    assert asked(site, "GET", path) in refused
    assert asked(site, "GET", path, *upgraded, *certificate) in refused
    assert asked(site, "POST", path, "Content-Length: 0") in refused


def test_what_is_open_takes_no_method_but_a_logins(site: Gated, tenant: Tenant) -> None:
    path = f"/realms/{tenant.realm}/protocol/openid-connect/certs"
    assert asked(site, "GET", path) == 200
    assert {m: asked(site, m, path, "Content-Length: 0") for m in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE")} == {
        "PUT": 403, "DELETE": 403, "PATCH": 403, "OPTIONS": 403, "TRACE": 403
    }  # fmt: skip
    assert asked(site, "CONNECT", "localhost:443") in {400, 403, 405}


def test_administrators_get_the_console_and_log_in_by_their_own_port_alone(site: Gated) -> None:
    with site.administrator() as web:
        page = web.get(ADMIN_PAGE)
        assert page.status_code == 200
        [text] = re.findall(r'<script id="environment" type="application/json">(.*?)</script>', page.text, re.DOTALL)
        environment = json.loads(text)
        assert {environment[k].rstrip("/") for k in ("serverBaseUrl", "adminBaseUrl")} == {site.admin.url}

        bootstrap(web, site.keycloak)
        name = somebody()
        person: dict[str, Any] = {
            "username": name, "email": f"{name}@example.com", "firstName": "A", "lastName": "B", "enabled": True,
            "credentials": [{"type": "password", "value": PASSWORD, "temporary": False}],
        }  # fmt: skip
        made = web.post("/admin/realms/master/users", json=person).raise_for_status().headers["location"]
        assert made.startswith(site.admin.url)
        role = web.get("/admin/realms/master/roles/admin").raise_for_status().json()
        web.post(f"{made}/role-mappings/realm", json=[role]).raise_for_status()
        del web.headers["Authorization"]

        root = Person(site.admin, name, PASSWORD)
        root.web = web
        redirect = f"{site.admin.url}{ADMIN_PAGE}"
        token = root.log_in("master", Client("security-admin-console", "", redirect))
        assert token["iss"] == f"{site.admin.url}/realms/master"


STRONG: dict[str, Callable[[], Key]] = {
    "RSA 2048": lambda: rsa_key(2048),
    "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
}


@pytest.mark.parametrize("kind", STRONG)
def test_a_strong_certificate_from_a_listed_network_is_let_in(site: Gated, kind: str) -> None:
    with site.browser(site.clients.issue("administrator", key=STRONG[kind]())) as web:
        assert web.get("/realms/master").status_code == 200


REFUSED: dict[str, Callable[[Authority, Path], Pair | None]] = {
    "no certificate": lambda *_: None,
    "another authority": lambda *_: Authority("others").issue("administrator"),
    "another authority of the name": lambda *_: Authority("administrators").issue("administrator"),
    "ended": lambda a, _: a.issue("administrator", days=(-2, -1)),
    "not begun": lambda a, _: a.issue("administrator", days=(1, 2)),
    "a server's": lambda a, _: a.issue("administrator", use=SERVER),
    "RSA 1024": lambda a, _: a.issue("administrator", key=rsa_key(1024)),
    "P-224": lambda a, _: a.issue("administrator", key=ec.generate_private_key(ec.SECP224R1())),
    "signed with SHA-1": lambda a, folder: a.issue_by_sha1(folder, "administrator"),
}


def refusals(site: Gated) -> int:
    """Handshakes that failed, by the gate's log."""
    return len([e for e in events(site.gate.log, "httpd") if e.get("code") == "AH02008"])


@pytest.mark.parametrize("kind", REFUSED)
def test_a_certificate_that_does_not_count_opens_nothing(site: Gated, tmp_path: Path, kind: str) -> None:
    before = refusals(site)
    with (
        site.browser(REFUSED[kind](site.clients, tmp_path), strength=0) as web,
        pytest.raises((httpx.ReadError, httpx.ConnectError, httpx.RemoteProtocolError, httpx.WriteError)),
    ):
        web.get("/realms/master")
    until("the log tells of it", lambda: refusals(site) > before)


def test_a_network_that_is_not_listed_gets_nothing_by_any_certificate(site: Gated) -> None:
    with site.browser(site.clients.issue("administrator"), source="127.0.0.1") as web:
        told = {"X-Forwarded-For": LISTED, "X-Real-IP": LISTED, "Forwarded": f"for={LISTED}"}
        for path in (ADMIN_PAGE, "/realms/master", "/resources/x/login/y.css"):
            assert web.get(path).status_code == web.get(path, headers=told).status_code == 403


def test_the_ports_answer_to_their_own_names_and_versions(site: Gated) -> None:
    gate = site.gate.gate
    with site.administrator() as web:
        assert web.get("/realms/master", headers={"Host": gate.host}).status_code == 421
    assert asked(site, "GET", OPEN) == 404, "Keycloak's own answer"
    answer = raw(gate.https_port, "GET /realms/master HTTP/1.1", f"Host: {gate.admin_host}", "Connection: close")
    assert answer.startswith(b"HTTP/1.1 421")

    context = ssl.create_default_context(cafile=str(site.keycloak.authority))
    context.load_cert_chain(*write(site.folder, "client", site.clients.issue("administrator")))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    transport = httpx.HTTPTransport(verify=context, local_address=LISTED)
    with httpx.Client(transport=transport) as web, pytest.raises(httpx.ConnectError):
        web.get(f"{site.admin.url}/realms/master")


def test_no_session_of_tls_is_resumed(site: Gated) -> None:
    """It would be one without a certificate."""
    context = ssl.create_default_context(cafile=str(site.keycloak.authority))
    context.load_cert_chain(*write(site.folder, "client", site.clients.issue("administrator")))

    def ask(session: ssl.SSLSession | None) -> tuple[ssl.SSLSession | None, bool | None]:
        plain = socket.create_connection(("127.0.0.1", site.gate.gate.admin_port), 20, (LISTED, 0))
        with context.wrap_socket(plain, server_hostname="localhost", session=session) as stream:
            stream.sendall(f"GET /realms/master HTTP/1.0\r\nHost: {site.gate.gate.admin_host}\r\n\r\n".encode())
            assert stream.recv(12) == b"HTTP/1.1 200"
            return stream.session, stream.session_reused

    session, _ = ask(None)
    assert ask(session)[1] is False


def test_the_gate_speaks_to_nobody_but_its_identity_server(site: Gated, tenant: Tenant) -> None:
    path = f"/realms/{tenant.realm}/protocol/openid-connect/certs"
    own = (site.authority.folder / "ca.crt").read_bytes()
    site.gate.put("trust", {"ca.crt": Authority("others").pem})
    try:
        assert asked(site, "GET", path) == 500
    finally:
        site.gate.put("trust", {"ca.crt": own})
    # An address is no name.
    site.gate.put("config", {"httpd.conf": render(replace(site.gate.gate, upstream=f"127.0.0.1:{site.keycloak.port}"))})
    try:
        assert asked(site, "GET", path) == 500
    finally:
        site.gate.put("config", {"httpd.conf": render(site.gate.gate)})
    assert asked(site, "GET", path) == 200


@dataclass
class Echo:
    """A gate before somebody who tells what has reached them."""

    gate: GateServer
    behind: Assistant
    web: httpx.Client

    @property
    def request(self) -> list[str]:
        """The first lines of a request for what is open."""
        return [f"GET {OPEN} HTTP/1.1", f"Host: {self.gate.gate.host}"]


@pytest.fixture
def echo(site: Gated, tmp_path: Path) -> Iterator[Echo]:
    behind = Assistant()
    behind.server.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    behind.server.context.load_cert_chain(site.folder / "server.crt", site.folder / "server.key")
    gate = plan(f"localhost:{behind.server.server_address[1]}")
    trusted = ssl.create_default_context(cafile=str(site.keycloak.authority))
    with (
        behind.running(),
        running(tmp_path / "second", gate, site.authority, site.clients.pem) as server,
        httpx.Client(base_url=f"https://{gate.host}", verify=trusted, timeout=30) as web,
    ):
        yield Echo(server, behind, web)


def test_one_client_gets_so_many_requests_and_bodies_of_that_size(echo: Echo) -> None:
    most = b"x" * 2**20
    assert echo.web.post(OPEN, content=most).status_code == 200
    assert echo.web.post(OPEN, content=most + b"x").status_code == 413
    assert echo.web.post(OPEN, content=iter([most, b"x"])).status_code in {400, 413}, "of no length that is told"
    # All on one connection: a busy machine must not need longer for them than the 10 s in which they count.
    lines = ("GET /admin HTTP/1.1", f"Host: {echo.gate.gate.host}", "", "")
    answers = raw(echo.gate.gate.https_port, *lines[:2], body="\r\n".join(lines).encode() * 400)
    assert 290 <= answers.count(b"HTTP/1.1 403") < 300
    assert answers.count(b"HTTP/1.1 429") == 1
    assert b"Retry-After: 10\r\n" in answers


def test_nothing_that_a_client_says_in_the_place_of_the_gate_gets_through(echo: Echo) -> None:
    gate = echo.gate.gate
    lies = {
        "X-Forwarded-For": "203.0.113.9", "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "http",
        "X-Original-URL": "/admin", "X-Forwarded-Port": "1",
        "X-Forwarded-Prefix": "/evil", "X_Forwarded_For": "203.0.113.9",
        "Forwarded": "for=203.0.113.9;host=evil.example", "X-Real-IP": "203.0.113.9",
        "X-Forwarded-Client-Cert": "lie", "Client-Cert": "lie", "Client-Cert-Chain": "lie",
        "SSL-Client-Cert": "lie", "SSL_CLIENT_CERT": "lie", "X-SSL-Client-Cert": "lie",
    }  # fmt: skip
    lines = [f"{name}: {value}" for name, value in lies.items()]
    assert raw(gate.https_port, *echo.request, *lines, "Connection: close").startswith(b"HTTP/1.1 200")
    [seen] = echo.behind.seen
    heard = {k.lower(): v for k, v in seen.headers}
    assert {k: v for k, v in heard.items() if "forwarded" in k or "real" in k or "cert" in k or "url" in k} == {
        "x-forwarded-for": "127.0.0.1",
        "x-forwarded-host": gate.host,
        "x-forwarded-proto": "https",
        "x-forwarded-port": str(gate.https_port),
    }
    # By these words the proxy would take off what it has set.
    for words in ("X-Forwarded-For", "close, X-Forwarded-Port"):
        assert raw(gate.https_port, *echo.request, f"Connection: {words}").startswith(b"HTTP/1.1 400")
    assert len(echo.behind.seen) == 1

    requests = [json.loads(line) for line in echo.gate.log.splitlines() if '"port"' in line]
    assert {r["port"] for r in requests} == {"public"}
    assert set(requests[0]) == {"time", "request", "method", "port", "status", "bytes", "ms"}
    assert "203.0.113.9" not in echo.gate.log
    assert "x-01234567" not in echo.gate.log
