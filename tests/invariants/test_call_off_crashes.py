"""Workers die while an event is called off: the next one goes on, and everybody is refunded once."""

from __future__ import annotations

from typing import Any

import pytest

from boxoffice.office import BoxOffice
from tests.conftest import SaleMaker, counters, eventually, load_all
from tests.invariants.conftest import Fork, at_rest, ends, working
from tests.support.checks import check_at_rest
from tests.support.shop.office import book_many


@pytest.mark.parametrize("point", ["call_off_written", "call_off_committed"])
async def test_everybody_is_refunded_once_whoever_dies(
    office: BoxOffice, open_sale: SaleMaker, fork: Fork, point: str
) -> None:
    """450 bookings are three chunks; two workers die, each at its first."""
    await load_all(office)
    event = await open_sale(GA=1_000)
    booked = await book_many(office, event, 450, GA=1)
    async with working(office):
        await at_rest(office)
    await office.calling_off.call_off(event.id, "Rain")

    for _ in range(2):
        assert await ends(fork("work", crash_at=point)) == "killed by SIGKILL"
    pool = await office.pool()
    assert await pool.fetchval("SELECT count(*) FROM refunds") == (400 if point == "call_off_committed" else 0)

    async def finished() -> Any:
        return (await office.calling_off.report(event.id))["finished_at"]

    async with working(office):
        await eventually(finished, timeout_s=30)
        await at_rest(office)

    rows = await pool.fetchrow("SELECT count(*), count(DISTINCT booking_id), sum(amount_cents)::bigint FROM refunds")
    assert tuple(rows) == (450, 450, 450_000)
    counted = await counters(office, event, "GA")
    assert (counted.available, counted.sold) == (1_000, 0)
    await check_at_rest(office, booked)
