"""Who can talk to whom by a tenant's network policies (networking.k8s.io/v1, NetworkPolicy). Pure.

A connection inside the namespace needs an opening at both of its ends. Of what lies elsewhere only our end is known:
that one may have policies of its own. Kubelets reach the pods of their node whatever policies say.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

Object = dict[str, Any]

_NAMESPACE = "kubernetes.io/metadata.name"


class Flow(NamedTuple):
    """Connections from ``source`` to ``target`` are open at ``port``, such as 8443/TCP."""

    source: str
    target: str
    port: str


def flows(policies: Sequence[Object], pods: Mapping[str, Mapping[str, str]]) -> list[Flow]:
    """All flows of the tenant's ``pods`` (labels by name), sorted; ``policies`` deny what they don't open.

    Raises ValueError for a policy with words that ours never have.
    """
    found = set()
    for pod, labels in pods.items():
        for peer, port in _openings(policies, labels, "egress", "to"):
            within = _within(peer, pods)
            if within is None:
                found.add(Flow(pod, _told(peer), port))
                continue
            open_there = (n for n in within if _admits(policies, pods[n], labels, port))
            found.update(Flow(pod, name, port) for name in open_there)
        for peer, port in _openings(policies, labels, "ingress", "from"):
            if _within(peer, pods) is None:
                found.add(Flow(_told(peer), pod, port))
    return sorted(found)


def _openings(
    policies: Sequence[Object], labels: Mapping[str, str], direction: str, end: str
) -> Iterator[tuple[Object, str]]:
    """Peers and ports that the policies of a pod with these labels open."""
    for policy in policies:
        spec = policy["spec"]
        if not _selects(spec["podSelector"], labels):
            continue
        for rule in spec[direction]:
            for peer in rule[end]:
                yield from ((peer, f"{p['port']}/{p['protocol']}") for p in rule["ports"])


def _admits(policies: Sequence[Object], target: Mapping[str, str], source: Mapping[str, str], port: str) -> bool:
    openings = _openings(policies, target, "ingress", "from")
    return any(_is_local(peer) and _selects(peer["podSelector"], source) and port == p for peer, p in openings)


def _is_local(peer: Object) -> bool:
    return "podSelector" in peer and "namespaceSelector" not in peer


def _within(peer: Object, pods: Mapping[str, Mapping[str, str]]) -> list[str] | None:
    """Names of the tenant's pods that a peer means; None for a peer elsewhere."""
    if not _is_local(peer):
        return None
    return [name for name, labels in pods.items() if _selects(peer["podSelector"], labels)]


def _selects(selector: Object, labels: Mapping[str, str]) -> bool:
    if selector.keys() - {"matchLabels"}:
        raise ValueError("a policy of ours selects by labels only")
    wanted: Mapping[str, str] = selector.get("matchLabels", {})
    return wanted.items() <= labels.items()


def _told(peer: Object) -> str:
    if "ipBlock" in peer:
        return str(peer["ipBlock"]["cidr"])
    namespace = peer["namespaceSelector"]["matchLabels"][_NAMESPACE]
    chosen = peer.get("podSelector", {}).get("matchLabels", {})
    return f"{namespace}/{','.join(f'{k}={v}' for k, v in sorted(chosen.items())) or '*'}"
