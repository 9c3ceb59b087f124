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

    Where a site names networks of its endpoint (endpointCidrs), its keys and STS must lie in them, too.
    """
    found = set()
    for site in sites:
        networks = tuple(sorted(site.stores.endpoint_cidrs))
        for at in map(urlsplit, _urls(site)):
            try:
                found.add(Destination(at.hostname or "", at.port or HTTPS, networks))
            except ValueError as error:
                log.error("the way out does not lead to %s of site %s: %s", at.hostname, site.name, error)  # noqa: TRY400
    return tuple(sorted(found))


def _urls(site: Site) -> Iterator[str]:
    store = endpoint(site)
    if leads(store):
        yield store
    if site.stores.profile is Profile.CLOUD or site.key.aws_kms or site.key.gcp_kms:
        yield from _of_aws(site.region) if site.cloud is Cloud.AWS else _of_google(site.region)


def _of_aws(region: str) -> list[str]:
    return [aws.endpoint(region), aws_identity.sts_endpoint(region)]


def _of_google(region: str) -> list[str]:
    hosts = (h for service in ("sts", "iamcredentials") for h in accounts.google_hosts(service, region))
    return [gcp.endpoint(region), *accounts.KEY_TOKEN_URLS, *(f"https://{host}" for host in hosts)]
