"""Directories that refused our password. Pure: which of them are not to be asked now.

Directories lock an account after a few wrong passwords, also for who knows the right one. So the same password is tried
once, and again only when somebody has touched its Secret or the spec, or when an hour is over.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from domicile.controllers.realm.desired import Desired

# Locks that open by themselves mostly do so within half of it.
REFUSED_SECONDS = 3600.0


@dataclass(frozen=True)
class Refusal:
    """A digest of what was refused, when (seconds of a clock that only goes forward), and what was told of it."""

    tried: str
    at: float
    told: str


def attempts(desired: Desired, versions: Mapping[str, str]) -> dict[str, str]:
    """By directory, a digest of what would be tried. ``versions``: resource versions of the Secrets, by directory."""
    return {
        f.name: hashlib.sha256(json.dumps([f.component, versions.get(f.name)], sort_keys=True).encode()).hexdigest()
        for f in desired.federations
    }


def spared(known: Mapping[str, Refusal], tries: Mapping[str, str], now: float) -> dict[str, str]:
    """The directories that are not to be asked now, and what to tell of each."""
    return {
        name: refusal.told
        for name, refusal in known.items()
        if tries.get(name) == refusal.tried and now - refusal.at < REFUSED_SECONDS
    }


def told(message: str, wall: float) -> str:
    """What was found (at the Unix time ``wall``), and when it is looked at again."""
    again = datetime.fromtimestamp(wall + REFUSED_SECONDS, UTC)
    return (
        f"{message} It is not asked again before {again:%Y-%m-%d %H:%M} UTC, unless the Secret or the spec changes:"
        " wrong passwords lock accounts."
    )


def remember(
    known: Mapping[str, Refusal], kept: Collection[str], new: Mapping[str, str], tries: Mapping[str, str], now: float
) -> dict[str, Refusal]:
    """The refusals that still count: those of ``kept``, and the ``new`` ones with what is told of them."""
    return {name: known[name] for name in kept} | {name: Refusal(tries[name], now, text) for name, text in new.items()}
