"""The sealed mirror of a tenant's definition, from which the peer's operator recreates it.

``tenants/<tenant>/<rev>`` in both control buckets: canonical JSON with the key's commitment and, sealed, a JSON
document.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from typing import Any

from domicile.backup import canonical
from domicile.backup.errors import ConcurrentRunError, IntegrityError
from domicile.backup.keys import TenantKey
from domicile.backup.sealing import FORMAT_VERSION, Sealer
from domicile.backup.snapshot import Scope
from domicile.backup.stores.base import Bucket, create_once

_NAME = re.compile(r"tenants/([0-9a-f]{32})/(\d{10})", re.ASCII)


def publish(controls: Sequence[Bucket], key: TenantKey, tenant: str, zone: str, document: dict[str, Any]) -> int:
    """Store ``document`` (JSON without floats) as the newest revision in every control bucket, the own one first.

    Nothing is written where the newest revision says the same. Returns the revision. Safe to repeat after any failure.
    Raises ConcurrentRunError where another writer took the revision; WrongKeyError, IntegrityError, StoreError.
    """
    scope = Scope(tenant, zone, Sealer(key.key_id, key.secret))
    revs = [_newest(control, tenant) for control in controls]
    rev = max(revs, default=0)
    # Two sites that were cut off from each other may both have written this revision: then only a further one mends it.
    newest = {control.read(_path(tenant, rev)) for control, at in zip(controls, revs, strict=True) if rev and at == rev}
    data = newest.pop() if len(newest) == 1 else None
    if data is None or _open(scope, rev, data) != document:
        rev += 1
        data = _seal(scope, rev, document)
    for control, at in zip(controls, revs, strict=True):
        if at < rev and not create_once(control, _path(tenant, rev), data):
            raise ConcurrentRunError(f"revision {rev} of tenant {tenant} at site {control.site} was written by another")
    return rev


def read(control: Bucket, key: TenantKey, tenant: str, zone: str) -> tuple[int, dict[str, Any]] | None:
    """The newest revision and its document; None where there is none. Raises WrongKeyError, IntegrityError."""
    rev = _newest(control, tenant)
    if not rev:
        return None
    return rev, _open(Scope(tenant, zone, Sealer(key.key_id, key.secret)), rev, control.read(_path(tenant, rev)))


def tenants(control: Bucket) -> list[str]:
    """Ids of all tenants that have a mirror here, ascending."""
    return sorted({match[1] for info in control.list("tenants/") if (match := _NAME.fullmatch(info.name))})


def _path(tenant: str, rev: int) -> str:
    return f"tenants/{tenant}/{rev:010d}"


def _newest(control: Bucket, tenant: str) -> int:
    found = (_NAME.fullmatch(info.name) for info in control.list(f"tenants/{tenant}/"))
    return max((int(match[2]) for match in found if match), default=0)


def _seal(scope: Scope, rev: int, document: dict[str, Any]) -> bytes:
    sealed = scope.seal("mirror", scope.tenant, str(rev), 0, canonical.encode(document))
    return canonical.encode(
        {
            "version": FORMAT_VERSION,
            "tenant": scope.tenant,
            "rev": rev,
            "keyId": scope.sealer.key_id,
            "keyCommitment": scope.sealer.commitment,
            "sealed": base64.b64encode(sealed).decode(),
        }
    )


def _open(scope: Scope, rev: int, data: bytes) -> dict[str, Any]:
    what = f"mirror {rev} of tenant {scope.tenant}"
    value = canonical.fields(
        canonical.decode(data, what),
        what,
        version=lambda v: type(v) is int and v == FORMAT_VERSION,
        tenant=lambda v: v == scope.tenant,
        rev=lambda v: type(v) is int and v == rev,
        keyId=canonical.text,
        keyCommitment=canonical.hexadecimal(64),
        sealed=lambda v: isinstance(v, str),
    )
    scope.sealer.require(value["keyId"], value["keyCommitment"])
    try:
        sealed = base64.b64decode(value["sealed"], validate=True)
    except binascii.Error:
        raise IntegrityError(f"{what} is not base64") from None
    document = canonical.decode(scope.open("mirror", scope.tenant, str(rev), 0, sealed), what)
    if not isinstance(document, dict):
        raise IntegrityError(f"{what} holds no document")
    return document
