"""``domicile snapshots|verify|diff|restore`` on two sites in memory: what each prints, refuses and writes."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from domicile.api.sites import ServedZone, SiteFile
from domicile.backup import binding, claims, keys, prune, records
from domicile.backup.claims import Claim, Mode
from domicile.backup.retention import Retention
from domicile.backup.worker import Replicator
from domicile.cli import site as cli_site
from domicile.cli.main import main
from tests.memory_bucket import MemoryBucket
from tests.unit.test_worker import Sites, zone
from tests.unit.world import contents

START = datetime(2026, 1, 31, 12, tzinfo=UTC)


class Estate(Sites):
    """A tenant at site ``one`` with three snapshots at site ``two``, an hour apart, and the command line of a site."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(folder)
        self.folder = folder
        self.now = START
        self.replicator = Replicator(SiteFile(zones=self.zones), self.bucket, self.keys, clock=lambda: self.now)
        self.id = self.tenant(1)
        monkeypatch.setattr(cli_site, "open_bucket", lambda at, name, _: self.bucket(at, name))
        for hour in range(3):
            self.now = START + timedelta(hours=hour)
            self.write("knowledge/new", b"%d" % hour)
            self.write(f"conversations/{hour}", b"said")
            self.replicate()

    def write(self, name: str, data: bytes) -> None:
        self.live(1).write(name, iter((data,)), len(data))

    def replicate(self) -> None:
        assert self.replicator.run_one(self.id, self.zones)

    def run(self, command: str, *args: str, at: str = "one", **zones: Any) -> int:
        served = [ServedZone(name=name, site=at, spec=spec) for name, spec in ({"eu": zone()} | zones).items()]
        path = self.folder / "sites.json"
        path.write_text(SiteFile(zones=served).model_dump_json(by_alias=True, exclude_none=True))
        tenant = [] if "--tenant" in args else ["--tenant", self.id]
        files = ["--sites", str(path), "--keys", str(self.folder), "--credentials", str(self.folder)]
        return main([command, *args, *tenant, *files])

    def take_over(self, later: timedelta) -> None:
        """Site two holds the tenant and has a snapshot of its own, so much later by its own clock."""
        control = self.at("two", "control")
        claim = Claim.new(self.id, 2, holder="two", mode=Mode.EMERGENCY, request_id="r")
        claims.write_claim(claim, [control, self.at("one", "control")])
        claims.mark_open(control, self.id, 2)
        binding.bind_live(control, self.id, "two-live")
        here = ServedZone(name="eu", site="two", spec=zone())
        self.bucket(here.own, "two-live").write("after", iter((b"x",)), 1)
        self.now += later
        replicator = Replicator(SiteFile(zones=[here]), self.bucket, self.keys, clock=lambda: self.now)
        assert replicator.run_one(self.id, [here])

    def spare(self, name: str = "spare", **facts: Any) -> MemoryBucket:
        made = MemoryBucket("one", name, **{"location": "europe-west3"} | facts)
        self.buckets["one", name] = made
        return made

    def stored(self) -> dict[tuple[str, str], dict[str, bytes]]:
        return {key: contents(bucket) for key, bucket in self.buckets.items()}

    def move(self, where: str, role: str) -> None:
        """The bucket turns out to lie elsewhere."""
        old = self.at(where, role)
        moved = MemoryBucket(where, old.name, location="us-east1")
        moved.objects = old.objects
        self.buckets[where, old.name] = moved


@pytest.fixture
def estate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Estate:
    return Estate(tmp_path, monkeypatch)


def damage(bucket: MemoryBucket, folder: str, limit: int = 1) -> list[str]:
    """Flip a bit in each; returns their opaque names."""
    names = [name for name in sorted(bucket.objects) if f"/{folder}/" in name][:limit]
    for name in names:
        generation, data = bucket.objects[name]
        bucket.objects[name] = (generation, data[:-1] + bytes([data[-1] ^ 1]))
    return [name.rpartition("/")[2] for name in names]


Out = pytest.CaptureFixture[str]


def test_snapshots_are_listed(estate: Estate, capsys: Out) -> None:
    assert estate.run("snapshots") == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["SEQ", "CUT", "TIME", "(UTC)", "OBJECTS", "BYTES", "STATE", "SOURCE", "KEPT", "AT"]
    assert [line[0] for line in lines[1:]] == ["3", "2", "1"]
    assert lines[1][2:] == ["5", "17", "kept", "one", "two"]
    assert estate.run("snapshots", "-o", "json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows[2] == {
        "seq": 1,
        "cutTime": "2026-01-31T12:00:00.000000Z",
        "keptAt": "two",
        "state": "kept",
        "objects": 3,
        "bytes": 9,
        "source": "one",
    }


def test_a_snapshot_whose_manifest_is_damaged_is_shown_as_such(estate: Estate, capsys: Out) -> None:
    damage(estate.at("two", "replica"), "manifests")
    assert estate.run("snapshots", "-o", "json") == 1
    found = capsys.readouterr()
    assert sorted(row["state"] for row in json.loads(found.out)) == ["damaged", "kept", "kept"]
    assert "damaged:" in found.err


def test_what_retention_dropped_is_shown_on_request_and_never_chosen(estate: Estate, capsys: Out) -> None:
    key = keys.open_tenant_key(estate.keys.own(estate.zones[0]), estate.at("one", "keys"), estate.id, "eu")
    stores = estate.at("two", "control"), estate.at("two", "replica")
    assert prune.prune(*stores, key, estate.id, "eu", Retention(), lambda: estate.now, given_up=[2])
    assert estate.run("snapshots", "-o", "json", "--dropped") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["seq"], row["state"]) for row in rows] == [(3, "kept"), (2, "dropped"), (1, "kept")]
    assert estate.run("snapshots", "-o", "json") == 0
    assert [row["seq"] for row in json.loads(capsys.readouterr().out)] == [3, 1]
    assert estate.run("verify", "--seq", "2") == 1
    assert "keeps such a snapshot" in capsys.readouterr().err
    estate.spare()
    assert estate.run("restore", "--at", "2026-01-31T13:30:00Z", "--beside", "spare") == 0
    assert "snapshot 1 of" in capsys.readouterr().out
    assert estate.run("verify", "--all") == 0


def test_both_sites_keep_snapshots_after_a_take_over_and_a_number_may_need_the_site(
    estate: Estate, capsys: Out
) -> None:
    estate.take_over(timedelta(hours=1))
    assert estate.run("snapshots", "-o", "json", at="two") == 0
    rows = json.loads(capsys.readouterr().out)
    assert {(row["seq"], row["keptAt"]) for row in rows} == {(1, "two"), (2, "two"), (3, "two"), (1, "one")}
    assert estate.run("verify", "--seq", "1") == 2
    assert "name the site" in capsys.readouterr().err
    assert estate.run("verify", "--seq", "1", "--replica", "two") == 0
    assert estate.run("verify") == 0
    assert "snapshot 1 at site one is sound: 1 objects" in capsys.readouterr().out
    assert estate.run("verify", "--replica", "three") == 2
    assert "only one, two" in capsys.readouterr().err
    # At the time before the take-over the snapshots of the other site count.
    estate.spare()
    assert estate.run("restore", "--at", "2026-01-31T14:30:00Z", "--beside", "spare") == 0
    assert "snapshot 3 of 2026-01-31T14:00:00" in capsys.readouterr().out
    # A site that does not answer may keep newer ones.
    estate.at("two", "control").fail("list", times=99)
    assert estate.run("verify") == 2
    assert "name the site" in capsys.readouterr().err


def test_the_newest_snapshot_is_the_later_holders_whatever_the_clocks_say(estate: Estate, capsys: Out) -> None:
    estate.take_over(-timedelta(days=1))
    assert estate.run("verify") == 0
    assert "snapshot 1 at site one is sound: 1 objects" in capsys.readouterr().out


def test_verify_reads_all_and_names_what_is_damaged(estate: Estate, capsys: Out) -> None:
    before = estate.stored()
    assert estate.run("verify", "--all") == 0
    told = capsys.readouterr().out
    assert "3 slots at site two are authentic and linked" in told
    assert told.count("is sound") == 3
    assert estate.stored() == before
    [pack] = damage(estate.at("two", "replica"), "packs")
    assert estate.run("verify", "--all") == 1
    assert pack in capsys.readouterr().err
    assert estate.run("verify", "--seq", "9") == 1
    assert "keeps such a snapshot" in capsys.readouterr().err
    slot = records.slot_name(estate.id, 2)
    estate.at("two", "control").delete(slot)
    assert estate.run("verify") == 1


def test_verify_reads_the_same_content_once(estate: Estate, capsys: Out) -> None:
    estate.now += timedelta(hours=1)
    estate.replicate()
    replica = estate.at("two", "replica")
    replica.calls.clear()
    assert estate.run("verify", "--all") == 0
    assert "snapshot 3 at site two is sound: it is snapshot 4 once more" in capsys.readouterr().out


def test_a_difference_is_told_in_numbers_and_by_name_to_a_terminal_only(
    estate: Estate, capsys: Out, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert estate.run("diff", "1", "3", "-o", "json") == 0
    found = json.loads(capsys.readouterr().out)
    assert {kind: row["objects"] for kind, row in found.items()} == {
        "added": 2,
        "removed": 0,
        "changed": 1,
        "unchanged": 2,
    }
    estate.live(1).delete("a")
    estate.write("evil\x1b[2J", b"x")
    assert estate.run("diff", "3") == 0
    told = capsys.readouterr().out
    assert "evil" not in told
    assert [line.split()[:2] for line in told.splitlines()] == [
        ["added", "1"],
        ["removed", "1"],
        ["changed", "0"],
        ["unchanged", "4"],
    ]
    assert estate.run("diff", "3", "--names") == 2
    assert "terminal only" in capsys.readouterr().err
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert estate.run("diff", "3", "--names") == 0
    told = capsys.readouterr().out
    assert '- "a"\n+ "evil\\u001b[2J"\n' in told
    assert "\x1b" not in told


def test_a_point_in_time_beside_the_live_bucket(estate: Estate, capsys: Out) -> None:
    spare = estate.spare()
    assert estate.run("restore", "--at", "2026-01-31T14:30:00+01:00", "--beside", "spare") == 0
    assert "snapshot 2 of 2026-01-31T13:00:00" in capsys.readouterr().out
    assert contents(spare).keys() == {"a", "knowledge/new", "conversations/0", "conversations/1"}
    assert contents(spare)["knowledge/new"] == b"1"
    with pytest.raises(binding.BucketTakenError):
        binding.bind_live(estate.at("one", "control"), "f" * 32, "spare")
    assert estate.run("restore", "--at", "2026-01-31T14:30:00+01:00", "--beside", "spare") == 0
    assert "4 there already" in capsys.readouterr().out
    assert estate.run("restore", "--at", "2025-01-01T00:00:00Z", "--beside", "spare") == 1
    assert "keeps such a snapshot" in capsys.readouterr().err


def test_a_prefix_of_it_and_a_dry_run(estate: Estate, capsys: Out) -> None:
    spare = estate.spare()
    before = estate.stored()
    assert estate.run("restore", "--prefix", "conversations/", "--beside", "spare", "--dry-run") == 0
    assert "would restore" in capsys.readouterr().out
    assert estate.stored() == before
    assert estate.run("restore", "--prefix", "conversations/", "--beside", "spare") == 0
    assert contents(spare).keys() == {f"conversations/{hour}" for hour in range(3)}


def test_exactly_a_snapshot_into_the_live_bucket(estate: Estate, capsys: Out) -> None:
    estate.write("later", b"x")
    wanted = {"a": b"text", "knowledge/new": b"0", "conversations/0": b"said"}
    exact = ["restore", "--seq", "1", "--into", "live", "--mode", "exact"]
    assert estate.run(*exact) == 2
    assert "--nobody-writes" in capsys.readouterr().err
    assert estate.run(*exact, "--dry-run") == 0
    assert "1 overwritten, 3 deleted" in capsys.readouterr().out
    assert "later" in contents(estate.live(1))
    assert estate.run("restore", "--seq", "1", "--into", "live", "--nobody-writes") == 1
    assert "are not in the snapshot" in capsys.readouterr().err
    assert estate.run(*exact, "--nobody-writes") == 0
    assert contents(estate.live(1)) == wanted
    estate.write("later", b"x")
    assert estate.run("restore", "--seq", "1", "--into", "live", "--mode", "merge", "--nobody-writes") == 0
    assert contents(estate.live(1)) == wanted | {"later": b"x"}


def test_what_is_damaged_is_found_before_the_live_bucket_is_touched(estate: Estate, capsys: Out) -> None:
    for name in ("a", "knowledge/new"):
        estate.live(1).delete(name)
    estate.write("conversations/0", b"new!")
    before = contents(estate.live(1))
    packs = damage(estate.at("two", "replica"), "packs", 99)
    assert estate.run("restore", "--into", "live", "--mode", "exact", "--nobody-writes") == 1
    told = capsys.readouterr().err
    assert any(pack in told for pack in packs)
    assert contents(estate.live(1)) == before


def test_only_the_holder_restores_into_its_live_bucket(estate: Estate, capsys: Out) -> None:
    binding.bind_live(estate.at("two", "control"), estate.id, "two-live")
    assert estate.run("restore", "--into", "live", "--nobody-writes", at="two") == 4
    assert "does not hold tenant" in capsys.readouterr().err
    # The holder is out of reach, and the standby's snapshots are there all the same.
    estate.at("one", "control").fail("list", times=99)
    spare = MemoryBucket("two", "spare", location="europe-west4")
    estate.buckets["two", "spare"] = spare
    assert estate.run("restore", "--beside", "spare", "--replica", "two", at="two") == 0
    assert len(spare.objects) == 5


@pytest.mark.parametrize(("where", "role"), [("two", "replica"), ("two", "control"), ("one", "control")])
def test_no_byte_moves_from_or_to_a_bucket_outside_the_zone(estate: Estate, capsys: Out, where: str, role: str) -> None:
    spare = estate.spare()
    estate.move(where, role)
    estate.at("two", "replica").calls.clear()
    assert estate.run("restore", "--beside", "spare") == 3
    assert "us-east1" in capsys.readouterr().err
    assert spare.objects == {}
    assert not [call for call in estate.at("two", "replica").calls if call[0] == "read"]
    assert "spare" not in binding.taken(estate.at("one", "control"))
    assert estate.run("verify") == (3 if where == "two" else 0)
    assert estate.run("diff", "1", "2") == (3 if where == "two" else 0)
    assert estate.run("snapshots") == (3 if where == "two" else 0)


def test_no_byte_moves_to_a_target_outside_the_zone(estate: Estate, tmp_path: Path, capsys: Out) -> None:
    spare = estate.spare(location="us-east1")
    assert estate.run("restore", "--beside", "spare") == 3
    public = estate.spare("public", public=True)
    assert estate.run("restore", "--beside", "public") == 3
    assert (spare.objects, public.objects) == ({}, {})
    for region in ([], ["--folder-region", "us-east1"]):
        assert estate.run("restore", "--to-folder", str(tmp_path / "out"), *region) == 3
        assert "--folder-region" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert estate.run("restore", "--to-folder", str(tmp_path / "out"), "--folder-region", "europe-west4") == 0
    assert (tmp_path / "out" / "knowledge" / "new").read_bytes() == b"2"


def test_a_bucket_in_use_is_no_bucket_beside(estate: Estate, capsys: Out) -> None:
    estate.tenant(2)
    before = contents(estate.live(2))
    assert estate.run("restore", "--beside", "live-2") == 1
    assert "serves a tenant" in capsys.readouterr().err
    assert estate.run("restore", "--beside", "live-1") == 1
    for role in ("control", "keys", "replica"):
        assert estate.run("restore", "--beside", f"one-{role}") in {2, 3}
    used = estate.spare()
    used.write("mine", iter((b"x",)), 1)
    assert estate.run("restore", "--beside", "spare") == 1
    assert (contents(used), contents(estate.live(2))) == ({"mine": b"x"}, before)


def test_the_zone_is_found_by_the_key_or_named(estate: Estate, capsys: Out) -> None:
    assert estate.run("verify", de=zone()) == 0
    assert estate.run("verify", "--zone", "de", de=zone()) == 1
    assert estate.run("verify", "--zone", "us") == 2
    assert "only eu" in capsys.readouterr().err
    assert estate.run("verify", "--tenant", "f" * 32) == 1


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (["--tenant", "bank", "--beside", "spare"], "32 hex digits"),
        (["--at", "yesterday", "--beside", "spare"], "RFC 3339"),
        (["--at", "2026-01-31T12:00:00", "--beside", "spare"], "RFC 3339"),
        (["--into", "beside"], "--beside BUCKET"),
        (["--mode", "exact", "--beside", "spare"], "--into live"),
    ],
)
def test_wrong_usage_says_what_is_right(estate: Estate, capsys: Out, args: list[str], word: str) -> None:
    assert estate.run("restore", *args) == 2
    assert word in capsys.readouterr().err


def test_a_missing_site_file_is_wrong_usage(tmp_path: Path, capsys: Out) -> None:
    files = ["--sites", str(tmp_path / "none"), "--keys", str(tmp_path), "--credentials", str(tmp_path)]
    assert main(["snapshots", "--tenant", "f" * 32, *files]) == 2
    assert "none" in capsys.readouterr().err
