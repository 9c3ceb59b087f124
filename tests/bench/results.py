"""Medians, ratios and the closing line, from the figures of single runs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench.measure import Run
from tests.bench.tools import OURS

PRIMARY = "gcs-s3/plain"
_MEDIANS = ("wall", "cpu", "server_cpu", "foreign_cpu")
# A run of whose wall time others had more than this share on the machine's processors counts as disturbed.
_DISTURBED = 0.1


def case(runs: Mapping[str, list[Run]]) -> dict[str, Any]:
    """A case: what each tool needed, and how many times our wall time and CPU rclone needed at its best."""
    tools = {name: _summary(found) for name, found in runs.items()}
    made: dict[str, Any] = {"tools": tools}
    others = [figures["median"] for name, figures in tools.items() if name != OURS]
    if OURS in tools and others:
        ours = tools[OURS]["median"]
        made["ratio"] = {kind: round(min(other[kind] for other in others) / ours[kind], 3) for kind in ("wall", "cpu")}
    return made


def _summary(runs: list[Run]) -> dict[str, Any]:
    wire = [run.wire_bytes for run in runs if run.wire_bytes is not None]
    return {
        "median": {kind: round(median(getattr(run, kind) for run in runs), 3) for kind in _MEDIANS},
        "peak_rss_mib": round(max(run.rss_mib for run in runs), 1),
        "requests": runs[-1].requests,
        "wire_bytes": int(median(wire)) if wire else None,
        "disturbed": sum(run.foreign_cpu > _DISTURBED * run.wall + 0.1 for run in runs),
        "runs": [run.wire() for run in runs],
    }


def line(cases: Mapping[str, Any]) -> str:
    """The closing line. ``restore`` is the worst of the sets, ``rss_mib`` the highest of all our processes."""

    def ratio(names: Iterable[str], kind: str = "wall") -> str:
        found = [cases[name]["ratio"][kind] for name in names if "ratio" in cases.get(name, {})]
        return f"{min(found):.2f}" if found else "-"

    peaks = [each["tools"][OURS]["peak_rss_mib"] for each in cases.values() if OURS in each["tools"]]
    restores = [name for name in cases if name.startswith(f"{PRIMARY}/") and name.endswith("/restore")]
    return (
        f"small={ratio([f'{PRIMARY}/small/cold'])} noop={ratio([f'{PRIMARY}/small/noop'])}"
        f" delta={ratio([f'{PRIMARY}/small/delta'])} large={ratio([f'{PRIMARY}/large/cold'])}"
        f" restore={ratio(restores)} cpu={ratio([f'{PRIMARY}/small/cold'], 'cpu')}"
        f" rss_mib={math.ceil(max(peaks)) if peaks else '-'}"
    )


def table(cases: Mapping[str, Any]) -> str:
    """All cases with a ratio, one a line."""
    rows = [f"{'case':32}{'ours':>10}{'rclone':>10}{'wall':>8}{'cpu':>8}"]
    for name, each in sorted(cases.items()):
        if "ratio" in each:
            walls = {tool: figures["median"]["wall"] for tool, figures in each["tools"].items()}
            best = min(wall for tool, wall in walls.items() if tool != OURS)
            ratio = each["ratio"]
            rows.append(f"{name:32}{walls[OURS]:8.2f} s{best:8.2f} s{ratio['wall']:7.2f}x{ratio['cpu']:7.2f}x")
    return "\n".join(rows)


def load(path: Path) -> dict[str, Any]:
    """Results of an earlier call, or none."""
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"cases": {}}
    return found


def save(path: Path, results: Mapping[str, Any]) -> None:
    """Write results, sorted."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
