"""The Helm chart: what it renders is valid, hardened, least-privileged and refuses bad values."""

from __future__ import annotations

import ipaddress
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from domicile.controllers.egress.accounts import LOGINS, OWN
from domicile.controllers.egress.keeper import OWN_SECRETS
from domicile.controllers.pki import holders
from domicile.gateway.egress.squid_conf import outside
from tests import judges
from tests.testbed import build

CHART = judges.ROOT / "charts" / "domicile"
API_SERVER = "--set=networkPolicy.apiServer.cidrs={10.0.0.1/32}"
EU = (f"--values={CHART}/values-eu.yaml", "--set=sites={gcp-frankfurt}", API_SERVER)
BOTH = (
    f"--values={CHART}/values-eu.yaml",
    f"--values={CHART}/values-us.yaml",
    "--set=sites={gcp-frankfurt,gcp-iowa}",
    "--set=operator.regions={europe-west3}",
    API_SERVER,
)
IDENTITY = (
    "--set=identitySecret=logins",
    "--set=identity.enabled=true,identity.zone=eu,identity.host=sso.example,identity.adminHost=sso.example:9443",
    "--set=identity.networks={10.8.0.0/24,2001:db8::/64}",
    *(f"--set=identity.{name}Secret=of-{name}" for name in ("gate", "keycloak", "database", "passwords")),
)
SELECTOR = {"app.kubernetes.io/name": "domicile"}
ALL = ("--set=egress.all=true",)
EGRESS = ("--set=egress.enabled=true", "--set=egress.privateCidrs={10.9.0.0/24}", "--set=egress.ports={443,8443}")
SCRAPED = ("--set=metrics.tlsSecret=metrics", "--set=metrics.networks={10.8.0.0/24,2001:db8::/64}")
REPLICATOR = "domicile-replicate-gcp-frankfurt"

Object = dict[str, Any]
Render = Callable[..., list[Object]]


def helm(*args: str) -> subprocess.CompletedProcess[str]:
    command = [str(build.build("helm")), "template", "domicile", str(CHART), "--namespace=domicile-system", *args]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def render(*args: str) -> list[Object]:
    done = helm(*args)
    assert done.returncode == 0, done.stderr
    return [o for o in yaml.safe_load_all(done.stdout) if o]


@pytest.fixture(scope="module")
def schemas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("schemas")
    kinds = {o["kind"] for o in render(*EU, *IDENTITY, *EGRESS, "--include-crds")}
    judges.write_schemas(folder, kinds | {"Namespace", "Secret", "ConfigMap", "Service", "Deployment", "Pod"})
    return folder


def only(objects: list[Object], kind: str, name: str) -> Object:
    return next(o for o in objects if o["kind"] == kind and o["metadata"]["name"] == name)


def pods(objects: list[Object]) -> dict[str, Object]:
    found = {}
    for o in objects:
        if o["kind"] in {"Deployment", "StatefulSet", "Job"}:
            found[o["metadata"]["name"]] = o["spec"]["template"]
            for claim in o["spec"].get("volumeClaimTemplates", ()):
                name = claim["metadata"]["name"]
                volume = {"name": name, "persistentVolumeClaim": {"claimName": name}}
                o["spec"]["template"]["spec"]["volumes"].append(volume)
        elif o["kind"] == "CronJob":
            found[o["metadata"]["name"]] = o["spec"]["jobTemplate"]["spec"]["template"]
    return found


@pytest.mark.parametrize(
    "values",
    [EU, BOTH, (*EU, "--set=identitySecret=logins"), (*EU, *SCRAPED), (*EU, *IDENTITY), (*EU, *EGRESS, *ALL)],
    ids=["eu", "eu and us", "logins", "metrics", "identity server", "way out"],
)
def test_judges_have_nothing_critical_to_say(schemas: Path, values: tuple[str, ...]) -> None:
    text = helm(*values, "--include-crds").stdout
    assert judges.kubeconform(schemas, text) == []
    assert judges.kube_score(text) == []


def test_judges_refuse_what_is_wrong(schemas: Path) -> None:
    objects = render(*EU)
    only(objects, "Deployment", "domicile-operator")["spec"]["template"]["spec"]["hostNetwrok"] = True
    zone = only(objects, "ResidencyZone", "eu")
    zone["spec"]["colour"] = "blue"
    found = judges.kubeconform(schemas, yaml.safe_dump_all(objects))
    assert {f["name"] for f in found} == {"domicile-operator", "eu"}


def test_crds_and_examples_fit_their_schemas(schemas: Path) -> None:
    files = [p for folder in ("crds", "examples") for p in sorted((judges.ROOT / folder).rglob("*.yaml"))]
    objects = [o for p in files for o in yaml.safe_load_all(p.read_text()) if o and "apiVersion" in o]
    assert judges.kubeconform(schemas, yaml.safe_dump_all(objects)) == []
    assert judges.kube_score(yaml.safe_dump_all(objects)) == []


def test_crds_are_not_copied_by_hand() -> None:
    assert (CHART / "crds").resolve() == judges.CRDS
    rendered = {o["metadata"]["name"] for o in render(*EU, "--include-crds") if o["kind"] == "CustomResourceDefinition"}
    assert rendered == {p.stem.split("_")[1] + ".domicile.dev" for p in judges.CRDS.glob("*.yaml")}


@pytest.mark.parametrize("zone", ["eu", "us"])
def test_shipped_zones_are_the_examples(zone: str) -> None:
    values = yaml.safe_load((CHART / f"values-{zone}.yaml").read_text())
    example = yaml.safe_load((judges.ROOT / "examples" / "zones" / f"{zone}.yaml").read_text())
    assert values == {"zones": {zone: example["spec"]}}


def test_every_pod_meets_pod_security_restricted() -> None:
    for name, pod in pods(render(*EU, *IDENTITY, *EGRESS)).items():
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"], name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in (*spec["containers"], *spec.get("initContainers", ())):
            context = container["securityContext"]
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert context["allowPrivilegeEscalation"] is False
            assert context["readOnlyRootFilesystem"] is True
            assert container["resources"]["limits"]["memory"]


def test_only_the_operator_has_an_api_token() -> None:
    tokens = {name: pod["spec"]["automountServiceAccountToken"] for name, pod in pods(render(*EU)).items()}
    assert tokens == {"domicile-operator": True, "domicile-lease": False, "domicile-sessions": False, REPLICATOR: False}


def regions(pod: Object) -> list[str]:
    required = pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    [term] = required["nodeSelectorTerms"]
    [expression] = term["matchExpressions"]
    assert (expression["key"], expression["operator"]) == ("topology.kubernetes.io/region", "In")
    values: list[str] = expression["values"]
    return values


def secrets(pod: Object) -> set[str]:
    projected = [v["projected"]["sources"] for v in pod["spec"]["volumes"] if "projected" in v]
    return {s["secret"]["name"] for sources in projected for s in sources if "secret" in s}


def test_accounts_at_identity_servers_reach_the_operator_alone() -> None:
    rule = '{"to":[{"ipBlock":{"cidr":"192.0.2.9/32"}}],"ports":[{"port":8443}]}'
    objects = render(*EU, "--set=identitySecret=logins", f"--set-json=networkPolicy.identity=[{rule}]")
    holders = {name for name, pod in pods(objects).items() if "logins" in secrets(pod)}
    assert holders == {"domicile-operator"}
    [container] = pods(objects)["domicile-operator"]["spec"]["containers"]
    assert {"name": "identity", "mountPath": "/etc/domicile/identity", "readOnly": True} in container["volumeMounts"]
    egress = only(objects, "NetworkPolicy", "domicile-operator")["spec"]["egress"]
    assert egress[-1] == json.loads(rule)
    assert not any("logins" in secrets(pod) for pod in pods(render(*EU)).values())


AUDIENCE = "https://iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/providers/cluster"
TOKENS = (
    f"--set=cloudIdentity.audiences.gcp-frankfurt={AUDIENCE}",
    "--set=cloudIdentity.audiences.aws-frankfurt=sts.amazonaws.com",
    "--set=cloudIdentity.expirationSeconds=1800",
)


def tokens(pod: Object) -> dict[str, dict[str, Any]]:
    projected = {v["name"]: v["projected"]["sources"] for v in pod["spec"]["volumes"] if "projected" in v}
    found = [
        (name, s["serviceAccountToken"]) for name, sources in projected.items() for s in sources if "secret" not in s
    ]
    assert {name for name, _ in found} <= {"credentials"}, "beside <site>.json, where the stores look for them"
    return {t["path"]: t for _, t in found}


def test_pods_that_reach_stores_get_a_projected_token_for_each_site_that_has_an_audience() -> None:
    found = {name: tokens(pod) for name, pod in pods(render(*EU, *TOKENS, *IDENTITY, *EGRESS)).items()}
    wanted = {
        f"{site}.token": {"path": f"{site}.token", "audience": audience, "expirationSeconds": 1800}
        for site, audience in (("gcp-frankfurt", AUDIENCE), ("aws-frankfurt", "sts.amazonaws.com"))
    }
    holders_of = {name for name, has in found.items() if has}
    assert holders_of == {"domicile-operator", "domicile-lease", REPLICATOR}
    assert all(found[name] == wanted for name in holders_of)
    assert not any(tokens(pod) for pod in pods(render(*EU)).values())


def test_pods_stay_in_the_region_of_the_served_site() -> None:
    found = pods(render(*EU))
    assert set(found) == {"domicile-operator", "domicile-lease", "domicile-sessions", REPLICATOR}
    assert all(regions(pod) == ["europe-west3"] for pod in found.values())


def test_of_several_sites_each_has_a_replicator_with_its_own_region_zones_and_keys() -> None:
    objects = render(*BOTH)
    found = pods(objects)
    stores = {"gcp-frankfurt": {"10.10.0.10/32", "10.20.0.0/26"}, "gcp-iowa": {"10.30.0.10/32", "10.40.0.0/26"}}
    for site, region in (("gcp-frankfurt", "europe-west3"), ("gcp-iowa", "us-central1")):
        pod = found[f"domicile-replicate-{site}"]
        assert regions(pod) == [region]
        assert pod["spec"]["containers"][0]["args"] == [
            "replicate",
            "--due",
            "--site",
            site,
            "--share",
            "$(JOB_COMPLETION_INDEX)/1",
        ]
        assert secrets(pod) == {f"domicile-credentials-{site}", f"domicile-keys-{site}"}
        policy = only(objects, "NetworkPolicy", f"domicile-replicate-{site}")["spec"]
        assert policy["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
        assert policy["podSelector"]["matchLabels"]["domicile.dev/site"] == site
        assert {t["ipBlock"]["cidr"] for e in policy["egress"] for t in e["to"] if "ipBlock" in t} == stores[site]
    assert regions(found["domicile-operator"]) == ["europe-west3"]
    assert secrets(found["domicile-operator"]) == {
        f"domicile-{what}-{site}" for what in ("credentials", "keys") for site in stores
    }
    assert regions(found["domicile-lease"]) == ["europe-west3", "us-central1"]
    assert secrets(found["domicile-lease"]) == {"domicile-lease-credentials"}
    rules = only(objects, "Role", "domicile-operator")["rules"]
    assert {n for r in rules if r["resources"] == ["cronjobs"] for n in r["resourceNames"]} == {
        f"domicile-replicate-{site}" for site in stores
    }


def test_sites_of_zones_that_are_managed_elsewhere_need_their_region_only() -> None:
    found = pods(render("--set=sites={gcp-frankfurt}", "--set=regions.gcp-frankfurt=europe-west3", API_SERVER))
    assert {tuple(regions(pod)) for pod in found.values()} == {("europe-west3",)}


def test_roles_are_least_privilege() -> None:
    objects = render(*EU)
    rules = [r for o in objects if o["kind"] in {"Role", "ClusterRole"} for r in o["rules"]]
    assert all("*" not in [*r["apiGroups"], *r["resources"], *r["verbs"]] for r in rules)
    secrets = {v for r in rules if "secrets" in r["resources"] for v in r["verbs"]}
    assert secrets.isdisjoint({"list", "watch", "deletecollection"})
    refused = {"roles", "clusterroles", "rolebindings", "clusterrolebindings", "pods/exec", "serviceaccounts/token"}
    # Who may write issuers can have anything certified.
    refused |= {"issuers", "clusterissuers", "certificaterequests", "certificates/status"}
    assert refused.isdisjoint(x for r in rules for x in r["resources"])
    bound = [o for o in objects if o["kind"].endswith("RoleBinding") or o["kind"].endswith("Binding")]
    assert {s["name"] for o in bound for s in o["subjects"]} == {"domicile-operator"}


def test_network_policies_deny_all_but_the_named_openings() -> None:
    objects = render(
        *EU, "--set=networkPolicy.stores[0].cidr=192.0.2.0/24", "--set=networkPolicy.stores[0].ports={443}"
    )
    sites = yaml.safe_load((CHART / "values-eu.yaml").read_text())["zones"]["eu"]["sites"]
    stores = {"192.0.2.0/24", *(c for site in sites for c in site["stores"]["endpointCidrs"])}
    deny = only(objects, "NetworkPolicy", "domicile-default-deny")["spec"]
    assert sorted(deny["policyTypes"]) == ["Egress", "Ingress"]
    assert "ingress" not in deny
    assert "egress" not in deny
    for pod in pods(objects).values():
        assert deny["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    blocks = {
        o["metadata"]["name"]: {
            t["ipBlock"]["cidr"] for e in o["spec"].get("egress", []) for t in e["to"] if "ipBlock" in t
        }
        for o in objects
        if o["kind"] == "NetworkPolicy" and o["metadata"]["name"] != "domicile-default-deny"
    }
    assert blocks == {
        "domicile-operator": {"10.0.0.1/32", *stores},
        "domicile-lease": stores,
        "domicile-sessions": set(),
        REPLICATOR: stores,
    }
    assert "ingress" not in only(objects, "NetworkPolicy", "domicile-operator")["spec"]
    assert "ingress" not in only(objects, "NetworkPolicy", REPLICATOR)["spec"]


def test_without_a_secret_nothing_serves_metrics() -> None:
    objects = render(
        *EU, "--set=metrics.networks={10.8.0.0/24}", "--set=networkPolicy.monitoringNamespaces={prometheus}"
    )
    assert "8443" not in yaml.safe_dump_all(objects)
    assert "METRICS" not in yaml.safe_dump_all(objects)
    assert "ingress" not in only(objects, "NetworkPolicy", "domicile-operator")["spec"]


def test_metrics_are_open_to_listed_networks_only_on_a_port_of_their_own() -> None:
    objects = render(*EU, *SCRAPED, "--set=networkPolicy.monitoringNamespaces={prometheus}")
    for name in ("domicile-operator", "domicile-lease"):
        spec = pods(objects)[name]["spec"]
        [container] = spec["containers"]
        env = {e["name"]: e.get("value") for e in container["env"]}
        assert env["DOMICILE_METRICS_DIR"] == "/etc/domicile/metrics"
        assert env["DOMICILE_METRICS_NETWORKS"] == "10.8.0.0/24,2001:db8::/64"
        assert {p["name"]: p["containerPort"] for p in container["ports"]}.items() >= {
            "http": 8080,
            "metrics": 8443,
        }.items()
        assert {"name": "metrics", "mountPath": "/etc/domicile/metrics", "readOnly": True} in container["volumeMounts"]
        # A Secret that is gone must not keep leases from being given.
        secret = {"secretName": "metrics", "optional": True, "defaultMode": 0o440}
        assert {"name": "metrics", "secret": secret} in spec["volumes"]
        opening = only(objects, "NetworkPolicy", name)["spec"]["ingress"][-1]
        assert opening["ports"] == [{"port": 8443, "protocol": "TCP"}]
        assert [p["ipBlock"]["cidr"] for p in opening["from"] if "ipBlock" in p] == ["10.8.0.0/24", "2001:db8::/64"]
        assert [p["namespaceSelector"]["matchLabels"] for p in opening["from"] if "namespaceSelector" in p] == [
            {"kubernetes.io/metadata.name": "prometheus"}
        ]
    assert not any(v["name"] == "metrics" for v in pods(objects)[REPLICATOR]["spec"]["volumes"])
    services = [o for o in objects if o["kind"] == "Service"]
    assert not [p for o in services for p in o["spec"]["ports"] if p["port"] == 8443], "no address inside the cluster"


def _stores(folder: Path, second: Object) -> tuple[str, ...]:
    """Values of a zone with compatible stores: one by its address, in the clear, and this one."""
    values = yaml.safe_load((CHART / "values-eu.yaml").read_text())
    stores = [site["stores"] for site in values["zones"]["eu"]["sites"]]
    for store, changes in zip(
        stores, ({"endpoint": "http://192.0.2.7:4443", "endpointCidrs": []}, second), strict=True
    ):
        store |= {"profile": "compatible", **changes}
    file = folder / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    return f"--values={file}", "--set=sites={gcp-frankfurt}", API_SERVER


def test_store_endpoints_of_the_zones_are_opened_on_their_port_only(tmp_path: Path) -> None:
    named = {"endpoint": "https://store.example", "endpointCidrs": ["198.51.100.0/24"]}
    objects = render(*_stores(tmp_path, named))
    egress = only(objects, "NetworkPolicy", "domicile-lease")["spec"]["egress"]
    opened = {(t["ipBlock"]["cidr"], p["port"]) for e in egress for t in e["to"] if "ipBlock" in t for p in e["ports"]}
    assert opened == {("192.0.2.7/32", 4443), ("198.51.100.0/24", 443)}


def test_stores_are_reached_through_the_way_out_where_they_have_tls_and_a_name(tmp_path: Path) -> None:
    values = _stores(tmp_path, {"endpoint": "https://s3.example:9000", "endpointCidrs": ["10.7.0.0/24"]})
    objects = render(*values, *EGRESS, *ALL)

    def opened(name: str) -> set[tuple[str, int]]:
        egress = only(objects, "NetworkPolicy", name)["spec"]["egress"]
        return {
            (t["ipBlock"]["cidr"], p["port"]) for e in egress for t in e["to"] if "ipBlock" in t for p in e["ports"]
        }

    proxy = {"podSelector": {"matchLabels": {**SELECTOR, "app.kubernetes.io/component": "egress"}}}
    for name in ("domicile-operator", "domicile-lease", REPLICATOR):
        assert opened(name) - {("10.0.0.1/32", 443), ("10.0.0.1/32", 6443)} == {("192.0.2.7/32", 4443)}
        policy = only(objects, "NetworkPolicy", name)["spec"]
        assert {"to": [proxy], "ports": [{"port": 3129, "protocol": "TCP"}]} in policy["egress"]
        pod = pods(objects)[name]
        assert policy["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
        [container] = pod["spec"]["containers"]
        env = {e["name"]: e.get("value") for e in container["env"]}
        assert env["DOMICILE_WAY_OUT"] == "domicile-egress.domicile-system.svc:3129"
        assert {"name": "way-out", "mountPath": "/etc/domicile/way-out", "readOnly": True} in container["volumeMounts"]
        [volume] = [v for v in pod["spec"]["volumes"] if v["name"] == "way-out"]
        secrets = {s["secret"]["name"]: s["secret"] for s in volume["projected"]["sources"]}
        logins = {OWN_SECRETS[LOGINS]} if name == "domicile-operator" else set()
        assert secrets.keys() == {OWN_SECRETS[OWN], holders.outwards("domicile-system").secret} | logins
        assert all(s["optional"] for s in secrets.values()), "the operator makes them when it runs"
        paths = {"egress", "tls.crt", "tls.key", "ca.crt", *(["logins"] if logins else [])}
        assert {i["path"] for s in secrets.values() for i in s["items"]} == paths
    assert ("10.7.0.0/24", 9000) in opened("domicile-egress")
    assert not {c for c, _ in opened("domicile-egress")} & {"192.0.2.7/32"}
    tenants, ours = only(objects, "NetworkPolicy", "domicile-egress")["spec"]["ingress"][0]["from"]
    assert tenants["podSelector"]["matchExpressions"][0]["values"] == ["gateway", "assistant", "front-door"]
    assert tenants["namespaceSelector"]["matchExpressions"] == [{"key": "domicile.dev/tenant", "operator": "Exists"}]
    [component] = ours["podSelector"]["matchExpressions"]
    assert ours["podSelector"]["matchLabels"] == SELECTOR
    assert component["values"] == ["operator", "lease-agent", "replicator"]
    assert "namespaceSelector" not in ours
    without = helm(*values, *EGRESS).stdout
    assert "WAY_OUT" not in without
    assert "way-out" not in without


def test_networks_of_who_logs_people_in_are_the_way_outs_alone(tmp_path: Path) -> None:
    """Where it leads there: what has no full name, or pods in the cluster, is reached by other openings."""
    issuer = {
        "place": "Frankfurt",
        "statement": "as in the contract",
        "attestedOn": "2026-01-01",
        "expiresOn": "2099-01-01",
    }
    issuers = [
        {"issuer": "https://login.bank.example/x", "cidrs": ["10.5.0.0/24"], "port": 8443, **issuer},
        {"issuer": "https://10.6.0.1", "cidrs": ["10.6.0.0/24"], **issuer},
    ]
    identity = {"url": "https://sso.bank.example", "adminUrl": "https://sso-admin.bank.example:9443"}
    in_cluster = {
        "url": "https://sso.bank.example",
        "adminUrl": "https://keycloak.sso.svc:8443",
        "cidrs": ["10.8.0.0/24"],
    }
    pods = {"namespace": "sso", "labels": {"app": "keycloak"}, "port": 8443}

    def opened(*flags: str, **zone: Object) -> set[tuple[str, int]]:
        values = yaml.safe_load((CHART / "values-eu.yaml").read_text())
        values["zones"]["eu"] |= zone
        file = tmp_path / "logins.yaml"
        file.write_text(yaml.safe_dump(values))
        objects = render(f"--values={file}", "--set=sites={gcp-frankfurt}", API_SERVER, *EGRESS, *flags)
        egress = only(objects, "NetworkPolicy", "domicile-egress")["spec"]["egress"]
        found = [
            (t["ipBlock"]["cidr"], p["port"]) for e in egress for t in e["to"] if "ipBlock" in t for p in e["ports"]
        ]
        return {(cidr, int(port)) for cidr, port in found}

    def added(**zone: Object) -> set[tuple[str, int]]:
        assert opened(**zone) == opened(), "only where the installation goes through it"
        return opened(*ALL, **zone) - opened(*ALL)

    assert added(identity=identity | {"cidrs": ["10.7.0.0/24"]}) == {("10.7.0.0/24", 9443)}
    door = {"doorUrl": "https://gate.bank.example", "cidrs": ["10.7.0.0/24"]}
    assert added(identity=identity | door) == {("10.7.0.0/24", 9443), ("10.7.0.0/24", 443)}
    assert added(identity=identity | door | {"pods": pods}) == set()
    assert added(identity=in_cluster) == set()
    assert added(externalIssuers=issuers) == {("10.5.0.0/24", 443), ("10.5.0.0/24", 8443)}
    capitals = identity | {"adminUrl": "https://SSO-Admin.bank.example:9443", "cidrs": ["10.7.0.0/24", "0.0.0.0/0"]}
    assert added(identity=capitals) == {("10.7.0.0/24", 9443)}, "and never everything"
    beside = {"issuer": "https://login", "hosts": ["keys.bank.example"], "cidrs": ["10.5.0.0/24"]}
    assert added(externalIssuers=[beside]) == {("10.5.0.0/24", 443)}


def test_stores_of_zones_that_the_cluster_does_not_serve_stay_closed() -> None:
    alone, beside = (render(*values, "--set=sites={gcp-frankfurt}") for values in (EU, BOTH))
    kept = [{o["metadata"]["name"]: o for o in objects if o["kind"] == "NetworkPolicy"} for objects in (alone, beside)]
    assert kept[0] == kept[1]


def test_there_is_a_session_store_that_only_front_doors_and_gateways_reach() -> None:
    objects = render(*EU)
    store = only(objects, "Deployment", "domicile-sessions")["spec"]
    assert store["replicas"] == 1
    [volume] = [v for v in store["template"]["spec"]["volumes"] if v["name"] == "users"]
    assert volume["secret"]["items"] == [{"key": "users.acl", "path": "users.acl"}], "not the password itself"
    [tls] = [v["secret"] for v in store["template"]["spec"]["volumes"] if v["name"] == "tls"]
    assert tls["secretName"] == holders.sessions("domicile-system").secret
    assert [i["key"] for i in tls["items"]] == ["tls.crt", "tls.key", "ca.crt"]
    [container] = store["template"]["spec"]["containers"]
    assert {"name": "tls", "mountPath": holders.MOUNT, "readOnly": True} in container["volumeMounts"]
    policy = only(objects, "NetworkPolicy", "domicile-sessions")["spec"]
    assert "egress" not in policy
    assert "Egress" in policy["policyTypes"]
    [peer] = policy["ingress"][0]["from"]
    [components] = peer["podSelector"]["matchExpressions"]
    assert (components["operator"], components["values"]) == ("In", ["front-door", "gateway"])
    assert peer["namespaceSelector"]["matchExpressions"] == [{"key": "domicile.dev/tenant", "operator": "Exists"}]
    env = only(objects, "Deployment", "domicile-operator")["spec"]["template"]["spec"]["containers"][0]["env"]
    assert {"name": "DOMICILE_DOOR_IMAGE", "value": "domicile.dev/frontdoor:0.1.0"} in env
    assert {"name": "DOMICILE_GATEWAY_IMAGE", "value": "domicile.dev/gateway:0.1.0"} in env


def test_keys_of_model_providers_reach_the_operator_alone() -> None:
    found = pods(render(*EU, "--set=modelsSecret=model-keys"))
    assert {name for name, pod in found.items() if "model-keys" in secrets(pod)} == {"domicile-operator"}
    [container] = found["domicile-operator"]["spec"]["containers"]
    assert {"name": "models", "mountPath": "/etc/domicile/models", "readOnly": True} in container["volumeMounts"]
    assert not any("model-keys" in secrets(pod) for pod in pods(render(*EU)).values())


def test_the_way_out_is_reached_by_gateways_alone_and_reaches_no_private_address_but_the_named() -> None:
    objects = render(*EU, *EGRESS)
    deployment = only(objects, "Deployment", "domicile-egress")["spec"]
    assert deployment["replicas"] == 2
    pod = deployment["template"]
    assert regions(pod) == ["europe-west3"]
    assert only(objects, "PodDisruptionBudget", "domicile-egress")["spec"]["maxUnavailable"] == 1
    volumes = {v["name"]: v.get("secret", {}) for v in pod["spec"]["volumes"]}
    assert volumes["tls"]["secretName"] == holders.egress("domicile-system").secret
    assert volumes["accounts"]["secretName"] == "domicile-egress"
    [tls], [squid] = pod["spec"]["initContainers"], pod["spec"]["containers"]
    assert "tls" not in {m["name"] for m in squid["volumeMounts"]}, "the key is stunnel's alone"
    assert "accounts" not in {m["name"] for m in tls["volumeMounts"]}
    policy = only(objects, "NetworkPolicy", "domicile-egress")["spec"]
    [peer] = policy["ingress"][0]["from"]
    [whose] = peer["podSelector"]["matchExpressions"]
    assert (whose["key"], whose["operator"], whose["values"]) == ("app.kubernetes.io/component", "In", ["gateway"])
    assert peer["namespaceSelector"]["matchExpressions"] == [{"key": "domicile.dev/tenant", "operator": "Exists"}]
    world, named = policy["egress"][1:]
    assert [p["port"] for p in world["ports"]] == [443, 8443]
    left = [[ipaddress.ip_network(to["ipBlock"]["cidr"])] for to in world["to"]]
    for to, networks in zip(world["to"], left, strict=True):
        for hole in map(ipaddress.ip_network, to["ipBlock"]["except"]):
            networks[:] = [p for n in networks for p in (n.address_exclude(hole) if hole.subnet_of(n) else [n])]
    # What squid refuses, the network refuses, too.
    for network in map(ipaddress.ip_network, outside(())):
        assert not any(network.overlaps(n) for networks in left for n in networks if n.version == network.version)
    assert any(ipaddress.ip_address("93.184.215.14") in n for n in left[0])
    assert any(ipaddress.ip_address("2606:2800:21f::1") in n for n in left[1])
    assert named["to"] == [{"ipBlock": {"cidr": "10.9.0.0/24"}}]
    assert not [o for o in render(*EU) if o["metadata"]["name"] == "domicile-egress"]


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ((API_SERVER,), "sites"),
        (("--set=sites={gcp-frankfurt}", API_SERVER), "no zone in `zones` has a site"),
        (EU[:2], "cidrs"),
        ((*EU, "--set=image.tag=latest"), "tag"),
        ((*EU, "--set=colour=blue"), "colour"),
        ((*EU, "--set=egress.privateCidrs={inside}"), "privateCidrs"),
        ((*EU, *ALL), "there is no way out"),
        ((*EU, SCRAPED[0]), "networks"),
        ((*EU, *IDENTITY[1:]), "set identitySecret, too"),
        ((*EU, *IDENTITY, "--set=identity.networks=null"), "networks"),
        ((*EU, *IDENTITY, "--set=identity.passwordsSecret="), "passwordsSecret"),
        ((*EU, SCRAPED[0], "--set=metrics.networks={everywhere}"), "networks"),
        ((*EU, "--set=replicator.deadlineSeconds=4000"), "deadlineSeconds"),
        ((*BOTH, "--set=operator.regions=null"), "say in which of these regions"),
        ((*BOTH, "--set=operator.regions={europe-west4}"), "europe-west4 is the region of no site"),
        ((*EU, "--set=regions.gcp-frankfurt=us-central1"), "in one region only"),
        ((*EU, f"--set=sites={{{'long-' * 6}site}}"), "maxLength"),
        ((*EU, *TOKENS, "--set=leaseCredentialsSecret="), "what to exchange it for"),
        ((*EU, TOKENS[0], "--set=cloudIdentity.expirationSeconds=300"), "expirationSeconds"),
        ((*EU, "--set=cloudIdentity.audiences.Site=x"), "invalid propertyName 'Site'"),
    ],
    ids=[
        "no sites",
        "site of no zone",
        "no API server",
        "moving tag",
        "unknown value",
        "a private destination that is no network",
        "stores through a way out that is not there",
        "metrics for no network",
        "an identity server without an account for the operator",
        "administrators from nowhere",
        "an identity server without passwords",
        "metrics for what is no network",
        "deadline beyond the hour",
        "sites in two regions and the operator anywhere",
        "operator outside the sites' regions",
        "a site in two regions",
        "no room for the site in a CronJob's name",
        "a token and nothing to exchange it for",
        "a token that Kubernetes does not give",
        "a token for what is no site's name",
    ],
)
def test_bad_values_are_refused_with_the_reason(values: tuple[str, ...], word: str) -> None:
    done = helm(*values)
    assert done.returncode != 0
    assert re.search(word, done.stderr), done.stderr
