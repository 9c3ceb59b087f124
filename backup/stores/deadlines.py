"""How long a call of a store may take, and how often it is tried again."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from domicile.backup.stores.base import UnavailableError

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds to connect, seconds between two reads of an answer, and retries after a call without an outcome.

    The worst case of one request is about ``(connect + read) * (1 + retries)``; a server that trickles its answer may
    take longer, so callers with a hard limit count their own time.
    """

    connect: float = 3.0
    read: float = 10.0
    retries: int = 2

    def run(self, call: Callable[[], _T]) -> _T:
        """``call()``, repeated with full jitter after UnavailableError while retries are left."""
        for attempt in range(self.retries):
            try:
                return call()
            except UnavailableError:
                # Full jitter keeps many clients of a recovering store from returning in step. No secret depends on it.
                time.sleep(random.uniform(0, 0.2 * 2**attempt))  # noqa: S311
        return call()
