"""A site's replicator takes the tenants of its own site only, scheduled or asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from domicile.api.sites import ServedZone, SiteFile
from domicile.backup import worker
from domicile.cli.main import main
from domicile.controllers.tenant.replication import cron_job_name, job
from tests.unit.views import TENANT_ID, zone_spec


@pytest.fixture
def sites(tmp_path: Path) -> Path:
    """The site file of a cluster that serves three zones at two sites."""
    served = (("eu", "gcp-frankfurt"), ("de", "gcp-frankfurt"), ("other", "aws-frankfurt"))
    zones = [ServedZone(name=name, site=site, spec=zone_spec()) for name, site in served]
    path = tmp_path / "sites.json"
    path.write_text(SiteFile(zones=zones).model_dump_json(by_alias=True, exclude_none=True))
    return path


@pytest.mark.parametrize(
    ("arguments", "zones"),
    [
        (["--site", "gcp-frankfurt"], ["eu", "de"]),
        (["--site", "aws-frankfurt"], ["other"]),
        ([], ["eu", "de", "other"]),
    ],
)
def test_a_run_sees_the_zones_of_its_site(
    sites: Path, arguments: list[str], zones: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def run(site_file: SiteFile, *_: Any, **__: Any) -> int:
        seen.extend(z.name for z in site_file.zones)
        return 0

    monkeypatch.setattr(worker, "run", run)
    assert main(["replicate", "--due", "--sites", str(sites), *arguments]) == 0
    assert seen == zones


def test_a_site_that_is_not_served_is_wrong_usage(sites: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replicate", "--due", "--sites", str(sites), "--site", "gcp-iowa"]) == 2
    assert "only by aws-frankfurt, gcp-frankfurt" in capsys.readouterr().err


def test_a_requested_run_is_one_of_the_tenants_own_site() -> None:
    pod = {
        "nodeSelector": {"of": "the template"},
        "containers": [{"name": "replicator", "args": ["replicate", "--due"]}],
    }
    template = {"spec": {"backoffLimit": 2, "template": {"metadata": {"labels": {"a": "b"}}, "spec": pod}}}
    cron_job = {
        "metadata": {"name": cron_job_name("gcp-frankfurt"), "namespace": "domicile-system"},
        "spec": {"jobTemplate": template},
    }
    made = job(cron_job, "gcp-frankfurt", TENANT_ID, "2026-01-02T03:04:05Z")
    assert cron_job["metadata"]["name"] == "domicile-replicate-gcp-frankfurt"
    spec = made["spec"]["template"]["spec"]
    assert spec["containers"][0]["args"] == ["replicate", "--tenant", TENANT_ID, "--site", "gcp-frankfurt"]
    assert (spec["nodeSelector"], made["spec"]["template"]["metadata"]) == (pod["nodeSelector"], {"labels": {"a": "b"}})
    assert made == job(cron_job, "gcp-frankfurt", TENANT_ID, "2026-01-02T03:04:05Z")
