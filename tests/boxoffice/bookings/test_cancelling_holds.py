"""A hold that its shop cancels: at once, or when the payment that is under way is let go of."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from boxoffice import ids
from boxoffice.books import rows
from boxoffice.errors import (
    PaymentInProgress,
)
from boxoffice.stores import keys
from tests.conftest import SHARD, eventually
from tests.support.checks import check_at_rest
from tests.support.shop.office import Died, Till


async def test_cancelling_a_hold_gives_it_back_at_once(till: Till) -> None:
    """Ten at once are all told the same; the tickets come back once."""
    booking = await till.hold(VIP=2)

    answers = await asyncio.gather(*(till.cancel(booking) for _ in range(10)))

    assert answers == ["cancelled"] * 10
    assert await till.left("VIP") == (4, 0, 0)
    await till.at_rest(booking)


async def test_cancelling_a_hold_that_was_tried_is_told_to_postgresql(till: Till) -> None:
    booking = await till.hold(GA=1)
    await till.pay(booking, "tok_card_declined")
    await till.rest()

    assert await till.cancel(booking) == "cancelled"

    assert await till.state(booking) == "X cancelled"
    await till.at_rest(booking)


async def test_cancelling_before_the_worker_came_charges_nobody(till: Till) -> None:
    """The worker finds the request and never asks for the money."""
    booking = await till.hold(GA=1)
    await till.pay(booking)
    cancelling = asyncio.create_task(till.cancel(booking))
    await eventually(lambda: _requested(till, booking))

    await till.drain()

    assert await cancelling == "cancelled"
    assert await till.state(booking) == "X cancelled"
    assert await till.at_gateway(booking) == []
    assert await till.payments(booking) == ["voided/-"], "nothing is left to look for"
    await check_at_rest(till.office, [booking])


@pytest.mark.parametrize("end", ["given back", "lapsed", "given back after a lapse"])
async def test_cancelling_what_may_have_been_asked_for_lets_it_go(
    till: Till, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """A worker asked for the money and never wrote it down. Its successor finds the cancellation, and voids."""
    booking = await till.book(GA=1)
    settlement = till.office.settlements[SHARD]

    async def away(*_: object) -> None:
        raise ConnectionRefusedError if end == "given back" else Died

    with monkeypatch.context() as patch:
        patch.setattr(settlement.committing, "commit", away)
        with contextlib.suppress(Died):
            await settlement.drain()
        if end == "given back after a lapse":
            shard = ids.shard_of(booking)
            await till.office.redis.zadd(keys.pending(shard), {booking: 1 + 1 / 16})
            patch.setattr(rows, "known_by_key", refused)
            await settlement.drain()
    assert (await till.payment(booking)).status == "authorized"
    settlement.claims.closed_until = 0.0
    if end == "lapsed":
        await till.office.redis.zadd(keys.pending(ids.shard_of(booking)), {booking: 1 + 1 / 16})
    else:
        await till.claimable(booking)
    cancelling = asyncio.create_task(till.cancel(booking))
    await eventually(lambda: _requested(till, booking))

    await till.drain()

    assert await cancelling == "cancelled"
    assert (await till.payment(booking)).status == "voided"
    await till.at_rest(booking)


async def refused(*_: object) -> None:
    raise ConnectionRefusedError


async def test_cancelling_while_the_customer_is_at_the_bank(till: Till) -> None:
    """The payment is voided, then the booking is cancelled; finishing 3-D Secure later brings nothing."""
    booking = await till.book("tok_3ds", GA=3)
    await till.drain()
    cancelling = asyncio.create_task(till.cancel(booking))
    await eventually(lambda: _requested(till, booking))

    await till.drain()

    assert await cancelling == "cancelled"
    await till.customer_acts(booking)
    await till.at_rest(booking)
    assert (await till.payment(booking)).status == "voided"
    assert await till.left("GA") == (10, 0, 0)


async def test_a_cancel_that_comes_too_late_cancels_the_confirmed_booking(
    till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker was authorising when the request came: it confirms, and the confirmed booking is cancelled."""
    booking = await till.book(GA=1)
    authorize = till.gateway.authorize_batch
    go_on, asked = asyncio.Event(), asyncio.Event()

    async def slowly(requests: object) -> object:
        asked.set()
        await go_on.wait()
        return await authorize(requests)  # type: ignore[arg-type]

    monkeypatch.setattr(till.gateway, "authorize_batch", slowly)
    draining = asyncio.create_task(till.drain())
    await asked.wait()
    cancelling = asyncio.create_task(till.cancel(booking))
    await eventually(lambda: _requested(till, booking))
    go_on.set()

    assert await cancelling == "cancelled"
    await draining
    await till.at_rest(booking)
    assert await till.state(booking) == "X cancelled"
    assert (await till.payment(booking)).refunded_cents == 1_000


async def test_a_payment_that_nobody_lets_go_is_said_to_be_in_progress(
    till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No worker is there: after some seconds the shop is told to ask again; the request stands."""
    monkeypatch.setattr("boxoffice.bookings.cancellations.PATIENCE_S", 0.2)
    booking = await till.book(GA=1)

    with pytest.raises(PaymentInProgress):
        await till.cancel(booking)

    await till.drain()
    assert await till.cancel(booking) == "cancelled"


async def test_a_declined_payment_of_a_hold_that_was_cancelled_meanwhile(
    till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not go back to being held."""
    booking = await till.hold(GA=1)
    await till.pay(booking, "tok_card_declined")
    cancelling: list[asyncio.Task[str]] = []
    authorize = till.gateway.authorize_batch

    async def meanwhile(requests: object) -> object:
        cancelling.append(asyncio.create_task(till.cancel(booking)))
        await eventually(lambda: _requested(till, booking))
        return await authorize(requests)  # type: ignore[arg-type]

    monkeypatch.setattr(till.gateway, "authorize_batch", meanwhile)
    await till.drain()

    assert await cancelling[0] == "cancelled"
    assert await till.state(booking) == "X cancelled"
    assert await till.left("GA") == (10, 0, 0)
    await till.at_rest(booking)


async def _requested(till: Till, booking: str) -> bool:
    record = await till.record(booking)
    return record is not None and record.cancel_requested
