"""Bookings whose key was used before, while Redis had forgotten it. Each is written as the failed duplicate of the first."""

from __future__ import annotations

from typing import Final

from boxoffice.books.columns import INSERT_BOOKINGS, INSERT_ITEMS, BookingRow, booking_arrays, item_arrays
from boxoffice.books.decisions import Decision
from boxoffice.states import KEY_REUSED
from boxoffice.stores.database import Connection

__all__ = ["insert_duplicates"]

_INSERT_BOOKINGS: Final = f"{INSERT_BOOKINGS}ON CONFLICT DO NOTHING RETURNING id::text AS id"
_INSERT_ITEMS: Final = f"{INSERT_ITEMS}ON CONFLICT DO NOTHING"


async def insert_duplicates(connection: Connection, decisions: list[Decision]) -> set[str]:
    """New rows, as it was decided. A worker that died before Redis heard of it may have written some: those stay. Returns the
    others, which the caller tells."""
    rows = [
        BookingRow(
            decision.claim.record, decision.status, decision.failure, decision.duplicate_of,
            decision.claim.record.payload.key,
        )
        for decision in decisions
    ]  # fmt: skip
    inserted = await connection.fetch(_INSERT_BOOKINGS, *booking_arrays(rows))
    # Whose key another request had used is a booking in its own right, though a failed one.
    lines = [(row.record.id, line, 0) for row in rows if row.failure == KEY_REUSED for line in row.record.body.lines]
    if lines:
        await connection.execute(_INSERT_ITEMS, *item_arrays(lines))
    return {row["id"] for row in inserted}
