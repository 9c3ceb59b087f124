"""What a plan says: objects, flows, refusals and differences, and which files make none."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from domicile.api.common import API_VERSION
from domicile.api.sites import ServedZone
from domicile.cli.main import main
from domicile.controllers.tenant import builders
from domicile.controllers.tenant.flows import Flow, flows
from domicile.controllers.tenant.plan import LATER, Plan, plan
from tests.unit.views import NOW, OUTSIDE, tenant_spec, view, zone_spec

Object = dict[str, Any]

ROOT = Path(__file__).resolve().parents[2]
SSO = {"host": "bank.example", "tls": {"secret": "bank-tls"}, "clients": [{"namespace": "clients"}], "sso": {}}
IDENTITY = {"url": "https://sso.example", "cidrs": ["203.0.113.9/32"]}
LEASE = "domicile-system/app.kubernetes.io/component=lease-agent"
SESSIONS = "domicile-system/app.kubernetes.io/component=sessions"
PLATFORM = replace(view().platform, image_pull_policy="IfNotPresent")
EGRESS = "domicile-system/app.kubernetes.io/component=egress"
INSIDE = {
    "name": "local",
    "service": {"namespace": "models", "name": "provider", "port": 8080, "podLabels": {"app": "model"}},
    "models": ["big"],
}
DNS = "kube-system/k8s-app=kube-dns"

TO_MODEL = {
    Flow("helpdesk", "gateway", "8443/TCP"),
    Flow("gateway", "models/app=model", "8080/TCP"),
    Flow("gateway", SESSIONS, "6379/TCP"),
    Flow("gateway", DNS, "53/TCP"),
    Flow("gateway", DNS, "53/UDP"),
}


def planned(*, zone: Object | None = None, **spec: Any) -> Plan:
    served = ServedZone(name="eu", site="gcp-frankfurt", spec=zone_spec(**(zone or {})))
    return plan("bank", tenant_spec(**spec), served, PLATFORM, NOW)


def inside(found: Plan) -> set[Flow]:
    """Flows but those to stores, whose addresses are the zone's."""
    return {f for f in found.flows if not f.target.endswith("/32") or f.target == IDENTITY["cidrs"][0]}


def test_without_a_door_clients_reach_the_guards() -> None:
    assert inside(planned()) == {
        Flow("clients/*", "helpdesk", "8080/TCP"),
        Flow("helpdesk", LEASE, "8444/TCP"),
        *TO_MODEL,
        Flow("helpdesk", DNS, "53/TCP"),
        Flow("helpdesk", DNS, "53/UDP"),
    }


def test_with_a_door_nobody_but_the_door_reaches_the_guards() -> None:
    assert inside(planned(zone={"identity": IDENTITY}, access=SSO)) == {
        Flow("clients/*", "front-door", "8443/TCP"),
        Flow("front-door", "helpdesk", "8443/TCP"),
        Flow("front-door", IDENTITY["cidrs"][0], "443/TCP"),
        Flow("front-door", SESSIONS, "6379/TCP"),
        Flow("front-door", DNS, "53/TCP"),
        Flow("front-door", DNS, "53/UDP"),
        Flow("helpdesk", LEASE, "8444/TCP"),
        *TO_MODEL,
        Flow("helpdesk", DNS, "53/TCP"),
        Flow("helpdesk", DNS, "53/UDP"),
    }


def of_kind(found: Plan, kind: str) -> list[Object]:
    return [o for o in found.objects if o["kind"] == kind]


def pods(found: Plan) -> dict[str, dict[str, str]]:
    made = of_kind(found, "Deployment")
    return {o["metadata"]["name"]: o["spec"]["template"]["metadata"]["labels"] for o in made}


def test_each_opening_carries_a_flow_and_a_connection_needs_both_of_its_ends() -> None:
    zone = {"identity": IDENTITY, "modelProviders": [INSIDE, OUTSIDE], "modelRegions": ["germanywestcentral"]}
    model = {"model": "big", "providers": [{"name": "local"}, {"name": "outside"}]}
    found = planned(zone=zone, access=SSO, model=model)
    assert Flow("gateway", EGRESS, "3129/TCP") in found.flows
    all_policies = of_kind(found, "NetworkPolicy")
    for left_out in all_policies:
        name = left_out["metadata"]["name"]
        rest = [p for p in all_policies if p is not left_out]
        fewer = flows(rest, pods(found))
        assert (fewer == list(found.flows)) == (name == "default-deny" or not left_out["spec"]["podSelector"])
    for end in ("allow-clients", "allow-door-assistants"):
        rest = [p for p in all_policies if p["metadata"]["name"] != end]
        assert Flow("front-door", "helpdesk", "8443/TCP") not in flows(rest, pods(found))


def test_a_policy_in_other_words_is_no_ground_for_a_plan() -> None:
    made = copy.deepcopy(of_kind(planned(), "NetworkPolicy"))
    made[1]["spec"]["podSelector"] = {"matchExpressions": []}
    with pytest.raises(ValueError, match="by labels only"):
        flows(made, {"helpdesk": {}})


def test_no_plan_holds_a_secret() -> None:
    for secret in of_kind(planned(zone={"identity": IDENTITY}, access=SSO), "Secret"):
        assert set(secret["data"].values()) == {LATER}


def test_a_plan_is_what_the_builders_make() -> None:
    spec = tenant_spec()
    beside = {"Secret", "Job"}
    made = [o for o in planned().objects if o["kind"] not in beside]
    seen = view(spec, tenant_id="0" * 32, live_bucket=LATER, platform=PLATFORM)
    assert made == [o for o in builders.build(seen) if o["kind"] not in beside]
    checked = {o["metadata"]["labels"]["app.kubernetes.io/component"] for o in planned().objects if o["kind"] == "Job"}
    assert checked == {"assistant", "gateway"}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A zone and a tenant that is served there."""
    write(tmp_path / "zone.yaml", "ResidencyZone", "eu", zone_spec().to_wire())
    write(tmp_path / "bank.yaml", "AssistantTenant", "bank", tenant_spec().to_wire())
    return tmp_path


def write(path: Path, kind: str, name: str, spec: Object) -> None:
    path.write_text(yaml.safe_dump({"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}))


def test_the_command_shows_objects_and_flows(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "-f", str(files / "bank.yaml"), "-f", str(files / "zone.yaml")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "  Namespace bank" in lines
    assert "  Deployment bank/helpdesk" in lines
    assert "  Secret bank/helpdesk-pods-tls" in lines
    assert "  clients/* -> helpdesk 8080/TCP" in lines


def test_yaml_can_be_read_again(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "-f", str(files / "bank.yaml"), "-f", str(files / "zone.yaml"), "-o", "yaml"]) == 0
    assert tuple(yaml.safe_load_all(capsys.readouterr().out)) == planned().objects


def test_a_difference_names_what_comes_goes_and_changes(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    now, new, zone = files / "bank.yaml", files / "new.yaml", files / "zone.yaml"
    assistants = [
        {"name": "helpdesk", "image": "registry.example/helpdesk:2"},
        {"name": "reports", "image": "registry.example/reports:1"},
    ]
    wire = tenant_spec(assistants=assistants, access={"clients": [{"namespace": "others"}]}).to_wire()
    write(new, "AssistantTenant", "bank", wire)
    assert main(["plan", "-f", str(new), "-f", str(zone), "--against", str(now)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "+ Deployment bank/reports" in lines
    assert "~ Deployment bank/helpdesk" in lines
    assert any(line.strip().startswith("+") and "helpdesk:2" in line for line in lines)
    assert {"- clients/* -> helpdesk 8080/TCP", "+ others/* -> helpdesk 8080/TCP"} <= set(lines)
    assert not [line for line in lines if line.startswith("~ Service")]
    assert main(["plan", "-f", str(now), "-f", str(zone), "--against", str(new)]) == 0
    assert "- Deployment bank/reports" in capsys.readouterr().out.splitlines()
    assert main(["plan", "-f", str(now), "-f", str(zone), "--against", str(now)]) == 0
    assert capsys.readouterr().out == ""


def test_who_would_be_refused_is_told_why(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outside = tenant_spec(model={"providers": [{"name": "outside"}], "model": "big"}).to_wire()
    write(files / "bank.yaml", "AssistantTenant", "bank", outside)
    assert main(["plan", "-f", str(files / "bank.yaml"), "-f", str(files / "zone.yaml")]) == 3
    told = capsys.readouterr().out
    assert told.startswith("bank is refused, and nothing is made: ModelProviderOutside: ")
    assert "Deployment" not in told


WRONG: dict[str, tuple[str, str]] = {
    "no YAML": ("a: [", "bank.yaml: "),
    "no text": ("\0", "bank.yaml: "),
    "nothing of ours": ("kind: Pod", "no AssistantTenant there"),
    "no name": (f"{{apiVersion: {API_VERSION}, kind: AssistantTenant}}", "without metadata.name"),
    "no spec": (f"{{apiVersion: {API_VERSION}, kind: AssistantTenant, metadata: {{name: x}}}}", "AssistantTenant x: "),
    "an unknown field": (
        f"{{apiVersion: {API_VERSION}, kind: AssistantTenant, metadata: {{name: x}}, spec: {{zones: eu}}}}",
        "zones: Extra inputs are not permitted",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_files_that_make_no_plan(files: Path, capsys: pytest.CaptureFixture[str], what: str) -> None:
    text, told = WRONG[what]
    (files / "bank.yaml").write_text(text)
    assert main(["plan", "-f", str(files / "bank.yaml"), "-f", str(files / "zone.yaml")]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["-f", "bank.yaml"], "no ResidencyZone eu in the files"),
        (["-f", "bank.yaml", "-f", "zone.yaml", "--site=gcp-iowa"], "has no site gcp-iowa"),
        (["-f", "missing.yaml"], "missing.yaml"),
    ],
)
def test_what_is_missing_is_named(
    files: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, more: list[str], told: str
) -> None:
    monkeypatch.chdir(files)
    assert main(["plan", *more]) == 2
    assert told in capsys.readouterr().err


# The zone of the last is to approve the issuer first, as the example says.
EXAMPLES = {"acme-eu": "Deployment", "acme-us": "Deployment", "bank-external": "IssuerNotApproved"}


@pytest.mark.parametrize("example", sorted((ROOT / "examples/tenants").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_example_makes_a_plan(example: Path, capsys: pytest.CaptureFixture[str]) -> None:
    zones = [word for zone in sorted((ROOT / "examples/zones").glob("*.yaml")) for word in ("-f", str(zone))]
    told = EXAMPLES[example.stem]
    assert main(["plan", "-f", str(example), *zones]) == (0 if told == "Deployment" else 3)
    assert told in capsys.readouterr().out


def test_what_an_attestation_allows_today_is_planned_with_what_proves_the_tenant() -> None:
    word = {"processor": "Acme Ltd", "place": "Ireland", "statement": "The contract of the 3rd of May."}
    word |= {"attestedOn": "2026-01-01", "expiresOn": "2027-01-01"}
    zone = {"allowedDestinations": [{"host": "api.acme.example", "port": 443, "contract": word}]}
    asked = {"additionalEgress": [{"host": "api.acme.example", "port": 443, "contract": "Acme Ltd"}]}
    made = {(o["kind"], o["metadata"]["name"]): o for o in planned(zone=zone, network=asked).objects}
    assert made["Secret", "egress"]["data"] == {"egress": LATER}
    assert ("Secret", "egress") not in {(o["kind"], o["metadata"]["name"]) for o in planned().objects}
    word["expiresOn"] = "2026-01-02"
    refusal = planned(zone=zone, network=asked).refusal
    assert refusal is not None
    assert refusal.reason == "EgressNotAllowed"
