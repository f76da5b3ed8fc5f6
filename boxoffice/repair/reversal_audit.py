"""The audit's look at what went back of payments: the gateway's refunds and disputes against our rows, and what is open."""

from __future__ import annotations

from datetime import datetime
from typing import Final, NamedTuple

from boxoffice.gateway.base import Record
from boxoffice.money.reversals import take_in
from boxoffice.stores.database import Database

__all__ = ["OpenEnd", "mend_reversals", "open_ends", "reversals_differ"]

_OURS: Final = """
SELECT
  array(SELECT reference || ' ' || status || ' ' || amount_cents FROM refunds
        WHERE payment_key = $1 AND status IN ('pending', 'succeeded') AND amount_cents > 0) AS refunds,
  array(SELECT reference || ' ' || status || ' ' || amount_cents FROM disputes WHERE payment_key = $1) AS disputes,
  EXISTS (SELECT FROM refunds WHERE payment_key = $1 AND (status = 'due' OR amount_cents > 0)
          AND (CASE status WHEN 'due' THEN due_since ELSE updated_at END) >= now() - $2 * interval '1 second') AS moving
"""
"""Moving: it changed just now, so that it may be half told."""

_OPEN: Final = """
SELECT 'refund_overdue' AS what, payment_key, booking_id::text AS booking, 'no answer' AS at_gateway,
       amount_cents || ' ' || currency || ' due since ' || date_trunc('second', due_since) || ', asked ' || tries || ' times'
         AS ours, false AS known
FROM refunds r WHERE status = 'due' AND due_since < least(now() - $1 * interval '1 second', $2)
  AND EXISTS (SELECT FROM payments p WHERE p.payment_key = r.payment_key AND p.status = 'captured')
UNION ALL
SELECT 'refund_pending', payment_key, booking_id::text, coalesce(failure_code, 'pending'),
       amount_cents || ' ' || currency || ' since ' || date_trunc('second', updated_at), true
FROM refunds WHERE status = 'pending'
UNION ALL
SELECT 'refund_owed', payment_key, booking_id::text, failure_code || ', refused ' || attempt || ' times',
       amount_cents || ' ' || currency || ' owed since ' || date_trunc('second', owed_since), true
FROM refunds WHERE status = 'owed'
UNION ALL
SELECT 'disputed', d.payment_key, p.booking_id::text, d.status || ' (' || d.reason || ')',
       d.amount_cents || ' disputed' || CASE WHEN d.withdrawn THEN ', withdrawn' ELSE '' END, true
FROM disputes d JOIN payments p ON p.payment_key = d.payment_key
WHERE d.status NOT IN ('won', 'lost', 'warning_closed', 'prevented', 'charge_refunded')
ORDER BY 1, 3
"""


class OpenEnd(NamedTuple):
    """Money that is not where it should be in the end. Known: both books tell it alike."""

    what: str
    payment_key: str
    booking: str
    at_gateway: str
    ours: str
    known: bool


async def reversals_differ(database: Database, record: Record, grace_s: int) -> bool:
    """Whether refunds or disputes at the gateway are others than ours, and none of them changed just now."""
    ours = await database.fetchrow(_OURS, record.payment_key, grace_s)
    assert ours is not None, "it selects no table"
    theirs = {
        f"{refund.reference} {refund.status} {refund.amount_cents}"
        for refund in record.reversals.refunds
        if refund.status != "failed"
    }
    disputes = {f"{each.reference} {each.status} {each.amount_cents}" for each in record.reversals.disputes}
    if theirs == set(ours["refunds"]) and disputes <= set(ours["disputes"]):
        return False
    return not ours["moving"]


async def mend_reversals(database: Database, record: Record) -> bool:
    """Write down what the gateway has. False when our rows still tell something else."""
    async with database.begin() as connection:
        await take_in(connection, record.payment_key, record.reversals)
    return not await reversals_differ(database, record, 0)


async def open_ends(database: Database, grace_s: int, began: datetime) -> list[OpenEnd]:
    """What is owed, pending or disputed, and refunds that nobody has been able to make: but for those that came due after
    the audit began, which may be its own."""
    return [OpenEnd(*row) for row in await database.fetch(_OPEN, grace_s, began)]
