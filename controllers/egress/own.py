"""What the installation itself may reach through the site's way out: what its zones name, and clouds' services."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import urlsplit

from domicile.api.egress import leads
from domicile.api.zone import Cloud, Profile, ResidencyZoneSpec, Site
from domicile.backup.kek import aws, gcp
from domicile.backup.stores import accounts, aws_identity, endpoint
from domicile.controllers.egress.accounts import Destination
from domicile.controllers.egress.destinations import HTTPS

log = logging.getLogger(__name__)


def destinations(zones: Iterable[ResidencyZoneSpec]) -> tuple[Destination, ...]:
    """Stores, keys and STS of these zones' sites at regional endpoints, and who logs people in there.

    With TLS and a full name: others are reached directly. Where a zone names networks (``endpointCidrs``, ``cidrs``),
    all addresses lie in these; else they are public.
    """
    networks: dict[tuple[str, int], set[str]] = {}
    for zone in zones:
        for url, cidrs in (*(u for site in zone.sites for u in _of_site(site)), *_of_identity(zone)):
            if leads(url):
                at = urlsplit(url)
                networks.setdefault((at.hostname or "", at.port or HTTPS), set()).update(cidrs)
    made = []
    for (host, port), named in sorted(networks.items()):
        try:
            made.append(Destination(host, port, tuple(sorted(named))))
        except ValueError as error:
            log.error("the way out does not lead to %s: %s", host, error)  # noqa: TRY400
    return tuple(made)


def _of_site(site: Site) -> Iterator[tuple[str, Sequence[str]]]:
    yield endpoint(site), site.stores.endpoint_cidrs
    keys = (site.key, *site.key.previous)
    if site.stores.profile is Profile.CLOUD or any(k.aws_kms or k.gcp_kms for k in keys):
        urls = _of_aws(site.region) if site.cloud is Cloud.AWS else _of_google(site.region)
        yield from ((url, ()) for url in urls)


def _of_identity(zone: ResidencyZoneSpec) -> Iterator[tuple[str, Sequence[str]]]:
    server = zone.identity
    if server is not None and server.pods is None:
        yield server.for_operators, server.cidrs
    for approved in zone.external_issuers:
        hosts = (urlsplit(approved.issuer).hostname, *approved.hosts)
        for url in (approved.issuer, *(f"https://{host}:{approved.port}" for host in hosts)):
            yield url, approved.cidrs


def _of_aws(region: str) -> list[str]:
    return [aws.endpoint(region), aws_identity.sts_endpoint(region)]


def _of_google(region: str) -> list[str]:
    hosts = (h for service in ("sts", "iamcredentials") for h in accounts.google_hosts(service, region))
    return [gcp.endpoint(region), *accounts.KEY_TOKEN_URLS, *(f"https://{host}" for host in hosts)]
