"""How often the operator asks a bucket what it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from domicile.api.sites import ServedZone
from domicile.backup.residency import Purpose, compliant
from domicile.controllers.sites import FACTS_TTL_SECONDS, LIVE_FACTS_TTL_SECONDS, SiteStores
from tests.memory_bucket import MemoryBucket
from tests.unit.views import zone_spec

ZONE = ServedZone(name="eu", site="gcp-frankfurt", spec=zone_spec())


class Watched:
    """A site's stores over one bucket in memory, with a clock of the test's."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **facts: object) -> None:
        self.seconds = 0.0
        self.bucket = MemoryBucket("gcp-frankfurt", "b", **facts)  # type: ignore[arg-type]
        self.stores = SiteStores(Path("none"), Path("none"), clock=lambda: self.seconds)
        monkeypatch.setattr(self.stores, "bucket", lambda *_: self.bucket)

    def fine(self, purpose: Purpose) -> bool:
        return compliant(self.stores.findings(ZONE, ZONE.own, "b", purpose))

    @property
    def asked(self) -> int:
        return sum(operation == "facts" for operation, _ in self.bucket.calls)


def test_a_site_bucket_is_asked_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch)
    for seconds, asked in ((0, 1), (FACTS_TTL_SECONDS - 1, 1), (FACTS_TTL_SECONDS, 2), (FACTS_TTL_SECONDS + 1, 2)):
        watched.seconds = seconds
        assert watched.fine(Purpose.CONTROL)
        assert watched.asked == asked


def test_a_live_bucket_in_order_is_asked_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch)
    for seconds, asked in ((0, 1), (LIVE_FACTS_TTL_SECONDS / 2 - 1, 1), (LIVE_FACTS_TTL_SECONDS, 2)):
        watched.seconds = seconds
        assert watched.fine(Purpose.LIVE)
        assert watched.asked == asked


def test_a_live_bucket_with_a_fault_is_asked_until_it_is_mended(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch, public=True)
    assert not watched.fine(Purpose.LIVE)
    watched.bucket = MemoryBucket("gcp-frankfurt", "b")
    watched.seconds = FACTS_TTL_SECONDS - 1
    assert not watched.fine(Purpose.LIVE)
    watched.seconds = FACTS_TTL_SECONDS
    assert watched.fine(Purpose.LIVE)


def test_an_error_is_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch)
    watched.bucket.fail("facts")
    assert not watched.fine(Purpose.LIVE)
    assert watched.fine(Purpose.LIVE)
