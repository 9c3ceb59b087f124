"""Which accounts are dormant: nobody's who was there, and never the last owner."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from domicile.controllers.realm.dormancy import Account, dormant

CUTOFF = 1000.0
ACCOUNTS = st.lists(
    st.builds(
        Account,
        id=st.uuids().map(str),
        created=st.floats(0, 2000),
        enabled=st.booleans(),
        own=st.booleans(),
        owner=st.booleans(),
        used=st.booleans(),
        kept=st.booleans(),
    ),
    max_size=8,
    unique_by=lambda a: a.id,
)


@given(ACCOUNTS)
def test_only_enabled_accounts_of_the_tenants_own_without_a_login_since_are_dormant(accounts: list[Account]) -> None:
    found = dormant(accounts, CUTOFF, 0.0)
    for a in accounts:
        idle = a.enabled and a.own and not a.kept and not a.used and a.created < CUTOFF
        assert idle or a.id not in found
        assert a.id in found or not idle or a.owner


@given(ACCOUNTS)
def test_an_owner_who_can_log_in_is_left(accounts: list[Account]) -> None:
    owners = {a.id for a in accounts if a.enabled and a.owner}
    assert not owners or owners - set(dormant(accounts, CUTOFF, 0.0))


@given(ACCOUNTS, st.one_of(st.none(), st.floats(CUTOFF, 5000, exclude_min=True)))
def test_nobody_is_judged_by_logins_that_are_not_on_record(accounts: list[Account], since: float | None) -> None:
    assert dormant(accounts, CUTOFF, since) == ()
