"""The tenant's front door as objects of the cluster, as pure functions of the view; its config is made elsewhere.

There is none before everything that it needs is known; what was there before then stays.
"""

from __future__ import annotations

import base64

from domicile.api.common import LABEL_INSTANCE, LABEL_NAME, LABEL_TENANT_ID, LABEL_TOPOLOGY_ZONE
from domicile.api.tenant import Assistant, Role
from domicile.api.zone import IdentityServer
from domicile.controllers.door import door as doors
from domicile.controllers.door import httpd
from domicile.controllers.door.door import Door, Endpoints, Secrets
from domicile.controllers.realm.desired import CLIENT, realm_name
from domicile.controllers.realm.flows import MFA
from domicile.controllers.tenant.network import DOOR_POLICIES, SESSIONS_PORT
from domicile.controllers.tenant.parts import (
    DOORS,
    RESTRICTED,
    Object,
    account,
    budget,
    labels_of,
    named,
    pod_security,
    probe,
    spread,
)
from domicile.controllers.tenant.template import merge_template
from domicile.controllers.tenant.view import TenantView

NAME = "front-door"
CLIENT_SECRET = "client-secret"  # noqa: S105 - a key of a Secret
PASSPHRASE = "passphrase"  # noqa: S105 - a key of a Secret
SESSIONS_USER = "doors"
TLS_KEYS = ("tls.crt", "tls.key")
# API version, kind and name of whatever a door consists of but its Secret.
EVERYTHING = (
    ("apps/v1", "Deployment", NAME),
    ("v1", "Service", NAME),
    ("policy/v1", "PodDisruptionBudget", NAME),
    ("v1", "ServiceAccount", NAME),
    ("v1", "ConfigMap", NAME),
    *(("networking.k8s.io/v1", "NetworkPolicy", name) for name in DOOR_POLICIES),
)
_MOUNTS = "/etc/domicile/door"
_MIB = 2**20
_LIMIT_SECONDS = 10


def objects(view: TenantView) -> list[Object]:
    """All objects of the door; none where the tenant has no single sign-on."""
    if view.spec.access.sso is None:
        return []
    made = [_secret(view)] if view.door is not None else []
    if view.door is None or view.sessions_password is None or view.zone is None or view.zone.spec.identity is None:
        return made
    return [
        *made,
        _config(view),
        account(view, NAME, _labels(view)),
        _service(view),
        budget(view, NAME, _labels(view), DOORS),
        _deployment(view, view.zone.own.region),
    ]


def describe(view: TenantView) -> Door:
    """What the door's config is made of."""
    access, zone = view.spec.access, view.zone
    if zone is None or zone.spec.identity is None or access.sso is None or access.host is None:
        raise ValueError("a door needs a zone with an identity server, a host and single sign-on")
    edge, limits = access.edge, access.limits
    return Door(
        host=access.host,
        client_id=CLIENT,
        endpoints=_endpoints(zone.spec.identity, realm_name(view.name, view.tenant_id or "")),
        assistants=tuple(_assistant(view, a) for a in view.spec.assistants),
        redis=f"domicile-sessions.{view.platform.namespace}.svc:{SESSIONS_PORT}",
        idle_seconds=access.sso.session.idle_seconds,
        max_seconds=access.sso.session.max_seconds,
        acr=MFA,
        exclusions=tuple(sorted(access.excluded_rules)),
        limits=doors.Limits(
            seconds=_LIMIT_SECONDS,
            client_requests=limits.client_requests,
            tenant_requests=limits.tenant_requests,
            parallel=limits.parallel,
            body_bytes=limits.body_mebibytes * _MIB,
        ),
        edge=doors.Edge(tuple(sorted(edge.cidrs)), edge.client_ca is not None) if edge else doors.Edge(),
    )


def _assistant(view: TenantView, assistant: Assistant) -> doors.Assistant:
    rules = tuple(doors.PathRule(r.prefix, None if r.public else tuple(sorted(r.roles))) for r in assistant.paths)
    return doors.Assistant(assistant.name, f"{assistant.name}.{view.name}.svc:80", rules)


def _endpoints(identity: IdentityServer, realm: str) -> Endpoints:
    """Where people log in by the public name, the door asks the site's own server."""
    public = f"{identity.url.removesuffix('/')}/realms/{realm}"
    own = f"{(identity.admin_url or identity.url).removesuffix('/')}/realms/{realm}/protocol/openid-connect"
    return Endpoints(
        issuer=public,
        authorization=f"{public}/protocol/openid-connect/auth",
        token=f"{own}/token",
        jwks=f"{own}/certs",
        end_session=f"{public}/protocol/openid-connect/logout",
    )


def _labels(view: TenantView) -> dict[str, str]:
    return labels_of(view) | {LABEL_NAME: NAME, LABEL_INSTANCE: NAME, **DOORS}


def _secret(view: TenantView) -> Object:
    """How the door proves itself to the identity server and seals its sessions; of this site and this tenant only."""
    if view.door is None:
        raise ValueError("a door's Secret needs its secrets")
    data = {CLIENT_SECRET: view.door.client_secret, PASSPHRASE: view.door.passphrase}
    if view.sessions_password is not None:
        data["secrets.conf"] = httpd.render_secrets(
            Secrets(view.door.client_secret, view.door.passphrase, SESSIONS_USER, view.sessions_password)
        )
    labels = labels_of(view) | {LABEL_TENANT_ID: view.tenant_id or ""}
    return named("v1", "Secret", view.name, NAME, labels) | {
        "type": "Opaque",
        "data": {k: base64.b64encode(v.encode()).decode() for k, v in data.items()},
    }


def _config(view: TenantView) -> Object:
    data = {"httpd.conf": httpd.render(describe(view)), "ca.crt": view.identity_authorities}
    return named("v1", "ConfigMap", view.name, NAME, _labels(view)) | {"data": data}


def _service(view: TenantView) -> Object:
    """The door's address in the cluster; TLS ends in its pods, so whatever leads here passes it on as it is."""
    return named("v1", "Service", view.name, NAME, _labels(view)) | {
        "spec": {
            "type": "ClusterIP",
            "selector": dict(DOORS),
            "ports": [{"name": "https", "port": 443, "targetPort": doors.HTTPS_PORT, "protocol": "TCP"}],
        }
    }


def _deployment(view: TenantView, region: str) -> Object:
    """The door's pods, on nodes of the site's region only; where the tenant doesn't serve there are none."""
    template: Object = {
        "metadata": {"labels": _labels(view) | {LABEL_TENANT_ID: view.tenant_id or ""}},
        "spec": {
            "serviceAccountName": NAME,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            # New requests are served for 5 s after the end was announced, and what runs may take 25 s.
            "terminationGracePeriodSeconds": 40,
            "securityContext": pod_security(),
            "topologySpreadConstraints": [spread(k, DOORS) for k in (LABEL_TOPOLOGY_ZONE, "kubernetes.io/hostname")],
            "containers": [_container(view)],
            "volumes": _volumes(view),
        },
    }
    return named("apps/v1", "Deployment", view.name, NAME, _labels(view)) | {
        "spec": {
            "replicas": view.spec.access.replicas if view.role is Role.ACTIVE else 0,
            "revisionHistoryLimit": 3,
            "selector": {"matchLabels": dict(DOORS)},
            "template": merge_template({}, {}, template, region),
        }
    }


def _container(view: TenantView) -> Object:
    volumes = ["config", "secrets", "tls", "trust", *(["edge"] if _edge_ca(view) else [])]
    mounts = [{"name": v, "mountPath": f"{_MOUNTS}/{v}", "readOnly": True} for v in volumes]
    return {
        "name": NAME,
        "image": view.platform.door_image,
        "imagePullPolicy": view.platform.image_pull_policy,
        "ports": [{"name": "https", "containerPort": doors.HTTPS_PORT, "protocol": "TCP"}],
        "startupProbe": probe("/healthz", doors.HEALTH_PORT, period=1, failures=60),
        "readinessProbe": probe("/healthz", doors.HEALTH_PORT, period=2),
        # The supervisor ends with httpd; what is left to find is one that takes no connections.
        "livenessProbe": {"tcpSocket": {"port": doors.HTTPS_PORT}, "periodSeconds": 10, "failureThreshold": 6},
        "resources": {
            "requests": {"cpu": "50m", "memory": "96Mi", "ephemeral-storage": "16Mi"},
            "limits": {"cpu": "1", "memory": f"{256 + _bodies(view)}Mi", "ephemeral-storage": "64Mi"},
        },
        "securityContext": dict(RESTRICTED),
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, *mounts],  # noqa: S108 - inside the container
    }


def _volumes(view: TenantView) -> list[Object]:
    access = view.spec.access
    volumes = [
        # In memory: copies of the secrets lie there.
        {"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": f"{64 + _bodies(view)}Mi"}},
        _of_config_map("config", "httpd.conf"),
        _of_config_map("trust", "ca.crt"),
        _of_secret("secrets", NAME, "secrets.conf"),
        _of_secret("tls", access.tls.secret if access.tls else "", *TLS_KEYS),
    ]
    return [*volumes, _of_secret("edge", ca, "ca.crt")] if (ca := _edge_ca(view)) else volumes


def _bodies(view: TenantView) -> int:
    """Room (MiB) for large bodies that are looked at at the same time; for more of them the answer is 5xx."""
    return 8 * view.spec.access.limits.body_mebibytes


def _edge_ca(view: TenantView) -> str | None:
    return view.spec.access.edge.client_ca if view.spec.access.edge else None


def _of_config_map(volume: str, key: str) -> Object:
    source = {"name": NAME, "items": [{"key": key, "path": key}], "defaultMode": 0o444}
    return {"name": volume, "configMap": source}


def _of_secret(volume: str, secret: str, *keys: str) -> Object:
    source = {"secretName": secret, "items": [{"key": k, "path": k} for k in keys], "defaultMode": 0o440}
    return {"name": volume, "secret": source}
