"""The command line: durations, manifests, scheduled minutes, and what a user sees of a mistake."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from importlib import import_module

import pytest

from domicile.api.failover import FailoverSpec
from domicile.api.restore import RestoreSpec
from domicile.cli import failover, restore_order
from domicile.cli.main import parser
from domicile.cli.replicate import scheduled

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
MINUTE = int(NOW.timestamp()) // 60


@pytest.mark.parametrize(("text", "expected"), [("90s", 90), ("15m", 900), ("2h", 7200), ("1d", 86400)])
def test_durations(text: str, expected: int) -> None:
    assert failover.seconds(text) == expected


@pytest.mark.parametrize("text", ["", "2", "h", "-1h", "1.5h", "2 h", "2w"])
def test_a_wrong_duration_says_how_to_write_one(text: str) -> None:
    with pytest.raises(ValueError, match="number and a unit"):
        failover.seconds(text)


ORDER = [
    "failover",
    "--zone",
    "eu",
    "--to",
    "aws-frankfurt",
    "--source-is-down",
    "region is gone",
    "--accept-loss",
    "2h",
]


@pytest.mark.parametrize(
    ("which", "selector"),
    [(["--all"], {"match_labels": {}}), (["--tenant", "b", "--tenant", "a"], {"names": ["a", "b"]})],
)
def test_the_order_becomes_a_valid_failover(which: list[str], selector: dict[str, object]) -> None:
    made = failover.manifest(parser().parse_args([*ORDER, *which]), 7200)
    spec = FailoverSpec.model_validate(made["spec"])
    assert spec.tenants.model_dump(exclude_none=True) == selector
    assert (spec.target_site, spec.accepted_data_loss_seconds, spec.dry_run) == ("aws-frankfurt", 7200, False)


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--into", "beside"], {"into": "beside", "mode": "fresh"}),
        (
            ["--into", "live", "--mode", "exact", "--seq", "7", "--dry-run"],
            {"mode": "exact", "seq": 7, "dry_run": True},
        ),
        (["--into", "beside", "--at", "2026-03-04T05:06:07Z", "--replica", "one"], {"at": NOW, "kept_at": "one"}),
        (
            ["--into", "live", "--mode", "merge", "--while-serving", "--prefix", "a/"],
            {"while_serving": True, "prefix": "a/"},
        ),
    ],
)
def test_the_order_becomes_a_valid_restore(args: list[str], expected: dict[str, object]) -> None:
    made = restore_order.manifest(parser().parse_args(["restore", "bank", *args]))
    assert made["metadata"]["name"].startswith("bank-")
    spec = RestoreSpec.model_validate(made["spec"]).model_dump()
    assert spec["tenant"] == "bank"
    assert spec.items() >= expected.items()


@pytest.mark.parametrize(
    "args",
    [
        ["restore", "--into", "live"],
        ["restore", "bank"],
        ["restore", "bank", "--tenant", "f" * 32, "--into", "live"],
        ["restore", "bank", "--into", "live", "--seq", "1", "--at", "2026-03-04T05:06:07Z"],
        ["restore", "bank", "--into", "live", "--beside", "b"],
        ["verify", "--tenant", "f" * 32, "--seq", "1", "--all"],
        ["diff", "--tenant", "f" * 32],
        ["snapshots"],
    ],
)
def test_what_contradicts_itself_is_wrong_usage(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        parser().parse_args(args)
    assert stop.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_every_command_has_its_module() -> None:
    processes = {"operator", "lease-agent", "guard", "gateway"}
    [commands] = [a.choices for a in parser()._actions if a.dest == "command"]
    for command in set(commands or ()) - processes:
        assert callable(import_module(f"domicile.cli.{command}").run)


def test_the_guard_does_not_pay_for_the_gateway() -> None:
    code = "import sys; import domicile.cli.main, domicile.gateway.guard; print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert "domicile.gateway.guard" in done.stdout
    for module in ("redis", "domicile.gateway.questions", "prometheus_client"):
        assert f"'{module}'" not in done.stdout


def test_a_reason_is_required(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        parser().parse_args(["failover", "--zone", "eu", "--to", "aws-frankfurt", "--all", "--accept-loss", "1h"])
    assert stop.value.code == 2
    assert "--source-is-down" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("job", "minute"),
    [
        (f"domicile-replicate-{MINUTE - 7}", -7),
        (f"domicile-replicate-{MINUTE}", 0),
        (f"domicile-replicate-{MINUTE - 90}", None),
        (f"domicile-replicate-{MINUTE + 5}", None),
        ("domicile-replicate-3f9a1c22bd01", None),
        ("", None),
    ],
)
def test_a_late_pod_still_stands_for_its_minute(job: str, minute: int | None) -> None:
    expected = NOW if minute is None else datetime.fromtimestamp((MINUTE + minute) * 60, UTC)
    assert scheduled(job, NOW) == expected
