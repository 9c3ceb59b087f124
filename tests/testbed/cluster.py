"""One cluster: control plane, nodes, cluster DNS and the workloads that every test needs."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from tests.testbed import cgroups
from tests.testbed.api import Api, now
from tests.testbed.build import build
from tests.testbed.control_plane import ControlPlane
from tests.testbed.images import Images
from tests.testbed.network import Network
from tests.testbed.node import Node
from tests.testbed.process import Process, TestbedError, eventually, run
from tests.testbed.topology import WORLD, ClusterSpec

_MANIFESTS = Path(__file__).parent / "manifests"
_CALICO_KINDS = {
    "BGPConfiguration": "bgpconfigurations",
    "BGPFilter": "bgpfilters",
    "BGPPeer": "bgppeers",
    "BlockAffinity": "blockaffinities",
    "CalicoNodeStatus": "caliconodestatuses",
    "ClusterInformation": "clusterinformations",
    "FelixConfiguration": "felixconfigurations",
    "GlobalNetworkPolicy": "globalnetworkpolicies",
    "GlobalNetworkSet": "globalnetworksets",
    "HostEndpoint": "hostendpoints",
    "IPAMBlock": "ipamblocks",
    "IPAMConfig": "ipamconfigs",
    "IPAMHandle": "ipamhandles",
    "IPPool": "ippools",
    "IPReservation": "ipreservations",
    "KubeControllersConfiguration": "kubecontrollersconfigurations",
    "NetworkPolicy": "networkpolicies",
    "NetworkSet": "networksets",
}
_NAMESPACED = ("NetworkPolicy", "NetworkSet")


@dataclass(frozen=True)
class Cluster:
    """A cluster and its folder of disks and keys."""

    spec: ClusterSpec
    network: Network
    images: Images
    group: str
    folder: Path
    logs: Path

    @cached_property
    def control_plane(self) -> ControlPlane:
        """The cluster's servers."""
        return ControlPlane(self.spec, self.network, self.group, self.folder, self.logs)

    @cached_property
    def nodes(self) -> list[Node]:
        """The cluster's nodes, in order."""
        return [
            Node(
                self.spec,
                n,
                self.control_plane,
                self.network,
                self.images,
                self.group,
                self.folder / f"node-{n}",
                self.logs,
            )
            for n in range(1, len(self.spec.nodes) + 1)
        ]

    @property
    def kubeconfig(self) -> Path:
        """An administrator's kubeconfig, for use on this machine."""
        return self.control_plane.kubeconfig

    @property
    def api(self) -> Api:
        """Reads of the API."""
        return self.control_plane.api

    @property
    def processes(self) -> list[Process]:
        """All daemons of the cluster."""
        return [*self.control_plane.processes, *(p for n in self.nodes for p in n.processes)]

    def process(self, name: str, node: int = 1) -> Process:
        """A daemon by its program's name: of the control plane, or of the node of that number. Raises KeyError."""
        for process in self.processes:
            if process.group in (f"{self.group}/{name}", f"{self.group}/{name}-{node}"):
                return process
        raise KeyError(f"testbed: cluster {self.spec.name} has no process {name!r}")

    def kubectl(self, *arguments: str, given: str | None = None, seconds: float = 120) -> str:
        """Run kubectl as administrator; ``given`` is its standard input. Raises TestbedError with kubectl's words."""
        return run(str(build("kubectl")), f"--kubeconfig={self.kubeconfig}", *arguments, given=given, seconds=seconds)

    def apply(self, *objects: dict[str, Any] | str) -> None:
        """Server-side apply of objects, or of manifests as text."""
        texts = [o if isinstance(o, str) else json.dumps(o) for o in objects]
        self.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", given="\n---\n".join(texts))

    def up(self, phase: Callable[[str], None]) -> None:
        """Start everything that doesn't run and return once nodes, DNS and workloads are ready."""
        # After an outage the API still shows what was so before it; only news counts then.
        since = now() if any(not n.holder.alive() for n in self.nodes) else now().replace(year=2000)
        with ThreadPoolExecutor(1 + len(self.nodes)) as pool:
            started = pool.submit(self.control_plane.start)
            prepared = [pool.submit(node.prepare) for node in self.nodes]
            started.result()
            phase(f"{self.spec.name}: API server ready")
            for future in prepared:
                future.result()
        phase(f"{self.spec.name}: images on {len(self.nodes)} node(s)")
        self._install()
        for node in self.nodes:
            node.join()
        eventually(lambda: self.api.nodes_ready(len(self.nodes), since), f"ready nodes of {self.spec.name}", 90)
        phase(f"{self.spec.name}: nodes ready")
        for namespace, selector in self._expected():
            ready = partial(self.api.pods_ready, namespace, selector, since)
            eventually(ready, f"ready pod {selector} in {self.spec.name}", 120)
        phase(f"{self.spec.name}: pods ready")

    def _expected(self) -> list[tuple[str, str]]:
        pods = [("kube-system", "k8s-app=kube-dns")]
        if self._with_workloads:
            pods += [("models", "app=model-provider"), ("clients", "app=client")]
        return pods

    @property
    def _with_workloads(self) -> bool:
        return {"client", "model-provider"} <= set(self.images.built)

    def _install(self) -> None:
        plan = self.network.plan
        dns = plan.service(self.spec, 10)
        sites = plan.topology.sites
        names = [f"{plan.store(site)} {plan.store_host(site)}" for site in sites]
        names += [f"{plan.identity(site)} {plan.identity_host(site)}" for site in sites]
        manifests = [
            (_MANIFESTS / "calico.yaml").read_text(),
            (_MANIFESTS / "coredns.yaml")
            .read_text()
            .replace("@DNS@", dns)
            .replace("@WORLD@", WORLD)
            .replace("@API@", self.network.plan.api(self.spec))
            .replace("@SITES@", "\n        ".join(names)),
        ]
        if self._with_workloads:
            text = (_MANIFESTS / "workloads.yaml").read_text()
            for name in ("client", "model-provider"):
                text = text.replace(f"@{name.upper()}@", self.images.built[name][1])
            manifests.append(text)
        self.apply(*(_calico_crd(k, p) for k, p in _CALICO_KINDS.items()), *manifests)
        eventually(self._served, f"Calico's kinds in {self.spec.name}", 30)
        self.apply(*self._calico_objects())

    def _served(self) -> bool:
        try:
            kinds = {r["kind"] for r in self.api.get("/apis/crd.projectcalico.org/v1")["resources"]}
        except OSError:
            return False
        return kinds >= set(_CALICO_KINDS)

    def _calico_objects(self) -> list[dict[str, Any]]:
        information = {
            "datastoreReady": True,
            "clusterType": "k8s,kdd",
            "calicoVersion": "v3.28.5",
            "clusterGUID": f"{0:032x}",
        }
        objects = [_calico("ClusterInformation", "default", information)]
        for node in self.nodes:
            pool = {
                "cidr": self.network.plan.pods(self.spec, node.number),
                "blockSize": 26,
                "ipipMode": "Never",
                "vxlanMode": "Never",
                "natOutgoing": False,
                "nodeSelector": "all()",
            }
            objects.append(_calico("IPPool", f"pods-{node.number}", pool))
        return objects

    def container_pid(self, namespace: str, pod: str, container: str) -> int:
        """Process id on this machine of a pod's container, for SIGSTOP and the like. Raises TestbedError."""
        found = self.api.get(f"/api/v1/namespaces/{namespace}/pods/{pod}")
        status = found["status"]
        states = [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]
        ids = [s["containerID"].rpartition("/")[2] for s in states if s["name"] == container and "containerID" in s]
        node = next(n for n in self.nodes if n.name == found["spec"]["nodeName"])
        if not ids:
            raise TestbedError(f"testbed: pod {namespace}/{pod} has no running container {container!r}")
        return node.container_pid(ids[0])

    def kill(self) -> None:
        """SIGKILL everything of the cluster, pods included, and take its namespaces off the network. Disks stay."""
        cgroups.kill(self.group)
        plan = self.network.plan
        self.network.detach(self.control_plane.space, plan.api(self.spec))
        for node in self.nodes:
            self.network.detach(node.name, node.address)
        cgroups.remove(self.group)

    def diagnosis(self) -> str:
        """What is dead, what isn't ready and the end of the logs, for a failure's report."""
        dead = [p for p in self.processes if not p.alive()]
        if not self.control_plane.api_server.alive():
            return "\n".join([f"dead: {', '.join(p.name for p in dead)}", *(p.tail() for p in dead if p.log.exists())])
        try:
            pods = self.kubectl("get", "pods,nodes", "-A", "-o", "wide", seconds=10)
            events = "\n".join(self.kubectl("get", "events", "-A", seconds=10).splitlines()[-15:])
        except TestbedError as error:
            pods, events = str(error), ""
        return "\n".join(
            [f"dead: {', '.join(p.name for p in dead) or 'none'}", pods, events, *(p.tail() for p in dead)]
        )


def _calico(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "crd.projectcalico.org/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def _calico_crd(kind: str, plural: str) -> dict[str, Any]:
    # Felix validates on its own; open schemas spare the API server the work of publishing large ones.
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.crd.projectcalico.org"},
        "spec": {
            "group": "crd.projectcalico.org",
            "names": {"kind": kind, "listKind": f"{kind}List", "plural": plural, "singular": kind.lower()},
            "scope": "Namespaced" if kind in _NAMESPACED else "Cluster",
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}],
        },
    }
