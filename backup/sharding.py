"""One run split over the pods of an Indexed Job: each seals a share and journals it, one of them commits.

The store is all they share. Whoever commits lists and compares everything itself and only saves work by the others'
journals; so a pod that died, came late or never started costs time and nothing else.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from datetime import UTC, datetime

from domicile.backup import records, snapshot
from domicile.backup.journal import Journal, Share
from domicile.backup.snapshot import Scope
from domicile.backup.stores.base import Bucket

LARGE_OBJECTS = 100_000
LARGE_BYTES = 10 << 30
PATIENCE_SECONDS = 120.0
_POLL_SECONDS = 2.0


def commits(share: Share, tenant: str) -> bool:
    """Whether this share's pod is the one that commits the tenant's runs; tenants are spread over the pods."""
    return int(hashlib.sha256(tenant.encode()).hexdigest(), 16) % share.count == share.index


def next_run(control: Bucket, replica: Bucket, scope: Scope) -> tuple[int, bool]:
    """The slot of the next commit, and whether its run is worth splitting: the tenant is new, or was large.

    Raises RollbackError, WrongKeyError, IntegrityError, StoreError.
    """
    tip = records.tip(control, scope.tenant, scope.sealer)
    seq = tip.slot.seq + 1 if tip.slot else 1
    if tip.commit is None:
        return seq, True
    root = snapshot.read_root(replica, scope, tip.commit)
    return seq, root.objects >= LARGE_OBJECTS or root.bytes >= LARGE_BYTES


def await_others(
    replica: Bucket,
    scope: Scope,
    seq: int,
    share: Share,
    may_go_on: Callable[[], None],
    *,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """Return True once every other share of the run is journaled, False after two minutes without a sign of them."""
    journal = Journal(replica, scope, seq, 0, share, lambda: datetime.now(UTC))
    wanted = {str(Share(index, share.count)) for index in range(share.count)} - {str(share)}
    heard = monotonic()
    while True:
        may_go_on()
        if journal.refresh():
            heard = monotonic()
        if wanted <= journal.done:
            return True
        if monotonic() - heard > PATIENCE_SECONDS:
            return False
        sleep(_POLL_SECONDS)
