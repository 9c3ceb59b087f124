"""An assistant's questions to its model, through the guard of its pod to the tenant's gateway."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from domicile.controllers.pki.leaf import Holder
from domicile.credentials import Credentials, caller
from domicile.listener import ANYWHERE, receiving
from tests.integration.guard_estate import LEASE, Assistant, Estate, running, ticking
from tests.pods import GUARD, authority, mounted

GATEWAY = Holder("bank", "gateway", "", ("localhost",))


class Gateway(Assistant):
    """Where questions arrive; it notes who asked."""

    def __init__(self) -> None:
        super().__init__()
        self.callers: list[str | None] = []

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.callers.append(caller(request.transport))
        return await super().handle(request)


@contextlib.asynccontextmanager
async def gateway(files: Path) -> AsyncIterator[Gateway]:
    """A gateway on a port of its own, TLS with certificates at both ends."""
    stand_in = Gateway()
    runner = web.ServerRunner(web.Server(stand_in.handle, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    try:
        async with receiving(runner, 0, Credentials(files, "ca.crt"), ANYWHERE) as stand_in.port:
            yield stand_in
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def pod(tls: Path, target: Gateway) -> AsyncIterator[Estate]:
    """A guard whose questions go to ``target``; its port is the one for these."""
    env = {"TLS": str(tls), "MODEL_URL": f"https://localhost:{target.port}", "MODEL_PORT": "0"}
    async with running(**{f"DOMICILE_{name}": value for name, value in env.items()}) as house:
        yield house


async def asked(house: Estate, body: bytes = b"{}", path: str = "/v1/chat/completions") -> tuple[int, bytes]:
    async with house.client.post(house.url + path, data=body) as response:
        return response.status, await response.read()


async def opened(house: Estate) -> None:
    """Wait for the lease: the guard's pages are on another port, so questions tell."""
    await house.script(mode="grant", seconds=LEASE)
    async with asyncio.timeout(15):
        while (await asked(house))[0] == 503:
            await asyncio.sleep(0.02)


@pytest.fixture
def tls(tmp_path: Path) -> Path:
    return mounted(tmp_path / "pod", GUARD)


@pytest.fixture
async def model(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with gateway(mounted(tmp_path / "gateway", GATEWAY)) as stand_in:
        yield stand_in


async def test_a_question_arrives_with_the_pods_certificate(tls: Path, model: Gateway) -> None:
    async with pod(tls, model) as house:
        await opened(house)
        model.forget()
        assert await asked(house, b'{"model": "m"}') == (200, b"hello")
    [(method, path, _, body)] = model.seen
    assert (method, path, body) == ("POST", "/v1/chat/completions", b'{"model": "m"}')
    assert set(model.callers) == {GUARD.id}
    assert house.assistant.seen == []


async def test_without_a_lease_no_question_leaves(tls: Path, model: Gateway) -> None:
    async with pod(tls, model) as house:
        status, body = await asked(house)
        assert status == 503
        assert b"reason" in body
        assert model.seen == []


async def test_an_answer_ends_with_the_lease(tls: Path, model: Gateway) -> None:
    async with pod(tls, model) as house:
        await opened(house)
        model.handler = ticking
        async with house.client.post(house.url + "/v1/responses", data=b"{}") as response:
            assert (await response.content.readexactly(5)) == b"tick "
            await house.script(mode="refuse")
            with pytest.raises(aiohttp.ClientError):
                await response.read()
        model.forget()
        assert (await asked(house))[0] == 503
        assert model.seen == []


async def test_who_is_not_the_tenants_gateway_hears_nothing(tls: Path, tmp_path: Path) -> None:
    strangers = {
        "elsewhere": mounted(tmp_path / "elsewhere", Holder("bank", "gateway", "", ("gateway.clinic.svc",))),
        "unknown": mounted(tmp_path / "unknown", GATEWAY, authority()),
    }
    for files in strangers.values():
        async with gateway(files) as stranger, pod(tls, stranger) as house:
            await opened(house)
            status, body = await asked(house)
            assert status == 502
            assert b"UpstreamFailed" in body
            assert stranger.seen == []


async def test_without_a_certificate_nothing_is_asked(tls: Path, model: Gateway) -> None:
    (tls / "tls.crt").unlink()
    async with pod(tls, model) as house:
        await house.script(mode="grant", seconds=LEASE)
        async with asyncio.timeout(15):
            while b"NoCertificate" not in (await asked(house))[1]:
                await asyncio.sleep(0.02)
        assert model.seen == []


async def test_only_this_pod_reaches_the_port(tls: Path, model: Gateway) -> None:
    async with pod(tls, model) as house:
        await opened(house)
        # All of 127/8 is this host's; a listener on all addresses would answer there.
        with pytest.raises(aiohttp.ClientConnectorError):
            await house.client.post(f"http://127.0.0.2:{house.port}/v1/chat/completions", data=b"{}")
