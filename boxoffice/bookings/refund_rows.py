"""Refunds as the books have them, for the shop whose bookings they are of. What is owed and due stands there as well."""

from __future__ import annotations

from typing import Final

import msgspec

from boxoffice.clock import timestamp
from boxoffice.errors import NotFound
from boxoffice.stores.database import Database, Row
from boxoffice.wire.render import RefundItemView, RefundRowView

__all__ = ["of_booking", "one"]

_REFUNDS: Final = """
SELECT r.refund_key, r.booking_id::text AS booking_id, r.amount_cents, r.currency, r.status, r.reason, r.origin,
       r.failure_code, (extract(epoch FROM r.owed_since) * 1000)::bigint AS owed_ms,
       (extract(epoch FROM r.created_at) * 1000)::bigint AS created_ms,
       (extract(epoch FROM r.updated_at) * 1000)::bigint AS updated_ms,
       (SELECT json_agg(json_build_array(t.id, t.code, i.value::int) ORDER BY t.display_order, t.id)
        FROM jsonb_each(r.items) i JOIN tiers t ON t.id = i.key) AS items
FROM refunds r
"""

_OF_BOOKING: Final = f"{_REFUNDS} WHERE r.booking_id = $1::uuid ORDER BY r.created_at, r.refund_key"
"""A booking has as many refunds as tickets, and those that somebody made at the gateway."""

_ONE: Final = f"{_REFUNDS} JOIN bookings b ON b.id = r.booking_id WHERE r.refund_key = $1 AND b.client_id || '' = $2"

KEY_MAX: Final = 64
"""Characters of a refund's id; ours have 32."""


async def of_booking(database: Database, booking_id: str) -> list[RefundRowView]:
    """All refunds of a booking, in the order in which they were begun. Whose it is the caller knows. Raises `StoreAway`."""
    async with database.answering():
        rows = await database.fetch(_OF_BOOKING, booking_id)
    return [_of_row(row) for row in rows]


async def one(database: Database, client: str, refund_id: str) -> RefundRowView:
    """One refund of a booking of the client's. Raises `NotFound`, also for another client's; `StoreAway`."""
    row = None
    if len(refund_id) <= KEY_MAX and refund_id.isascii() and refund_id.isprintable():
        async with database.answering():
            row = await database.fetchrow(_ONE, refund_id, client)
    if row is None:
        raise NotFound("There is no such refund.")
    return _of_row(row)


def _of_row(row: Row) -> RefundRowView:
    items = msgspec.json.decode(row["items"] or "[]", type=list[tuple[str, str, int]])
    return RefundRowView(
        row["refund_key"],
        row["booking_id"],
        row["amount_cents"],
        row["currency"],
        row["status"],
        [RefundItemView(*item) for item in items],
        row["reason"],
        row["origin"],
        row["failure_code"],
        timestamp(row["owed_ms"]) if row["owed_ms"] else None,
        timestamp(row["created_ms"]),
        timestamp(row["updated_ms"]),
    )
