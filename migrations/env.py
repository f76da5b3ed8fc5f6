"""Runs migrations: by one process at a time (advisory lock), each in a transaction of its own, never waiting long for a table
that is in use (lock timeout)."""

from __future__ import annotations

import asyncio
import time

from alembic import context
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine

from boxoffice.stores.models import Base
from boxoffice.stores.postgres_rights import grant
from boxoffice.stores.sessions import Sessions, tell_sessions

MIGRATION_LOCK = 0x626F786F  # "boxo": every migration run of every host takes this advisory lock
LOCK_TIMEOUT_MS = 5_000
LOOK_AGAIN_S = 0.1


def run(connection: Connection) -> None:
    """What one migration locks it lets go of before the next begins. One that fails undoes itself alone, and the next run goes
    on with it. The lock is the session's: it ends with the connection."""
    context.configure(
        connection=connection, target_metadata=Base.metadata, compare_type=True, transaction_per_migration=True
    )
    while not connection.scalar(text("SELECT pg_try_advisory_lock(:lock)"), {"lock": MIGRATION_LOCK}):
        # Whoever waited inside a statement would have a snapshot, for which an index that is built concurrently waits in turn.
        connection.commit()
        time.sleep(LOOK_AGAIN_S)
    connection.execute(text(f"SET lock_timeout = '{LOCK_TIMEOUT_MS}ms'"))
    connection.commit()
    context.run_migrations()
    grant(connection)
    connection.commit()


async def connect_and_run() -> None:
    """Open a connection of our own, whatever loop the caller runs."""
    arguments = context.config.attributes["connect_args"]
    engine = create_async_engine(context.config.attributes["url"], connect_args=arguments)
    tell_sessions(engine, Sessions(arguments, {}))
    try:
        async with engine.connect() as connection:
            await connection.run_sync(run)
    finally:
        await engine.dispose()


if "connection" in context.config.attributes:
    run(context.config.attributes["connection"])
else:
    asyncio.run(connect_and_run())
