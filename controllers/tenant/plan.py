"""What a tenant would become, without a cluster: its objects and flows, as if all that lies outside were in order.

That is: stores that were verified, Secrets and keys that are there, an identity server or issuer that answers.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from domicile.api.sites import ServedZone
from domicile.api.sso import ExternalIssuer
from domicile.api.tenant import AssistantTenantSpec, AssistantTenantStatus
from domicile.controllers.egress.destinations import TENANT_KEY, TENANT_SECRET
from domicile.controllers.issuer.state import IssuerState, Metadata
from domicile.controllers.pki import holders
from domicile.controllers.pki.leaf import BUNDLE, CERTIFICATE, KEY, PAIR
from domicile.controllers.realm.desired import realm_name
from domicile.controllers.realm.state import RealmState
from domicile.controllers.tenant import (
    builders,
    front_door,
    gateway,
    identity,
    login,
    names,
    policies,
    pool,
    reach,
    way,
)
from domicile.controllers.tenant.flows import Flow, flows
from domicile.controllers.tenant.parts import labels_of, named
from domicile.controllers.tenant.rules.verdict import Verdict
from domicile.controllers.tenant.view import (
    ClaimView,
    DoorSecrets,
    Issuance,
    Ownership,
    Platform,
    Residency,
    Standing,
    TenantView,
)

Object = dict[str, Any]

LATER = "made-by-the-operator"
"""Stands for what is random or secret."""
_ID = "0" * 32
_KEYS = ({"kid": LATER},)


@dataclass(frozen=True)
class Plan:
    """``refusal``: why nothing would be made; else the ``objects`` as they would be applied, without Secrets' values,
    and the ``flows`` that they open.
    """

    refusal: Verdict | None
    objects: tuple[Object, ...] = ()
    flows: tuple[Flow, ...] = ()


def plan(name: str, spec: AssistantTenantSpec, zone: ServedZone | None, platform: Platform, now: datetime) -> Plan:
    """The plan of a tenant at its active site; ``zone`` is None where the tenant names none that is known.

    ``now`` (UTC) is when contracts and attestations must count.
    """
    view = _assumed(name, spec, zone, platform, now)
    refusal = policies.blocking(policies.judge(view))
    if refusal is not None:
        return Plan(refusal)
    objects = tuple(_without_secrets(o) for o in (*builders.build(view), *_beside(view)))
    pods = {o["metadata"]["name"]: o["spec"]["template"]["metadata"]["labels"] for o in _of(objects, "Deployment")}
    return Plan(None, objects, tuple(flows(_of(objects, "NetworkPolicy"), pods)))


def _of(objects: tuple[Object, ...], kind: str) -> list[Object]:
    return [o for o in objects if o["kind"] == kind]


def _beside(view: TenantView) -> list[Object]:
    """What other parts of the operator make in the tenant's namespace."""
    workloads = [gateway.NAME, *(a.name for a in view.spec.assistants)]
    if view.spec.access.sso is not None:
        workloads.append(front_door.NAME)
    leaves = [
        named("v1", "Secret", view.name, holders.secret_of(workload), labels_of(view))
        | {"type": "kubernetes.io/tls", "data": dict.fromkeys((CERTIFICATE, KEY, BUNDLE, PAIR), LATER)}
        for workload in workloads
    ]
    proofs = {TENANT_SECRET: bool(pool.reached(view)), way.SECRET: way.led(view), login.SECRET: login.led(view)}
    leaves += [
        named("v1", "Secret", view.name, secret, labels_of(view)) | {"type": "Opaque", "data": {TENANT_KEY: LATER}}
        for secret, is_there in proofs.items()
        if is_there
    ]
    told = identity.config_map(view)
    tried = [reach.job(view, check, {}) for check in reach.checks(view)]
    return [*leaves, *([told] if told is not None else []), *tried]


def _without_secrets(made: Object) -> Object:
    if made["kind"] != "Secret":
        return made
    return copy.deepcopy(made) | {"data": dict.fromkeys(sorted(made["data"]), LATER)}


def _assumed(
    name: str, spec: AssistantTenantSpec, zone: ServedZone | None, platform: Platform, now: datetime
) -> TenantView:
    site = zone.site if zone else ""
    sso = spec.access.sso
    made = TenantView(
        name=name,
        generation=1,
        spec=spec,
        status=AssistantTenantStatus(),
        platform=platform,
        now=now,
        created=now,
        known_zones=(zone.name,) if zone else (),
        zone=zone,
        zone_sites=tuple(s.name for s in zone.spec.sites) if zone else (),
        namespace=Ownership.OURS,
        nodes_in_region=1,
        residency=Residency(Standing.COMPLIANT),
        tenant_id=_ID,
        claim=ClaimView(1, site, stands=True, opened=True, everywhere=True),
        live_bucket=LATER,
        key_id=LATER,
        door=DoorSecrets(LATER, LATER) if sso else None,
        issuance=Issuance(installed=True) if spec.access.tls and spec.access.tls.issuer else None,
        sessions_password=LATER if sso else None,
        identity_authorities="the site's bundle" if sso else "",
        provider_secrets={p.name: LATER for p in sso.sources} if sso else {},
        vault_key=LATER.encode(),
        vault_password=LATER,
        model_keys=dict.fromkeys((p.name for p in zone.spec.model_providers), LATER) if zone else {},
        service_keys=dict.fromkeys((d.host for d in zone.spec.allowed_destinations), LATER) if zone else {},
        issuer=_issuer(sso.external) if sso and sso.external else None,
        realm=_realm(name, zone) if sso and not sso.external else None,
    )
    # TEST-NET-1 (RFC 5737): those of Services are the cluster's to give.
    return replace(made, addresses={host: (f"192.0.2.{n}",) for n, host in enumerate(names.hosts(made), 1)})


def _realm(tenant: str, zone: ServedZone | None) -> RealmState | None:
    server = zone.spec.identity if zone else None
    if server is None:
        return None
    return RealmState(f"{server.url.removesuffix('/')}/realms/{realm_name(tenant, _ID)}", keys=_KEYS)


def _issuer(external: ExternalIssuer) -> IssuerState:
    """Its metadata will say where its endpoints are; who may be reached there the zone says."""
    base = external.issuer.rstrip("/")
    ends = (f"{base}/authorize", f"{base}/token", f"{base}/keys", f"{base}/logout")
    return IssuerState(Metadata(*ends, "client_secret_basic", back_channel=True, names_itself=False), _KEYS)
