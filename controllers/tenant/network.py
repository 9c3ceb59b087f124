"""Who of a tenant's pods talks to whom: default deny and the named openings, as pure functions of the view.

Every list is written out even when empty: under server-side apply an absent field is nobody's, and somebody else's
addition to it would stay.
"""

from __future__ import annotations

from collections.abc import Mapping

from domicile.api.common import FIELD_MANAGER, LABEL_COMPONENT, LABEL_MANAGED_BY, LABEL_TENANT, LABEL_ZONE
from domicile.api.zone import Site
from domicile.controllers.door.door import HTTPS_PORT
from domicile.controllers.egress import destinations as egress
from domicile.controllers.tenant import login, pool, way
from domicile.controllers.tenant.addresses import store_peers
from domicile.controllers.tenant.parts import (
    ASSISTANTS,
    DNS_LABEL,
    DNS_NAMESPACE,
    DNS_VALUE,
    DOORS,
    GATEWAYS,
    Object,
    named,
)
from domicile.controllers.tenant.view import TenantView

DENY_ALL = "default-deny"
GUARD_PORT = 8080
# Of the guards of a tenant with a front door, for the door alone; the other port then has the guard's own pages only.
GUARD_TLS_PORT = 8443
GATEWAY_PORT = 8443
LEASE_PORT = 8444
SESSIONS_PORT = 6379
DOOR_POLICIES = tuple(f"allow-door-{to}" for to in ("clients", "assistants", "dns", "identity", "sessions"))


def isolation(tenant: str, zone: str) -> Object:
    """Default deny, both ways, for every pod of the namespace."""
    return _policy(tenant, zone, DENY_ALL, {}, ingress=[], egress=[])


def network_policies(view: TenantView) -> list[Object]:
    """Default deny and the named openings, each of one kind of pod."""
    return [isolation(view.name, view.spec.zone), *_of_assistants(view), *_of_gateway(view), *_of_door(view)]


def _of_assistants(view: TenantView) -> list[Object]:
    if view.zone is None:
        raise ValueError("builders need a served zone; the policies gate on it")
    # Where there is a door, no way leads around it.
    door, gateway = [_own(DOORS)], [_own(GATEWAYS)]
    inside = _rules("from", _client_namespaces(view), GUARD_PORT)
    clients = _rules("from", door, GUARD_TLS_PORT) if view.spec.access.sso else inside

    def opening(name: str, **rules: list[Object]) -> Object:
        return _policy(view.name, view.spec.zone, name, {"matchLabels": dict(ASSISTANTS)}, **rules)

    return [
        opening("allow-clients", ingress=clients),
        # Who is led looks up nothing (``names``).
        opening("allow-dns", egress=[] if way.led(view) else _DNS),
        opening("allow-gateway", egress=_rules("to", gateway, GATEWAY_PORT)),
        opening("allow-lease", egress=_rules("to", [_ours(view, "lease-agent")], LEASE_PORT)),
        opening("allow-store", egress=_store_rule(view, view.zone.own)),
    ]


def _of_gateway(view: TenantView) -> list[Object]:
    services = [m.provider.service for m in pool.usable(view) if m.provider.service is not None]

    def opening(name: str, **rules: list[Object]) -> Object:
        pods = {"matchLabels": dict(GATEWAYS)}
        return _policy(view.name, view.spec.zone, f"allow-gateway-{name}", pods, **rules)

    return [
        opening("assistants", ingress=_rules("from", [_own(ASSISTANTS)], GATEWAY_PORT)),
        opening("dns", egress=_DNS),
        opening(
            "models",
            egress=[r for s in services for r in _rules("to", [_pods(s.namespace, s.pod_labels)], s.pod_port)],
        ),
        opening("egress", egress=_to_way_out(view) if pool.reached(view) else []),
        opening("vault", egress=_rules("to", [_ours(view, "sessions")], SESSIONS_PORT)),
    ]


def _of_door(view: TenantView) -> list[Object]:
    access = view.spec.access
    if access.sso is None:
        return []
    edge = [{"ipBlock": {"cidr": c}} for c in sorted(access.edge.cidrs)] if access.edge else []
    outside = [{"ipBlock": {"cidr": c}} for c in sorted(access.sources)]
    rules: tuple[dict[str, list[Object]], ...] = (
        {"ingress": _rules("from", edge or [*_client_namespaces(view), *outside], HTTPS_PORT)},
        {"egress": _rules("to", [_own(ASSISTANTS)], GUARD_TLS_PORT)},
        {"egress": _DNS},
        {"egress": _identity_rule(view)},
        {"egress": _rules("to", [_ours(view, "sessions")], SESSIONS_PORT)},
    )
    pods = {"matchLabels": dict(DOORS)}
    return [_policy(view.name, view.spec.zone, n, pods, **r) for n, r in zip(DOOR_POLICIES, rules, strict=True)]


def _identity_rule(view: TenantView) -> list[Object]:
    if login.led(view):
        return _to_way_out(view)
    if (asked := login.servers(view)) is not None:
        return _rules("to", [{"ipBlock": {"cidr": c}} for c in asked.cidrs], asked.port)
    identity = view.zone.spec.identity if view.zone and view.external is None else None
    if identity is None or identity.pods is None:
        return []
    return _rules("to", [_pods(identity.pods.namespace, identity.pods.labels)], identity.pods.port)


def _store_rule(view: TenantView, site: Site) -> list[Object]:
    if way.led(view):
        return _to_way_out(view)
    cidrs, port = store_peers(site)
    return _rules("to", [{"ipBlock": {"cidr": c}} for c in cidrs], port)


def _to_way_out(view: TenantView) -> list[Object]:
    return _rules("to", [_ours(view, "egress")], egress.PORT)


def _client_namespaces(view: TenantView) -> list[Object]:
    return [_namespace(c.namespace) for c in view.spec.access.clients]


def _ours(view: TenantView, component: str) -> Object:
    return _pods(view.platform.namespace, {LABEL_COMPONENT: component})


def _own(labels: Mapping[str, str]) -> Object:
    return {"podSelector": {"matchLabels": dict(labels)}}


def _namespace(name: str) -> Object:
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}


def _pods(namespace: str, labels: Mapping[str, str]) -> Object:
    return _namespace(namespace) | {"podSelector": {"matchLabels": dict(labels)}}


def _port(port: int, protocol: str = "TCP") -> Object:
    return {"port": port, "protocol": protocol}


def _rules(direction: str, peers: list[Object], port: int) -> list[Object]:
    # An empty list of peers would admit everybody: without any there is no rule at all.
    return [{direction: peers, "ports": [_port(port)]}] if peers else []


_DNS = [{"to": [_pods(DNS_NAMESPACE, {DNS_LABEL: DNS_VALUE})], "ports": [_port(53, "UDP"), _port(53, "TCP")]}]


def _policy(
    tenant: str,
    zone: str,
    name: str,
    pods: Object,
    *,
    ingress: list[Object] | None = None,
    egress: list[Object] | None = None,
) -> Object:
    types = [t for t, rules in (("Ingress", ingress), ("Egress", egress)) if rules is not None]
    spec: Object = {"podSelector": pods, "policyTypes": types, "ingress": ingress or [], "egress": egress or []}
    labels = {LABEL_MANAGED_BY: FIELD_MANAGER, LABEL_TENANT: tenant, LABEL_ZONE: zone}
    return named("networking.k8s.io/v1", "NetworkPolicy", tenant, name, labels) | {"spec": spec}
