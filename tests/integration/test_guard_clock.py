"""The guard looks at the clock itself before each write: a jump of time that no timer of the event loop has noticed.

So it is for a machine that was suspended, and for a process stopped between a timer and a write.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import RawTestServer

from domicile.gateway.holder import Grant, Holder, Keeper
from domicile.gateway.proxy import Proxy

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class House:
    """A proxy in this process, with a clock that the assistant's handler turns."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.holder = Holder(lambda: self.now)
        self.handler: Handler
        self.url = ""

    def grant(self, epoch: int = 1) -> None:
        self.holder.take(Grant(epoch, 60.0), self.now)

    def jump(self) -> None:
        """Past the lease, all at once."""
        self.now += 61.0
        assert self.holder.term() is None


@pytest.fixture
async def house() -> AsyncIterator[House]:
    house = House()
    keeper = Keeper(house.holder, "http://127.0.0.1:9", "0" * 32)

    async def upstream(request: web.BaseRequest) -> web.StreamResponse:
        return await house.handler(request)

    async with RawTestServer(upstream) as assistant:
        proxy = Proxy(f"http://127.0.0.1:{assistant.port}", house.holder, keeper, 2**20)
        async with RawTestServer(proxy.forward) as front:
            house.url = str(front.make_url("/"))
            yield house
        await proxy.close()


@pytest.mark.parametrize("regained", [False, True])
async def test_an_answer_after_the_lease_is_not_passed_on(house: House, regained: bool) -> None:
    async def late(_request: web.BaseRequest) -> web.StreamResponse:
        house.jump()
        if regained:
            house.grant()
        return web.Response(text="done")

    house.handler = late
    house.grant()
    async with aiohttp.ClientSession() as client, client.get(house.url) as response:
        assert response.status == 503


@pytest.mark.parametrize("regained", [False, True])
@pytest.mark.parametrize("last", [b"more", b""])
async def test_no_piece_and_no_end_after_the_lease(house: House, regained: bool, last: bytes) -> None:
    read = asyncio.Event()

    async def stepwise(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"first")
        await read.wait()
        house.jump()
        if regained:
            house.grant(3)
        if last:
            await response.write(last)
        return response

    house.handler = stepwise
    house.grant()
    async with aiohttp.ClientSession() as client, client.get(house.url) as response:
        assert await response.content.readany() == b"first"
        read.set()
        with pytest.raises(aiohttp.ClientError):
            await response.read()


async def test_an_upload_stops_with_the_lease(house: House) -> None:
    received = bytearray()
    arrived = asyncio.Event()

    async def taking(request: web.BaseRequest) -> web.StreamResponse:
        async for piece in request.content.iter_any():
            received.extend(piece)
            arrived.set()
        return web.Response()

    async def body() -> AsyncIterator[bytes]:
        yield b"first"
        await arrived.wait()
        house.jump()
        yield b"second"

    house.handler = taking
    house.grant()
    async with aiohttp.ClientSession() as client, client.post(house.url, data=body()) as response:
        assert response.status == 503
    assert b"second" not in received
