"""Payments whose refunds and disputes are to be read at the gateway, and the disputes that were read.

A row of `looks` is claimed by its lease. News that comes while somebody looks ends that lease: then the row is neither
deleted nor put off by who looked, and is looked at once more.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

from boxoffice.books.notices import notice_by_key
from boxoffice.gateway.accounts import WRITTEN_IN, written_in
from boxoffice.stores.database import Connection, Reader, Writer

__all__ = ["Look", "ask_for", "claim_due", "close", "put_off", "record_dispute"]


class Look(NamedTuple):
    """A payment that is to be looked at, and was claimed."""

    payment_key: str
    reference: str | None
    """The gateway's own id of the payment."""
    tries: int
    leased_until: datetime


_CLAIM_DUE: Final = f"""
WITH free AS MATERIALIZED (
  SELECT k.payment_key, p.reference FROM looks k JOIN payments p ON p.payment_key = k.payment_key
  WHERE k.due_at <= now() AND (k.leased_until IS NULL OR k.leased_until < now())
    AND {WRITTEN_IN.format("$3", "$4")}
  ORDER BY k.due_at LIMIT $2 FOR UPDATE OF k SKIP LOCKED)
UPDATE looks l SET leased_until = now() + $1 * interval '1 millisecond', tries = l.tries + 1
FROM free WHERE l.payment_key = free.payment_key
RETURNING l.payment_key, free.reference, l.tries, l.leased_until
"""

_CLOSE: Final = "DELETE FROM looks WHERE payment_key = $1 AND leased_until = $2"

_PUT_OFF: Final = """
UPDATE looks SET due_at = now() + $3 * interval '1 millisecond', leased_until = NULL
WHERE payment_key = $1 AND leased_until = $2
"""

_ASK_FOR: Final = """
INSERT INTO looks (payment_key) SELECT DISTINCT payment_key FROM refunds
WHERE booking_id = ANY($1::uuid[]) AND payment_key IS NOT NULL AND amount_cents > 0 ON CONFLICT DO NOTHING
"""

_RECORD_DISPUTE: Final = f"""
WITH changed AS (
  INSERT INTO disputes (gateway, reference, payment_key, amount_cents, status, reason, withdrawn)
  VALUES ($1, $2, $3, $4, $5, $6, $7)
  ON CONFLICT (gateway, reference) DO UPDATE
  SET amount_cents = excluded.amount_cents, status = excluded.status, reason = excluded.reason,
      withdrawn = excluded.withdrawn, updated_at = now()
  WHERE (disputes.amount_cents, disputes.status, disputes.withdrawn)
        IS DISTINCT FROM (excluded.amount_cents, excluded.status, excluded.withdrawn)
  RETURNING reference AS key, payment_key, amount_cents, status, withdrawn),
moved AS (SELECT c.*, p.booking_id AS booking FROM changed c JOIN payments p ON p.payment_key = c.payment_key),
told AS ({
    notice_by_key(
        "moved",
        "'dispute.changed'",
        "jsonb_build_object('dispute_status', m.status, 'withdrawn', m.withdrawn)",
        cents="m.amount_cents",
    )
})
SELECT true FROM moved
"""


async def claim_due(connection: Connection, lease_ms: int, most: int, books: str) -> list[Look]:
    """Lease at most so many payments of these books that are to be looked at and that nobody holds, longest due first."""
    return [Look(*row) for row in await connection.fetch(_CLAIM_DUE, lease_ms, most, *written_in(books))]


async def close(writer: Writer, payment_key: str, leased_until: datetime) -> None:
    """Delete it: what there was to see was written down. News that ended this lease keep the row."""
    await writer.execute(_CLOSE, payment_key, leased_until)


async def put_off(writer: Writer, payment_key: str, leased_until: datetime, pause_ms: int) -> None:
    """It is due again after the pause, and the lease ends. News that ended this lease make it due at once."""
    await writer.execute(_PUT_OFF, payment_key, leased_until, pause_ms)


async def ask_for(writer: Writer, booking_ids: Sequence[str]) -> None:
    """Have the payments of these bookings looked at, now, of which something was given back. What is asked for already stays
    as it is."""
    await writer.execute(_ASK_FOR, booking_ids)


async def record_dispute(
    reader: Reader, gateway: str, reference: str, payment_key: str, cents: int, status: str, reason: str, withdrawn: bool
) -> bool:  # fmt: skip
    """A dispute as the gateway tells it: a new row, or what changed of it. False when the row says so already."""
    return bool(
        await reader.fetchval(_RECORD_DISPUTE, gateway, reference, payment_key, cents, status, reason, withdrawn)
    )
