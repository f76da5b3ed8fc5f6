"""Bookings that failed alone, and those parked because they failed alone too often. They keep their stock."""

from __future__ import annotations

from boxoffice.rows import Connection

__all__ = ["count_failure"]

_COUNT = """
INSERT INTO dead_letters AS d (booking_id, record, error, attempts, parked_at)
VALUES ($1::uuid, $2, $3, 1, CASE WHEN $4 <= 1 THEN now() END)
ON CONFLICT (booking_id) DO UPDATE
SET attempts = d.attempts + 1, error = excluded.error, record = excluded.record, updated_at = now(),
    parked_at = CASE WHEN d.attempts + 1 >= $4 THEN coalesce(d.parked_at, now()) END
RETURNING attempts
"""


async def count_failure(connection: Connection, booking: str, record: bytes, error: str, *, attempts_max: int) -> int:
    """Write down that a booking failed alone, once more. Parked from `attempts_max` on (0: at once).

    Returns the attempts so far.
    """
    return int(await connection.fetchval(_COUNT, booking, record, error, attempts_max))
