"""``domicile verify``: read and authenticate whole snapshots and their chain; nothing is written."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable

from domicile.backup import worker
from domicile.backup.errors import IntegrityError
from domicile.backup.manifest import Delta, Shard
from domicile.backup.recovery import Kept, Recovery
from domicile.backup.targets import Nowhere, Watched
from domicile.cli import site


def run(args: argparse.Namespace) -> int:
    """Exit code 1 where something is damaged; it is named by its opaque id."""
    return site.ended("verify", lambda: _run(args))


def _run(args: argparse.Namespace) -> int:
    recovery = site.recovery(args)
    if not args.all:
        kept = recovery.choose(seq=args.seq, site=args.replica)
        recovery.require_home(kept.site)
        slots = recovery.verify_chain(kept.site)
        print(f"{slots} slots at site {kept.site.name} are authentic and linked")
        return _verify(recovery, [kept])
    code = worker.OK
    for keeper in recovery.keepers(args.replica):
        recovery.require_home(keeper)
        print(f"{recovery.verify_chain(keeper)} slots at site {keeper.name} are authentic and linked")
        code = max(code, _verify(recovery, recovery.history(keeper)))
    return code


def _verify(recovery: Recovery, snapshots: Iterable[Kept]) -> int:
    code, sound = worker.OK, dict[tuple[tuple[Shard, ...], tuple[Delta, ...]], int]()
    with site.progress("verify") as progress:
        for kept in snapshots:
            seq = kept.commit.seq
            try:
                root = recovery.snapshot(kept).root
                if same := sound.get((root.shards, root.deltas)):
                    print(f"snapshot {seq} at site {kept.site.name} is sound: it is snapshot {same} once more")
                    continue
                read = Watched(Nowhere())
                with progress.of(recovery.tenant, read.counts):
                    done = recovery.restore(kept, read)
            except IntegrityError as error:
                code = worker.FAILED
                print(f"verify: snapshot {seq}: {error}", file=sys.stderr)
                continue
            sound[root.shards, root.deltas] = seq
            print(
                f"snapshot {seq} at site {kept.site.name} is sound: {done.objects} objects, {done.bytes} bytes",
                flush=True,
            )
    return code
