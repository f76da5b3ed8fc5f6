"""Where tickets come back outside a settlement: `sold` shrinks, and a move tells Redis. Rows are locked in tier order first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from boxoffice.stores.database import Writer

__all__ = ["give_back"]

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


async def give_back(
    writer: Writer, event_id: str, booking_id: str, owner: str, back: Mapping[str, int], refund_key: str | None
) -> None:
    """Tickets of a confirmed booking (tier to quantity) are no longer sold: `inventory.sold` shrinks, `booking_items.refunded`
    grows, and for each tier a row in `stock_moves` waits until Redis has moved it too. The caller has locked the tiers' rows,
    in tier order, and then the booking's; `refund_key` names the refund of the same transaction, if there is one."""
    tiers = sorted(tier for tier, quantity in back.items() if quantity)
    counts = [back[tier] for tier in tiers]
    await writer.execute(_UNSELL, tiers, counts)
    await writer.execute(_RETURN_ITEMS, booking_id, tiers, counts)
    await writer.execute(_MOVE, event_id, booking_id, tiers, counts, owner, refund_key)
