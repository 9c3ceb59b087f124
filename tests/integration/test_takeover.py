"""Emergency take-over on real object stores: every step, every refusal, and a death at every write."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from domicile.api.failover import FailoverSpec, Phase
from domicile.api.sites import ServedZone, SiteFile
from domicile.api.zone import Site, Subject
from domicile.backup import claims, records, worker
from domicile.backup.errors import BackupError, IntegrityError, LiveNotEmptyError, RollbackError
from domicile.backup.kek import generate
from domicile.backup.stores import open_bucket
from domicile.backup.stores.base import Bucket, NotFoundError
from domicile.controllers import sites as sites_module
from domicile.controllers.failover.takeover import Progress, RefusedError, take_over
from domicile.controllers.sites import SiteStores
from domicile.controllers.tenant.storage import Known, TenantStorage
from tests.integration.stores_fixture import StoreSites, make_site
from tests.unit.views import zone_spec

_numbers = itertools.count()
CONTENT = {
    "knowledge/a.md": b"hello",
    "conversations/1/000001.json": b"{}",
    "empty": b"",
    "big": bytes(range(256)) * 4096,
}


class Pair:
    """A tenant at gcp-frankfurt with some objects, and aws-frankfurt beside it."""

    def __init__(self, stores: StoreSites, folder: Path) -> None:
        self.credentials, self.keys = stores.credentials, folder
        self.number = next(_numbers)
        self.tenant = f"{self.number:032x}"
        self.gcp, self.aws = self._site(stores.gcp), self._site(stores.aws)
        for name in ("gcp-frankfurt", "aws-frankfurt"):
            generate(name, folder)
        dates = {"attestedOn": "2026-01-01", "expiresOn": "2099-01-01"}
        self.spec = zone_spec(
            sites=[self.gcp.to_wire(), self.aws.to_wire()],
            leaseSeconds=5,
            attestations=[
                {"site": s.name, "subject": subject, "statement": "a test's server", **dates}
                for s in (self.gcp, self.aws)
                for subject in Subject
            ],
        )
        self.waited: list[float] = []

    def _site(self, site: Site) -> Site:
        names = {role: f"{site.cloud}-to-{role}-{self.number}" for role in ("replica", "keys", "control")}
        live = f"{site.cloud}-to-live-{self.number}"
        made = make_site(site.name, site.cloud, site.region, site.stores.endpoint, **names, live={"pool": [live]})
        made = made.model_copy(update={"store_ca_bundle": site.store_ca_bundle})
        for bucket in (*names.values(), live):
            open_bucket(made, bucket, self.credentials).create_bucket()
        return made

    def zone(self, site: str) -> ServedZone:
        return ServedZone(name="eu", site=site, spec=self.spec)

    def bucket(self, site: Site, role: str) -> Bucket:
        return open_bucket(site, f"{site.cloud}-to-{role}-{self.number}", self.credentials)

    def storage(self, site: str) -> TenantStorage:
        return TenantStorage(self.zone(site), SiteStores(self.credentials, self.keys))

    def provision(self) -> None:
        """What the two operators do before the outage."""
        for site, home in (("gcp-frankfurt", True), ("aws-frankfurt", False)):
            storage = self.storage(site)
            for _ in range(4):
                seen = storage.observe(self.tenant)
                known = Known(seen.live_bucket, seen.claim, peer_answers=True)
                if not storage.provision(self.tenant, {"name": "bank", "spec": {}}, known, home=home):
                    break

    def fill(self, content: dict[str, bytes]) -> None:
        for name, data in content.items():
            self.bucket(self.gcp, "live").write(name, iter([data]), len(data))

    def replicate(self) -> int:
        site_file = SiteFile(zones=[self.zone("gcp-frankfurt")])
        return worker.run(
            site_file, self.credentials, self.keys, self.tenant, datetime.now(UTC), termination=self.keys / "none"
        )

    def take_over(
        self, report: Callable[[Progress], None] = lambda _: None, known_seq: int | None = None, **changes: Any
    ) -> None:
        spec = FailoverSpec.model_validate(
            {
                "zone": "eu",
                "targetSite": "aws-frankfurt",
                "tenants": {"matchLabels": {}},
                "acceptedDataLossSeconds": 3600,
                "sourceIsDown": "the region is gone",
                **changes,
            }
        )
        stores, zone = SiteStores(self.credentials, self.keys), self.zone("aws-frankfurt")
        take_over(zone, stores, spec, self.tenant, "order-1", report, known_seq, sleep=self.waited.append)

    def live(self) -> dict[str, bytes]:
        live = self.bucket(self.aws, "live")
        return {o.name: live.read(o.name) for o in live.list()}

    def ruling(self) -> claims.Ruling:
        found = claims.rule(self.zone("aws-frankfurt"), self.tenant, self.bucket(self.aws, "control"), None)
        assert found is not None
        return found

    def control_names(self) -> set[str]:
        return {o.name for o in self.bucket(self.aws, "control").list()}


@pytest.fixture
def pair(store_sites: StoreSites, tmp_path: Path) -> Pair:
    made = Pair(store_sites, tmp_path)
    made.provision()
    made.fill(CONTENT)
    return made


def test_a_tenant_is_taken_over_byte_for_byte(pair: Pair) -> None:
    assert pair.replicate() == 0
    steps: list[Progress] = []
    pair.take_over(steps.append)
    assert [s.phase for s in steps] == [Phase.CLAIMED, Phase.FENCED, Phase.RESTORED, Phase.OPENED]
    assert steps[-1].commit_seq == 1
    assert pair.live() == CONTENT
    ruling = pair.ruling()
    assert (ruling.number, ruling.holder, ruling.stands, ruling.opened) == (2, "aws-frankfurt", True, True)
    assert 0 < pair.waited[0] <= 5 * 1.01


def test_the_old_site_can_neither_replicate_nor_claim_to_hold_it(pair: Pair) -> None:
    pair.replicate()
    pair.take_over()
    pair.fill({"late": b"written by the old site"})
    assert pair.replicate() == worker.NOT_HOLDER
    assert pair.live() == CONTENT


def test_a_replicator_that_was_already_running_is_fenced(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    pair.replicate()
    pair.fill({"late": b"x"})
    original = records.append

    def slow(*args: Any) -> None:
        pair.take_over()
        original(*args)

    monkeypatch.setattr(records, "append", slow)
    assert pair.replicate() == worker.NOT_HOLDER
    assert pair.live() == CONTENT


@pytest.mark.parametrize("dies", ["at the survey", "at the claim"])
def test_a_source_that_dies_under_the_order_does_not_stop_it(
    pair: Pair, dies: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair.replicate()
    dead = pair.gcp.stores.model_copy(update={"endpoint": "http://127.0.0.1:1"})
    calls = itertools.count()

    def dying(site: Site, name: str, credentials: Path, *rest: Any) -> Bucket:
        # The quick question whether it answers still finds it alive.
        if site.name == "gcp-frankfurt" and not rest and next(calls) >= (1 if dies == "at the claim" else 0):
            site = site.model_copy(update={"stores": dead})
        return open_bucket(site, name, credentials, *rest)

    monkeypatch.setattr(sites_module, "open_bucket", dying)
    pair.take_over()
    ruling = pair.ruling()
    assert (ruling.number, ruling.holder, ruling.opened) == (2, "aws-frankfurt", True)
    assert pair.live() == CONTENT


def test_a_dry_run_writes_nothing(pair: Pair) -> None:
    pair.replicate()
    before = pair.control_names()
    steps: list[Progress] = []
    pair.take_over(steps.append, dryRun=True)
    assert [s.phase for s in steps] == [Phase.REHEARSED]
    assert (pair.control_names(), pair.live()) == (before, {})


def test_an_old_snapshot_is_refused_before_anything_is_written(pair: Pair) -> None:
    pair.replicate()
    before = pair.control_names()
    with pytest.raises(RefusedError, match="acceptedDataLossSeconds is 0"):
        pair.take_over(acceptedDataLossSeconds=0)
    assert pair.control_names() == before


def test_without_a_snapshot_there_is_nothing_to_take(pair: Pair) -> None:
    with pytest.raises(RefusedError, match="no snapshot"):
        pair.take_over()
    assert pair.ruling().number == 1


def test_a_second_order_adds_a_persons_word(pair: Pair) -> None:
    pair.replicate()
    pair.take_over()
    steps: list[Progress] = []
    pair.take_over(steps.append)
    assert [s.phase for s in steps] == [Phase.OPENED]
    names = claims.survey(pair.bucket(pair.aws, "control"), pair.tenant)[pair.tenant]
    assert len(names.words_on(2)) == 1
    assert pair.ruling().number == 2
    assert pair.live() == CONTENT


def test_what_this_site_wrote_earlier_is_not_overwritten(pair: Pair) -> None:
    pair.replicate()
    pair.bucket(pair.aws, "live").write("leftover", iter([b"of an earlier reign"]), 19)
    with pytest.raises(LiveNotEmptyError):
        pair.take_over()
    assert pair.live() == {"leftover": b"of an earlier reign"}
    # Found before the claim: the holder was not deposed for a restore that can't be.
    assert (pair.ruling().number, pair.ruling().holder) == (1, "gcp-frankfurt")


def _replica(pair: Pair, folder: str) -> str:
    names = [o.name for o in pair.bucket(pair.aws, "replica").list(f"{pair.tenant}/{folder}/")]
    assert names
    return names[0]


def _overwrite(pair: Pair, role: str, name: str, data: bytes) -> None:
    bucket = pair.bucket(pair.aws, role)
    bucket.delete(name)
    bucket.write(name, iter([data]), len(data))


@pytest.mark.parametrize("folder", ["packs", "shards", "manifests"])
@pytest.mark.parametrize("damage", ["flipped bit", "truncated"])
def test_a_damaged_snapshot_opens_nothing(pair: Pair, folder: str, damage: str) -> None:
    pair.replicate()
    name = _replica(pair, folder)
    data = bytearray(pair.bucket(pair.aws, "replica").read(name))
    if damage == "truncated":
        data = data[:-1]
    else:
        data[len(data) // 2] ^= 1
    _overwrite(pair, "replica", name, bytes(data))
    with pytest.raises(IntegrityError) as told:
        pair.take_over()
    assert not any(n in str(told.value) for n in CONTENT)
    assert not pair.ruling().opened


def test_a_rolled_back_chain_is_refused(pair: Pair) -> None:
    pair.replicate()
    pair.replicate()
    assert pair.storage("aws-frankfurt").observe(pair.tenant).last_commit.seq == 2  # type: ignore[union-attr]
    pair.bucket(pair.aws, "control").delete(records.slot_name(pair.tenant, 2))
    with pytest.raises(RollbackError, match="rolled back"):
        pair.take_over(known_seq=2)
    assert pair.ruling().number == 1


def test_a_foreign_key_opens_nothing(pair: Pair, tmp_path: Path) -> None:
    pair.replicate()
    pair.keys = tmp_path / "other"
    pair.keys.mkdir()
    for name in ("gcp-frankfurt", "aws-frankfurt"):
        generate(name, pair.keys)
    with pytest.raises(BackupError, match="aws-frankfurt"):
        pair.take_over()
    assert pair.ruling().number == 1


class DeathError(BaseException):
    """The process died here."""


class Dying:
    """A bucket whose process dies right before or right after its n-th write."""

    def __init__(self, bucket: Bucket, countdown: list[int]) -> None:
        self._bucket, self._countdown = bucket, countdown

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._bucket, name)
        if name not in {"create", "write"}:
            return found

        def counted(*args: Any) -> Any:
            self._tick()
            result = found(*args)
            self._tick()
            return result

        return counted

    def _tick(self) -> None:
        self._countdown[0] -= 1
        if self._countdown[0] == 0:
            raise DeathError


def test_a_leader_that_dies_at_any_write_is_succeeded(
    store_sites: StoreSites, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    died = 0
    for step in itertools.count(1):
        folder = tmp_path / str(step)
        folder.mkdir()
        pair = Pair(store_sites, folder)
        pair.provision()
        pair.fill({"a": b"1", "b": b"2"})
        assert pair.replicate() == 0
        countdown = [step]

        def dying(site: Site, name: str, credentials: Path, *rest: Any, countdown: list[int] = countdown) -> Any:
            return Dying(open_bucket(site, name, credentials, *rest), countdown)

        monkeypatch.setattr(sites_module, "open_bucket", dying)
        try:
            pair.take_over()
            died_now = False
        except DeathError:
            died_now = True
        monkeypatch.setattr(sites_module, "open_bucket", open_bucket)
        if not died_now:
            break
        died += 1
        pair.take_over()
        ruling = pair.ruling()
        assert (ruling.number, ruling.holder, ruling.opened) == (2, "aws-frankfurt", True), step
        assert pair.live() == {"a": b"1", "b": b"2"}, step
    assert died >= 10


def test_an_age_just_within_the_accepted_loss_is_taken(pair: Pair) -> None:
    pair.replicate()
    begun = datetime.now(UTC)
    pair.take_over(acceptedDataLossSeconds=int((datetime.now(UTC) - begun + timedelta(seconds=60)).total_seconds()))
    assert pair.ruling().opened


def test_the_standby_notices_a_chain_that_was_rolled_back(pair: Pair) -> None:
    pair.replicate()
    pair.replicate()
    storage = pair.storage("aws-frankfurt")
    known = storage.observe(pair.tenant).last_commit
    pair.bucket(pair.aws, "control").delete(records.slot_name(pair.tenant, 2))
    seen = storage.observe(pair.tenant, known)
    assert seen.last_commit is None
    assert seen.replica_error is not None
    assert seen.replica_error[0] == "Rollback"


@pytest.mark.parametrize("role", ["control", "keys", "replica"])
def test_a_pool_that_names_a_bucket_of_the_site_itself_gives_no_tenant_that_bucket(pair: Pair, role: str) -> None:
    own = f"gcp-to-{role}-{pair.number}"
    live = pair.gcp.stores.live.model_copy(update={"pool": [own]})
    site = pair.gcp.model_copy(update={"stores": pair.gcp.stores.model_copy(update={"live": live})})
    pair.spec = pair.spec.model_copy(update={"sites": [site, pair.aws]})
    with pytest.raises(NotFoundError, match="no free empty live bucket"):
        pair.storage("gcp-frankfurt").provision("f" * 32, {}, Known(None, None, peer_answers=True), home=True)


def test_a_bucket_that_may_not_be_used_is_made_once(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    live = pair.gcp.stores.live.model_copy(update={"pool": None, "create_prefix": f"made-{pair.number}"})
    site = pair.gcp.model_copy(update={"stores": pair.gcp.stores.model_copy(update={"live": live})})
    pair.spec = pair.spec.model_copy(update={"sites": [site, pair.aws], "attestations": []})
    made: set[str] = set()
    original = SiteStores.bucket

    def noted(self: SiteStores, site: Site, name: str) -> Bucket:
        made.add(name)
        return original(self, site, name)

    monkeypatch.setattr(SiteStores, "bucket", noted)
    for _ in range(3):
        with pytest.raises(BackupError):
            pair.storage("gcp-frankfurt").provision("e" * 32, {}, Known(None, None, peer_answers=True), home=True)
    assert len([name for name in made if name.startswith("made-")]) == 1
