"""Notes leave PostgreSQL after a while, some at a time; what anybody may still need stays."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from boxoffice import ids
from boxoffice.books import trim
from boxoffice.setting_parts import WorkerSettings
from tests.conftest import SHARD, eventually
from tests.invariants.conftest import working
from tests.support.rounds import change_round
from tests.support.shop.office import Till

DAYS = dict.fromkeys(trim.TRIM, 30)


async def age(pool: asyncpg.Pool[Any], days: float) -> None:
    """All notes are older by so much."""
    for table, column in (
        ("stock_moves", "applied_at"), ("webhook_events", "received_at"), ("dead_letters", "updated_at"),
        ("booking_traces", "created_at"), ("notices", "at"),
    ):  # fmt: skip
        await pool.execute(f"UPDATE {table} SET {column} = {column} - $1 * interval '1 day'", days)


async def left(pool: asyncpg.Pool[Any]) -> tuple[int, int, int]:
    """Stock moves, webhooks, dead letters."""
    tables = ("stock_moves", "webhook_events", "dead_letters")
    return tuple([await pool.fetchval(f"SELECT count(*) FROM {table}") for table in tables])  # type: ignore[return-value]


async def notes(till: Till) -> str:
    """A booking that was cancelled, a webhook, and a failure that is over. Returns the booking."""
    booking = await till.book(GA=2)
    await till.rest()
    await till.cancel(booking)
    await till.rest()
    pool = await till.office.pool()
    await pool.execute("INSERT INTO webhook_events (gateway, id, kind) VALUES ('simulator', 'e1', 'captured')")
    other = await till.book(GA=1)
    await till.rest()
    await pool.execute("INSERT INTO dead_letters (booking_id, record, error, attempts) VALUES ($1, '', 'x', 2)", other)
    await pool.execute("INSERT INTO booking_traces (booking_id, traceparent) VALUES ($1, 't')", other)
    return booking


async def test_old_notes_go_and_the_books_stay(till: Till) -> None:
    await notes(till)
    pool = await till.office.pool()
    assert await trim.trim(till.office.database, DAYS) == {}
    await age(pool, 30.1)

    old = {"dead_letters": 1, "stock_moves": 1, "booking_traces": 1, "webhook_events": 1}
    assert await trim.count_old(till.office.database, DAYS) == old | {"notices": 0}
    assert await trim.trim(till.office.database, DAYS) == old

    assert await left(pool) == (0, 0, 0)
    assert await pool.fetchval("SELECT count(*) FROM bookings") == 2
    assert await till.left("GA") == (9, 0, 1)
    assert all(report.word == "same" for report in await till.office.guards[SHARD].reconciler.every_event(fix=False))


@pytest.mark.parametrize(("status", "goes"), [("pending", 0), ("held", 0), ("expired", 1), ("failed", 1)])
async def test_a_failure_goes_when_its_booking_has_ended(till: Till, status: str, goes: int) -> None:
    await notes(till)
    pool = await till.office.pool()
    await pool.execute("UPDATE bookings SET status = $1", status)
    await age(pool, 400)
    assert (await trim.trim(till.office.database, DAYS)).get("dead_letters", 0) == goes


async def test_what_somebody_may_still_need_stays(till: Till) -> None:
    """A move that Redis has not made, a parked booking and its moves; one that is parked and has no row."""
    booking = await notes(till)
    pool = await till.office.pool()
    await pool.execute("UPDATE dead_letters SET booking_id = $1, parked_at = now()", booking)
    await pool.execute(
        "INSERT INTO dead_letters (booking_id, record, error, attempts, parked_at) VALUES ($1, '', 'x', 1, now())",
        ids.booking_id(SHARD, 1_000),
    )
    await pool.execute(
        "INSERT INTO stock_moves (event_id, tier_id, total_delta, created_at) VALUES ($1, $2, 0, now() - interval '1 year')",
        till.event.id, till.event.tiers[0].id,
    )  # fmt: skip
    await age(pool, 400)
    assert await trim.trim(till.office.database, DAYS) == {"webhook_events": 1, "booking_traces": 1}
    assert await left(pool) == (2, 0, 2)


async def test_a_failure_goes_when_there_is_no_such_booking(till: Till) -> None:
    """Its record may name a customer, and nothing else would ever take it away."""
    pool = await till.office.pool()
    await pool.execute(
        "INSERT INTO dead_letters (booking_id, record, error, attempts) VALUES ($1, 'x', 'x', 1)",
        ids.booking_id(SHARD, 1_000),
    )
    assert await trim.trim(till.office.database, DAYS) == {}
    await age(pool, 30.1)
    assert (await trim.count_old(till.office.database, DAYS))["dead_letters"] == 1
    assert await trim.trim(till.office.database, DAYS) == {"dead_letters": 1}


async def test_it_goes_step_by_step_and_two_share_the_work(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trim, "STEP", 10)
    monkeypatch.setattr(trim, "STEPS", 3)
    pool = await till.office.pool()
    await pool.execute(
        "INSERT INTO webhook_events (gateway, id, kind, received_at) "
        "SELECT 'simulator', 'e' || n, 'captured', now() - interval '1 year' FROM generate_series(1, 100) n"
    )
    assert await trim.trim(till.office.database, DAYS) == {"webhook_events": 30}
    both = await asyncio.gather(trim.trim(till.office.database, DAYS), trim.trim(till.office.database, DAYS))
    assert sum(each["webhook_events"] for each in both) == 60
    assert await left(pool) == (0, 10, 0)


@pytest.mark.parametrize("table", trim.TRIM)
async def test_it_reads_only_what_it_deletes(till: Till, table: str) -> None:
    """By an index, however large the table is; failures are few."""
    pool = await till.office.pool()
    statement = trim.TRIM[table].replace("$1", "30").replace("$2", "1000")
    plan = "\n".join(row[0] for row in await pool.fetch(f"EXPLAIN {statement}"))
    index = {
        "stock_moves": "ix_stock_moves_applied_at", "webhook_events": "ix_webhook_events_received_at",
        "booking_traces": "ix_booking_traces_created_at", "notices": "uq_notices_position",
    }.get(table)  # fmt: skip
    assert index is None or f"Index Scan using {index}" in plan or f"Index Only Scan using {index}" in plan, plan


async def test_notices_go_in_their_order(till: Till) -> None:
    """Never one behind another that stays, and none without a place: who reads behind the last that went misses nothing."""
    for _ in range(2):
        booking = await till.book(GA=2)
        await till.rest()
        await till.cancel(booking)
        await till.rest()
    pool, notices = await till.office.pool(), till.office.notices
    days = DAYS | {"notices": 2}
    await pool.execute("UPDATE notices SET at = now() - interval '3 days'")
    assert await trim.count_old(till.office.database, days) == dict.fromkeys(trim.COUNT, 0)
    assert await trim.trim(till.office.database, days) == {}
    await notices.number()
    end = (await notices.head()).position
    assert end > 8
    await pool.execute("UPDATE notices SET at = now() WHERE position = 5")
    kept = await notices.at(4)
    latest = await pool.fetchval("SELECT max(at) FROM notices WHERE position < 5")
    assert (await trim.count_old(till.office.database, days))["notices"] == 4
    assert await trim.trim(till.office.database, days) == {"notices": 4}
    assert await notices.start() == kept
    assert await pool.fetchval("SELECT trimmed_at FROM notice_head") == latest
    await pool.execute("UPDATE notices SET at = now() - interval '3 days' WHERE position = 5")
    assert await trim.trim(till.office.database, days) == {"notices": end - 4}
    assert await notices.start() == await notices.head()
    assert await trim.trim(till.office.database, days) == {}


async def test_a_step_looks_at_the_oldest_notices_alone(till: Till) -> None:
    """However many are old: not for the first young one behind all of them."""
    pool = await till.office.pool()
    await pool.execute(
        "INSERT INTO notices (client_id, type, at) SELECT 'a', 'event.changed', now() - interval '40 days'"
        " FROM generate_series(1, 500)"
    )
    await till.office.notices.number()
    await pool.execute("UPDATE notices SET at = now() - interval '40 days'")
    statement = trim.TRIM["notices"].replace("$1", "30").replace("$2", "10")
    (plan,) = json.loads(await pool.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}"))

    def thrown_away(node: dict[str, Any]) -> int:
        own = node.get("Rows Removed by Filter", 0) if node.get("Relation Name") == "notices" else 0
        return int(own) + sum(map(thrown_away, node.get("Plans", [])))

    assert thrown_away(plan["Plan"]) <= 10


async def test_a_worker_does_it(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    change_round(monkeypatch, "trimming", every=0.05, after_s=0.05)
    await notes(till)
    pool = await till.office.pool()
    await age(pool, 400)
    with capture_logs() as lines:
        async with working(till.office):

            async def gone() -> bool:
                said = any(line["event"] == "tables.trimmed" for line in lines)
                return said and await left(pool) == (0, 0, 0)

            await eventually(gone)
    (line,) = (line for line in lines if line["event"] == "tables.trimmed")
    assert (line["stock_moves"], line["webhook_events"], line["dead_letters"]) == (1, 1, 1)


@pytest.mark.parametrize("table", [table for table in trim.TRIM if table != "notices"])
async def test_each_table_has_days_of_its_own(till: Till, table: str) -> None:
    booking = await notes(till)
    pool = await till.office.pool()
    await pool.execute("UPDATE stock_moves SET booking_id = $1", booking)
    await age(pool, 20)
    days = DAYS | {table: 19}
    assert await trim.count_old(till.office.database, days) == dict.fromkeys(trim.COUNT, 0) | {table: 1}
    assert await trim.trim(till.office.database, days) == {table: 1}


def test_days_of_a_table_are_those_of_all_unless_it_has_its_own() -> None:
    assert WorkerSettings().retention == DAYS
    own = WorkerSettings(
        retention_days=10, retention_moves_days=11, retention_webhooks_days=12, retention_failures_days=13,
        retention_notices_days=9,
    )  # fmt: skip
    assert own.retention == {
        "stock_moves": 11, "webhook_events": 12, "dead_letters": 13, "booking_traces": 10, "notices": 9,
    }  # fmt: skip
