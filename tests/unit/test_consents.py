"""Notice and consents as values: which text counts, which record, and what no text can do to a page."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
from collections.abc import Iterator
from datetime import date
from html.parser import HTMLParser
from typing import Any

import pytest
from aiohttp.test_utils import make_mocked_request
from hypothesis import given, settings
from hypothesis import strategies as st

from domicile.api.consent import Consent
from domicile.backup.stores.base import UnavailableError
from domicile.gateway.consents import notice, pages, records
from domicile.gateway.consents.notice import Shown
from domicile.gateway.consents.person import Asker, new_token
from domicile.gateway.consents.records import BELIEVED_SECONDS, Records
from domicile.gateway.consents.refusal import RefusedError
from domicile.gateway.consents.state import Accepted, Decided, State, decode, encode
from domicile.gateway.consents.terms import Terms
from tests.memory_bucket import MemoryBucket

TEXT = st.text(max_size=20)
STATES = st.builds(
    State,
    st.none() | st.builds(Accepted, TEXT, TEXT, TEXT, TEXT, st.none() | st.integers(0, 150)),
    st.dictionaries(TEXT, st.builds(Decided, st.booleans(), TEXT, TEXT, TEXT, TEXT), max_size=5),
)
TODAY = date(2026, 5, 1)
TIME = "2026-05-01T00:00:00Z"
WHO = "ab" * 32


def terms(**consent: Any) -> Terms:
    return Terms(Consent.model_validate(consent))


def test_the_platforms_text_changes_with_its_version_only() -> None:
    """Whoever changes the text gives it a new version, and puts its digests here."""
    digests = {language: terms().notice(language).digest[:16] for language in notice.LANGUAGES}
    assert (notice.PLATFORM_VERSION, digests) == ("1", {"de": "22913fcc219d521b", "en": "869c74fe675fa6f5"})
    for language, ai, err in (("de", "künstliche Intelligenz", "irren"), ("en", "artificial intelligence", "err")):
        for asked in (terms(), terms(notice={"version": "7", "texts": {"en": "No insults."}})):
            assert ai in asked.notice(language).text
            assert err in asked.notice(language).text


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        ("", "en"),
        ("de", "de"),
        ("de-CH", "de"),
        ("fr", "en"),
        ("fr, de", "de"),
        ("en, de", "en"),
        ("en;q=0.3, de;q=0.4", "de"),
        ("de;q=0, en", "en"),
        ("de;q=x", "en"),
        ("*", "en"),
        ("de;q=" + "9" * 5000, "en"),
        (";;,,=q;q=,", "en"),
        ("DE", "de"),
    ],
)
def test_the_language_is_the_browsers(accepted: str, language: str) -> None:
    assert notice.language_of(accepted) == language


@given(STATES)
def test_a_record_says_what_was_written(state: State) -> None:
    assert decode(encode(state, TIME, "w")) == state


@given(st.binary(max_size=50) | st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["format", "notice", "consents", "version", "granted", "time"]), inner, max_size=6
    ),
    max_leaves=12,
).map(lambda found: json.dumps(found).encode()))  # fmt: skip
def test_what_is_no_record_says_nothing(data: bytes) -> None:
    found = decode(data)
    assert found.accepted is None or isinstance(found.accepted.version, str)
    assert all(isinstance(each.granted, bool) for each in found.decided.values())


@pytest.mark.parametrize(
    "change",
    [
        {"notice": {"version": 1}},
        {"consents": {"SMS": {"granted": "false", "version": "1", "language": "de", "digest": "", "time": ""}}},
        {"consents": {"SMS": {"granted": True}}},
        {"consents": []},
        {"format": 2},
    ],
)
def test_half_a_record_says_nothing(change: dict[str, Any]) -> None:
    whole = json.loads(encode(State(Accepted("1.0", "de", "d", TIME)), TIME, "w"))
    assert decode(json.dumps(whole | change).encode()) == State()


def accepted(asked: Terms, language: str = "de") -> State:
    return asked.accept(State(), asked.notice(language).version, language, of_age=True, time=TIME)


def test_a_notice_counts_for_its_text_its_version_and_its_age() -> None:
    old = {"version": "1", "texts": {"de": "Regeln", "en": "Rules"}, "minimumAge": 16}
    state = accepted(terms(notice=old))
    assert terms(notice=old).in_force(state)
    # Another language that is added, or changed, was not read by who read German.
    assert terms(notice=old | {"texts": {"de": "Regeln", "en": "Other"}}).in_force(state)
    assert terms(notice=old | {"minimumAge": 14}).in_force(state)
    assert terms(notice={k: v for k, v in old.items() if k != "minimumAge"}).in_force(state)
    for change in ({"version": "2"}, {"texts": {"de": "Andere", "en": "Rules"}}, {"minimumAge": 18}):
        assert not terms(notice=old | change).in_force(state)
    assert not terms().in_force(state)
    assert not terms(notice=old).in_force(State())
    without_age = accepted(terms(notice={"version": "1", "texts": old["texts"]}))
    assert not terms(notice=old).in_force(without_age)


def test_a_purpose_that_is_not_listed_is_never_granted() -> None:
    text = {"de": "Darf man?"}
    listed = terms(purposes=[{"name": "SMS", "version": "1", "texts": text}])
    state = listed.decide(accepted(listed), "SMS", "1", "de", granted=True, time=TIME)
    assert listed.header(state, TODAY) == "SMS=1"
    assert terms().header(state, TODAY) == ""
    assert terms(purposes=[{"name": "Recording", "version": "1", "texts": text}]).header(state, TODAY) == ""
    basis = {"statement": "A contract.", "attestedOn": "2026-05-01", "expiresOn": "2026-05-02"}
    based = {"name": "SMS", "basis": basis}
    for day, told in ((date(2026, 4, 30), ""), (TODAY, "SMS=external"), (date(2026, 5, 2), "")):
        assert terms(purposes=[based]).header(state, day) == told
    # What is asked no more can still be withdrawn.
    assert not terms().decide(state, "SMS", None, "de", granted=False, time=TIME).decided["SMS"].granted


def test_who_withdraws_and_agrees_again_has_said_three_things() -> None:
    asked = terms(purposes=[{"name": "SMS", "version": "1", "texts": {"en": "May we?"}}])
    state = accepted(asked)
    told = []
    for granted in (True, False, True):
        state = asked.decide(state, "SMS", "1", "en", granted=granted, time=TIME)
        told.append(asked.header(state, TODAY))
    assert told == ["SMS=1", "", "SMS=1"]


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, tuple[str, ...]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, tuple(name for name, _ in attrs)))


def _tags(page: str) -> list[tuple[str, tuple[str, ...]]]:
    parser = _Tags()
    parser.feed(page)
    return [each for each in parser.seen if each[0] not in {"p", "br"}]


NASTY = st.text(st.sampled_from("<>\"'&/=abc \n;:"), min_size=1, max_size=40)


@given(NASTY, st.sampled_from(notice.LANGUAGES))
def test_no_text_becomes_a_tag(text: str, language: str) -> None:
    def noticed(said: str) -> str:
        return pages.notice(Shown(said, language, said), 16, "domicile/notice", "domicile/consents", said, said)

    def asked(said: str) -> str:
        offers = [
            pages.Offer("SMS", Shown(said, language, said), "", None, said=False),
            pages.Offer("Recording", Shown(said, language, said), "", said, said=True),
            pages.Offer("Training", None, said, None, said=False),
        ]
        return pages.consents(offers, language, "consents", "../", said)

    for page in (noticed, asked):
        assert _tags(page(text)) == _tags(page("x"))


def test_a_page_loads_nothing_and_its_style_is_the_one_that_is_allowed() -> None:
    page = pages.notice(Shown("1", "de", "x"), None, "domicile/notice", "domicile/consents", "")
    assert not re.search("<script|<img|<link|src=|http", page)
    style = page.partition("<style>")[2].partition("</style>")[0]
    (allowed,) = re.findall("'sha256-([^']*)'", pages.HEADERS["Content-Security-Policy"])
    assert base64.b64decode(allowed) == hashlib.sha256(style.encode()).digest()


def test_people_are_told_apart_and_not_named() -> None:
    one, other = (Asker(tenant * 32, identified=True) for tenant in "01")
    tokens = {new_token() for _ in range(100)}
    assert len({asker.of_token(token) for asker in (one, other) for token in tokens}) == 200
    assert all(re.fullmatch("[A-Za-z0-9_-]{43}", token) for token in tokens)


def test_who_knows_a_person_finds_what_they_said() -> None:
    """As docs/consents.md says it, for erasures and for assistants that act later."""
    tenant, token = "0" * 32, new_token()
    claims = base64.urlsafe_b64encode(rb'{"iss": "https://a.example", "sub": "J\u00f6rg"}').decode().rstrip("=")
    request = make_mocked_request("GET", "/", headers={"Domicile-Identity": f"e30.{claims}.x"})
    said = f'["domicile consents", "{tenant}", "identity", "https://a.example", "J\\u00f6rg"]'
    assert Asker(tenant, identified=True).person(request) == hashlib.sha256(said.encode()).hexdigest()
    said = f'["domicile consents", "{tenant}", "cookie", "{token}"]'
    request = make_mocked_request("GET", "/", headers={"Cookie": f"a=b; domicile_visitor={token}; c=d"})
    for identified in (True, False):
        assert Asker(tenant, identified=identified).person(request) == hashlib.sha256(said.encode()).hexdigest()


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def bucket() -> MemoryBucket:
    return MemoryBucket()


@pytest.fixture
def kept(bucket: MemoryBucket, clock: Clock) -> Iterator[Records]:
    made = Records(lambda: bucket, clock)
    yield made
    made.close()


def says(version: str) -> records.Change:
    return lambda before: State(Accepted(version, "de", "d", TIME), before.decided)


def freely() -> None:
    """Nothing is in the way of writing."""


async def test_what_is_known_is_believed_for_seconds_and_no_longer(
    kept: Records, bucket: MemoryBucket, clock: Clock
) -> None:
    assert kept.known(WHO) is None
    await kept.write(WHO, says("1"), freely)
    bucket.calls.clear()
    clock.now += BELIEVED_SECONDS - 0.1
    assert kept.known(WHO) == says("1")(State())
    assert bucket.calls == []
    clock.now += 0.2
    assert kept.known(WHO) is None


async def test_an_answer_that_was_overtaken_brings_nothing_back(
    kept: Records, bucket: MemoryBucket, clock: Clock
) -> None:
    await kept.write(WHO, says("1"), freely)
    loop = asyncio.get_running_loop()
    reading, go_on = asyncio.Event(), asyncio.Event()

    def hold(operation: str, name: str) -> None:
        if operation == "read" and not reading.is_set():
            loop.call_soon_threadsafe(reading.set)
            asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(10)

    bucket.before = hold
    slow = asyncio.create_task(kept.read(WHO))
    await reading.wait()
    bucket.before = lambda operation, name: None
    clock.now += 1
    await kept.write(WHO, says("2"), freely)
    go_on.set()
    await slow
    assert kept.known(WHO) == says("2")(State())


async def test_nobody_waits_for_a_read_that_began_long_before(
    kept: Records, bucket: MemoryBucket, clock: Clock
) -> None:
    await kept.write(WHO, says("1"), freely)
    loop = asyncio.get_running_loop()
    reading, go_on = asyncio.Event(), asyncio.Event()

    def hold(operation: str, name: str) -> None:
        if operation == "read":
            loop.call_soon_threadsafe(reading.set)
            asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(10)

    bucket.before = hold
    slow = asyncio.create_task(kept.read(WHO))
    await reading.wait()
    bucket.before = lambda operation, name: None
    other = Records(lambda: bucket, clock)
    await other.write(WHO, says("2"), freely)
    other.close()
    clock.now += 2
    assert await kept.read(WHO) == says("2")(State())
    go_on.set()
    assert await slow == says("1")(State())
    assert kept.known(WHO) == says("2")(State())


async def test_what_was_written_slowly_is_believed_from_when_it_was_begun(
    kept: Records, bucket: MemoryBucket, clock: Clock
) -> None:
    def slowly(operation: str, name: str) -> None:
        clock.now += 1 if operation == "write" else 0

    bucket.before = slowly
    await kept.write(WHO, says("1"), freely)
    begun = clock.now - sum(operation == "write" for operation, _ in bucket.calls)
    clock.now = begun + BELIEVED_SECONDS - 0.1
    assert kept.known(WHO) is not None
    clock.now = begun + BELIEVED_SECONDS
    assert kept.known(WHO) is None


async def test_many_who_ask_at_once_read_once(kept: Records, bucket: MemoryBucket) -> None:
    await kept.write(WHO, says("1"), freely)
    bucket.calls.clear()
    found = await asyncio.gather(*(kept.read(WHO) for _ in range(50)))
    assert set(map(str, found)) == {str(says("1")(State()))}
    assert [operation for operation, _ in bucket.calls] == ["list", "read"]


async def test_of_so_many_people_the_newest_are_known(kept: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "_KNOWN", 3)
    for n in range(5):
        await kept.write(f"{n:064x}", says("1"), freely)
    assert [kept.known(f"{n:064x}") is not None for n in range(5)] == [False, False, True, True, True]


@pytest.mark.parametrize("lost", ["before", "after"])
async def test_a_write_without_an_answer_counts_once_or_not_at_all(
    kept: Records, bucket: MemoryBucket, lost: str
) -> None:
    failed = []

    def fail(operation: str, name: str) -> None:
        if operation == "create" and not failed:
            failed.append(name)
            raise UnavailableError("no answer")

    setattr(bucket, lost, fail)
    if lost == "before":
        with pytest.raises(RefusedError) as told:
            await kept.write(WHO, says("1"), freely)
        assert (told.value.status, told.value.reason) == (503, "ConsentsUnavailable")
        assert bucket.objects == {}
        assert kept.known(WHO) is None
    else:
        await kept.write(WHO, says("1"), freely)
        assert len(bucket.objects) == 1


async def test_nothing_is_written_that_may_not_be(kept: Records, bucket: MemoryBucket) -> None:
    class EndedError(Exception):
        pass

    def ended() -> None:
        raise EndedError

    with pytest.raises(EndedError):
        await kept.write(WHO, says("1"), ended)
    assert bucket.objects == {}


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["SMS", "Recording"]), st.booleans()), max_size=12))
def test_who_decides_at_two_replicas_has_said_all_of_it_in_order(said: list[tuple[str, str, bool]]) -> None:
    bucket = MemoryBucket()
    replicas = {name: Records(lambda: bucket) for name in "ab"}

    def deciding(purpose: str, granted: bool) -> records.Change:
        said = Decided(granted, "1", "de", "d", TIME)
        return lambda before: State(before.accepted, {**before.decided, purpose: said})

    async def play() -> State:
        for replica, purpose, granted in said:
            await replicas[replica].write(WHO, deciding(purpose, granted), freely)
        return await replicas["a"].read(WHO)

    found = asyncio.run(play())
    for each in replicas.values():
        each.close()
    assert {name: each.granted for name, each in found.decided.items()} == {purpose: said for _, purpose, said in said}
    changes = sum(1 for n, (_, p, g) in enumerate(said) if [x[2] for x in said[:n] if x[1] == p][-1:] != [g])
    assert len(bucket.objects) == changes
