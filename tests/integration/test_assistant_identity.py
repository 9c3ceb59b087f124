"""Who asks the reference assistant, over HTTP: forged identities, swapped keys, stolen cookies, ended sessions."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest
from yarl import URL

from domicile.api.sso import Sso
from domicile.controllers.realm.desired import CALLBACK, CLIENT, Subject, build, realm_name
from domicile.controllers.realm.repair import ensure
from domicile.controllers.realm.server import Account, IdentityServer
from examples.assistant.conversation import CONSENT_VERSION, Conversation, Turn, new_token
from examples.assistant.identity import HEADER, LEEWAY_SECONDS
from tests.identities import ATTACKS, claims, document, sign, token
from tests.integration.assistant_process import (
    ORDER,
    Live,
    Process,
    assistant_process,
    bucket,
    provider_process,
    store_server,
    user_of,
)
from tests.integration.identity_server import Client, Person
from tests.testbed.keycloak import ADMIN_ID, KeycloakServer

NAME = "helpdesk"
PASSWORD = "Correct-Horse-42!"
BOB = "0b0b0b0b-0000-4000-8000-000000000b0b"


class Mount:
    """A ConfigMap's volume: the file is a link through ``..data``, which the kubelet swaps for another folder's."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()
        self.file = folder / "identity.json"
        self.file.symlink_to("..data/identity.json")

    def swap(self, content: bytes | None) -> None:
        """Put other content in place at once; None: the file is gone."""
        version = f"..{secrets.token_hex(4)}"
        (self._folder / version).mkdir()
        if content is not None:
            (self._folder / version / "identity.json").write_bytes(content)
        fresh = self._folder / "..data_tmp"
        fresh.symlink_to(version)
        fresh.rename(self._folder / "..data")

    def trust(self, *kids: str, **changed: Any) -> None:
        """Put in place what the operator would write."""
        self.swap(json.dumps(document(*kids, **changed)).encode())


@dataclass
class House:
    """A store and a model for assistants that ask who is there."""

    live: Live
    provider: Process

    @contextmanager
    def assistant(self, folder: Path, **env: str) -> Iterator[tuple[Process, Mount]]:
        """One that trusts the key ``first``."""
        mount = Mount(folder / "identity")
        mount.trust()
        env = {"ASSISTANT_NAME": NAME, "ASSISTANT_IDENTITY": str(mount.file), **env}
        with assistant_process(self.live, self.provider, folder / "assistant.log", **env) as process:
            yield process, mount


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("house")
    with ExitStack() as stack:
        live = bucket("s3", stack.enter_context(store_server("s3")), "live-1", folder)
        yield House(live, stack.enter_context(provider_process(folder)))


@pytest.fixture(scope="module")
def assistant(house: House, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with house.assistant(tmp_path_factory.mktemp("assistant")) as (process, _):
        yield process


def _get(process: Process, target: str, *identities: str) -> tuple[int, dict[str, Any], str]:
    """Status, error and text of a GET whose target and headers are sent as they are."""
    connection = http.client.HTTPConnection("127.0.0.1", process.port, timeout=10)
    with contextlib.closing(connection):
        connection.putrequest("GET", target, skip_accept_encoding=True)
        for identity in identities:
            connection.putheader(HEADER, identity)
        connection.endheaders()
        response = connection.getresponse()
        text = response.read().decode()
        return response.status, json.loads(text)["error"] if response.status >= 400 else {}, text


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_gets_401_wherever_it_comes(assistant: Process, attack: str) -> None:
    bad = ATTACKS[attack]()
    for target in ("/", "/api/conversation", "/admin/conversations", "/forms/public/a", "/nowhere"):
        status, error, text = _get(assistant, target, bad)
        assert (status, error["code"]) == (401, "session_ended" if attack == "expired" else "bad_identity")
        assert "Log in again" in error["message"]
        assert not any(part and part in text for part in bad.split("."))


def test_several_identities_are_refused(assistant: Process) -> None:
    good = token("owner")
    assert _get(assistant, "/", good)[0] == 200
    for identities in ((good, good), (good, ""), ("", good), (f"{good},{good}",)):
        assert _get(assistant, "/", *identities)[0] == 401


def test_nobody_gets_anything_but_probes_and_public_paths(assistant: Process) -> None:
    for target in ("/", "/api/conversation", "/admin/conversations", "/nowhere", "/healthz/", "/readyz/../api"):
        status, error, _ = _get(assistant, target)
        assert (status, error["code"]) == (401, "no_identity")
    assert [_get(assistant, probe)[0] for probe in ("/healthz", "/readyz")] == [200, 200]
    assert _get(assistant, "/forms/public/a")[0] == 404
    for target in (
        "/forms/public/../../api/conversation",
        "/forms/public/%2e%2e/%2e%2e/api/conversation",
        "/forms/public/..%2f..%2fapi/conversation",
        "/forms/public/%252e%252e/%252e%252e/api/conversation",
        "/forms/public/..;/..;/api/conversation",
        "/forms/publicity",
        "/api/conversation?/forms/public/",
    ):
        assert _get(assistant, target)[0] == 401, target


def test_roles_say_who_may_use_the_assistant(assistant: Process) -> None:
    for role in ("owner", "admin", "member", f"assistant.{NAME}"):
        assert _get(assistant, "/", token(role))[0] == 200
    for role in ("manager", "assistant.sales", "assistant.", "nobody"):
        status, error, _ = _get(assistant, "/", token(role))
        assert (status, error["code"]) == (403, "forbidden")


def test_keys_rotate_and_a_broken_file_closes(house: House, tmp_path: Path) -> None:
    with house.assistant(tmp_path) as (process, mount):

        def seen(kid: str) -> int:
            return _get(process, "/", sign(claims(), kid))[0]

        assert (seen("first"), seen("second")) == (200, 401)
        mount.trust("first", "second")
        assert (seen("first"), seen("second")) == (200, 200)
        mount.trust("second")
        assert (seen("first"), seen("second")) == (401, 200)
        for broken in (None, b"", b"{", json.dumps(document(jwks={"keys": []})).encode()):
            mount.swap(broken)
            for target in ("/", "/forms/public/a", "/api/conversation"):
                status, error, _ = _get(process, target, sign(claims(), "second"))
                assert (status, error["code"]) == (503, "identity_unavailable")
                assert "identity file" in error["message"]
            assert _get(process, "/readyz")[0] == 200
        mount.trust("second", acr="strong")
        assert (seen("second"), _get(process, "/", sign(claims(acr="strong"), "second"))[0]) == (401, 200)
        log = process.log.read_text()
    assert "ASSISTANT_IDENTITY: it can't be read" in log
    assert claims()["sub"] not in log


async def test_a_stolen_cookie_opens_nothing(house: House, assistant: Process) -> None:
    async with user_of(assistant, **{HEADER: token()}) as ann, user_of(assistant, **{HEADER: token(sub=BOB)}) as bob:
        await ann.consent(True)
        assert (await ann.ask(ORDER))["recorded"]
        session = (await ann.call("GET", "/api/conversation"))["session"]
        bob.http.cookie_jar.update_cookies({c.key: c.value for c in ann.http.cookie_jar}, URL(assistant.url))
        for method, path, body in (
            ("GET", "/api/conversation", None),
            ("DELETE", "/api/conversation", None),
            ("POST", "/api/chat", {"message": "What was my order number?"}),
            ("POST", "/api/consent", {"recording": False, "version": CONSENT_VERSION}),
        ):
            error = (await bob.call(method, path, body, 401))["error"]
            assert error["code"] == "no_session"
        ann.http.headers[HEADER] = token("owner", exp=int(time.time()) + 60)
        assert [t["question"] for t in (await ann.call("GET", "/api/conversation"))["turns"]] == [ORDER]
        for name in house.live.names():
            assert claims()["sub"] not in name
            assert claims()["sub"].encode() not in house.live.store.read(name)
        await ann.call("DELETE", "/api/conversation")
    assert [n.rpartition("/")[2] for n in house.live.names() if session in n] == [
        "consent-000001.json",
        "consent-000002.json",
    ]


async def test_an_answer_ends_soon_after_its_askers_token(house: House, tmp_path: Path) -> None:
    with (
        provider_process(tmp_path, PROVIDER_WORD_SECONDS="1") as slow,
        House(house.live, slow).assistant(tmp_path) as (process, _),
    ):
        async with user_of(process, **{HEADER: token()}) as user:
            await user.consent(True)
            expires = int(time.time()) + 2 - LEEWAY_SECONDS
            user.http.headers[HEADER] = token(exp=expires)
            whole, events = await asyncio.gather(
                user.ask("How long can I return goods?", 401), _all(user.stream("Until when can I return goods?"))
            )
            late = time.time() - expires - LEEWAY_SECONDS
            assert whole["error"]["code"] == "session_ended"
            assert [name for name, _ in events[:-1]] == ["delta"] * (len(events) - 1)
            assert (events[-1][0], events[-1][1]["code"]) == ("error", "session_ended")
            assert 0 <= late < 2
            await user.ask("How long can I return goods?", 401)
            user.http.headers[HEADER] = token()
            assert (await user.call("GET", "/api/conversation"))["turns"] == []


async def _all(events: AsyncIterator[tuple[str, dict[str, Any]]]) -> list[tuple[str, dict[str, Any]]]:
    return [event async for event in events]


async def _lines(response: aiohttp.ClientResponse) -> list[dict[str, Any]]:
    return [json.loads(line) async for line in response.content]


async def test_owners_and_admins_export_what_is_recorded_and_nobody_else_does(house: House, tmp_path: Path) -> None:
    live = bucket("s3", house.live.server, "live-2", tmp_path)
    with House(live, house.provider).assistant(tmp_path) as (process, _):
        async with user_of(process, **{HEADER: token()}) as ann, user_of(process, **{HEADER: token(sub=BOB)}) as bob:
            for user in (ann, bob):
                await user.consent(True)
                for number in range(10):
                    assert (await user.ask(f"How long can I return goods {number}?"))["recorded"]
            kept = (await ann.call("GET", "/api/conversation"))["session"]
            await bob.call("DELETE", "/api/conversation")
            url = f"{process.url}/admin/conversations"
            for role in ("owner", "admin"):
                async with ann.http.get(url, headers={HEADER: token(role)}) as response:
                    assert (response.status, response.content_type) == (200, "application/x-ndjson")
                    found = await _lines(response)
                assert [f["name"] for f in found] == [f"conversations/{kept}/{n:06d}.json" for n in range(1, 11)]
                assert [f["question"] for f in found] == [f"How long can I return goods {n}?" for n in range(10)]
                assert all(f.keys() == {"name", "time", "question", "answer", "sources"} for f in found)
            for roles in (("member",), ("manager", f"assistant.{NAME}"), (f"assistant.{NAME}",)):
                async with ann.http.get(url, headers={HEADER: token(*roles)}) as response:
                    assert response.status == 403
                    assert "owner and admin" in (await response.json())["error"]["message"]
            await ann.call("DELETE", "/api/conversation")
            async with ann.http.get(url, headers={HEADER: token("owner")}) as response:
                assert await _lines(response) == []


async def test_an_export_that_breaks_off_says_so(house: House, tmp_path: Path) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(store_server("s3"))
        live = bucket("s3", server, "live-1", tmp_path)
        process, _ = stack.enter_context(House(live, house.provider).assistant(tmp_path))
        _record(live, turns=400, chars=30_000)
        async with (
            aiohttp.ClientSession(headers={HEADER: token("owner")}, read_bufsize=32768) as web,
            web.get(f"{process.url}/admin/conversations") as response,
        ):
            assert response.status == 200
            assert json.loads(await response.content.readline())["question"] == "q"
            server.process.kill()
            server.process.wait(10)
            found = await _lines(response)
            assert 0 < len(found) < 399
            assert found[-1]["error"]["code"] == "store_unavailable"
            async with web.get(f"{process.url}/admin/conversations") as again:
                assert again.status == 503


def _record(live: Live, turns: int, chars: int) -> None:
    conversation = Conversation(live.store, new_token())
    assert conversation.append(Turn("q", "a" * chars), conversation.decide(True, CONSENT_VERSION))
    copy = live.store.read(conversation.turn_name(1))
    for number in range(2, turns + 1):
        live.store.create(conversation.turn_name(number), copy)


async def test_without_single_sign_on_nothing_is_asked_and_nothing_is_privileged(house: House, tmp_path: Path) -> None:
    with assistant_process(house.live, house.provider, tmp_path / "assistant.log") as process:
        async with user_of(process) as user:
            assert "30 days" in (await user.ask("How long can I return goods?"))["answer"]
        assert _get(process, "/admin/conversations", token("owner"))[0] == 404


async def test_behind_a_prefix_the_cookie_stays_below_it(assistant: Process) -> None:
    async with aiohttp.ClientSession(headers={HEADER: token()}) as web:
        for prefix, path in (("/helpdesk", "/helpdesk/"), ("/helpdesk/", "/helpdesk/"), ("", "/")):
            for method, target in (("POST", "/api/sessions"), ("DELETE", "/api/conversation")):
                async with web.request(
                    method,
                    f"{assistant.url}{target}",
                    headers={"X-Forwarded-Prefix": prefix, "Cookie": f"assistant_session={new_token()}"},
                ) as response:
                    assert response.ok
                    assert response.headers["Set-Cookie"].partition("Path=")[2].partition(";")[0] == path
        for prefix in ("helpdesk", "/a;Domain=evil.example", "//evil.example", "/a b"):
            async with web.post(f"{assistant.url}/api/sessions", headers={"X-Forwarded-Prefix": prefix}) as response:
                assert response.status == 400
                assert "Set-Cookie" not in response.headers


class Realm:
    """A tenant's realm on the identity server, with one person in it."""

    def __init__(self, keycloak: KeycloakServer, server: IdentityServer) -> None:
        self._keycloak, self._server = keycloak, server
        tenant_id = secrets.token_hex(16)
        self.name = realm_name("acme", tenant_id)
        self.issuer = f"{keycloak.url}/realms/{self.name}"
        self._subject = Subject("acme", tenant_id, (NAME,), "acme.example", secrets.token_hex(16), {})
        self._client = Client(CLIENT, self._subject.client_secret, f"https://acme.example{CALLBACK}")
        self.person = Person(keycloak, "ann", PASSWORD)

    async def create(self, *roles: str) -> None:
        """Make the realm as the operator would, and the person with these roles."""
        async with self._server.realm(self.name) as admin:
            await ensure(admin, build(self._subject, Sso(local_users=True)), {}, changed=False)
            user = await admin.a_create_user(
                {
                    "username": "ann",
                    "email": "ann@acme.example",
                    "emailVerified": True,
                    "firstName": "Ann",
                    "lastName": "One",
                    "enabled": True,
                    "credentials": [{"type": "password", "value": PASSWORD, "temporary": False}],
                }
            )
            await admin.a_assign_realm_roles(user, [await admin.a_get_realm_role(r) for r in roles])

    async def rotate(self) -> None:
        """Have the realm sign with a new key from now on."""
        async with self._server.realm(self.name) as admin:
            await admin.a_create_component(
                {
                    "name": "next",
                    "providerId": "rsa-generated",
                    "providerType": "org.keycloak.keys.KeyProvider",
                    "config": {"priority": ["200"]},
                }
            )

    async def log_in(self) -> str:
        """The ID token of a fresh login with both factors."""
        self.person = self.person.elsewhere()
        return await asyncio.to_thread(self.person.id_token, self.name, self._client)

    def document(self) -> dict[str, Any]:
        """What the operator would mount."""
        url = f"{self.issuer}/protocol/openid-connect/certs"
        keys = httpx.get(url, verify=str(self._keycloak.authority), timeout=30).json()
        return document(issuer=self.issuer, jwks=keys)


@asynccontextmanager
async def _realm(keycloak: KeycloakServer, *roles: str) -> AsyncIterator[Realm]:
    server = IdentityServer(
        keycloak.url, Account(client_id=ADMIN_ID, client_secret=keycloak.admin_secret), str(keycloak.authority)
    )
    realm = Realm(keycloak, server)
    await realm.create(*roles)
    try:
        yield realm
    finally:
        async with server.realm(realm.name) as admin:
            await admin.a_delete_realm(realm.name)
        await server.close()


async def test_a_real_login_counts_in_its_own_tenant_and_through_a_rotation(
    keycloak: KeycloakServer, house: House, tmp_path: Path
) -> None:
    async with _realm(keycloak, "member") as realm, _realm(keycloak, "owner") as other:
        with house.assistant(tmp_path) as (process, mount):
            mount.swap(json.dumps(realm.document()).encode())
            good, foreign = await realm.log_in(), await other.log_in()
            async with user_of(process, **{HEADER: good}) as user:
                assert "30 days" in (await user.ask("How long can I return goods?"))["answer"]
            assert _get(process, "/admin/conversations", good)[0] == 403
            assert _get(process, "/", foreign)[0] == 401

            await realm.rotate()
            fresh = await realm.log_in()
            assert (_get(process, "/", good)[0], _get(process, "/", fresh)[0]) == (200, 401)
            mount.swap(json.dumps(realm.document()).encode())
            assert (_get(process, "/", good)[0], _get(process, "/", fresh)[0]) == (200, 200)
