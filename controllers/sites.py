"""The buckets of the sites that this cluster may touch, with short-lived memory of what their stores said of them."""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Callable, Hashable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Generic, TypeVar

from domicile.api.live_credentials import GoogleToken, S3Keys
from domicile.api.sites import ServedZone
from domicile.api.zone import Site
from domicile.backup import proofs, residency
from domicile.backup.kek import KeyRing
from domicile.backup.keys import TenantKey, open_tenant_key
from domicile.backup.residency import Finding, Purpose
from domicile.backup.stores import Deadlines, live, open_bucket
from domicile.backup.stores.base import Bucket, BucketFacts, StoreError

FACTS_TTL_SECONDS = 60.0
# Describing a bucket of S3 takes 18 requests. Each run of the replicator asks anew, so a live bucket in order may wait.
LIVE_FACTS_TTL_SECONDS = 600.0
SILENCE_TTL_SECONDS = 5.0
# Each opening is a request to a KMS, which is paid for by the piece.
KEY_TTL_SECONDS = 300.0
# Proofs come once an hour.
PROOF_TTL_SECONDS = 300.0
_QUICK = Deadlines(connect=2.0, read=3.0, retries=0)
_MINTING = Deadlines(connect=3.0, read=5.0, retries=0)


_K = TypeVar("_K", bound=Hashable)
_V = TypeVar("_V")


class Remembered(Generic[_K, _V]):
    """Answers that are at most ``seconds`` old; older ones don't stay in memory. Thread-safe."""

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._seconds = seconds
        self._clock = clock
        self._known: dict[_K, tuple[float, _V]] = {}
        self._lock = threading.Lock()

    def get(self, key: _K, ask: Callable[[], _V]) -> _V:
        """The remembered answer, or that of ``ask``; what it raises is passed on and not remembered."""
        with self._lock:
            self._forget()
            if key in self._known:
                return self._known[key][1]
        answer = ask()
        with self._lock:
            # Taken out first, so that the dict stays in the order of time.
            self._known.pop(key, None)
            self._known[key] = (self._clock(), answer)
        return answer

    def _forget(self) -> None:
        limit = self._clock() - self._seconds
        while self._known and next(iter(self._known.values()))[0] <= limit:
            del self._known[next(iter(self._known))]


class SiteStores:
    """Opens buckets and judges them; thread-safe.

    Facts are asked for at most once a minute and bucket; of a live bucket in order at most once in five to ten minutes.
    """

    def __init__(self, credentials: Path, keys: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._credentials = credentials
        self._clock = clock
        self._silence: dict[tuple[str, str], tuple[float, str | None]] = {}
        self._facts: dict[tuple[str, str], tuple[float, BucketFacts | StoreError]] = {}
        self._lock = threading.Lock()
        self._tenant_keys: Remembered[tuple[str, str, str], TenantKey] = Remembered(KEY_TTL_SECONDS, clock)
        self._proofs: Remembered[tuple[str, str, str], datetime | None] = Remembered(PROOF_TTL_SECONDS, clock)
        self.keys = KeyRing(keys, credentials)

    def bucket(self, site: Site, name: str) -> Bucket:
        """A bucket of a site."""
        return open_bucket(site, name, self._credentials)

    def control(self, site: Site) -> Bucket:
        """The site's control bucket."""
        return self.bucket(site, site.stores.control)

    def wraps(self, site: Site) -> Bucket:
        """The site's bucket of wrapped keys."""
        return self.bucket(site, site.stores.keys)

    def tenant_key(self, zone: ServedZone, tenant: str) -> TenantKey:
        """The tenant's newest key, opened with this site's own in the last five minutes.

        Raises NotFoundError, KeyUnavailableError, WrongKeyError, ResidencyError, StoreError.
        """

        def opened() -> TenantKey:
            return open_tenant_key(self.keys.own(zone), self.wraps(zone.own), tenant, zone.name)

        return self._tenant_keys.get((zone.name, zone.site, tenant), opened)

    def proven(self, site: Site, tenant: str, key: TenantKey) -> datetime | None:
        """The hour for which a site last proved that it opens the key, as seen in the last five minutes.

        Raises IntegrityError, StoreError.
        """

        def newest() -> datetime | None:
            return proofs.newest(self.control(site), key, tenant, site.name, datetime.now(UTC))

        return self._proofs.get((site.name, tenant, key.key_id), newest)

    def silence(self, site: Site, *, anew: bool = False) -> str | None:
        """Why a site's control bucket does not answer, None where it does; remembered for five seconds."""
        key = (site.name, site.stores.control)
        with self._lock:
            known = self._silence.get(key)
        if anew or known is None or self._clock() - known[0] > SILENCE_TTL_SECONDS:
            try:
                bucket = open_bucket(site, site.stores.control, self._credentials, _QUICK)
                next(iter(bucket.list("claims/")), None)
                answer = None
            except StoreError as error:
                answer = type(error).__name__.removesuffix("Error")
            known = (self._clock(), answer)
            with self._lock:
                self._silence[key] = known
        return known[1]

    def live_credentials(self, bucket: str) -> bytes | None:
        """Static credentials that open one live bucket only, where the development profile has them."""
        path = self._credentials / f"live-{bucket}.json"
        return path.read_bytes() if path.exists() else None

    def mint_live(self, site: Site, bucket: str) -> S3Keys | GoogleToken:
        """Short-lived credentials that open one live bucket only, from the site's live identity.

        Raises DeniedError, UnavailableError.
        """
        return live.mint(site, bucket, self._credentials, _MINTING)

    def findings(self, zone: ServedZone, site: Site, bucket: str, purpose: Purpose) -> tuple[Finding, ...]:
        """Residency findings of one bucket, from facts that are at most a minute old where one objects."""
        if purpose is Purpose.LIVE:
            # Staggered by name, so that the buckets of many tenants are not asked all at once.
            patience = LIVE_FACTS_TTL_SECONDS * (0.5 + zlib.crc32(bucket.encode()) / 2**33)
            facts = self._ask(site, bucket, patience)
            found = residency.judge(zone.spec, site, bucket, facts, purpose, _today())
            if residency.compliant(found) or isinstance(facts, StoreError):
                return found
        facts = self._ask(site, bucket, FACTS_TTL_SECONDS)
        return residency.judge(zone.spec, site, bucket, facts, purpose, _today())

    @staticmethod
    def site_findings(zone: ServedZone, site: Site) -> tuple[Finding, ...]:
        """What people vouch for of a site, where no API shows it."""
        return residency.judge_site(zone.spec, site, _today())

    def _ask(self, site: Site, bucket: str, seconds: float) -> BucketFacts | StoreError:
        key = (site.name, bucket)
        with self._lock:
            known = self._facts.get(key)
        if known is not None and self._clock() - known[0] < seconds and not isinstance(known[1], StoreError):
            return known[1]
        try:
            answer: BucketFacts | StoreError = self.bucket(site, bucket).facts()
        except StoreError as error:
            answer = error
        with self._lock:
            self._facts[key] = (self._clock(), answer)
        return answer


def _today() -> date:
    return datetime.now(UTC).date()
