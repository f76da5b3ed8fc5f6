"""Workers die one after another while money is let go, each a step further than the one before."""

from __future__ import annotations

import pytest

from boxoffice.office import BoxOffice
from tests.conftest import SaleMaker
from tests.invariants.conftest import Fork, at_rest, ends, working
from tests.support.checks import check_at_rest, check_conservation
from tests.support.shop.office import Till, book, book_many, status_of

POINTS = ("letting_go", "let_go", "settled", "before_void")


@pytest.mark.dies_at(*POINTS)
async def test_a_row_of_workers_dies_while_money_is_let_go(office: BoxOffice, open_sale: SaleMaker, fork: Fork) -> None:
    """W9, W10. A shop cancelled while its customer was at the bank, who then paid; other cards set aside a cent too
    much. Whatever was set aside is let go once, and the tickets of all of them come back once."""
    event = await open_sale(GA=100)
    till = Till(office, event)
    cancelled = await till.hold(GA=3)
    await till.pay(cancelled, "tok_3ds")
    await till.drain()
    await till.customer_acts(cancelled)
    assert (await till.payment(cancelled)).status == "authorized"
    record = await till.record(cancelled)
    assert record is not None
    assert (await office.holds.cancel(record))[0] == "requested"
    wrong = [(await book(office, event, token="tok_wrong_amount", customer=f"w{n}", GA=2)).booking_id for n in range(5)]
    good = await book_many(office, event, 20, GA=1)

    for point in POINTS:
        assert await ends(fork("work", crash_at=point)) == "killed by SIGKILL"
        await check_conservation(office)
        await lapse(till, cancelled, *wrong, *good)
    async with working(office):
        await at_rest(office)

    assert await till.left("GA") == (80, 0, 20)
    assert await status_of(office, cancelled) == "cancelled cancelled"
    for booking in (cancelled, *wrong):
        payment = await till.payment(booking)
        assert (payment.status, payment.captured_cents) == ("voided", 0)
    await check_at_rest(office, [cancelled, *wrong, *good])


async def lapse(till: Till, *bookings: str) -> None:
    """Whatever the dead had leased is anybody's now: no test waits for it."""
    for booking in bookings:
        await till.claimable(booking)
    await till.sooner()
