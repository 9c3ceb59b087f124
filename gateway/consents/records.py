"""What people said, in the tenant's live bucket: ``domicile/consents/<person>/<n>.json``, each written once.

The highest number rules, and each record is whole in itself. What somebody is known to have said is believed for five
seconds: a withdrawal at one replica counts at all of them after that.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, TypeVar

from domicile.api.consent import RECORDS
from domicile.api.zone import Site
from domicile.backup.stores import Deadlines, open_bucket
from domicile.backup.stores.base import (
    AlreadyExistsError,
    Bucket,
    NotFoundError,
    StoreError,
    UnavailableError,
    create_once,
)
from domicile.gateway.consents.refusal import RefusedError
from domicile.gateway.consents.state import State, decode, encode

log = logging.getLogger(__name__)

BELIEVED_SECONDS = 5.0
_JOINED_SECONDS = 1.0
_KNOWN = 10_000
_THREADS = 8
_TRIES = 8
_ANSWER_SECONDS = 10.0
_DEADLINES = Deadlines(connect=2.0, read=5.0, retries=1)
_NAME = re.compile(r"([0-9]{6,})\.json", re.ASCII)

_T = TypeVar("_T")
Change = Callable[[State], State]
"""What somebody says now, on top of what they said; raises RefusedError."""


def opened(site: Site, bucket: str, credentials: Path) -> Callable[[], Bucket]:
    """Opens the live bucket with what the folder ``credentials`` holds at that moment."""
    return lambda: open_bucket(site, bucket, credentials, _DEADLINES)


class _Known(NamedTuple):
    state: State
    at: float
    """From when on it is believed."""
    newest: float
    """What was asked before this may be older."""


class _Reading(NamedTuple):
    task: asyncio.Task[_Known]
    begun: float


class Records:
    """What everybody said; of the newest askers it is known for a while."""

    def __init__(self, bucket: Callable[[], Bucket], clock: Callable[[], float] = time.monotonic) -> None:
        """``bucket`` may raise StoreError; ``clock`` gives seconds that never go back."""
        self._bucket = bucket
        self._clock = clock
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._reading: dict[str, _Reading] = {}
        self._pool = ThreadPoolExecutor(_THREADS, "consents")
        self._answers = True

    def close(self) -> None:
        """Wait for no store any more."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def known(self, person: str) -> State | None:
        """What somebody said, if it was read within the last seconds."""
        found = self._known.get(person)
        return found.state if found and self._clock() - found.at < BELIEVED_SECONDS else None

    async def read(self, person: str) -> State:
        """What somebody said, as the store has it. Raises RefusedError where it does not answer."""
        now = self._clock()
        reading = self._reading.get(person)
        # One that has been under way for long may tell what has been withdrawn meanwhile.
        if reading is None or now - reading.begun > _JOINED_SECONDS:
            reading = self._reading[person] = _Reading(asyncio.create_task(self._read(person, now)), now)
            reading.task.add_done_callback(lambda _: self._ended(person, reading))
        return (await asyncio.shield(reading.task)).state

    def _ended(self, person: str, reading: _Reading) -> None:
        if self._reading.get(person) is reading:
            del self._reading[person]

    async def _read(self, person: str, asked: float) -> _Known:
        found = _Known(await self._run(lambda: self._load(person)[1]), asked, asked)
        self._keep(person, found)
        return found

    async def write(self, person: str, change: Change, may_write: Callable[[], None]) -> State:
        """Record what somebody says now, unless it changes nothing; durable once this returns.

        ``may_write`` is called just before each write and raises to stop it. Raises RefusedError, and what the two
        raise.
        """
        begun = self._clock()
        state = await self._run(lambda: self._write(person, change, may_write))
        self._keep(person, _Known(state, begun, self._clock()))
        return state

    def _keep(self, person: str, found: _Known) -> None:
        before = self._known.get(person)
        # A slow answer must not bring back what has been changed meanwhile.
        if before is None or before.newest <= found.newest:
            self._known[person] = found
            self._known.move_to_end(person)
        while len(self._known) > _KNOWN:
            self._known.popitem(last=False)

    async def _run(self, call: Callable[[], _T]) -> _T:
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                answer = await asyncio.get_running_loop().run_in_executor(self._pool, call)
        except (StoreError, TimeoutError) as error:
            self._tell(str(error) or "no answer in time")
            message = "What you agreed to can't be looked up now. Try again in a minute."
            raise RefusedError(503, "ConsentsUnavailable", message) from None
        self._tell(None)
        return answer

    def _tell(self, fault: str | None) -> None:
        if fault and self._answers:
            log.warning("records of consents: %s; whoever was not just read gets 503", fault)
        elif not fault and not self._answers:
            log.info("records of consents: the store answers again")
        self._answers = not fault

    def _load(self, person: str) -> tuple[int, State]:
        bucket, folder = self._bucket(), f"{RECORDS}{person}/"
        # What the listing names may be erased before it is read.
        for _ in range(_TRIES):
            names = (_NAME.fullmatch(info.name.removeprefix(folder)) for info in bucket.list(folder))
            number = max((int(name[1]) for name in names if name), default=0)
            if not number:
                return 0, State()
            try:
                return number, decode(bucket.read(_record(person, number)))
            except NotFoundError:
                continue
        raise UnavailableError("records come and go faster than they can be read")

    def _write(self, person: str, change: Change, may_write: Callable[[], None]) -> State:
        skipped = 0
        for _ in range(_TRIES):
            number, before = self._load(person)
            after = change(before)
            if after == before:
                return before
            data = encode(after, now(), secrets.token_hex(16))
            may_write()
            try:
                if create_once(self._bucket(), _record(person, number + 1 + skipped), data):
                    return after
            except AlreadyExistsError:
                # Some versioned stores take no new object where an erased one was.
                skipped = 2 * skipped + 1
        raise UnavailableError("others write the same person's records all the time")


def _record(person: str, number: int) -> str:
    return f"{RECORDS}{person}/{number:06d}.json"


def now() -> str:
    """The present moment (RFC 3339, UTC, seconds)."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
