"""A standby has what was committed while it streamed, and takes over without the rest, which it counts."""

from __future__ import annotations

import asyncio

import asyncpg

from ops.stack.servers import temporary_servers
from ops.stack.standby import Standby
from tests.conftest import eventually


async def commit(url: str, times: int) -> int:
    """So many times, one by one. Returns how many there are."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("CREATE TABLE IF NOT EXISTS marks (mark int)")
        for mark in range(times):
            await connection.execute("INSERT INTO marks VALUES ($1)", mark)
        return int(await connection.fetchval("SELECT count(*) FROM marks"))
    finally:
        await connection.close()


async def caught_up(url: str) -> bool:
    connection = await asyncpg.connect(url)
    try:
        return bool(
            await connection.fetchval("SELECT flush_lsn = pg_current_wal_flush_lsn() FROM pg_stat_replication LIMIT 1")
        )
    finally:
        await connection.close()


async def test_it_takes_over_without_what_it_had_not_received_twice_in_a_row() -> None:
    with temporary_servers() as servers:
        standby = Standby(servers.postgres, servers.home)
        kept = 0
        for _ in range(2):
            standby.start()
            kept = await commit(servers.admin_url, 40)
            await eventually(lambda: caught_up(servers.admin_url))
            await asyncio.to_thread(standby.fall_behind)
            assert not await asyncio.to_thread(standby.lacks)
            assert await commit(servers.admin_url, 70) == kept + 70
            assert await asyncio.to_thread(standby.lacks)

            lost = standby.take_over()

            assert lost is None or 70 <= lost < 80, "PostgreSQL commits now and then by itself"
            assert await commit(servers.admin_url, 0) == kept
