"""Erasing what bookings tell of a customer, and nothing of what they tell of tickets and money.

The shop's id of the customer gives way to a pseudonym. Its digest stays with the booking (`owner`): by it the tickets count
against the customer's limit, and are given back to it.
"""

from __future__ import annotations

from typing import Final

from boxoffice.books.notices import notice_of
from boxoffice.states import CALLED_OFF
from boxoffice.stores.database import Connection

__all__ = ["ERASED", "OURS", "TABLES", "erase", "lock", "unclaimed", "undecided"]

ERASED: Final = "erased"
"""Stands in place of a free text."""

OURS: Final = (ERASED, "cancelled", "paid_too_late", "capture_failed", CALLED_OFF)
"""Reasons of refunds that no shop and no operator wrote."""

_LOCK: Final = """
SELECT id::text AS id FROM bookings WHERE customer_id = $1 AND client_id = $2 ORDER BY id FOR UPDATE
"""

_UNDECIDED: Final = """
SELECT (SELECT count(*) FROM bookings WHERE id = ANY($1::uuid[]) AND status IN ('pending', 'held')) AS bookings,
       (SELECT count(*) FROM payments p WHERE p.booking_id = ANY($1::uuid[]) AND (p.due IS NOT NULL
          OR p.status IN ('unknown', 'requires_action') OR EXISTS (SELECT FROM looks l WHERE l.payment_key = p.payment_key)
       )) AS payments,
       (SELECT count(*) FROM refunds WHERE booking_id = ANY($1::uuid[]) AND status IN ('due', 'pending', 'owed')) AS refunds,
       (SELECT count(*) FROM dead_letters WHERE booking_id = ANY($1::uuid[]) AND parked_at IS NOT NULL) AS parked
"""

_UNCLAIMED: Final = """
SELECT d.booking_id::text AS id, d.record FROM dead_letters d LEFT JOIN bookings b ON b.id = d.booking_id
WHERE b.id IS NULL AND d.record <> ''
"""

_ERASE: Final = {
    "bookings": f"""
WITH moved AS (
  UPDATE bookings SET customer_id = $2, owner = $3, metadata = NULL, return_url = NULL, updated_at = now()
  WHERE id = ANY($1::uuid[]) AND ((customer_id, owner) IS DISTINCT FROM ($2, $3) OR metadata IS NOT NULL
    OR return_url IS NOT NULL)
  RETURNING id AS booking, client_id, event_id),
told AS ({notice_of("moved", "'booking.forgotten'")})
SELECT FROM moved
""",
    "payments": """
UPDATE payments SET card_name = NULL, last4 = NULL, token = NULL, next_action = NULL, updated_at = now()
WHERE booking_id = ANY($1::uuid[]) AND coalesce(card_name, last4, token, next_action) IS NOT NULL
""",
    "refunds": """
UPDATE refunds SET reason = CASE WHEN reason = ANY($2::text[]) THEN reason ELSE 'erased' END,
       written_off_reason = CASE WHEN written_off_reason IS NOT NULL THEN 'erased' END, updated_at = now()
WHERE booking_id = ANY($1::uuid[]) AND (reason <> ALL($2::text[]) OR written_off_reason <> 'erased')
""",
    "dead_letters": """
UPDATE dead_letters SET record = '', updated_at = now() WHERE booking_id = ANY($1::uuid[]) AND record <> ''
""",
    "interventions": """
UPDATE interventions SET reason = NULL WHERE booking_id = ANY($1::uuid[]) AND reason IS NOT NULL
""",
}

TABLES: Final = tuple(_ERASE)
"""Those in which something of a customer stands."""


async def lock(connection: Connection, client: str, customer: str) -> list[str]:
    """The ids of a shop's customer's bookings, which nobody else changes until the transaction ends."""
    return [row["id"] for row in await connection.fetch(_LOCK, customer, client)]


async def undecided(connection: Connection, bookings: list[str]) -> dict[str, int]:
    """What of these bookings somebody has still to decide, by kind; nothing when all is."""
    row = await connection.fetchrow(_UNDECIDED, bookings)
    return {kind: count for kind, count in dict(row).items() if count} if row else {}


async def unclaimed(connection: Connection) -> dict[str, bytes]:
    """Records of failures whose bookings have no row, which would say whose they are; by booking."""
    return {row["id"]: row["record"] for row in await connection.fetch(_UNCLAIMED)}


async def erase(connection: Connection, bookings: list[str], pseudonym: str, owner: str) -> dict[str, int]:
    """Erase, and say how many rows of each table changed."""
    named = {"bookings": (pseudonym, owner), "refunds": (OURS,)}
    return {
        table: int((await connection.execute(statement, bookings, *named.get(table, ()))).split()[-1])
        for table, statement in _ERASE.items()
    }
