"""The guard as a proxy: what passes unchanged, what streams, what is refused."""

from __future__ import annotations

import asyncio
import gzip
import re
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from multidict import CIMultiDict

from tests.integration.guard_estate import Estate, end, running, start_guard, ticking

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module", name="shared")
async def running_estate() -> AsyncIterator[Estate]:
    async with running() as estate:
        yield estate


@pytest_asyncio.fixture(loop_scope="module")
async def estate(shared: Estate) -> Estate:
    shared.assistant.forget()
    await shared.open(30)
    return shared


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

    estate.assistant.handler = reading
    async with estate.client.post(estate.url, data=body()) as response:
        assert await response.read() == b"firstlast"


async def test_large_bodies(estate: Estate) -> None:
    async def pieces(count: int) -> AsyncIterator[bytes]:
        for _ in range(count):
            yield bytes(2**16)

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

    estate.assistant.handler = truncating
    with pytest.raises(aiohttp.ClientError):
        async with estate.client.get(estate.url) as response:
            await response.read()
    estate.assistant.handler = dropping
    assert await estate.get() == 502


async def test_no_assistant_at_all(estate: Estate) -> None:
    with_nobody = await asyncio.start_server(lambda _r, w: w.close(), "127.0.0.1", 0)
    free = with_nobody.sockets[0].getsockname()[1]
    with_nobody.close()
    await with_nobody.wait_closed()
    guard, port = await start_guard(f"http://127.0.0.1:{estate.agent_port}", free)
    try:
        lonely = Estate(guard, estate.agent, estate.agent_port, port, estate.assistant)
        async with lonely.client:
            await lonely.until(200)
            assert await lonely.get() == 502
            assert await lonely.get("/domicile/readyz") == 503
    finally:
        await end(guard)
