"""PostgreSQL: pools, sessions and migrations. No queries.

Two ways in, one driver: bookings and money speak asyncpg directly (fixed statements, arrays as parameters); the catalogue
and operators go through SQLAlchemy.

One file because both ways take the same settings, and the same errors mean that the server is away.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

import asyncpg
from asyncpg import InterfaceError, PostgresError, SerializationError
from sqlalchemy.exc import InterfaceError as SQLInterfaceError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from boxoffice.database_url import read_database_url
from boxoffice.errors import CannotRun
from boxoffice.settings import Settings
from boxoffice.stores.sessions import Sessions, our_name, tell_sessions

if TYPE_CHECKING:
    from alembic.config import Config

__all__ = [
    "AWAY",
    "GONE",
    "REPAIR_S",
    "TRANSIENT",
    "UNIQUE",
    "InterfaceError",
    "PostgresError",
    "SerializationError",
    "WentBack",
    "alembic_config",
    "check_schema",
    "is_transient",
    "look_ahead",
    "migrate",
    "open_engine",
    "open_pool",
    "open_readers",
    "renew_sessions",
    "sqlstate",
    "take_time",
]

TRANSACTION_TIMEOUT: Final = "transaction_timeout"
"""Known to PostgreSQL 17 and newer. Older ones notice only who froze between two statements, not within one."""

IDLE_LEAST_MS: Final = 1_000
TRANSACTION_LEAST_MS: Final = 3_000
"""However short leases are, a busy machine gets this long."""

REPAIR_S: Final = 600.0
"""Longest statement of a repair, which may read every booking of an event."""

REPAIR_IDLE_MS: Final = 60_000
"""Longest pause of a repair between two statements: it works in Redis meanwhile. Frozen, it keeps its locks so long."""


class WentBack(Exception):
    """PostgreSQL lacks a commit that Redis was told of. Nothing may be decided or believed here until it is repaired."""


UNIQUE: Final = asyncpg.UniqueViolationError
"""There is a row with these values, which only one may have."""

AWAY = (
    WentBack,
    asyncpg.PostgresConnectionError,  # 08
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.DatabaseDroppedError,
    asyncpg.IdleSessionTimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,  # also every TimeoutError
    # It answers, and takes nothing from us. Whoever asks for whatever booking hears the same.
    asyncpg.FeatureNotSupportedError,  # 0A: a plan older than a migration
    asyncpg.InvalidTransactionStateError,  # 25: read-only, above all; who froze in a transaction, too
    asyncpg.InvalidSQLStatementNameError,  # 26: a pooler in between lost our statements
    asyncpg.InvalidAuthorizationSpecificationError,  # 28: another password
    asyncpg.InvalidCatalogNameError,  # 3D
    asyncpg.InvalidSchemaNameError,  # 3F
    asyncpg.SyntaxOrAccessError,  # 42: no rights, or a table or column that is not there
    asyncpg.InsufficientResourcesError,  # 53: disk, memory, connections
    asyncpg.PostgresSystemError,  # 58: I/O
    asyncpg.ConfigFileError,  # F0
)
"""PostgreSQL is not there, takes nothing from anybody, went back in time, or cut the connection: whether a commit happened
is unknown. The numbers are classes of SQLSTATE."""

GONE: Final = (
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.InterfaceError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.TooManyConnectionsError,
    OSError,
)
"""Of these, those of a server that does not answer, or lets nobody in: whatever is asked of it."""

TRANSIENT = (
    *AWAY,
    asyncpg.TransactionRollbackError,  # 40: serialization, deadlock
    asyncpg.ObjectNotInPrerequisiteStateError,  # 55: a lock that is not to be had
    asyncpg.OperatorInterventionError,  # 57: timeouts among them
)
"""The same transaction may succeed a moment later. Nothing in the batch is to blame."""


LOCK_NOT_AVAILABLE: Final = "55P03"
"""SQLSTATE of a `lock_timeout`."""


def sqlstate(error: BaseException) -> str:
    """What PostgreSQL calls an error; empty for one that is not its own."""
    return str(getattr(error, "sqlstate", None) or "")


def is_transient(error: BaseException) -> bool:
    """Whether nothing but the moment is to blame, for a group of errors: for all of them."""
    if isinstance(error, BaseExceptionGroup):
        return all(map(is_transient, error.exceptions))
    return isinstance(error, TRANSIENT)


_OF_THE_SESSION: Final = (
    asyncpg.InvalidTransactionStateError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.SyntaxOrAccessError,
)


async def renew_sessions(pool: Callable[[], Awaitable[asyncpg.Pool[Any]]], error: BaseException) -> None:
    """After an error of this kind a pool's next statements use new sessions: one may keep for ever what it was told when it
    began, that it is read-only (a role's setting), or that its server is a standby."""
    errors = error.exceptions if isinstance(error, BaseExceptionGroup) else (error,)
    if any(isinstance(each, _OF_THE_SESSION) for each in errors):
        with contextlib.suppress(*AWAY):
            await (await pool()).expire_connections()


CONNECT_S: Final = 5.0
"""Longest wait for a connection, unless the URL says `connect_timeout`."""

LOOK_S: Final = 2.0
"""Longest wait of a process that starts and can do without PostgreSQL."""


def connect_arguments(settings: Settings, name: str = "") -> dict[str, Any]:
    """How every process of ours connects: keyword arguments of asyncpg, also through SQLAlchemy. PostgreSQL shows our sessions
    as `name`, unless the URL has a name for them.

    Raises `ValueError` for a URL that cannot be understood.
    """
    return read_database_url(settings.database_url).arguments(timeout_s=CONNECT_S, application_name=name or our_name())


_IDLE: Final = "idle_in_transaction_session_timeout"


def _idle_ms(settings: Settings) -> str:
    return str(max(IDLE_LEAST_MS, settings.worker.lease_ms))


def _transaction_ms(settings: Settings) -> str:
    return str(max(TRANSACTION_LEAST_MS, settings.worker.lease_ms))


DRIVER: Final = "postgresql+asyncpg://"
"""All that SQLAlchemy is told of where to connect: the rest would be read twice, in two ways."""


def open_engine(settings: Settings, *, pool_size: int = 5) -> AsyncEngine:
    """SQLAlchemy over asyncpg: catalogue, listings, operators."""
    arguments = connect_arguments(settings)
    sessions = Sessions(arguments, {_IDLE: _idle_ms(settings), TRANSACTION_TIMEOUT: _transaction_ms(settings)})
    engine = create_async_engine(
        DRIVER, pool_size=pool_size, max_overflow=0, pool_timeout=5, pool_pre_ping=True, connect_args=arguments
    )
    tell_sessions(engine, sessions)
    return engine


async def open_pool(settings: Settings, *, size: int | None = None, min_size: int = 1) -> asyncpg.Pool[Any]:
    """asyncpg's own pool, for settlement.

    Plans made while the tables are empty would scan them for ever, so sequential scans are made expensive from the
    start. Whoever freezes in the middle of a transaction lets go of its locks when its leases end. Raises OSError or an
    asyncpg error when PostgreSQL is away, and `CannotRun` for a pooler of transactions.
    """
    told = {
        "lock_timeout": str(settings.worker.lock_timeout_ms),
        "statement_timeout": str(settings.worker.statement_timeout_ms),
        _IDLE: _idle_ms(settings),
        TRANSACTION_TIMEOUT: _transaction_ms(settings),
        **dict.fromkeys(
            ("enable_seqscan", "enable_hashjoin", "enable_mergejoin", "enable_bitmapscan", "enable_material", "jit"),
            "off",
        ),
    }
    return await _open(
        connect_arguments(settings),
        told,
        min_size=min_size,
        max_size=size or settings.worker.pool_max,
        command_timeout=settings.worker.statement_timeout_ms / 1_000 + 5,
    )


async def open_readers(settings: Settings, *, size: int = 2) -> asyncpg.Pool[Any]:
    """A pool for audits: PostgreSQL's own planner, and as much time as a whole sale takes to read. Raises as `open_pool`."""
    # Said in the startup message, it would seem a standby's to `target_session_attrs=read-write`.
    told = {"default_transaction_read_only": "on", "jit": "off"}
    return await _open(connect_arguments(settings, f"{our_name()} audit"), told, min_size=1, max_size=size)


async def _open(arguments: dict[str, Any], told: dict[str, str], **sizes: Any) -> asyncpg.Pool[Any]:
    sessions = Sessions(arguments, told)
    return await asyncpg.create_pool(init=sessions.begin, reset=sessions.let_go, **sizes, **arguments)


async def look_ahead(settings: Settings) -> None:
    """Connect once before anything is served. Raises `CannotRun` for a pooler of transactions; that PostgreSQL is away for the
    moment is no reason not to start."""
    arguments = connect_arguments(settings)
    with contextlib.suppress(*TRANSIENT):
        async with asyncio.timeout(LOOK_S):
            session = await asyncpg.connect(**arguments)
            try:
                await Sessions(arguments, {}).begin(session)
            finally:
                session.terminate()


async def take_time(connection: Any) -> None:
    """Let this transaction, a repair, last as long as it needs."""
    limits = {"statement_timeout": 0, _IDLE: REPAIR_IDLE_MS}
    if connection.get_server_version().major >= 17:
        limits[TRANSACTION_TIMEOUT] = 0
    await connection.execute("; ".join(f"SET LOCAL {name} = {limit_ms}" for name, limit_ms in limits.items()))


def alembic_config(settings: Settings) -> Config:
    """Alembic, pointed at our migrations and the database of these settings."""
    from alembic.config import Config  # slow to import, and only migrations need it

    config = Config()
    config.set_main_option("script_location", str(files("migrations")).replace("%", "%%"))
    config.attributes["url"] = DRIVER
    config.attributes["connect_args"] = connect_arguments(settings, "boxoffice-migrate")
    return config


_REVISION: Final = re.compile(r'^(?:down_)?revision = (?:"(\w+)"|None)$', re.M)


def revisions() -> dict[str, str | None]:
    """Our migrations, each with the one before it (None: the first), as their files say: their numbers are names, no order."""
    folder = files("migrations").joinpath("versions")
    texts = (path.read_text("utf-8") for path in folder.iterdir() if path.name[:4].isdigit())
    return dict((found[0] or "", found[1] or None) for found in map(_REVISION.findall, texts))


async def check_schema(database: Any) -> None:
    """See that the schema is not older than this program. A newer one is fine: migrations add, and never break what runs.

    Raises `CannotRun`, which says what to do.
    """
    ours = revisions()
    there = None
    if await database.fetchval("SELECT to_regclass('alembic_version') IS NOT NULL"):
        there = await database.fetchval("SELECT version_num FROM alembic_version")
    if there is None or there in ours.values():
        what = f"has the schema of an earlier version ({there})" if there else "has no tables yet"
        raise CannotRun(f"The database {what}: run `boxoffice migrate`.")


def migrate(settings: Settings, revision: str = "head") -> None:
    """Bring the database to a revision, up or down by name. Two at once wait for each other.

    Raises `CannotRun` when PostgreSQL is away, or a table is in use for too long.
    """
    from alembic import command
    from sqlalchemy.exc import DBAPIError

    config = alembic_config(settings)
    try:
        if revision == "head" or not revision.startswith("-"):
            command.upgrade(config, revision)
        else:
            command.downgrade(config, revision.removeprefix("-"))
    except (*AWAY, SQLInterfaceError) as error:
        raise CannotRun("PostgreSQL does not answer; is DATABASE_URL right?") from error
    except DBAPIError as error:
        if sqlstate(error.orig or error) != LOCK_NOT_AVAILABLE:
            raise
        raise CannotRun(
            "Somebody uses a table that is to be changed, and has for 5 seconds; the migration that needs it changed "
            "nothing. Wait for long transactions (`SELECT pid, query FROM pg_stat_activity WHERE xact_start < now() - "
            "interval '5 s'`), and migrate again."
        ) from error
