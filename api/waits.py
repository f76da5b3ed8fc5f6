"""Requests that wait for a booking to be final, where each has a task: all ways but the lane's."""

from __future__ import annotations

from typing import NamedTuple

from api.bodies import ClientGone, Receive, unless_gone
from boxoffice.bookings.waiting import Waiting
from boxoffice.errors import PaymentInProgress

__all__ = ["Waits"]


class Waits(NamedTuple):
    """Of one request, whose body has been read or that has none."""

    waiting: Waiting
    receive: Receive

    async def until_final(self, booking: str, seconds: float, *, until_bank: bool = False) -> bool:
        """As `Waiting.until_final`. False, too, once the client sends no more: it may have gone, or reads the answer of who did
        not wait. What it asked for has been done by then."""
        try:
            return await self._unless_gone(booking, seconds, until_bank=until_bank)
        except ClientGone:
            return False

    async def until_news(self, booking: str, seconds: float) -> bool:
        """The same for who has not done yet what is asked for. Raises `PaymentInProgress` when the client sends no more."""
        try:
            return await self._unless_gone(booking, seconds)
        except ClientGone:
            raise PaymentInProgress("Its payment is being let go.", retry_after_s=2) from None

    async def _unless_gone(self, booking: str, seconds: float, *, until_bank: bool = False) -> bool:
        if seconds <= 0:
            return False
        return await unless_gone(
            self.receive, self.waiting.until_final(booking, seconds, until_bank=until_bank)
        )  # fmt: skip
