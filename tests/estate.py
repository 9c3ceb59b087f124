"""A testbed with Domicile installed on it by its Helm chart: what the demo and the end-to-end tests work with."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from tests.testbed.build import build
from tests.testbed.process import TestbedError, run
from tests.testbed.testbed import Site, Testbed
from tests.testbed.zone import Zone

ROOT = Path(__file__).parent.parent
NAMESPACE = "domicile-system"
_CLIENT = (ROOT / "tests" / "testbed" / "client.py").read_text()

Object = dict[str, Any]
T = TypeVar("T")


class GaveUpError(Exception):
    """What was waited for did not come; the message holds the last that was seen."""


def wait_for(what: str, look: Callable[[], T | None], seconds: float, pause: float = 0.25) -> T:
    """The first truthy result of ``look``. Raises GaveUpError."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise GaveUpError(f"{what}: not within {seconds:.0f} s")
        time.sleep(pause)


class Place(Protocol):
    """A cluster that can be worked with: a site of the testbed, or one of the user's."""

    @property
    def name(self) -> str:
        """How messages name it."""

    @property
    def kubeconfig(self) -> Path:
        """A kubeconfig of it."""

    def kubectl(self, *arguments: str, given: str | None = None, seconds: float = 120) -> str:
        """Run kubectl. Raises TestbedError."""

    def exec_client(self, *command: str, given: str | None = None, seconds: float = 60) -> str:
        """Run a command in the client pod. Raises TestbedError."""


@dataclass(frozen=True)
class Turn:
    """What a client got: HTTP status (0: no answer), body, and when, in seconds since its talk began."""

    status: int
    body: Object
    seconds: float


@dataclass
class Talk:
    """A client's session with an assistant at a site; the cookie goes with the person, whichever site answers."""

    tenant: str
    assistant: str
    cookie: str = ""
    turns: list[Turn] = field(default_factory=list)

    def say(
        self, site: Place, *steps: tuple[str, str, Object | None], seconds: float = 0, address: str = ""
    ) -> list[Turn]:
        """Do the steps in the client pod of a site, each retried for ``seconds`` until it succeeds."""
        base = f"http://{address}" if address else f"http://{self.assistant}.{self.tenant}.svc"
        job = {"base": base, "cookie": self.cookie, "steps": steps, "seconds": seconds}
        out = json.loads(
            site.exec_client("python3", "-c", _CLIENT, given=json.dumps(job), seconds=seconds + 60 + 10 * len(steps))
        )
        self.cookie = out["cookie"]
        turns = [Turn(**t) for t in out["turns"]]
        self.turns += turns
        return turns

    def start(self, site: Place, *, recording: bool = True) -> None:
        """Start a session, with consent to recording or without."""
        opened = self.say(site, ("POST", "/api/sessions", None), seconds=60)[0]
        agreed = {"recording": recording, "version": opened.body["consentVersion"]}
        self.say(site, ("POST", "/api/consent", agreed), seconds=60)

    def ask(self, site: Place, question: str, *, seconds: float = 0) -> Turn:
        """Ask one question."""
        return self.say(site, ("POST", "/api/chat", {"message": question}), seconds=seconds)[0]


class Watch:
    """What can be asked of, and ordered from, any cluster with Domicile on it."""

    def plugin(self, site: Place, *arguments: str, seconds: float = 300) -> str:
        """Run ``kubectl domicile ...`` at a cluster and return its output. Raises TestbedError with its words."""
        command = ["env", f"KUBECONFIG={site.kubeconfig}", sys.executable, "-m", "domicile.cli.main", *arguments]
        return run(*command, seconds=seconds)

    def get(self, site: Place, kind: str, name: str, namespace: str = "") -> Object | None:
        """An object, or None."""
        where = ["-n", namespace] if namespace else []
        try:
            found: Object = json.loads(site.kubectl("get", kind, name, *where, "-o", "json"))
        except TestbedError as error:
            if "NotFound" in str(error):
                return None
            raise
        return found

    def conditions(self, site: Place, name: str, kind: str = "assistanttenant") -> dict[str, Object]:
        """The conditions of a tenant (or another resource) by type; empty where there is none."""
        found = self.get(site, kind, name) or {}
        return {c["type"]: c for c in found.get("status", {}).get("conditions", [])}

    def wait_condition(
        self, site: Place, name: str, kind: str, status: str, seconds: float = 60, reason: str = ""
    ) -> Object:
        """The tenant's condition once it has that status (and reason). Raises GaveUpError with all conditions."""

        def look() -> Object | None:
            found = self.conditions(site, name).get(kind)
            right = found and found["status"] == status and reason in ("", found["reason"])
            return found if right else None

        try:
            return wait_for(f"{kind}={status} {reason} of {name} at {site.name}", look, seconds)
        except GaveUpError as error:
            raise GaveUpError(f"{error}: {json.dumps(self.conditions(site, name), indent=1)}") from None

    def status(self, site: Place, name: str) -> Object:
        """The status of a tenant."""
        found = self.get(site, "assistanttenant", name) or {}
        status: Object = found.get("status", {})
        return status


class Estate(Watch):
    """Domicile on a testbed's clusters."""

    def __init__(self, testbed: Testbed, *zones: Zone) -> None:
        self.testbed = testbed
        self.zones = {z.name: z for z in zones}

    def site(self, name: str) -> Site:
        """A site."""
        return self.testbed.site(name)

    def _clusters(self) -> list[Site]:
        """One site of each cluster."""
        return list({s.cluster.spec.name: s for s in self.testbed.sites.values()}.values())

    def install(self, *, replicas: int = 1, **values: Any) -> None:
        """Install Domicile everywhere; returns once operators and lease agents are ready. ``values`` of the chart."""
        for site in self._clusters():
            self._install(site, {"operator": {"replicas": replicas}, "leaseAgent": {"replicas": replicas}, **values})
        for site in self._clusters():
            for name in ("domicile-operator", "domicile-lease"):
                site.kubectl("rollout", "status", "-n", NAMESPACE, f"deploy/{name}", "--timeout=180s", seconds=190)

    def _install(self, site: Site, values: Object) -> None:
        own = [s.name for s in self.testbed.topology.cluster_of(site.name).sites]
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        site.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}})
        lease: list[Path] = []
        for name in own:
            zones = [z for z in self.zones.values() if name in z.buckets]
            credentials = [p for z in zones for p in z.credentials(name).glob("*.json")]
            suffix = f"-{name}" if len(own) > 1 else ""
            self._secret(site, f"domicile-credentials{suffix}", credentials)
            self._secret(site, f"domicile-keys{suffix}", [p for z in zones for p in z.keys(name).glob("*.json")])
            lease += [p for z in zones for p in z.lease_credentials(name).glob("*.json")]
        self._secret(site, "domicile-lease-credentials", lease)
        logins = {z.name: z for z in self.zones.values() if z.spec.identity and set(own) & set(z.buckets)}
        if logins:
            files = [p for z in logins.values() for p in sorted(z.identity.iterdir())]
            self._secret(site, "domicile-identity", files)
            values = values | {"identitySecret": "domicile-identity"}
        server = site.cluster.control_plane.server.removeprefix("https://")
        address, _, port = server.partition(":")
        values = {
            "sites": own,
            "zones": {z.name: z.spec.to_wire() for z in self.zones.values()},
            "image": {"pullPolicy": "Never"},
            "metrics": self._metrics(site),
            "networkPolicy": {"apiServer": {"cidrs": [f"{address}/32"], "ports": [int(port)]}},
            **values,
        }
        run(
            str(build("helm")),
            *("upgrade", "--install", "domicile", str(ROOT / "charts" / "domicile")),
            *("--kubeconfig", str(site.kubeconfig), "--namespace", NAMESPACE, "--values", "-"),
            given=json.dumps(values),
            seconds=180,
        )

    def _metrics(self, site: Site) -> Object:
        """Chart values of a port of /metrics that only its own pod reaches, by its own certificate."""
        authority = site.cluster.control_plane.authority
        certificate, key = authority.issue("metrics", "metrics", hosts=("127.0.0.1",))
        files = {"tls.crt": certificate, "tls.key": key, "clients.crt": authority.certificate}
        self._put_secret(site, "domicile-metrics", files)
        return {"tlsSecret": "domicile-metrics", "networks": ["127.0.0.0/8"]}

    def _secret(self, site: Site, name: str, files: Sequence[Path]) -> None:
        self._put_secret(site, name, {p.name: p for p in files})

    @staticmethod
    def _put_secret(site: Site, name: str, files: Mapping[str, Path]) -> None:
        meta = {"name": name, "namespace": NAMESPACE}
        data = {key: files[key].read_text() for key in sorted(files)}
        site.apply({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": data})

    def live_bucket(self, site: Site, tenant: str) -> str:
        """Name of the tenant's live bucket at a site."""
        return str(self.status(site, tenant)["storage"]["bucket"])

    def put(self, site: Site, bucket: str, name: str, data: bytes) -> None:
        """Write an object as a data pipeline of the tenant would."""
        if site.spec.is_gcs:
            site.store.gcs().bucket(bucket).blob(name).upload_from_string(data)
        else:
            site.store.s3().put_object(Bucket=bucket, Key=name, Body=data)

    def names(self, site: Site, bucket: str, prefix: str = "") -> list[str]:
        """Names of the objects in a bucket."""
        if site.spec.is_gcs:
            return [b.name for b in site.store.gcs().list_blobs(bucket, prefix=prefix)]
        pages = site.store.s3().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return [o["Key"] for page in pages for o in page.get("Contents", [])]

    def pods(self, site: Site, namespace: str, selector: str = "app.kubernetes.io/component=assistant") -> list[Object]:
        """Pods of a namespace, but those of checks, which bear the labels of others."""
        chosen = f"{selector},app.kubernetes.io/instance!=reach-check"
        found = json.loads(site.kubectl("get", "pods", "-n", namespace, "-l", chosen, "-o", "json"))
        items: list[Object] = found["items"]
        return items


def tenant(name: str, zone: str = "eu", **spec: Any) -> Object:
    """An AssistantTenant with one reference assistant, open to the namespace ``clients``."""
    wanted: Object = {
        "zone": zone,
        "assistants": [{"name": "helpdesk", "mode": "free", "image": "domicile.dev/assistant:0.1.0"}],
        "model": {"providers": [{"name": "local"}], "model": "extractive-1"},
        "access": {"clients": [{"namespace": "clients"}]},
        **spec,
    }
    return {
        "apiVersion": "domicile.dev/v1alpha1",
        "kind": "AssistantTenant",
        "metadata": {"name": name},
        "spec": wanted,
    }
