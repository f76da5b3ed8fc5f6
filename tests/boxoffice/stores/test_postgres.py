"""Connections to PostgreSQL: who freezes in the middle of a transaction does not stop the others for long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import asyncpg
import pytest

from boxoffice.books import rows
from boxoffice.office import BoxOffice, open_box_office
from boxoffice.settings import Settings
from boxoffice.stores import postgres
from boxoffice.stores.postgres import open_engine, open_pool, take_time
from ops.stack.servers import Servers
from tests.conftest import SHARD, SaleMaker, eventually, settle_all
from tests.support.checks import check_at_rest
from tests.support.settling import at_crash_points
from tests.support.shop.office import book_many, status_of
from tests.support.shop.orders import tier_of

pytestmark = pytest.mark.usefixtures("products_limits")


@pytest.fixture
def short(settings: Settings) -> Settings:
    """Leases so short that the least limits apply."""
    return settings.model_copy(update={"worker": settings.worker.model_copy(update={"lease_ms": 300})})


@pytest.fixture
async def pool(clean: None, short: Settings) -> AsyncIterator[asyncpg.Pool[Any]]:
    """A worker's connections, and nothing else of it."""
    pool = await open_pool(short, size=1)
    yield pool
    pool.terminate()


@pytest.mark.parametrize("where", ["between two statements", "between two messages"])
async def test_who_freezes_with_rows_locked_lets_go_of_them(
    office: BoxOffice, open_sale: SaleMaker, pool: asyncpg.Pool[Any], where: str
) -> None:
    """The server ends its connection when the limit is over. The others' batches wait no longer, and when it wakes up
    its transaction is gone and its connection replaced."""
    event = await open_sale(GA=10)
    booked = await book_many(office, event, 3, GA=1)
    connection = await pool.acquire()
    transaction = connection.transaction()
    await transaction.start()
    await rows.lock_inventory(connection, [tier_of(event, "GA")])
    if where == "between two messages":
        # A statement to be parsed, and nothing about running it: the server does not call that idle.
        connection._con._transport.write(b"P" + (16).to_bytes(4, "big") + b"\0SELECT 1\0\0\0")

    async def settled() -> bool:
        await office.settlements[SHARD].drain()
        return await status_of(office, booked[0]) == "confirmed"

    await eventually(settled, timeout_s=20)
    with pytest.raises(postgres.AWAY):
        await transaction.commit()
    await pool.release(connection)
    assert await pool.fetchval("SELECT sold FROM inventory") == 3
    await settle_all(office)
    await check_at_rest(office, booked)


async def until_its_transaction_is_over(admin_url: str) -> None:
    """Wait until the server has ended every session that waits inside a transaction."""
    connection = await asyncpg.connect(admin_url)

    async def over() -> bool:
        return not await connection.fetchval("SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in trans%'")

    await eventually(over, timeout_s=20)
    await connection.close()


async def test_a_frozen_workers_own_booking_counts_no_failure(
    office: BoxOffice, open_sale: SaleMaker, short: Settings, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It wakes up inside its transaction, which the server has ended. That is no fault of the booking."""
    event = await open_sale(GA=10)
    (booking,) = await book_many(office, event, 1, GA=1)
    frozen = []

    def freeze(name: str) -> None:
        if name == "written" and not frozen:
            frozen.append(name)
            with ThreadPoolExecutor(1) as elsewhere:
                elsewhere.submit(asyncio.run, until_its_transaction_is_over(servers.admin_url)).result(30)

    at_crash_points(monkeypatch, freeze)
    async with open_box_office(short, redis_retries=3) as sleeper:
        await sleeper.settlements[SHARD].drain()
        assert frozen
        assert await (await office.pool()).fetchval("SELECT count(*) FROM dead_letters") == 0
        sleeper.settlements[SHARD].claims.closed_until = 0.0
        await settle_all(sleeper)

    await check_at_rest(office, [booking])
    assert await status_of(office, booking) == "confirmed"


async def test_a_repair_may_take_longer(pool: asyncpg.Pool[Any]) -> None:
    """It reads every booking of an event in one transaction. The next transaction is limited as before."""
    limit = "SELECT setting::int FROM pg_settings WHERE name = 'transaction_timeout'"
    async with pool.acquire() as connection:
        async with connection.transaction():
            await take_time(connection)
            assert await connection.fetchval(limit) == 0
            assert await connection.fetchval("SELECT current_setting('statement_timeout')") == "0"
        assert await connection.fetchval(limit) == postgres.TRANSACTION_LEAST_MS
    assert await pool.fetchval(limit) == postgres.TRANSACTION_LEAST_MS, "also after the pool has reset the connection"


async def test_the_engines_connections_have_the_limits_too(clean: None, short: Settings) -> None:
    """Also when they are used again, after a transaction that was rolled back."""
    engine = open_engine(short, pool_size=1)
    for _ in range(3):
        async with engine.connect() as connection:
            shown = [
                (await connection.exec_driver_sql(f"SELECT current_setting('{name}')")).scalar()
                for name in ("transaction_timeout", "idle_in_transaction_session_timeout")
            ]
        assert shown == ["3s", "1s"]
    await engine.dispose()
