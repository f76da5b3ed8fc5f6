"""Lists by change: in order, none passed over, whatever is written meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from boxoffice.bookings import listing
from boxoffice.bookings.reading import BookingFilter
from boxoffice.office import BoxOffice
from ops.stack.servers import Servers
from tests.conftest import CLIENT, SaleMaker
from tests.support.shop.office import Till, book_many
from tests.support.shop.orders import OTHER
from tests.support.waiting import eventually

BY_CHANGE = BookingFilter(order=listing.UPDATED)
TODAY = datetime(2030, 5, 22, 14, tzinfo=UTC)


@pytest.fixture
async def till(office: BoxOffice, open_sale: SaleMaker) -> Till:
    return Till(office, await open_sale(GA=1_000, VIP=10))


@pytest.fixture
async def writer(servers: Servers) -> AsyncIterator[asyncpg.Connection]:
    """Another connection than any of the office's."""
    connection = await asyncpg.connect(servers.database_url)
    try:
        yield connection
    finally:
        await connection.close()


async def sold(till: Till, count: int) -> list[str]:
    """So many bookings, each changed a second after the one before it, the last one an hour ago."""
    made = await book_many(till.office, till.event, count, GA=1)
    await till.rest_bookings()
    for n, booking in enumerate(made):
        await changed(till, booking, f"now() - interval '1 hour' - interval '1 second' * {count - n}")
    return made


async def changed(till: Till, booking: str, when: str = "now()") -> None:
    await (await till.office.pool()).execute(
        f"UPDATE bookings SET updated_at = {when} WHERE id = $1::uuid", booking
    )  # fmt: skip


async def page(till: Till, cursor: str | None, limit: int, **wanted: Any) -> tuple[list[str], str | None]:
    found = await till.office.bookings.list(CLIENT, BookingFilter(order=listing.UPDATED, **wanted), cursor, limit)
    return [view.id for view in found.views], found.next_cursor


async def seen(till: Till) -> None:
    """Until a list goes as far as now."""
    pool = await till.office.pool()
    now = await pool.fetchval("SELECT clock_timestamp()")

    async def over() -> bool:
        return bool(await pool.fetchval(listing.OVER) >= now)

    await eventually(over)


async def every(till: Till, limit: int, **wanted: Any) -> list[str]:
    await seen(till)
    found, cursor = await page(till, None, limit, **wanted)
    while cursor:
        more, cursor = await page(till, cursor, limit, **wanted)
        found += more
    return found


async def test_the_oldest_change_comes_first(till: Till) -> None:
    made = await sold(till, 7)
    for limit in (1, 2, 3, 7, 8):
        assert await every(till, limit) == made
    await changed(till, made[0])
    assert await every(till, 3) == [*made[1:], made[0]]
    await (await till.office.pool()).execute("UPDATE bookings SET client_id = $1 WHERE id = $2", OTHER, made[3])
    assert await every(till, 3) == [*made[1:3], *made[4:], made[0]], "a client's own alone"


async def test_what_changed_in_one_transaction_is_in_the_order_of_its_ids(till: Till) -> None:
    """A settled batch has one time. A page ends within it as anywhere."""
    made = await sold(till, 9)
    await (await till.office.pool()).execute("UPDATE bookings SET updated_at = now()")
    for limit in (1, 2, 4, 9):
        assert await every(till, limit) == sorted(made)


async def test_since_a_time_that_is_included(till: Till) -> None:
    made = await sold(till, 5)
    pool = await till.office.pool()
    since = await pool.fetchval("SELECT updated_at FROM bookings WHERE id = $1", made[2])
    assert await every(till, 2, updated_since=since) == made[2:]
    assert await every(till, 2, updated_since=since + timedelta(microseconds=1)) == made[3:]
    newest = await till.office.bookings.list(CLIENT, BookingFilter(updated_since=since), None, 20)
    assert [view.id for view in newest.views] == sorted(made[2:], reverse=True), "in the other order, too"
    assert await every(till, 2, updated_since=datetime(2999, 1, 1, tzinfo=UTC)) == []


async def test_filters_hold_in_this_order_too(till: Till) -> None:
    made = await sold(till, 4)
    pool = await till.office.pool()
    await pool.execute("UPDATE bookings SET reference = 'r', status = 'failed' WHERE id = $1", made[1])
    await pool.execute("UPDATE bookings SET duplicate_of = $1 WHERE id = $2", made[0], made[2])
    for wanted in ({"status": "failed"}, {"reference": "r"}, {"status": "failed", "event_id": till.event.id}):
        assert await every(till, 1, **wanted) == [made[1]]
    assert await every(till, 1, status="confirmed", customer_id="nobody") == []
    assert await every(till, 1) == [made[0], made[1], made[3]], "a repeat is told by its first"


async def test_nothing_is_passed_over_while_it_changes(till: Till) -> None:
    """What has been shown and changes comes once more, at the end; what has not comes once."""
    made = await sold(till, 6)
    found, cursor = await page(till, None, 2)
    await changed(till, made[0])
    await changed(till, made[4])
    await seen(till)
    while cursor:
        more, cursor = await page(till, cursor, 2)
        found += more
    assert found == [*made[:4], made[5], made[0], made[4]]


async def test_a_page_ends_before_what_is_still_being_written(till: Till, writer: asyncpg.Connection) -> None:
    """A transaction that began before others and commits after them has an earlier time: a page that had gone beyond would
    never show it."""
    made = await sold(till, 4)
    async with writer.transaction():
        await writer.execute("UPDATE bookings SET updated_at = now() WHERE id = $1", made[1])
        await changed(till, made[3])
        found, cursor = await page(till, None, 1)
        while cursor:
            more, cursor = await page(till, cursor, 1)
            found += more
        assert found == [made[0], made[1], made[2]], "the second as it was before"
    assert await every(till, 2) == [made[0], made[2], made[1], made[3]]


async def test_a_copy_is_kept_from_as_of_to_as_of(till: Till, writer: asyncpg.Connection) -> None:
    """However long a transaction stays open: a list ends where it began and says so, and the next one goes on from there."""
    made = await sold(till, 3)
    await seen(till)
    async with writer.transaction():
        began = await writer.fetchval("SELECT now()")
        await writer.execute("UPDATE bookings SET updated_at = now() WHERE id = $1", made[0])
        await changed(till, made[2])

        async def so_far() -> bool:
            return bool(await (await till.office.pool()).fetchval(listing.OVER) == began)

        await eventually(so_far)
        first = await till.office.bookings.list(CLIENT, BY_CHANGE, None, 20)
    assert ([view.id for view in first.views], first.as_of) == (made[:2], began)
    assert await every(till, 2, updated_since=first.as_of) == [made[0], made[2]]


async def test_the_one_that_began_first_is_waited_for(till: Till, writer: asyncpg.Connection) -> None:
    """Of several that are being written."""
    made = await sold(till, 2)
    second = await asyncpg.connect(till.office.settings.database_url)
    try:
        async with writer.transaction():
            began = await writer.fetchval("SELECT now()")
            await writer.execute("UPDATE bookings SET updated_at = now() WHERE id = $1", made[0])
            async with second.transaction():
                await second.execute("UPDATE bookings SET updated_at = now() WHERE id = $1", made[1])

                async def both_are_seen() -> bool:
                    pool = await till.office.pool()
                    writing = "SELECT count(*) FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid()"
                    return bool(await pool.fetchval(writing) >= 2 and await pool.fetchval(listing.OVER) == began)

                await eventually(both_are_seen)
    finally:
        await second.close()


async def test_as_of_leaves_a_moment_to_who_has_just_begun(till: Till) -> None:
    """For a moment a transaction has begun and nobody else can see when."""
    now, over = await (await till.office.pool()).fetchrow(f"SELECT now(), ({listing.OVER})")
    assert now - over >= timedelta(milliseconds=100)
    page = await till.office.bookings.list(CLIENT, BookingFilter(), None, 20)
    assert page.as_of is None, "of a list in another order nothing is told"


async def test_whoever_has_read_for_long_keeps_nobody_waiting(
    till: Till, writer: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a dump does. One that has just begun may still write; one that has written is waited for however old it is."""
    (booking,) = await sold(till, 1)
    other = await asyncpg.connect(till.office.settings.database_url)
    at_once = listing.OVER.replace("1 minute", "0 minutes")
    try:
        async with writer.transaction():
            began = await writer.fetchval("SELECT now()")

            async def beyond(query: str) -> bool:
                return bool(await other.fetchval(query) > began)

            await eventually(lambda: beyond(at_once))
            assert await other.fetchval(listing.OVER) == began
            await writer.execute("UPDATE bookings SET reference = 'x' WHERE id = $1", booking)
            assert await other.fetchval(at_once) == began
        await eventually(lambda: beyond(listing.OVER))
    finally:
        await other.close()


async def test_a_page_that_finds_little_says_where_to_go_on(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "LOOKED_AT", 3)
    made = await sold(till, 8)
    await (await till.office.pool()).execute("UPDATE bookings SET reference = 'r' WHERE id = $1", made[7])
    assert await page(till, None, 5, reference="r") == ([], listing.cursor_of(await place(till, made[2])))
    assert await every(till, 5, reference="r") == [made[7]]
    assert await every(till, 2) == made


async def place(till: Till, booking: str) -> str:
    row = (await till.office.bookings.read_rows([booking]))[booking]
    return listing.place_of(listing.UPDATED, booking, row.updated_us)
