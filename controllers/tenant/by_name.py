"""What a tenant's pods reach by name, where the cluster's network is Cilium: exact names, beside the network policies.

Policies only ever add. Pure. Kind and fields are those of cilium.io/v2 (https://docs.cilium.io/en/stable/security/policy/).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from domicile.api.common import FIELD_MANAGER, LABEL_MANAGED_BY, LABEL_TENANT, LABEL_ZONE
from domicile.api.zone import Cloud, Site
from domicile.controllers.tenant import login, way
from domicile.controllers.tenant.addresses import is_address, store_address
from domicile.controllers.tenant.parts import ASSISTANTS, DNS_LABEL, DNS_NAMESPACE, DNS_VALUE, DOORS, Object, named
from domicile.controllers.tenant.view import TenantView

API: Final = "cilium.io/v2"
KIND: Final = "CiliumNetworkPolicy"
# Of one host: no wildcard.
_HOST: Final = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", re.ASCII)
_CLUSTER_DNS: Final = {"k8s:io.kubernetes.pod.namespace": DNS_NAMESPACE, f"k8s:{DNS_LABEL}": DNS_VALUE}


def policies(view: TenantView) -> list[Object]:
    """One for each kind of pod that reaches hosts by name; none where the cluster doesn't know the kind."""
    if view.by_name is None or view.zone is None:
        return []
    ways = (
        ("allow-store-by-name", ASSISTANTS, None if way.led(view) else _store(view.zone.own, view.live_bucket)),
        ("allow-door-identity-by-name", DOORS, _identity(view)),
    )
    return [_policy(view, name, pods, *hosts) for name, pods, hosts in ways if hosts is not None]


def store_named(site: Site) -> bool:
    """Whether the site's store is reached by a name."""
    return _store(site, None) is not None


def _store(site: Site, bucket: str | None) -> tuple[list[str], int] | None:
    """Hosts and port of the live bucket; of a cloud's the regional ones, as in docs/assistant-contract.md."""
    host, port = store_address(site)
    if site.stores.endpoint is not None:
        return ([host], port) if _is_name(host) else None
    return [host, *([f"{bucket}.{host}"] if bucket and site.cloud is Cloud.AWS else [])], port


def _identity(view: TenantView) -> tuple[list[str], int] | None:
    """Hosts and port at which front doors reach who logs people in."""
    asked = login.servers(view)
    hosts = [h for h in asked.hosts if _is_name(h)] if asked and not login.led(view) else []
    return (hosts, asked.port) if asked and hosts else None


def _is_name(host: str) -> bool:
    return _HOST.fullmatch(host) is not None and not is_address(host)


def _policy(view: TenantView, name: str, pods: Mapping[str, str], hosts: list[str], port: int) -> Object:
    names = [{"matchName": h} for h in hosts]
    labels = {LABEL_MANAGED_BY: FIELD_MANAGER, LABEL_TENANT: view.name, LABEL_ZONE: view.spec.zone}
    # Cilium learns a name's addresses from the answers that its DNS proxy sees: the first rule leads questions there.
    asked = {
        "toEndpoints": [{"matchLabels": dict(_CLUSTER_DNS)}],
        "toPorts": [{"ports": [_port(53, "UDP"), _port(53, "TCP")], "rules": {"dns": names}}],
    }
    reached = {"toFQDNs": names, "toPorts": [{"ports": [_port(port, "TCP")]}]}
    rule = {"endpointSelector": {"matchLabels": dict(pods)}, "ingress": [], "egress": [asked, reached]}
    return named(API, KIND, view.name, name, labels) | {"spec": rule, "specs": []}


def _port(port: int, protocol: str) -> Object:
    return {"port": str(port), "protocol": protocol}


def opens(policy: Object) -> bool:
    """Whether a policy, perhaps somebody else's, lets anything through."""
    rules = [policy.get("spec") or {}, *(policy.get("specs") or [])]
    return any(rule.get(way) for rule in rules for way in ("ingress", "egress"))
