"""The settling transaction's statements: fixed texts with array parameters, so that each keeps one prepared plan.

Inventory rows are locked first and in tier order, in every transaction that sells: two batches that share tiers wait for
each other instead of deadlocking.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, TypeAlias

import asyncpg

from boxoffice.record import Record
from boxoffice.verdicts import Case, Known, PaymentRow

__all__ = [
    "Connection",
    "Kin",
    "Orphan",
    "Raced",
    "known_by_key",
    "lock_inventory",
    "recheck",
    "sell",
    "vouch",
    "write",
]

Connection: TypeAlias = "asyncpg.Connection[Any] | asyncpg.pool.PoolConnectionProxy[Any]"


Kin: TypeAlias = tuple[str, str, str]
"""Client, event and tier that a booking names."""

KIN_MAX: Final = 20_000
"""Remembered in one process, some 5 MB; then it is asked anew."""


class Orphan(Exception):
    """A booking names a client or a tier that PostgreSQL does not have, or a tier of another event."""


class Raced(Exception):
    """Another worker wrote one of these bookings, or its key, since we looked. Look again."""


_KNOWN_BY_KEY = """
SELECT asked.n, b.id::text AS id, b.status, b.failure_code, b.fingerprint,
       b.status = 'cancelled' AND EXISTS (SELECT FROM stock_moves m WHERE m.booking_id = b.id) AS was_sold
FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS asked (client, event, key, n)
CROSS JOIN LATERAL (
  SELECT id, status, failure_code, fingerprint FROM bookings
  WHERE client_id = asked.client AND event_id = asked.event AND idempotency_key = asked.key AND duplicate_of IS NULL
  LIMIT 1) AS b
"""
"""LIMIT keeps it one index look-up a key: as a join, with statistics of an empty table, it read the whole sale."""

_PAYMENTS = """
SELECT payment_key, status, reference, failure_code, next_action,
       (1000 * extract(epoch FROM now() - created_at))::bigint AS age_ms
FROM payments WHERE payment_key = ANY($1::text[])
"""

_LOCK_INVENTORY = """
SELECT tier_id, total - sold AS left
FROM inventory WHERE tier_id = ANY($1::text[]) ORDER BY tier_id FOR NO KEY UPDATE
"""

_KIN = """
SELECT client, event, tier FROM unnest($1::text[], $2::text[], $3::text[]) AS asked (client, event, tier)
JOIN clients c ON c.id = asked.client JOIN tiers t ON t.id = asked.tier AND t.event_id = asked.event
"""

_RECHECK = """
SELECT b.id::text AS id, b.status, p.status AS payment
FROM unnest($1::uuid[], $2::text[]) AS asked (id, payment_key)
JOIN bookings b ON b.id = asked.id LEFT JOIN payments p ON p.payment_key = asked.payment_key
"""

_WRITTEN = "SELECT count(*) FROM bookings WHERE id = ANY($1::uuid[])"

_INSERT_BOOKINGS = """
INSERT INTO bookings (id, client_id, event_id, customer_id, reference, status, amount_cents, currency, idempotency_key,
                      fingerprint, duplicate_of, failure_code, sequence, expires_at, created_at)
SELECT id, client, event, customer, reference, status, amount, currency, key, fingerprint, duplicate_of, failure,
       sequence, to_timestamp(nullif(deadline_ms, 0) / 1000.0), to_timestamp(admitted_ms / 1000.0)
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[], $8::text[], $9::text[],
            $10::text[], $11::uuid[], $12::text[], $13::bigint[], $14::bigint[], $15::bigint[])
  AS new (id, client, event, customer, reference, status, amount, currency, key, fingerprint, duplicate_of, failure,
          sequence, deadline_ms, admitted_ms)
ON CONFLICT DO NOTHING
"""

_INSERT_ITEMS = """
INSERT INTO booking_items (booking_id, tier_id, quantity, unit_price_cents, line_total_cents)
SELECT booking, tier, quantity, price, quantity::bigint * price
FROM unnest($1::uuid[], $2::text[], $3::int[], $4::int[]) AS new (booking, tier, quantity, price)
"""

_UPDATE_BOOKINGS = """
UPDATE bookings b SET status = new.status, failure_code = new.failure, updated_at = now()
FROM unnest($1::uuid[], $2::text[], $3::text[]) AS new (id, status, failure)
WHERE b.id = new.id AND b.status IN ('pending', 'held', 'expired')
"""

_UPSERT_PAYMENTS = """
INSERT INTO payments (payment_key, booking_id, gateway, method, card_name, last4, token, amount_cents, currency, status,
                      reference, failure_code, next_action, due, due_at, leased_until)
SELECT key, booking, $15, method, card_name, last4, token, amount, currency, status, reference, failure, next_action, due,
       CASE WHEN due IS NULL THEN NULL ELSE now() END,
       CASE WHEN due IS NULL THEN NULL ELSE now() + $14 * interval '1 millisecond' END
FROM unnest($1::text[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[], $8::text[], $9::text[],
            $10::text[], $11::text[], $12::text[], $13::text[])
  AS new (key, booking, method, card_name, last4, token, amount, currency, status, reference, failure, next_action, due)
ON CONFLICT (payment_key) DO UPDATE
SET status = excluded.status, reference = coalesce(excluded.reference, payments.reference),
    failure_code = excluded.failure_code, next_action = excluded.next_action, due = excluded.due,
    due_at = excluded.due_at, leased_until = excluded.leased_until, updated_at = now()
WHERE payments.status IN ('unknown', 'requires_action')
"""

_SELL = """
UPDATE inventory i SET sold = i.sold + new.quantity, version = i.version + 1, updated_at = now()
FROM unnest($1::text[], $2::int[]) AS new (tier, quantity) WHERE i.tier_id = new.tier
"""


async def known_by_key(connection: Connection, records: list[Record]) -> dict[str, Known]:
    """Booking id asked for, to what PostgreSQL has under its (client, event, key): itself, or who came first."""
    rows = await connection.fetch(
        _KNOWN_BY_KEY,
        [record.body.client for record in records],
        [record.event for record in records],
        [record.payload.key for record in records],
    )
    if not rows:
        return {}
    known = {
        records[row["n"] - 1].id: Known(
            row["id"], row["status"], row["failure_code"], row["was_sold"], row["fingerprint"]
        )
        for row in rows
    }
    # A booking and its duplicate may share the batch, and then the payment key.
    under: dict[str, list[Known]] = {}
    for record in records:
        if record.id in known and record.payment_key:
            under.setdefault(record.payment_key, []).append(known[record.id])
    for row in await connection.fetch(_PAYMENTS, list(under)):
        payment = PaymentRow(row["status"], row["reference"], row["failure_code"], row["next_action"], row["age_ms"])
        for each in under[row["payment_key"]]:
            each.payment = payment
    return known


async def lock_inventory(connection: Connection, tiers: Iterable[str]) -> dict[str, int]:
    """Lock the tiers' rows in tier order; what each can still sell. From here on nobody else sells them."""
    rows = await connection.fetch(_LOCK_INVENTORY, list(tiers))
    return {row["tier_id"]: row["left"] for row in rows}


async def vouch(connection: Connection, kin: set[Kin], known: set[Kin]) -> None:
    """See that what the bookings name exists, and add it to what is `known`: none of it is ever deleted.

    Foreign keys would look it up anew for each booking, and lock the same three rows for it: a sixth of the transaction's
    CPU. Raises `Orphan`.
    """
    new = list(kin - known)
    if not new:
        return
    found = {tuple(row) for row in await connection.fetch(_KIN, *map(list, zip(*new, strict=True)))}
    if len(found) != len(new):
        raise Orphan
    if len(known) > KIN_MAX:
        known.clear()
    known.update(new)


async def recheck(connection: Connection, cases: list[Case]) -> None:
    """Under the lock: has anybody written one of these bookings, or its payment, since we looked? (A hold may have been
    paid again meanwhile: then its booking is pending as before, but our payment is over.)

    Raises `Raced`.
    """
    rows = await connection.fetch(
        _RECHECK, [case.record.id for case in cases], [case.record.payment_key for case in cases]
    )
    seen = {row["id"]: (row["status"], row["payment"]) for row in rows}
    for case in cases:
        known = case.known
        expected = (known.status, known.payment.status if known.payment else None) if known else None
        if not case.duplicate_of and seen.get(case.record.id) != expected:
            raise Raced


async def write(connection: Connection, cases: list[Case], gateway: str, lease_ms: int) -> None:
    """Bookings, items and payments of the cases, with what is due at the gateway.

    Raises `Raced` when a booking or a key turns out to be taken.
    """
    new = [case for case in cases if case.known is None or case.duplicate_of]
    again = [case for case in cases if case.known is not None and not case.duplicate_of and not case.decided]
    if new:
        await _insert(connection, new)
    if again:
        await connection.execute(
            _UPDATE_BOOKINGS,
            [case.record.id for case in again],
            [case.status for case in again],
            [case.failure for case in again],
        )
    paid = [case for case in cases if case.payment_status and not case.duplicate_of and not case.decided]
    if paid:
        await _upsert_payments(connection, paid, gateway, lease_ms)


async def _insert(connection: Connection, cases: list[Case]) -> None:
    records = [case.record for case in cases]
    bodies = [record.body for record in records]
    tag = await connection.execute(
        _INSERT_BOOKINGS,
        [record.id for record in records],
        [body.client for body in bodies],
        [record.event for record in records],
        [body.customer for body in bodies],
        [body.reference for body in bodies],
        [case.status for case in cases],
        [body.amount_cents for body in bodies],
        [body.currency for body in bodies],
        [record.payload.key for record in records],
        [record.fingerprint for record in records],
        [case.duplicate_of for case in cases],
        [case.failure for case in cases],
        [record.sequence for record in records],
        [record.deadline_ms for record in records],
        [record.admitted_ms for record in records],
    )
    written = int(tag.rpartition(" ")[2])
    originals = [case.record for case in cases if not case.duplicate_of]
    if written != len(cases) and await _missing(connection, originals):
        raise Raced
    await _insert_items(connection, _INSERT_ITEMS, originals)
    # These may have been written by a worker that died before Redis heard of it.
    others = [case.record for case in cases if case.reuses_key]
    await _insert_items(connection, _INSERT_ITEMS + "ON CONFLICT DO NOTHING", others)


async def _insert_items(connection: Connection, statement: str, records: list[Record]) -> None:
    lines = [(record.id, line) for record in records for line in record.body.lines]
    if lines:
        await connection.execute(
            statement,
            [booking for booking, _ in lines],
            [line.tier for _, line in lines],
            [line.quantity for _, line in lines],
            [line.unit_price_cents for _, line in lines],
        )


async def _missing(connection: Connection, records: list[Record]) -> bool:
    return bool(await connection.fetchval(_WRITTEN, [record.id for record in records]) != len(records))


async def _upsert_payments(connection: Connection, cases: list[Case], gateway: str, lease_ms: int) -> None:
    charges = [(case, case.record.payload.charge) for case in cases]
    await connection.execute(
        _UPSERT_PAYMENTS,
        [case.record.payment_key for case in cases],
        [case.record.id for case in cases],
        [charge.method if charge else "card" for _, charge in charges],
        [charge.card_name if charge else None for _, charge in charges],
        [charge.last4 if charge else None for _, charge in charges],
        [charge.token if charge else None for _, charge in charges],
        [case.record.body.amount_cents for case in cases],
        [case.record.body.currency for case in cases],
        [case.payment_status for case in cases],
        [case.reference for case in cases],
        [case.payment_failure for case in cases],
        [case.next_action for case in cases],
        [case.due for case in cases],
        lease_ms,
        gateway,
    )


async def sell(connection: Connection, sold: dict[str, int]) -> None:
    """Count tickets as sold. The table's checks would refuse a sale beyond the total: that is a bug alarm."""
    if sold:
        await connection.execute(_SELL, list(sold), list(sold.values()))
