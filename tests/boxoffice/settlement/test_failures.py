"""What fails: for everybody, so that nobody is to blame, or for one booking, which fails alone."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import msgspec
import pytest

from boxoffice import ids
from boxoffice.books import rows
from boxoffice.office import BoxOffice
from boxoffice.stores import keys
from boxoffice.stores.record import Line, Record
from tests.conftest import SHARD, SaleMaker, counters, eventually, settle_all
from tests.support.checks import check_at_rest, check_conservation
from tests.support.settling import over, tune, work_money
from tests.support.shop.office import book, book_many, record_of, status_of


async def break_inserts(office: BoxOffice, error: str, *, customer: str = "bad") -> None:
    """Make PostgreSQL refuse one customer's bookings with this SQLSTATE."""
    pool = await office.pool()
    await pool.execute(
        f"""
        CREATE OR REPLACE FUNCTION planted_refusal() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
          IF NEW.customer_id = '{customer}' THEN RAISE EXCEPTION 'planted' USING ERRCODE = '{error}'; END IF;
          RETURN NEW;
        END $$;
        CREATE OR REPLACE TRIGGER planted_refusal BEFORE INSERT ON bookings FOR EACH ROW EXECUTE FUNCTION planted_refusal()
        """
    )


@pytest.fixture
async def mend_inserts(office: BoxOffice) -> AsyncIterator[Any]:
    """Takes the planted refusal away, at the latest when the test ends."""

    async def mend() -> None:
        await (await office.pool()).execute("DROP TRIGGER IF EXISTS planted_refusal ON bookings")

    yield mend
    await mend()


@pytest.mark.parametrize("error", ["40001", "40P01", "55P03", "57014"])
async def test_transient_errors_retry_the_whole_batch(
    office: BoxOffice, open_sale: SaleMaker, monkeypatch: pytest.MonkeyPatch, error: str
) -> None:
    """Serialisation failures, deadlocks, lock and statement timeouts: no half batch, no attempt counted, no card lost."""
    event = await open_sale(GA=100)
    booked = await book_many(office, event, 20, GA=1)
    failures = iter(range(7))
    real = rows.sell

    async def sell(connection: Any, sold: dict[str, int]) -> None:
        await real(connection, sold)
        if next(failures, None) is not None:
            await connection.execute(f"DO $$ BEGIN RAISE EXCEPTION 'planted' USING ERRCODE = '{error}'; END $$")

    monkeypatch.setattr(rows, "sell", sell)

    await settle_all(office)

    pool = await office.pool()
    assert await pool.fetchval("SELECT count(*) FROM dead_letters") == 0
    assert await pool.fetchval("SELECT count(*) FROM bookings WHERE status = 'confirmed'") == 20
    assert await pool.fetchval("SELECT count(*) FROM payments WHERE last4 = '4242' AND card_name IS NOT NULL") == 20
    await check_at_rest(office, booked)


def but_for_the_answer(record: Record | None) -> Record | None:
    """A record without what a worker remembers of having asked the gateway."""
    if record is None:
        return None
    return msgspec.structs.replace(record, payload=msgspec.structs.replace(record.payload, outcome=None))


async def test_a_released_batch_keeps_its_cards(
    office: BoxOffice, open_sale: SaleMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The card's token stays in the record until PostgreSQL has decided: whoever claims next must be able to pay."""
    event = await open_sale(GA=100)
    (booking,) = await book_many(office, event, 1, GA=1)
    before = await record_of(office, booking)

    async def sell(connection: Any, sold: dict[str, int]) -> None:
        raise asyncpg.SerializationError("planted")

    monkeypatch.setattr(rows, "sell", sell)
    await office.settlements[SHARD].settle(await office.settlements[SHARD].claims.claim())

    after = await record_of(office, booking)
    assert after is not None and after.payload.outcome is not None, "somebody may have asked for the money"
    assert but_for_the_answer(after) == before
    monkeypatch.undo()
    await settle_all(office)
    await check_at_rest(office, [booking])


async def test_an_outage_of_postgresql_parks_nothing_and_counts_no_attempt(
    office: BoxOffice, open_sale: SaleMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Leases are given back, claiming pauses, and everything is settled once it is back."""
    event = await open_sale(GA=100)
    booked = await book_many(office, event, 30, GA=1)
    settlement = office.settlements[SHARD]

    async def away() -> Any:
        raise ConnectionRefusedError

    over(monkeypatch, settlement, away)
    for _ in range(5):
        settlement.claims.closed_until = 0.0
        async with asyncio.timeout(30):
            await settlement.drain()

        async def due() -> bool:
            seconds, micros = await office.redis.time()
            now = seconds * 1_000 + micros / 1_000
            return bool(await office.redis.zcount(keys.pending(SHARD), 0, now) == 30)

        assert all(
            score % 1 == 0 for _, score in await office.redis.zrange(keys.pending(SHARD), 0, -1, withscores=True)
        )
        await eventually(due)
    assert await office.redis.zcard(keys.dead(SHARD)) == 0
    await check_conservation(office)

    monkeypatch.undo()
    await settle_all(office)
    assert await (await office.pool()).fetchval("SELECT count(*) FROM dead_letters") == 0
    await check_at_rest(office, booked)


async def test_an_outage_in_the_middle_of_a_commit_is_no_lapse(
    office: BoxOffice, open_sale: SaleMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL went away before it answered: nobody knows whether it committed. The batch is looked at again soon."""
    event = await open_sale(GA=100)
    booked = await book_many(office, event, 10, GA=1)
    before = [await record_of(office, booking) for booking in booked]
    real = rows.sell

    async def sell(connection: Any, sold: dict[str, int]) -> None:
        await real(connection, sold)
        raise ConnectionResetError

    monkeypatch.setattr(rows, "sell", sell)
    await office.settlements[SHARD].settle(await office.settlements[SHARD].claims.claim())

    assert all(score % 1 == 0 for _, score in await office.redis.zrange(keys.pending(SHARD), 0, -1, withscores=True))
    assert [but_for_the_answer(await record_of(office, booking)) for booking in booked] == before
    monkeypatch.undo()
    await settle_all(office)
    await check_at_rest(office, booked)


async def poison(office: BoxOffice, booking: str, **changes: Any) -> None:
    """Change a pending record so that it cannot be written. It stays readable."""
    record = await record_of(office, booking)
    assert record is not None
    price = changes.pop("price", None)
    if price is not None:
        changes["lines"] = tuple(Line(line.tier, line.quantity, price) for line in record.body.lines)
    record.body = msgspec.structs.replace(record.body, **changes)
    await office.redis.set(keys.booking(ids.shard_of(booking), booking), record.pack())


POISONS: dict[str, dict[str, Any]] = {
    "NUL": {"customer": "a\0b"},
    "another client": {"client": "nobody000000"},
    "an amount below zero": {"price": -1},
    "an amount beyond 64 bits": {"price": 2**62},
    "a lone surrogate": {"reference": "\ud800"},
}


@pytest.mark.parametrize("kind", [*POISONS, "no payment key", "no record"])
async def test_poison_in_a_batch_fails_alone(office: BoxOffice, open_sale: SaleMaker, kind: str) -> None:
    """249 of 250 are confirmed in the same pass. The offender is tried again alone, then parked with its tickets."""
    tune(office.settlements[SHARD], attempts_max=3)
    event = await open_sale(GA=1_000)
    booked = await book_many(office, event, 250, GA=2)
    bad = booked[random.Random(7).randrange(250)]
    if kind == "no payment key":
        record = await record_of(office, bad)
        assert record is not None
        record.payment_key = ""
        await office.redis.set(keys.booking(SHARD, bad), record.pack())
    elif kind == "no record":
        await office.redis.delete(keys.booking(SHARD, bad))
    elif kind == "a lone surrogate":
        raw = await office.redis.get(keys.booking(SHARD, bad))
        await office.redis.set(keys.booking(SHARD, bad), raw.replace(b"]]\n", b'],"\\ud800"]\n', 1))
    else:
        await poison(office, bad, **POISONS[kind])

    await office.settlements[SHARD].drain()

    pool = await office.pool()
    assert await pool.fetchval("SELECT count(*) FROM bookings WHERE status = 'confirmed'") == 249
    await settle_all(office)
    assert await office.redis.zrange(keys.dead(SHARD), 0, -1) == [bad.encode()]
    row = await pool.fetchrow("SELECT booking_id::text AS id, parked_at, attempts, error FROM dead_letters")
    assert row is not None and row["id"] == bad and row["parked_at"] is not None
    assert (await counters(office, event, "GA")).held == 2
    assert await pool.fetchval("SELECT count(*) FROM dead_letters") == 1


async def test_an_offender_is_tried_alone_and_settles_once_the_reason_is_gone(
    office: BoxOffice, open_sale: SaleMaker, mend_inserts: Any
) -> None:
    """Its card is still there, so it is paid like any other."""
    event = await open_sale(GA=1_000)
    bad = await book(office, event, customer="bad", GA=2)
    good = await book_many(office, event, 20, GA=1)
    before = await record_of(office, bad.booking_id)
    await break_inserts(office, "22000")

    await office.settlements[SHARD].drain()

    assert {await status_of(office, booking) for booking in good} == {"confirmed"}
    assert await status_of(office, bad.booking_id) is None
    assert but_for_the_answer(await record_of(office, bad.booking_id)) == before
    await mend_inserts()
    await settle_all(office)
    await work_money(office)
    pool = await office.pool()
    assert await pool.fetchval("SELECT last4 FROM payments WHERE booking_id = $1::uuid", bad.booking_id) == "4242"
    await check_at_rest(office, [bad.booking_id, *good])


async def test_parking_needs_as_many_failures_as_are_allowed(
    office: BoxOffice, open_sale: SaleMaker, mend_inserts: Any
) -> None:
    """Each later than the one before."""
    event = await open_sale(GA=1_000)
    bad = await book(office, event, customer="bad", GA=2)
    await break_inserts(office, "22000")
    pool = await office.pool()
    delays = []
    for attempt in range(1, office.settings.worker.attempts_max + 1):
        await office.settlements[SHARD].drain()
        assert await pool.fetchval("SELECT attempts FROM dead_letters") == attempt
        due = await office.redis.zscore(keys.pending(SHARD), bad.booking_id)
        seconds, micros = await office.redis.time()
        if due is not None:
            delays.append(due - seconds * 1_000 - micros / 1_000)
            await office.redis.zadd(keys.pending(SHARD), {bad.booking_id: 1})

    assert len(delays) == office.settings.worker.attempts_max - 1
    assert delays == sorted(delays)
    assert await office.redis.zrange(keys.dead(SHARD), 0, -1) == [bad.booking_id.encode()]
    assert await office.settlements[SHARD].drain()
    assert (await counters(office, event, "GA")).held == 2


async def test_an_unreadable_booking_does_not_stop_the_others_while_postgresql_is_away(
    office: BoxOffice, open_sale: SaleMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It cannot be parked then. Nobody's lease is left to lapse on its account."""
    event = await open_sale(GA=100)
    booked = await book_many(office, event, 5, GA=1)
    await office.redis.set(keys.booking(SHARD, booked[0]), b"garbage")
    settlement = office.settlements[SHARD]

    async def away() -> Any:
        raise ConnectionRefusedError

    over(monkeypatch, settlement, away)
    await settlement.drain()

    scores = dict(await office.redis.zrange(keys.pending(SHARD), 0, -1, withscores=True))
    assert all(scores[booking.encode()] % 1 == 0 for booking in booked[1:])
    monkeypatch.undo()
    settlement.claims.closed_until = 0.0
    await office.redis.zadd(keys.pending(SHARD), {booking: 1 for booking in booked})
    await settle_all(office)
    assert [await status_of(office, booking) for booking in booked] == [None, *(4 * ["confirmed"])]
