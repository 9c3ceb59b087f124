"""The gateway before providers that hang, lie, drop and fail: nobody takes half an answer for a whole one."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
import pytest_asyncio
from aiohttp import web

from domicile.controllers.pki.authority import Authority, bundle
from domicile.controllers.pki.leaf import Holder
from domicile.credentials import Credentials
from tests.integration.apiserver import free_port
from tests.integration.gateway_estate import ASSISTANT, BEHIND, GATEWAY, Estate, estate
from tests.integration.gateway_provider import Provider, chat, chunks, provider
from tests.pods import PODS, authority, calling, mounted

pytestmark = pytest.mark.asyncio(loop_scope="module")

SAY: Any = [{"role": "user", "content": "Guten Tag"}]
GOOD: dict[str, Any] = {"model": "small", "messages": SAY}
STREAM = GOOD | {"stream": True}
EVENTS = {"Content-Type": "text/event-stream"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Estate]:
    async with estate(tmp_path_factory.mktemp("gateway"), limits=LIMITS) as made:
        yield made


LIMITS = {"silenceSeconds": 1.0, "connectSeconds": 2.0, "answerBytes": 200_000, "streams": 300}


@pytest.fixture(autouse=True)
def fresh(request: pytest.FixtureRequest) -> None:
    if "house" in request.fixturenames:
        house: Estate = request.getfixturevalue("house")
        house.provider.forget()


def answering(body: bytes, status: int = 200, **headers: str) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(body=body, status=status, headers=headers)

    return handler


def streaming(
    *pieces: bytes, hang: bool = False, drop: bool = False
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handler(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers=EVENTS)
        await answer.prepare(request)
        for piece in pieces:
            await answer.write(piece)
        if hang:
            await asyncio.Event().wait()
        if drop:
            assert request.transport is not None
            request.transport.close()
        return answer

    return handler


async def hang(_: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError


def data(*chunks: str) -> bytes:
    return "".join(f"data: {chunk}\n\n" for chunk in chunks).encode()


HALF = data(*chunks("Guten Tag")[:4])
JSON = {"Content-Type": "application/json"}
LEAK = b"the key sk-123 of Erika"
BROKEN: dict[str, tuple[Any, dict[str, Any], int, str]] = {
    "hangs": (hang, GOOD, 504, "provider_timeout"),
    "hangs before a stream": (hang, STREAM, 504, "provider_timeout"),
    "says no": (answering(LEAK, 400), GOOD, 400, "provider_refused"),
    "does not take the key": (answering(LEAK, 401), GOOD, 502, "provider_refused_key"),
    "has enough": (answering(LEAK, 429), GOOD, 429, "provider_rate_limit"),
    "fails": (answering(LEAK, 500), GOOD, 502, "provider_failed"),
    "leads elsewhere": (answering(b"", 302, Location="/v1/elsewhere"), GOOD, 502, "provider_broken"),
    "HTML": (answering(LEAK, **{"Content-Type": "text/html"}), GOOD, 502, "provider_broken"),
    "JSON for a stream": (answering(json.dumps(chat("x")).encode(), **JSON), STREAM, 502, "provider_broken"),
    "a stream for JSON": (streaming(HALF), GOOD, 502, "provider_broken"),
    "no JSON": (answering(LEAK, **JSON), GOOD, 502, "provider_broken"),
    "an error with 200": (answering(b'{"error": {"message": "Erika"}}', **JSON), GOOD, 502, "provider_broken"),
    "huge": (answering(b'"' + b"x" * 300_000 + b'"', **JSON), GOOD, 502, "answer_too_large"),
    "deep": (answering(b'{"a":' + b"[" * 90_000 + b"]" * 90_000 + b"}", **JSON), GOOD, 502, "provider_broken"),
    "half of a pair": (answering(b'{"choices": ["\\ud800"]}', **JSON), GOOD, 502, "provider_broken"),
    "no events": (streaming(b"<html>\n\n"), STREAM, 502, "provider_failed"),
    "an event that is no JSON": (streaming(data("Erika")), STREAM, 502, "provider_broken"),
    "no UTF-8": (streaming(b"data: \xff\n\n"), STREAM, 502, "provider_broken"),
    "a long line": (streaming(b"data: " + b"x" * 300_000), STREAM, 502, "answer_too_large"),
    "compressed": (answering(b"x", **JSON, **{"Content-Encoding": "br"}), GOOD, 502, "provider_broken"),
}


@pytest.mark.parametrize("how", BROKEN)
async def test_a_provider_that(house: Estate, how: str) -> None:
    house.provider.handler, body, status, code = BROKEN[how]
    answer = await house.http.post(f"{house.url}/chat/completions", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert "Erika" not in answer.text
    assert "sk-123" not in answer.text
    assert len(house.provider.seen) == 1


WITHIN = {
    "hangs": (streaming(HALF, hang=True), "provider_timeout"),
    "drops": (streaming(HALF, drop=True), "provider_failed"),
    "ends early": (streaming(HALF), "provider_failed"),
    "reports an error": (streaming(HALF, data('{"error": {"message": "Erika"}}')), "provider_broken"),
    "is huge": (streaming(HALF, *[HALF] * 400), "answer_too_large"),
}


@pytest.mark.parametrize("how", WITHIN)
async def test_a_stream_that_breaks_off_says_so_and_has_no_end(house: Estate, how: str) -> None:
    house.provider.handler, code = WITHIN[how]
    got = b""
    async with house.http.stream("POST", f"{house.url}/chat/completions", json=STREAM) as answer:
        assert answer.status_code == 200
        broken = False
        try:
            async for piece in answer.aiter_bytes():
                got += piece
        except httpx2.RemoteProtocolError:
            broken = True
    assert broken
    assert b"[DONE]" not in got
    last = got.rstrip().rpartition(b"\n\n")[2]
    assert last.startswith(b"event: error\ndata: ")
    assert json.loads(last.partition(b"data: ")[2])["error"]["code"] == code
    assert b"Erika" not in got
    line = await house.line()
    assert (line["status"], line["code"]) == (200, code)


async def test_the_real_client_raises_where_a_stream_breaks_off(house: Estate) -> None:
    house.provider.handler = streaming(HALF, drop=True)
    stream = await house.client.chat.completions.create(model="small", messages=SAY, stream=True)
    with pytest.raises(openai.APIError):
        _ = [chunk async for chunk in stream]


async def test_comments_keep_a_connection_open(house: Estate) -> None:
    house.provider.handler = streaming(b": erika\n\n", data(*chunks("Tag"), "[DONE]"))
    answer = await house.http.post(f"{house.url}/chat/completions", json=STREAM)
    assert "erika" not in answer.text
    assert answer.text.endswith("data: [DONE]\n\n")


async def test_when_the_client_goes_the_provider_is_left(house: Estate) -> None:
    house.provider.handler = streaming(HALF, hang=True)
    async with house.http.stream("POST", f"{house.url}/chat/completions", json=STREAM) as answer:
        await anext(answer.aiter_bytes())
    async with asyncio.timeout(10):
        await house.provider.gone.wait()


async def test_more_streams_than_there_may_be_get_429_and_memory_stays(house: Estate) -> None:
    assert house.process is not None
    status = f"/proc/{house.process.pid}/status"
    before = _resident(status)
    go = asyncio.Event()

    async def slow(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers=EVENTS)
        await answer.prepare(request)
        await answer.write(HALF)
        await go.wait()
        await answer.write(data(*chunks("")[-2:], "[DONE]"))
        return answer

    house.provider.handler = slow
    house.write(limits=LIMITS | {"silenceSeconds": 120.0})
    await house.until_told("a new config is taken")
    limits = httpx2.Limits(max_connections=310)
    async with httpx2.AsyncClient(verify=calling(ASSISTANT), timeout=120, limits=limits) as many:
        # More handshakes at once take a busy machine longer than the gateway waits for one.
        few = asyncio.Semaphore(10)

        async def one() -> tuple[int, bytes]:
            async with contextlib.AsyncExitStack() as stack:
                async with few:
                    answer = await stack.enter_async_context(
                        many.stream("POST", f"{house.url}/chat/completions", json=STREAM)
                    )
                return answer.status_code, b"".join([piece async for piece in answer.aiter_bytes()])

        asked = [asyncio.create_task(one()) for _ in range(310)]
        async with asyncio.timeout(120):
            while len(house.provider.seen) < 300 or sum(task.done() for task in asked) < 10:
                await asyncio.sleep(0.05)
        grown = _resident(status) - before
        go.set()
        answers = await asyncio.gather(*asked)
    assert sorted(status for status, _ in answers) == [200] * 300 + [429] * 10
    assert all(body.endswith(b"data: [DONE]\n\n") for status, body in answers if status == 200)

    assert grown < 300 * 200
    house.write(limits=LIMITS)
    house.told.clear()
    await house.until_told("a new config is taken")


async def test_long_questions_are_not_held_while_their_answers_stream(house: Estate) -> None:
    assert house.process is not None
    house.provider.handler = streaming(HALF, hang=True)
    status = f"/proc/{house.process.pid}/status"
    house.write(limits=LIMITS | {"silenceSeconds": 60.0})
    house.told.clear()
    await house.until_told("a new config is taken")
    long = STREAM | {"messages": [{"role": "user", "content": "x " * 1_000_000}]}
    async with contextlib.AsyncExitStack() as stack:
        for at in range(60):
            if at == 5:
                before = _resident(status)
            answer = await stack.enter_async_context(
                house.http.stream("POST", f"{house.url}/chat/completions", json=long)
            )
            assert answer.status_code == 200
        grown = _resident(status) - before
    # Kept, they would be 107 MiB as text alone.
    assert grown < 40_000
    house.write(limits=LIMITS)
    house.told.clear()
    await house.until_told("a new config is taken")


def _resident(status: str) -> int:
    """KiB."""
    lines = Path(status).read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


async def test_the_next_endpoint_is_asked_where_one_fails(tmp_path_factory: pytest.TempPathFactory) -> None:
    async with provider(None) as second, estate(tmp_path_factory.mktemp("two"), start=False) as house:
        other = {"name": "second", "kind": "compatible", "baseUrl": second.url, "models": {"small": "s"}, "weight": 0}
        first = house.config()["endpoints"][0]
        house.write(endpoints=[first, other])
        await house.start()
        for broken in (answering(LEAK, 500), answering(LEAK, 429)):
            house.provider.handler = broken
            answer = await house.client.chat.completions.create(model="small", messages=SAY)
            assert answer.choices[0].message.content == "Guten Tag"
            assert second.seen.pop().body["model"] == "s"
        house.provider.handler = answering(LEAK, 400)
        with pytest.raises(openai.BadRequestError):
            await house.client.chat.completions.create(model="small", messages=SAY)
        assert second.seen == []
        # Nobody listens there.
        house.write(endpoints=[first | {"baseUrl": "https://localhost:1/v1"}, other])
        await house.until_told("a new config is taken")
        await house.client.chat.completions.create(model="small", messages=SAY)
        assert len(second.seen) == 1
        assert "Authorization" not in second.seen[0].headers


@dataclass
class Proxy:
    """A proxy that is asked for a certificate of the pods' authority and connects to the port, whatever the host."""

    url: str = ""
    heads: list[bytes] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)
    """Names in the certificates of those who came."""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.shown += [name for _, name in (writer.get_extra_info("peercert") or {}).get("subjectAltName", ())]
        self.heads.append(await reader.readuntil(b"\r\n\r\n"))
        port = self.heads[-1].split()[1].decode().rpartition(":")[2]
        there, back = await asyncio.open_connection("127.0.0.1", int(port))
        writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")

        async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while piece := await source.read(65536):
                sink.write(piece)
            sink.close()

        await asyncio.gather(copy(reader, back), copy(there, writer), return_exceptions=True)


@contextlib.asynccontextmanager
async def proxy(folder: Path, signer: Authority = PODS) -> AsyncIterator[Proxy]:
    files = mounted(folder, Holder("domicile-system", "domicile-egress", "", ("localhost",), calls=False), signer, PODS)
    made = Proxy()
    server = await asyncio.start_server(made.handle, "127.0.0.1", 0, ssl=Credentials(files, "ca.crt").context())
    made.url = f"https://localhost:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield made


async def test_endpoints_behind_the_egress_proxy_are_reached_through_a_tunnel(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("egress")
    async with estate(folder, start=False) as house, proxy(folder / "proxy") as way:
        first = house.config()["endpoints"][0] | {"throughEgress": True}
        first["baseUrl"] = first["baseUrl"].replace("localhost", BEHIND)
        house.write(endpoints=[first], egress=way.url)
        (house.folder / "keys" / "egress").write_text("bank:of the proxy\n")
        # What the environment says of proxies does not count.
        await house.start(HTTPS_PROXY="http://localhost:1", https_proxy="http://localhost:1")
        assert (await house.post("/chat/completions", GOOD))[0] == 200
        [seen] = house.provider.seen
        assert not seen.certificate
        [head] = way.heads
        assert head.startswith(f"CONNECT {BEHIND}:".encode())
        assert b"Proxy-Authorization: Basic YmFuazpvZiB0aGUgcHJveHk=" in head
        assert GATEWAY.id in way.shown
        assert b"Proxy-Authorization" not in repr(seen.headers).encode()
        (house.folder / "keys" / "egress").unlink()
        assert (await house.post("/chat/completions", GOOD))[1]["error"]["code"] == "provider_misconfigured"
        (house.folder / "keys" / "egress").write_text("bank:of the proxy\n")
        house.write(endpoints=[first], egress="https://localhost:1")
        await house.until_told("a new config is taken")
        assert (await house.post("/chat/completions", GOOD))[1]["error"]["code"] == "provider_unreachable"
        assert len(way.heads) == 1


async def test_nobody_but_the_pods_authority_vouches_for_the_proxy(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("impostor")
    async with estate(folder, start=False) as house:
        roots = house.folder / "roots.pem"
        impostor = authority()
        async with proxy(folder / "proxy", impostor) as way:
            first = house.config()["endpoints"][0] | {"throughEgress": True}
            # Even an authority of the system's, and the provider's own.
            roots.write_bytes(roots.read_bytes() + bundle((impostor,)))
            (house.folder / "keys" / "egress").write_text("bank:of the proxy\n")
            house.write(endpoints=[first | {"caBundle": roots.read_text()}], egress=way.url)
            await house.start()
            assert (await house.post("/chat/completions", GOOD))[1]["error"]["code"] == "provider_unreachable"
            assert way.heads == []


async def test_a_provider_of_an_authority_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    async with estate(tmp_path_factory.mktemp("own"), start=False) as house:
        roots = (house.folder / "roots.pem").read_text()
        other = bundle((authority(),)).decode()
        first = house.config()["endpoints"][0]
        (house.folder / "roots.pem").write_text(other)
        await house.start()
        assert (await house.post("/chat/completions", GOOD))[1]["error"]["code"] == "provider_unreachable"
        house.write(endpoints=[first | {"caBundle": roots}])
        await house.until_told("a new config is taken")
        assert (await house.post("/chat/completions", GOOD))[0] == 200
        # In place of the system's, which now would do.
        (house.folder / "roots.pem").write_text(roots)
        for wrong, code in ((other, "provider_unreachable"), ("no certificate", "provider_misconfigured")):
            house.told.clear()
            house.write(endpoints=[first | {"caBundle": wrong}])
            await house.until_told("a new config is taken")
            assert (await house.post("/chat/completions", GOOD))[1]["error"]["code"] == code
        assert len(house.provider.seen) == 1


async def test_config_and_keys_are_followed_and_broken_ones_are_not_taken(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    async with estate(tmp_path_factory.mktemp("followed")) as house:
        (house.folder / "gateway.json").write_text('{"tenantId": "x"}')
        await house.until_told("stays as it was")
        assert (await house.post("/chat/completions", GOOD))[0] == 200
        (house.folder / "keys" / "first").write_text("another")
        await house.post("/chat/completions", GOOD)
        assert house.provider.seen[-1].headers["Authorization"] == "Bearer another"
        (house.folder / "keys" / "first").unlink()
        assert (await house.post("/chat/completions", GOOD))[1]["error"]["code"] == "provider_misconfigured"
        house.write(callers=[{"id": "spiffe://domicile/ns/clinic/sa/helpdesk"}])
        await house.until_told("a new config is taken")
        assert (await house.post("/chat/completions", GOOD))[0] == 403


async def test_metrics_are_scraped_with_a_certificate(tmp_path_factory: pytest.TempPathFactory) -> None:
    async with estate(tmp_path_factory.mktemp("metrics"), start=False) as house:
        folder, port = mounted(house.folder / "metrics", GATEWAY), free_port()
        (folder / "ca.crt").rename(folder / "clients.crt")
        env = {"DIR": str(folder), "PORT": str(port), "NETWORKS": "127.0.0.0/8,::1/128"}
        await house.start(**{f"DOMICILE_METRICS_{name}": value for name, value in env.items()})
        await house.post("/chat/completions", GOOD)
        await house.line()
        text = (await house.http.get(f"https://localhost:{port}/metrics")).text
        assert 'domicile_gateway_requests_total{code="ok",provider="first",route="/v1/chat/completions"} 1.0' in text
        assert "helpdesk" not in text


async def test_it_ends_on_sigterm_after_what_runs(tmp_path_factory: pytest.TempPathFactory) -> None:
    async with estate(tmp_path_factory.mktemp("ends")) as house:
        assert house.process is not None
        for page in ("healthz", "readyz"):
            assert (await house.http.get(f"{house.health}/{page}")).status_code == 200
        go = asyncio.Event()

        async def slow(request: web.Request) -> web.StreamResponse:
            await go.wait()
            return await Provider.repeat(house.provider, request)

        house.provider.handler = slow
        asked = asyncio.create_task(house.post("/chat/completions", GOOD))
        async with asyncio.timeout(10):
            while not house.provider.seen:
                await asyncio.sleep(0.02)
        house.process.terminate()
        async with asyncio.timeout(10):
            while True:
                try:
                    await house.http.get(f"{house.health}/healthz")
                except httpx2.ConnectError:
                    break
                except httpx2.TransportError:
                    # A connection that was kept ends first.
                    continue
        go.set()
        assert (await asked)[0] == 200
        assert await house.process.wait() == 0


async def test_what_it_can_not_begin_with_is_said(tmp_path_factory: pytest.TempPathFactory) -> None:
    async with estate(tmp_path_factory.mktemp("wrong"), start=False) as house:
        key = house.folder / "vault" / "key"
        key.write_bytes(b"short")
        with pytest.raises(AssertionError, match="must have 32 bytes"):
            await house.start()
        house.write(tenantId="x")
        with pytest.raises(AssertionError, match="tenantId"):
            await house.start()
        with pytest.raises(AssertionError, match="DOMICILE_ANALYSERS"):
            await house.start(DOMICILE_ANALYSERS="0")
