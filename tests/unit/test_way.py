"""How pods reach their live bucket, and who logs people in, where the installation goes through the site's way out."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pytest

from domicile.api.common import is_own_secret
from domicile.api.conditions import ConditionType
from domicile.controllers.egress.accounts import Destination
from domicile.controllers.tenant import builders, by_name, front_door, login, names, network, plan, policies, reach, way
from domicile.controllers.tenant.checks import Checks
from domicile.controllers.tenant.flows import flows
from domicile.controllers.tenant.view import DoorSecrets, TenantView
from tests.unit import views
from tests.unit.test_by_name import placed

Object = dict[str, Any]
BUCKET = "live-one"
CLOUD: Object = {"profile": "cloud", "endpoint": None}
NETWORKS = ["10.20.0.0/26"]
NAMED = {"endpoint": "https://s3.bank.example:9000", "endpointCidrs": NETWORKS}
AMAZON = CLOUD | {"accountId": "123456789012"}


def seen(stores: Object, *, goes_out: bool = True, bucket: str = BUCKET, **place: Any) -> TenantView:
    made = views.view(zone=placed(stores, **place), live_bucket=bucket, by_name=())
    return installed(made, goes_out=goes_out)


def installed(made: TenantView, *, goes_out: bool) -> TenantView:
    """The same where the installation goes through the way out, or not; the Services are there."""
    view = replace(made, platform=replace(made.platform, goes_out=goes_out))
    return replace(view, addresses={host: (f"10.0.0.{n}",) for n, host in enumerate(names.hosts(view), 1)})


@pytest.mark.parametrize(
    ("view", "found"),
    [
        (seen(CLOUD), ("storage.europe-west3.rep.googleapis.com", 443, ())),
        (
            seen(AMAZON, cloud="aws", region="eu-central-1"),
            (f"{BUCKET}.s3.eu-central-1.amazonaws.com", 443, ()),
        ),
        (
            seen(AMAZON, bucket="live.one", cloud="aws", region="eu-central-1"),
            ("s3.eu-central-1.amazonaws.com", 443, ()),
        ),
        (seen(NAMED), ("s3.bank.example", 9000, tuple(NETWORKS))),
        (seen(NAMED | {"endpointCidrs": ["169.254.0.0/16"]}), None),
    ],
    ids=["Google", "Amazon", "Amazon, by path", "a name", "networks where nothing may be"],
)
def test_the_list_has_the_buckets_host_alone(view: TenantView, found: tuple[str, int, tuple[str, ...]] | None) -> None:
    assert way.destinations(view) == ((Destination(*found),) if found else ())


def _containers(view: TenantView) -> tuple[Object, Object, Object]:
    """Guard, assistant and the pod."""
    assert view.zone
    pod = builders.deployment(view, view.spec.assistants[0], view.zone)["spec"]["template"]["spec"]
    return pod["initContainers"][0], pod["containers"][0], pod


def _env(container: Object) -> dict[str, str]:
    return {e["name"]: e["value"] for e in container["env"]}


def _opened(view: TenantView, name: str) -> list[Object]:
    """What a network policy opens."""
    [policy] = [p for p in network.network_policies(view) if p["metadata"]["name"] == name]
    found: list[Object] = policy["spec"]["egress"]
    return found


def test_the_guard_leads_and_no_address_of_the_store_is_open() -> None:
    view = seen(NAMED)
    guard, assistant, pod = _containers(view)
    assert _env(guard)["DOMICILE_WAY_OUT"] == "domicile-egress.domicile-system.svc:3129"
    assert _env(assistant)["HTTPS_PROXY"] == f"http://127.0.0.1:{_env(guard)['DOMICILE_WAY_OUT_PORT']}"
    [mount] = [m for m in guard["volumeMounts"] if m["name"] == way.SECRET]
    assert _env(guard)["DOMICILE_WAY_OUT_ACCOUNT"] == f"{mount['mountPath']}/egress"
    assert way.SECRET not in {m["name"] for m in assistant["volumeMounts"]}, "the account is the guard's alone"
    [volume] = [v for v in pod["volumes"] if v["name"] == way.SECRET]
    assert volume["secret"]["secretName"] == way.SECRET
    [rule] = _opened(view, "allow-store")
    [peer] = rule["to"]
    assert peer["podSelector"]["matchLabels"] == {"app.kubernetes.io/component": "egress"}
    assert peer["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "domicile-system"}
    assert rule["ports"] == [{"port": 3129, "protocol": "TCP"}]
    assert "allow-store-by-name" not in {p["metadata"]["name"] for p in by_name.policies(view)}
    places = {p.name: p.open_to for p in reach.checks(view)[0].places}
    assert places["store"] == frozenset()
    assert reach.ASSISTANT in places["way out"]


@pytest.mark.parametrize(
    "view",
    [seen(NAMED, goes_out=False), seen({"endpoint": "http://s3.bank.example:9000", "endpointCidrs": NETWORKS})],
    ids=["no way out", "in the clear"],
)
def test_others_reach_it_themselves(view: TenantView) -> None:
    guard, assistant, pod = _containers(view)
    assert not [name for name in (*_env(guard), *_env(assistant)) if "WAY_OUT" in name or "PROXY" in name]
    assert way.SECRET not in {v["name"] for v in pod["volumes"]}
    assert way.destinations(view) == ()
    assert [to["ipBlock"]["cidr"] for rule in _opened(view, "allow-store") for to in rule["to"]] == NETWORKS
    places = {p.name: p.open_to for p in reach.checks(view)[0].places}
    assert reach.ASSISTANT in places["store"]
    assert reach.ASSISTANT not in places["way out"]


def test_who_is_led_looks_up_no_names() -> None:
    """The guard's servers are in /etc/hosts, and no policy opens DNS; all others look up as before."""
    view, other = seen(NAMED), seen(NAMED, goes_out=False)
    _, _, pod = _containers(view)
    assert (pod["dnsPolicy"], pod["dnsConfig"]["nameservers"]) == ("None", ["127.0.0.1"])
    aliases = {name: alias["ip"] for alias in pod["hostAliases"] for name in alias["hostnames"]}
    guard = _env(_containers(view)[0])
    asked = [guard["DOMICILE_LEASE_URL"], guard["DOMICILE_MODEL_URL"], f"https://{guard['DOMICILE_WAY_OUT']}"]
    assert set(aliases) == {urlsplit(url).hostname for url in asked}
    assert len(set(aliases.values())) == len(asked)
    for each, dns in ((view, []), (other, ["53/TCP", "53/UDP"])):
        pods = {"helpdesk": {"app.kubernetes.io/component": "assistant"}}
        opened = flows(network.network_policies(each), pods)
        assert sorted(f.port for f in opened if f.source == "helpdesk" and f.port.startswith("53/")) == dns
    assert not {"dnsPolicy", "dnsConfig", "hostAliases"} & _containers(other)[2].keys()
    places = {c.component: {p.name for p in c.places if c.component not in p.open_to} for c in reach.checks(view)}
    assert "cluster DNS" in places[reach.ASSISTANT]
    assert not any("cluster DNS" in {p.name for p in c.places} for c in reach.checks(view)[1:] + reach.checks(other))


def test_a_pod_template_opens_no_dns() -> None:
    config = {"nameservers": ["203.0.113.53"], "searches": ["example"], "options": [{"name": "ndots"}]}
    theirs = {"spec": {"dnsPolicy": "ClusterFirst", "dnsConfig": config, "hostAliases": []}}
    assistant = {"name": "helpdesk", "mode": "free", "image": "registry.example/a:1", "podTemplate": theirs}
    view = replace(seen(NAMED), spec=views.tenant_spec(assistants=[assistant]))
    _, _, pod = _containers(view)
    assert (pod["dnsPolicy"], pod["dnsConfig"]) == ("None", {"nameservers": ["127.0.0.1"]})
    assert len(pod["hostAliases"]) == 3


def test_there_are_no_pods_before_addresses_are_known() -> None:
    view = seen(NAMED)
    missing = dict(view.addresses)
    missing.popitem()

    def deployments(of: TenantView) -> set[str]:
        return {o["metadata"]["name"] for o in builders.build(of) if o["kind"] == "Deployment"}

    assert "helpdesk" in deployments(view)
    assert deployments(replace(view, addresses=missing)) == deployments(view) - {"helpdesk"}
    assert "helpdesk" in deployments(replace(seen(NAMED, goes_out=False), addresses={}))
    judged = {v.reason: v.message for v in policies.judge(replace(view, addresses=missing))}
    [unknown] = view.addresses.keys() - missing.keys()
    assert unknown in judged["ServiceMissing"]
    # What is to stop stops all the same.
    assert "helpdesk" in deployments(replace(view, addresses={}, restoring="r1"))
    assert "helpdesk" in deployments(replace(view, addresses={}, claim=None))


def test_checks_without_dns_try_addresses() -> None:
    view = seen(NAMED)
    [check, *_] = reach.checks(view)
    job = reach.job(view, check, {}, {"s3.bank.example": "10.20.0.7"})
    [container] = job["spec"]["template"]["spec"]["containers"]
    assert json.loads(_env(container)["DOMICILE_PLACES"])["store"] == ["10.20.0.7", 9000]


def test_its_addresses_need_not_be_known() -> None:
    stores = NAMED | {"endpointCidrs": []}
    reasons = {
        goes_out: {v.reason for v in policies.judge(replace(seen(stores, goes_out=goes_out), by_name=None))}
        for goes_out in (False, True)
    }
    assert "StoreAddressUnknown" in reasons[False]
    assert "StoreAddressUnknown" not in reasons[True]
    judged = [v for v in policies.judge(seen(stores)) if v.type is ConditionType.NETWORK_ISOLATED]
    assert [v.status for v in judged] == ["True"]


def test_networks_where_nothing_may_be_are_told() -> None:
    judged = policies.judge(seen(NAMED | {"endpointCidrs": ["169.254.0.0/16"]}))
    [verdict] = [v for v in judged if v.type is ConditionType.NETWORK_ISOLATED]
    assert (verdict.status, verdict.reason) == ("False", "StoreAddressRefused")
    assert "169.254.0.0/16" in verdict.message


def test_a_plan_shows_it() -> None:
    view = seen(NAMED)
    assert view.zone
    told = plan.plan(view.name, view.spec, view.zone, view.platform, view.now)
    assert (way.SECRET, "Secret") in {(o["metadata"]["name"], o["kind"]) for o in told.objects}
    assert any(f.source == "helpdesk" and "egress" in f.target and f.port == "3129/TCP" for f in told.flows)


SSO: Object = {"host": "bank.example", "tls": {"secret": "tls"}, "sso": {"localUsers": True}}
SERVER: Object = {"url": "https://sso.bank.example:8443", "cidrs": NETWORKS}
ISSUER: Object = {
    "issuer": "https://login.bank.example/x",
    "hosts": ["keys.bank.example"],
    "cidrs": NETWORKS,
    "place": "Frankfurt am Main",
    "statement": "Contract of 3 May, annex 2",
    "attestedOn": "2026-01-01",
    "expiresOn": "2099-05-03",
}
OTHERS: Object = {
    "issuer": ISSUER["issuer"],
    "clientId": "assistants",
    "clientSecret": "corp-login",
    "mfa": {"claim": "amr", "values": ["mfa"]},
    "roleMappings": [{"group": "staff", "role": "member"}],
}


def door(*, goes_out: bool = True, external: Object | None = None, **server: Any) -> TenantView:
    """A tenant whose people log in at the zone's server, or at somebody else's."""
    sites = {"identity": SERVER | server} if external is None else {"externalIssuers": [ISSUER | external]}
    sso = SSO if external is None else SSO | {"sso": {"external": OTHERS}}
    made = views.view(
        views.tenant_spec(access=sso),
        zone=placed(NAMED, **sites),
        live_bucket=BUCKET,
        by_name=(),
        door=DoorSecrets("c" * 32, "p" * 32),
        sessions_password="s" * 32,
        identity_authorities="PEM",
    )
    return installed(made, goes_out=goes_out)


def _door_pod(view: TenantView) -> tuple[str, Object, Object]:
    """The config, the sidecar and the pod."""
    objects = {o["kind"]: o for o in front_door.objects(view)}
    pod = objects["Deployment"]["spec"]["template"]["spec"]
    return objects["ConfigMap"]["data"]["httpd.conf"], pod["initContainers"][0], pod


def test_doors_reach_who_logs_people_in_through_it_alone() -> None:
    view = door()
    assert login.destinations(view) == (Destination("sso.bank.example", 8443, tuple(NETWORKS)),)
    config, sidecar, pod = _door_pod(view)
    assert _env(sidecar)["DOMICILE_WAY_OUT"] == "domicile-egress.domicile-system.svc:3129"
    assert f'OIDCOutgoingProxy "127.0.0.1:{_env(sidecar)["DOMICILE_WAY_OUT_PORT"]}"' in config.splitlines()
    [mount] = [m for m in sidecar["volumeMounts"] if m["name"] == login.SECRET]
    assert _env(sidecar)["DOMICILE_WAY_OUT_ACCOUNT"] == f"{mount['mountPath']}/egress"
    assert login.SECRET not in {m["name"] for m in pod["containers"][0]["volumeMounts"]}, "httpd holds no account"
    [volume] = [v for v in pod["volumes"] if v["name"] == login.SECRET]
    assert volume["secret"]["secretName"] == login.SECRET
    assert "optional" not in volume["secret"], "pods wait for the account"
    assert is_own_secret(login.SECRET), "no pod template may name it"
    assert _opened(view, "allow-door-identity") == _opened(view, "allow-store"), "the way out, and nothing else"
    assert "allow-door-identity-by-name" not in {p["metadata"]["name"] for p in by_name.policies(view)}
    places = {p.name: p.open_to for p in reach.checks(view)[0].places}
    assert places["identity server"] == frozenset()
    assert reach.DOOR in places["way out"]


@pytest.mark.parametrize(
    "view",
    [
        door(goes_out=False),
        door(url="https://10.20.0.7"),
        door(doorUrl="https://keycloak.sso.svc:8443"),
        door(external={"issuer": "https://login.bank.example/x", "hosts": ["10.20.0.7"]}),
    ],
    ids=["no way out", "an address", "a Service", "a host of another's is an address"],
)
def test_other_servers_are_reached_by_doors_themselves(view: TenantView) -> None:
    assert login.destinations(view) == ()
    assert [to["ipBlock"]["cidr"] for rule in _opened(view, "allow-door-identity") for to in rule["to"]] == NETWORKS
    places = {p.name: p.open_to for p in reach.checks(view)[0].places}
    assert reach.DOOR not in places["way out"]
    if view.external is None:
        config, sidecar, pod = _door_pod(view)
        assert "OIDCOutgoingProxy" not in config
        assert not [name for name in _env(sidecar) if "WAY_OUT" in name]
        assert login.SECRET not in {v["name"] for v in pod["volumes"]}
        assert reach.DOOR in places["identity server"]


def test_pods_of_the_cluster_are_reached_as_pods() -> None:
    pods = {"namespace": "sso", "labels": {"app": "sso"}, "port": 8443}
    view = door(pods=pods, cidrs=[])
    assert login.destinations(view) == ()
    [rule] = _opened(view, "allow-door-identity")
    [peer] = rule["to"]
    assert peer["podSelector"]["matchLabels"] == {"app": "sso"}


def test_hosts_of_somebody_elses_issuer_are_on_the_list_with_their_port() -> None:
    listed = login.destinations(door(external={"port": 8443}))
    assert {(d.host, d.port) for d in listed} == {("login.bank.example", 8443), ("keys.bank.example", 8443)}


def test_an_issuer_that_nobody_vouches_for_today_is_on_no_list() -> None:
    view = door(external={"expiresOn": str(views.NOW.date())})
    assert "IssuerNotAttested" in {v.reason for v in policies.judge(view)}
    assert login.destinations(view) == ()


def test_networks_of_logins_where_nothing_may_be_are_told() -> None:
    view = door(cidrs=["169.254.0.0/16"])
    assert login.destinations(view) == ()
    [verdict] = [v for v in policies.judge(view) if v.type is ConditionType.SSO_CONFIGURED]
    assert (verdict.status, verdict.reason) == ("False", "LoginAddressRefused")
    assert "169.254.0.0/16" in verdict.message
    _, _, pod = _door_pod(view)
    [volume] = [v for v in pod["volumes"] if v["name"] == login.SECRET]
    assert volume["secret"]["optional"], "there is none, and open paths go on"


def test_a_plan_shows_the_way_of_doors() -> None:
    view = door()
    assert view.zone
    told = plan.plan(view.name, view.spec, view.zone, view.platform, view.now)
    assert (login.SECRET, "Secret") in {(o["metadata"]["name"], o["kind"]) for o in told.objects}
    assert any(f.source == "front-door" and "egress" in f.target and f.port == "3129/TCP" for f in told.flows)


class Services:
    """An API server that knows Services by name."""

    def __init__(self, known: dict[tuple[str, str], Object]) -> None:
        self.known = known

    async def read(self, _: str, kind: str, name: str, namespace: str) -> Object | None:
        assert kind == "Service"
        return self.known.get((name, namespace))

    async def list(self, *_: str, labels: str) -> list[Object]:
        assert labels == "k8s-app=kube-dns"
        return [service for (_, namespace), service in self.known.items() if namespace == "kube-system"]


async def test_addresses_are_looked_up_for_who_may_not() -> None:
    """Those of Services by the API server; what nobody knows stays a name."""
    stores = NAMED | {"endpoint": "https://localhost.localdomain.invalid"}
    view = seen(stores)
    known: dict[tuple[str, str], Object] = {
        ("domicile-lease", "domicile-system"): {
            "spec": {"clusterIP": "10.0.0.7", "clusterIPs": ["10.0.0.7", "fd00::7"]}
        },
        ("domicile-sessions", "domicile-system"): {"spec": {"clusterIP": "None", "clusterIPs": ["None"]}},
        ("coredns", "kube-system"): {"spec": {"clusterIP": "10.0.0.10"}},
    }
    checks = Checks(Services(known))  # type: ignore[arg-type]
    assistant, gateway, *_ = reach.checks(view)
    check = assistant._replace(places=(*assistant.places, reach.Place("here", "localhost", 443)))
    found = await checks.looked_up(view, check)
    assert found.pop("localhost") in {"127.0.0.1", "::1"}
    assert found == {
        "domicile-lease.domicile-system.svc": "10.0.0.7",
        "kube-dns.kube-system.svc": "10.0.0.10",
        "169.254.169.254": "169.254.169.254",
        "192.0.2.2": "192.0.2.2",
    }
    assert await checks.looked_up(view, gateway) == {}
