"""What was sold, and by which payment: whoever gives back asks here, under the locks of every transaction that sells."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from boxoffice.books import sold
from boxoffice.books.sold import Item, Paid, Sold
from boxoffice.ids import booking_id
from boxoffice.office import BoxOffice
from boxoffice.stores.database import Connection
from tests.conftest import SHARD, SaleMaker
from tests.support.shop.office import Till
from tests.support.shop.orders import CLIENT, OTHER, tier_of

SECOND = timedelta(seconds=30)


@pytest.fixture
async def till(office: BoxOffice, open_sale: SaleMaker) -> Till:
    return Till(office, await open_sale(GA=10, VIP=10, BOX=10))


@pytest.fixture
async def booking(till: Till) -> str:
    """Three tickets for 1,000 and two for 2,000, paid; beside another customer's."""
    await till.book(client=OTHER, customer="bob", GA=1)
    wanted = await till.book(GA=3, VIP=2)
    await till.rest()
    return wanted


@asynccontextmanager
async def transaction(office: BoxOffice) -> AsyncIterator[Connection]:
    async with (await office.pool()).acquire() as connection, connection.transaction():
        yield connection


async def change(till: Till, statement: str, *args: Any) -> None:
    await (await till.office.pool()).execute(statement, *args)


async def find(till: Till, booking: str) -> Sold:
    async with transaction(till.office) as connection:
        found = await sold.find(connection, booking)
    assert found is not None
    return found


async def paid_by(till: Till, booking: str) -> Paid | None:
    async with transaction(till.office) as connection:
        return await sold.lock_payment(connection, booking)


async def test_each_field_is_the_booking_s_or_its_event_s(till: Till, booking: str) -> None:
    """Found without its items: those are read under the lock alone."""
    await change(till, "UPDATE events SET refund_percent = 40")
    assert await find(till, booking) == Sold(
        booking, "confirmed", CLIENT, "ada", None, till.event.id, "USD", 40, SHARD, too_late=False, items=()
    )


async def test_what_was_never_booked_is_not_found(till: Till, booking: str) -> None:
    async with transaction(till.office) as connection:
        assert await sold.find(connection, booking_id(SHARD, 1)) is None


@pytest.mark.parametrize(
    ("status", "cancel_until", "starts", "percent", "too_late"),
    [
        ("active", None, SECOND, 40, False),
        ("active", None, -SECOND, 40, True),
        ("active", SECOND, -SECOND, 40, False),
        ("active", -SECOND, SECOND, 40, True),
        ("paused", -SECOND, SECOND, 40, True),
        ("inactive", SECOND, SECOND, 40, False),
        # Of an event that does not take place everything comes back, whenever it is asked for.
        ("called_off", None, -SECOND, 100, False),
        ("called_off", -SECOND, SECOND, 100, False),
    ],
)
async def test_the_terms_are_those_of_an_event_that_takes_place(
    till: Till,
    booking: str,
    status: str,
    cancel_until: timedelta | None,
    starts: timedelta,
    percent: int,
    too_late: bool,
) -> None:
    """Until `cancel_until`, or the start where there is none."""
    await change(
        till, "UPDATE events SET status = $1, cancel_until = now() + $2::interval, starts_at = now() + $3::interval,"
        " refund_percent = 40", status, cancel_until, starts,
    )  # fmt: skip
    found = await find(till, booking)
    assert (found.refund_percent, found.too_late) == (percent, too_late)


async def test_items_come_in_tier_order_with_what_came_back(till: Till, booking: str) -> None:
    """The order of the locks of every sale, whatever order the rows were written in."""
    expected = [
        Item(tier_of(till.event, "GA"), 3, 1, 1_000),
        Item(tier_of(till.event, "VIP"), 2, 0, 2_000),
    ]
    for item in sorted(expected, reverse=True):  # each row moves behind those before
        await change(
            till, "UPDATE booking_items SET refunded = $3 WHERE booking_id = $1 AND tier_id = $2",
            booking, item.tier, item.refunded,
        )  # fmt: skip
    async with transaction(till.office) as connection:
        await connection.execute("SET LOCAL enable_indexscan = off; SET LOCAL enable_bitmapscan = off")
        found = await sold.lock(connection, booking)
    assert found == (await find(till, booking))._replace(items=tuple(sorted(expected)))


async def free_rows(till: Till) -> dict[str, set[str]]:
    """Rows that nobody has locked."""
    async with transaction(till.office) as connection:
        return {
            table: {row[0] for row in await connection.fetch(f"SELECT {key}::text FROM {table} FOR UPDATE SKIP LOCKED")}
            for table, key in (("bookings", "id"), ("inventory", "tier_id"), ("payments", "booking_id"))
        }


async def test_who_gives_back_has_the_booking_its_tiers_and_its_payment_alone(till: Till, booking: str) -> None:
    """Other bookings, other tiers of the event and other payments stay free."""
    before = await free_rows(till)
    tiers = {tier_of(till.event, "GA"), tier_of(till.event, "VIP")}
    async with transaction(till.office) as connection:
        await sold.lock(connection, booking)
        locked = {"bookings": {booking}, "inventory": tiers, "payments": set[str]()}
        assert await free_rows(till) == {table: rows - locked[table] for table, rows in before.items()}
        await sold.lock_payment(connection, booking)
        locked["payments"] = {booking}
        assert await free_rows(till) == {table: rows - locked[table] for table, rows in before.items()}
    assert await free_rows(till) == before


@pytest.mark.parametrize(
    ("status", "failure_code", "due", "is_the_sales"),
    [
        ("authorized", None, None, True),
        ("authorized", None, "capture", True),
        ("captured", None, None, True),
        ("captured", "something_else", None, True),
        # Money that came after its hold had ended, taken without tickets to give for it.
        ("captured", "paid_too_late", None, False),
        ("authorized", "paid_too_late", None, False),
        # Of an attempt before the one that sold: nothing of it was taken.
        ("authorized", None, "void", False),
        ("voided", None, None, False),
        ("declined", "card_declined", None, False),
        ("unknown", None, None, False),
    ],
)
async def test_the_payment_of_a_sale_is_the_one_that_was_taken_in_time(
    till: Till, booking: str, status: str, failure_code: str | None, due: str | None, is_the_sales: bool
) -> None:
    await change(
        till, "UPDATE payments SET status = $2, failure_code = $3, due = $4 WHERE booking_id = $1",
        booking, status, failure_code, due,
    )  # fmt: skip
    (key,) = await till.fetch("SELECT payment_key FROM payments WHERE booking_id = $1", booking)
    assert await paid_by(till, booking) == (Paid(key[0], 7_000, 0) if is_the_sales else None)


async def test_a_booking_that_was_free_has_no_payment(till: Till, booking: str) -> None:
    await change(till, "DELETE FROM payments WHERE booking_id = $1", booking)
    assert await paid_by(till, booking) is None


async def add_refund(connection: asyncpg.Connection, booking: str, status: str, cents: int) -> None:
    """One of the booking's payment."""
    await connection.execute(
        "INSERT INTO refunds (refund_key, booking_id, payment_key, amount_cents, currency, reason, status, owed_since,"
        " failure_code, written_off_at, written_off_by, written_off_reason)"
        " SELECT $2::text || $3::bigint::text, booking_id, payment_key, $3::bigint, currency, 'x', $2,"
        " CASE WHEN $2 = 'owed' THEN now() END, CASE WHEN $2 = 'owed' THEN 'x' END,"
        " CASE WHEN $2 = 'written_off' THEN now() END, CASE WHEN $2 = 'written_off' THEN 'ann' END,"
        " CASE WHEN $2 = 'written_off' THEN 'cash' END FROM payments WHERE booking_id = $1",
        booking, status, cents,
    )  # fmt: skip


async def test_what_is_owed_or_written_off_is_nobody_else_s_to_have_again(till: Till, booking: str) -> None:
    """Whatever else was refunded is in `refunded_cents` already, and other bookings' refunds are theirs."""
    (other,) = await till.fetch("SELECT id::text FROM bookings WHERE id <> $1", booking)
    await change(till, "UPDATE payments SET refunded_cents = 100")
    async with transaction(till.office) as connection:
        for status, cents in (("owed", 20), ("owed", 30), ("written_off", 4), ("due", 7), ("succeeded", 9)):
            await add_refund(connection, booking, status, cents)
        await add_refund(connection, other[0], "owed", 1)
        paid = await sold.lock_payment(connection, booking)
    assert paid is not None
    assert (paid.amount_cents, paid.spoken_for_cents) == (7_000, 154)
