"""One level-based reconcile of an AssistantTenant: gather, judge, provision, build, apply, report."""

from __future__ import annotations

import asyncio
import logging
import secrets
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from domicile.api.common import API_VERSION, FINALIZER, LABEL_COMPONENT, LABEL_TENANT, LABEL_TENANT_ID
from domicile.api.conditions import Condition, ConditionType, merge
from domicile.api.sites import ServedZone
from domicile.api.tenant import AssistantTenantStatus
from domicile.backup.errors import BackupError
from domicile.backup.stores.base import StoreError
from domicile.controllers.egress.accounts import of_assistants, of_doors, of_tenant
from domicile.controllers.egress.keeper import Egress
from domicile.controllers.issuer.issuers import Issuers
from domicile.controllers.issuer.state import IssuerState
from domicile.controllers.pki import holders
from domicile.controllers.pki.keeper import Keeper
from domicile.controllers.realm.desired import Subject, realm_name
from domicile.controllers.realm.realms import Realms
from domicile.controllers.realm.server import IdentityError
from domicile.controllers.realm.state import RealmState
from domicile.controllers.tenant import (
    builders,
    by_name,
    consents,
    front_door,
    gateway,
    identity,
    issuance,
    login,
    network,
    policies,
    pool,
    status,
    way,
)
from domicile.controllers.tenant.access import STORE_SECRET
from domicile.controllers.tenant.checks import Checks
from domicile.controllers.tenant.gather import Gatherer, had_door, with_storage
from domicile.controllers.tenant.leases import Leases
from domicile.controllers.tenant.minting import Minting
from domicile.controllers.tenant.parts import emptied, labels_of
from domicile.controllers.tenant.replication import awaits_snapshot, request_replication
from domicile.controllers.tenant.rules.verdict import Verdict
from domicile.controllers.tenant.session_store import SessionStore
from domicile.controllers.tenant.sessions import end_sessions
from domicile.controllers.tenant.storage import Known
from domicile.controllers.tenant.view import DoorSecrets, Ownership, Platform, TenantView
from domicile.controllers.zones import Zones
from domicile.kube.apply import apply
from domicile.kube.client import InvalidError, Kube
from domicile.kube.events import Events
from domicile.kube.status import add_finalizer, patch_status, remove_finalizer
from domicile.metrics import Metrics

Object = dict[str, Any]

log = logging.getLogger(__name__)

_WHILE_PROGRESSING = 2.0
_BEFORE_REALM_IS_CLOSED = 30.0
_REALM_IS_GIVEN_UP = timedelta(hours=1)
_PASSES = 4
_OF_ASSISTANTS = (
    ("apps/v1", "Deployment"),
    ("v1", "Service"),
    ("policy/v1", "PodDisruptionBudget"),
    ("v1", "ServiceAccount"),
)
_CHILDREN = (
    *_OF_ASSISTANTS,
    ("batch/v1", "Job"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
    (by_name.API, by_name.KIND),
)
# What opens vault, models, sessions and live bucket; a tenant that is no more needs none of it.
_SECRETS = (gateway.NAME, front_door.NAME, STORE_SECRET)


class TenantController:
    """Reconciles tenants. One call at a time for each name (the queue sees to it)."""

    def __init__(
        self,
        kube: Kube,
        events: Events,
        zones: Zones,
        realms: Realms,
        issuers: Issuers,
        sessions: SessionStore,
        egress: Egress,
        pki: Keeper,
        metrics: Metrics,
        platform: Platform,
        resync_seconds: float,
        models: Path,
    ) -> None:
        """``models``: folder of the model providers' keys."""
        self._kube = kube
        self._events = events
        self._zones = zones
        self._realms = realms
        self._issuers = issuers
        self._platform = platform
        self._resync = resync_seconds
        self._gatherer = Gatherer(kube, zones, Leases(pki, platform), platform, models)
        self._sessions = sessions
        self._egress = egress
        self._pki = pki
        self._checks = Checks(kube)
        self._minting = Minting(kube, zones)
        self._metrics = metrics

    async def reconcile(self, name: str) -> float | None:
        """Bring one tenant to its desired state; returns seconds to the next look, None where it is gone."""
        tenant = await self._kube.read(API_VERSION, "AssistantTenant", name)
        if tenant is None:
            return None
        if tenant["metadata"].get("deletionTimestamp"):
            return await self._retire(tenant)
        if tenant["spec"].get("suspend"):
            await self._say_suspended(tenant)
            return self._resync
        view = await self._gatherer.gather(tenant)
        blocked = policies.blocking(policies.judge(view))
        if blocked is None:
            tenant = await add_finalizer(self._kube, tenant, FINALIZER)
            view = await self._provision(tenant, view)
            blocked = policies.blocking(policies.judge(view))
        if blocked is None:
            view = await self._minting.see_to(await self._with_door(await self._with_vault(view)))
            view = await self._apply(view)
            view = await self._checks.see_to(view) if view.namespace is Ownership.OURS else view
            view = await self._see_to_realm(tenant, view)
            view = await end_sessions(self._kube, self._realms, self._events, tenant, view, _annotations(tenant))
            view = await request_replication(self._kube, view, _annotations(tenant))
        else:
            await self._limit_gateway(view)
        await self._see_to_egress(view)
        if blocked is not None and view.status.realm is not None:
            # Who may log in has nothing to do with where data may lie.
            view = await self._see_to_realm(tenant, view)
        return await self._report(tenant, view)

    async def _provision(self, tenant: Object, view: TenantView) -> TenantView:
        """Give the tenant an identity, bucket, key and claim, as far as this site's role goes."""
        zone = view.zone
        if zone is None or view.storage_error is not None or view.namespace is Ownership.FOREIGN:
            return view
        home = view.home_site == zone.site
        if view.tenant_id is None:
            if not home or view.peer_error is not None:
                return view
            # The id is on record before any store knows it: a crash leaves no tenant without an owner.
            minted = view.status.model_copy(update={"tenant_id": secrets.token_hex(16)})
            tenant.update(await patch_status(self._kube, tenant, minted.to_wire()))
            view = replace(view, tenant_id=minted.tenant_id, status=minted)
        if view.claim is None and view.peer_error is not None:
            return view
        storage = self._zones.storage(zone)
        document = await self._document(tenant, view)
        try:
            # Each pass adds one thing and looks again: bucket, then key and claim, then the mirror.
            for _ in range(_PASSES):
                known = Known(view.live_bucket, view.claim, view.peer_error is None)
                if not await asyncio.to_thread(storage.provision, view.tenant_id or "", document, known, home=home):
                    break
                observed = await asyncio.to_thread(storage.observe, view.tenant_id, view.status.last_commit)
                view = with_storage(view, observed, self._zones)
        except (StoreError, BackupError) as error:
            log.warning("provisioning failed", extra={"tenant_id": view.tenant_id, "error": type(error).__name__})
            return replace(view, storage_error=str(error))
        return view

    async def _document(self, tenant: Object, view: TenantView) -> Object:
        """What the peer needs to run the tenant: its spec and the Secrets that it names."""
        names = view.spec.named_secrets
        found = await asyncio.gather(*(self._kube.read("v1", "Secret", n, view.name) for n in names))
        return {
            "name": view.name,
            "labels": tenant["metadata"].get("labels", {}),
            "spec": view.spec.model_copy(update={"home_site": view.home_site}).to_wire(),
            "secrets": {s["metadata"]["name"]: s.get("data", {}) for s in found if s is not None},
        }

    async def _apply(self, view: TenantView) -> TenantView:
        if view.live_bucket is not None and view.tenant_id is not None:
            built = builders.build(view)
        elif view.namespace is Ownership.OURS:
            # The stores don't say what should run; that it stays isolated needs no store.
            built = [builders.namespace(view), *network.network_policies(view), *by_name.policies(view)]
        else:
            return view
        if view.issuance is not None and view.issuance.asked and not issuance.wanted(view):
            await self._kube.delete(issuance.API, issuance.KIND, issuance.NAME, view.name)
        refusal = uncertified = None
        # Its addresses may be others' by now.
        self._checks.gone(view.name)
        for wanted in built:
            try:
                live, _ = await apply(self._kube, wanted)
            except InvalidError as error:
                # Its text quotes values, and those of a Secret are nobody's business.
                why = "" if wanted["kind"] == "Secret" else f": {error}"
                refusal = f"The API server refuses {wanted['kind']} {wanted['metadata']['name']}{why}"
                break
            self._checks.seen(view, live)
            if wanted["kind"] == "Namespace" and view.tenant_id is not None:
                # Before the pods, which wait for it.
                uncertified = await self._certify(view)
        else:
            await self._remove_assistants(view)
            await self._remove_names(view)
        # Seen anew, so that the status speaks of what is there now.
        return replace(await self._gatherer.refresh(view), refusal=refusal or uncertified)

    async def _limit_gateway(self, view: TenantView) -> None:
        """While nothing may be changed: whom the zone no longer vouches for is asked no more all the same."""
        told = await self._kube.read("v1", "ConfigMap", gateway.NAME, view.name)
        if told is not None and told["metadata"].get("labels", {}).get(LABEL_TENANT) == view.name:
            await apply(self._kube, gateway.config_map(view))

    async def _see_to_egress(self, view: TenantView) -> None:
        """What the tenant may reach is what its zone allows today, also while something else is wrong with it."""
        if view.tenant_id is None or view.namespace is not Ownership.OURS:
            return
        labels = labels_of(view) | {LABEL_TENANT_ID: view.tenant_id}
        assistants, doors = of_assistants(view.tenant_id), of_doors(view.tenant_id)
        await self._egress.see_to(view.name, view.tenant_id, pool.reached(view), labels)
        await self._egress.see_to(view.name, assistants, way.destinations(view), labels, way.SECRET)
        await self._egress.see_to(view.name, doors, login.destinations(view), labels, login.SECRET)

    async def _certify(self, view: TenantView) -> str | None:
        """Give the pods the certificates that they show to each other; what keeps one from them, if anything."""
        held = [holders.assistant(view.name, a.name) for a in view.spec.assistants]
        held.append(holders.gateway(view.name))
        if view.spec.access.sso is not None:
            held.append(holders.door(view.name))
        standings = [await self._pki.see_to(holder, labels_of(view)) for holder in held]
        self._metrics.pods_certificates(view.name, [s.until for s in standings])
        return next((s.fault for s in standings if s.fault is not None), None)

    async def _remove_assistants(self, view: TenantView) -> None:
        """An assistant that the spec no longer has runs no more; what it wrote stays in the live bucket."""
        for name in view.workloads.keys() - {front_door.NAME, gateway.NAME, *(a.name for a in view.spec.assistants)}:
            # The Deployment last: by it the others are found again.
            for api_version, kind in reversed(_OF_ASSISTANTS):
                await self._kube.delete(api_version, kind, name, view.name)

    async def _remove_names(self, view: TenantView) -> None:
        """What is no longer reached by name is no longer open by it."""
        wanted = {p["metadata"]["name"] for p in by_name.policies(view)}
        for name in sorted(set(view.by_name or ()) - wanted):
            await self._kube.delete(by_name.API, by_name.KIND, name, view.name)

    async def _with_vault(self, view: TenantView) -> TenantView:
        """The view with what gateway and front door need of the session store, minted where it is missing."""
        if view.tenant_id is None:
            return view
        key = view.vault_key or secrets.token_bytes(gateway.VAULT_KEY_BYTES)
        known = await self._sessions.passwords()
        return replace(view, vault_key=key, vault_password=known.gateways, sessions_password=known.doors)

    async def _with_door(self, view: TenantView) -> TenantView:
        """The view with what the front door needs beyond the spec, minted where it is missing."""
        if view.spec.access.sso is None or view.tenant_id is None or view.zone is None:
            return view
        authorities = self._realms.authorities(view.zone)
        return replace(
            view,
            door=view.door or DoorSecrets(secrets.token_urlsafe(32), secrets.token_urlsafe(32)),
            identity_authorities=authorities,
            issuer=await self._look_at_issuer(view, authorities),
        )

    async def _look_at_issuer(self, view: TenantView, authorities: str) -> IssuerState | None:
        if view.external is None or view.approved_issuer is None:
            return None
        return await self._issuers.look(
            view.external, view.approved_issuer, authorities, front_door.client_secret(view)
        )

    async def _see_to_realm(self, tenant: Object, view: TenantView) -> TenantView:
        """People log in by a realm that is as the spec asks; what others changed there is told."""
        access = view.spec.access
        if view.zone is None or view.tenant_id is None:
            return view
        if access.sso is None or access.host is None:
            await self._remove_door(view)
            return await self._close_realm(view, view.zone, view.tenant_id)
        if view.external is not None:
            return await self._tell_keys(await self._close_realm(view, view.zone, view.tenant_id))
        if view.door is None:
            return view
        subject = Subject(
            tenant=view.name,
            tenant_id=view.tenant_id,
            assistants=tuple(a.name for a in view.spec.assistants),
            host=access.host,
            client_secret=view.door.client_secret,
            secrets=view.provider_secrets,
            versions=view.secret_versions,
        )
        noted = await self._note_realm(tenant, view.status, realm_name(view.name, view.tenant_id))
        realm = await self._realms.see_to(view.zone, subject, access.sso)
        if realm.mended:
            message = f"Realm {realm.issuer} was brought to what the spec asks for: {', '.join(realm.mended)}."
            await self._events.post(tenant, "RealmMended", message[:1024], type_="Normal")
        for alert in realm.alerts:
            # Given with each state until the next look: what can't be posted now is posted then.
            await self._events.post(tenant, alert.reason, alert.message, type_="Warning")
        return await self._tell_keys(replace(view, realm=realm, status=noted))

    async def _note_realm(self, tenant: Object, known: AssistantTenantStatus, name: str) -> AssistantTenantStatus:
        """The realm is on record before it is made: it is closed one day, whatever happens in between."""
        if known.realm == name:
            return known
        noted = known.model_copy(update={"realm": name})
        tenant.update(await patch_status(self._kube, tenant, noted.to_wire()))
        return noted

    async def _tell_keys(self, view: TenantView) -> TenantView:
        keys = identity.config_map(view)
        if keys is not None and view.namespace is Ownership.OURS:
            await apply(self._kube, keys)
        return view

    async def _report(self, tenant: Object, view: TenantView) -> float:
        self._metrics.certificate(view.name, view.certificate.until if view.certificate else None)
        verdicts = policies.judge(view)
        new = status.build(view, verdicts, _annotations(tenant))
        await patch_status(self._kube, tenant, new.to_wire())
        await self._tell(tenant, view.status.conditions, new.conditions)
        settled = next(c for c in new.conditions if c.type == ConditionType.READY).status == "True"
        waiting = awaits_snapshot(view) or not (settled or policies.blocking(verdicts))
        return _WHILE_PROGRESSING if waiting else self._resync

    async def _tell(self, tenant: Object, old: list[Condition], new: list[Condition]) -> None:
        """One event for each condition whose status or reason changed."""
        before = {c.type: (c.status, c.reason) for c in old}
        for c in new:
            if c.type not in {ConditionType.RECONCILING, ConditionType.STALLED} and before.get(c.type) != (
                c.status,
                c.reason,
            ):
                await self._events.post(
                    tenant, c.reason, f"{c.type}: {c.message}", type_="Warning" if c.status == "False" else "Normal"
                )

    async def _remove_door(self, view: TenantView) -> None:
        if had_door(view.status):
            for api_version, kind, name in front_door.EVERYTHING:
                await self._kube.delete(api_version, kind, name, view.name)
            await self._ask_no_more(view.name)

    async def _close_realm(self, view: TenantView, zone: ServedZone, tenant_id: str) -> TenantView:
        """Nobody logs in by the realm any more, if there was one: it stays, and lets nobody in."""
        if view.status.realm is None:
            return view
        if zone.spec.identity is None:
            why = ("NoIdentityServer", "The realm is not closed: its server is not known.")
            return replace(view, realm=RealmState("", error=why))
        try:
            await self._realms.close(zone, view.name, tenant_id)
        except IdentityError as error:
            why = (error.reason, f"The tenant's realm is not closed yet. {error}")
            return replace(view, realm=RealmState("", error=why))
        return replace(view, status=view.status.model_copy(update={"realm": None}))

    async def _say_suspended(self, tenant: Object) -> None:
        known = AssistantTenantStatus.model_validate(tenant.get("status") or {})
        verdict = Verdict(
            ConditionType.RECONCILING,
            "True",
            "Suspended",
            "spec.suspend is set: what runs goes on, nothing is changed.",
        )
        kept = [c for c in known.conditions if c.type not in {ConditionType.RECONCILING, ConditionType.STALLED}]
        shown = [*kept, status.condition(verdict, tenant["metadata"]["generation"])]
        update = {"conditions": merge(known.conditions, shown, self._gatherer.now())}
        await patch_status(self._kube, tenant, known.model_copy(update=update).to_wire())

    async def _retire(self, tenant: Object) -> float | None:
        """Deleted: isolate and stop at once, keep the data, say where it is, then let the object go."""
        if FINALIZER not in tenant["metadata"].get("finalizers", []):
            return None
        name = tenant["metadata"]["name"]
        self._metrics.certificate(name, None)
        self._metrics.pods_certificates(name, [])
        self._checks.gone(name)
        self._minting.gone(name)
        namespace = await self._kube.read("v1", "Namespace", name)
        ours = namespace is not None and namespace["metadata"].get("labels", {}).get(LABEL_TENANT) == name
        if ours and not await self._stop(name, tenant["spec"]["zone"]):
            return _WHILE_PROGRESSING
        known = AssistantTenantStatus.model_validate(tenant.get("status") or {})
        if known.tenant_id is not None and not await self._leave(tenant, known, known.tenant_id):
            return _BEFORE_REALM_IS_CLOSED
        await self._events.post(tenant, "Deleted", _farewell(known))
        await remove_finalizer(self._kube, tenant, FINALIZER)
        return None

    async def _stop(self, name: str, zone: str) -> bool:
        """Whether nothing of a deleted tenant runs any more, nor anything is left that would open what it had."""
        await apply(self._kube, network.isolation(name, zone))
        for api_version, kind in _CHILDREN:
            labels = f"{LABEL_TENANT}={name}"
            for child in await self._kube.list_if_known(api_version, kind, name, labels=labels) or []:
                if child["metadata"]["name"] != network.DENY_ALL:
                    await self._kube.delete(api_version, kind, child["metadata"]["name"], name)
        for config in (identity.CONFIG, front_door.NAME, gateway.NAME, consents.NAME):
            await self._kube.delete("v1", "ConfigMap", config, name)
        await self._ask_no_more(name)
        if await self._kube.list("v1", "Pod", name, labels=f"{LABEL_COMPONENT} in (assistant,front-door,gateway)"):
            return False
        for secret in _SECRETS:
            if await self._kube.read("v1", "Secret", secret, name) is not None:
                await apply(self._kube, emptied(secret, name, zone))
        return True

    async def _ask_no_more(self, namespace: str) -> None:
        """Nobody renews a certificate that no door shows."""
        if issuance.ours(await self._kube.read(issuance.API, issuance.KIND, issuance.NAME, namespace)):
            await self._kube.delete(issuance.API, issuance.KIND, issuance.NAME, namespace)

    async def _leave(self, tenant: Object, known: AssistantTenantStatus, tenant_id: str) -> bool:
        """Whether nothing of the tenant is left but its data."""
        name = tenant["metadata"]["name"]
        for account in of_tenant(tenant_id):
            await self._egress.see_to(name, account, (), {})
        zone = await self._zones.served(tenant["spec"]["zone"])
        if zone is None:
            return True
        await self._leave_stores(name, zone, tenant_id)
        return await self._leave_realm(tenant, zone, known, tenant_id)

    async def _leave_stores(self, name: str, zone: ServedZone, tenant_id: str) -> None:
        try:
            await asyncio.to_thread(self._zones.storage(zone).retire, tenant_id, name)
        except BackupError as error:
            log.warning("deletion not mirrored", extra={"tenant_id": tenant_id, "error": type(error).__name__})

    async def _leave_realm(
        self, tenant: Object, zone: ServedZone, known: AssistantTenantStatus, tenant_id: str
    ) -> bool:
        """Whether the realm is closed, or was given up: a server that never comes back must not keep the name."""
        if known.realm is None:
            return True
        try:
            await self._realms.close(zone, tenant["metadata"]["name"], tenant_id)
        except IdentityError as error:
            asked = datetime.fromisoformat(tenant["metadata"]["deletionTimestamp"])
            given_up = self._gatherer.now() - asked > _REALM_IS_GIVEN_UP
            told = f"The tenant's realm {realm_name(tenant['metadata']['name'], tenant_id)} is not closed. {error}"
            await self._events.post(
                tenant, error.reason, f"{told} Close it by hand." if given_up else told, type_="Warning"
            )
            return given_up
        return True


def _annotations(tenant: Object) -> dict[str, str]:
    return dict(tenant["metadata"].get("annotations") or {})


def _farewell(known: AssistantTenantStatus) -> str:
    if known.tenant_id is None or known.storage is None:
        return "The tenant had no data here."
    commit = known.last_commit
    copy = f"; snapshot {commit.seq} lies at {commit.target}" if commit else ""
    return (
        f"Stopped and isolated. The data was kept: tenant id {known.tenant_id}, live bucket {known.storage.bucket}"
        f" at {known.site}{copy}."
    )
