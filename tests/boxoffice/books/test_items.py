"""The items of a hold that PostgreSQL has otherwise than Redis: what is sold is what Redis counts."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

from boxoffice.books import rows as settling_rows
from boxoffice.books.bookings import change_hold, lock_hold
from boxoffice.books.items import rewrite_items
from boxoffice.office import BoxOffice
from boxoffice.stores import keys
from boxoffice.stores.record import Record
from tests.conftest import SHARD, SaleMaker, eventually
from tests.support.shop.office import Till


@pytest.fixture
async def till(office: BoxOffice, open_sale: SaleMaker) -> Till:
    return Till(office, await open_sale(GA=10))


async def rows(till: Till, booking: str) -> list[tuple[int, int]]:
    """Quantity of each item, with what all of it costs."""
    found = await till.fetch(
        "SELECT i.quantity, b.amount_cents FROM bookings b JOIN booking_items i ON i.booking_id = b.id WHERE b.id = $1",
        booking,
    )
    return [tuple(row) for row in found]


@pytest.mark.parametrize("redis_has", ["the hold", "its first payment"])
async def test_a_hold_that_postgresql_has_with_other_items(till: Till, redis_has: str) -> None:
    """Its record, of an older copy of Redis, does not say that it was ever changed: it may even be under the payment that
    PostgreSQL has declined. Paid again, it is sold as Redis has it, and gives back as much."""
    booking = await till.hold(GA=1)
    await till.pay(booking, "tok_card_declined")
    paying = await till.office.redis.get(keys.booking(SHARD, booking))
    await till.rest()
    await till.fetch("UPDATE booking_items SET quantity = 4 WHERE booking_id = $1", booking)
    await till.fetch("UPDATE bookings SET amount_cents = 4000 WHERE id = $1", booking)
    if redis_has != "the hold":
        await till.office.redis.set(keys.booking(SHARD, booking), paying)
        await till.office.redis.zadd(keys.pending(SHARD), {booking: 1})
        await till.office.redis.zrem(keys.deadlines(SHARD), booking)
        await till.drain()
    record = await till.record(booking)
    assert record is not None and (record.state, record.changed) == ("H", False)

    await till.pay(booking)
    await till.rest()

    assert await till.state(booking) == "C confirmed"
    assert await rows(till, booking) == [(1, 1_000)]
    assert [row["sold"] for row in await till.fetch("SELECT sold FROM inventory")] == [1]
    assert await till.left("GA") == (9, 0, 1)
    assert await till.cancel(booking) == "cancelled"
    await till.at_rest(booking)
    assert await till.left("GA") == (10, 0, 0)


async def test_a_hold_that_was_decided_since_it_was_looked_at_again_stays_as_it_was_decided(
    till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By somebody who had claimed it with other tiers, and so waits for none of the same locks."""
    booking = await till.hold(GA=1)
    await till.pay(booking, "tok_card_declined")
    await till.rest()
    await till.pay(booking)
    look = settling_rows.recheck

    async def decided_behind(*args: Any) -> None:
        await look(*args)
        await till.fetch("UPDATE booking_items SET quantity = 4 WHERE booking_id = $1", booking)
        await till.fetch("UPDATE bookings SET status = 'cancelled', amount_cents = 4000 WHERE id = $1", booking)
        monkeypatch.setattr(settling_rows, "recheck", look)

    monkeypatch.setattr(settling_rows, "recheck", decided_behind)
    await till.drain()

    assert await rows(till, booking) == [(4, 4_000)]
    assert [row["status"] for row in await till.fetch("SELECT status FROM bookings")] == ["cancelled"]
    assert [row["sold"] for row in await till.fetch("SELECT sold FROM inventory")] == [0]


async def test_items_that_are_there_are_not_written_again(till: Till) -> None:
    """A payment that waits is looked at every few seconds. Of several holds those that changed are written."""
    one, other = await till.hold(GA=1), await till.hold(GA=1)
    for booking in (one, other):
        await till.pay(booking, "tok_card_declined")
    await till.rest()
    for booking in (one, other):
        await till.pay(booking, "tok_3ds")
    await till.drain()
    record, pool = await till.record(one), await till.office.pool()
    assert record is not None
    (line,) = record.body.lines

    async def versions() -> dict[str, str]:
        return {
            str(row["booking_id"]): row["xmin"]
            for row in await till.fetch("SELECT booking_id, xmin::text FROM booking_items")
        }

    before = await versions()
    await till.sooner()
    await till.office.redis.zadd(keys.pending(SHARD), {one: 1, other: 1})
    await till.drain()
    assert await versions() == before
    for tier, quantity, price in ((line.tier, 2, 1_000), (line.tier, 2, 900), (line.tier, 2, 1_000)):
        async with pool.acquire() as connection, connection.transaction():
            changed = record.with_lines((type(line)(tier, quantity, price),))
            await rewrite_items(connection, [await till.record(other), changed])  # type: ignore[list-item]
        assert await rows(till, one) == [(quantity, quantity * price)]
        assert (await versions())[other] == before[other]
    assert before[one] != (await versions())[one]


@pytest.mark.parametrize(
    "taken",
    [
        "", "REVOKE DELETE ON booking_items FROM CURRENT_USER", "REVOKE INSERT ON booking_items FROM CURRENT_USER",
        "REVOKE SELECT ON booking_items FROM CURRENT_USER",
        "REVOKE UPDATE ON bookings FROM CURRENT_USER;"
        "GRANT UPDATE (status, failure_code, updated_at, expires_at) ON bookings TO CURRENT_USER",
    ],
)  # fmt: skip
async def test_a_canary_tries_what_writes_the_items_of_a_hold(till: Till, taken: str) -> None:
    """Of which a new booking has no need."""
    async with (await till.office.pool()).acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        try:
            if taken:
                await connection.execute(taken)
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await settling_rows.touch(connection)
            else:
                await settling_rows.touch(connection)
        finally:
            await transaction.rollback()


@pytest.mark.parametrize("settled", [1, 3])
async def test_two_who_rewrite_the_same_hold_do_so_one_after_the_other(till: Till, settled: int) -> None:
    """A change on its way to PostgreSQL, and a settlement, which may have what was there before: neither deadlock nor a row
    that is there twice, and the later is what stays."""
    booking = await till.hold(GA=1)
    await till.pay(booking, "tok_card_declined")
    await till.rest()
    record, pool = await till.record(booking), await till.office.pool()
    assert record is not None
    (line,) = record.body.lines

    def having(quantity: int) -> Record:
        return record.with_lines((type(line)(line.tier, quantity, line.unit_price_cents),))

    async def settle() -> None:
        async with pool.acquire() as connection, connection.transaction():
            await rewrite_items(connection, [having(settled)])

    async with pool.acquire() as changing, changing.transaction():
        assert await lock_hold(changing, booking)
        settling = asyncio.create_task(settle())
        waiting = "SELECT 1 FROM pg_stat_activity WHERE $1 = ANY(pg_blocking_pids(pid))"
        pid = changing.get_server_pid()
        await eventually(lambda: pool.fetchval(waiting, pid))
        await change_hold(changing, having(2))
    await settling

    assert await rows(till, booking) == [(settled, 1_000 * settled)]
