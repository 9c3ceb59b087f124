"""A gateway as a process, between the real client of OpenAI's API and a stand-in provider, all over TLS."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import ssl
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import openai

from domicile.controllers.pki import holders, leaf
from domicile.controllers.pki.authority import bundle
from domicile.controllers.pki.leaf import Holder
from tests.integration.gateway_provider import Provider, provider
from tests.pods import PODS, authority, calling, certificates, mounted

ASSISTANT = holders.assistant("bank", "helpdesk")
GATEWAY = Holder("bank", "gateway", "", ("localhost",))
TENANT = "0123456789abcdef" * 2
KEY = bytes(range(32))
SERVICE = "api.acme.example"
"""What a provider's certificate says that it is, too."""
SECRET = "sk-of-the-tenant"
BEHIND = "api.provider.example"
"""What the provider's certificate calls it, too; nobody but a proxy knows where that is."""


class Estate:
    """Client, gateway, provider."""

    def __init__(self, folder: Path, provider: Provider) -> None:
        self.folder = folder
        self.provider = provider
        self.process: Process | None = None
        self.port = 0
        self.health = ""
        self.lines: list[dict[str, Any]] = []
        self.told: list[str] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._last = ""
        hooks: Any = {"response": [self._answered]}
        self.http = httpx2.AsyncClient(verify=calling(ASSISTANT), timeout=20, event_hooks=hooks)

    async def _answered(self, answer: httpx2.Response) -> None:
        self._last = answer.headers.get("X-Request-Id", "")

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}/v1"

    @property
    def client(self) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(api_key="none", base_url=self.url, http_client=self.http, max_retries=0)

    def config(self, **changes: Any) -> dict[str, Any]:
        """A config with one endpoint, and changes to its parts."""
        endpoint = {"name": "first", "kind": "openai", "baseUrl": self.provider.url, "models": {"small": "m-1"}}
        config = {
            "tenantId": TENANT,
            "callers": [{"id": ASSISTANT.id, "mode": "free"}],
            "endpoints": [{**endpoint, "keyed": True}],
            "redis": "localhost:1",
            "limits": {"silenceSeconds": 1.0, "connectSeconds": 2.0},
        }
        return config | changes

    def write(self, **changes: Any) -> None:
        """Mount a config."""
        new = self.folder / "gateway.new"
        new.write_text(json.dumps(self.config(**changes)))
        new.rename(self.folder / "gateway.json")

    async def start(self, *command: str, **env: str) -> None:
        """Start it; ``command``: another one than that with a finder that knows a few things."""
        files = {"CONFIG": "gateway.json", "KEYS": "keys", "VAULT": "vault", "TLS": "tls"}
        settings = {f"DOMICILE_{name}": str(self.folder / file) for name, file in files.items()}
        self.process = await asyncio.create_subprocess_exec(
            *(command or (sys.executable, "-m", "tests.integration.gateway_process")),
            stdout=PIPE,
            stderr=PIPE,
            env=os.environ
            | settings
            | {"DOMICILE_PORT": "0", "DOMICILE_HEALTH_PORT": "0", "SSL_CERT_FILE": str(self.folder / "roots.pem")}
            | env,
        )
        assert self.process.stderr is not None
        assert self.process.stdout is not None
        async with asyncio.timeout(20):
            while b"questions on port" not in (line := await self.process.stderr.readline()):
                assert line, f"the gateway ended early: {self.told}"
                self.told.append(line.decode())
        words = line.decode().replace(",", "").split()
        self.port = int(words[-1])
        self.health = f"http://127.0.0.1:{words[words.index('port') + 1]}"
        self._tasks = [
            asyncio.create_task(self._tell(self.process.stderr)),
            asyncio.create_task(self._line(self.process.stdout)),
        ]

    async def _tell(self, stream: asyncio.StreamReader) -> None:
        while line := await stream.readline():
            self.told.append(line.decode())

    async def _line(self, stream: asyncio.StreamReader) -> None:
        while line := await stream.readline():
            self.lines.append(json.loads(line))

    async def until_told(self, what: str) -> None:
        """Wait for a word on standard error."""
        async with asyncio.timeout(20):
            while not any(what in line for line in self.told):
                await asyncio.sleep(0.02)

    async def line(self) -> dict[str, Any]:
        """The line of the last request."""
        async with asyncio.timeout(20):
            while not (found := [line for line in self.lines if line["request"] == self._last]):
                await asyncio.sleep(0.02)
        return found[0]

    async def post(self, path: str, body: Any, **headers: str) -> tuple[int, Any]:
        """Status, and what the answer's JSON is."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = await self.http.post(
            self.url + path, content=content, headers={"Content-Type": "application/json", **headers}
        )
        return answer.status_code, answer.json()

    async def end(self) -> None:
        await self.http.aclose()
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()
        await asyncio.gather(*self._tasks)


@contextlib.asynccontextmanager
async def estate(folder: Path, start: bool = True, **config: Any) -> AsyncIterator[Estate]:
    """A gateway that serves one provider; without ``start`` it is to be started."""
    signer = authority()
    hosts = ("localhost", SERVICE, BEHIND)
    roots = mounted(folder / "provider", Holder("world", "provider", "", hosts, calls=False), signer)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(roots / leaf.CERTIFICATE, roots / leaf.KEY)
    # It asks for a certificate, and takes none for an answer.
    serving.verify_mode = ssl.CERT_OPTIONAL
    serving.load_verify_locations(cadata=bundle((PODS,)).decode())
    async with provider(serving) as asked:
        made = Estate(folder, asked)
        (folder / "roots.pem").write_bytes(certificates(GATEWAY, signer)[leaf.BUNDLE])
        mounted(folder / "tls", GATEWAY, PODS)
        for name in ("keys", "vault"):
            (folder / name).mkdir()
        (folder / "keys" / "first").write_text(SECRET + "\n")
        (folder / "vault" / "key").write_bytes(KEY)
        made.write(**config)
        try:
            if start:
                await made.start()
            yield made
        finally:
            await made.end()
