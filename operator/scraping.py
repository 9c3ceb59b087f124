"""The port of /metrics, apart from the probes: closed unless its certificates and its networks are given."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Final, Self

from aiohttp import web
from pydantic import Field, IPvAnyNetwork, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from domicile.credentials import Credentials
from domicile.listener import serving

_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class ScrapeSettings(BaseSettings):
    """Settings of the port, environment variables with the prefix DOMICILE_."""

    model_config = SettingsConfigDict(env_prefix="DOMICILE_", frozen=True, extra="ignore")

    metrics_dir: Annotated[
        Path | None,
        Field(description="Folder of tls.crt, tls.key and clients.crt of the port of /metrics; none: no such port."),
    ] = None
    metrics_port: Annotated[int, Field(description="TCP port of /metrics; 0 picks a free one.", ge=0, le=65535)] = 8443
    metrics_networks: Annotated[
        tuple[IPvAnyNetwork, ...],
        NoDecode,
        Field(description="Networks that may connect to it, such as 10.8.0.0/24, separated by commas."),
    ] = ()

    @field_validator("metrics_networks", mode="before")
    @classmethod
    def _split_networks(cls, value: Any) -> Any:
        return tuple(s.strip() for s in value.split(",") if s.strip()) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _whence(self) -> Self:
        if self.metrics_dir is not None and not self.metrics_networks:
            raise ValueError("metrics_dir is set and metrics_networks is empty: name the networks that may scrape")
        return self


@asynccontextmanager
async def scraped(settings: ScrapeSettings, render: Callable[[], bytes]) -> AsyncIterator[int | None]:
    """Serve GET /metrics while the context lasts; yields the port, None where none is asked for.

    ``render`` returns Prometheus' text exposition format, version 0.0.4. Raises OSError where the port is taken.
    """
    if settings.metrics_dir is None:
        yield None
        return

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=render(), headers={"Content-Type": _TYPE})

    app = web.Application()
    app.add_routes([web.get("/metrics", metrics)])
    files = Credentials(settings.metrics_dir, "clients.crt")
    async with serving(app, settings.metrics_port, files, settings.metrics_networks) as port:
        yield port
