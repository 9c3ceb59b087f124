"""The installation's authority and the pods' certificates, as Secrets of the cluster."""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from domicile.api.common import FIELD_MANAGER, LABEL_COMPONENT, LABEL_MANAGED_BY
from domicile.controllers.pki import authority, leaf
from domicile.controllers.pki.authority import Authorities, BrokenError
from domicile.controllers.pki.leaf import Holder, Leaf
from domicile.kube.apply import apply
from domicile.kube.client import ConflictError, ForbiddenError, InvalidError, Kube, object_path

Object = dict[str, Any]

log = logging.getLogger(__name__)

SECRET = "domicile-authority"  # noqa: S105 - the name of a Secret
_CERTIFICATES, _KEYS = "ca.crt", "ca.key"
_LABELS = {LABEL_MANAGED_BY: FIELD_MANAGER, LABEL_COMPONENT: "pods-tls"}
_REMEMBERED = timedelta(minutes=1)


@dataclass(frozen=True)
class Standing:
    """A holder's certificate: until when it counts (None: there is none), and what kept it from being renewed."""

    until: datetime | None
    fault: str | None = None


def _now() -> datetime:
    return datetime.now(UTC)


class Keeper:
    """Makes authorities and leaves, and renews them. In the steady state every call is one read at most."""

    def __init__(self, kube: Kube, namespace: str, clock: Callable[[], datetime] = _now) -> None:
        """``namespace`` holds the authority; ``clock`` gives the time (UTC)."""
        self._kube = kube
        self._namespace = namespace
        self._clock = clock
        self._reading = asyncio.Lock()
        self._known: Authorities = ()
        self._read_at: datetime | None = None
        self._own: Leaf = {}

    async def see_to(self, holder: Holder, labels: Mapping[str, str] | None = None) -> Standing:
        """Give a holder its Secret, or renew it. ``labels`` go onto the Secret.

        Raises what the API server can't answer now; what it refuses is the standing's fault.
        """
        found = await self._kube.read("v1", "Secret", holder.secret, holder.namespace)
        if found is not None and not _LABELS.items() <= _labels(found).items():
            return Standing(
                None, f"Secret {holder.secret} in namespace {holder.namespace} is somebody else's: remove it"
            )
        had, now = _decoded(found), self._clock()
        try:
            authorities = await self.authorities()
        except BrokenError as error:
            return Standing(_until(had), str(error))
        wanted = leaf.kept(had, holder, authorities, now)
        if wanted is None:
            wanted = leaf.issue(authorities, holder, now)
        try:
            await apply(self._kube, _secret(holder, wanted, labels or {}), live=found)
        except (InvalidError, ForbiddenError) as error:
            # Its text may quote what was sent.
            told = f"the API server refuses Secret {holder.secret} in namespace {holder.namespace}"
            return Standing(_until(had), f"{told} ({type(error).__name__.removesuffix('Error')})")
        return Standing(leaf.until(wanted))

    async def own(self, holder: Holder) -> Leaf:
        """A leaf for this process, which is in no Secret; the same one again until a new one is due."""
        authorities, now = await self.authorities(), self._clock()
        self._own = leaf.kept(self._own, holder, authorities, now) or leaf.issue(authorities, holder, now)
        return self._own

    async def authorities(self) -> Authorities:
        """The authorities as they should be now, at most a minute after somebody else has changed them.

        Raises BrokenError where the Secret is none of ours, and what the API server refuses.
        """
        async with self._reading:
            now = self._clock()
            fresh = self._read_at is not None and timedelta() <= now - self._read_at < _REMEMBERED
            if not fresh or authority.tend(self._known, now) != self._known:
                self._known = await self._tended(now)
                self._read_at = now
            return self._known

    async def _tended(self, now: datetime) -> Authorities:
        while True:
            found = await self._kube.read("v1", "Secret", SECRET, self._namespace)
            known = _parsed(found)
            wanted = authority.tend(known, now)
            if wanted == known:
                return known
            try:
                # Never by force: of two that make one at the same time, one learns of the other's.
                if found is None:
                    await self._kube.create(self._authority(wanted, {}))
                else:
                    version = {"resourceVersion": found["metadata"]["resourceVersion"]}
                    changed = self._authority(wanted, version)
                    await self._kube.request(
                        "PUT", object_path(changed), changed, query={"fieldManager": FIELD_MANAGER}
                    )
            except ConflictError:
                continue
            log.info(
                "authorities of the pods: %d, of which %d have a key",
                len(wanted),
                sum(a.key is not None for a in wanted),
            )
            return wanted

    def _authority(self, authorities: Authorities, version: Mapping[str, str]) -> Object:
        data = {_CERTIFICATES: authority.bundle(authorities), _KEYS: authority.keys(authorities)}
        meta = {"name": SECRET, "namespace": self._namespace, "labels": dict(_LABELS), **version}
        return {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "type": "Opaque", "data": _encoded(data)}


def _parsed(secret: Object | None) -> Authorities:
    if secret is None:
        return ()
    data = _decoded(secret)
    try:
        return authority.parse(data[_CERTIFICATES], data[_KEYS])
    except KeyError as missing:
        raise BrokenError(f"Secret {SECRET} lacks {missing}: restore it, or delete it for a new authority") from None
    except BrokenError as error:
        raise BrokenError(f"Secret {SECRET} holds {error}: restore it, or delete it for a new authority") from None


def _secret(holder: Holder, held: Leaf, labels: Mapping[str, str]) -> Object:
    meta = {"name": holder.secret, "namespace": holder.namespace, "labels": {**labels, **_LABELS}}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "type": "kubernetes.io/tls", "data": _encoded(held)}


def _labels(secret: Object) -> Mapping[str, str]:
    return secret["metadata"].get("labels") or {}


def _encoded(data: Mapping[str, bytes]) -> dict[str, str]:
    return {k: base64.b64encode(v).decode() for k, v in data.items()}


def _decoded(secret: Object | None) -> dict[str, bytes]:
    found = {}
    for name, value in ((secret or {}).get("data") or {}).items():
        try:
            found[name] = base64.b64decode(value, validate=True)
        except binascii.Error:
            found[name] = b""
    return found


def _until(held: Leaf) -> datetime | None:
    try:
        return leaf.until(held)
    except (KeyError, ValueError):
        return None
