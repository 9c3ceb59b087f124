"""Where a site's store is. Pure."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from domicile.api.zone import Cloud, Profile, Site


def store_address(site: Site) -> tuple[str, int]:
    """Host and TCP port of a site's store; a cloud's is the one of its region (docs/assistant-contract.md)."""
    if site.stores.endpoint is not None:
        url = urlsplit(site.stores.endpoint)
        return url.hostname or "", url.port or (443 if url.scheme == "https" else 80)
    if site.cloud is Cloud.GCP:
        return f"storage.{site.region}.rep.googleapis.com", 443
    # The European Sovereign Cloud has a domain of its own.
    return f"s3.{site.region}.{'amazonaws.eu' if site.region.startswith('eusc-') else 'amazonaws.com'}", 443


def store_peers(site: Site) -> tuple[list[str], int]:
    """CIDRs and TCP port of a site's store; no CIDRs where the zone doesn't name them."""
    url = urlsplit(site.stores.endpoint or "https://")
    port = url.port or (443 if url.scheme == "https" else 80)
    cidrs = list(site.stores.endpoint_cidrs)
    if not cidrs and site.stores.profile is Profile.COMPATIBLE and url.hostname and _is_ipv4(url.hostname):
        cidrs = [f"{url.hostname}/32"]
    return cidrs, port


def is_address(host: str) -> bool:
    """Whether a host is an address and no name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_ipv4(host: str) -> bool:
    return is_address(host) and ":" not in host
