"""Accounts of a tenant's own that nobody has used for long: a pure rule over what the identity server tells of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

DAY_SECONDS = 86400.0


class Account(NamedTuple):
    """An account; ``created`` is Unix time, ``own``: its password is here, ``used``: a login since the cutoff."""

    id: str
    created: float
    enabled: bool
    own: bool
    owner: bool
    used: bool
    kept: bool


def dormant(accounts: Iterable[Account], cutoff: float, known_since: float | None) -> tuple[str, ...]:
    """Ids of the accounts to disable: without a login since ``cutoff`` (Unix time). Never the last enabled owner.

    ``known_since``: from when on every login is on record; where that is later than the cutoff nobody is judged.
    ``kept`` marks the account for emergencies.
    """
    if known_since is None or known_since > cutoff:
        return ()
    enabled = [a for a in accounts if a.enabled]
    found = [a for a in enabled if a.own and not a.kept and not a.used and a.created < cutoff]
    owners = [a for a in enabled if a.owner]
    if owners and all(o in found for o in owners):
        found.remove(max(owners))
    return tuple(a.id for a in found)
