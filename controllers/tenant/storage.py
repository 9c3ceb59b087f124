"""The tenant in the object stores: what is there (observe) and what this site adds to it (provision).

Blocking, and without Kubernetes. Every write is create-once under a random id, so each step may be repeated after a
crash at any point.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from domicile.api.sites import ServedZone
from domicile.api.tenant import CommitStatus
from domicile.api.zone import Site
from domicile.backup import binding, claims, mirror, proofs, records, residency
from domicile.backup.canonical import parse_time
from domicile.backup.claims import Claim, Mode, Ruling
from domicile.backup.errors import BackupError, IntegrityError
from domicile.backup.keys import TenantKey, mint_tenant_key
from domicile.backup.records import Slot
from domicile.backup.residency import Finding, Purpose, Verdict
from domicile.backup.sealing import Sealer
from domicile.backup.stores.base import AlreadyExistsError, Bucket, NotFoundError, StoreError
from domicile.controllers.sites import SiteStores
from domicile.controllers.tenant.view import ClaimView, Proof, Residency, Standing


@dataclass(frozen=True)
class Observed:
    """The tenant's state in the stores, as far as they answered."""

    residency: Residency
    storage_error: str | None = None
    peer_error: str | None = None
    claim: ClaimView | None = None
    live_bucket: str | None = None
    key: TenantKey | None = None
    key_error: str | None = None
    last_commit: CommitStatus | None = None
    replica_error: tuple[str, str] | None = None
    peer_proof: Proof | None = None


@dataclass(frozen=True)
class Known:
    """What provisioning builds on."""

    live_bucket: str | None
    claim: ClaimView | None
    peer_answers: bool


class TenantStorage:
    """Observes and provisions tenants of one served zone."""

    def __init__(self, zone: ServedZone, stores: SiteStores) -> None:
        self._zone = zone
        self._stores = stores
        self._own = zone.own
        self._peer = zone.peer

    def observe(self, tenant: str | None, known: CommitStatus | None = None) -> Observed:
        """Everything the stores say of a tenant; with None only what they say of themselves.

        ``known`` is the newest commit seen before: a chain that ends below it was rolled back.
        """
        peer_error = self._peer_error()
        seen = Observed(self._residency(None, ask_peer=not peer_error), peer_error=peer_error)
        if tenant is None:
            return seen
        try:
            live = binding.live_bucket(self._stores.control(self._own), tenant)
            residency = self._residency(live, ask_peer=not peer_error)
            ruling = self.ruling(tenant, peer_error is None)
            seen = replace(seen, residency=residency, live_bucket=live, claim=_claim_view(ruling))
            return self._with_proof(self._with_commit(self._with_key(seen, tenant), tenant, known), tenant)
        except StoreError as error:
            if peer_error is None and self._peer and self._stores.silence(self._peer, anew=True):
                # The peer died since it was last asked: its silence is not this site's fault.
                return self.observe(tenant, known)
            return replace(seen, storage_error=self._own_error(error))

    def ruling(self, tenant: str, ask_peer: bool) -> Ruling | None:
        """The highest claim over the stores that answer, or None where the tenant has none."""
        return claims.rule(
            self._zone, tenant, self._stores.control(self._own), self._peer_control() if ask_peer else None
        )

    def _peer_control(self) -> Bucket | None:
        return self._stores.control(self._peer) if self._peer else None

    def peer_answers(self) -> bool:
        """Whether the peer's control bucket can be listed now."""
        return self._peer is not None and self._stores.silence(self._peer, anew=True) is None

    def _peer_error(self) -> str | None:
        if self._peer is None:
            return None
        silence = self._stores.silence(self._peer)
        return f"The stores of peer site {self._peer.name} don't answer ({silence})." if silence else None

    def _own_error(self, error: StoreError) -> str:
        kind = type(error).__name__.removesuffix("Error")
        return (
            f"A store of site {self._own.name} does not answer as it should ({kind}: {error})."
            " Check its endpoint, buckets and credentials."
        )

    def _residency(self, live: str | None, *, ask_peer: bool) -> Residency:
        findings = [(self._own.name, f) for f in self._site_findings(self._own)]
        if live:
            found = self._stores.findings(self._zone, self._own, live, Purpose.LIVE)
            findings += [(self._own.name, f) for f in found]
        if self._peer and ask_peer:
            findings += [(self._peer.name, f) for f in self._site_findings(self._peer)]
        return _judged(findings)

    def _site_findings(self, site: Site) -> list[Finding]:
        buckets = (
            (site.stores.control, Purpose.CONTROL),
            (site.stores.keys, Purpose.KEYS),
            (site.stores.replica, Purpose.REPLICA),
        )
        findings = [f for name, purpose in buckets for f in self._stores.findings(self._zone, site, name, purpose)]
        return [*findings, *self._stores.site_findings(self._zone, site)]

    def _with_key(self, seen: Observed, tenant: str) -> Observed:
        try:
            return replace(seen, key=self.open_key(tenant))
        except NotFoundError:
            return seen
        except BackupError as error:
            return replace(seen, key_error=str(error))

    def open_key(self, tenant: str) -> TenantKey:
        """The tenant's key, opened with this site's own. Raises NotFoundError, KeyUnavailableError, WrongKeyError."""
        return self._stores.tenant_key(self._zone, tenant)

    def _with_commit(self, seen: Observed, tenant: str, known: CommitStatus | None) -> Observed:
        # The holder's snapshots lie at the peer; where that is out of reach its own echo tells which one was the last.
        holder = seen.claim.holder if seen.claim else None
        if seen.key is None or self._peer is None:
            return seen
        target = self._peer if holder == self._own.name else self._own
        control = self._stores.control(self._own)
        try:
            if target is self._peer and seen.peer_error is not None:
                commit = records.highest_echo(control, tenant)
            else:
                least = known.seq if known and known.target == target.name else None
                commit = records.tip(self._stores.control(target), tenant, sealer(seen.key), known_seq=least).commit
        except BackupError as error:
            return replace(seen, replica_error=(type(error).__name__.removesuffix("Error"), str(error)))
        return seen if commit is None else replace(seen, last_commit=_commit_status(commit, target.name))

    def _with_proof(self, seen: Observed, tenant: str) -> Observed:
        # The holder alone asks: its snapshots are of no use at a peer that can't open them.
        holds = seen.claim is not None and seen.claim.holder == self._own.name
        if not holds or seen.key is None or self._peer is None or seen.peer_error is not None:
            return seen
        try:
            proven = self._stores.proven(self._peer, tenant, seen.key)
        except BackupError as error:
            return replace(seen, peer_proof=Proof(fault=str(error)))
        return replace(seen, peer_proof=Proof(until=proven + proofs.MAX_AGE if proven else None))

    def mirrored(self, tenant: str) -> dict[str, Any] | None:
        """The newest sealed mirror of the tenant in this site's control bucket. Raises StoreError, IntegrityError."""
        found = mirror.read(self._stores.control(self._own), self.open_key(tenant), tenant, self._zone.name)
        return found[1] if found else None

    def retire(self, tenant: str, name: str) -> None:
        """Say in the mirror that the tenant was deleted, where this site is its active one. The data stays.

        Raises StoreError, BackupError; safe to repeat.
        """
        control, ask_peer = self._stores.control(self._own), self.peer_answers()
        ruling = self.ruling(tenant, ask_peer)
        if ruling is None or ruling.holder != self._own.name:
            return
        controls = [control, *([c] if ask_peer and (c := self._peer_control()) else [])]
        try:
            key = self.open_key(tenant)
        except NotFoundError:
            return
        mirror.publish(controls, key, tenant, self._zone.name, {"name": name, "deleted": True})

    def provision(self, tenant: str, document: dict[str, Any], known: Known, *, home: bool) -> bool:
        """Bring the tenant into being at this site, as far as its role goes; True if something was added.

        The home site binds a bucket, makes the key, writes the first claim and opens it; a standby binds its bucket.
        Raises StoreError, ResidencyError, BackupError.
        """
        control = self._stores.control(self._own)
        if known.live_bucket is None:
            self._bind(control, tenant)
            return True
        if known.claim is None:
            if home:
                self._found(control, tenant)
            return home
        if known.claim.holder != self._own.name:
            return False
        changed = known.peer_answers and self._finish(control, tenant, known.claim)
        controls = [control, *([c] if known.peer_answers and (c := self._peer_control()) else [])]
        mirror.publish(controls, self.open_key(tenant), tenant, self._zone.name, document)
        return changed

    def bind_beside(self, tenant: str, restore: str) -> str:
        """Reserve a free empty bucket for a restore beside the tenant's live one; returns its name. Safe to repeat.

        Raises NotFoundError where there is none, ResidencyError, BucketTakenError, StoreError.
        """
        control = self._stores.control(self._own)
        if bound := binding.beside_bucket(control, restore):
            return bound
        return binding.bind_beside(control, tenant, restore, self._free_bucket(control, f"{tenant} {restore}"))

    def _bind(self, control: Bucket, tenant: str) -> str:
        return binding.bind_live(control, tenant, self._free_bucket(control, tenant))

    def _free_bucket(self, control: Bucket, purpose: str) -> str:
        source = self._own.stores.live
        if source.create_prefix is not None:
            # One name for each purpose and site: a second try finds the first one's bucket, and makes no other.
            name = f"{source.create_prefix}-{hashlib.sha256(f'{self._own.name} {purpose}'.encode()).hexdigest()[:20]}"
            with suppress(AlreadyExistsError):
                self._stores.bucket(self._own, name).create_bucket()
            candidates = [name]
        else:
            stores = self._own.stores
            taken = binding.taken(control) | {stores.control, stores.keys, stores.replica}
            candidates = [name for name in source.pool or [] if name not in taken]
        for name in candidates:
            findings = self._stores.findings(self._zone, self._own, name, Purpose.LIVE)
            residency.require_compliant(findings, self._own.name)
            if next(iter(self._stores.bucket(self._own, name).list()), None) is None:
                return name
        raise NotFoundError(f"site {self._own.name} has no free empty live bucket: add buckets to its pool")

    def _found(self, control: Bucket, tenant: str) -> None:
        zone, keys = self._zone, self._stores.keys
        peer_wraps = self._stores.wraps(self._peer) if self._peer else None
        mint_tenant_key(keys.own(zone), self._stores.wraps(self._own), tenant, zone.name, keys.peer(zone), peer_wraps)
        number = claims.smallest(claims.site_index(zone.spec, zone.site))
        claim = Claim.new(tenant, number, holder=zone.site, mode=Mode.INITIAL, request_id=tenant)
        claims.write_claim(claim, [c for c in (control, self._peer_control()) if c is not None])
        claims.mark_open(control, tenant, number)

    def _finish(self, control: Bucket, tenant: str, claim: ClaimView) -> bool:
        # After a crash or an outage: the peer's copy of our claim, and the mark of a first claim, may be missing.
        peer = self._peer_control()
        unopened = claim.number == claims.smallest(claims.site_index(self._zone.spec, self._own.name))
        unopened = unopened and not claim.opened
        # Also where the copy is there: it counts only once its store was seen to refuse another one.
        copied = peer is not None and (not claim.everywhere or unopened)
        if peer is not None and copied:
            claims.complete(tenant, claim.number, control, peer)
        if unopened:
            claims.mark_open(control, tenant, claim.number)
        return copied or unopened


def sealer(key: TenantKey) -> Sealer:
    """What opens and signs the tenant's records and snapshots."""
    return Sealer(key.key_id, key.secret)


def _commit_status(commit: Slot, target: str) -> CommitStatus:
    if commit.cut_time is None:
        raise IntegrityError(f"commit {commit.seq} of tenant {commit.tenant} has no cut time")
    return CommitStatus(seq=commit.seq, epoch=commit.epoch, cut_time=parse_time(commit.cut_time), target=target)


def _claim_view(ruling: Ruling | None) -> ClaimView | None:
    if ruling is None:
        return None
    return ClaimView(ruling.number, ruling.holder, ruling.stands, ruling.opened, ruling.everywhere)


def _judged(findings: list[tuple[str, Finding]]) -> Residency:
    """Violations and open questions in full; what people vouch for in one sentence for all buckets."""
    for verdict, standing in ((Verdict.VIOLATED, Standing.VIOLATED), (Verdict.UNKNOWN, Standing.UNKNOWN)):
        messages = tuple(dict.fromkeys(f.message for _, f in findings if f.verdict is verdict))
        if messages:
            return Residency(standing, messages)
    attested: dict[str, list[str]] = {}
    for site, finding in findings:
        subjects = attested.setdefault(site, [])
        if finding.verdict is Verdict.ATTESTED and finding.subject not in subjects:
            subjects.append(str(finding.subject))
    told = "; ".join(f"{site}: {', '.join(sorted(subjects))}" for site, subjects in attested.items() if subjects)
    return Residency(Standing.COMPLIANT, (f"Attested by people, not verified: {told}.",) if told else ())
