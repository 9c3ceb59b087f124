"""The chart's own Keycloak: who reaches whom, who holds which secret, and that all parts mean the same by it."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest

from domicile.cli.main import main, parser
from domicile.gateway.database import Database
from domicile.gateway.gate import Gate
from images.build import IMAGES, REGISTRY
from tests.integration.test_chart import EU, IDENTITY, Object, only, pods, regions, render

GATE, KEYCLOAK, DATABASE, ADMIT = (
    "domicile-gate", "domicile-keycloak", "domicile-identity-database", "domicile-admit-1"
)  # fmt: skip


@cache
def objects() -> list[Object]:
    return render(*EU, *IDENTITY)


def pod(name: str) -> Object:
    spec: Object = pods(objects())[name]["spec"]
    return spec


def container(name: str) -> Object:
    [found] = pod(name)["containers"]
    return dict(found)


def environment() -> dict[str, Any]:
    return {e["name"]: e.get("value") or e["valueFrom"]["secretKeyRef"] for e in container(KEYCLOAK)["env"]}


def mounted(name: str) -> dict[str, str]:
    """Where a pod's container finds what of which Secret."""
    volumes = {v["name"]: v.get("secret") for v in pod(name)["volumes"]}
    return {
        f"{mount['mountPath']}/{item['path']}": f"{secret['secretName']}/{item['key']}"
        for mount in container(name)["volumeMounts"]
        if (secret := volumes.get(mount["name"]))
        for item in secret["items"]
    }


def policy(name: str) -> Object:
    spec: Object = only(objects(), "NetworkPolicy", name)["spec"]
    return spec


def callers(name: str) -> dict[int, list[Any]]:
    """By port, the components or networks that a policy lets in; None for everybody."""
    found: dict[int, list[Any]] = {}
    for rule in policy(name)["ingress"]:
        [port] = rule["ports"]
        found[port["port"]] = [_peer(p) if p else None for p in rule.get("from", [None])]
    return found


def _peer(peer: Object) -> str:
    labels = peer["podSelector"]["matchLabels"] if "podSelector" in peer else {}
    return str(labels["app.kubernetes.io/component"] if labels else peer["ipBlock"]["cidr"])


def called(name: str) -> set[str]:
    """The components of the release that a policy leads to."""
    labels = [
        to.get("podSelector", {}).get("matchLabels", {}) for rule in policy(name).get("egress", []) for to in rule["to"]
    ]
    return {found["app.kubernetes.io/component"] for found in labels if "app.kubernetes.io/component" in found}


def test_without_it_nothing_of_it_is_there() -> None:
    names = {o["metadata"]["name"] for o in render(*EU, "--set=identitySecret=logins")}
    assert not names & {GATE, KEYCLOAK, DATABASE, ADMIT, "domicile-admit"}
    assert "keycloak" not in repr(only(render(*EU), "NetworkPolicy", "domicile-operator"))


def test_only_gate_and_operator_reach_keycloak_and_only_keycloak_reaches_its_database() -> None:
    assert callers(KEYCLOAK) == {8443: ["gate", "operator", "admit"]}
    assert callers(DATABASE) == {5432: ["keycloak"]}
    assert callers(GATE) == {8443: [None], 9443: ["10.8.0.0/24", "2001:db8::/64"]}
    assert {name: called(name) for name in (GATE, KEYCLOAK, DATABASE, "domicile-admit")} == {
        GATE: {"keycloak"}, KEYCLOAK: {"identity-database"}, DATABASE: set(), "domicile-admit": {"keycloak"}
    }  # fmt: skip
    assert "keycloak" in called("domicile-operator")
    for name in (GATE, KEYCLOAK, DATABASE, "domicile-admit"):
        spec = policy(name)
        assert sorted(spec["policyTypes"]) == ["Egress", "Ingress"]
        workload = ADMIT if name == "domicile-admit" else name
        labels = pods(objects())[workload]["metadata"]["labels"]
        assert spec["podSelector"]["matchLabels"].items() <= labels.items()
    more = '[{"to":[{"ipBlock":{"cidr":"192.0.2.9/32"}}],"ports":[{"port":636}]}]'
    opened = only(render(*EU, *IDENTITY, f"--set-json=identity.egress={more}"), "NetworkPolicy", KEYCLOAK)
    assert opened["spec"]["egress"][-1]["ports"] == [{"port": 636}]


def test_services_lead_to_the_pods_and_people_never_to_keycloak() -> None:
    for name in (GATE, KEYCLOAK, DATABASE):
        service = only(objects(), "Service", name)["spec"]
        assert service["selector"].items() <= pods(objects())[name]["metadata"]["labels"].items()
        assert service.get("type", "ClusterIP") == "ClusterIP"
        ports = {p["name"] for p in container(name)["ports"]}
        assert {p["targetPort"] for p in service["ports"]} <= ports


def test_its_pods_stay_in_the_region_and_have_no_api_token() -> None:
    for name in (GATE, KEYCLOAK, DATABASE, ADMIT):
        assert regions(pods(objects())[name]) == ["europe-west3"]
        assert pod(name)["automountServiceAccountToken"] is False
        assert (
            only(objects(), "ServiceAccount", pod(name)["serviceAccountName"])["automountServiceAccountToken"] is False
        )
    [claim] = only(objects(), "StatefulSet", DATABASE)["spec"]["volumeClaimTemplates"]
    assert {"name": claim["metadata"]["name"], "mountPath": "/var/lib/domicile"} in container(DATABASE)["volumeMounts"]


def test_each_holds_no_more_secrets_than_it_needs() -> None:
    assert {name: set(mounted(name).values()) for name in (GATE, KEYCLOAK, DATABASE, ADMIT)} == {
        GATE: {"of-gate/tls.crt", "of-gate/tls.key", "of-gate/clients.crt", "of-keycloak/ca.crt"},
        KEYCLOAK: {"of-keycloak/tls.crt", "of-keycloak/tls.key", "of-keycloak/ca.crt"},
        DATABASE: {"of-database/tls.crt", "of-database/tls.key", "of-passwords/database-password"},
        ADMIT: {"of-keycloak/ca.crt", "of-passwords/bootstrap-secret", "logins/eu.json"},
    }
    assert [v for v in environment().values() if isinstance(v, dict)] == [
        {"name": "of-passwords", "key": "database-password"}, {"name": "of-passwords", "key": "bootstrap-secret"}
    ]  # fmt: skip
    assert "secretKeyRef" not in repr([pod(name) for name in (GATE, DATABASE, ADMIT)])


def test_what_is_mounted_is_what_the_supervisors_read() -> None:
    found = {path.removeprefix("/etc/domicile/gate/") for path in mounted(GATE)} | {"config/httpd.conf"}
    assert found == set(Gate.needed)
    assert {path.removeprefix("/etc/domicile/") for path in mounted(DATABASE)} == set(Database.needed)
    paths = {v.partition("sslrootcert=")[2] or v for v in environment().values() if isinstance(v, str) and "/tls/" in v}
    assert paths == set(mounted(KEYCLOAK))


def test_the_gate_gets_a_config_that_it_can_serve(tmp_path: Path) -> None:
    [config] = pod(GATE)["initContainers"]
    *args, into = config["args"]
    [mount] = config["volumeMounts"]
    assert into == f"--into={mount['mountPath']}"
    assert {**mount, "readOnly": True} in container(GATE)["volumeMounts"]
    assert main([*args, f"--into={tmp_path}"]) == 0
    written = (tmp_path / "httpd.conf").read_text()
    assert f'ProxyPass "/" "https://{KEYCLOAK}.domicile-system.svc:8443/"' in written
    assert "Require ip 10.8.0.0/24 2001:db8::/64" in written
    assert f'"!={GATE}.domicile-system.svc"' in written
    assert {p["containerPort"] for p in container(GATE)["ports"]} == {
        int(line.split()[1]) for line in written.splitlines() if line.startswith("Listen")
    }


def test_keycloak_and_the_operators_account_agree_with_the_gate() -> None:
    asked = parser().parse_args(container(ADMIT)["args"])
    env = environment()
    assert asked.console == env["KC_HOSTNAME_ADMIN"] == "https://sso.example:9443"
    assert env["KC_HOSTNAME"] == "https://sso.example"
    assert env["KC_PROXY_HEADERS"] == "xforwarded"
    assert asked.bootstrap_id == env["KC_BOOTSTRAP_ADMIN_CLIENT_ID"]
    assert asked.url == f"https://{KEYCLOAK}.domicile-system.svc:8443"
    assert {str(path) for path in (asked.ca, asked.bootstrap, asked.account)} == set(mounted(ADMIT))
    assert env["KC_DB_URL"].startswith(
        f"jdbc:postgresql://{DATABASE}.domicile-system.svc:5432/keycloak?sslmode=verify-full&"
    )


@pytest.mark.parametrize("name", [GATE, KEYCLOAK, DATABASE, ADMIT])
def test_its_images_are_built_here(name: str) -> None:
    for each in (*pod(name)["containers"], *pod(name).get("initContainers", ())):
        repository, _, version = each["image"].rpartition(":")
        assert IMAGES[repository.removeprefix(f"{REGISTRY}/")].version == version
