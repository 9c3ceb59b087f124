"""The product's main job on real servers, as a timeline: a tenant at home, its copy, the loss of a cloud, the way on.

    python -m tests.demo [--keep]

With DOMICILE_KUBECONFIG set, or without root, it works on the given clusters instead and says what it can't show there.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from tests.estate import Estate, GaveUpError, Talk, Turn, tenant, wait_for
from tests.given import NotInstalledError, show
from tests.testbed.process import TestbedError
from tests.testbed.testbed import Testbed
from tests.testbed.zone import create_zone
from tests.timeline import Timeline

TENANT = "stadtwerke"
KNOWLEDGE = b"""# Opening hours

The customer centre in Frankfurt is open Monday to Friday from 8:00 to 18:00.

# Meter readings

Send your meter reading by 31 January. A photo of the meter is enough.
"""
QUESTION = "When is the customer centre open?"
ORDER = "My contract number is KV-48213."
RECALL = "What is my contract number?"


def play(estate: Estate, line: Timeline) -> str:
    """The whole story; returns the last line of the demo. Raises AssertionError where a promise isn't kept."""
    first, second = estate.site("gcp-frankfurt"), estate.site("aws-frankfurt")
    first.apply(tenant(TENANT))
    applied = line.say(f"applied     AssistantTenant {TENANT} with kubectl, to {first.name} only")
    estate.wait_condition(first, TENANT, "Ready", "True", 120, "Serving")
    ready = line.say("ready       its pods run on nodes in europe-west3 and hold a write lease")
    estate.put(first, estate.live_bucket(first, TENANT), "knowledge/handbook.md", KNOWLEDGE)

    talk = Talk(TENANT, "helpdesk")
    talk.start(first)
    answer = wait_for("an answer with a source", lambda: _sourced(talk, estate), 30)
    first_answer = line.say(f"answered    {QUESTION!r}: {answer.body['answer']!r} (source: {answer.body['sources']})")
    assert "18:00" in answer.body["answer"], answer
    said = talk.ask(first, ORDER, seconds=10)
    assert said.body["recorded"], said
    line.say("recorded    a turn of the conversation, with consent")

    asked = line.say("snapshot    asked for with `kubectl domicile snapshot`")
    estate.plugin(first, "snapshot", TENANT)
    commit = estate.status(first, TENANT)["lastCommit"]
    copied = line.say(f"copied      snapshot {commit['seq']}, sealed, lies at {commit['target']}")
    estate.wait_condition(second, TENANT, "Ready", "True", 60, "Standby")
    line.say(f"standby     {second.name} knows the tenant, can open its key and runs nothing")

    estate.testbed.kill(first.name)
    line.say(f"outage      {first.name} killed: cluster, pods and store")
    ordered = time.monotonic()
    out = estate.plugin(
        second, "failover", "--zone", "eu", "--to", second.name, "--tenant", TENANT,
        "--source-is-down", "the whole region is unreachable", "--accept-loss", "2h",
    )  # fmt: skip
    print("".join(f"           | {text}\n" for text in out.splitlines()), end="", flush=True)
    again = talk.ask(second, RECALL, seconds=120)
    answered = line.say(f"answered    {RECALL!r} at {second.name}: {again.body.get('answer')!r}")
    assert again.status == 200, again
    kept = int("KV-48213" in again.body["answer"])

    served = _serves(estate, talk, line)
    numbers = {
        "ready_s": f"{ready - applied:.1f}",
        "first_answer_s": f"{first_answer - applied:.1f}",
        "snapshot_s": f"{copied - asked:.1f}",
        "failover_rto_s": f"{answered - ordered:.1f}",
        "rpo_s": f"{_takeover(estate):.1f}",
        "conversation_kept": kept,
        "returned_site_serves": served,
        "outside_bytes": estate.testbed.counters().outside.bytes,
    }
    return "demo: " + " ".join(f"{name}={value}" for name, value in numbers.items())


def _sourced(talk: Talk, estate: Estate) -> Turn | None:
    turn = talk.ask(estate.site("gcp-frankfurt"), QUESTION, seconds=10)
    return turn if turn.status == 200 and turn.body["sources"] else None


def _takeover(estate: Estate) -> float:
    found = estate.site("aws-frankfurt").kubectl(
        "get", "failover", "-o", "jsonpath={.items[0].status.tenants[0].rpoSeconds}"
    )
    return float(found)


def _serves(estate: Estate, talk: Talk, line: Timeline) -> int:
    """1 if any pod of the returning site answers a question, from its first breath on and for two leases after."""
    first = estate.site("gcp-frankfurt")
    lease = estate.zones["eu"].spec.lease_seconds
    with ThreadPoolExecutor(1) as pool:
        returning = pool.submit(estate.testbed.start, first.name)
        served, refused, until = 0, 0, math.inf
        while time.monotonic() < until:
            for status in _ask_all_pods(estate, talk):
                served += status == 200
                refused += status == 503
            if returning.done() and until == math.inf:
                returning.result()
                line.say(f"returned    {first.name} is back, with its disks")
                until = time.monotonic() + 2 * lease
            time.sleep(0.5)
    estate.wait_condition(first, TENANT, "Ready", "True", 60, "Standby")
    line.say(
        f"closed      the returned site answered {served} questions and refused {refused}; it is {_role(estate)} now"
    )
    assert refused, "no pod of the returned site was ever asked"
    return int(served > 0)


def _ask_all_pods(estate: Estate, talk: Talk) -> list[int]:
    """HTTP status of a question to each of the first site's pods, as far as the site can be reached yet."""
    first, found = estate.site("gcp-frankfurt"), []
    try:
        for pod in estate.pods(first, TENANT):
            address = pod["status"].get("podIP")
            if address and pod["status"].get("phase") == "Running":
                ask = ("POST", "/api/chat", {"message": QUESTION})
                copy = Talk(TENANT, "helpdesk", talk.cookie)
                found.append(copy.say(first, ask, address=f"{address}:8080")[0].status)
    except TestbedError:
        return found  # its API server or client pod isn't there yet: nobody else reaches the pods either
    return found


def _role(estate: Estate) -> str:
    return str(estate.status(estate.site("gcp-frankfurt"), TENANT).get("role"))


def main() -> int:
    """Exit code 0 where every promise was kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave the testbed up")
    arguments = parser.parse_args()
    line = Timeline()
    given = os.environ.get("DOMICILE_KUBECONFIG")
    try:
        if given:
            last = show(given, line)
        elif os.geteuid() != 0:
            print(
                "demo: without root there is no testbed; set DOMICILE_KUBECONFIG to clusters of yours", file=sys.stderr
            )
            return 2
        else:
            last = _on_testbed(line, keep=arguments.keep)
    except (GaveUpError, AssertionError, TestbedError, NotInstalledError) as error:
        print(f"demo: failed: {error}", file=sys.stderr)
        return 1
    print(last)
    return 0


def _on_testbed(line: Timeline, *, keep: bool) -> str:
    testbed = Testbed(name="demo")
    testbed.down()
    try:
        testbed.up()
        line.say("up          two clouds: gcp-frankfurt and aws-frankfurt, each with a cluster and a store")
        estate = Estate(testbed, create_zone(testbed))
        estate.install()
        line.say("installed   Domicile by its Helm chart in both")
        return play(estate, line)
    finally:
        if not keep:
            testbed.down()


if __name__ == "__main__":
    sys.exit(main())
