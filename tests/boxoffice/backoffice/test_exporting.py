"""An export says how many rows there will be, once, when somebody wants to know."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from boxoffice.backoffice import exporting
from boxoffice.backoffice.exporting import Chosen, export
from boxoffice.office import BoxOffice
from tests.conftest import SaleMaker, load_all
from tests.support.shop.office import Till, book
from tests.support.shop.orders import CLIENT, OTHER


@pytest.fixture
async def till(office: BoxOffice, open_sale: SaleMaker) -> Till:
    """Two bookings of one shop and one of another, of two events, each refunded in part."""
    await load_all(office)
    till = Till(office, await open_sale(GA=10))
    elsewhere = await open_sale(GA=10)
    booked = [await till.book(GA=2)]
    booked += [(await book(office, event, client=client, GA=2)).booking_id
               for event, client in ((elsewhere, CLIENT), (till.event, OTHER))]  # fmt: skip
    await till.rest()
    for booking, (event, client) in zip(
        booked, ((till.event, CLIENT), (elsewhere, CLIENT), (till.event, OTHER)), strict=True
    ):
        await office.refunds.refund(client, booking, f"{booking[:8]:0>32}", {event.tiers[0].id: 1}, "test")
    return till


@pytest.mark.parametrize("what", ["bookings", "payments", "refunds"])
async def test_rows_are_counted_before_they_are_written(till: Till, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """Of those chosen, whatever the choice; the parts have as many between them."""
    monkeypatch.setattr(exporting, "CHUNK", 1)
    at, key = datetime(2030, 5, 22, tzinfo=UTC), {"bookings": "id"}.get(what, f"{what[:-1]}_key")
    for number, (name,) in enumerate(await till.fetch(f"SELECT {key} FROM {what}")):
        await till.fetch(f"UPDATE {what} SET created_at = $2 WHERE {key} = $1", name, at - timedelta(hours=number))
    for chosen, count in (
        (Chosen(), 3), (Chosen(client=CLIENT), 2), (Chosen(client=OTHER, events=[till.event.id]), 1),
        (Chosen(events=[till.event.id]), 2), (Chosen(events=[]), 0), (Chosen(since=at + timedelta(seconds=1)), 0),
        (Chosen(until=at + timedelta(seconds=1)), 3), (Chosen(since=at), 1), (Chosen(until=at), 2),
    ):  # fmt: skip
        told: list[int] = []
        for form, heading in (("csv", 1), ("jsonl", 0)):
            parts = [part async for part in export(till.office.settings, what, form, chosen, told.append)]
            assert [part.rows for part in parts] == [0] * heading + [1] * count
            assert sum(part.text.count("\n") for part in parts) == heading + count
        assert told == [count, count], chosen


async def test_what_nobody_asks_is_not_counted(till: Till) -> None:
    parts = [part async for part in export(till.office.settings, "bookings", "csv", Chosen())]
    assert [part.rows for part in parts] == [0, 3]
