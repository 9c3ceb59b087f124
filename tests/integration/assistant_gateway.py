"""The reference assistant as it runs in a pod: its questions pass a guard and a gateway, with vault, to a provider."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.integration.assistant_process import Live, assistant_process, bucket, store_server
from tests.integration.gateway_estate import ASSISTANT, Estate, estate
from tests.integration.gateway_provider import chunks
from tests.integration.gateway_store import gateway_store, prepare
from tests.integration.guard_estate import Estate as Pod
from tests.integration.guard_estate import running
from tests.integration.session_server import Store
from tests.pods import mounted
from tests.testbed.provider.extract import answer

LEASE_SECONDS = 3600


@dataclass
class House:
    """An assistant, its bucket, and all that its questions pass."""

    live: Live
    pod: Pod
    gateway: Estate
    vault: Store
    folder: Path

    @contextlib.contextmanager
    def assistant(self, **env: str) -> Any:
        """The assistant, which asks the model that the pod's guard leads to."""
        where = {"ASSISTANT_BASE_URL": f"{self.pod.url}/v1", "ASSISTANT_MODEL": "small", **env}
        nowhere: Any = self.pod
        with assistant_process(self.live, nowhere, self.folder / "assistant.log", **where) as process:
            yield process

    def kept(self) -> bytes:
        """All bytes that the assistant has written."""
        return b"".join(self.live.store.read(name) for name in self.live.names())


@contextlib.asynccontextmanager
async def house(folder: Path, **config: Any) -> AsyncIterator[House]:
    """``config``: changes to the gateway's."""
    async with contextlib.AsyncExitStack() as stack:
        live = bucket("s3", stack.enter_context(store_server("s3")), "live-1", folder)
        vault = stack.enter_context(gateway_store(folder / "redis"))
        (folder / "gateway").mkdir()
        gateway = await stack.enter_async_context(estate(folder / "gateway", start=False))
        prepare(gateway, vault, **config)
        gateway.provider.handler = _answers(gateway)
        await gateway.start()
        tls = mounted(folder / "pod", ASSISTANT)
        env = {"TLS": str(tls), "MODEL_URL": f"https://localhost:{gateway.port}", "MODEL_PORT": "0"}
        pod = await stack.enter_async_context(running(**{f"DOMICILE_{name}": value for name, value in env.items()}))
        await pod.script(mode="grant", seconds=LEASE_SECONDS)
        while await pod.get("/v1/models") == 503:
            pass
        yield House(live, pod, gateway, vault, folder)


def _answers(gateway: Estate) -> Any:
    async def handle(request: web.Request) -> web.StreamResponse:
        body = gateway.provider.seen[-1].body
        said = answer(body["messages"])
        return await gateway.provider.stream(request, [*chunks(said, body["model"]), "[DONE]"])

    return handle
