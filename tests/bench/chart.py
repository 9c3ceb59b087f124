"""Draws the results as SVG: for each case one bar a tool, as long as its wall time against rclone's best.

python -m tests.bench.chart bench/results/replication.json docs/replication-bench.svg
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from tests.bench.results import PRIMARY
from tests.bench.tools import BEST, DEFAULTS, OURS

_CASES = {
    f"{PRIMARY}/small/cold": "20,000 x 8 KiB, first copy",
    f"{PRIMARY}/small/noop": "20,000 x 8 KiB, nothing changed",
    f"{PRIMARY}/small/delta": "20,000 x 8 KiB, 1 % changed",
    f"{PRIMARY}/small/restore": "20,000 x 8 KiB, restore",
    f"{PRIMARY}/medium/cold": "2,000 x 1 MiB, first copy",
    f"{PRIMARY}/medium/restore": "2,000 x 1 MiB, restore",
    f"{PRIMARY}/large/cold": "4 x 512 MiB, first copy",
    f"{PRIMARY}/large/restore": "4 x 512 MiB, restore",
    "s3-s3/plain/million/noop": "1,000,000 x 8 B, nothing changed",
}
_COLOURS = {OURS: "#0b6e4f", BEST: "#8a8f98", DEFAULTS: "#c9ccd1"}
_NAMES = {OURS: "Domicile", BEST: "rclone, best flags", DEFAULTS: "rclone, defaults"}
_LEFT, _UNIT, _BAR, _GAP, _MOST = 250, 260, 12, 14, 2.0


def draw(results: Mapping[str, Any]) -> str:
    """The chart of what was measured of the cases above."""
    parts: list[str] = []
    y = 64
    for case, title in _CASES.items():
        tools = results["cases"].get(case, {}).get("tools", {})
        if OURS not in tools or BEST not in tools:
            continue
        shown = [tool for tool in _COLOURS if tool in tools]
        middle = y + len(shown) * (_BAR + 2) / 2 + 4
        parts.append(f'<text x="{_LEFT - 10}" y="{middle:.0f}" text-anchor="end">{escape(title)}</text>')
        unit = tools[BEST]["median"]["wall"]
        for tool in shown:
            wall = tools[tool]["median"]["wall"]
            width = min(wall / unit, _MOST) * _UNIT
            label = f"{wall:.2f} s" + (" →" if wall / unit > _MOST else "")
            parts.append(
                f'<rect x="{_LEFT}" y="{y}" width="{width:.1f}" height="{_BAR}" fill="{_COLOURS[tool]}"/>'
                f'<text x="{_LEFT + width + 6:.1f}" y="{y + _BAR - 2}" class="s">{label}</text>'
            )
            y += _BAR + 2
        y += _GAP
    width, height = int(_LEFT + _MOST * _UNIT + 90), y + 8
    legend = "".join(
        f'<rect x="{_LEFT + 160 * i}" y="38" width="12" height="12" fill="{_COLOURS[tool]}"/>'
        f'<text x="{_LEFT + 160 * i + 18}" y="49">{name}</text>'
        for i, (tool, name) in enumerate(_NAMES.items())
    )
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        ' font-family="sans-serif" font-size="13"><style>.s{font-size:11px;fill:#444}</style>'
        f'<rect width="{width}" height="{height}" fill="#fff"/>'
        f'<text x="16" y="24" font-size="15">Wall time of a sealed replication between two stores'
        " (median; shorter is better)</text>"
    )
    return f"{head}{legend}{''.join(parts)}</svg>\n"


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(draw(json.loads(Path(sys.argv[1]).read_text())))
