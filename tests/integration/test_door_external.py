"""A real door before an issuer of somebody else's: who gets in where, and what the assistant makes of their token."""

from __future__ import annotations

import asyncio
import base64
import http.server
import json
import secrets
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest
from jwcrypto import jwk, jwt
from keycloak import KeycloakAdmin

from domicile.api.sites import ServedZone
from domicile.controllers.door.door import Assistant as Served
from domicile.controllers.door.door import Claims, Door, Limits, PathRule, Secrets
from domicile.controllers.door.httpd import render_secrets
from domicile.controllers.issuer.issuers import Issuers
from domicile.controllers.tenant import front_door, identity
from domicile.controllers.tenant.view import DoorSecrets, TenantView
from examples.assistant import identity as verifier
from examples.assistant.trust import Trust, parse
from tests.integration import door_server
from tests.integration.apiserver import Authority, free_port
from tests.integration.door_realm import ASSISTANTS, Visitor
from tests.integration.door_server import Assistant, DoorServer, until
from tests.integration.foreign_issuer import CLIENT, FACTOR, PASSWORD, ForeignIssuer
from tests.integration.session_server import session_store
from tests.testbed.keycloak import KeycloakServer
from tests.unit.views import tenant_spec, view, zone_spec

RULES = (PathRule("/reports", ("owner", "manager")),)


@dataclass
class House:
    """An issuer, a door before it, and an assistant behind that door."""

    issuer: ForeignIssuer
    door: DoorServer
    assistant: Assistant
    seen: TenantView
    authority: Authority
    hidden: Secrets
    folder: Path
    stack: ExitStack

    @property
    def home(self) -> str:
        return self.door.url

    @property
    def trust(self) -> Trust:
        """What the assistant is told of who asks."""
        made = identity.config_map(self.seen)
        assert made is not None
        return parse(made["data"]["helpdesk.json"].encode())

    def visitor(self, *groups: str, factor: bool = True) -> Visitor:
        return Visitor(self.issuer.keycloak, self.issuer.user(*groups, factor=factor), PASSWORD)

    def person(self, *groups: str) -> Visitor:
        """Somebody new in these groups, logged in."""
        visitor = self.visitor(*groups)
        visitor.visit(self.home + "/")
        assert visitor.session
        return visitor

    def another(self, door: Door) -> DoorServer:
        """One more door before the same issuer, in place of the first: it has that one's name."""
        folder = self.folder / f"door-{secrets.token_hex(4)}"
        made = door_server.running(folder, door, self.authority, self.hidden, self.issuer.authorities)
        return self.stack.enter_context(made)


def _view(issuer: ForeignIssuer, **changes: Any) -> TenantView:
    """The tenant, as after a look at its issuer."""
    external, approved = issuer.spec(**changes), issuer.approved()
    state = asyncio.run(Issuers().look(external, approved, issuer.authorities, issuer.secret))
    assert state.error is None
    spec = tenant_spec(
        access={"host": "bank.example", "tls": {"secret": "tls"}, "sso": {"external": external.to_wire()}},
        assistants=[{"name": name, "mode": "free", "image": "registry.example/a:1"} for name in ASSISTANTS],
    )
    zone = zone_spec(externalIssuers=[issuer.approval()])
    return view(
        spec,
        zone=ServedZone(name="eu", site="gcp-frankfurt", spec=zone),
        door=DoorSecrets("x" * 32, "p" * 32),
        provider_secrets={"external": issuer.secret},
        issuer=state,
    )


@pytest.fixture(scope="module")
def house(keycloak: KeycloakServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("external")
    with ExitStack() as stack:
        assistant = stack.enter_context(Assistant().running())
        store = stack.enter_context(session_store(folder / "sessions"))
        https, health, spare = free_port(), free_port(), free_port()
        issuer = ForeignIssuer(keycloak)
        issuer.create(f"https://localhost:{https}", f"https://localhost:{spare}")
        seen = _view(issuer)
        made = replace(
            front_door.describe(seen),
            host=f"localhost:{https}",
            assistants=tuple(Served(name, assistant.address, RULES) for name in ASSISTANTS),
            redis=store.address,
            limits=Limits(client_requests=30000, tenant_requests=30000),
            https_port=https,
            health_port=health,
        )
        hidden = Secrets(front_door.client_secret(seen) or "", secrets.token_hex(24), "doors", store.password)
        authority = Authority(keycloak.authority.parent)
        door = stack.enter_context(door_server.running(folder / "door", made, authority, hidden, issuer.authorities))
        yield House(issuer, door, assistant, seen, authority, hidden, folder, stack)


def status(visitor: Visitor, house: House, path: str) -> int:
    return visitor.web.get(house.home + path).status_code


def told(house: House) -> str:
    (token,) = house.assistant.seen[-1].header("Domicile-Identity")
    return token


def test_roles_are_those_of_the_mapping_at_the_door_and_at_the_assistant(house: House) -> None:
    people = {
        "owner": house.person("Bank chiefs (all)"),
        "admin": house.person("ops"),
        "manager": house.person("support"),
        "member": house.person("staff"),
        "nobody": house.person(),
        "others": house.person("Staff", "staff2", "owner", "member", "assistant.helpdesk", "st aff", "Bankchiefs(all)"),
    }
    expected = {
        "/": set(people),
        "/helpdesk/": {"owner", "admin", "manager", "member"},
        "/helpdesk/api/x": {"owner", "admin", "manager", "member"},
        "/sales/": {"owner", "admin", "member"},
        "/helpdesk/reports/q1": {"owner", "manager"},
        "/helpdesk/admin/": {"owner", "admin"},
    }
    found = {path: {n for n, p in people.items() if status(p, house, path) == 200} for path in expected}
    assert found == expected
    for name, roles in (("owner", {"owner"}), ("manager", {"manager", "assistant.helpdesk"}), ("member", {"member"})):
        assert status(people[name], house, "/helpdesk/reports/q1" if name != "member" else "/helpdesk/x") == 200
        asker = verifier.verify(told(house), house.trust)
        assert (asker.issuer, asker.roles) == (house.issuer.issuer, roles)
    token = house.issuer.id_token(people["others"].name, house.home)
    assert verifier.verify(token, house.trust).roles == frozenset()


def test_a_login_without_a_second_factor_opens_nothing(house: House) -> None:
    weak = house.visitor("Bank chiefs (all)", factor=False)
    house.assistant.seen.clear()
    assert weak.visit(house.home + "/helpdesk/").status_code == 403
    assert {status(weak, house, p) for p in ("/", "/sales/", "/helpdesk/api/x", "/helpdesk/admin/")} == {403}
    assert house.assistant.seen == []
    with pytest.raises(verifier.IdentityError, match="not strong enough"):
        verifier.verify(house.issuer.id_token(weak.name, house.home), house.trust)


def test_a_number_is_none_of_the_values(house: House) -> None:
    """Zero least of all, by which some issuers say that there was no second factor."""

    async def say(admin: KeycloakAdmin) -> None:
        level = {"claim.name": "level", "claim.value": "0", "jsonType.label": "int", "id.token.claim": "true"}
        mapper = {"name": "level", "protocol": "openid-connect", "protocolMapper": "oidc-hardcoded-claim-mapper"}
        await admin.a_add_mapper_to_client(await admin.a_get_client_id(CLIENT) or "", mapper | {"config": level})

    house.issuer.ask(say)
    chief = house.person("Bank chiefs (all)")
    assert status(chief, house, "/helpdesk/x") == 200
    assert _claims(told(house))["level"] == 0
    first = house.door.door
    owners = {"owner": ("Bank chiefs (all)",)}
    for wanted in (Claims("level", ("high",), "groups", owners), Claims("amr", (FACTOR,), "level", owners)):
        house.door.configure(replace(first, claims=wanted))
        try:
            # Processes of the config before may take a last request.
            until("the claim counts", lambda: status(chief, house, "/helpdesk/x") == 403, 15)
        finally:
            house.door.configure(first)


def test_acr_is_asked_for_and_what_comes_in_its_place_is_refused(house: House) -> None:
    seen = _view(house.issuer, mfa={"claim": "acr", "values": ["gold", "urn:x:silver"]})
    door = replace(house.door.door, claims=front_door.describe(seen).claims)
    first = house.door.door
    house.door.configure(door)
    try:
        chief = house.visitor("Bank chiefs (all)")
        asked = httpx.URL(chief.web.get(house.home + "/helpdesk/").headers["location"]).params
        assert (asked["acr_values"], asked["max_age"]) == ("gold urn:x:silver", "28800")
        assert chief.visit(house.home + "/helpdesk/").status_code == 403
    finally:
        house.door.configure(first)


def test_tokens_for_others_and_of_others_are_refused_by_the_assistant(house: House) -> None:
    name = house.issuer.user("Bank chiefs (all)")
    good = house.issuer.id_token(name, house.home)
    assert verifier.verify(good, house.trust).roles == {"owner"}
    with pytest.raises(verifier.IdentityError, match="somebody else"):
        verifier.verify(house.issuer.id_token(name, house.home, "other"), house.trust)
    stranger = ForeignIssuer(house.issuer.keycloak)
    stranger.create(house.home)
    with pytest.raises(verifier.IdentityError, match="its key is none"):
        verifier.verify(stranger.id_token(stranger.user("Bank chiefs (all)"), house.home), house.trust)
    with pytest.raises(verifier.IdentityError, match="no signed JWT"):
        verifier.verify(_unsigned(good), house.trust)


def _unsigned(token: str) -> str:
    head = base64.urlsafe_b64encode(json.dumps({"alg": "none", "typ": "JWT"}).encode()).rstrip(b"=").decode()
    return f"{head}.{token.split('.')[1]}."


def _claims(token: str) -> dict[str, Any]:
    part = token.split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return found


def _shared(token: str, secret: str) -> str:
    made = jwt.JWT(header={"alg": "HS256"}, claims=_claims(token))
    made.make_signed_token(jwk.JWK(kty="oct", k=base64.urlsafe_b64encode(secret.encode()).rstrip(b"=").decode()))
    return str(made.serialize())


def _another_key(token: str) -> str:
    made = jwt.JWT(header={"alg": "RS256"}, claims=_claims(token))
    made.make_signed_token(jwk.JWK.generate(kty="RSA", size=2048))
    return str(made.serialize())


@contextmanager
def tampering(house: House, change: list[Callable[[str], str]]) -> Iterator[str]:
    """URL of a token endpoint that hands on what the issuer's says, with its ID token changed."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {k: self.headers[k] for k in ("authorization", "content-type") if k in self.headers}
            answer = httpx.post(real, content=body, headers=headers, verify=trusted, timeout=30)
            said = answer.json()
            assert "id_token" in said, (said, parse_qs(body.decode()).keys())
            said["id_token"] = change[0](said["id_token"])
            text = json.dumps(said).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *args: Any) -> None:
            """Nothing: pytest's output is for the tests."""

    real = house.door.door.endpoints.token
    trusted = ssl.create_default_context(cafile=house.issuer.keycloak.authority)
    name = f"tamper-{secrets.token_hex(4)}"
    house.authority.issue(name, "localhost")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*(house.authority.folder / f"{name}.{kind}" for kind in ("crt", "key")))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"https://localhost:{server.server_address[1]}/token"
    finally:
        server.shutdown()
        server.server_close()


def test_an_id_token_that_is_not_the_issuers_for_us_starts_no_session(house: House) -> None:
    name = house.issuer.user("Bank chiefs (all)")
    others = house.issuer.id_token(name, house.home, "other")
    stranger = ForeignIssuer(house.issuer.keycloak)
    stranger.create(house.home)
    foreign = stranger.id_token(stranger.user("Bank chiefs (all)"), house.home)
    attacks: dict[str, Callable[[str], str]] = {
        "unsigned": _unsigned,
        "signed with the client's secret": lambda token: _shared(token, house.issuer.secret),
        "signed with another key": _another_key,
        "for another client": lambda _: others,
        "of another issuer": lambda _: foreign,
    }
    change: list[Callable[[str], str]] = [lambda token: token]
    first = house.door.door
    house.assistant.seen.clear()
    with tampering(house, change) as url:
        house.door.configure(replace(first, endpoints=replace(first.endpoints, token=url)))
        try:
            honest = Visitor(house.issuer.keycloak, name, PASSWORD)
            honest.visit(house.home + "/helpdesk/x")
            assert [s.path for s in house.assistant.seen] == ["/x"]
            for attack, how in attacks.items():
                change[0] = how
                victim = Visitor(house.issuer.keycloak, name, PASSWORD)
                house.assistant.seen.clear()
                # Where a login fails the module answers with a page of its own.
                victim.visit(house.home + "/helpdesk/x")
                assert status(victim, house, "/helpdesk/api/x") == 401, attack
                assert house.assistant.seen == [], attack
        finally:
            house.door.configure(first)


@pytest.mark.parametrize("issuer", ["another", "none", "a beginning"])
def test_an_answer_of_another_issuer_is_not_taken_to_this_one(house: House, issuer: str) -> None:
    """RFC 9207: whoever mixes up issuers would send this one a code of the other."""
    own = httpx.QueryParams({"iss": house.issuer.issuer})
    swapped = {
        "another": str(httpx.QueryParams({"iss": f"{house.issuer.keycloak.url}/realms/master"})),
        "none": "",
        "a beginning": str(own)[:-1],
    }[issuer]
    victim = house.visitor("staff")
    answers: list[str] = []

    def underway(url: str) -> str:
        if "/oauth2/callback" in url:
            assert str(own) in url
            answers.append(url)
            return url.replace(f"&{own}", f"&{swapped}" if swapped else "")
        return url

    victim.underway = underway
    assert victim.visit(house.home + "/helpdesk/x").status_code == 400
    assert not victim.session
    assert victim.web.get(answers[0]).status_code == 302, "the honest answer still counts"
    assert status(victim, house, "/helpdesk/x") == 200


def test_a_session_ends_with_its_id_token(house: House) -> None:
    async def live(admin: KeycloakAdmin, seconds: str) -> None:
        client = await admin.a_get_client_id(CLIENT)
        found = await admin.a_get_client(client or "")
        attributes = {**found["attributes"], "access.token.lifespan": seconds}
        await admin.a_update_client(client or "", {**found, "attributes": attributes})

    house.issuer.ask(lambda admin: live(admin, "3"))
    try:
        short = house.person("staff")
    finally:
        house.issuer.ask(lambda admin: live(admin, ""))
    until("the session ends", lambda: status(short, house, "/helpdesk/api/x") == 401, 10)
    # The issuer still knows the person, so nobody is asked for anything.
    short.asked.clear()
    assert short.visit(house.home + "/helpdesk/x").status_code == 200
    assert short.asked == []


def test_a_logout_ends_the_session_at_the_issuer_too_and_the_issuers_ends_ours(house: House) -> None:
    ann, bob = house.person("staff"), house.person("staff")
    leave = f"{house.home}/oauth2/callback?logout=https%3A%2F%2Flocalhost%3A{house.door.door.https_port}%2F"
    ann.web.headers["Sec-Fetch-Site"] = "same-origin"
    page = ann.web.get(leave)
    assert page.headers["location"].startswith(house.door.door.endpoints.end_session or "-")
    assert ann.web.get(page.headers["location"]).headers["location"] == f"{house.home}/"
    ann.asked.clear()
    ann.visit(house.home + "/helpdesk/")
    assert ann.asked == ["password"]

    async def log_out(admin: KeycloakAdmin) -> None:
        (user,) = await admin.a_get_users({"username": bob.name, "exact": True})
        await admin.a_user_logout(user["id"])

    assert status(bob, house, "/helpdesk/api/x") == 200
    house.issuer.ask(log_out)
    until("the door has heard of it", lambda: status(bob, house, "/helpdesk/api/x") == 401, 10)


@pytest.mark.parametrize("algorithm", ["ES256", "PS256"])
def test_tokens_by_other_keys_count_where_the_spec_names_them_and_nowhere_else(house: House, algorithm: str) -> None:
    async def sign_by(admin: KeycloakAdmin, how: str) -> None:
        client = await admin.a_get_client_id(CLIENT)
        found = await admin.a_get_client(client or "")
        attributes = {**found["attributes"], "id.token.signed.response.alg": how}
        await admin.a_update_client(client or "", {**found, "attributes": attributes})

    first = house.door.door
    house.issuer.ask(lambda admin: sign_by(admin, algorithm))
    try:
        # The issuer makes the key when it first needs one.
        token = house.issuer.id_token(house.issuer.user("staff"), house.home)
        with pytest.raises(verifier.IdentityError):
            verifier.verify(token, house.trust)
        stranger = house.visitor("staff")
        stranger.visit(house.home + "/helpdesk/x")
        assert not stranger.session
        house.seen, before = _view(house.issuer, algorithm=algorithm), house.seen
        house.door.configure(replace(first, algorithm=algorithm))
        assert stranger.visit(house.home + "/helpdesk/x").status_code == 200
        assert stranger.session
        assert verifier.verify(told(house), house.trust).roles == {"member"}
        house.seen = before
    finally:
        house.issuer.ask(lambda admin: sign_by(admin, ""))
        house.door.configure(first)


def test_another_passphrase_ends_all_sessions(house: House) -> None:
    ann = house.person("staff")
    assert status(ann, house, "/helpdesk/api/x") == 200
    other = replace(house.hidden, passphrase=secrets.token_hex(24))
    house.door.volumes["secrets"].put({"secrets.conf": render_secrets(other)})
    try:
        until("the session is forgotten", lambda: status(ann, house, "/helpdesk/api/x") == 401, 15)
    finally:
        before = len(house.door.events("reloaded"))
        house.door.volumes["secrets"].put({"secrets.conf": render_secrets(house.hidden)})
        until("the old one is back", lambda: len(house.door.events("reloaded")) > before, 15)
