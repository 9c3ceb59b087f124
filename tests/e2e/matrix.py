"""Who of all pods reaches which ports of which others: tried from inside every pod."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

from tests.e2e.asking import reached
from tests.estate import Estate
from tests.testbed.testbed import Site

Object = dict[str, Any]


class Pod(NamedTuple):
    """A running pod; ``kind`` is what it is called in a matrix."""

    kind: str
    namespace: str
    name: str
    container: str
    address: str


def pods(estate: Estate, site: Site, namespace: str, prefix: str, *components: str) -> list[Pod]:
    """One pod of each component in a namespace; kinds are ``prefix`` and the component."""
    found = []
    for component in components:
        label = f"app.kubernetes.io/component={component}"
        pod = next(p for p in estate.pods(site, namespace, label) if "deletionTimestamp" not in p["metadata"])
        container = pod["spec"]["containers"][0]["name"]
        kind = f"{prefix}{component}"
        found.append(Pod(kind, namespace, pod["metadata"]["name"], container, pod["status"]["podIP"]))
    return found


@contextmanager
def stranger(estate: Estate, site: Site, name: str, labels: Mapping[str, str]) -> Iterator[str]:
    """A namespace with the pod ``main``, which belongs to no tenant and is under no policy."""
    container = {"name": "main", "image": estate.testbed.images.built["client"][1], "imagePullPolicy": "Never"}
    site.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}},
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "main", "namespace": name, "labels": dict(labels)},
            "spec": {"containers": [container], "terminationGracePeriodSeconds": 0},
        },
    )
    site.kubectl("wait", "-n", name, "--for=condition=Ready", "pod/main", "--timeout=60s")
    yield name
    site.kubectl("delete", "namespace", name, "--wait=false")


def tried(
    site: Site, sources: Iterable[Pod], targets: Iterable[Pod], ports: Iterable[int]
) -> set[tuple[str, str, int]]:
    """All (source, target, port) that a connection could be opened for; to itself nobody's is tried."""
    targets, ports = list(targets), list(ports)

    def of(source: Pod) -> set[tuple[str, str, int]]:
        places = {f"{t.kind} {port}": (t.address, port) for t in targets if t != source for port in ports}
        found = reached(site, source.namespace, source.name, source.container, places)
        opened = (name.rpartition(" ") for name, answered in found.items() if answered)
        return {(source.kind, kind, int(port)) for kind, _, port in opened}

    with ThreadPoolExecutor(4) as threads:
        return set().union(*threads.map(of, sources))
