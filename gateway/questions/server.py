"""The gateway's routes, and who may use them."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import unquote

from aiohttp import web

from domicile.api.gateway import Placeholders
from domicile.credentials import caller
from domicile.gateway.questions import intake, services
from domicile.gateway.questions.asking import FIELDS, Call, Desk
from domicile.gateway.questions.record import Record, Records
from domicile.gateway.questions.refusal import RefusedError
from domicile.gateway.questions.restoring import Restorer
from domicile.gateway.questions.tenant import Phase, Tenant

log = logging.getLogger(__name__)

_HELD_BYTES: Final = 64 * 2**20
_MODELS: Final = "/v1/models"
_IRREVERSIBLE: Final = "irreversible"

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Gateway:
    """Answers requests. ``routes`` are all that there are."""

    def __init__(self, tenant: Tenant, desk: Desk, records: Records) -> None:
        self._tenant = tenant
        self._desk = desk
        self._records = records
        self._room = intake.Room(_HELD_BYTES)
        self._under_way = 0
        self.routes: dict[tuple[str, str], Callable[[Call], Awaitable[web.StreamResponse]]] = {
            **{("POST", f"/v1{path}"): desk.ask for path in FIELDS},
            ("POST", "/v1/domicile/anonymise"): self._anonymise,
            ("POST", "/v1/domicile/restore"): self._restore,
            ("POST", f"/v1{services.PATTERN}"): desk.serve,
            ("GET", "/v1/domicile/intents"): self._intents,
            ("GET", _MODELS): self._models,
            ("GET", f"{_MODELS}/{{id}}"): self._model,
        }

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        began = time.monotonic()
        record = Record(secrets.token_hex(8))
        try:
            self._under_way += 1
            phase = self._tenant.phase
            with phase.lent.used(), self._room.share() as share:
                response = await self._route(request, phase, share, record, began)
                record.status = response.status
        except RefusedError as error:
            record.status, record.code = error.status, error.code
            response = _refusal(error, record)
        except (asyncio.CancelledError, ConnectionError):
            # nginx's number for it.
            record.status, record.code = 499, "client_gone"
            raise
        except Exception as error:  # noqa: BLE001 - the text of whatever it is may quote a question
            log.error("a request failed: %s", _where(error))  # noqa: TRY400
            record.status, record.code = 500, "internal_error"
            response = _refusal(RefusedError(500, "internal_error", "The gateway has failed."), record)
        finally:
            self._under_way -= 1
            self._records.ended(record, time.monotonic() - began)
        return response

    async def _route(
        self, request: web.BaseRequest, phase: Phase, share: intake.Share, record: Record, began: float
    ) -> web.StreamResponse:
        who = caller(request.transport)
        if who is None or who not in phase.callers:
            raise RefusedError(403, "not_admitted", "Only the tenant's assistants are served here.")
        intake.check_framing(request)
        path = request.raw_path
        pattern = _pattern(path)
        answer = self.routes.get((request.method, pattern))
        if answer is None:
            raise RefusedError(404, "unknown_route", "The gateway has no such route, so nothing was passed on.")
        record.route = pattern
        if self._under_way > phase.config.limits.streams:
            raise RefusedError(429, "busy", "Too many requests are under way.", retry_after=1)
        conversation = intake.conversation(request)
        body = {}
        if request.method == "POST":
            body = await intake.body(request, phase.config.limits.body_bytes, share)
        headers = _headers(record)
        inner = path.removeprefix("/v1")
        intents = phase.callers[who]
        return await answer(Call(request, inner, body, conversation, phase, intents, share, record, began, headers))

    async def _intents(self, call: Call) -> web.Response:
        """What people may ask the assistant that asks; of one in mode free nothing is declared."""
        declared = call.intents.declared if call.intents else ()
        return _json(call, {"object": "list", "data": [each.to_wire() for each in declared]})

    async def _models(self, call: Call) -> web.Response:
        return _json(call, {"object": "list", "data": [_model(each) for each in _ids(call)]})

    async def _model(self, call: Call) -> web.Response:
        asked = unquote(call.path.removeprefix("/models/"))
        if asked not in _ids(call):
            raise RefusedError(404, "model_not_found", "The tenant has no such model.")
        return _json(call, _model(asked))

    async def _anonymise(self, call: Call) -> web.Response:
        texts, wanted = _texts(call, _IRREVERSIBLE), None
        if _IRREVERSIBLE in call.body:
            if call.body[_IRREVERSIBLE] is not True:
                raise RefusedError(400, "invalid_value", "irreversible must be true, or left out.")
            wanted = Placeholders.IRREVERSIBLE
        conversation = self._tenant.conversation(call.phase, call.conversation, wanted)
        call.record.found = conversation.question.found
        return _json(call, {"texts": await conversation.anonymised(texts)})

    async def _restore(self, call: Call) -> web.Response:
        if call.conversation is None:
            raise RefusedError(400, "conversation_missing", f"{intake.CONVERSATION} must say whose placeholders.")
        texts = _texts(call)
        values = await self._tenant.conversation(call.phase, call.conversation).restored(texts)
        return _json(call, {"texts": [Restorer(values).text(text) for text in texts]})


def _pattern(path: str) -> str:
    """How ``routes`` has it."""
    if path.startswith(f"{_MODELS}/"):
        return f"{_MODELS}/{{id}}"
    if path.startswith(f"/v1{services.PREFIX}"):
        return f"/v1{services.PATTERN}"
    return path


def _ids(call: Call) -> list[str]:
    return sorted({model for endpoint in call.phase.config.endpoints for model in endpoint.models})


def _model(model: str) -> dict[str, Any]:
    return {"id": model, "object": "model", "created": 0, "owned_by": "domicile"}


def _texts(call: Call, *others: str) -> list[str]:
    """The field ``texts``, beside which there may be ``others`` only. Raises RefusedError."""
    texts = call.body.get("texts")
    known = call.body.keys() <= {"texts", *others}
    if not known or not isinstance(texts, list) or not all(isinstance(t, str) for t in texts):
        raise RefusedError(400, "invalid_value", 'The body must be {"texts": [...]}, all strings.')
    return texts


def _headers(record: Record) -> dict[str, str]:
    return {"Cache-Control": "no-store", "Server": "domicile", "X-Request-Id": record.request}


def _json(call: Call, body: dict[str, Any]) -> web.Response:
    return web.json_response(body, headers=call.headers)


def _refusal(error: RefusedError, record: Record) -> web.Response:
    headers = _headers(record)
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    text = json.dumps(error.body(), ensure_ascii=True)
    response = web.Response(
        text=text,
        status=error.status,
        reason=HTTPStatus(error.status).phrase,
        content_type="application/json",
        headers=headers,
    )
    # The body may not have been read to its end.
    response.force_close()
    return response


def _where(error: Exception) -> str:
    """Class and place of an error, without its text."""
    trace, place = error.__traceback__, "?"
    while trace is not None:
        place = f"{trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}"
        trace = trace.tb_next
    return f"{type(error).__name__} at {place}"
