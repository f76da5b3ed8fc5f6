"""Who asks for the first time in a window of the limits, as far as this process knows: such a booking is not counted in Redis.

Nearly all customers of a rush come once, and a field for each in the script's hash costs an eighth of the instructions that
Redis works for a booking. So a limit on customers lets one more through for each further process that a customer is seen by;
within one process it is exact.
"""

from __future__ import annotations

import math
from typing import Final

__all__ = ["NEWCOMERS_MAX", "Newcomers"]

NEWCOMERS_MAX: Final = 200_000
"""Customers that are remembered, about 120 bytes each. Beyond it everybody is counted until the window ends."""


class Newcomers:
    """Of one shard. Customers are named by their digests; seconds are of this process's clock, ms of Redis's."""

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self._window: tuple[int, int] | None = None
        self._ends_s = math.inf

    def is_new(self, customer: str, now_s: float) -> bool:
        """Whether this is its first booking in this window. The next is not."""
        if now_s >= self._ends_s:
            self._seen, self._ends_s = set(), math.inf
        seen = self._seen
        if customer in seen or len(seen) >= NEWCOMERS_MAX:
            return False
        seen.add(customer)
        return True

    def forget(self, customer: str) -> None:
        """That booking does not count: it was a repeat, or nobody could say."""
        self._seen.discard(customer)

    def at(self, now_s: float, now_ms: int, window_s: int) -> None:
        """By Redis's clock it is, or was a moment after `now_s`, so late in a window. In the next all are new."""
        number, over_ms = divmod(now_ms, 1_000 * window_s)
        self._ends_s = now_s + window_s - over_ms / 1_000
        if self._window not in (None, (window_s, number)):
            self._seen = set()
        self._window = window_s, number
