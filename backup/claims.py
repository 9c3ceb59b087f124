"""Claims: who may write a tenant. Create-once, numbered records in the control buckets; the highest number rules.

Odd numbers are written by the zone's first site, even ones by its second, so two sites never collide on a number.
A claim *stands* when it is in both control buckets, or, where a person declared the source down (mode emergency), in
its writer's own. Its holder marks it *opened* in its own control bucket once its live bucket is ready. docs/claims.md.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from domicile.api.sites import ServedZone
from domicile.api.zone import ResidencyZoneSpec
from domicile.backup import canonical
from domicile.backup.errors import BackupError, IntegrityError
from domicile.backup.stores.base import Bucket, NotFoundError, create_once, require_create_once

VERSION = 1
MAX_CLAIM_BYTES = 4096
# Clocks of two machines may drift by 1 %: whoever waits for the end of another's lease waits so much longer.
DRIFT = 1.01
_NAME = re.compile(r"(claims|opened|words)/([0-9a-f]{32})/([0-9]{10})(?:/([0-9a-f]{32}))?", re.ASCII)
# Far above any claim; what lies under its name may be anything.
_MAX_BYTES = 1 << 16


class ClaimTakenError(BackupError):
    """Another claim of that number exists; survey again."""


class Mode(StrEnum):
    """How a claim came to be."""

    INITIAL = "initial"
    PLANNED = "planned"
    EMERGENCY = "emergency"


@dataclass(frozen=True, slots=True)
class Claim:
    """One claim. ``holder`` None: nobody may write. ``base_commit`` is the commit that the holder starts from."""

    tenant: str
    n: int
    holder: str | None
    mode: Mode
    base_commit: int | None
    request_id: str
    write_id: str = field(default_factory=lambda: secrets.token_hex(16))

    @property
    def number(self) -> int:
        """The claim's number, the epoch of all that is written under it."""
        return self.n

    @classmethod
    def new(
        cls, tenant: str, n: int, *, holder: str | None, mode: Mode, request_id: str, base_commit: int | None = None
    ) -> Claim:
        """A claim with a fresh write id."""
        return cls(tenant, n, holder, mode, base_commit, request_id)

    def to_bytes(self) -> bytes:
        """The canonical JSON that is stored."""
        return canonical.encode(
            {
                "version": VERSION,
                "tenant": self.tenant,
                "n": self.n,
                "holder": self.holder,
                "mode": str(self.mode),
                "baseCommit": self.base_commit,
                "requestId": self.request_id,
                "writeId": self.write_id,
            }
        )


def parse(data: bytes, tenant: str, n: int) -> Claim:
    """The claim in ``data``, which must be of this tenant and number. Raises IntegrityError."""
    what = f"claim {n} of tenant {tenant}"
    if len(data) > MAX_CLAIM_BYTES:
        raise IntegrityError(f"{what} has {len(data)} bytes, more than any claim")
    checks: Mapping[str, Any] = {
        "version": lambda v: type(v) is int and v == VERSION,
        "tenant": lambda v: v == tenant,
        "n": lambda v: type(v) is int and v == n,
        "holder": lambda v: v is None or canonical.text(v),
        "mode": lambda v: v in tuple(Mode),
        "baseCommit": lambda v: v is None or canonical.count(v),
        "requestId": canonical.text,
        "writeId": canonical.hexadecimal(32),
    }
    value = canonical.fields(canonical.decode(data, what), what, **checks)
    return Claim(
        tenant, n, value["holder"], Mode(value["mode"]), value["baseCommit"], value["requestId"], value["writeId"]
    )


def claim_name(tenant: str, n: int) -> str:
    """Name of a claim in a control bucket."""
    return f"claims/{tenant}/{n:010d}"


def opened_name(tenant: str, n: int) -> str:
    """Name of the mark that the holder of a claim is ready, in its own control bucket."""
    return f"opened/{tenant}/{n:010d}"


def site_index(zone: ResidencyZoneSpec, site: str) -> int:
    """Position of a site in its zone: 0 writes odd numbers, 1 even ones. Raises ValueError."""
    return [s.name for s in zone.sites].index(site)


def smallest(index: int) -> int:
    """The first number of a site: 1 or 2."""
    return index + 1


def next_number(highest: int, index: int) -> int:
    """The smallest number of a site's parity above ``highest``."""
    return highest + 1 if (highest + 1) % 2 == (index + 1) % 2 else highest + 2


def writer(zone: ResidencyZoneSpec, n: int) -> str | None:
    """The site whose parity a number has; None in a zone that has no such site."""
    index = (n + 1) % 2
    return zone.sites[index].name if index < len(zone.sites) else None


@dataclass(frozen=True, slots=True)
class Names:
    """Numbers of a tenant's claims and opening marks that a control bucket lists."""

    claims: frozenset[int] = frozenset()
    opened: frozenset[int] = frozenset()
    words: frozenset[tuple[int, str]] = frozenset()

    def words_on(self, n: int) -> frozenset[str]:
        """Ids of the words that people gave on a claim."""
        return frozenset(word for number, word in self.words if number == n)

    @property
    def highest(self) -> int:
        """The highest claim; 0 where there is none."""
        return max(self.claims, default=0)


def survey(control: Bucket, tenant: str | None = None) -> Mapping[str, Names]:
    """Names by tenant, of all tenants or of one, from listings alone; foreign names don't count. Raises StoreError."""
    numbers: dict[tuple[str, str], set[int]] = defaultdict(set)
    words: dict[str, set[tuple[int, str]]] = defaultdict(set)
    for folder in ("claims", "opened", "words"):
        for info in control.list(f"{folder}/{tenant}/" if tenant else f"{folder}/"):
            match = _NAME.fullmatch(info.name)
            if match and match[4] and folder == "words":
                words[match[2]].add((int(match[3]), match[4]))
            elif match and not match[4] and folder != "words":
                numbers[match[2], folder].add(int(match[3]))
    tenants = {t for t, _ in numbers} | set(words)
    return {
        t: Names(frozenset(numbers[t, "claims"]), frozenset(numbers[t, "opened"]), frozenset(words[t])) for t in tenants
    }


def read_claim(control: Bucket, tenant: str, n: int) -> Claim:
    """One claim; create-once, so it may be remembered for ever. Raises NotFoundError, IntegrityError, StoreError."""
    return parse(control.read(claim_name(tenant, n), start=0, length=_MAX_BYTES), tenant, n)


def write_claim(claim: Claim, controls: Sequence[Bucket]) -> None:
    """Write a claim into each control bucket in turn, the writer's own first.

    Raises ClaimTakenError where another claim has the number, StoreError; half a write is mended by ``complete``.
    """
    for control in controls:
        _put(control, claim_name(claim.tenant, claim.n), claim.to_bytes())


def complete(tenant: str, n: int, source: Bucket, target: Bucket) -> None:
    """Copy a claim's exact bytes to a control bucket that lacks it. Raises ClaimTakenError, StoreError."""
    _put(target, claim_name(tenant, n), source.read(claim_name(tenant, n)))


def _put(control: Bucket, name: str, data: bytes) -> None:
    if not create_once(control, name, data):
        raise ClaimTakenError(f"site {control.site} keeps another claim as {name} already")
    require_create_once(control, name, data)


def mark_open(control_own: Bucket, tenant: str, n: int) -> None:
    """Say that this site, which holds claim ``n``, is ready to serve. Repeating it is harmless.

    Raises StoreError, also where the store would have let others overwrite the claim.
    """
    name = claim_name(tenant, n)
    require_create_once(control_own, name, control_own.read(name))
    mark = json.dumps({"writeId": secrets.token_hex(16)}).encode()
    create_once(control_own, opened_name(tenant, n), mark)


def give_word(control_own: Bucket, tenant: str, n: int, request_id: str) -> None:
    """Put down a person's word that the peer is down, on this site's own claim ``n``. Once for each order.

    Lease agents that run at that moment go on without the peer's control bucket.
    """
    word = hashlib.sha256(request_id.encode()).hexdigest()[:32]
    create_once(control_own, f"words/{tenant}/{n:010d}/{word}", canonical.encode({"requestId": request_id}))


@dataclass(frozen=True, slots=True)
class Ruling:
    """The highest claim over the stores that were asked, as one site sees it."""

    claim: Claim
    stands: bool
    opened: bool
    everywhere: bool

    @property
    def number(self) -> int:
        """Number of the claim."""
        return self.claim.n

    @property
    def holder(self) -> str | None:
        """Site that may write."""
        return self.claim.holder


def judge(zone: ServedZone, claim: Claim, own: Names, peer: Names | None) -> Ruling:
    """Whether the highest claim stands and is opened; ``peer`` is None where its store was not asked, or not there."""
    writer_is_own = writer(zone.spec, claim.n) == zone.site
    in_own, in_peer = claim.n in own.claims, peer is not None and claim.n in peer.claims
    everywhere = in_own and (zone.peer is None or in_peer)
    own_word = in_own if writer_is_own else in_peer
    stands = everywhere or (claim.mode is Mode.EMERGENCY and own_word)
    if peer is None and zone.peer is not None and in_own and claim.mode is not Mode.EMERGENCY:
        # While the peer is out of reach: a claim of the peer's here is a copy of its own, and one of ours was marked
        # opened only once it stood.
        stands = not writer_is_own or claim.n in own.opened
    return Ruling(claim, stands, claim.holder == zone.site and claim.n in own.opened, everywhere)


def rule(zone: ServedZone, tenant: str, control_own: Bucket, control_peer: Bucket | None) -> Ruling | None:
    """The highest claim over the own and, where given, the peer's control bucket; None where there is no claim.

    Raises StoreError, IntegrityError.
    """
    own = survey(control_own, tenant).get(tenant, Names())
    peer = survey(control_peer, tenant).get(tenant, Names()) if control_peer else None
    top = max(own.highest, peer.highest if peer else 0)
    if top == 0:
        return None
    return judge(zone, _read(tenant, top, own, control_own, control_peer), own, peer)


def _read(tenant: str, n: int, own: Names, control_own: Bucket, control_peer: Bucket | None) -> Claim:
    holders: Iterable[Bucket | None] = (control_own, control_peer) if n in own.claims else (control_peer,)
    for control in holders:
        if control is not None:
            return read_claim(control, tenant, n)
    raise NotFoundError(f"claim {n} of tenant {tenant} was listed and can't be read")
