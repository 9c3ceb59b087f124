"""What the installation itself may reach through the site's way out: stores, keys and STS of its zones' sites."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from urllib.parse import urlsplit

from domicile.api.egress import leads
from domicile.api.zone import Cloud, Profile, Site
from domicile.backup.kek import aws, gcp
from domicile.backup.stores import accounts, aws_identity, endpoint
from domicile.controllers.egress.accounts import Destination
from domicile.controllers.egress.destinations import HTTPS

log = logging.getLogger(__name__)


def destinations(sites: Iterable[Site]) -> tuple[Destination, ...]:
    """Regional endpoints of these sites, with TLS and a full name; others are reached directly.

    A store lies in the networks that its sites name (endpointCidrs), if any does; keys and STS have public addresses.
    """
    networks: dict[tuple[str, int], set[str]] = {}
    for site in sites:
        for url in _urls(site):
            at = urlsplit(url)
            found = networks.setdefault((at.hostname or "", at.port or HTTPS), set())
            if url == endpoint(site):
                found.update(site.stores.endpoint_cidrs)
    made = []
    for (host, port), named in sorted(networks.items()):
        try:
            made.append(Destination(host, port, tuple(sorted(named))))
        except ValueError as error:
            log.error("the way out does not lead to %s: %s", host, error)  # noqa: TRY400
    return tuple(made)


def _urls(site: Site) -> Iterator[str]:
    if leads(store := endpoint(site)):
        yield store
    keys = (site.key, *site.key.previous)
    if site.stores.profile is Profile.CLOUD or any(k.aws_kms or k.gcp_kms for k in keys):
        yield from _of_aws(site.region) if site.cloud is Cloud.AWS else _of_google(site.region)


def _of_aws(region: str) -> list[str]:
    return [aws.endpoint(region), aws_identity.sts_endpoint(region)]


def _of_google(region: str) -> list[str]:
    hosts = (h for service in ("sts", "iamcredentials") for h in accounts.google_hosts(service, region))
    return [gcp.endpoint(region), *accounts.KEY_TOKEN_URLS, *(f"https://{host}" for host in hosts)]
