"""What happened and when, printed as it happens."""

from __future__ import annotations

import time


class Timeline:
    """Lines with seconds since the start."""

    def __init__(self) -> None:
        self._begun = time.monotonic()

    def say(self, what: str) -> float:
        """Print a line; returns the present moment on the monotonic clock."""
        now = time.monotonic()
        print(f"{now - self._begun:7.1f} s  {what}", flush=True)
        return now
