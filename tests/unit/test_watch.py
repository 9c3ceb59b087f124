"""When the logins of a realm are worth an alert, what it says, and that it is told once."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domicile.controllers.realm.watch import (
    ADDRESSES_OF_ONE,
    FAILURES_OF_ALL,
    FAILURES_OF_ONE,
    WINDOW_SECONDS,
    BreakGlass,
    Look,
    Memory,
    Session,
    emergencies_since,
    judge,
    since,
)

NOW = 1_800_000_000.0


def reasons(look: Look, memory: Memory | None = None) -> list[str]:
    return [a.reason for a in judge(look, memory, NOW)[0]]


def spread(failures: int) -> tuple[str, ...]:
    return tuple(f"account{n}" for n in range(failures))


def seen_from(*addresses: str, account: str = "ann") -> Look:
    return Look(NOW, sessions=tuple(Session(account, a) for a in addresses))


@pytest.mark.parametrize(
    ("failures", "logins", "found"),
    [
        (("ann",) * (FAILURES_OF_ONE - 1), 0, []),
        (("ann",) * FAILURES_OF_ONE, 1000, ["LoginBurst"]),
        (spread(FAILURES_OF_ALL - 1), 0, []),
        (spread(FAILURES_OF_ALL), FAILURES_OF_ALL - 1, ["LoginBurst"]),
        (spread(FAILURES_OF_ALL), FAILURES_OF_ALL, []),
        ((), 10_000, []),
    ],
    ids=["a few", "one account", "few of many", "more than get in", "a morning", "none"],
)
def test_a_burst_is_many_failures_of_one_account_or_more_than_get_in(
    failures: tuple[str, ...], logins: int, found: list[str]
) -> None:
    assert reasons(Look(NOW, failures=failures, logins=logins)) == found


def test_one_account_at_many_addresses_is_odd_and_many_accounts_at_many_are_not() -> None:
    addresses = [f"192.0.2.{n}" for n in range(ADDRESSES_OF_ONE + 1)]
    assert reasons(seen_from(*addresses)) == ["ManyAddresses"]
    assert reasons(seen_from(*addresses[:-1], *addresses[:-1])) == []
    people = tuple(Session(f"person{a}", a) for a in addresses)
    assert reasons(Look(NOW, sessions=people)) == []


def test_privacy_addresses_of_one_network_are_one_place() -> None:
    home = [f"2001:db8:1:2:{n:x}::1" for n in range(1, 9)]
    assert reasons(seen_from(*home)) == []
    assert reasons(seen_from(*(f"2001:db8:1:{n}::1" for n in range(4)))) == ["ManyAddresses"]
    assert reasons(seen_from("", "unknown", "192.0.2.1", "2001:db8::1")) == ["ManyAddresses"]


def test_what_lasts_is_told_once_what_grows_anew_and_what_comes_back_too() -> None:
    addresses = [f"192.0.2.{n}" for n in range(ADDRESSES_OF_ONE + 1)]
    one = seen_from(*addresses)
    two = Look(NOW, sessions=one.sessions + seen_from(*addresses, account="bob").sessions)
    memory, told = None, []
    for look in (one, one, two, two, one, Look(NOW), one):
        alerts, memory = judge(look, memory, NOW)
        told.append(len(alerts))
    assert told == [1, 0, 1, 0, 0, 0, 1]


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), min_size=1, max_size=20))
def test_a_burst_is_told_once_however_long_it_lasts(looks: list[tuple[int, int]]) -> None:
    memory, before = None, False
    for failures, logins in looks:
        look = Look(NOW, failures=spread(failures), logins=logins)
        alerts, memory = judge(look, memory, NOW)
        now = bool(reasons(look))
        assert bool(alerts) == (now and not before)
        before = now


@given(
    st.text(st.sampled_from("xyzXYZ@"), min_size=4, max_size=20),
    st.ip_addresses().map(str),
    st.integers(FAILURES_OF_ONE, 500),
)
def test_an_alert_holds_numbers_and_nobodys_name_or_address(name: str, address: str, failures: int) -> None:
    sessions = tuple(Session(name, a) for a in (address, "198.51.100.7", "203.0.113.9", "2001:db8::7", "192.0.2.5"))
    alerts, memory = judge(Look(NOW, failures=(name,) * failures, sessions=sessions), None, NOW)
    assert {a.reason for a in alerts} == {"LoginBurst", "ManyAddresses"}
    text = f"{[a.message for a in alerts]}{memory}"
    assert name not in text
    assert not any(s.address in re.split(r"[\s,;]", text) for s in sessions)
    assert str(failures) in text


def test_every_login_of_the_account_for_emergencies_is_told_in_the_same_words_at_each_look() -> None:
    look = Look(NOW, break_glass=BreakGlass(usable=True, logins=(NOW, NOW + 60)))
    first, memory = judge(look, None, NOW)
    assert [a.reason for a in first] == ["BreakGlassLogin"] * 2
    assert first[0].message != first[1].message
    assert judge(look, memory, NOW + 300)[0] == first
    assert emergencies_since(None, NOW) == NOW - 86400
    assert emergencies_since(memory, NOW + 900) == NOW


def test_an_account_for_emergencies_that_cannot_be_used_is_told_once() -> None:
    look = Look(NOW, break_glass=BreakGlass(usable=False))
    [alert], memory = judge(look, None, NOW)
    assert alert.reason == "BreakGlassMissing"
    assert judge(look, memory, NOW)[0] == ()
    assert reasons(Look(NOW, break_glass=BreakGlass(usable=True))) == []


@given(st.floats(0, 10_000))
def test_no_login_falls_between_two_looks_and_none_is_too_short_to_judge(gap: float) -> None:
    assert since(None, NOW) == NOW - WINDOW_SECONDS
    begun = since(Memory(NOW - gap), NOW)
    assert begun <= NOW - gap
    assert begun <= NOW - WINDOW_SECONDS
