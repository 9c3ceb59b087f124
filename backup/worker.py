"""The replicator: which tenants are due at this site, and one run for each, none of which can harm another."""

from __future__ import annotations

import hashlib
import json
import sys
import threading
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from domicile.api.sites import ServedZone, SiteFile
from domicile.api.zone import Site
from domicile.backup import binding, claims, mirror, records, residency, scrub, sharding
from domicile.backup.canonical import parse_time
from domicile.backup.errors import BackupError, FencedError, HeldError, WrongKeyError
from domicile.backup.journal import WHOLE, Share
from domicile.backup.keeper import PRUNE_EVERY, SCRUB_EVERY, Keeper
from domicile.backup.kek import KeyRing
from domicile.backup.keys import TenantKey, open_tenant_key
from domicile.backup.progress import Fields, Progress
from domicile.backup.prune import Pruned
from domicile.backup.replicate import Counts, Outcome, replicate
from domicile.backup.residency import Purpose, ResidencyError
from domicile.backup.scrub import Scrubbed
from domicile.backup.sealing import Sealer
from domicile.backup.snapshot import Scope
from domicile.backup.stores import open_bucket
from domicile.backup.stores.base import Bucket, EncryptionError, NotFoundError, StoreError

OK, FAILED, REFUSED, NOT_HOLDER, HELD = 0, 1, 3, 4, 5
DEADLINE_SECONDS = 3000.0
# Of threads that wait for stores most of the time; what they hold in memory is bounded for all together (packing).
_TENANTS_AT_ONCE = 64
# Each may hold a pack, and the names of all packs of its tenant.
_KEPT_AT_ONCE = 4
_MESSAGE_CHARS = 400
# The kubelet keeps 4,096 bytes of a container's termination message (Kubernetes, Container v1, terminationMessagePath).
_TERMINATION_BYTES = 4096

OpenBucket = Callable[[Site, str], Bucket]


class NotHolderError(BackupError):
    """This site does not hold the tenant, or the zone has no second site: there is nothing to replicate from here."""


class DeadlineError(BackupError):
    """The run took too long and was ended before its commit."""


def minute_of(tenant: str) -> int:
    """The minute of every hour, 0 to 59, at which a tenant is replicated."""
    return int(hashlib.sha256(tenant.encode()).hexdigest(), 16) % 60


@dataclass(frozen=True, slots=True)
class Replicator:
    """Replicates tenants of the served zones. ``bucket`` opens a bucket, ``keys`` opens tenant keys.

    ``watch`` is told of each run, and how to ask how far it is.
    """

    site_file: SiteFile
    bucket: OpenBucket
    keys: KeyRing
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    deadline_seconds: float = DEADLINE_SECONDS
    watch: Callable[[str, Fields], AbstractContextManager[None]] = lambda *_: nullcontext()
    share: Share = WHOLE

    def due(self, scheduled: datetime) -> dict[str, list[ServedZone]]:
        """Tenants with a mirror here whose minute is ``scheduled``, each with the zones that it may be of.

        Two zones may share a site's control bucket; the tenant's key tells them apart. Raises StoreError.
        """
        zones: dict[str, list[ServedZone]] = defaultdict(list)
        for zone in self.site_file.zones:
            if zone.peer is None:
                continue
            for tenant in mirror.tenants(self._control(zone.own)):
                if minute_of(tenant) == scheduled.minute:
                    zones[tenant].append(zone)
        return zones

    def run_one(
        self,
        tenant: str,
        zones: Sequence[ServedZone],
        since: datetime | None = None,
        *,
        accept_change: bool = False,
    ) -> Outcome | None:
        """Replicate one tenant; None where a run has committed since the moment ``since`` already.

        Of several shards one commits; the others seal their share of a tenant that is new or large, and return None.
        ``accept_change`` is a person's word that a large change is meant. Raises NotHolderError, ResidencyError
        (nothing was moved), DeadlineError and what ``replicate`` raises.
        """
        until = time.monotonic() + self.deadline_seconds
        zone, epoch, key = self._held(tenant, zones)
        own, peer = zone.own, zone.peer
        if peer is None:
            raise NotHolderError(f"zone {zone.name} has one site; add a second one to replicate its tenants")
        control_own, control_peer = self._control(own), self._control(peer)
        echo = records.highest_echo(control_own, tenant)
        if since and echo and echo.cut_time and parse_time(echo.cut_time) >= since:
            return None
        name = binding.live_bucket(control_own, tenant)
        if name is None:
            raise NotFoundError(f"no live bucket of tenant {tenant} is bound at site {zone.site}")
        live, replica = self.bucket(own, name), self.bucket(peer, peer.stores.replica)
        digest = residency.require(
            zone.spec,
            self.clock().date(),
            (own, live, Purpose.LIVE),
            (own, control_own, Purpose.CONTROL),
            (peer, replica, Purpose.REPLICA),
            (peer, control_peer, Purpose.CONTROL),
        )

        def may_go_on() -> None:
            if time.monotonic() > until:
                raise DeadlineError(f"stopped after {self.deadline_seconds:.0f} s; the next run starts anew")

        counts, scrubbed = Counts(), scrub.newest(control_peer, tenant, Sealer(key.key_id, key.secret))
        lost = scrubbed is not None and echo is not None and echo.seq in scrubbed.unreadable
        run = partial(
            replicate,
            live,
            replica,
            control_peer,
            control_own,
            key,
            tenant=tenant,
            zone=zone.name,
            epoch=epoch,
            residency_digest=digest,
            clock=self.clock,
            accept_change=accept_change,
            full=lost,
            distrusted=scrubbed.heal if scrubbed else frozenset(),
            counts=counts,
            may_go_on=may_go_on,
        )
        with self.watch(tenant, partial(_fields, counts)):
            if self.share.count > 1:
                scope = Scope(tenant, zone.name, Sealer(key.key_id, key.secret))
                seq, large = (0, False) if lost else sharding.next_run(control_peer, replica, scope)
                if large:
                    run(share=self.share)
                if not sharding.commits(self.share, tenant):
                    return None
                if large:
                    sharding.await_others(replica, scope, seq, self.share, may_go_on)
            return run()

    def _control(self, site: Site) -> Bucket:
        return self.bucket(site, site.stores.control)

    def _held(self, tenant: str, zones: Sequence[ServedZone]) -> tuple[ServedZone, int, TenantKey]:
        """The zone of the tenant, the number of the claim by which this site holds it, and its key."""
        error: BackupError | StoreError = NotHolderError(f"this cluster does not hold tenant {tenant}")
        for zone in zones:
            own, peer = zone.own, zone.peer
            ruling = claims.rule(zone, tenant, self._control(own), self._control(peer) if peer else None)
            if ruling is None or ruling.holder != zone.site or not ruling.stands or not ruling.opened:
                continue
            try:
                wraps = self.bucket(own, own.stores.keys)
                return zone, ruling.number, open_tenant_key(self.keys.own(zone), wraps, tenant, zone.name)
            except (WrongKeyError, NotFoundError) as refusal:
                error = refusal
        raise error


def _fields(counts: Counts) -> dict[str, int]:
    return {
        "listed": counts.listed,
        "changed": counts.changed,
        "resumed": counts.resumed,
        "left": counts.left,
        "bytesSealed": counts.bytes_sealed,
    }


def run(
    site_file: SiteFile,
    credentials: Path,
    keys: Path,
    tenant: str | None,
    now: datetime,
    *,
    accept_change: bool = False,
    share: Share = WHOLE,
    termination: Path = Path("/dev/termination-log"),
) -> int:
    """Replicate one tenant now, or all that are due at the minute ``now``; returns the exit code of the command.

    ``share`` is this pod's of the Job's. See ``exit_code``. ``credentials`` and ``keys`` are folders. Progress goes to
    a terminal, else as JSON lines to standard output; failures go as ``{tenant: {"reason", "message"}}`` into
    ``termination`` where that exists.
    """
    ring = KeyRing(keys, credentials)

    def bucket(site: Site, name: str) -> Bucket:
        return open_bucket(site, name, credentials)

    terminal = sys.stderr.isatty()
    progress = Progress(sys.stderr if terminal else sys.stdout, "domicile.replicate", terminal=terminal)
    replicator = Replicator(site_file, bucket, ring, watch=progress.of, share=share)
    failures: dict[str, Exception] = {}
    scheduled = now.replace(second=0, microsecond=0)
    try:
        tenants = {tenant: list(site_file.zones)} if tenant else replicator.due(scheduled)
    except (StoreError, BackupError) as error:
        tenants, failures = {}, {"": error}
    since = None if tenant else scheduled
    run_one = partial(replicator.run_one, since=since, accept_change=accept_change)
    with progress, ThreadPoolExecutor(1) as beside:
        # Beside the replication, which may take its time: a proof that is late raises an alarm at the other site.
        tended = beside.submit(tend_all, Keeper(bucket, ring), {} if tenant or share.index else tenants)
        failures |= run_all({t: partial(run_one, t, zones) for t, zones in tenants.items()})
    if not tenant:
        failures = {t: e for t, e in failures.items() if not isinstance(e, NotHolderError)}
        failures = tended.result() | failures
        _report(failures, termination)
        # Not beside it: the memory that both may take is bounded for each alone.
        failures = keep_all(Keeper(bucket, ring), {} if share.index else tenants) | failures
    _report(failures, termination)
    return exit_code(failures.values())


def _report(failures: Mapping[str, Exception], termination: Path) -> None:
    if termination.exists():
        termination.write_text(summary(failures))


def run_all(jobs: Mapping[str, Callable[[], Outcome | None]]) -> dict[str, Exception]:
    """Run every job, a few at a time; returns the errors by tenant. One JSON line a job tells how it went."""
    failures: dict[str, Exception] = {}
    lock = threading.Lock()

    def one(tenant: str) -> None:
        started = time.monotonic()
        fields: dict[str, Any] = {"tenant": tenant}
        try:
            outcome = jobs[tenant]()
        except Exception as error:  # noqa: BLE001  one tenant's failure, whatever it is, must not reach another
            with lock:
                failures[tenant] = error
            fields |= {"event": "not replicated"} | _described(error)
        else:
            fields["event"] = "replicated" if outcome else "replicated already"
            if outcome:
                fields |= {"seq": outcome.seq, "objects": outcome.objects, "changed": outcome.changed}
                fields |= {"bytesSealed": outcome.bytes_sealed, "left": outcome.left}
        _log(fields | {"seconds": round(time.monotonic() - started, 3)})

    with ThreadPoolExecutor(_TENANTS_AT_ONCE) as pool:
        list(pool.map(one, jobs))
    return failures


def tend_all(keeper: Keeper, tenants: Mapping[str, Sequence[ServedZone]]) -> dict[str, Exception]:
    """Do this site's hourly duties for every tenant, held here or not; returns the errors by tenant."""
    failures: dict[str, Exception] = {}

    def one(tenant: str) -> None:
        try:
            event = "proved" if keeper.tend_any(tenant, tenants[tenant]) else "no key here"
            _log({"tenant": tenant, "event": event})
        except Exception as error:  # noqa: BLE001  one tenant's failure, whatever it is, must not reach another
            failures[tenant] = error
            _log({"tenant": tenant, "event": "not proved"} | _described(error))

    with ThreadPoolExecutor(_TENANTS_AT_ONCE) as pool:
        list(pool.map(one, tenants))
    return failures


def keep_all(keeper: Keeper, tenants: Mapping[str, Sequence[ServedZone]]) -> dict[str, Exception]:
    """Prune and scrub the replicas that this site keeps of these tenants; returns the errors by tenant."""
    failures: dict[str, Exception] = {}

    def one(tenant: str) -> None:
        for event, duty in duties.items():
            try:
                found = duty(tenant, tenants[tenant])
            except Exception as error:  # noqa: BLE001  neither tenants nor duties may keep each other from their turn
                failures.setdefault(tenant, error)
                _log({"tenant": tenant, "event": f"not {event}"} | _described(error))
            else:
                if found:
                    _log({"tenant": tenant, "event": event} | found.told())

    duties: dict[str, Callable[[str, Sequence[ServedZone]], Pruned | Scrubbed | None]] = {
        "pruned": partial(keeper.prune, every=PRUNE_EVERY),
        "scrubbed": partial(keeper.scrub, every=SCRUB_EVERY),
    }
    with ThreadPoolExecutor(_KEPT_AT_ONCE) as pool:
        list(pool.map(one, tenants))
    return failures


def _described(error: Exception) -> dict[str, str]:
    if isinstance(error, (StoreError, BackupError)):
        return {"reason": type(error).__name__.removesuffix("Error"), "message": str(error)[:_MESSAGE_CHARS]}
    # An unforeseen error's text may quote data; where it arose does not.
    where = traceback.extract_tb(error.__traceback__)[-1]
    at = f"{Path(where.filename).name}:{where.lineno}"
    return {"reason": "Internal", "message": f"{type(error).__name__} at {at}; please report it"}


def summary(failures: Mapping[str, Exception]) -> str:
    """The failures as JSON, cut to what a termination message holds; the tenants left out have their log lines."""
    told: dict[str, dict[str, str]] = {}
    for tenant, error in failures.items():
        told[tenant] = _described(error)
        if len(json.dumps(told)) > _TERMINATION_BYTES:
            del told[tenant]
            break
    return json.dumps(told)


def exit_code(errors: Iterable[Exception]) -> int:
    """What may pass is retried (1), so it outranks what will not: 3 residency, 4 fenced or not the holder, 5 held."""
    kinds: tuple[tuple[tuple[type[Exception], ...], int], ...] = (
        ((ResidencyError, EncryptionError), REFUSED),
        ((FencedError, NotHolderError), NOT_HOLDER),
        ((HeldError,), HELD),
    )
    codes = {next((code for kind, code in kinds if isinstance(error, kind)), FAILED) for error in errors}
    return min(codes, default=OK)


def _log(fields: Mapping[str, Any]) -> None:
    line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "logger": "domicile.replicate", **fields}
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()
