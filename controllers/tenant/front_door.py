"""The tenant's front door as objects of the cluster, as pure functions of the view; its config is made elsewhere.

There is none before everything that it needs is known; what was there before then stays.
"""

from __future__ import annotations

import base64

from domicile.api.common import LABEL_INSTANCE, LABEL_NAME, LABEL_TENANT_ID
from domicile.api.sso import ExternalIssuer
from domicile.api.tenant import Assistant
from domicile.api.zone import IdentityServer
from domicile.controllers.door import door as doors
from domicile.controllers.door import httpd, words
from domicile.controllers.door.door import Claims, Door, Endpoints, Secrets
from domicile.controllers.issuer.state import Metadata
from domicile.controllers.pki import holders
from domicile.controllers.realm.desired import CLIENT, realm_name
from domicile.controllers.realm.flows import MFA
from domicile.controllers.tenant import issuance, login, server, way
from domicile.controllers.tenant.identity import roles_of
from domicile.controllers.tenant.network import DOOR_POLICIES, SESSIONS_PORT
from domicile.controllers.tenant.parts import (
    DOORS,
    RESTRICTED,
    Object,
    account,
    budget,
    labels_of,
    named,
    of_secret,
    probe,
)
from domicile.controllers.tenant.view import TenantView

NAME = "front-door"
# Not of checks, whose pods have the component's label, too.
_OWN = {LABEL_INSTANCE: NAME, **DOORS}
CLIENT_SECRET = "client-secret"  # noqa: S105 - a key of a Secret
PASSPHRASE = "passphrase"  # noqa: S105 - a key of a Secret
SESSIONS_USER = "doors"
TLS_KEYS = ("tls.crt", "tls.key")
TUNNEL = "sessions-tunnel"
TUNNEL_HEALTH_PORT = 8081
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
    if view.external is not None and client_secret(view) is None:
        return []
    made = [secret(view)] if view.door is not None else []
    if issuance.wanted(view) and view.issuance is not None and view.issuance.installed:
        made.append(issuance.certificate(view))
    if view.door is None or view.sessions_password is None or view.zone is None:
        return made
    if not view.identity_authorities or not _issuer_known(view):
        return made
    return [
        *made,
        _config(view),
        account(view, NAME, _labels(view)),
        _service(view),
        budget(view, NAME, _labels(view), _OWN),
        _deployment(view),
    ]


def _issuer_known(view: TenantView) -> bool:
    if view.external is not None:
        return view.issuer is not None and view.issuer.metadata is not None
    return view.zone is not None and view.zone.spec.identity is not None


def client_secret(view: TenantView) -> str | None:
    """By what the door proves itself to the issuer; None where that is not known, or can't be written down."""
    if view.external is None:
        return view.door.client_secret if view.door else None
    secret = view.provider_secrets.get(view.external.name)
    return secret if secret is not None and words.is_secret(secret) else None


def describe(view: TenantView) -> Door:
    """What the door's config is made of. Raises ValueError where the view lacks what a door needs."""
    access, external = view.spec.access, view.external
    if access.sso is None or access.host is None:
        raise ValueError("a door needs a host and single sign-on")
    edge, limits = access.edge, access.limits
    return Door(
        host=access.host,
        client_id=external.client_id if external else CLIENT,
        endpoints=_endpoints_of(view),
        assistants=tuple(_assistant(view, a) for a in view.spec.assistants),
        redis=f"127.0.0.1:{SESSIONS_PORT}",
        idle_seconds=access.sso.session.idle_seconds,
        max_seconds=access.sso.session.max_seconds,
        claims=_claims(external) if external else Claims(mfa_values=(MFA,)),
        scopes=tuple(sorted(external.scopes)) if external else (),
        algorithm=external.algorithm if external else "RS256",
        renewed=external is None,
        exclusions=tuple(sorted(access.excluded_rules)),
        limits=doors.Limits(
            seconds=_LIMIT_SECONDS,
            client_requests=limits.client_requests,
            tenant_requests=limits.tenant_requests,
            parallel=limits.parallel,
            body_bytes=limits.body_mebibytes * _MIB,
        ),
        proxy=f"127.0.0.1:{way.PORT}" if login.led(view) else None,
        edge=doors.Edge(tuple(sorted(edge.cidrs)), edge.client_ca is not None) if edge else doors.Edge(),
    )


def _assistant(view: TenantView, assistant: Assistant) -> doors.Assistant:
    rules = tuple(doors.PathRule(r.prefix, None if r.public else tuple(sorted(r.roles))) for r in assistant.paths)
    upstream = f"{assistant.name}.{view.name}.svc:443"
    return doors.Assistant(assistant.name, upstream, rules, asks=view.spec.consent is not None)


def _endpoints_of(view: TenantView) -> Endpoints:
    if view.external is not None and view.issuer is not None and view.issuer.metadata is not None:
        return _external_endpoints(view.external.issuer, view.issuer.metadata)
    if view.external is not None or view.zone is None or view.zone.spec.identity is None:
        raise ValueError("a door needs a zone with an identity server, or the metadata of its issuer")
    return _endpoints(view.zone.spec.identity, realm_name(view.name, view.tenant_id or ""))


def _external_endpoints(issuer: str, known: Metadata) -> Endpoints:
    return Endpoints(
        issuer=issuer,
        authorization=known.authorization,
        token=known.token,
        jwks=known.jwks,
        end_session=known.end_session,
        token_auth=known.token_auth,
        back_channel=known.back_channel,
        names_itself=known.names_itself,
    )


def _claims(external: ExternalIssuer) -> Claims:
    values: dict[str, tuple[str, ...]] = {}
    for group, roles in roles_of(external).items():
        for role in roles:
            values[role] = (*values.get(role, ()), group)
    return Claims(
        mfa_claim=external.mfa.claim,
        mfa_values=tuple(sorted(external.mfa.values)),
        roles_claim=external.groups_claim,
        values_of=values,
    )


def _endpoints(identity: IdentityServer, realm: str) -> Endpoints:
    """Where people log in by the public name, the door asks the site's own server."""
    public = f"{identity.url.removesuffix('/')}/realms/{realm}"
    own = f"{identity.for_doors}/realms/{realm}/protocol/openid-connect"
    return Endpoints(
        issuer=public,
        authorization=f"{public}/protocol/openid-connect/auth",
        token=f"{own}/token",
        jwks=f"{own}/certs",
        end_session=f"{public}/protocol/openid-connect/logout",
    )


def _labels(view: TenantView) -> dict[str, str]:
    return labels_of(view) | {LABEL_NAME: NAME, **_OWN}


def secret(view: TenantView) -> Object:
    """How the door proves itself to the issuer and seals its sessions; of this site and this tenant only.

    Raises ValueError where the view lacks what goes in.
    """
    if view.door is None:
        raise ValueError("a door's Secret needs its secrets")
    data = {CLIENT_SECRET: view.door.client_secret, PASSPHRASE: view.door.passphrase}
    if view.sessions_password is not None:
        data["secrets.conf"] = httpd.render_secrets(
            Secrets(client_secret(view) or "", view.door.passphrase, SESSIONS_USER, view.sessions_password)
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
            "selector": dict(_OWN),
            "ports": [{"name": "https", "port": 443, "targetPort": doors.HTTPS_PORT, "protocol": "TCP"}],
        }
    }


def _deployment(view: TenantView) -> Object:
    return server.deployment(
        view,
        NAME,
        _labels(view),
        DOORS,
        replicas=view.spec.access.replicas,
        containers=[_container(view)],
        volumes=_volumes(view),
        sidecars=[_tunnel(view)],
    )


def _container(view: TenantView) -> Object:
    volumes = ["config", "secrets", "tls", "trust", "pods", *(["edge"] if _edge_ca(view) else [])]
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


def _tunnel(view: TenantView) -> Object:
    """The ways to the session store and out of the site; it has a certificate and none of the door's secrets."""
    leads = login.led(view)
    env = {"DOMICILE_SESSION_STORE": f"domicile-sessions.{view.platform.namespace}.svc:{SESSIONS_PORT}"}
    return {
        "name": TUNNEL,
        "image": view.platform.door_image,
        "imagePullPolicy": view.platform.image_pull_policy,
        "restartPolicy": "Always",
        "command": ["python3", "-P", "-m", "domicile.gateway.tunnel"],
        "env": [{"name": k, "value": v} for k, v in (env | (way.leading(view) if leads else {})).items()],
        "startupProbe": probe("/healthz", TUNNEL_HEALTH_PORT, period=1, failures=60),
        # A tunnel that hangs has nothing to finish: it is started anew, not spared.
        "livenessProbe": probe("/healthz", TUNNEL_HEALTH_PORT, period=5),
        "resources": {
            "requests": {"cpu": "5m", "memory": "32Mi" if leads else "24Mi", "ephemeral-storage": "8Mi"},
            "limits": {"cpu": "200m", "memory": "160Mi" if leads else "64Mi", "ephemeral-storage": "16Mi"},
        },
        "securityContext": dict(RESTRICTED),
        "volumeMounts": [
            {"name": "tunnel-tmp", "mountPath": "/tmp"},  # noqa: S108 - inside the container
            {"name": "pods-tls", "mountPath": holders.MOUNT, "readOnly": True},
            *([way.mount(login.SECRET)] if leads else []),
        ],
    }


def _volumes(view: TenantView) -> list[Object]:
    access = view.spec.access
    volumes = [
        # In memory: copies of the secrets lie there.
        {"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": f"{64 + _bodies(view)}Mi"}},
        _of_config_map("config", "httpd.conf"),
        _of_config_map("trust", "ca.crt"),
        of_secret("secrets", NAME, "secrets.conf"),
        of_secret("tls", access.tls.secret_name if access.tls else "", *TLS_KEYS),
        {"name": "tunnel-tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "4Mi"}},
        of_secret("pods-tls", holders.secret_of(NAME), *TLS_KEYS, "ca.crt"),
        of_secret("pods", holders.secret_of(NAME), "identity.pem", "ca.crt"),
        # Where the way out leads nowhere there is no account, and open paths need none.
        *([way.volume(login.SECRET, optional=not login.destinations(view))] if login.led(view) else []),
    ]
    return [*volumes, of_secret("edge", ca, "ca.crt")] if (ca := _edge_ca(view)) else volumes


def _bodies(view: TenantView) -> int:
    """Room (MiB) for large bodies that are looked at at the same time; for more of them the answer is 5xx."""
    return 8 * view.spec.access.limits.body_mebibytes


def _edge_ca(view: TenantView) -> str | None:
    return view.spec.access.edge.client_ca if view.spec.access.edge else None


def _of_config_map(volume: str, key: str) -> Object:
    source = {"name": NAME, "items": [{"key": key, "path": key}], "defaultMode": 0o444}
    return {"name": volume, "configMap": source}
