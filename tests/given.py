"""The demo on clusters that are given (DOMICILE_KUBECONFIG) instead of the testbed: what can be shown without harm.

Domicile must be installed there and serve a zone. The clusters are the user's: nothing is killed or cut, and what the
demo made is deleted at the end (the tenant's data stays, as always).
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.estate import Talk, Watch, tenant
from tests.testbed.build import build
from tests.testbed.process import TestbedError, run
from tests.timeline import Timeline

Object = dict[str, Any]
TENANT = "domicile-demo"
CLIENTS = "domicile-demo-clients"
IMAGE = os.environ.get("DOMICILE_ASSISTANT_IMAGE", "domicile.dev/assistant:0.1.0")
NOT_SHOWN = (
    "the loss of a cloud, the take-over and the return: nothing of yours is killed; bytes that reach the outside"
)


@dataclass(frozen=True)
class GivenSite:
    """A cluster of the user's."""

    kubeconfig: Path

    @property
    def name(self) -> str:
        """How messages name it."""
        return self.kubeconfig.name

    def kubectl(self, *arguments: str, given: str | None = None, seconds: float = 120) -> str:
        """Run kubectl against it. Raises TestbedError."""
        return run(str(build("kubectl")), f"--kubeconfig={self.kubeconfig}", *arguments, given=given, seconds=seconds)

    def apply(self, *objects: Object) -> None:
        """Server-side apply."""
        items = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.kubectl("apply", "--server-side", "-f", "-", given=json.dumps(items))

    def exec_client(self, *command: str, given: str | None = None, seconds: float = 60) -> str:
        """Run a command in the demo's client pod."""
        return self.kubectl("exec", "-i", "-n", CLIENTS, "client", "--", *command, given=given, seconds=seconds)

    def zones(self) -> list[Object]:
        """Zones that the cluster serves."""
        found = json.loads(self.kubectl("get", "residencyzones", "-o", "json"))["items"]
        return [z for z in found if z.get("status", {}).get("site")]


class NotInstalledError(Exception):
    """The given cluster has no Domicile that serves a zone; the message says what to do."""


def show(kubeconfigs: str, line: Timeline) -> str:
    """Play what can be shown; returns the last line. ``kubeconfigs``: one or two paths, separated by colons."""
    sites = [GivenSite(Path(p)) for p in kubeconfigs.split(os.pathsep) if p]
    first, *others = sites
    try:
        zones = first.zones()
    except TestbedError as error:
        raise NotInstalledError(f"{first.name} does not answer, or lacks Domicile's CRDs: {error}") from None
    if not zones:
        raise NotInstalledError(
            f"Domicile serves no zone in {first.name}: install the chart (README, 'Install it') and a zone"
        )
    zone = zones[0]
    estate = Watch()
    try:
        return _play(estate, first, others, zone, line)
    finally:
        first.kubectl("delete", "assistanttenant", TENANT, "--ignore-not-found", "--wait=false")
        first.kubectl("delete", "namespace", CLIENTS, "--ignore-not-found", "--wait=false")


def _play(estate: Watch, first: GivenSite, others: list[GivenSite], zone: Object, line: Timeline) -> str:
    provider = next((p for p in zone["spec"].get("modelProviders", []) if "service" in p), None)
    if provider is None:
        raise NotInstalledError(f"zone {zone['metadata']['name']} has no model provider with a service in its clusters")
    first.apply(*_client())
    first.apply(
        tenant(
            TENANT,
            zone["metadata"]["name"],
            assistants=[{"name": "helpdesk", "mode": "free", "image": IMAGE}],
            model={"providers": [{"name": provider["name"]}], "model": provider["models"][0]},
            access={"clients": [{"namespace": CLIENTS}]},
        )
    )
    applied = line.say(f"applied     AssistantTenant {TENANT} to {first.name}, zone {zone['metadata']['name']}")
    estate.wait_condition(first, TENANT, "Ready", "True", 300, "Serving")
    ready = line.say(f"ready       at site {zone['status']['site']}")
    first.kubectl("wait", "-n", CLIENTS, "pod/client", "--for=condition=Ready", "--timeout=180s", seconds=190)
    talk = Talk(TENANT, "helpdesk")
    talk.start(first)
    answer = talk.ask(first, "My contract number is KV-48213.", seconds=60)
    assert answer.status == 200, answer
    answered = line.say(f"answered    {answer.body['answer']!r}")
    snapshot = "-"
    if zone["spec"]["sites"][1:]:
        asked = line.say("snapshot    asked for with `kubectl domicile snapshot`")
        estate.plugin(first, "snapshot", TENANT)
        snapshot = f"{line.say('copied      sealed, to the peer') - asked:.1f}"
    recalled = talk.ask(first, "What is my contract number?", seconds=60)
    kept = int("KV-48213" in recalled.body.get("answer", ""))
    line.say(f"recalled    {recalled.body.get('answer')!r}")
    for other in others:
        estate.wait_condition(other, TENANT, "Ready", "True", 120, "Standby")
        line.say(f"standby     {other.name} knows the tenant and can open its key")
    line.say(f"not shown   {NOT_SHOWN}")
    return (
        f"demo: ready_s={ready - applied:.1f} first_answer_s={answered - applied:.1f} snapshot_s={snapshot}"
        f" failover_rto_s=- rpo_s=- conversation_kept={kept} returned_site_serves=- outside_bytes=-"
    )


def _client() -> list[Object]:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    restricted = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True}
    container = {
        "name": "client",
        "image": IMAGE,
        "command": ["python3", "-c", "import signal; signal.pause()"],
        "securityContext": restricted,
    }
    spec = {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 0,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
    }
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": CLIENTS, "labels": labels}},
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "client", "namespace": CLIENTS}, "spec": spec},
    ]
