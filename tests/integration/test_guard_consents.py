"""A guard between people and their assistant: nothing gets through before the notice, and what they said is kept."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from yarl import URL

from domicile.gateway.consents.records import BELIEVED_SECONDS
from tests.integration.consents_estate import (
    ACCEPT,
    BASIS,
    CONSENT,
    HTML,
    PURPOSES,
    TEXTS,
    VERSION,
    Kept,
    accepted,
    asking,
    browser,
    call,
    fields,
    identity,
    live_bucket,
    replica,
)
from tests.integration.guard_estate import Estate, running
from tests.integration.stores_fixture import Server, versitygw
from tests.pods import DOOR, GUARD, calling, mounted

pytestmark = pytest.mark.asyncio(loop_scope="module")

House = tuple[Estate, Kept]


@pytest.fixture(scope="module")
def store() -> Iterator[Server]:
    with versitygw("eu-central-1") as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module", name="shared")
async def running_house(store: Server, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    async with asking(tmp_path_factory.mktemp("house"), store.url) as house:
        yield house


@pytest_asyncio.fixture(loop_scope="module")
async def house(shared: House) -> House:
    estate, kept = shared
    estate.assistant.forget()
    kept.tell(CONSENT)
    for name in kept.records():
        kept.bucket.delete(name)
    return shared


def told(estate: Estate) -> list[str]:
    """What the assistant was told with the last request."""
    found: list[str] = estate.assistant.seen[-1][2].getall("Domicile-Consents", [])
    return found


REQUESTS = [
    b"GET / HTTP/1.1",
    b"HEAD / HTTP/1.1",
    b"OPTIONS * HTTP/1.1",
    b"POST /api/chat HTTP/1.1",
    b"GET //domicile/notice HTTP/1.1",
    b"GET /%64omicile/notice HTTP/1.1",
    b"GET /Domicile/notice HTTP/1.1",
    b"GET /domicile%2fnotice HTTP/1.1",
    b"GET /domicile/../api HTTP/1.1",
    b"GET /domicile/notice/../../api HTTP/1.1",
    b"GET /domicile/notice/ HTTP/1.1",
    b"GET /domicile/public/lease HTTP/1.1",
    b"GET /domicile/notice;x HTTP/1.1",
    b"GET /./x HTTP/1.1",
    b"GET http://x/api HTTP/1.1",
    b"GET /x HTTP/1.1\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Key: eA==",
    b"GET /x HTTP/1.1\r\nDomicile-Consents: Recording=2",
    b"GET /x HTTP/1.1\r\nCookie: domicile_visitor=" + b"A" * 43,
    b"GET /x HTTP/1.1\r\nCookie: domicile_visitor=../../x",
    b"GET /x HTTP/1.1\r\nDomicile-Identity: " + identity("ann").encode(),
    b"GET /x HTTP/1.1\r\nX-Original-URL: /domicile/notice",
    b"PROPFIND /x HTTP/1.1",
    b"GET /x HTTP/1.0",
    b"GET /" + b"a" * 8000 + b" HTTP/1.1",
    b"GET /healthz HTTP/1.1",
    b"GET /\xff HTTP/1.1",
]


@pytest.mark.parametrize("request_line", REQUESTS, ids=lambda line: line[:60].decode("latin-1"))
async def test_nothing_reaches_the_assistant_before_the_notice_is_accepted(house: House, request_line: bytes) -> None:
    estate, kept = house
    answer = await estate.raw(request_line + b"\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
    # One that is no page of ours and not let through; whatever stood behind it on the connection is not read.
    assert re.match(rb"HTTP/1\.[01] (400|403|404) ", answer), answer[:200]
    assert estate.assistant.seen == []
    assert kept.records() == {}


async def test_a_program_is_told_where_the_notice_is(house: House) -> None:
    estate, _ = house
    async with browser() as somebody:
        status, body = await call(somebody, "POST", f"{estate.url}/api/v1/chat", {"message": "hi"})
        assert (status, body["reason"], body["version"]) == (403, "NoticeRequired", VERSION)
        assert body["notice"] == "../../domicile/notice"
        status, shown = await call(somebody, "GET", f"{estate.url}/domicile/notice", **{"Accept-Language": "de-AT"})
        assert (status, shown["accepted"], shown["minimumAge"], shown["language"]) == (200, False, 16, "de")
        assert "KI" in shown["text"]
        assert shown["text"].endswith(TEXTS["de"])
        await accepted(somebody, estate.url)
        assert (await call(somebody, "GET", f"{estate.url}/domicile/notice"))[1]["accepted"] is True
        async with somebody.get(f"{estate.url}/x") as answer:
            assert answer.status == 200
        assert told(estate) == ["CallBack=external"]


async def test_a_browser_gets_the_notice_in_its_language_and_goes_on_where_it_wanted_to(house: House) -> None:
    estate, kept = house
    async with browser(**HTML, **{"Accept-Language": "fr, de;q=0.8, en;q=0.5"}) as somebody:
        async with somebody.get(f"{estate.url}/a/b?q=1%20&r") as answer:
            page = await answer.text()
            assert (answer.status, answer.content_type) == (403, "text/html")
            policy = answer.headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            assert "Set-Cookie" not in answer.headers
        assert '<html lang="de">' in page
        assert "künstliche Intelligenz" in page
        assert "irren" in page
        assert TEXTS["de"] in page
        assert "mindestens 16" in page
        assert "<script" not in page
        assert 'action="../domicile/notice"' in page
        (form,) = fields(page)
        sent = form | {"ofAge": "true"}
        origin = {"Origin": estate.url}
        async with somebody.post(
            f"{estate.url}/domicile/notice", data=sent, headers=origin, allow_redirects=False
        ) as answer:
            assert (answer.status, answer.headers["Location"]) == (303, "../a/b?q=1%20&r")
            cookie = answer.headers["Set-Cookie"]
            assert {"HttpOnly", "Path=/", "SameSite=Lax"} <= {part.strip() for part in cookie.split(";")}
        async with somebody.get(f"{estate.url}/a/b") as answer:
            assert (answer.status, await answer.text()) == (200, "hello")
    ((name, record),) = kept.records().items()
    token = re.findall("domicile_visitor=([^;]{43});", cookie)[0]
    assert re.fullmatch("domicile/consents/[0-9a-f]{64}/000001.json", name)
    assert token not in name
    assert token not in json.dumps(record)
    accepted = record["notice"]
    shown = (await _notice(estate, "de"))["text"]
    assert (accepted["version"], accepted["language"], accepted["age"]) == (VERSION, "de", 16)
    assert accepted["digest"] == hashlib.sha256(shown.encode()).hexdigest()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", accepted["time"])
    assert record["consents"] == {}


async def _notice(estate: Estate, language: str) -> dict[str, Any]:
    async with browser(**{"Accept-Language": language}) as somebody:
        return (await call(somebody, "GET", f"{estate.url}/domicile/notice"))[1]


@pytest.mark.parametrize(
    ("change", "status", "reason"),
    [
        ({"version": "1.2"}, 409, "NoticeChanged"),
        ({"version": None}, 409, "NoticeChanged"),
        ({"version": 3}, 400, "BadRequest"),
        ({"ofAge": False}, 403, "AgeRequired"),
        ({"ofAge": None}, 403, "AgeRequired"),
        ({"ofAge": 16}, 400, "BadRequest"),
        ({"language": "fr"}, 400, "BadRequest"),
        ({"language": ["de"]}, 400, "BadRequest"),
        ({"next": "/x\r\nSet-Cookie: a=b"}, 400, "BadRequest"),
        ({"next": "x" * 3000}, 400, "BadRequest"),
    ],
)
async def test_what_is_no_acceptance_is_none(house: House, change: dict[str, Any], status: int, reason: str) -> None:
    estate, kept = house
    async with browser() as somebody:
        found, body = await call(somebody, "POST", f"{estate.url}/domicile/notice", ACCEPT | change)
        assert (found, body["reason"]) == (status, reason)
        assert not _cookies(somebody, estate)
    assert kept.records() == {}


FORM = "application/x-www-form-urlencoded"
ENCODED = f"version={VERSION}&language=en&ofAge=true"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, 303),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "{url}"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "none"}, 403),
        ({"Origin": "{url}"}, 303),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "https://assistants.example", "X-Forwarded-Host": "assistants.example"}, 303),
        ({"Origin": "{url}", "X-Forwarded-Host": "assistants.example"}, 403),
        ({}, 403),
        ({"Content-Type": "text/plain"}, 403),
        ({"Content-Type": "text/plain", "Origin": "{url}"}, 415),
        ({"Content-Type": "application/json", "Origin": "http://evil.example"}, 403),
        ({"Content-Type": "application/json", "Origin": "{url}"}, 400),
        ({"Content-Encoding": "gzip", "Origin": "{url}"}, 415),
        ({"Expect": "100-continue", "Origin": "{url}"}, 417),
    ],
)
async def test_only_a_page_of_the_same_origin_accepts(house: House, headers: dict[str, str], status: int) -> None:
    estate, kept = house
    sent = {"Content-Type": FORM} | {k: v.replace("{url}", estate.url) for k, v in headers.items()}
    async with (
        browser() as somebody,
        somebody.post(
            f"{estate.url}/domicile/notice", data=ENCODED, headers=sent, allow_redirects=False, expect100=False
        ) as answer,
    ):
        assert answer.status == status
    assert len(kept.records()) == (status == 303)


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        (FORM, b"a=b&" * 20, 400),
        (FORM, b"version", 400),
        (FORM, b"\xff=\xfe", 400),
        (FORM, b"x=" + b"y" * 20000, 413),
        ("application/json", b"[" * 10000, 400),
        ("application/json", b"[]", 400),
        ("application/json", b"null", 400),
        ("application/json", b'"' + b"y" * 20000 + b'"', 413),
        ("application/json", b"", 400),
    ],
)
async def test_bodies_that_make_no_sense(house: House, kind: str, body: bytes, status: int) -> None:
    estate, kept = house
    headers = {"Content-Type": kind, "Origin": estate.url}
    async with browser(**headers) as somebody:
        for page in ("notice", "consents"):
            async with somebody.post(f"{estate.url}/domicile/{page}", data=body) as answer:
                assert answer.status == status
    assert kept.records() == {}


async def test_each_purpose_is_granted_and_withdrawn_by_itself(house: House) -> None:
    estate, kept = house
    page = f"{estate.url}/domicile/consents"
    async with browser() as somebody:
        status, body = await call(somebody, "POST", page, {"purpose": "Recording", "granted": True, "version": "2"})
        assert (status, body["reason"]) == (403, "NoticeRequired")
        await accepted(somebody, estate.url)
        _, shown = await call(somebody, "GET", page)
        assert shown["accepted"] is True
        assert [(p["name"], p["granted"], p["version"]) for p in shown["purposes"]] == [
            ("Recording", False, "2"),
            ("SMS", False, "1"),
            ("CallBack", True, "external"),
        ]

        async def now_told() -> str:
            async with somebody.get(f"{estate.url}/x", headers={"domicile_consents": "Training=9"}) as answer:
                assert answer.status == 200
            headers = estate.assistant.seen[-1][2]
            assert not any("_" in name for name in headers)
            (value,) = told(estate)
            return value

        assert await now_told() == "CallBack=external"
        for body in (
            {"purpose": "Recording", "granted": True, "version": "2"},
            {"purpose": "SMS", "granted": "true", "version": "1", "language": "de"},
        ):
            assert (await call(somebody, "POST", page, body))[0] == 200
        assert await now_told() == "Recording=2, SMS=1, CallBack=external"
        # Saying the same once more is no new decision.
        before = kept.records()
        assert (await call(somebody, "POST", page, {"purpose": "SMS", "granted": True, "version": "1"}))[0] == 200
        assert kept.records() == before
        status, shown = await call(somebody, "POST", page, {"purpose": "Recording", "granted": False})
        assert (status, shown["purposes"][0]["granted"]) == (200, False)
        assert await now_told() == "SMS=1, CallBack=external"
    last = max(kept.records())
    record = kept.records()[last]
    assert last.endswith("/000004.json")
    assert {name: said["granted"] for name, said in record["consents"].items()} == {"Recording": False, "SMS": True}
    assert record["notice"]["version"] == VERSION


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        ({"purpose": "Training", "granted": True, "version": "1"}, 400, "UnknownPurpose"),
        ({"purpose": "Training", "granted": False}, 400, "UnknownPurpose"),
        ({"purpose": "../x", "granted": True, "version": "1"}, 400, "UnknownPurpose"),
        ({"purpose": "Recording", "granted": True, "version": "1"}, 409, "TextChanged"),
        ({"purpose": "Recording", "granted": True}, 409, "TextChanged"),
        ({"purpose": "CallBack", "granted": True, "version": "external"}, 409, "ExternalBasis"),
        ({"purpose": "CallBack", "granted": False}, 409, "ExternalBasis"),
        ({"purpose": "Recording"}, 400, "BadRequest"),
        ({"purpose": ["Recording"], "granted": True}, 400, "BadRequest"),
        ({"purpose": "Recording", "granted": 1, "version": "2"}, 400, "BadRequest"),
        ({"granted": True}, 400, "BadRequest"),
    ],
)
async def test_what_is_no_decision_is_none(house: House, body: dict[str, Any], status: int, reason: str) -> None:
    estate, kept = house
    async with browser() as somebody:
        await accepted(somebody, estate.url)
        before = kept.records()
        found, answer = await call(somebody, "POST", f"{estate.url}/domicile/consents", body)
        assert (found, answer["reason"]) == (status, reason)
    assert kept.records() == before


async def test_the_page_of_consents_needs_no_script(house: House) -> None:
    estate, _ = house
    page = f"{estate.url}/domicile/consents"
    async with browser(**HTML, Origin=estate.url) as somebody:
        async with somebody.post(
            f"{estate.url}/domicile/notice", data=ACCEPT | {"ofAge": "true"}, allow_redirects=False
        ) as answer:
            assert answer.headers["Location"] == "../"
        async with somebody.get(page) as answer:
            shown = await answer.text()
        assert "Record?" in shown
        assert BASIS["statement"] in shown
        recording, _ = fields(shown)
        assert recording == {"purpose": "Recording", "granted": "true", "version": "2", "language": "en"}
        async with somebody.post(page, data=recording, allow_redirects=False) as answer:
            assert (answer.status, answer.headers["Location"]) == (303, "consents")
        async with somebody.get(page) as answer:
            recording, _ = fields(await answer.text())
        assert recording == {"purpose": "Recording", "granted": "false"}
        async with somebody.post(page, data=recording | {"purpose": "Outreach"}) as answer:
            assert answer.status == 400
            assert 'role="alert"' in await answer.text()


async def test_another_text_is_another_consent(house: House) -> None:
    estate, kept = house
    page = f"{estate.url}/domicile/consents"
    grant = {"purpose": "Recording", "granted": True, "version": "2"}
    async with browser() as somebody:
        await accepted(somebody, estate.url)
        await call(somebody, "POST", page, grant)
        await somebody.get(f"{estate.url}/x")
        assert told(estate) == ["Recording=2, CallBack=external"]
        newer = [PURPOSES[0] | {"version": "3"}, {"name": "CallBack", "basis": BASIS | {"expiresOn": "2026-02-01"}}]
        kept.tell(CONSENT | {"purposes": newer})
        await somebody.get(f"{estate.url}/x")
        assert told(estate) == [""]
        kept.tell(CONSENT | {"purposes": [{**PURPOSES[0], "texts": {"en": "Record all?"}}]})
        await somebody.get(f"{estate.url}/x")
        assert told(estate) == [""]
        assert (await call(somebody, "POST", page, grant))[0] == 200
        await somebody.get(f"{estate.url}/x")
        assert told(estate) == ["Recording=2"]
        # Withdrawing needs no notice, however new it is.
        for notice in ({"version": "4", "texts": TEXTS}, CONSENT["notice"] | {"minimumAge": 18}):
            kept.tell(CONSENT | {"notice": notice})
            assert (await call(somebody, "GET", f"{estate.url}/x"))[0] == 403
        assert (await call(somebody, "POST", page, {"purpose": "Recording", "granted": False}))[0] == 200
        kept.tell({})
        assert (await call(somebody, "POST", f"{estate.url}/domicile/notice", {"version": "1.0"}))[0] == 200
        await somebody.get(f"{estate.url}/x")
        assert told(estate) == [""]


async def test_a_file_that_can_not_be_read_changes_nothing(house: House) -> None:
    estate, kept = house
    assert (await _notice(estate, "en"))["version"] == VERSION
    kept.file.write_text("{")
    assert (await _notice(estate, "en"))["version"] == VERSION
    kept.tell({})
    assert (await _notice(estate, "en"))["version"] == "1.0"


async def test_who_accepts_many_times_at_once_is_recorded_once(house: House) -> None:
    estate, kept = house
    async with browser() as somebody, replica(estate, kept) as other:
        await accepted(somebody, estate.url)
        grants = [
            call(somebody, "POST", f"{url}/domicile/consents", {"purpose": name, "granted": True, "version": version})
            for name, version in (("Recording", "2"), ("SMS", "1"))
            for url in (estate.url, other) * 4
        ]
        assert {status for status, _ in await asyncio.gather(*grants)} == {200}
        assert len(kept.records()) == 3
        last = kept.records()[max(kept.records())]
        assert {name for name, said in last["consents"].items() if said["granted"]} == {"Recording", "SMS"}


async def test_a_withdrawal_counts_at_every_replica_within_seconds(house: House) -> None:
    estate, kept = house
    async with browser() as somebody, replica(estate, kept) as other:
        await accepted(somebody, estate.url)
        # Who has just accepted elsewhere is not asked again.
        async with somebody.get(f"{other}/x") as answer:
            assert answer.status == 200
        grant = {"purpose": "SMS", "granted": True, "version": "1"}
        await call(somebody, "POST", f"{other}/domicile/consents", grant)
        await somebody.get(f"{other}/x")
        assert told(estate) == ["SMS=1, CallBack=external"]
        await call(somebody, "POST", f"{estate.url}/domicile/consents", {"purpose": "SMS", "granted": False})
        since = time.monotonic()
        while told(estate) != ["CallBack=external"]:
            await somebody.get(f"{other}/x")
        assert time.monotonic() - since < BELIEVED_SECONDS + 1


async def test_without_its_store_a_guard_lets_in_only_whom_it_has_just_read(store: Server, tmp_path: Path) -> None:
    with versitygw("eu-central-1") as own:
        async with asking(tmp_path, own.url) as (estate, _), browser() as somebody, browser() as stranger:
            await accepted(somebody, estate.url)
            await accepted(stranger, estate.url)
            own.process.kill()
            own.process.wait()
            since = time.monotonic()
            status, body = await call(stranger, "GET", f"{estate.url}/domicile/consents")
            assert (status, body["reason"]) == (503, "ConsentsUnavailable")
            if time.monotonic() - since < BELIEVED_SECONDS / 2:
                assert await estate.get("/x", cookies=_cookies(somebody, estate)) == 200
            async with asyncio.timeout(30):
                while await estate.get("/x", cookies=_cookies(somebody, estate)) == 200:
                    await asyncio.sleep(0.1)
            status, body = await call(somebody, "GET", f"{estate.url}/x")
            assert (status, body["reason"]) == (503, "ConsentsUnavailable")
            status, body = await call(stranger, "POST", f"{estate.url}/domicile/notice", ACCEPT)
            assert status == 503
            seen = len(estate.assistant.seen)
            assert (await call(somebody, "GET", f"{estate.url}/x"))[0] == 503
            assert len(estate.assistant.seen) == seen
            estate.guard.terminate()
            assert estate.guard.stderr is not None
            log = (await estate.guard.stderr.read()).decode()
            assert log.count("records of consents") == 1
            assert "domicile/consents/" not in log


def _cookies(somebody: Any, estate: Estate) -> dict[str, str]:
    return {c.key: c.value for c in somebody.cookie_jar.filter_cookies(URL(estate.url)).values()}


async def test_without_a_lease_nothing_is_written_and_no_page_is_shown(house: House) -> None:
    estate, kept = house
    await estate.script(mode="refuse")
    await estate.until(503)
    try:
        async with browser() as somebody:
            for page in ("notice", "consents"):
                assert (await call(somebody, "GET", f"{estate.url}/domicile/{page}"))[0] == 503
                status, body = await call(somebody, "POST", f"{estate.url}/domicile/{page}", ACCEPT)
                assert (status, body["reason"]) == (503, "HigherClaim")
            assert (await call(somebody, "GET", f"{estate.url}/x"))[1]["reason"] == "HigherClaim"
        assert kept.records() == {}
    finally:
        await estate.open(30)


@pytest.mark.parametrize("record", [b"", b"{}", b"[1]", b'{"format": 2}', b'{"format": 1, "notice": {"version": 3}}'])
async def test_a_record_that_can_not_be_read_says_nothing(house: House, record: bytes) -> None:
    estate, kept = house
    async with browser() as somebody:
        await accepted(somebody, estate.url)
        (name,) = kept.records()
        kept.bucket.create(name.replace("000001", "000007"), record)
        # A name that is none of ours is passed over.
        kept.bucket.create(name.replace("000001", "later"), b"")
        assert (await call(somebody, "GET", f"{estate.url}/domicile/notice"))[1]["accepted"] is False
        await accepted(somebody, estate.url)
        assert (await call(somebody, "GET", f"{estate.url}/domicile/notice"))[1]["accepted"] is True
        for info in list(kept.bucket.list("domicile/")):
            kept.bucket.delete(info.name)


async def test_an_erased_person_is_asked_anew(house: House) -> None:
    estate, kept = house
    async with browser() as somebody:
        await accepted(somebody, estate.url)
        for name in kept.records():
            kept.bucket.delete(name)
        async with asyncio.timeout(BELIEVED_SECONDS + 5):
            while (await _status(somebody, f"{estate.url}/x")) == 200:
                await asyncio.sleep(0.1)
        await accepted(somebody, estate.url)
        assert await _status(somebody, f"{estate.url}/x") == 200


async def _status(somebody: Any, url: str, **headers: str) -> int:
    async with somebody.get(url, headers=headers) as answer:
        status: int = answer.status
        return status


async def test_a_file_that_never_could_be_read_stops_the_guard(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="ended early"):
        async with running(DOMICILE_CONSENTS=str(tmp_path / "none.json")):
            pass


async def test_behind_a_door_it_is_the_person_and_not_the_browser(store: Server, tmp_path: Path) -> None:
    tls = mounted(tmp_path / "tls", GUARD)
    env = {"DOMICILE_TLS": str(tls), "DOMICILE_CLIENT": DOOR.id, "DOMICILE_TLS_PORT": "0"}
    with live_bucket(tmp_path, store.url) as kept:
        async with running(**kept.env, **env) as estate:
            url, door = f"https://localhost:{estate.port}", calling(DOOR)
            await estate.script(mode="grant", seconds=30)
            ann, bob = ({"Domicile-Identity": identity(name)} for name in ("ann", "bob"))
            prefix = {"X-Forwarded-Prefix": "/helpdesk", "X-Forwarded-Proto": "https"}

            async def ask(method: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, Any], str]:
                async with estate.client.request(
                    method, url + path, json=body, headers=prefix | headers, ssl=door
                ) as answer:
                    text = await answer.text()
                    found = json.loads(text) if answer.content_type == "application/json" else {}
                    return answer.status, found, answer.headers.get("Set-Cookie", "")

            async with asyncio.timeout(20):
                while (await ask("GET", "/domicile/lease"))[0] != 200:
                    await asyncio.sleep(0.05)
            assert (await ask("GET", "/x", **ann))[1]["notice"] == "./domicile/notice"
            status, _, cookie = await ask("POST", "/domicile/notice", ACCEPT, **ann)
            assert (status, cookie) == (200, "")
            assert (await ask("GET", "/x", **ann))[0] == 200
            assert (await ask("GET", "/x", **bob))[0] == 403
            # On public paths nobody is known; the door lets them to other pages.
            assert (await ask("GET", "/forms/x"))[1]["notice"] == "../domicile/public/notice"
            status, _, cookie = await ask("POST", "/domicile/public/notice", ACCEPT)
            assert status == 200
            assert {"Secure", "Path=/helpdesk/"} <= {part.strip() for part in cookie.split(";")}
            assert (await ask("GET", "/forms/x", Cookie=cookie.partition(";")[0]))[0] == 200
            assert (await ask("GET", "/x", Cookie=cookie.partition(";")[0], **bob))[0] == 403
            for broken in ("x", "a.b.c", "..", identity(""), f"{identity('ann')}.x"):
                assert (await ask("GET", "/x", **{"Domicile-Identity": broken}))[0] == 401
            issuer = identity("ann", "https://other.example")
            assert (await ask("GET", "/x", **{"Domicile-Identity": issuer}))[0] == 403
            assert (await ask("POST", "/domicile/public/notice", ACCEPT, **{"X-Forwarded-Prefix": "//x y"}))[0] == 400
            names = kept.records()
            assert len(names) == 2
            assert not any(word in json.dumps(names) for word in ("ann", "sso.example"))
            seen = len(estate.assistant.seen)
            assert seen == 2
