"""The guard's lease: how long this pod may acknowledge, and the loop that keeps asking the lease agent.

Time is CLOCK_BOOTTIME throughout: it counts on while the process or the machine is stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import random
import re
import time
from collections.abc import AsyncIterator, Callable
from typing import NamedTuple

import aiohttp

from domicile.credentials import Credentials

log = logging.getLogger(__name__)

LONGEST = 300.0
"""Seconds; no grant counts for longer, whatever an agent says: a zone may choose no longer lease."""

_ANSWER_LIMIT = 4096
_ASK_TIMEOUT = aiohttp.ClientTimeout(total=2.0)
_REASON = re.compile(r"[A-Z][A-Za-z]{0,63}", re.ASCII)


def boot_seconds() -> float:
    """CLOCK_BOOTTIME in seconds (clock_gettime(2))."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Grant(NamedTuple):
    """The agent's yes: the claim that rules, and the seconds from the asking on."""

    epoch: int
    seconds: float


class Refusal(NamedTuple):
    """A no: a word for machines and a sentence for people."""

    reason: str
    message: str


class LeaseEndedError(Exception):
    """The term a request was admitted in is over; nothing more of its answer may leave."""


class Holder:
    """The lease as arithmetic; ``clock`` gives seconds that never go back.

    A *term* is one unbroken possession of one epoch. A request is admitted in a term and acknowledged in the same
    one or not at all: between two terms another site may have written.
    """

    def __init__(self, clock: Callable[[], float] = boot_seconds) -> None:
        self._clock = clock
        self._until = -math.inf
        self._term = 0
        self.epoch = 0
        self.refusal = Refusal("NoLease", "The guard has not had a lease yet; ask again in a moment.")

    def now(self) -> float:
        """The clock's seconds."""
        return self._clock()

    def take(self, grant: Grant, asked_at: float) -> None:
        """Note a grant; it counts from ``asked_at``, the clock's value before the question was sent.

        An answer of an epoch below one already seen comes from an agent that lags behind and changes nothing.
        """
        now = self._clock()
        until = asked_at + min(grant.seconds, LONGEST)
        if grant.epoch < self.epoch or asked_at > now or not until > now:
            return
        if self._until <= now or grant.epoch != self.epoch:
            self._term += 1
        self.epoch = grant.epoch
        self._until = until
        self.refusal = Refusal("LeaseExpired", "The lease ran out and no lease agent renewed it.")

    def refuse(self, refusal: Refusal) -> None:
        """End the lease now: closing early is always safe."""
        self._until = -math.inf
        self.refusal = refusal

    def remaining(self) -> float:
        """Seconds left; 0.0 without a lease."""
        return max(0.0, self._until - self._clock())

    def term(self) -> int | None:
        """The running term, None without a lease."""
        return self._term if self.remaining() > 0 else None

    def require(self, term: int) -> None:
        """Raises LeaseEndedError unless ``term`` is still running."""
        if self.term() != term:
            raise LeaseEndedError


def parse(tenant: str, status: int, body: bytes) -> Grant | Refusal | None:
    """The agent's answer; None for one that says nothing: unknown status, other tenant, malformed or not positive."""
    try:
        answer = json.loads(body)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        answer = {}
    if status == 503:
        reason, message = answer.get("reason"), answer.get("message")
        if isinstance(reason, str) and _REASON.fullmatch(reason):
            return Refusal(reason, message[:512] if isinstance(message, str) else "")
        return Refusal("Refused", "The lease agent refuses without a reason that the guard understands.")
    epoch, seconds = answer.get("epoch"), answer.get("remainingSeconds")
    if status != 200 or answer.get("tenant") != tenant or type(epoch) is not int or epoch < 1:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return None
    try:
        seconds = float(seconds)
    except OverflowError:
        return None
    return Grant(epoch, seconds) if math.isfinite(seconds) and seconds > 0 else None


class Keeper:
    """Asks the agent again and again, and ends what was admitted in a term together with the term."""

    def __init__(self, holder: Holder, lease_url: str, tenant: str, credentials: Credentials | None = None) -> None:
        """``credentials``: by which an agent at an https URL is asked."""
        self._holder = holder
        self._credentials = credentials
        self._url = f"{lease_url.rstrip('/')}/v1/lease/{tenant}"
        self._tenant = tenant
        self._open: dict[asyncio.Timeout, int] = {}
        self._holding = False

    async def run(self) -> None:
        """Ask until cancelled: at a third of what is left, about every second without a lease."""
        # A new connection each time: a kept one would stay with one agent, dead or alive.
        connector = aiohttp.TCPConnector(force_close=True, limit=2)
        async with aiohttp.ClientSession(connector=connector, timeout=_ASK_TIMEOUT, trust_env=False) as session:
            while True:
                await self._ask(session)
                await asyncio.sleep(self._pause())

    async def _ask(self, session: aiohttp.ClientSession) -> None:
        asked_at = self._holder.now()
        answer = await self._answer(session)
        if isinstance(answer, Grant):
            self._holder.take(answer, asked_at)
        elif isinstance(answer, Refusal):
            self._holder.refuse(answer)
        self._tell()
        self._reschedule()

    async def _answer(self, session: aiohttp.ClientSession) -> Grant | Refusal | None:
        tls = self._credentials.context() if self._credentials else None
        if self._credentials and tls is None:
            return Refusal("NoCertificate", "This pod has no certificate to ask the lease agent by.")
        try:
            async with session.get(self._url, allow_redirects=False, ssl=tls or True) as response:
                return parse(self._tenant, response.status, await _bounded(response.content))
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            return None

    def _pause(self) -> float:
        remaining = self._holder.remaining()
        base = max(0.1, remaining / 3) if remaining else 1.0
        return base * random.uniform(0.7, 1.0)  # noqa: S311 - jitter

    def _tell(self) -> None:
        holding = self._holder.term() is not None
        if holding and not self._holding:
            log.info("holding a lease of epoch %d", self._holder.epoch)
        elif self._holding and not holding:
            log.warning("without a lease: %s", self._holder.refusal.reason)
        self._holding = holding

    def _reschedule(self) -> None:
        end = asyncio.get_running_loop().time() + self._holder.remaining()
        term = self._holder.term()
        for deadline, admitted in self._open.items():
            if not deadline.expired():
                deadline.reschedule(end if admitted == term else 0.0)

    @contextlib.asynccontextmanager
    async def during(self, term: int) -> AsyncIterator[None]:
        """Runs its body for as long as ``term`` does; raises LeaseEndedError where the term ended first."""
        deadline = asyncio.timeout(self._holder.remaining())
        try:
            async with deadline:
                self._open[deadline] = term
                self._holder.require(term)
                yield
        except Exception:
            # Whatever broke because the lease ended (a cancelled upload, say) is told as that.
            if deadline.expired() or self._holder.term() != term:
                raise LeaseEndedError from None
            raise
        finally:
            self._open.pop(deadline, None)


async def _bounded(stream: aiohttp.StreamReader) -> bytes:
    """The whole body; raises ValueError where it is larger than any honest answer."""
    try:
        await stream.readexactly(_ANSWER_LIMIT)
    except asyncio.IncompleteReadError as end:
        return end.partial
    raise ValueError("the lease agent's answer is too large")
