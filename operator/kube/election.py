"""Leader election by a coordination.k8s.io/v1 Lease, after client-go's leaderelection.

Not kubernetes.aio's own: it has no deadline for a hanging request, counts on the wall clock and never releases.
Here every request ends within the renew deadline, time is monotonic, another's lease counts from when we last saw it
change, and leaving in good order frees it at once.
Source: https://github.com/kubernetes/client-go/blob/master/tools/leaderelection/leaderelection.go
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final

from domicile.kube.client import ConflictError, Kube, KubeError, Object, object_path

log = logging.getLogger(__name__)

LEASE_SECONDS: Final = 15
RENEW_SECONDS: Final = 10.0
RETRY_SECONDS: Final = 2.0
_REQUEST_SECONDS: Final = 4.0


class LeadershipLostError(Exception):
    """The lease could not be renewed in time; the process must end, for another may lead already."""


class Election:
    """One candidate for a Lease. ``lease_seconds`` is written into it; others wait as long after the last renewal."""

    def __init__(
        self,
        kube: Kube,
        namespace: str,
        name: str,
        identity: str,
        *,
        lease_seconds: int = LEASE_SECONDS,
        renew_seconds: float = RENEW_SECONDS,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        """``identity`` must be unique among the candidates, such as pod name plus random suffix. Times in seconds."""
        if not retry_seconds < renew_seconds < lease_seconds:
            raise ValueError("an election needs retry < renew < lease")
        self._kube = kube
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._lease_seconds = lease_seconds
        self._renew_seconds = renew_seconds
        self._retry_seconds = retry_seconds
        self._seen: Object = {}
        self._seen_at = float("-inf")
        self.leading = False

    async def run(self, lead: Callable[[], Awaitable[None]]) -> None:
        """Wait for the lease, then run ``lead`` while holding it; release it when ``lead`` ends or we are cancelled.

        Raises LeadershipLostError once the lease was not renewed for ``renew_seconds``, after cancelling ``lead``.
        """
        while not await self._try():  # noqa: ASYNC110
            await asyncio.sleep(self._retry_seconds)
        self.leading = True
        log.info("leading by lease %s/%s", self._namespace, self._name)
        work = asyncio.ensure_future(lead())
        renewal = asyncio.ensure_future(self._renew())
        try:
            done, _ = await asyncio.wait({work, renewal}, return_when=asyncio.FIRST_COMPLETED)
            if renewal in done:
                self.leading = False
                await renewal
            await work
        finally:
            renewal.cancel()
            work.cancel()
            await asyncio.gather(work, renewal, return_exceptions=True)
            if self.leading:
                self.leading = False
                await self._release()

    async def _renew(self) -> None:
        renewed = time.monotonic()
        while True:
            await asyncio.sleep(self._retry_seconds)
            begun = time.monotonic()
            if begun - renewed > self._renew_seconds:
                raise LeadershipLostError(
                    f"lease {self._namespace}/{self._name} not renewed for {begun - renewed:.0f} s"
                )
            if await self._try():
                # Counted from before the request: the API server can't have stored it earlier.
                renewed = begun

    async def _try(self) -> bool:
        """Take or renew the lease. False where another holds it, or where the API server gives no answer."""
        try:
            async with asyncio.timeout(_REQUEST_SECONDS):
                return await self._take()
        except (KubeError, TimeoutError) as error:
            if not isinstance(error, ConflictError):
                log.warning("lease %s/%s: %s", self._namespace, self._name, error or "no answer in time")
            return False

    async def _take(self) -> bool:
        lease = await self._kube.read("coordination.k8s.io/v1", "Lease", self._name, self._namespace)
        if lease is None:
            await self._kube.create(self._record(None))
            return True
        spec = lease.get("spec", {})
        holder = spec.get("holderIdentity", "")
        if spec != self._seen:
            self._seen, self._seen_at = spec, time.monotonic()
        expires = self._seen_at + spec.get("leaseDurationSeconds", self._lease_seconds)
        if holder not in ("", self._identity) and time.monotonic() < expires:
            return False
        if self.leading and holder != self._identity:
            return False
        self._seen = (await self._kube.request("PUT", object_path(lease), self._record(lease)))["spec"]
        self._seen_at = time.monotonic()
        return True

    def _record(self, lease: Object | None) -> Object:
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        old = {} if lease is None else lease.get("spec", {})
        kept = old.get("holderIdentity") == self._identity
        spec = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": self._lease_seconds,
            "acquireTime": old.get("acquireTime", now) if kept else now,
            "renewTime": now,
            "leaseTransitions": old.get("leaseTransitions", 0) + (0 if kept or lease is None else 1),
        }
        meta = {"name": self._name, "namespace": self._namespace}
        if lease is not None:
            meta["resourceVersion"] = lease["metadata"]["resourceVersion"]
        return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta, "spec": spec}

    async def _release(self) -> None:
        try:
            async with asyncio.timeout(_REQUEST_SECONDS):
                lease = await self._kube.read("coordination.k8s.io/v1", "Lease", self._name, self._namespace)
                if lease is None or lease["spec"].get("holderIdentity") != self._identity:
                    return
                lease["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1}
                await self._kube.request("PUT", object_path(lease), lease)
        except (KubeError, TimeoutError) as error:
            log.warning("lease %s/%s not released: %s", self._namespace, self._name, error or "no answer in time")
