"""Which server PostgreSQL is, and which line of history it writes: both stand in every row that a guard has written.

A standby that is promoted begins a new timeline, and so does a server restored to a point in time; a new cluster has
another system identifier. Such a PostgreSQL finds the name of the one before it in its own rows, however little Redis
remembers. A restart, and a minor version, change neither.
"""

from __future__ import annotations

from typing import Final

import asyncpg

from boxoffice.stores.database import Reader

__all__ = ["BOTH_CHANGED", "server_of"]

BOTH_CHANGED: Final = "both_changed"
"""The alert when PostgreSQL and Redis are others than before at once: what both have forgotten neither misses."""

SERVER: Final = """
SELECT system_identifier::text || '/' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) FROM pg_control_system()
"""

_UNTOLD: Final = (
    asyncpg.InsufficientPrivilegeError,
    asyncpg.UndefinedFunctionError,
    asyncpg.FeatureNotSupportedError,
    asyncpg.ObjectNotInPrerequisiteStateError,
)


async def server_of(database: Reader) -> str:
    """System identifier and timeline; empty where PostgreSQL does not tell them (an offering without these functions, or
    without the right to them, or a standby). Raises PostgreSQL's other errors."""
    try:
        return str(await database.fetchval(SERVER))
    except _UNTOLD:
        return ""
