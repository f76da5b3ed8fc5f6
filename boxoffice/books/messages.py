"""Gateways' messages, kept in the statement that acts on them. None is believed: what it is about is looked up."""

from __future__ import annotations

from typing import Final, NamedTuple

from boxoffice.stores.database import Reader

__all__ = ["REVERSED", "Heard", "hear"]

REVERSED: Final = ("refunded", "refund_failed", "disputed")
"""News of what went back of a captured payment: its refunds and disputes are read at the gateway."""


class Heard(NamedTuple):
    """What a gateway's message met."""

    fresh: bool
    """False: it was here before, and nothing was done."""
    booking: str | None
    """Whose payment it is about; None when no row has it."""


_HEAR: Final = f"""
WITH kept AS (
  INSERT INTO webhook_events (gateway, id, kind, payment_key) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING
  RETURNING true),
news AS (
  UPDATE payments
  SET due = CASE WHEN due IS NULL AND status = 'failed' AND $3 IN ('authorized', 'captured') THEN 'void' ELSE due END,
      due_at = CASE WHEN due_at IS NOT NULL THEN least(due_at, now())
                    WHEN due IS NULL AND status = 'failed' AND $3 IN ('authorized', 'captured') THEN now() END,
      due_since = CASE WHEN due IS NULL AND status = 'failed' AND $3 IN ('authorized', 'captured') THEN now()
                       ELSE due_since END
  WHERE payment_key = $4 AND EXISTS (SELECT FROM kept) RETURNING booking_id::text AS booking),
looked AS (
  INSERT INTO looks (payment_key) SELECT $4 FROM news WHERE $3 IN {REVERSED}
  ON CONFLICT (payment_key) DO UPDATE SET due_at = now(), leased_until = NULL, tries = 0)
SELECT EXISTS (SELECT FROM kept) AS fresh, (SELECT booking FROM news) AS booking
"""
"""All of it is read from the row itself: what a subquery saw, a settlement that held the row's lock meanwhile has changed.
One statement locks the row for a moment only: a settlement that waits for it has all tickets of its batch locked."""


async def hear(reader: Reader, gateway: str, message: str, kind: str, payment_key: str | None) -> Heard:
    """Keep a gateway's message, once. Of the payment that it names, what is due is due now, but for a capture that its worker
    is about to make; one that was given up for lost is to be let go once more; and of one that was reversed the refunds and
    disputes are to be read. A message that was here before changes nothing."""
    row = await reader.fetchrow(_HEAR, gateway, message, kind, payment_key)
    return Heard(bool(row["fresh"]), row["booking"])
