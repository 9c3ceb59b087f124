"""What the installation itself may reach through the site's way out: what its zones name, and clouds' services."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from urllib.parse import urlsplit

from domicile.api.egress import leads
from domicile.api.zone import Cloud, Profile, ResidencyZoneSpec, Site
from domicile.backup.kek import aws, gcp
from domicile.backup.stores import accounts, aws_identity, endpoint
from domicile.controllers.egress.accounts import Destination, destination
from domicile.controllers.egress.destinations import HTTPS

# URL, and the networks that its addresses must lie in; none: they are public.
_Place = tuple[str, Sequence[str]]


def stores(zones: Iterable[ResidencyZoneSpec]) -> tuple[Destination, ...]:
    """Stores, keys and STS of these zones' sites at regional endpoints."""
    return _merged(place for zone in zones for site in zone.sites for place in _of_site(site))


def logins(zones: Iterable[ResidencyZoneSpec], today: date) -> tuple[Destination, ...]:
    """Who logs people in, as far as somebody vouches for them today."""
    return _merged(place for zone in zones for place in _of_identity(zone, today))


def faults(zone: ResidencyZoneSpec, today: date) -> tuple[str, ...]:
    """Why the way out does not lead to what a zone names, for this or for front doors; one sentence for each."""
    places = [p for site in zone.sites for p in _of_site(site)] + list(_of_identity(zone, today))
    if zone.identity is not None and zone.identity.pods is None:
        places.append((zone.identity.for_doors, zone.identity.cidrs))
    return tuple(dict.fromkeys(found for place in places if isinstance(found := _destination(place), str)))


def _merged(places: Iterable[_Place]) -> tuple[Destination, ...]:
    """One for each host and port. Where any zone names networks of it, all addresses lie in some of these: who asks is
    in one cluster, whose DNS has one answer.
    """
    networks: dict[tuple[str, int], set[str]] = {}
    for place in places:
        if isinstance(found := _destination(place), Destination):
            networks.setdefault((found.host, found.port), set()).update(found.cidrs)
    return tuple(Destination(*at, tuple(sorted(cidrs))) for at, cidrs in sorted(networks.items()))


def _destination(place: _Place) -> Destination | str | None:
    """Or why there can't be one; None for what has no TLS or no full name, which is reached directly."""
    url, cidrs = place
    if not leads(url):
        return None
    at = urlsplit(url)
    found = destination(at.hostname or "", at.port or HTTPS, cidrs)
    return f"{at.hostname}: {found}." if isinstance(found, str) else found


def _of_site(site: Site) -> Iterator[_Place]:
    yield endpoint(site), site.stores.endpoint_cidrs
    keys = (site.key, *site.key.previous)
    if site.stores.profile is Profile.CLOUD or any(k.aws_kms or k.gcp_kms for k in keys):
        urls = _of_aws(site.region) if site.cloud is Cloud.AWS else _of_google(site.region)
        yield from ((url, ()) for url in urls)


def _of_identity(zone: ResidencyZoneSpec, today: date) -> Iterator[_Place]:
    server = zone.identity
    if server is not None and server.pods is None:
        yield server.for_operators, server.cidrs
    for approved in zone.external_issuers:
        if approved.counts(today):
            hosts = (urlsplit(approved.issuer).hostname, *approved.hosts)
            for url in (approved.issuer, *(f"https://{host}:{approved.port}" for host in hosts)):
                yield url, approved.cidrs


def _of_aws(region: str) -> list[str]:
    return [aws.endpoint(region), aws_identity.sts_endpoint(region)]


def _of_google(region: str) -> list[str]:
    hosts = (h for service in ("sts", "iamcredentials") for h in accounts.google_hosts(service, region))
    return [gcp.endpoint(region), *accounts.KEY_TOKEN_URLS, *(f"https://{host}" for host in hosts)]
