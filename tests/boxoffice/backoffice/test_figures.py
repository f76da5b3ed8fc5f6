"""One event in figures: its own bookings, each once, by whom and when."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from boxoffice.office import BoxOffice
from boxoffice.sales.catalogue import EventView
from tests.conftest import SHARD, SaleMaker, load_all, settle_all
from tests.support.shop.office import book
from tests.support.shop.orders import CLIENT, OTHER

TEN = datetime(2030, 5, 22, 10, 0, tzinfo=UTC)

BOOKINGS: list[tuple[float, str, str, str]] = [
    (-30.5, CLIENT, "eve", "cancelled"), (5, CLIENT, "ada", "confirmed"), (50, OTHER, "ada", "confirmed"),
    (130, CLIENT, "bob", "confirmed"), (140, CLIENT, "bob", "confirmed"),
    *((300.0 + n, CLIENT, "mallory", "failed") for n in range(3)), (-900, CLIENT, "zoe", "expired"),
]  # fmt: skip
"""Seconds after ten, whose, by whom, and what became of it."""


async def booked(office: BoxOffice, event: EventView, bookings: list[tuple[float, str, str, str]]) -> list[str]:
    ids = [
        (await book(office, event, client=client, customer=name, GA=1)).booking_id for _, client, name, _ in bookings
    ]  # fmt: skip
    await settle_all(office)
    pool = await office.pool()
    for booking, (seconds, _, _, status) in zip(ids, bookings, strict=True):
        await pool.execute(
            "UPDATE bookings SET created_at = $2, status = $3 WHERE id = $1",
            booking, TEN + timedelta(seconds=seconds), status,
        )  # fmt: skip
    return ids


async def test_an_event_is_counted_by_itself(office: BoxOffice, open_sale: SaleMaker) -> None:
    """Neither another event's bookings count, nor repeats; what failed is told and is no sale. Customers of two shops are
    two, and whoever has bought twice is one. Of two minutes that were as busy the first is told."""
    event, other = await open_sale(GA=20), await open_sale(GA=20)
    await load_all(office)
    ids = await booked(office, event, [*BOOKINGS, (131, CLIENT, "bob", "confirmed")])
    await booked(office, other, [(float(n), CLIENT, f"c{n}", "confirmed") for n in range(4)])
    await (await office.pool()).execute("UPDATE bookings SET duplicate_of = $2 WHERE id = $1", ids[-1], ids[-2])
    stats = await office.figures.stats(event.id)
    assert stats.bookings == {"cancelled": 1, "confirmed": 4, "expired": 1, "failed": 3}
    assert list(stats.bookings) == sorted(stats.bookings)
    assert stats.customers == 3
    assert (stats.first_at, stats.last_at) == ("2030-05-22T09:59:29Z", "2030-05-22T10:02:20Z")
    assert [row.event for row in stats.tiers] == [event.id]


async def test_the_busiest_minute_is_one_of_sales(office: BoxOffice, open_sale: SaleMaker) -> None:
    event, other = await open_sale(GA=20), await open_sale(GA=20)
    await load_all(office)
    await booked(office, other, [(float(n), CLIENT, f"c{n}", "confirmed") for n in range(4)])
    nothing = await office.figures.stats(event.id)
    assert (nothing.bookings, nothing.customers, nothing.first_at, nothing.last_at) == ({}, 0, None, None)
    assert (nothing.busiest_minute, nothing.busiest_bookings) == (None, 0)
    ids = await booked(office, event, BOOKINGS)
    told = await office.figures.stats(event.id)
    assert (told.busiest_minute, told.busiest_bookings) == ("2030-05-22T10:00:00Z", 2)
    await (await office.pool()).execute(
        "UPDATE bookings SET created_at = $2 WHERE id = $1", ids[0], TEN + timedelta(minutes=2)
    )
    told = await office.figures.stats(event.id)
    assert (told.busiest_minute, told.busiest_bookings) == ("2030-05-22T10:02:00Z", 3), "what was given back was sold"


async def test_what_waits_is_counted_by_its_own_event_and_tier(office: BoxOffice, open_sale: SaleMaker) -> None:
    """A hold is held, what is being paid is pending, of each event and shard."""
    events = [await open_sale(shard=shard, GA=20, VIP=9) for shard in (0, SHARD, SHARD)]
    await load_all(office)
    for number, event in enumerate(events, 1):
        await book(office, event, None, GA=number, VIP=1)
        await book(office, event, GA=2 * number)
    rows = await office.figures.sales()

    def waiting(row: Any) -> tuple[Any, ...]:
        return row.event, row.code, row.held, row.pending, row.available

    assert [waiting(row) for row in sorted(rows, key=lambda row: [each.id for each in events].index(row.event))] == [
        line for number, event in enumerate(events, 1)
        for line in ((event.id, "GA", number, 2 * number, 20 - 3 * number), (event.id, "VIP", 1, 0, 8))
    ]  # fmt: skip
    assert {row.period for row in rows} == {None}
