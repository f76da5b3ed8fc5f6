"""How bookings of a street of neighbours come to be what they are: held, paid, owed, parked. See `tests.support.neighbours`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

import pytest

from boxoffice.books import payments
from boxoffice.gateway.base import Unknown
from tests.conftest import eventually
from tests.support.neighbours import OTHERS, Street


async def held(street: Street) -> None:
    await street.book(token=None)


async def declined(street: Street) -> None:
    """Holds, each with a payment that was declined: PostgreSQL knows them."""
    await street.book(token=None)
    await street.pay("tok_card_declined")
    await street.settle()
    assert set((await street.words()).values()) == {"H held"}


async def confirmed(street: Street, token: str = "tok_ok") -> None:
    await street.book(token=token)
    await street.settle()
    assert set((await street.words()).values()) == {"C confirmed"}


async def in_two_payments(street: Street) -> None:
    """Confirmed with the second card."""
    await declined(street)
    await street.pay("tok_ok", key="second")
    await street.settle()


async def owed(street: Street) -> None:
    """Cancelled, and the gateway refuses the refund."""
    await confirmed(street, "tok_refund_refused")
    for name, booking in street.bookings.items():
        await street.office.cancellations.cancel(street.client(name), booking)
    await street.till.pump()
    assert {row["status"] for row in await street.till.fetch("SELECT status FROM refunds")} == {"owed"}


async def refunds_due(street: Street) -> None:
    """Cancelled; no worker has asked for the refunds yet."""
    await confirmed(street)
    for name, booking in street.bookings.items():
        await street.office.cancellations.cancel(street.client(name), booking)


async def captures_due(street: Street) -> None:
    """Confirmed; nobody has captured yet, and whoever was to is gone."""
    await street.book()
    await street.till.drain()
    street.office.pump.given.clear()
    await street.till.sooner()
    await payments.unlist_lapsed(street.office.database, 100)


async def captures_listed(street: Street) -> None:
    """Confirmed in two batches by two workers; that of `mine` is about to capture, the other one is gone."""
    await street.book(names=["mine"])
    await street.till.drain()
    given = list(street.office.pump.given)
    await street.book(names=OTHERS)
    await street.till.drain()
    street.office.pump.given.clear()
    street.office.pump.given.extend(given)


async def refusals_due(street: Street) -> None:
    """Cancelled, because their captures were refused for good; the money is still to be let go."""
    await captures_due(street)
    for name in street.bookings:
        await street.office.refunds.capture_refused(await street.key_of(name), "expired")


async def voids_due(street: Street) -> None:
    """Holds that ended while nobody knew of their payments, which the gateway has authorised all the same."""
    gateway = street.till.gateway
    await street.book(token=None)
    await street.pay("tok_ok")
    authorize = gateway.authorize_batch

    async def lost(requests: list[object]) -> list[Unknown]:
        await authorize(requests)  # type: ignore[arg-type]
        return [Unknown("timeout")] * len(requests)

    async def silent(*_: object) -> Unknown:
        return Unknown("timeout")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gateway, "authorize_batch", lost)
        patch.setattr(gateway, "lookup", silent)
        patch.setattr(gateway, "void", silent)
        await street.till.drain()
        for booking in street.bookings.values():
            await street.till.time_is_up(booking)
            await street.till.claimable(booking)
        await street.till.drain()
    assert set((await street.words()).values()) == {"E expired"}


async def parked(street: Street) -> None:
    """What PostgreSQL does not take."""
    await street.book(reference="bad\0text")
    await park(street, street.bookings)


async def park(street: Street, names: Iterable[str]) -> None:
    """Until these are aside, and no others."""

    async def aside() -> bool:
        for name in names:
            await street.till.claimable(street.bookings[name])
        await street.till.drain()
        return {letter.booking for letter in await street.office.parked.all()} == {
            street.bookings[name] for name in names
        }

    await eventually(aside)


Act = Callable[[Street], Awaitable[None]]
