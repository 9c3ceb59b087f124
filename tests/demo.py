"""The product's main job on real servers, as a timeline: a tenant at home, its copy, the loss of a cloud, the way on.

    python -m tests.demo [--keep]

With DOMICILE_KUBECONFIG set, or without root, it works on the given clusters instead and says what it can't show there.
"""

from __future__ import annotations

import argparse
import sys
import time

from tests.estate import Estate, GaveUpError, Talk, tenant, wait_for
from tests.testbed.testbed import Testbed
from tests.testbed.zone import create_zone

TENANT = "stadtwerke"
KNOWLEDGE = b"""# Opening hours

The customer centre in Frankfurt is open Monday to Friday from 8:00 to 18:00.

# Meter readings

Send your meter reading by 31 January. A photo of the meter is enough.
"""
QUESTION = "When is the customer centre open?"
ORDER = "My contract number is KV-48213."
RECALL = "What is my contract number?"


class Timeline:
    """Prints what happened and when, in seconds since the start."""

    def __init__(self) -> None:
        self._begun = time.monotonic()

    def say(self, what: str) -> float:
        """Print a line; returns the present moment on the monotonic clock."""
        now = time.monotonic()
        print(f"{now - self._begun:7.1f} s  {what}", flush=True)
        return now


def play(estate: Estate, line: Timeline) -> str:
    """The whole story; returns the last line of the demo. Raises AssertionError where a promise isn't kept."""
    first, second = estate.site("gcp-frankfurt"), estate.site("aws-frankfurt")
    first.apply(tenant(TENANT))
    applied = line.say(f"applied     AssistantTenant {TENANT} with kubectl, to {first.name} only")
    estate.wait_condition(first, TENANT, "Ready", "True", 120, "Serving")
    ready = line.say("ready       its pods run on nodes in europe-west3 and hold a write lease")
    estate.put(first, estate.live_bucket(first, TENANT), "knowledge/handbook.md", KNOWLEDGE)

    talk = Talk(TENANT, "helpdesk")
    opened = talk.say(first, ("POST", "/api/sessions", None), seconds=30)[0]
    version = opened.body["consentVersion"]
    talk.say(first, ("POST", "/api/consent", {"recording": True, "version": version}), seconds=30)
    answer = wait_for("an answer with a source", lambda: _sourced(talk, estate), 30)
    first_answer = line.say(f"answered    {QUESTION!r}: {answer.body['answer']!r} (source: {answer.body['sources']})")
    assert "18:00" in answer.body["answer"], answer
    said = talk.ask(first, ORDER, seconds=10)
    assert said.body["recorded"], said
    line.say("recorded    a turn of the conversation, with consent")

    asked = line.say("snapshot    asked for with `kubectl domicile snapshot`")
    estate.plugin(first, "snapshot", TENANT)
    copied = line.say(f"copied      {estate.status(first, TENANT)['lastCommit']}")
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

    estate.testbed.start(first.name)
    line.say(f"returned    {first.name} is back, with its disks")
    served = _serves(estate, talk, line)
    outside = estate.testbed.counters().outside.bytes
    takeover = _takeover(estate)
    return (
        f"demo: ready_s={ready - applied:.1f} first_answer_s={first_answer - applied:.1f} snapshot_s={copied - asked:.1f}"
        f" failover_rto_s={answered - ordered:.1f} rpo_s={takeover:.1f} conversation_kept={kept}"
        f" returned_site_serves={served} outside_bytes={outside}"
    )


def _sourced(talk: Talk, estate: Estate):  # type: ignore[no-untyped-def]
    turn = talk.ask(estate.site("gcp-frankfurt"), QUESTION, seconds=10)
    return turn if turn.status == 200 and turn.body["sources"] else None


def _takeover(estate: Estate) -> float:
    found = estate.site("aws-frankfurt").kubectl(
        "get", "failover", "-o", "jsonpath={.items[0].status.tenants[0].rpoSeconds}"
    )
    return float(found)


def _serves(estate: Estate, talk: Talk, line: Timeline) -> int:
    """1 if any pod of the returned site answers a question during two leases and until its operator has seen the claim."""
    first = estate.site("gcp-frankfurt")
    lease = estate.zones["eu"].spec.lease_seconds
    deadline = time.monotonic() + 2 * lease
    served, asked = 0, 0
    while time.monotonic() < deadline:
        for pod in estate.pods(first, TENANT):
            address = pod["status"].get("podIP")
            if address and pod["status"].get("phase") == "Running":
                turn = Talk(TENANT, "helpdesk", talk.cookie).say(
                    first, ("POST", "/api/chat", {"message": QUESTION}), address=f"{address}:8080"
                )[0]
                asked += turn.status != 0
                served |= int(turn.status == 200)
        time.sleep(1)
    estate.wait_condition(first, TENANT, "Ready", "True", 60, "Standby")
    line.say(f"closed      {asked} questions to the returned site's pods, {served} answered; it is {_role(estate)} now")
    return served


def _role(estate: Estate) -> str:
    return str(estate.status(estate.site("gcp-frankfurt"), TENANT).get("role"))


def main() -> int:
    """Exit code 0 where every promise was kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave the testbed up")
    arguments = parser.parse_args()
    line = Timeline()
    testbed = Testbed(name="demo")
    testbed.down()
    try:
        testbed.up()
        line.say("up          two clouds: gcp-frankfurt and aws-frankfurt, each with a cluster and a store")
        estate = Estate(testbed, create_zone(testbed))
        estate.install()
        line.say("installed   Domicile by its Helm chart in both")
        last = play(estate, line)
    except (GaveUpError, AssertionError) as error:
        print(f"demo: failed: {error}", file=sys.stderr)
        return 1
    finally:
        if not arguments.keep:
            testbed.down()
    print(last)
    return 0


if __name__ == "__main__":
    sys.exit(main())
