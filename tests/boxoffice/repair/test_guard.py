"""The sequence guard: who went back in time is noticed, and nobody else is suspected."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from structlog.testing import capture_logs

from boxoffice.errors import DriftUnexplained, GateClosed, StoreAway
from boxoffice.office import BoxOffice, open_box_office
from boxoffice.repair.guard import Guard, judge
from boxoffice.repair.rebuild import POSTGRES_WENT_BACK, shard_lock
from boxoffice.settings import Settings
from boxoffice.stores import keys, lineage
from boxoffice.stores.gate import Gate, look
from boxoffice.stores.lineage import BOTH_CHANGED
from boxoffice.stores.redis import run_id
from tests.conftest import CLIENT, GENERATION, SHARD, SaleMaker, counters, eventually, settle_all
from tests.support.guards import FINE, guard_of, row
from tests.support.proxy import proxied
from tests.support.shop.office import book

BEFORE = Gate(GENERATION, "the run before").pack()


@pytest.mark.parametrize(
    ("change", "judgement"),
    [
        ({}, "fine"),
        ({"admitted": 5_000}, "fine"),
        ({"server_run_id": "other"}, "restarted"),
        ({"admitted": 99}, "went_back"),
        ({"admitted": None}, "went_back"),
        ({"gate": "two"}, "other_generation"),
        ({"gate": None}, "waiting"),
        ({"gate": None, "quiet_s": 11.0}, "closed"),
        ({"gate": None, "quiet_s": 10.0}, "closed"),
        ({"gate": None, "quiet_s": 9.9}, "waiting"),
        ({"gate": None, "quiet_s": 9.9, "admitted": 0}, "waiting"),
        ({"gate": None, "quiet_s": 2.0, "admitted": None}, "closed"),
        ({"gate": None, "quiet_s": 1.9, "admitted": None}, "waiting"),
        ({"admitted": None, "sequence": 0}, "fine"),
        ({"gate": "", "generation": ""}, "fine"),
        ({"gate": "two", "admitted": 99, "server_run_id": "other"}, "other_generation"),
        ({"admitted": 99, "server_run_id": "other"}, "went_back"),
        ({"known": False}, "first_start"),
        ({"known": False, "alert": POSTGRES_WENT_BACK}, "alert"),
        ({"alert": POSTGRES_WENT_BACK}, "alert"),
        ({"alert": "other_generation"}, "fine"),
        ({"lost": True, "alert": BOTH_CHANGED}, "alert"),
        ({"lost": True, "alert": POSTGRES_WENT_BACK}, POSTGRES_WENT_BACK),
        ({"gate": None, "quiet_s": 3.0, "admitted": None}, "closed"),
        ({"gate": None, "quiet_s": 1.0, "admitted": None}, "waiting"),
        ({"gate": None, "quiet_s": 11.0, "alert": "other_generation"}, "closed"),
        ({"gate": None, "quiet_s": 11.0, "alert": POSTGRES_WENT_BACK}, "alert"),
        ({"lost": True}, POSTGRES_WENT_BACK),
        ({"lost": True, "gate": None, "admitted": 3}, POSTGRES_WENT_BACK),
        ({"known": False, "gate": None}, "first_start"),
        ({"known": False, "lost": True}, POSTGRES_WENT_BACK),
        ({"server": "1/2", "server_before": "1/1"}, "fine"),
        ({"server": "1/2", "server_before": "1/1", "lost": True}, POSTGRES_WENT_BACK),
        ({"server": "1/2", "server_before": "1/1", "server_run_id": "other"}, BOTH_CHANGED),
        ({"server": "1/2", "server_before": "1/1", "server_run_id": "other", "lost": True}, BOTH_CHANGED),
        ({"server": "1/2", "server_before": "1/1", "admitted": 99}, BOTH_CHANGED),
        ({"server": "1/2", "server_before": "1/1", "gate": None, "admitted": None}, BOTH_CHANGED),
        ({"server": "1/2", "server_before": "1/1", "gate": None, "run_before": "run"}, "waiting"),
        ({"server": "1/2", "server_before": "1/1", "gate": None, "run_before": "old"}, BOTH_CHANGED),
        ({"server": "1/1", "server_before": "1/1", "server_run_id": "other"}, "restarted"),
        ({"server": "1/1", "server_before": "", "server_run_id": "other"}, "restarted"),
        ({"server": "", "server_before": "1/1", "server_run_id": "other"}, "restarted"),
        ({"alert": BOTH_CHANGED, "gate": None, "quiet_s": 99.0}, "alert"),
    ],
)
def test_what_is_judged(change: dict[str, Any], judgement: str) -> None:
    assert judge(FINE._replace(**change)) == judgement


async def test_the_first_start_opens_the_gate(office: BoxOffice, open_sale: SaleMaker) -> None:
    await (await office.pool()).execute("DELETE FROM shards")
    await office.redis.flushall()
    event = await open_sale(GA=10)
    with pytest.raises(GateClosed):
        await book(office, event, GA=1)

    assert await guard_of(office).tick() == "first_start"

    await book(office, event, GA=1)
    gate = Gate.parse(await office.redis.get(keys.gate(SHARD)))
    assert gate == Gate((await row(office))["generation"], await run_id(office.redis))
    assert await guard_of(office).tick() == "fine"


async def test_each_store_remembers_how_far_the_other_came(
    office: BoxOffice, open_sale: SaleMaker, guard: Guard
) -> None:
    event = await open_sale(GA=10)
    for _ in range(3):
        await book(office, event, GA=1)
    await settle_all(office)

    assert await guard.tick() == "fine"

    remembered = await row(office)
    assert (remembered["sequence"], remembered["batch"]) == (3, 1)
    (pair,) = await office.redis.smembers(keys.told(SHARD))
    assert pair.startswith(b"1:")


async def test_an_empty_redis_is_filled_and_opened_again(office: BoxOffice, open_sale: SaleMaker, guard: Guard) -> None:
    """Without a person, once nobody can be settling elsewhere."""
    await (await office.pool()).execute("UPDATE shards SET settled_at = now() - interval '1 hour'")
    event = await open_sale(GA=10)
    await book(office, event, GA=2)
    await settle_all(office)
    await guard.tick()
    await office.redis.flushall()
    assert await guard.tick() == "waiting"
    with pytest.raises(GateClosed):
        await book(office, event, GA=1)
    await (await office.pool()).execute("UPDATE shards SET settled_at = now() - interval '3 seconds'")

    assert await guard.tick() == "rebuilt"

    assert (await counters(office, event, "GA")).sold == 2
    await book(office, event, GA=1)
    assert await guard.tick() == "fine"


async def test_whoever_gives_back_meanwhile_keeps_nobody_waiting(
    office: BoxOffice, open_sale: SaleMaker, guard: Guard
) -> None:
    """PostgreSQL cancels while Redis is empty. That tells of no other Redis, however many do it."""
    event = await open_sale(GA=10)
    bookings = [(await book(office, event, GA=1, customer=name)).booking_id for name in ("ada", "bob")]
    await settle_all(office)
    await office.pump.work_given()
    await guard.tick()
    await (await office.pool()).execute("UPDATE shards SET settled_at = now() - interval '3 seconds'")
    await office.redis.flushall()
    for booking in bookings:
        with pytest.raises(StoreAway):
            await office.cancellations.cancel(CLIENT, booking)

    assert await guard.tick() == "rebuilt"

    assert (await counters(office, event, "GA")).available == 10


async def test_a_redis_that_went_back_in_time_is_noticed(office: BoxOffice, open_sale: SaleMaker, guard: Guard) -> None:
    """An old append-only file, a stale replica: here, the stock of an hour ago."""
    event = await open_sale(GA=10)
    await book(office, event, GA=1)
    await settle_all(office)
    old = {key: await office.redis.dump(key) for key in await office.redis.keys("*")}
    lost = await book(office, event, GA=4, customer="bob")
    await settle_all(office)
    await guard.tick()
    await office.redis.flushall()
    for key, dump in old.items():
        await office.redis.restore(key, 0, dump)
    assert (await counters(office, event, "GA")).available == 9, "five are left"

    assert await guard.tick() == "rebuilt"

    assert (await counters(office, event, "GA")).available == 5
    assert await office.redis.exists(keys.booking(SHARD, lost.booking_id))
    assert (await row(office))["alert"] is None
    assert await guard.tick() == "fine"


async def test_the_last_second_is_noticed_after_a_restart(
    office: BoxOffice, open_sale: SaleMaker, guard: Guard
) -> None:
    """Less than the guard remembers was lost, but PostgreSQL has settled what Redis does not know."""
    event = await open_sale(GA=10)
    await book(office, event, GA=4)
    await settle_all(office)
    await office.redis.set(keys.sequence(SHARD), 0)
    await office.redis.set(keys.gate(SHARD), BEFORE)

    assert await guard.tick() == "rebuilt"
    assert (await look(office.shards[SHARD])).word == "open"


async def test_a_restart_reconciles(office: BoxOffice, open_sale: SaleMaker, guard: Guard) -> None:
    event = await open_sale(GA=10)
    await office.redis.hincrby(keys.event(SHARD, event.id), f"a:{event.tiers[0].id}", 5)
    await office.redis.set(keys.gate(SHARD), BEFORE)

    assert await guard.tick() == "restarted"

    assert (await counters(office, event, "GA")).available == 10
    assert await guard.tick() == "fine"


async def test_another_generation_is_closed_until_nobody_settles_under_ours(
    office: BoxOffice, open_sale: SaleMaker, guard: Guard
) -> None:
    """Perhaps it is we who look at the wrong Redis."""
    event = await open_sale(GA=10)
    await book(office, event, GA=1)
    await office.redis.set(keys.gate(SHARD), Gate("another", await run_id(office.redis)).pack())

    assert await guard.tick() == "other_generation"
    assert not await office.redis.exists(keys.gate(SHARD))
    assert (await row(office))["alert"] == "other_generation"
    assert await guard.tick() == "waiting"
    await (await office.pool()).execute("UPDATE shards SET settled_at = now() - interval '11 seconds'")

    assert await guard.tick() == "rebuilt"
    assert (await counters(office, event, "GA")).held == 1, "what it held is still accepted"
    assert (await row(office))["alert"] is None


async def test_a_postgresql_that_went_back_is_closed_and_told(
    office: BoxOffice, open_sale: SaleMaker, guard: Guard
) -> None:
    """When it lacks more than what Redis can give it back, it stays closed until an operator accepts what is left."""
    event = await open_sale(GA=10)
    pool = await office.pool()
    await book(office, event, GA=2)
    await settle_all(office)
    await guard.tick()
    await pool.execute("DELETE FROM captures; DELETE FROM payments; DELETE FROM booking_items; DELETE FROM bookings")
    await pool.execute("DELETE FROM batches; UPDATE inventory SET sold = 0; UPDATE shards SET batch = 0")
    await pool.execute("UPDATE shards SET settled_at = now() - interval '3 days'")
    async for key in office.redis.scan_iter(match=keys.booking(SHARD, "*")):
        await office.redis.delete(key)

    assert await guard.tick() == POSTGRES_WENT_BACK
    with pytest.raises(GateClosed):
        await book(office, event, GA=1)
    assert (await row(office))["alert"] == POSTGRES_WENT_BACK
    assert await guard.tick() == POSTGRES_WENT_BACK
    with pytest.raises(DriftUnexplained):
        await guard.rebuilder.rebuild()

    await guard.rebuilder.rebuild(accept_postgres=True)

    assert await guard.tick() == "fine"
    assert (await counters(office, event, "GA")).sold == 0


async def test_a_shard_that_stays_closed_is_said_once_a_minute(office: BoxOffice, open_sale: SaleMaker) -> None:
    """And at once when somebody opened it by hand. The looking goes on every second."""
    await open_sale(GA=10)
    await office.redis.sadd(keys.told(SHARD), "50:1")
    await (await office.pool()).execute("DELETE FROM shards")
    clock = [1_000.0]
    guard = guard_of(office, now_s=lambda: clock[0])
    said = []
    for seconds in (1, 1, 1, 60, 1, 1):
        with capture_logs() as lines:
            assert await guard.tick() == POSTGRES_WENT_BACK
        said.append(sum(line["event"] == "shard.closed" for line in lines))
        clock[0] += seconds
        if len(said) == 5:
            await office.redis.set(keys.gate(SHARD), "opened by hand")

    assert said == [1, 0, 0, 0, 1, 1]
    assert not await office.redis.exists(keys.gate(SHARD))


async def test_an_empty_postgresql_is_closed_and_told(office: BoxOffice, open_sale: SaleMaker, guard: Guard) -> None:
    event = await open_sale(GA=10)
    await book(office, event, GA=2)
    await settle_all(office)
    await guard.tick()
    await (await office.pool()).execute("DELETE FROM shards; DELETE FROM batches")

    assert await guard.tick() == POSTGRES_WENT_BACK
    assert not await office.redis.exists(keys.gate(SHARD))
    assert await guard.tick() == POSTGRES_WENT_BACK


async def test_nothing_is_closed_while_postgresql_is_away(
    office: BoxOffice, open_sale: SaleMaker, settings: Settings
) -> None:
    """Sales go on; settling waits."""
    event = await open_sale(GA=10)
    async with (
        proxied(settings.database_url) as (proxy, url),
        open_box_office(settings.model_copy(update={"database_url": url}), redis_retries=3) as far,
    ):
        guard = guard_of(far)
        assert await guard.tick() == "fine"
        proxy.refuse = True
        proxy.reset_all()
        assert await guard.tick() == "away"
        await book(far, event, GA=1)
        assert (await look(far.shards[SHARD])).word == "open"
        proxy.refuse = False

        async def fine() -> bool:
            return await guard.tick() == "fine"

        await eventually(fine)


async def test_one_process_acts(office: BoxOffice, guard: Guard) -> None:
    await office.redis.delete(keys.gate(SHARD))
    await (await office.pool()).execute("UPDATE shards SET settled_at = now() - interval '1 hour'")
    async with shard_lock(office.database, SHARD):
        assert await guard.tick() == "busy"
    judgements = await asyncio.gather(*(guard_of(office).tick() for _ in range(4)))
    assert judgements.count("rebuilt") == 1
    assert set(judgements) <= {"rebuilt", "busy", "fine"}


@pytest.mark.parametrize("looks", [60, pytest.param(3_600, marks=[pytest.mark.soak, pytest.mark.timeout(900)])])
async def test_no_false_alarm_under_load(office: BoxOffice, open_sale: SaleMaker, guard: Guard, looks: int) -> None:
    """Three guards look as fast as they can while bookings come and are settled: 3,600 times is an hour of looks."""
    event = await open_sale(GA=5_000_000)
    over = asyncio.Event()
    judgements: set[str] = set()

    async def customer() -> None:
        while not over.is_set():
            await book(office, event, GA=1)

    async def worker() -> None:
        while not over.is_set():
            await office.settlements[SHARD].drain()

    async def watch(guard: Guard) -> None:
        for _ in range(looks):
            judgements.add(await guard.tick())

    tasks = [asyncio.create_task(customer()) for _ in range(20)] + [asyncio.create_task(worker())]
    await asyncio.gather(*(watch(guard_of(office)) for _ in range(3)))
    over.set()
    await asyncio.gather(*tasks)

    assert judgements == {"fine"}
    await settle_all(office)


async def test_an_event_whose_counters_were_lost_is_loaded_and_counted(
    office: BoxOffice, open_sale: SaleMaker, guard: Guard
) -> None:
    event = await open_sale(GA=10)
    await book(office, event, GA=3)
    await office.redis.delete(keys.event(SHARD, event.id))

    assert await guard.load() == 1

    counted = await counters(office, event, "GA")
    assert (counted.available, counted.held, counted.sold) == (7, 3, 0)
    assert await guard.load() == 0


# ------------------------------------------------------------------ both stores at once


async def promoted(office: BoxOffice) -> None:
    """PostgreSQL finds another server's name in its rows: it was a standby."""
    await (await office.pool()).execute("UPDATE shards SET server = '7/00000001'")


async def test_a_promoted_standby_that_lacks_nothing_is_not_felt(office: BoxOffice, open_sale: SaleMaker) -> None:
    """Redis missed it in nothing: the sale goes on, and the new name is written down once no worker can be telling of a
    commit that was lost."""
    event = await open_sale(GA=10)
    clock = [1_000.0]
    guard = guard_of(office, now_s=lambda: clock[0])
    assert await guard.tick() == "fine"
    before = (await row(office))["server"]
    assert re.fullmatch(r"\d+/[0-9A-F]{8}", before)
    await promoted(office)
    with capture_logs() as said:
        for _ in range(3):
            assert await guard.tick() == "fine"
            assert (await row(office))["server"] != before
            clock[0] += 0.7
        assert await guard.tick() == "fine"
    assert [line["event"] for line in said] == ["postgres.promoted"]
    await book(office, event, GA=1)
    assert (await row(office))["server"] == before
    await office.redis.set(keys.gate(SHARD), BEFORE)
    assert await guard.tick() == "restarted", "a restart later is an ordinary one"


@pytest.mark.parametrize("how", ["another run", "behind", "empty"])
async def test_when_both_changed_at_once_an_operator_decides(
    office: BoxOffice, open_sale: SaleMaker, guard: Guard, how: str
) -> None:
    """What both have forgotten neither misses. Nothing is sold until somebody has looked into the gateway's books."""
    event = await open_sale(GA=10)
    await book(office, event, GA=1)
    await settle_all(office)
    await guard.tick()
    await promoted(office)
    if how == "another run":
        await office.redis.set(keys.gate(SHARD), BEFORE)
    elif how == "behind":
        await office.redis.set(keys.sequence(SHARD), 0)
    else:
        await office.redis.flushall()
    with capture_logs() as said:
        assert await guard.tick() == BOTH_CHANGED
        for _ in range(2):
            assert await guard.tick() == "alert"
    assert [(line["event"], line["reason"]) for line in said if line["event"] == "shard.closed"] == [
        ("shard.closed", BOTH_CHANGED)
    ]
    assert (await row(office))["alert"] == BOTH_CHANGED
    with pytest.raises(GateClosed):
        await book(office, event, GA=1)

    await guard.rebuilder.rebuild()

    assert await guard.tick() == "fine"
    assert ((await row(office))["alert"], (await counters(office, event, "GA")).sold) == (None, 1)
    await book(office, event, GA=1)


async def test_a_postgresql_that_does_not_say_who_it_is_is_looked_after_as_before(
    office: BoxOffice, guard: Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lineage, "SERVER", "SELECT no_such_function()")
    await promoted(office)
    await office.redis.set(keys.gate(SHARD), BEFORE)
    assert await guard.tick() == "restarted"
