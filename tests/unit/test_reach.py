"""What is tried to see what a tenant's pods reach, what is made of it, and the process that tries."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from domicile.api.common import LABEL_COMPONENT, LABEL_INSTANCE
from domicile.api.conditions import Condition
from domicile.api.sites import ServedZone
from domicile.api.tenant import AssistantTenantStatus
from domicile.controllers.tenant import builders, checks, policies, reach
from domicile.controllers.tenant.flows import flows
from domicile.controllers.tenant.rules.verdict import Verdict
from domicile.controllers.tenant.view import ClaimView, Run, TenantView
from domicile.gateway.reach import Settings, look
from tests.unit.views import CONTRACT, NOW, OUTSIDE, site, tenant_spec, verified, view, zone_spec

Object = dict[str, Any]

IDENTITY = {"url": "https://sso.example", "cidrs": ["203.0.113.9/32"]}
LOCAL = {
    "name": "local",
    "service": {"namespace": "models", "name": "provider", "port": 8080, "podLabels": {"app": "model"}},
    "models": ["big"],
}
FAR = OUTSIDE | {"contract": CONTRACT}


def full(**changes: Any) -> TenantView:
    """A tenant with a front door, and models in and outside the cluster."""
    zone = zone_spec(identity=IDENTITY, modelProviders=[LOCAL, FAR], modelRegions=["germanywestcentral"])
    model = {"model": "big", "providers": [{"name": "local"}, {"name": "outside"}]}
    access = {"host": "bank.example", "tls": {"secret": "bank-tls"}, "sso": {}}
    served = ServedZone(name="eu", site="gcp-frankfurt", spec=zone)
    return view(tenant_spec(model=model, access=access), zone=served, **changes)


def check(of: TenantView, component: str) -> reach.Check:
    return next(c for c in reach.checks(of) if c.component == component)


def verdict(of: TenantView) -> Verdict:
    return next(v for v in policies.judge(of) if v.type == "EgressVerified")


def with_runs(of: TenantView, **found: Run | None) -> TenantView:
    """The view after other runs than good ones, by component; None: there is none."""
    kept = verified(of)
    for component, run in found.items():
        name = check(of, component.replace("_", "-")).job
        del kept[name]
        if run is not None:
            kept[name] = run
    return replace(of, runs=kept)


@pytest.mark.parametrize("seen", [full(), view()], ids=["with a door", "plain"])
def test_what_should_be_reached_is_what_policies_open(seen: TenantView) -> None:
    made = builders.build(seen)
    pods = {
        o["metadata"]["name"]: o["spec"]["template"]["metadata"]["labels"] for o in made if o["kind"] == "Deployment"
    }
    # A door's Deployment needs secrets that this view lacks, its policies don't.
    pods |= {"front-door": {LABEL_COMPONENT: "front-door"}} if seen.spec.access.sso else {}
    opened = flows([o for o in made if o["kind"] == "NetworkPolicy"], pods)
    for pod, labels in pods.items():
        ways = {(f.target, f.port) for f in opened if f.source == pod and not f.port.startswith("53/")}
        assert len(check(seen, labels[LABEL_COMPONENT]).allowed) == len(ways)


def test_each_hop_skipped_is_tried() -> None:
    seen = full(platform=replace(view().platform, outside=(("example.com", 443),)))
    everything = {p.name for p in reach.checks(seen)[0].places}
    assert everything - check(seen, "assistant").allowed == {
        "API server", "metadata server", "session store", "way out", "store of aws-frankfurt", "identity server",
        "model local", "models.example:443", "example.com:443", "front door", "assistant helpdesk",
    }  # fmt: skip
    assert check(seen, "gateway").allowed == {"session store", "way out", "model local"}
    assert check(seen, "front-door").allowed == {"session store", "identity server", "assistant helpdesk"}


def test_the_standby_has_no_servers_to_try() -> None:
    standby = view(claim=ClaimView(1, "aws-frankfurt", stands=True, opened=True, everywhere=True))
    assert {c.component for c in reach.checks(standby)} == {"assistant", "gateway"}
    assert check(standby, "assistant").allowed == {"lease agent", "store"}
    assert policies.ready(standby, policies.judge(standby)).reason == "Standby"


def test_another_check_where_anything_of_it_changes() -> None:
    first = {c.job for c in reach.checks(view())}
    assert first == {c.job for c in reach.checks(view(now=NOW + timedelta(days=3)))}
    changed = (
        view(tenant_spec(access={"clients": [{"namespace": "other"}]})),
        view(policies_foreign=("theirs",)),
        view(platform=replace(view().platform, outside=(("example.com", 443),))),
        view(claim=ClaimView(2, "aws-frankfurt", stands=True, opened=True, everywhere=True)),
    )
    assert all(first.isdisjoint(c.job for c in reach.checks(v)) for v in changed)


def test_its_pods_are_bound_like_those_they_stand_for_and_serve_nothing() -> None:
    seen = full()
    made = builders.build(seen)
    for each in reach.checks(seen):
        job = reach.job(seen, each, {"another tenant's server 1": ("198.51.100.9", 443)})
        template = job["spec"]["template"]
        labels = template["metadata"]["labels"]
        assert labels[LABEL_COMPONENT] == each.component
        selectors = [o["spec"]["selector"] for o in made if o["kind"] == "Service"]
        selectors += [o["spec"]["selector"]["matchLabels"] for o in made if o["kind"] == "PodDisruptionBudget"]
        assert selectors
        assert not any(selector.items() <= labels.items() for selector in selectors)
        assert template["spec"]["automountServiceAccountToken"] is False
        assert "volumes" not in template["spec"]
        affinity = json.dumps(template["spec"]["affinity"])
        assert "europe-west3" in affinity
        env = {e["name"]: e["value"] for e in template["spec"]["containers"][0]["env"]}
        settings = Settings.read(env)
        assert settings.expected == each.allowed
        assert settings.places["another tenant's server 1"] == ("198.51.100.9", 443)


GOOD = frozenset({"gateway", "lease agent", "store"})
CASES: dict[str, tuple[dict[str, Run | None], str, str, str]] = {
    "all good": ({}, "True", "Verified", "assistant, gateway"),
    "a leak": ({"assistant": Run(NOW, GOOD | {"API server"})}, "False", "ForbiddenReachable", "assistant: API server"),
    "another tenant": (
        {"assistant": Run(NOW, GOOD | {"another tenant's server 1"})},
        "False",
        "ForbiddenReachable",
        "another tenant's server 1",
    ),
    "a leak while others run": (
        {"assistant": Run(NOW, GOOD | {"session store"}), "gateway": None},
        "False",
        "ForbiddenReachable",
        "assistant: session store",
    ),
    "a leak where something does not answer": (
        {"assistant": Run(NOW, frozenset({"API server"}))},
        "False",
        "ForbiddenReachable",
        "API server",
    ),
    "nobody enforces": (
        {
            "assistant": Run(NOW, reach.ALWAYS_THERE | GOOD),
            "gateway": Run(NOW, reach.ALWAYS_THERE),
        },
        "False",
        "PoliciesNotEnforced",
        "network plugin",
    ),
    "a way is blocked": ({"assistant": Run(NOW, GOOD - {"store"})}, "False", "WayBlocked", "assistant: store"),
    "not tried yet": ({"gateway": None}, "Unknown", "AwaitingCheck", "being tried"),
    "under way": ({"gateway": Run()}, "Unknown", "AwaitingCheck", "being tried"),
    "it said nothing": ({"gateway": Run(NOW)}, "Unknown", "CheckFailed", "reach-check-gateway-"),
}


@pytest.mark.parametrize(("found", "status", "reason", "words"), CASES.values(), ids=CASES)
def test_what_was_found_is_told(found: dict[str, Run | None], status: str, reason: str, words: str) -> None:
    said = verdict(with_runs(view(), **found))
    assert (said.status, said.reason) == (status, reason)
    assert words in said.message


def test_only_what_was_seen_to_be_open_keeps_a_tenant_from_ready() -> None:
    for found, _, reason, _ in CASES.values():
        seen = with_runs(view(), **found)
        ready = policies.ready(seen, policies.judge(seen))
        assert (ready.status == "False") == (reason in {"ForbiddenReachable", "PoliciesNotEnforced"})


def test_a_refused_job_is_told() -> None:
    said = verdict(view(check_refusal="The API server refuses Job reach-check-gateway-0: exceeded quota", runs={}))
    assert (said.status, said.reason) == ("Unknown", "CheckFailed")
    assert "exceeded quota" in said.message


@pytest.mark.parametrize("known", ["True", "False"])
def test_while_a_check_runs_the_last_verdict_stands(known: Any) -> None:
    last = Condition(type="EgressVerified", status=known, reason="Earlier", message="As seen yesterday.")
    seen = view(status=AssistantTenantStatus(conditions=[last]), runs={})
    assert verdict(seen) == Verdict(verdict(seen).type, known, "Earlier", "As seen yesterday.")
    broken = with_runs(seen, gateway=Run(NOW))
    assert verdict(broken).reason == "CheckFailed"


@pytest.mark.parametrize("reason", ["ForbiddenReachable", "PoliciesNotEnforced"])
def test_what_was_seen_to_be_open_is_not_forgotten_where_it_can_not_be_tried_again(reason: str) -> None:
    last = Condition(type="EgressVerified", status="False", reason=reason, message="Open.")
    seen = view(status=AssistantTenantStatus(conditions=[last]), runs={})
    for broken in (with_runs(seen, gateway=Run(NOW)), replace(seen, check_refusal="No.")):
        assert verdict(broken) == Verdict(verdict(broken).type, "False", reason, "Open.")
        assert policies.ready(broken, policies.judge(broken)).status == "False"
    assert verdict(replace(seen, runs=verified(seen))).status == "True"


def test_a_run_that_never_ends_is_no_verdict() -> None:
    last = Condition(type="EgressVerified", status="True", reason="Verified", message="As seen yesterday.")
    seen = view(status=AssistantTenantStatus(conditions=[last]))
    for minutes, reason in ((9, "Verified"), (10, "CheckFailed")):
        run = Run(started=NOW - timedelta(minutes=minutes))
        assert verdict(with_runs(seen, gateway=run)).reason == reason
        assert reach.due(check(seen, "gateway"), run, NOW) == (minutes == 10)


def test_stores_are_tried_where_they_are() -> None:
    sites = [site("gcp-frankfurt", "gcp", "europe-west3", "x"), site("aws-eusc", "aws", "eusc-de-east-1", "x")]
    for each in sites:
        each["stores"] = {k: v for k, v in each["stores"].items() if k != "endpoint"} | {
            "profile": "cloud",
            "accountId": "1" * 12,
        }
    sites[0]["stores"].pop("accountId")
    seen = view(zone=ServedZone(name="eu", site="gcp-frankfurt", spec=zone_spec(sites=sites)))
    tried = {p.name: p.host for p in reach.checks(seen)[0].places}
    assert tried["store"] == "storage.europe-west3.rep.googleapis.com"
    assert tried["store of aws-eusc"] == "s3.eusc-de-east-1.amazonaws.eu"


def test_a_good_check_is_repeated_daily_and_any_other_soon() -> None:
    each = check(view(), "assistant")

    def due(run: Run, **later: float) -> bool:
        return reach.due(each, run, NOW + timedelta(**later))

    assert not due(Run(), days=9)
    assert (due(Run(NOW, GOOD), hours=23, minutes=59), due(Run(NOW, GOOD), days=1)) == (False, True)
    for bad in (GOOD | {"API server"}, GOOD - {"store"}):
        assert (due(Run(NOW, bad), minutes=9), due(Run(NOW, bad), minutes=10)) == (False, True)
    assert (due(Run(NOW), seconds=59), due(Run(NOW), minutes=1)) == (False, True)


def _job(**status: Any) -> Object:
    meta = {"name": "reach-check-gateway-0", "creationTimestamp": "2026-01-02T03:04:05Z"}
    return {"metadata": meta, "status": status}


def _pod(message: str, code: int = 0) -> Object:
    ended = {"exitCode": code, "message": message}
    return {
        "metadata": {"labels": {"batch.kubernetes.io/job-name": "reach-check-gateway-0", LABEL_INSTANCE: reach.NAME}},
        "status": {"containerStatuses": [{"state": {"terminated": ended}}]},
    }


COMPLETE = _job(conditions=[{"type": "Complete", "status": "True", "lastTransitionTime": "2026-01-02T03:04:05Z"}])
FAILED = _job(conditions=[{"type": "Failed", "status": "True", "lastTransitionTime": "2026-01-02T03:04:05Z"}])


@pytest.mark.parametrize(
    ("job", "pods", "run"),
    [
        (_job(), [], Run(None, None, NOW)),
        (_job(conditions=[{"type": "FailureTarget", "status": "True"}]), [], Run(None, None, NOW)),
        (COMPLETE, [_pod('["store"]')], Run(NOW, frozenset({"store"}), NOW)),
        (COMPLETE, [], Run(NOW, None, NOW)),
        (COMPLETE, [_pod("")], Run(NOW, None, NOW)),
        (COMPLETE, [_pod('{"store": true}')], Run(NOW, None, NOW)),
        (FAILED, [_pod('["store"]', code=1)], Run(NOW, None, NOW)),
        (FAILED, [{"metadata": {}, "status": {}}], Run(NOW, None, NOW)),
    ],
)
def test_a_run_is_read_from_its_job_and_pod(job: Object, pods: list[Object], run: Run) -> None:
    assert checks.runs([job], pods) == {"reach-check-gateway-0": run}


@pytest.fixture
def server() -> Iterator[socket.socket]:
    """Listens on the loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def test_the_process_tells_what_answers(server: socket.socket) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closing:
        closed = closing.getsockname()
    places = {"open": server.getsockname(), "closed": closed, "nowhere": ("name.invalid", 443)}
    assert look(Settings(places, frozenset({"open"}), 30)) == {"open"}
    assert look(Settings(places, frozenset({"open", "closed"}), 0)) == {"open"}
    assert look(Settings({}, frozenset(), 30)) == frozenset()


def test_the_process_waits_for_who_starts_late(server: socket.socket) -> None:
    with socket.create_server(("127.0.0.1", 0)) as first:
        late = first.getsockname()
    begun = threading.Event()

    def listen() -> None:
        with socket.create_server(late) as second:
            begun.set()
            second.accept()[0].close()

    starting = threading.Timer(1, listen)
    starting.start()
    assert look(Settings({"late": late, "open": server.getsockname()}, frozenset({"late", "open"}), 30)) == {
        "late",
        "open",
    }
    assert begun.is_set()
    starting.join()
