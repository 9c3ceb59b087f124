"""The guard's lease with real processes: killed, frozen and refusing agents, and a guard that is stopped itself."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from tests.integration.guard_estate import LEASE, TENANT, Estate, boot, drain, out_of_lease, running, ticking

SLACK = 0.75
"""Seconds for a busy machine to deliver what the guard has already sent."""


@pytest.fixture
async def estate() -> AsyncIterator[Estate]:
    async with running() as estate:
        yield estate


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
        while await estate.get("/domicile/healthz") != 0:
            await asyncio.sleep(0.02)
    release.set()
    assert await waiting == 200
    async with asyncio.timeout(15):
        _, log = await estate.guard.communicate()
    assert estate.guard.returncode == 0
    assert b"holding a lease of epoch 1" in log
    assert b"secret" not in log
