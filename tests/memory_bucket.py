"""An in-memory Bucket for property tests: the semantics of backup/stores/base.py, and faults on demand."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import google_crc32c

from domicile.backup.stores.base import (
    AlreadyExistsError,
    BucketFacts,
    ChangedError,
    NotFoundError,
    ObjectInfo,
    Page,
    UnavailableError,
    pages_of,
)

Hook = Callable[[str, str], None]
_MAX_NAME_BYTES = 1024


def _nothing(operation: str, name: str) -> None:
    pass


class MemoryBucket:
    """Objects in a dict with ever-growing generations; thread-safe.

    ``before(operation, name)`` runs ahead of an operation's effect and ``after(operation, name)`` behind it; either
    may raise, typically UnavailableError: in ``before`` the request is lost, in ``after`` the answer. Operations are
    ``list``, ``read``, ``create``, ``write``, ``delete``, ``facts`` and ``create_bucket``; ``name`` is the object's
    (of ``list`` the prefix). Both run outside the lock, so a hook may itself use the bucket (another writer that slips
    in between). ``calls`` records every (operation, name) that was started.
    """

    def __init__(
        self,
        site: str = "site",
        name: str = "bucket",
        *,
        location: str = "europe-west3",
        before: Hook = _nothing,
        after: Hook = _nothing,
        exists: bool = True,
        **facts: Any,
    ) -> None:
        self.site = site
        self.name = name
        self.before = before
        self.after = after
        self.calls: list[tuple[str, str]] = []
        self.objects: dict[str, tuple[int, bytes]] = {}
        self._exists = exists
        self._generation = 0
        self._lock = threading.RLock()
        answers = {
            "location": location,
            "multi_region": False,
            "encrypted": True,
            "kms_key": None,
            "versioned": True,
            "public": False,
            "keeps_deleted": facts.get("versioned", True),
            "outflows": (),
            "tls_only": True,
            "accelerated": False,
            "held_days": 0,
            "locked": False,
            "expires": False,
        } | facts
        self._facts = BucketFacts(**{"raw": dict(answers)} | answers)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        self._begin("list", prefix)
        with self._lock:
            self._must_exist()
            found = [
                ObjectInfo(name, str(generation), len(data), google_crc32c.value(data))
                for name, (generation, data) in sorted(self.objects.items())
                if name.startswith(prefix)
            ]
        self.after("list", prefix)
        yield from found

    def pages(self, prefix: str = "", *, after: str = "") -> Iterator[Page]:
        yield from pages_of(info for info in self.list(prefix) if info.name > after)

    def read(self, name: str, *, version: str | None = None, start: int = 0, length: int | None = None) -> bytes:
        self._begin("read", name)
        with self._lock:
            self._must_exist()
            if name not in self.objects:
                raise NotFoundError(f"no such object in bucket {self.name} of site {self.site}")
            generation, data = self.objects[name]
            if version is not None and version != str(generation):
                raise ChangedError(f"an object in bucket {self.name} of site {self.site} has changed")
        self.after("read", name)
        return data[start:] if length is None else data[start : start + length]

    def create(self, name: str, data: bytes) -> None:
        self._begin("create", name)
        with self._lock:
            self._must_exist()
            if name in self.objects:
                raise AlreadyExistsError(f"an object of that name exists in bucket {self.name} of site {self.site}")
            self._put(name, data)
        self.after("create", name)

    def write(self, name: str, data: Iterator[bytes], size: int, *, new: bool = False) -> str:
        self._begin("write", name)
        whole = b"".join(data)
        if len(whole) != size:
            raise ValueError(f"the data has {len(whole)} bytes, not {size}")
        with self._lock:
            self._must_exist()
            if new and name in self.objects:
                raise AlreadyExistsError(f"an object of that name exists in bucket {self.name} of site {self.site}")
            version = self._put(name, whole)
        self.after("write", name)
        return version

    def delete(self, name: str) -> None:
        self._begin("delete", name)
        with self._lock:
            self._must_exist()
            self.objects.pop(name, None)
        self.after("delete", name)

    def facts(self) -> BucketFacts:
        self._begin("facts", "")
        with self._lock:
            self._must_exist()
        self.after("facts", "")
        return self._facts

    def create_bucket(self) -> None:
        self._begin("create_bucket", "")
        with self._lock:
            if self._exists:
                raise AlreadyExistsError(f"bucket {self.name} of site {self.site} exists")
            self._exists = True
        self.after("create_bucket", "")

    def fail(self, operation: str, *, times: int = 1, lost: str = "request", matching: str = "") -> None:
        """Lose the request or answer of the next ``times`` calls of ``operation`` on names that contain ``matching``.

        Replaces the hook of that side (``lost`` is "request" or "answer").
        """
        left = times

        def hook(called: str, name: str) -> None:
            nonlocal left
            with self._lock:
                if called != operation or matching not in name or left <= 0:
                    return
                left -= 1
            raise UnavailableError(f"lost {lost} at bucket {self.name} of site {self.site}")

        if lost == "request":
            self.before = hook
        else:
            self.after = hook

    def _begin(self, operation: str, name: str) -> None:
        if operation in {"read", "create", "write", "delete"} and not 1 <= len(name.encode()) <= _MAX_NAME_BYTES:
            raise ValueError("an object's name has 1 to 1,024 bytes of UTF-8")
        with self._lock:
            self.calls.append((operation, name))
        self.before(operation, name)

    def _must_exist(self) -> None:
        if not self._exists:
            raise NotFoundError(f"there is no bucket {self.name} at site {self.site}")

    def _put(self, name: str, data: bytes) -> str:
        self._generation += 1
        self.objects[name] = (self._generation, bytes(data))
        return str(self._generation)


class CarelessBucket(MemoryBucket):
    """Ignores the condition of a write, as some compatible stores do."""

    def create(self, name: str, data: bytes) -> None:
        self.write(name, iter((data,)), len(data))
