"""Holds in a list: those that Redis alone has, and those of which a payment was tried, each once and in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError

from boxoffice.bookings import held, listing
from boxoffice.bookings.reading import BookingFilter
from boxoffice.bookings.records import Seen
from boxoffice.errors import GateClosed, NotFound, StoreAway
from boxoffice.office import BoxOffice
from boxoffice.sales.catalogue import EventView
from boxoffice.stores import keys
from tests.conftest import CLIENT, SaleMaker, load_all
from tests.support.shop.office import Till, book
from tests.support.shop.orders import OTHER


@pytest.fixture
def shards() -> int:
    return 3


@pytest.fixture
async def tills(office: BoxOffice, open_sale: SaleMaker) -> list[Till]:
    """An event in each of two shards."""
    await load_all(office)
    return [Till(office, await open_sale(GA=100, shard=shard)) for shard in (0, 2)]


async def page(
    office: BoxOffice, cursor: str | None, limit: int, client: str = CLIENT, **wanted: Any
) -> tuple[list[str], str | None]:
    found = await office.bookings.list(client, BookingFilter(status="held", **wanted), cursor, limit)
    assert {view.status for view in found.views} <= {"held"}
    return [view.id for view in found.views], found.next_cursor


async def every(office: BoxOffice, limit: int, **wanted: Any) -> list[str]:
    found, cursor = await page(office, None, limit, **wanted)
    while cursor:
        more, cursor = await page(office, cursor, limit, **wanted)
        found += more
    return found


async def declined(till: Till) -> str:
    """A hold that PostgreSQL knows."""
    booking = await till.hold(GA=1)
    await till.pay(booking, "tok_card_declined")
    await till.rest_bookings()
    assert await till.state(booking) == "H held"
    return booking


async def test_holds_of_all_shards_are_listed_newest_first(office: BoxOffice, tills: list[Till]) -> None:
    """Whether or not PostgreSQL knows them, however long they are held, and in pages of any size; nobody else's, and nothing
    that is not held."""
    made = []
    for n in range(3):
        for till in tills:
            made += [await till.hold(GA=1, hold_s=600 - 100 * n), await declined(till)]
    await tills[0].book(GA=1)
    await tills[0].cancel(await tills[0].hold(GA=1))
    theirs = (await book(office, tills[0].event, None, client=OTHER, GA=1)).booking_id
    for limit in (1, 2, 5, 12, 13):
        assert await every(office, limit) == sorted(made, reverse=True)
    assert await every(office, 2, client=OTHER) == [theirs]


async def test_filters_hold_for_holds(office: BoxOffice, tills: list[Till]) -> None:
    first, second = tills
    one, two = await first.hold(GA=1), await declined(second)
    other = (await book(office, first.event, None, customer="bob", reference="r-1", GA=1)).booking_id
    assert await every(office, 5, event_id=first.event.id) == sorted((one, other), reverse=True)
    assert await every(office, 5, event_id=second.event.id) == [two]
    assert await every(office, 5, event_id="nothing00000") == []
    for wanted in ({"customer_id": "bob"}, {"reference": "r-1"}, {"customer_id": "bob", "event_id": first.event.id}):
        assert await every(office, 5, **wanted) == [other]


async def test_holds_that_come_and_go_between_pages_move_no_other(office: BoxOffice, tills: list[Till]) -> None:
    """One is extended, one is paid, one ends, a new one comes: each of the rest comes once."""
    till = tills[0]
    made = sorted([await till.hold(GA=1, hold_s=300) for _ in range(8)], reverse=True)
    found, cursor = await page(office, None, 3)
    await office.holds.extend(CLIENT, made[4], 200)
    await till.cancel(made[0])
    await till.cancel(made[5])
    await till.pay(made[6])
    await till.hold(GA=1)
    while cursor:
        more, cursor = await page(office, cursor, 1)
        found += more
    assert found == [*made[:5], made[7]]


@pytest.mark.parametrize("limit", [1, 3, 20])
async def test_a_page_reads_so_many_records_and_goes_on(
    office: BoxOffice, tills: list[Till], monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    """Most of the holds are somebody else's: pages may be short, and all of them together have each once."""
    monkeypatch.setattr(held, "LOOKED_AT", 4)
    monkeypatch.setattr(held, "STEP", 3)
    monkeypatch.setattr(listing, "LOOKED_AT", 2)
    made = []
    for n in range(18):
        client = CLIENT if n % 5 in (0, 1) else OTHER
        till = tills[n % 2]
        made.append((client, (await book(office, till.event, None, client=client, GA=1)).booking_id))
    made += [(CLIENT, await declined(till)) for till in tills]
    mine = [booking for client, booking in made if client == CLIENT]
    assert await every(office, limit) == sorted(mine, reverse=True)


async def test_who_cannot_be_believed_is_not(
    office: BoxOffice, tills: list[Till], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list without the holds of one shard would say that there are none."""
    booking = await tills[0].hold(GA=1)
    await office.redis.delete(keys.gate(2))
    with pytest.raises(GateClosed):
        await page(office, None, 5)
    assert await every(office, 5, event_id=tills[0].event.id) == [booking], "the others may be asked"

    async def away(*_: object) -> None:
        raise ConnectionError

    monkeypatch.setattr(held.Reading, "read", away)
    with pytest.raises(StoreAway):
        await page(office, None, 5)


async def test_the_holds_are_read_for_one_page_at_a_time(
    office: BoxOffice, tills: list[Till], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many ask at once: each page reads the ids of all holds."""
    booking = await tills[0].hold(GA=1)
    ids_of, running, most = Redis.zscan_iter, 0, 0

    async def counted(redis: Redis, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        nonlocal running, most
        running += 1
        most = max(most, running)
        async for each in ids_of(redis, *args, **kwargs):
            yield each
        running -= 1

    monkeypatch.setattr(Redis, "zscan_iter", counted)
    assert await asyncio.gather(*(page(office, None, 5) for _ in range(4))) == [([booking], None)] * 4
    assert most == 1


async def test_whoever_waits_for_a_server_keeps_nobody_else_waiting(
    office: BoxOffice, tills: list[Till], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that has just started is waited for as long as an admission waits: however many ask, and not one after the other."""
    booking = await tills[0].hold(GA=1)
    waits, opened, read = asyncio.Event(), asyncio.Event(), held.Reading.read

    async def first_waits(self: held.Reading, *args: Any) -> list[Seen]:
        if not waits.is_set():
            waits.set()
            await opened.wait()
        return await read(self, *args)

    monkeypatch.setattr(held.Reading, "read", first_waits)
    first = asyncio.create_task(page(office, None, 5))
    await waits.wait()
    try:
        assert await asyncio.wait_for(page(office, None, 5), 10) == ([booking], None)
    finally:
        opened.set()
    assert await first == ([booking], None)


async def test_a_server_that_was_shut_meanwhile_is_not_believed(
    office: BoxOffice, tills: list[Till], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though it was open when the list began to wait for its turn."""
    await office.redis.delete(keys.gate(2))

    async def open_before(self: held.Reading, shard: int, bookings: list[str]) -> list[Seen]:
        return [Seen(None) for _ in bookings]

    monkeypatch.setattr(held.Reading, "read", open_before)
    with pytest.raises(GateClosed):
        await page(office, None, 5)


async def test_a_hold_of_an_event_that_is_gone_hides_no_other(
    office: BoxOffice, tills: list[Till], monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, good = await tills[0].hold(GA=1), await tills[1].hold(GA=1)
    event = office.catalogue.event

    async def but_one(name: str) -> EventView:
        if name == tills[0].event.id:
            raise NotFound
        return await event(name)

    monkeypatch.setattr(office.catalogue, "event", but_one)
    assert await every(office, 5) == [good]
    monkeypatch.undo()
    assert await every(office, 5) == sorted((gone, good), reverse=True)


async def test_a_record_that_cannot_be_read_hides_no_other(office: BoxOffice, tills: list[Till]) -> None:
    bad, good = await tills[0].hold(GA=1), await tills[0].hold(GA=1)
    await office.redis.set(keys.booking(0, bad), b"nonsense")
    assert await every(office, 5) == [good]


async def test_what_is_held_no_more_when_its_record_is_read_is_left_out(office: BoxOffice, tills: list[Till]) -> None:
    """It was paid between the two: its id was among the holds, and its record says that it is pending."""
    paid, good = await tills[0].book(GA=1), await tills[0].hold(GA=1)
    await office.redis.zadd(keys.deadlines(0), {paid: 1})
    assert await every(office, 5) == [good]


async def test_holds_wait_until_postgresql_was_looked_at_as_far(
    office: BoxOffice, tills: list[Till], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page of it may end before it has come to a hold that only it knows, and that is newer than one of Redis."""
    monkeypatch.setattr(listing, "LOOKED_AT", 2)
    till = tills[0]
    oldest, known = await till.hold(GA=1), await declined(till)
    await office.redis.zrem(keys.deadlines(0), known)
    await office.redis.delete(keys.booking(0, known))
    for _ in range(3):
        await till.book(GA=1)
    await till.rest_bookings()
    first, second = sorted((oldest, known), reverse=True)
    assert await every(office, 5, customer_id="ada") == [first, second]
