"""What the commands share that work on a tenant's stores with site file, credentials and keys, and no Kubernetes."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from datetime import datetime

from pydantic import ValidationError

from domicile.api import sites
from domicile.backup import worker
from domicile.backup.errors import BackupError, WrongKeyError
from domicile.backup.kek import KeyRing
from domicile.backup.keys import open_tenant_key
from domicile.backup.progress import Progress
from domicile.backup.recovery import OpenBucket, Recovery, UnclearError
from domicile.backup.stores import open_bucket
from domicile.backup.stores.base import NotFoundError, StoreError

USAGE = 2
_TENANT = re.compile(r"[0-9a-f]{32}")


class UsageError(Exception):
    """The command line does not say what is needed."""


def ended(command: str, work: Callable[[], int]) -> int:
    """The exit code of the work: its own, or that of what it raised, which is told on standard error."""
    try:
        return work()
    except (UsageError, UnclearError, ValidationError, OSError) as error:
        print(f"{command}: {error}", file=sys.stderr)
        return USAGE
    except (StoreError, BackupError) as error:
        print(f"{command}: {error}", file=sys.stderr)
        return worker.exit_code([error])


def tenant_id(text: str) -> str:
    """The id of a tenant. Raises UsageError."""
    if not _TENANT.fullmatch(text):
        raise UsageError(f"--tenant {text}: an id is 32 hex digits, status.tenantId of the AssistantTenant")
    return text


def moment(text: str | None) -> datetime | None:
    """A point in time of ``--at``. Raises UsageError."""
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise UsageError(f"--at {text}: write date, time and zone as in 2026-01-31T12:00:00Z (RFC 3339)")
    return at


def opener(args: argparse.Namespace) -> OpenBucket:
    """What opens a bucket of a site with the ``--credentials``."""
    return lambda site, name: open_bucket(site, name, args.credentials)


def recovery(args: argparse.Namespace) -> Recovery:
    """The snapshots of ``--tenant``, in the zone whose key of it this site opens.

    Raises UsageError, OSError, ValidationError, WrongKeyError, NotFoundError, StoreError.
    """
    tenant, ring, bucket = tenant_id(args.tenant), KeyRing(args.keys, args.credentials), opener(args)
    served = sites.load(args.sites).zones
    zones = [zone for zone in served if args.zone in (None, zone.name)]
    if not zones:
        known = ", ".join(sorted(zone.name for zone in served)) or "none"
        raise UsageError(f"--zone {args.zone}: {args.sites} has no such zone, only {known}")
    error: Exception | None = None
    # Zones may share a site's buckets; the tenant's key tells them apart.
    for zone in zones:
        try:
            key = open_tenant_key(ring.own(zone), bucket(zone.own, zone.own.stores.keys), tenant, zone.name)
            return Recovery(zone, tenant, key, bucket)
        except (WrongKeyError, NotFoundError) as refusal:
            error = error or refusal
    raise error or AssertionError


def progress(command: str) -> Progress:
    """Progress of a command, for a person at a terminal or for a log; what it prints as its result is not mixed in."""
    return Progress(sys.stderr, f"domicile.{command}", terminal=sys.stderr.isatty())
