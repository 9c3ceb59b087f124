"""The reference assistant's prompt, its page and its pins; and the testbed provider's quotations."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.assistant import page, prompt
from examples.assistant.conversation import Turn
from examples.assistant.knowledge import Passage
from examples.assistant.settings import Settings, SettingsError, StoreUrl
from tests.testbed.provider.extract import answer

ROOT = Path(__file__).resolve().parents[2]
RETURNS = Passage("returns.md", "Returns", "Goods can be returned within 30 days. Send them to the warehouse.")
TEXT = st.text(max_size=200)
ENV = {
    "ASSISTANT_STORE_URL": "s3://bucket",
    "ASSISTANT_BASE_URL": "http://provider.models.svc:8080/v1",
    "ASSISTANT_MODEL": "m",
}


def test_without_passages_or_conversation_the_model_is_not_asked() -> None:
    assert prompt.plan("A", "Who won the cup?", [], []).refusal == prompt.dont_know("Who won the cup?")
    german = prompt.plan("A", "Wer hat gewonnen?", [], [])
    assert german.refusal is not None
    assert german.refusal.startswith("Das weiß ich nicht")
    # Having asked it before is no knowledge of it.
    assert prompt.plan("A", "Who won the cup?", [], [Turn("Who won the cup?", "I don't know.")]).refusal is not None


def test_what_the_user_stated_earlier_is_known_and_named_as_the_source() -> None:
    history = [Turn("My order number is 4711. How long can I return it?", "Within 30 days. [1]")]
    plan = prompt.plan("A", "What was my order number?", [], history)
    assert [m["role"] for m in plan.messages] == ["system", "user", "assistant", "user"]
    reply = answer(list(plan.messages))
    assert "4711" in reply
    assert prompt.cite(reply, plan) == ("You said: “My order number is 4711.” [1]", ("conversation",))


def test_an_answer_names_its_file() -> None:
    other = Passage("other.md", "", "The warehouse opens at nine.")
    plan = prompt.plan("A", "Within how many days can goods be returned?", [other, RETURNS], [])
    reply = answer(list(plan.messages))
    assert "30 days" in reply
    assert plan.messages[-1] == {"role": "user", "content": "Within how many days can goods be returned?"}
    assert prompt.cite(reply, plan) == ("Goods can be returned within 30 days. [1]", ("returns.md",))
    assert prompt.cite("No mark at all.", plan) == ("No mark at all.", ("other.md",))
    assert prompt.cite("A [9][0]. B [2] C [1][2] D [conversation]", plan) == (
        "A. B [1] C [2][1] D [3]",
        ("returns.md", "other.md", "conversation"),
    )


@given(st.lists(st.builds(Passage, TEXT, TEXT, TEXT), max_size=4))
def test_no_passage_can_leave_its_line(passages: list[Passage]) -> None:
    instruction, _, quotations = prompt.instruct("A", passages).partition(f"\n\n{prompt.PASSAGES}")
    assert instruction == prompt.INSTRUCTION.format(name="A")
    lines = quotations.split("\n")[1:]
    for n, (line, passage) in enumerate(zip(lines, passages, strict=True), 1):
        quoted = json.loads(line)
        assert (quoted["id"], quoted["source"]) == (n, passage.source)
        assert (quoted["heading"], quoted["text"]) == (passage.heading, passage.body)


@given(st.lists(st.builds(Turn, st.text(max_size=4000), st.text(max_size=9000)), max_size=12))
def test_the_conversation_in_the_prompt_is_bounded_and_newest(history: list[Turn]) -> None:
    kept = prompt.recent(history)
    assert kept == history[len(history) - len(kept) :]
    assert len(kept) <= prompt.CONTEXT_TURNS
    assert sum(len(t.question) + len(t.answer) for t in kept) <= prompt.CONTEXT_CHARS


def test_the_page_loads_nothing_from_elsewhere_and_its_policy_admits_no_inline_code() -> None:
    markup = (ROOT / "examples/assistant/page.html").read_text()
    assert not re.search(r"""(src|href)=["'](?!data:)""", markup)
    assert not re.search(r"""\s(on[a-z]+|style)=["']""", markup)
    assert "innerHTML" not in markup
    # Behind a prefix a path from the root would be another's.
    assert not re.search(r"""["'`]/[a-z]""", markup)
    policy = page.SECURITY_HEADERS["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert policy.startswith("default-src 'none'; script-src 'sha256-")


def test_the_image_holds_the_versions_of_the_lock() -> None:
    pin = re.compile(r"^([a-z0-9-]+==\S+).*?(?=^\S|\Z)", re.MULTILINE | re.DOTALL)
    lock = {m[1]: re.findall(r"sha256:\w+", m[0]) for m in pin.finditer((ROOT / "requirements.lock").read_text())}
    image = (ROOT / "examples/assistant/requirements.txt").read_text()
    pins = {m[1]: re.findall(r"sha256:\w+", m[0]) for m in pin.finditer(image)}
    assert {p.partition("==")[0] for p in pins} >= {
        "aiohttp",
        "boto3",
        "cryptography",
        "google-cloud-storage",
        "pyjwt",
    }
    assert all(hashes and lock.get(name) == hashes for name, hashes in pins.items())


def test_settings_are_read_and_wrong_ones_named() -> None:
    settings = Settings.from_env({**ENV, "PORT": "9", "ASSISTANT_STORE_URL": "gs://b?endpoint=http://x:1&region=r"})
    assert (settings.port, settings.store) == (9, StoreUrl("gs", "b", "http://x:1", "r"))
    for name, value in {
        "ASSISTANT_STORE_URL": "https://b",
        "ASSISTANT_BASE_URL": "provider",
        "ASSISTANT_MODEL": "",
        "PORT": "0",
        "ASSISTANT_MODE": "any",
    }.items():
        with pytest.raises(SettingsError, match=name):
            Settings.from_env({**ENV, name: value})


@pytest.mark.parametrize("url", ["s3://", "s3://b/path", "s3://b?bucket=c", "gs://b?endpoint=ftp://x"])
def test_store_urls_of_another_form_are_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="ASSISTANT_STORE_URL"):
        StoreUrl.parse(url)
