"""The gateway's process: ``domicile gateway``."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from asyncio.sslproto import SSLProtocol
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import Field, ValidationError
from pydantic_settings import SettingsConfigDict

from domicile.api.gateway import GatewayConfig
from domicile.credentials import Credentials
from domicile.gateway.questions.asking import Desk
from domicile.gateway.questions.budgets import Budgets
from domicile.gateway.questions.following import Followed
from domicile.gateway.questions.record import Records
from domicile.gateway.questions.server import Gateway
from domicile.gateway.questions.store import connect
from domicile.gateway.questions.tenant import Analyser, Lent, Phase, Tenant
from domicile.gateway.questions.upstream import Upstream
from domicile.gateway.questions.vault import Vault
from domicile.gateway.serving import served
from domicile.health import Health
from domicile.health import serving as probed
from domicile.listener import ANYWHERE, receiving
from domicile.scraping import ScrapeSettings, scraped

log = logging.getLogger(__name__)

_AUTHORITIES: Final = "ca.crt"
_KEY_BYTES: Final = 32
_LOOK_SECONDS: Final = 1.0
_GRACE_SECONDS: Final = 20.0
_SILENCE_SECONDS: Final = 60.0
_RECORD_BYTES: Final = 2**14 + 512


class Settings(ScrapeSettings):
    """The gateway's settings, environment variables with the prefix DOMICILE_."""

    model_config = SettingsConfigDict(env_prefix="DOMICILE_", frozen=True, extra="ignore")

    config: Annotated[Path, Field(description="The file gateway.json, followed while it changes.")] = Path(
        "/etc/domicile/gateway/gateway.json"
    )
    keys: Annotated[Path, Field(description="Folder of the providers' keys, by endpoint, and of egress.")] = Path(
        "/etc/domicile/providers"
    )
    vault: Annotated[
        Path, Field(description="Folder of key (32 bytes), and of user and password of the account at redis.")
    ] = Path("/etc/domicile/vault")
    tls: Annotated[Path, Field(description="Folder of the pod's tls.crt, tls.key and ca.crt.")] = Path(
        "/etc/domicile/tls"
    )
    port: Annotated[int, Field(description="TCP port of questions; 0 picks a free one.", ge=0, le=65535)] = 8443
    health_port: Annotated[
        int, Field(description="TCP port of /healthz and /readyz; 0 picks a free one.", ge=0, le=65535)
    ] = 8080
    metrics_port: Annotated[int, Field(description="TCP port of /metrics; 0 picks a free one.", ge=0, le=65535)] = 8444
    analysers: Annotated[int, Field(description="Processes that look at texts.", ge=1, le=64)] = 2
    analyser_seconds: Annotated[float, Field(description="How long one request's texts may take them.", gt=0)] = 10.0
    analyser_model: Annotated[
        Path | None, Field(description="Folder of a language model for names; none: patterns only.")
    ] = None


async def serve(settings: Settings, analyser: Callable[[GatewayConfig], Analyser], stop: asyncio.Event) -> None:
    """Serve until ``stop``; ``analyser`` makes one for a config.

    Raises OSError for a port that is taken and for files that are missing, ValueError for wrong ones.
    """
    followed = Followed(settings.config)
    key = (settings.vault / "key").read_bytes()
    if len(key) != _KEY_BYTES:
        raise ValueError(f"{settings.vault}/key must have {_KEY_BYTES} bytes")
    config = followed.config
    credentials = Credentials(settings.tls, _AUTHORITIES, connects=True)
    redis = connect(config.redis, credentials, settings.vault)
    tenant = Tenant(
        Phase.of(config, Lent(analyser(config))),
        key,
        lambda own: Vault(redis, config.tenant_id, own),
        Budgets(redis, config.tenant_id),
    )
    upstream = Upstream(settings.keys, credentials)
    desk, records = Desk(tenant, upstream), Records()
    health = Health(_SILENCE_SECONDS)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(redis.aclose)
        stack.push_async_callback(upstream.close)
        stack.callback(tenant.close)
        stack.push_async_callback(desk.end)
        runner = await stack.enter_async_context(served(Gateway(tenant, desk, records).handle, _GRACE_SECONDS))
        files = Credentials(settings.tls, _AUTHORITIES)
        port = await stack.enter_async_context(receiving(runner, settings.port, files, ANYWHERE))
        await stack.enter_async_context(scraped(settings, records.render))
        probes = await stack.enter_async_context(probed(health, settings.health_port))
        log.info("probes are answered on port %d, questions on port %d", probes, port)
        await _follow(followed, tenant, analyser, health, stop)


def _take(new: GatewayConfig, tenant: Tenant, analyser: Callable[[GatewayConfig], Analyser]) -> None:
    """Answer by a new config, or go on with the old one where nothing can look at texts as the new one says."""
    old = tenant.phase
    try:
        # Before an analyser is made, which would have to be closed again.
        phase = Phase.of(new, old.lent)
        if new.privacy != old.config.privacy:
            phase = phase._replace(lent=Lent(analyser(new)))
    except ValueError as error:
        log.error("the config stays as it was: %s", error)  # noqa: TRY400 - the message says all
        return
    tenant.change(phase)
    log.info("a new config is taken")


async def _follow(
    followed: Followed,
    tenant: Tenant,
    analyser: Callable[[GatewayConfig], Analyser],
    health: Health,
    stop: asyncio.Event,
) -> None:
    """Take new configs until ``stop``."""
    beat = health.pulse("config")
    while not stop.is_set():
        if followed.changed():
            _take(followed.config, tenant, analyser)
        health.ready = tenant.phase.lent.analyser.ready()
        beat()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), _LOOK_SECONDS)


def pool(settings: Settings) -> Callable[[GatewayConfig], Analyser]:
    """What makes analysers in processes of their own."""
    made: Any = import_module("domicile.gateway.privacy.pool").Pool
    return lambda config: made(config.privacy, settings.analysers, settings.analyser_seconds, settings.analyser_model)


async def until_signalled(settings: Settings, analyser: Callable[[GatewayConfig], Analyser]) -> None:
    """Serve until SIGTERM or SIGINT. Raises as ``serve``."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await serve(settings, analyser, stop)


def run(make: Callable[[Settings], Callable[[GatewayConfig], Analyser]]) -> int:
    """Serve until SIGTERM; returns the exit code: 0, 1 where it can't serve, 2 for wrong settings."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    # Two connections a stream, each of which would hold 256 KiB for what it reads; a record of TLS has 16.
    SSLProtocol.max_size = _RECORD_BYTES
    # A library's warnings may quote what was asked or answered.
    for name in ("aiohttp", "asyncio", "redis", "presidio-analyzer"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        settings = Settings()
    except ValidationError as error:
        for each in error.errors(include_url=False, include_input=False):
            log.error("gateway: DOMICILE_%s: %s", "_".join(map(str, each["loc"])).upper(), each["msg"])  # noqa: TRY400
        return 2
    try:
        asyncio.run(until_signalled(settings, make(settings)))
    except (OSError, ValueError) as error:
        log.error("gateway: cannot serve: %s", error)  # noqa: TRY400
        return 1
    return 0


def main() -> int:
    """As ``run``, with analysers in processes."""
    return run(pool)
