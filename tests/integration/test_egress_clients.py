"""Clients' own libraries through the way out: what a tenant's gateway is made of."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
from collections.abc import Iterator

import aiohttp
import pytest
import urllib3

from domicile.controllers.egress.accounts import Destination
from tests.integration.egress_server import ALICE, BOB, HERE, PASSWORDS, PORT, WayOut, own_network, soon, way_out

HOST = "api.example.com"
PROXY = f"https://localhost:{PORT}"


@pytest.fixture(scope="module")
def way(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WayOut]:
    with own_network(), way_out(tmp_path_factory.mktemp("egress"), alice=(Destination(HOST),)) as made:
        made.names.put(HOST, HERE)
        yield made


def trusting(way: WayOut) -> ssl.SSLContext:
    """aiohttp has one context for the proxy and for what lies behind it."""
    context = way.context()
    context.load_verify_locations(cadata=way.web.pem.decode())
    return context


async def test_aiohttp(way: WayOut) -> None:
    def proof(account: str) -> dict[str, str]:
        return {"Proxy-Authorization": aiohttp.encode_basic_auth(account, PASSWORDS[ALICE])}

    async with aiohttp.ClientSession() as session:

        async def get(host: str, account: str) -> str:
            asked = session.get(f"https://{host}/", proxy=PROXY, proxy_headers=proof(account), ssl=trusting(way))
            async with asked as answer:
                return await answer.text()

        assert await get(HOST, ALICE) == "hello"
        for host, account in ((HOST, BOB), ("other.example.com", ALICE)):
            with pytest.raises(aiohttp.ClientHttpProxyError) as refused:
                await get(host, account)
            assert refused.value.status == 407


async def test_urllib3_which_is_below_boto3_and_google_auth(way: WayOut) -> None:
    context = ssl.create_default_context(cadata=way.web.pem.decode())
    headers = urllib3.make_headers(proxy_basic_auth=f"{ALICE}:{PASSWORDS[ALICE]}")
    http = urllib3.ProxyManager(PROXY, proxy_headers=headers, proxy_ssl_context=way.context(), ssl_context=context)

    def get(host: str) -> bytes:
        return http.request("GET", f"https://{host}/", retries=False, timeout=10).data

    assert await asyncio.to_thread(get, HOST) == b"hello"
    with pytest.raises(urllib3.exceptions.ProxyError, match="407"):
        await asyncio.to_thread(get, "other.example.com")


async def test_at_its_end_open_tunnels_have_time(way: WayOut) -> None:
    """Last, for nothing is open afterwards."""
    tunnel, _ = await way.connect(HOST)
    assert await tunnel.start_tls(way.trust(), HOST)
    os.kill(way.squid.process.pid, signal.SIGTERM)
    await soon("no new ones", lambda: way.squid.health() != 200)
    assert await tunnel.say(b"still") == b"still"
    tunnel.close()
    await soon("it ends", lambda: way.squid.process.poll() is not None, 30)
    assert way.squid.process.returncode == 0
