"""An operator process for tests: the real application around controllers that only record what they are asked.

    python -m tests.integration.operator_process LOG

Each line of LOG is JSON: {"kind", "name"}. A tenant with the annotation test/fail makes its reconcile fail.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

from domicile import app
from domicile.kube.client import Kube
from domicile.metrics import Metrics
from domicile.settings import Settings


class Recording:
    """Writes down each reconcile and changes nothing."""

    def __init__(self, kube: Kube, log: Path) -> None:
        self._kube = kube
        self._log = log

    async def reconcile(self, kind: str, name: str) -> float | None:
        with self._log.open("a") as log:
            log.write(json.dumps({"kind": kind, "name": name}) + "\n")
        obj = await self._kube.read("domicile.dev/v1alpha1", kind, name)
        if obj is not None and "test/fail" in obj["metadata"].get("annotations", {}):
            raise RuntimeError("as the test wishes")
        return None


def build(kube: Kube, settings: Settings, wake: Callable[[str, str], None], metrics: Metrics) -> app.Reconciler:
    """The stand-in for the controllers."""
    return Recording(kube, Path(sys.argv[1]))


if __name__ == "__main__":
    sys.exit(app.main(build))
