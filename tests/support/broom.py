"""Empties both stores before a test, and puts the two shops of an office back that the product has made once."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import redis as sync_redis

from boxoffice.office import BoxOffice
from boxoffice.stores import keys
from boxoffice.stores.gate import Gate
from boxoffice.stores.models import ApiKey, Base, Client
from boxoffice.stores.redis import run_of
from ops.stack.servers import Servers

__all__ = ["Broom"]

# Not TRUNCATE: new files for fifteen tables and their indexes take longer than most tests.
_EMPTY = "; ".join(f"DELETE FROM {table.name}" for table in reversed(Base.metadata.sorted_tables))
_EMPTY += "; INSERT INTO notice_head DEFAULT VALUES"

_END_OTHERS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL
"""

LOCK_TIMEOUT = "5s"

_TABLES = (Client.__tablename__, ApiKey.__tablename__)


class Broom:
    """Of one session of tests. Its connections stay open from test to test; a restart of a server costs it one attempt."""

    def __init__(self, servers: Servers) -> None:
        self._database_url = servers.database_url
        self._redis = sync_redis.Redis.from_url(servers.redis_url)
        self._connection: asyncpg.Connection[Any] | None = None
        self._shops: tuple[str, dict[bytes, bytes]] | None = None
        """Statements that write their rows, and their keys in Redis as `DUMP` gives them."""

    async def sweep(self, shards: int, generation: str) -> None:
        """Leave nothing in either store but so many shards, each with an open gate."""
        rows = ", ".join(f"({shard}, '{generation}')" for shard in range(shards))
        await self._execute(f"{_EMPTY}; INSERT INTO shards (shard, generation) VALUES {rows}")
        try:
            self._empty(shards, generation)
        except sync_redis.ConnectionError:  # it was restarted
            self._empty(shards, generation)

    async def put_shops(self, office: BoxOffice, make: Callable[[BoxOffice], Awaitable[None]]) -> None:
        """Have the shops made by the product the first time, and put what it wrote back from then on."""
        if self._shops is None:
            before = set(self._redis.keys())
            await make(office)
            self._shops = await self._written(), {key: self._redis.dump(key) for key in {*self._redis.keys()} - before}
            return
        statements, dumps = self._shops
        await self._execute(statements)
        pipeline = self._redis.pipeline(transaction=False)
        for key, dump in dumps.items():
            pipeline.restore(key, 0, dump)
        pipeline.execute()

    async def close(self) -> None:
        """Let go of the servers."""
        self._redis.close()
        if self._connection is not None:
            await self._connection.close()

    def _empty(self, shards: int, generation: str) -> None:
        gate = Gate(generation, run_of(self._redis.info("server"))).pack()
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.flushall()
        for shard in range(shards):
            pipeline.set(keys.gate(shard), gate)
        pipeline.execute()

    async def _written(self) -> str:
        """As a simple query, for a prepared statement would not outlive a test that changes its table."""
        connection = await self._connected()
        statements = []
        for table in _TABLES:
            rows = [json.loads(row) for (row,) in await connection.fetch(f"SELECT to_jsonb(t)::text FROM {table} t")]
            listed = json.dumps(rows).replace("'", "''")
            statements.append(f"INSERT INTO {table} SELECT * FROM jsonb_populate_recordset(NULL::{table}, '{listed}')")
        return "; ".join(statements)

    async def _execute(self, statements: str) -> None:
        """In one transaction, so that it may be sent once more to a server that was restarted, or whose rows a session of an
        earlier test keeps locked: one whose process was killed or frozen there may keep them for a minute. It is ended."""
        try:
            await (await self._connected()).execute(statements)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            if self._connection is not None:
                self._connection.terminate()
                self._connection = None
            connection = await self._connected()
            await connection.execute(_END_OTHERS)
            await connection.execute(statements)

    async def _connected(self) -> asyncpg.Connection[Any]:
        if self._connection is None or self._connection.is_closed():
            self._connection = await asyncpg.connect(self._database_url, server_settings={"lock_timeout": LOCK_TIMEOUT})
        return self._connection
