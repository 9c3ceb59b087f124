"""One question to a model, out and back."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import partial
from typing import Any, Final

from aiohttp import web

from domicile.api.gateway import Endpoint
from domicile.gateway.questions import services
from domicile.gateway.questions.answers import Answer, BrokenAnswerError, ChatAnswer, ResponsesAnswer
from domicile.gateway.questions.chat import CHAT
from domicile.gateway.questions.embeddings import EMBEDDINGS
from domicile.gateway.questions.intake import Share
from domicile.gateway.questions.intents import Intents
from domicile.gateway.questions.providers import body_for, order
from domicile.gateway.questions.record import Record
from domicile.gateway.questions.refusal import RefusedError
from domicile.gateway.questions.responses import RESPONSES
from domicile.gateway.questions.restoring import Restorer
from domicile.gateway.questions.rules import Fields, Rule
from domicile.gateway.questions.sse import ALIVE, BrokenStreamError, Event, Reader
from domicile.gateway.questions.strict import encode
from domicile.gateway.questions.structured import admitted
from domicile.gateway.questions.tenant import Phase, Tenant
from domicile.gateway.questions.upstream import Elsewhere, Reply, Upstream

log = logging.getLogger(__name__)

_CLIENT_SECONDS: Final = 60.0
# What a token has of JSON at least, on average: for answers whose provider didn't come to tell.
_BYTES_A_TOKEN: Final = 4

FIELDS: Final[dict[str, Fields]] = {
    "/chat/completions": CHAT,
    "/responses": RESPONSES,
    "/embeddings": EMBEDDINGS,
}
"""What may be asked, by the path after a provider's base URL."""


@dataclass(frozen=True)
class Call:
    """One request with a body."""

    request: web.BaseRequest
    path: str
    body: dict[str, Any]
    conversation: str | None
    phase: Phase
    intents: Intents | None
    """What its caller may ask; None: anything."""
    share: Share
    record: Record
    began: float
    headers: dict[str, str]


class Desk:
    """Asks providers."""

    def __init__(self, tenant: Tenant, upstream: Upstream, draw: Callable[[], float] = random.random) -> None:
        self._tenant = tenant
        self._upstream = upstream
        self._draw = draw
        self._later: set[asyncio.Task[None]] = set()

    async def ask(self, call: Call) -> web.StreamResponse:
        """A model's answer. Raises RefusedError."""
        endpoints = self._endpoints(call)
        asked = call.body if call.intents is None else admitted(call.intents, call.path, call.body)
        body, restorer = await self._prepared(call, FIELDS[call.path], asked)
        refused = RefusedError(502, "provider_unreachable", "No provider can be reached.")
        for endpoint in endpoints:
            try:
                return await self._ask(call, endpoint, body, restorer)
            except Elsewhere as error:
                log.warning("%s: %s", endpoint.name, error.code)
                refused = error
        raise refused

    async def serve(self, call: Call) -> web.Response:
        """The answer of a service that is no model. Raises RefusedError."""
        endpoint, path = services.found(call.phase.config, call.path, _today())
        if call.intents is not None:
            raise RefusedError(
                422, "intent_unknown", "In mode structured no service is asked: what is declared are questions."
            )
        made, restorer = await self._prepared(call, services.Asked(path), call.body)
        sent = [encode(made["body"]).encode()]
        async with self._sent(call, endpoint, path, sent, None, stream=False) as reply:
            return await self._whole(call, reply, partial(services.answered, restorer))

    async def end(self) -> None:
        """Wait for what is still being counted."""
        if self._later:
            await asyncio.wait(self._later)

    def _endpoints(self, call: Call) -> list[Endpoint]:
        model = call.body.get("model")
        # The operator takes them out of the config, too, where it can.
        today = _today()
        endpoints = [e for e in call.phase.config.endpoints if e.until is None or today < e.until]
        if not isinstance(model, str) or not any(model in each.models for each in endpoints):
            raise RefusedError(404, "model_not_found", "The tenant has no such model.")
        if not (ordered := order(endpoints, model, call.path, self._draw)):
            raise RefusedError(404, "route_not_served", "No provider of that model answers this route.")
        return ordered

    async def _prepared(self, call: Call, rule: Rule, asked: Any) -> tuple[Any, Restorer]:
        """What may be sent, and what puts values back into its answer. Raises RefusedError."""
        conversation = self._tenant.conversation(call.phase, call.conversation)
        call.record.found = conversation.question.found
        body = await conversation.question.body(rule, asked)
        values = await conversation.values()
        await self._tenant.budgets.take(call.phase.config.limits)
        call.record.added = time.monotonic() - call.began
        return body, Restorer(values)

    async def _ask(
        self, call: Call, endpoint: Endpoint, body: dict[str, Any], restorer: Restorer
    ) -> web.StreamResponse:
        stream = body.get("stream") is True
        answer = _answer(call.path, body, restorer)
        sent = [encode(body_for(endpoint, call.path, body)).encode()]
        async with self._sent(call, endpoint, call.path, sent, answer, stream=stream) as reply:
            if stream:
                # A stream may last long, and the question is not needed any more.
                body.clear()
                call.body.clear()
                call.share.give_back()
                return await self._relay(call, reply, answer)
            return await self._whole(call, reply, answer.whole)

    @asynccontextmanager
    async def _sent(
        self, call: Call, endpoint: Endpoint, path: str, sent: list[bytes], answer: Answer | None, *, stream: bool
    ) -> AsyncIterator[Reply]:
        """The reply to the only body of a list, counted at its end. Raises Elsewhere and RefusedError."""
        size = len(sent[0])
        async with self._upstream.asked(call.phase.config, endpoint, path, sent, stream=stream) as reply:
            call.record.provider = endpoint.name
            try:
                yield reply
            finally:
                # Also where the client has gone, which cancels this.
                told = None if answer is None else answer.tokens
                call.record.tokens = (size + reply.size) // _BYTES_A_TOKEN if told is None else told
                counting = asyncio.create_task(self._count(call.phase, call.record.tokens))
                self._later.add(counting)
                counting.add_done_callback(self._later.discard)

    async def _count(self, phase: Phase, tokens: int) -> None:
        try:
            await self._tenant.budgets.used(phase.config.limits, tokens)
        except RefusedError:
            log.error("tokens were not counted: the store does not answer")  # noqa: TRY400 - the message says all

    async def _whole(self, call: Call, reply: Reply, made: Callable[[bytes], bytes]) -> web.Response:
        pieces = []
        async for piece in reply.pieces():
            call.share.take(len(piece))
            pieces.append(piece)
        try:
            body = made(b"".join(pieces))
        except BrokenAnswerError:
            raise _broken() from None
        return web.Response(body=body, content_type="application/json", headers=call.headers)

    async def _relay(self, call: Call, reply: Reply, answer: Answer) -> web.StreamResponse:
        reader = Reader(call.phase.config.limits.answer_bytes)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", **call.headers})
        try:
            async for piece in reply.pieces():
                await _pass(call.request, response, answer, reader, piece)
                if answer.ended:
                    break
            if not answer.ended:
                raise RefusedError(502, "provider_failed", "The provider's answer broke off.")
            await response.write_eof()
        except (BrokenAnswerError, BrokenStreamError):
            return await _end_early(call, response, _broken())
        except RefusedError as error:
            return await _end_early(call, response, error)
        except BaseException:
            if response.prepared:
                # Nobody may take it for a whole answer, whatever has happened.
                _break(call.request, response)
            raise
        return response


def _today() -> date:
    return datetime.now(UTC).date()


def _answer(path: str, body: dict[str, Any], restorer: Restorer) -> Answer:
    model = body["model"]
    if path == "/responses":
        wanted = (body.get("text") or {}).get("format") or {}
        return ResponsesAnswer(restorer, model, json_answer=wanted.get("type", "text") != "text")
    wanted = body.get("response_format") or {}
    usage = (body.get("stream_options") or {}).get("include_usage") is True
    return ChatAnswer(restorer, model, json_answer=wanted.get("type", "text") != "text", usage=usage)


def _broken() -> RefusedError:
    return RefusedError(502, "provider_broken", "The provider's answer is not what was asked for.")


async def _pass(
    request: web.BaseRequest, response: web.StreamResponse, answer: Answer, reader: Reader, piece: bytes
) -> None:
    """Send on what a piece has, also where it breaks off within. Raises as its parts."""
    out, said = bytearray(), reader.comments
    try:
        for event in reader.feed(piece):
            out += b"".join(answer.event(event))
    finally:
        if out or reader.comments > said:
            await _write(request, response, bytes(out) or ALIVE)


async def _end_early(call: Call, response: web.StreamResponse, error: RefusedError) -> web.StreamResponse:
    """Say in a stream that it breaks off here. Raises the error where nothing was sent yet."""
    if not response.prepared:
        raise error from None
    call.record.code = error.code
    await _write(call.request, response, Event("error", encode(error.body())).encode())
    _break(call.request, response)
    return response


async def _write(request: web.BaseRequest, response: web.StreamResponse, data: bytes) -> None:
    """Write, beginning with the headers. Raises ConnectionError where the client does not take it."""
    if not response.prepared:
        await response.prepare(request)
    try:
        async with asyncio.timeout(_CLIENT_SECONDS):
            await response.write(data)
    except TimeoutError:
        _break(request, response)
        raise ConnectionResetError("the client takes nothing") from None


def _break(request: web.BaseRequest, response: web.StreamResponse) -> None:
    """End the connection without the end of the body, so that no client takes it for a whole one."""
    response.force_close()
    if request.transport is not None:
        request.transport.close()
