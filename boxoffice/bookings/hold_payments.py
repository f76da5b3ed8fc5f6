"""Paying a hold, once for each key: what an attempt brought is told again for as long as anybody remembers it."""

from __future__ import annotations

from boxoffice import ids
from boxoffice.bookings.holds import Holds, Paid, fingerprint_of
from boxoffice.bookings.reading import Bookings
from boxoffice.errors import HoldEnded, KeyReused, NotFound, StoreAway
from boxoffice.states import FINAL
from boxoffice.stores.record import Charge
from boxoffice.wire.render import BookingView, PaymentView

__all__ = ["HoldPayments"]


class HoldPayments:
    """Pays holds for shops. Redis knows the attempts of a hold that is not decided, PostgreSQL those of any."""

    def __init__(self, holds: Holds, bookings: Bookings) -> None:
        self._holds = holds
        self._bookings = bookings

    async def pay(
        self, client: str, booking: str, charge: Charge | None, key_digest: str, expected: int | None = None
    ) -> tuple[BookingView, bool]:
        """Put a payment of a hold on its way; None for one that costs nothing. `expected` is the amount that the shop thinks
        it pays; it is no part of the attempt: a repeat with another is told how the attempt went. Returns the booking, and
        whether this attempt was made before: then `payment` tells how that attempt went, or goes.

        Raises as `Holds.pay`.
        """
        try:
            paid = await self._holds.pay(client, booking, charge, key_digest, expected)
        except NotFound:
            return await self._remembered(client, booking, charge, key_digest), True
        except HoldEnded:
            record = await self._holds.find(client, booking)
            if record is not None and record.attempts <= 1:
                # Its one attempt, if any, was not this.
                raise
            return await self._remembered(client, booking, charge, key_digest), True
        return await self._shown(client, paid), paid.replayed

    async def _shown(self, client: str, paid: Paid) -> BookingView:
        if paid.record.state in FINAL and paid.replayed:
            # What was refunded, or is a repeat of another booking, is PostgreSQL's to tell.
            view = (await self._bookings.get(client, paid.record.id)).view
        else:
            view = await self._bookings.show(paid.record)
        if paid.earlier is not None:
            earlier = paid.earlier
            view.payment = PaymentView(
                earlier.status, earlier.method, earlier.last4, earlier.reference, earlier.failure_code
            )
        return view

    async def _remembered(self, client: str, booking: str, charge: Charge | None, key_digest: str) -> BookingView:
        """What PostgreSQL knows of this attempt. Raises `HoldEnded` when it was never made."""
        view = (await self._bookings.get(client, booking)).view
        attempt = await self._bookings.attempt(booking, ids.attempt_key(client, booking, key_digest))
        if attempt is None:
            if view.status in ("held", "pending"):
                # Redis lacks what PostgreSQL has: the workers are about to put it back.
                raise StoreAway("The booking is being restored.")
            raise HoldEnded(f"The booking is {view.status}.", booking_status=view.status)
        made, payment = attempt
        if made is not None and made != fingerprint_of(charge):
            raise KeyReused(booking_id=booking)
        view.payment = payment
        return view
