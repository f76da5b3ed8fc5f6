"""Several workers on the same bookings, or on the same tiers: each is settled once, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import asyncpg
import pytest

from boxoffice.books import rows
from boxoffice.books.decisions import Claimed
from boxoffice.clock import Clock
from boxoffice.gateway.base import Found
from boxoffice.gateway.simulator.simulator import Simulator
from boxoffice.office import BoxOffice
from boxoffice.settlement.declines import Sifted
from boxoffice.stores import keys
from tests.conftest import SHARD, SaleMaker, counters, settle_all
from tests.support.checks import check_at_rest
from tests.support.settling import tune, work_money
from tests.support.shop.office import book, book_many, status_of


async def test_a_worker_that_wakes_up_after_its_lease_changes_nothing(
    office: BoxOffice, second: BoxOffice, open_sale: SaleMaker
) -> None:
    """Another has settled its batch meanwhile. The late one finds that out under the lock."""
    event = await open_sale(GA=100)
    booked = await book_many(office, event, 20, GA=1)
    mine = await office.settlements[SHARD].claims.claim()
    await office.redis.zadd(keys.pending(SHARD), {booking: 1 for booking in booked})

    await settle_all(second)
    inventory = await (await office.pool()).fetch("SELECT sold, version FROM inventory")
    await office.settlements[SHARD].settle(mine)
    await office.pump.work_given()

    assert await (await office.pool()).fetch("SELECT sold, version FROM inventory") == inventory
    assert await (await office.pool()).fetchval("SELECT count(*) FROM dead_letters") == 0, "nor is it an error"
    assert (await counters(office, event, "GA")).sold == 20
    await check_at_rest(office, booked)


@pytest.mark.parametrize("looks_at_cards", [True, False])
async def test_what_a_worker_refuses_unasked_after_its_lease_is_let_go(
    office: BoxOffice, second: BoxOffice, open_sale: SaleMaker, monkeypatch: pytest.MonkeyPatch, looks_at_cards: bool
) -> None:
    """Another has been told yes for the same payment meanwhile, and finds it refused."""
    event = await open_sale(GA=100)
    theirs, asked = second.settlements[SHARD], []

    async def overtaken() -> None:
        await office.redis.zadd(keys.pending(SHARD), {booking: 1 for booking in booked})
        batch = await theirs.claims.claim()
        asked.append((batch, await theirs.authorising.authorise(batch, batch.claims)))
        mine.leased_s -= office.settings.worker.lease_ms / 2_000

    async def card_of(_: Any, token: str) -> str:
        await overtaken()
        return "spent"

    async def sift(claims: list[Claimed], *_: Any) -> Sifted:
        await overtaken()
        return Sifted([], claims, [])

    if looks_at_cards:
        monkeypatch.setattr(Simulator, "card_of", card_of, raising=False)
    settlement = office.settlements[SHARD]
    if looks_at_cards:
        monkeypatch.setattr(settlement.declines, "looks_at_cards", yes)
        monkeypatch.setattr(settlement.declines, "is_spent", yes)
    else:
        monkeypatch.setattr(settlement.declines, "sift", sift)
    booked = await book_many(office, event, 1, GA=1)
    mine = await settlement.claims.claim()
    await settlement.settle(mine)
    if settlement.slow.tasks:
        await asyncio.wait(settlement.slow.tasks)
    assert await status_of(office, booked[0]) == "failed payment_declined"
    ((batch, ready),) = asked
    await theirs.committing.settle(batch, ready)
    await work_money(office)
    found = await office.gateway.lookup(batch.claims[0].record.payment_key, None)
    assert isinstance(found, Found) and found.status == "voided"
    await check_at_rest(office, booked)


async def yes(*_: Any) -> bool:
    return True


async def test_a_worker_that_is_overtaken_before_it_writes_changes_nothing(
    office: BoxOffice, second: BoxOffice, open_sale: SaleMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL did not know its batch when it looked. Another worker writes a part of it before it does."""
    event = await open_sale(GA=100)
    booked = await book_many(office, event, 20, GA=1)
    mine = office.settlements[SHARD]
    claimed = await mine.claims.claim()
    await office.redis.zadd(keys.pending(SHARD), {booking: 1 for booking in booked[::2]})
    real, raced = rows.lock_inventory, []

    async def overtaken(connection: Any, tiers: Any) -> dict[str, int]:
        if not raced:
            raced.append(True)
            monkeypatch.setattr(rows, "lock_inventory", real)
            await second.settlements[SHARD].drain()
            await second.pump.work_given()
        return await real(connection, tiers)

    monkeypatch.setattr(rows, "lock_inventory", overtaken)
    await mine.settle(claimed)
    await office.pump.work_given()

    assert raced
    assert (await counters(office, event, "GA")).sold == 20
    pool = await office.pool()
    assert await pool.fetchval("SELECT count(*) FROM dead_letters") == 0, "losing a race is no error"
    assert await pool.fetchval("SELECT sold FROM inventory WHERE sold > 0") == 20
    await check_at_rest(office, booked)


async def test_two_workers_on_the_very_same_bookings_settle_each_once(
    office: BoxOffice, second: BoxOffice, open_sale: SaleMaker
) -> None:
    """Leases lapsed, both have the batch, both go through every step at once."""
    event = await open_sale(GA=1_000, VIP=5)
    for _ in range(5):
        booked = await book_many(office, event, 40, GA=1)
        mine = await office.settlements[SHARD].claims.claim()
        await office.redis.zadd(keys.pending(SHARD), {booking: 1 for booking in booked})
        theirs = await second.settlements[SHARD].claims.claim()
        while len(theirs.claims) < 40:
            theirs.claims += (await second.settlements[SHARD].claims.claim()).claims
        await asyncio.gather(office.settlements[SHARD].settle(mine), second.settlements[SHARD].settle(theirs))
        await asyncio.gather(office.pump.work_given(), second.pump.work_given())
        await settle_all(office)
        await check_at_rest(office, booked)
    assert (await counters(office, event, "GA")).sold == 200
    assert await (await office.pool()).fetchval("SELECT count(*) FROM dead_letters") == 0, "losing a race is no error"


async def test_a_worker_that_lost_the_race_never_captures_what_the_other_let_go(
    office: BoxOffice, second: BoxOffice, open_sale: SaleMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had decided to sell, its transaction failed, and meanwhile another worker found the tier sold out."""
    office.clock = Clock(sleep=_let_other_win(second))
    event = await open_sale(GA=10)
    (booking,) = await book_many(office, event, 1, GA=2)
    mine = await office.settlements[SHARD].claims.claim()
    await office.redis.zadd(keys.pending(SHARD), {booking: 1})
    real = rows.sell
    first = True

    async def sell(connection: Any, sold: dict[str, int]) -> None:
        nonlocal first
        await real(connection, sold)
        if first:
            first = False
            raise asyncpg.SerializationError("planted")

    monkeypatch.setattr(rows, "sell", sell)
    await office.settlements[SHARD].settle(mine)
    monkeypatch.undo()
    await office.pump.work_given()
    await work_money(office)

    assert await status_of(office, booking) == "failed sold_out_at_commit"
    assert [kept.payment.captured_cents async for kept in office.gateway.records()] == [0]


def _let_other_win(second: BoxOffice) -> Any:
    """In the pause between two rounds, the other worker settles the batch while nothing is left."""
    done = False

    async def sleep(_seconds: float) -> None:
        nonlocal done
        if not done:
            done = True
            pool = await second.pool()
            await pool.execute("UPDATE inventory SET total = 0")
            await second.settlements[SHARD].drain()
            await pool.execute("UPDATE inventory SET total = 10")

    return sleep


async def test_batches_that_share_forty_tiers_never_deadlock(
    office: BoxOffice, second: BoxOffice, open_sale: SaleMaker
) -> None:
    """Their rows are locked in tier order, so two batches wait for each other instead."""
    codes = [f"T{n:02d}" for n in range(40)]
    event = await open_sale(**dict.fromkeys(codes, 1_000))
    chance = random.Random(1)
    pool = await office.pool()
    before = await pool.fetchval("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
    booked: list[str] = []
    for _ in range(8):
        booked += [
            (await book(office, event, customer=f"c{n}", **dict.fromkeys(chance.sample(codes, 10), 1))).booking_id
            for n in range(16)
        ]
    for settlement in (*office.settlements, *second.settlements):
        tune(settlement, batch_max=8)
    await asyncio.gather(*(batch_after_batch(each) for each in (office, second) for _ in range(4)))
    await settle_all(office)
    await settle_all(second)

    assert await pool.fetchval("SELECT count(*) FROM bookings WHERE status = 'confirmed'") == len(booked)
    await pool.execute("SELECT pg_stat_force_next_flush()")
    assert await pool.fetchval("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") == before
    await check_at_rest(office, booked)


async def batch_after_batch(office: BoxOffice) -> None:
    """One of many tasks that claim and settle."""
    settlement = office.settlements[SHARD]
    while True:
        batch = await settlement.claims.claim()
        if not batch.claims:
            return
        await settlement.settle(batch)
