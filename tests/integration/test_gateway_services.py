"""Services that are no models: any JSON to a host of the tenant's list, looked at in whole."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from base64 import b64encode, encodebytes
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from domicile.controllers.pki import leaf
from domicile.controllers.pki.authority import bundle
from domicile.controllers.pki.leaf import Holder
from tests.integration.gateway_estate import ASSISTANT, SECRET, SERVICE, Estate, estate
from tests.pods import PODS, calling, mounted

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROUTE = f"/domicile/services/{SERVICE}"
ASKED = "Frau Erika Mustermann, erika@example.com, DE02120300000000202051"
HIDDEN = (b"rika", b"Mustermann", b"DE0212", b"4111")


@contextlib.asynccontextmanager
async def proxy(folder: Path) -> AsyncIterator[tuple[str, list[str], dict[str, int]]]:
    """An egress proxy: its URL, what it was asked for, and the ports that it knows for names."""
    asked: list[str] = []
    ports: dict[str, int] = {}

    async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[0].decode())
        there, back = await asyncio.open_connection("127.0.0.1", ports[asked[-1].split()[1]])
        writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")

        async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while piece := await source.read(65536):
                sink.write(piece)
            sink.close()

        await asyncio.gather(copy(reader, back), copy(there, writer), return_exceptions=True)

    files = mounted(folder, Holder("domicile-system", "domicile-egress", "", ("localhost",), calls=False))
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(files / leaf.CERTIFICATE, files / leaf.KEY)
    async with await asyncio.start_server(tunnel, "127.0.0.1", 0, ssl=serving) as server:
        yield f"https://localhost:{server.sockets[0].getsockname()[1]}", asked, ports


@dataclass
class Way:
    """Where the gateway finds the service, and what the proxy was asked for."""

    config: dict[str, Any]
    tunnels: list[str]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def both(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Estate, Way]]:
    folder = tmp_path_factory.mktemp("services")
    async with proxy(folder / "proxy") as (url, asked, ports), estate(folder, start=False) as made:
        roots = made.folder / "roots.pem"
        roots.write_bytes(roots.read_bytes() + bundle((PODS,)))
        (made.folder / "keys" / "egress").write_text("bank:of the proxy\n")
        ports[f"{SERVICE}:443"] = int(made.provider.url.split(":")[2].partition("/")[0])
        way = Way({"services": [{"host": SERVICE, "until": "2099-01-01"}], "egress": url}, asked)
        made.write(**way.config)
        await made.start()
        yield made, way


@pytest.fixture
def way(both: tuple[Estate, Way]) -> Way:
    both[1].tunnels.clear()
    return both[1]


@pytest.fixture
def house(both: tuple[Estate, Way], way: Way) -> Estate:
    made = both[0]

    async def repeat(_: web.Request) -> web.Response:
        return web.json_response({"said": made.provider.seen[-1].body, "list": [1, None, "x"]})

    made.provider.forget()
    made.provider.handler = repeat
    return made


async def test_a_service_gets_placeholders_and_its_answer_values(house: Estate, way: Way) -> None:
    body = {
        "text": ASKED,
        "deep": [{"Erika Mustermann": {"card": 4111111111111111, "n": 1.5, "on": True, "none": None}}],
        "json": json.dumps({"inner": json.dumps({"who": ASKED})}),
        "escaped": '{"a": "\\u0045rika Mustermann"}',
        "stream": False,
        "vector": [0.25, 0.0, 1, -1] * 100,
        "link": f"https://www.example.org/{'path/' * 12}page.html?q=1",
        "prose": "Die Donaudampfschifffahrtsgesellschaft. " * 40,
    }
    status, answer = await house.post(f"{ROUTE}/v1/models:predict", body, Authorization="Bearer erika", Cookie="a=rika")
    assert status == 200, answer
    [seen] = house.provider.seen
    assert seen.path == "/v1/models:predict"
    assert not [word for word in HIDDEN if word in house.provider.received]
    assert seen.headers.keys() == {"Host", "Content-Type", "Content-Length", "Accept", "Accept-Encoding", "Connection"}
    assert seen.headers["Host"] == SERVICE
    assert SECRET.encode() not in house.provider.received
    assert way.tunnels == [f"CONNECT {SERVICE}:443 HTTP/1.1"]
    said = answer["said"]
    assert (said["text"], answer["list"]) == (ASKED, [1, None, "x"])
    assert said["deep"] == [{"Erika Mustermann": {"card": "4111111111111111", "n": 1.5, "on": True, "none": None}}]
    line = await house.line()
    assert (line["route"], line["status"]) == ("/v1/domicile/services/{host}/{path}", 200)
    assert line["provider"] == "api-acme-example"
    assert line["tokens"] > 0
    assert line["found"]["IBAN"] >= 1


async def _taken(house: Estate, **config: Any) -> None:
    house.told.clear()
    house.write(**config)
    await house.until_told("a new config is taken")


async def test_a_service_is_shown_its_own_key(house: Estate, way: Way) -> None:
    service = {"host": SERVICE, "until": "2099-01-01", "header": "X-Api-Key"}
    file = house.folder / "keys" / f"{SERVICE}.service"
    try:
        await _taken(house, **way.config | {"services": [service]})
        status, answer = await house.post(f"{ROUTE}/v1/x", {"text": "hello"})
        assert (status, answer["error"]["code"]) == (502, "provider_misconfigured")
        assert not house.provider.seen
        file.write_text("of the service\n")
        status, answer = await house.post(f"{ROUTE}/v1/x", {"text": "hello"}, **{"X-Api-Key": "of the assistant"})
        assert status == 200, answer
        assert house.provider.seen[-1].headers["X-Api-Key"] == "of the service"
        assert "Authorization" not in house.provider.seen[-1].headers
        assert SECRET.encode() not in house.provider.received
    finally:
        file.unlink(missing_ok=True)
        await _taken(house, **way.config)
    assert (await house.post(f"{ROUTE}/v1/x", {"text": "hello"}))[0] == 200
    assert "X-Api-Key" not in house.provider.seen[-1].headers


PATHS = (
    "", "/", "/v1/", "//v1", "/v1//x", "/.", "/..", "/v1/..", "/v1/../x", "/v1/./x", "/%2e%2e/x", "/v1%2fx", "/v1;x",
    "/v1/a;b", "/v1?x=1", "/v1#x", "/v1\\x", "/v1/\u00e4", "/@x", "/v1/x:y@z/%0d%0aX:1", "/a b", "/" + "a/" * 16 + "a",
    "/v1/{id}", "/v1/...;",
)  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
async def test_a_path_that_could_be_read_in_two_ways_is_refused(house: Estate, way: Way, path: str) -> None:
    """As raw bytes: a client of its own would mend some of them."""
    reader, writer = await asyncio.open_connection("localhost", house.port, ssl=calling(ASSISTANT))
    head = (
        f"POST /v1{ROUTE}{path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}"
    )
    writer.write(head.encode())
    async with asyncio.timeout(20):
        assert (await reader.readline()).split()[1] in {b"400", b"404"}
    writer.close()
    assert house.provider.seen == []
    assert way.tunnels == []


HOSTS = (
    "other.acme.example", "acme.example", f"{SERVICE}.", SERVICE.upper(), f"{SERVICE}:443", f"{SERVICE}:8443",
    f"a@{SERVICE}", f"{SERVICE}%00", f"{SERVICE}%2f", "127.0.0.1", "localhost", "[::1]", "..", f"{SERVICE}@localhost",
    f"{SERVICE},localhost",
)  # fmt: skip


@pytest.mark.parametrize("host", HOSTS)
async def test_no_other_host_is_reached(house: Estate, way: Way, host: str) -> None:
    status, answer = await house.post(f"/domicile/services/{host}/v1/x", {})
    assert (status, answer["error"]["code"]) in {
        (404, "service_not_found"), (400, "invalid_path"), (404, "unknown_route"),
    }  # fmt: skip
    assert house.provider.seen == []
    assert way.tunnels == []


REFUSED: dict[str, tuple[str, Any, dict[str, str], int, str]] = {
    "a name in the path": ("/v1/Erika%20", {}, {}, 400, "invalid_path"),
    "an address in the path": ("/v1/DE02120300000000202051", {}, {}, 422, "personal_data"),
    "capitals of the path": ("/customers/FrauErikaMustermann/my/name/isErika", {}, {}, 422, "personal_data"),
    "words of the path": ("/customers/Erika-Mustermann/Erika", {}, {}, 422, "personal_data"),
    "analyser": ("/v1", {"a": "ANALYSER-DOWN"}, {}, 503, "analyzer_unavailable"),
    "analyser at a key": ("/v1", {"ANALYSER-DOWN": 1}, {}, 503, "analyzer_unavailable"),
    "a key twice": ("/v1", b'{"a": 1, "a": "Erika Mustermann"}', {}, 400, "invalid_json"),
    "NaN": ("/v1", b'{"a": NaN}', {}, 400, "invalid_json"),
    "half a pair": ("/v1", b'{"a": "\\ud800"}', {}, 400, "invalid_json"),
    "no UTF-8": ("/v1", b'{"a": "\xff"}', {}, 400, "invalid_json"),
    "a list": ("/v1", b"[]", {}, 400, "invalid_json"),
    "nothing": ("/v1", b"", {}, 400, "invalid_json"),
    "deep": ("/v1", b'{"a":' + b"[" * 50_000 + b"]" * 50_000 + b"}", {}, 400, "invalid_json"),
    "a recording": ("/v1", {"audio": {"content": b64encode(bytes(range(96))).decode()}}, {}, 400, "content_refused"),
    "a picture": ("/v1", {"a": ["data:image/png;base64," + "A" * 200]}, {}, 400, "content_refused"),
    "lines of bytes": ("/v1", {"a": encodebytes(bytes(200)).decode()}, {}, 400, "content_refused"),
    "bytes in JSON": ("/v1", {"a": '{"b": "' + "\\/9j4AAQSkZJRg" * 12 + '"}'}, {}, 400, "content_refused"),
    "bytes as a key": ("/v1", {"ab" * 64: 1}, {}, 400, "content_refused"),
    "hexadecimal": ("/v1", {"a": bytes(64).hex()}, {}, 400, "content_refused"),
    "bytes as numbers": ("/v1", {"a": [{"b": [*b"Erika Mustermann wohnt in Quakenbr"]}]}, {}, 400, "content_refused"),
    "tokens": ("/v1", {"a": [1000.5, *range(1000, 1033)]}, {}, 400, "content_refused"),
    "tokens in rows": ("/v1", {"a": [[*range(1000, 1020)], [*range(1000, 1020)]]}, {}, 400, "content_refused"),
    "bytes by place": ("/v1", {"a": {str(n): n for n in range(2, 40)}}, {}, 400, "content_refused"),
    "a voice": ("/v1", {"a": [n / 8191 for n in range(2, 5000)]}, {}, 400, "content_refused"),
    "bytes in a list": ("/v1", {"a": encodebytes(bytes(300)).decode().split()}, {}, 400, "content_refused"),
    "bytes in the path": (f"/v1/{'abcdefgh' * 17}", {}, {}, 400, "content_refused"),
    "tokens with a point": ("/v1", {"a": [float(n) for n in range(2, 35)]}, {}, 400, "content_refused"),
    "a form": ("/v1", {}, {"Content-Type": "application/x-www-form-urlencoded"}, 415, "unsupported_content_type"),
    "text": ("/v1", {}, {"Content-Type": "text/plain"}, 415, "unsupported_content_type"),
    "gzip": ("/v1", {}, {"Content-Encoding": "gzip"}, 415, "unsupported_content_encoding"),
    "10 MB": ("/v1", b'{"a": "' + b"x" * 10_000_000 + b'"}', {}, 413, "body_too_large"),
    "a conversation": ("/v1", {}, {"Domicile-Conversation": "a b"}, 400, "invalid_conversation"),
}


@pytest.mark.parametrize("why", REFUSED)
async def test_what_can_t_be_looked_at_reaches_no_service(house: Estate, way: Way, why: str) -> None:
    path, body, headers, status, code = REFUSED[why]
    got, answer = await house.post(ROUTE + path, body, **headers)
    assert (got, answer["error"]["code"]) == (status, code)
    assert "rika" not in json.dumps(answer)
    assert house.provider.seen == []


async def test_other_methods_have_no_route(house: Estate, way: Way) -> None:
    for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS"):
        answer = await house.http.request(method, f"{house.url}{ROUTE}/v1")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_route")
    assert way.tunnels == []


ANSWERS: dict[str, tuple[web.Response, int, str]] = {
    "events": (web.Response(text="data: {}\n\n", content_type="text/event-stream"), 502, "provider_broken"),
    "text": (web.Response(text="{}", content_type="text/plain"), 502, "provider_broken"),
    "no JSON": (web.Response(text="Erika", content_type="application/json"), 502, "provider_broken"),
    "redirect": (web.Response(status=307, headers={"Location": "https://localhost/x"}), 502, "provider_broken"),
    "refused": (web.Response(status=404, text="Erika"), 400, "provider_refused"),
    "failed": (web.Response(status=500, text="Erika"), 502, "provider_failed"),
    "too many": (web.Response(status=429), 429, "provider_rate_limit"),
}


@pytest.mark.parametrize("why", ANSWERS)
async def test_an_answer_that_is_no_json_is_not_passed_on(house: Estate, way: Way, why: str) -> None:
    made, status, code = ANSWERS[why]

    async def handle(request: web.Request) -> web.Response:
        return web.Response(status=made.status, body=made.body, headers=made.headers)

    house.provider.handler = handle
    got, answer = await house.post(f"{ROUTE}/v1", {"stream": True})
    assert (got, answer["error"]["code"]) == (status, code)
    assert "Erika" not in json.dumps(answer)
    assert len(house.provider.seen) == 1


async def test_budgets_and_conversations_are_those_of_questions(house: Estate, way: Way) -> None:
    """The store of both is away here: what needs it is not sent."""
    status, answer = await house.post(f"{ROUTE}/v1", {"a": ASKED}, **{"Domicile-Conversation": "c1"})
    assert (status, answer["error"]["code"]) == (503, "store_unavailable")
    await _taken(house, **way.config | {"limits": {"requestsPerDay": 1}})
    status, answer = await house.post(f"{ROUTE}/v1", {"a": "a"})
    assert (status, answer["error"]["code"]) == (503, "store_unavailable")
    assert way.tunnels == []


async def test_a_contract_that_ended_and_mode_structured_stop_it(house: Estate, way: Way) -> None:
    structured = [{"id": ASSISTANT.id, "mode": "structured", "intents": [{"name": "a", "phrases": ["a"]}]}]
    for changes, status, code in (
        ({"services": [{"host": SERVICE, "until": "2026-01-01"}]}, 404, "service_not_found"),
        ({"services": []}, 404, "service_not_found"),
        ({"callers": structured}, 422, "intent_unknown"),
    ):
        await _taken(house, **way.config | changes)
        got, answer = await house.post(f"{ROUTE}/v1", {"a": "a"})
        assert (got, answer["error"]["code"]) == (status, code)
        assert way.tunnels == []
