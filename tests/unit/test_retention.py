"""Which snapshots are kept: examples, and properties of all chains."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from domicile.backup.retention import Retention, kept

NOW = datetime(2026, 3, 31, 12, 30, tzinfo=UTC)
MINUTES = st.integers(0, 60 * 24 * 1200) | st.integers(0, 60 * 200)
TIMES = MINUTES.map(lambda minutes: NOW - timedelta(minutes=minutes))
CHAINS = st.lists(TIMES, max_size=60).map(lambda times: dict(enumerate(times, 1)))
LONGEST = st.none() | st.timedeltas(timedelta(0), timedelta(days=900))
RETENTIONS = st.builds(Retention, st.integers(0, 6), st.integers(0, 6), st.integers(0, 6), LONGEST)


def hourly(hours: int) -> dict[int, datetime]:
    """A chain with a commit each hour that ends now."""
    return {seq: NOW - timedelta(hours=hours - seq) for seq in range(1, hours + 1)}


def test_two_years_of_hours() -> None:
    chain = hourly(730 * 24)
    found = sorted((chain[seq] for seq in kept(chain, NOW, Retention())), reverse=True)
    assert found[:48] == [NOW - timedelta(hours=n) for n in range(48)]
    assert found[48:75] == [NOW.replace(hour=23) - timedelta(days=n) for n in range(3, 30)]
    ends = [(2026, 2, 28), (2026, 1, 31), (2025, 12, 31), (2025, 11, 30), (2025, 10, 31), (2025, 9, 30), (2025, 8, 31)]
    ends += [(2025, 7, 31), (2025, 6, 30), (2025, 5, 31), (2025, 4, 30)]
    assert found[75:] == [datetime(*end, 23, 30, tzinfo=UTC) for end in ends]


def test_nothing_is_older_than_its_data_may_be_but_the_newest() -> None:
    chain = hourly(24 * 40)
    week = Retention(longest=timedelta(days=7))
    assert min(chain[seq] for seq in kept(chain, NOW, week)) >= NOW - timedelta(days=7)
    later = NOW + timedelta(days=400)
    assert kept(chain, later, week) == {max(chain)}
    assert kept(chain, later, Retention(0, 0, 0)) == {max(chain)}
    assert kept({}, NOW, week) == set()


def test_periods_are_those_of_utc() -> None:
    india = timezone(timedelta(hours=5, minutes=30))
    chain = {1: datetime(2026, 1, 1, 4, 0, tzinfo=india), 2: datetime(2026, 1, 1, 6, 0, tzinfo=india)}
    assert kept(chain, NOW, Retention(0, 0, 2)) == {1, 2}
    assert kept({1: chain[1], 2: chain[1] + timedelta(hours=1)}, NOW, Retention(0, 0, 2)) == {2}


@given(CHAINS, RETENTIONS)
def test_the_newest_is_kept_and_few_others(chain: dict[int, datetime], retention: Retention) -> None:
    found = kept(chain, NOW, retention)
    assert found <= chain.keys()
    assert len(found) <= retention.hourly + retention.daily + retention.monthly + 1
    assert not chain or max(chain) in found
    if retention.longest is not None:
        assert all(NOW - chain[seq] <= retention.longest for seq in found - {max(chain, default=0)})


@given(CHAINS, RETENTIONS)
def test_what_is_kept_is_kept_without_the_rest(chain: dict[int, datetime], retention: Retention) -> None:
    found = kept(chain, NOW, retention)
    assert kept({seq: chain[seq] for seq in found}, NOW, retention) == found


def test_a_clock_set_back_brings_no_dropped_commit_back() -> None:
    chain = {1: NOW, 2: NOW - timedelta(minutes=1)}
    day = Retention(0, 0, 1, timedelta(days=1))
    assert kept(chain, NOW, day) == {2}
    assert kept(chain | {3: NOW - timedelta(minutes=1)}, NOW + timedelta(days=1), day) == {3}


@given(CHAINS, TIMES, RETENTIONS, st.timedeltas(timedelta(0), timedelta(days=800)))
def test_what_is_dropped_never_comes_back(
    chain: dict[int, datetime], newer: datetime, retention: Retention, passed: timedelta
) -> None:
    dropped = chain.keys() - kept(chain, NOW, retention)
    later = kept(chain | {len(chain) + 1: newer}, NOW + passed, retention)
    assert not dropped & later
