"""The command line: durations, manifests, scheduled minutes, and what a user sees of a mistake."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from domicile.api.failover import FailoverSpec
from domicile.cli import failover
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
