"""The guard as a process, between a client, a scripted lease agent (a process, too) and an assistant."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import os
import re
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from multidict import CIMultiDict

TENANT = "fedcba9876543210" * 2
LEASE = 1.5
SLACK = 0.75
"""Seconds for a busy machine to deliver what the guard has already sent."""


class Assistant:
    """The upstream: a test gives it the handler it needs."""

    def __init__(self) -> None:
        self.handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]] = self._hello
        self.seen: list[tuple[str, str, CIMultiDict[str], bytes]] = []
        self.port = 0

    async def _hello(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        self.seen.append((request.method, request.raw_path, CIMultiDict(request.headers), body))
        return web.Response(text="hello", headers={"X-Length": str(len(body))})

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        return await self.handler(request)


class Estate:
    """Client, guard, lease agent, assistant."""

    def __init__(self, guard: Process, agent: Process, agent_port: int, port: int, assistant: Assistant) -> None:
        self.guard = guard
        self.agent = agent
        self.assistant = assistant
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self._agent_url = f"http://127.0.0.1:{agent_port}"
        self.client = aiohttp.ClientSession(auto_decompress=False, timeout=aiohttp.ClientTimeout(total=20))

    async def script(self, **script: Any) -> None:
        async with self.client.post(f"{self._agent_url}/script", json=script) as response:
            assert response.status == 200

    async def get(self, path: str = "/", **kwargs: Any) -> int:
        """The status; 0 for a broken connection."""
        try:
            async with self.client.get(self.url + path, **kwargs) as response:
                await response.read()
                return response.status
        except aiohttp.ClientError:
            return 0

    async def until(self, status: int, path: str = "/domicile/lease", within: float = 15.0) -> float:
        """Wait for a status; returns when it came."""
        async with asyncio.timeout(within):
            while await self.get(path) != status:  # noqa: ASYNC110 - it asks another process
                await asyncio.sleep(0.02)
        return boot()

    async def open(self, seconds: float = LEASE) -> None:
        await self.script(mode="grant", seconds=seconds)
        await self.until(200)

    async def raw(self, data: bytes) -> bytes:
        """What a connection answers to ``data`` until it is closed or reset."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(data)
        received = await drain(reader)
        writer.close()
        return received


def boot() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


async def out_of_lease(since: float) -> None:
    """Return when no lease taken before ``since`` still runs."""
    await asyncio.sleep(since + LEASE + 0.05 - boot())
    assert boot() > since + LEASE


async def drain(reader: asyncio.StreamReader) -> bytes:
    received = b""
    async with asyncio.timeout(20):
        with contextlib.suppress(ConnectionResetError):
            while piece := await reader.read(65536):
                received += piece
    return received


async def end(process: Process) -> None:
    if process.returncode is None:
        process.kill()
        await process.wait()


@pytest.fixture
async def estate() -> AsyncIterator[Estate]:
    async with contextlib.AsyncExitStack() as stack:
        assistant = Assistant()
        runner = web.ServerRunner(
            web.Server(assistant.handle, access_log=None, auto_decompress=False), shutdown_timeout=0.1
        )
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        assistant.port = runner.addresses[0][1]
        agent = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.integration.lease_server", stdout=PIPE
        )
        stack.push_async_callback(end, agent)
        assert agent.stdout is not None
        agent_port = int(await agent.stdout.readline())
        guard, port = await start_guard(agent_port, assistant.port)
        stack.push_async_callback(end, guard)
        estate = Estate(guard, agent, agent_port, port, assistant)
        stack.push_async_callback(estate.client.close)
        yield estate


async def start_guard(agent_port: int, upstream_port: int, **env: str) -> tuple[Process, int]:
    guard = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "import sys; from domicile.gateway import guard; sys.exit(guard.main())",
        stderr=PIPE,
        env=os.environ
        | {
            "DOMICILE_TENANT_ID": TENANT,
            "DOMICILE_LEASE_URL": f"http://127.0.0.1:{agent_port}",
            "DOMICILE_UPSTREAM": f"http://127.0.0.1:{upstream_port}",
            "DOMICILE_HOST": "127.0.0.1",
            "DOMICILE_PORT": "0",
            "DOMICILE_BODY_LIMIT": str(2**21),
        }
        | env,
    )
    assert guard.stderr is not None
    async with asyncio.timeout(20):
        while b"listening on port" not in (line := await guard.stderr.readline()):
            assert line, "the guard ended early"
    return guard, int(line.rsplit(b" ", 1)[1])


async def ticking(request: web.BaseRequest) -> web.StreamResponse:
    """A stream without end."""
    response = web.StreamResponse()
    await response.prepare(request)
    with contextlib.suppress(ConnectionError):
        while True:
            await response.write(b"tick ")
            await asyncio.sleep(0.02)
    return response


# The lease


async def test_closed_until_the_agent_grants(estate: Estate) -> None:
    async with estate.client.get(estate.url) as response:
        assert response.status == 503
        assert response.headers["Retry-After"]
        assert set(await response.json()) == {"reason", "message"}
    assert await estate.get("/domicile/healthz") == 200
    await estate.script(mode="garbage")
    assert await estate.get("/domicile/lease") == 503
    await estate.open()
    assert await estate.get() == 200
    async with estate.client.get(estate.url + "/domicile/lease") as response:
        body = await response.json()
    assert (body["tenant"], body["epoch"]) == (TENANT, 1)
    assert 0 < body["remainingSeconds"] <= LEASE
    assert len(estate.assistant.seen) == 1


async def test_open_for_longer_than_one_lease_by_renewal(estate: Estate) -> None:
    await estate.open()
    begun = boot()
    estate.assistant.handler = ticking
    async with estate.client.get(estate.url) as stream:
        while boot() - begun < 2 * LEASE:
            assert await stream.content.readany()


@pytest.mark.parametrize("fault", ["killed", "hang", "garbage"])
async def test_closes_within_the_lease_without_an_agent(estate: Estate, fault: str) -> None:
    await estate.open()
    if fault == "killed":
        estate.agent.kill()
        await estate.agent.wait()
    else:
        await estate.script(mode=fault)
    gone = boot()
    assert await estate.until(503, "/") - gone < LEASE + SLACK
    handled = len(estate.assistant.seen)
    assert [await estate.get() for _ in range(5)] == [503] * 5
    assert len(estate.assistant.seen) == handled


async def test_a_frozen_agent_is_no_agent(estate: Estate) -> None:
    await estate.open()
    estate.agent.send_signal(signal.SIGSTOP)
    gone = boot()
    assert await estate.until(503, "/") - gone < LEASE + SLACK
    estate.agent.send_signal(signal.SIGCONT)
    await estate.until(200)


async def test_a_refusal_closes_before_the_lease_is_over(estate: Estate) -> None:
    await estate.open(4.0)
    await estate.script(mode="refuse")
    asked = boot()
    assert await estate.until(503, "/") - asked < 4.0 / 3 + SLACK
    async with estate.client.get(estate.url) as response:
        assert (await response.json())["reason"] == "HigherClaim"


@pytest.mark.parametrize("framing", ["chunked", "length"])
async def test_a_stream_is_cut_when_the_lease_ends(estate: Estate, framing: str) -> None:
    async def endless(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000000"} if framing == "length" else {})
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while True:
                await response.write(b"tick ")
                await asyncio.sleep(0.02)
        return response

    await estate.open()
    estate.assistant.handler = endless
    async with estate.client.get(estate.url) as stream:
        assert stream.status == 200
        assert await stream.content.readany()
        estate.agent.kill()
        gone = boot()
        with pytest.raises(aiohttp.ClientError):
            await stream.read()
        assert boot() - gone < LEASE + SLACK


async def test_a_silent_stream_is_reset_when_the_lease_ends(estate: Estate) -> None:
    async def silent(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"one")
        await asyncio.sleep(3600)
        return response

    await estate.open()
    estate.assistant.handler = silent
    reader, writer = await asyncio.open_connection("127.0.0.1", estate.port)
    writer.write(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
    assert b"one" in await reader.readuntil(b"one")
    await estate.script(mode="refuse")
    # A clean end would tell an HTTP/1.0 client that the answer is whole.
    with pytest.raises(ConnectionResetError):
        async with asyncio.timeout(LEASE + SLACK):
            await reader.read()
    writer.close()


async def test_a_request_under_way_is_refused_when_the_lease_ends(estate: Estate) -> None:
    arrived = asyncio.Event()

    async def slow(_request: web.BaseRequest) -> web.StreamResponse:
        arrived.set()
        await asyncio.sleep(3600)
        return web.Response()

    await estate.open()
    estate.assistant.handler = slow
    waiting = asyncio.create_task(estate.get())
    await arrived.wait()
    await estate.script(mode="refuse")
    assert await waiting == 503


@pytest.mark.parametrize("after", ["refuse", "grant"])
async def test_a_paused_guard_acknowledges_nothing_of_the_past(estate: Estate, after: str) -> None:
    arrived, release = asyncio.Event(), asyncio.Event()

    async def held(request: web.BaseRequest) -> web.StreamResponse:
        if request.raw_path == "/held":
            arrived.set()
            await release.wait()
        return web.Response(text="done")

    await estate.open()
    estate.assistant.handler = held
    waiting = asyncio.create_task(estate.get("/held"))
    await arrived.wait()
    stream_reader, stream_writer = await asyncio.open_connection("127.0.0.1", estate.port)
    estate.guard.send_signal(signal.SIGSTOP)
    stopped = boot()
    await estate.script(mode=after)
    stream_writer.write(b"GET /new HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    release.set()
    await out_of_lease(stopped)
    estate.guard.send_signal(signal.SIGCONT)
    assert await waiting in {0, 503}
    first = await drain(stream_reader)
    stream_writer.close()
    if after == "refuse":
        assert b" 503 " in first.split(b"\r\n", 1)[0]
        assert await estate.get() == 503
    else:
        await estate.until(200, "/")


async def test_a_stream_of_a_paused_guard_is_cut_though_the_lease_came_back(estate: Estate) -> None:
    await estate.open()
    estate.assistant.handler = ticking
    async with estate.client.get(estate.url) as stream:
        assert await stream.content.readany()
        estate.guard.send_signal(signal.SIGSTOP)
        stopped = boot()
        await out_of_lease(stopped)
        estate.guard.send_signal(signal.SIGCONT)
        with pytest.raises(aiohttp.ClientError):
            await stream.read()
    await estate.until(200)


# The proxy


async def test_the_guard_s_own_pages(estate: Estate) -> None:
    assert await estate.get("/domicile/readyz") == 200
    assert await estate.get("/domicile/readyz?x=1") == 200
    assert await estate.get("/domicile/other") == 404
    assert await estate.get("/domicile") == 404
    async with estate.client.post(estate.url + "/domicile/lease") as response:
        assert response.status == 404

    async def unready(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=500)

    estate.assistant.handler = unready
    assert await estate.get("/domicile/readyz") == 503
    assert await estate.get("/domicile/healthz") == 200


async def test_methods_paths_and_fields_arrive_unchanged(estate: Estate) -> None:
    await estate.open(30)
    for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        async with estate.client.request(method, estate.url + "/x") as response:
            assert response.status == 200
            assert response.headers["Content-Length"] == "5"
    estate.assistant.seen.clear()
    answer = await estate.raw(
        b"GET /a%2Fb/../c;d?q=%20+&r HTTP/1.1\r\nHost: tenant.example\r\nX-Forwarded-For: 192.0.2.7\r\n"
        b"Cookie: a=b; c=d\r\nConnection: close, TE\r\nTE: trailers\r\nKeep-Alive: 5\r\nX-Two: 1\r\nX-Two: 2\r\n\r\n"
    )
    assert answer.startswith(b"HTTP/1.1 200 ")
    ((method, path, headers, body),) = estate.assistant.seen
    assert (method, path, body) == ("GET", "/a%2Fb/../c;d?q=%20+&r", b"")
    assert headers["Host"] == "tenant.example"
    assert headers["X-Forwarded-For"] == "192.0.2.7, 127.0.0.1"
    assert headers["Cookie"] == "a=b; c=d"
    assert headers.getall("X-Two") == ["1", "2"]
    assert not {"TE", "Keep-Alive", "Accept", "Accept-Encoding", "User-Agent", "Content-Type"} & set(headers)


async def test_answers_arrive_unchanged(estate: Estate) -> None:
    packed = gzip.compress(b"words " * 1000)

    async def rich(request: web.BaseRequest) -> web.StreamResponse:
        if request.raw_path == "/redirect":
            return web.Response(status=302, headers={"Location": "http://elsewhere.example/"})
        if request.raw_path == "/none":
            return web.Response(status=204)
        headers = CIMultiDict([("Set-Cookie", "a=1; Path=/"), ("X-A", "1"), ("Set-Cookie", "b=2"), ("X-B", "2")])
        headers.extend({"Content-Encoding": "gzip", "Connection": "X-Hop", "X-Hop": "1", "Server": "theirs"})
        return web.Response(body=packed, headers=headers)

    await estate.open(30)
    estate.assistant.handler = rich
    async with estate.client.get(estate.url) as response:
        assert await response.read() == packed
        assert response.headers.getall("Set-Cookie") == ["a=1; Path=/", "b=2"]
        names = [name for name, _ in response.raw_headers if name in {b"Set-Cookie", b"X-A", b"X-B"}]
        assert names == [b"Set-Cookie", b"X-A", b"Set-Cookie", b"X-B"]
        assert response.headers["Server"] == "theirs"
        assert "X-Hop" not in response.headers
    async with estate.client.get(estate.url + "/redirect", allow_redirects=False) as response:
        assert (response.status, response.headers["Location"]) == (302, "http://elsewhere.example/")
    assert await estate.get("/none") == 204


async def test_an_answer_streams_unbuffered(estate: Estate) -> None:
    read = asyncio.Event()

    async def stepwise(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"first")
        await read.wait()
        await response.write(b"last")
        return response

    await estate.open(30)
    estate.assistant.handler = stepwise
    async with estate.client.get(estate.url) as response:
        assert await response.content.readany() == b"first"
        read.set()
        assert await response.read() == b"last"


async def test_an_upload_streams_unbuffered(estate: Estate) -> None:
    arrived = asyncio.Event()

    async def reading(request: web.BaseRequest) -> web.StreamResponse:
        first = await request.content.readany()
        arrived.set()
        return web.Response(body=first + await request.read())

    async def body() -> AsyncIterator[bytes]:
        yield b"first"
        await arrived.wait()
        yield b"last"

    await estate.open(30)
    estate.assistant.handler = reading
    async with estate.client.post(estate.url, data=body()) as response:
        assert await response.read() == b"firstlast"


async def test_large_bodies(estate: Estate) -> None:
    async def pieces(count: int) -> AsyncIterator[bytes]:
        for _ in range(count):
            yield bytes(2**16)

    await estate.open(30)
    async with estate.client.post(estate.url, data=bytes(2**20), headers={"Expect": "100-continue"}) as response:
        assert response.headers["X-Length"] == str(2**20)
    async with estate.client.put(estate.url, data=pieces(16)) as response:
        assert response.headers["X-Length"] == str(2**20)
    assert [request[2].get("Content-Length") for request in estate.assistant.seen] == [str(2**20), None]
    head = b"POST / HTTP/1.1\r\nHost: a\r\n"
    too_long = await estate.raw(head + b"Content-Length: 2097153\r\nExpect: 100-continue\r\n\r\n")
    assert too_long.startswith(b"HTTP/1.1 413 ")
    chunk = b"10000\r\n" + bytes(2**16) + b"\r\n"
    too_long = await estate.raw(head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 32 + b"1\r\nx\r\n0\r\n\r\n")
    assert too_long.startswith(b"HTTP/1.1 413 ")
    assert len(estate.assistant.seen) == 2


GET = b"GET / HTTP/1.1\r\nHost: a\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n"


async def test_smuggling_is_refused(estate: Estate) -> None:
    await estate.open(30)
    for request in [
        GET + b"Connection: close, X-Trusted\r\nX-Trusted: yes\r\n\r\n",
        GET + b"Connection: close\r\nConnection: Cookie\r\nCookie: a=b\r\n\r\n",
        GET + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n" + HIDDEN,
        POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
        POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + HIDDEN,
        POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + HIDDEN,
        POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + HIDDEN,
        POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
        b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
        POST + b"Content-Length: 5\r\nContent-Length: 0\r\n\r\nabcde" + HIDDEN,
        POST + b"Content-Length: +5\r\n\r\nabcde" + HIDDEN,
        POST + b"Content-Length: 5, 5\r\n\r\nabcde" + HIDDEN,
        GET + b"X-Folded: one\r\n two\r\n\r\n",
        GET + b"X-Bare: one\nX-Two: two\r\n\r\n",
        GET + b"X-Nul: a\x00b\r\n\r\n",
        GET + b"Host: b\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET http://elsewhere.example/ HTTP/1.1\r\nHost: a\r\n\r\n",
        b"CONNECT elsewhere.example:443 HTTP/1.1\r\nHost: a\r\n\r\n" + HIDDEN,
        GET + b"X-Long: " + b"a" * 20000 + b"\r\n\r\n",
        GET + b"".join(b"X-%d: 1\r\n" % n for n in range(200)) + b"\r\n",
        b"GET /" + b"a" * 20000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    ]:
        answer = await estate.raw(request)
        assert answer[:12] == b"HTTP/1.1 400" or answer[:12] == b"HTTP/1.0 400", request[:80]
        assert len(re.findall(rb"^HTTP/1\.[01] [0-9]{3} ", answer, re.MULTILINE)) == 1, request[:80]
    assert estate.assistant.seen == []
    assert await estate.get() == 200


async def test_an_offered_h2c_upgrade_is_ignored(estate: Estate) -> None:
    await estate.open(30)
    offer = b"Connection: Upgrade, close\r\nUpgrade: h2c\r\nContent-Length: 5\r\n\r\nabcde"
    assert (await estate.raw(POST + offer)).startswith(b"HTTP/1.1 200 ")
    ((_, _, headers, body),) = estate.assistant.seen
    assert body == b"abcde"
    assert "Upgrade" not in headers


async def test_a_client_that_leaves_cancels_the_assistant_s_work(estate: Estate) -> None:
    noticed = asyncio.Event()

    async def noticing(request: web.BaseRequest) -> web.StreamResponse:
        response = await ticking(request)
        noticed.set()
        return response

    await estate.open(30)
    estate.assistant.handler = noticing
    _reader, writer = await asyncio.open_connection("127.0.0.1", estate.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    await _reader.readuntil(b"tick")
    writer.close()
    async with asyncio.timeout(10):
        await noticed.wait()


async def test_a_broken_assistant(estate: Estate) -> None:
    async def truncating(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "10"})
        await response.prepare(request)
        await response.write(b"half")
        assert request.transport is not None
        request.transport.abort()
        return response

    async def dropping(request: web.BaseRequest) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    await estate.open(30)
    estate.assistant.handler = truncating
    with pytest.raises(aiohttp.ClientError):
        async with estate.client.get(estate.url) as response:
            await response.read()
    estate.assistant.handler = dropping
    assert await estate.get() == 502


async def test_no_assistant_at_all(estate: Estate) -> None:
    await estate.open(30)
    with_nobody = await asyncio.start_server(lambda _r, w: w.close(), "127.0.0.1", 0)
    free = with_nobody.sockets[0].getsockname()[1]
    with_nobody.close()
    await with_nobody.wait_closed()
    agent_port = int(estate._agent_url.rsplit(":", 1)[1])
    guard, port = await start_guard(agent_port, free)
    try:
        estate.url = f"http://127.0.0.1:{port}"
        await estate.until(200)
        assert await estate.get() == 502
        assert await estate.get("/domicile/readyz") == 503
    finally:
        await end(guard)


async def test_sigterm_lets_a_request_finish_and_logs_nothing_of_it(estate: Estate) -> None:
    arrived, release = asyncio.Event(), asyncio.Event()

    async def held(request: web.BaseRequest) -> web.StreamResponse:
        arrived.set()
        await release.wait()
        return web.Response(text="whole")

    await estate.open()
    await estate.raw(b"GET /secret-path\x01 HTTP/1.1\r\nHost: a\r\n\r\n")
    estate.assistant.handler = held
    waiting = asyncio.create_task(estate.get("/secret-path", headers={"X-Secret": "secret-value"}))
    await arrived.wait()
    estate.guard.send_signal(signal.SIGTERM)
    async with asyncio.timeout(10):
        while await estate.get("/domicile/healthz") != 0:  # noqa: ASYNC110 - it asks another process
            await asyncio.sleep(0.02)
    release.set()
    assert await waiting == 200
    async with asyncio.timeout(15):
        _, log = await estate.guard.communicate()
    assert estate.guard.returncode == 0
    assert b"holding a lease of epoch 1" in log
    assert b"secret" not in log
