"""A parked booking that an operator fails, written without whatever PostgreSQL would not take.

Its row may be there or not, and so may its payment's: each verb inserts what is lacking and moves what is undecided.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from boxoffice import ids
from boxoffice.books.notices import notice_by_key, notice_of
from boxoffice.stores.database import Connection, Writer

__all__ = ["Facts", "fail_booking", "fail_payment"]


class Facts(NamedTuple):
    """What can be written of a booking, whatever its record holds."""

    client: str
    event: str
    customer: str
    reference: str | None
    amount_cents: int
    currency: str
    key: str
    fingerprint: str
    sequence: int
    deadline_ms: int
    admitted_ms: int
    lines: Sequence[tuple[str, int, int]]
    """Tier, quantity and unit price in minor units."""


_TAKEN: Final = """
SELECT true FROM bookings WHERE client_id || '' = $1 AND event_id || '' = $2 AND idempotency_key = $3
  AND duplicate_of IS NULL AND id <> $4::uuid
"""

_POISON: Final = """'{"failure_code": "poison"}'"""

_INSERT_BOOKING: Final = f"""
WITH moved AS (
INSERT INTO bookings (id, client_id, event_id, customer_id, reference, status, amount_cents, currency, idempotency_key,
                      fingerprint, failure_code, sequence, expires_at, created_at)
VALUES ($1::uuid, $2, $3, $4, $5, 'failed', $6, $7, $8, $9, 'poison', $10, to_timestamp(nullif($11::bigint, 0) / 1000.0),
        to_timestamp($12::bigint / 1000.0))
ON CONFLICT (id) DO UPDATE SET status = 'failed', failure_code = 'poison', updated_at = now()
WHERE bookings.status IN ('pending', 'held')
RETURNING id AS booking, client_id, event_id)
{notice_of("moved", "'booking.failed'", _POISON)}
"""

_INSERT_ITEMS: Final = """
INSERT INTO booking_items (booking_id, tier_id, quantity, unit_price_cents, line_total_cents)
SELECT $1::uuid, tier, quantity, price, quantity::bigint * price
FROM unnest($2::text[], $3::int[], $4::int[]) AS new (tier, quantity, price) JOIN tiers ON tiers.id = tier
ON CONFLICT DO NOTHING
"""

_FAIL_PAYMENT: Final = f"""
WITH moved AS (
INSERT INTO payments (payment_key, booking_id, gateway, method, last4, amount_cents, currency, status, reference,
                      failure_code, due, due_at)
VALUES ($1, $2::uuid, $3, 'card', $4, $5, $6, $7, $8, 'poison', $9, CASE WHEN $9::text IS NULL THEN NULL ELSE now() END)
ON CONFLICT (payment_key) DO UPDATE
SET status = excluded.status, failure_code = 'poison', due = excluded.due, due_at = excluded.due_at, due_since = NULL,
    updated_at = now()
WHERE payments.status IN ('unknown', 'requires_action')
RETURNING booking_id AS booking, payment_key AS key, status, due)
{
    notice_by_key(
        "moved",
        "'payment.changed'",
        "jsonb_strip_nulls(jsonb_build_object('status', m.status, 'due', m.due, 'failure_code', 'poison'))",
    )
}
"""


async def fail_booking(connection: Connection, booking_id: str, facts: Facts) -> None:
    """To `failed`, for the reason `poison`: a new row with those of its items whose tiers there are, or a row that is `pending`
    or `held`. One that is decided stays. If another booking has its idempotency key, it gets a key of its own."""
    key = facts.key
    if await connection.fetchval(_TAKEN, facts.client, facts.event, key, booking_id):
        key = ids.digest(booking_id, key)
    await connection.execute(
        _INSERT_BOOKING, booking_id, facts.client, facts.event, facts.customer, facts.reference, facts.amount_cents,
        facts.currency, key, facts.fingerprint, facts.sequence, facts.deadline_ms, facts.admitted_ms,
    )  # fmt: skip
    if facts.lines:
        await connection.execute(_INSERT_ITEMS, booking_id, *map(list, zip(*facts.lines, strict=True)))


async def fail_payment(
    writer: Writer, payment_key: str, booking_id: str, facts: Facts, *, books: str, last4: str | None, status: str,
    reference: str | None, due: str | None,
) -> None:  # fmt: skip
    """Its payment, new or undecided (`unknown`, `requires_action`), to this status for the reason `poison`; what is still due
    at the gateway is due now. One that is decided stays."""
    await writer.execute(
        _FAIL_PAYMENT, payment_key, booking_id, books, last4, facts.amount_cents, facts.currency, status, reference, due
    )
