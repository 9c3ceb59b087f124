"""What the product needs of an object store: one bucket, create-once writes, pinned reads and facts about itself.

Synchronous and thread-safe; callers that must not block use threads. Names are any UTF-8 of 1 to 1,024 bytes and are
kept as they are. Every call has a deadline and raises one of the errors below, never a library's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple, Protocol


class StoreError(Exception):
    """Base of all errors of a store; the message names bucket and site, never an object's name."""


class NotFoundError(StoreError):
    """There is no such object (or bucket)."""


class AlreadyExistsError(StoreError):
    """A create-once write found an object of that name."""


class ChangedError(StoreError):
    """The object is no longer the version that the read was pinned to."""


class DeniedError(StoreError):
    """The store refused the credentials or the permission."""


class EncryptionError(StoreError):
    """The store kept an object under another encryption than its bucket's."""


class UnavailableError(StoreError):
    """No answer within the deadline, or a 5xx: the outcome of a write is unknown.

    ``after`` is for how many seconds the store asks to be left alone.
    """

    def __init__(self, message: str, after: float = 0.0) -> None:
        super().__init__(message)
        self.after = after


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One object of a listing. ``version`` is the GCS generation or the S3 ETag; ``size`` is in bytes."""

    name: str
    version: str
    size: int
    crc32c: int | None = None


class Page(NamedTuple):
    """Objects of a listing as columns of equal length; see ``ObjectInfo``."""

    names: list[str]
    versions: list[str]
    sizes: list[int]
    crcs: list[int | None]

    def cut(self, start: int, stop: int | None = None) -> Page:
        """Some of the rows."""
        names, versions, sizes, crcs = self
        return Page(names[start:stop], versions[start:stop], sizes[start:stop], crcs[start:stop])

    def and_then(self, other: Page) -> Page:
        """The rows of both."""
        return Page(
            self.names + other.names,
            self.versions + other.versions,
            self.sizes + other.sizes,
            self.crcs + other.crcs,
        )


@dataclass(frozen=True, slots=True)
class Outflow:
    """A way on which a store itself sends objects of a bucket, their names, or news of them.

    ``region`` is where to, None where nobody says. ``told`` is False where the store did not say whether it does so.
    """

    kind: str
    region: str | None = None
    told: bool = True


@dataclass(frozen=True, slots=True)
class Sse:
    """Server-side encryption of new objects: the algorithm, and the key's full name where one is named."""

    algorithm: str
    key: str | None = None


@dataclass(frozen=True, slots=True)
class BucketFacts:
    """What the store itself says of a bucket. None where its API has no answer.

    ``raw`` holds the answers, without what they may hold of persons and objects: names of accounts, prefixes, policies.
    ``public`` is False only where public access is blocked, not merely unused. ``keeps_deleted``: a deleted object's
    bytes survive for a while (versioning, even suspended; soft delete; retention). ``held_days``: for how long nobody
    can destroy a new object for good; ``locked``: and nobody can shorten that. ``expires``: the store itself deletes or
    archives objects. ``kms_fault``: what the key's own description has against it.
    """

    location: str | None
    multi_region: bool | None
    encrypted: bool | None
    kms_key: str | None
    versioned: bool | None
    public: bool | None
    raw: Mapping[str, Any]
    keeps_deleted: bool | None = None
    outflows: tuple[Outflow, ...] | None = None
    tls_only: bool | None = None
    accelerated: bool | None = None
    held_days: float | None = None
    locked: bool | None = None
    expires: bool | None = None
    sse: Sse | None = None
    kms_fault: str | None = None


class Bucket(Protocol):
    """One bucket of a site's store."""

    @property
    def site(self) -> str:
        """Name of the site."""

    @property
    def name(self) -> str:
        """Name of the bucket."""

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """All objects under a prefix, by name. Raises NotFoundError where the bucket is missing."""

    def pages(self, prefix: str = "", *, after: str = "") -> Iterator[Page]:
        """The same behind the name ``after``, a page at a time."""

    def read(self, name: str, *, version: str | None = None, start: int = 0, length: int | None = None) -> bytes:
        """Bytes of an object, or of a range of it, pinned to a version. Raises NotFoundError, ChangedError."""

    def create(self, name: str, data: bytes) -> None:
        """Write an object that must not exist. Raises AlreadyExistsError; UnavailableError leaves the outcome open."""

    def write(self, name: str, data: Iterator[bytes], size: int, *, new: bool = False) -> str:
        """Write or overwrite an object of ``size`` bytes (live buckets only); returns its version.

        With ``new`` it must not exist: raises AlreadyExistsError, also where a lost answer was to our own write.
        """

    def delete(self, name: str) -> None:
        """Delete an object; a missing one is no error."""

    def facts(self) -> BucketFacts:
        """What the store says of the bucket. Raises NotFoundError where it is missing."""

    def create_bucket(self) -> None:
        """Create the bucket in the site's region, private and versioned. Raises AlreadyExistsError."""


def create_once(bucket: Bucket, name: str, data: bytes) -> bool:
    """Create an object whose bytes hold a random write id; True if it now holds exactly ``data``.

    After a lost answer or a conflict the object is read back: our own bytes mean that our write won
    (the S3 and GCS conditional writes both answer 412 to a retry of a write that did succeed; 403, perhaps, to one who
    may not overwrite anything). Raises UnavailableError where even the read back gives no answer.
    """
    try:
        bucket.create(name, data)
    except (AlreadyExistsError, DeniedError, UnavailableError) as error:
        try:
            return bucket.read(name) == data
        except (NotFoundError, DeniedError):
            raise error from None
    return True


def require_create_once(bucket: Bucket, name: str, data: bytes) -> None:
    """Raise StoreError unless the store refuses to create an object that exists; ``data`` is what it holds.

    A compatible store may ignore the condition of a write. Raises UnavailableError without an answer.
    """
    try:
        bucket.create(name, data)
    except (AlreadyExistsError, DeniedError):
        return
    raise StoreError(
        f"the store of bucket {bucket.name} of site {bucket.site} overwrites what may be created only once: it ignores"
        " If-None-Match or ifGenerationMatch, so no two writers can be kept apart; use another store or version"
    )


def pages_of(infos: Iterable[ObjectInfo], size: int = 1000) -> Iterator[Page]:
    """Pages of so many objects."""
    rest = iter(infos)
    while chunk := list(islice(rest, size)):
        yield Page(
            [i.name for i in chunk], [i.version for i in chunk], [i.size for i in chunk], [i.crc32c for i in chunk]
        )


def infos_of(pages: Iterable[Page]) -> Iterator[ObjectInfo]:
    """The objects of pages."""
    for page in pages:
        yield from map(ObjectInfo, *page)
