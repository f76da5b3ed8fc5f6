"""What each shop has of an event, counted anew in Redis before the event's first allocation.

A count reads the whole shard, and holds the event's inventory for some milliseconds: so a process makes one of a shard at a
time, and requests for the same event share it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from redis.exceptions import RedisError

from boxoffice.clock import Clock
from boxoffice.errors import CannotRun, StoreAway

__all__ = ["FRESH_S", "ShopCounts"]

FRESH_S: Final = 10.0
"""So long an event that was counted is not counted again: its first allocation is made meanwhile, or refused."""


class ShopCounts:
    """Of all shards, in one process."""

    def __init__(self, count_shops: Sequence[Callable[[str], Awaitable[object]]], clock: Clock) -> None:
        """`count_shops`: by shard, what counts anew in Redis what each shop has of an event."""
        self._count_shops = count_shops
        self._clock = clock
        self._turns = [asyncio.Lock() for _ in count_shops]
        self._counted: dict[str, float] = {}
        """By event, the second in which its count ended."""

    async def make(self, shard: int, event_id: str) -> None:
        """Count the event's shops, unless that was done in the last `FRESH_S`. Raises `StoreAway`, `NotFound`, `GateClosed`."""
        async with self._turns[shard]:
            now_s = self._clock.now_s()
            self._counted = {event: at_s for event, at_s in self._counted.items() if now_s - at_s < FRESH_S}
            if event_id in self._counted:
                return
            try:
                await self._count_shops[shard](event_id)
            except (RedisError, CannotRun) as error:
                raise StoreAway from error
            self._counted[event_id] = self._clock.now_s()
