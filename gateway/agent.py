"""The lease agent: a stateless server that reads claims in rounds and answers who may acknowledge writes.

    GET /v1/lease/<tenant id>   200 {"tenant", "epoch", "remainingSeconds"} or 503 {"reason", "message"};
                                over TLS, to whoever has a certificate of the pods' authority
    GET /healthz /readyz        200 ok or 503 not ok, on a port of their own
    GET /metrics                on a port of its own (domicile.scraping), if at all

It writes to no store and knows no Kubernetes; several run side by side without a leader.
"""

from __future__ import annotations

import asyncio
import logging
import re
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Annotated, TypeVar

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from pydantic import Field, ValidationError

from domicile.api import sites
from domicile.api.sites import ServedZone
from domicile.backup import claims
from domicile.backup.claims import Claim, Names
from domicile.backup.errors import BackupError
from domicile.backup.stores import Deadlines, open_bucket
from domicile.backup.stores.base import Bucket, StoreError
from domicile.credentials import Credentials, caller
from domicile.gateway.lease import Refusal, ZoneLeases
from domicile.listener import ANYWHERE, serving
from domicile.scraping import ScrapeSettings, scraped

log = logging.getLogger(__name__)

_T = TypeVar("_T")

DEADLINES = Deadlines(connect=2.0, read=2.0, retries=0)
_LISTING_SECONDS = 2.0
_CALLS_AT_ONCE = 16
_TENANT = re.compile(r"[0-9a-f]{32}", re.ASCII)


def boot_seconds() -> float:
    """CLOCK_BOOTTIME: unlike the monotonic clock it counts while the machine is suspended (clock_gettime(2))."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Settings(ScrapeSettings):
    """Settings of the lease agent: environment variables with the prefix DOMICILE_."""

    site_file: Annotated[Path, Field(description="The mounted site file.")] = Path("/etc/domicile/sites/sites.json")
    credentials_dir: Annotated[
        Path, Field(description="Folder of <site>.json store credentials that can read the control buckets.")
    ] = Path("/etc/domicile/credentials")
    port: Annotated[int, Field(description="TCP port of the probes; 0 picks a free one.", ge=0, le=65535)] = 8080
    lease_port: Annotated[int, Field(description="TCP port of the leases; 0 picks a free one.", ge=0, le=65535)] = 8444
    tls_dir: Annotated[
        Path, Field(description="Folder of the agent's tls.crt and tls.key, and of ca.crt, the pods' authorities.")
    ] = Path("/etc/domicile/tls")


class ZoneAgent:
    """Rounds of one zone, and the claims they need."""

    def __init__(self, zone: ServedZone, credentials: Path, clock: Callable[[], float]) -> None:
        self.zone = zone
        self._credentials = credentials
        self._clock = clock
        # One a store: a peer whose calls hang takes no thread from the site's own store.
        self._pools: dict[str, ThreadPoolExecutor] = defaultdict(partial(ThreadPoolExecutor, _CALLS_AT_ONCE))
        self._claims: dict[tuple[str, int], Claim] = {}
        self.leases = ZoneLeases(zone)
        self.last_round: float | None = None

    def follow(self, zone: ServedZone) -> None:
        """Go on with the zone as edited, and with all that is known of its claims."""
        self.zone = zone
        self.leases.follow(zone)

    @property
    def period(self) -> float:
        """Seconds between the starts of two rounds."""
        return min(self.zone.spec.lease_seconds / 6, 5.0)

    async def run(self) -> None:
        """Rounds until cancelled."""
        try:
            while True:
                begun = self._clock()
                await self._round(begun)
                await asyncio.sleep(max(0.05, self.period - (self._clock() - begun)))
        finally:
            for pool in self._pools.values():
                pool.shutdown(wait=False, cancel_futures=True)

    async def _round(self, begun: float) -> None:
        own, peer = await asyncio.gather(self._list(self.zone.own.name), self._list(self._peer))
        now = self._clock()
        wanted = self._wanted(own, peer)
        await asyncio.gather(*(self._fetch(tenant, n, own, peer) for tenant, n in wanted))
        self.leases.round(begun, self._clock(), own, peer, lambda tenant, n: self._claims.get((tenant, n)))
        if own is not None:
            self.last_round = now

    @property
    def _peer(self) -> str | None:
        return self.zone.peer.name if self.zone.peer else None

    def _wanted(self, own: Mapping[str, Names] | None, peer: Mapping[str, Names] | None) -> list[tuple[str, int]]:
        highest = {
            tenant: max(side[tenant].highest for side in (own or {}, peer or {}) if tenant in side)
            for tenant in {**(own or {}), **(peer or {})}
        }
        return [(tenant, n) for tenant, n in highest.items() if n and (tenant, n) not in self._claims]

    def _control(self, site: str) -> Bucket:
        found = next(s for s in self.zone.spec.sites if s.name == site)
        return open_bucket(found, found.stores.control, self._credentials, DEADLINES)

    async def _list(self, site: str | None) -> Mapping[str, Names] | None:
        """The claims in a site's control bucket; None without an answer in time."""
        if site is None:
            return None
        return await self._in_time(site, lambda: claims.survey(self._control(site)), f"control bucket of {site}")

    async def _fetch(
        self, tenant: str, n: int, own: Mapping[str, Names] | None, peer: Mapping[str, Names] | None
    ) -> None:
        for site, side in ((self.zone.own.name, own), (self._peer, peer)):
            if site is not None and side is not None and tenant in side and n in side[tenant].claims:
                found = await self._in_time(site, partial(self._read, site, tenant, n), f"claim at {site}")
                if found is not None:
                    # Create-once, so it may be remembered for ever.
                    self._claims[tenant, n] = found
                    return

    def _read(self, site: str, tenant: str, n: int) -> Claim:
        return claims.read_claim(self._control(site), tenant, n)

    async def _in_time(self, site: str, call: Callable[[], _T], what: str) -> _T | None:
        try:
            async with asyncio.timeout(_LISTING_SECONDS):
                return await asyncio.get_running_loop().run_in_executor(self._pools[site], call)
        except (TimeoutError, StoreError, BackupError) as error:
            log.warning("%s: %s", what, type(error).__name__)
            return None


class Agent:
    """All served zones; follows the site file."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = boot_seconds) -> None:
        self._settings = settings
        self._clock = clock
        self._zones: dict[str, tuple[ZoneAgent, asyncio.Task[None]]] = {}
        self._loaded = False
        self.registry = CollectorRegistry()
        self._refused = Counter(
            "domicile_lease_refusals",
            "Lease requests that were refused, by reason.",
            ["reason"],
            registry=self.registry,
        )
        self._granted = Counter("domicile_lease_grants", "Lease requests that were granted.", registry=self.registry)
        self._age = Gauge(
            "domicile_lease_round_age_seconds",
            "Seconds since a round last read the site's own control bucket.",
            ["zone"],
            registry=self.registry,
        )

    async def follow(self) -> None:
        """Keep one ZoneAgent for each zone of the site file until cancelled. An unreadable file changes nothing."""
        try:
            while True:
                try:
                    self.take(sites.load(self._settings.site_file).zones)
                    self._loaded = True
                except (OSError, ValidationError) as error:
                    log.warning("site file %s: %s", self._settings.site_file, type(error).__name__)
                await asyncio.sleep(1.0)
        finally:
            for _, task in self._zones.values():
                task.cancel()

    def take(self, zones: list[ServedZone]) -> None:
        """Serve exactly these zones. An edited one keeps its leases; one that is another site now starts anew."""
        wanted = {z.name: z for z in zones}
        for name in [
            n for n, (agent, _) in self._zones.items() if n not in wanted or wanted[n].site != agent.zone.site
        ]:
            self._zones.pop(name)[1].cancel()
        for name, zone in wanted.items():
            if name in self._zones:
                self._zones[name][0].follow(zone)
            else:
                agent = ZoneAgent(zone, self._settings.credentials_dir, self._clock)
                self._zones[name] = (agent, asyncio.get_running_loop().create_task(agent.run()))

    def zones(self) -> dict[str, ZoneAgent]:
        """The agents of the served zones by name."""
        return {name: agent for name, (agent, _) in self._zones.items()}

    async def lease(self, request: web.Request) -> web.Response:
        """GET /v1/lease/<tenant id>."""
        if caller(request.transport) is None:
            return web.json_response({"reason": "NoPod", "message": "Your certificate names no pod."}, status=403)
        tenant = request.match_info["tenant"]
        if not _TENANT.fullmatch(tenant):
            return web.json_response({"reason": "BadTenant", "message": "A tenant id has 32 hex digits."}, status=400)
        refusal = Refusal("NoZone", "This agent serves no zone yet.")
        for agent in self.zones().values():
            answer = agent.leases.remaining(tenant, self._clock())
            if not isinstance(answer, Refusal):
                self._granted.inc()
                return web.json_response(
                    {"tenant": tenant, "epoch": answer[0].epoch, "remainingSeconds": round(answer[1], 3)}
                )
            if answer.reason != "UnknownTenant" or refusal.reason == "NoZone":
                refusal = answer
        self._refused.labels(refusal.reason).inc()
        return web.json_response({"reason": refusal.reason, "message": refusal.message}, status=503)

    async def healthz(self, _request: web.Request) -> web.Response:
        """Fails once a zone's rounds have ended or hang: an unreachable store is no reason to restart."""
        broken = [name for name, (_, task) in self._zones.items() if task.done()]
        if broken:
            log.error("rounds have ended for %s", ", ".join(broken))
        return _verdict(good=not broken)

    async def readyz(self, _: web.Request) -> web.Response:
        """Ready once replacing an older agent by this one would end nobody's lease."""
        return _verdict(good=self._loaded and all(a.leases.settled(self._clock()) for a in self.zones().values()))

    def metrics(self) -> bytes:
        """Prometheus metrics; no label names a tenant."""
        for name, agent in self.zones().items():
            if agent.last_round is not None:
                self._age.labels(name).set(self._clock() - agent.last_round)
        return generate_latest(self.registry)


def _verdict(*, good: bool) -> web.Response:
    # Whoever reaches the port hears no more.
    return web.Response(text="ok" if good else "not ok", status=200 if good else 503)


def application(settings: Settings) -> web.Application:
    """The agent's web application: its probes, and what runs beside them."""
    agent = Agent(settings)
    app, leases = web.Application(), web.Application()
    app.add_routes([web.get("/healthz", agent.healthz), web.get("/readyz", agent.readyz)])
    leases.add_routes([web.get("/v1/lease/{tenant}", agent.lease)])

    async def background(_: web.Application) -> AsyncIterator[None]:
        task = asyncio.get_running_loop().create_task(agent.follow())
        files = Credentials(settings.tls_dir, "ca.crt")
        async with serving(leases, settings.lease_port, files, ANYWHERE), scraped(settings, agent.metrics):
            yield
        task.cancel()

    app.cleanup_ctx.append(background)
    return app


def main() -> int:
    """Serve until SIGTERM; returns the exit code."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    settings = Settings()
    web.run_app(application(settings), port=settings.port, access_log=None, print=None)
    return 0
