"""The guard's proxy: one request to the assistant, or from it, and its answer back, streamed both ways.

What it refuses and removes follows RFC 9110 (7.6.1 hop-by-hop fields, 10.1.1 Expect) and RFC 9112 (6.1, 6.3 framing).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from domicile.credentials import Credentials
from domicile.gateway.holder import Holder, Keeper, LeaseEndedError

LINE_LIMIT = 16384
"""Bytes of the request line, and of one header field, in each direction."""
HEADERS_LIMIT = 128
"""Header fields in each direction."""

_HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_DROPPED = _HOP_BY_HOP | {"expect", "x-forwarded-for"}
CONSENTS = "Domicile-Consents"
"""What its person has agreed to, as an assistant is told it with each request: by the guard, and by nobody else."""
_CONNECTION_OPTIONS = frozenset({"", "close", "keep-alive", "te", "upgrade"})
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=10.0, sock_read=300.0)
_LOOK_SECONDS = 0.005
_AUTOMATIC = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")


def answer(status: int, reason: str, message: str, *, close: bool = False) -> web.Response:
    """The guard's own answer: {"reason", "message"}, never cached; 503 says when to come back."""
    headers = {"Cache-Control": "no-store", "Server": "domicile"}
    if status == 503:
        headers["Retry-After"] = "1"
    response = web.json_response({"reason": reason, "message": message}, status=status, headers=headers)
    if close:
        response.force_close()
    return response


def _values(request: web.BaseRequest, name: str) -> list[str]:
    """The members of a list-valued field, over all its lines, in lower case."""
    return [part.strip().lower() for line in request.headers.getall(name, []) for part in line.split(",")]


def framing_fault(request: web.BaseRequest) -> str | None:
    """What makes a request dangerous to pass on, as a sentence; None where nothing does.

    The parser already refuses most of it; this holds when its leniency changes.
    """
    headers = request.headers
    if any(option not in _CONNECTION_OPTIONS for option in _values(request, "Connection")):
        # It would let a client remove a field that a trusted hop before us has set.
        return "Connection may name only close, keep-alive, TE and Upgrade."
    lengths, codings = headers.getall("Content-Length", []), headers.getall("Transfer-Encoding", [])
    if (lengths and codings) or len(lengths) > 1 or len(codings) > 1:
        return "The length of the body is ambiguous."
    if lengths and not (lengths[0].isascii() and lengths[0].isdigit()):
        return "Content-Length is not a number."
    if codings and (codings[0].strip().lower() != "chunked" or request.version < aiohttp.HttpVersion11):
        return "The only transfer coding is chunked, in HTTP/1.1."
    hosts = len(headers.getall("Host", []))
    if hosts > 1 or (hosts == 0 and request.version >= aiohttp.HttpVersion11):
        return "There must be exactly one Host."
    target = request.raw_path
    if not target.isascii() or "#" in target or not (target.startswith("/") or target == "*"):
        return "The target must be a path."
    if any(value in {"websocket", "tcp"} for value in _values(request, "Upgrade")):
        return "Upgrades are not supported."
    if any(b"\r" in value or b"\n" in value or not _utf8(value) for _, value in request.raw_headers):
        return "A header field has a forbidden character."
    return None


def _utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def request_headers(request: web.BaseRequest, consents: str | None = None) -> CIMultiDict[str]:
    """The fields to pass on, in their order; the client's address is appended to X-Forwarded-For."""
    headers: CIMultiDict[str] = CIMultiDict()
    for name, value in request.headers.items():
        # Gateways read "_" like "-" (RFC 3875, section 4.1.18).
        if name.lower().replace("_", "-") != CONSENTS.lower() and name.lower() not in _DROPPED:
            headers.add(name, value)
    if consents is not None:
        headers[CONSENTS] = consents
    forwarded = [*request.headers.getall("X-Forwarded-For", []), request.remote or "unknown"]
    headers["X-Forwarded-For"] = ", ".join(forwarded)
    if (asked := headers.get("X-Forwarded-Host")) is not None:
        # Before TLS to a pod stands its own name, by which it is verified.
        headers["Host"] = asked
    return headers


def response_headers(upstream: aiohttp.ClientResponse) -> CIMultiDict[str]:
    """The fields to pass back, in their order and with their duplicates. Raises UnicodeDecodeError."""
    named = {part.strip().lower() for line in upstream.headers.getall("Connection", []) for part in line.split(",")}
    headers: CIMultiDict[str] = CIMultiDict()
    for raw_name, raw_value in upstream.raw_headers:
        name = raw_name.decode("ascii")
        if name.lower() not in _HOP_BY_HOP | named:
            headers.add(name, raw_value.decode())
    headers.setdefault("Server", "domicile")
    return headers


class _Upload:
    """The request's body on its way up."""

    def __init__(self, request: web.BaseRequest, holder: Holder, term: int, limit: int) -> None:
        self._request = request
        self._holder = holder
        self._term = term
        self._limit = limit
        self.too_large = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if "100-continue" in _values(self._request, "Expect"):
            self._holder.require(self._term)
            await self._request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            # The writer's count tells whether the final answer has begun.
            self._request.writer.output_size = 0
        sent = 0
        async for chunk in self._request.content.iter_any():
            sent += len(chunk)
            if sent > self._limit:
                self.too_large = True
                raise ValueError("body too large")
            self._holder.require(self._term)
            yield chunk


def _tls(transport: asyncio.BaseTransport) -> bool:
    return transport.get_extra_info("sslcontext") is not None


def _waiting_below(transport: asyncio.BaseTransport) -> int:
    """Bytes that TLS has let go and the system has not taken: asyncio tells nobody of them, and holds 64 KiB."""
    tls = transport._ssl_protocol if _tls(transport) else None  # type: ignore[attr-defined]
    below = tls._transport if tls is not None else None
    return below.get_write_buffer_size() if below is not None else 0


class Proxy:
    """Passes requests to ``upstream`` (http://host:port) while the lease lasts."""

    def __init__(
        self,
        upstream: str,
        holder: Holder,
        keeper: Keeper,
        body_limit: int,
        files: Credentials | None = None,
        *,
        whom: str = "assistant",
    ) -> None:
        """``files``: by which an upstream at an https URL is asked; ``whom``: what messages call it."""
        self._upstream = upstream.rstrip("/")
        self._files = files
        self._whom = whom
        self._holder = holder
        self._keeper = keeper
        self._body_limit = body_limit
        # No connection is reused: on one that the assistant is just closing, a POST would be lost without a retry.
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=_AUTOMATIC,
            timeout=_TIMEOUT,
            trust_env=False,
            max_line_size=LINE_LIMIT,
            max_field_size=LINE_LIMIT,
            max_headers=HEADERS_LIMIT,
        )

    async def close(self) -> None:
        """Drop all connections to the assistant."""
        await self._session.close()

    async def ready(self) -> bool:
        """Whether the assistant's /readyz answers 200."""
        url = URL(f"{self._upstream}/readyz", encoded=True)
        try:
            timeout = aiohttp.ClientTimeout(total=2.0)
            async with self._session.get(url, allow_redirects=False, timeout=timeout) as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False

    async def forward(self, request: web.BaseRequest, consents: str | None = None) -> web.StreamResponse:
        """The upstream's answer, or the guard's own where it may not or can't be passed on.

        ``consents``: what the upstream is told that the request's person has agreed to; None: nothing is said of it.
        """
        if (fault := framing_fault(request)) is not None:
            return answer(400, "BadRequest", fault, close=True)
        expectations = [value for value in _values(request, "Expect") if value]
        if expectations not in ([], ["100-continue"]):
            return answer(417, "ExpectationFailed", "The only expectation is 100-continue.", close=True)
        if int(request.headers.get("Content-Length", "0")) > self._body_limit:
            return self._too_large()
        term = self._holder.term()
        if term is None:
            return self._closed()
        tls = self._files.context() if self._files else True
        if tls is None:
            message = f"This pod has no certificate to ask the {self._whom} by."
            return answer(503, "NoCertificate", message, close=True)
        upload = _Upload(request, self._holder, term, self._body_limit)
        exchange = _Exchange(request, self._holder, term)
        try:
            async with self._keeper.during(term), self._ask(request, upload, tls, consents) as upstream:
                return await exchange.relay(upstream)
        except LeaseEndedError:
            fallback = self._closed()
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            if upload.too_large:
                fallback = self._too_large()
            elif isinstance(error, TimeoutError) and not isinstance(error, aiohttp.ConnectionTimeoutError):
                fallback = answer(504, "UpstreamTimeout", f"The {self._whom} did not answer in time.", close=True)
            else:
                fallback = answer(502, "UpstreamFailed", f"The {self._whom} did not answer properly.", close=True)
        return exchange.abort() or fallback

    @contextlib.asynccontextmanager
    async def _ask(
        self, request: web.BaseRequest, upload: _Upload, tls: ssl.SSLContext | bool, consents: str | None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        length = request.headers.get("Content-Length", "0")
        has_body = int(length) > 0 or "Transfer-Encoding" in request.headers
        target = request.raw_path if request.raw_path != "*" else "/*"
        async with self._session.request(
            request.method,
            URL(self._upstream + target, encoded=True),
            headers=request_headers(request, consents),
            data=upload if has_body else None,
            allow_redirects=False,
            ssl=tls,
        ) as upstream:
            yield upstream

    def _closed(self) -> web.Response:
        return answer(503, self._holder.refusal.reason, self._holder.refusal.message, close=True)

    def _too_large(self) -> web.Response:
        return answer(413, "BodyTooLarge", f"A body may have {self._body_limit} bytes.", close=True)


class _Exchange:
    """The way back of one answer."""

    def __init__(self, request: web.BaseRequest, holder: Holder, term: int) -> None:
        self._request = request
        self._holder = holder
        self._term = term
        self._response: web.StreamResponse | None = None

    async def relay(self, upstream: aiohttp.ClientResponse) -> web.StreamResponse:
        """Pass the answer on piece by piece, each after a look at the clock.

        Raises LeaseEndedError, aiohttp.ClientError, and ValueError for undecodable fields.
        """
        if upstream.status < 200:
            raise aiohttp.ClientError("the assistant switched protocols")
        response = web.StreamResponse(
            status=upstream.status, reason=upstream.reason, headers=response_headers(upstream)
        )
        if (transport := self._request.transport) is not None:
            # Nothing may wait in this process between the look at the clock and the system call.
            # Zero would pause TLS for good, which asks again only when it has written.
            transport.set_write_buffer_limits(high=1 if _tls(transport) else 0)
        # From each look at the clock to the write there is no point where the event loop could switch.
        self._holder.require(self._term)
        self._response = response
        await response.prepare(self._request)
        await self._sent()
        async for chunk in upstream.content.iter_any():
            self._holder.require(self._term)
            await response.write(chunk)
            await self._sent()
        self._holder.require(self._term)
        await response.write_eof()
        await self._sent()
        return response

    async def _sent(self) -> None:
        """Return when the system has taken everything. Raises ClientConnectionResetError where the client is gone."""
        await self._request.writer.drain()
        while (transport := self._request.transport) is not None and _waiting_below(transport):  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_SECONDS)

    def abort(self) -> web.StreamResponse | None:
        """Break the connection under an answer that has begun, so that no client takes it for a whole one."""
        if self._response is None:
            return None
        if (transport := self._request.transport) is not None:
            # Without SO_LINGER abort() ends with a FIN, which in HTTP/1.0 means a whole answer (socket(7)).
            if (peer := transport.get_extra_info("socket")) is not None:
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()
        self._response.force_close()
        return self._response
