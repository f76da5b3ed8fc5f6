"""How every process of ours connects to PostgreSQL: its limits, its sizes, what it calls away, and the schema that it needs."""

from __future__ import annotations

from importlib.resources import files
from types import SimpleNamespace
from typing import Any

import alembic.command
import asyncpg
import pytest
from sqlalchemy.exc import InterfaceError, OperationalError

from boxoffice.errors import CannotRun
from boxoffice.settings import Settings
from boxoffice.stores import postgres
from boxoffice.stores.postgres import (
    check_schema,
    is_transient,
    migrate,
    open_pool,
    renew_sessions,
    revisions,
    sqlstate,
)

pytestmark = pytest.mark.usefixtures("products_limits")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What asyncpg was asked for, each time."""
    pools: list[dict[str, Any]] = []

    async def create_pool(**options: Any) -> str:
        pools.append(options)
        return f"pool {len(pools)}"

    monkeypatch.setattr(postgres.asyncpg, "create_pool", create_pool)
    return pools


SETTINGS = Settings.model_validate({
    "database_url": "postgresql://somebody@127.0.0.1/boxoffice",
    "worker": {"lock_timeout_ms": 1_234, "statement_timeout_ms": 4_000, "pool_max": 7, "lease_ms": 20_000},
})  # fmt: skip


async def test_settlement_connects_with_all_its_limits(asked: list[dict[str, Any]]) -> None:
    """asyncpg waits longer for an answer than PostgreSQL lets a statement take: the server's word comes first."""
    assert await open_pool(SETTINGS) == "pool 1"
    (pool,) = asked
    assert (pool["min_size"], pool["max_size"], pool["command_timeout"]) == (1, 7, 9)
    assert pool["timeout"] == postgres.CONNECT_S == 5
    assert pool["dsn"].startswith("postgresql://somebody@127.0.0.1/boxoffice")
    assert pool["server_settings"] == {"application_name": "boxoffice-cli"}, "PgBouncer takes no other at the start"


async def test_a_pool_has_the_size_that_is_asked_for(asked: list[dict[str, Any]]) -> None:
    await open_pool(SETTINGS, size=3, min_size=2)
    assert (asked[0]["min_size"], asked[0]["max_size"]) == (2, 3)


@pytest.mark.parametrize(
    ("lease_ms", "idle", "transaction"),
    [(200, "1000", "3000"), (2_000, "2000", "3000"), (3_001, "3001", "3001"), (15_000, "15000", "15000")],
)
async def test_who_freezes_lets_go_when_its_leases_end(
    asked: list[dict[str, Any]], lease_ms: int, idle: str, transaction: str
) -> None:
    """However short leases are, a busy machine gets a second between statements, and three for a transaction."""
    await open_pool(SETTINGS.model_copy(update={"worker": SETTINGS.worker.model_copy(update={"lease_ms": lease_ms})}))
    said: list[str] = []

    async def execute(query: str) -> str:
        said.append(query)
        return "SELECT 1"

    session = SimpleNamespace(
        execute=execute, get_server_pid=lambda: 1, get_server_version=lambda: SimpleNamespace(major=18)
    )
    await asked[0]["init"](session)
    assert f"idle_in_transaction_session_timeout = '{idle}'" in said[-1]
    assert f"transaction_timeout = '{transaction}'" in said[-1]


async def test_audits_read_only_and_take_their_time(asked: list[dict[str, Any]]) -> None:
    """PostgreSQL plans as it likes, and no statement is cut."""
    await postgres.open_readers(SETTINGS)
    await postgres.open_readers(SETTINGS, size=6)
    assert [(pool["min_size"], pool["max_size"]) for pool in asked] == [(1, 2), (1, 6)]
    assert asked[0]["server_settings"] == {"application_name": "boxoffice-cli audit"}
    assert asked[0]["timeout"] == 5


async def test_an_audit_cannot_write(settings: Settings, clean: None) -> None:
    pool = await postgres.open_readers(settings, size=1)
    try:
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            await pool.execute("INSERT INTO clients (id, name) VALUES ('a', 'a')")
    finally:
        pool.terminate()


async def test_the_engine_waits_five_seconds_for_one_of_its_five(settings: Settings, clean: None) -> None:
    """And opens no more than that; a connection that has died is replaced before it is used."""
    engine = postgres.open_engine(settings)
    pool: Any = engine.pool
    assert (pool.size(), pool._max_overflow, pool._timeout, pool._pre_ping) == (5, 0, 5, True)
    async with engine.connect() as connection:
        shown = await connection.exec_driver_sql("SELECT current_setting('idle_in_transaction_session_timeout')")
        assert shown.scalar() == "15s"
    await engine.dispose()
    other = postgres.open_engine(settings, pool_size=2)
    assert other.pool.size() == 2  # type: ignore[attr-defined]
    await other.dispose()


# ---------------------------------------------------------------- what is away


AWAY = [
    postgres.WentBack(), asyncpg.ConnectionDoesNotExistError(), asyncpg.CannotConnectNowError(), asyncpg.AdminShutdownError(),
    asyncpg.CrashShutdownError(), asyncpg.DatabaseDroppedError(), asyncpg.IdleSessionTimeoutError(),
    asyncpg.IdleInTransactionSessionTimeoutError(), asyncpg.TransactionTimeoutError(), asyncpg.InterfaceError("closed"),
    asyncpg.InternalClientError("broken"), ConnectionRefusedError(), TimeoutError(),
    asyncpg.FeatureNotSupportedError(), asyncpg.ReadOnlySQLTransactionError(), asyncpg.InvalidSQLStatementNameError(),
    asyncpg.InvalidPasswordError(), asyncpg.InvalidCatalogNameError(), asyncpg.InvalidSchemaNameError(),
    asyncpg.InsufficientPrivilegeError(), asyncpg.UndefinedTableError(), asyncpg.DiskFullError(),
    asyncpg.TooManyConnectionsError(), asyncpg.PostgresIOError(), asyncpg.ConfigFileError(),
]  # fmt: skip
TRIED_AGAIN = [
    asyncpg.DeadlockDetectedError(), asyncpg.SerializationError(), asyncpg.LockNotAvailableError(),
    asyncpg.QueryCanceledError(),
]  # fmt: skip
OURS = [asyncpg.UniqueViolationError(), asyncpg.NumericValueOutOfRangeError(), ValueError(), KeyError(), Exception()]


@pytest.mark.parametrize("error", [*AWAY, *TRIED_AGAIN, *OURS], ids=lambda error: type(error).__name__)
def test_who_is_to_blame(error: Exception) -> None:
    """The moment, for all of a group; or what was asked."""
    passes = error in (*AWAY, *TRIED_AGAIN)
    assert isinstance(error, postgres.AWAY) == (error in AWAY)
    assert isinstance(error, postgres.TRANSIENT) == passes
    assert is_transient(error) == passes
    assert is_transient(ExceptionGroup("", [TimeoutError(), error])) == passes
    assert is_transient(ExceptionGroup("", [error, ExceptionGroup("", [TimeoutError()])])) == passes


def test_what_postgresql_calls_an_error() -> None:
    assert [sqlstate(error) for error in (asyncpg.DeadlockDetectedError(), ValueError(), asyncpg.InterfaceError(""))] == [
        "40P01", "", "",
    ]  # fmt: skip


OF_THE_SESSION = [
    asyncpg.ReadOnlySQLTransactionError(),
    asyncpg.InvalidPasswordError(),
    asyncpg.InsufficientPrivilegeError(),
]


@pytest.mark.parametrize(
    ("error", "renewed"),
    [
        *((error, True) for error in OF_THE_SESSION),
        (ExceptionGroup("", [ValueError(), OF_THE_SESSION[0]]), True),
        (ExceptionGroup("", [ValueError(), TimeoutError()]), False),
        (TimeoutError(), False),
        (asyncpg.UniqueViolationError(), False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
@pytest.mark.parametrize("away", [False, True])
async def test_sessions_are_renewed_after_what_a_session_keeps(error: Exception, renewed: bool, away: bool) -> None:
    """And nobody minds when PostgreSQL is away meanwhile."""
    calls: list[str] = []

    async def expire_connections() -> None:
        calls.append("expired")
        if away:
            raise ConnectionRefusedError

    async def pool() -> Any:
        return SimpleNamespace(expire_connections=expire_connections)

    await renew_sessions(pool, error)
    assert calls == (["expired"] if renewed else [])


# ---------------------------------------------------------------- the schema


def chain_of(ours: dict[str, str | None]) -> list[str]:
    """From the first to the head."""
    after = {before: revision for revision, before in ours.items()}
    chain: list[str] = []
    while (found := after.get(chain[-1] if chain else None)) is not None:
        chain.append(found)
    return chain


OURS_NOW = chain_of(revisions())


@pytest.mark.parametrize(
    ("there", "said"),
    [
        (None, "The database has no tables yet: run `boxoffice migrate`."),
        (OURS_NOW[0], f"The database has the schema of an earlier version ({OURS_NOW[0]}): run `boxoffice migrate`."),
        (OURS_NOW[-2], f"The database has the schema of an earlier version ({OURS_NOW[-2]}): run `boxoffice migrate`."),
        (OURS_NOW[-1], ""),
        ("9999", ""),
    ],
)
@pytest.mark.parametrize("table", [True, False])
async def test_a_schema_may_be_newer_and_not_older(there: str | None, said: str, table: bool) -> None:
    """Without the table of versions there is none, and nobody asks for it."""

    class Pool:
        async def fetchval(self, query: str) -> Any:
            if "to_regclass('alembic_version')" in query:
                return table
            assert table, "the table is not there"
            return there

    pool: Any = Pool()
    said = said if table else "The database has no tables yet: run `boxoffice migrate`."
    try:
        await check_schema(pool)
    except CannotRun as error:
        assert error.detail == said
    else:
        assert said == ""


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What alembic was told."""
    told: list[tuple[Any, ...]] = []
    for name in ("upgrade", "downgrade"):
        monkeypatch.setattr(alembic.command, name, lambda *words, name=name: told.append((name, *words)))
    return told


@pytest.mark.parametrize(
    ("revision", "command"),
    [
        (None, ("upgrade", "head")), ("0005", ("upgrade", "0005")), ("-0005", ("downgrade", "0005")),
        ("-base", ("downgrade", "base")),
    ],
)  # fmt: skip
def test_up_and_down_by_name(commands: list[Any], revision: str | None, command: tuple[str, str]) -> None:
    migrate(SETTINGS, *([] if revision is None else [revision]))
    ((name, config, wanted),) = commands
    assert (name, wanted) == command
    assert config.get_main_option("script_location") == str(files("migrations"))
    assert config.attributes["url"] == "postgresql+asyncpg://"
    assert config.attributes["connect_args"]["dsn"].startswith("postgresql://somebody@")
    assert config.attributes["connect_args"]["timeout"] == 5


class Locked(Exception):
    sqlstate = "55P03"


class Other(Exception):
    sqlstate = "42P01"


@pytest.mark.parametrize(
    ("error", "raised", "said"),
    [
        (ConnectionRefusedError(), CannotRun, "PostgreSQL does not answer; is DATABASE_URL right?"),
        (InterfaceError("", {}, Exception()), CannotRun, "PostgreSQL does not answer; is DATABASE_URL right?"),
        (OperationalError("", {}, Locked()), CannotRun, "Somebody uses a table that is to be changed"),
        (OperationalError("", {}, Other()), OperationalError, ""),
        (ValueError("ours"), ValueError, ""),
    ],
    ids=["refused", "interface", "locked", "other", "ours"],
)
def test_why_a_migration_did_not_run(
    monkeypatch: pytest.MonkeyPatch, error: Exception, raised: type[Exception], said: str
) -> None:
    def upgrade(*_: Any) -> None:
        raise error

    monkeypatch.setattr(alembic.command, "upgrade", upgrade)
    with pytest.raises(raised) as caught:
        migrate(SETTINGS)
    if isinstance(caught.value, CannotRun):
        assert caught.value.detail.startswith(said)
        assert caught.value.__cause__ is error
    else:
        assert caught.value is error
