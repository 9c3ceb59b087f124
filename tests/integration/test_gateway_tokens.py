"""A provider that takes tokens of an hour: they are got by a service account's key, or by the cluster's word."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs

import jwt
import pytest
import pytest_asyncio
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.integration.gateway_estate import Estate, estate

pytestmark = pytest.mark.asyncio(loop_scope="module")

SIGNER = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PEM = SIGNER.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
ACCOUNT = {
    "type": "service_account", "client_email": "models@project.iam.gserviceaccount.example", "private_key_id": "k1",
    "private_key": PEM, "token_uri": "https://evil.example/token",
}  # fmt: skip
POOL = "//iam.googleapis.com/projects/123/locations/global/workloadIdentityPools/site/providers/cluster"
FEDERATED = {
    "type": "external_account", "audience": POOL, "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
    "token_url": "https://evil.example/token", "credential_source": {"url": "https://evil.example/metadata"},
}  # fmt: skip
ASK = {"model": "small", "messages": [{"role": "user", "content": "Hallo"}]}


class Bank:
    """Gives tokens, and notes who asked for them."""

    def __init__(self, house: Estate) -> None:
        self.house = house
        self.forms: list[dict[str, list[str]]] = []
        self.seconds = 3600
        self.status = 200
        house.provider.handler = self.handle

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.path != "/v1/token":
            return await self.house.provider.repeat(request)
        self.forms.append(parse_qs(self.house.provider.seen.pop().raw.decode()))
        if self.status == 307:
            return web.Response(status=307, headers={"Location": self.house.provider.url + "/elsewhere"})
        if self.status != 200:
            return web.json_response({"error": "invalid_grant", "error_description": "Erika"}, status=self.status)
        token = {"access_token": f"token-{len(self.forms)}", "expires_in": self.seconds, "token_type": "Bearer"}
        issued = "urn:ietf:params:oauth:token-type:access_token"
        return web.json_response(token | {"issued_token_type": issued})

    def shown(self) -> list[str]:
        return [each.headers["Authorization"] for each in self.house.provider.seen]


def key(house: Estate, held: Any) -> None:
    (house.folder / "keys" / "first").write_text(held if isinstance(held, str) else json.dumps(held))


async def code(house: Estate) -> str:
    return str((await house.post("/chat/completions", ASK))[1].get("error", {}).get("code", "ok"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Estate]:
    async with estate(tmp_path_factory.mktemp("tokens"), start=False) as made:
        [first] = made.config()["endpoints"]
        url = f"{made.provider.url}/token"
        made.write(endpoints=[first | {"kind": "gemini", "tokenUrl": url}])
        await made.start()
        yield made


@pytest.fixture
def bank(house: Estate) -> Bank:
    house.provider.forget()
    return Bank(house)


async def test_a_service_account_signs_for_its_tokens_which_are_used_until_they_end(house: Estate, bank: Bank) -> None:
    key(house, ACCOUNT)
    assert [await code(house) for _ in range(3)] == ["ok"] * 3
    assert bank.shown() == ["Bearer token-1"] * 3
    [form] = bank.forms
    assert form["grant_type"] == ["urn:ietf:params:oauth:grant-type:jwt-bearer"]
    claims = jwt.decode(
        form["assertion"][0], SIGNER.public_key(), ["RS256"], audience="https://oauth2.googleapis.com/token"
    )
    assert claims["iss"] == ACCOUNT["client_email"]
    assert claims["scope"] == "https://www.googleapis.com/auth/cloud-platform"
    assert PEM[60:100].encode() not in house.provider.received
    told = "".join(house.told) + json.dumps(house.lines)
    assert not [word for word in ("token-1", PEM[60:100]) if word in told]


async def test_a_federated_identity_shows_the_clusters_word(house: Estate, bank: Bank) -> None:
    key(house, FEDERATED)
    (house.folder / "keys" / "first.subject").write_text("word-1")
    bank.seconds = 60
    assert await code(house) == "ok"
    (house.folder / "keys" / "first.subject").write_text("word-2")
    # About to end, so it is renewed; by the word of that moment.
    assert await code(house) == "ok"
    assert bank.shown() == ["Bearer token-1", "Bearer token-2"]
    assert [form["subject_token"] for form in bank.forms] == [["word-1"], ["word-2"]]
    assert bank.forms[0]["audience"] == [POOL]
    assert bank.forms[0]["grant_type"] == ["urn:ietf:params:oauth:grant-type:token-exchange"]
    # What is about to end still counts where there is no other.
    bank.status = 400
    assert await code(house) == "ok"
    assert bank.shown()[-1] == "Bearer token-2"


FAULTS: dict[str, tuple[Any, int, str]] = {
    "no JSON": ("sk-of-the-tenant", 200, "provider_misconfigured"),
    "another type": (ACCOUNT | {"type": "authorized_user"}, 200, "provider_misconfigured"),
    "no key": (ACCOUNT | {"private_key": "none"}, 200, "provider_misconfigured"),
    "no pool": (FEDERATED | {"audience": "//evil.example"}, 200, "provider_misconfigured"),
    "somebody else": (FEDERATED | {"service_account_impersonation_url": "x"}, 200, "provider_misconfigured"),
    "refused": (ACCOUNT | {"private_key_id": "k2"}, 400, "provider_refused_key"),
    "sent elsewhere": (ACCOUNT | {"private_key_id": "k3"}, 307, "provider_refused_key"),
}


@pytest.mark.parametrize("why", FAULTS)
async def test_without_a_token_nothing_is_sent(house: Estate, bank: Bank, why: str) -> None:
    held, bank.status, told = FAULTS[why]
    key(house, held)
    assert await code(house) == told
    assert house.provider.seen == []
    assert "Erika" not in "".join(house.told)


async def test_without_the_clusters_word_or_the_way_there_nothing_is_sent(house: Estate, bank: Bank) -> None:
    (house.folder / "keys" / "first.subject").unlink(missing_ok=True)
    key(house, FEDERATED | {"more": 1})
    assert await code(house) == "provider_refused_key"
    [first] = house.config()["endpoints"]
    house.told.clear()
    house.write(endpoints=[first | {"kind": "gemini", "tokenUrl": "https://localhost:1/token"}])
    await house.until_told("a new config is taken")
    key(house, ACCOUNT)
    assert await code(house) == "provider_unreachable"
    assert (house.provider.seen, bank.forms) == ([], [])
