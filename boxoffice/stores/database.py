"""PostgreSQL as every part of a process has it: who has a `Database` has no pool, and knows no error of a driver's but by kind.

`reader` for what only looks, `writer` for one statement after another, `transaction` for what belongs together. Today all three
end at one server; what may be read from a standby is known by its door.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import Context
from functools import cached_property
from typing import Any, Final, Protocol, TypeAlias, TypeVar

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine

from boxoffice.errors import StoreAway
from boxoffice.settings import Settings
from boxoffice.stores.postgres import AWAY, GONE, TRANSIENT, open_engine, open_pool, renew_sessions, sqlstate
from boxoffice.telemetry.outages import outages

__all__ = ["Connection", "Database", "Pool", "Reader", "Row", "Writer"]

Connection: TypeAlias = "asyncpg.Connection[Any] | asyncpg.pool.PoolConnectionProxy[Any]"
"""One session."""

Pool: TypeAlias = "asyncpg.Pool[Any]"

Row: TypeAlias = asyncpg.Record
"""What a query answers: values by name, and in their order."""

CLOSE_S: Final = 5.0
"""How long whoever still uses a session has when the pools are closed."""

Answer = TypeVar("Answer")


class Reader(Protocol):
    """Whoever answers a query: a session, a pool, or the database."""

    async def fetch(self, query: str, *values: Any) -> list[Any]:
        """Its rows."""
        ...

    async def fetchrow(self, query: str, *values: Any) -> Any:
        """Its first row, or None."""
        ...

    async def fetchval(self, query: str, *values: Any) -> Any:
        """The first value of its first row, or None."""
        ...


class Writer(Protocol):
    """Whoever takes a statement that writes."""

    async def execute(self, query: str, *values: Any) -> str:
        """PostgreSQL's word for what it did."""
        ...


@contextmanager
def _noted() -> Iterator[None]:
    """Whether PostgreSQL answers is noted here, for all who speak to it."""
    try:
        yield
    except GONE as error:
        outages.missed("postgresql", f"{type(error).__name__} {sqlstate(error)}".strip())
        raise
    if outages.lasting:
        outages.met("postgresql")


class Database:
    """The pools of one process. Nothing connects before it is used: a process can start while PostgreSQL is away."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._pool: Pool | None = None
        self._opening = asyncio.Lock()
        self.at_first: Callable[[Pool], Awaitable[None]] | None = None
        """Awaited once, with the pool that has just opened."""

    async def pool(self) -> Pool:
        """asyncpg's pool, opened at first use: for audits and tests, which look at PostgreSQL with statements of their own.

        Raises one of `postgres.AWAY` while PostgreSQL does not answer; a later call may succeed.
        """
        if self._pool is None:
            async with self._opening:
                if self._pool is None:
                    # Not in the name of the request that comes first: a pool has tasks that outlive it.
                    self._pool = await asyncio.create_task(open_pool(self._settings), context=Context())
                    if self.at_first is not None:
                        await self.at_first(self._pool)
        return self._pool

    @cached_property
    def engine(self) -> AsyncEngine:
        """SQLAlchemy's, for the catalogue and for operators: PostgreSQL's own planner, and pools of its own."""
        return open_engine(self._settings)

    @asynccontextmanager
    async def reader(self) -> AsyncIterator[Connection]:
        """A session that only reads. Raises as `pool`."""
        with _noted():
            async with (await self.pool()).acquire() as connection:
                yield connection

    @asynccontextmanager
    async def writer(self) -> AsyncIterator[Connection]:
        """A session in which each statement is a transaction, unless one is begun. Raises as `pool`."""
        with _noted():
            async with (await self.pool()).acquire() as connection:
                yield connection

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[Connection]:
        """A session in a transaction, which commits when the block ends. Raises as `pool`."""
        with _noted():
            async with (await self.pool()).acquire() as connection, connection.transaction():
                yield connection

    async def transaction(
        self,
        work: Callable[[Connection], Awaitable[Answer]],
        *,
        tries: int = 1,
        races: tuple[type[Exception], ...] = (),
        between: Callable[[Exception, int], Awaitable[None]] | None = None,
    ) -> Answer:
        """Commit what `work` does in one transaction, and return its answer.

        It is tried anew, up to `tries` times, after one of `races` and after whatever PostgreSQL itself calls a matter of the
        moment; `between` is awaited with the error and the number of tries so far. Of a server that is away nobody knows
        whether it has committed: that is for the caller to find out. Raises the last error.
        """
        again: tuple[type[Exception], ...] = (*TRANSIENT, *races)
        for tried in range(1, tries + 1):
            try:
                async with self.begin() as connection:
                    return await work(connection)
            except again as error:
                await self.renew(error)
                if tried == tries or isinstance(error, AWAY):
                    raise
                if between is not None:
                    await between(error, tried)
        raise AssertionError("one try at least")

    @asynccontextmanager
    async def answering(self) -> AsyncIterator[None]:
        """Whatever PostgreSQL cannot do at the moment is said as `StoreAway`."""
        try:
            yield
        except TRANSIENT as error:
            await self.renew(error)
            raise StoreAway from error

    async def renew(self, error: BaseException) -> None:
        """After an error for which a session itself may be to blame the next statements use new ones."""
        await renew_sessions(self.pool, error)

    async def renew_all(self) -> None:
        """Let the next statements use new sessions: one may keep for ever what it was told at its start. Raises as `pool`."""
        await (await self.pool()).expire_connections()

    async def fetch(self, query: str, *values: Any) -> list[Any]:
        """Rows of one statement that reads. Raises as `pool`, and PostgreSQL's errors."""
        with _noted():
            return await (await self.pool()).fetch(query, *values)

    async def fetchrow(self, query: str, *values: Any) -> Any:
        """The first row of one statement, or None. Raises as `fetch`."""
        with _noted():
            return await (await self.pool()).fetchrow(query, *values)

    async def fetchval(self, query: str, *values: Any) -> Any:
        """The first value of one statement, or None. Raises as `fetch`."""
        with _noted():
            return await (await self.pool()).fetchval(query, *values)

    async def execute(self, query: str, *values: Any) -> str:
        """One statement that writes; PostgreSQL's word for what it did. Raises as `fetch`."""
        with _noted():
            return await (await self.pool()).execute(query, *values)

    def pool_use(self) -> tuple[int, int, int]:
        """Sessions of the pool: in use, idle, and how many there may be. All 0 before the first use."""
        pool = self._pool
        if pool is None:
            return 0, 0, 0
        return pool.get_size() - pool.get_idle_size(), pool.get_idle_size(), pool.get_max_size()

    async def close(self) -> None:
        """Close the pools, in bounded time."""
        if self._pool is not None:
            try:
                async with asyncio.timeout(CLOSE_S):
                    await self._pool.close()
            except TimeoutError:
                self._pool.terminate()
        if "engine" in self.__dict__:
            await self.engine.dispose()
