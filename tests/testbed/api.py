"""The few reads of a cluster's API that the testbed polls with: cheaper than a kubectl for each."""

from __future__ import annotations

import datetime
import json
import ssl
import urllib.request
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tests.testbed.pki import Authority


@dataclass(frozen=True)
class Api:
    """An administrator's view of one API server."""

    server: str
    authority: Authority

    @cached_property
    def _context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.authority.certificate))
        context.load_cert_chain(*self.authority.issue("client-admin", "testbed-admin", "system:masters"))
        return context

    def get(self, path: str) -> dict[str, Any]:
        """The JSON object at an API path. Raises OSError (urllib.error.HTTPError) on any other answer."""
        with urllib.request.urlopen(f"{self.server}{path}", timeout=5, context=self._context) as answer:
            body: dict[str, Any] = json.load(answer)
        return body

    def healthy(self) -> bool:
        """Whether the server says that it is ready."""
        try:
            with urllib.request.urlopen(f"{self.server}/readyz", timeout=2, context=self._context) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def nodes_ready(self, count: int, since: datetime.datetime) -> bool:
        """Whether so many nodes are ready and said so after ``since``; what a dead node said before doesn't count."""
        try:
            nodes = self.get("/api/v1/nodes")["items"]
        except OSError:
            return False
        conditions = [c for n in nodes for c in n["status"].get("conditions", []) if c["type"] == "Ready"]
        ready = [c for c in conditions if c["status"] == "True" and _time(c["lastHeartbeatTime"]) >= since]
        return len(ready) == count

    def pods_ready(self, namespace: str, selector: str, since: datetime.datetime) -> bool:
        """Whether there are pods with that label and all are ready, with containers that started after ``since``."""
        try:
            pods = self.get(f"/api/v1/namespaces/{namespace}/pods?labelSelector={selector}")["items"]
        except OSError:
            return False
        return bool(pods) and all(_ready(p, since) for p in pods)


def _ready(pod: dict[str, Any], since: datetime.datetime) -> bool:
    states = pod["status"].get("containerStatuses", [])
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))
    fresh = (s.get("state", {}).get("running", {}).get("startedAt") for s in states)
    return ready and bool(states) and all(t and _time(t) >= since for t in fresh)


def _time(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text)


def now() -> datetime.datetime:
    """The present moment, cut to the second as in the API's times."""
    return datetime.datetime.now(datetime.UTC).replace(microsecond=0)
