"""Stock that moved outside a settlement reaches Redis once."""

from __future__ import annotations

from typing import Any

import pytest
from redis.exceptions import ResponseError

from boxoffice import ids
from boxoffice.books import moves
from boxoffice.books.moves import apply_moves
from boxoffice.errors import CannotRun
from boxoffice.office import BoxOffice
from boxoffice.repair import reconcile as module
from boxoffice.repair.tools import Repair
from boxoffice.sales.catalogue import EventView
from boxoffice.stores import keys
from boxoffice.stores.record import unpack
from boxoffice.stores.scripts import Call
from boxoffice.stores.shard import Shard
from tests.conftest import CLIENT, SHARD, SaleMaker, counters, settle_all
from tests.support.houses import unheard
from tests.support.shop.office import Died, Till, book
from tests.support.shop.orders import tier_of


def repair_of(office: BoxOffice) -> Repair:
    return office.repair


async def cancelled(office: BoxOffice, event: EventView) -> str:
    """A booking of two that was confirmed, then cancelled in PostgreSQL."""
    booking = (await book(office, event, GA=2)).booking_id
    await settle_all(office)
    async with (await office.pool()).acquire() as connection, connection.transaction():
        await connection.execute("UPDATE inventory SET sold = sold - 2")
        await connection.execute("UPDATE booking_items SET refunded = 2")
        await connection.execute("UPDATE bookings SET status = 'cancelled', failure_code = 'by_shop'")
        await connection.execute(
            "INSERT INTO stock_moves (event_id, tier_id, booking_id, sold_delta, owner) VALUES ($1, $2, $3, -2, $4)",
            event.id, tier_of(event, "GA"), booking, ids.owner_digest(CLIENT, "ada"),
        )  # fmt: skip
    return booking


async def test_a_cancelled_booking_goes_back_on_sale_once(office: BoxOffice, open_sale: SaleMaker) -> None:
    event = await open_sale(GA=10)
    booking = await cancelled(office, event)

    assert await apply_moves(office.shards[SHARD], office.database) == 1
    assert await apply_moves(office.shards[SHARD], office.database) == 0

    counted = await counters(office, event, "GA")
    assert (counted.available, counted.sold) == (10, 0)
    assert await office.redis.hlen(keys.owners(SHARD, event.id)) == 0
    record = unpack(booking, await office.redis.get(keys.booking(SHARD, booking)))
    assert (record.state, record.payload.failure) == ("X", "by_shop")


async def test_a_move_whose_mark_was_lost_is_not_applied_again(office: BoxOffice, open_sale: SaleMaker) -> None:
    """Redis took it, then its worker died before it told PostgreSQL."""
    event = await open_sale(GA=10)
    await cancelled(office, event)
    await apply_moves(office.shards[SHARD], office.database)
    pool = await office.pool()
    await pool.execute("UPDATE stock_moves SET applied_at = NULL")

    assert await apply_moves(office.shards[SHARD], office.database) == 1

    assert (await counters(office, event, "GA")).available == 10
    assert await pool.fetchval("SELECT count(*) FROM stock_moves WHERE applied_at IS NULL") == 0


async def enlarged(office: BoxOffice, event: EventView) -> None:
    """One ticket more, in PostgreSQL."""
    pool, tier = await office.pool(), tier_of(event, "GA")
    await pool.execute("UPDATE inventory SET total = total + 1 WHERE tier_id = $1", tier)
    move = "INSERT INTO stock_moves (event_id, tier_id, sold_delta, total_delta) VALUES ($1, $2, 0, 1)"
    await pool.execute(move, event.id, tier)


@pytest.mark.parametrize("sent_max", [1, 3, 100])
async def test_each_move_is_marked_by_its_own_answer(
    office: BoxOffice, open_sale: SaleMaker, monkeypatch: pytest.MonkeyPatch, sent_max: int
) -> None:
    """Sent together, by a server that has forgotten its scripts: two that were made, one made before that was never marked,
    one of an event that is not loaded, and one of a key that is broken, which is told once the others are done."""
    monkeypatch.setattr(moves, "SENT_MAX", sent_max)
    first, unloaded, broken, repeated, last = [await open_sale(GA=10) for _ in range(5)]
    await enlarged(office, repeated)
    await apply_moves(office.shards[SHARD], office.database)
    pool, redis = await office.pool(), office.redis
    await pool.execute("UPDATE stock_moves SET applied_at = NULL")
    for event in (first, unloaded, broken, last):
        await enlarged(office, event)
    hashes = {event.id: await redis.hgetall(keys.event(SHARD, event.id)) for event in (unloaded, broken)}
    await redis.delete(*(keys.event(SHARD, event) for event in hashes))
    await redis.set(keys.event(SHARD, broken.id), "no hash")
    await redis.script_flush()

    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await apply_moves(office.shards[SHARD], office.database)

    left = await pool.fetch("SELECT event_id FROM stock_moves WHERE applied_at IS NULL")
    assert {row["event_id"] for row in left} == {unloaded.id, broken.id}
    assert [(await counters(office, event, "GA")).total for event in (first, repeated, last)] == [11] * 3
    await redis.delete(keys.event(SHARD, broken.id))
    for event_id, fields in hashes.items():
        await redis.hset(keys.event(SHARD, event_id), mapping=fields)
    assert await apply_moves(office.shards[SHARD], office.database) == 2
    assert [(await counters(office, event, "GA")).total for event in (unloaded, broken)] == [11] * 2


async def test_moves_are_sent_so_many_at_once(
    office: BoxOffice, open_sale: SaleMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the order in which they were made."""
    event, sent, run_all = await open_sale(GA=10), list[list[int]](), Shard.run_all
    for _ in range(5):
        await enlarged(office, event)

    async def noted(here: Shard, calls: list[Call]) -> Any:
        sent.append([int(call.keys[1].rpartition(":")[2].partition("-")[0]) for call in calls])
        return await run_all(here, calls)

    monkeypatch.setattr(moves, "SENT_MAX", 2)
    monkeypatch.setattr(Shard, "run_all", noted)
    assert await apply_moves(office.shards[SHARD], office.database) == 5
    (lowest, *_), *_ = sent
    assert sent == [[lowest, lowest + 1], [lowest + 2, lowest + 3], [lowest + 4]]
    assert (await counters(office, event, "GA")).available == 15


async def test_reconcile_applies_open_moves(office: BoxOffice, open_sale: SaleMaker) -> None:
    """An open move is no drift."""
    event = await open_sale(GA=10)
    await cancelled(office, event)

    assert (await repair_of(office).reconcile()).word == "same"
    found = await repair_of(office).reconcile(fix=True)

    assert (found.word, found.reports[0].moved) == ("same", 1)
    assert (await counters(office, event, "GA")).available == 10
    assert await (await office.pool()).fetchval("SELECT count(*) FROM stock_moves WHERE applied_at IS NULL") == 0


@pytest.mark.parametrize("drifted", [0, -3])
async def test_reconcile_takes_every_open_move_however_many(
    office: BoxOffice, open_sale: SaleMaker, monkeypatch: pytest.MonkeyPatch, drifted: int
) -> None:
    """What PostgreSQL says was sold has them all: one that was left out would be made once more, and its ticket sold twice."""
    monkeypatch.setattr("boxoffice.books.moves.MOVES_MAX", 1)
    event = await open_sale(GA=10)
    for _ in range(3):
        await cancelled(office, event)
    assert await (await office.pool()).fetchval("SELECT count(*) FROM stock_moves WHERE applied_at IS NULL") == 3
    await office.redis.hincrby(keys.event(SHARD, event.id), f"a:{tier_of(event, 'GA')}", drifted)

    looked = await repair_of(office).reconcile()
    found = await repair_of(office).reconcile(fix=True)
    while await apply_moves(office.shards[SHARD], office.database):
        pass

    assert (looked.word, found.word) == (("drift", "fixed") if drifted else ("same", "same"))
    assert found.reports[0].moved == 3
    counted = await counters(office, event, "GA")
    assert (counted.available, counted.held, counted.sold, counted.total) == (10, 0, 0, 10)


@pytest.mark.parametrize("drifted", [None, 0, 4])
@pytest.mark.parametrize("most", [1, 2, 5])
async def test_more_moves_than_one_call_takes_are_made_in_parts(
    office: BoxOffice, open_sale: SaleMaker, monkeypatch: pytest.MonkeyPatch, most: int, drifted: int | None
) -> None:
    """And judged by the last, also when counters are lost (None): what PostgreSQL says was sold has them all. A booking that
    Redis takes for pending is concluded by the first. A look makes none, and so has to take them all."""
    event = await open_sale(GA=10)
    for _ in range(4):
        await cancelled(office, event)
    late = (await book(office, event, customer="late", GA=1)).booking_id
    with unheard(monkeypatch), pytest.raises(Died):
        await office.settlements[SHARD].drain()
    name, tier = keys.event(SHARD, event.id), tier_of(event, "GA")
    if drifted is None:
        await office.redis.hdel(name, f"a:{tier}", f"c:{tier}")  # type: ignore[misc]
    else:
        await office.redis.hincrby(name, f"a:{tier}", drifted)  # type: ignore[misc]
    monkeypatch.setattr(module, "LOOKED_AT_MAX", 3)
    with pytest.raises(CannotRun, match="More than 3 stock moves"):
        await office.reconcilers[SHARD].event(event.id, fix=False)
    monkeypatch.setattr(module, "MOVES_MAX", most)

    found = await office.reconcilers[SHARD].event(event.id, fix=True)

    assert (found.word, found.settled, found.moved) == ("same" if drifted == 0 else "fixed", 1, 4)
    counted = await counters(office, event, "GA")
    assert (counted.available, counted.held, counted.sold, counted.total) == (9, 0, 1, 10)
    assert unpack(late, await office.redis.get(keys.booking(SHARD, late))).state == "C"
    assert await (await office.pool()).fetchval("SELECT count(*) FROM stock_moves WHERE applied_at IS NULL") == 0
    assert (await office.reconcilers[SHARD].event(event.id, fix=True, owned=True)).word == "same"


async def test_a_rebuild_counts_a_move_once(office: BoxOffice, open_sale: SaleMaker) -> None:
    event = await open_sale(GA=10)
    booking = await cancelled(office, event)
    await office.redis.flushall()

    await office.rebuilders[SHARD].rebuild()

    counted = await counters(office, event, "GA")
    assert (counted.available, counted.sold) == (10, 0)
    assert unpack(booking, await office.redis.get(keys.booking(SHARD, booking))).state == "X"


async def test_a_capacity_that_was_lowered_in_redis_only_comes_back(office: BoxOffice, open_sale: SaleMaker) -> None:
    """Lowering takes from Redis first; it crashed before PostgreSQL heard of it."""
    event = await open_sale(GA=10)
    sale = keys.event(SHARD, event.id)
    await office.redis.hincrby(sale, f"a:{tier_of(event, 'GA')}", -4)
    await office.redis.hincrby(sale, f"t:{tier_of(event, 'GA')}", -4)

    assert (await repair_of(office).reconcile(fix=True)).word == "fixed"

    assert (await counters(office, event, "GA")).available == 10


async def test_a_shard_that_is_closed_is_said_and_filled(office: BoxOffice, open_sale: SaleMaker) -> None:
    event = await open_sale(GA=10)
    await book(office, event, GA=2)
    await settle_all(office)
    await office.redis.flushall()

    looked = await repair_of(office).reconcile()
    assert (looked.word, looked.closed) == ("drift", (0, 1))
    fixed = await repair_of(office).reconcile(fix=True)
    assert (fixed.word, fixed.rebuilt) == ("fixed", (0, 1))

    assert (await counters(office, event, "GA")).sold == 2
    await office.redis.delete(keys.event(SHARD, event.id))
    assert (await repair_of(office).reconcile()).unloaded == (event.id,)
    assert (await repair_of(office).reconcile(fix=True)).unloaded == ()


async def test_ids_that_come_again_after_a_restore_are_other_moves(office: BoxOffice, open_sale: SaleMaker) -> None:
    """A sequence of PostgreSQL went back, and Redis remembers moves for a week: forty cancellations, forty tickets."""
    event = await open_sale(GA=200)
    till = Till(office, event)
    pool = await office.pool()

    async def forty_cancelled() -> None:
        booked = [await till.book(GA=1, customer=f"c{n}") for n in range(40)]
        await till.rest()
        for booking in booked:
            assert await till.cancel(booking) == "cancelled"
        await till.rest()

    await forty_cancelled()
    await pool.execute("DELETE FROM stock_moves")
    await pool.execute("SELECT setval(pg_get_serial_sequence('stock_moves', 'id'), 1, false)")

    await forty_cancelled()

    assert (await counters(office, event, "GA")).available == 200
    assert await pool.fetchval("SELECT min(id) FROM stock_moves") == 1, "the ids came again"


async def test_a_read_after_a_cancellation_says_cancelled(office: BoxOffice, open_sale: SaleMaker) -> None:
    """Although its tickets cannot go back on sale yet: the counters are not there. Nor does a repeat say otherwise."""
    event = await open_sale(GA=10)
    till = Till(office, event)
    booking = await till.book(GA=2)
    await till.rest()
    counted = await office.redis.hgetall(keys.event(SHARD, event.id))
    await office.redis.delete(keys.event(SHARD, event.id))

    assert await till.cancel(booking) == "cancelled"
    assert (await office.bookings.get(CLIENT, booking)).view.status == "cancelled"
    assert await till.cancel(booking) == "cancelled"

    await office.redis.hset(keys.event(SHARD, event.id), mapping=counted)
    await apply_moves(office.shards[SHARD], office.database)
    assert (await counters(office, event, "GA")).available == 10, "once"
    await till.at_rest(booking)
