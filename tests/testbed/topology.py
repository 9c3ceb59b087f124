"""What a testbed consists of, and the address of everything in it.

An instance owns 10.<200+index>.0.0/16. Cluster s has the /20 at third octet 16*s: infrastructure in its first /24 (node
n at .n, stores from .100, identity servers from .150, control plane at .250), pods of node n in the n-th /24, services
in the last. The last /20 joins it all.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

MAX_CLUSTERS = 15
MAX_NODES = 14
STORE_PORT = 9000
SEALED_PORT = 9443
"""Of the same store, with TLS."""
WORLD = "192.175.48.242"
"""A public address that ends in each instance's network, of AS112 (RFC 7534): nobody's service, and a sink beyond."""
API_PORT = 6443


@dataclass(frozen=True)
class NodeSpec:
    """A Kubernetes node with its region and zone labels."""

    region: str
    zone: str


@dataclass(frozen=True)
class SiteSpec:
    """A site: a cloud region with an object store of its own. ``gcp`` gets fake-gcs-server, any other versitygw."""

    name: str
    cloud: str
    region: str

    @property
    def is_gcs(self) -> bool:
        """The store speaks Google's API, otherwise S3."""
        return self.cloud == "gcp"


@dataclass(frozen=True)
class ClusterSpec:
    """A Kubernetes cluster: its nodes and the sites that it serves."""

    name: str
    nodes: tuple[NodeSpec, ...]
    sites: tuple[SiteSpec, ...]

    def node_name(self, number: int) -> str:
        """Name of node ``number``, counted from 1."""
        return f"{self.name}-{number}"


@dataclass(frozen=True)
class Topology:
    """All clusters of a testbed."""

    clusters: tuple[ClusterSpec, ...]

    def __post_init__(self) -> None:
        names = [s.name for c in self.clusters for s in c.sites]
        clusters = [c.name for c in self.clusters]
        if len(set(names)) != len(names) or len(set(clusters)) != len(clusters):
            raise ValueError("testbed: names of sites and of clusters must be unique")
        if len(clusters) > MAX_CLUSTERS or any(not 1 <= len(c.nodes) <= MAX_NODES for c in self.clusters):
            raise ValueError(f"testbed: at most {MAX_CLUSTERS} clusters of 1 to {MAX_NODES} nodes")
        owners = {s.name: c.name for c in self.clusters for s in c.sites}
        if any(owners.get(c) not in (None, c) for c in clusters):
            raise ValueError("testbed: a cluster is named like a site of another cluster")

    @property
    def sites(self) -> tuple[SiteSpec, ...]:
        """Every site, in order."""
        return tuple(s for c in self.clusters for s in c.sites)

    def cluster_of(self, name: str) -> ClusterSpec:
        """The cluster of that name, or the one that serves the site of that name. Raises KeyError."""
        for cluster in self.clusters:
            if name == cluster.name or name in {s.name for s in cluster.sites}:
                return cluster
        raise KeyError(f"testbed: no site or cluster {name!r}; there are {', '.join(s.name for s in self.sites)}")

    def to_wire(self) -> dict[str, Any]:
        """The topology as JSON-able dicts."""
        return asdict(self)

    @classmethod
    def from_wire(cls, wire: dict[str, Any]) -> Topology:
        """Read what ``to_wire`` made, or a hand-written file of the same form."""
        return cls(
            tuple(
                ClusterSpec(
                    c["name"],
                    tuple(NodeSpec(**n) for n in c["nodes"]),
                    tuple(SiteSpec(**s) for s in c["sites"]),
                )
                for c in wire["clusters"]
            )
        )


def one_site(name: str, cloud: str, region: str) -> ClusterSpec:
    """A cluster of one node that serves one site."""
    return ClusterSpec(
        name, (NodeSpec(region, f"{region}-a" if cloud == "gcp" else f"{region}a"),), (SiteSpec(name, cloud, region),)
    )


DEFAULT = Topology(
    (one_site("gcp-frankfurt", "gcp", "europe-west3"), one_site("aws-frankfurt", "aws", "eu-central-1")),
)

EU_AND_US_IN_ONE = Topology(
    (
        ClusterSpec(
            "gcp-worldwide",
            (NodeSpec("europe-west3", "europe-west3-a"), NodeSpec("us-central1", "us-central1-a")),
            (SiteSpec("gcp-frankfurt", "gcp", "europe-west3"), SiteSpec("gcp-iowa", "gcp", "us-central1")),
        ),
    )
)


@dataclass(frozen=True)
class Plan:
    """Addresses and namespace names of an instance."""

    index: int
    topology: Topology

    @property
    def prefix(self) -> str:
        """Start of the names of the instance's network namespaces."""
        return f"dt{self.index}-"

    @property
    def net(self) -> str:
        """The instance's /16."""
        return f"10.{200 + self.index}.0.0/16"

    def _address(self, third: int, fourth: int) -> str:
        return f"10.{200 + self.index}.{third}.{fourth}"

    @property
    def host(self) -> str:
        """Address of the machine itself on its link to the instance."""
        return self._address(255, 1)

    @property
    def outside(self) -> str:
        """Address of the router to everywhere else."""
        return self._address(255, 5)

    @property
    def gateway(self) -> str:
        """Address of the wide area network's router."""
        return self._address(255, 254)

    def _base(self, cluster: ClusterSpec) -> int:
        return 16 * self.topology.clusters.index(cluster)

    def block(self, cluster: ClusterSpec) -> str:
        """All addresses of a cluster and its stores."""
        return f"{self._address(self._base(cluster), 0)}/20"

    def node(self, cluster: ClusterSpec, number: int) -> str:
        """Address of a node, counted from 1."""
        return self._address(self._base(cluster), number)

    def pods(self, cluster: ClusterSpec, number: int) -> str:
        """Range of a node's pods."""
        return f"{self._address(self._base(cluster) + number, 0)}/24"

    def api(self, cluster: ClusterSpec) -> str:
        """Address of the control plane."""
        return self._address(self._base(cluster), 250)

    def services(self, cluster: ClusterSpec) -> str:
        """Range of the cluster's services."""
        return f"{self._address(self._base(cluster) + 15, 0)}/24"

    def service(self, cluster: ClusterSpec, number: int) -> str:
        """A service address: 1 is the API server, 10 the cluster DNS."""
        return self._address(self._base(cluster) + 15, number)

    def store(self, site: SiteSpec) -> str:
        """Address of a site's store."""
        cluster = self.topology.cluster_of(site.name)
        return self._address(self._base(cluster), 100 + cluster.sites.index(site))

    def identity(self, site: SiteSpec) -> str:
        """Address of a site's identity server."""
        cluster = self.topology.cluster_of(site.name)
        return self._address(self._base(cluster), 150 + cluster.sites.index(site))

    def endpoint(self, site: SiteSpec) -> str:
        """URL of a site's store."""
        return f"http://{self.store(site)}:{STORE_PORT}"

    def store_host(self, site: SiteSpec) -> str:
        """Name of a site's store in the clusters' DNS."""
        return f"{site.name}.store.example"

    def identity_host(self, site: SiteSpec) -> str:
        """Name of a site's identity server in the clusters' DNS."""
        return f"{site.name}.sso.example"

    def addresses(self, name: str) -> list[str]:
        """Prefixes of a site or cluster, of ``store:SITE`` or of ``host``. Raises KeyError."""
        if name == "host":
            return [f"{self.host}/32"]
        kind, _, rest = name.rpartition(":")
        cluster = self.topology.cluster_of(rest)
        site = next((s for s in cluster.sites if s.name == rest), None)
        if kind == "store" and site:
            return [f"{self.store(site)}/32"]
        if kind:
            raise KeyError(f"testbed: {name!r} is neither a site, a cluster, store:SITE nor host")
        if site is None or len(cluster.sites) == 1:
            return [self.block(cluster)]
        local = [n for n, node in enumerate(cluster.nodes, 1) if node.region == site.region]
        return [
            *(f"{self.node(cluster, n)}/32" for n in local),
            *(self.pods(cluster, n) for n in local),
            f"{self.store(site)}/32",
        ]
