"""The guard: a sidecar that lets an assistant acknowledge only while its site holds the tenant's lease.

    GET /domicile/lease     200 {"tenant", "epoch", "remainingSeconds"} or 503 {"reason", "message"}
    GET /domicile/healthz   200 while the process works
    GET /domicile/readyz    200 while the assistant's /readyz answers 200, lease or not
    anything else           to the assistant, or 503 without a lease

Where the tenant has a notice, ``consents`` adds pages of its own, and no request reaches the assistant whose person has
not accepted it. Where the tenant has a front door, nobody but its pods is served, over TLS on a port of its own; the
other one then has the guard's own pages only. What the assistant asks the model goes through here, too: from a port of
the pod's own loopback to the tenant's gateway, with the pod's certificate, and not without a lease. It fails closed,
logs no path, header or body, and reads no Kubernetes, and no store but for the records of consents.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from aiohttp import web

from domicile import forwarding
from domicile.api.spiffe import account_of
from domicile.credentials import Credentials, caller
from domicile.gateway.holder import Holder, Keeper
from domicile.gateway.proxy import Proxy, answer
from domicile.gateway.serving import served
from domicile.listener import ANYWHERE, receiving

if TYPE_CHECKING:
    from domicile.gateway.consents.server import Consents

log = logging.getLogger(__name__)

_TENANT = re.compile(r"[0-9a-f]{32}", re.ASCII)
_RESERVED = "/domicile"
_AUTHORITIES = "ca.crt"
_GRACE_SECONDS = 10.0
# To the store. Its memory has room for these, and an assistant's client for half of them.
_TUNNELS = 32


class Settings(NamedTuple):
    """The guard's settings, environment variables with the prefix DOMICILE_."""

    tenant_id: str
    lease_url: str
    upstream: str
    host: str
    port: int
    """0 picks a free one."""
    body_limit: int
    """Bytes of a request's body."""
    tls: Path
    """Folder of the pod's tls.crt, tls.key and ca.crt."""
    client: str | None
    """SPIFFE ID of whom alone it serves, over TLS; None for whoever reaches ``port``."""
    tls_port: int
    """For that client; 0 picks a free one."""
    model_url: str | None
    """The tenant's gateway; None where the assistant asks no model through here."""
    model_port: int
    """On loopback, for the assistant's questions to it; 0 picks a free one."""
    consents: Path | None
    """The file of notice and consents; None where the tenant has none."""
    store: Path
    """Folder of the credentials of the store that keeps the consents."""
    way_out: forwarding.Settings | None
    """By which they reach their store; None where they reach it directly."""

    @classmethod
    def read(cls, env: Mapping[str, str]) -> Settings:
        """Settings from the environment. Raises ValueError saying which variable is wrong."""
        tenant = env.get("DOMICILE_TENANT_ID", "")
        if not _TENANT.fullmatch(tenant):
            raise ValueError("DOMICILE_TENANT_ID must have 32 hex digits in lower case")
        client = env.get("DOMICILE_CLIENT")
        if client is not None and account_of(client) is None:
            raise ValueError("DOMICILE_CLIENT must be the SPIFFE ID of a service account")
        return cls(
            tenant_id=tenant,
            lease_url=_url(env, "DOMICILE_LEASE_URL", None),
            upstream=_url(env, "DOMICILE_UPSTREAM", "http://127.0.0.1:8081"),
            host=env.get("DOMICILE_HOST", "0.0.0.0"),  # noqa: S104 - the pod's own address
            port=_number(env, "DOMICILE_PORT", 8080, 65535),
            body_limit=_number(env, "DOMICILE_BODY_LIMIT", 32 * 2**20, 2**40),
            tls=Path(env.get("DOMICILE_TLS", "/etc/domicile/tls")),
            client=client,
            tls_port=_number(env, "DOMICILE_TLS_PORT", 8443, 65535),
            model_url=_url(env, "DOMICILE_MODEL_URL", None) if "DOMICILE_MODEL_URL" in env else None,
            model_port=_number(env, "DOMICILE_MODEL_PORT", 8082, 65535),
            consents=Path(env["DOMICILE_CONSENTS"]) if "DOMICILE_CONSENTS" in env else None,
            store=Path(env.get("DOMICILE_STORE", "/etc/domicile/store")),
            way_out=forwarding.Settings.read(env),
        )


def _url(env: Mapping[str, str], name: str, default: str | None) -> str:
    value = env.get(name, default or "")
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"{name} must be a URL such as http://host:8080")
    return value.rstrip("/")


def _number(env: Mapping[str, str], name: str, default: int, most: int) -> int:
    value = env.get(name, str(default))
    if not (value.isascii() and value.isdigit()) or int(value) > most:
        raise ValueError(f"{name} must be a number from 0 to {most}")
    return int(value)


class Guard:
    """Routes a request: the guard's own paths, and the assistant's."""

    def __init__(
        self, tenant: str, holder: Holder, proxy: Proxy, client: str | None, consents: Consents | None = None
    ) -> None:
        """``client``: SPIFFE ID of the only one whose requests are handled; None for everybody's."""
        self._tenant = tenant
        self._holder = holder
        self._proxy = proxy
        self._client = client
        self._consents = consents

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        if self._client is not None and caller(request.transport) != self._client:
            return answer(403, "NotAdmitted", "Only the tenant's front door is served here.", close=True)
        path = request.raw_path.partition("?")[0]
        if path == _RESERVED or path.startswith(_RESERVED + "/"):
            shown = await self._consents.page(request) if self._consents else None
            return shown or await self.page(request)
        if self._consents is None:
            return await self._proxy.forward(request)
        admitted = await self._consents.admit(request)
        return await self._proxy.forward(request, admitted) if isinstance(admitted, str) else admitted

    async def page(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request for a page of the guard's own."""
        path = request.raw_path.partition("?")[0]
        if request.method not in {"GET", "HEAD"}:
            return answer(404, "NotFound", "The guard has no such page.", close=True)
        match path:
            case "/domicile/lease":
                return self._lease()
            case "/domicile/healthz":
                return answer(200, "Alive", "The guard works.")
            case "/domicile/readyz":
                if await self._proxy.ready():
                    return answer(200, "Ready", "The assistant is ready.")
                return answer(503, "NotReady", "The assistant's /readyz does not answer 200.")
            case _:
                return answer(404, "NotFound", "The guard has no such page.", close=True)

    def _lease(self) -> web.Response:
        remaining = self._holder.remaining()
        if not remaining:
            return answer(503, self._holder.refusal.reason, self._holder.refusal.message)
        body = {"tenant": self._tenant, "epoch": self._holder.epoch, "remainingSeconds": remaining}
        return web.json_response(body, headers={"Cache-Control": "no-store", "Server": "domicile"})


def _model(settings: Settings, holder: Holder, keeper: Keeper) -> Proxy | None:
    if (url := settings.model_url) is None:
        return None
    return Proxy(url, holder, keeper, settings.body_limit, _asking(settings, url), whom="gateway")


def _consents(settings: Settings, holder: Holder, keeper: Keeper) -> Consents | None:
    """Raises ValueError where the file can't be used."""
    if settings.consents is None:
        return None
    # Most tenants' guards never need a store's client, and do without its memory.
    from domicile.backup.stores import way_out
    from domicile.gateway.consents import server
    from domicile.gateway.consents.person import Asker

    if settings.way_out is not None:
        way_out.use(f"http://127.0.0.1:{settings.way_out.port}")
    asker = Asker(settings.tenant_id, identified=settings.client is not None)
    return server.make(settings.consents, settings.store, asker, holder, keeper)


def _asking(settings: Settings, url: str) -> Credentials | None:
    return Credentials(settings.tls, _AUTHORITIES, connects=True) if url.startswith("https:") else None


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Serve until ``stop``; requests under way then have 10 seconds.

    Raises OSError where the port is taken, and ValueError where the file of consents can't be used.
    """
    holder = Holder()
    keeper = Keeper(holder, settings.lease_url, settings.tenant_id, _asking(settings, settings.lease_url))
    consents = _consents(settings, holder, keeper)
    proxy = Proxy(settings.upstream, holder, keeper, settings.body_limit)
    model = _model(settings, holder, keeper)
    guard = Guard(settings.tenant_id, holder, proxy, settings.client, consents)
    keeping = asyncio.create_task(keeper.run())
    keeping.add_done_callback(lambda _: stop.set())
    try:
        async with contextlib.AsyncExitStack() as stack:
            if settings.way_out is not None:
                files = Credentials(settings.tls, _AUTHORITIES, connects=True)
                way = settings.way_out.forwarder(files, _TUNNELS)
                await stack.enter_async_context(await way.listen(settings.way_out.port))
                log.info("connections to the store are taken on port %d", settings.way_out.port)
            runner = await stack.enter_async_context(
                served(guard.page if settings.client else guard.handle, _GRACE_SECONDS)
            )
            await web.TCPSite(runner, settings.host, settings.port).start()
            log.info("listening on port %d", runner.addresses[0][1])
            if settings.client:
                door = await stack.enter_async_context(served(guard.handle, _GRACE_SECONDS))
                files = Credentials(settings.tls, _AUTHORITIES)
                port = await stack.enter_async_context(receiving(door, settings.tls_port, files, ANYWHERE))
                log.info("the front door is served on port %d", port)
            if model is not None:
                questions = await stack.enter_async_context(served(model.forward, _GRACE_SECONDS))
                await web.TCPSite(questions, "127.0.0.1", settings.model_port).start()
                log.info("questions to the model are taken on port %d", questions.addresses[0][1])
            await stop.wait()
    finally:
        keeping.cancel()
        await proxy.close()
        if model is not None:
            await model.close()
        if consents is not None:
            consents.close()
        with contextlib.suppress(asyncio.CancelledError):
            await keeping


async def _until_signalled(settings: Settings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await serve(settings, stop)


def main() -> int:
    """Serve until SIGTERM; returns the exit code: 0, 1 where the port is taken, 2 for wrong settings."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    # A library's warnings may quote what a client or the assistant sent.
    for name in ("aiohttp", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        settings = Settings.read(os.environ)
    except ValueError as error:
        log.error("guard: %s", error)  # noqa: TRY400 - the message says all
        return 2
    try:
        asyncio.run(_until_signalled(settings))
    except ValueError as error:
        log.error("guard: %s", error)  # noqa: TRY400
        return 2
    except OSError as error:
        log.error("guard: cannot serve: %s", error.strerror)  # noqa: TRY400
        return 1
    return 0
