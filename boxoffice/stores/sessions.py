"""What a session of PostgreSQL is told when it begins, and whether it is ours alone.

Limits and the planner's settings are set when a connection is there, not in its startup message: PgBouncer refuses those that
it does not know there, and drops the others that it was told to ignore. They last as long as the session, so it has to be ours
until we close it. A pooler that lends each transaction another session is noticed and refused.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from typing import Any, Final

import asyncpg
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

from boxoffice.errors import CannotRun

__all__ = ["SHARED", "Sessions", "call_us", "our_name", "tell_sessions"]

SHARED: Final = (
    "DATABASE_URL leads to a pooler that lends each transaction another session of PostgreSQL, and our limits and locks need "
    "one that stays: set pool_mode=session for this database in PgBouncer, or name PostgreSQL itself."
)

MARK: Final = "boxoffice.session"
"""A setting of our own, by which a session is known again."""

ROUNDS: Final = 8
"""Looks at two connections. A pooler gives the second the session that the first has just let go of, unless somebody else was
quicker; or it gives the first another one."""

WAIT_S: Final = 5.0
"""Longest wait for the second session: a pooler of sessions may have none left, and that is for others to complain of."""

BEGIN_S: Final = 15.0
"""Longest wait until a session is ours and knows its settings. The looks at a pooler have shorter limits of their own."""

SINCE: Final = {"transaction_timeout": 17}
"""Settings that older servers do not know, with the major version that does."""

_ours = ["boxoffice-cli"]


def call_us(program: str) -> None:
    """Which program this process is, `api` or `worker`: PostgreSQL shows it beside each of its sessions."""
    _ours[:] = [f"boxoffice-{program}"]


def our_name() -> str:
    """`boxoffice-api`, `boxoffice-worker`, or `boxoffice-cli` for commands."""
    return _ours[0]


class Sessions:
    """The sessions of one pool. `arguments` are asyncpg's for one more connection of the same kind."""

    def __init__(self, arguments: Mapping[str, Any], told: Mapping[str, str]) -> None:
        self._arguments = arguments
        self._told = told
        self._known = False

    async def begin(self, session: Any) -> None:
        """Tell a new session its settings. Raises `CannotRun` when it is not ours alone, asyncpg's errors, and `TimeoutError`
        of a server that takes a connection and answers nothing. Then the session is cut: asyncpg's goodbye would wait."""
        try:
            async with asyncio.timeout(BEGIN_S):
                await self._begin(session)
        except BaseException:
            session.terminate()
            raise

    async def _begin(self, session: Any) -> None:
        if not self._known and not await _leads_straight(session):
            await refuse_shared(session, self._arguments)
        self._known = True
        major = session.get_server_version().major
        told = {name: value for name, value in self._told.items() if SINCE.get(name, 0) <= major}
        if told:
            await session.execute("; ".join(f"SET {name} = '{value}'" for name, value in told.items()))

    async def let_go(self, session: Any) -> None:
        """Before somebody else has it. Nobody of ours changes a setting of the session; asyncpg's own way would take back those
        that it was told."""
        await session.execute("SELECT pg_advisory_unlock_all()")


def tell_sessions(engine: AsyncEngine, sessions: Sessions) -> None:
    """Begin each session of an engine, before SQLAlchemy itself asks anything there."""

    @event.listens_for(engine.sync_engine, "connect", insert=True)
    def connected(connection: Any, _record: Any) -> None:
        connection.run_async(sessions.begin)


async def _leads_straight(session: Any) -> bool:
    """Whether the process that we could cancel is the one that answers: a pooler in between makes up a number of its own.

    As a simple query, here and below: a prepared statement may be another one's in a session that is shared.
    """
    pid = session.get_server_pid()
    return bool(await session.execute(f"SELECT 1 WHERE pg_backend_pid() = {pid}") == "SELECT 1")


async def refuse_shared(session: Any, arguments: Mapping[str, Any]) -> None:
    """Raises `CannotRun` when what is in between lends this session to others while we are connected."""
    mark = secrets.token_hex(8)
    marked = f"SELECT 1 WHERE current_setting('{MARK}', true) = '{mark}'"
    other = await asyncpg.connect(**{**arguments, "statement_cache_size": 0, "command_timeout": WAIT_S})
    try:
        await session.execute(f"SET {MARK} = '{mark}'")
        for _ in range(ROUNDS):
            async with other.transaction():
                found = await other.execute(marked)
            if found == "SELECT 1" or await session.execute(marked) != "SELECT 1":
                raise CannotRun(SHARED)
    except asyncpg.PostgresConnectionError as error:
        if "statement pooling" not in str(error):
            raise
        raise CannotRun(SHARED) from None
    finally:
        other.terminate()
