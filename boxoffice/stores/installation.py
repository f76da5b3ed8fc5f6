"""The name of this installation: payments bear it at the gateway, whose account may serve several."""

from __future__ import annotations

from boxoffice.stores.database import Database, Pool

__all__ = ["installation"]


async def installation(database: Database | Pool) -> str:
    """The name that this database has had from its beginning. Raises PostgreSQL's errors."""
    name = await database.fetchval("SELECT id FROM installations")
    if name is None:
        await database.execute(
            "INSERT INTO installations (id) VALUES (replace(gen_random_uuid()::text, '-', '')) ON CONFLICT DO NOTHING"
        )
        name = await database.fetchval("SELECT id FROM installations")
    return str(name)
