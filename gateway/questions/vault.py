"""Values behind placeholders, so that later requests of a conversation get them back: in redis, sealed.

A hash ``vault:<tenant>:<SHA-256 of the conversation>`` of placeholder to nonce (12 bytes) and AES-256-GCM ciphertext
(NIST SP 800-38D), with tenant, hash and placeholder as additional data: an entry opens nowhere else.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Mapping
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from redis.asyncio import Redis

from domicile.gateway.questions.refusal import RefusedError
from domicile.gateway.questions.store import asking

ENTRIES: Final = 10_000
"""Placeholders of one conversation."""
_NONCE: Final = 12


def subkey(key: bytes, use: str) -> bytes:
    """32 bytes for one use, of the tenant's key (HKDF, RFC 5869)."""
    return HKDF(SHA256(), 32, None, f"domicile gateway {use}".encode()).derive(key)


class Vault:
    """All conversations of a tenant."""

    def __init__(self, redis: Redis, tenant: str, key: bytes) -> None:
        """``key``: 32 bytes, for nothing else."""
        self._redis = redis
        self._tenant = tenant
        self._cipher = AESGCM(key)

    async def keep(self, conversation: str, values: Mapping[str, str], seconds: int) -> None:
        """Keep values by placeholder, all of the conversation's for ``seconds`` from now on.

        Raises RefusedError: 503 without redis, 422 where the conversation would have more than ``ENTRIES``.
        """
        name = self._name(conversation)
        with asking():
            if values and await self._redis.hlen(name) + len(values) > ENTRIES:
                known = await self._redis.hmget(name, [*values])
                if await self._redis.hlen(name) + known.count(None) > ENTRIES:
                    raise RefusedError(
                        422, "conversation_full", f"A conversation may have {ENTRIES} values; begin another one."
                    )
            async with self._redis.pipeline(transaction=False) as commands:
                for placeholder, value in values.items():
                    commands.hsetnx(name, placeholder, self._seal(name, placeholder, value))
                commands.expire(name, seconds)
                await commands.execute()

    async def fetch(self, conversation: str, placeholders: Collection[str]) -> dict[str, str]:
        """The values of those that are known. Raises RefusedError (503)."""
        if not placeholders:
            return {}
        name, asked = self._name(conversation), sorted(placeholders)
        with asking():
            sealed: list[Any] = await self._redis.hmget(name, asked)
        opened = {p: self._open(name, p, s) for p, s in zip(asked, sealed, strict=True) if s is not None}
        return {placeholder: value for placeholder, value in opened.items() if value is not None}

    def _name(self, conversation: str) -> str:
        return f"vault:{self._tenant}:{hashlib.sha256(conversation.encode()).hexdigest()}"

    def _seal(self, name: str, placeholder: str, value: str) -> bytes:
        nonce = os.urandom(_NONCE)
        return nonce + self._cipher.encrypt(nonce, value.encode(), f"{name}:{placeholder}".encode())

    def _open(self, name: str, placeholder: str, sealed: bytes) -> str | None:
        """The value; None where it was sealed by another key, or for another place."""
        try:
            nonce, rest = sealed[:_NONCE], sealed[_NONCE:]
            return self._cipher.decrypt(nonce, rest, f"{name}:{placeholder}".encode()).decode()
        except (InvalidTag, ValueError):
            return None
