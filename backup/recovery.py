"""A tenant's snapshots as one site of its zone sees them: which there are, at which site, and what to do with one.

A site keeps what its peer wrote, so after a take-over both keep some. Slots are numbered by each site for itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from domicile.api.sites import ServedZone
from domicile.api.zone import Site
from domicile.backup import binding, claims, prune, records, residency, restore, snapshot
from domicile.backup.canonical import parse_time
from domicile.backup.errors import BackupError, NoSnapshotError
from domicile.backup.keys import TenantKey
from domicile.backup.records import Slot, Tip
from domicile.backup.residency import Purpose
from domicile.backup.restore import Mode, Restored
from domicile.backup.sealing import Sealer
from domicile.backup.snapshot import Scope, Snapshot
from domicile.backup.stores.base import Bucket, NotFoundError, UnavailableError

OpenBucket = Callable[[Site, str], Bucket]


class UnclearError(BackupError):
    """What is asked for may be this or that; say it more exactly."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A commit at the site that keeps it; ``standing`` until pruning drops its snapshot."""

    site: Site
    commit: Slot
    standing: bool = True

    @property
    def cut(self) -> datetime:
        """Start of the listing that it was cut from."""
        return parse_time(str(self.commit.cut_time))


class Recovery:
    """One tenant of a served zone. ``bucket`` opens a bucket of a site, ``key`` is the tenant's."""

    def __init__(
        self,
        zone: ServedZone,
        tenant: str,
        key: TenantKey,
        bucket: OpenBucket,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.zone = zone
        self.tenant = tenant
        self.key = key
        self._bucket = bucket
        self._clock = clock
        self._scope = Scope(tenant, zone.name, Sealer(key.key_id, key.secret))

    def control(self, site: Site) -> Bucket:
        """A site's control bucket."""
        return self._bucket(site, site.stores.control)

    def replica(self, site: Site) -> Bucket:
        """A site's replica bucket."""
        return self._bucket(site, site.stores.replica)

    def bucket(self, name: str) -> Bucket:
        """A bucket of this site."""
        return self._bucket(self.zone.own, name)

    def live(self) -> Bucket:
        """The tenant's live bucket at this site. Raises NotFoundError, StoreError."""
        name = binding.live_bucket(self.control(self.zone.own), self.tenant)
        if name is None:
            raise NotFoundError(f"no live bucket of tenant {self.tenant} is bound at site {self.zone.site}")
        return self.bucket(name)

    def keepers(self, name: str | None = None) -> list[Site]:
        """The sites of the zone that keep commits of the tenant; or the one of that name, whatever it keeps.

        Raises UnclearError where the zone has no such site, or where a site that may keep some does not answer.
        """
        sites = self.zone.spec.sites
        if name is not None:
            if named := [site for site in sites if site.name == name]:
                return named
            known = ", ".join(site.name for site in sites)
            raise UnclearError(f"zone {self.zone.name} has no site {name}, only {known}")
        try:
            return [site for site in sites if records.highest(self.control(site), self.tenant)]
        except UnavailableError as error:
            raise UnclearError(
                f"not every site of zone {self.zone.name} says whether it keeps snapshots ({error}); name the site"
                " whose snapshots are meant"
            ) from None

    def history(self, site: Site, *, dropped: bool = False) -> Iterator[Kept]:
        """The commits at a site, the newest first; ``dropped``: those without a snapshot, too, as far as they go back.

        Raises what ``choose`` raises.
        """
        self._tip(site)
        control = self.control(site)
        standing = prune.standing(control, self.tenant, self._scope.sealer)
        if not dropped:
            yield from (Kept(site, commit) for commit in reversed(standing))
            return
        numbers = {commit.seq for commit in standing}
        for commit in records.commits(control, self.tenant, self._scope.sealer):
            yield Kept(site, commit, commit.seq in numbers)

    def choose(
        self, *, seq: int | None = None, at: datetime | None = None, site: str | None = None, dropped: bool = False
    ) -> Kept:
        """Commit ``seq``, or the newest one whose cut is not later than ``at``, or the newest of all.

        None that was dropped, or with ``dropped`` that one, too: who restores it already can for a while
        (``prune.GRACE``). ``site`` names the one whose commits are looked at (default: all that keep some). Raises
        UnclearError, NoSnapshotError, RollbackError, WrongKeyError, IntegrityError, StoreError.
        """
        found = [kept for keeper in self.keepers(site) if (kept := self._find(keeper, seq, at, dropped=dropped))]
        if not found:
            raise NoSnapshotError(f"no site of zone {self.zone.name} keeps such a snapshot of tenant {self.tenant}")
        if seq is not None and len(found) > 1:
            raise UnclearError(
                f"{' and '.join(kept.site.name for kept in found)} both keep a snapshot {seq} of tenant {self.tenant}:"
                " name the site"
            )
        # A writer's clock may be wrong, and epochs follow each other.
        return max(found, key=lambda kept: (kept.commit.epoch, kept.cut))

    def require_home(self, kept: Site, *targets: tuple[Site, Bucket, Purpose]) -> str:
        """Raise ResidencyError unless the replica at a site and all targets may be used; returns the evidence digest.

        Call it before a byte moves. Raises UnavailableError, too.
        """
        return residency.require(
            self.zone.spec,
            self._clock().date(),
            (kept, self.replica(kept), Purpose.REPLICA),
            (kept, self.control(kept), Purpose.CONTROL),
            *targets,
        )

    def holds(self) -> bool:
        """Whether this site holds the tenant: its claim rules, stands and is opened. Raises StoreError."""
        own = self.control(self.zone.own)
        try:
            peer = self.control(self.zone.peer) if self.zone.peer else None
            ruling = claims.rule(self.zone, self.tenant, own, peer)
        except UnavailableError:
            ruling = claims.rule(self.zone, self.tenant, own, None)
        return ruling is not None and ruling.holder == self.zone.site and ruling.stands and ruling.opened

    def snapshot(self, kept: Kept) -> Snapshot:
        """The snapshot of a commit, for reading. Raises IntegrityError, StoreError."""
        replica = self.replica(kept.site)
        return Snapshot(replica, self._scope, snapshot.read_root(replica, self._scope, kept.commit))

    def verify_chain(self, site: Site) -> int:
        """Authenticate every slot at a site, from the newest to the oldest; returns their number.

        Raises RollbackError, WrongKeyError, IntegrityError, StoreError.
        """
        self._tip(site)
        return records.verify_chain(self.control(site), self.tenant, self._scope.sealer)

    def restore(
        self, kept: Kept, target: Bucket, *, prefix: str = "", mode: Mode = Mode.FRESH, dry_run: bool = False
    ) -> Restored:
        """``domicile.backup.restore.restore`` of that very commit; ConcurrentRunError where it was pruned meanwhile.

        Into ``targets.Nowhere`` it only authenticates what it would write: do so before a live bucket is touched.
        """
        control, replica, sealer = self.control(kept.site), self.replica(kept.site), self._scope.sealer
        with prune.unless_pruned(control, self.tenant, sealer, prune.newest(control, self.tenant, sealer)):
            return restore.restore(
                control,
                replica,
                target,
                self.key,
                self.tenant,
                self.zone.name,
                seq=kept.commit.seq,
                prefix=prefix,
                mode=mode,
                dry_run=dry_run,
            )

    def _find(self, site: Site, seq: int | None, at: datetime | None, *, dropped: bool) -> Kept | None:
        if seq is not None:
            return next((kept for kept in self.history(site, dropped=dropped) if kept.commit.seq == seq), None)
        if at is not None:
            return next((kept for kept in self.history(site) if kept.cut <= at), None)
        newest = self._tip(site).commit
        return Kept(site, newest) if newest else None

    def _tip(self, site: Site) -> Tip:
        """End of the chain at a site, held against what its writer remembers of it, where that answers."""
        known = None
        for writer in self.zone.spec.sites:
            if writer.name != site.name:
                try:
                    known = records.highest_echo(self.control(writer), self.tenant)
                except UnavailableError:
                    continue
                if known:
                    known.authenticate(self._scope.sealer)
        return records.tip(self.control(site), self.tenant, self._scope.sealer, known_seq=known.seq if known else None)
