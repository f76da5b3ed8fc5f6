"""What PostgreSQL knows of bookings, as a Redis record would say it. Queries of reconcile and rebuild; they change nothing.

One file because each answer is built by the same few readers of rows.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg

from boxoffice import ids
from boxoffice.books.items import SOLD_ITEMS, WAS_SOLD
from boxoffice.states import DUPLICATE_OF, FINAL, LETTERS
from boxoffice.stores.database import Connection
from boxoffice.stores.record import (
    Attempt,
    Body,
    Charge,
    Line,
    Outcome,
    Payload,
    Record,
    earlier_after,
    key_after,
    metadata_from,
    pack_items,
    pack_payload,
)

__all__ = [
    "Ending",
    "events_of_final",
    "final_endings",
    "final_ends",
    "finals",
    "finals_of",
    "finals_since",
    "highest_sequence",
    "undecided",
]


CHUNK: Final = 5_000
"""Bookings read at once: some 5 MB."""

_LATEST_PAYMENT = """
LEFT JOIN LATERAL (
    SELECT payment_key, method, card_name, last4, token, status AS payment_status, reference AS payment_reference,
           p.failure_code AS payment_failure, next_action, count(*) OVER () AS tries
    FROM payments p WHERE p.booking_id = b.id ORDER BY p.created_at DESC, p.payment_key LIMIT 1
) pay ON true
"""

_ENDINGS = f"""
SELECT b.id, b.status, b.idempotency_key, b.failure_code, b.duplicate_of, payment_key, method, last4, payment_status,
       payment_reference, payment_failure, next_action, {WAS_SOLD} AS was_sold
FROM bookings b {_LATEST_PAYMENT}
WHERE b.id = ANY($1::uuid[]) AND b.status NOT IN ('pending', 'held')
"""

_COLUMNS = """
b.id::text AS id, b.client_id, b.event_id, b.customer_id, b.owner, b.reference, b.status, b.amount_cents, b.currency,
b.idempotency_key, b.fingerprint, b.duplicate_of, b.failure_code, b.sequence, b.metadata, b.return_url, b.access_code,
(1000 * extract(epoch FROM least(b.created_at, now())))::bigint AS admitted_ms,
coalesce((1000 * extract(epoch FROM b.expires_at))::bigint, 0) AS deadline_ms,
extract(epoch FROM now() - b.updated_at)::int AS age_s
"""
"""Nobody was admitted later than now: of a time when Redis's clock was ahead, `created_at` tells what it said then."""

_UNDECIDED = f"""
SELECT {_COLUMNS} FROM bookings b JOIN events e ON e.id = b.event_id
WHERE b.status IN ('pending', 'held') AND e.shard = $1 AND b.updated_at < now() - $2 * interval '1 millisecond'
  AND b.id > $3::uuid
ORDER BY b.id LIMIT {CHUNK}
"""

_FINALS = f"""
SELECT {_COLUMNS} FROM bookings b JOIN events e ON e.id = b.event_id
WHERE b.id > $3::uuid AND e.shard = $1 AND b.status NOT IN ('pending', 'held') AND b.duplicate_of IS NULL
  AND b.updated_at > now() - $2 * interval '1 second'
ORDER BY b.id LIMIT {CHUNK}
"""

_FINAL_ENDS = f"""
SELECT b.id::text AS id, b.status, {SOLD_ITEMS} AS items
FROM bookings b WHERE b.id = ANY($1::uuid[]) AND b.status NOT IN ('pending', 'held')
"""

_FINALS_OF = f"""
SELECT {_COLUMNS} FROM bookings b
WHERE b.id = ANY($1::uuid[]) AND b.status NOT IN ('pending', 'held') AND b.duplicate_of IS NULL
"""

_FINALS_SINCE = """
SELECT b.id::text AS id FROM bookings b JOIN events e ON e.id = b.event_id
WHERE b.id > $3::uuid AND e.shard = $1 AND b.status NOT IN ('pending', 'held') AND b.updated_at >= $2
UNION
SELECT m.booking_id::text FROM stock_moves m JOIN events e ON e.id = m.event_id
WHERE e.shard = $1 AND m.booking_id IS NOT NULL AND (m.created_at >= $2 OR m.applied_at >= $2 OR m.applied_at IS NULL)
"""

_ITEMS = """
SELECT booking_id::text AS booking, tier_id, quantity, unit_price_cents
FROM booking_items WHERE booking_id = ANY($1::uuid[]) ORDER BY booking_id, tier_id
"""

_PAYMENTS = """
SELECT booking_id::text AS booking, payment_key, method, card_name, last4, token, status AS payment_status,
       reference AS payment_reference, failure_code AS payment_failure, next_action
FROM payments WHERE booking_id = ANY($1::uuid[]) ORDER BY created_at, payment_key DESC
"""

_HIGHEST = """
SELECT max(sequence) FROM (
    SELECT b.sequence FROM bookings b JOIN events e ON e.id = b.event_id
    WHERE e.shard = $1 AND b.id > $2::uuid ORDER BY b.id DESC LIMIT 10000) latest
"""


class Ending:
    """How a final booking counts in Redis (C: sold, else back on sale), its state there, its items, body and payload."""

    __slots__ = ("body", "counted", "items", "payload", "state")

    def __init__(self, row: asyncpg.Record, record: Record | None) -> None:
        """`record`: as PostgreSQL has it. What it has no items of, such as a duplicate, keeps what its record in Redis says."""
        self.state = LETTERS[row["status"]]
        # A cancelled booking that was sold came back as a stock move; its tickets must not come back twice.
        self.counted = "C" if self.state == "X" and row["was_sold"] else self.state
        self.payload = pack_payload(
            Payload(None, _outcome(row), _failure(row), key_after(self.state, row["idempotency_key"]))
        )
        self.items, self.body = "", b""
        if record is not None and record.items:
            self.items, self.body = record.items, record.pack().split(b"\n")[1]

    @property
    def end(self) -> bytes:
        """What a record is to say, as correct.lua takes it behind the state."""
        return b"%s|%s\n%s" % (self.items.encode(), self.body, self.payload)

    @property
    def fact(self) -> bytes:
        """As reconcile.lua takes it."""
        return f"{self.counted}|{self.state}|".encode() + self.end


async def final_endings(connection: Connection, booking_ids: Sequence[str]) -> dict[str, Ending]:
    """Those of the bookings that PostgreSQL has decided for good, with the decision."""
    endings = {}
    for start in range(0, len(booking_ids), CHUNK):
        rows = await connection.fetch(_ENDINGS, booking_ids[start : start + CHUNK])
        records = {record.id: record for record in await finals_of(connection, [row["id"] for row in rows])}
        endings.update({str(row["id"]): Ending(row, records.get(str(row["id"]))) for row in rows})
    return endings


async def undecided(connection: Connection, shard: int, older_than_ms: int = 0) -> AsyncIterator[list[Record]]:
    """Bookings that wait for a payment's outcome, or for another payment, in chunks."""
    last = str(UUID(int=0))
    while rows := await connection.fetch(_UNDECIDED, shard, older_than_ms, last):
        yield await _records(connection, rows)
        last = rows[-1]["id"]


async def finals(connection: Connection, shard: int, life_s: int) -> AsyncIterator[list[tuple[int, Record]]]:
    """Bookings that became final within the life of a record, each with the seconds it has left, in chunks."""
    now_ms = await connection.fetchval("SELECT (1000 * extract(epoch FROM now()))::bigint")
    # Ids begin with their time, so the primary key finds the recent ones. An hour more: other hosts' clocks, old holds.
    last = str(UUID(int=max(0, now_ms - 1_000 * (life_s + 3_600)) << 80))
    while rows := await connection.fetch(_FINALS, shard, life_s, last):
        lives = [max(1, life_s - row["age_s"]) for row in rows]
        yield list(zip(lives, await _records(connection, rows), strict=True))
        last = rows[-1]["id"]


async def finals_of(connection: Connection, booking_ids: Sequence[str]) -> list[Record]:
    """Those of the bookings that PostgreSQL has decided for good, without duplicates."""
    return await _records(connection, await connection.fetch(_FINALS_OF, booking_ids))


async def finals_since(connection: Connection, shard: int, since: datetime) -> list[str]:
    """Bookings of the last hour that became final since then, and any whose tickets came back since then: what a Redis
    of that time may call something else."""
    last = UUID(int=max(0, int(since.timestamp() * 1_000) - 3_600_000) << 80)
    rows = await connection.fetch(_FINALS_SINCE, shard, since, last)
    return [row["id"] for row in rows]


async def final_ends(connection: Connection, booking_ids: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Those of the bookings that PostgreSQL has decided for good, with their statuses, and the items of those holds that
    were sold, as a record has them: of any other booking they never change, or count for nothing."""
    rows = await connection.fetch(_FINAL_ENDS, booking_ids)
    return {row["id"]: (row["status"], row["items"] or "") for row in rows}


async def highest_sequence(connection: Connection, shard: int) -> int:
    """The highest sequence among the shard's latest bookings of the last hour, 0 without any: Redis cannot be below."""
    now_ms = await connection.fetchval("SELECT (1000 * extract(epoch FROM now()))::bigint")
    return await connection.fetchval(_HIGHEST, shard, UUID(int=(now_ms - 3_600_000) << 80)) or 0


async def events_of_final(connection: Connection, booking_ids: Sequence[str]) -> list[str]:
    """Events of those of the bookings that PostgreSQL has decided for good."""
    rows = await connection.fetch(
        "SELECT DISTINCT event_id FROM bookings WHERE id = ANY($1::uuid[]) AND status NOT IN ('pending', 'held')",
        booking_ids,
    )
    return [row["event_id"] for row in rows]


async def _records(connection: Connection, rows: list[asyncpg.Record]) -> list[Record]:
    booking_ids = [row["id"] for row in rows]
    lines: dict[str, list[Line]] = {booking: [] for booking in booking_ids}
    for booking, tier, quantity, price in await connection.fetch(_ITEMS, booking_ids):
        lines[booking].append(Line(tier, quantity, price))
    payments: dict[str, list[asyncpg.Record]] = {}
    for payment in await connection.fetch(_PAYMENTS, booking_ids):
        payments.setdefault(payment["booking"], []).append(payment)
    return [record_from(row, tuple(lines[row["id"]]), payments.get(row["id"], [])) for row in rows]


def record_from(row: asyncpg.Record, lines: tuple[Line, ...], payments: list[asyncpg.Record]) -> Record:
    payment = payments[-1] if payments else None
    client, event, key, customer = row["client_id"], row["event_id"], row["idempotency_key"], row["customer_id"]
    state = LETTERS[row["status"]]
    charge = None
    if state == "P" and payment is not None:
        charge = Charge(payment["method"], payment["token"] or "", payment["card_name"], payment["last4"])
    return Record(
        row["id"],
        state,
        row["sequence"],
        row["admitted_ms"],
        row["deadline_ms"],
        payment["payment_key"] if payment is not None else "",
        ids.scope(client, event, key),
        row["fingerprint"],
        event,
        row["owner"] or ids.owner_digest(client, customer),
        pack_items(lines),
        str(len(payments)),
        Body(
            client,
            customer,
            row["amount_cents"],
            row["currency"],
            lines,
            row["reference"],
            metadata_from(row["metadata"]),
            row["return_url"],
            row["access_code"],
        ),
        Payload(
            charge,
            _outcome(payment) if payment is not None else None,
            _failure(row) if state in FINAL else None,
            key_after(state, key),
            _fingerprint(payment) if payment is not None and row["deadline_ms"] else "",
            earlier_after(state, tuple(attempt_from(each) for each in payments[:-1])),
            row["owner"] or "",
        ),
    )


def _fingerprint(payment: asyncpg.Record) -> str:
    """The fingerprint of a hold's payment; "" when its row does not tell."""
    card = payment["last4"] or payment["token"]
    return ids.payment_fingerprint(payment["method"], card) if card else ""


def attempt_from(payment: asyncpg.Record) -> Attempt:
    return Attempt(payment["payment_key"], _fingerprint(payment), _outcome(payment) or Outcome("failed"))


def _outcome(row: asyncpg.Record) -> Outcome | None:
    if row["payment_status"] is None:
        return None
    return Outcome(
        row["payment_status"],
        row["method"],
        row["last4"],
        row["payment_reference"],
        row["payment_failure"],
        row["next_action"],
    )


def _failure(row: asyncpg.Record) -> str | None:
    return f"{DUPLICATE_OF}{row['duplicate_of']}" if row["failure_code"] == "duplicate" else row["failure_code"]
