"""``domicile prune``: drop the snapshots that a tenant's definition does not keep, at the site that keeps them."""

from __future__ import annotations

import argparse

from domicile.backup import worker
from domicile.backup.keeper import Keeper
from domicile.backup.kek import KeyRing
from domicile.backup.prune import GRACE, Pruned
from domicile.cli import site
from domicile.cli.site import UsageError


def run(args: argparse.Namespace) -> int:
    """Exit code 1 where a kept snapshot can't be read (then nothing was deleted) or a snapshot can't be given up."""
    return site.ended("prune", lambda: _run(args))


def _run(args: argparse.Namespace) -> int:
    recovery = site.recovery(args)
    zone, given_up = recovery.zone, set(args.give_up)
    standing = {kept.commit.seq for kept in recovery.history(zone.own)}
    if unknown := sorted(given_up - standing):
        raise UsageError(f"--give-up {unknown[0]}: site {zone.site} keeps no such snapshot; see domicile snapshots")
    if given_up and max(standing) in given_up:
        raise UsageError(f"--give-up {max(standing)}: it is the newest snapshot, which only another one replaces")
    keeper = Keeper(site.opener(args), KeyRing(args.keys, args.credentials))
    done = keeper.prune(args.tenant, [zone], given_up=given_up, dry_run=args.dry_run)
    print(_told(done, zone.site, dry_run=args.dry_run))
    return worker.OK


def _told(done: Pruned | None, at: str, *, dry_run: bool) -> str:
    if done is None:
        return f"site {at} keeps no snapshot of the tenant, or its definition is gone: nothing is pruned"
    lines = [
        f"snapshots {'to keep' if dry_run else 'kept'}: {_numbers(done.kept)}",
        f"{'to drop' if dry_run else 'dropped'}: {_numbers(done.dropped)}",
        f"objects {'to delete' if dry_run else 'deleted'}: {done.objects} of {done.bytes} bytes",
    ]
    if done.locked:
        lines.append(f"not deleted, for the store holds them still: {done.locked} objects; the next time takes them")
    if done.leaving:
        hours = GRACE.total_seconds() / 3600
        lines.append(f"of dropped snapshots: {done.leaving} objects; a prune after {hours:.0f} hours takes them")
    if done.waiting:
        lines.append(f"named by no snapshot: {done.waiting} objects; they go once the next snapshot is there")
    if done.foreign:
        lines.append(f"none of ours: {done.foreign} objects in the tenant's folder; nobody deletes them")
    return "\n".join(lines)


def _numbers(numbers: tuple[int, ...]) -> str:
    return ", ".join(map(str, numbers)) or "none"
