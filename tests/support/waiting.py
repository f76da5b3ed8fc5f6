"""The two ways in which a test lets time pass: it polls for what it waits for, with a deadline, or it paces what it sends.

Nobody sleeps and hopes: `tests/test_waiting.py` finds every other call of `sleep`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

__all__ = ["LONGEST_S", "eventually", "pace", "true_soon", "until"]

LONGEST_S = 20.0
"""A deadline stands for "at all", on a machine that has other things to do."""

STALLS_MAX = 12
"""Times that `eventually` waits anew because there was progress."""


async def eventually(
    check: Callable[[], Awaitable[Any]],
    *,
    timeout_s: float = LONGEST_S,
    progress: Callable[[], Awaitable[Any]] | None = None,
) -> Any:
    """Poll until the check gives something true, or fail with `TimeoutError`.

    With `progress`, the deadline is one of progress: time starts anew, up to `STALLS_MAX` times, when that gives another
    value than before. So a busy machine fails no test whose processes get on.
    """
    before = await progress() if progress else None
    for _ in range(STALLS_MAX + 1):
        try:
            async with asyncio.timeout(timeout_s):
                while not (found := await check()):
                    await asyncio.sleep(0.01)
                return found
        except TimeoutError:
            if progress is None or (now := await progress()) == before:
                raise
            before = now
    raise TimeoutError("There was progress, and no end.")


async def true_soon(check: Callable[[], object], *, timeout_s: float = LONGEST_S) -> None:
    """As `eventually`, of what this process knows without asking anybody: looked at every millisecond."""
    async with asyncio.timeout(timeout_s):
        while not check():
            await asyncio.sleep(0.001)


def until(check: Callable[[], object], *, timeout_s: float = LONGEST_S, every_s: float = 0.02) -> None:
    """As `eventually`, where there is no loop."""
    end = time.monotonic() + timeout_s
    while not check():
        if time.monotonic() > end:
            raise TimeoutError(f"It did not come true within {timeout_s} s.")
        time.sleep(every_s)


async def pace(seconds: float) -> None:
    """The distance between two things that a test sends or does under load, or how long it plays a trouble. Whatever is
    checked afterwards is waited for by polling: that it took so long is no promise of this."""
    await asyncio.sleep(seconds)
