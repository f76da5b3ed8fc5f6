"""Looking for bookings reads no more of PostgreSQL than it shows, and one to know whether there are more."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from boxoffice import ids
from boxoffice.backoffice import finding
from boxoffice.backoffice.finding import Wanted, agrees
from boxoffice.office import BoxOffice
from boxoffice.stores import keys
from boxoffice.stores.record import Body, Line, Payload, Record
from tests.conftest import SHARD, SaleMaker, settle_all
from tests.support.shop.office import book


class Counting:
    """A session that remembers how many rows each query gave."""

    def __init__(self, connection: Any, rows: list[int]) -> None:
        self._connection, self._rows = connection, rows

    async def fetch(self, *query: Any) -> list[Any]:
        found: list[Any] = await self._connection.fetch(*query)
        self._rows.append(len(found))
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


@pytest.mark.parametrize("limit", [1, 3, 5])
async def test_what_is_read_is_bounded(
    office: BoxOffice, open_sale: SaleMaker, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    """By card, by customer, and as a list: newest first, with the last one shown as the place to go on from."""
    event = await open_sale(GA=10)
    booked = [(await book(office, event, reference="r", GA=1)).booking_id for _ in range(5)]
    await settle_all(office)
    await office.redis.flushdb()
    real, rows = finding.snapshot, list[int]()

    @asynccontextmanager
    async def counted(settings: Any) -> AsyncIterator[Any]:
        async with real(settings) as connection:
            yield Counting(connection, rows)

    monkeypatch.setattr(finding, "snapshot", counted)
    newest = sorted(booked, reverse=True)[:limit]
    for found in (
        await office.finder.by_card("4242", datetime.now(UTC).date(), limit),
        await office.finder.find("ada", limit),
        await office.finder.find("r", limit),
        await office.finder.list(Wanted(), limit),
    ):
        assert [match.view.id for match in found.matches] == newest
        assert found.more == (newest[-1] if limit < 5 else None)
    assert max(rows) == min(limit + 1, 5)


AT_MS = 1_900_000_000_000


def record(**change: Any) -> Record:
    """A hold admitted at `AT_MS`, by the time in its id."""
    body = Body("shop", "ada", 1_000, "USD", (Line("tier", 1, 1_000),), "order-1")
    head = {"state": "H", "event": "event", "id": str(UUID(int=AT_MS << 80))} | change
    return Record(
        sequence=1, admitted_ms=AT_MS, deadline_ms=0, payment_key="", scope="", fingerprint="", owner="", items="",
        tries="", body=body, payload=Payload(), **head,
    )  # fmt: skip


def at(after_ms: int) -> datetime:
    return datetime.fromtimestamp((AT_MS + after_ms) / 1_000, UTC)


@pytest.mark.parametrize(
    ("wanted", "agreed"),
    [
        ({}, True), ({"client": "shop", "event": "event", "status": "held", "customer": "ada", "reference": "order-1"}, True),
        ({"client": "other"}, False), ({"event": "other"}, False), ({"status": "pending"}, False), ({"customer": "a"}, False),
        ({"reference": "order"}, False), ({"since": at(0)}, True), ({"since": at(1)}, False), ({"until": at(0)}, False),
        ({"until": at(1)}, True), ({"after": str(UUID(int=AT_MS << 80))}, False),
        ({"after": str(UUID(int=(AT_MS << 80) + 1))}, True), ({"client": "shop", "event": "other"}, False),
    ],
)  # fmt: skip
def test_what_is_listed_agrees_with_all_that_was_asked_for(wanted: dict[str, Any], agreed: bool) -> None:
    assert agrees(Wanted(**wanted), record()) is agreed


async def test_a_day_of_cards_begins_and_ends_at_midnight(office: BoxOffice, open_sale: SaleMaker) -> None:
    """By when the payment was made, which may be the day after its booking's admission."""
    event = await open_sale(GA=10)
    booking = (await book(office, event, GA=1)).booking_id
    await settle_all(office)
    today = datetime.fromtimestamp((ids.made_ms(booking) or 0) / 1_000, UTC).replace(
        hour=0, minute=0, second=0, microsecond=0
    )
    for moment, days in ((0, (0,)), (86_399.999, (0,)), (86_400, (1,)), (-0.001, ())):
        await (await office.pool()).execute(
            "UPDATE payments SET created_at = $1", today + timedelta(seconds=moment)
        )  # fmt: skip
        found = [
            day for day in (-1, 0, 1, 2)
            if (await office.finder.by_card("4242", (today + timedelta(days=day)).date(), 5)).matches
        ]  # fmt: skip
        assert tuple(found) == days, moment
    assert not (await office.finder.by_card("4243", (today - timedelta(days=1)).date(), 5)).matches


async def test_every_undecided_booking_is_looked_at(
    office: BoxOffice, open_sale: SaleMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of both shards, some at a time; one that nobody can read hides no other."""
    monkeypatch.setattr(finding, "CHUNK", 2)
    sales = [await open_sale(shard=shard, GA=10) for shard in (0, SHARD)]
    booked = [(await book(office, event, None, GA=1)).booking_id for event in sales for _ in range(3)]
    booked += [(await book(office, event, GA=1)).booking_id for event in sales]
    await office.redis.set(keys.booking(SHARD, booked[3]), b"unreadable")
    found = [
        sorted([each.id async for each in finding.records(shard, ended=ended)])
        for shard in office.shards
        for ended in (False, True)
    ]
    first, second = sorted([*booked[:3], booked[6]]), sorted([*booked[4:6], booked[7]])
    assert found == [first, first, second, second]
    await office.redis.zrem(keys.pending(SHARD), booked[7])
    await office.redis.zadd(keys.dead(SHARD), {booked[7]: 1})
    assert [each.id async for each in finding.records(office.shards[SHARD], ended=False)] == second, "parked ones, too"
