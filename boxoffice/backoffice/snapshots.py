"""One view of PostgreSQL for a question that reads much: nothing that is written meanwhile shows in it, and it holds no
lock that a sale waits for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from boxoffice.settings import Settings
from boxoffice.stores.database import Connection
from boxoffice.stores.postgres import open_readers

__all__ = ["snapshot"]


@asynccontextmanager
async def snapshot(settings: Settings, within_s: float | None = None) -> AsyncIterator[Connection]:
    """A session of its own that only reads, with PostgreSQL's own planner and as much time as it needs, in one transaction
    that sees one moment. With `within_s`, seconds, the connection is cut when it takes longer to open, or to read: a server
    that hangs answers no rollback either. Raises `postgres.AWAY`."""
    async with asyncio.timeout(within_s):
        pool = await open_readers(settings, size=1)
    cutting = None if within_s is None else asyncio.get_running_loop().call_later(within_s, pool.terminate)
    try:
        async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
            yield connection
    finally:
        if cutting:
            cutting.cancel()
        pool.terminate()
