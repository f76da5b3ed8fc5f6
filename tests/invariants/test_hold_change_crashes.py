"""Whoever changes a hold may be killed between Redis and PostgreSQL: the change is there, and both tell of it in the end."""

from __future__ import annotations

import json
from typing import Any

import pytest

from boxoffice.office import BoxOffice
from tests.conftest import CLIENT, KEY, SaleMaker, eventually, load_all
from tests.invariants.conftest import Fork, at_rest, ends, working
from tests.support.shop.office import Till
from tests.support.shop.orders import tier_of


async def dies(fork: Fork, point: str, till: Till, booking: str, **tiers: int) -> None:
    """The API dies of a change to these items."""
    items = [{"tier_id": tier_of(till.event, code), "quantity": count} for code, count in tiers.items()]
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json", "Idempotency-Key": "change"}
    asked = fork("ask", "PATCH", f"/v1/bookings/{booking}", headers, json.dumps({"items": items}), crash_at=point)
    assert await ends(asked) == "killed by SIGKILL"


async def row_of(till: Till, booking: str) -> tuple[Any, ...]:
    """What PostgreSQL says of it: amount, and quantities by price."""
    (row,) = await till.fetch("SELECT amount_cents FROM bookings WHERE id = $1", booking)
    items = await till.fetch(
        "SELECT unit_price_cents, quantity FROM booking_items WHERE booking_id = $1 ORDER BY 1", booking
    )
    return row["amount_cents"], [tuple(item) for item in items]


@pytest.mark.parametrize("then", ["mended", "paid", "expired"])
@pytest.mark.parametrize("point", ["hold_changed", "hold_written"])
async def test_a_change_that_postgresql_was_not_told_of(
    office: BoxOffice, open_sale: SaleMaker, fork: Fork, point: str, then: str
) -> None:
    """H1. Redis has it: whoever asks is told so, its repeat changes nothing, and whatever becomes of the hold becomes of what
    it has now. PostgreSQL is told by the workers, or by the next payment's settlement."""
    await load_all(office)
    till = Till(office, await open_sale(GA=10, VIP=4))
    booking = await till.hold(GA=2)
    await till.pay(booking, "tok_card_declined")
    await till.rest()
    await dies(fork, point, till, booking, GA=1, VIP=2)

    assert await row_of(till, booking) == (2_000, [(1_000, 2)]), "it died before"
    assert (await till.left("GA"), await till.left("VIP")) == ((9, 1, 0), (2, 2, 0))
    view, repeated = await till.change(booking, key="change", GA=1, VIP=2)
    assert (view.amount_cents, repeated) == (5_000, True)
    assert (await office.bookings.get(CLIENT, booking)).view.amount_cents == 5_000

    if then == "paid":
        await till.pay(booking)
    elif then == "expired":
        await till.time_is_up(booking)
    else:
        await till.fetch("UPDATE bookings SET updated_at = updated_at - interval '1 hour'")

    async def told() -> bool:
        (row,) = await till.fetch("SELECT status FROM bookings WHERE id = $1", booking)
        wanted = {"mended": "held", "paid": "confirmed", "expired": "expired"}[then]
        return row["status"] == wanted and (
            then == "expired" or await row_of(till, booking) == (5_000, [(1_000, 1), (2_000, 2)])
        )

    async with working(office):
        await eventually(told, timeout_s=20)
        await at_rest(office) if then == "paid" else None
    left = {"mended": ((9, 1, 0), (2, 2, 0)), "paid": ((9, 0, 1), (2, 0, 2)), "expired": ((10, 0, 0), (4, 0, 0))}[then]
    assert (await till.left("GA"), await till.left("VIP")) == left
    if then != "mended":
        await till.at_rest(booking)
