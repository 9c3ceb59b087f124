"""Who may do what: everybody below public prefixes, people with a role elsewhere, owner and admin below ``/admin/``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from aiohttp.typedefs import Middleware

from .identity import HEADER, LEEWAY_SECONDS, Identity, IdentityError, identify, session_ended
from .paths import Segments, is_below
from .trust import TrustFile

ADMIN = "/admin/"
ADMIN_ROLES = frozenset({"owner", "admin"})
PROBES = frozenset({"/healthz", "/readyz"})
IDENTITY = web.RequestKey("identity", Identity)

_ROLES = frozenset({"owner", "admin", "member"})
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ForbiddenError(Exception):
    """The person is known and may not do this. The message says who may."""


def authorise(identity: Identity | None, target: str, route: str, public: tuple[Segments, ...], assistant: str) -> None:
    """Raise IdentityError or ForbiddenError unless ``identity`` may have what ``target`` asks for.

    ``target`` is the request's as sent, ``route`` the pattern of the route that answers it ("" for none).
    """
    privileged = route.startswith(ADMIN)
    if not privileged and any(is_below(target, prefix) for prefix in public):
        return
    if identity is None:
        raise IdentityError("no_identity", "This is for people who are logged in. Log in and try again.")
    if privileged and not identity.roles & ADMIN_ROLES:
        raise ForbiddenError("This is for the roles owner and admin only. Ask one of them to do it.")
    if not identity.roles & (_ROLES | {f"assistant.{assistant}"}):
        raise ForbiddenError("You may not use this assistant. Ask an administrator of your organisation for a role.")


def checks(trust: TrustFile, assistant: str) -> Middleware:
    """A middleware that lets through who may, and notes who it is as ``request[IDENTITY]``.

    It raises TrustError, IdentityError and ForbiddenError; probes pass.
    """

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        resource = request.match_info.route.resource
        route = resource.canonical if resource else ""
        if route in PROBES:
            return await handler(request)
        trusted = trust.read()
        identity = identify(request.headers.getall(HEADER, []), trusted)
        authorise(identity, request.raw_path, route, trusted.public, assistant)
        if identity is not None:
            request[IDENTITY] = identity
        return await handler(request)

    return check


@asynccontextmanager
async def while_logged_in(request: web.Request) -> AsyncIterator[None]:
    """Cut off what runs inside once the asker's token would no longer be accepted. Raises IdentityError then."""
    identity = request.get(IDENTITY)
    remaining = None if identity is None else identity.expires + LEEWAY_SECONDS - time.time()
    try:
        async with asyncio.timeout(remaining) as limit:
            yield
    except TimeoutError:
        if limit.expired():
            raise session_ended() from None
        raise
