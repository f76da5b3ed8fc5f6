"""One session or one transaction, tried again when PostgreSQL says that the next may succeed, and its errors by kind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import asyncpg
import pytest

from boxoffice.errors import StoreAway
from boxoffice.settings import Settings
from boxoffice.stores import database as database_module
from boxoffice.stores.database import Database
from tests.support.databases import DatabaseOf

ROLLED_BACK = asyncpg.SerializationError("the next may succeed")
READ_ONLY = asyncpg.ReadOnlySQLTransactionError("a session's own")


class Raced(Exception):
    """Ours."""


class Server:
    """A pool that notes what is done with its sessions."""

    def __init__(self) -> None:
        self.did: list[Any] = []
        self.connection: Any = SimpleNamespace(transaction=self._transaction)
        for name in ("fetch", "fetchrow", "fetchval", "execute"):
            setattr(self, name, self._noting(name))

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Any]:
        self.did.append("acquired")
        yield self.connection
        self.did.append("released")

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[None]:
        self.did.append("begun")
        try:
            yield
        except BaseException:
            self.did.append("rolled back")
            raise
        self.did.append("committed")

    async def expire_connections(self) -> None:
        self.did.append("renewed")

    def _noting(self, name: str) -> Any:
        async def note(*values: Any) -> Any:
            self.did.append((name, *values))
            return name

        return note


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def database(server: Server) -> Database:
    async def pool() -> Any:
        return server

    return DatabaseOf(pool)


async def test_sessions_with_and_without_a_transaction(database: Database, server: Server) -> None:
    async with database.reader() as connection:
        assert connection is server.connection
    async with database.writer() as connection:
        assert connection is server.connection
    assert server.did == ["acquired", "released"] * 2
    server.did.clear()
    async with database.begin() as connection:
        assert connection is server.connection
    assert server.did == ["acquired", "begun", "committed", "released"]


@pytest.mark.parametrize("name", ["fetch", "fetchrow", "fetchval", "execute"])
async def test_one_statement(database: Database, server: Server, name: str) -> None:
    assert await getattr(database, name)("SELECT $1, $2", 1, 2) == name
    assert server.did == [(name, "SELECT $1, $2", 1, 2)]


@pytest.mark.parametrize(
    ("tries", "errors", "ends", "waits"),
    [
        (1, [], "answer", []),
        (1, [ROLLED_BACK], ROLLED_BACK, []),
        (3, [ROLLED_BACK, Raced()], "answer", [1, 2]),
        (2, [ROLLED_BACK, ROLLED_BACK], ROLLED_BACK, [1]),
        (3, [Raced(), OSError("away")], OSError, [1]),
        (3, [ValueError("ours")], ValueError, []),
    ],
    ids=["done", "once", "thrice", "in vain", "away", "a fault of its own"],
)
async def test_a_transaction_is_tried_anew_while_that_may_help(
    database: Database, server: Server, tries: int, errors: list[Exception], ends: Any, waits: list[int]
) -> None:
    """Not of a server that is away: whether it committed nobody knows. Each try has a transaction of its own."""
    left, waited = list(errors), []

    async def work(connection: Any) -> str:
        assert connection is server.connection
        if left:
            raise left.pop(0)
        return "answer"

    async def between(error: Exception, tried: int) -> None:
        assert error is errors[tried - 1]
        waited.append(tried)

    going = database.transaction(work, tries=tries, races=(Raced,), between=between)
    if ends == "answer":
        assert await going == "answer"
    else:
        with pytest.raises(ends if isinstance(ends, type) else type(ends)):
            await going
    assert waited == waits
    assert server.did.count("begun") == len(waits) + 1
    assert server.did.count("committed") == (ends == "answer")


async def test_a_transaction_is_tried_once_unless_more_is_asked_for(database: Database) -> None:
    async def work(_connection: Any) -> None:
        raise ROLLED_BACK

    with pytest.raises(asyncpg.SerializationError):
        await database.transaction(work)


@pytest.mark.parametrize(("error", "renewed"), [(ROLLED_BACK, 0), (READ_ONLY, 1)])
async def test_a_session_that_is_to_blame_is_not_used_again(
    database: Database, server: Server, error: Exception, renewed: int
) -> None:
    async def work(_connection: Any) -> None:
        raise error

    with pytest.raises(type(error)):
        await database.transaction(work)
    assert server.did.count("renewed") == renewed
    with pytest.raises(StoreAway) as away:
        async with database.answering():
            raise error
    assert away.value.__cause__ is error
    assert server.did.count("renewed") == 2 * renewed


async def test_what_is_no_matter_of_the_moment_is_not_said_as_away(database: Database) -> None:
    with pytest.raises(asyncpg.UniqueViolationError):
        async with database.answering():
            raise asyncpg.UniqueViolationError
    async with database.answering():
        pass


async def test_all_sessions_are_renewed_when_that_is_asked_for(database: Database, server: Server) -> None:
    await database.renew_all()
    assert server.did == ["renewed"]


class Closing:
    """A pool that somebody still uses, or nobody does."""

    def __init__(self, used: bool) -> None:
        self.used, self.ended = used, ""

    async def close(self) -> None:
        if self.used:
            await asyncio.Event().wait()
        self.ended = "closed"

    def terminate(self) -> None:
        self.ended = "terminated"


@pytest.mark.parametrize(("used", "ended"), [(False, "closed"), (True, "terminated")])
async def test_the_pool_opens_once_and_is_closed(monkeypatch: pytest.MonkeyPatch, used: bool, ended: str) -> None:
    """However many want it first; whoever hangs does not keep the process for longer than five seconds."""
    opened: list[Closing] = []
    seen: list[Any] = []
    settings = Settings()

    async def open_pool(given: Settings) -> Closing:
        assert given is settings
        await asyncio.sleep(0)
        opened.append(Closing(used))
        return opened[-1]

    async def at_first(pool: Any) -> None:
        seen.append(pool)

    monkeypatch.setattr(database_module, "open_pool", open_pool)
    database = Database(settings)
    database.at_first = at_first
    pools = await asyncio.gather(database.pool(), database.pool())
    assert pools == [opened[0]] * 2 == seen * 2
    monkeypatch.setattr(database_module, "CLOSE_S", 0.01)
    await database.close()
    assert opened[0].ended == ended


async def test_what_never_connected_closes_at_once() -> None:
    database = Database(Settings())
    await database.close()
    assert "engine" not in database.__dict__, "and none was made to be closed"
