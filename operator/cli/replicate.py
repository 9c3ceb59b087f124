"""``domicile replicate``: one run of the replicator, in a pod of the site's CronJob or by hand."""

from __future__ import annotations

import argparse
import os
import re
import sys
from datetime import UTC, datetime, timedelta

from pydantic import ValidationError

from domicile.api import sites
from domicile.api.sites import SiteFile
from domicile.backup import worker
from domicile.backup.journal import Share

_LATE = timedelta(hours=1)


def run(args: argparse.Namespace) -> int:
    """The exit codes of ``domicile.backup.worker.run``, and 2 where the site file can't be read or lacks the site."""
    if args.accept_change and not args.tenant:
        print("replicate: --accept-change speaks of one tenant: name it with --tenant", file=sys.stderr)
        return 2
    try:
        site_file = sites.load(args.sites)
    except (OSError, ValidationError) as error:
        print(f"replicate: {args.sites} is no site file: {error}", file=sys.stderr)
        return 2
    if args.site:
        served = sorted({z.site for z in site_file.zones})
        site_file = SiteFile(zones=[z for z in site_file.zones if z.site == args.site])
        if not site_file.zones:
            known = ", ".join(served) or "none"
            print(
                f"replicate: --site {args.site}: no zone in {args.sites} is served by it, only by {known}",
                file=sys.stderr,
            )
            return 2
    now = scheduled(os.environ.get("DOMICILE_JOB_NAME", ""), datetime.now(UTC))
    return worker.run(
        site_file,
        args.credentials,
        args.keys,
        args.tenant,
        now,
        accept_change=args.accept_change,
        share=Share(*args.share),
    )


def scheduled(job_name: str, now: datetime) -> datetime:
    """The minute that a CronJob's Job stands for: a pod that starts late must not skip the tenants of its minute.

    The CronJob controller names its Jobs ``<cronjob>-<minutes since 1970>``; any other name means the present minute.
    """
    match = re.search(r"-([0-9]{8})$", job_name)
    if match:
        minute = datetime.fromtimestamp(int(match[1]) * 60, UTC)
        if timedelta() <= now - minute < _LATE:
            return minute
    return now
