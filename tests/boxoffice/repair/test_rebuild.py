"""Rebuilding fills what Redis lacks, and deletes nothing that it has."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis

from boxoffice import ids
from boxoffice.access.api_keys import KEYS_SHARD
from boxoffice.errors import CannotRun, DriftUnexplained, GateClosed
from boxoffice.office import BoxOffice
from boxoffice.repair.mend import Mender
from boxoffice.repair.rebuild import POSTGRES_WENT_BACK, Rebuilder, shard_lock
from boxoffice.stores import keys
from boxoffice.stores.gate import Gate
from boxoffice.stores.record import unpack
from boxoffice.stores.redis import run_id
from tests.conftest import KEY, SHARD, SaleMaker, counters, settle_all
from tests.support.sales import CLIENT, book


@pytest.fixture
def rebuilder(office: BoxOffice) -> Rebuilder:
    return Rebuilder(SHARD, office.redis, office.pool, office.scripts, office.loader, office.settings)


async def record_of(redis: Redis, booking: str) -> tuple[str, str]:
    """State and idempotency scope."""
    raw = await redis.get(keys.booking(ids.shard_of(booking), booking))
    record = unpack(booking, raw)
    return record.state, record.scope


async def test_an_empty_redis_sells_again(office: BoxOffice, open_sale: SaleMaker, rebuilder: Rebuilder) -> None:
    """Sold stays sold, keys are remembered, customers' counts and the undecided are back, and the gate is open."""
    event = await open_sale(GA=100, VIP=5)
    sold = await book(office, event, GA=2, VIP=1, key="first")
    declined = await book(office, event, GA=3, token="tok_card_declined_0002")
    await settle_all(office)
    waiting = await book(office, event, GA=4, token="tok_3ds_3220")
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
    assert await office.catalogue.client_of_key(KEY) == CLIENT
    assert (
        await office.redis.get(keys.gate(SHARD)) == Gate(report.generation, await run_id(office.redis)).pack().encode()
    )


async def test_survivors_are_all_still_there(office: BoxOffice, open_sale: SaleMaker, rebuilder: Rebuilder) -> None:
    """5,000 pending and 500 held bookings that PostgreSQL has never seen stay accepted, and are settled afterwards."""
    event = await open_sale(GA=20_000)
    await book(office, event, GA=2)
    await settle_all(office)
    pending = await asyncio.gather(*(book(office, event, GA=1, customer=f"c{n % 50}") for n in range(5_000)))
    held = await asyncio.gather(*(book(office, event, GA=2, token=None, customer=f"h{n}") for n in range(500)))
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
    reconcile = rebuilder._reconciler.every_event

    async def every_event(**options: bool) -> object:
        try:
            await book(office, event, GA=1)
        except GateClosed as refusal:
            seen.append(refusal)
        return await reconcile(**options)

    monkeypatch.setattr(rebuilder._reconciler, "every_event", every_event)
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
    async with shard_lock(await office.pool(), SHARD) as alone:
        assert alone
        with pytest.raises(CannotRun):
            await rebuilder.rebuild()
    await rebuilder.rebuild()


# Booking by booking


@pytest.fixture
def mender(office: BoxOffice, rebuilder: Rebuilder) -> Mender:
    return Mender(SHARD, office.redis, office.pool, rebuilder._reconciler, rebuilder, office.settings)


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
    await book(office, event, GA=1, token="tok_3ds_3220")
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
    lost = await book(office, event, GA=3, token="tok_3ds_3220")
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
    await book(office, event, GA=1, token="tok_card_declined_0002")
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
    monkeypatch.setattr(mender, "_age_ms", -60_000)

    assert (await mender.mend()).settled == 1
    assert (await counters(office, event, "GA")).sold == 2
