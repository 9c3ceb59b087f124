"""When a site may acknowledge writes: leases granted from rounds of claim listings. Pure; the caller brings the clock.

A round lists the site's own control bucket and, where it answers, the peer's. If nothing exceeds the site's own claim
and the claim stands and is opened, it grants the zone's lease length D minus the age of the round's start. The
rules and why each is needed: docs/claims.md; tests/unit/claims_model.py searches all histories of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from domicile.api.sites import ServedZone
from domicile.api.zone import OnPartition
from domicile.backup.claims import DRIFT, Claim, Mode, Names

ReadClaim = Callable[[str, int], Claim | None]


@dataclass(frozen=True, slots=True)
class Lease:
    """Leave to acknowledge writes of a tenant under claim ``epoch`` until ``until`` (seconds on the caller's clock)."""

    epoch: int
    until: float


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why there is no lease. ``reason`` is CamelCase; the message holds no tenant's data."""

    reason: str
    message: str


_UNKNOWN = Refusal("UnknownTenant", "No claim of this tenant is known here.")
# What a round couldn't find out takes nothing away: a lease of the same claim runs out by itself.
_UNTOLD = frozenset({"ClaimUnreadable", "PeerNotRead", "PeerUnreachable", "ClaimTooNew"})
_EXPIRED = Refusal("RoundsFail", "The site's own control bucket has not answered for a whole lease.")


@dataclass(slots=True)
class _Seen:
    """The highest claim of a tenant and what was learnt of it. ``since``: when it was first seen.

    ``word``: a person vouched, while this agent ran, that the peer is down.
    What was merely found may be long overtaken.
    """

    n: int
    since: float
    at_peer: bool = False
    word: bool = False
    answer: Lease | Refusal = field(default=_UNKNOWN)


class ZoneLeases:
    """The leases of one zone at one site, for all its tenants. Knows nothing when it is made."""

    def __init__(self, zone: ServedZone) -> None:
        self._zone = zone
        self._length = float(zone.spec.lease_seconds)
        self._seen: dict[str, _Seen] = {}
        self._peer_read = zone.peer is None
        self._begun: float | None = None
        self._own: Mapping[str, Names] | None = None
        self._empty_at_first = True

    def follow(self, zone: ServedZone) -> None:
        """Take the zone as edited, from the next round on. Its site and its lease length never change."""
        self._zone = zone

    def round(
        self,
        start: float,
        now: float,
        own: Mapping[str, Names] | None,
        peer: Mapping[str, Names] | None,
        read_claim: ReadClaim,
    ) -> None:
        """Take in one round: listings of the own and the peer's control bucket, None where there was no answer.

        ``start`` is when the first listing began, ``now`` when all answers were in. ``read_claim(tenant, n)`` is None
        where the claim could not be read. A round without the own store grants nothing; what was granted runs out.
        """
        self._peer_read = self._peer_read or peer is not None
        for tenant in {**(own or {}), **(peer or {})}:
            here = own.get(tenant, Names()) if own is not None else None
            there = peer.get(tenant, Names()) if peer is not None else None
            self._note(tenant, now, here, there)
            if here is not None:
                seen, answer = self._seen[tenant], self._judge(tenant, start, now, here, there, read_claim)
                running = isinstance(seen.answer, Lease) and seen.answer.until > now
                if not (running and isinstance(answer, Refusal) and answer.reason in _UNTOLD):
                    seen.answer = answer
        self._own = own if own is not None else self._own
        if own is not None and self._begun is None:
            self._begun = now
            self._empty_at_first = not own and not peer

    def _note(self, tenant: str, now: float, here: Names | None, there: Names | None) -> None:
        highest = max(n.highest for n in (here, there) if n is not None)
        seen = self._seen.get(tenant)
        if seen is None or highest > seen.n:
            # Not the round's start: the claim may have been written after it, beside leases given just before.
            seen = self._seen[tenant] = _Seen(highest, now)
        seen.at_peer = seen.at_peer or (there is not None and seen.n in there.claims)

    def _judge(
        self, tenant: str, start: float, now: float, here: Names, there: Names | None, read_claim: ReadClaim
    ) -> Lease | Refusal:
        seen, zone = self._seen[tenant], self._zone
        claim = read_claim(tenant, seen.n)
        if claim is None:
            return Refusal("ClaimUnreadable", f"Claim {seen.n} could not be read at any store.")
        if claim.holder != zone.site:
            return Refusal("NotHolder", f"Claim {claim.n} gives the tenant to {claim.holder or 'no site'}.")
        declared = claim.n in here.claims and (claim.mode is Mode.EMERGENCY or bool(here.words_on(claim.n)))
        self._hear(tenant, claim, here, there)
        if not (declared or (claim.n in here.claims and (seen.at_peer or zone.peer is None))):
            return Refusal("ClaimDoesNotStand", f"Claim {claim.n} is not in both control buckets.")
        if claim.n not in here.opened:
            return Refusal("NotOpened", f"The live bucket is not ready yet under claim {claim.n}.")
        alone = there is None and zone.peer is not None
        if alone and not seen.word and not self._peer_read:
            return Refusal("PeerNotRead", "This agent is new and could not read the peer's control bucket yet.")
        if alone and not seen.word and zone.spec.on_partition is OnPartition.STOP:
            return Refusal(
                "PeerUnreachable", "The peer's control bucket does not answer, and the zone stops on partition."
            )
        first = claim.mode is Mode.INITIAL and not alone and min(here.claims) == claim.n
        if not first and now - seen.since < self._length * DRIFT:
            return Refusal("ClaimTooNew", f"Claim {claim.n} must have been seen for a whole lease before it is served.")
        return Lease(claim.n, start + self._length)

    def _hear(self, tenant: str, claim: Claim, here: Names, there: Names | None) -> None:
        """Note a person's word: an own emergency claim, or a word on the claim, that appeared while this agent ran."""
        seen = self._seen[tenant]
        if self._own is not None:
            before = self._own.get(tenant, Names())
            taken_over = claim.mode is Mode.EMERGENCY and claim.n in here.claims - before.claims
            seen.word = seen.word or taken_over or bool(here.words_on(claim.n) - before.words_on(claim.n))
        if there is not None and self._zone.spec.on_partition is OnPartition.STOP:
            # The peer is back: its next silence needs a new word.
            seen.word = False

    def remaining(self, tenant: str, now: float) -> tuple[Lease, float] | Refusal:
        """The lease and its remaining seconds, or why there is none."""
        seen = self._seen.get(tenant)
        if seen is None:
            return _UNKNOWN
        if isinstance(seen.answer, Refusal):
            return seen.answer
        left = seen.answer.until - now
        return (seen.answer, left) if left > 0 else _EXPIRED

    def settled(self, now: float) -> bool:
        """Whether replacing an older agent by this one would end nobody's lease.

        It has watched for a whole lease, and has read the peer or grants on a person's word.
        """
        if self._begun is None:
            return False
        knows = self._peer_read or any(isinstance(s.answer, Lease) for s in self._seen.values())
        return self._empty_at_first or (knows and now - self._begun >= self._length * DRIFT)
