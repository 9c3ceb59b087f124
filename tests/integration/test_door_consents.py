"""A browser, a real front door, a guard that asks, and an assistant: links, cookies and forms between all of them."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin

import httpx
import pytest

from domicile.controllers.door.door import Assistant, PathRule
from tests.browser import browser
from tests.integration.consents_estate import HTML, Kept, fields, live_bucket
from tests.integration.door_server import Site, without_login
from tests.integration.guard_estate import Estate, running
from tests.integration.stores_fixture import versitygw
from tests.pods import DOOR, GUARD, calling, mounted


@dataclass
class House:
    """All of it."""

    site: Site
    estate: Estate
    kept: Kept
    authority: Path
    """Whom a browser trusts, PEM."""


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    with versitygw("eu-central-1") as store, live_bucket(tmp_path, store.url) as made:
        yield made


@pytest.fixture
async def house(tmp_path: Path, kept: Kept) -> AsyncIterator[House]:
    tls = mounted(tmp_path / "tls", GUARD)
    env = {"DOMICILE_TLS": str(tls), "DOMICILE_CLIENT": DOOR.id, "DOMICILE_TLS_PORT": "0"}
    (tmp_path / "door").mkdir()
    async with running(**kept.env, **env) as estate:
        await estate.script(mode="grant", seconds=30)
        estate.url = f"https://localhost:{estate.port}"
        async with asyncio.timeout(20):
            while await estate.get("/domicile/lease", ssl=calling(DOOR)) != 200:
                await asyncio.sleep(0.05)
        assistants = (Assistant("a", f"localhost:{estate.port}", (PathRule("/open", None),), asks=True),)
        with without_login(tmp_path / "door", assistants=assistants) as site:
            yield House(site, estate, kept, tmp_path / "door" / "ca.crt")


async def test_a_browser_accepts_and_goes_on_where_it_wanted_to(house: House) -> None:
    trusted = ssl.create_default_context(cafile=house.authority)
    async with httpx.AsyncClient(base_url=house.site.door.url, verify=trusted, timeout=30) as web:
        wanted = "/a/open/x/y?q=1&r=%2F"
        page = await web.get(wanted, headers=HTML | {"Accept-Language": "de"})
        assert (page.status_code, page.headers["content-type"]) == (403, "text/html; charset=utf-8")
        assert "künstliche Intelligenz" in page.text
        assert page.headers["content-security-policy"].startswith("default-src 'none'")
        assert page.headers["referrer-policy"] == "same-origin"
        action = page.text.partition('action="')[2].partition('"')[0]
        target = urljoin(str(page.url), action)
        assert target == f"{house.site.door.url}/a/domicile/public/notice"
        (form,) = fields(page.text)
        headers = HTML | {"Origin": house.site.door.url, "Sec-Fetch-Site": "same-origin"}
        refused = await web.post(target, data=form, headers=headers)
        assert refused.status_code == 403
        assert 'role="alert"' in refused.text
        elsewhere = headers | {"Sec-Fetch-Site": "cross-site"}
        assert (await web.post(target, data=form | {"ofAge": "true"}, headers=elsewhere)).status_code == 403
        assert house.kept.records() == {}
        done = await web.post(target, data=form | {"ofAge": "true"}, headers=headers)
        assert done.status_code == 303
        assert urljoin(target, done.headers["location"]) == house.site.door.url + wanted
        (cookie,) = done.headers.get_list("set-cookie")
        assert {"Path=/a/", "Secure", "HttpOnly", "SameSite=Lax"} <= {part.strip() for part in cookie.split(";")}
        answer = await web.get(wanted, headers=HTML)
        assert (answer.status_code, answer.text) == (200, "hello")
        (seen,) = house.estate.assistant.seen
        assert seen[1] == "/open/x/y?q=1&r=%2F"
        assert seen[2].getall("Domicile-Consents") == ["CallBack=external"]

        link = urljoin(target, "consents")
        shown = await web.get(link, headers=HTML)
        recording, _ = fields(shown.text)
        agreed = await web.post(link, data=recording, headers=headers)
        assert (agreed.status_code, urljoin(link, agreed.headers["location"])) == (303, link)
        await web.get(wanted, headers=HTML)
        assert house.estate.assistant.seen[-1][2].getall("Domicile-Consents") == ["Recording=2, CallBack=external"]
        forged = await web.get(wanted, headers={"Domicile-Consents": "Training=1"})
        assert forged.status_code == 400
        assert (await web.get("/a/domicile/notice", headers=HTML)).status_code == 302
        for path in ("/a/domicile/lease", "/a/domicile/public/lease", "/a/open/../domicile/lease"):
            assert (await web.get(path)).status_code == 403
    assert len(house.kept.records()) == 2


def _walk(door: str) -> None:
    with browser({}) as page:
        refused: list[str] = []
        page.on("console", lambda message: refused.append(message.text))
        wanted = f"{door}/a/open/x?q=1"
        first = page.goto(wanted)
        assert first is not None
        assert first.status == 403
        assert "It can err" in page.inner_text("main")
        # Without the declaration of age the browser itself sends nothing.
        page.click("button")
        assert page.url == wanted
        page.check("input[type=checkbox]")
        page.click("button")
        page.wait_for_selector("text=hello")
        assert page.url == wanted
        page.goto(f"{door}/a/domicile/public/consents")
        assert page.evaluate("getComputedStyle(document.body).maxWidth") == "640px"
        for button, told in (("I agree", "You have agreed (version 2)."), ("Withdraw", "You have not agreed.")):
            page.locator("section", has_text="Recording").get_by_role("button", name=button).click()
            page.wait_for_selector(f"section:has-text('Recording') >> text={told}")
        assert page.get_by_text("To the assistant").evaluate("link => link.href") == f"{door}/a/"
        assert not [line for line in refused if "Content Security Policy" in line]


async def test_a_real_browser_needs_no_script(house: House) -> None:
    await asyncio.to_thread(_walk, house.site.door.url)
    said = house.kept.records()
    recording = said[max(said)]["consents"]["Recording"]
    assert (len(said), recording["granted"], recording["version"]) == (3, False, "2")
