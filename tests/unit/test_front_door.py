"""The front door's objects: what is made when, who reaches whom, and what no tenant's spec can write into a config."""

from __future__ import annotations

import base64
from datetime import timedelta
from typing import Any

import pytest

from domicile.api.sites import ServedZone
from domicile.controllers.tenant import builders, front_door, network
from domicile.controllers.tenant.view import Certificate, ClaimView, DoorSecrets, TenantView
from tests.unit.views import NOW, tenant_spec, view, zone_spec

Object = dict[str, Any]
IDENTITY = {"url": "https://sso.example", "adminUrl": "https://192.0.2.9:8443", "cidrs": ["192.0.2.9/32"]}
SSO = {"localUsers": True, "session": {"idleSeconds": 600, "maxSeconds": 3600}}


def with_door(access: Object | None = None, *, identity: Object | None = None, **changes: Any) -> TenantView:
    asked = {
        "clients": [{"namespace": "ingress"}],
        "host": "bank.example",
        "tls": {"secret": "bank-tls"},
        "sso": SSO,
        **(access or {}),
    }
    assistants = changes.pop(
        "assistants", [{"name": "helpdesk", "mode": "free", "image": "registry.example/helpdesk:1"}]
    )
    good = {
        "zone": ServedZone(name="eu", site="gcp-frankfurt", spec=zone_spec(identity=identity or IDENTITY)),
        "door": DoorSecrets("client-secret-0123456789", "passphrase-0123456789"),
        "sessions_password": "sessions-password-0123456789",
        "identity_authorities": "PEM",
        "certificate": Certificate(NOW + timedelta(days=30)),
    }
    return view(tenant_spec(access=asked, assistants=assistants), **(good | changes))


def named(objects: list[Object], kind: str, name: str = front_door.NAME) -> Object:
    [found] = [o for o in objects if (o["kind"], o["metadata"]["name"]) == (kind, name)]
    return found


def test_a_door_is_a_whole_of_objects_and_without_single_sign_on_there_is_none_of_them() -> None:
    made = {(o["apiVersion"], o["kind"], o["metadata"]["name"]) for o in builders.build(with_door())}
    assert set(front_door.EVERYTHING) < made
    assert not {o["metadata"]["name"] for o in builders.build(view())} & {front_door.NAME, *network.DOOR_POLICIES}


def test_secrets_lie_in_the_secret_and_nowhere_else() -> None:
    seen = with_door()
    assert seen.door is not None
    objects = builders.build(seen)
    hidden = (seen.door.client_secret, seen.door.passphrase, seen.sessions_password or "")
    told = base64.b64decode(named(objects, "Secret")["data"]["secrets.conf"]).decode()
    assert all(h in told for h in hidden)
    rest = repr([o for o in objects if o["kind"] != "Secret"])
    assert not any(h in rest or base64.b64encode(h.encode()).decode() in rest for h in hidden)


def test_before_the_session_store_has_an_account_the_realm_can_be_made_and_no_door() -> None:
    assert [o["kind"] for o in front_door.objects(with_door(sessions_password=None))] == ["Secret"]


def test_people_are_sent_to_the_public_name_and_the_door_asks_the_sites_own_server() -> None:
    config = named(builders.build(with_door()), "ConfigMap")["data"]
    realm = "realms/bank-01234567"
    assert f'OIDCProviderIssuer "https://sso.example/{realm}"' in config["httpd.conf"]
    assert (
        f'OIDCProviderTokenEndpoint "https://192.0.2.9:8443/{realm}/protocol/openid-connect/token"'
        in config["httpd.conf"]
    )
    assert "OIDCSessionInactivityTimeout 600" in config["httpd.conf"]
    assert "https://helpdesk.bank.svc:443/" in config["httpd.conf"]
    assert config["ca.crt"] == "PEM"


def test_a_door_that_has_a_url_of_its_own_to_the_identity_server_reaches_nothing_else_of_it() -> None:
    seen = with_door(identity={**IDENTITY, "doorUrl": "https://gate.sso.svc:9444/"})
    objects = builders.build(seen)
    config = named(objects, "ConfigMap")["data"]["httpd.conf"]
    own = "https://gate.sso.svc:9444/realms/bank-01234567/protocol/openid-connect"
    assert f'OIDCProviderTokenEndpoint "{own}/token"' in config
    assert f'OIDCProviderJwksUri "{own}/certs"' in config
    assert 'OIDCProviderIssuer "https://sso.example/realms/bank-01234567"' in config
    assert "192.0.2.9" not in config
    [opening] = named(objects, "NetworkPolicy", "allow-door-identity")["spec"]["egress"]
    assert opening == {
        "to": [{"ipBlock": {"cidr": "192.0.2.9/32"}}], "ports": [{"port": 9444, "protocol": "TCP"}]
    }  # fmt: skip


def test_the_pods_hold_no_more_than_they_need_and_rest_at_the_standby() -> None:
    away = ClaimView(2, "aws-frankfurt", stands=True, opened=True, everywhere=True)
    assert named(builders.build(with_door(claim=away)), "Deployment")["spec"]["replicas"] == 0
    spec = named(builders.build(with_door()), "Deployment")["spec"]
    assert spec["replicas"] == 2
    pod = spec["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    [container] = pod["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert pod["volumes"][0] == {"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "192Mi"}}
    assert container["resources"]["limits"]["memory"] == "384Mi"
    assert {v["name"] for v in pod["volumes"]} == {
        "tmp", "config", "secrets", "tls", "trust", "pods", "tunnel-tmp", "pods-tls"
    }  # fmt: skip
    [secrets] = [v for v in pod["volumes"] if v["name"] == "secrets"]
    assert [i["key"] for i in secrets["secret"]["items"]] == ["secrets.conf"]
    term = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert term == [
        {"matchExpressions": [{"key": "topology.kubernetes.io/region", "operator": "In", "values": ["europe-west3"]}]}
    ]


def test_the_way_to_the_session_store_is_a_sidecar_with_its_own_key_and_none_of_the_doors_secrets() -> None:
    objects = builders.build(with_door())
    pod = named(objects, "Deployment")["spec"]["template"]["spec"]
    [tunnel], [door] = pod["initContainers"], pod["containers"]
    assert tunnel["restartPolicy"] == "Always", "it must outlive the door, which finishes what runs"
    assert tunnel["image"] == door["image"]
    assert tunnel["securityContext"] == door["securityContext"]
    assert {m["name"] for m in tunnel["volumeMounts"]} == {"tunnel-tmp", "pods-tls"}
    assert not {m["name"] for m in door["volumeMounts"]} & {"tunnel-tmp", "pods-tls"}
    [keys] = [v["secret"] for v in pod["volumes"] if v["name"] == "pods-tls"]
    assert [i["key"] for i in keys["items"]] == ["tls.crt", "tls.key", "ca.crt"]
    for probe in ("startupProbe", "livenessProbe"):
        assert tunnel[probe]["httpGet"]["port"] == 8081
    [store] = tunnel["env"]
    assert store["value"] == "domicile-sessions.domicile-system.svc:6379"
    assert 'OIDCRedisCacheServer "127.0.0.1:6379"' in named(objects, "ConfigMap")["data"]["httpd.conf"]


def policies(seen: TenantView) -> dict[str, Object]:
    return {p["metadata"]["name"]: p["spec"] for p in network.network_policies(seen)}


def test_no_way_leads_around_the_door() -> None:
    found = policies(with_door())
    [rule] = found["allow-clients"]["ingress"]
    assert rule["from"] == [{"podSelector": {"matchLabels": {"app.kubernetes.io/component": "front-door"}}}]
    [rule] = found["allow-door-clients"]["ingress"]
    assert rule["from"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress"}}}]
    assert rule["ports"] == [{"port": 8443, "protocol": "TCP"}]


@pytest.mark.parametrize(
    ("access", "admitted"),
    [
        ({"clients": []}, []),
        ({"clients": [], "sources": ["203.0.113.0/24", "198.51.100.0/24"]}, ["198.51.100.0/24", "203.0.113.0/24"]),
        ({"sources": ["0.0.0.0/0"], "edge": {"cidrs": ["198.51.100.0/24"]}}, ["198.51.100.0/24"]),
    ],
    ids=["nobody", "addresses", "the edge alone"],
)
def test_only_who_is_named_reaches_the_door(access: Object, admitted: list[str]) -> None:
    rules = policies(with_door(access))["allow-door-clients"]["ingress"]
    assert [p["ipBlock"]["cidr"] for r in rules for p in r["from"]] == admitted
    assert bool(rules) == bool(admitted)


@pytest.mark.parametrize(
    ("identity", "peer", "port"),
    [
        (IDENTITY, {"ipBlock": {"cidr": "192.0.2.9/32"}}, 8443),
        ({"url": "https://sso.example", "cidrs": ["192.0.2.9/32"]}, {"ipBlock": {"cidr": "192.0.2.9/32"}}, 443),
        (
            {"url": "https://sso.example", "pods": {"namespace": "sso", "labels": {"app": "keycloak"}, "port": 8443}},
            {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "sso"}},
                "podSelector": {"matchLabels": {"app": "keycloak"}},
            },
            8443,
        ),
    ],
)
def test_the_door_reaches_the_identity_server_where_the_zone_says_it_is(
    identity: Object, peer: Object, port: int
) -> None:
    [rule] = policies(with_door(identity=identity))["allow-door-identity"]["egress"]
    assert (rule["to"], rule["ports"]) == ([peer], [{"port": port, "protocol": "TCP"}])


def test_an_edge_with_certificates_is_asked_for_one() -> None:
    objects = builders.build(with_door({"edge": {"clientCa": "cdn-ca"}}))
    volumes = named(objects, "Deployment")["spec"]["template"]["spec"]["volumes"]
    [edge] = [v for v in volumes if v["name"] == "edge"]
    assert edge["secret"]["secretName"] == "cdn-ca"
    assert "SSLVerifyClient require" in named(objects, "ConfigMap")["data"]["httpd.conf"]
    assert "cdn-ca" in with_door({"edge": {"clientCa": "cdn-ca"}}).spec.named_secrets


def test_rules_for_paths_limits_and_exclusions_reach_the_config() -> None:
    paths = [{"prefix": "/forms/public", "public": True}, {"prefix": "/forms", "roles": ["admin", "manager"]}]
    limits = {"bodyMebibytes": 2, "clientRequests": 7, "tenantRequests": 70, "parallel": 9}
    seen = with_door(
        {"excludedRules": [942100], "limits": limits},
        assistants=[{"name": "helpdesk", "mode": "free", "image": "registry.example/helpdesk:1", "paths": paths}],
    )
    told = front_door.describe(seen)
    assert [(r.prefix, r.roles) for r in told.assistants[0].rules] == [
        ("/forms/public", None),
        ("/forms", ("admin", "manager")),
    ]
    assert (told.exclusions, told.limits.body_bytes, told.limits.client_requests) == ((942100,), 2 * 2**20, 7)
    assert (told.limits.tenant_requests, told.limits.parallel) == (70, 9)
    assert "SecRuleRemoveById 942100" in named(builders.build(seen), "ConfigMap")["data"]["httpd.conf"]
