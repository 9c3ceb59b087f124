"""What a tenant may ask for in a day (UTC), counted in redis for all replicas."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from redis.asyncio import Redis

from domicile.api.gateway import Limits
from domicile.gateway.questions.refusal import RefusedError
from domicile.gateway.questions.store import asking

_DAY: Final = 86_400
# A replica's clock may be behind.
_KEPT: Final = _DAY + 3600


def _now() -> datetime:
    return datetime.now(UTC)


class Budgets:
    """Counters ``budget:<tenant>:<day>:requests`` and ``:tokens``."""

    def __init__(self, redis: Redis, tenant: str, now: Callable[[], datetime] = _now) -> None:
        self._redis = redis
        self._tenant = tenant
        self._now = now

    async def take(self, limits: Limits) -> None:
        """Count one request. Raises RefusedError: 429 where the day's budget is used up, 503 without redis."""
        if limits.requests_per_day is None and limits.tokens_per_day is None:
            return
        now = self._now()
        with asking():
            tokens = await self._redis.get(self._name(now, "tokens")) if limits.tokens_per_day is not None else None
            used_up = limits.tokens_per_day is not None and int(tokens or 0) >= limits.tokens_per_day
            if not used_up and limits.requests_per_day is not None:
                used_up = await self._count(self._name(now, "requests"), 1) > limits.requests_per_day
        if used_up:
            left = _DAY - (now.hour * 3600 + now.minute * 60 + now.second)
            raise RefusedError(429, "budget_exhausted", "The tenant's budget of this day is used up.", retry_after=left)

    async def used(self, limits: Limits, tokens: int) -> None:
        """Count tokens of an answer. Raises RefusedError (503)."""
        if limits.tokens_per_day is not None:
            with asking():
                await self._count(self._name(self._now(), "tokens"), tokens)

    async def _count(self, name: str, much: int) -> int:
        async with self._redis.pipeline(transaction=False) as commands:
            commands.incrby(name, much)
            commands.expire(name, _KEPT)
            total, _ = await commands.execute()
        return int(total)

    def _name(self, now: datetime, what: str) -> str:
        return f"budget:{self._tenant}:{now:%Y-%m-%d}:{what}"
