"""The guard behind a front door: who gets in by which certificate, and what happens when certificates change."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from domicile.controllers.pki import holders, leaf
from domicile.controllers.pki.authority import LEAF, Authority, bundle, make
from domicile.credentials import Credentials, connecting
from domicile.gateway.proxy import _waiting_below
from domicile.listener import ANYWHERE, receiving
from tests.integration.apiserver import free_port
from tests.integration.guard_estate import LEASE, Estate, boot, drain, end, running, start_guard, ticking
from tests.pods import DOOR, GUARD, PODS, authority, calling, certificates, mounted

SLACK = 0.75
NAMES = {"X-Forwarded-Host": "assistants.bank.example", "Host": "helpdesk.bank.svc"}


@pytest.fixture
def tls(tmp_path: Path) -> Path:
    return mounted(tmp_path / "tls", GUARD)


@pytest.fixture
def pages() -> str:
    """Where the guard's own pages are."""
    return f"127.0.0.1:{free_port()}"


@pytest.fixture
async def house(tls: Path, pages: str) -> AsyncIterator[Estate]:
    """An estate whose guard has a front door, and a lease."""
    env = {"TLS": str(tls), "CLIENT": DOOR.id, "TLS_PORT": "0", "PORT": pages.partition(":")[2]}
    async with running(**{f"DOMICILE_{name}": value for name, value in env.items()}) as house:
        house.url = f"https://localhost:{house.port}"
        await house.script(mode="grant", seconds=LEASE)
        async with asyncio.timeout(20):
            while await house.get("/domicile/lease", ssl=calling(DOOR)) != 200:
                await asyncio.sleep(0.05)
        yield house


async def test_the_door_gets_in_and_the_assistant_hears_the_public_name(house: Estate) -> None:
    assert await house.get("/chat", ssl=calling(DOOR), headers=NAMES) == 200
    [(_, path, headers, _)] = house.assistant.seen
    assert path == "/chat"
    assert headers.getall("Host") == ["assistants.bank.example"]


STRANGERS = {
    "another tenant's door": holders.door("clinic"),
    "another assistant": holders.assistant("bank", "reports"),
    "itself": GUARD,
    "the operator": holders.operator("domicile-system"),
}


@pytest.mark.parametrize("holder", STRANGERS.values(), ids=STRANGERS)
async def test_other_pods_are_refused_by_name(house: Estate, holder: leaf.Holder) -> None:
    async with house.client.get(house.url, ssl=calling(holder), headers=NAMES) as response:
        assert response.status == 403
        assert (await response.json())["reason"] == "NotAdmitted"
    assert house.assistant.seen == []


def forged() -> dict[str, ssl.SSLContext]:
    other = authority()
    nobody = ssl.create_default_context(cadata=bundle((PODS,)).decode())
    past = make(datetime.now(UTC) - 3 * LEAF)
    old = leaf.issue((past,), DOOR, datetime.now(UTC) - 2 * LEAF)
    server = leaf.Holder("bank", "front-door", "", ("localhost",), calls=False)
    older = calling(DOOR)
    older.minimum_version = older.maximum_version = ssl.TLSVersion.TLSv1_2
    return {
        "no certificate": nobody,
        "another authority's": calling(DOOR, other, PODS),
        "expired": connecting(old[leaf.PAIR], bundle((PODS,))),
        "one that only serves": calling(server),
        "TLS 1.2": older,
    }


@pytest.mark.parametrize("why", forged())
async def test_what_is_no_pods_certificate_ends_at_the_handshake(house: Estate, why: str) -> None:
    assert await house.get("/", ssl=forged()[why], headers=NAMES) == 0
    assert house.assistant.seen == []
    assert await house.get("/", ssl=calling(DOOR), headers=NAMES) == 200


async def test_the_port_of_the_own_pages_leads_to_no_assistant(house: Estate, pages: str) -> None:
    for page in ("lease", "healthz", "readyz"):
        async with house.client.get(f"http://{pages}/domicile/{page}") as response:
            assert response.status == 200 or page == "readyz"
    for path in ("/", "/chat", "/domicile", "/domicile/../chat", "//chat"):
        async with house.client.get(f"http://{pages}{path}") as response:
            assert response.status == 404
        async with house.client.post(f"http://{pages}{path}") as response:
            assert response.status == 404
    assert all(path == "/readyz" for _, path, _, _ in house.assistant.seen)


async def test_a_kept_connection_ends_with_the_certificate_that_opened_it(house: Estate, tls: Path) -> None:
    past = make(datetime.now(UTC) - 2 * LEAF)
    mounted(tls, GUARD, PODS, PODS, past)
    # It ends in three seconds.
    short = leaf.issue((past,), DOOR, datetime.now(UTC) - LEAF + timedelta(seconds=3))
    door = connecting(short[leaf.PAIR], bundle((PODS,)))
    reader, writer = await asyncio.open_connection("localhost", house.port, ssl=door)
    statuses = []
    async with asyncio.timeout(20):
        while not statuses or statuses[-1] == b"200":
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            statuses.append(head.split()[1])
            length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
            await reader.readexactly(int(length.split(b":")[1]))
            await asyncio.sleep(0.1)
        assert set(statuses) == {b"200", b"403"}
        assert await reader.read() == b""
    writer.close()


async def test_authorities_follow_each_other_without_a_lost_request(house: Estate, tls: Path) -> None:
    new = authority()
    answers: list[int] = []
    door = calling(DOOR)
    done = asyncio.Event()

    async def ask() -> None:
        while not done.is_set():
            answers.append(await house.get("/", ssl=door, headers=NAMES))

    asking = asyncio.create_task(ask())

    async def some() -> None:
        before = len(answers)
        async with asyncio.timeout(20):
            while len(answers) < before + 20:
                await asyncio.sleep(0.01)

    both: tuple[Authority, ...] = (PODS, new)
    await some()
    mounted(tls, GUARD, PODS, *both)
    await some()
    door = calling(DOOR, PODS, *both)
    mounted(tls, GUARD, new, *both)
    await some()
    door = calling(DOOR, new, *both)
    await some()
    mounted(tls, GUARD, new)
    await some()
    done.set()
    await asking
    assert set(answers) == {200}
    assert await house.get("/", ssl=calling(DOOR, PODS, *both)) == 0, "the one before is believed no more"


async def test_broken_files_change_nothing(house: Estate, tls: Path) -> None:
    (tls / "tls.key").write_bytes(certificates(GUARD)["tls.key"])
    assert await house.get("/", ssl=calling(DOOR)) == 200
    (tls / "ca.crt").unlink()
    assert await house.get("/", ssl=calling(DOOR)) == 200


async def test_without_a_certificate_there_is_no_lease_and_the_guard_says_why(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    guard, port = await start_guard("https://localhost:9", 9, DOMICILE_TLS=str(tmp_path / "empty"))
    try:
        async with asyncio.timeout(20), aiohttp.ClientSession() as client:
            reason = ""
            while reason != "NoCertificate":
                async with client.get(f"http://127.0.0.1:{port}/domicile/lease") as response:
                    assert response.status == 503
                    reason = (await response.json())["reason"]
                await asyncio.sleep(0.05)
    finally:
        await end(guard)


async def test_a_stream_is_cut_when_the_lease_ends(house: Estate) -> None:
    house.assistant.handler = ticking
    async with house.client.get(house.url, ssl=calling(DOOR)) as stream:
        assert stream.status == 200
        assert await stream.content.readany()
        house.agent.kill()
        gone = boot()
        with pytest.raises(aiohttp.ClientError):
            await stream.read()
        assert boot() - gone < LEASE + SLACK


async def test_what_waits_below_tls_is_seen(tmp_path: Path) -> None:
    found: list[int] = []
    read = asyncio.Event()

    async def slow(request: web.BaseRequest) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        response = web.StreamResponse(headers={"Content-Length": "60000"})
        await response.prepare(request)
        await response.write(b"x" * 60000)
        await request.writer.drain()
        found.append(_waiting_below(request.transport))
        read.set()
        async with asyncio.timeout(20):
            while _waiting_below(request.transport):
                await asyncio.sleep(0.01)
        return response

    runner = web.ServerRunner(web.Server(slow))
    await runner.setup()
    async with receiving(runner, 0, Credentials(mounted(tmp_path / "tls", GUARD), "ca.crt"), ANYWHERE) as port:
        plain = socket.socket()
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        plain.connect(("127.0.0.1", port))
        reader, writer = await asyncio.open_connection(
            sock=plain, ssl=calling(DOOR), server_hostname="localhost", limit=1024
        )
        writer.write(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
        await asyncio.wait_for(read.wait(), 20)
        assert found[0] > 0, "it was written, and the system has not taken it"
        assert len(await drain(reader)) > 60000
        writer.close()
    await runner.cleanup()
