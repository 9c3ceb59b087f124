"""``domicile restore --tenant ID``: a snapshot into the live bucket, beside it, or into a folder, by the stores alone.

With a tenant's name instead of its id the operator does it: ``domicile.cli.restore_order``.
"""

from __future__ import annotations

import argparse
from contextlib import AbstractContextManager

from domicile.backup import binding, worker
from domicile.backup.canonical import format_time
from domicile.backup.folder import Folder
from domicile.backup.recovery import Kept, Recovery
from domicile.backup.residency import Purpose, ResidencyError
from domicile.backup.restore import Mode, Restored
from domicile.backup.stores.base import Bucket
from domicile.backup.targets import Nowhere, Watched
from domicile.backup.worker import NotHolderError
from domicile.cli import restore_order, site
from domicile.cli.site import UsageError


def run(args: argparse.Namespace) -> int:
    """Exit code 0 once it is restored; see ``domicile.cli.main`` for the others."""
    if args.name is not None:
        return restore_order.run(args)
    return site.ended("restore", lambda: _run(args))


def _run(args: argparse.Namespace) -> int:
    at, mode = site.moment(args.at), Mode(args.mode)
    if args.into == "beside":
        raise UsageError("--into beside: with --tenant name an empty bucket with --beside BUCKET")
    if mode is not Mode.FRESH and not args.into:
        raise UsageError(f"--mode {mode} speaks of the live bucket: use it with --into live")
    if args.into and not (args.dry_run or args.nobody_writes):
        raise UsageError(
            "--into live: what is written meanwhile may be lost, so stop the tenant's pods and whatever else writes to"
            " its live bucket, and say --nobody-writes; the operator does that by itself: kubectl domicile restore NAME"
        )
    recovery = site.recovery(args)
    kept = recovery.choose(seq=args.seq, at=at, site=args.replica)
    target = _target(args, recovery, kept)
    with site.progress("restore") as progress:

        def told(watched: Watched) -> AbstractContextManager[None]:
            return progress.of(recovery.tenant, watched.counts)

        if args.into and not args.dry_run:
            rehearsed = Watched(Nowhere())
            with told(rehearsed):
                recovery.restore(kept, rehearsed, prefix=args.prefix)
        written = Watched(target)
        with told(written):
            done = recovery.restore(kept, written, prefix=args.prefix, mode=mode, dry_run=args.dry_run)
    print(_summary(args, kept, done, target))
    return worker.OK


def _target(args: argparse.Namespace, recovery: Recovery, kept: Kept) -> Bucket:
    """Where to restore to, once that and the replica are known to be inside the zone. Nothing was moved until then."""
    own, control = recovery.zone.own, recovery.control(recovery.zone.own)
    if args.to_folder is not None:
        allowed = {region for entry in recovery.zone.spec.allowed_regions for region in entry.regions}
        if args.folder_region not in allowed:
            raise ResidencyError(
                f"nothing was moved: no API shows where a folder lies, and region {args.folder_region} is not in zone"
                f" {recovery.zone.name} ({', '.join(sorted(allowed))}); say which it lies in: --folder-region",
                (),
            )
        recovery.require_home(kept.site)
        return Nowhere() if args.dry_run else Folder(args.to_folder)
    if args.into:
        if not recovery.holds():
            raise NotHolderError(
                f"site {recovery.zone.site} does not hold tenant {recovery.tenant}: what is written to its live bucket"
                " here nobody would read, and a take-over would refuse; run it at the site that holds the tenant"
            )
        target = recovery.live()
    else:
        target = recovery.bucket(args.beside)
    recovery.require_home(kept.site, (own, target, Purpose.LIVE), (own, control, Purpose.CONTROL))
    if args.beside:
        if args.beside in {own.stores.control, own.stores.keys, own.stores.replica}:
            raise UsageError(f"--beside {args.beside} is a bucket of the site itself: name an empty one")
        if not args.dry_run:
            # By its name, so that a restore that died may be repeated.
            binding.bind_beside(control, recovery.tenant, args.beside, args.beside)
    return target


def _summary(args: argparse.Namespace, kept: Kept, done: Restored, target: Bucket) -> str:
    verb = "would restore" if args.dry_run else "restored"
    return (
        f"{verb} snapshot {done.seq} of {format_time(done.cut_time)}, kept at {kept.site.name}, into {target.name}:"
        f" {done.objects} objects, {done.bytes} bytes; {done.skipped} there already, {done.overwritten} overwritten,"
        f" {done.deleted} deleted"
    )
