"""A tenant with a notice on real clusters: what comes before the first question, and what outlives a site."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.estate import Estate, Talk, tenant
from tests.testbed.testbed import Site

Object = dict[str, Any]
FIRST, SECOND = "gcp-frankfurt", "aws-frankfurt"
ONE = [{"name": "helpdesk", "image": "domicile.dev/assistant:0.1.0", "replicas": 1, "mode": "free"}]
CONSENT = {
    "notice": {"version": "3", "texts": {"de": "Keine Beleidigungen.", "en": "No insults."}, "minimumAge": 16},
    "purposes": [
        {"name": "Recording", "version": "2", "texts": {"en": "Your conversations are kept."}},
        {"name": "Training", "version": "1", "texts": {"en": "Your conversations train models."}},
    ],
}
NOTICE = ("POST", "/domicile/notice", {"version": "1.3", "ofAge": True})
RECORDING = ("POST", "/domicile/consents", {"purpose": "Recording", "granted": True, "version": "2"})
ORDER = "My contract number is KV-48213."
RECALL = "What is my contract number?"


@pytest.fixture(scope="module")
def talk(estate: Estate, named: Callable[[str], str]) -> Iterator[Talk]:
    """Somebody before a tenant that asks for consents and serves at the first site."""
    talk = Talk(named("notice"), "helpdesk")
    first = estate.site(FIRST)
    first.apply(tenant(talk.tenant, assistants=ONE, consent=CONSENT))
    estate.wait_condition(first, talk.tenant, "Ready", "True", 180, "Serving")
    assert estate.conditions(first, talk.tenant)["ConsentsValid"]["reason"] == "Valid"
    yield talk
    for site in (first, estate.site(SECOND)):
        site.kubectl("delete", "assistanttenant", "--ignore-not-found", talk.tenant)


def _asked(talk: Talk, site: Site, step: tuple[str, str, Object | None], *, seconds: float = 0) -> Object:
    (turn,) = talk.say(site, step, seconds=seconds)
    assert 200 <= turn.status < 300, turn
    return turn.body


def _records(estate: Estate, site: Site, talk: Talk) -> list[str]:
    return estate.names(site, estate.live_bucket(site, talk.tenant), "domicile/consents/")


def test_what_was_said_before_the_first_question_outlives_a_failover(estate: Estate, talk: Talk) -> None:
    first, second = estate.site(FIRST), estate.site(SECOND)
    for step in (("GET", "/", None), ("POST", "/api/sessions", None)):
        (refused,) = talk.say(first, step)
        assert (refused.status, refused.body["reason"]) == (403, "NoticeRequired")
    shown = _asked(talk, first, ("GET", "/domicile/notice", None))
    assert "artificial intelligence" in shown["text"]
    assert _records(estate, first, talk) == []

    assert _asked(talk, first, NOTICE)["accepted"]
    opened = _asked(talk, first, ("POST", "/api/sessions", None), seconds=30)
    record = ("POST", "/api/consent", {"recording": True, "version": opened["consentVersion"]})
    (refused,) = talk.say(first, record)
    assert (refused.status, refused.body["error"]["code"]) == (403, "recording_not_granted")
    granted = {p["name"]: p["granted"] for p in _asked(talk, first, RECORDING)["purposes"]}
    assert granted == {"Recording": True, "Training": False}
    _asked(talk, first, record)
    assert _asked(talk, first, ("POST", "/api/chat", {"message": ORDER}), seconds=30)["recorded"]

    said = _records(estate, first, talk)
    assert [name.rsplit("/", 1)[1] for name in said] == ["000001.json", "000002.json"]
    token = talk.cookie.partition("domicile_visitor=")[2].partition(";")[0]
    assert token
    assert token not in json.dumps(said)
    estate.put(first, estate.live_bucket(first, talk.tenant), "ephemeral/1/turn", b"nobody agreed to this")
    estate.plugin(first, "snapshot", talk.tenant)
    estate.wait_condition(second, talk.tenant, "Ready", "True", 90, "Standby")

    estate.plugin(
        second, "failover", "--zone", "eu", "--to", SECOND, "--tenant", talk.tenant,
        "--source-is-down", "an end-to-end test", "--accept-loss", "1h",
    )  # fmt: skip
    estate.wait_condition(second, talk.tenant, "Ready", "True", 180, "Serving")
    recalled = _asked(talk, second, ("POST", "/api/chat", {"message": RECALL}), seconds=120)
    assert "KV-48213" in recalled["answer"]
    assert recalled["recorded"]
    assert _records(estate, second, talk) == said
    assert not estate.names(second, estate.live_bucket(second, talk.tenant), "ephemeral/")

    # What is withdrawn ends there, too.
    withdrawn = ("POST", "/domicile/consents", {"purpose": "Recording", "granted": False})
    assert not any(p["granted"] for p in _asked(talk, second, withdrawn)["purposes"])
    assert not _asked(talk, second, ("POST", "/api/chat", {"message": RECALL}))["recorded"]
    assert _asked(talk, second, ("GET", "/api/conversation", None))["turns"] == []
