"""Runs migrations: one at a time (advisory lock), never waiting long for a table that is in use (lock timeout)."""

from __future__ import annotations

import asyncio

from alembic import context
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine

from boxoffice.stores.models import Base

MIGRATION_LOCK = 0x626F786F  # "boxo": every migration run of every host takes this advisory lock
LOCK_TIMEOUT_MS = 5_000


def run(connection: Connection) -> None:
    """Migrate inside one transaction."""
    context.configure(connection=connection, target_metadata=Base.metadata, compare_type=True)
    with context.begin_transaction():
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
        connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT_MS}ms'"))
        context.run_migrations()


async def connect_and_run() -> None:
    """Open a connection of our own, whatever loop the caller runs."""
    engine = create_async_engine(
        context.config.attributes["url"], connect_args=context.config.attributes["connect_args"]
    )
    try:
        async with engine.connect() as connection:
            await connection.run_sync(run)
            await connection.commit()
    finally:
        await engine.dispose()


if "connection" in context.config.attributes:
    run(context.config.attributes["connection"])
else:
    asyncio.run(connect_and_run())
