"""The testbed: clusters, stores and the network between them, as one object and as one instance of this machine."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.testbed import instance as instances
from tests.testbed import preflight
from tests.testbed.cluster import Cluster
from tests.testbed.images import ALL, Images
from tests.testbed.instance import Instance
from tests.testbed.network import Counters, Network
from tests.testbed.node import Node
from tests.testbed.process import TestbedError
from tests.testbed.store import Store
from tests.testbed.topology import DEFAULT, Plan, SiteSpec, Topology


@dataclass(frozen=True)
class Site:
    """A site: the cluster that serves it, its nodes there and its store."""

    spec: SiteSpec
    cluster: Cluster
    store: Store

    @property
    def name(self) -> str:
        """Name of the site."""
        return self.spec.name

    @property
    def kubeconfig(self) -> Path:
        """An administrator's kubeconfig of its cluster."""
        return self.cluster.kubeconfig

    @property
    def nodes(self) -> list[Node]:
        """The nodes in its region."""
        return [
            n for n, s in zip(self.cluster.nodes, self.cluster.spec.nodes, strict=True) if s.region == self.spec.region
        ]

    def kubectl(self, *arguments: str, given: str | None = None, seconds: float = 120) -> str:
        """Run kubectl as administrator and return its output. Raises TestbedError."""
        return self.cluster.kubectl(*arguments, given=given, seconds=seconds)

    def apply(self, *objects: dict[str, Any] | str) -> None:
        """Server-side apply of objects, or of manifests as text."""
        self.cluster.apply(*objects)

    def exec_client(self, *command: str, given: str | None = None, seconds: float = 60) -> str:
        """Run a command in the client pod (namespace ``clients``) and return its output. Raises TestbedError."""
        interactive = ["-i"] if given is not None else []
        return self.kubectl(
            "exec", "-n", "clients", *interactive, "deploy/client", "--", *command, given=given, seconds=seconds
        )


class Testbed:
    """Handle of this checkout's instance of that name; makes nothing before ``up``."""

    __test__ = False

    def __init__(
        self,
        topology: Topology | None = None,
        *,
        name: str = "default",
        images: tuple[str, ...] = ALL,
        quiet: bool = False,
    ) -> None:
        self.name = name
        self._wanted = topology
        self._image_names = images
        self._quiet = quiet
        self._instance: Instance | None = instances.find(name)
        self._begun = time.monotonic()
        self._lock = threading.Lock()

    def _say(self, text: str) -> None:
        if not self._quiet:
            with self._lock:
                print(f"testbed: {time.monotonic() - self._begun:6.1f} s  {text}", file=sys.stderr, flush=True)

    @property
    def instance(self) -> Instance:
        """The instance on this machine. Raises TestbedError before ``up``."""
        if self._instance is None:
            raise TestbedError("testbed: it isn't up; run `python -m tests.testbed up`")
        return self._instance

    @property
    def state(self) -> Path:
        """Folder of disks, keys, kubeconfigs and logs; goes with ``down``."""
        return self.instance.state

    @cached_property
    def topology(self) -> Topology:
        """What the running instance consists of."""
        return Topology.from_wire(self._recorded()["topology"])

    def _recorded(self) -> dict[str, Any]:
        file = self.state / "testbed.json"
        if not file.exists():
            raise TestbedError("testbed: its last start didn't get far; run `python -m tests.testbed up`")
        recorded: dict[str, Any] = json.loads(file.read_text())
        return recorded

    @cached_property
    def network(self) -> Network:
        """The network between the sites."""
        return Network(Plan(self.instance.index, self.topology))

    @cached_property
    def images(self) -> Images:
        """The images that the nodes got at the last ``up``."""
        return Images({name: (Path(archive), ref) for name, (archive, ref) in self._recorded()["images"].items()})

    @cached_property
    def clusters(self) -> dict[str, Cluster]:
        """All clusters by name."""
        return {
            c.name: Cluster(
                c,
                self.network,
                self.images,
                f"{self.instance.group}/clusters/{c.name}",
                self.state / "clusters" / c.name,
                self.state / "logs" / c.name,
            )
            for c in self.topology.clusters
        }

    @cached_property
    def sites(self) -> dict[str, Site]:
        """All sites by name, in the topology's order."""
        return {
            s.name: Site(
                s,
                self.clusters[self.topology.cluster_of(s.name).name],
                Store(
                    s,
                    self.network,
                    f"{self.instance.group}/stores",
                    self.state / "stores" / s.name,
                    self.state / "logs",
                ),
            )
            for s in self.topology.sites
        }

    def site(self, name: str) -> Site:
        """A site. Raises KeyError."""
        try:
            return self.sites[name]
        except KeyError:
            raise KeyError(f"testbed: no site {name!r}; there are {', '.join(self.sites)}") from None

    def up(self) -> None:
        """Bring everything up; what runs stays. Raises TestbedError with the ends of the logs."""
        preflight.check()
        self._begun = time.monotonic()
        self._forget()
        wanted = self._wanted or DEFAULT
        images = Images.build(self._image_names)
        self._instance = instance = instances.claim(self.name)
        with instance.lock():
            if instance.alive() and self._wanted is not None and self.topology != wanted:
                raise TestbedError(
                    f"testbed: {self.name!r} is up with another topology; `python -m tests.testbed down` takes it down"
                )
            if not instance.alive():
                instance.remove(keep_entry=True)
                self._forget()
                self.state.mkdir(parents=True, mode=0o700)
                self._record(wanted, images)
                self._create()
            else:
                self._record(self.topology, images)
            with self._diagnosing():
                self._start(list(self.clusters))
        self._say("up")

    def _record(self, topology: Topology, images: Images) -> None:
        built = {name: (str(archive), reference) for name, (archive, reference) in images.built.items()}
        (self.state / "testbed.json").write_text(json.dumps({"topology": topology.to_wire(), "images": built}))

    def _forget(self) -> None:
        for name in ("topology", "network", "images", "clusters", "sites"):
            self.__dict__.pop(name, None)

    def _create(self) -> None:
        self.network.create()
        # Alive from here on: whoever finds an instance without its anchor removes it.
        self.instance.anchor.start()
        self._say("network")

    def _start(self, clusters: list[str]) -> None:
        stores = [s.store for s in self.sites.values() if s.cluster.spec.name in clusters]
        with ThreadPoolExecutor(len(stores) + len(clusters)) as pool:
            jobs: list[Any] = [pool.submit(s.up) for s in stores]
            jobs += [pool.submit(self.clusters[c].up, self._say) for c in clusters]
            for job in jobs:
                job.result()

    @contextmanager
    def _diagnosing(self) -> Iterator[None]:
        try:
            yield
        except (TestbedError, OSError, TimeoutError) as error:
            reports = [f"== {n}\n{c.diagnosis()}" for n, c in self.clusters.items()]
            raise TestbedError("\n".join([str(error), *reports])) from error

    def down(self) -> None:
        """Remove everything of the instance; none is fine, too."""
        instance = self._instance or instances.find(self.name)
        if instance is not None:
            with instance.lock():
                instance.remove()
            if left := instance.leftovers():
                raise TestbedError(f"testbed: still there after down: {', '.join(left)}")
        self._instance = None
        self._forget()
        self._say("down")

    def kill(self, name: str) -> None:
        """SIGKILL a cluster with its pods and all its sites' stores, as an outage. Disks stay; peers get no answer."""
        cluster, stores = self._cloud(name)
        with self.instance.lock():
            jobs: list[Callable[[], None]] = [cluster.kill, *(s.kill for s in stores)]
            with ThreadPoolExecutor(len(jobs)) as pool:
                list(pool.map(lambda job: job(), jobs))

    def start(self, name: str) -> None:
        """Bring a killed cluster and its stores back, with their disks. Returns once its nodes and DNS are ready."""
        self._begun = time.monotonic()
        cluster, _ = self._cloud(name)
        with self.instance.lock(), self._diagnosing():
            self._start([cluster.spec.name])

    def _cloud(self, name: str) -> tuple[Cluster, list[Store]]:
        cluster = self.clusters[self.topology.cluster_of(name).name]
        return cluster, [s.store for s in self.sites.values() if s.cluster is cluster]

    def cut(self, a: str, b: str) -> None:
        """Drop every packet between two places (site, cluster, ``store:SITE``, ``host``), of open connections, too."""
        self.network.cut(a, b)

    def heal(self, a: str, b: str) -> None:
        """Undo ``cut``."""
        self.network.heal(a, b)

    def counters(self) -> Counters:
        """What reached the stores and the outside since ``up``."""
        return self.network.counters()

    def status(self) -> str:
        """What runs, what is dead, what is cut and what went outside."""
        if self._instance is None or not self._instance.alive():
            return "testbed: down"
        lines = [f"testbed: instance {self.instance.index}, addresses {self.network.plan.net}, state {self.state}"]
        for name, cluster in self.clusters.items():
            dead = [p.group.rpartition("/")[2] for p in cluster.processes if not p.alive()]
            word = "up" if not dead else "down" if len(dead) == len(cluster.processes) else f"dead: {', '.join(dead)}"
            lines.append(f"cluster {name}: {word}; API {cluster.control_plane.server}; kubeconfig {cluster.kubeconfig}")
        for site in self.sites.values():
            word = "up" if site.store.process.alive() else "down"
            lines.append(f"store of {site.name} ({site.spec.region}): {word}; {site.store.endpoint}")
        lines += [f"cut: {pair}" for pair in self.network.cuts()]
        outside = self.counters().outside
        lines.append(f"outside: {outside.packets} packets, {outside.bytes} bytes")
        lines += [f"  {flow}: {count.bytes} bytes" for flow, count in self.network.outside_flows().items()]
        return "\n".join(lines)

    def environment(self) -> dict[str, str]:
        """Shell variables for working with the instance by hand."""
        variables = {"DOMICILE_TESTBED_STATE": str(self.state)}
        for site in self.sites.values():
            shell_name = site.name.upper().replace("-", "_")
            variables[f"KUBECONFIG_{shell_name}"] = str(site.kubeconfig)
            variables[f"STORE_{shell_name}"] = site.store.endpoint
        return variables
