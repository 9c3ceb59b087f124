"""Claims: what parses, what numbers do, and writing through lost answers."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domicile.api.sites import ServedZone
from domicile.backup import claims
from domicile.backup.claims import Claim, ClaimTakenError, Mode, Names
from domicile.backup.errors import IntegrityError
from domicile.backup.stores.base import StoreError, UnavailableError
from tests.memory_bucket import CarelessBucket, MemoryBucket
from tests.unit.views import TENANT_ID, zone_spec

SPEC = zone_spec()
HOME, PEER = (s.name for s in SPEC.sites)
AT_HOME, AT_PEER = (ServedZone(name="eu", site=name, spec=SPEC) for name in (HOME, PEER))
CLAIM = Claim(TENANT_ID, 1, HOME, Mode.INITIAL, None, "request", "5" * 32)
EMERGENCY = Claim(TENANT_ID, 2, PEER, Mode.EMERGENCY, 7, "request", "6" * 32)


def names(*numbers: int, opened: tuple[int, ...] = ()) -> Names:
    return Names(frozenset(numbers), frozenset(opened))


@given(
    n=st.integers(1, 9_999_999_999),
    holder=st.none() | st.sampled_from([HOME, PEER]),
    mode=st.sampled_from(Mode),
    base=st.none() | st.integers(0, 1 << 53),
)
def test_a_claim_reads_back(n: int, holder: str | None, mode: Mode, base: int | None) -> None:
    claim = Claim.new(TENANT_ID, n, holder=holder, mode=mode, request_id="request", base_commit=base)
    assert claims.parse(claim.to_bytes(), TENANT_ID, n) == claim


@given(st.binary(max_size=200))
def test_no_bytes_but_a_claim_s_parse(data: bytes) -> None:
    with pytest.raises(IntegrityError):
        claims.parse(data, TENANT_ID, 1)


@given(st.integers(0, 10_000), st.integers(0, 255))
def test_a_changed_byte_is_another_claim_or_none(position: int, value: int) -> None:
    data = bytearray(CLAIM.to_bytes())
    position %= len(data)
    data[position] = value
    try:
        parsed = claims.parse(bytes(data), TENANT_ID, 1)
    except IntegrityError:
        return
    assert parsed.to_bytes() == bytes(data)


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"version": True},
        {"tenant": "f" * 32},
        {"n": 2},
        {"n": "1"},
        {"n": 1.0},
        {"holder": ""},
        {"holder": 5},
        {"mode": "friendly"},
        {"mode": None},
        {"baseCommit": -1},
        {"baseCommit": True},
        {"writeId": "5"},
        {"writeId": None},
        {"more": 1},
    ],
)
def test_a_claim_with_a_wrong_field_is_refused(change: dict[str, object]) -> None:
    raw = json.loads(CLAIM.to_bytes()) | change
    with pytest.raises(IntegrityError):
        claims.parse(json.dumps(raw, sort_keys=True, separators=(",", ":")).encode(), TENANT_ID, 1)


def test_the_form_is_canonical_and_bounded() -> None:
    for data in (json.dumps(json.loads(CLAIM.to_bytes())).encode(), CLAIM.to_bytes() + b" ", b" " * 5000):
        with pytest.raises(IntegrityError):
            claims.parse(data, TENANT_ID, 1)


@given(st.integers(0, 1_000_000), st.integers(0, 1_000_000))
def test_two_sites_never_write_the_same_number(seen_here: int, seen_there: int) -> None:
    odd, even = claims.next_number(seen_here, 0), claims.next_number(seen_there, 1)
    assert odd % 2 == 1
    assert even % 2 == 0
    assert seen_here < odd <= seen_here + 2
    assert seen_there < even <= seen_there + 2
    assert (claims.smallest(0), claims.smallest(1)) == (claims.next_number(0, 0), claims.next_number(0, 1))
    assert (claims.writer(SPEC, odd), claims.writer(SPEC, even)) == (HOME, PEER)


def test_a_survey_reads_names_only_and_passes_foreign_ones_over() -> None:
    bucket = MemoryBucket()
    other = "f" * 32
    foreign = ("claims/x", f"claims/{TENANT_ID}/1", f"claims/{TENANT_ID.upper()}/0000000009", "claims//", "opened/")
    for name in (*foreign, f"claims/{TENANT_ID}/0000000003/more", f"commits/{TENANT_ID}/0000000007"):
        bucket.create(name, b"foreign")
    claims.write_claim(CLAIM, [bucket])
    claims.mark_open(bucket, TENANT_ID, 1)
    claims.write_claim(replace(CLAIM, tenant=other), [bucket])
    bucket.calls.clear()
    assert claims.survey(bucket) == {TENANT_ID: names(1, opened=(1,)), other: names(1)}
    assert [call for call, _ in bucket.calls] == ["list", "list", "list"]
    assert claims.survey(bucket, other) == {other: names(1)}


@pytest.mark.parametrize("lost", ["request", "answer"])
def test_a_write_without_an_answer_is_repeated_or_found(lost: str) -> None:
    own, peer = MemoryBucket(HOME), MemoryBucket(PEER)
    own.fail("create", lost=lost)
    if lost == "request":
        with pytest.raises(UnavailableError):
            claims.write_claim(CLAIM, [own, peer])
        # Nothing lies in the peer's store that doesn't lie in the writer's.
        assert not peer.objects
    claims.write_claim(CLAIM, [own, peer])
    claims.write_claim(CLAIM, [own, peer])
    assert claims.read_claim(own, TENANT_ID, 1) == claims.read_claim(peer, TENANT_ID, 1) == CLAIM


def test_of_two_writers_of_one_number_one_wins_and_the_other_reaches_no_store() -> None:
    own, peer = MemoryBucket(HOME), MemoryBucket(PEER)
    claims.write_claim(CLAIM, [own])
    with pytest.raises(ClaimTakenError):
        claims.write_claim(replace(CLAIM, write_id="7" * 32), [own, peer])
    assert not peer.objects
    claims.complete(TENANT_ID, 1, own, peer)
    claims.complete(TENANT_ID, 1, own, peer)
    assert claims.read_claim(peer, TENANT_ID, 1) == CLAIM


def test_a_store_that_lets_claims_be_overwritten_is_found_out_before_anything_is_served() -> None:
    own, peer = MemoryBucket(HOME), CarelessBucket(PEER)
    with pytest.raises(StoreError, match=f"site {PEER} overwrites .* If-None-Match"):
        claims.write_claim(CLAIM, [own, peer])
    with pytest.raises(StoreError, match="If-None-Match"):
        claims.complete(TENANT_ID, 1, own, CarelessBucket(PEER))
    # Whoever wrote it died before he could see.
    with pytest.raises(StoreError, match="If-None-Match"):
        claims.mark_open(peer, TENANT_ID, 1)
    assert list(peer.objects) == [claims.claim_name(TENANT_ID, 1)]


def test_opening_twice_is_harmless() -> None:
    own = MemoryBucket()
    claims.write_claim(CLAIM, [own])
    claims.mark_open(own, TENANT_ID, 1)
    first = own.read(claims.opened_name(TENANT_ID, 1))
    claims.mark_open(own, TENANT_ID, 1)
    assert own.read(claims.opened_name(TENANT_ID, 1)) == first


def test_a_claim_of_a_plan_stands_in_both_stores_only() -> None:
    planned = replace(CLAIM, n=2, holder=HOME, mode=Mode.PLANNED)
    assert not claims.judge(AT_HOME, planned, names(1), names(1, 2)).stands
    assert not claims.judge(AT_HOME, planned, names(1, 2), names(1)).stands
    assert claims.judge(AT_HOME, planned, names(1, 2), names(1, 2)).stands


def test_an_emergency_claim_stands_in_its_writer_s_own_store() -> None:
    assert claims.judge(AT_PEER, EMERGENCY, names(1, 2), None).stands
    assert claims.judge(AT_HOME, EMERGENCY, names(1), names(1, 2)).stands
    assert not claims.judge(AT_PEER, EMERGENCY, names(1), names(1, 2)).stands


def test_only_the_holder_s_own_mark_opens() -> None:
    both = names(1, 2, opened=(2,))
    assert claims.judge(AT_PEER, EMERGENCY, both, None).opened
    assert not claims.judge(AT_PEER, EMERGENCY, names(1, 2, opened=(1,)), None).opened
    assert not claims.judge(AT_HOME, EMERGENCY, both, names(1, 2)).opened


def test_while_the_peer_is_silent_its_claim_here_stands_and_an_own_one_needs_its_mark() -> None:
    # A writer puts a claim into its own store first: what lies here of the peer's lies there, too.
    assert claims.judge(AT_PEER, CLAIM, names(1), None).stands
    assert not claims.judge(AT_HOME, CLAIM, names(1), None).stands
    assert claims.judge(AT_HOME, CLAIM, names(1, opened=(1,)), None).stands
