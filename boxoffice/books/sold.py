"""A booking and its money, locked by who gives back: in the order of every transaction that sells."""

from __future__ import annotations

from typing import Final, NamedTuple

from boxoffice.books.inventory import lock_inventory
from boxoffice.stores.database import Connection

__all__ = ["PAID", "REFUND_PERCENT", "Item", "Paid", "Sold", "find", "lock", "lock_payment"]

PAID: Final = """
status IN ('authorized', 'captured') AND failure_code IS DISTINCT FROM 'paid_too_late' AND due IS DISTINCT FROM 'void'
"""
"""Of the payment that a booking was sold by: not one whose money came too late, nor one of an earlier attempt whose money is
still to be let go of: nothing of it was ever taken."""

REFUND_PERCENT: Final = "CASE WHEN e.status = 'called_off' THEN 100 ELSE e.refund_percent END"
"""Share that a cancellation gives back of a booking of event `e`: its terms are those of an event that takes place."""

_BOOKING: Final = f"""
SELECT b.id::text AS booking, b.status, b.client_id, b.customer_id, b.owner, b.event_id, b.currency,
       {REFUND_PERCENT} AS refund_percent, e.shard,
       e.status <> 'called_off' AND now() > coalesce(e.cancel_until, e.starts_at) AS too_late, b.access_code
FROM bookings b JOIN events e ON e.id = b.event_id WHERE b.id = $1::uuid
"""

_ITEMS: Final = """
SELECT tier_id, quantity, refunded, unit_price_cents FROM booking_items WHERE booking_id = $1::uuid ORDER BY tier_id
"""

_PAYMENT: Final = f"""
SELECT payment_key, amount_cents, refunded_cents FROM payments WHERE booking_id = $1::uuid AND {PAID} FOR UPDATE
"""

_OWED: Final = """
SELECT coalesce(sum(amount_cents), 0)::bigint FROM refunds WHERE payment_key = $1 AND status IN ('owed', 'written_off')
"""
"""What is owed, or was written off, is nobody else's to have again."""


class Item(NamedTuple):
    """One tier of a booking."""

    tier: str
    quantity: int
    refunded: int
    """Tickets of it that came back."""
    unit_price_cents: int


class Sold(NamedTuple):
    """A booking that was sold, or is to be looked at as if it had been."""

    booking: str
    status: str
    client: str
    customer: str
    owner: str | None
    """Of a customer who was forgotten: by what its tickets count. None: by `ids.owner_digest`."""
    event: str
    currency: str
    refund_percent: int
    shard: int
    too_late: bool
    """The time to cancel has passed."""
    items: tuple[Item, ...] = ()
    """In tier order. None when it was only looked at."""
    access_code: str | None = None
    """Digest of the code that it was made with."""


class Paid(NamedTuple):
    """The payment of a sale."""

    payment_key: str
    amount_cents: int
    spoken_for_cents: int
    """Given back, owed, or written off."""


async def find(connection: Connection, booking_id: str) -> Sold | None:
    """As it is now, without its items and without a lock."""
    row = await connection.fetchrow(_BOOKING, booking_id)
    return Sold(*row[:-1])._replace(access_code=row["access_code"]) if row is not None else None


async def lock(connection: Connection, booking_id: str) -> Sold:
    """Lock the inventory rows of its tiers, in tier order, then its own row; as it is from then on. It is there: no booking is
    ever deleted."""
    items = await connection.fetch(_ITEMS, booking_id)
    await lock_inventory(connection, [item["tier_id"] for item in items])
    await connection.execute("SELECT 1 FROM bookings WHERE id = $1::uuid FOR UPDATE", booking_id)
    found = await find(connection, booking_id)
    assert found is not None, "no booking is ever deleted"
    return found._replace(items=tuple(Item(*item) for item in await connection.fetch(_ITEMS, booking_id)))


async def lock_payment(connection: Connection, booking_id: str) -> Paid | None:
    """Lock the payment that made the sale. None of one that was free. What was taken too late belongs to no sale."""
    row = await connection.fetchrow(_PAYMENT, booking_id)
    if row is None:
        return None
    owed = await connection.fetchval(_OWED, row["payment_key"])
    return Paid(row["payment_key"], row["amount_cents"], row["refunded_cents"] + owed)
