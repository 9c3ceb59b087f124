"""Commit slots: the hash-chained, create-once record of what a tenant's replica holds, and of who may add to it.

``commits/<tenant>/<seq>`` in the control bucket of the site that keeps the replica is a *commit* or a *fence*. The
fence of a take-over occupies the slot that the old writer would need next. ``echo/<tenant>/<seq>`` in the writer's own
control bucket keeps a copy of each commit, so that a slot that vanished or changed at the other site is noticed.
docs/format.md.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, Literal

from domicile.backup import canonical
from domicile.backup.errors import ConcurrentRunError, FencedError, IntegrityError, RollbackError
from domicile.backup.sealing import FORMAT_VERSION, Sealer
from domicile.backup.stores.base import Bucket, NotFoundError, create_once

MAX_SLOT_BYTES = 16384
_SEQ = re.compile(r"\d{10}", re.ASCII)
_FENCE_TRIES = 100


@dataclass(frozen=True, slots=True)
class Slot:
    """One slot. ``prev`` is the SHA-256 of the previous slot's bytes in hex, None for the first.

    A fence has no manifest, and no key where its writer had none. ``cut_time`` is the start of the source's listing,
    ``residency_digest`` the SHA-256 of the evidence of the residency checks before the run.
    """

    kind: Literal["commit", "fence"]
    tenant: str
    seq: int
    epoch: int
    prev: str | None
    write_id: str
    key_id: str | None = None
    key_commitment: str | None = None
    manifest: str | None = None
    manifest_digest: str | None = None
    cut_time: str | None = None
    residency_digest: str | None = None
    mac: str | None = None

    def to_bytes(self) -> bytes:
        """The canonical JSON that is stored."""
        return canonical.encode({"version": FORMAT_VERSION} | {_WIRE[f]: getattr(self, f) for f in _shape(self.kind)})

    @property
    def digest(self) -> str:
        """SHA-256 of the stored bytes, in hex."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def signed(self, sealer: Sealer) -> Slot:
        """The slot with its MAC: HMAC-SHA256 over the canonical JSON of all fields but ``mac``."""
        return Slot(**{f: getattr(self, f) for f in _WIRE if f != "mac"}, mac=sealer.mac(_unsigned(self)))

    def authenticate(self, sealer: Sealer) -> None:
        """Raise WrongKeyError or IntegrityError unless this key's holder wrote it. A fence without a key passes."""
        if self.key_id is None or self.key_commitment is None or self.mac is None:
            return
        sealer.require(self.key_id, self.key_commitment)
        if not hmac.compare_digest(self.mac, sealer.mac(_unsigned(self))):
            raise IntegrityError(f"slot {self.seq} of tenant {self.tenant} was changed: its MAC does not match")


_WIRE = {f.name: f.name.split("_")[0] + "".join(p.capitalize() for p in f.name.split("_")[1:]) for f in fields(Slot)}
_COMMIT_ONLY = ("manifest", "manifest_digest", "cut_time", "residency_digest")


def _shape(kind: str) -> list[str]:
    return [f for f in _WIRE if kind == "commit" or f not in _COMMIT_ONLY]


def _unsigned(slot: Slot) -> bytes:
    value = canonical.decode(slot.to_bytes(), "slot")
    del value["mac"]
    return canonical.encode(value)


def slot_name(tenant: str, seq: int) -> str:
    """Name of a slot in the control bucket of the site that keeps the replica."""
    return f"commits/{tenant}/{seq:010d}"


def echo_name(tenant: str, seq: int) -> str:
    """Name of a commit's copy in the writer's own control bucket."""
    return f"echo/{tenant}/{seq:010d}"


def parse(data: bytes, tenant: str, seq: int) -> Slot:
    """The slot in ``data``, which must be of this tenant and number. Raises IntegrityError."""
    what = f"slot {seq} of tenant {tenant}"
    if len(data) > MAX_SLOT_BYTES:
        raise IntegrityError(f"{what} has {len(data)} bytes, more than any slot")
    value = canonical.decode(data, what)
    kind = value.get("kind") if isinstance(value, dict) else None
    if kind not in ("commit", "fence"):
        raise IntegrityError(f"{what} is neither a commit nor a fence")
    digest, keyless = canonical.hexadecimal(64), kind == "fence" and value.get("keyId") is None
    checks: dict[str, Any] = {
        "version": lambda v: type(v) is int and v == FORMAT_VERSION,
        "kind": lambda _: True,
        "tenant": lambda v: v == tenant,
        "seq": lambda v: type(v) is int and v == seq,
        "epoch": lambda v: canonical.count(v) and v > 0,
        "prev": lambda v: v is None if seq == 1 else digest(v),
        "writeId": canonical.hexadecimal(32),
        "keyId": lambda v: v is None if keyless else canonical.text(v),
        "keyCommitment": lambda v: v is None if keyless else digest(v),
        "mac": lambda v: v is None if keyless else digest(v),
    }
    if kind == "commit":
        checks |= {
            "manifest": canonical.hexadecimal(32),
            "manifestDigest": digest,
            "cutTime": canonical.moment,
            "residencyDigest": digest,
        }
    canonical.fields(value, what, **checks)
    return Slot(**{f: value[_WIRE[f]] for f in _shape(kind)})


def _numbers(control: Bucket, folder: str) -> list[int]:
    """Numbers of the objects in a folder such as ``commits/<tenant>/``, ascending, without a gap."""
    names = [info.name.removeprefix(folder) for info in control.list(folder)]
    if bad := sum(not _SEQ.fullmatch(name) for name in names):
        raise IntegrityError(f"{bad} objects under {folder} in the control bucket of {control.site} are no slots")
    numbers = sorted(int(name) for name in names)
    if numbers and numbers != list(range(numbers[0], numbers[-1] + 1)):
        raise RollbackError(f"slots are missing under {folder} in the control bucket of site {control.site}")
    return numbers


def read(control: Bucket, tenant: str, seq: int) -> Slot:
    """One slot. Raises RollbackError where it is missing, IntegrityError where it is malformed."""
    try:
        return parse(control.read(slot_name(tenant, seq)), tenant, seq)
    except NotFoundError:
        raise RollbackError(f"slot {seq} of tenant {tenant} is missing at site {control.site}") from None


def highest(control: Bucket, tenant: str) -> Slot | None:
    """The newest slot, unauthenticated; None where there is none."""
    numbers = _numbers(control, f"commits/{tenant}/")
    return read(control, tenant, numbers[-1]) if numbers else None


def highest_echo(control_own: Bucket, tenant: str) -> Slot | None:
    """The newest commit that this site itself has made, from its own control bucket."""
    folder = f"echo/{tenant}/"
    names = (info.name.removeprefix(folder) for info in control_own.list(folder))
    numbers = [int(name) for name in names if _SEQ.fullmatch(name)]
    if not numbers:
        return None
    seq = max(numbers)
    return parse(control_own.read(echo_name(tenant, seq)), tenant, seq)


@dataclass(frozen=True, slots=True)
class Tip:
    """End of a tenant's chain: its newest slot, and its newest commit, which is another one behind a fence."""

    slot: Slot | None
    commit: Slot | None


def tip(
    control: Bucket,
    tenant: str,
    sealer: Sealer | None = None,
    *,
    known_seq: int | None = None,
    echo: Slot | None = None,
) -> Tip:
    """The end of the chain, authenticated where a key is given, and linked from the newest slot to the newest commit.

    Raises RollbackError where the chain ends below ``known_seq`` or ``echo``, or holds something else in the echo's
    place; WrongKeyError; IntegrityError.
    """
    slot = newest = highest(control, tenant)
    least = max(known_seq or 0, echo.seq if echo else 0)
    if (newest.seq if newest else 0) < least:
        raise RollbackError(
            f"the newest slot of tenant {tenant} at site {control.site} is {newest.seq if newest else 0}, but slot"
            f" {least} is known to have been written: the control bucket was rolled back; restore it before going on"
        )
    if echo and newest and not _holds(control, echo):
        raise RollbackError(
            f"slot {echo.seq} of tenant {tenant} at site {control.site} is not the commit that this site made there"
        )
    while slot:
        if sealer:
            slot.authenticate(sealer)
        if slot.kind == "commit" or slot.seq == 1:
            break
        slot = _previous(control, slot)
    return Tip(newest, slot if slot and slot.kind == "commit" else None)


def _holds(control: Bucket, echo: Slot) -> bool:
    """Whether the echo's slot is what it was; or was cut with all before it, as after a crash between slot and echo."""
    try:
        return parse(control.read(slot_name(echo.tenant, echo.seq)), echo.tenant, echo.seq) == echo
    except NotFoundError:
        return _numbers(control, f"commits/{echo.tenant}/")[0] > echo.seq


def _previous(control: Bucket, slot: Slot) -> Slot:
    before = read(control, slot.tenant, slot.seq - 1)
    if before.digest != slot.prev:
        raise IntegrityError(f"slot {slot.seq} of tenant {slot.tenant} does not follow slot {before.seq} as stored")
    if not follows(before, slot.kind, slot.epoch):
        raise IntegrityError(f"slot {slot.seq} of tenant {slot.tenant} has an epoch that slot {before.seq} rules out")
    return before


def follows(before: Slot, kind: str, epoch: int) -> bool:
    """Whether such a slot may come after ``before``: epochs never fall, and rise at and after a fence."""
    return epoch > before.epoch if "fence" in (before.kind, kind) else epoch >= before.epoch


def verify_chain(control: Bucket, tenant: str, sealer: Sealer) -> int:
    """Authenticate every slot from the newest to the oldest kept; returns their number."""
    numbers = _numbers(control, f"commits/{tenant}/")
    if not numbers:
        return 0
    slot = read(control, tenant, numbers[-1])
    slot.authenticate(sealer)
    while slot.seq > numbers[0]:
        slot = _previous(control, slot)
        slot.authenticate(sealer)
    return len(numbers)


def commits(control: Bucket, tenant: str, sealer: Sealer) -> Iterator[Slot]:
    """All commits, authenticated, the newest first. Raises RollbackError, WrongKeyError, IntegrityError."""
    for number in reversed(_numbers(control, f"commits/{tenant}/")):
        slot = read(control, tenant, number)
        slot.authenticate(sealer)
        if slot.kind == "commit":
            yield slot


def cut(control: Bucket, tenant: str, first: int) -> None:
    """Delete the slots below ``first``, the lowest first, so that no gap shows; ``first`` is no newer than a commit."""
    for number in _numbers(control, f"commits/{tenant}/"):
        if number < first:
            control.delete(slot_name(tenant, number))


def append(control: Bucket, control_own: Bucket, slot: Slot) -> None:
    """Write a commit into its slot and its echo. Raises FencedError or ConcurrentRunError where the slot is taken."""
    if not create_once(control, slot_name(slot.tenant, slot.seq), slot.to_bytes()):
        taken = read(control, slot.tenant, slot.seq)
        if taken.epoch > slot.epoch:
            raise FencedError(
                f"tenant {slot.tenant} was taken over with epoch {taken.epoch}; this site has {slot.epoch}"
            )
        raise ConcurrentRunError(f"another run committed slot {slot.seq} of tenant {slot.tenant} first")
    if not create_once(control_own, echo_name(slot.tenant, slot.seq), slot.to_bytes()):
        raise RollbackError(f"slot {slot.seq} of tenant {slot.tenant} had been written before with other content")


@dataclass(frozen=True, slots=True)
class Fence:
    """A fence that stands, and the last commit below it."""

    seq: int
    commit: Slot | None


def fence(control: Bucket, tenant: str, epoch: int, sealer: Sealer | None) -> Fence:
    """Occupy the next slot, so that no writer of an older epoch commits any more; at once if it is already fenced so.

    Raises FencedError where a slot of this or a higher epoch stands there, RollbackError, IntegrityError,
    WrongKeyError.
    """
    for _ in range(_FENCE_TRIES):
        at = tip(control, tenant, sealer)
        if at.slot and at.slot.kind == "fence" and at.slot.epoch == epoch:
            return Fence(at.slot.seq, at.commit)
        if at.slot and not follows(at.slot, "fence", epoch):
            raise FencedError(
                f"tenant {tenant} has slot {at.slot.seq} of epoch {at.slot.epoch}; {epoch} can't fence it"
            )
        slot = Slot(
            kind="fence",
            tenant=tenant,
            seq=at.slot.seq + 1 if at.slot else 1,
            epoch=epoch,
            prev=at.slot.digest if at.slot else None,
            write_id=secrets.token_hex(16),
            key_id=sealer.key_id if sealer else None,
            key_commitment=sealer.commitment if sealer else None,
        )
        if create_once(control, slot_name(tenant, slot.seq), (slot.signed(sealer) if sealer else slot).to_bytes()):
            return Fence(slot.seq, at.commit)
    raise ConcurrentRunError(f"{_FENCE_TRIES} slots of tenant {tenant} were taken while fencing; try again")
