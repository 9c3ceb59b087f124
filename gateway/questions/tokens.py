"""Access tokens of an hour for keys of Google's (``domicile.api.google``), fetched and renewed by google-auth.

Service accounts: RFC 7523. Federated identities: RFC 8693, by a token that the cluster mounts.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from google.auth import exceptions, identity_pool, transport
from google.auth.credentials import TokenState
from google.oauth2 import service_account

from domicile.api import google

_SCOPES: Final = ["https://www.googleapis.com/auth/cloud-platform"]
_SUBJECT: Final = "urn:ietf:params:oauth:token-type:jwt"
_KEPT: Final = 64

Post = Callable[[bytes, Mapping[str, str]], Awaitable[tuple[int, bytes]]]
"""Sends a body with headers to the token endpoint; status and body of its answer. Raises OSError."""


class NoTokenError(Exception):
    """There is no token; ``code`` is that of the refusal."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class _Held(NamedTuple):
    credentials: Any
    lock: asyncio.Lock


class _Answer(transport.Response):
    def __init__(self, status: int, data: bytes) -> None:
        self._status, self._data = status, data

    @property
    def status(self) -> int:
        return self._status

    @property
    def headers(self) -> Mapping[str, str]:
        return {}

    @property
    def data(self) -> bytes:
        return self._data


class _Request(transport.Request):
    """google-auth asks in a thread; the loop posts. To the token endpoint only, whatever a key says."""

    def __init__(self, url: str, post: Post) -> None:
        self._url, self._post, self._loop = url, post, asyncio.get_running_loop()

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: bytes | str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,  # noqa: ARG002 - the post has its own
        **_: Any,
    ) -> _Answer:
        if (url, method) != (self._url, "POST"):
            raise exceptions.TransportError("tokens come from the token endpoint only")
        content = body.encode() if isinstance(body, str) else body or b""
        asked = self._post(content, headers or {})
        try:
            return _Answer(*asyncio.run_coroutine_threadsafe(_awaited(asked), self._loop).result())
        except OSError as error:
            raise exceptions.TransportError(type(error).__name__) from None


async def _awaited(asked: Awaitable[tuple[int, bytes]]) -> tuple[int, bytes]:
    return await asked


class Tokens:
    """Those of all keys, each renewed some minutes before its end."""

    def __init__(self) -> None:
        self._held: dict[str, _Held] = {}

    async def of(self, key: str, url: str, subject: Path, post: Post) -> str:
        """A token for a key. ``subject``: the file of the cluster's token. Raises NoTokenError."""
        name = hashlib.sha256(f"{url}\0{subject}\0{key}".encode()).hexdigest()
        if name not in self._held:
            made = _credentials(key, url, subject)
            while len(self._held) >= _KEPT:
                del self._held[next(iter(self._held))]
            self._held[name] = _Held(made, asyncio.Lock())
        credentials, lock = self._held[name]
        async with lock:
            if credentials.token_state is not TokenState.FRESH:
                await self._renew(credentials, _Request(url, post))
        return str(credentials.token)

    async def _renew(self, credentials: Any, request: _Request) -> None:
        try:
            await asyncio.to_thread(credentials.refresh, request)
        except exceptions.TransportError:
            error = NoTokenError("provider_unreachable", "Where the provider's tokens come from can't be reached.")
        except (exceptions.GoogleAuthError, ValueError):
            error = NoTokenError("provider_refused_key", "There is no token for the tenant's key.")
        else:
            return
        # What is about to end still counts.
        if credentials.token_state is TokenState.INVALID:
            raise error from None


def _credentials(key: str, url: str, subject: Path) -> Any:
    try:
        match google.read(key):
            case google.ServiceAccount(email, key_id, private_key):
                info = {"client_email": email, "private_key_id": key_id, "private_key": private_key, "token_uri": url}
                made: Any = service_account.Credentials.from_service_account_info(info, scopes=_SCOPES)
            case google.Federated(audience):
                source = {"file": str(subject)}
                made = identity_pool.Credentials(
                    audience, _SUBJECT, token_url=url, credential_source=source, scopes=_SCOPES
                )
    except (ValueError, exceptions.GoogleAuthError):
        raise NoTokenError("provider_misconfigured", "The key of the provider is no key of Google's.") from None
    return made
