"""The items of bookings whose items have changed: those of a hold, as Redis has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from boxoffice.books.columns import INSERT_ITEMS, item_arrays
from boxoffice.stores.database import Connection, Writer
from boxoffice.stores.record import Record

__all__ = ["REWRITING", "SOLD_ITEMS", "WAS_SOLD", "drop_items", "rewrite_items"]

WAS_SOLD: Final = "EXISTS (SELECT FROM stock_moves m WHERE m.booking_id = b.id)"
"""Of a booking `b` that is cancelled: whether it was a sale before."""

SOLD_ITEMS: Final = f"""
CASE WHEN b.expires_at IS NOT NULL AND (b.status = 'confirmed' OR b.status = 'cancelled' AND {WAS_SOLD}) THEN (
  SELECT string_agg(i.tier_id || ':' || i.quantity, ',' ORDER BY i.tier_id) FROM booking_items i WHERE i.booking_id = b.id
) END
"""
"""What was sold of a booking `b` that was a hold, as a record in Redis has it; NULL of any other, also of a hold
that was cancelled: its last change may stand in Redis alone."""

_LOCK: Final = "SELECT FROM bookings WHERE id = ANY($1::uuid[]) ORDER BY id FOR NO KEY UPDATE"

_THERE: Final = """
SELECT booking_id::text AS booking, tier_id, quantity, unit_price_cents FROM booking_items WHERE booking_id = ANY($1::uuid[])
"""

_SET_AMOUNTS: Final = """
UPDATE bookings b SET amount_cents = new.amount, updated_at = now()
FROM unnest($1::uuid[], $2::bigint[]) AS new (id, amount) WHERE b.id = new.id
"""

_DROP: Final = "DELETE FROM booking_items WHERE booking_id = ANY($1::uuid[])"

REWRITING: Final = (_LOCK, _THERE, _SET_AMOUNTS, _DROP, INSERT_ITEMS)
"""What `rewrite_items` runs; every parameter is an array."""


async def drop_items(writer: Writer, booking_ids: Sequence[str]) -> None:
    """No items of these bookings, which are no sale. The caller writes others in the same transaction."""
    await writer.execute(_DROP, booking_ids)


async def rewrite_items(connection: Connection, records: Sequence[Record]) -> list[str]:
    """The rows of `booking_items`, and `amount_cents`, of these bookings are what their records say; nothing of them was ever
    refunded. They are no sale. Whoever else rewrites one of them meanwhile waits until the caller's transaction is over.
    What is so already is not written: a payment that waits is looked at again and again. Returns those that changed, which the
    caller tells."""
    if not records:
        return []
    # This first: what is read then stays so.
    await connection.execute(_LOCK, [record.id for record in records])
    there: dict[str, set[tuple[str, int, int]]] = {record.id: set() for record in records}
    for booking, tier, quantity, price in await connection.fetch(_THERE, list(there)):
        there[booking].add((tier, quantity, price))
    changed = [
        record
        for record in records
        if there[record.id] != {(line.tier, line.quantity, line.unit_price_cents) for line in record.body.lines}
    ]
    if not changed:
        return []
    booking_ids = [record.id for record in changed]
    await connection.execute(_SET_AMOUNTS, booking_ids, [record.body.amount_cents for record in changed])
    await drop_items(connection, booking_ids)
    lines = [(record.id, line, 0) for record in changed for line in record.body.lines]
    await connection.execute(INSERT_ITEMS, *item_arrays(lines))
    return booking_ids
