"""Whether what a realm was has let somebody in who should not be there any more: then all its sessions end. Pure.

It doesn't matter who made the difference, a person who tampered or one who changed the spec: a session that began by a
way in that is closed now, or with a role that is gone, goes with it.
"""

from __future__ import annotations

from typing import Any

from domicile.controllers.realm.desired import Desired
from domicile.controllers.realm.directories import USER_STORAGE
from domicile.controllers.realm.drift import Drift, holds

Object = dict[str, Any]

# Which provider's name belongs to whom (domicile.controllers.realm.discovery); a new one lets nobody in.
VOUCHER = "domicile.voucher."
# Sessions follow these as they run.
_FOLLOWED = {"displayName", "ssoSessionIdleTimeout", "ssoSessionMaxLifespan", "offlineSessionMaxLifespan"}


def must_end(desired: Desired, observed: Object, drift: Drift) -> bool:
    """Whether the difference is more than something that was added."""
    flows = {f["alias"] for f in observed.get("authenticationFlows", [])}
    open_providers = {p["alias"] for p in observed.get("identityProviders", []) if p.get("enabled", True)}
    stores = {c["name"] for c in observed.get("components", {}).get(USER_STORAGE, [])}
    return bool(
        drift.spare
        or drift.client
        or drift.actions
        or (drift.scope and not drift.roles)
        or any(flow.alias in flows for flow in drift.flows)
        or open_providers.intersection((*drift.providers, *drift.mappers))
        or stores.intersection(drift.directories)
        or any(_decides(desired, observed, setting) for setting in drift.settings)
    )


def _decides(desired: Desired, observed: Object, setting: str) -> bool:
    if setting == "smtpServer":
        # Somebody else's mail server may have got links; the zone's own, asked otherwise, did not.
        known, wanted = observed.get(setting) or {}, desired.settings[setting]
        return bool(known) and any(known.get(k) != wanted.get(k) for k in ("host", "port", "ssl"))
    if setting != "attributes":
        return setting not in _FOLLOWED
    wanted = {k: v for k, v in desired.settings["attributes"].items() if not k.startswith(VOUCHER)}
    return not holds(observed.get("attributes"), wanted)
