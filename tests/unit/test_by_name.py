"""What pods may reach by name where the network is Cilium: exact hosts, and nothing where a name says nothing."""

from __future__ import annotations

from typing import Any

import pytest

from domicile.api.sites import ServedZone
from domicile.controllers.tenant import builders, by_name, network, policies
from domicile.controllers.tenant.view import TenantView
from tests.unit import views
from tests.unit.test_external_issuer import APPROVED, EXTERNAL

Object = dict[str, Any]
DOOR = {"host": "bank.example", "tls": {"secret": "bank-tls"}}
LOCAL = DOOR | {"sso": {"localUsers": True}}


def placed(
    stores: Object | None = None, *, cloud: str = "gcp", region: str = "europe-west3", **zone: Any
) -> ServedZone:
    """The zone, its own site with other stores."""
    own = views.site("gcp-frankfurt", cloud, region, "192.0.2.1")
    own["stores"] |= stores or {}
    own["stores"] = {k: v for k, v in own["stores"].items() if v is not None}
    peer = views.site("aws-frankfurt", "aws", "eu-central-1", "192.0.2.2")
    regions = [{"cloud": cloud, "regions": [region]}, {"cloud": "aws", "regions": sorted({region, "eu-central-1"})}]
    allowed = [r for r in regions if r["cloud"] == "aws" or cloud == "gcp"]
    spec = views.zone_spec(sites=[own, peer], allowedRegions=allowed, **zone)
    return ServedZone(name="eu", site="gcp-frankfurt", spec=spec)


def seen(zone: ServedZone, **changes: Any) -> TenantView:
    return views.view(zone=zone, **({"by_name": ()} | changes))


def opened(view: TenantView) -> dict[str, tuple[tuple[str, ...], str]]:
    """Hosts and port by name of the policy; the DNS rule has the same hosts."""
    found = {}
    for policy in by_name.policies(view):
        asked, reached = policy["spec"]["egress"]
        hosts = tuple(n["matchName"] for n in reached["toFQDNs"])
        [to_dns], [to_host] = asked["toPorts"], reached["toPorts"]
        assert tuple(n["matchName"] for n in to_dns["rules"]["dns"]) == hosts
        assert [p["port"] for p in to_dns["ports"]] == ["53", "53"]
        [port] = to_host["ports"]
        assert port["protocol"] == "TCP"
        found[policy["metadata"]["name"]] = (hosts, port["port"])
    return found


CLOUD: Object = {"profile": "cloud", "endpoint": None}
STORES: dict[str, tuple[Object, Object, tuple[tuple[str, ...], str] | None]] = {
    "a name": ({"endpoint": "https://s3.bank.example"}, {}, (("s3.bank.example",), "443")),
    "a port": ({"endpoint": "https://s3.bank.example:9443"}, {}, (("s3.bank.example",), "9443")),
    "in the clear": ({"endpoint": "http://s3.bank.example"}, {}, (("s3.bank.example",), "80")),
    "an address": ({}, {}, None),
    "Google": (CLOUD, {}, (("storage.europe-west3.rep.googleapis.com",), "443")),
    "Amazon": (
        CLOUD | {"accountId": "111122223333"},
        {"cloud": "aws", "region": "eu-west-1"},
        (("s3.eu-west-1.amazonaws.com", "gcp-frankfurt-live-1.s3.eu-west-1.amazonaws.com"), "443"),
    ),
}


@pytest.mark.parametrize(("stores", "place", "found"), STORES.values(), ids=STORES)
def test_the_store(stores: Object, place: Object, found: tuple[tuple[str, ...], str] | None) -> None:
    assert opened(seen(placed(stores, **place))) == ({} if found is None else {"allow-store-by-name": found})


IDENTITY = {"url": "https://login.bank.example", "cidrs": ["192.0.2.9/32"]}
DOORS: dict[str, tuple[Object, tuple[tuple[str, ...], str] | None]] = {
    "of browsers": ({}, (("login.bank.example",), "443")),
    "of doors": ({"doorUrl": "https://gate.bank.example:8443"}, (("gate.bank.example",), "8443")),
    "an address": ({"adminUrl": "https://192.0.2.9:8443"}, None),
    "pods": ({"pods": {"namespace": "sso", "labels": {"app": "keycloak"}, "port": 8443}}, None),
}


@pytest.mark.parametrize(("identity", "found"), DOORS.values(), ids=DOORS)
def test_the_identity_server(identity: Object, found: tuple[tuple[str, ...], str] | None) -> None:
    zone = placed(identity=IDENTITY | identity)
    door = opened(seen(zone, spec=views.tenant_spec(access=LOCAL)))
    assert door == ({} if found is None else {"allow-door-identity-by-name": found})
    assert opened(seen(zone)) == {}


def test_somebody_elses_issuer_and_its_endpoints() -> None:
    zone = placed(externalIssuers=[APPROVED | {"hosts": ["keys.example"], "port": 8443}])
    door = opened(seen(zone, spec=views.tenant_spec(access=DOOR | {"sso": {"external": EXTERNAL}})))
    hosts, port = door["allow-door-identity-by-name"]
    assert "keys.example" in hosts
    assert len(hosts) == 2
    assert port == "8443"
    unapproved = seen(placed(), spec=views.tenant_spec(access=DOOR | {"sso": {"external": EXTERNAL}}))
    assert opened(unapproved) == {}


def test_a_cluster_of_another_network_gets_none() -> None:
    zone = placed({"endpoint": "https://s3.bank.example"})
    kinds = {o["kind"] for o in builders.build(seen(zone, by_name=None))}
    assert by_name.KIND not in kinds
    assert by_name.KIND in {o["kind"] for o in builders.build(seen(zone))}


def test_network_policies_stay_as_they_are() -> None:
    zone = placed({"endpoint": "https://s3.bank.example", "endpointCidrs": ["192.0.2.0/24"]})
    assert network.network_policies(seen(zone)) == network.network_policies(seen(zone, by_name=None))


def test_a_store_that_has_a_name_needs_no_addresses() -> None:
    zone = placed({"endpoint": "https://s3.bank.example"})

    def isolated(view: TenantView) -> str:
        return next(v.reason for v in policies.judge(view) if v.type == "NetworkIsolated")

    assert isolated(seen(zone, by_name=None)) == "StoreAddressUnknown"
    assert isolated(seen(zone)) == "PoliciesApplied"


def test_every_list_is_written_out() -> None:
    [policy] = by_name.policies(seen(placed({"endpoint": "https://s3.bank.example"})))
    assert policy["specs"] == policy["spec"]["ingress"] == []
    assert policy["spec"]["endpointSelector"]["matchLabels"]


@pytest.mark.parametrize(
    ("policy", "opens"),
    [
        ({}, False),
        ({"spec": {"ingress": [], "egress": []}}, False),
        ({"spec": {"egress": [{"toEntities": ["world"]}]}}, True),
        ({"spec": {"ingress": [{}]}}, True),
        ({"specs": [{}, {"egress": [{"toCIDR": ["0.0.0.0/0"]}]}]}, True),
        ({"spec": {"egressDeny": [{}]}}, False),
    ],
)
def test_somebody_elses_policy(policy: Object, opens: bool) -> None:
    assert by_name.opens(policy) == opens
