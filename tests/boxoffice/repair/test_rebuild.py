"""Rebuilding fills what Redis lacks, and deletes nothing that it has."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime
from typing import Any

import pytest
from redis.asyncio import Redis

from boxoffice import ids
from boxoffice.access.api_keys import KEYS_SHARD
from boxoffice.errors import CannotRun, DriftUnexplained, GateClosed
from boxoffice.office import BoxOffice
from boxoffice.repair import rebuild as rebuild_module
from boxoffice.repair.mend import Mender
from boxoffice.repair.rebuild import POSTGRES_WENT_BACK, REPAIR_LOCK, Rebuilder, shard_lock
from boxoffice.stores import fence, keys
from boxoffice.stores.gate import Gate
from boxoffice.stores.record import unpack
from boxoffice.stores.redis import run_id
from tests.conftest import KEY, SHARD, SaleMaker, counters, settle_all
from tests.support.houses import Houses
from tests.support.shop.office import book
from tests.support.shop.orders import CLIENT


@pytest.fixture
def rebuilder(office: BoxOffice) -> Rebuilder:
    return office.rebuilders[SHARD]


async def record_of(redis: Redis, booking: str) -> tuple[str, str]:
    """State and idempotency scope."""
    raw = await redis.get(keys.booking(ids.shard_of(booking), booking))
    record = unpack(booking, raw)
    return record.state, record.scope


async def test_an_empty_redis_sells_again(office: BoxOffice, open_sale: SaleMaker, rebuilder: Rebuilder) -> None:
    """Sold stays sold, keys are remembered, customers' counts and the undecided are back, and the gate is open."""
    event = await open_sale(GA=100, VIP=5)
    sold = await book(office, event, GA=2, VIP=1, key="first")
    declined = await book(office, event, GA=3, token="tok_card_declined")
    await settle_all(office)
    waiting = await book(office, event, GA=4, token="tok_3ds")
    for settlement in office.settlements:
        await settlement.drain()
    owners = await office.redis.hgetall(keys.owners(SHARD, event.id))
    before = unpack(sold.booking_id, await office.redis.get(keys.booking(SHARD, sold.booking_id)))
    assert (await record_of(office.redis, waiting.booking_id))[0] == "P"
    await office.redis.flushall()

    report = await rebuilder.rebuild()

    assert (report.undecided, report.final, report.events) == (1, 2, 1)
    counted = await counters(office, event, "GA")
    assert (counted.available, counted.held, counted.sold) == (94, 4, 2)
    assert (await record_of(office.redis, waiting.booking_id))[0] == "P"
    assert await office.redis.zrange(keys.pending(SHARD), 0, -1) == [waiting.booking_id.encode()]
    assert await office.redis.hgetall(keys.owners(SHARD, event.id)) == owners
    assert (await record_of(office.redis, declined.booking_id))[0] == "F"
    after = unpack(sold.booking_id, await office.redis.get(keys.booking(SHARD, sold.booking_id)))
    assert after.payload.outcome is not None and after.payload.outcome.status == "captured", (
        "known since it was settled"
    )
    after.payload = before.payload
    assert after == before, "as it was, word for word"
    assert await office.redis.ttl(keys.booking(SHARD, sold.booking_id)) > 86_000
    again = await book(office, event, GA=2, VIP=1, key="first")
    assert (again.booking_id, again.replayed) == (sold.booking_id, True)
    await office.loader.load(KEYS_SHARD)
    assert (await office.catalogue.api_keys.caller_of(KEY)).client == CLIENT
    assert (
        await office.redis.get(keys.gate(SHARD)) == Gate(report.generation, await run_id(office.redis)).pack().encode()
    )


async def test_survivors_are_all_still_there(office: BoxOffice, open_sale: SaleMaker, rebuilder: Rebuilder) -> None:
    """5,000 pending and 500 held bookings that PostgreSQL has never seen stay accepted, and are settled afterwards."""
    event = await open_sale(GA=20_000)
    await book(office, event, GA=2)
    await settle_all(office)
    pending, held = [], []
    for start in range(0, 5_000, 250):  # no more at once than may wait
        some = range(start, start + 250)
        pending += await asyncio.gather(*(book(office, event, GA=1, customer=f"c{n % 50}") for n in some))
    for start in range(0, 500, 250):
        some = range(start, start + 250)
        held += await asyncio.gather(*(book(office, event, GA=2, token=None, customer=f"h{n}") for n in some))
    survivors = {admitted.booking_id for admitted in (*pending, *held)}
    await office.redis.delete(
        keys.event(SHARD, event.id), keys.owners(SHARD, event.id), keys.catalogue(SHARD), keys.gate(SHARD)
    )

    report = await rebuilder.rebuild()

    waiting = await office.redis.zrange(keys.pending(SHARD), 0, -1) + await office.redis.zrange(
        keys.deadlines(SHARD), 0, -1
    )
    assert {booking.decode() for booking in waiting} == survivors
    counted = await counters(office, event, "GA")
    assert (counted.held, counted.sold) == (6_000, 2)
    assert report.reports[0].oversold == 0
    await settle_all(office, timeout_s=60)
    counted = await counters(office, event, "GA")
    assert (counted.held, counted.sold) == (1_000, 5_002)


async def test_survivors_that_stand_in_no_set_stay_accepted(
    office: BoxOffice, open_sale: SaleMaker, rebuilder: Rebuilder
) -> None:
    """Nobody would ever claim or expire them, and a recount would sell their tickets again."""
    event = await open_sale(GA=100)
    pending = await book(office, event, GA=2)
    held = await book(office, event, GA=3, token=None)
    await office.redis.delete(keys.pending(SHARD), keys.deadlines(SHARD), keys.event(SHARD, event.id), keys.gate(SHARD))

    await rebuilder.rebuild()

    assert (await counters(office, event, "GA")).held == 5
    deadline = unpack(held.booking_id, await office.redis.get(keys.booking(SHARD, held.booking_id))).deadline_ms
    assert await office.redis.zscore(keys.deadlines(SHARD), held.booking_id) == deadline
    await settle_all(office)
    assert (await record_of(office.redis, pending.booking_id))[0] == "C"


async def test_nobody_is_admitted_meanwhile(
    office: BoxOffice, open_sale: SaleMaker, rebuilder: Rebuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gate is closed first and opened last: until then it is 503, never sold out, never unlimited."""
    event = await open_sale(GA=10)
    seen = []
    reconcile = rebuilder.reconciler.every_event

    async def every_event(**options: bool) -> object:
        try:
            await book(office, event, GA=1)
        except GateClosed as refusal:
            seen.append(refusal)
        return await reconcile(**options)

    monkeypatch.setattr(rebuilder.reconciler, "every_event", every_event)
    await rebuilder.rebuild()

    assert len(seen) == 1
    await book(office, event, GA=1)


async def test_the_sequence_leaps_beyond_what_was_lost(
    office: BoxOffice, open_sale: SaleMaker, rebuilder: Rebuilder
) -> None:
    event = await open_sale(GA=10)
    await book(office, event, GA=1)
    await settle_all(office)
    await office.redis.flushall()

    await rebuilder.rebuild()

    assert int(await office.redis.get(keys.sequence(SHARD))) == 1_000_001


async def test_it_refuses_when_postgresql_went_back(
    office: BoxOffice, open_sale: SaleMaker, rebuilder: Rebuilder
) -> None:
    """Of a shard that it does not know: only an operator may say that what PostgreSQL has is all there is."""
    await open_sale(GA=10)
    await office.redis.sadd(keys.told(SHARD), "50:1")
    await (await office.pool()).execute("DELETE FROM shards")
    with pytest.raises(DriftUnexplained):
        await rebuilder.rebuild()
    assert not await office.redis.exists(keys.gate(SHARD))

    report = await rebuilder.rebuild(accept_postgres=True)

    assert (
        await office.redis.get(keys.gate(SHARD)) == Gate(report.generation, await run_id(office.redis)).pack().encode()
    )
    assert not await office.redis.exists(keys.told(SHARD)), "nothing is missed any more"
    assert await (await office.pool()).fetchval("SELECT max(alert) FROM shards") is None


async def test_an_alert_keeps_it_refusing(office: BoxOffice, rebuilder: Rebuilder) -> None:
    """Also after the Redis that saw it has been lost."""
    await (await office.pool()).execute("UPDATE shards SET alert = $1", POSTGRES_WENT_BACK)
    with pytest.raises(DriftUnexplained):
        await rebuilder.rebuild()


async def test_one_process_at_a_time(office: BoxOffice, rebuilder: Rebuilder) -> None:
    async with shard_lock(office.database, SHARD) as alone:
        assert alone
        held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND (classid, objid) = ($1, $2)"
        assert await (await office.pool()).fetchval(held, REPAIR_LOCK, SHARD) == 1, (
            "processes of other releases look there"
        )
        with pytest.raises(CannotRun):
            await rebuilder.rebuild()
    await rebuilder.rebuild()


# Booking by booking


@pytest.fixture
def mender(office: BoxOffice, rebuilder: Rebuilder) -> Mender:
    return office.menders[SHARD]


async def aged(office: BoxOffice) -> None:
    """Long after everything that happened so far."""
    await (await office.pool()).execute("UPDATE bookings SET updated_at = updated_at - interval '1 hour'")


async def test_mend_does_nothing_where_nothing_is_wrong(
    office: BoxOffice, open_sale: SaleMaker, mender: Mender
) -> None:
    event = await open_sale(GA=10)
    await book(office, event, GA=1)
    await settle_all(office)
    await book(office, event, GA=1, token=None)
    await book(office, event, GA=1, token="tok_3ds")
    await office.settlements[SHARD].drain()
    await aged(office)

    assert await mender.mend() == (0, 0, 0, 0, 0)


async def test_mend_finds_bookings_that_nobody_would_claim(
    office: BoxOffice, open_sale: SaleMaker, mender: Mender, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL has never heard of them. A pass looks at a part of the records; the passes together at all."""
    event = await open_sale(GA=100)
    monkeypatch.setattr("boxoffice.repair.strays.PAGE", 5)
    monkeypatch.setattr("boxoffice.repair.mend.STRAY_PAGES", 1)
    await asyncio.gather(*(book(office, event, GA=1, customer=f"c{n}") for n in range(20)))
    await office.redis.delete(keys.pending(SHARD))

    found = [(await mender.mend()).gathered for _ in range(20)]

    assert sum(found) == 20
    assert max(found) < 20, "a part at a time"
    await settle_all(office)
    assert (await counters(office, event, "GA")).sold == 20


async def test_mend_brings_back_a_pending_booking_that_redis_lost(
    office: BoxOffice, open_sale: SaleMaker, mender: Mender
) -> None:
    event = await open_sale(GA=10)
    lost = await book(office, event, GA=3, token="tok_3ds")
    await office.settlements[SHARD].drain()
    sale = {f"a:{event.tiers[0].id}": 10, f"h:{event.tiers[0].id}": 0}
    await office.redis.hset(keys.event(SHARD, event.id), mapping=sale)
    await office.redis.delete(keys.booking(SHARD, lost.booking_id), keys.pending(SHARD))
    assert (await mender.mend()).restored == 0, "somebody may be at it"
    await aged(office)

    assert (await mender.mend()).restored == 1

    assert await office.redis.zrange(keys.pending(SHARD), 0, -1) == [lost.booking_id.encode()]
    assert (await counters(office, event, "GA")).held == 3


async def test_mend_ends_holds_that_ended_in_redis(office: BoxOffice, open_sale: SaleMaker, mender: Mender) -> None:
    """A hold whose payment was declined is known to PostgreSQL as held; then its deadline passed and its record went."""
    event = await open_sale(GA=10)
    pool = await office.pool()
    await book(office, event, GA=1, token="tok_card_declined")
    await settle_all(office)
    await pool.execute("UPDATE bookings SET status = 'held', expires_at = now() - interval '1 hour'")
    await aged(office)
    await office.redis.delete(*await office.redis.keys("*:bk:*"))

    assert (await mender.mend()).expired == 1
    assert await pool.fetchval("SELECT status FROM bookings") == "expired"


async def test_mend_settles_what_waits_in_redis_although_it_is_decided(
    office: BoxOffice, open_sale: SaleMaker, mender: Mender, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = await open_sale(GA=10)
    old = await book(office, event, GA=2)
    sale, pending = (
        await office.redis.hgetall(keys.event(SHARD, event.id)),
        await office.redis.dump(keys.pending(SHARD)),
    )
    raw = await office.redis.get(keys.booking(SHARD, old.booking_id))
    await settle_all(office)
    await office.redis.hset(keys.event(SHARD, event.id), mapping=sale)
    await office.redis.restore(keys.pending(SHARD), 0, pending, replace=True)
    await office.redis.set(keys.booking(SHARD, old.booking_id), raw)
    assert (await mender.mend()).settled == 0, "the workers have it in hand"
    monkeypatch.setattr(mender, "age_ms", -60_000)

    assert (await mender.mend()).settled == 1
    assert (await counters(office, event, "GA")).sold == 2


# ------------------------------------------------------------------ from when on, and how far


@pytest.mark.parametrize(("raw", "found"), [(None, None), (b"1500", 1.5), (b"0", 0.0), (b"", None), (b"soon", None)])
async def test_when_redis_was_last_seen_to_agree(
    office: BoxOffice, rebuilder: Rebuilder, raw: bytes | None, found: float | None
) -> None:
    """In its own shard, in seconds."""
    await office.redis.set(keys.sound(0), 9_000)
    if raw is not None:
        await office.redis.set(keys.sound(SHARD), raw)
    assert await rebuilder.sound_s() == found


@pytest.mark.parametrize("sound_s", [None, 1_800_000_000])
async def test_what_ended_since_redis_was_last_sound_is_compared(
    office: BoxOffice, open_sale: SaleMaker, rebuilder: Rebuilder, monkeypatch: pytest.MonkeyPatch, sound_s: int | None
) -> None:
    """And what may have been decided a lease and five seconds before, in a transaction that ended later; without a word,
    as long as records live."""
    await open_sale(GA=1)
    asked: list[tuple[int, float]] = []
    real = rebuild_module.queries.finals_since

    async def seen(connection: Any, shard: int, since: datetime) -> list[str]:
        asked.append((shard, since.timestamp()))
        return await real(connection, shard, since)

    monkeypatch.setattr(rebuild_module.queries, "finals_since", seen)
    if sound_s is not None:
        await office.redis.set(keys.sound(SHARD), 1_000 * sound_s)
    now_s = time.time()
    await rebuilder.check()
    worker = office.settings.worker
    before_s = worker.lease_ms / 1_000 + 5
    ((shard, since_s),) = asked
    assert shard == SHARD
    if sound_s is None:
        assert since_s == pytest.approx(now_s - worker.settled_ttl_s - before_s, abs=10)
    else:
        assert since_s == sound_s - before_s


@pytest.mark.parametrize("highest", ["redis", "bookings", "shards"])
async def test_the_sequence_leaps_beyond_whoever_came_farthest(
    office: BoxOffice, open_sale: SaleMaker, rebuilder: Rebuilder, highest: str
) -> None:
    """What is remembered of the other shard is its own; nothing of it changes."""
    event = await open_sale(GA=10)
    await book(office, event, GA=1)
    await settle_all(office)
    pool, far = await office.pool(), 5_000_000
    await pool.execute("UPDATE shards SET sequence = 7, alert = 'x', server = 'old'")
    await pool.execute("UPDATE shards SET sequence = 9000000 WHERE shard = 0")
    if highest == "redis":
        await office.redis.set(keys.sequence(SHARD), far)
    elif highest == "bookings":
        await pool.execute("UPDATE bookings SET sequence = $1", far)
    else:
        await pool.execute("UPDATE shards SET sequence = $1 WHERE shard = $2", far, SHARD)
    before = dict(await pool.fetchrow("SELECT * FROM shards WHERE shard = 0"))

    generation = await rebuilder.open_gate("the run", [])

    assert int(await office.redis.get(keys.sequence(SHARD))) == far + 1_000_000
    row = await pool.fetchrow("SELECT generation, sequence, run_id, server, alert FROM shards WHERE shard = $1", SHARD)
    assert tuple(row) == (generation, far + 1_000_000, "the run", "", None)
    assert await office.redis.get(keys.gate(SHARD)) == Gate(generation, "the run").pack().encode()
    assert dict(await pool.fetchrow("SELECT * FROM shards WHERE shard = 0")) == before


async def test_what_was_made_good_is_missed_no_more(
    office: BoxOffice, open_sale: SaleMaker, rebuilder: Rebuilder
) -> None:
    """Only that: other pairs stay, and the last commit that is there is added."""
    event = await open_sale(GA=10)
    await book(office, event, GA=1)
    await settle_all(office)
    (last,) = await office.redis.smembers(keys.told(SHARD))
    await office.redis.delete(keys.told(SHARD))
    await office.redis.sadd(keys.told(SHARD), "50:1", "51:2", "52:3")
    await rebuilder.open_gate("run", [fence.Pair(50, 1), fence.Pair(52, 3)])
    assert await office.redis.smembers(keys.told(SHARD)) == {b"51:2", last}


@pytest.mark.parametrize("chunk", [1, 2, 250])
async def test_records_are_put_back_each_to_its_event(
    office: BoxOffice, open_sale: SaleMaker, rebuilder: Rebuilder, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    """However many go in one call: with the life that they have, their tickets, and their customers' counts."""
    monkeypatch.setattr(rebuild_module, "CHUNK", chunk)
    events = [await open_sale(GA=10), await open_sale(GA=20)]
    booked = [
        await book(office, event, GA=n, token=None, customer=f"c{n}")
        for n, event in zip((1, 2, 3), [*events, events[0]], strict=True)
    ]
    raws = [await office.redis.get(keys.booking(SHARD, each.booking_id)) for each in booked]
    records = [unpack(each.booking_id, raw) for each, raw in zip(booked, raws, strict=True)]
    before = [await counters(office, event, "GA") for event in events]
    owners = [await office.redis.hgetall(keys.owners(SHARD, event.id)) for event in events]
    for record in records:
        sale, (line,) = keys.event(SHARD, record.event), record.body.lines
        await office.redis.hincrby(sale, f"a:{line.tier}", line.quantity)
        await office.redis.hincrby(sale, f"h:{line.tier}", -line.quantity)
        await office.redis.delete(keys.booking(SHARD, record.id), keys.idempotency(SHARD, record.scope))
        await office.redis.delete(keys.owners(SHARD, record.event), keys.unpaid(SHARD, record.event))
    await office.redis.delete(keys.deadlines(SHARD))

    assert await rebuilder.restore([(0, record) for record in records]) == 3

    assert [await office.redis.get(keys.booking(SHARD, each.booking_id)) for each in booked] == raws
    assert [await counters(office, event, "GA") for event in events] == before
    assert [await office.redis.hgetall(keys.owners(SHARD, event.id)) for event in events] == owners
    assert await rebuilder.restore([(0, record) for record in records]) == 0
    assert await rebuilder.restore([]) == 0


async def test_moves_are_remembered_as_long_as_records_live(
    office: BoxOffice, open_sale: SaleMaker, rebuilder: Rebuilder
) -> None:
    """An older one is of a booking that nobody asks Redis for: it would be kept for a week for nothing."""
    event = await open_sale(GA=10)
    booked = [await book(office, event, GA=1) for _ in range(2)]
    await settle_all(office)
    for each in booked:
        await office.cancellations.cancel(CLIENT, each.booking_id)
    pool, life_s = await office.pool(), office.settings.worker.settled_ttl_s
    for each, age_s in zip(booked, (life_s - 100, life_s + 100), strict=True):
        await pool.execute(
            "UPDATE stock_moves SET applied_at = now() - $2 * interval '1 second' WHERE booking_id = $1",
            each.booking_id, float(age_s),
        )  # fmt: skip
    await office.redis.flushall()
    await rebuilder.rebuild()
    rows = await pool.fetch("SELECT id, nonce FROM stock_moves ORDER BY applied_at DESC")
    there = [await office.redis.exists(keys.moved(SHARD, f"{row['id']}-{row['nonce']}")) for row in rows]
    assert there == [1, 0]


@pytest.mark.parametrize("what", ["nothing", "counters", "event", "record"])
async def test_strays_are_looked_for_when_something_is_counted_anew(
    office: BoxOffice, open_sale: SaleMaker, rebuilder: Rebuilder, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Before that: else their tickets were given to somebody else. Where all agrees nobody looks, for that takes long."""
    event, other = await open_sale(GA=10), await open_sale(GA=10)
    sold = await book(office, event, GA=1)
    await settle_all(office)
    gathered: list[bool] = []
    real = rebuilder.reconciler.strays.gather

    async def gather() -> int:
        gathered.append(True)
        return await real()

    monkeypatch.setattr(rebuilder.reconciler.strays, "gather", gather)
    if what == "counters":
        await office.redis.hincrby(keys.event(SHARD, event.id), f"a:{event.tiers[0].id}", 1)
    elif what == "event":
        await office.redis.delete(keys.event(SHARD, event.id))
    elif what == "record":
        raw = await office.redis.get(keys.booking(SHARD, sold.booking_id))
        await office.redis.set(keys.booking(SHARD, sold.booking_id), b"F" + raw[1:])
    reports = await rebuilder.check()
    assert (len(reports), len(gathered)) == ((0, 0) if what == "nothing" else (1, 1))
    assert all(report.event == event.id for report in reports)
    assert (await counters(office, event, "GA")).available == 9
    assert (await counters(office, other, "GA")).available == 10


@pytest.mark.parametrize("shard", [0, 1])
async def test_a_check_puts_right_the_items_of_what_has_ended_in_its_shard(houses: Houses, shard: int) -> None:
    """An older hold is there, of other items than were sold."""
    house, redis = houses.of(shard)[0], houses.office.redis
    booking = await house.book(None, hold_s=900, customer="ann", GA=1)
    older = await redis.get(keys.booking(shard, booking))
    await house.pay(booking)
    await house.rest()
    await house.fetch("UPDATE booking_items SET quantity = 2 WHERE booking_id = $1", booking)
    await redis.set(keys.booking(shard, booking), older)

    reports = await houses.office.guards[shard].rebuilder.check()

    record = await house.record(booking)
    assert record is not None and record.state == "C"
    assert [line.quantity for line in record.body.lines] == [2]
    assert [report.event for report in reports] == [house.event.id]
    assert await redis.hvals(keys.owners(shard, house.event.id)) == [b"2"], "what its customer has is counted anew"
