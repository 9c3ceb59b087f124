"""Bring a tenant's realm to what it should be, and say what was mended.

A realm is created closed and is closed while a flow in use is rebuilt: nobody logs in by half a flow.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from keycloak import KeycloakAdmin
from keycloak.exceptions import KeycloakError, KeycloakGetError, KeycloakPutError, raise_error_from_response

from domicile.controllers.realm import birth, discovery, sessions
from domicile.controllers.realm.desired import BREACHED, LOGINS_KNOWN_SINCE, OWNER, Desired
from domicile.controllers.realm.discovery import Endpoints
from domicile.controllers.realm.drift import Drift, compare
from domicile.controllers.realm.mend import actions, client, directories, flows, providers, rest, spare
from domicile.controllers.realm.server import IdentityError

Object = dict[str, Any]

_PASSES = 3
# Settings that decide which logins are on record.
_RECORD = {"eventsEnabled", "eventsExpiration", "enabledEventTypes"}


class ConflictError(IdentityError):
    """The realm is there and belongs to somebody else."""

    reason = "RealmConflict"


class UnstableError(IdentityError):
    """The realm does not stay as it was mended."""

    reason = "RealmDrifts"


class ListMissingError(IdentityError):
    """The identity server doesn't have the list of breached passwords."""

    reason = "BreachedListMissing"


@dataclass(frozen=True)
class Outcome:
    """What was mended, in words; what is wrong with which identity provider, and the endpoints of all others; which
    directories can't be used now, and why; which of these refused our password just now; the public keys (RFC 7517) by
    which its tokens are signed.
    """

    mended: tuple[str, ...]
    faults: Mapping[str, str]
    endpoints: Mapping[str, Endpoints]
    unreachable: Mapping[str, str]
    refused: tuple[str, ...]
    keys: tuple[Object, ...]


async def observe(admin: KeycloakAdmin, name: str) -> Object | None:
    """The export of a realm; None where there is none."""
    try:
        await admin.a_get_realm(name)
    except KeycloakGetError as error:
        if error.response_code == 404:
            return None
        raise
    return dict(await admin.a_export_realm(export_clients=True, export_groups_and_role=True))


async def close(admin: KeycloakAdmin, name: str, owner: str) -> None:
    """Let nobody in any more, where the realm is there and the owner's."""
    observed = await observe(admin, name)
    if observed is not None and _owner(observed) in {None, owner}:
        await admin.a_update_realm(name, {"enabled": False})


async def ensure(
    admin: KeycloakAdmin,
    desired: Desired,
    known: Mapping[str, Endpoints],
    *,
    changed: bool,
    spared: Mapping[str, str] | None = None,
) -> Outcome:
    """Mend what differs. ``changed``: the spec may have, so write what no export shows, too.

    ``known``: the endpoints that providers named earlier. ``spared``: the directories that are not to be asked now, and
    why. Raises ConflictError, UnstableError, ListMissingError,
    KeycloakError.
    """
    mended: list[str] = []
    observed = await observe(admin, desired.name)
    fresh = observed is None
    if observed is None:
        await admin.a_create_realm(birth.representation(desired))
        mended.append(f"realm {desired.name}")
        observed = await observe(admin, desired.name) or {}
    if _owner(observed) not in {None, desired.owner}:
        raise ConflictError(f"Realm {desired.name} is there and is not this tenant's; it was left alone. Rename it.")
    desired, faults, endpoints = await discovery.complete(admin, desired, observed, known)
    drift, secrets = compare(desired, observed), changed
    try:
        for _ in range(_PASSES):
            if not secrets and drift == Drift():
                break
            if not fresh:
                mended += drift.told()
            await _mend(admin, desired, observed, drift, secrets=secrets)
            if not fresh and sessions.must_end(desired, observed, drift):
                # Whoever got in by what was there before has to show again who they are.
                await rest.post(admin, "logout-all")
            secrets = False
            observed = await observe(admin, desired.name) or {}
            drift = compare(desired, observed)
        if left := ", ".join(drift.told()):
            raise UnstableError(
                f"Realm {desired.name} does not stay as it was mended: {left}. It is closed until it does. Does"
                " somebody else write it?"
            )
    except (UnstableError, KeycloakError):
        # A way in may be left open, and with it whoever used it.
        await admin.a_update_realm(desired.name, {"enabled": False})
        await rest.post(admin, "logout-all")
        raise
    silent, refused = await _ask(admin, desired, spared or {})
    return Outcome(tuple(mended), faults, endpoints, silent, refused, await _keys(admin, desired.name))


async def _ask(
    admin: KeycloakAdmin, desired: Desired, spared: Mapping[str, str]
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Which directories can't be used now, and why, and which of them refused our password; ``spared`` as given."""
    asked = [f for f in desired.federations if f.name not in spared]
    found = {f.name: fault for f in asked if (fault := await directories.fault(admin, f)) is not None}
    silent = {**spared, **{name: fault.message for name, fault in found.items()}}
    return silent, tuple(name for name, fault in found.items() if fault.refused)


async def _keys(admin: KeycloakAdmin, name: str) -> tuple[Object, ...]:
    answer = await admin.connection.a_raw_get(f"realms/{name}/protocol/openid-connect/certs")
    found: Any = raise_error_from_response(answer, KeycloakGetError)
    return tuple(sorted((k for k in found["keys"] if k.get("use") == "sig"), key=lambda k: str(k["kid"])))


def _owner(observed: Object) -> str | None:
    owner: str | None = observed.get("attributes", {}).get(OWNER)
    return owner


async def _mend(admin: KeycloakAdmin, desired: Desired, observed: Object, drift: Drift, *, secrets: bool) -> None:
    """One pass over what differs; ``secrets``: what holds a secret is written, though it may not differ."""
    built = {f["alias"]: f["id"] for f in observed["authenticationFlows"]}
    if any(flow.alias in built for flow in drift.flows):
        await admin.a_update_realm(desired.name, {"enabled": False})
    for flow in drift.flows:
        await flows.build(admin, flow, built.get(flow.alias))
    for role in drift.roles:
        await admin.a_create_realm_role({"name": role}, skip_exists=True)
    if drift.client or secrets:
        await client.write(admin, desired, observed)
    if drift.scope:
        await client.scope(admin, desired, observed)
    await providers.write(admin, desired, observed, drift, secrets=secrets)
    for federation in desired.federations:
        if secrets or federation.name in drift.directories:
            await directories.write(admin, federation)
    for action in drift.actions:
        await actions.switch(admin, observed, action, on=True)
    await spare.remove(admin, desired, observed, drift.spare)
    if drift.settings or drift.flows or (secrets and "password" in desired.settings["smtpServer"]):
        await _settings(admin, desired, drift)
    await flows.forget(admin, drift.old_flows)


async def _settings(admin: KeycloakAdmin, desired: Desired, drift: Drift) -> None:
    """Write the settings. The server takes none at all where it lacks the list: the others must hold nonetheless."""
    # Some fields go together, and attributes that are not named are forgotten: so all are named.
    present = await admin.a_get_realm(desired.name)
    attributes = {**present.get("attributes", {}), **desired.settings["attributes"]}
    if LOGINS_KNOWN_SINCE not in attributes or _RECORD.intersection(drift.settings):
        attributes[LOGINS_KNOWN_SINCE] = str(int(time.time()))
    wanted = {**present, **desired.settings, "attributes": attributes}
    policy, _, breached = str(wanted["passwordPolicy"]).partition(f" and {BREACHED}(")
    try:
        await admin.a_update_realm(desired.name, wanted)
    except KeycloakPutError as error:
        if error.response_code != 500 or not breached:
            raise
    else:
        return
    await admin.a_update_realm(desired.name, {**wanted, "passwordPolicy": policy})
    name = breached.removesuffix(")")
    raise ListMissingError(
        f"The identity server can't read the list of breached passwords {name}: put it into its folder"
        " data/password-blacklists, or correct spec.access.sso.passwords.breachedList. All else is as asked for."
    )
