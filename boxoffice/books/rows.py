"""The settling transaction's statements: fixed texts with array parameters, so that each keeps one prepared plan.

Inventory rows are locked first and in tier order, in every transaction that sells: two batches that share tiers wait for
each other instead of deadlocking.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, TypeAlias

import asyncpg

from boxoffice.books.decisions import DUPLICATE, NEW, OPEN, Claimed, Decision, Known, PaymentChange, PaymentRow
from boxoffice.states import KEY_REUSED
from boxoffice.stores.database import Connection
from boxoffice.stores.record import Record

__all__ = [
    "Kin",
    "Orphan",
    "Raced",
    "known_by_key",
    "lock_inventory",
    "recheck",
    "sell",
    "touch",
    "vouch",
    "write",
]


Kin: TypeAlias = tuple[str, str, str]
"""Client, event and tier that a booking names."""

KIN_MAX: Final = 20_000
"""Remembered in one process, some 5 MB; then it is asked anew."""


class Orphan(Exception):
    """A booking names a client or a tier that PostgreSQL does not have, or a tier of another event."""


class Raced(Exception):
    """Another worker wrote one of these bookings, or its key, since we looked. Look again."""


KNOWN_BY_KEY = """
SELECT asked.n, b.id::text AS id, b.status, b.failure_code, b.fingerprint,
       b.status = 'cancelled' AND EXISTS (SELECT FROM stock_moves m WHERE m.booking_id = b.id) AS was_sold
FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS asked (client, event, key, n)
CROSS JOIN LATERAL (
  SELECT id, status, failure_code, fingerprint FROM bookings
  WHERE idempotency_key = asked.key AND client_id || '' = asked.client AND event_id || '' = asked.event
    AND duplicate_of IS NULL
  LIMIT 1) AS b
"""
"""LIMIT keeps it one index look-up a key: as a join, with statistics of an empty table, it read the whole sale. An expression
can be looked up in no index: with such statistics the planner took the event's or the client's, and read the whole sale."""

_PAYMENTS = """
SELECT payment_key, status, reference, failure_code, next_action,
       (1000 * extract(epoch FROM now() - created_at))::bigint AS age_ms
FROM payments WHERE payment_key = ANY($1::text[])
"""

_LOCK_INVENTORY = """
SELECT tier_id, CASE WHEN called_off THEN -1 ELSE total - sold END AS left
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

_INSERT_DUPLICATES = """
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
ON CONFLICT DO NOTHING
"""

_BOOKING_COLUMNS: Final = (
    "id", "client_id", "event_id", "customer_id", "reference", "status", "amount_cents", "currency", "idempotency_key",
    "fingerprint", "failure_code", "sequence", "expires_at", "created_at",
)  # fmt: skip
_ITEM_COLUMNS: Final = ("booking_id", "tier_id", "quantity", "unit_price_cents", "line_total_cents")
_PAYMENT_COLUMNS: Final = (
    "payment_key", "booking_id", "gateway", "method", "card_name", "last4", "token", "amount_cents", "currency", "status",
    "reference", "failure_code", "next_action", "due",
)  # fmt: skip
"""Columns of what is copied: the order of the fields in `_copy_new`."""

_UPDATE_BOOKINGS = """
UPDATE bookings b SET status = new.status, failure_code = new.failure, updated_at = now(),
       expires_at = to_timestamp(nullif(new.deadline_ms, 0) / 1000.0)
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[]) AS new (id, status, failure, deadline_ms)
WHERE b.id = new.id AND b.status IN ('pending', 'held', 'expired')
"""

_UPSERT_PAYMENTS = """
INSERT INTO payments (payment_key, booking_id, gateway, method, card_name, last4, token, amount_cents, currency, status,
                      reference, failure_code, next_action, due, due_at, leased_until)
SELECT key, booking, $15, method, card_name, last4, token, amount, currency, status, reference, failure, next_action, due,
       CASE WHEN due <> 'capture' THEN now() END,
       CASE WHEN due <> 'capture' THEN now() + $14 * interval '1 millisecond' END
FROM unnest($1::text[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[], $8::text[], $9::text[],
            $10::text[], $11::text[], $12::text[], $13::text[])
  AS new (key, booking, method, card_name, last4, token, amount, currency, status, reference, failure, next_action, due)
ON CONFLICT (payment_key) DO UPDATE
SET status = excluded.status, reference = coalesce(excluded.reference, payments.reference),
    failure_code = excluded.failure_code, next_action = excluded.next_action, due = excluded.due,
    due_at = excluded.due_at, due_since = CASE WHEN excluded.due IS NOT NULL THEN now() END,
    leased_until = excluded.leased_until, updated_at = now()
WHERE payments.status IN ('unknown', 'requires_action')
"""

_LIST_CAPTURES = """
INSERT INTO captures (payment_keys, leased_until) VALUES ($1::text[], now() + $2 * interval '1 millisecond') RETURNING id
"""

_SELL = """
UPDATE inventory i SET sold = i.sold + new.quantity, version = i.version + 1, updated_at = now()
FROM unnest($1::text[], $2::int[]) AS new (tier, quantity) WHERE i.tier_id = new.tier
"""


async def known_by_key(connection: Connection, records: list[Record]) -> dict[str, Known]:
    """Booking id asked for, to what PostgreSQL has under its (client, event, key): itself, or who came first."""
    rows = await connection.fetch(
        KNOWN_BY_KEY,
        [record.body.client for record in records],
        [record.event for record in records],
        [record.payload.key for record in records],
    )
    if not rows:
        return {}
    met = {records[row["n"] - 1].id: row for row in rows}
    # A booking and its duplicate may share the batch, and then the payment key.
    keys = {record.id: record.payment_key for record in records if record.id in met and record.payment_key}
    payments = {
        row["payment_key"]: PaymentRow(
            row["status"], row["reference"], row["failure_code"], row["next_action"], row["age_ms"]
        )
        for row in await connection.fetch(_PAYMENTS, list(dict.fromkeys(keys.values())))
    }
    return {
        booking: Known(
            row["id"], row["status"], row["failure_code"], row["was_sold"], row["fingerprint"],
            payments.get(keys.get(booking, "")),
        )
        for booking, row in met.items()
    }  # fmt: skip


async def lock_inventory(connection: Connection, tiers: Iterable[str]) -> dict[str, int]:
    """Lock the tiers' rows in tier order; what each can still sell, below 0 when its event is called off. From here on nobody
    else sells them."""
    rows = await connection.fetch(_LOCK_INVENTORY, list(tiers))
    return {row["tier_id"]: row["left"] for row in rows}


async def vouch(connection: Connection, kin: set[Kin], known: set[Kin]) -> None:
    """Check that every client, event and tier of the batch exists, and add them to `known`: none is ever deleted.

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


async def recheck(connection: Connection, records: list[Record], known: Mapping[str, Known]) -> None:
    """Under the lock: has anybody moved one of the bookings that PostgreSQL knew, or its payment, since we looked? (A hold
    may have been paid again meanwhile: then its booking is pending as before, but our payment is over.) For a booking
    that PostgreSQL did not know, its indexes tell when it is written.

    Raises `Raced`.
    """
    met = [(record, row) for record in records if (row := known.get(record.id)) is not None and row.id == record.id]
    if not met:
        return
    rows = await connection.fetch(_RECHECK, [record.id for record, _ in met], [record.payment_key for record, _ in met])
    seen = {row["id"]: (row["status"], row["payment"]) for row in rows}
    for record, row in met:
        if seen.get(record.id) != (row.status, row.payment.status if row.payment else None):
            raise Raced


async def write(connection: Connection, decisions: list[Decision], gateway: str, lease_ms: int) -> int | None:
    """Bookings, items and payments as it was decided, with what is due at the gateway.

    Returns the row in `captures` that lists what is to be captured, if anything is. Raises `Raced` when a booking or a key
    turns out to be taken.
    """
    new, again, duplicates = [], [], []
    payments: list[tuple[Claimed, PaymentChange]] = []
    due = []
    for decision in decisions:
        standing, payment = decision.standing, decision.payment
        if standing is NEW:
            new.append(decision)
        elif standing is DUPLICATE:
            duplicates.append(decision)
        elif standing is OPEN:
            again.append(decision)
        else:
            continue
        if payment is not None:
            if payment.due == "capture":
                due.append(decision.claim.record.payment_key)
            if standing is OPEN or payment.due == "void":
                # What is to be let go is claimed by itself, from a time on.
                payments.append((decision.claim, payment))
    if new:
        await _copy_new(connection, new, gateway)
    if duplicates:
        await _insert_duplicates(connection, duplicates)
    if again:
        await connection.execute(
            _UPDATE_BOOKINGS,
            [decision.claim.record.id for decision in again],
            [decision.status for decision in again],
            [decision.failure for decision in again],
            # It may have been extended since it was written.
            [decision.claim.record.deadline_ms for decision in again],
        )
    if payments:
        await _upsert_payments(connection, payments, gateway, lease_ms)
    return await connection.fetchval(_LIST_CAPTURES, due, lease_ms) if due else None


async def _copy_new(connection: Connection, decisions: list[Decision], gateway: str) -> None:
    """Bookings that PostgreSQL has never seen, by COPY: for rows as short as ours that is half of an INSERT's CPU there,
    and one pass over the batch here."""
    bookings, items, payments = [], [], []
    for decision in decisions:
        record, payment = decision.claim.record, decision.payment
        body, payload = record.body, record.payload
        booking, amount, currency = record.id, body.amount_cents, word(body.currency)
        bookings.append(
            f"{booking}\t{word(body.client)}\t{word(record.event)}\t{as_text(body.customer)}\t{as_text(body.reference)}\t"
            f"{decision.status}\t{amount}\t{currency}\t{as_text(payload.key)}\t{record.fingerprint}\t"
            f"{word(decision.failure)}\t{record.sequence}\t{time_text(record.deadline_ms)}\t{time_text(record.admitted_ms)}\n"
        )
        for line in body.lines:
            quantity, price = line.quantity, line.unit_price_cents
            items.append(f"{booking}\t{word(line.tier)}\t{quantity}\t{price}\t{quantity * price}\n")
        if payment is not None and payment.due != "void":
            charge = payload.charge
            how = (
                f"{word(charge.method)}\t{as_text(charge.card_name)}\t{word(charge.last4)}\t{as_text(charge.token)}"
                if charge
                else _NO_CHARGE
            )
            payments.append(
                f"{record.payment_key}\t{booking}\t{gateway}\t{how}\t{amount}\t{currency}\t{payment.status}\t"
                f"{as_text(payment.reference)}\t{word(payment.failure_code)}\t{as_text(payment.next_action)}\t"
                f"{word(payment.due)}\n"
            )
    try:
        await _copy(connection, "bookings", _BOOKING_COLUMNS, bookings)
    except asyncpg.UniqueViolationError as error:
        raise Raced from error
    await _copy(connection, "booking_items", _ITEM_COLUMNS, items)
    if payments:
        await _copy(connection, "payments", _PAYMENT_COLUMNS, payments)


async def _copy(connection: Connection, table: str, columns: tuple[str, ...], lines: list[str]) -> None:
    text: Any = memoryview("".join(lines).encode())
    await connection.copy_to_table(table, source=text, columns=columns)


_ODD: Final = re.compile(r"[\\\t\n\r]").search
_ESCAPES: Final = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})


def as_text(value: str | None) -> str:
    """A field in the text format of COPY."""
    if value is None:
        return r"\N"
    return value.translate(_ESCAPES) if _ODD(value) else value


word: Final = lru_cache(4_096)(as_text)
"""The same for what many bookings have in common."""


_NO_CHARGE: Final = "card\t\\N\t\\N\t\\N"
"""Method, name, digits and token of a payment that nobody remembers."""


def time_text(ms: int) -> str:
    """A time, or NULL for none."""
    return f"{_second(ms // 1_000)}.{ms % 1_000:03d}+00" if ms else r"\N"


@lru_cache(4_096)
def _second(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}"


async def _insert_duplicates(connection: Connection, decisions: list[Decision]) -> None:
    """Bookings whose key was used before. A worker that died before Redis heard of it may have written them."""
    records = [decision.claim.record for decision in decisions]
    bodies = [record.body for record in records]
    await connection.execute(
        _INSERT_DUPLICATES,
        [record.id for record in records],
        [body.client for body in bodies],
        [record.event for record in records],
        [body.customer for body in bodies],
        [body.reference for body in bodies],
        [decision.status for decision in decisions],
        [body.amount_cents for body in bodies],
        [body.currency for body in bodies],
        [record.payload.key for record in records],
        [record.fingerprint for record in records],
        [decision.duplicate_of for decision in decisions],
        [decision.failure for decision in decisions],
        [record.sequence for record in records],
        [record.deadline_ms for record in records],
        [record.admitted_ms for record in records],
    )
    # Whose key another request had used is a booking in its own right, though a failed one.
    lines = [
        (decision.claim.record.id, line)
        for decision in decisions
        if decision.failure == KEY_REUSED
        for line in decision.claim.record.body.lines
    ]
    if lines:
        await connection.execute(
            _INSERT_ITEMS,
            [booking for booking, _ in lines],
            [line.tier for _, line in lines],
            [line.quantity for _, line in lines],
            [line.unit_price_cents for _, line in lines],
        )


async def _upsert_payments(
    connection: Connection, payments: list[tuple[Claimed, PaymentChange]], gateway: str, lease_ms: int
) -> None:
    records = [claim.record for claim, _ in payments]
    changes = [change for _, change in payments]
    charges = [record.payload.charge for record in records]
    await connection.execute(
        _UPSERT_PAYMENTS,
        [record.payment_key for record in records],
        [record.id for record in records],
        [charge.method if charge else "card" for charge in charges],
        [charge.card_name if charge else None for charge in charges],
        [charge.last4 if charge else None for charge in charges],
        [charge.token if charge else None for charge in charges],
        [record.body.amount_cents for record in records],
        [record.body.currency for record in records],
        [change.status for change in changes],
        [change.reference for change in changes],
        [change.failure_code for change in changes],
        [change.next_action for change in changes],
        [change.due for change in changes],
        lease_ms,
        gateway,
    )


_PARAMETER: Final = re.compile(r"\$\d+")


async def touch(connection: Connection) -> None:
    """Run what `write` would not run for a new booking, for no row at all: that shows rights, tables and columns."""
    await lock_inventory(connection, ())
    for statement in (_KIN, _RECHECK, _UPDATE_BOOKINGS, _SELL):
        await connection.execute(statement, *([],) * len(set(_PARAMETER.findall(statement))))
    await _insert_duplicates(connection, [])
    await _upsert_payments(connection, [], "", 0)


async def sell(connection: Connection, sold: dict[str, int]) -> None:
    """Count tickets as sold. The table's checks would refuse a sale beyond the total: that is a bug alarm."""
    if sold:
        await connection.execute(_SELL, list(sold), list(sold.values()))
