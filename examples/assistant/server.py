"""The assistant's HTTP server: page, API, export, probes. Keeps no state of its users: any replica answers any request.

A session is a random token in a cookie, and the server stores nothing for it. Without consent the conversation lives
in the page, which sends its last turns with each question; with consent it lives in the live bucket.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import aiohttp
from aiohttp import web

from . import access, conversation, export, grants, page, prompt
from .access import Handler, while_logged_in
from .anonymiser import Anonymiser
from .conversation import CONSENT_VERSION, Conversation, State, Turn
from .errors import MAX_BODY_BYTES, ApiError, failure_of
from .knowledge import Knowledge
from .model import MAX_ANSWER_CHARS, Model, ModelError
from .settings import Settings
from .store import Store, open_store
from .trust import TrustFile

COOKIE = "assistant_session"
RECORDED_COOKIE_SECONDS = 30 * 24 * 3600
MAX_MESSAGE_CHARS = 4_000
MAX_HISTORY_TURNS = 20

SETTINGS = web.AppKey("settings", Settings)
STORE: web.AppKey[Store] = web.AppKey("store", Store)
KNOWLEDGE = web.AppKey("knowledge", Knowledge)
MODEL = web.AppKey("model", Model)
ANONYMISER = web.AppKey("anonymiser", Anonymiser)

_PREFIX = re.compile(r"(/[A-Za-z0-9._-]+)*/?")
_LOG = logging.getLogger("assistant.server")


@web.middleware
async def _answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    begun = time.monotonic()
    status = 500
    try:
        response = await handler(request)
        status = response.status
    except (ConnectionResetError, asyncio.CancelledError):
        status = 499
        raise
    except Exception as error:  # noqa: BLE001 - the one place that turns errors into answers
        failure = failure_of(error)
        status = failure.status
        response = web.json_response(failure.body(), status=status)
    finally:
        if request.path not in access.PROBES:
            resource = request.match_info.route.resource
            route = resource.canonical if resource else "(no route)"
            _LOG.info("%s %s %d %.0f ms", request.method, route, status, (time.monotonic() - begun) * 1000)
    if not response.prepared:
        response.headers.update(page.SECURITY_HEADERS)
    return response


async def _read_json(request: web.Request) -> dict[str, Any]:
    # A page of another origin can't send this type without asking first; together with SameSite that stops forgery.
    if request.content_type != "application/json":
        raise ApiError(415, "json_expected", "Send the body as application/json.")
    try:
        body = await request.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise ApiError(400, "json_expected", "The body must be a JSON object.")
    return body


def _token(request: web.Request) -> str:
    token = request.cookies.get(COOKIE)
    if token is None or not conversation.is_token(token):
        raise ApiError(401, "no_session", "Start a session first: POST /api/sessions.")
    return token


def _cookie_path(request: web.Request) -> str:
    # Several assistants may share a host: each has its own path there, and the door takes that off ours.
    prefix = request.headers.get("X-Forwarded-Prefix", "")
    if not _PREFIX.fullmatch(prefix):
        raise ApiError(400, "bad_prefix", "X-Forwarded-Prefix must be a path such as /helpdesk.")
    return prefix.rstrip("/") + "/"


def _set_cookie(request: web.Request, response: web.Response, token: str, recorded: bool) -> None:
    response.set_cookie(
        COOKIE,
        token,
        max_age=RECORDED_COOKIE_SECONDS if recorded else None,
        httponly=True,
        samesite="Strict",
        # TLS ends in front of the pod, which is told of it by this header.
        secure=request.headers.get("X-Forwarded-Proto") == "https",
        path=_cookie_path(request),
    )


def _conversation(request: web.Request) -> Conversation:
    identity = request.get(access.IDENTITY)
    return Conversation(request.app[STORE], _token(request), identity and identity.person)


def _may_record(request: web.Request) -> bool:
    return grants.may_record(request.headers.getall(grants.HEADER, []))


async def _state(request: web.Request, session: Conversation) -> State:
    """What was agreed to here, ended where the guard says that recording is not, or no longer, granted."""
    state = await asyncio.to_thread(session.state)
    if state.recording and not _may_record(request):
        state = await asyncio.to_thread(session.decide, False, CONSENT_VERSION)
    return state


async def start_session(request: web.Request) -> web.Response:
    """POST /api/sessions: a new session, without consent. The token is in the cookie only."""
    token = conversation.new_token()
    body = {
        "session": Conversation(request.app[STORE], token).id,
        "recording": False,
        "consentVersion": CONSENT_VERSION,
    }
    response = web.json_response(body, status=201)
    _set_cookie(request, response, token, recorded=False)
    return response


async def decide(request: web.Request) -> web.Response:
    """POST /api/consent {recording, version}: agree or withdraw; a withdrawal deletes what was recorded."""
    body = await _read_json(request)
    recording, version = body.get("recording"), body.get("version")
    if not isinstance(recording, bool) or not isinstance(version, str):
        raise ApiError(
            400, "bad_consent", "Send recording (true or false) and version (the version of the consent text)."
        )
    if recording and version != CONSENT_VERSION:
        raise ApiError(
            409, "consent_text_changed", f"The consent text is now version {CONSENT_VERSION}. Read it and agree again."
        )
    if recording and not _may_record(request):
        raise ApiError(403, "recording_not_granted", "Agree to recording first, on the page domicile/consents.")
    session = _conversation(request)
    state = await asyncio.to_thread(session.decide, recording, CONSENT_VERSION)
    response = web.json_response({"recording": state.recording, "consentVersion": CONSENT_VERSION})
    _set_cookie(request, response, _token(request), recorded=state.recording)
    return response


async def show(request: web.Request) -> web.Response:
    """GET /api/conversation: whether turns are recorded, and the recorded ones."""
    session = _conversation(request)
    state = await _state(request, session)
    turns = await asyncio.to_thread(_shown, request.app[ANONYMISER], session, state)
    return web.json_response(
        {
            "session": session.id,
            "recording": state.recording,
            "consentVersion": CONSENT_VERSION,
            "turns": [{"question": t.question, "answer": t.answer, "sources": list(t.sources)} for t in turns],
        }
    )


def _shown(anonymiser: Anonymiser, session: Conversation, state: State) -> list[Turn]:
    """The recorded turns with what their placeholders stand for, where the gateway still knows."""
    turns = session.turns(state)
    hidden = [turn for turn in turns if turn.hidden]
    texts = [text for turn in hidden for text in (turn.question, turn.answer)]
    values = iter(anonymiser.restore(texts, session.topic) if texts else [])
    return [replace(turn, question=next(values), answer=next(values)) if turn.hidden else turn for turn in turns]


async def forget(request: web.Request) -> web.Response:
    """DELETE /api/conversation: withdraw, delete what was recorded and end the session."""
    await asyncio.to_thread(_conversation(request).decide, False, CONSENT_VERSION)
    response = web.json_response({"recording": False, "deleted": True})
    response.del_cookie(COOKIE, path=_cookie_path(request))
    return response


def _message(body: dict[str, Any]) -> str:
    message = body.get("message")
    if not isinstance(message, str) or not message.strip():
        raise ApiError(400, "no_message", "Send message, a text that is not empty.")
    if len(message) > MAX_MESSAGE_CHARS:
        raise ApiError(413, "too_large", f"The message is longer than {MAX_MESSAGE_CHARS} characters. Shorten it.")
    return message.strip()


def _sent_history(body: dict[str, Any]) -> list[Turn]:
    sent = body.get("history", [])
    form = ApiError(
        400,
        "bad_history",
        f"history must be a list of at most {MAX_HISTORY_TURNS} objects with question and answer, both texts.",
    )
    if not isinstance(sent, list) or len(sent) > MAX_HISTORY_TURNS:
        raise form
    turns: list[Turn] = []
    for item in sent:
        match item:
            case {"question": str(question), "answer": str(answer)}:
                if len(question) > MAX_MESSAGE_CHARS or len(answer) > MAX_ANSWER_CHARS:
                    raise ApiError(413, "too_large", "A turn of history is too long.")
                turns.append(Turn(question, answer))
            case _:
                raise form
    return turns


@asynccontextmanager
async def _answer(request: web.Request, plan: prompt.Plan, topic: str | None) -> AsyncIterator[AsyncIterator[str]]:
    if plan.refusal is None:
        async with request.app[MODEL].ask(plan.messages, topic) as pieces:
            yield pieces
    else:
        yield _once(plan.refusal)


async def _once(piece: str) -> AsyncIterator[str]:
    yield piece


async def questions(request: web.Request) -> web.StreamResponse:
    """GET /api/questions: {"questions"}, the phrases that may be asked; none where anything may."""
    declared = await request.app[MODEL].questions() if request.app[SETTINGS].structured else []
    return web.json_response({"questions": declared})


async def chat(request: web.Request) -> web.StreamResponse:
    """POST /api/chat {message, stream?, history?}: an answer that names its sources, as JSON or as server-sent events.

    Events: ``delta`` {text}, then ``done`` {answer, sources, recorded}, or ``error`` {code, message}. With consent,
    success (200, or ``done``) means that the turn is durable.
    """
    body = await _read_json(request)
    message, history = _message(body), _sent_history(body)
    session = _conversation(request)
    state = await _state(request, session)
    if request.app[SETTINGS].structured:
        # Whoever keeps earlier turns may have changed them: the gateway takes none.
        history = []
    elif state.turns and (not history or (state.recording and request.app[SETTINGS].store_anonymised)):
        # Placeholders of the conversation: an answer may name somebody where nobody would find the name.
        history = await asyncio.to_thread(session.turns, state, prompt.CONTEXT_TURNS)
    passages = await asyncio.to_thread(request.app[KNOWLEDGE].search, message)
    plan = prompt.plan(request.app[SETTINGS].name, message, passages, history)
    if plan.refusal is not None and (waiting := request.app[KNOWLEDGE].waiting):
        raise ApiError(
            503,
            "knowledge_incomplete",
            f"I found nothing about that, but {waiting} files of the knowledge base are not read in yet: names have to"
            " be taken out of them first. Try again later. If that goes on, an administrator finds why in the log.",
        )

    async def finish(answer: str) -> dict[str, Any]:
        if not answer:
            raise ModelError("the model's answer is empty")
        answer, sources = prompt.cite(answer, plan)
        turn = Turn(message, answer, sources)
        if state.recording and request.app[SETTINGS].store_anonymised:
            turn = await asyncio.to_thread(_hidden, request.app[ANONYMISER], turn, plan, session.topic)
        recorded = await asyncio.to_thread(session.append, turn, state)
        return {"answer": answer, "sources": list(sources), "recorded": recorded}

    known = state.recording or any(turn.hidden for turn in history)
    async with _answer(request, plan, session.topic if known else None) as pieces:
        if not body.get("stream"):
            async with while_logged_in(request):
                answer = "".join([piece async for piece in pieces])
            return web.json_response(await finish(answer))
        return await _stream(request, pieces, finish)


def _hidden(anonymiser: Anonymiser, turn: Turn, plan: prompt.Plan, topic: str) -> Turn:
    # With all that the model was given: what only the context of a name tells is then known in the answer, too.
    given = [message["content"] for message in plan.messages]
    question, answer, *_ = anonymiser.hide([turn.question, turn.answer, *given], topic)
    return replace(turn, question=question, answer=answer, hidden=True)


async def _stream(
    request: web.Request, pieces: AsyncIterator[str], finish: Callable[[str], Awaitable[dict[str, Any]]]
) -> web.StreamResponse:
    response = web.StreamResponse(headers={**page.SECURITY_HEADERS, "X-Accel-Buffering": "no"})
    response.content_type = "text/event-stream"
    response.charset = "utf-8"
    await response.prepare(request)

    async def send(event: str, data: dict[str, Any]) -> None:
        await response.write(f"event: {event}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n".encode())

    answer = ""
    try:
        async with while_logged_in(request):
            async for piece in pieces:
                answer += piece
                await send("delta", {"text": piece})
        await send("done", await finish(answer))
    except ConnectionResetError:
        raise
    except Exception as error:  # noqa: BLE001 - the status line has gone out: any error travels as the last event
        await send("error", failure_of(error).body()["error"])
    await response.write_eof()
    return response


async def export_conversations(request: web.Request) -> web.StreamResponse:
    """GET /admin/conversations: every recorded turn as a line of JSON; a last line {"error"} where it broke off."""
    batches = export.lines(request.app[STORE])
    # The first batch may fail with a status of its own; the ones after it no longer can.
    batch = await asyncio.to_thread(next, batches, None)
    response = web.StreamResponse(headers=page.SECURITY_HEADERS)
    response.content_type = "application/x-ndjson"
    response.charset = "utf-8"
    await response.prepare(request)
    try:
        async with while_logged_in(request):
            while batch is not None:
                await response.write(batch)
                batch = await asyncio.to_thread(next, batches, None)
    except ConnectionResetError:
        raise
    except Exception as error:  # noqa: BLE001 - the status line has gone out
        await response.write(json.dumps(failure_of(error).body()).encode() + b"\n")
    await response.write_eof()
    return response


async def _ok(_: web.Request) -> web.Response:
    return web.Response(text="ok\n")


async def _resources(app: web.Application) -> AsyncIterator[None]:
    # Store calls wait for the network: more threads than cores.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(max_workers=16))
    async with aiohttp.ClientSession() as http:
        app[MODEL] = Model(http, app[SETTINGS].base_url, app[SETTINGS].model)
        yield


def make_app(settings: Settings) -> web.Application:
    """The application. Opens no connection before the first request. Raises SettingsError."""
    app = web.Application(middlewares=[_answer_errors], client_max_size=MAX_BODY_BYTES)
    app[SETTINGS] = settings
    app[STORE] = open_store(settings.store, settings.credentials, settings.authorities)
    app[ANONYMISER] = Anonymiser(settings.base_url)
    app[KNOWLEDGE] = Knowledge(app[STORE], anonymise=app[ANONYMISER].remove if settings.knowledge_anonymised else None)
    app.cleanup_ctx.append(_resources)
    app.add_routes(
        [
            web.get("/", page.handler(settings.name)),
            web.post("/api/sessions", start_session),
            web.post("/api/consent", decide),
            web.get("/api/questions", questions),
            web.post("/api/chat", chat),
            web.get("/api/conversation", show),
            web.delete("/api/conversation", forget),
            *(web.get(probe, _ok) for probe in sorted(access.PROBES)),
        ]
    )
    if settings.identity is not None:
        app.middlewares.append(access.checks(TrustFile(settings.identity), settings.name))
        # Without it nobody is known to be an administrator, and there is nothing privileged.
        app.router.add_get(f"{access.ADMIN}conversations", export_conversations)
    return app
