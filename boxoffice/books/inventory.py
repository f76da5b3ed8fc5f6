"""What of a tier is sold. Rows are locked in tier order, in every transaction that sells or gives back: two that share tiers
wait for each other instead of deadlocking."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from boxoffice.books.notices import notice_of
from boxoffice.stores.database import Connection, Writer

__all__ = ["SELL", "give_back", "lock_inventory", "sell"]

_LOCK_INVENTORY = """
SELECT tier_id, CASE WHEN called_off THEN -1 ELSE total - sold END AS left
FROM inventory WHERE tier_id = ANY($1::text[]) ORDER BY tier_id FOR NO KEY UPDATE
"""

SELL = """
UPDATE inventory i SET sold = i.sold + new.quantity, version = i.version + 1, updated_at = now()
FROM unnest($1::text[], $2::int[]) AS new (tier, quantity) WHERE i.tier_id = new.tier
"""

_UNSELL: Final = """
UPDATE inventory i SET sold = i.sold - back.quantity, version = i.version + 1, updated_at = now()
FROM unnest($1::text[], $2::int[]) AS back (tier, quantity) WHERE i.tier_id = back.tier
"""

_RETURN_ITEMS: Final = """
UPDATE booking_items i SET refunded = i.refunded + back.quantity
FROM unnest($2::text[], $3::int[]) AS back (tier, quantity) WHERE i.booking_id = $1::uuid AND i.tier_id = back.tier
"""

_MOVE: Final = """
INSERT INTO stock_moves (event_id, tier_id, booking_id, sold_delta, owner, refund_key)
SELECT $1, tier, $2::uuid, -quantity, $5, $6 FROM unnest($3::text[], $4::int[]) AS back (tier, quantity)
"""

_NOTE: Final = """
UPDATE refunds SET items = (SELECT jsonb_object_agg(tier, quantity) FROM unnest($2::text[], $3::int[]) AS back (tier, quantity))
WHERE refund_key = $1
"""
"""Moves are trimmed; refunds are the books."""

_BACK: Final = """
  jsonb_strip_nulls(jsonb_build_object('refund_id', $4::text, 'items', (
    SELECT jsonb_object_agg(tier, quantity) FROM unnest($2::text[], $3::int[]) AS back (tier, quantity))))
"""

_CHANGED: Final = f"""
WITH moved AS (
  UPDATE bookings SET updated_at = now() WHERE id = $1::uuid RETURNING id AS booking, client_id, event_id)
{notice_of("moved", "'booking.refunded'", _BACK)}
"""


async def lock_inventory(connection: Connection, tiers: Iterable[str]) -> dict[str, int]:
    """Lock the tiers' rows in tier order; what each can still sell, below 0 when its event is called off. From here on nobody
    else sells them."""
    rows = await connection.fetch(_LOCK_INVENTORY, list(tiers))
    return {row["tier_id"]: row["left"] for row in rows}


async def sell(connection: Connection, sold: dict[str, int]) -> None:
    """Count tickets as sold. The table's checks would refuse a sale beyond the total: that is a bug alarm."""
    if sold:
        await connection.execute(SELL, list(sold), list(sold.values()))


async def give_back(
    writer: Writer, event_id: str, booking_id: str, owner: str, back: Mapping[str, int], refund_key: str | None
) -> None:
    """Tickets of a confirmed booking (tier to quantity) are no longer sold: `inventory.sold` shrinks, `booking_items.refunded`
    grows, `bookings.updated_at` moves, and for each tier a row in `stock_moves` waits until Redis has moved it too. The caller
    has locked the tiers' rows, in tier order, and then the booking's; `refund_key` names the refund of the same transaction, if
    there is one: its row has the tickets from now on, and the shop is told of them."""
    tiers = sorted(tier for tier, quantity in back.items() if quantity)
    counts = [back[tier] for tier in tiers]
    await writer.execute(_UNSELL, tiers, counts)
    await writer.execute(_RETURN_ITEMS, booking_id, tiers, counts)
    await writer.execute(_CHANGED, booking_id, tiers, counts, refund_key)
    await writer.execute(_MOVE, event_id, booking_id, tiers, counts, owner, refund_key)
    if refund_key is not None:
        await writer.execute(_NOTE, refund_key, tiers, counts)
