"""A PostgreSQL that answers and refuses to write, for some seconds of a rush: as after a failover to a server that was not
promoted, or when a disk is nearly full."""

from __future__ import annotations

import asyncio
from typing import Any, Final, Protocol

import asyncpg

from ops.stack.postgresql import PostgresServer

__all__ = ["ReadOnly", "Refuses"]

TIMEOUT_S: Final = 2.0

LOOKS: Final = 20
LOOK_S: Final = 0.05
"""How often, and how soon again, a new session is asked whether it may write."""


class Refuses(Protocol):
    """What `ReadOnly` does."""

    def begin(self) -> bool:
        """Refuse writes from now on. False: it could not be said."""

    def end(self) -> bool:
        """Take them again. False: it is to be tried again."""


class ReadOnly:
    """Of a private server, by its superuser."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server

    def begin(self) -> bool:
        """Refuse writes from now on, also after a restart. False: it could not be said."""
        return self._alter("ALTER SYSTEM SET default_transaction_read_only = on", "on")

    def end(self) -> bool:
        """Take them again, and see that it does. False: it is to be tried again."""
        return self._alter("ALTER SYSTEM RESET default_transaction_read_only", "off")

    def _alter(self, statement: str, word: str) -> bool:
        try:
            return asyncio.run(self._ask(statement, word))
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return False

    async def _ask(self, statement: str, word: str) -> bool:
        connection = await self._connect()
        try:
            await connection.execute(statement)
            await connection.execute("SELECT pg_reload_conf()")
            for _ in range(LOOKS):
                # The session hears of it when the server has read its files again.
                if await connection.fetchval("SHOW default_transaction_read_only") == word:
                    return True
                await asyncio.sleep(LOOK_S)
            return False
        finally:
            connection.terminate()

    async def _connect(self) -> asyncpg.Connection[Any]:
        return await asyncpg.connect(self._server.admin_url, timeout=TIMEOUT_S, command_timeout=TIMEOUT_S)
