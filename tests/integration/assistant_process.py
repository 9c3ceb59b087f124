"""The reference assistant and what it needs, each a process of its own; and people who use it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import aiohttp
import boto3

from examples.assistant.settings import StoreUrl
from examples.assistant.store import Store, open_store
from tests.integration.stores_fixture import Server, fake_gcs, free_port, versitygw

ROOT = Path(__file__).resolve().parents[2]
KEY = {"accessKeyId": "test", "secretAccessKey": "test-secret"}
KNOWLEDGE = {
    "returns.md": "# Returns\n\nGoods can be returned within 30 days. Use the label in the parcel.\n",
    "öffnungszeiten.txt": "Der Laden ist montags bis freitags von 9 bis 18 Uhr geöffnet.\n",
}
ORDER = "My order number is 4711. How long can I return goods?"
VERSION = "2"


@dataclass
class Live:
    """A live bucket, seen past the assistant."""

    url: str
    credentials: Path | None
    server: Server
    store: Store

    def names(self) -> list[str]:
        return [e.name for e in self.store.list("") if not e.name.startswith("knowledge/")]


@dataclass
class Process:
    """One of our processes: its port, its log."""

    port: int
    log: Path
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stop(self, sign: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(sign)
        return self.process.wait(30)


@contextmanager
def started(module: str, folder: Path, log: Path, **env: str) -> Iterator[Process]:
    """A module of ``folder`` as a process with this environment only, once its /healthz answers."""
    port = free_port()
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", module],
            cwd=folder,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", "PORT": str(port), **env},
        )
    running = Process(port, log, process)
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                with urlopen(f"{running.url}/healthz", timeout=5) as answer:
                    assert answer.status == 200
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{module} did not start: {log.read_text()[-2000:]}") from None
                time.sleep(0.05)
        yield running
    finally:
        process.kill()
        process.wait(10)


def bucket(cloud: str, server: Server, name: str, folder: Path) -> Live:
    """A new bucket that holds KNOWLEDGE."""
    credentials = None
    if cloud == "gcs":
        url = f"gs://{name}?endpoint={server.url}"
        body = json.dumps({"name": name}).encode()
        with urlopen(Request(f"{server.url}/storage/v1/b?project=p", body, {"Content-Type": "application/json"})):
            pass
    else:
        url = f"s3://{name}?endpoint={server.url}&region=eu-central-1"
        credentials = folder / "key.json"
        credentials.write_text(json.dumps(KEY))
        sdk: Any = boto3
        sdk.client(
            "s3",
            endpoint_url=server.url,
            region_name="eu-central-1",
            aws_access_key_id=KEY["accessKeyId"],
            aws_secret_access_key=KEY["secretAccessKey"],
        ).create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    store = open_store(StoreUrl.parse(url), credentials)
    for file, text in KNOWLEDGE.items():
        store.create(f"knowledge/{file}", text.encode())
    return Live(url, credentials, server, store)


@contextmanager
def store_server(cloud: str) -> Iterator[Server]:
    """An object store, ``gcs`` or ``s3``."""
    with fake_gcs("EUROPE-WEST3") if cloud == "gcs" else versitygw("eu-central-1") as server:
        yield server


@contextmanager
def assistant_process(live: Live, provider: Process, log: Path, **env: str) -> Iterator[Process]:
    """The assistant over this bucket and this model."""
    env = {
        "ASSISTANT_HOST": "127.0.0.1",
        "ASSISTANT_NAME": "Testbed & Co",
        "ASSISTANT_STORE_URL": live.url,
        "ASSISTANT_BASE_URL": f"{provider.url}/v1",
        "ASSISTANT_MODEL": "extractive-1",
        **({"ASSISTANT_STORE_CREDENTIALS": str(live.credentials)} if live.credentials else {}),
        **env,
    }
    with started("assistant", ROOT / "examples", log, **env) as process:
        yield process


@contextmanager
def provider_process(folder: Path, **env: str) -> Iterator[Process]:
    """The model's server."""
    with started(
        "provider", ROOT / "tests/testbed", folder / "provider.log", PROVIDER_HOST="127.0.0.1", **env
    ) as found:
        yield found


class User:
    """Someone with a browser's cookies, at one or more replicas."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self.http, self.url = http, url

    async def call(self, method: str, path: str, body: Any = None, status: int | None = 200) -> dict[str, Any]:
        async with self.http.request(method, f"{self.url}{path}", json=body) as response:
            answer: dict[str, Any] = await response.json()
            assert status in {None, response.status}, answer
            return answer

    async def ask(self, message: str, status: int = 200, **more: Any) -> dict[str, Any]:
        return await self.call("POST", "/api/chat", {"message": message, **more}, status)

    async def consent(self, recording: bool) -> None:
        body = {"recording": recording, "version": VERSION}
        assert (await self.call("POST", "/api/consent", body))["recording"] is recording

    async def stream(self, message: str) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        async with self.http.post(f"{self.url}/api/chat", json={"message": message, "stream": True}) as response:
            assert (response.status, response.content_type) == (200, "text/event-stream")
            event = ""
            async for line in response.content:
                field, _, value = line.decode().rstrip("\n").partition(": ")
                if field == "event":
                    event = value
                elif field == "data":
                    yield event, json.loads(value)


@asynccontextmanager
async def user_of(process: Process, **headers: str) -> AsyncIterator[User]:
    """Someone with a session, whose every request carries these headers."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True), headers=headers) as http:
        user = User(http, process.url)
        await user.call("POST", "/api/sessions", status=201)
        yield user


def received(provider: Process, method: str = "GET") -> Any:
    """What reached the model; forget it with DELETE."""
    with urlopen(Request(f"{provider.url}/received", method=method)) as answer:
        return json.loads(answer.read() or b"null")
