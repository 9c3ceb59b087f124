"""What the stand-in holds, and what tests may change in it while it runs."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.gcs_standin.accounts import Accounts
from tests.gcs_standin.bucket import Bucket, merged, new_bucket
from tests.gcs_standin.refusal import RefusedError


@dataclass
class Fault:
    """Every n-th request (of one operation, if named) goes wrong: an HTTP status, or ``reset``, ``lose``, ``stall``.

    ``reset`` drops the connection before the request is applied, ``lose`` after it; ``stall`` never answers.
    """

    kind: str
    every: int = 1
    operation: str | None = None
    seen: int = 0

    @classmethod
    def parse(cls, text: str) -> Fault:
        """``KIND[/EVERY[/OPERATION]]``, such as ``503/10/objects.insert``. Raises ValueError."""
        kind, _, rest = text.partition("/")
        every, _, name = rest.partition("/")
        if kind not in {"reset", "lose", "stall"} and not (kind.isdigit() and 400 <= int(kind) < 600):
            raise ValueError(f"{kind} is no fault: an HTTP status, reset, lose or stall")
        return cls(kind, int(every or 1), name or None)

    def strikes(self, operation: str) -> bool:
        """Whether this request is one that goes wrong."""
        if self.operation not in {None, operation}:
            return False
        self.seen += 1
        return self.seen % self.every == 0


@dataclass
class State:
    """Buckets, accounts, clock and faults of one server. Tests may change everything between two requests."""

    url: str = ""
    buckets: dict[str, Bucket] = field(default_factory=dict)
    # How far the server's clock is ahead: soft-deleted objects, retention and tokens end by it.
    ahead: timedelta = timedelta()
    # The API may give fewer results than were asked for.
    page_limit: int = 1000
    # Whether an overwrite without storage.objects.delete is refused before its preconditions are looked at. The
    # public reference does not say which comes first; both must be survived.
    permission_before_precondition: bool = False
    faults: list[Fault] = field(default_factory=list)
    requests: deque[tuple[str, str]] = field(default_factory=lambda: deque(maxlen=100_000))
    accounts: Accounts = field(init=False)
    uploads: dict[str, Any] = field(default_factory=dict)
    _generation: int = 0

    def __post_init__(self) -> None:
        self.accounts = Accounts(self)

    def now(self) -> datetime:
        """The server's time."""
        return datetime.now(UTC) + self.ahead

    def next_generation(self) -> int:
        """A number higher than any before, in microseconds as the cloud's are."""
        self._generation = max(self._generation + 1, int(self.now().timestamp() * 1e6))
        return self._generation

    def bucket(self, name: str) -> Bucket:
        """A bucket by name. Raises RefusedError (404)."""
        if name not in self.buckets:
            raise RefusedError(404, "notFound", "The specified bucket does not exist.")
        return self.buckets[name]

    def add_bucket(self, name: str, location: str = "EUROPE-WEST3", **resource: Any) -> Bucket:
        """Create a bucket as the API would. Raises RefusedError where the API refuses it."""
        made = self.buckets[name] = new_bucket(self, {"name": name, "location": location, **resource})
        return made

    def change(self, name: str, **resource: Any) -> None:
        """Change a bucket behind its owner's back, also what no API call can change (its location, a foreign key)."""
        bucket = self.bucket(name)
        bucket.resource = merged(bucket.resource, resource)
        bucket.metageneration += 1
        bucket.updated = self.now()
