"""PostgreSQL: pools, sessions and migrations. No queries.

Two ways in, one driver: settlement speaks asyncpg directly (fixed statements, arrays as parameters); everything else
goes through SQLAlchemy.
"""

from __future__ import annotations

import asyncio
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import asyncpg
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from boxoffice.errors import CannotRun
from boxoffice.settings import Settings

if TYPE_CHECKING:
    from alembic.config import Config

__all__ = ["AWAY", "TRANSIENT", "alembic_config", "check_durability", "migrate", "open_engine", "open_pool"]

AWAY = (
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    asyncio.TimeoutError,
)
"""PostgreSQL is not there, or cut the connection: whether a commit happened is unknown."""

TRANSIENT = (
    *AWAY,
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.LockNotAvailableError,
    asyncpg.QueryCanceledError,
    asyncpg.InsufficientResourcesError,
)
"""The same transaction may succeed a moment later. Nothing in the batch is to blame."""


def _dsn(settings: Settings) -> str:
    return make_url(settings.database_url).set(drivername="postgresql").render_as_string(hide_password=False)


def open_engine(settings: Settings, *, pool_size: int = 5) -> AsyncEngine:
    """SQLAlchemy over asyncpg: catalogue, listings, operators."""
    url = make_url(settings.database_url).set(drivername="postgresql+asyncpg")
    return create_async_engine(
        url, pool_size=pool_size, max_overflow=0, pool_timeout=5, pool_pre_ping=True, connect_args={"timeout": 5}
    )


async def open_pool(settings: Settings, *, size: int | None = None, min_size: int = 1) -> asyncpg.Pool[Any]:
    """asyncpg's own pool, for settlement.

    Plans made while the tables are empty would scan them for ever, so sequential scans are made expensive from the
    start. Raises OSError or an asyncpg error when PostgreSQL is away.
    """
    return await asyncpg.create_pool(
        _dsn(settings),
        min_size=min_size,
        max_size=size or settings.worker.pool_max,
        timeout=5,
        command_timeout=settings.worker.statement_timeout_ms / 1_000 + 5,
        server_settings={
            "application_name": "boxoffice",
            "lock_timeout": str(settings.worker.lock_timeout_ms),
            "statement_timeout": str(settings.worker.statement_timeout_ms),
            # Whoever freezes in the middle of a transaction lets go of its locks when its leases end.
            "idle_in_transaction_session_timeout": str(max(1_000, settings.worker.lease_ms)),
            "enable_seqscan": "off",
            "enable_hashjoin": "off",
            "enable_mergejoin": "off",
            "enable_bitmapscan": "off",
            "enable_material": "off",
            "jit": "off",
        },
    )


def alembic_config(settings: Settings) -> Config:
    """Alembic, pointed at our migrations and the database of these settings."""
    from alembic.config import Config  # slow to import, and only migrations need it

    config = Config()
    config.set_main_option("script_location", str(files("migrations")).replace("%", "%%"))
    config.attributes["url"] = make_url(settings.database_url).set(drivername="postgresql+asyncpg")
    return config


def migrate(settings: Settings, revision: str = "head") -> None:
    """Bring the database to a revision, up or down by name. Two at once wait for each other.

    Raises `CannotRun` when PostgreSQL is away.
    """
    from alembic import command

    config = alembic_config(settings)
    try:
        if revision == "head" or not revision.startswith("-"):
            command.upgrade(config, revision)
        else:
            command.downgrade(config, revision.removeprefix("-"))
    except AWAY as error:
        raise CannotRun("PostgreSQL does not answer; is DATABASE_URL right?") from error


async def check_durability(pool: asyncpg.Pool[Any], settings: Settings) -> None:
    """Look whether a commit on this server means what we promise (decision 2).

    Raises `CannotRun` naming the server's setting that is weaker than `durability`.
    """
    if settings.durability == "none":
        return
    row = await pool.fetchrow("SELECT current_setting('fsync') f, current_setting('synchronous_commit') s")
    assert row is not None
    if row["f"] != "on":
        raise CannotRun("PostgreSQL has fsync off; a crash may undo what it committed.")
    if row["s"] in ("off",):
        raise CannotRun("PostgreSQL has synchronous_commit off; a crash may undo what it committed.")
