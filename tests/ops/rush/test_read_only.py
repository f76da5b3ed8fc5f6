"""A PostgreSQL that refuses to write, as a rush has it: for every session, also after a restart, and no longer than told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from ops.rush.read_only import ReadOnly
from ops.stack.servers import Servers


@pytest.fixture
async def refusing(servers: Servers) -> AsyncIterator[ReadOnly]:
    refusing = ReadOnly(servers.postgres)
    yield refusing
    assert await asyncio.to_thread(refusing.end)


async def write(connection: asyncpg.Connection) -> None:  # type: ignore[type-arg]
    await connection.execute("CREATE TABLE IF NOT EXISTS tries (try int)")
    await connection.execute("DROP TABLE tries")


async def write_anew(servers: Servers) -> None:
    connection = await asyncpg.connect(servers.database_url)
    try:
        await write(connection)
    finally:
        await connection.close()


async def test_nobody_writes_until_it_ends(servers: Servers, refusing: ReadOnly) -> None:
    before = await asyncpg.connect(servers.database_url)
    try:
        await write(before)

        assert await asyncio.to_thread(refusing.begin)

        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            await write_anew(servers)
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            await write(before)
        assert await before.fetchval("SELECT 1") == 1

        assert await asyncio.to_thread(refusing.end)
        await write_anew(servers)
        await write(before)
    finally:
        await before.close()


async def test_it_lasts_over_a_restart_and_ends_after_it(servers: Servers, refusing: ReadOnly) -> None:
    assert await asyncio.to_thread(refusing.begin)
    await asyncio.to_thread(servers.kill_postgres)
    assert not await asyncio.to_thread(refusing.end), "there is nobody to tell"
    await asyncio.to_thread(servers.restart_postgres)
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        await write_anew(servers)

    assert await asyncio.to_thread(refusing.end)
    await write_anew(servers)
