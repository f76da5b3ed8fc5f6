"""What operators did by hand, and who: a row before the deed, its outcome after. One without an outcome was cut off
between the two, and nobody knows by it whether the deed was done: the booking tells."""

from __future__ import annotations

from typing import Final

from boxoffice.stores.database import Database

__all__ = ["begin", "end"]

_BEGIN: Final = """
INSERT INTO interventions (verb, operator, booking_id, reason) VALUES ($1, $2, $3::uuid, $4) RETURNING id
"""

_END: Final = """
UPDATE interventions SET outcome = $2, refund_key = $3, ended_at = now() WHERE id = $1 AND outcome IS NULL
"""


async def begin(database: Database, verb: str, operator: str, booking: str | None, reason: str | None) -> int:
    """Write that an operator is about to do this. Returns the row's number. Raises PostgreSQL's errors."""
    return int(await database.fetchval(_BEGIN, verb, operator, booking, reason))


async def end(database: Database, number: int, outcome: str, refund_key: str | None = None) -> None:
    """Write how it ended, once. Raises PostgreSQL's errors."""
    await database.execute(_END, number, outcome, refund_key)
