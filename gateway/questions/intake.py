"""A request's body and headers, taken within bounds."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from aiohttp import web

from domicile.gateway.proxy import framing_fault
from domicile.gateway.questions.refusal import RefusedError
from domicile.gateway.questions.strict import decode

CONVERSATION: Final = "Domicile-Conversation"
_CONVERSATION: Final = re.compile(r"[A-Za-z0-9_-]{1,128}", re.ASCII)
_BODY_SECONDS: Final = 60.0


class Room:
    """How much may be held at once, over all requests of the process."""

    def __init__(self, most: int) -> None:
        """``most``: bytes."""
        self._left = most

    @contextmanager
    def share(self) -> Iterator[Share]:
        """One request's share, given back at the end."""
        share = Share(self)
        try:
            yield share
        finally:
            share.give_back()

    def take(self, size: int) -> None:
        """Raises RefusedError (429) where there is not so much left."""
        if size > self._left:
            raise RefusedError(429, "busy", "Too much is under way; ask again soon.", retry_after=1)
        self._left -= size


class Share:
    """What one request holds."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._size = 0

    def take(self, size: int) -> None:
        """As Room's."""
        self._room.take(size)
        self._size += size

    def give_back(self) -> None:
        """Hold nothing any more."""
        self._room.take(-self._size)
        self._size = 0


def conversation(request: web.BaseRequest) -> str | None:
    """The conversation that a request names; None: none. Raises RefusedError (400)."""
    named = request.headers.getall(CONVERSATION, [])
    if not named:
        return None
    if len(named) > 1 or not _CONVERSATION.fullmatch(named[0]):
        raise RefusedError(
            400, "invalid_conversation", f"{CONVERSATION} must have 1 to 128 letters, digits, hyphens or underscores."
        )
    return named[0]


def check_framing(request: web.BaseRequest) -> None:
    """Raises RefusedError (400) where a request could be read in two ways."""
    if (fault := framing_fault(request)) is not None:
        raise RefusedError(400, "bad_request", fault)


async def body(request: web.BaseRequest, limit: int, share: Share) -> dict[str, Any]:
    """The JSON object in a body of at most ``limit`` bytes. Raises RefusedError: 400, 408, 413, 415, 417, 429."""
    kind, _, parameters = request.headers.get("Content-Type", "").partition(";")
    if kind.strip().lower() != "application/json" or parameters.strip().lower() not in {"", "charset=utf-8"}:
        raise RefusedError(415, "unsupported_content_type", "Content-Type must be application/json.")
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise RefusedError(415, "unsupported_content_encoding", "A body may not be compressed.")
    if int(request.headers.get("Content-Length", "0")) > limit:
        raise _too_large(limit)
    if (expected := request.headers.get("Expect", "").lower()) not in {"", "100-continue"}:
        raise RefusedError(417, "expectation_failed", "The only expectation is 100-continue.")
    if expected:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    pieces, size = [], 0
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for piece in request.content.iter_any():
                size += len(piece)
                if size > limit:
                    raise _too_large(limit)
                share.take(len(piece))
                pieces.append(piece)
    except TimeoutError:
        raise RefusedError(408, "body_timeout", "The body took too long to come.") from None
    value = decode(b"".join(pieces))
    if not isinstance(value, dict):
        raise RefusedError(400, "invalid_json", "The body must be an object.")
    return value


def _too_large(limit: int) -> RefusedError:
    return RefusedError(413, "body_too_large", f"A body may have {limit} bytes.")
