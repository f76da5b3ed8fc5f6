"""The end of a worker: whether it has begun, and pauses that end with it."""

from __future__ import annotations

import asyncio

__all__ = ["Stop"]


class Stop:
    """Of one worker."""

    def __init__(self) -> None:
        self._begun = asyncio.Event()

    @property
    def begun(self) -> bool:
        """Whether the worker is to end."""
        return self._begun.is_set()

    def begin(self) -> None:
        """End, from now on."""
        self._begun.set()

    async def wait(self) -> None:
        """Until it has begun."""
        await self._begun.wait()

    async def pause(self, seconds: float) -> None:
        """Wait so long, or until it has begun."""
        try:
            async with asyncio.timeout(seconds):
                await self._begun.wait()
        except TimeoutError:
            pass
