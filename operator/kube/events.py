"""Events (events.k8s.io/v1) on our resources: told once, on change.

Source: https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, Literal

from domicile.api.common import FIELD_MANAGER
from domicile.kube.client import ConflictError, Kube, Object

_NOTE: Final = 1024
_REMEMBERED: Final = 10_000


class Events:
    """Posts events. The same (object, reason, message) is posted once while the API server remembers it (an hour)."""

    def __init__(self, kube: Kube, instance: str, posted: Callable[[str, str], None] = lambda *_: None) -> None:
        """``instance`` names the reporting process, such as its pod; ``posted(reason, type)`` is told of each."""
        self._kube = kube
        self._instance = instance
        self._posted = posted
        self._told: OrderedDict[str, None] = OrderedDict()

    async def post(
        self, obj: Object, reason: str, message: str, *, type_: Literal["Normal", "Warning"] = "Normal"
    ) -> bool:
        """Post an event on an object; False where it was told already. ``reason`` is CamelCase, no personal data."""
        meta = obj["metadata"]
        digest = hashlib.sha256("\0".join((meta["uid"], reason, message)).encode()).hexdigest()[:20]
        if digest in self._told:
            return False
        self._told[digest] = None
        if len(self._told) > _REMEMBERED:
            self._told.popitem(last=False)
        # An event on a cluster-scoped object lives in the namespace "default".
        namespace = meta.get("namespace", "default")
        event = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": f"{meta['name'][:40]}.{digest}", "namespace": namespace},
            "eventTime": datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "reportingController": FIELD_MANAGER,
            "reportingInstance": self._instance[:128],
            "action": "Reconcile",
            "reason": reason,
            "note": message[:_NOTE],
            "type": type_,
            "regarding": {
                "apiVersion": obj["apiVersion"],
                "kind": obj["kind"],
                "name": meta["name"],
                "uid": meta["uid"],
                **({"namespace": namespace} if "namespace" in meta else {}),
            },
        }
        try:
            await self._kube.create(event)
        except ConflictError:
            return False
        except BaseException:
            self._told.pop(digest, None)
            raise
        self._posted(reason, type_)
        return True
