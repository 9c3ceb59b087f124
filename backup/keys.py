"""Tenant keys: made once at home, wrapped for each site's own key, opened by that site alone.

A wrap is ``wraps/<tenant>/<keyId>`` in a site's keys bucket: the tenant key under HPKE (RFC 9180: DHKEM X25519,
HKDF-SHA256, AES-256-GCM) in tink's wire format. Its associated data binds tenant, zone and key id.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import tink
from tink import hybrid, secret_key_access

from domicile.backup.errors import BackupError, WrongKeyError
from domicile.backup.stores.base import AlreadyExistsError, Bucket, NotFoundError

SECRET_BYTES = 32
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_TEMPLATE = hybrid.hybrid_key_templates.DHKEM_X25519_HKDF_SHA256_HKDF_SHA256_AES_256_GCM

# tink asks for a primitive by its abstract class, which the type checker takes for a constructor.
_ENCRYPT: Any = hybrid.HybridEncrypt
_DECRYPT: Any = hybrid.HybridDecrypt

hybrid.register()


class KeyUnavailableError(BackupError):
    """A key, or the wrap of one, is missing or unreadable."""


class KeyProvider(Protocol):
    """Keys of sites: anyone may encrypt for a site, only the site itself can decrypt."""

    def encrypt(self, key_name: str, plaintext: bytes, context: bytes) -> bytes:
        """Ciphertext for the site whose key it is. Raises KeyUnavailableError."""

    def decrypt(self, key_name: str, ciphertext: bytes, context: bytes) -> bytes:
        """Plaintext, with the site's own private key. Raises KeyUnavailableError, WrongKeyError."""


@dataclass(frozen=True, slots=True)
class TenantKey:
    """A tenant's key: its id, and 32 bytes that never appear in a repr."""

    key_id: str
    secret: bytes = field(repr=False)


class _Bound(NamedTuple):
    tenant: str
    zone: str


class LocalFileKeys:
    """Keys as cleartext tink keyset files: ``<name>.public.json`` of every site, ``<name>.private.json`` of the own.

    For development and sites without a KMS: the folder (a Secret) must be readable by the operator's pods only.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def encrypt(self, key_name: str, plaintext: bytes, context: bytes) -> bytes:
        """Ciphertext for the site whose key it is. Raises KeyUnavailableError."""
        text = self._read(key_name, "public")
        primitive: hybrid.HybridEncrypt
        try:
            primitive = tink.json_proto_keyset_format.parse_without_secret(text).primitive(_ENCRYPT)
        except tink.TinkError:
            raise KeyUnavailableError(f"{key_name}.public.json is not a public hybrid keyset") from None
        return bytes(primitive.encrypt(plaintext, context))

    def decrypt(self, key_name: str, ciphertext: bytes, context: bytes) -> bytes:
        """Plaintext, with the site's own private key. Raises KeyUnavailableError, WrongKeyError."""
        primitive: hybrid.HybridDecrypt = _private(key_name, self._read(key_name, "private")).primitive(_DECRYPT)
        try:
            return bytes(primitive.decrypt(ciphertext, context))
        except tink.TinkError:
            raise WrongKeyError(
                f"key {key_name} does not open this ciphertext: it was made for another key, tenant or zone, or is"
                f" damaged; check that {key_name}.private.json is this site's key"
            ) from None

    def _read(self, key_name: str, part: str) -> str:
        _check(key_name)
        name = f"{key_name}.{part}.json"
        try:
            return (self._folder / name).read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise KeyUnavailableError(
                f"{name} can't be read from the keys folder ({type(error).__name__});"
                " add it to the operator's keys Secret"
            ) from None


def generate(name: str, folder: Path) -> tuple[Path, Path]:
    """Make a site's key pair as two keyset files and return (public, private); the private one has mode 0600.

    A missing public file is made again from the private one. Raises FileExistsError where both exist (a key is never
    overwritten), ValueError for a name that is no DNS label.
    """
    _check(name)
    folder.mkdir(parents=True, exist_ok=True)
    public, private = folder / f"{name}.public.json", folder / f"{name}.private.json"
    if public.exists():
        raise FileExistsError(f"{public} exists; a key is never overwritten")
    if private.exists():
        handle = _private(name, private.read_text())
    else:
        handle = tink.new_keyset_handle(_TEMPLATE)
        _create(private, tink.json_proto_keyset_format.serialize(handle, secret_key_access.TOKEN), 0o600)
    text = tink.json_proto_keyset_format.serialize_without_secret(handle.public_keyset_handle())
    _create(public, text, 0o644)
    return public, private


def mint_tenant_key(
    provider: KeyProvider,
    tenant: str,
    zone: str,
    own_key: str,
    own_keys: Bucket,
    peer_key: str | None = None,
    peer_keys: Bucket | None = None,
) -> str:
    """Make sure that the tenant has a key that both sites can open, and return the newest key id.

    The own wrap is written first: after a crash between the two writes a later call opens it and wraps the same key for
    the peer. ``peer_key`` and ``peer_keys`` are None in a zone of one site. Raises StoreError, KeyUnavailableError,
    WrongKeyError; call it again after any of them.
    """
    if (peer_key is None) != (peer_keys is None):
        raise ValueError("peer_key and peer_keys go together")
    own_ids = _key_ids(own_keys, tenant)
    if not own_ids:
        # The number orders key ids; the random part keeps two makers of a number apart.
        key_id = f"{1:010d}-{secrets.token_hex(8)}"
        secret = secrets.token_bytes(SECRET_BYTES)
        _wrap(provider, own_key, own_keys, _Bound(tenant, zone), TenantKey(key_id, secret))
        own_ids = _key_ids(own_keys, tenant)
    if peer_key is not None and peer_keys is not None:
        for key_id in sorted(set(own_ids) - set(_key_ids(peer_keys, tenant))):
            key = open_tenant_key(provider, own_key, own_keys, tenant, zone, key_id=key_id)
            _wrap(provider, peer_key, peer_keys, _Bound(tenant, zone), key)
    return own_ids[-1]


def open_tenant_key(
    provider: KeyProvider, key_name: str, keys_bucket: Bucket, tenant: str, zone: str, *, key_id: str | None = None
) -> TenantKey:
    """The tenant's key of that id (by default the newest), by the own site's private key.

    Raises NotFoundError where the tenant has no such wrap here, KeyUnavailableError where the private key is missing,
    WrongKeyError where it doesn't open the wrap, StoreError.
    """
    if key_id is None:
        key_id = next(iter(reversed(_key_ids(keys_bucket, tenant))), "")
    try:
        wrap = keys_bucket.read(_object(tenant, key_id)) if key_id else None
    except NotFoundError:
        wrap = None
    if wrap is None:
        raise NotFoundError(
            f"tenant {tenant} has no wrapped key {key_id} in bucket {keys_bucket.name} of site {keys_bucket.site};"
            " its home site must replicate once more, or the tenant was erased"
        )
    secret = provider.decrypt(key_name, wrap, _context(tenant, zone, key_id))
    if len(secret) != SECRET_BYTES:
        raise WrongKeyError(f"the wrapped key {key_id} of tenant {tenant} has {len(secret)} bytes, not {SECRET_BYTES}")
    return TenantKey(key_id, secret)


def _wrap(provider: KeyProvider, key_name: str, bucket: Bucket, bound: _Bound, key: TenantKey) -> None:
    wrapped = provider.encrypt(key_name, key.secret, _context(bound.tenant, bound.zone, key.key_id))
    try:
        bucket.create(_object(bound.tenant, key.key_id), wrapped)
    except AlreadyExistsError:
        # The id is random: only our own earlier write, whose answer was lost, or a twin of this very call has it.
        return


def _key_ids(bucket: Bucket, tenant: str) -> list[str]:
    prefix = _object(tenant, "")
    return [info.name.removeprefix(prefix) for info in bucket.list(prefix)]


def _object(tenant: str, key_id: str) -> str:
    return f"wraps/{tenant}/{key_id}"


def _context(tenant: str, zone: str, key_id: str) -> bytes:
    bound = {"format": "domicile-wrap-1", "keyId": key_id, "tenant": tenant, "zone": zone}
    return json.dumps(bound, sort_keys=True, separators=(",", ":")).encode()


def _private(name: str, text: str) -> tink.KeysetHandle:
    try:
        return tink.json_proto_keyset_format.parse(text, secret_key_access.TOKEN)
    except tink.TinkError:
        raise KeyUnavailableError(f"{name}.private.json is not a keyset") from None


def _create(path: Path, text: str, mode: int) -> None:
    """Write a file that must not exist, whole or not at all, with its mode from the start."""
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.link(scratch, path)
    finally:
        scratch.unlink()


def _check(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a key's name: lower-case letters, digits and inner hyphens")
