"""The items of bookings whose items have changed: those of a hold, as Redis has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from boxoffice.books.columns import INSERT_ITEMS, item_arrays
from boxoffice.stores.database import Writer
from boxoffice.stores.record import Record

__all__ = ["SOLD_ITEMS", "drop_items", "rewrite_items"]

SOLD_ITEMS: Final = """
CASE WHEN b.expires_at IS NOT NULL AND b.status IN ('confirmed', 'cancelled') THEN (
  SELECT string_agg(i.tier_id || ':' || i.quantity, ',' ORDER BY i.tier_id) FROM booking_items i WHERE i.booking_id = b.id
) END
"""
"""What was sold of a booking `b` that was a hold, as a record in Redis has it; NULL of any other."""

_DROP: Final = "DELETE FROM booking_items WHERE booking_id = ANY($1::uuid[])"

_SET_AMOUNTS: Final = """
UPDATE bookings b SET amount_cents = new.amount, updated_at = now()
FROM unnest($1::uuid[], $2::bigint[]) AS new (id, amount) WHERE b.id = new.id
"""


async def drop_items(writer: Writer, booking_ids: Sequence[str]) -> None:
    """No items of these bookings, which are no sale. The caller writes others in the same transaction."""
    await writer.execute(_DROP, booking_ids)


async def rewrite_items(writer: Writer, records: Sequence[Record]) -> None:
    """The rows of `booking_items`, and `amount_cents`, of these bookings are what their records say; nothing of them was ever
    refunded. They are no sale. Whoever else rewrites one of them meanwhile waits until the caller's transaction is over."""
    if not records:
        return
    booking_ids = [record.id for record in records]
    # This first: it locks the rows.
    await writer.execute(_SET_AMOUNTS, booking_ids, [record.body.amount_cents for record in records])
    await drop_items(writer, booking_ids)
    lines = [(record.id, line, 0) for record in records for line in record.body.lines]
    await writer.execute(INSERT_ITEMS, *item_arrays(lines))
