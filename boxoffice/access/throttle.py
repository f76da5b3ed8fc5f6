"""How often an API key may ask for anything else than a booking.

What changes something is counted in Redis, for all processes together: one small call beside those that it makes anyway. What
only reads is counted in this process alone: reading an event asks no store at all, and a call to count it would cost more than
the answer.
"""

from __future__ import annotations

from typing import Final

from redis.exceptions import RedisError

from boxoffice.access.api_keys import KEYS_SHARD
from boxoffice.access.rates import Allowance, rate_limited
from boxoffice.clock import CLOCK, Clock
from boxoffice.stores import keys
from boxoffice.stores.shard import Shards

__all__ = ["Throttle"]

KEYS_MAX: Final = 10_000
"""API keys whose reads are counted. Beyond it all are forgotten at once."""


class Throttle:
    """Of one process."""

    def __init__(self, shards: Shards, clock: Clock = CLOCK) -> None:
        self._here = shards[KEYS_SHARD]
        self._now_s = clock.now_s
        self._reads: dict[str, list[int]] = {}
        """By the key's prefix: a window, and requests in it."""

    def read(self, allowance: Allowance) -> None:
        """Count a request that reads. Raises `RateLimited`."""
        most = allowance.reads_max
        if most is None:
            return
        now, window_s = self._now_s(), allowance.window_s
        window = int(now // window_s)
        counted = self._reads.get(allowance.api_key)
        if counted is None or counted[0] != window:
            if len(self._reads) >= KEYS_MAX:
                self._reads.clear()
            counted = self._reads[allowance.api_key] = [window, 0]
        if counted[1] >= most:
            left_ms = int(1_000 * ((window + 1) * window_s - now))
            raise rate_limited("key", most, window_s, left_ms, allowance.api_key, "reads")
        counted[1] += 1

    async def change(self, allowance: Allowance) -> None:
        """Count a request that changes something. Raises `RateLimited`. While Redis does not answer nothing is counted: what
        it does not say, nothing can be changed by."""
        most = allowance.changes_max
        if most is None:
            return
        try:
            left_ms = await self._here.run(
                "throttle",
                rates=keys.rates(KEYS_SHARD),
                api_key=allowance.api_key,
                most=most,
                window_ms=1_000 * allowance.window_s,
            )
        except (RedisError, OSError):
            return
        if left_ms:
            raise rate_limited("key", most, allowance.window_s, left_ms, allowance.api_key, "changes")
