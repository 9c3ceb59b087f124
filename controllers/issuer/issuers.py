"""The external issuers of all tenants: read over the network, no more often than needed, and nothing on trust.

Metadata and keys of an issuer are read once for all tenants that use it; a silent one holds up nobody twice.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_plus, urlsplit

import aiohttp

from domicile.api.egress import leads
from domicile.api.sso import ExternalIssuer
from domicile.api.zone import ApprovedIssuer
from domicile.controllers.issuer.metadata import UNREACHABLE, WRONG, IssuerError, check, keys_url, usable_keys
from domicile.controllers.issuer.state import IssuerState, Metadata

# How long a good answer counts, and how long a bad one.
LOOK_SECONDS = 300.0
FAULT_SECONDS = 30.0
# Clients' secrets expire; asking makes an entry in the issuer's log.
CLIENT_SECONDS = 3600.0
REFUSED = "IssuerRefusesClient"
_TIMEOUT = aiohttp.ClientTimeout(total=8)
_MAX_BYTES = 512 * 1024
_EXPIRED = 10  # X509_V_ERR_CERT_HAS_EXPIRED
_WELL_KNOWN = "/.well-known/openid-configuration"
_NO_CLIENT = {"invalid_client", "unauthorized_client"}

Object = dict[str, Any]


@dataclass(frozen=True)
class _Read:
    """What an issuer published at a time; ``jwks`` by the URL that the document names."""

    at: float
    document: Object | None = None
    jwks: Object | None = None
    error: IssuerError | None = None


class Issuers:
    """Looks at issuers that zones approve of."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, proxy: str | None = None) -> None:
        """``proxy``: URL of one that leads out of the site."""
        self._clock = clock
        self._proxy = proxy
        self._read: dict[str, _Read] = {}
        self._reading: dict[str, asyncio.Lock] = {}
        self._good: dict[str, IssuerState] = {}
        self._clients: dict[str, tuple[float, IssuerError | None]] = {}
        self._silent: dict[str, tuple[float, IssuerError]] = {}

    async def look(
        self, external: ExternalIssuer, approved: ApprovedIssuer, authorities: str, secret: str | None
    ) -> IssuerState:
        """What is known of a tenant's issuer. ``authorities`` (PEM) vouch for its servers' certificates; none if empty.

        After a failure the endpoints and keys of the last good look stay, with the error beside them.
        """
        name = _digest(external.to_wire(), approved.to_wire(), authorities)
        try:
            read = await self._published(approved, authorities)
            metadata = check(read.document or {}, approved, external.algorithm)
            keys = usable_keys(read.jwks or {}, approved.issuer, external.algorithm)
            state = self._good[name] = IssuerState(metadata, keys)
            if secret is not None:
                await self._prove(external, metadata, authorities, secret)
        except IssuerError as error:
            known = self._good.get(name, IssuerState())
            return IssuerState(known.metadata, known.keys, (error.reason, str(error)))
        return state

    async def _published(self, approved: ApprovedIssuer, authorities: str) -> _Read:
        name = _digest(approved.to_wire(), authorities)
        async with self._reading.setdefault(name, asyncio.Lock()):
            read = self._read.get(name)
            patience = FAULT_SECONDS if read and read.error else LOOK_SECONDS
            if read is None or self._clock() - read.at >= patience:
                read = self._read[name] = await self._ask(approved, authorities)
        if read.error is not None:
            raise read.error
        return read

    async def _ask(self, approved: ApprovedIssuer, authorities: str) -> _Read:
        try:
            async with _session(authorities) as web:
                document = await self._get(web, f"{approved.issuer.removesuffix('/')}{_WELL_KNOWN}")
                # Nothing is asked where the zone does not approve of the host.
                return _Read(self._clock(), document, await self._get(web, keys_url(document, approved)))
        except IssuerError as error:
            return _Read(self._clock(), error=error)

    async def _prove(self, external: ExternalIssuer, metadata: Metadata, authorities: str, secret: str) -> None:
        """Whether the issuer knows our client id and secret. Raises IssuerError where it says that it does not."""
        name = _digest(external.issuer, external.client_id, metadata.token, secret)
        at, error = self._clients.get(name, (float("-inf"), None))
        if self._clock() - at >= (FAULT_SECONDS if error else CLIENT_SECONDS):
            async with self._reading.setdefault(metadata.token, asyncio.Lock()):
                error = self._still_silent(metadata.token) or await _refused(
                    external, metadata, authorities, secret, self._how(metadata.token)
                )
                if error is not None and error.reason == UNREACHABLE and not self._still_silent(metadata.token):
                    self._silent[metadata.token] = (self._clock(), error)
            self._clients[name] = (self._clock(), error)
        if error is not None:
            raise error

    async def _get(self, web: aiohttp.ClientSession, url: str) -> Object:
        return await _read_json(web.get(url, **self._how(url)), url, wanted=200)

    def _how(self, url: str) -> Object:
        return {"allow_redirects": False, "proxy": self._proxy if leads(url) else None}

    def _still_silent(self, url: str) -> IssuerError | None:
        """What another client was told of an endpoint a moment ago, where it did not answer."""
        at, error = self._silent.get(url, (float("-inf"), None))
        return error if self._clock() - at < FAULT_SECONDS else None


async def _refused(
    external: ExternalIssuer, metadata: Metadata, authorities: str, secret: str, how: Object
) -> IssuerError | None:
    """Redeem a code that nobody gave: who is known gets ``invalid_grant``, others another error (RFC 6749, 5.2)."""
    form = {
        "grant_type": "authorization_code",
        "code": secrets.token_urlsafe(16),
        "redirect_uri": "https://none.invalid/",
    }
    form["code_verifier"] = secrets.token_urlsafe(48)
    headers = {}
    if metadata.token_auth == "client_secret_post":  # noqa: S105 - the name of a method
        form |= {"client_id": external.client_id, "client_secret": secret}
    else:
        headers["Authorization"] = aiohttp.encode_basic_auth(quote_plus(external.client_id), quote_plus(secret))
    try:
        async with _session(authorities) as web:
            said = await _read_json(web.post(metadata.token, data=form, headers=headers, **how), metadata.token)
    except IssuerError as error:
        return error
    if said.get("error") in _NO_CLIENT:
        return IssuerError(
            REFUSED,
            f"{external.issuer} refuses our client: check external.clientId, and client-secret in Secret"
            f" {external.client_secret}. Has it expired there?",
        )
    return None


def _session(authorities: str) -> aiohttp.ClientSession:
    if not authorities:
        # Without any the context would go by the system's.
        raise IssuerError(
            "IssuerCertificateRefused",
            "<zone>.pem in the operator's identitySecret holds no certificates in PEM: put the authorities there that"
            " vouch for the issuer, or remove it to go by the system's.",
        )
    context = ssl.create_default_context(cadata=authorities)
    return aiohttp.ClientSession(timeout=_TIMEOUT, connector=aiohttp.TCPConnector(ssl=context))


async def _read_json(request: Any, url: str, wanted: int | None = None) -> Object:
    """The JSON object of an answer. Raises IssuerError; no message quotes the answer."""
    host = urlsplit(url).netloc
    try:
        async with request as answer:
            if wanted is not None and answer.status != wanted:
                raise IssuerError(
                    UNREACHABLE, f"{url} answers {answer.status}: check external.issuer, or ask who runs it."
                )
            body = b""
            async for piece in answer.content.iter_chunked(65536):
                body += piece
                if len(body) > _MAX_BYTES:
                    raise IssuerError(WRONG, f"What {url} answers is larger than {_MAX_BYTES} bytes.")
    except aiohttp.ClientConnectorCertificateError as error:
        raise _distrusted(host, error.certificate_error) from None
    except (aiohttp.ClientError, TimeoutError, ssl.SSLError) as error:
        raise IssuerError(
            UNREACHABLE, f"{host} does not answer ({type(error).__name__}): may the operator connect there? Is it down?"
        ) from None
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise IssuerError(WRONG, f"What {url} answers is no JSON object.")
    return said


def _distrusted(host: str, error: Exception) -> IssuerError:
    if isinstance(error, ssl.SSLCertVerificationError) and error.verify_code == _EXPIRED:
        return IssuerError(
            "IssuerCertificateExpired", f"The certificate of {host} has expired: whoever runs it must renew it."
        )
    return IssuerError(
        "IssuerCertificateRefused",
        f"The certificate of {host} is not to be trusted, or for another name. An authority of your own belongs into"
        " <zone>.pem of the operator's identitySecret.",
    )


def _digest(*parts: Mapping[str, Any] | str) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
