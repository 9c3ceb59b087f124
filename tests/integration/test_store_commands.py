"""``domicile snapshots|verify|diff|restore`` against real stores of two clouds, with the files of each site alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from domicile.api.sites import SiteFile
from domicile.backup.stores import open_bucket
from domicile.cli.main import main
from tests.integration.stores_fixture import StoreSites
from tests.integration.test_takeover import CONTENT, Pair

LATER = {"knowledge/a.md": b"changed", "knowledge/Grüße 100%.md": b"odd", "late": b"1"}


@pytest.fixture
def pair(store_sites: StoreSites, tmp_path: Path) -> Pair:
    made = Pair(store_sites, tmp_path)
    made.provision()
    made.fill(CONTENT)
    assert made.replicate() == 0
    made.fill(LATER)
    assert made.replicate() == 0
    return made


def run(pair: Pair, at: str, command: str, *args: str) -> int:
    """As a person at that site, who has its private key only."""
    folder = pair.keys / f"at-{at}"
    folder.mkdir(exist_ok=True)
    for file in pair.keys.glob("*.json"):
        if file.name == f"{at}.private.json" or file.name.endswith(".public.json"):
            (folder / file.name).write_bytes(file.read_bytes())
    sites = folder / "sites"
    sites.write_text(SiteFile(zones=[pair.zone(at)]).model_dump_json(by_alias=True, exclude_none=True))
    files = ["--sites", str(sites), "--keys", str(folder), "--credentials", str(pair.credentials)]
    return main([command, "--tenant", pair.tenant, *args, *files])


def test_both_sites_see_verify_and_restore_the_same_snapshots(
    pair: Pair, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    now = CONTENT | LATER
    for site in (pair.gcp, pair.aws):
        capsys.readouterr()
        assert run(pair, site.name, "snapshots", "-o", "json") == 0
        rows = json.loads(capsys.readouterr().out)
        seen = [(row["seq"], row["objects"], row["state"], row["source"], row["keptAt"]) for row in rows]
        assert seen == [
            (2, len(now), "kept", "gcp-frankfurt", "aws-frankfurt"),
            (1, len(CONTENT), "kept", "gcp-frankfurt", "aws-frankfurt"),
        ]
        assert run(pair, site.name, "verify", "--all") == 0
        spare = open_bucket(site, f"{site.cloud}-spare-{pair.number}", pair.credentials)
        spare.create_bucket()
        assert run(pair, site.name, "restore", "--at", rows[1]["cutTime"], "--beside", spare.name) == 0
        assert {o.name: spare.read(o.name) for o in spare.list()} == CONTENT
        folder = tmp_path / f"out-{site.name}"
        assert run(pair, site.name, "restore", "--to-folder", str(folder), "--folder-region", site.region) == 0
        assert (folder / "knowledge" / "a.md").read_bytes() == b"changed"
        assert (folder / "knowledge" / "Grüße 100%25.md").read_bytes() == b"odd"
        assert sum(path.is_file() for path in folder.rglob("*")) == len(now)


def test_the_live_bucket_goes_back_and_forth(pair: Pair, capsys: pytest.CaptureFixture[str]) -> None:
    live = pair.bucket(pair.gcp, "live")
    assert run(pair, "gcp-frankfurt", "diff", "2", "-o", "json") == 0
    assert json.loads(capsys.readouterr().out)["unchanged"]["objects"] == len(CONTENT | LATER)
    exact = ["restore", "--into", "live", "--mode", "exact", "--nobody-writes"]
    for seq, content in ((1, CONTENT), (2, CONTENT | LATER)):
        assert run(pair, "gcp-frankfurt", *exact, "--seq", str(seq)) == 0
        assert {o.name: live.read(o.name) for o in live.list()} == content
    assert run(pair, "aws-frankfurt", *exact) == 4
    assert pair.live() == {}


def test_a_point_before_a_take_over_is_found_at_the_other_site(pair: Pair, capsys: pytest.CaptureFixture[str]) -> None:
    pair.take_over()
    assert run(pair, "aws-frankfurt", "snapshots", "-o", "json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["seq"], row["keptAt"]) for row in rows] == [(2, "aws-frankfurt"), (1, "aws-frankfurt")]
    into = ["--into", "live", "--mode", "exact", "--nobody-writes"]
    assert run(pair, "aws-frankfurt", "restore", "--at", rows[1]["cutTime"], *into) == 0
    assert pair.live() == CONTENT
    assert run(pair, "gcp-frankfurt", "restore", *into) == 4
