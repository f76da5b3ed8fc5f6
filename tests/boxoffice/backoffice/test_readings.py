"""What `/metrics` tells of the stores, as they stand; and that a store which is away, or hangs, takes nothing of it away."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families as families

from boxoffice.backoffice import readings as module
from boxoffice.backoffice.readings import Readings, show_money, show_redis, show_sales, show_shard
from boxoffice.clock import CLOCK
from boxoffice.office import BoxOffice
from boxoffice.settings import Settings, TelemetrySettings
from boxoffice.stores import keys
from boxoffice.stores.redis import pool_use
from boxoffice.telemetry import series
from tests.conftest import SHARD, SaleMaker, load_all
from tests.support.databases import DatabaseOf
from tests.support.shop.office import Till
from tests.support.telling import change, gauge
from worker.rounds import Rounds
from worker.stop import Stop


@pytest.fixture(autouse=True)
def _anew() -> None:
    """Nothing of another test's stores is shown."""
    for metric in series.REGISTRY.metrics.values():
        if metric.kind == "gauge":
            metric.values.clear()  # type: ignore[attr-defined]


@pytest.fixture
async def till(office: BoxOffice, open_sale: SaleMaker) -> Till:
    await load_all(office)
    return Till(office, await open_sale(GA=10, VIP=5))


async def told(readings: Readings, process: str = "worker") -> str:
    answer = await readings.metrics(process, {})
    assert (answer.status, answer.content_type.split(";")[0]) == (200, "text/plain")
    return answer.body.decode()


def shown(name: str) -> dict[tuple[str, ...], float]:
    found: dict[tuple[str, ...], float] = series.REGISTRY.metrics[f"boxoffice_{name}"].values  # type: ignore[attr-defined]
    return found


async def test_the_shards_stand_as_they_do(till: Till) -> None:
    """Of the second shard; the first has nothing."""
    office, shard = till.office, str(SHARD)
    rounds = Rounds(office, office.shards, Stop())
    await rounds.beat(SHARD)
    await till.hold(GA=1)
    await till.hold(VIP=1)
    pending = [await till.book(GA=1) for _ in range(3)]
    await office.redis.zadd(keys.pending(SHARD), {pending[0]: 1}, xx=True)
    await office.redis.zadd(keys.dead(SHARD), {"someone": 1})
    await told(office.readings)
    names = ("gate_open", "backlog_bookings", "holds", "parked_bookings", "workers")
    assert [gauge(name, shard) for name in names] == [1, 3, 2, 1, 1]
    assert [gauge(name, "0") for name in names] == [1, 0, 0, 0, 0]
    assert (gauge("backlog_oldest_seconds", shard) or 0) > 1_000_000
    assert gauge("backlog_oldest_seconds", "0") == 0
    assert gauge("drifted_events", shard) is None, "nobody has counted"


async def test_drift_is_told_and_so_is_a_closed_gate(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    office = till.office
    rounds = Rounds(office, office.shards, Stop())
    await office.redis.hincrby(keys.event(SHARD, till.event.id), f"a:{till.event.tiers[0].id}", 1)
    await rounds.count_drift(SHARD)
    await rounds.beat(SHARD)
    await office.redis.delete(keys.gate(SHARD))
    await told(office.readings)
    assert (gauge("drifted_events", str(SHARD)), gauge("gate_open", str(SHARD)), gauge("gate_open", "0")) == (1, 0, 1)


async def test_a_sale_is_told_by_the_states_of_its_tickets(till: Till) -> None:
    await till.book(GA=2)
    await till.rest()
    await till.hold(VIP=1)
    await told(till.office.readings)
    event = till.event.id
    assert shown("sale_tickets") == {
        (event, "total"): 15, (event, "sold"): 2, (event, "held"): 1, (event, "available"): 12,
    }  # fmt: skip


async def test_only_the_largest_sales_have_series_of_their_own(till: Till, open_sale: SaleMaker) -> None:
    """And it is the same ones whenever they are looked at; the others' tickets are summed."""
    office = till.office
    large, small = await open_sale(GA=100), await open_sale(GA=3)
    await till.book(GA=2)
    await till.rest()
    telemetry = office.settings.telemetry.model_copy(update={"events_max": 1})
    few = Readings(office.shards, office.database, office.settings.model_copy(update={"telemetry": telemetry}))
    await told(few)
    assert {event for event, _ in shown("sale_tickets")} == {large.id, "other"}
    assert (gauge("sale_tickets", "other", "total"), gauge("sale_tickets", "other", "sold")) == (18, 2)
    await told(office.readings)
    assert {event for event, _ in shown("sale_tickets")} == {large.id, small.id, till.event.id}


def test_as_many_sales_as_a_setting_allows_are_told_apart() -> None:
    """No metric has more series than `CELLS_MAX`: what is summed is what the setting says, and nothing else."""
    sales = [module.Sale(f"e{n}", "E", "active", 5, 2, 1, 2) for n in range(100)]
    assert Settings(telemetry=TelemetrySettings(events_max=100)).telemetry.events_max == len(sales)
    show_sales(sales, [(7, 3), (1, 0)])
    assert len(shown("sale_tickets")) == 4 * 100 + 2
    assert (gauge("sale_tickets", "other", "total"), gauge("sale_tickets", "other", "sold")) == (8, 3)


def test_without_redis_a_sale_has_no_held_and_available() -> None:
    show_sales([module.Sale("e", "E", "active", 5, 2, None, None)], [])
    assert shown("sale_tickets") == {("e", "total"): 5, ("e", "sold"): 2}


async def test_money_is_told_by_kind_and_age(till: Till) -> None:
    """A capture that its batch has listed is due as well."""
    await till.book(GA=1)
    await till.drain()
    await till.book("tok_wrong_amount", GA=1)
    await till.drain()
    readings = till.office.readings
    await told(readings)
    due = {kind: gauge("money_due", kind) for kind in ("capture", "void", "refund", "owed")}
    assert due == {"capture": 1, "void": 1, "refund": 0, "owed": 0}
    pool = await till.office.pool()
    await pool.execute("UPDATE payments SET due_since = now() - interval '1 hour' WHERE due = 'void'")
    await pool.execute("UPDATE shards SET alert = 'both_changed' WHERE shard = $1", SHARD)
    await Readings(till.office.shards, till.office.database, till.office.settings).metrics("worker", {})
    assert 3_600 <= (gauge("money_due_oldest_seconds", "void") or 0) < 3_700
    assert gauge("money_due_oldest_seconds", "refund") == 0
    assert gauge("shard_alerts") == 1


async def test_a_refund_that_is_due_and_one_that_is_owed(till: Till) -> None:
    for token in ("tok_ok", "tok_refund_refused"):
        booking = await till.book(token, GA=1)
        await till.rest()
        await till.refund(booking)
        if token == "tok_refund_refused":
            await till.pump_once()
    again = await till.book(GA=1)
    await till.rest()
    await till.refund(again, key="other")
    await till.fetch("UPDATE stock_moves SET applied_at = NULL WHERE booking_id = $1", again)
    await told(till.office.readings)
    assert (gauge("money_due", "refund"), gauge("money_due", "owed")) == (1, 1)
    assert (gauge("money_due_oldest_seconds", "owed") or 0) > 0
    assert gauge("stock_moves_waiting") == 1


async def test_pools_memory_and_disk(till: Till) -> None:
    await told(till.office.readings)
    in_use, idle, most = (gauge("redis_pool_connections", state) or 0 for state in ("in_use", "idle", "max"))
    assert most == till.office.settings.redis_pool_max
    assert 0 < in_use + idle <= most
    sessions = [gauge("postgres_pool_connections", state) for state in ("in_use", "idle", "max")]
    assert sessions[0] == 0 and sessions[1] and sessions[2] == till.office.settings.worker.pool_max
    info = await till.office.redis.info()
    assert (gauge("redis_memory_bytes", "0", "used") or 0) > 100_000
    assert (gauge("redis_memory_bytes", "0", "max") or 0) == info["maxmemory"]
    assert gauge("redis_aof_ok", "0") == 1
    assert (gauge("redis_clients", "0") or 0) >= 1
    assert (gauge("data_dir_free_bytes") or 0) > 1_000_000


async def test_a_connection_that_somebody_has_is_in_use(till: Till) -> None:
    """And idle when it is given back."""
    pool = till.office.redis.connection_pool
    in_use, idle, most = pool_use(till.office.redis)
    one = await pool.get_connection()
    two = await pool.get_connection()
    assert pool_use(till.office.redis)[0] == in_use + 2
    for each in (one, two):
        await pool.release(each)
    assert pool_use(till.office.redis) == (in_use, max(idle, 2), most)


@pytest.mark.parametrize(("word", "told"), [("open", 1), ("closed", 0), ("unchecked", 0), ("away", None)])
def test_a_gate_is_open_or_it_is_not(word: str, told: int | None) -> None:
    show_shard(module.ShardGlance(1, word), 2)
    assert gauge("gate_open", "1") == told
    assert gauge("workers", "1") == (None if told is None else 2)


def test_what_is_due_in_a_moment_is_not_late() -> None:
    """A refund that is put off is due from a later time."""
    show_money({"refund": (1, -3.0), "void": (2, 4.0), "listed": (0, 0.0), "alerts": (1, 0.0), "moves": (5, 0.0)})
    assert [gauge("money_due_oldest_seconds", kind) for kind in ("refund", "void", "capture")] == [0, 4, 0]
    assert [gauge("money_due", kind) for kind in ("refund", "void", "capture")] == [1, 2, 0]
    assert (gauge("shard_alerts"), gauge("stock_moves_waiting")) == (1, 5)


@pytest.mark.parametrize(
    ("info", "ok"),
    [
        ({"aof_last_write_status": "ok", "aof_last_bgrewrite_status": "ok"}, 1),
        ({"aof_last_write_status": "err", "aof_last_bgrewrite_status": "ok"}, 0),
        ({"aof_last_write_status": "ok", "aof_last_bgrewrite_status": "err"}, 0),
        ({}, None),
    ],
)
def test_what_a_server_does_not_say_is_not_shown(info: dict[str, Any], ok: int | None) -> None:
    show_redis("0", info)
    assert gauge("redis_aof_ok", "0") == ok
    assert shown("redis_memory_bytes") == shown("redis_aof_bytes") == {}


async def test_an_api_does_not_ask_postgresql(till: Till) -> None:
    """There may be many of them, and workers tell."""

    async def asked() -> Any:
        raise AssertionError("asked")

    api = Readings(till.office.shards, DatabaseOf(asked), till.office.settings)
    with change() as changes:
        text = await told(api, "api")
    assert changes == {"looks redis ok": 1}
    assert 'process="api"' in text and "boxoffice_money_due{" not in text


async def broken() -> Any:
    raise ConnectionError("away")


async def hanging() -> Any:
    await asyncio.Event().wait()


@pytest.mark.parametrize("pool", [broken, hanging])
async def test_a_store_that_is_away_is_told_as_it_was_and_for_how_long(
    till: Till, monkeypatch: pytest.MonkeyPatch, pool: Callable[[], Awaitable[Any]]
) -> None:
    """Whatever it does instead of answering."""
    office = till.office
    await told(office.readings)
    monkeypatch.setattr(module, "PATIENCE_S", 0.05)
    now = [1_000.0]
    readings = Readings(office.shards, DatabaseOf(pool), office.settings, replace(CLOCK, now_s=lambda: now[0]))
    now[0] += 60
    with change() as changes:
        text = await told(readings)
    assert changes == {"looks redis ok": 1, **({"looks postgresql failed": 1} if pool is broken else {})}
    assert gauge("sale_tickets", till.event.id, "total") == 15, "as it was"
    assert (gauge("look_age_seconds", "postgresql"), gauge("look_age_seconds", "redis")) == (60, 0)
    assert len(list(families(text))) > 30
    now[0] += 60
    await told(readings)
    assert gauge("look_age_seconds", "postgresql") == 120
    await readings.close()


async def test_a_shard_that_is_away_is_told_as_it_was(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    office = till.office
    await till.hold(GA=1)
    await told(office.readings)

    async def away(shard: Any) -> Any:
        return module.ShardGlance(shard.number, "away"), []

    monkeypatch.setattr(module, "look_at_shard", away)
    now = [1_000.0]
    readings = Readings(office.shards, office.database, office.settings, replace(CLOCK, now_s=lambda: now[0]))
    now[0] += 5
    with change() as changes:
        await told(readings, "api")
    assert changes == {"looks redis failed": 1}
    assert (gauge("holds", str(SHARD)), gauge("gate_open", str(SHARD))) == (1, 1)
    assert gauge("look_age_seconds", "redis") == 5


async def test_however_many_watch_there_is_one_look_a_second(till: Till) -> None:
    now = [1_000.0]
    office = till.office
    readings = Readings(office.shards, office.database, office.settings, replace(CLOCK, now_s=lambda: now[0]))
    with change() as changes:
        await asyncio.gather(*(told(readings, "api") for _ in range(5)))
        now[0] += 0.99
        await told(readings, "api")
    assert changes == {"looks redis ok": 1}
    now[0] += 0.01
    with change() as changes:
        await told(readings, "api")
    assert changes == {"looks redis ok": 1}


async def test_a_look_that_hangs_is_given_up(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the next one is made: nothing hangs for ever with the first."""
    monkeypatch.setattr(module, "GIVEN_UP_S", 0.05)
    readings = Readings(till.office.shards, DatabaseOf(hanging), till.office.settings)
    with change() as changes:
        await told(readings)
    assert changes == {"looks redis ok": 1, "looks postgresql failed": 1}
