"""The guard's pure parts: the lease as arithmetic, the agent's answers, settings, framing."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from domicile.gateway.guard import Settings
from domicile.gateway.holder import LONGEST, Grant, Holder, LeaseEndedError, Refusal, parse
from domicile.gateway.proxy import framing_fault, request_headers

TENANT = "0123456789abcdef" * 2
NO = Refusal("HigherClaim", "Another site holds the tenant.")


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class World:
    """What the guard was truly allowed, tracked apart from the Holder."""

    clock: Clock = field(default_factory=Clock)
    allowed: list[tuple[float, float]] = field(default_factory=list)

    def permits(self, now: float) -> bool:
        return any(asked <= now < asked + seconds for asked, seconds in self.allowed)


seconds = st.floats(min_value=0, max_value=400, allow_nan=False)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("pass"), seconds),
        st.tuples(st.just("grant"), seconds, seconds.filter(lambda s: s > 0), st.integers(1, 4)),
        st.tuples(st.just("refuse")),
    ),
    max_size=40,
)


@given(steps)
def test_no_moment_is_held_that_was_not_granted_counted_from_the_asking(script: list[tuple]) -> None:
    world = World()
    holder = Holder(world.clock)
    for step in script:
        if step[0] == "pass":
            world.clock.now += step[1]
        elif step[0] == "refuse":
            holder.refuse(NO)
            world.allowed.clear()
            assert holder.remaining() == 0.0
        else:
            _, latency, granted, epoch = step
            asked = holder.now()
            world.clock.now += latency
            world.allowed.append((asked, granted))
            holder.take(Grant(epoch, granted), asked)
        if holder.remaining() > 0:
            assert world.permits(world.clock.now)
            # Sums of floating-point seconds differ in the last digit.
            assert holder.remaining() <= LONGEST + 1e-9
            world.clock.now += holder.remaining() * 0.999
            assert holder.term() is None or world.permits(world.clock.now)
            world.clock.now += holder.remaining()
            assert holder.remaining() <= 1e-9
        else:
            assert holder.term() is None


@given(steps)
def test_a_term_has_neither_a_gap_nor_a_change_of_epoch(script: list[tuple]) -> None:
    clock = Clock()
    holder = Holder(clock)
    seen: dict[int, int] = {}
    over: set[int] = set()
    for step in script:
        before, asked = holder.term(), clock.now
        if step[0] == "refuse":
            holder.refuse(NO)
        else:
            clock.now += step[1]
            if before is not None and holder.term() is None:
                over.add(before)
            if step[0] == "grant":
                holder.take(Grant(step[3], step[2]), asked)
        term = holder.term()
        if before is not None and term != before:
            over.add(before)
        if term is not None:
            assert term not in over
            assert seen.setdefault(term, holder.epoch) == holder.epoch


def test_a_fresh_guard_is_closed() -> None:
    holder = Holder(Clock())
    assert holder.remaining() == 0.0
    assert holder.term() is None
    with pytest.raises(LeaseEndedError):
        holder.require(0)


def test_an_answer_that_came_too_late_gives_nothing() -> None:
    clock = Clock()
    holder = Holder(clock)
    asked = clock.now
    clock.now += 2
    holder.take(Grant(1, 2.0), asked)
    assert holder.term() is None


def test_a_request_is_not_acknowledged_in_the_next_term() -> None:
    clock = Clock()
    holder = Holder(clock)
    holder.take(Grant(1, 2.0), clock.now)
    admitted = holder.term()
    assert admitted is not None
    clock.now += 3
    holder.take(Grant(1, 2.0), clock.now)
    assert holder.remaining() == 2.0
    with pytest.raises(LeaseEndedError):
        holder.require(admitted)


def test_a_renewal_in_time_keeps_the_term_and_a_lagging_agent_changes_nothing() -> None:
    clock = Clock()
    holder = Holder(clock)
    holder.take(Grant(3, 2.0), clock.now)
    admitted = holder.term()
    assert admitted is not None
    clock.now += 1
    holder.take(Grant(1, 30.0), clock.now)
    assert holder.remaining() == 1.0
    holder.take(Grant(3, 2.0), clock.now)
    assert holder.remaining() == 2.0
    holder.require(admitted)
    holder.take(Grant(5, 2.0), clock.now)
    with pytest.raises(LeaseEndedError):
        holder.require(admitted)


def test_parse_takes_a_grant_and_a_refusal() -> None:
    grant = {"tenant": TENANT, "epoch": 3, "remainingSeconds": 12.5}
    assert parse(TENANT, 200, json.dumps(grant).encode()) == Grant(3, 12.5)
    refusal = {"reason": "HigherClaim", "message": "Another site."}
    assert parse(TENANT, 503, json.dumps(refusal).encode()) == Refusal("HigherClaim", "Another site.")
    unclear = parse(TENANT, 503, b"<html>")
    assert isinstance(unclear, Refusal)
    assert unclear.reason == "Refused"


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b""),
        (200, b"[]"),
        (200, b"\xff"),
        (201, b'{"tenant":"%s","epoch":1,"remainingSeconds":5}' % TENANT.encode()),
        (200, b'{"tenant":"other","epoch":1,"remainingSeconds":5}'),
        *(
            (200, b'{"tenant":"%s","epoch":%s,"remainingSeconds":%s}' % (TENANT.encode(), epoch, left))
            for epoch, left in [
                (b"1", b"NaN"),
                (b"1", b"Infinity"),
                (b"1", b"-1"),
                (b"1", b"0"),
                (b"1", b"true"),
                (b"1", b'"5"'),
                (b"1", b"1" + b"0" * 400),
                (b"0", b"5"),
                (b"true", b"5"),
                (b"1.5", b"5"),
                (b"null", b"5"),
            ]
        ),
    ],
)
def test_parse_takes_nothing_from_a_malformed_answer(status: int, body: bytes) -> None:
    assert parse(TENANT, status, body) is None


@given(st.integers(100, 599), st.binary(max_size=200))
def test_parse_survives_anything(status: int, body: bytes) -> None:
    answer = parse(TENANT, status, body)
    assert answer is None or isinstance(answer, Refusal) or math.isfinite(answer.seconds)


@pytest.mark.parametrize(
    ("headers", "fine"),
    [
        ([("Host", "a")], True),
        ([("Host", "a"), ("Connection", "keep-alive, TE")], True),
        ([("Host", "a"), ("Connection", "Upgrade"), ("Upgrade", "h2c")], True),
        ([("Host", "a"), ("Connection", "close, X-User")], False),
        ([("Host", "a"), ("Connection", "close"), ("Connection", "x-user")], False),
        ([("Host", "a"), ("Connection", "Upgrade"), ("Upgrade", "websocket")], False),
        ([("Host", "a"), ("Host", "b")], False),
        ([], False),
        ([("Host", "a"), ("Content-Length", "1"), ("Content-Length", "1")], False),
        ([("Host", "a"), ("Content-Length", "+1")], False),
        ([("Host", "a"), ("Content-Length", "1"), ("Transfer-Encoding", "chunked")], False),
        ([("Host", "a"), ("Transfer-Encoding", "gzip, chunked")], False),
        ([("Host", "a"), ("X", "a\r\n b")], False),
    ],
)
def test_framing(headers: list[tuple[str, str]], fine: bool) -> None:
    request = make_mocked_request("GET", "/", headers=CIMultiDict(headers))
    assert (framing_fault(request) is None) is fine


@pytest.mark.parametrize("target", ["http://elsewhere/", "//a#b", "/é", "a", ""])
def test_a_target_is_a_path(target: str) -> None:
    request = make_mocked_request("GET", target, headers=CIMultiDict({"Host": "a"}))
    assert framing_fault(request) is not None


def test_hop_by_hop_fields_stay_and_the_rest_keeps_its_order() -> None:
    fields = [("Host", "a.example"), ("X-B", "1"), ("TE", "trailers"), ("X-A", "2"), ("X-B", "3"), ("Expect", "x")]
    fields += [("X-Forwarded-For", "192.0.2.1"), ("Proxy-Authorization", "x"), ("Connection", "TE")]
    passed = list(request_headers(make_mocked_request("GET", "/", headers=CIMultiDict(fields))).items())
    assert passed[:4] == [("Host", "a.example"), ("X-B", "1"), ("X-A", "2"), ("X-B", "3")]
    assert [name for name, _ in passed[4:]] == ["X-Forwarded-For"]
    assert passed[4][1].startswith("192.0.2.1, ")


@pytest.mark.parametrize("consents", [None, "", "SMS=1"])
def test_nobody_but_the_guard_says_what_was_agreed_to(consents: str | None) -> None:
    forged = ("Domicile-Consents", "domicile-consents", "DOMICILE_CONSENTS", "Domicile-consents")
    request = make_mocked_request(
        "GET", "/", CIMultiDict([(name, "Recording=2") for name in forged] + [("X-Other", "1")])
    )
    headers = request_headers(request, consents)
    assert headers.getall("X-Other") == ["1"]
    assert [v for n, v in headers.items() if "consents" in n.lower()] == ([] if consents is None else [consents])


def test_settings_have_defaults_and_name_the_wrong_variable() -> None:
    env = {"DOMICILE_TENANT_ID": TENANT, "DOMICILE_LEASE_URL": "http://lease.system.svc:8080/"}
    settings = Settings.read(env)
    assert settings == (
        TENANT, "http://lease.system.svc:8080", "http://127.0.0.1:8081", "0.0.0.0", 8080, 2**25,
        Path("/etc/domicile/tls"), None, 8443, None, 8082, None, Path("/etc/domicile/store"),
        None,
    )  # fmt: skip
    for name, value in [
        ("DOMICILE_TENANT_ID", TENANT.upper()),
        ("DOMICILE_LEASE_URL", "lease:8080"),
        ("DOMICILE_UPSTREAM", "file:///etc/passwd"),
        ("DOMICILE_PORT", "70000"),
        ("DOMICILE_PORT", "x"),
        ("DOMICILE_BODY_LIMIT", "-1"),
        ("DOMICILE_CLIENT", ""),
        ("DOMICILE_CLIENT", "spiffe://elsewhere/ns/bank/sa/front-door"),
        ("DOMICILE_TLS_PORT", "65536"),
        ("DOMICILE_MODEL_URL", ""),
        ("DOMICILE_MODEL_URL", "gateway:443"),
        ("DOMICILE_MODEL_PORT", "65536"),
        ("DOMICILE_WAY_OUT", "https://proxy:3129"),
        ("DOMICILE_WAY_OUT", ""),
        ("DOMICILE_WAY_OUT_PORT", "65536"),
    ]:
        with pytest.raises(ValueError, match=name):
            Settings.read(env | {"DOMICILE_WAY_OUT": "proxy:3129"} | {name: value})
    with pytest.raises(ValueError, match="DOMICILE_LEASE_URL"):
        Settings.read({"DOMICILE_TENANT_ID": TENANT})


def test_the_guard_loads_no_cloud_client() -> None:
    probe = "import sys, domicile.gateway.guard; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", probe], check=True, capture_output=True, text=True).stdout.split()
    heavy = {"boto3", "botocore", "google", "kubernetes", "kopf", "pydantic", "tink", "domicile.backup"}
    assert not heavy & set(loaded)
