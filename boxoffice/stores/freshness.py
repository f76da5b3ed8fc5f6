"""How often a process compares what it remembers with Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

__all__ = ["CHECK_S", "STALE_S", "Freshness"]

CHECK_S = 1.0
"""What was compared longer ago is compared again by whoever asks next."""

STALE_S = 2.0
"""What was compared longer ago answers no synchronous look-up."""

BURST = 5
"""Comparisons that misses may cause at once, after a quiet time; then it is one a second. Without the limit, anybody
could flood Redis with ids that do not exist."""


class Freshness:
    """Runs a comparison when it is due, one at a time, and shares it among all who wait for it."""

    def __init__(self, compare: Callable[[], Awaitable[None]], clock: Callable[[], float]) -> None:
        self._compare = compare
        self.clock = clock
        self._task: asyncio.Task[None] | None = None
        self._tokens = float(BURST)
        self._filled = self.compared = clock() - 2 * STALE_S

    @property
    def age(self) -> float:
        """Seconds since the last comparison began."""
        return self.clock() - self.compared

    def ask(self) -> None:
        """Compare in the background, unless that was done too often."""
        if (self._task is None or self._task.done()) and self._spend():
            self._task = asyncio.ensure_future(self._compare())
            self._task.add_done_callback(_retrieve)

    async def refresh(self) -> None:
        """Compare now, unless that was done too often. Raises what the latest comparison raised."""
        self.ask()
        if self._task is not None:
            await asyncio.shield(self._task)

    def _spend(self) -> bool:
        now = self.clock()
        self._tokens = min(float(BURST), self._tokens + (now - self._filled) / CHECK_S)
        self._filled = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        self.compared = now
        return True


def _retrieve(task: asyncio.Task[None]) -> None:
    """Perhaps nobody waits: an error is for whoever does, and for the next comparison."""
    if not task.cancelled():
        task.exception()
