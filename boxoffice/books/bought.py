"""What customers, access codes and shops have bought of an event, as Redis counts it. Changes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from boxoffice import ids
from boxoffice.stores.database import Connection
from boxoffice.stores.postgres import REPAIR_S, take_time

__all__ = ["of_everybody", "of_shops"]

_BOUGHT = """
SELECT b.client_id, b.customer_id, b.owner, i.tier_id, sum(i.quantity - i.refunded)::int AS tickets
FROM bookings b JOIN booking_items i ON i.booking_id = b.id
WHERE b.event_id = $1 AND b.status = 'confirmed'
GROUP BY b.client_id, b.customer_id, b.owner, i.tier_id HAVING sum(i.quantity - i.refunded) > 0
"""

_BOUGHT_BY_CODE = """
SELECT b.access_code, i.tier_id, sum(i.quantity - i.refunded)::int AS tickets
FROM bookings b JOIN booking_items i ON i.booking_id = b.id
WHERE b.event_id = $1 AND b.access_code IS NOT NULL AND b.status = 'confirmed'
GROUP BY b.access_code, i.tier_id HAVING sum(i.quantity - i.refunded) > 0
"""

_BOUGHT_BY_SHOPS = """
SELECT client_id, string_agg(tier_id || ':' || tickets, ',' ORDER BY tier_id) AS items FROM (
    SELECT b.client_id, i.tier_id, sum(i.quantity - i.refunded) AS tickets
    FROM bookings b JOIN booking_items i ON i.booking_id = b.id
    WHERE b.event_id = $1 AND b.status = 'confirmed'
    GROUP BY b.client_id, i.tier_id HAVING sum(i.quantity - i.refunded) > 0) AS by_tier
GROUP BY client_id
"""


async def of_everybody(connection: Connection, event: str) -> dict[str, str]:
    """Digest of (client, customer), `k` with an access code's digest, and `@` with a client, to their tickets, as
    `tier:tickets,...`. Reads all its bookings."""
    async with _taking_time(connection):
        rows = await connection.fetch(_BOUGHT, event, timeout=REPAIR_S)
        by_code = await connection.fetch(_BOUGHT_BY_CODE, event, timeout=REPAIR_S)
    tickets: dict[str, Counter[str]] = {}
    for row in rows:
        # Whoever was forgotten, and came back, has rows of both.
        owner = row["owner"] or ids.owner_digest(row["client_id"], row["customer_id"])
        for whose in (owner, f"@{row['client_id']}"):
            tickets.setdefault(whose, Counter())[row["tier_id"]] += row["tickets"]
    for row in by_code:
        tickets.setdefault(f"k{row['access_code']}", Counter())[row["tier_id"]] += row["tickets"]
    return {
        owner: ",".join(f"{tier}:{count}" for tier, count in sorted(theirs.items()))
        for owner, theirs in tickets.items()
    }


async def of_shops(connection: Connection, event: str) -> dict[str, str]:
    """The same of shops alone: some rows, however many customers they have."""
    async with _taking_time(connection):
        rows = await connection.fetch(_BOUGHT_BY_SHOPS, event, timeout=REPAIR_S)
    return {f"@{row['client_id']}": row["items"] for row in rows}


@asynccontextmanager
async def _taking_time(connection: Connection) -> AsyncIterator[None]:
    """A transaction whose statements may read all bookings of an event."""
    async with connection.transaction():
        await take_time(connection)
        for name in ("seqscan", "hashjoin", "mergejoin"):
            await connection.execute(f"SET LOCAL enable_{name} = on")
        yield
