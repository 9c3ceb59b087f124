"""``domicile prune`` on two sites in memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from domicile.backup import keys, mirror, prune, records
from domicile.backup.errors import NoSnapshotError
from domicile.backup.recovery import Recovery
from tests.memory_bucket import MemoryBucket
from tests.unit.test_cli_stores import Estate, Out, damage


@pytest.fixture
def estate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Estate:
    made = Estate(tmp_path, monkeypatch)
    retention = {"hourly": 2, "daily": 0, "monthly": 0}
    key = keys.open_tenant_key(made.keys.own(made.zones[0]), made.at("one", "keys"), made.id, "eu")
    controls = [made.at("one", "control"), made.at("two", "control")]
    mirror.publish(controls, key, made.id, "eu", {"spec": {"replication": {"retention": retention}}})
    return made


def test_a_dry_run_tells_and_a_run_does_it(estate: Estate, capsys: Out) -> None:
    before = estate.stored()
    assert estate.run("prune", "--dry-run", at="two") == 0
    assert capsys.readouterr().out.splitlines()[:2] == ["snapshots to keep: 2, 3", "to drop: 1"]
    assert estate.stored() == before
    estate.at("two", "replica").create(f"{estate.id}/stranger", b"?")
    assert estate.run("prune", at="two") == 0
    told = capsys.readouterr().out.splitlines()
    assert told[:2] == ["snapshots kept: 2, 3", "dropped: 1"]
    assert told[-1].startswith("none of ours: 1 objects")
    assert estate.run("snapshots", "--dropped") == 0
    assert [line.split()[4] for line in capsys.readouterr().out.splitlines()[1:]] == ["kept", "kept", "dropped"]


def test_a_snapshot_can_be_given_up_but_not_the_newest_nor_one_that_is_not_there(estate: Estate, capsys: Out) -> None:
    damaged = records.read(estate.at("two", "control"), estate.id, 2).manifest
    del estate.at("two", "replica").objects[f"{estate.id}/manifests/{damaged}"]
    assert estate.run("prune", at="two") == 1
    assert "nothing was pruned: snapshot 2" in capsys.readouterr().err
    for wrong, why in (("9", "keeps no such snapshot"), ("3", "it is the newest")):
        assert estate.run("prune", "--give-up", wrong, at="two") == 2
        assert why in capsys.readouterr().err
    assert estate.run("prune", "--give-up", "2", at="two") == 0
    assert capsys.readouterr().out.splitlines()[:2] == ["snapshots kept: 3", "dropped: 1, 2"]


def test_who_restores_what_is_dropped_meanwhile_finds_it_for_a_while(
    estate: Estate, capsys: Out, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prune, "_SPARE", 0)
    zone = estate.zones[0]
    key = keys.open_tenant_key(estate.keys.own(zone), estate.at("one", "keys"), estate.id, "eu")
    recovery = Recovery(zone, estate.id, key, estate.bucket)
    kept, target = recovery.choose(seq=1), MemoryBucket("one", "target")
    assert estate.run("prune", at="two") == 0
    assert "of dropped snapshots: " in capsys.readouterr().out
    with pytest.raises(NoSnapshotError):
        recovery.choose(seq=1)
    assert recovery.choose(seq=1, dropped=True).commit == kept.commit
    assert recovery.restore(kept, target).objects == len(target.objects) == 3


def test_a_kept_snapshot_that_cannot_be_read_ends_it(estate: Estate, capsys: Out) -> None:
    damage(estate.at("two", "replica"), "manifests", 3)
    assert estate.run("prune", at="two") == 1
    assert "nothing was pruned: snapshot" in capsys.readouterr().err


def test_a_site_that_keeps_none_says_so(estate: Estate, capsys: Out) -> None:
    assert estate.run("prune", at="one") == 0
    assert "site one keeps no snapshot" in capsys.readouterr().out
    assert estate.run("prune", "--tenant", "f" * 32, at="two") == 1
