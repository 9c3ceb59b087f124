"""A capability: its name, what the cloud answers by its public reference, and a probe that says what happened."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Probe = Callable[[Any], str]
Capabilities = dict[str, tuple[str, Probe]]


def capability(of: Capabilities, name: str, expected: str) -> Callable[[Probe], Probe]:
    """Register a probe."""

    def register(probe: Probe) -> Probe:
        assert name not in of
        of[name] = (expected, probe)
        return probe

    return register
