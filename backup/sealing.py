"""Authenticated encryption of everything that leaves a site, in tink's AES-GCM-HKDF streaming wire format.

Wire format (https://developers.google.com/tink/streaming-aead/aes_gcm_hkdf_streaming), key type AesGcmHkdfStreamingKey
with HKDF-SHA256, a 32-byte key, 32-byte derived keys and ciphertext segments of 1 MiB (tink's template
AES256_GCM_HKDF_1MB)::

    ciphertext = 0x28 | salt (32) | nonce prefix (7) | segment 0 | segment 1 | ...
    object key = HKDF-SHA256(ikm = seal key, salt = salt, info = associated data, 32 bytes)
    segment i  = AES-256-GCM(object key, nonce = nonce prefix | i (uint32, big endian) | 1 if last else 0), no AAD

Each segment is 1 MiB of ciphertext, tag included, but segment 0, which is shorter by the header, and the last one.
So every object has a key of its own, and order, number and end of the segments are authenticated.
"""

from __future__ import annotations

import hmac
import json
import os
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from domicile.backup.errors import IntegrityError, WrongKeyError

FORMAT_VERSION = 1
KEY_BYTES = 32
SEGMENT = 1 << 20
HEADER = 40
TAG = 16
MAX_PLAINTEXT = 64 << 20

_SALT = 32
_PREFIX = 7
_encode = json.JSONEncoder(separators=(",", ":")).encode
_FIRST = SEGMENT - HEADER - TAG
_REST = SEGMENT - TAG


def hkdf(key: bytes, salt: bytes, info: bytes) -> bytes:
    """32 bytes by HKDF-SHA256 (RFC 5869); an empty salt counts as 32 zero bytes."""
    return hmac.digest(hmac.digest(salt or bytes(32), key, "sha256"), info + b"\x01", "sha256")


@dataclass(frozen=True, slots=True)
class Associated:
    """What a ciphertext belongs to; opening it under anything else fails.

    ``kind`` is ``object``, ``shard``, ``manifest`` or ``mirror``; ``id`` the opaque id of the sealed thing;
    ``generation`` the source version of an object, or the sequence number.
    """

    tenant: str
    zone: str
    kind: str
    id: str
    generation: str
    epoch: int


class Sealer:
    """Seals and opens under one tenant key of 32 bytes. Thread-safe.

    ``commitment`` (hex) fixes the key without revealing it: AES-GCM alone would let one ciphertext open under two keys.
    """

    def __init__(self, key_id: str, secret: bytes) -> None:
        if len(secret) != KEY_BYTES:
            raise WrongKeyError(f"the tenant key {key_id} has {len(secret)} bytes instead of {KEY_BYTES}")
        self.key_id = key_id
        self.commitment = hkdf(secret, b"", b"domicile/v1/commit").hex()
        self._seal_key = hkdf(secret, b"", b"domicile/v1/seal")
        self._record_key = hkdf(secret, b"", b"domicile/v1/record")

    def require(self, key_id: str, commitment: str) -> None:
        """Raise WrongKeyError unless this is the key that a record names and commits to."""
        if key_id != self.key_id or not hmac.compare_digest(commitment.encode(), self.commitment.encode()):
            raise WrongKeyError(
                f"sealed with tenant key {key_id}, but the key at hand is {self.key_id}"
                f"{' with another secret' if key_id == self.key_id else ''}: check the wrapped keys of both sites"
            )

    def mac(self, data: bytes) -> str:
        """HMAC-SHA256 of a control record, in hex."""
        return hmac.digest(self._record_key, data, "sha256").hex()

    def associated(self, to: Associated) -> bytes:
        """The canonical associated data: a JSON array without spaces, ASCII only."""
        return _encode(
            ["domicile", FORMAT_VERSION, to.tenant, to.zone, to.kind, to.id, to.generation, self.key_id, to.epoch]
        ).encode()

    def seal(self, to: Associated, plaintext: bytes) -> bytes:
        """Ciphertext of ``sealed_size(len(plaintext))`` bytes; at most MAX_PLAINTEXT bytes of plaintext."""
        return seal(self._seal_key, self.associated(to), plaintext)

    def open(self, to: Associated, ciphertext: bytes | memoryview) -> bytes:
        """The plaintext, after its last segment verified. Raises IntegrityError."""
        return unseal(self._seal_key, self.associated(to), ciphertext)


def sealed_size(size: int) -> int:
    """Bytes of ciphertext for ``size`` bytes of plaintext."""
    segments = 1 if size <= _FIRST else 1 + -(-(size - _FIRST) // _REST)
    return HEADER + size + TAG * segments


def seal(key: bytes, associated: bytes, plaintext: bytes) -> bytes:
    """One ciphertext in the wire format above. ``key`` has 32 bytes."""
    if len(plaintext) > MAX_PLAINTEXT:
        raise ValueError(f"{len(plaintext)} bytes at once; cut them into parts of at most {MAX_PLAINTEXT}")
    salt, prefix = os.urandom(_SALT), os.urandom(_PREFIX)
    aead = AESGCM(hkdf(key, salt, associated))
    if len(plaintext) <= _FIRST:
        return b"".join((bytes((HEADER,)), salt, prefix, aead.encrypt(prefix + b"\0\0\0\0\1", plaintext, None)))
    source, out = memoryview(plaintext), bytearray(sealed_size(len(plaintext)))
    target = memoryview(out)
    out[:HEADER] = bytes((HEADER,)) + salt + prefix
    read, written, index, size = 0, HEADER, 0, _FIRST
    while True:
        segment = source[read : read + size]
        read += len(segment)
        nonce = prefix + index.to_bytes(4, "big") + bytes((read == len(plaintext),))
        written += aead.encrypt_into(nonce, segment, None, target[written : written + len(segment) + TAG])
        if read == len(plaintext):
            return bytes(out)
        index, size = index + 1, _REST


def unseal(key: bytes, associated: bytes, ciphertext: bytes | memoryview) -> bytes:
    """The plaintext, released only after the last segment verified. Raises IntegrityError."""
    source = memoryview(ciphertext)
    if len(source) < HEADER + TAG or source[0] != HEADER:
        raise IntegrityError("not a sealed object of format version 1")
    if len(source) > sealed_size(MAX_PLAINTEXT):
        raise IntegrityError(f"a sealed object of {len(source)} bytes is larger than the format allows")
    prefix = bytes(source[1 + _SALT : HEADER])
    aead = AESGCM(hkdf(key, bytes(source[1 : 1 + _SALT]), associated))
    plain, start, index, end = [], HEADER, 0, min(SEGMENT, len(source))
    while start < len(source):
        nonce = prefix + index.to_bytes(4, "big") + bytes((end == len(source),))
        try:
            plain.append(aead.decrypt(nonce, source[start:end], None))
        except (InvalidTag, ValueError):
            raise IntegrityError(
                "the authentication tag does not match: damaged, or sealed for something else"
            ) from None
        start, end, index = end, min(end + SEGMENT, len(source)), index + 1
    return plain[0] if len(plain) == 1 else b"".join(plain)
