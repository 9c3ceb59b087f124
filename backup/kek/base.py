"""What a site's key-encryption key (KEK) does: it encrypts tenant keys for its site, and only the site decrypts."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Protocol

from domicile.backup import canonical
from domicile.backup.errors import BackupError

# What a ciphertext belongs to. Audit trails of the clouds keep it, so it holds opaque ids and nothing else.
Context = Mapping[str, str]


class KeyUnavailableError(BackupError):
    """A key, or the wrap of one, is missing or unreadable, or its KMS refuses or does not answer."""


class Kek(Protocol):
    """One key-encryption key. Thread-safe."""

    @property
    def digest(self) -> str:
        """16 hex digits that tell this key from others, and tell nobody which it is."""

    def encrypt(self, plaintext: bytes, context: Context) -> bytes:
        """Ciphertext for the key's site. Raises KeyUnavailableError."""

    def decrypt(self, ciphertext: bytes, context: Context) -> bytes:
        """Plaintext of what was encrypted under the same context. Raises KeyUnavailableError, WrongKeyError."""


def digest_of(kind: str, name: str) -> str:
    """``Kek.digest`` of a key by its kind and name: one that moves or changes kind is another key."""
    return hashlib.sha256(f"{kind}:{name}".encode()).hexdigest()[:16]


def associated(context: Context) -> bytes:
    """The context as associated data, for keys that take bytes: canonical JSON."""
    return canonical.encode(dict(context))
