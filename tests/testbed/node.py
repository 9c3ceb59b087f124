"""A real Kubernetes node: containerd, kubelet, kube-proxy, Calico Felix and its CNI plugin.

Each node is a machine of its own as far as files go: a mount namespace with private /var and /run. When the node's
processes die so do all its mounts; what it keeps lies in its disk folder. A restart finds /run empty, like a reboot.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.testbed import cgroups
from tests.testbed.build import build, cache_dir
from tests.testbed.control_plane import ControlPlane
from tests.testbed.images import Images
from tests.testbed.network import Network
from tests.testbed.process import Process, TestbedError, run
from tests.testbed.topology import ClusterSpec

_PLUGINS = Path("/usr/lib/cni")
_SOCKET = "/run/containerd/containerd.sock"
# The holder keeps the mount namespace alive. Mounts of the machine still come in, those of the node never get out.
# A cache that lies under /var is carried over.
_HOLD = (
    'in=${3#/var/}; if [ "$in" != "$3" ]; then mkdir -p "$1/$in" && mount --bind "$3" "$1/$in" || exit 1; fi; '
    'cd "$4" && for name in *; do mount --bind "$name" "/proc/sys/$(echo "$name" | tr . /)" || exit 1; done; cd / && '
    'mount --rbind "$1" /var && mount --bind "$2" /run && mkdir -p /run/netns /run/lock /run/containerd && '
    "touch /run/ready && exec sleep infinity"
)
# The kubelet would set these for the whole machine; on the node they read as if they were so.
_KERNEL_SETTINGS = {
    "vm.overcommit_memory": 1,
    "vm.panic_on_oom": 0,
    "kernel.panic": 10,
    "kernel.panic_on_oops": 1,
    "kernel.keys.root_maxkeys": 1_000_000,
    "kernel.keys.root_maxbytes": 25_000_000,
}


@dataclass(frozen=True)
class Node:
    """Node ``number`` of a cluster, counted from 1."""

    spec: ClusterSpec
    number: int
    control_plane: ControlPlane
    network: Network
    images: Images
    group: str
    folder: Path
    logs: Path

    @property
    def name(self) -> str:
        """Name of the node, of its namespace and folder."""
        return self.spec.node_name(self.number)

    @property
    def address(self) -> str:
        """Address of the node."""
        return self.network.plan.node(self.spec, self.number)

    @property
    def _var(self) -> Path:
        return self.folder / "var"

    @property
    def _run(self) -> Path:
        return self.folder / "run"

    @property
    def _pods_group(self) -> str:
        return f"{self.group}/{self.name}"

    @cached_property
    def holder(self) -> Process:
        """What keeps the node's mount namespace."""
        folders = [str(p) for p in (self._var, self._run, cache_dir().resolve(), self.folder / "sysctl")]
        command = ["unshare", "--mount", "--propagation", "slave", "sh", "-c", _HOLD, "sh", *folders]
        return Process(
            f"holder of {self.name}",
            f"{self.group}/holder-{self.number}",
            self.logs / f"holder-{self.number}.log",
            command,
            self.network.enter(self.name),
        )

    def enter(self) -> list[str]:
        """Prefix that runs a command on the node."""
        return ["nsenter", f"--target={self.holder.pid()}", "--net", "--mount", "--"]

    def _process(self, name: str, arguments: Iterable[str], binary: str = "", **environment: str) -> Process:
        return Process(
            f"{name} of {self.name}",
            f"{self.group}/{name}-{self.number}",
            self.logs / f"{name}-{self.number}.log",
            [binary or str(build(name)), *arguments],
            self.enter(),
            environment,
        )

    @property
    def containerd(self) -> Process:
        """The container runtime; killing it takes the node's containers along."""
        return self._process("containerd", ["--config", str(self.folder / "containerd.toml")], "/usr/bin/containerd")

    @property
    def kubelet(self) -> Process:
        """The kubelet."""
        place = self.spec.nodes[self.number - 1]
        kubeconfig = self.control_plane.authority.kubeconfig(
            self.name, self.control_plane.server, f"system:node:{self.name}", "system:nodes"
        )
        labels = f"topology.kubernetes.io/region={place.region},topology.kubernetes.io/zone={place.zone}"
        arguments = [
            f"--config={self.folder / 'kubelet.json'}",
            f"--kubeconfig={kubeconfig}",
            "--root-dir=/var/lib/kubelet",
            "--cert-dir=/var/lib/kubelet/pki",
            f"--hostname-override={self.name}",
            f"--node-ip={self.address}",
            f"--node-labels={labels}",
        ]
        return self._process("kubelet", arguments)

    @property
    def proxy(self) -> Process:
        """kube-proxy."""
        return self._process(
            "kube-proxy", [f"--config={self.folder / 'kube-proxy.json'}", f"--hostname-override={self.name}"]
        )

    @property
    def felix(self) -> Process:
        """Calico's agent, which enforces NetworkPolicy."""
        off = (
            "IPV6SUPPORT",
            "IPINIPENABLED",
            "VXLANENABLED",
            "WIREGUARDENABLED",
            "BPFENABLED",
            "XDPENABLED",
            "GENERICXDPENABLED",
        )
        environment = {
            "DATASTORE_TYPE": "kubernetes",
            "FELIX_DATASTORETYPE": "kubernetes",
            "KUBECONFIG": str(self._calico_kubeconfig),
            "NODENAME": self.name,
            "FELIX_FELIXHOSTNAME": self.name,
            "FELIX_IPTABLESBACKEND": "NFT",
            "FELIX_DEFAULTENDPOINTTOHOSTACTION": "ACCEPT",
            "FELIX_LOGSEVERITYSCREEN": "Warning",
            **{f"FELIX_LOG{name}": "none" for name in ("SEVERITYFILE", "SEVERITYSYS", "FILEPATH")},
            **{f"FELIX_{name}": "false" for name in (*off, "USAGEREPORTINGENABLED")},
            "FELIX_HEALTHENABLED": "true",
        }
        return self._process("calico-felix", [], **environment)

    @property
    def processes(self) -> tuple[Process, ...]:
        """All of the node's daemons."""
        return self.holder, self.containerd, self.kubelet, self.proxy, self.felix

    @property
    def _calico_kubeconfig(self) -> Path:
        return self.control_plane.authority.kubeconfig("calico", self.control_plane.server, "calico-node")

    def prepare(self) -> None:
        """Start the runtime with all images; needs no API server."""
        if not self.holder.alive():
            self._boot()
        disk = self._var / "lib" / "containerd"
        if not disk.exists():
            with self.images.lock():
                if not self.images.fill(disk):
                    self._import()
                    self.containerd.kill()
                    self.images.keep(disk)
        self._import()

    def _import(self) -> None:
        self.containerd.start()
        self.containerd.wait(self._serves, f"containerd of {self.name}", 30)
        marks = self._var / "lib" / "containerd" / "imported"
        marks.mkdir(exist_ok=True)
        for archive, reference in self.images.built.values():
            mark = marks / reference.replace("/", "_")
            if mark.exists() and mark.read_text() == archive.name:
                continue
            self._ctr("images", "import", str(archive))
            # A new file: the old one may be linked to a template's.
            mark.unlink(missing_ok=True)
            mark.write_text(archive.name)

    def _serves(self) -> bool:
        try:
            self._ctr("version")
        except TestbedError:
            return False
        return True

    def _boot(self) -> None:
        self.network.attach(self.name, self.address, [self.network.plan.pods(self.spec, self.number)])
        shutil.rmtree(self._run, ignore_errors=True)
        self._run.mkdir(parents=True)
        for name in ("lib", "log", "tmp", "cache"):
            (self._var / name).mkdir(parents=True, exist_ok=True)
        if not (self._var / "run").is_symlink():
            (self._var / "run").symlink_to("/run")
        self._configure()
        cgroups.create(self._pods_group)
        self.holder.start()
        self.holder.wait((self._run / "ready").exists, f"mounts of {self.name}", 10)

    def _configure(self) -> None:
        write = {
            "containerd.toml": _containerd(self.folder),
            "kubelet.json": json.dumps(self._kubelet_config()),
            "kube-proxy.json": json.dumps(self._proxy_config()),
            "cni/net.d/05-calico.conflist": json.dumps(self._cni_config()),
        }
        for name, text in write.items():
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_text(text)
        for name, value in _KERNEL_SETTINGS.items():
            (self.folder / "sysctl").mkdir(exist_ok=True)
            (self.folder / "sysctl" / name).write_text(f"{value}\n")
        plugins = self.folder / "cni" / "bin"
        plugins.mkdir(exist_ok=True)
        for source in (*_PLUGINS.iterdir(), build("calico")):
            link = plugins / source.name
            link.unlink(missing_ok=True)
            link.symlink_to(source)

    def _kubelet_config(self) -> dict[str, Any]:
        pki = self.control_plane.authority
        certificate, key = pki.issue(
            f"kubelet-{self.name}", f"system:node:{self.name}", "system:nodes", (self.name, self.address)
        )
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": self.address,
            "authentication": {"anonymous": {"enabled": False}, "x509": {"clientCAFile": str(pki.certificate)}},
            "authorization": {"mode": "Webhook"},
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{self._pods_group}",
            "clusterDNS": [self.network.plan.service(self.spec, 10)],
            "clusterDomain": "cluster.local",
            "containerRuntimeEndpoint": f"unix://{_SOCKET}",
            # The machine's disk is nobody's business here: images can't be pulled again once they are collected.
            "evictionHard": {"nodefs.available": "0%", "imagefs.available": "0%", "memory.available": "50Mi"},
            "imageGCHighThresholdPercent": 100,
            "failCgroupV1": False,
            "failSwapOn": False,
            "resolvConf": "/dev/null",
            "serializeImagePulls": False,
            # A changed ConfigMap reaches its pods after at most this long.
            "syncFrequency": "10s",
            "tlsCertFile": str(certificate),
            "tlsPrivateKeyFile": str(key),
            "volumePluginDir": "/var/lib/kubelet/volume-plugins",
        }

    def _proxy_config(self) -> dict[str, Any]:
        kubeconfig = self.control_plane.authority.kubeconfig(
            "kube-proxy", self.control_plane.server, "system:kube-proxy"
        )
        return {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "clientConnection": {"kubeconfig": str(kubeconfig)},
            "mode": "iptables",
            "clusterCIDR": self.network.plan.block(self.spec),
            # Limits of connection tracking belong to the whole machine.
            "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
            "iptables": {"minSyncPeriod": "100ms"},
        }

    def _cni_config(self) -> dict[str, Any]:
        calico = {
            "type": "calico",
            "log_level": "warning",
            "log_file_path": "/var/log/calico-cni.log",
            "datastore_type": "kubernetes",
            "nodename": self.name,
            "nodename_file_optional": True,
            "mtu": 1500,
            "ipam": {"type": "host-local", "subnet": self.network.plan.pods(self.spec, self.number)},
            "container_settings": {"allow_ip_forwarding": False},
            "policy": {"type": "k8s"},
            "kubernetes": {"kubeconfig": str(self._calico_kubeconfig)},
        }
        return {
            "cniVersion": "1.0.0",
            "name": "calico-pods",
            "plugins": [calico, {"type": "portmap", "snat": True, "capabilities": {"portMappings": True}}],
        }

    def join(self) -> None:
        """Start what needs the API server."""
        for process in (self.kubelet, self.felix, self.proxy):
            process.start()

    def container_pid(self, container_id: str) -> int:
        """Process id on this machine of a running container's first process. Raises TestbedError."""
        for line in self._ctr("tasks", "list").splitlines():
            fields = line.split()
            if fields[0] == container_id and fields[2] == "RUNNING":
                return int(fields[1])
        raise TestbedError(f"testbed: {self.name} runs no container {container_id}")

    def _ctr(self, *arguments: str) -> str:
        return run(*self.enter(), "ctr", "--address", _SOCKET, "--namespace", "k8s.io", *arguments, seconds=300)


def _containerd(folder: Path) -> str:
    return f"""version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "domicile.dev/pause:1"
  restrict_oom_score_adj = true
  enable_unprivileged_ports = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{folder}/cni/bin"
    conf_dir = "{folder}/cni/net.d"
# A collection that an updated image sets off takes layers away under the import of the next one. Disks are short-lived.
[plugins."io.containerd.gc.v1.scheduler"]
  pause_threshold = 0.0
  deletion_threshold = 0
  mutation_threshold = 0
  startup_delay = "1000h"
[plugins."io.containerd.internal.v1.opt"]
  path = "/var/lib/containerd-opt"
"""
