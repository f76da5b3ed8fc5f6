"""The audit's look at money: I6, and I10 with it. The gateway's own records against payment and refund rows."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

from boxoffice.currencies import shown
from boxoffice.gateway.base import PaymentGateway, Record
from ops.rush.findings import Finding, Findings
from ops.rush.owed_checks import check_owed, check_reversals
from ops.rush.stock_checks import Pool

__all__ = ["check_money"]

Sums: TypeAlias = dict[str, tuple[int, int]]
"""Captured and refunded, by currency."""

CHUNK: Final = 2_000
"""Payments compared at once: few enough for PostgreSQL to look each up, instead of reading all of them every time."""

_NO_MONEY: Final = {"declined", "voided", "failed"}

AGREES: Final = {
    "authorized": {"authorized"},
    "captured": {"captured"},
    "declined": _NO_MONEY,
    "voided": _NO_MONEY,
    "requires_action": {"requires_action"},
    "processing": {"unknown", *_NO_MONEY},
}
"""The gateway's word for a payment to ours for the same thing."""

_PAYMENTS: Final = """
SELECT p.payment_key AS key, p.booking_id::text AS booking, p.status, p.due, p.amount_cents AS amount, p.refunded_cents,
       b.status AS booking_status, b.failure_code, b.amount_cents AS price, b.duplicate_of IS NOT NULL AS duplicate,
       coalesce((SELECT sum(r.amount_cents) FROM refunds r WHERE r.payment_key = p.payment_key
                 AND r.status IN ('pending', 'succeeded')), 0) AS refunds,
       EXISTS (SELECT FROM refunds r WHERE r.payment_key = p.payment_key
               AND r.status IN ('owed', 'written_off')) AS open
FROM payments p JOIN bookings b ON b.id = p.booking_id WHERE p.payment_key = ANY($1::text[])
"""

_NOT_PLAIN: Final = """
SELECT g.key FROM unnest($1::text[], $2::bigint[]) AS g(key, captured)
LEFT JOIN payments p ON p.payment_key = g.key LEFT JOIN bookings b ON b.id = p.booking_id
WHERE (p.status = 'captured' AND p.amount_cents = g.captured AND p.refunded_cents = 0
       AND b.status IN ('confirmed', 'cancelled') AND b.duplicate_of IS NULL
       AND p.payment_key NOT IN (SELECT payment_key FROM refunds WHERE amount_cents > 0 AND payment_key IS NOT NULL))
      IS NOT TRUE
"""
"""Of payments that were captured and not refunded at the gateway, those whose row does not say just that."""

_MOVED: Final = """
SELECT status, array_agg(payment_key) AS keys FROM payments WHERE status IN ('authorized', 'captured') GROUP BY status
"""

_CONFIRMED_UNPAID: Final = """
SELECT b.id::text AS id, b.amount_cents, coalesce(sum(p.amount_cents) FILTER (WHERE p.status = 'captured'), 0) AS captured
FROM bookings b LEFT JOIN payments p ON p.booking_id = b.id
WHERE b.status = 'confirmed' GROUP BY b.id
HAVING coalesce(sum(p.amount_cents) FILTER (WHERE p.status = 'captured'), 0) <> b.amount_cents
LIMIT 100
"""

_PAID_FOR_NOTHING: Final = """
SELECT b.id::text AS id, b.status, sum(p.amount_cents - p.refunded_cents - open.cents) AS retained
FROM bookings b JOIN payments p ON p.booking_id = b.id
CROSS JOIN LATERAL (SELECT coalesce(sum(r.amount_cents), 0) AS cents FROM refunds r
                    WHERE r.payment_key = p.payment_key AND r.status IN ('owed', 'written_off')) AS open
WHERE b.status IN ('failed', 'expired', 'held') AND p.status = 'captured' GROUP BY b.id
HAVING sum(p.amount_cents - p.refunded_cents - open.cents) > 0 LIMIT 100
"""

_WRONG_SUM: Final = """
SELECT b.id::text AS id, b.amount_cents, coalesce(sum(i.line_total_cents), 0) AS lines
FROM bookings b LEFT JOIN booking_items i ON i.booking_id = b.id WHERE b.duplicate_of IS NULL GROUP BY b.id
HAVING b.amount_cents <> coalesce(sum(i.line_total_cents), 0) LIMIT 100
"""

_FOR_NOTHING: Final = """
SELECT p.payment_key AS key, p.booking_id::text AS booking FROM payments p
WHERE p.amount_cents = 0 AND (p.due IS NOT NULL OR p.status IN ('authorized', 'captured', 'requires_action')) LIMIT 100
"""
"""What costs nothing is asked of no gateway; rows of an earlier version may be there, let go."""


async def check_money(gateway: PaymentGateway, pool: Pool, findings: Findings) -> None:
    """Compare every payment at the gateway with its row, and every row that moved money with the gateway."""
    finding, owed = findings["I6"], findings["I10"]
    seen: set[str] = set()
    sums: Sums = {}
    records: list[Record] = []
    async for record in gateway.records():
        records.append(record)
        if len(records) == CHUNK:
            await _check_chunk(records, pool, finding, seen, sums)
            await check_reversals(pool, records, owed)
            records = []
    await _check_chunk(records, pool, finding, seen, sums)
    await check_reversals(pool, records, owed)
    await check_owed(pool, owed)
    for row in await pool.fetch(_MOVED):
        for key in set(row["keys"]) - seen:
            finding.blame(f"payment {key}: {row['status']} here, unknown to the gateway")
    await _check_bookings(pool, finding)
    moved = [f"{shown(sums[code][0], code)} captured, {shown(sums[code][1], code)} refunded" for code in sorted(sums)]
    finding.looked_at.append(f"{len(seen)} payments at {gateway.name}: {'; '.join(moved) or 'no money moved'}")


async def _check_chunk(records: list[Record], pool: Pool, finding: Finding, seen: set[str], sums: Sums) -> None:
    for record in records:
        seen.add(record.payment_key)
        payment = record.payment
        captured, refunded = sums.get(payment.currency, (0, 0))
        sums[payment.currency] = (captured + payment.captured_cents, refunded + payment.refunded_cents)
    doubtful = await _doubtful(records, pool)
    rows = {row["key"]: row for row in await pool.fetch(_PAYMENTS, [record.payment_key for record in doubtful])}
    for record in doubtful:
        row = rows.get(record.payment_key)
        problem = _orphan(record) if row is None else _disagreement(record, row)
        if problem:
            finding.blame(f"payment {record.payment_key} of booking {record.booking_id}: {problem}")


async def _doubtful(records: list[Record], pool: Pool) -> list[Record]:
    """All but those of which both books say in the same words that a booking was paid: most of them, and no row of
    theirs has to be fetched."""
    paid = {
        record.payment_key: record.payment.captured_cents
        for record in records
        if record.payment.status == "captured" and not record.payment.refunded_cents
    }
    found = await pool.fetch(_NOT_PLAIN, list(paid), list(paid.values()))
    plain = paid.keys() - {row["key"] for row in found}
    return [record for record in records if record.payment_key not in plain]


def _orphan(record: Record) -> str:
    payment = record.payment
    if payment.captured_cents > payment.refunded_cents:
        return f"{payment.captured_cents} captured, and we have no such payment"
    if payment.status in ("authorized", "requires_action"):
        return f"{payment.status}, and we have no such payment"
    return ""


def _disagreement(record: Record, row: Any) -> str:
    payment = record.payment
    if row["status"] not in AGREES[payment.status]:
        return (
            f"{payment.status} at the gateway, {row['status']} here (booking {row['booking_status']}, due {row['due']})"
        )
    if payment.status == "authorized":
        return f"still authorised; its booking is {row['booking_status']}, due {row['due']}"
    if payment.captured_cents not in (0, row["amount"]):
        return f"{payment.captured_cents} captured, {row['amount']} asked for"
    if payment.refunded_cents > payment.captured_cents:
        return f"{payment.refunded_cents} refunded of {payment.captured_cents} captured"
    if not payment.refunded_cents == row["refunded_cents"] == row["refunds"]:
        return f"{payment.refunded_cents} refunded; row says {row['refunded_cents']}, refund rows {row['refunds']}"
    retained = payment.captured_cents > payment.refunded_cents and not row["open"]
    if retained and row["booking_status"] not in ("confirmed", "cancelled"):
        return (
            f"{payment.captured_cents} captured for a booking that is {row['booking_status']} ({row['failure_code']})"
        )
    if row["duplicate"] and payment.captured_cents:
        return "captured for a duplicate"
    return ""


async def _check_bookings(pool: Pool, finding: Finding) -> None:
    """Our own rows among themselves."""
    for row in await pool.fetch(_CONFIRMED_UNPAID):
        finding.blame(f"booking {row['id']}: confirmed at {row['amount_cents']}, captured {row['captured']}")
    for row in await pool.fetch(_PAID_FOR_NOTHING):
        finding.blame(f"booking {row['id']}: {row['status']}, and {row['retained']} was kept")
    for row in await pool.fetch(_FOR_NOTHING):
        finding.blame(f"payment {row['key']} of booking {row['booking']}: nothing was asked for")
    for row in await pool.fetch(_WRONG_SUM):
        finding.blame(f"booking {row['id']}: amount {row['amount_cents']}, its items add up to {row['lines']}")
