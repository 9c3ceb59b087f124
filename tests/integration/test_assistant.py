"""The reference assistant as processes, over real stores (fake-gcs-server, versitygw) and the model provider."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from playwright.sync_api import Route

from tests.browser import browser
from tests.integration.assistant_process import (
    ORDER,
    ROOT,
    VERSION,
    Live,
    Process,
    User,
    assistant_process,
    bucket,
    provider_process,
    received,
    store_server,
    user_of,
)


@dataclass
class Setting:
    """An assistant with its store and provider."""

    live: Live
    provider: Process
    assistant: Process


@pytest.fixture(scope="module", params=["gcs", "s3"])
def setting(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setting]:
    folder = tmp_path_factory.mktemp("assistant")
    with ExitStack() as stack:
        server = stack.enter_context(store_server(request.param))
        live = bucket(request.param, server, "live-1", folder)
        provider = stack.enter_context(provider_process(folder))
        yield Setting(live, provider, stack.enter_context(assistant_process(live, provider, folder / "assistant.log")))


async def test_an_answer_names_its_source_and_the_model_got_the_passage(setting: Setting) -> None:
    received(setting.provider, "DELETE")
    async with user_of(setting.assistant) as user:
        reply = await user.ask("How long can I return goods?")
        german = await user.ask("Wie sind die Oeffnungszeiten von eurem Laden?")
    assert "30 days" in reply["answer"]
    assert (reply["sources"], reply["recorded"]) == (["returns.md"], False)
    assert "18 Uhr" in german["answer"]
    assert german["sources"] == ["öffnungszeiten.txt"]
    first = received(setting.provider)[0]["body"]
    assert first["stream"] is True
    assert first["messages"][-1] == {"role": "user", "content": "How long can I return goods?"}
    assert "within 30 days" in first["messages"][0]["content"]
    assert "Testbed & Co" in first["messages"][0]["content"]


async def test_what_nothing_is_known_about_is_said_and_not_asked(setting: Setting) -> None:
    received(setting.provider, "DELETE")
    async with user_of(setting.assistant) as user:
        assert "don't know" in (await user.ask("Who won the 1954 world cup?"))["answer"]
        assert "weiß ich nicht" in (await user.ask("Wer hat 1954 das Endspiel gewonnen?"))["answer"]
        last = [e async for e in user.stream("Who won the 1954 world cup?")][-1]
    assert (last[0], last[1]["sources"]) == ("done", [])
    assert received(setting.provider) == []


async def test_answers_stream(setting: Setting) -> None:
    async with user_of(setting.assistant) as user:
        events = [e async for e in user.stream("How long can I return goods?")]
    assert [name for name, _ in events] == ["delta"] * (len(events) - 1) + ["done"]
    assert len(events) > 4
    assert "".join(data["text"] for _, data in events[:-1]) == events[-1][1]["answer"]
    assert events[-1][1]["sources"] == ["returns.md"]


async def test_without_consent_the_page_remembers_and_the_bucket_holds_nothing(
    setting: Setting, tmp_path: Path
) -> None:
    with assistant_process(setting.live, setting.provider, tmp_path / "second.log") as second:
        async with user_of(setting.assistant) as user:
            before = setting.live.names()
            reply = await user.ask(ORDER)
            user.url = second.url
            history = [{"question": ORDER, "answer": reply["answer"]}]
            assert "4711" in (await user.ask("What was my order number?", history=history))["answer"]
            assert "don't know" in (await user.ask("What was my order number?"))["answer"]
            await user.consent(False)
            assert (await user.call("GET", "/api/conversation"))["turns"] == []
    assert setting.live.names() == before


async def test_nothing_is_recorded_that_the_guard_does_not_grant(setting: Setting) -> None:
    async with user_of(setting.assistant, **{"Domicile-Consents": "SMS=1, Recording=2"}) as user:
        await user.consent(True)
        assert (await user.ask(ORDER))["recorded"]
        session = (await user.call("GET", "/api/conversation"))["session"]
        # Withdrawn at the guard: it ends here, too, and what was recorded goes.
        user.http.headers["Domicile-Consents"] = "SMS=1, RecordingOfCalls=2"
        assert not (await user.ask(ORDER))["recorded"]
        found = await user.call("GET", "/api/conversation")
        assert (found["recording"], found["turns"]) == (False, [])
        left = [n for n in setting.live.names() if session in n]
        assert [n.rsplit("/", 1)[1] for n in left] == ["consent-000001.json", "consent-000002.json"]
        user.http.headers["Domicile-Consents"] = ""
        refused = await user.call("POST", "/api/consent", {"recording": True, "version": VERSION}, 403)
        assert refused["error"]["code"] == "recording_not_granted"
        await user.consent(False)
        assert not (await user.ask(ORDER))["recorded"]
        assert [n for n in setting.live.names() if session in n] == left


async def test_a_consented_conversation_outlives_its_processes(setting: Setting, tmp_path: Path) -> None:
    with assistant_process(setting.live, setting.provider, tmp_path / "one.log") as one:
        async with user_of(one) as user:
            await user.consent(True)
            assert (await user.ask(ORDER))["recorded"]
            one.stop(signal.SIGKILL)
            with assistant_process(setting.live, setting.provider, tmp_path / "two.log") as two:
                user.url = two.url
                shown = await user.call("GET", "/api/conversation")
                assert [t["question"] for t in shown["turns"]] == [ORDER]
                reply = await user.ask("What was my order number?")
                assert "4711" in reply["answer"]
                assert reply["sources"] == ["conversation"]
                done = [e async for e in user.stream("And how long can I return goods?")][-1]
                assert done[1]["recorded"]
                prefix = f"conversations/{shown['session']}/"
                wanted = [f"{prefix}{n:06d}.json" for n in (1, 2, 3)] + [f"{prefix}consent-000001.json"]
                assert [n for n in setting.live.names() if n.startswith(prefix)] == wanted
                await user.call("DELETE", "/api/conversation")
                await user.call("GET", "/api/conversation", status=401)
    left = [n for n in setting.live.names() if n.startswith(prefix)]
    assert left == [f"{prefix}consent-{n:06d}.json" for n in (1, 2)]
    assert all(b"4711" not in setting.live.store.read(n) for n in left)


async def test_a_withdrawal_deletes_what_was_recorded(setting: Setting) -> None:
    async with user_of(setting.assistant) as user:
        await user.consent(True)
        await user.ask(ORDER)
        session = (await user.call("GET", "/api/conversation"))["session"]
        await user.consent(False)
        assert (await user.call("GET", "/api/conversation"))["turns"] == []
        assert not (await user.ask(ORDER))["recorded"]
    left = [n.rpartition("/")[2] for n in setting.live.names() if session in n]
    assert left == ["consent-000001.json", "consent-000002.json"]


async def test_parallel_questions_of_one_session_are_all_recorded(setting: Setting) -> None:
    async with user_of(setting.assistant) as user:
        await user.consent(True)
        replies = await asyncio.gather(*(user.ask(f"How long can I return goods {n}?") for n in range(6)))
        turns = (await user.call("GET", "/api/conversation"))["turns"]
        await user.call("DELETE", "/api/conversation")
    assert all(r["recorded"] for r in replies)
    assert sorted(t["question"] for t in turns) == [f"How long can I return goods {n}?" for n in range(6)]


async def test_a_changed_knowledge_file_is_known_within_seconds(setting: Setting) -> None:
    name = "knowledge/gate.md"
    async with user_of(setting.assistant) as user:
        for code in ("blue", "green"):
            setting.live.store.delete(name)
            setting.live.store.create(name, f"The gate code is {code}.".encode())
            await _until_answer(user, "What is the gate code?", code)
        setting.live.store.delete(name)
        await _until_answer(user, "What is the gate code?", "don't know")


async def _until_answer(user: User, question: str, wanted: str) -> None:
    deadline = time.monotonic() + 15
    while wanted not in (reply := await user.ask(question))["answer"]:
        assert time.monotonic() < deadline, reply
        await asyncio.sleep(0.2)


async def test_wrong_requests_get_a_status_and_say_why(setting: Setting) -> None:
    async with aiohttp.ClientSession() as http:
        user = User(http, setting.assistant.url)
        assert (await user.ask("Hi", 401))["error"]["code"] == "no_session"
        await user.call("GET", "/api/nowhere", status=404)
        await user.call("PUT", "/api/chat", status=405)
    async with user_of(setting.assistant) as user:
        assert "4000" in (await user.ask("x" * 4001, 413))["error"]["message"]
        await user.ask(" ", 400)
        await user.ask("x", 413, history=[{"question": "q" * 600_000, "answer": "a"}])
        wrong: list[Any] = ["x", [{}], [{"question": 1, "answer": "a"}], [{"question": "q", "answer": "a"}] * 21]
        for history in wrong:
            assert (await user.ask("x", 400, history=history))["error"]["code"] == "bad_history"
        await user.call("POST", "/api/chat", ["x"], 400)
        assert (await user.call("POST", "/api/consent", {"recording": "yes"}, 400))["error"]["code"] == "bad_consent"
        await user.call("POST", "/api/consent", {"recording": True, "version": "0"}, 409)
        async with user.http.post(f"{user.url}/api/chat", data=b'{"message": "x"}') as plain:
            assert plain.status == 415
        async with user.http.post(
            f"{user.url}/api/chat", data=b"{", headers={"Content-Type": "application/json"}
        ) as no:
            assert no.status == 400


def test_what_is_asked_before_the_page_knows_the_conversation_stays_in_sight(setting: Setting) -> None:
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    with browser({}) as page:
        page.route("**/api/conversation", hold, times=1)
        page.goto(setting.assistant.url.replace("127.0.0.1", "localhost"))
        page.fill("#message", "How long can I return goods?")
        page.click("#send")
        page.locator("#log", has_text="30 days").wait_for()
        with page.expect_response(lambda answer: answer.ok and answer.url.endswith("/api/conversation")):
            held[0].continue_()
        page.wait_for_function("document.getElementById('send').hidden === false")
        shown = page.inner_text("#log")
    assert "How long can I return goods?" in shown
    assert "30 days" in shown
    assert "How can I help?" not in shown


async def test_the_page_is_served_with_its_policy_and_the_cookie_is_closed(setting: Setting) -> None:
    async with aiohttp.ClientSession() as http:
        async with http.get(f"{setting.assistant.url}/") as response:
            assert "<h1>Testbed &amp; Co</h1>" in await response.text()
            assert response.headers["Content-Security-Policy"].startswith("default-src 'none'")
        headers = {"X-Forwarded-Proto": "https"}
        async with http.post(f"{setting.assistant.url}/api/sessions", headers=headers) as response:
            cookie = response.headers["Set-Cookie"]
            assert all(word in cookie for word in ("HttpOnly", "SameSite=Strict", "Secure", "Path=/"))
            token = cookie.partition("=")[2].partition(";")[0]
            assert token not in await response.text()


@pytest.mark.parametrize("cloud", ["gcs", "s3"])
async def test_a_dead_store_is_a_clear_error_and_no_acknowledged_turn(cloud: str, tmp_path: Path) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(store_server(cloud))
        live = bucket(cloud, server, "live-1", tmp_path)
        provider = stack.enter_context(provider_process(tmp_path, PROVIDER_WORD_SECONDS="0.05"))
        assistant = stack.enter_context(assistant_process(live, provider, tmp_path / "assistant.log"))
        async with user_of(assistant) as user:
            await user.consent(True)
            events = []
            async for event in user.stream("How long can I return goods?"):
                events.append(event)
                if len(events) == 1:
                    server.process.kill()
                    server.process.wait(10)
            assert events[-1][0] == "error"
            assert events[-1][1]["code"] == "store_unavailable"
            error = (await user.ask("How long can I return goods?", 503))["error"]
            assert error["code"] == "store_unavailable"
            assert "Try again later" in error["message"]
            await user.call("GET", "/api/conversation", status=503)
            for probe in ("healthz", "readyz"):
                async with user.http.get(f"{assistant.url}/{probe}") as response:
                    assert response.status == 200
        log = (tmp_path / "assistant.log").read_text()
        assert "POST /api/chat 503" in log
        assert "conversations" not in log
        assert "goods" not in log


async def test_a_dead_model_is_a_clear_error(setting: Setting, tmp_path: Path) -> None:
    with (
        provider_process(tmp_path, PROVIDER_WORD_SECONDS="0.1") as provider,
        assistant_process(setting.live, provider, tmp_path / "assistant.log") as assistant,
    ):
        async with user_of(assistant) as user:
            events = []
            async for event in user.stream("How long can I return goods?"):
                events.append(event)
                if len(events) == 2:
                    provider.stop(signal.SIGKILL)
            assert events[-1][0] == "error"
            assert events[-1][1]["code"] == "model_unavailable"
            assert (await user.ask("How long can I return goods?", 502))["error"]["code"] == "model_unavailable"


async def test_a_client_cut_off_leaves_no_turn_and_sigterm_lets_answers_end(setting: Setting, tmp_path: Path) -> None:
    with (
        provider_process(tmp_path, PROVIDER_WORD_SECONDS="0.1") as provider,
        assistant_process(setting.live, provider, tmp_path / "assistant.log") as assistant,
    ):
        async with user_of(assistant) as user:
            await user.consent(True)
            async with user.http.post(
                f"{user.url}/api/chat", json={"message": "How long can I return goods?", "stream": True}
            ) as response:
                await response.content.readline()
            names = []
            async for name, _ in user.stream("Until when can I return goods?"):
                names.append(name)
                if len(names) == 1:
                    assistant.process.terminate()
            assert names[-1] == "done"
            assert assistant.process.wait(30) == 0
            user.url = setting.assistant.url
            turns = (await user.call("GET", "/api/conversation"))["turns"]
    assert [t["question"] for t in turns] == ["Until when can I return goods?"]


async def test_the_log_holds_nothing_of_users(setting: Setting) -> None:
    async with user_of(setting.assistant) as user:
        await user.consent(True)
        await user.ask(ORDER)
        session = (await user.call("GET", "/api/conversation"))["session"]
        tokens = [cookie.value for cookie in user.http.cookie_jar]
    log = setting.assistant.log.read_text()
    assert "POST /api/chat 200" in log
    assert not any(word in log for word in ("4711", "order", session, *tokens))


def test_a_missing_setting_is_named() -> None:
    command = [sys.executable, "-m", "assistant"]
    done = subprocess.run(
        command, cwd=ROOT / "examples", env={}, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 2
    assert "ASSISTANT_STORE_URL, ASSISTANT_BASE_URL, ASSISTANT_MODEL" in done.stderr
