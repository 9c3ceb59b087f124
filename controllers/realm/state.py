"""What became of a tenant's realm, as its controller tells it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from domicile.controllers.realm.watch import Alert


@dataclass(frozen=True)
class RealmState:
    """``mended``: what was otherwise than asked for, in words. ``faults``: what is wrong with which identity provider.

    ``unreachable``: which directories can't be used now, and why. ``error``: reason and message where the realm could
    not be seen to. ``mail``: reason and message where the zone's mail server takes no mail. ``alerts``: what of the
    last look at its logins a person should know. ``keys``: the public keys of its tokens (RFC 7517); none while they
    are not known.
    """

    issuer: str
    mended: tuple[str, ...] = ()
    faults: Mapping[str, str] = field(default_factory=dict)
    unreachable: Mapping[str, str] = field(default_factory=dict)
    error: tuple[str, str] | None = None
    mail: tuple[str, str] | None = None
    alerts: tuple[Alert, ...] = ()
    keys: tuple[Mapping[str, Any], ...] = ()
