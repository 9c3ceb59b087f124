"""What the operator would apply: always inside the region, confined, closed by default."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domicile.api.common import LABEL_REGION
from domicile.controllers.tenant import builders, gateway
from domicile.controllers.tenant.view import ClaimView, TenantView
from tests.unit.views import tenant_spec, view


def only(objects: list[dict[str, Any]], kind: str, name: str | None = None) -> dict[str, Any]:
    found = [o for o in objects if o["kind"] == kind and (name is None or o["metadata"]["name"] == name)]
    assert len(found) == 1
    return found[0]


def secrets(seen: TenantView) -> list[str]:
    """Names of the Secrets beside the gateway's."""
    made = [o["metadata"]["name"] for o in builders.build(seen) if o["kind"] == "Secret"]
    return [name for name in made if name != gateway.NAME]


def with_template(template: dict[str, Any]) -> dict[str, Any]:
    spec = tenant_spec(assistants=[{"name": "helpdesk", "mode": "free", "image": "i:1", "podTemplate": template}])
    pod: dict[str, Any] = only(builders.build(view(spec)), "Deployment", "helpdesk")["spec"]["template"]
    return pod


def test_isolation_comes_before_anything_that_runs() -> None:
    kinds = [o["kind"] for o in builders.build(view())]
    assert kinds[0] == "Namespace"
    assert kinds.index("NetworkPolicy") < kinds.index("Deployment")
    deny = only(builders.build(view()), "NetworkPolicy", "default-deny")["spec"]
    assert deny == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": [], "egress": []}


def test_the_namespace_is_restricted_and_labelled() -> None:
    labels = only(builders.build(view()), "Namespace")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    assert labels["domicile.dev/jurisdiction"] == "EU"


def test_openings_name_exactly_the_chain() -> None:
    policies = {o["metadata"]["name"]: o["spec"] for o in builders.build(view()) if o["kind"] == "NetworkPolicy"}
    openings = {"clients", "dns", "gateway", "lease", "store"}
    of_gateway = {f"gateway-{to}" for to in ("assistants", "dns", "egress", "models", "vault")}
    assert set(policies) == {"default-deny", *(f"allow-{to}" for to in openings | of_gateway)}
    clients = policies["allow-clients"]
    assert clients["ingress"] == [
        {
            "from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "clients"}}}],
            "ports": [{"port": 8080, "protocol": "TCP"}],
        }
    ]
    assert policies["allow-store"]["egress"] == [
        {"to": [{"ipBlock": {"cidr": "192.0.2.1/32"}}], "ports": [{"port": 9000, "protocol": "TCP"}]}
    ]


def test_nothing_runs_while_a_restore_writes() -> None:
    assert only(builders.build(view()), "Deployment", "helpdesk")["spec"]["replicas"] == 2
    assert only(builders.build(view(restoring="bank-1")), "Deployment", "helpdesk")["spec"]["replicas"] == 0


def test_without_clients_nobody_is_admitted() -> None:
    closed = only(builders.build(view(tenant_spec(access={}))), "NetworkPolicy", "allow-clients")
    assert closed["spec"]["ingress"] == []


def test_no_rule_has_an_empty_peer_list() -> None:
    for spec in (tenant_spec(), tenant_spec(access={})):
        for policy in (o["spec"] for o in builders.build(view(spec)) if o["kind"] == "NetworkPolicy"):
            assert all(rule["from"] for rule in policy["ingress"])
            assert all(rule["to"] for rule in policy["egress"])


@pytest.mark.parametrize(
    "claim",
    [
        None,
        ClaimView(2, "aws-frankfurt", stands=True, opened=True, everywhere=True),
        ClaimView(3, "gcp-frankfurt", stands=True, opened=False, everywhere=True),
    ],
)
def test_no_pods_without_an_opened_claim(claim: ClaimView | None) -> None:
    assert only(builders.build(view(claim=claim)), "Deployment", "helpdesk")["spec"]["replicas"] == 0


def test_two_pods_where_the_claim_is_held() -> None:
    assert only(builders.build(view()), "Deployment", "helpdesk")["spec"]["replicas"] == 2


def pinned(pod: dict[str, Any]) -> bool:
    required = pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    wanted = {"key": LABEL_REGION, "operator": "In", "values": ["europe-west3"]}
    return bool(required["nodeSelectorTerms"]) and all(
        wanted in term["matchExpressions"] for term in required["nodeSelectorTerms"]
    )


json_values = st.sampled_from([None, True, 0, "", "other", [], ["x"], {}, {"a": 1}])
terms = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "matchExpressions": st.lists(
                st.fixed_dictionaries(
                    {
                        "key": st.sampled_from([LABEL_REGION, "disk"]),
                        "operator": st.sampled_from(["In", "NotIn", "Exists"]),
                        "values": st.lists(st.sampled_from(["us-central1", "europe-west3"]), max_size=2),
                    }
                ),
                max_size=2,
            ),
            "matchFields": st.just([{"key": "metadata.name", "operator": "In", "values": ["n1"]}]),
        },
    ),
    max_size=3,
)


@given(
    terms=terms,
    names=st.lists(st.sampled_from(["guard", "assistant", "extra"]), unique=True),
    extra=st.dictionaries(
        st.sampled_from(["nodeName", "hostNetwork", "hostPID", "shareProcessNamespace", "serviceAccountName"]),
        json_values,
    ),
)
def test_whatever_the_template_says_region_guard_and_confinement_win(
    terms: list[dict[str, Any]], names: list[str], extra: dict[str, Any]
) -> None:
    containers = [
        {"name": n, "image": "evil", "command": ["x"], "securityContext": {"runAsUser": 0}, "env": [{"name": "PORT"}]}
        for n in names
    ]
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}
    pod = with_template(
        {"spec": {"affinity": affinity, "containers": containers, "initContainers": containers[:1], **extra}}
    )
    assert pinned(pod)
    spec = pod["spec"]
    assert not set(spec) & {"nodeName", "hostNetwork", "hostPID", "shareProcessNamespace"}
    assert spec["serviceAccountName"] == "helpdesk"
    plain = with_template({})["spec"]
    guard = [c for c in spec["initContainers"] if c["name"] == "guard"]
    assert guard == plain["initContainers"]
    assert all(c["name"] != "guard" for c in spec["containers"])
    assistant = next(c for c in spec["containers"] if c["name"] == "assistant")
    ours = plain["containers"][0]
    assert assistant["image"] == ours["image"]
    assert assistant["securityContext"] == ours["securityContext"]
    assert [e for e in assistant["env"] if e["name"] == "PORT"] == [e for e in ours["env"] if e["name"] == "PORT"]


def test_no_probe_asks_anybody_but_the_pod() -> None:
    probe = {"httpGet": {"host": "elsewhere.example", "httpHeaders": [{"name": "Host", "value": "x"}]}}
    pod = with_template({"spec": {"containers": [{"name": "assistant", "readinessProbe": probe}]}})
    assert set(pod["spec"]["containers"][0]["readinessProbe"]["httpGet"]) == {"path", "port", "scheme"}


@pytest.mark.parametrize("handler", ["httpGet", "tcpSocket"])
@pytest.mark.parametrize("container", ["assistant", "side"])
def test_nor_has_a_template_the_node_look_up_a_name(handler: str, container: str) -> None:
    asked = {handler: {"host": "data.elsewhere.example", "port": 80}}
    theirs = {"name": container, "livenessProbe": asked, "lifecycle": {"postStart": asked, "preStop": asked}}
    made = with_template({"spec": {"containers": [theirs], "initContainers": [theirs | {"name": "init"}]}})["spec"]
    assert "elsewhere" not in json.dumps(made)
    [kept] = [c for c in made["initContainers"] if c["name"] == "init"]
    assert kept["lifecycle"]["postStart"] == {handler: {"port": 80}}


@pytest.mark.parametrize(
    "template",
    [
        {"metadata": None, "spec": None},
        {"metadata": {"labels": None}, "spec": {"containers": None, "affinity": None}},
        {"spec": {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": None}}}},
    ],
)
def test_nulls_in_a_template_count_as_absent(template: dict[str, Any]) -> None:
    affinity = with_template(template)["spec"]["affinity"]["nodeAffinity"]
    terms = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert [e["values"] for t in terms for e in t["matchExpressions"]] == [["europe-west3"]]


def test_a_template_may_tune_what_is_harmless() -> None:
    pod = with_template(
        {
            "metadata": {"annotations": {"team": "x"}, "labels": {"app.kubernetes.io/component": "stolen"}},
            "spec": {
                "nodeSelector": {"disk": "ssd"},
                "tolerations": [{"key": "gpu", "operator": "Exists"}],
                "containers": [
                    {
                        "name": "assistant",
                        "resources": {"limits": {"memory": "1Gi"}},
                        "env": [{"name": "LOG_LEVEL", "value": "debug"}],
                        "volumeMounts": [{"name": "cache", "mountPath": "/cache"}],
                    }
                ],
                "volumes": [{"name": "cache", "emptyDir": {}}],
            },
        }
    )
    assert pod["metadata"]["annotations"] == {"team": "x"}
    assert pod["metadata"]["labels"]["app.kubernetes.io/component"] == "assistant"
    spec = pod["spec"]
    assert spec["nodeSelector"] == {"disk": "ssd"}
    assistant = spec["containers"][0]
    assert assistant["resources"]["limits"]["memory"] == "1Gi"
    assert {"name": "LOG_LEVEL", "value": "debug"} in assistant["env"]
    assert [m["name"] for m in assistant["volumeMounts"]] == ["tmp", "cache"]
    assert [v["name"] for v in spec["volumes"]] == ["cache", "tmp", "pods-tls"]


@pytest.mark.parametrize("name", ["front-door", "store-credentials", "front-door-pods-tls"])
def test_a_template_gets_no_secret_by_which_our_pods_prove_themselves(name: str) -> None:
    container = {
        "name": "more",
        "image": "registry.example/more:1",
        "envFrom": [{"secretRef": {"name": name}}, {"secretRef": {"name": "mine"}}],
        "env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": name, "key": "k"}}}, {"name": "Y", "value": "y"}],
    }
    volumes = [
        {"name": "plain", "secret": {"secretName": name}},
        {"name": "projected", "projected": {"sources": [{"secret": {"name": name}}, {"secret": {"name": "mine"}}]}},
        {"name": "mine", "secret": {"secretName": "mine"}},
    ]
    spec = with_template({"spec": {"containers": [container], "initContainers": [container], "volumes": volumes}})[
        "spec"
    ]
    assert name not in json.dumps(spec)
    assert json.dumps(spec).count('"mine"') == 5
    assert [c.get("env") for c in spec["containers"][1:]] == [[{"name": "Y", "value": "y"}]]


@pytest.mark.parametrize("containers", ["containers", "initContainers"])
@pytest.mark.parametrize("name", ["assistant", "more"])
def test_a_template_mounts_nothing_that_the_guard_proves_itself_by(containers: str, name: str) -> None:
    mounts = [{"name": n, "mountPath": f"/mnt/{n}"} for n in ("pods-tls", "mine", "tmp")]
    container = {"name": name, "image": "registry.example/more:1", "volumeMounts": mounts}
    template = {"spec": {containers: [container], "volumes": [{"name": "mine", "emptyDir": {}}]}}
    spec = with_template(template)["spec"]
    [made] = [c for c in spec[containers] if c["name"] == name]
    found = {m["mountPath"] for m in made["volumeMounts"] if m["mountPath"].startswith("/mnt/")}
    assert found == {"/mnt/mine", "/mnt/tmp"}


def test_a_template_gets_no_token_that_a_cloud_would_take() -> None:
    source = {"serviceAccountToken": {"path": "token", "audience": "sts.amazonaws.com"}}
    sources = [source, {"configMap": {"name": "mine"}}]
    spec = with_template({"spec": {"volumes": [{"name": "mine", "projected": {"sources": sources}}]}})["spec"]
    [volume] = [v for v in spec["volumes"] if v["name"] == "mine"]
    assert volume["projected"]["sources"] == [{"configMap": {"name": "mine"}}]
    assert spec["automountServiceAccountToken"] is False


def test_static_credentials_reach_only_their_own_bucket_secret() -> None:
    objects = builders.build(view(live_credentials=b"{}"))
    assert only(objects, "Secret", "store-credentials")["data"] == {"store.json": "e30="}
    assert secrets(view()) == []


def test_a_mirrored_secret_is_put_down_only_where_it_is_missing() -> None:
    seen = view(missing_secrets=("crm", "erp"), mirrored_secrets={"crm": {"k": "dg=="}, "other": {"k": "dg=="}})
    assert secrets(seen) == ["crm"]
    assert only(builders.build(seen), "Secret", "crm")["data"] == {"k": "dg=="}


@pytest.mark.parametrize(("holder", "written"), [("aws-frankfurt", ["crm"]), ("gcp-frankfurt", [])])
def test_a_mirrored_secret_follows_the_active_site(holder: str, written: list[str]) -> None:
    claim = ClaimView(1, holder, stands=True, opened=True, everywhere=True)
    seen = view(claim=claim, copied_secrets=("crm",), mirrored_secrets={"crm": {"k": "bmV3"}})
    assert secrets(seen) == written
