"""OpenAI-compatible HTTP server over the extractive answers.

Reference: https://platform.openai.com/docs/api-reference/chat
    POST   /v1/chat/completions   with and without stream
    GET    /v1/models
    GET    /healthz
    GET    /received              what reached it, as JSON: [{"time" (s since the epoch), "peer", "headers", "body"}]
    DELETE /received              forget that
"""

from __future__ import annotations

import asyncio
import json
import re
import time
import uuid
from typing import Any

from aiohttp import web

from .extract import answer

MODEL = "extractive-1"
MAX_RECEIVED = 10_000

RECEIVED: web.AppKey[list[dict[str, Any]]] = web.AppKey("received", list)
WORD_SECONDS = web.AppKey("word_seconds", float)


def _error(status: int, message: str) -> web.Response:
    kind = "invalid_request_error"
    return web.json_response({"error": {"message": message, "type": kind, "param": None, "code": None}}, status=status)


async def complete(request: web.Request) -> web.StreamResponse:
    """POST /v1/chat/completions. Takes any model id."""
    raw = await request.text()
    record = {"time": time.time(), "peer": request.remote, "headers": dict(request.headers), "body": raw}
    try:
        body = json.loads(raw)
    except ValueError:
        request.app[RECEIVED].append(record)
        return _error(400, "The body is no JSON.")
    request.app[RECEIVED].append({**record, "body": body})
    del request.app[RECEIVED][:-MAX_RECEIVED]
    messages = body.get("messages") if isinstance(body, dict) else None
    if not isinstance(messages, list) or not messages or not all(isinstance(m, dict) for m in messages):
        return _error(400, "messages must be a list of message objects.")
    if not isinstance(body.get("model"), str):
        return _error(400, "model must be a string.")
    text = answer(messages)
    base = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": body["model"]}
    if body.get("stream"):
        return await _stream(request, base, text)
    used = {"prompt_tokens": len(raw.split()), "completion_tokens": len(text.split())}
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {**used, "total_tokens": sum(used.values())}
    return web.json_response({**base, "object": "chat.completion", "choices": [choice], "usage": usage})


async def _stream(request: web.Request, base: dict[str, Any], text: str) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
    await response.prepare(request)

    async def send(delta: dict[str, str], finish: str | None = None) -> None:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        chunk = {**base, "object": "chat.completion.chunk", "choices": [choice]}
        await response.write(f"data: {json.dumps(chunk)}\n\n".encode())

    await send({"role": "assistant", "content": ""})
    for word in re.findall(r"\S+\s*", text):
        await send({"content": word})
        await asyncio.sleep(request.app[WORD_SECONDS])
    await send({}, "stop")
    await response.write(b"data: [DONE]\n\n")
    await response.write_eof()
    return response


async def models(_: web.Request) -> web.Response:
    """GET /v1/models."""
    model = {"id": MODEL, "object": "model", "created": 0, "owned_by": "testbed"}
    return web.json_response({"object": "list", "data": [model]})


async def show_received(request: web.Request) -> web.Response:
    """GET /received."""
    return web.json_response(request.app[RECEIVED])


async def forget_received(request: web.Request) -> web.Response:
    """DELETE /received."""
    request.app[RECEIVED].clear()
    return web.Response(status=204)


async def _ok(_: web.Request) -> web.Response:
    return web.Response(text="ok\n")


def make_app(word_seconds: float = 0) -> web.Application:
    """The application; ``word_seconds`` is the pause after each streamed word."""
    app = web.Application(client_max_size=16 * 1024 * 1024)
    app[RECEIVED] = []
    app[WORD_SECONDS] = word_seconds
    app.add_routes(
        [
            web.post("/v1/chat/completions", complete),
            web.get("/v1/models", models),
            web.get("/healthz", _ok),
            web.get("/received", show_received),
            web.delete("/received", forget_received),
        ]
    )
    return app
