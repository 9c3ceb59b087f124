"""What names an assistant's pods know where they need no DNS: those of the servers that their guards call. Pure.

A name can carry bytes to whoever answers for it. Where the store is reached through the site's way out, which looks up
names itself, assistants may ask nobody for any; Services' addresses are in their pods' /etc/hosts.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from domicile.controllers.egress import destinations as egress
from domicile.controllers.tenant import gateway, way
from domicile.controllers.tenant.parts import Object
from domicile.controllers.tenant.view import TenantView


def hosts(view: TenantView) -> tuple[str, ...]:
    """Names of the Services whose addresses are needed, ``<service>.<namespace>.svc``."""
    if not way.led(view):
        return ()
    urls = (view.platform.lease_url, gateway.url(view.name), egress.url(view.platform.namespace))
    return tuple(urlsplit(url).hostname or "" for url in urls)


def missing(view: TenantView) -> tuple[str, ...]:
    """Those of them that have no address: pods could not work."""
    return tuple(host for host in hosts(view) if not view.addresses.get(host))


def of_pod(view: TenantView) -> Object:
    """Fields of a pod's spec."""
    if not way.led(view):
        return {}
    aliases = [{"ip": ip, "hostnames": [host]} for host in hosts(view) for ip in view.addresses.get(host, ())]
    # Nobody answers on the loopback: whoever asks for another name learns at once that there is none.
    return {"dnsPolicy": "None", "dnsConfig": {"nameservers": ["127.0.0.1"]}, "hostAliases": aliases}


def service(host: str) -> tuple[str, str]:
    """Name and namespace of the Service that a name of the cluster is."""
    name, namespace, *_ = host.split(".")
    return name, namespace


def of_service(found: Object | None) -> tuple[str, ...]:
    """Addresses of a Service; none of one that is headless, or is not there."""
    spec = (found or {}).get("spec", {})
    return tuple(ip for ip in spec.get("clusterIPs") or [spec.get("clusterIP")] if ip and ip != "None")
