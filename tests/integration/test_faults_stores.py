"""What befalls stores while a run is under way: a bucket vanishes, a disk is full, credentials end, clocks differ.

A run ends with an error that says what to do, commits nothing, and leaves the last snapshot whole.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from domicile.api.zone import Site
from domicile.backup import records
from domicile.backup.keys import TenantKey
from domicile.backup.replicate import Outcome, replicate
from domicile.backup.restore import restore, verify
from domicile.backup.stores import open_bucket
from domicile.backup.stores.base import Bucket, DeniedError, NotFoundError, StoreError
from tests.gcs_standin.bucket import Bucket as StandinBucket
from tests.gcs_standin.versions import Version
from tests.integration.stores_fixture import Server, StandinSite, StoreSites, free_port, make_site, serving, stopped
from tests.testbed.build import build

KEY = TenantKey("k1", bytes(range(32)))
ZONE = "eu"
DATA = {f"{i:03}": bytes([i]) * 3000 for i in range(120)}
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")


@dataclass(frozen=True)
class Way:
    """A tenant's buckets; ``credentials`` of both sites."""

    source: Site
    target: Site
    credentials: Path
    tenant: str

    def bucket(self, role: str, site: Site) -> Bucket:
        return open_bucket(site, f"{role}-{self.tenant[:12]}", self.credentials)

    @property
    def live(self) -> Bucket:
        return self.bucket("live", self.source)

    @property
    def replica(self) -> Bucket:
        return self.bucket("replica", self.target)

    @property
    def control(self) -> Bucket:
        return self.bucket("control", self.target)

    def make(self) -> None:
        for bucket in (self.live, self.replica, self.control, self.bucket("control", self.source)):
            bucket.create_bucket()
        for name, data in DATA.items():
            self.live.create(name, data)

    def replicate(
        self, may_go_on: Callable[[], None] = lambda: None, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> Outcome | None:
        return replicate(
            *(self.live, self.replica, self.control, self.bucket("control", self.source), KEY),
            tenant=self.tenant,
            zone=ZONE,
            epoch=1,
            residency_digest="0" * 64,
            may_go_on=may_go_on,
            clock=clock,
        )

    def change(self) -> None:
        """Another content for a third of the objects."""
        for name in list(DATA)[::3]:
            self.live.write(name, iter((b"new",)), 3)

    def verified(self) -> tuple[int, int]:
        """Number and objects of the newest snapshot."""
        found = verify(self.control, self.replica, KEY, self.tenant, ZONE)
        return found.seq, found.objects


@pytest.fixture(params=["standin to s3", "s3 to standin"])
def way(request: pytest.FixtureRequest, store_sites: StoreSites, standin_site: StandinSite) -> Way:
    sites = {"s3": store_sites.aws, "standin": standin_site.site}
    source, target = (sites[name] for name in request.param.split(" to "))
    made = Way(source, target, store_sites.credentials, secrets.token_hex(16))
    made.make()
    return made


def after(calls: int, act: Callable[[], object]) -> Callable[[], None]:
    """Does ``act`` once, at the call after so many."""
    left = [calls]

    def step() -> None:
        left[0] -= 1
        if left[0] == -1:
            act()

    return step


@pytest.mark.parametrize(("role", "calls"), [("live", 0), ("replica", 0), ("replica", 1)])
def test_a_bucket_that_vanishes_amid_a_run_ends_it(
    way: Way, role: str, calls: int, store_sites: StoreSites, standin_site: StandinSite
) -> None:
    """Of a live bucket that is gone nothing is taken for deleted, and no snapshot becomes empty."""
    way.replicate()
    way.change()
    gone = way.bucket(role, way.source if role == "live" else way.target)

    def vanish() -> None:
        if gone.site == store_sites.aws.name:
            (store_sites.aws_server.root / "data" / gone.name).rename(store_sites.aws_server.root / gone.name)
        else:
            hidden.append(standin_site.state.buckets.pop(gone.name))

    hidden: list[StandinBucket] = []
    with pytest.raises(NotFoundError) as ended:
        way.replicate(after(calls, vanish))
    assert gone.name in str(ended.value)
    slot = records.highest(way.control, way.tenant)
    assert slot
    assert slot.seq == 1
    if hidden:
        standin_site.state.buckets[gone.name] = hidden[0]
    else:
        (store_sites.aws_server.root / gone.name).rename(store_sites.aws_server.root / "data" / gone.name)
    assert way.verified() == (1, len(DATA))


def test_a_live_bucket_that_is_missing_from_the_start_is_no_empty_one(way: Way) -> None:
    missing = replace(way, tenant=secrets.token_hex(16))
    for bucket in (missing.replica, missing.control, missing.bucket("control", missing.source)):
        bucket.create_bucket()
    with pytest.raises(NotFoundError, match=missing.live.name):
        missing.replicate()
    assert records.highest(missing.control, missing.tenant) is None


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Server]:
    """An S3 server whose disk holds 12 MiB, in a mount namespace of its own."""
    root = Path(tempfile.mkdtemp(prefix="versitygw-"))
    port = free_port()
    serve = f"mount -t tmpfs -o size=12m tmpfs {root} && mkdir {root}/data && exec {build('versitygw')}"
    flags = f"--access test --secret test-secret --port 127.0.0.1:{port} --region eu-central-1 --quiet"
    command = ["unshare", "--mount", "sh", "-c", f"{serve} {flags} posix {root}/data"]
    with (tmp_path / "log").open("wb") as log, stopped(serving(command, port, root, log)) as server:
        yield server


def test_a_disk_that_is_full_ends_the_run_and_leaves_the_last_snapshot_whole(
    small_disk: Server, standin_site: StandinSite, store_sites: StoreSites
) -> None:
    full = make_site("aws-frankfurt", "aws", "eu-central-1", small_disk.url)
    way = Way(standin_site.site, full, store_sites.credentials, secrets.token_hex(16))
    way.make()
    way.replicate()
    way.live.write("large", iter((os.urandom(8 << 20), os.urandom(8 << 20))), 16 << 20)
    with pytest.raises(StoreError) as ended:
        way.replicate()
    assert "aws-frankfurt" in str(ended.value)
    assert "large" not in str(ended.value)
    assert way.verified() == (1, len(DATA))


def test_tokens_that_end_amid_a_run_are_renewed(
    cloud_standin_site: StandinSite, store_sites: StoreSites, tmp_path: Path
) -> None:
    shutil.copytree(store_sites.credentials, tmp_path, dirs_exist_ok=True)
    way = Way(cloud_standin_site.site, store_sites.aws, tmp_path, secrets.token_hex(16))
    way.make()
    accounts = cloud_standin_site.state.accounts
    way.replicate(after(0, accounts.expire))
    assert way.verified() == (1, len(DATA))


def test_credentials_that_are_withdrawn_amid_a_run_end_it(
    cloud_standin_site: StandinSite, store_sites: StoreSites, tmp_path: Path
) -> None:
    shutil.copytree(store_sites.credentials, tmp_path, dirs_exist_ok=True)
    way = Way(cloud_standin_site.site, store_sites.aws, tmp_path, secrets.token_hex(16))
    way.make()
    way.replicate()
    way.change()
    accounts = cloud_standin_site.state.accounts
    with pytest.raises(DeniedError) as ended:
        way.replicate(after(0, lambda: accounts.deny(way.live.name, "storage.objects.get", "storage.objects.list")))
    assert way.live.name in str(ended.value)
    assert not any(name in str(ended.value).split() for name in DATA)
    assert way.verified() == (1, len(DATA))


def test_a_secret_that_was_exchanged_is_taken_from_the_new_file(way: Way, tmp_path: Path) -> None:
    shutil.copytree(way.credentials, tmp_path, dirs_exist_ok=True)
    exchanged = replace(way, credentials=tmp_path)
    good = (tmp_path / "aws-frankfurt.json").read_text()
    (tmp_path / "aws-frankfurt.json").write_text(json.dumps({"accessKeyId": "test", "secretAccessKey": "old"}))
    with pytest.raises(DeniedError, match="credentials"):
        exchanged.replicate()
    (tmp_path / "aws-frankfurt.json").write_text(good)
    exchanged.replicate()
    assert exchanged.verified() == (1, len(DATA))


def test_a_run_whose_clock_went_back_commits_after_the_last_one(way: Way) -> None:
    now = datetime.now(UTC)
    way.replicate(clock=lambda: now)
    way.live.write("000", iter((b"new",)), 3)
    way.replicate(clock=lambda: now - timedelta(days=400))
    assert way.verified() == (2, len(DATA))
    home = way.bucket("home", way.target)
    home.create_bucket()
    restore(way.control, way.replica, home, KEY, way.tenant, ZONE)
    assert home.read("000") == b"new"


@pytest.mark.parametrize("shift", ["-2h", "+2h"])
def test_a_machine_whose_clock_is_wrong_is_told_so(store_sites: StoreSites, tmp_path: Path, shift: str) -> None:
    """Requests to S3 are signed with the time, and those of a wrong one are refused (RequestTimeTooSkewed)."""
    (tmp_path / "site.json").write_text(store_sites.aws.model_dump_json())
    program = """
import sys; from pathlib import Path
from domicile.api.zone import Site
from domicile.backup.stores import open_bucket
site = Site.model_validate_json(Path(sys.argv[1]).read_text())
next(open_bucket(site, "any-bucket", Path(sys.argv[2])).list(), None)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "site.json"), str(store_sites.credentials)],
        env=os.environ | {"LD_PRELOAD": str(FAKETIME), "FAKETIME": shift, "FAKETIME_DONT_FAKE_MONOTONIC": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode
    assert "DeniedError" in done.stderr
    assert "clock" in done.stderr


def test_a_hundred_thousand_versions_of_one_object_are_one_object(
    standin_site: StandinSite, store_sites: StoreSites
) -> None:
    way = Way(standin_site.site, store_sites.aws, store_sites.credentials, secrets.token_hex(16))
    way.make()
    objects = standin_site.state.buckets[way.live.name].objects
    state = standin_site.state
    live = objects.live["000"]
    old: list[Version] = [
        replace(live, generation=state.next_generation(), noncurrent=state.now()) for _ in range(100_000)
    ]
    objects.old["000"] = old
    objects.live["000"] = replace(live, generation=state.next_generation())
    state.requests.clear()
    done = way.replicate()
    assert done
    assert done.objects == len(DATA)
    assert way.verified() == (1, len(DATA))
    assert sum(f"/b/{way.live.name}/o?" in target for _, target in state.requests) == 1
