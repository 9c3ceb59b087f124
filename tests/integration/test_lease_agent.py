"""The real lease agent before two real stores, with a real guard behind it: killed, frozen and cut off."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import ssl
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from domicile.api.sites import ServedZone, SiteFile
from domicile.api.zone import Site
from domicile.backup import claims
from domicile.backup.claims import Claim, Mode
from domicile.backup.stores import open_bucket
from domicile.backup.stores.base import Bucket
from domicile.controllers.pki.authority import bundle
from tests.authorities import SERVER, Authority, write
from tests.integration.guard_estate import TENANT, boot, end, start_guard, ticking
from tests.integration.stores_fixture import Server, free_port, make_site, versitygw
from tests.pods import GUARD, LEASE, PODS, authority, calling, mounted
from tests.unit.views import zone_spec

D = 5.0
SLACK = 1.5
"""Seconds for a busy machine to deliver what the guard has already sent."""

HOME, PEER = "gcp-frankfurt", "aws-frankfurt"


@dataclass
class House:
    """Two stores, the home site's lease agent, a guard and what it guards."""

    home: Bucket
    peer: Bucket
    home_store: Server
    peer_store: Server
    agent: Process
    agent_url: str
    lease_url: str
    guard: Process
    url: str
    client: aiohttp.ClientSession
    metrics_url: str
    scraper: ssl.SSLContext
    stranger: ssl.SSLContext

    async def status(self, url: str, tls: ssl.SSLContext | None = None) -> int:
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            timeout = aiohttp.ClientTimeout(total=3)
            async with self.client.get(url, timeout=timeout, ssl=tls or True) as response:
                await response.read()
                return response.status
        return 0

    async def until(self, status: int, url: str | None = None, within: float = 20.0) -> float:
        async with asyncio.timeout(within):
            while await self.status(url or self.url) != status:
                await asyncio.sleep(0.05)
        return boot()

    async def reason(self) -> str:
        async with self.client.get(f"{self.lease_url}/v1/lease/{TENANT}", ssl=calling(GUARD)) as response:
            return str((await response.json()).get("reason", "granted"))


@contextlib.contextmanager
def stopped(store: Server) -> Iterator[None]:
    """A store that takes connections and never answers."""
    store.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        store.process.send_signal(signal.SIGCONT)


def sites(home: Server, peer: Server) -> tuple[Site, Site]:
    # Both are S3 servers here; only the names are those of two clouds.
    return (
        make_site(HOME, "onprem", "eu-north-1", home.url),
        make_site(PEER, "aws", "eu-central-1", peer.url),
    )


@pytest.fixture
async def house(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[House]:
    """A house in a zone with leases of D, or of a parameter's seconds."""
    async with contextlib.AsyncExitStack() as stack:
        stores = [stack.enter_context(versitygw(region)) for region in ("eu-north-1", "eu-central-1")]
        pair = sites(*stores)
        for site in pair:
            (tmp_path / f"{site.name}.json").write_text('{"accessKeyId": "test", "secretAccessKey": "test-secret"}')
        home, peer = (open_bucket(site, site.stores.control, tmp_path) for site in pair)
        for bucket in (home, peer):
            await asyncio.to_thread(bucket.create_bucket)
        wire = zone_spec(leaseSeconds=int(getattr(request, "param", D))).to_wire() | {
            "allowedRegions": [
                {"cloud": "onprem", "regions": ["eu-north-1"]},
                {"cloud": "aws", "regions": ["eu-central-1"]},
            ],
            "sites": [site.to_wire() for site in pair],
            "attestations": [],
        }
        served = ServedZone.model_validate({"name": "eu", "site": HOME, "spec": wire})
        site_file = tmp_path / "sites.json"
        site_file.write_text(json.dumps(SiteFile(zones=[served]).to_wire()))

        servers, scrapers = Authority("servers"), Authority("scrapers")
        metrics_dir = tmp_path / "metrics"
        write(metrics_dir, "tls", servers.issue("agent", use=SERVER, hosts=("127.0.0.1",)))
        (metrics_dir / "clients.crt").write_bytes(scrapers.pem)
        scraper, stranger = (ssl.create_default_context(cadata=servers.pem.decode()) for _ in range(2))
        scraper.load_cert_chain(*write(tmp_path, "scraper", scrapers.issue("prometheus")))

        port, lease_port, metrics_port = free_port(), free_port(), free_port()
        agent = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", "import sys; from domicile.gateway import agent; sys.exit(agent.main())"),
            stderr=DEVNULL,
            env=os.environ
            | {
                "DOMICILE_SITE_FILE": str(site_file),
                "DOMICILE_CREDENTIALS_DIR": str(tmp_path),
                "DOMICILE_PORT": str(port),
                "DOMICILE_LEASE_PORT": str(lease_port),
                "DOMICILE_TLS_DIR": str(mounted(tmp_path / "agent", LEASE)),
                "DOMICILE_METRICS_DIR": str(metrics_dir),
                "DOMICILE_METRICS_PORT": str(metrics_port),
                "DOMICILE_METRICS_NETWORKS": "127.0.0.1/32",
            },
        )
        stack.push_async_callback(end, agent)

        runner = web.ServerRunner(web.Server(ticking, access_log=None), shutdown_timeout=0.1)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        lease_url = f"https://localhost:{lease_port}"
        guard, guard_port = await start_guard(
            lease_url, runner.addresses[0][1], DOMICILE_TLS=str(mounted(tmp_path / "guard", GUARD))
        )
        stack.push_async_callback(end, guard)
        client = aiohttp.ClientSession()
        stack.push_async_callback(client.close)
        lease = f"http://127.0.0.1:{guard_port}/domicile/lease"
        metrics = f"https://127.0.0.1:{metrics_port}"
        yield House(
            home,
            peer,
            *stores,
            agent,
            f"http://127.0.0.1:{port}",
            lease_url,
            guard,
            lease,
            client,
            metrics,
            scraper,
            stranger,
        )


async def serve_at_home(house: House) -> None:
    await house.until(200, f"{house.agent_url}/readyz", within=60)
    claim = Claim.new(TENANT, 1, holder=HOME, mode=Mode.INITIAL, request_id="request")
    await asyncio.to_thread(claims.write_claim, claim, [house.home, house.peer])
    await asyncio.to_thread(claims.mark_open, house.home, TENANT, 1)
    written = boot()
    # At once: no wait of a whole lease for a tenant's very first claim.
    assert await house.until(200) - written < D


async def read_to_end(stream: aiohttp.ClientResponse) -> None:
    while await stream.content.readany():
        pass


async def cut_within(house: House, stream: aiohttp.ClientResponse, since: float) -> None:
    """The stream breaks, and does not end as if it were whole, before the last lease can be over."""
    async with asyncio.timeout(D + 10):
        with pytest.raises(aiohttp.ClientError):
            await read_to_end(stream)
    assert boot() - since < D + SLACK
    assert await house.status(house.url) == 503


@pytest.mark.parametrize("fault", ["agent killed", "own store silent", "own store dead"])
async def test_a_stream_is_cut_within_the_lease(house: House, fault: str) -> None:
    assert await house.status(house.url) == 503
    await serve_at_home(house)
    async with house.client.get(house.url.replace("/domicile/lease", "/")) as stream:
        assert await stream.content.readany()
        since = boot()
        if fault == "agent killed":
            house.agent.kill()
            await cut_within(house, stream, since)
        elif fault == "own store silent":
            with stopped(house.home_store):
                await cut_within(house, stream, since)
            await house.until(200)
        else:
            house.home_store.process.kill()
            await cut_within(house, stream, since)


# Each round waits two seconds for a silent peer: of the shortest lease that leaves a busy machine too little.
@pytest.mark.parametrize("house", [2 * D], indirect=True)
async def test_a_silent_peer_neither_stops_the_holder_nor_hides_the_claim_that_it_learnt(house: House) -> None:
    await serve_at_home(house)
    # Within a lease of its first claim a tenant still needs the peer in every round.
    begun = boot()
    while boot() - begun < 2.1 * D:
        assert await house.status(house.url) == 200
        await asyncio.sleep(0.2)
    with stopped(house.peer_store):
        begun = boot()
        while boot() - begun < 3 * D:
            assert await house.status(house.url) == 200
            await asyncio.sleep(0.2)
    taken = Claim.new(TENANT, 2, holder=PEER, mode=Mode.EMERGENCY, request_id="request", base_commit=0)
    await asyncio.to_thread(claims.write_claim, taken, [house.peer])
    written = boot()
    assert await house.until(503) - written < 2 * D + SLACK
    with stopped(house.peer_store):
        begun = boot()
        while boot() - begun < D:
            assert await house.status(house.url) == 503
            await asyncio.sleep(0.2)
    assert await house.reason() == "NotHolder"


async def test_the_agent_answers_probes_and_strangers(house: House) -> None:
    await house.until(200, f"{house.agent_url}/readyz", within=60)
    assert await house.status(f"{house.agent_url}/healthz") == 200
    pod = calling(GUARD)
    assert await house.status(f"{house.lease_url}/v1/lease/{'f' * 32}", pod) == 503
    assert await house.status(f"{house.lease_url}/v1/lease/nobody", pod) == 400
    assert await house.status(f"{house.agent_url}/v1/lease/{'f' * 32}") == 404, "leases are told to pods only"
    # Their certificate is broken, or says that they call nobody.
    for holder, signer in ((GUARD, authority()), (LEASE, PODS)):
        assert await house.status(f"{house.lease_url}/v1/lease/{'f' * 32}", calling(holder, signer, PODS)) == 0
    nobody = ssl.create_default_context(cadata=bundle((PODS,)).decode())
    assert await house.status(f"{house.lease_url}/v1/lease/{'f' * 32}", nobody) == 0
    assert await house.status(f"{house.agent_url}/metrics") == 404
    async with house.client.get(f"{house.metrics_url}/metrics", ssl=house.scraper) as response:
        text = await response.text()
    assert "domicile_lease_refusals_total" in text
    assert "f" * 32 not in text
    with pytest.raises(aiohttp.ClientError):
        await house.client.get(f"{house.metrics_url}/metrics", ssl=house.stranger)
