"""``domicile keys``: make a site's key pair; prove, rewrap and shred tenants' keys at this site."""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from domicile.api import sites
from domicile.api.sites import ServedZone, SiteFile
from domicile.api.zone import Site
from domicile.backup import kek, keys, proofs, worker
from domicile.backup.errors import BackupError, WrongKeyError
from domicile.backup.keeper import Keeper
from domicile.backup.kek import KeyRing
from domicile.backup.rewrap import rewrap
from domicile.backup.shred import shred
from domicile.backup.stores import open_bucket
from domicile.backup.stores.base import Bucket, NotFoundError, StoreError
from domicile.cli import site
from domicile.cli.site import UsageError


@dataclass(frozen=True, slots=True)
class Tools:
    """What the commands work with."""

    site_file: SiteFile
    bucket: Callable[[Site, str], Bucket]
    ring: KeyRing
    now: datetime

    def wraps(self, site: Site) -> Bucket:
        """A site's keys bucket."""
        return self.bucket(site, site.stores.keys)


def run(args: argparse.Namespace) -> int:
    """Exit code 0 where all was done, 1 where something failed, 2 for wrong usage, 3 where residency refuses it."""
    return site.ended("keys", lambda: _run(args))


def _run(args: argparse.Namespace) -> int:
    if args.what == "generate":
        return _generate(args)
    if args.tenant is not None:
        site.tenant_id(args.tenant)
    tools = _tools(args)
    if args.what == "shred":
        return _shred(tools, args)
    return _each(tools, args.tenant, _prove if args.what == "prove" else _rewrap)


def _generate(args: argparse.Namespace) -> int:
    try:
        kek.generate(args.name, args.folder)
    except ValueError as error:
        raise UsageError(str(error)) from None
    print(f"keys: wrote {args.name}.public.json and {args.name}.private.json to {args.folder}")
    return worker.OK


def _tools(args: argparse.Namespace) -> Tools:
    ring = KeyRing(args.keys, args.credentials)
    return Tools(
        sites.load(args.sites), lambda at, name: open_bucket(at, name, args.credentials), ring, datetime.now(UTC)
    )


def _each(tools: Tools, tenant: str | None, work: Callable[[Tools, str, ServedZone], str]) -> int:
    """Do the work for one tenant, or for all that have a wrap here; one that fails keeps no other from its turn."""
    zones: dict[str, list[ServedZone]] = defaultdict(list)
    for zone in tools.site_file.zones:
        for found in keys.tenants(tools.wraps(zone.own)) if tenant is None else [tenant]:
            zones[found].append(zone)
    failures: list[Exception] = []
    for found, theirs in zones.items():
        try:
            print(f"{found}: {_in_its_zone(tools, found, theirs, work)}", flush=True)
        except (StoreError, BackupError) as error:
            failures.append(error)
            print(f"{found}: {error}", file=sys.stderr)
    return worker.exit_code(failures)


def _in_its_zone(
    tools: Tools, tenant: str, zones: Sequence[ServedZone], work: Callable[[Tools, str, ServedZone], str]
) -> str:
    # Zones may share a site's buckets; the tenant's key tells them apart.
    error: Exception = NotFoundError("no zone is served here")
    for zone in zones:
        try:
            return work(tools, tenant, zone)
        except (WrongKeyError, NotFoundError) as refusal:
            error = refusal
    raise error


def _prove(tools: Tools, tenant: str, zone: ServedZone) -> str:
    Keeper(tools.bucket, tools.ring, lambda: tools.now).tend(tenant, zone)
    return f"site {zone.site} opens its keys, and has said so"


def _rewrap(tools: Tools, tenant: str, zone: ServedZone) -> str:
    own, peer = tools.ring.own(zone), zone.peer
    # The other site may have another key, too, and no way back to the one that its wraps were made with.
    peer_wraps = tools.wraps(peer) if peer else None
    keys.supply_peer(own, tools.wraps(zone.own), tenant, zone.name, tools.ring.peer(zone), peer_wraps)

    def peer_opens(key: keys.TenantKey) -> None:
        if peer is not None:
            control = tools.bucket(peer, peer.stores.control)
            proofs.require(control, key, tenant, peer.name, tools.now)

    gone = rewrap(own, tools.wraps(zone.own), tenant, zone.name, peer_opens)
    return f"{gone} wraps at site {zone.site} were replaced"


def _shred(tools: Tools, args: argparse.Namespace) -> int:
    if not args.yes_destroy:
        raise UsageError(f"shred destroys all data of tenant {args.tenant} for ever: add --yes-destroy if you mean it")
    served = {zone.name: zone for zone in tools.site_file.zones}
    zone = served.get(args.zone or next(iter(served), "")) if args.zone or len(served) == 1 else None
    if zone is None:
        raise UsageError(f"name the tenant's zone with --zone; served here: {', '.join(sorted(served)) or 'none'}")
    places = [(s, tools.wraps(s)) for s in (zone.own, zone.peer) if s is not None]
    evidence = shred(zone, tools.ring.own(zone), args.tenant, places, tools.now)
    print(json.dumps({"evidence": evidence.document, "sha256": evidence.digest}, indent=2))
    return worker.OK
