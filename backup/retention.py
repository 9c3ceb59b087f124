"""Which snapshots are kept: the newest of each hour, day and month. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta


@dataclass(frozen=True, slots=True)
class Retention:
    """How many hours, days and months keep their newest snapshot, counted over those that have one, the newest first.

    ``longest`` is what the data's own retention class allows: a snapshot older than that is not kept.
    """

    hourly: int = 48
    daily: int = 30
    monthly: int = 12
    longest: timedelta | None = None


def kept(cut_times: Mapping[int, datetime], now: datetime, retention: Retention) -> set[int]:
    """The commits to keep, by sequence number; the newest one always, hours, days and months of UTC.

    What is not kept once is kept at no later moment and beside no newer commit.
    """
    if not cut_times:
        return set()
    found: set[int] = set()
    for limit, fields in ((retention.hourly, 4), (retention.daily, 3), (retention.monthly, 2)):
        newest: dict[tuple[int, ...], int] = {}
        for seq in sorted(cut_times, reverse=True):
            period = cut_times[seq].astimezone(UTC).timetuple()[:fields]
            if len(newest) < limit:
                newest.setdefault(period, seq)
        found.update(newest.values())
    # Age is judged last, so that no commit takes the place of a newer one that a wrong clock made look older.
    if retention.longest is not None:
        found = {seq for seq in found if now - cut_times[seq] <= retention.longest}
    return found | {max(cut_times)}
