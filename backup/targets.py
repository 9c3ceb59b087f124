"""Buckets around or in place of the one that a restore writes to."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from domicile.backup.stores.base import Bucket, BucketFacts, NotFoundError, ObjectInfo, Page


class Nowhere:
    """Holds nothing and keeps nothing: what is written to it was read and authenticated, no more."""

    site = "no site"
    name = "nowhere"

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:  # noqa: ARG002
        """Nothing."""
        return iter(())

    def pages(self, prefix: str = "", **_: Any) -> Iterator[Page]:  # noqa: ARG002
        """Nothing."""
        return iter(())

    def read(self, name: str, **_: Any) -> bytes:  # noqa: ARG002
        """Raise NotFoundError."""
        raise NotFoundError("nothing is kept here")

    def create(self, name: str, data: bytes) -> None:
        """Drop the data."""

    def write(self, name: str, data: Iterator[bytes], size: int, *, new: bool = False) -> str:  # noqa: ARG002
        """Drop the data, once all of it has come."""
        deque(data, maxlen=0)
        return ""

    def delete(self, name: str) -> None:
        """Do nothing."""

    def facts(self) -> BucketFacts:
        """Raise NotFoundError."""
        raise NotFoundError("there is no such bucket")

    def create_bucket(self) -> None:
        """Do nothing."""


class Watched:
    """A bucket that counts what is written to it, and asks ``may_go_on`` (which may raise) before each change."""

    def __init__(self, bucket: Bucket, may_go_on: Callable[[], None] = lambda: None) -> None:
        self._bucket = bucket
        self._may_go_on = may_go_on
        self._lock = threading.Lock()
        self.site = bucket.site
        self.name = bucket.name
        self.objects = 0
        self.bytes = 0

    def counts(self) -> dict[str, int]:
        """What came so far, for progress."""
        return {"objects": self.objects, "bytes": self.bytes}

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """The bucket's."""
        return self._bucket.list(prefix)

    def pages(self, prefix: str = "", *, after: str = "") -> Iterator[Page]:
        """The bucket's."""
        return self._bucket.pages(prefix, after=after)

    def read(self, name: str, *, version: str | None = None, start: int = 0, length: int | None = None) -> bytes:
        """The bucket's."""
        return self._bucket.read(name, version=version, start=start, length=length)

    def create(self, name: str, data: bytes) -> None:
        """The bucket's, counted."""
        self._may_go_on()
        self._bucket.create(name, data)
        self._count(len(data))

    def write(self, name: str, data: Iterator[bytes], size: int, *, new: bool = False) -> str:
        """The bucket's, counted."""
        version = self._bucket.write(name, self._asked(data), size, new=new)
        self._count(size)
        return version

    def delete(self, name: str) -> None:
        """The bucket's."""
        self._may_go_on()
        self._bucket.delete(name)

    def facts(self) -> BucketFacts:
        """The bucket's."""
        return self._bucket.facts()

    def create_bucket(self) -> None:
        """The bucket's."""
        self._bucket.create_bucket()

    def _asked(self, data: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in data:
            self._may_go_on()
            yield chunk

    def _count(self, size: int) -> None:
        with self._lock:
            self.objects += 1
            self.bytes += size
