"""The settling transaction's statements: fixed texts with array parameters, so that each keeps one prepared plan.

Inventory rows are locked first and in tier order, in every transaction that sells: two batches that share tiers wait for
each other instead of deadlocking.

One file because the statements run in one order, which is that of their locks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, TypeAlias

from boxoffice.books.copying import Raced, copy_new
from boxoffice.books.decisions import DUPLICATE, NEW, OPEN, Claimed, Decision, Known, PaymentChange, PaymentRow
from boxoffice.books.inserting import insert_duplicates
from boxoffice.books.inventory import SELL, lock_inventory, sell
from boxoffice.books.items import REWRITING, SOLD_ITEMS, WAS_SOLD, rewrite_items
from boxoffice.books.notices import Groups, group_changed, group_of, group_up, list_and_notify
from boxoffice.stores.database import Connection
from boxoffice.stores.record import Record

__all__ = [
    "Orphan",
    "Raced",
    "Triple",
    "known_by_key",
    "lock_inventory",
    "recheck",
    "sell",
    "touch",
    "vouch",
    "write",
]


Triple: TypeAlias = tuple[str, str, str]
"""Client, event and tier that a booking names."""

TRIPLES_MAX: Final = 20_000
"""Remembered in one process, some 5 MB; then it is asked anew."""


NOBODY: Final[Mapping[str, Known]] = MappingProxyType({})
"""PostgreSQL knows none of them."""


class Orphan(Exception):
    """A booking names a client or a tier that PostgreSQL does not have, or a tier of another event."""


KNOWN_BY_KEY = f"""
SELECT used.n, b.id::text AS id, b.status, b.failure_code, b.fingerprint,
       b.status = 'cancelled' AND {WAS_SOLD} AS was_sold,
       {SOLD_ITEMS} AS items
FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS used (client, event, key, n)
CROSS JOIN LATERAL (
  SELECT id, status, failure_code, fingerprint, expires_at FROM bookings
  WHERE idempotency_key = used.key AND client_id || '' = used.client AND event_id || '' = used.event
    AND duplicate_of IS NULL
  LIMIT 1) AS b
"""
"""LIMIT keeps it one index look-up a key: as a join, with statistics of an empty table, it read the whole sale. An expression
can be looked up in no index: with such statistics the planner took the event's or the client's, and read the whole sale."""

ANY_BY_KEY = """
SELECT true FROM unnest($1::text[]) AS used (key)
CROSS JOIN LATERAL (SELECT FROM bookings WHERE idempotency_key = used.key AND duplicate_of IS NULL LIMIT 1) AS b
LIMIT 1
"""
"""Whether one of these keys was used by anybody, for whatever event. Of nearly every batch none was: then that is all that is
used, with one array instead of three."""

_PAYMENTS = """
SELECT payment_key, status, reference, failure_code, next_action,
       (1000 * extract(epoch FROM now() - created_at))::bigint AS age_ms
FROM payments WHERE payment_key = ANY($1::text[])
"""

_TRIPLES = """
SELECT client, event, tier FROM unnest($1::text[], $2::text[], $3::text[]) AS used (client, event, tier)
JOIN clients c ON c.id = used.client JOIN tiers t ON t.id = used.tier AND t.event_id = used.event
"""

_RECHECK = """
SELECT b.id::text AS id, b.status, p.status AS payment
FROM unnest($1::uuid[], $2::text[]) AS used (id, payment_key)
JOIN bookings b ON b.id = used.id LEFT JOIN payments p ON p.payment_key = used.payment_key
"""

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
RETURNING payment_key
"""


async def known_by_key(connection: Connection, records: list[Record]) -> dict[str, Known]:
    """Booking id asked for, to what PostgreSQL has under its (client, event, key): itself, or who came first."""
    used = [record.payload.key for record in records]
    if not await connection.fetchval(ANY_BY_KEY, used):
        return {}
    clients, events = [record.body.client for record in records], [record.event for record in records]
    rows = await connection.fetch(KNOWN_BY_KEY, clients, events, used)
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
            payments.get(keys.get(booking, "")), row["items"] or "",
        )
        for booking, row in met.items()
    }  # fmt: skip


async def vouch(connection: Connection, triples: set[Triple], known: set[Triple]) -> None:
    """Check that every client, event and tier of the batch exists, and add them to `known`: none is ever deleted.

    Foreign keys would look it up anew for each booking, and lock the same three rows for it: a sixth of the transaction's
    CPU. Raises `Orphan`.
    """
    new = list(triples - known)
    if not new:
        return
    found = {tuple(row) for row in await connection.fetch(_TRIPLES, *map(list, zip(*new, strict=True)))}
    if len(found) != len(new):
        raise Orphan
    if len(known) > TRIPLES_MAX:
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


async def write(
    connection: Connection, decisions: list[Decision], gateway: str, lease_ms: int, known: Mapping[str, Known] = NOBODY
) -> int | None:  # fmt: skip
    """Bookings, items and payments as it was decided, with what is due at the gateway, and what shops are told of them. `known`
    is what PostgreSQL had of the bookings: what has not changed since is not told again.

    Returns the row in `captures` that lists what is to be captured, if anything is. Raises `Raced` when a booking or a key
    turns out to be taken, or decided.
    """
    new, again, duplicates, others = [], [], [], []
    payments: list[tuple[Claimed, PaymentChange]] = []
    due = []
    groups: Groups = {}
    client = event = ""
    ids, keys = list[str](), list[str]()
    for decision in decisions:
        standing, payment, record = decision.standing, decision.payment, decision.claim.record
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
                due.append(record.payment_key)
                if standing is NEW:
                    # Nearly all of a batch: of one shop and event they have one group.
                    if record.event != event or record.body.client != client:
                        client, event = record.body.client, record.event
                        ids, keys = groups.setdefault(group_of(decision), ([], []))
                    ids.append(record.id)
                    keys.append(record.payment_key)
                    continue
            if standing is OPEN or payment.due == "void":
                # What is to be let go is claimed by itself, from a time on.
                payments.append((decision.claim, payment))
                others.append(decision)
                continue
        if standing is NEW:
            group_up(groups, group_of(decision), record.id, record.payment_key)
        else:
            others.append(decision)
    inserted, rewritten, paid = set[str](), set[str](), set[str]()
    if new:
        await copy_new(connection, new, gateway)
    if duplicates:
        inserted = await insert_duplicates(connection, duplicates)
    if again:
        written = await connection.execute(
            _UPDATE_BOOKINGS,
            [decision.claim.record.id for decision in again],
            [decision.status for decision in again],
            [decision.failure for decision in again],
            [decision.claim.record.deadline_ms for decision in again],
        )
        if written != f"UPDATE {len(again)}":
            # Decided since it was looked at again, by somebody who claimed it with other tiers and so has locked others.
            raise Raced
        # A hold may have been changed since it was written, or extended; and a Redis that went back may have it as it was
        # before a change that it does not remember: what Redis counts is what is sold.
        rewritten = {
            *await rewrite_items(
                connection, [decision.claim.record for decision in again if decision.claim.record.deadline_ms]
            )
        }
    if payments:
        paid = await _upsert_payments(connection, payments, gateway, lease_ms)
    for decision in others:
        if decision.standing is not DUPLICATE or decision.claim.record.id in inserted:
            group_changed(groups, decision, known, paid, rewritten)
    return await list_and_notify(connection, groups, due, lease_ms)


async def _upsert_payments(
    connection: Connection, payments: list[tuple[Claimed, PaymentChange]], gateway: str, lease_ms: int
) -> set[str]:
    """Returns the keys of those that were undecided, and so were written."""
    records = [claim.record for claim, _ in payments]
    changes = [change for _, change in payments]
    charges = [record.payload.charge for record in records]
    rows = await connection.fetch(
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
    return {row["payment_key"] for row in rows}


_PARAMETER: Final = re.compile(r"\$\d+")


async def touch(connection: Connection) -> None:
    """Run what `write` would not run for a new booking, for no row at all: that shows rights, tables and columns."""
    await lock_inventory(connection, ())
    for statement in (_TRIPLES, _RECHECK, _UPDATE_BOOKINGS, *REWRITING, SELL):
        await connection.execute(statement, *([],) * len(set(_PARAMETER.findall(statement))))
    await insert_duplicates(connection, [])
    await _upsert_payments(connection, [], "", 0)
