"""Rows that have done their work leave PostgreSQL after a while, some at a time.

Bookings, their items, payments and refunds stay for ever: they are the books. What goes are notes: stock moves that Redis
has made, gateways' messages that were acted on, failures of bookings that have ended or are not there, places of traces,
and notices that shops have had long enough to read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from boxoffice.stores.database import Database

__all__ = ["STEP", "count_old", "trim"]

STEP: Final = 1_000
"""Rows deleted by one statement: some milliseconds, and no lock that anybody waits for."""

STEPS: Final = 20
"""Statements a table and a call."""

_OLD: Final = "now() - $1 * interval '1 day'"

_MOVES: Final = f"m.applied_at < {_OLD} AND NOT EXISTS (SELECT FROM dead_letters d WHERE d.booking_id = m.booking_id)"
_FAILURES: Final = (
    f"d.parked_at IS NULL AND d.updated_at < {_OLD} AND (b.id IS NULL OR b.status NOT IN ('pending', 'held'))"
)

_FIRST_YOUNG: Final = f"coalesce((SELECT min(position) FROM notices WHERE at >= {_OLD}), 9223372036854775807)"
"""Of notices the oldest go, in their order: whoever reads behind the last one that went misses none."""

TRIM: Final = {
    "stock_moves": f"""
DELETE FROM stock_moves WHERE id = ANY(ARRAY(
  SELECT m.id FROM stock_moves m WHERE {_MOVES} ORDER BY m.applied_at LIMIT $2 FOR UPDATE OF m SKIP LOCKED))
""",
    "booking_traces": f"""
DELETE FROM booking_traces WHERE booking_id = ANY(ARRAY(
  SELECT booking_id FROM booking_traces WHERE created_at < {_OLD} ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED))
""",
    "webhook_events": f"""
WITH old AS MATERIALIZED (
  SELECT gateway, id FROM webhook_events WHERE received_at < {_OLD} ORDER BY received_at LIMIT $2 FOR UPDATE SKIP LOCKED
) DELETE FROM webhook_events w USING old WHERE w.gateway = old.gateway AND w.id = old.id
""",
    "dead_letters": f"""
DELETE FROM dead_letters WHERE booking_id = ANY(ARRAY(
  SELECT d.booking_id FROM dead_letters d LEFT JOIN bookings b ON b.id = d.booking_id
  WHERE {_FAILURES} LIMIT $2 FOR UPDATE OF d SKIP LOCKED))
""",
    "notices": f"""
WITH oldest AS MATERIALIZED (
  SELECT position, nonce, at FROM notices WHERE position IS NOT NULL ORDER BY position LIMIT $2),
old AS MATERIALIZED (
  SELECT position, nonce, at FROM (SELECT *, bool_or(at >= {_OLD}) OVER (ORDER BY position) AS stays FROM oldest) AS seen
  WHERE NOT stays),
last AS (
  UPDATE notice_head h SET trimmed = old.position, trimmed_nonce = old.nonce,
         trimmed_at = greatest(h.trimmed_at, (SELECT max(at) FROM old))
  FROM old WHERE old.position = (SELECT max(position) FROM old) AND old.position > h.trimmed)
DELETE FROM notices WHERE position IN (SELECT position FROM old)
""",
}
"""Of notices a step looks at no more than it may delete, and stops at the first young one: to look for that one behind all old
ones would cost every step all of them. A move of a booking that failed stays as long as the failure: that it was sold once
decides how Redis is told its end."""

COUNT: Final = {
    "dead_letters": f"SELECT count(*) FROM dead_letters d LEFT JOIN bookings b ON b.id = d.booking_id WHERE {_FAILURES}",
    "stock_moves": f"SELECT count(*) FROM stock_moves m WHERE {_MOVES}",
    "booking_traces": f"SELECT count(*) FROM booking_traces WHERE created_at < {_OLD}",
    "webhook_events": f"SELECT count(*) FROM webhook_events WHERE received_at < {_OLD}",
    "notices": f"SELECT count(*) FROM notices WHERE position < {_FIRST_YOUNG}",
}
"""In the order in which they are trimmed: a failure that goes lets moves go."""


async def count_old(database: Database, days: Mapping[str, int]) -> dict[str, int]:
    """How many rows of each table are older than its days, and would be deleted."""
    return {table: await database.fetchval(query, days[table]) for table, query in COUNT.items()}


async def trim(database: Database, days: Mapping[str, int]) -> dict[str, int]:
    """Delete what is older than its table's days. Returns how many rows of each table, for those that had any.

    At most `STEPS` times `STEP` of each: the next call goes on. Two calls at once share the work.
    """
    trimmed: dict[str, int] = {}
    async with database.writer() as connection:
        for table in COUNT:
            for _ in range(STEPS):
                count = int((await connection.execute(TRIM[table], days[table], STEP)).rpartition(" ")[2])
                if count:
                    trimmed[table] = trimmed.get(table, 0) + count
                if count < STEP:
                    break
    return trimmed
