"""One view of PostgreSQL for a question that reads much: nothing that is written meanwhile shows in it, and it holds no
lock that a sale waits for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from boxoffice.settings import Settings
from boxoffice.stores.database import Connection
from boxoffice.stores.postgres import open_readers

__all__ = ["snapshot"]


@asynccontextmanager
async def snapshot(settings: Settings) -> AsyncIterator[Connection]:
    """A session of its own that only reads, with PostgreSQL's own planner and as much time as it needs, in one transaction
    that sees one moment. Raises `postgres.AWAY`."""
    pool = await open_readers(settings, size=1)
    try:
        async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
            yield connection
    finally:
        pool.terminate()
