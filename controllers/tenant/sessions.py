"""Sessions ended by an administrator: turn the request annotation into one end of all of a tenant's sessions."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import replace

from domicile.api.common import ANNOTATION_END_SESSIONS
from domicile.controllers.realm.realms import Realms
from domicile.controllers.realm.server import IdentityError
from domicile.controllers.tenant import front_door
from domicile.controllers.tenant.view import TenantView
from domicile.kube.apply import apply
from domicile.kube.client import Kube, Object
from domicile.kube.events import Events


async def end_sessions(
    kube: Kube, realms: Realms, events: Events, tenant: Object, view: TenantView, annotations: Mapping[str, str]
) -> TenantView:
    """End all sessions for a new value of the annotation; the view remembers that it was handled.

    Where the identity server can't be used now, that is told in SSOConfigured, and the request waits.
    """
    asked = annotations.get(ANNOTATION_END_SESSIONS)
    if not asked or asked == view.status.last_handled_end_sessions_at or view.zone is None:
        return view
    if view.external is not None:
        return await _forget_sessions(kube, events, tenant, view, asked)
    if view.realm is None:
        return view
    try:
        ended = await realms.end_sessions(view.zone, view.name, view.tenant_id or "")
    except IdentityError as error:
        why = (error.reason, f"The sessions of the tenant's people are not all ended yet. {error}")
        return replace(view, realm=replace(view.realm, error=why))
    message = f"All sessions of the tenant's people were ended at {view.now:%Y-%m-%d %H:%M:%S} UTC ({ended} were open)."
    await events.post(tenant, "SessionsEnded", message)
    return replace(view, status=view.status.model_copy(update={"last_handled_end_sessions_at": asked}))


async def _forget_sessions(kube: Kube, events: Events, tenant: Object, view: TenantView, asked: str) -> TenantView:
    """Seal sessions by another passphrase, so that the door knows none of the old ones. The issuer's go on."""
    external = view.external
    if view.door is None or external is None or front_door.client_secret(view) is None:
        return view
    view = replace(view, door=replace(view.door, passphrase=secrets.token_urlsafe(32)))
    await apply(kube, front_door.secret(view))
    message = (
        f"All sessions at the front door end when its pods read their Secret again, within some two minutes of"
        f" {view.now:%Y-%m-%d %H:%M:%S} UTC. Sessions at {external.issuer} are the issuer's to end."
    )
    await events.post(tenant, "SessionsEnded", message)
    return replace(view, status=view.status.model_copy(update={"last_handled_end_sessions_at": asked}))
