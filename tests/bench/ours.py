"""Our side of the benchmark: one process for each run, as rclone is one.

    python -m tests.bench.ours buckets LANE NAME=SITE ...     # create buckets, as the operator does
    python -m tests.bench.ours replicate LANE [K/N]           # K/N: one shard of an Indexed Job
    python -m tests.bench.ours restore LANE

``LANE`` is a JSON file: ``source`` and ``target`` (sites as in a ResidencyZone), ``credentials`` (folder), ``tenant``,
and ``live``, ``replica``, ``control_target``, ``control_own`` and ``restored`` (buckets). Residency checks and claims
belong to the operator's hourly run and are not part of this process, as they are not part of rclone.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from domicile.api.zone import Site
from domicile.backup.keys import TenantKey
from domicile.backup.stores import open_bucket
from domicile.backup.stores.base import Bucket

_KEY = TenantKey("bench", bytes(range(32)))
_ZONE = "bench"


class Lane:
    """A tenant's way from one site to another."""

    def __init__(self, path: str) -> None:
        self.lane: dict[str, Any] = json.loads(Path(path).read_text())
        self.tenant: str = self.lane["tenant"]

    def bucket(self, role: str, site: str) -> Bucket:
        """The bucket of a role at the site ``source`` or ``target``."""
        return self.named(self.lane[role], site)

    def named(self, name: str, site: str) -> Bucket:
        """A bucket by name."""
        return open_bucket(Site.model_validate(self.lane[site]), name, Path(self.lane["credentials"]))

    def replicate(self, shard: str | None) -> None:
        """One run of the engine."""
        from domicile.backup.journal import Share
        from domicile.backup.replicate import replicate

        done = replicate(
            self.bucket("live", "source"),
            self.bucket("replica", "target"),
            self.bucket("control_target", "target"),
            self.bucket("control_own", "source"),
            _KEY,
            tenant=self.tenant,
            zone=_ZONE,
            epoch=1,
            residency_digest="0" * 64,
            share=Share(*map(int, shard.split("/"))) if shard else None,
        )
        print(done)

    def restore(self) -> None:
        """Everything, into an empty bucket at the target."""
        from domicile.backup.restore import restore

        control, replica, live = (self.bucket(role, "target") for role in ("control_target", "replica", "restored"))
        print(restore(control, replica, live, _KEY, self.tenant, _ZONE))


def main(command: str, path: str, *arguments: str) -> None:
    """Run one command."""
    lane = Lane(path)
    match command:
        case "buckets":
            for pair in arguments:
                name, _, site = pair.partition("=")
                lane.named(name, site).create_bucket()
        case "replicate":
            lane.replicate(*arguments or (None,))
        case "restore":
            lane.restore()
        case _:
            raise SystemExit(f"bench: no such command: {command}")


if __name__ == "__main__":
    main(*sys.argv[1:])
