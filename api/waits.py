"""Requests that wait for a booking to be final, where each has a task: all ways but the lane's."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from api.bodies import ClientGone, Receive
from boxoffice.bookings.waiting import Waiting

__all__ = ["Waits"]


class Waits(NamedTuple):
    """Of one request, whose body has been read or that has none."""

    waiting: Waiting
    receive: Receive

    async def until_final(self, booking: str, seconds: float, *, until_bank: bool = False) -> bool:
        """As `Waiting.until_final`. Raises `ClientGone` when nobody waits for the answer any more."""
        if seconds <= 0:
            return False
        over = asyncio.ensure_future(self.waiting.until_final(booking, seconds, until_bank=until_bank))
        gone = asyncio.ensure_future(self._gone())
        try:
            await asyncio.wait((over, gone), return_when=asyncio.FIRST_COMPLETED)
            if over.done():
                return over.result()
            raise ClientGone
        finally:
            over.cancel()
            gone.cancel()

    async def _gone(self) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass
