"""How a tenant's pods reach their live bucket where the installation goes through the site's way out. Pure.

The guard has the way's certificate and an account of its own; the assistant beside it, and the guard's own records, use
the guard's loopback. The list has the bucket's host: on AWS that of this bucket alone.
"""

from __future__ import annotations

from domicile.api.egress import leads
from domicile.api.zone import Cloud, Site
from domicile.controllers.egress import destinations as egress
from domicile.controllers.egress.accounts import Destination, destination
from domicile.controllers.tenant.addresses import store_address
from domicile.controllers.tenant.parts import Object, of_secret
from domicile.controllers.tenant.view import TenantView

SECRET = "way-out"  # noqa: S105 - the name of a Secret
PORT = 8083
_MOUNT = "/etc/domicile/way-out"


def led(view: TenantView) -> bool:
    """Whether assistants reach their store through the way out."""
    return view.platform.goes_out and view.zone is not None and _leads(view.zone.own)


def destinations(view: TenantView) -> tuple[Destination, ...]:
    """What they may reach there."""
    if view.zone is None or view.live_bucket is None or not led(view):
        return ()
    site = view.zone.own
    host, port = store_address(site)
    # AWS's certificates hold for one label in front (S3 User Guide, virtual hosting of buckets).
    if site.stores.endpoint is None and site.cloud is Cloud.AWS and "." not in view.live_bucket:
        host = f"{view.live_bucket}.{host}"
    found = destination(host, port, site.stores.endpoint_cidrs)
    return (found,) if isinstance(found, Destination) else ()


def fault(site: Site) -> str | None:
    """Why the way out leads to no store of the site's; None where it does, or need not."""
    found = destination(*store_address(site), site.stores.endpoint_cidrs) if _leads(site) else None
    return found if isinstance(found, str) else None


def guard_env(view: TenantView) -> dict[str, str]:
    """The guard's variables."""
    return leading(view) if led(view) else {}


def leading(view: TenantView) -> dict[str, str]:
    """Variables of a container that leads to the way out from its pod's loopback."""
    to = egress.url(view.platform.namespace).removeprefix("https://")
    return {"DOMICILE_WAY_OUT": to, "DOMICILE_WAY_OUT_ACCOUNT": f"{_MOUNT}/egress", "DOMICILE_WAY_OUT_PORT": str(PORT)}


def assistant_env(view: TenantView) -> dict[str, str]:
    """The assistant's (docs/assistant-contract.md)."""
    return {"HTTPS_PROXY": f"http://127.0.0.1:{PORT}", "NO_PROXY": "127.0.0.1,localhost"} if led(view) else {}


def mount(secret: str) -> Object:
    """Where such a container has its account, which nobody else mounts."""
    return {"name": secret, "mountPath": _MOUNT, "readOnly": True}


def volume(secret: str, *, optional: bool = False) -> Object:
    """Its volume."""
    return of_secret(secret, secret, egress.TENANT_KEY, optional=optional)


def _leads(site: Site) -> bool:
    return site.stores.endpoint is None or leads(site.stores.endpoint)
