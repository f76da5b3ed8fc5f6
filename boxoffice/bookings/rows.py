"""Bookings as PostgreSQL has them: the query, and its rows as shops see them."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from boxoffice.clock import timestamp
from boxoffice.stores.database import Database, Row
from boxoffice.stores.record import metadata_from
from boxoffice.wire import render
from boxoffice.wire.render import BookingView, ItemView, PaymentView, RefundState

__all__ = ["ATTEMPT", "SELECT", "BookingRow", "of_row", "payment_of", "refund_state", "return_url_of"]


class BookingRow(NamedTuple):
    """One booking, with what a client does not see."""

    client: str
    payment_key: str | None
    duplicate_of: UUID | None
    """The booking that answers for this one. None of one that used its key for another request."""
    view: BookingView
    updated_us: int
    """When it changed last, in microseconds."""


SELECT = """
SELECT b.id::text AS id, b.client_id, b.event_id, b.customer_id, b.reference, b.status, b.amount_cents, b.currency,
       b.duplicate_of, b.failure_code, b.metadata, b.return_url,
       (extract(epoch FROM b.created_at) * 1000)::bigint AS created_ms,
       (extract(epoch FROM b.expires_at) * 1000)::bigint AS expires_ms,
       (extract(epoch FROM b.updated_at) * 1000000)::bigint AS updated_us,
       i.tiers, i.codes, i.quantities, i.came_back, i.prices,
       p.payment_key, p.status AS payment_status, p.method, p.last4, p.reference AS payment_reference,
       p.failure_code AS payment_failure, p.next_action, coalesce(p.refunded_cents, 0) AS refunded_cents,
       r.refunds, r.written_off, r.pending_cents, r.owed_cents, r.code AS owed_code, r.since_ms AS owed_ms
FROM bookings b
CROSS JOIN LATERAL (
  SELECT array_agg(i.tier_id ORDER BY i.tier_id) AS tiers, array_agg(t.code ORDER BY i.tier_id) AS codes,
         array_agg(i.quantity ORDER BY i.tier_id) AS quantities, array_agg(i.refunded ORDER BY i.tier_id) AS came_back,
         array_agg(i.unit_price_cents ORDER BY i.tier_id) AS prices
  FROM booking_items i JOIN tiers t ON t.id = i.tier_id WHERE i.booking_id = b.id
) i
LEFT JOIN LATERAL (
  SELECT * FROM payments WHERE booking_id = b.id ORDER BY created_at DESC, payment_key LIMIT 1
) p ON true
CROSS JOIN LATERAL (
  SELECT count(*) AS refunds, count(*) FILTER (WHERE status = 'written_off') AS written_off,
         coalesce(sum(amount_cents) FILTER (WHERE status IN ('due', 'pending')), 0)::bigint AS pending_cents,
         coalesce(sum(amount_cents) FILTER (WHERE status = 'owed'), 0)::bigint AS owed_cents,
         (array_agg(failure_code ORDER BY owed_since) FILTER (WHERE status = 'owed'))[1] AS code,
         (extract(epoch FROM min(owed_since) FILTER (WHERE status = 'owed')) * 1000)::bigint AS since_ms
  FROM refunds WHERE booking_id = b.id AND status <> 'dropped'
) r
"""
"""Of bookings `b`, each with its items, its latest payment and what became of its refunds."""

ATTEMPT = """
SELECT method, last4, token, status AS payment_status, reference AS payment_reference, failure_code AS payment_failure,
       next_action
FROM payments WHERE booking_id = $1::uuid AND payment_key = $2
"""

_RETURN_URL = """
SELECT b.return_url FROM payments p JOIN bookings b ON b.id = p.booking_id WHERE p.payment_key = $1
"""


async def return_url_of(database: Database, payment_key: str) -> str | None:
    """Where the customer of a payment comes back to from the bank; None: where all do. Raises `StoreAway`."""
    async with database.answering():
        found: str | None = await database.fetchval(_RETURN_URL, payment_key)
    return found


def payment_of(row: Row) -> PaymentView:
    """The payment of a row that has one."""
    status = "pending" if row["payment_status"] == "unknown" else row["payment_status"]
    return PaymentView(
        status, row["method"], row["last4"], row["payment_reference"], row["payment_failure"], row["next_action"]
    )


def of_row(row: Row) -> BookingRow:
    """A row of `SELECT`."""
    columns = (row[name] or () for name in ("tiers", "codes", "quantities", "came_back", "prices"))
    payment = payment_of(row) if row["payment_status"] is not None else None
    view = BookingView(
        row["id"],
        row["status"],
        row["event_id"],
        row["customer_id"],
        row["reference"],
        metadata_from(row["metadata"]) or {},
        row["return_url"],
        [
            ItemView(tier, code, quantity, back, price, quantity * price)
            for tier, code, quantity, back, price in zip(*columns, strict=True)
        ],
        row["amount_cents"],
        row["currency"],
        row["refunded_cents"],
        refund_state(row) if row["refunds"] else None,
        timestamp(row["created_ms"]),
        timestamp(row["expires_ms"]) if row["expires_ms"] else None,
        render.seconds_left(row["expires_ms"] or 0, row["status"]),
        payment,
        render.failure_of(row["failure_code"]) if row["failure_code"] else None,
    )
    repeats = row["duplicate_of"] if row["failure_code"] == "duplicate" else None
    return BookingRow(row["client_id"], row["payment_key"], repeats, view, row["updated_us"])


def refund_state(row: Row) -> RefundState:
    """What is still to be paid back of a booking that has refunds: owed before pending, pending before the rest."""
    if row["owed_cents"]:
        status = "owed"
    elif row["pending_cents"]:
        status = "pending"
    else:
        status = "written_off" if row["written_off"] else "succeeded"
    since = timestamp(row["owed_ms"]) if row["owed_ms"] else None
    return RefundState(status, row["pending_cents"], row["owed_cents"], row["owed_code"], since)
