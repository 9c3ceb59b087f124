"""How long a call of a store may take, and how often it is tried again."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from domicile.backup.stores.base import UnavailableError

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds to connect, seconds between two reads of an answer, and retries after a call without an outcome.

    The worst case of one request is about ``(connect + 4 * read) * (1 + retries)``: a server may trickle its answer for
    up to ``3 * read`` seconds and a second for each 16 KiB that came, and ask to be left alone (Retry-After), which is
    done for up to ``read`` seconds. The clouds' own clients, which are asked where a server answers unexpectedly, know
    no such limit, so callers with a hard one count their own time.
    """

    connect: float = 3.0
    read: float = 10.0
    retries: int = 2

    def run(self, call: Callable[[], _T]) -> _T:
        """``call()``, repeated with full jitter after UnavailableError while retries are left."""
        for attempt in range(self.retries):
            try:
                return call()
            except UnavailableError as error:
                # Full jitter keeps many clients of a recovering store from returning in step. No secret depends on it.
                jitter = random.uniform(0, 0.2 * 2**attempt)  # noqa: S311
                time.sleep(min(error.after, self.read) + jitter)
        return call()


def wait_of(headers: Mapping[str, str]) -> float:
    """Seconds for which an answer asks to be left alone (RFC 9110, Retry-After); 0 where it names none, or a date."""
    asked = next((value for name, value in headers.items() if name.lower() == "retry-after"), "")
    return float(asked) if asked.isascii() and asked.isdigit() else 0.0
