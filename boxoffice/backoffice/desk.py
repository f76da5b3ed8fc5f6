"""Cancelling and refunding at the desk, for any shop: what the API does, by an operator whose name is written down.

A refusal is one sentence that says what to do instead.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeVar

from boxoffice import ids
from boxoffice.backoffice.finding import Finder
from boxoffice.bookings.cancellations import Cancellations
from boxoffice.bookings.reading import Bookings
from boxoffice.books import interventions
from boxoffice.errors import (
    BoxOfficeError,
    CannotRun,
    KeyReused,
    Malformed,
    NotCancellable,
    NotFound,
    NothingOwed,
    PaymentInProgress,
    RefundOwed,
    RefundTooLarge,
    Unavailable,
)
from boxoffice.money.refunds import Refunded, Refunds
from boxoffice.settings import Settings
from boxoffice.stores.database import Database
from boxoffice.stores.postgres import TRANSIENT
from boxoffice.wire.render import BookingView
from boxoffice.wire.requests import check_text

__all__ = ["OPERATOR_MAX", "Desk"]

OPERATOR_MAX: Final = 64
"""Characters of an operator's name."""

Result = TypeVar("Result")


class Desk:
    """What an operator does with one booking."""

    def __init__(
        self, database: Database, finder: Finder, bookings: Bookings, cancellations: Cancellations, refunds: Refunds,
        settings: Settings,
    ) -> None:  # fmt: skip
        self._database = database
        self._finder = finder
        self._bookings = bookings
        self._cancellations = cancellations
        self._refunds = refunds
        self._text_max = settings.limits.text_max

    async def cancel(self, booking_id: str, by: str, reason: str = "") -> BookingView:
        """Cancel a booking of any shop as `Cancellations.cancel` does, after its event's terms.

        Raises `CannotRun` with a sentence on what to do instead, `Malformed` and `CardDataRefused` for the operator's name or
        the reason.
        """
        self._check(by, reason)
        client, booking = await self._client_of(booking_id)

        async def work() -> tuple[BookingView, str, str | None]:
            view = await self._cancellations.cancel(client, booking)
            return view, view.status, None

        return await self._written_down("cancel", by, booking, reason, work)

    async def refund(
        self, booking_id: str, by: str, items: Mapping[str, int] | None, reason: str, key: str
    ) -> Refunded:
        """Refund a confirmed booking of any shop at full price, all that is left, or some tickets of tiers named by code or
        id. Whatever is asked twice under one key is refunded once.

        Raises as `cancel`.
        """
        self._check(by, reason)
        check_text(key, "/key", 255)
        client, booking = await self._client_of(booking_id)

        async def work() -> tuple[Refunded, str, str | None]:
            try:
                wanted = await self._by_tier(client, booking, items) if items is not None else None
                done = await self._refunds.refund(client, booking, ids.digest("desk", key), wanted, reason)
            except NotFound:
                # Of a hold that nobody tried to pay only Redis knows.
                status = (await self._bookings.get(client, booking)).view.status
                raise NotCancellable(f"The booking is {status}.", booking_status=status) from None
            return done, "repeated" if done.repeated else "refunded", done.refund_key

        return await self._written_down("refund", by, booking, reason, work, f" with --key {key}")

    def _check(self, by: str, reason: str) -> None:
        check_text(by, "/by", OPERATOR_MAX)
        if reason:
            check_text(reason, "/reason", self._text_max)

    async def _client_of(self, booking_id: str) -> tuple[str, str]:
        booking = ids.canonical_booking_id(booking_id)
        if booking is None:
            raise CannotRun("This is no booking id: `boxoffice bookings find` looks by reference, customer or payment.")
        try:
            return await self._finder.owner(booking), booking
        except NotFound:
            raise CannotRun(
                "Neither Redis nor PostgreSQL knows this booking: look for it with `bookings find`."
            ) from None

    async def _by_tier(self, client: str, booking: str, items: Mapping[str, int]) -> dict[str, int]:
        view = (await self._bookings.get(client, booking)).view
        known = {item.code: item.tier_id for item in view.items} | {item.tier_id: item.tier_id for item in view.items}
        wanted: dict[str, int] = {}
        for name, quantity in items.items():
            if name not in known:
                raise CannotRun(f"The booking has no tier {name}: it has {', '.join(i.code for i in view.items)}.")
            if known[name] in wanted:
                raise CannotRun(f"The tier {name} is named twice.")
            wanted[known[name]] = quantity
        return wanted

    async def _written_down(
        self, verb: str, by: str, booking: str, reason: str,
        work: Callable[[], Awaitable[tuple[Result, str, str | None]]], again: str = "",
    ) -> Result:  # fmt: skip
        """Write the intervention, with the operator's name, before doing it. If PostgreSQL is away, nothing is done."""
        async with self._database.answering():
            number = await interventions.begin(self._database, verb, by, booking, reason or None)
        try:
            result, outcome, refund_key = await work()
        except BoxOfficeError as error:
            if not isinstance(error, Unavailable):  # else it may have been done, and has no outcome
                await self._end(number, f"refused: {type(error).__name__}")
            raise _advice(error, verb, booking, again) from error
        await self._end(number, outcome, refund_key)
        return result

    async def _end(self, number: int, outcome: str, refund_key: str | None = None) -> None:
        # The cancellation or refund has ended by now; that its outcome cannot be written must not hide how.
        with contextlib.suppress(*TRANSIENT):
            await interventions.end(self._database, number, outcome, refund_key)


def _advice(error: BoxOfficeError, verb: str, booking: str, again: str) -> BoxOfficeError:
    """The refusal with what to do about it."""
    match error:
        case NotCancellable() if error.details.get("booking_status") == "confirmed":
            return CannotRun(
                f"{error.detail} `boxoffice bookings refund {booking} --all` gives everything back whatever the terms say."
            )
        case NotCancellable() if verb == "refund" and error.details.get("booking_status") in ("held", "pending"):
            return CannotRun(f"{error.detail} Nothing is paid yet: `boxoffice bookings cancel {booking}` ends it.")
        case NotCancellable():
            return CannotRun(f"{error.detail} There is nothing left to {verb}.")
        case PaymentInProgress():
            return CannotRun(
                f"{error.detail} Look in some seconds with `boxoffice bookings show {booking}`; if it was confirmed"
                " meanwhile, cancel it again."
            )
        case RefundTooLarge():
            return CannotRun(f"Of that tier only {error.details['refundable']} tickets are left to refund.")
        case RefundOwed():
            return CannotRun(f"A refund of that tier is owed already: `boxoffice payments retry {booking}` pays it.")
        case KeyReused():
            return CannotRun("This --key was used for another refund: take a new one.")
        case Unavailable():
            return CannotRun(f"{error.detail} It may have been done: type the same again{again}, it is done once.")
        case NothingOwed() | Malformed():
            return CannotRun(error.detail)
        case _:
            return error
