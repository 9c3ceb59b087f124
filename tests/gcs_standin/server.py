"""The stand-in as an HTTP server on loopback: faults first, then the operation."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web
from multidict import CIMultiDictProxy

from tests.gcs_standin import (  # noqa: F401  they register their operations
    accounts,
    buckets,
    media,
    objects,
    relocation,
    uploads,
)
from tests.gcs_standin.protocol import Call, check_headers, is_json, target
from tests.gcs_standin.refusal import Answer, RefusedError
from tests.gcs_standin.state import State


def answer(state: State, method: str, raw: str, headers: CIMultiDictProxy[str], body: bytes) -> Answer:
    """What the server answers to a request."""
    try:
        entry, names, query = target(method, raw)
        check_headers(headers)
        call = Call(state, entry, names, query, headers, body, state.accounts.caller(headers.get("Authorization")))
        if entry.permission:
            call.require(entry.permission, "bucket" if ".buckets." in entry.permission else "object")
        return entry.handler(call)
    except RefusedError as error:
        return error.answer(xml=not is_json(raw))


def _operation(method: str, raw: str) -> str:
    try:
        return target(method, raw)[0].name
    except RefusedError:
        return ""


async def serve(state: State, host: str = "127.0.0.1", port: int = 0) -> web.ServerRunner:
    """Listen; sets the state's URL."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        method, raw = request.method, request.raw_path
        state.requests.append((method, raw))
        name = _operation(method, raw) if state.faults else ""
        kinds = {fault.kind for fault in state.faults if fault.strikes(name)}
        body = await request.content.read()
        if "stall" in kinds:
            await asyncio.Event().wait()
        if status := next((int(kind) for kind in kinds if kind.isdigit()), None):
            made = RefusedError(status, "backendError", "A fault was asked for").answer(xml=not is_json(raw))
        elif "reset" not in kinds:
            made = answer(state, method, raw, request.headers, body)
        if kinds & {"reset", "lose"}:
            if request.transport is not None:
                request.transport.abort()
            return web.Response()
        headers = dict(made.headers)
        if made.status != 304:
            headers["Content-Length"] = str(len(made.body))
        return web.Response(status=made.status, body=made.body, headers=headers)

    runner = web.ServerRunner(web.Server(handle, access_log=None, auto_decompress=False), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, host, port)
    await site.start()
    state.url = f"http://{host}:{runner.addresses[0][1]}"
    return runner


@contextmanager
def running(state: State | None = None) -> Iterator[State]:
    """A server in a thread of this process, on a free port of loopback."""
    state = state or State()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="gcs-standin")
    thread.start()
    try:
        runner = asyncio.run_coroutine_threadsafe(serve(state), loop).result(10)
        try:
            yield state
        finally:
            asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
