"""A guard that asks for consents, with a real S3 store for what people answer; and people."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any

import aiohttp

from domicile.api.consent import Consent
from domicile.api.guard import GuardConsents
from domicile.backup.stores import open_bucket
from domicile.backup.stores.base import Bucket
from tests.integration.guard_estate import Estate, end, running, start_guard
from tests.integration.stores_fixture import make_site

TEXTS = {"de": "Keine Beleidigungen.", "en": "No insults."}
BASIS = {
    "statement": "Call-backs are part of contract 17.",
    "attestedOn": "2026-01-01",
    "expiresOn": "2099-01-01",
}
PURPOSES: list[dict[str, Any]] = [
    {"name": "Recording", "version": "2", "texts": {"de": "Aufzeichnen?", "en": "Record?"}},
    {"name": "SMS", "version": "1", "texts": {"en": "Text you?"}},
    {"name": "CallBack", "basis": BASIS},
]
CONSENT: dict[str, Any] = {"notice": {"version": "3", "texts": TEXTS, "minimumAge": 16}, "purposes": PURPOSES}
VERSION = "1.3"
HTML = {"Accept": "text/html,application/xhtml+xml"}
ACCEPT: dict[str, Any] = {"version": VERSION, "language": "en", "ofAge": True}


@dataclass
class Kept:
    """The live bucket, and what a guard is told of it."""

    bucket: Bucket
    env: dict[str, str]
    file: Path
    told: GuardConsents

    def tell(self, consent: dict[str, Any]) -> None:
        """Change what people are asked."""
        told = self.told.model_copy(update={"consent": Consent.model_validate(consent)})
        new = self.file.with_suffix(".new")
        new.write_text(told.model_dump_json(by_alias=True, exclude_none=True))
        new.replace(self.file)

    def records(self) -> dict[str, Any]:
        """What people said, by name of the object."""
        return {i.name: json.loads(self.bucket.read(i.name)) for i in self.bucket.list("domicile/")}


@contextmanager
def live_bucket(folder: Path, url: str, consent: dict[str, Any] = CONSENT, roots: str | None = None) -> Iterator[Kept]:
    """A new live bucket at a store, asked for consents by this."""
    site = make_site("aws-frankfurt", "aws", "eu-central-1", url).model_copy(update={"store_ca_bundle": roots})
    (folder / "store").mkdir()
    access = {"accessKeyId": "test", "secretAccessKey": "test-secret"}
    (folder / "store/aws-frankfurt.json").write_text(json.dumps(access))
    bucket = open_bucket(site, f"live-{uuid.uuid4().hex[:12]}", folder / "store")
    bucket.create_bucket()
    file = folder / "consents.json"
    env = {"DOMICILE_CONSENTS": str(file), "DOMICILE_STORE": str(folder / "store")}
    told = GuardConsents(consent=Consent.model_validate(consent), site=site, bucket=bucket.name)
    kept = Kept(bucket, env, file, told)
    kept.tell(consent)
    yield kept


@contextlib.asynccontextmanager
async def asking(folder: Path, url: str, roots: str | None = None, **env: str) -> AsyncIterator[tuple[Estate, Kept]]:
    """An open guard and its bucket; ``roots``: authorities of the store (PEM)."""
    with live_bucket(folder, url, roots=roots) as kept:
        async with running(**kept.env, **env) as estate:
            await estate.open(30)
            yield estate, kept


@contextlib.asynccontextmanager
async def replica(estate: Estate, kept: Kept) -> AsyncIterator[str]:
    """Another guard of the same tenant; its URL."""
    guard, port = await start_guard(f"http://127.0.0.1:{estate.agent_port}", estate.assistant.port, **kept.env)
    url = f"http://127.0.0.1:{port}"
    try:
        async with aiohttp.ClientSession() as web:
            while True:
                async with web.get(f"{url}/domicile/lease") as answer:
                    if answer.status == 200:
                        break
        yield url
    finally:
        await end(guard)


@contextlib.asynccontextmanager
async def browser(**headers: str) -> AsyncIterator[aiohttp.ClientSession]:
    """Somebody with a browser's cookies, who follows no link by themselves."""
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(cookie_jar=jar, headers=headers) as web:
        yield web


async def call(
    web: aiohttp.ClientSession, method: str, url: str, body: Any = None, **headers: str
) -> tuple[int, dict[str, Any]]:
    """Status and JSON of an answer."""
    async with web.request(method, url, json=body, headers=headers, allow_redirects=False) as answer:
        return answer.status, await answer.json()


async def accepted(web: aiohttp.ClientSession, url: str) -> None:
    """Accept the notice, as a program does."""
    answer = await call(web, "POST", f"{url}/domicile/notice", ACCEPT)
    assert answer == (200, {"version": VERSION, "accepted": True})


def fields(page: str) -> list[dict[str, str]]:
    """The hidden fields of each form of a page."""
    forms = re.findall(r"<form .*?</form>", page)
    hidden = [re.findall(r'type="hidden" name="([^"]*)" value="([^"]*)"', form) for form in forms]
    return [{name: unescape(value) for name, value in each} for each in hidden]


def identity(subject: str, issuer: str = "https://sso.example/realms/bank") -> str:
    """An ID token; who checks its signature is not asked here."""
    parts = ({"alg": "RS256"}, {"iss": issuer, "sub": subject}, {"not": "checked"})
    return ".".join(base64.urlsafe_b64encode(json.dumps(p).encode()).decode().rstrip("=") for p in parts)
