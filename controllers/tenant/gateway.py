"""The tenant's gateway to its models as objects of the cluster, as pure functions of the view.

It alone holds the providers' keys, and what the values of questions are sealed with.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping

from domicile.api.common import (
    LABEL_INSTANCE,
    LABEL_NAME,
    LABEL_TENANT_ID,
)
from domicile.api.egress import AllowedDestination
from domicile.api.gateway import Caller, Endpoint, GatewayConfig, Limits, Privacy, Service, service_key_file
from domicile.api.privacy import PrivacyPolicy
from domicile.api.providers import ModelProvider
from domicile.api.tenant import Assistant
from domicile.controllers.egress import destinations as egress
from domicile.controllers.pki import holders
from domicile.controllers.tenant import pool, server
from domicile.controllers.tenant.network import GATEWAY_PORT, SESSIONS_PORT
from domicile.controllers.tenant.parts import (
    GATEWAYS,
    RESTRICTED,
    Object,
    account,
    budget,
    labels_of,
    named,
    of_secret,
    probe,
    resources,
)
from domicile.controllers.tenant.view import TenantView

NAME = "gateway"
# Not of checks, whose pods have the component's label, too.
_OWN = {LABEL_INSTANCE: NAME, **GATEWAYS}
VAULT_KEY = "vault.key"
"""Key of the Secret: 32 random bytes that seal what placeholders stand for."""
VAULT_KEY_BYTES = 32
VAULT_USER = "gateways"
_ACCOUNT = {"user": "vault.user", "password": "vault.password"}
"""Keys of the Secret, by the names that they are mounted under."""
_FILE = "gateway.json"
_MOUNTS = {
    "config": "/etc/domicile/gateway",
    "providers": "/etc/domicile/providers",
    "vault": "/etc/domicile/vault",
    "pods-tls": holders.MOUNT,
}
_HEALTH_PORT = 8080
_OURS_ALONE = {"defaultMode": 0o440}
_REPLICAS = 2


def url(tenant: str) -> str:
    """Where the guards of the tenant's assistants reach it."""
    return f"https://{NAME}.{tenant}.svc"


def objects(view: TenantView) -> list[Object]:
    """All objects of the gateway; none before everything that it needs is known."""
    if view.vault_key is None or view.vault_password is None or view.tenant_id is None:
        return []
    return [
        secret(view, view.vault_key, view.vault_password),
        config_map(view),
        account(view, NAME, _labels(view)),
        _service(view),
        budget(view, NAME, _labels(view), _OWN),
        _deployment(view),
    ]


def config(view: TenantView) -> GatewayConfig:
    """What the gateway is told. Raises ValueError where the tenant has no id."""
    asked, model = view.spec.model.budget, view.spec.model.model
    outwards = egress.url(view.platform.namespace) if pool.reached(view) else None
    return GatewayConfig(
        tenant_id=view.tenant_id or "",
        callers=sorted((_caller(view.name, a) for a in view.spec.assistants), key=lambda each: each.id),
        endpoints=[_endpoint(m.provider, model, m.share.weight) for m in pool.usable(view)],
        services=[_told(d) for d in pool.services(view)],
        privacy=_privacy(view.spec.privacy),
        limits=Limits(requests_per_day=asked.requests_per_day, tokens_per_day=asked.tokens_per_day),
        egress=outwards,
        redis=f"domicile-sessions.{view.platform.namespace}.svc:{SESSIONS_PORT}",
    )


def _caller(tenant: str, assistant: Assistant) -> Caller:
    known = holders.assistant(tenant, assistant.name).id
    return Caller(id=known, mode=assistant.mode, intents=assistant.intents or [])


def _endpoint(provider: ModelProvider, model: str, weight: int) -> Endpoint:
    service = provider.service
    inside = f"http://{service.name}.{service.namespace}.svc:{service.port}/v1" if service else ""
    return Endpoint(
        name=provider.name,
        kind=provider.type,
        base_url=(provider.base_url or inside).rstrip("/"),
        models={model: provider.deployments.get(model, model)},
        weight=weight,
        keyed=provider.key is not None,
        token_url=provider.token_url,
        through_egress=service is None,
        ca_bundle=provider.ca_bundle,
        until=provider.contract.expires_on if provider.contract else None,
    )


def _told(service: AllowedDestination) -> Service:
    header = service.key.header if service.key else None
    return Service(host=service.host, header=header, until=service.contract.expires_on)


def _privacy(asked: PrivacyPolicy) -> Privacy:
    return Privacy(
        placeholders=asked.placeholders,
        vault_seconds=asked.vault_hours * 3600,
        thresholds={t.kind: t.score for t in asked.thresholds},
        patterns=asked.patterns,
        refuse=sorted(asked.refuse),
        images=asked.images,
    )


def _labels(view: TenantView) -> dict[str, str]:
    return labels_of(view) | {LABEL_NAME: NAME, **_OWN}


def _key_of(provider: str) -> str:
    return f"{provider}.model-key"


def _keyed(view: TenantView) -> list[str]:
    return [m.provider.name for m in pool.usable(view) if m.provider.key is not None]


def _keyed_services(view: TenantView) -> list[str]:
    return [d.host for d in pool.services(view) if d.key is not None]


def secret(view: TenantView, vault_key: bytes, password: str) -> Object:
    """What only the gateway knows; of this site and this tenant only."""
    data = {VAULT_KEY: vault_key, _ACCOUNT["user"]: VAULT_USER.encode(), _ACCOUNT["password"]: password.encode()}
    data |= {_key_of(name): (view.model_keys.get(name) or "").encode() for name in _keyed(view)}
    data |= {service_key_file(host): (view.service_keys.get(host) or "").encode() for host in _keyed_services(view)}
    labels = labels_of(view) | {LABEL_TENANT_ID: view.tenant_id or ""}
    return named("v1", "Secret", view.name, NAME, labels) | {
        "type": "Opaque",
        "data": {k: base64.b64encode(v).decode() for k, v in data.items()},
    }


def config_map(view: TenantView) -> Object:
    """What the gateway is told, as it is mounted."""
    text = config(view).model_dump_json(by_alias=True, exclude_none=True, indent=1)
    return named("v1", "ConfigMap", view.name, NAME, _labels(view)) | {"data": {_FILE: text}}


def _service(view: TenantView) -> Object:
    return named("v1", "Service", view.name, NAME, _labels(view)) | {
        "spec": {
            "type": "ClusterIP",
            "selector": dict(_OWN),
            "ports": [{"name": "https", "port": 443, "targetPort": GATEWAY_PORT, "protocol": "TCP"}],
        }
    }


def _deployment(view: TenantView) -> Object:
    return server.deployment(
        view,
        NAME,
        _labels(view),
        GATEWAYS,
        replicas=_REPLICAS,
        containers=[_container(view)],
        volumes=_volumes(view),
        sidecars=[],
    )


def _container(view: TenantView) -> Object:
    return {
        "name": NAME,
        "image": view.platform.gateway_image,
        "imagePullPolicy": view.platform.image_pull_policy,
        "args": ["gateway"],
        "ports": [
            {"name": "https", "containerPort": GATEWAY_PORT, "protocol": "TCP"},
            {"name": "health", "containerPort": _HEALTH_PORT, "protocol": "TCP"},
        ],
        "startupProbe": probe("/healthz", _HEALTH_PORT, period=1, failures=120),
        "readinessProbe": probe("/readyz", _HEALTH_PORT, period=2),
        "livenessProbe": probe("/healthz", _HEALTH_PORT, failures=6),
        "resources": resources("50m", "2", "768Mi"),
        "securityContext": dict(RESTRICTED),
        "volumeMounts": [
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - inside the container
            *({"name": volume, "mountPath": path, "readOnly": True} for volume, path in _MOUNTS.items()),
        ],
    }


def _volumes(view: TenantView) -> list[Object]:
    keys = {name: _key_of(name) for name in _keyed(view)}
    keys |= {f: f for f in map(service_key_file, _keyed_services(view))}
    proofs = [_projected(NAME, keys), *_subjects(view)]
    if pool.reached(view):
        proofs.append(_projected(egress.TENANT_SECRET, {"egress": egress.TENANT_KEY}))
    config = {"name": NAME, "items": [{"key": _FILE, "path": _FILE}], "defaultMode": 0o444}
    return [
        {"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}},
        of_secret("pods-tls", holders.secret_of(NAME), "tls.crt", "tls.key", "ca.crt"),
        {"name": "vault", "projected": {"sources": [_projected(NAME, {"key": VAULT_KEY, **_ACCOUNT})], **_OURS_ALONE}},
        {
            "name": "providers",
            "projected": {"sources": [p for p in proofs if "secret" not in p or p["secret"]["items"]], **_OURS_ALONE},
        },
        {"name": "config", "configMap": config},
    ]


def _subjects(view: TenantView) -> list[Object]:
    """What the gateway shows where a provider takes the cluster's word for it: a token of an hour for each."""
    found = ((m.provider.name, pool.federated(view, m.provider)) for m in pool.usable(view))
    return [
        {
            "serviceAccountToken": {
                "path": f"{name}.subject",
                "audience": key.subject_audience,
                "expirationSeconds": 3600,
            }
        }
        for name, key in found
        if key is not None
    ]


def _projected(secret: str, files: Mapping[str, str]) -> Object:
    items = [{"key": key, "path": path} for path, key in files.items()]
    return {"secret": {"name": secret, "items": items}}
