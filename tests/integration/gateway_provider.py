"""A model provider that repeats what it was asked, keeps the bytes that reached it, and fails as it is told."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Seen:
    """A request as it came."""

    path: str
    headers: dict[str, str]
    raw: bytes
    certificate: bool = False
    """Whether the client has shown one."""

    @property
    def body(self) -> Any:
        return json.loads(self.raw)


@dataclass
class Provider:
    """The stand-in; ``handler`` replaces what it does, ``split`` sends streams byte by byte."""

    url: str = ""
    seen: list[Seen] = field(default_factory=list)
    handler: Handler | None = None
    split: bool = False
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    """A client left before the answer's end."""

    def forget(self) -> None:
        self.seen.clear()
        self.handler, self.split = None, False
        self.gone.clear()

    @property
    def received(self) -> bytes:
        """All bytes of bodies and headers."""
        return b"".join(each.raw + repr(each.headers).encode() for each in self.seen)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        shown = request.transport.get_extra_info("peercert") if request.transport is not None else None
        self.seen.append(Seen(request.path, dict(request.headers), raw, bool(shown)))
        try:
            return await (self.handler or self.repeat)(request)
        except (ConnectionError, asyncio.CancelledError):
            self.gone.set()
            raise

    async def repeat(self, request: web.Request) -> web.StreamResponse:
        """Say again what was asked."""
        body = self.seen[-1].body
        if request.path.endswith("/embeddings"):
            data = [{"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}]
            usage = {"prompt_tokens": 7, "total_tokens": 7}
            return web.json_response({"object": "list", "data": data, "model": body["model"], "usage": usage})
        if request.path.endswith("/responses"):
            return await self._respond(request, body)
        said = body["messages"][-1]["content"]
        if not body.get("stream"):
            return web.json_response(chat(said, body["model"]))
        return await self.stream(request, [*chunks(said, body["model"]), "[DONE]"])

    async def _respond(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        said = body["input"] if isinstance(body["input"], str) else json.dumps(body["input"], ensure_ascii=False)
        whole = response(said, body["model"])
        if not body.get("stream"):
            return web.json_response(whole)
        place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
        events: list[dict[str, Any]] = [{"type": "response.created", "response": {**whole, "output": []}}]
        events += [{"type": "response.output_text.delta", **place, "delta": each, "logprobs": []} for each in said]
        events.append({"type": "response.output_text.done", **place, "text": said, "logprobs": []})
        events.append({"type": "response.completed", "response": whole})
        numbered = [json.dumps({**each, "sequence_number": at}) for at, each in enumerate(events)]
        return await self.stream(request, numbered, [each["type"] for each in events])

    async def stream(
        self, request: web.Request, data: list[str], names: list[str] | None = None, *, drop: bool = False
    ) -> web.StreamResponse:
        """Events, and then the end; ``drop``: the connection's."""
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await answer.prepare(request)
        heads = [f"event: {name}\n" for name in names] if names else [""] * len(data)
        sent = "".join(f"{head}data: {each}\n\n" for head, each in zip(heads, data, strict=True)).encode()
        if self.split:
            for byte in sent:
                await answer.write(bytes([byte]))
        else:
            await answer.write(sent)
        if drop:
            assert request.transport is not None
            request.transport.close()
        return answer


def chat(said: str, model: str = "m-1", **message: Any) -> dict[str, Any]:
    """A chat completion."""
    choice = {"index": 0, "message": {"role": "assistant", "content": said, **message}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 11}
    return {"id": "c1", "object": "chat.completion", "created": 1, "model": model, "choices": [choice], "usage": usage}


def chunks(said: str, model: str = "m-1") -> list[str]:
    """A chat completion in chunks of a character, with usage at the end."""
    base = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": model}
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}, *({"content": each} for each in said), {}]
    made = [
        {**base, "choices": [{"index": 0, "delta": d, "finish_reason": None if d else "stop"}], "usage": None}
        for d in deltas
    ]
    usage = {"prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 11}
    return [json.dumps(each) for each in [*made, {**base, "choices": [], "usage": usage}]]


def response(said: str, model: str = "m-1") -> dict[str, Any]:
    """A response object."""
    content = [{"type": "output_text", "text": said, "annotations": []}]
    item = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": content}
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "status": "completed",
        "model": model,
        "output": [item],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            "input_tokens": 5,
            "output_tokens": 6,
            "total_tokens": 11,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens_details": {"reasoning_tokens": 0},
        },
    }


@contextlib.asynccontextmanager
async def provider(context: ssl.SSLContext | None) -> AsyncIterator[Provider]:
    """One that listens, with TLS where there is a context."""
    made = Provider()
    app = web.Application(client_max_size=64 * 2**20)
    app.router.add_route("*", "/{path:.*}", made.handle)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        port = runner.addresses[0][1]
        made.url = f"https://localhost:{port}/v1" if context else f"http://127.0.0.1:{port}/v1"
        yield made
    finally:
        await runner.cleanup()
