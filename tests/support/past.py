"""A PostgreSQL that goes back in time, on the shared test server: its rows as they were, committed anew.

Quick, and as good as the real thing to whoever only asks what PostgreSQL has. The real thing is in
`tests/invariants/test_standby.py`.
"""

from __future__ import annotations

from typing import Any

from boxoffice.office import BoxOffice
from boxoffice.stores.models import Base

__all__ = ["Past"]

TABLES = [table.name for table in Base.metadata.sorted_tables]


class Past:
    """`await past.remember()`; later `await past.come_back()`."""

    def __init__(self, office: BoxOffice) -> None:
        self._office = office
        self._rows: dict[str, list[Any]] = {}

    async def remember(self) -> None:
        """What is committed now."""
        async with (await self._office.pool()).acquire() as connection, connection.transaction():
            self._rows = {
                name: [row[0] for row in await connection.fetch(f"SELECT to_jsonb(t)::text FROM {name} t")]
                for name in TABLES
            }

    async def come_back(self) -> None:
        """Everything that was committed since is gone. Sequences go back, too."""
        async with (await self._office.pool()).acquire() as connection, connection.transaction():
            for name in reversed(TABLES):
                await connection.execute(f"DELETE FROM {name}")
            for name in TABLES:
                await connection.execute(
                    f"INSERT INTO {name} SELECT (jsonb_populate_record(NULL::{name}, row)).* "
                    "FROM unnest($1::text[]::jsonb[]) AS row",
                    self._rows[name],
                )
            await connection.execute(
                "SELECT setval(pg_get_serial_sequence('stock_moves', 'id'), coalesce(max(id), 0) + 1, false) FROM stock_moves"
            )
