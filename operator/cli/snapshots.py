"""``domicile snapshots``: which snapshots of a tenant there are, and what they hold in numbers."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any

from domicile.backup import worker
from domicile.backup.canonical import format_time
from domicile.backup.errors import IntegrityError
from domicile.backup.recovery import Kept, Recovery
from domicile.cli import site

_READERS = 8
_COLUMNS = ("seq", "cutTime", "objects", "bytes", "state", "source", "keptAt")


def run(args: argparse.Namespace) -> int:
    """Exit code 1 where the manifest of one that should be whole is missing or damaged."""
    return site.ended("snapshots", lambda: _run(args))


def _run(args: argparse.Namespace) -> int:
    recovery = site.recovery(args)
    keepers = recovery.keepers(args.replica)
    for keeper in keepers:
        recovery.require_home(keeper)
    kept = list(chain.from_iterable(recovery.history(keeper, dropped=args.dropped) for keeper in keepers))
    with ThreadPoolExecutor(_READERS) as pool:
        rows = list(pool.map(lambda one: _row(recovery, one), kept))
    if args.output == "json":
        print(json.dumps(rows, indent=2))
    else:
        _table(rows)
    damaged = [row["seq"] for row in rows if row["state"] == "damaged"]
    if damaged:
        print(f"snapshots: damaged: {', '.join(map(str, damaged))}; see domicile verify", file=sys.stderr)
    return worker.FAILED if damaged else worker.OK


def _row(recovery: Recovery, kept: Kept) -> dict[str, Any]:
    row: dict[str, Any] = {"seq": kept.commit.seq, "cutTime": format_time(kept.cut), "keptAt": kept.site.name}
    if not kept.standing:
        return row | {"state": "dropped"}
    try:
        root = recovery.snapshot(kept).root
    except IntegrityError:
        return row | {"state": "damaged"}
    return row | {
        "state": "kept",
        "objects": root.objects,
        "bytes": root.bytes,
        "source": root.source.partition("/")[0],
    }


def _table(rows: Sequence[dict[str, Any]]) -> None:
    lines = [["SEQ", "CUT TIME (UTC)", "OBJECTS", "BYTES", "STATE", "SOURCE", "KEPT AT"]]
    lines += [[_cell(row.get(column, "-")) for column in _COLUMNS] for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _cell(value: str | int) -> str:
    return value if isinstance(value, str) else str(value)
