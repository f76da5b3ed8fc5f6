"""What of endpoints has done its work leaves PostgreSQL after a while: the log of deliveries, secrets, deleted endpoints."""

from __future__ import annotations

from typing import Final

from boxoffice.stores.database import Database

__all__ = ["trim"]

STEP: Final = 1_000
"""Rows deleted by one statement."""

STEPS: Final = 20
"""Statements of one call: the next goes on."""

_DELIVERIES: Final = """
DELETE FROM webhook_deliveries WHERE id = ANY(ARRAY(
  SELECT id FROM webhook_deliveries WHERE since < now() - $1 * interval '1 day' ORDER BY since LIMIT $2
  FOR UPDATE SKIP LOCKED))
"""

_SECRETS: Final = """
DELETE FROM webhook_secrets s WHERE 2 <= (SELECT count(*) FROM webhook_secrets n
  WHERE n.endpoint_id = s.endpoint_id AND n.id > s.id)
"""

_ENDPOINTS: Final = """
DELETE FROM webhook_endpoints e WHERE deleted_at < now() - $1 * interval '1 day'
  AND NOT EXISTS (SELECT FROM webhook_deliveries d WHERE d.endpoint_id = e.id)
"""


async def trim(database: Database, days: int) -> dict[str, int]:
    """Delete what is older than so many days, and secrets that can sign no more. Returns how many rows of each table, for those
    that had any. Raises PostgreSQL's errors."""
    trimmed: dict[str, int] = {}
    async with database.writer() as connection:
        for _ in range(STEPS):
            count = _count(await connection.execute(_DELIVERIES, days, STEP))
            trimmed["webhook_deliveries"] = trimmed.get("webhook_deliveries", 0) + count
            if count < STEP:
                break
        trimmed["webhook_secrets"] = _count(await connection.execute(_SECRETS))
        trimmed["webhook_endpoints"] = _count(await connection.execute(_ENDPOINTS, days))
    return {table: count for table, count in trimmed.items() if count}


def _count(done: str) -> int:
    return int(done.rpartition(" ")[2])
