"""Cancelling a booking, whatever has become of it: a hold at once, a payment under way as soon as it is let go, a
confirmed booking after its event's terms."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

from boxoffice import ids
from boxoffice.bookings.holds import Holds
from boxoffice.bookings.reading import Bookings
from boxoffice.clock import CLOCK, Clock
from boxoffice.errors import (
    GateClosed,
    NotCancellable,
    NotFound,
    NothingOwed,
    PaymentInProgress,
    StoreAway,
    Unavailable,
)
from boxoffice.money.refunds import Refunds
from boxoffice.states import WORDS
from boxoffice.stores.record import Record
from boxoffice.wire.render import BookingView

__all__ = ["Cancellations"]

PATIENCE_S: Final = 5.0
"""How long a caller waits for a payment under way to be let go. A gateway takes a second, a slow card a few."""

Pause: TypeAlias = Callable[[str, float], Awaitable[bool]]
"""Waits until there is news of a booking, so many seconds at most. False: it did not wait."""

ASK_AGAIN_S: Final = 0.5
"""A request that met a leased booking is repeated: its worker may have given it back for later."""


class Cancellations:
    """Cancels bookings for shops."""

    def __init__(self, holds: Holds, refunds: Refunds, bookings: Bookings, clock: Clock = CLOCK) -> None:
        self._holds = holds
        self._refunds = refunds
        self._bookings = bookings
        self._clock = clock

    async def cancel(
        self, client: str, booking_id: str, patience_s: float = PATIENCE_S, pause: Pause | None = None
    ) -> BookingView:  # fmt: skip
        """Cancel the client's booking, now or earlier, and say how it is. A payment under way is waited for so long, and looked
        at again after each `pause`, which ends when there is news of the booking.

        Raises `NotFound`, `NotCancellable`, `PaymentInProgress` when its payment cannot be let go so soon (it will be),
        `GateClosed`, `StoreAway`.
        """
        booking = ids.canonical_booking_id(booking_id)
        if booking is None:
            raise NotFound("There is no such booking.")
        give_up = self._clock.now_s() + patience_s
        while True:
            try:
                record = await self._holds.find(client, booking)
            except (StoreAway, GateClosed) as error:
                return await self._without_redis(client, booking, error)
            if record is None or record.state == "C":
                return await self._confirmed(client, booking)
            outcome, record = await self._holds.cancel(record)
            if outcome == "cancelled":
                return await self._bookings.show(record)
            if outcome == "ended" and record.state != "C":
                return await self._ended(record)
            if outcome == "requested" and not await self._leaves_pending(client, booking, give_up, pause):
                raise PaymentInProgress("Its payment is being let go.", retry_after_s=2)

    async def _confirmed(self, client: str, booking: str) -> BookingView:
        await self._refunds.cancel(client, booking)
        return await self._bookings.decided(client, booking)

    async def _without_redis(self, client: str, booking: str, why: Unavailable) -> BookingView:
        """PostgreSQL can cancel what it has confirmed; anything else is Redis's to say, which cannot: `why` is raised."""
        try:
            return await self._confirmed(client, booking)
        except NotFound:
            raise why from None
        except NotCancellable as error:
            if error.details.get("booking_status") in ("pending", "held"):
                raise why from None
            raise

    async def _ended(self, record: Record) -> BookingView:
        if record.state != "X":
            raise NotCancellable(f"The booking is {WORDS[record.state]}.", booking_status=WORDS[record.state])
        # Money that is owed for it is tried again. Of most there is none, and of a hold PostgreSQL may know nothing.
        with contextlib.suppress(NothingOwed, NotFound, StoreAway):
            await self._refunds.retry(record.body.client, record.id)
        return (await self._bookings.get(record.body.client, record.id)).view

    async def _leaves_pending(self, client: str, booking: str, give_up: float, pause: Pause | None) -> bool:
        """Wait until the booking is pending no more, or until it is time to ask once more. False: time is up."""
        ask_again = self._clock.now_s() + ASK_AGAIN_S
        pause_s = 0.01
        while self._clock.now_s() < min(give_up, ask_again):
            if pause is None or not await pause(booking, min(give_up, ask_again) - self._clock.now_s()):
                await self._clock.sleep(pause_s)
            pause_s = min(1.5 * pause_s, 0.1)
            record = await self._holds.find(client, booking)
            if record is None or record.state != "P":
                return True
        return self._clock.now_s() < give_up
