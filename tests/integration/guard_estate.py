"""A guard as a process, between a client, a scripted lease agent (a process, too) and an assistant, for tests."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
from aiohttp import web
from multidict import CIMultiDict

TENANT = "fedcba9876543210" * 2
LEASE = 1.5
"""Seconds of the leases that most tests use."""


class Assistant:
    """The upstream: a test gives it the handler it needs."""

    def __init__(self) -> None:
        self.port = 0
        self.forget()

    def forget(self) -> None:
        """Greet again, and have seen nothing."""
        self.handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]] = self._hello
        self.seen: list[tuple[str, str, CIMultiDict[str], bytes]] = []

    async def _hello(self, request: web.BaseRequest) -> web.StreamResponse:
        body = b"".join([piece async for piece in request.content.iter_any()])
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
        self.agent_port = agent_port
        self.client = aiohttp.ClientSession(auto_decompress=False, timeout=aiohttp.ClientTimeout(total=20))

    async def script(self, **script: Any) -> None:
        async with self.client.post(f"http://127.0.0.1:{self.agent_port}/script", json=script) as response:
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
            while await self.get(path) != status:
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


@contextlib.asynccontextmanager
async def running(**env: str) -> AsyncIterator[Estate]:
    """A guard with its neighbours; closed until the script says otherwise."""
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
        guard, port = await start_guard(f"http://127.0.0.1:{agent_port}", assistant.port, **env)
        stack.push_async_callback(end, guard)
        estate = Estate(guard, agent, agent_port, port, assistant)
        stack.push_async_callback(estate.client.close)
        yield estate


async def start_guard(lease_url: str, upstream_port: int, **env: str) -> tuple[Process, int]:
    """A guard, and the port of its last listener."""
    guard = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "import sys; from domicile.gateway import guard; sys.exit(guard.main())",
        stderr=PIPE,
        env=os.environ
        | {
            "DOMICILE_TENANT_ID": TENANT,
            "DOMICILE_LEASE_URL": lease_url,
            "DOMICILE_UPSTREAM": f"http://127.0.0.1:{upstream_port}",
            "DOMICILE_HOST": "127.0.0.1",
            "DOMICILE_PORT": "0",
            "DOMICILE_BODY_LIMIT": str(2**21),
        }
        | env,
    )
    assert guard.stderr is not None
    announced = {
        "DOMICILE_MODEL_URL": b"questions to the model are taken on port",
        "DOMICILE_CLIENT": b"the front door is served on port",
    }
    last = next((line for name, line in announced.items() if name in env), b"listening on port")
    async with asyncio.timeout(20):
        while last not in (line := await guard.stderr.readline()):
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
