"""The audit's look at money that is owed: I10. What was to go back is paid, on its way, owed and known, or written off by a
person; and refunds and disputes at the gateway are those that we know of."""

from __future__ import annotations

from collections import Counter
from typing import Final

from boxoffice.gateway.base import Record
from ops.rush.findings import Finding
from ops.rush.stock_checks import Pool

__all__ = ["check_owed", "check_reversals"]

_ROWS: Final = """
SELECT payment_key AS key, refund_key, reference, status, amount_cents FROM refunds
WHERE payment_key = ANY($1::text[]) AND status IN ('pending', 'succeeded') AND amount_cents > 0
"""

_DISPUTES: Final = "SELECT payment_key AS key, reference, status FROM disputes WHERE payment_key = ANY($1::text[])"

_UNKNOWN: Final = """
SELECT 'owed, and nobody knows since when, or why' AS what, refund_key, booking_id::text AS booking FROM refunds
WHERE status = 'owed' AND (owed_since IS NULL OR failure_code IS NULL OR attempt = 0)
UNION ALL
SELECT 'written off by nobody', refund_key, booking_id::text FROM refunds
WHERE status = 'written_off' AND (written_off_at IS NULL OR coalesce(written_off_by, '') = ''
                                  OR coalesce(written_off_reason, '') = '')
UNION ALL
SELECT 'dropped, and its payment was captured', r.refund_key, r.booking_id::text
FROM refunds r JOIN payments p ON p.payment_key = r.payment_key
WHERE r.status = 'dropped' AND p.status = 'captured'
UNION ALL
SELECT 'due for an hour', refund_key, booking_id::text FROM refunds
WHERE status = 'due' AND due_since < now() - interval '1 hour'
LIMIT 100
"""

_MISCOUNTED: Final = """
SELECT p.payment_key AS key, p.booking_id::text AS booking, p.refunded_cents,
       coalesce(sum(r.amount_cents), 0)::bigint AS refunds
FROM payments p JOIN refunds r ON r.payment_key = p.payment_key AND r.status IN ('due', 'pending', 'succeeded')
GROUP BY p.payment_key HAVING p.refunded_cents <> coalesce(sum(r.amount_cents), 0)
UNION ALL
SELECT p.payment_key, p.booking_id::text, p.refunded_cents, 0 FROM payments p
WHERE p.refunded_cents > 0 AND NOT EXISTS (
  SELECT FROM refunds r WHERE r.payment_key = p.payment_key AND r.status IN ('due', 'pending', 'succeeded'))
LIMIT 100
"""

_FORGOTTEN: Final = """
SELECT b.id::text AS booking, b.status FROM bookings b JOIN payments p ON p.booking_id = b.id
WHERE p.status = 'captured' AND b.duplicate_of IS NULL AND NOT EXISTS (SELECT FROM refunds r WHERE r.booking_id = b.id)
  AND (b.status = 'cancelled'
       OR EXISTS (SELECT FROM booking_items i WHERE i.booking_id = b.id AND i.refunded > 0))
LIMIT 100
"""
"""Tickets came back of a sale, and nothing says what became of the money."""

_PAYMENTS: Final = "SELECT payment_key FROM payments WHERE payment_key = ANY($1::text[])"

_COUNT: Final = """
SELECT status, count(*) AS refunds, sum(amount_cents)::bigint AS cents FROM refunds GROUP BY status ORDER BY status
"""


async def check_reversals(pool: Pool, records: list[Record], finding: Finding) -> None:
    """Of each payment at the gateway: what went back there is what our rows say, refund by refund."""
    keys = [record.payment_key for record in records]
    ours: Counter[tuple[str, str, int]] = Counter(
        (row["key"], row["reference"], row["amount_cents"]) for row in await pool.fetch(_ROWS, keys)
    )
    theirs: Counter[tuple[str, str, int]] = Counter(
        (record.payment_key, refund.reference, refund.amount_cents)
        for record in records
        for refund in record.reversals.refunds
        if refund.status != "failed"
    )
    ends = await _settled_by_nobody(pool, records)
    for key, reference, cents in theirs - ours:
        if key in ends:
            continue
        finding.blame(f"payment {key}: {cents} went back at the gateway ({reference}), and no row says so")
    for key, reference, cents in ours - theirs:
        finding.blame(f"payment {key}: a row says that {cents} went back ({reference}); at the gateway it did not")
    disputes = {(row["key"], row["reference"]): row["status"] for row in await pool.fetch(_DISPUTES, keys)}
    for record in records:
        for dispute in record.reversals.disputes:
            if disputes.get((record.payment_key, dispute.reference)) != dispute.status:
                finding.blame(f"payment {record.payment_key}: disputed ({dispute.status}), and no row says so")


async def _settled_by_nobody(pool: Pool, records: list[Record]) -> set[str]:
    """Payments that both stores have forgotten, and whose money went back altogether: the payments audit saw to that."""
    known = {row["payment_key"] for row in await pool.fetch(_PAYMENTS, [record.payment_key for record in records])}
    return {
        record.payment_key
        for record in records
        if record.payment_key not in known and record.payment.captured_cents == record.payment.refunded_cents
    }


async def check_owed(pool: Pool, finding: Finding) -> None:
    """Our own rows among themselves."""
    for row in await pool.fetch(_UNKNOWN):
        finding.blame(f"refund {row['refund_key']} of booking {row['booking']}: {row['what']}")
    for row in await pool.fetch(_MISCOUNTED):
        finding.blame(
            f"payment {row['key']} of booking {row['booking']}: refunded {row['refunded_cents']}, rows {row['refunds']}"
        )
    for row in await pool.fetch(_FORGOTTEN):
        finding.blame(f"booking {row['booking']}: {row['status']}, tickets came back, and no refund says what is owed")
    counts = [f"{row['refunds']} {row['status']} ({row['cents']})" for row in await pool.fetch(_COUNT)]
    finding.looked_at.append(f"refunds: {', '.join(counts) or 'none'}")
