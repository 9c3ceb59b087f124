"""People of every kind at one login page, with a real browser: door, realm, providers and directory are real."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.sync_api import Page

from domicile.api.sso import SamlProvider
from domicile.controllers.realm.server import IdentityServer
from tests.browser import Visitor, browser
from tests.integration import directory_server
from tests.integration.apiserver import Authority
from tests.integration.door_realm import Estate, estate
from tests.integration.realm_estate import PASSWORD, Tenant, Upstream, federate, somebody
from tests.testbed.keycloak import KeycloakServer

pytestmark = pytest.mark.asyncio(loop_scope="session")
SHOTS = Path(os.environ["DOMICILE_SCREENSHOTS"]) if "DOMICILE_SCREENSHOTS" in os.environ else None


@dataclass
class Bank:
    """A tenant whose people come from two companies, a directory and its own accounts."""

    estate: Estate
    tenant: Tenant
    upstream: Upstream

    async def person(self, kind: str) -> str:
        """A manager of the help desk; their name."""
        if kind == "directory":
            return "dave"
        if kind == "own":
            return await self.tenant.user("manager", "assistant.helpdesk")
        name = somebody()
        await self.upstream.user(name, "support")
        return name


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def bank(
    keycloak: KeycloakServer, identity: IdentityServer, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Bank]:
    people = {"dave": ("support",)}
    running = estate(keycloak, tmp_path_factory.mktemp("bank"))
    authority = Authority(keycloak.authority.parent)
    with directory_server.running(authority, people, PASSWORD) as directory:
        made = await asyncio.to_thread(running.__enter__)
        try:
            tenant = Tenant(identity, local_users=True)
            tenant.subject = made.realm.subject
            await tenant.trust(upstream, "company")
            tenant.add("agency", "", saml=SamlProvider(metadata_url=await upstream.saml_client(tenant.realm, "agency")))
            federate(tenant, directory.url)
            assert (await tenant.ensure(changed=True)).faults == {}
            yield Bank(made, tenant, upstream)
        finally:
            await asyncio.to_thread(running.__exit__, None, None, None)


def _status(page: Page, url: str) -> int:
    answer = page.goto(url)
    assert answer is not None
    return answer.status


@pytest.mark.parametrize(
    ("kind", "provider"), [("oidc", "company"), ("saml", "agency"), ("directory", None), ("own", None)]
)
async def test_everybody_finds_their_way_in_on_one_page_and_goes_no_further_than_their_grant(
    bank: Bank, kind: str, provider: str | None
) -> None:
    person = Visitor(await bank.person(kind), PASSWORD)
    home = bank.estate.door.url

    def go() -> None:
        with browser({}) as page:
            page.goto(f"{home}/helpdesk/")
            person.log_in(page, provider, SHOTS)
            page.wait_for_url(f"{home}/helpdesk/")
            assert "Domicile-Identity" in page.inner_text("body")
            assert _status(page, f"{home}/sales/") == 403
            assert _status(page, f"{home}/helpdesk/admin/conversations") == 403
            page.goto(f"{home}/oauth2/callback?logout={home}/")
        with browser({}) as page:
            page.goto(f"{home}/helpdesk/")
            person.log_in(page, provider)
            page.wait_for_url(f"{home}/helpdesk/")

    await asyncio.to_thread(go)


async def test_the_page_shows_every_way_in(bank: Bank) -> None:
    def go() -> tuple[bool, set[str]]:
        with browser({}) as page:
            page.goto(f"{bank.estate.door.url}/helpdesk/")
            page.wait_for_selector("#password")
            links = page.locator("a[id^=social-]").all()
            return page.is_visible("#username"), {str(link.get_attribute("id")) for link in links}

    assert await asyncio.to_thread(go) == (True, {"social-company", "social-agency"})
