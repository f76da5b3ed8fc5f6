"""Time and chance as a process has them, handed to whatever behaves by them; and times as text.

A test hands in its own: then nothing has to be waited for.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

__all__ = ["CLOCK", "Clock", "iso", "micros", "timestamp"]


@dataclass(frozen=True, slots=True)
class Clock:
    """Of one process. What several processes share is decided by the clocks of Redis and PostgreSQL."""

    now_s: Callable[[], float] = time.monotonic
    """Seconds since some moment, never less than before: for what lasts, and when it is over."""
    epoch_ns: Callable[[], int] = time.time_ns
    """Nanoseconds since 1970: for what is read elsewhere, too."""
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    """Waits so many seconds."""
    chance: Callable[[], float] = random.random
    """A number from 0 to below 1, by which pauses differ, so that processes do not wake up all at once."""

    def epoch_ms(self) -> int:
        """Milliseconds since 1970."""
        return self.epoch_ns() // 1_000_000

    def now(self) -> datetime:
        """The time in UTC."""
        return datetime.fromtimestamp(self.epoch_ns() / 1_000_000_000, UTC)


CLOCK: Final = Clock()
"""The process's own."""


def timestamp(ms: int) -> str:
    """Epoch milliseconds as RFC 3339 in UTC."""
    return f"{_second(ms // 1_000)}.{ms % 1_000:03d}Z"


def iso(moment: datetime) -> str:
    """A time as the API writes it: UTC, `Z`, whole seconds unless there is more."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def micros(moment: datetime) -> str:
    """A time as the API writes it where no microsecond may be lost: always six digits of a second."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


@lru_cache(1_024)
def _second(epoch_s: int) -> str:
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%dT%H:%M:%S")
