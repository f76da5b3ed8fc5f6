"""Reconciling is exact while sales go on, and a look changes nothing."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from boxoffice.errors import CannotRun, GateClosed, NotFound, SoldOut
from boxoffice.office import BoxOffice
from boxoffice.repair.reconcile import Counts, Reconciler
from boxoffice.sales.catalogue import EventView
from boxoffice.stores import keys
from tests.conftest import CLIENT, SHARD, SaleMaker, counters, settle_all
from tests.support.shop.office import book
from tests.support.shop.orders import tier_of
from tests.support.waiting import pace


@pytest.fixture(params=[1, 4])
def shards(request: pytest.FixtureRequest) -> int:
    """Everything here holds for one shard and for four."""
    return int(request.param)


def reconciler_of(office: BoxOffice, event: EventView) -> Reconciler:
    return office.reconcilers[event.shard]


async def shift(office: BoxOffice, event: EventView, code: str, letter: str, by: int) -> None:
    """Drift, from nowhere."""
    await office.redis.hincrby(keys.event(event.shard, event.id), f"{letter}:{tier_of(event, code)}", by)


async def test_a_sound_event_is_left_alone(office: BoxOffice, open_sale: SaleMaker) -> None:
    event = await open_sale(VIP=5, GA=100)
    await book(office, event, GA=2, VIP=1)
    await settle_all(office)
    await book(office, event, GA=3, token=None)
    await book(office, event, GA=4)

    report = await reconciler_of(office, event).event(event.id, fix=True)

    assert (report.word, report.settled, report.moved, report.oversold) == ("same", 0, 0, 0)
    assert [tier.code for tier in report.tiers] == ["VIP", "GA"], "in display order"
    assert report.tiers[1].found == report.tiers[1].expected == Counts(available=91, held=7, sold=2, total=100)
    assert report.tiers[1].drift == Counts(0, 0, 0, 0)


async def test_drift_is_reported_then_fixed(office: BoxOffice, open_sale: SaleMaker) -> None:
    event = await open_sale(GA=100)
    await book(office, event, GA=2)
    await shift(office, event, "GA", "a", -50)
    reconciler = reconciler_of(office, event)

    looked = await reconciler.event(event.id, fix=False)
    assert (looked.word, looked.tiers[0].drift.available) == ("drift", -50)
    assert (await reconciler.event(event.id, fix=False)).word == "drift", "a look mends nothing"
    assert (await reconciler.event(event.id, fix=True)).word == "fixed"

    assert (await counters(office, event, "GA")).available == 98
    assert (await reconciler.event(event.id, fix=True)).word == "same"


@pytest.mark.parametrize("fix", [False, True])
async def test_only_who_mends_tells_redis_of_a_commit(
    office: BoxOffice, open_sale: SaleMaker, monkeypatch: pytest.MonkeyPatch, fix: bool
) -> None:
    """A look tells nothing, so Redis is not to remember by it what PostgreSQL has."""
    event = await open_sale(GA=100)
    await book(office, event, GA=2)
    await settle_all(office)
    reconciler = reconciler_of(office, event)
    real, pairs = reconciler.run, []

    async def run(*args: Any, pair: Any = None, **more: Any) -> Any:
        pairs.append(str(pair or ""))
        return await real(*args, pair=pair, **more)

    monkeypatch.setattr(reconciler, "run", run)
    await reconciler.event(event.id, fix=fix)

    last = await (await office.pool()).fetchval("SELECT number || ':' || nonce FROM batches")
    assert pairs == ([last] if fix else [""])


async def test_a_settlement_that_redis_never_heard_of_is_mirrored(office: BoxOffice, open_sale: SaleMaker) -> None:
    """The worker died between its commit and settle.lua. Failed ones go back on sale, sold ones stay sold."""
    event = await open_sale(GA=100)
    good = await book(office, event, GA=2)
    bad = await book(office, event, GA=3, token="tok_card_declined")
    before = await office.redis.dump(keys.pending(event.shard))
    record_keys = [keys.booking(event.shard, admitted.booking_id) for admitted in (good, bad)]
    records = await office.redis.mget(record_keys)
    sale = await office.redis.hgetall(keys.event(event.shard, event.id))
    await settle_all(office)
    await office.redis.restore(keys.pending(event.shard), 0, before, replace=True)
    await office.redis.mset(dict(zip(record_keys, records, strict=True)))
    await office.redis.hset(keys.event(event.shard, event.id), mapping=sale)
    await office.redis.delete(keys.told(event.shard))

    report = await reconciler_of(office, event).event(event.id, fix=True)

    assert (report.word, report.settled) == ("same", 2)
    (last,) = await (await office.pool()).fetch("SELECT number, nonce FROM batches")
    assert await office.redis.smembers(keys.told(event.shard)) == {b"%d:%d" % tuple(last)}, "should it be lost"
    counted = await counters(office, event, "GA")
    assert (counted.available, counted.held, counted.sold) == (98, 0, 2)
    assert await office.redis.zcard(keys.pending(event.shard)) == 0


async def test_drift_under_traffic_ends_exact(office: BoxOffice, open_sale: SaleMaker) -> None:
    """Counters are thrown off by 500 again and again while customers book, pay and are declined: in the end as many
    are sold as there were, and not one more."""
    event = await open_sale(GA=3_000)
    reconciler = reconciler_of(office, event)
    dice = random.Random(4)
    over = asyncio.Event()
    accepted: list[str] = []

    async def customer() -> None:
        while not over.is_set():
            token = dice.choice(["tok_ok"] * 9 + ["tok_card_declined"])
            try:
                accepted.append((await book(office, event, token=token, GA=dice.randint(1, 4))).booking_id)
            except SoldOut:
                await pace(0.01)

    async def worker() -> None:
        while not over.is_set():
            for settlement in office.settlements:
                await settlement.drain()
            await pace(0.005)

    tasks = [asyncio.create_task(customer()) for _ in range(20)] + [asyncio.create_task(worker())]
    for _ in range(30):
        looked = await reconciler.event(event.id, fix=False)
        assert looked.word == "same", f"no drift is seen where none is: {looked}"
        await shift(office, event, "GA", dice.choice("ahc"), dice.choice([-500, 500]))
        assert (await reconciler.event(event.id, fix=True)).word == "fixed"
        await pace(0.02)
    over.set()
    await asyncio.gather(*tasks)
    await settle_all(office)
    assert (await reconciler.event(event.id, fix=False)).word == "same"

    pool = await office.pool()
    sold = await pool.fetchval("SELECT sold FROM inventory")
    assert sold == await pool.fetchval(
        "SELECT coalesce(sum(quantity), 0) FROM booking_items JOIN bookings ON id = booking_id WHERE status = 'confirmed'"
    )
    assert await pool.fetchval("SELECT count(*) FROM bookings") == len(accepted), "every accepted booking was settled"
    counted = await counters(office, event, "GA")
    assert (counted.held, counted.sold, counted.available) == (0, sold, 3_000 - sold)


async def test_a_surplus_is_repaired_in_one_run(office: BoxOffice, open_sale: SaleMaker) -> None:
    """Redis let in more than there are. What PostgreSQL refuses of it, or what expires, is not on sale again."""
    event = await open_sale(GA=10)
    await shift(office, event, "GA", "a", 4)
    booked = [(await book(office, event, GA=2)).booking_id for _ in range(6)]
    held = (await book(office, event, GA=2, token=None)).booking_id
    reconciler = reconciler_of(office, event)

    report = await reconciler.event(event.id, fix=True)

    assert (report.word, report.oversold, report.tiers[0].expected.available) == ("fixed", 4, -4)
    assert await office.catalogue.availability(event) == [0], "shops see that none is left"
    with pytest.raises(SoldOut):
        await book(office, event, GA=1)
    await settle_all(office)
    assert (await reconciler.event(event.id, fix=False)).word == "same"
    await office.cancellations.cancel(CLIENT, held)
    assert (await reconciler.event(event.id, fix=False)).word == "same"
    assert [(await office.bookings.get(CLIENT, booking)).view.status for booking in booked].count("confirmed") == 5
    assert (await counters(office, event, "GA")).available == 0


async def test_customers_are_counted_anew_on_real_drift(office: BoxOffice, open_sale: SaleMaker) -> None:
    event = await open_sale(GA=100)
    await book(office, event, GA=2, customer="ada")
    await settle_all(office)
    await book(office, event, GA=3, customer="ada")
    owners = keys.owners(event.shard, event.id)
    right = await office.redis.hgetall(owners)
    assert list(right.values()) == [b"5"]
    await office.redis.hset(owners, next(iter(right)), 77)
    await shift(office, event, "GA", "a", 1)

    await reconciler_of(office, event).event(event.id, fix=True)

    assert await office.redis.hgetall(owners) == right


async def test_bookings_that_stand_in_no_set_keep_their_tickets(office: BoxOffice, open_sale: SaleMaker) -> None:
    """Without them a recount finds drift, and would sell what they were promised. First they are put back."""
    event = await open_sale(GA=100)
    await book(office, event, GA=2)
    await book(office, event, GA=3, token=None)
    await office.redis.delete(keys.pending(event.shard), keys.deadlines(event.shard))
    reconciler = reconciler_of(office, event)
    assert (await reconciler.event(event.id, fix=False)).word == "drift"

    assert (await reconciler.event(event.id, fix=True)).word == "same"

    await settle_all(office)
    counted = await counters(office, event, "GA")
    assert (counted.held, counted.sold) == (3, 2)


async def test_an_event_that_redis_lost_is_not_called_sold_out(office: BoxOffice, open_sale: SaleMaker) -> None:
    event = await open_sale(GA=100)
    await office.redis.delete(keys.event(event.shard, event.id))

    with pytest.raises(GateClosed):
        await reconciler_of(office, event).event(event.id, fix=True)


async def test_an_unknown_event_is_not_found(office: BoxOffice) -> None:
    with pytest.raises(NotFound):
        await Reconciler(office.shards[SHARD], office.database, office.settings).event("nothing00000", fix=False)


async def test_a_repair_that_was_killed_leaves_the_sale_open(office: BoxOffice, open_sale: SaleMaker) -> None:
    """Its lock goes with its connection; whoever runs next finds nothing half done."""
    event = await open_sale(GA=100)
    await shift(office, event, "GA", "a", 5)
    victim = await asyncpg.connect(office.settings.database_url)
    transaction = victim.transaction()
    await transaction.start()
    await victim.execute("SELECT 1 FROM inventory FOR UPDATE")
    await book(office, event, GA=2)
    victim.terminate()

    assert (await reconciler_of(office, event).event(event.id, fix=True)).word == "fixed"
    assert (await counters(office, event, "GA")).available == 98


async def test_an_inventory_that_stays_locked_is_said(
    office: BoxOffice, open_sale: SaleMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = await open_sale(GA=100)
    monkeypatch.setattr("boxoffice.repair.reconcile.LOCK_TRIES", 1)
    other = await asyncpg.connect(office.settings.database_url)
    try:
        async with other.transaction():
            await other.execute("SELECT 1 FROM inventory FOR UPDATE")
            with pytest.raises(CannotRun):
                await reconciler_of(office, event).event(event.id, fix=True)
    finally:
        await other.close()


@pytest.mark.parametrize("whole", [True, False])
async def test_a_look_puts_nothing_back_and_counts_nobody_anew(
    office: BoxOffice, open_sale: SaleMaker, whole: bool
) -> None:
    """Neither strays nor customers, of one event or of all; a mending that is told to leave strays leaves them."""
    event = await open_sale(GA=10)
    await book(office, event, GA=2)
    reconciler, shard = reconciler_of(office, event), event.shard
    await office.redis.hset(keys.owners(shard, event.id), "00000000deadbeef", "7")
    await office.redis.delete(keys.pending(shard))

    async def run(**options: bool) -> str:
        if whole:
            (report,) = await reconciler.every_event(**options)  # type: ignore[arg-type]
            return report.word
        return (await reconciler.event(event.id, **options)).word  # type: ignore[arg-type]

    assert await run(fix=False, owned=True) == "drift"
    assert await office.redis.zcard(keys.pending(shard)) == 0
    assert await office.redis.hget(keys.owners(shard, event.id), "00000000deadbeef") == b"7"
    assert await run(fix=True, strays=False) == "fixed"
    assert await office.redis.zcard(keys.pending(shard)) == 0
    await shift(office, event, "GA", "h", 2)
    await shift(office, event, "GA", "a", -2)
    await office.redis.hset(keys.owners(shard, event.id), "00000000deadbeef", "7")
    assert await run(fix=True) == "same"
    assert await office.redis.zcard(keys.pending(shard)) == 1
    assert await office.redis.hget(keys.owners(shard, event.id), "00000000deadbeef") == b"7", "the counters were right"
    assert await run(fix=True, owned=True) == "same"
    assert await office.redis.hget(keys.owners(shard, event.id), "00000000deadbeef") is None


async def test_each_event_of_the_shard_is_reconciled_by_its_start(office: BoxOffice, open_sale: SaleMaker) -> None:
    """And none of another shard."""
    late, soon = (
        await open_sale(GA=1, starts_in=timedelta(days=40)),
        await open_sale(GA=1, starts_in=timedelta(days=20)),
    )
    if office.settings.shards > 1:
        await open_sale(GA=1, shard=0)
    reports = await reconciler_of(office, late).every_event(fix=False)
    assert [report.event for report in reports] == [soon.id, late.id]


@pytest.mark.parametrize(("waiting", "deep"), [(0, True), (2, True), (3, False)])
async def test_a_look_counts_every_booking_while_they_are_few(
    office: BoxOffice, open_sale: SaleMaker, monkeypatch: pytest.MonkeyPatch, waiting: int, deep: bool
) -> None:
    """Pending, parked and held ones of the shard together; a mending always does, and who asks is answered."""
    monkeypatch.setattr("boxoffice.repair.reconcile.DEEP_MAX", 2)
    event = await open_sale(GA=10)
    reconciler, asked, real = reconciler_of(office, event), list[bool](), Reconciler.run

    async def run(*args: Any, **options: Any) -> Any:
        asked.append(options["deep"])
        return await real(*args, **options)

    monkeypatch.setattr(Reconciler, "run", run)
    if office.settings.shards > 1:
        await office.redis.zadd(keys.pending(0), {f"elsewhere{n}": 1 for n in range(9)})
    for name in (keys.pending, keys.dead, keys.deadlines)[:waiting]:
        await office.redis.zadd(name(event.shard), {f"one-{name.__name__}": 1})
    for options in (
        {"fix": False},
        {"fix": True, "strays": False},
        {"fix": False, "deep": True},
        {"fix": False, "deep": False},
    ):
        await reconciler.event(event.id, **options)  # type: ignore[arg-type]
    assert asked[:1] + asked[-3:] == [deep, True, True, False]


async def test_customers_are_counted_some_at_a_time(
    office: BoxOffice, open_sale: SaleMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is counted in Redis, and whoever bought, in calls of so many; each has what he holds and bought."""
    for name in ("OWNERS_MAX", "CHUNK"):
        monkeypatch.setattr(f"boxoffice.repair.reconcile.{name}", 2)
    event = await open_sale(GA=100)
    for n in range(5):
        await book(office, event, GA=n + 1, customer=f"bought{n}")
    await settle_all(office)
    for n in range(4):
        await book(office, event, GA=n + 1, customer=f"held{n}", token=None)
    owners = keys.owners(event.shard, event.id)
    right = await office.redis.hgetall(owners)
    assert len(right) == 9
    for n, owner in enumerate(list(right)):
        await (office.redis.hdel(owners, owner) if n % 2 else office.redis.hset(owners, owner, 99))
    await office.redis.hset(owners, mapping={"00000000deadbeef": 7, "11111111deadbeef": 8})
    await reconciler_of(office, event).event(event.id, fix=True, owned=True)
    assert await office.redis.hgetall(owners) == right


async def test_what_is_sold_as_postgresql_has_it_is_what_is_expected(office: BoxOffice, open_sale: SaleMaker) -> None:
    """Tier by tier, in the order in which they are shown."""
    event = await open_sale(VIP=5, GA=100, BOX=7)
    await book(office, event, GA=2, VIP=1)
    await settle_all(office)
    await shift(office, event, "GA", "c", 3)
    await shift(office, event, "VIP", "t", 1)
    report = await reconciler_of(office, event).event(event.id, fix=True)
    assert [(tier.code, tier.tier) for tier in report.tiers] == [(tier.code, tier.id) for tier in event.tiers]
    assert [tier.found for tier in report.tiers] == [Counts(4, 0, 1, 6), Counts(98, 0, 5, 100), Counts(7, 0, 0, 7)]
    assert [tier.expected for tier in report.tiers] == [Counts(4, 0, 1, 5), Counts(98, 0, 2, 100), Counts(7, 0, 0, 7)]
    assert [tier.drift for tier in report.tiers] == [Counts(0, 0, 0, 1), Counts(0, 0, 3, 0), Counts(0, 0, 0, 0)]
