"""``domicile diff``: what differs between two snapshots, or between one and the live bucket."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator

from domicile.backup import changes, worker
from domicile.backup.changes import Difference, Kind
from domicile.backup.recovery import Kept, Recovery
from domicile.backup.residency import Purpose
from domicile.cli import site
from domicile.cli.site import UsageError

_SIGNS = {Kind.ADDED: "+", Kind.REMOVED: "-", Kind.CHANGED: "~"}


def run(args: argparse.Namespace) -> int:
    """Exit code 0, whatever differs."""
    return site.ended("diff", lambda: _run(args))


def _run(args: argparse.Namespace) -> int:
    if args.names and not sys.stdout.isatty():
        raise UsageError("--names: names of objects go to a terminal only; what is written elsewhere may be a log")
    recovery = site.recovery(args)
    old = recovery.choose(seq=args.old, site=args.replica)
    found = _differences(recovery, old, args.new, args.replica)
    totals = changes.count(_told(found) if args.names else found)
    rows = {str(kind): {"objects": totals.objects[kind], "bytes": totals.bytes[kind]} for kind in Kind}
    if args.output == "json":
        print(json.dumps(rows, indent=2))
    else:
        for kind, row in rows.items():
            print(f"{kind:<10} {row['objects']:>10} objects {row['bytes']:>15} bytes")
    return worker.OK


def _differences(recovery: Recovery, old: Kept, seq: int | None, replica: str | None) -> Iterator[Difference]:
    if seq is not None:
        new = recovery.choose(seq=seq, site=replica)
        recovery.require_home(old.site)
        recovery.require_home(new.site)
        return changes.between(recovery.snapshot(old), recovery.snapshot(new))
    live = recovery.live()
    recovery.require_home(old.site, (recovery.zone.own, live, Purpose.LIVE))
    return changes.since(recovery.snapshot(old), live)


def _told(found: Iterator[Difference]) -> Iterator[Difference]:
    for difference in found:
        if sign := _SIGNS.get(difference.kind):
            # Names come from a tenant: in JSON no character of theirs reaches the terminal as a command.
            print(f"{sign} {json.dumps(difference.name)}")
        yield difference
