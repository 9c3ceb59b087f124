"""A cluster's control plane in a namespace of its own, as if managed: etcd, API server, controllers, scheduler."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tests.testbed.api import Api
from tests.testbed.build import build
from tests.testbed.network import Network
from tests.testbed.pki import Authority, service_account_key
from tests.testbed.process import Process
from tests.testbed.topology import API_PORT, ClusterSpec


@dataclass(frozen=True)
class ControlPlane:
    """The servers of one cluster. ``folder`` holds keys and etcd's disk."""

    spec: ClusterSpec
    network: Network
    group: str
    folder: Path
    logs: Path

    @property
    def authority(self) -> Authority:
        """The cluster's certificate authority."""
        return Authority(self.folder / "pki")

    @property
    def address(self) -> str:
        """Address of the API server."""
        return self.network.plan.api(self.spec)

    @property
    def server(self) -> str:
        """URL of the API server."""
        return f"https://{self.address}:{API_PORT}"

    @cached_property
    def api(self) -> Api:
        """An administrator's client for polling."""
        return Api(self.server, self.authority)

    @property
    def space(self) -> str:
        """Name of its network namespace."""
        return f"{self.spec.name}-api"

    @property
    def kubeconfig(self) -> Path:
        """An administrator's kubeconfig."""
        return self.authority.kubeconfig("admin", self.server, "testbed-admin", "system:masters")

    def _process(self, name: str, *arguments: str) -> Process:
        return Process(
            f"{name} of {self.spec.name}",
            f"{self.group}/{name}",
            self.logs / f"{name}.log",
            [str(build(name)), *arguments],
            self.network.enter(self.space),
        )

    @cached_property
    def etcd(self) -> Process:
        """The database. It doesn't sync: a killed process loses nothing that the kernel has."""
        return self._process(
            "etcd",
            f"--data-dir={self.folder / 'etcd'}",
            "--listen-client-urls=http://127.0.0.1:2379",
            "--advertise-client-urls=http://127.0.0.1:2379",
            "--listen-peer-urls=http://127.0.0.1:2380",
            "--unsafe-no-fsync",
            "--log-level=warn",
        )

    @cached_property
    def api_server(self) -> Process:
        """The API server, with RBAC, node authorization and an audit log of all writes."""
        plan, pki = self.network.plan, self.authority
        certificate, key = pki.issue(
            "api-server",
            "kube-apiserver",
            hosts=(
                self.address,
                plan.service(self.spec, 1),
                "kubernetes",
                "kubernetes.default",
                "kubernetes.default.svc",
                "kubernetes.default.svc.cluster.local",
            ),
        )
        kubelet, kubelet_key = pki.issue("api-server-kubelet", "kube-apiserver-kubelet-client", "system:masters")
        sign = self.folder / "pki" / "service-accounts.key"
        service_account_key(sign)
        return self._process(
            "kube-apiserver",
            f"--advertise-address={self.address}",
            f"--bind-address={self.address}",
            f"--secure-port={API_PORT}",
            "--etcd-servers=http://127.0.0.1:2379",
            f"--service-cluster-ip-range={plan.services(self.spec)}",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={sign}",
            f"--service-account-signing-key-file={sign}",
            f"--client-ca-file={pki.certificate}",
            f"--tls-cert-file={certificate}",
            f"--tls-private-key-file={key}",
            f"--kubelet-certificate-authority={pki.certificate}",
            f"--kubelet-client-certificate={kubelet}",
            f"--kubelet-client-key={kubelet_key}",
            "--kubelet-preferred-address-types=InternalIP",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            # Webhooks and aggregated servers are reached by pod address: nothing here translates service addresses.
            "--enable-aggregator-routing=true",
            "--allow-privileged=true",
            "--profiling=false",
            f"--audit-log-path={self.audit_log}",
            f"--audit-policy-file={Path(__file__).parent / 'manifests' / 'audit-policy.yaml'}",
        )

    @property
    def audit_log(self) -> Path:
        """One JSON event for every write to the API, without bodies."""
        return self.logs / "audit.jsonl"

    @cached_property
    def controller_manager(self) -> Process:
        """All controllers, each under a service account of its own."""
        config = str(self.authority.kubeconfig("controller-manager", self.server, "system:kube-controller-manager"))
        return self._process(
            "kube-controller-manager",
            f"--kubeconfig={config}",
            f"--authentication-kubeconfig={config}",
            f"--authorization-kubeconfig={config}",
            f"--root-ca-file={self.authority.certificate}",
            f"--service-account-private-key-file={self.folder / 'pki' / 'service-accounts.key'}",
            "--use-service-account-credentials=true",
            "--bind-address=127.0.0.1",
            "--leader-elect=false",
            "--kube-api-qps=100",
            "--kube-api-burst=200",
            "--profiling=false",
        )

    @cached_property
    def scheduler(self) -> Process:
        """The scheduler."""
        config = str(self.authority.kubeconfig("scheduler", self.server, "system:kube-scheduler"))
        return self._process(
            "kube-scheduler",
            f"--kubeconfig={config}",
            f"--authentication-kubeconfig={config}",
            f"--authorization-kubeconfig={config}",
            "--bind-address=127.0.0.1",
            "--leader-elect=false",
            "--profiling=false",
        )

    @property
    def processes(self) -> tuple[Process, ...]:
        """All servers, in the order of their start."""
        return self.etcd, self.api_server, self.controller_manager, self.scheduler

    def start(self) -> None:
        """Start everything and return once the API server is ready."""
        if not any(p.alive() for p in self.processes):
            self.network.attach(self.space, self.address)
        assert self.kubeconfig
        self.etcd.start()
        self.api_server.start()
        self.api_server.wait(self.api.healthy, f"ready API server of {self.spec.name}", 120)
        self.controller_manager.start()
        self.scheduler.start()
