"""How far runs are, told once a second: one line that renews itself on a terminal, JSON lines elsewhere."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Self, TextIO

Fields = Callable[[], Mapping[str, int]]

_CLEAR = "\r\x1b[K"
_ID_CHARS = 8


class Progress:
    """Tells of what runs in its ``with`` block; thread-safe. Numbers only, and tenants by their opaque ids."""

    def __init__(
        self,
        stream: TextIO,
        logger: str,
        *,
        terminal: bool,
        every: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream
        self._logger = logger
        self._terminal = terminal
        self._every = every
        self._clock = clock
        self._running: dict[str, tuple[float, Fields]] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    @contextmanager
    def of(self, tenant: str, fields: Fields) -> Iterator[None]:
        """Tell of a tenant's run while the block runs; ``fields`` is asked each time, keys of bytes start so."""
        with self._lock:
            self._running[tenant] = (self._clock(), fields)
        try:
            yield
        finally:
            with self._lock:
                del self._running[tenant]
                if self._terminal:
                    self._write(_CLEAR)

    def tell(self) -> None:
        """Tell once."""
        with self._lock:
            told = {
                tenant: (round(self._clock() - begun), {k: v for k, v in fields().items() if v})
                for tenant, (begun, fields) in self._running.items()
            }
            if self._terminal and told:
                self._write(_CLEAR + "; ".join(_line(t, seconds, fields) for t, (seconds, fields) in told.items()))
            elif not self._terminal:
                for tenant, (seconds, fields) in told.items():
                    self._write(self._json(tenant, seconds, fields) + "\n")

    def _run(self) -> None:
        while not self._ended.wait(self._every):
            self.tell()

    def _json(self, tenant: str, seconds: int, fields: Mapping[str, int]) -> str:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        head = {"time": now, "logger": self._logger, "tenant": tenant, "event": "progress"}
        return json.dumps({**head, **fields, "seconds": seconds})

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def _line(tenant: str, seconds: int, fields: Mapping[str, int]) -> str:
    return ", ".join([f"{tenant[:_ID_CHARS]}: {seconds} s", *(_told(key, value) for key, value in fields.items())])


def _told(key: str, value: int) -> str:
    if key.startswith("bytes"):
        return f"{value / (1 << 20):,.1f} MiB {key.removeprefix('bytes').lower()}".rstrip()
    return f"{value:,} {key}"
