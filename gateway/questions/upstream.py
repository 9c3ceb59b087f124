"""The way to model providers: one question to one endpoint, with bounds on time and size."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp

from domicile.api.gateway import Endpoint, GatewayConfig, Limits
from domicile.credentials import Credentials
from domicile.gateway.proxy import HEADERS_LIMIT, LINE_LIMIT
from domicile.gateway.questions.providers import KINDS
from domicile.gateway.questions.refusal import RefusedError
from domicile.gateway.questions.tokens import NoTokenError, Tokens
from domicile.gateway.questions.trust import Hops, believing

_EGRESS: Final = "egress"
_SLICE_BYTES: Final = 2**16
_TOKEN_BYTES: Final = 2**16


class Elsewhere(RefusedError):  # noqa: N818 - it is a refusal that another endpoint may mend
    """This endpoint has not taken the question; another one may."""


class Reply:
    """An endpoint's answer with status 200."""

    def __init__(self, response: aiohttp.ClientResponse, limits: Limits) -> None:
        self._response = response
        self._limits = limits
        self.size = 0
        """Bytes so far."""

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it comes. Raises RefusedError: 504 for silence, 502 where it breaks off or is too large."""
        while True:
            try:
                async with asyncio.timeout(self._limits.silence_seconds):
                    piece = await self._response.content.readany()
            except TimeoutError:
                raise _silent() from None
            except (aiohttp.ClientError, OSError):
                raise RefusedError(502, "provider_failed", "The provider's answer broke off.") from None
            if not piece:
                return
            self.size += len(piece)
            if self.size > self._limits.answer_bytes:
                raise RefusedError(502, "answer_too_large", "The provider's answer is larger than the tenant lets it.")
            yield piece


class Upstream:
    """The client of all endpoints."""

    def __init__(self, keys: Path, pod: Credentials) -> None:
        """``keys``: folder of a file for each endpoint with a key, perhaps ``egress`` (the proxy's user:password).

        ``pod``: by what the proxy is asked.
        """
        self._keys = keys
        self._tokens = Tokens()
        self._pod = pod
        # No connection is reused: on one that a provider is just closing, a question would be lost.
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            max_line_size=LINE_LIMIT,
            max_field_size=LINE_LIMIT,
            max_headers=HEADERS_LIMIT,
            skip_auto_headers=("User-Agent",),
        )

    async def close(self) -> None:
        """Drop all connections."""
        await self._session.close()

    @asynccontextmanager
    async def asked(
        self, config: GatewayConfig, endpoint: Endpoint, path: str, body: list[bytes], *, stream: bool
    ) -> AsyncIterator[Reply]:
        """The answer to the only body of a list, which is not kept. Raises Elsewhere and RefusedError."""
        limits = config.limits
        kind = "text/event-stream" if stream else "application/json"
        content = body.pop()
        headers = {
            "Content-Type": "application/json",
            "Content-Length": str(len(content)),
            "Accept": kind,
            "Accept-Encoding": "identity",
        }
        data = _slices(content)
        del content
        if endpoint.keyed:
            key, kind_of = await self._key(endpoint, config), KINDS[endpoint.kind]
            headers[endpoint.header or kind_of.header] = key if endpoint.header else kind_of.prefix + key
        way = self._way(endpoint, config.egress)
        # Only what comes before the answer: the answer has a clock of its own.
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=limits.connect_seconds, sock_read=limits.silence_seconds
        )
        try:
            async with asyncio.timeout(limits.connect_seconds + limits.silence_seconds):
                response = await self._session.post(
                    endpoint.base_url + path,
                    data=data,
                    headers=headers,
                    allow_redirects=False,
                    timeout=timeout,
                    **way,
                )
        except aiohttp.ConnectionTimeoutError:
            raise Elsewhere(504, "provider_timeout", "The provider can't be reached.") from None
        except TimeoutError:
            raise _silent() from None
        except (aiohttp.ClientConnectorError, aiohttp.ClientHttpProxyError, ssl.SSLError):
            raise Elsewhere(502, "provider_unreachable", "The provider can't be reached.") from None
        except (aiohttp.ClientError, OSError, ValueError):
            raise Elsewhere(502, "provider_failed", "The provider did not answer properly.") from None
        try:
            _check(response, kind)
            yield Reply(response, limits)
        finally:
            response.close()

    async def _key(self, endpoint: Endpoint, config: GatewayConfig) -> str:
        """What an endpoint is shown: its key, or a token for it. Raises Elsewhere."""
        secret, url, limits = self._secret(endpoint.key_file), endpoint.token_url, config.limits
        if url is None:
            return secret
        # Tokens are somebody else's than the provider's.
        way = self._way(endpoint.model_copy(update={"ca_bundle": None}), config.egress)

        async def post(body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
            timeout = aiohttp.ClientTimeout(total=limits.connect_seconds + limits.silence_seconds)
            asking = self._session.post(url, data=body, headers=headers, allow_redirects=False, timeout=timeout, **way)
            try:
                async with asking as response:
                    return response.status, await response.content.read(_TOKEN_BYTES)
            except (aiohttp.ClientError, TimeoutError) as error:
                raise OSError(type(error).__name__) from None

        try:
            return await self._tokens.of(secret, url, self._keys / f"{endpoint.name}.subject", post)
        except NoTokenError as error:
            raise Elsewhere(502, error.code, str(error)) from None

    def _way(self, endpoint: Endpoint, egress: str | None) -> dict[str, Any]:
        """How it is connected to, as words of aiohttp's. Raises Elsewhere."""
        try:
            trusted = believing(endpoint.ca_bundle)
        except ssl.SSLError:
            raise _misconfigured("The provider's authorities can't be read.") from None
        if not endpoint.through_egress or egress is None:
            return {"ssl": trusted}
        to_proxy = self._pod.context()
        if to_proxy is None:
            raise _misconfigured("The gateway has no certificate for the way out.")
        user, _, password = self._secret(_EGRESS).partition(":")
        return {
            "ssl": Hops(urlsplit(egress).hostname or "", to_proxy, trusted),
            "proxy": egress,
            "proxy_auth": aiohttp.BasicAuth(user, password),
        }

    def _secret(self, name: str) -> str:
        """A mounted secret, as it is now. Raises Elsewhere."""
        try:
            secret = (self._keys / name).read_text().strip()
        except (OSError, UnicodeDecodeError):
            secret = ""
        if not secret or not secret.isprintable():
            raise _misconfigured("A key by which the gateway asks is missing.")
        return secret


async def _slices(content: bytes) -> AsyncIterator[bytes]:
    """Piece by piece: TLS keeps room for the longest that it was given at once, as long as the connection lasts."""
    for at in range(0, len(content), _SLICE_BYTES):
        yield content[at : at + _SLICE_BYTES]


def _misconfigured(message: str) -> Elsewhere:
    return Elsewhere(502, "provider_misconfigured", message)


def _silent() -> RefusedError:
    return RefusedError(504, "provider_timeout", "The provider was silent for too long.")


def _check(response: aiohttp.ClientResponse, kind: str) -> None:
    """Whether it is an answer of the kind that was asked for; nothing of what it says otherwise is passed on."""
    status = response.status
    if status == 429:
        raise Elsewhere(429, "provider_rate_limit", "The provider takes no more questions for now.", retry_after=5)
    if status >= 500:
        raise Elsewhere(502, "provider_failed", "The provider has failed.")
    if status in {401, 403}:
        raise RefusedError(502, "provider_refused_key", "The provider does not take the tenant's key.")
    if 400 <= status < 500:
        raise RefusedError(400, "provider_refused", f"The provider does not take the question (status {status}).")
    if status != 200 or response.content_type != kind or "Content-Encoding" in response.headers:
        raise RefusedError(502, "provider_broken", "The provider's answer is not what was asked for.")
