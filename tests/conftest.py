"""What holds for every test: hypothesis, coverage, and which tests of a parallel run share a process.

Hypothesis gives no verdict on speed (the machine may be busy), otherwise its defaults.
"""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadFileScheduling

settings.register_profile("domicile", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("domicile")

if "PYTEST_XDIST_WORKER" in os.environ:
    # By this, coverage has followed the run into its processes; what their tests start would only run slower under it.
    os.environ.pop("COVERAGE_PROCESS_CONFIG", None)

_ROOT = Path(__file__).parents[1]
_IDENTITY = re.compile(r"\b(KeycloakServer|realm_estate|door_realm)\b")


@cache
def _needs_identity(file: Path) -> bool:
    return bool(_IDENTITY.search(file.read_text()))


class Scheduling(LoadFileScheduling):
    """A file's tests run in one process, as do all files that need the identity server: it takes long to start."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return "identity" if _needs_identity(_ROOT / file) else str(file)


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Scheduling:
    """The scheduler of a parallel run."""
    return Scheduling(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In a parallel run the longest work comes first, and quick tests fill up the end."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: (not _needs_identity(item.path), "unit" in item.path.parts))
