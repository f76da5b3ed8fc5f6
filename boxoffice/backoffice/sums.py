"""What the processes have counted, added up in Redis, so that one of them can show it for all.

Each process counts for itself, as for Prometheus, and once a second adds what is new to one hash. They are figures to look at,
not books: what a process counted in its last second may be lost with it, and a Redis that was emptied begins at 0.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

from redis.exceptions import RedisError

from boxoffice.clock import Clock
from boxoffice.stores import keys
from boxoffice.stores.shard import Shards
from boxoffice.telemetry import series
from boxoffice.telemetry.metrics import Histogram

__all__ = ["COMMIT_BOUNDS", "EVERY_S", "SPREADS", "SUMS_SHARD", "Sums", "counted", "spread_of", "summing"]

SUMS_SHARD: Final = 0

EVERY_S: Final = 1.0
"""How often a process adds what is new."""

PATIENCE_S: Final = 2.0
"""Longest wait for Redis when the process ends."""

COMMIT_BOUNDS: Final = series.ACCEPT_TO_COMMIT.bounds
"""Seconds: upper bounds of the buckets of `accept_to_commit`; one more bucket has what is longer."""

SPREADS: Final[Mapping[str, Histogram]] = {
    "accept_to_commit": series.ACCEPT_TO_COMMIT,
    "admission": series.ADMISSION_SECONDS,
}

STRANGERS: Final = ("401", "404", "405")
"""Statuses of whoever is none of our shops: no measure of how well we answer."""


def counted() -> dict[str, int]:
    """What this process has counted since it began, by the names of the sums."""
    totals: Counter[str] = Counter()
    for (outcome,), cell in series.ADMISSIONS.cells.items():
        totals[f"admissions:{outcome}"] += int(cell.value)
    for (outcome, _), cell in series.SETTLED.cells.items():
        totals[f"settled:{outcome}"] += int(cell.value)
    for (_, route, status), cell in series.REQUESTS.cells.items():
        totals["http"] += 0 if status in STRANGERS else int(cell.value)
        if status.startswith("5") and route != "/readyz":
            totals["http:5xx"] += int(cell.value)
        if status == "500":
            totals["http:500"] += int(cell.value)
    for (_, outcome), cell in series.GATEWAY_ANSWERS.cells.items():
        totals["gateway"] += int(cell.value)
        if outcome in ("unknown", "error"):
            totals["gateway:unsure"] += int(cell.value)
    for (reason,), cell in series.REFUSED_CONNECTIONS.cells.items():
        totals[f"refused:{reason}"] += int(cell.value)
    for name, metric in (("connections", series.CONNECTIONS), ("lapses", series.LAPSES)):
        totals[name] += sum(int(cell.value) for cell in metric.cells.values())
    for name, histogram in SPREADS.items():
        for spread in histogram.spreads.values():
            for at, count in enumerate(spread.counts):
                totals[f"{name}:{at}"] += count
    return dict(+totals)


def spread_of(sums: Mapping[str, int], name: str) -> list[int]:
    """How often each bucket of `accept_to_commit` or `admission` was met."""
    return [sums.get(f"{name}:{at}", 0) for at in range(len(SPREADS[name].bounds) + 1)]


class Sums:
    """Of one process: what it has added of its own, and what all have."""

    def __init__(self, shards: Shards) -> None:
        self._redis = shards[SUMS_SHARD].redis
        self._added = counted()

    async def add(self) -> None:
        """Add what is new. What Redis gives no answer to may have been added, and is not added again. Raises Redis's errors."""
        now = counted()
        new = {name: count - self._added.get(name, 0) for name, count in now.items()}
        self._added = now
        async with self._redis.pipeline(transaction=False) as pipe:
            for name, count in new.items():
                if count > 0:
                    pipe.hincrby(keys.sums(SUMS_SHARD), name, count)
            if len(pipe):
                await pipe.execute()

    async def read(self) -> dict[str, int]:
        """Of all processes, this one's last second among it if Redis takes it. Raises Redis's errors."""
        # One that takes no writes at the moment has its sums all the same.
        with contextlib.suppress(RedisError, OSError):
            await self.add()
        found: dict[bytes, bytes] = await self._redis.hgetall(keys.sums(SUMS_SHARD))  # type: ignore[misc]
        return {name.decode(): int(count) for name, count in found.items()}


@asynccontextmanager
async def summing(sums: Sums, clock: Clock) -> AsyncIterator[None]:
    """Add what is new, again and again, and at the end what is left."""

    async def again() -> None:
        while True:
            await clock.sleep(EVERY_S)
            with contextlib.suppress(RedisError, OSError):
                await sums.add()

    task = asyncio.create_task(again())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        with contextlib.suppress(RedisError, OSError, TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                await sums.add()
