"""What is: read the tenant, its zone, its objects in the cluster and its state in the stores into one view."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from domicile.api.common import (
    API_VERSION,
    LABEL_COMPONENT,
    LABEL_INSTANCE,
    LABEL_REGION,
    LABEL_TENANT,
    LABEL_TENANT_ID,
)
from domicile.api.conditions import ConditionType
from domicile.api.restore import RestoreStatus
from domicile.api.sites import ServedZone
from domicile.api.tenant import AssistantTenantSpec, AssistantTenantStatus, Role
from domicile.controllers.door import words
from domicile.controllers.tenant import by_name, certificate, checks, front_door, gateway, issuance, model_keys, names
from domicile.controllers.tenant.leases import Leases
from domicile.controllers.tenant.network import network_policies
from domicile.controllers.tenant.rules.door import NO_DOOR
from domicile.controllers.tenant.storage import Observed
from domicile.controllers.tenant.view import (
    Certificate,
    DoorSecrets,
    Issuance,
    Ownership,
    Platform,
    TenantView,
    Workload,
)
from domicile.controllers.zones import Zones
from domicile.kube.client import Kube

Object = dict[str, Any]

# Waiting reasons (kubelet) that time does not heal, and what a person should do.
_TROUBLES = {
    "ErrImagePull": "its image can't be pulled. Correct spec.assistants[].image or the registry's credentials.",
    "ImagePullBackOff": "its image can't be pulled. Correct spec.assistants[].image or the registry's credentials.",
    "ErrImageNeverPull": "its image is not on the node. Correct spec.assistants[].image.",
    "InvalidImageName": "its image name is invalid. Correct spec.assistants[].image.",
    "CreateContainerConfigError": "a container can't be configured. Look at the pod's events.",
    "CrashLoopBackOff": "a container keeps crashing. Look at its logs.",
}
# Volumes that hold nothing of their own, or go with the pod.
_TRANSIENT = {"emptyDir", "ephemeral", "configMap", "secret", "downwardAPI", "projected", "image"}


class Gatherer:
    """Builds views. Reads only."""

    def __init__(self, kube: Kube, zones: Zones, leases: Leases, platform: Platform, models: Path) -> None:
        """``models``: folder of the providers' keys."""
        self._kube = kube
        self._zones = zones
        self._leases = leases
        self._platform = platform
        self._models = models

    async def gather(self, tenant: Object) -> TenantView:
        """The view of one AssistantTenant. Raises only what the API server itself refuses."""
        name = tenant["metadata"]["name"]
        spec = AssistantTenantSpec.model_validate(tenant["spec"])
        status = AssistantTenantStatus.model_validate(tenant.get("status") or {})
        known = await self._zones.all()
        served = await self._zones.served(spec.zone)
        view = TenantView(
            name=name,
            generation=tenant["metadata"]["generation"],
            spec=spec,
            status=status,
            platform=self._platform,
            now=self.now(),
            created=datetime.fromisoformat(tenant["metadata"]["creationTimestamp"]),
            known_zones=tuple(sorted(known)),
            zone=served,
            zone_sites=tuple(s.name for s in known[spec.zone].sites) if spec.zone in known else (),
            tenant_id=status.tenant_id,
            restoring=await self._restoring(status.restore),
        )
        if served is None:
            return view
        observed = await asyncio.to_thread(self._zones.storage(served).observe, status.tenant_id, status.last_commit)
        return await self._with_cluster(with_storage(view, observed, self._zones), served)

    @staticmethod
    def now() -> datetime:
        """The time that verdicts are given at (UTC)."""
        return datetime.now(UTC)

    async def refresh(self, view: TenantView) -> TenantView:
        """The view with the cluster's part read again."""
        return view if view.zone is None else await self._with_cluster(view, view.zone)

    async def _with_cluster(self, view: TenantView, served: ServedZone) -> TenantView:
        kube, name = self._kube, view.name
        namespace, named = await asyncio.gather(
            kube.read("v1", "Namespace", name), kube.list_if_known(by_name.API, by_name.KIND, name)
        )
        view = replace(
            view,
            by_name=_own_names(named, name),
            namespace=_ownership(namespace, name),
            nodes_in_region=len(await kube.list("v1", "Node", labels=f"{LABEL_REGION}={served.own.region}")),
        )
        if view.namespace is not Ownership.OURS:
            return replace(view, missing_secrets=(), policies_missing=tuple(name for _, name in _own_policies(view)))
        secrets, deployments, policies, pods, claims, jobs = await asyncio.gather(
            self._secrets(view),
            kube.list("apps/v1", "Deployment", name, labels=f"{LABEL_TENANT}={name}"),
            kube.list("networking.k8s.io/v1", "NetworkPolicy", name),
            kube.list("v1", "Pod", name),
            kube.list("v1", "PersistentVolumeClaim", name),
            kube.list("batch/v1", "Job", name, labels=checks.LABELS),
        )
        # What an earlier tenant of the name left is not this one's.
        own = {n: s for n, s in secrets.items() if s is not None and _owner(s) in {None, view.tenant_id}}
        present = {(p["kind"], p["metadata"]["name"]) for p in policies}
        present |= {(by_name.KIND, name) for name in view.by_name or ()}
        ours = _own_policies(view)
        return replace(
            view,
            missing_secrets=tuple(n for n in secrets if n not in own),
            door=await self._door_secrets(view),
            vault_key=await self._vault_key(view),
            model_keys=model_keys.read(self._models, served.spec.model_providers),
            service_keys=model_keys.of_services(self._models, served.spec.allowed_destinations),
            certificate=_certificate(view, own),
            issuance=await self._issuance(view),
            provider_secrets=_provider_secrets(view, own),
            secret_versions=_secret_versions(view, own),
            copied_secrets=tuple(n for n, s in secrets.items() if s is not None and _owner(s) == view.tenant_id),
            mirrored_secrets=await self._mirrored(view, served) if secrets else {},
            workloads={d["metadata"]["name"]: _workload(d, pods) for d in deployments},
            policies_missing=tuple(name for kind, name in ours if (kind, name) not in present),
            policies_foreign=tuple(sorted(name for _, name in _opening(policies, named or []) - set(ours))),
            lease_refusal=await self._leases.refusal(view.tenant_id or "") if view.role is Role.ACTIVE else None,
            replication_failure=await self._replication_failure(view),
            volumes=_volumes(claims, [*deployments, *pods]),
            runs=checks.runs(jobs, pods),
            addresses=await self._addresses(view),
        )

    async def _addresses(self, view: TenantView) -> dict[str, tuple[str, ...]]:
        hosts = names.hosts(view)
        found = await asyncio.gather(*(self._kube.read("v1", "Service", *names.service(host)) for host in hosts))
        return {host: names.of_service(service) for host, service in zip(hosts, found, strict=True)}

    async def _restoring(self, name: str | None) -> str | None:
        """The Restore that keeps the tenant from running, as long as it is there and does."""
        restore = await self._kube.read(API_VERSION, "Restore", name) if name else None
        status = RestoreStatus.model_validate((restore or {}).get("status") or {})
        return name if status.holds else None

    async def _secrets(self, view: TenantView) -> dict[str, Object | None]:
        names = view.spec.named_secrets
        found = await asyncio.gather(*(self._kube.read("v1", "Secret", n, view.name) for n in names))
        return dict(zip(names, found, strict=True))

    async def _door_secrets(self, view: TenantView) -> DoorSecrets | None:
        """The front door's secrets, if it has any and they are this tenant's."""
        if view.spec.access.sso is None:
            return None
        secret = await self._kube.read("v1", "Secret", front_door.NAME, view.name)
        if secret is None or _owner(secret) != view.tenant_id:
            return None
        found = [_value(secret, key) for key in (front_door.CLIENT_SECRET, front_door.PASSPHRASE)]
        # One that no config can hold is made anew.
        usable = [value for value in found if value is not None and words.is_secret(value)]
        return DoorSecrets(*usable) if len(usable) == len(found) else None

    async def _vault_key(self, view: TenantView) -> bytes | None:
        """What the gateway seals with, if it has anything and that is this tenant's."""
        secret = await self._kube.read("v1", "Secret", gateway.NAME, view.name)
        if secret is None or _owner(secret) != view.tenant_id:
            return None
        found = base64.b64decode(secret.get("data", {}).get(gateway.VAULT_KEY, ""))
        return found if len(found) == gateway.VAULT_KEY_BYTES else None

    async def _issuance(self, view: TenantView) -> Issuance | None:
        """What cert-manager says; None for a tenant without a certificate."""
        if view.spec.access.tls is None:
            return None
        found = await self._kube.read(issuance.API, issuance.KIND, issuance.NAME, view.name)
        installed = found is not None or (
            issuance.wanted(view)
            and await self._kube.read("apiextensions.k8s.io/v1", "CustomResourceDefinition", issuance.CRD) is not None
        )
        return issuance.look_at(found, installed=installed)

    async def _mirrored(self, view: TenantView, served: ServedZone) -> Mapping[str, Mapping[str, str]]:
        if view.tenant_id is None or view.key_id is None:
            return {}
        document = await asyncio.to_thread(self._zones.storage(served).mirrored, view.tenant_id)
        return document.get("secrets", {}) if document else {}

    async def _replication_failure(self, view: TenantView) -> tuple[str, str] | None:
        """What the newest replicator pod said of a failure with this tenant, if no snapshot came after it."""
        if view.tenant_id is None or view.role is not Role.ACTIVE:
            return None
        pods = await self._kube.list("v1", "Pod", self._platform.namespace, labels=f"{LABEL_COMPONENT}=replicator")
        finished = sorted(
            ((t["finishedAt"], t.get("message", "")) for p in pods if (t := _terminated(p))), reverse=True
        )
        for finished_at, message in finished:
            outcome = _outcome(message).get(view.tenant_id)
            if outcome is not None:
                newer = view.last_commit is not None and view.last_commit.cut_time >= datetime.fromisoformat(
                    finished_at
                )
                return None if newer else (outcome["reason"], outcome["message"])
        return None


def with_storage(view: TenantView, observed: Observed, zones: Zones) -> TenantView:
    """The view, completed by what the stores said."""
    return replace(
        view,
        residency=observed.residency,
        storage_error=observed.storage_error,
        peer_error=observed.peer_error,
        claim=observed.claim,
        live_bucket=observed.live_bucket,
        live_credentials=_static(view, observed, zones),
        key_error=observed.key_error,
        key_id=observed.key.key_id if observed.key else None,
        last_commit=observed.last_commit,
        replica_error=observed.replica_error,
        peer_proof=observed.peer_proof,
    )


def _static(view: TenantView, observed: Observed, zones: Zones) -> bytes | None:
    # Where credentials are minted no static key is handed out, whatever lies in the folder.
    if observed.live_bucket is None or view.live_identity is not None:
        return None
    return zones.stores.live_credentials(observed.live_bucket)


def _ownership(namespace: Object | None, tenant: str) -> Ownership:
    if namespace is None:
        return Ownership.ABSENT
    mine = namespace["metadata"].get("labels", {}).get(LABEL_TENANT) == tenant
    return Ownership.OURS if mine else Ownership.FOREIGN


def _own_policies(view: TenantView) -> list[tuple[str, str]]:
    return [(p["kind"], p["metadata"]["name"]) for p in (*network_policies(view), *by_name.policies(view))]


def _own_names(policies: list[Object] | None, tenant: str) -> tuple[str, ...] | None:
    if policies is None:
        return None
    return tuple(sorted(p["metadata"]["name"] for p in policies if _labels(p).get(LABEL_TENANT) == tenant))


def _opening(policies: list[Object], named: list[Object]) -> set[tuple[str, str]]:
    """Kind and name of those that open anything: one of another kind may have the name of one of ours."""
    found = {(p["kind"], p["metadata"]["name"]) for p in policies if _opens(p)}
    return found | {(p["kind"], p["metadata"]["name"]) for p in named if by_name.opens(p)}


def _owner(secret: Object) -> str | None:
    """Id of the tenant that we mirrored the Secret for; an earlier tenant may have had the same name."""
    owner: str | None = secret["metadata"].get("labels", {}).get(LABEL_TENANT_ID)
    return owner


def had_door(status: AssistantTenantStatus) -> bool:
    """Whether the tenant may have a front door, though its spec asks for none."""
    shown = next((c for c in status.conditions if c.type == ConditionType.FRONT_DOOR_READY), None)
    return shown is not None and shown.reason != NO_DOOR


def _value(secret: Object | None, key: str) -> str | None:
    """The text under a key, None where there is none."""
    try:
        encoded = (secret or {}).get("data", {})[key]
        return base64.b64decode(encoded, validate=True).decode().strip() or None
    except (KeyError, ValueError):
        return None


def _provider_secrets(view: TenantView, secrets: Mapping[str, Object | None]) -> dict[str, str | None]:
    sources = view.spec.access.sso.sources if view.spec.access.sso else ()
    # A provider that needs no Secret has all it needs.
    return {p.name: _value(secrets.get(p.secret[0]), p.secret[1]) if p.secret else "" for p in sources}


def _secret_versions(view: TenantView, secrets: Mapping[str, Object | None]) -> dict[str, str]:
    sources = view.spec.access.sso.sources if view.spec.access.sso else ()
    found = {p.name: secrets.get(p.secret[0]) for p in sources if p.secret}
    return {name: secret["metadata"]["resourceVersion"] for name, secret in found.items() if secret is not None}


def _certificate(view: TenantView, secrets: Mapping[str, Object | None]) -> Certificate | None:
    access = view.spec.access
    if access.tls is None or access.host is None:
        return None
    chain, key = (_value(secrets.get(access.tls.secret_name), k) for k in front_door.TLS_KEYS)
    if chain is None or key is None:
        return None
    return certificate.look_at(chain.encode(), key.encode(), access.host, view.now)


def _opens(policy: Object) -> bool:
    return bool(policy["spec"].get("ingress") or policy["spec"].get("egress"))


def _volumes(claims: list[Object], owners: list[Object]) -> tuple[str, ...]:
    """Volumes that may hold what no live bucket does: claims, and what pods mount or would mount besides."""
    lasting = [c for c in claims if all(o["kind"] != "Pod" for o in c["metadata"].get("ownerReferences", []))]
    found = {f"claim {c['metadata']['name']}" for c in lasting}
    for owner in owners:
        for volume in owner["spec"].get("template", owner)["spec"].get("volumes", []):
            if claim := volume.get("persistentVolumeClaim"):
                found.add(f"claim {claim['claimName']}")
                continue
            kinds = volume.keys() - {"name"} - _TRANSIENT
            found.update(f"volume {volume['name']} ({kind})" for kind in kinds)
    return tuple(sorted(found))


def _workload(deployment: Object, pods: list[Object]) -> Workload:
    status = deployment.get("status", {})
    name = deployment["metadata"]["name"]
    own = [p for p in pods if _labels(p).get(LABEL_INSTANCE) == name]
    wanted = deployment["spec"].get("replicas", 1)
    return Workload(
        ready=status.get("readyReplicas", 0),
        updated=status.get("observedGeneration") == deployment["metadata"]["generation"]
        and status.get("updatedReplicas", 0) >= wanted,
        trouble=next((t for p in own if (t := _trouble(p)) is not None), None),
    )


def _labels(obj: Object) -> dict[str, str]:
    return obj["metadata"].get("labels") or {}


def _trouble(pod: Object) -> tuple[str, str] | None:
    status = pod.get("status", {})
    for container in (*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])):
        reason = container.get("state", {}).get("waiting", {}).get("reason", "")
        if reason in _TROUBLES:
            return reason, _TROUBLES[reason]
    return None


def _terminated(pod: Object) -> Object | None:
    statuses = pod.get("status", {}).get("containerStatuses", [])
    return next((t for s in statuses if (t := s.get("state", {}).get("terminated"))), None)


def _outcome(message: str) -> dict[str, dict[str, str]]:
    try:
        outcome = json.loads(message)
    except json.JSONDecodeError:
        return {}
    return outcome if isinstance(outcome, dict) else {}
