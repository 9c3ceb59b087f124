"""Keys in files, for development and for sites without a KMS.

A ciphertext is HPKE (RFC 9180: DHKEM X25519, HKDF-SHA256, AES-256-GCM) in tink's wire format; its associated data is
the canonical JSON of the context.
"""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path
from typing import Any

import tink
from tink import hybrid, secret_key_access

from domicile.backup.errors import WrongKeyError
from domicile.backup.kek.base import Context, KeyUnavailableError, associated, digest_of

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_TEMPLATE = hybrid.hybrid_key_templates.DHKEM_X25519_HKDF_SHA256_HKDF_SHA256_AES_256_GCM

# tink asks for a primitive by its abstract class, which the type checker takes for a constructor.
_ENCRYPT: Any = hybrid.HybridEncrypt
_DECRYPT: Any = hybrid.HybridDecrypt

hybrid.register()


class LocalFileKey:
    """A key as cleartext tink keyset files: ``<name>.public.json``, and at its own site ``<name>.private.json``.

    The folder (a Secret) must be readable by the operator's pods only. Raises ValueError for a name that is no DNS
    label.
    """

    def __init__(self, name: str, folder: Path) -> None:
        _check(name)
        self._name = name
        self._folder = folder

    @property
    def digest(self) -> str:
        """16 hex digits that tell this key from others."""
        return digest_of("file", self._name)

    def encrypt(self, plaintext: bytes, context: Context) -> bytes:
        """Ciphertext for the key's site, by the public file. Raises KeyUnavailableError."""
        text = self._read("public")
        primitive: hybrid.HybridEncrypt
        try:
            primitive = tink.json_proto_keyset_format.parse_without_secret(text).primitive(_ENCRYPT)
        except tink.TinkError:
            raise KeyUnavailableError(f"{self._name}.public.json is not a public hybrid keyset") from None
        return bytes(primitive.encrypt(plaintext, associated(context)))

    def decrypt(self, ciphertext: bytes, context: Context) -> bytes:
        """Plaintext, by the private file. Raises KeyUnavailableError, WrongKeyError."""
        primitive: hybrid.HybridDecrypt = _private(self._name, self._read("private")).primitive(_DECRYPT)
        try:
            return bytes(primitive.decrypt(ciphertext, associated(context)))
        except tink.TinkError:
            raise WrongKeyError(
                f"key {self._name} does not open this ciphertext: it was made for another key, tenant or zone, or is"
                f" damaged; check that {self._name}.private.json is this site's key"
            ) from None

    def _read(self, part: str) -> str:
        name = f"{self._name}.{part}.json"
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
