"""Exports for accounting and analysis: every booking, payment or refund, row by row, in bounded memory.

One statement in one read-only snapshot, fetched through a server-side cursor: what is written meanwhile is in no row, no
sale waits, and neither this process nor PostgreSQL ever holds the whole result.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec

from boxoffice.backoffice.snapshots import snapshot
from boxoffice.backoffice.spreadsheets import csv_lines
from boxoffice.currencies import decimal
from boxoffice.settings import Settings

__all__ = ["EXPORTS", "Chosen", "Part", "export"]

CHUNK: Final = 2_000
"""Rows fetched and written at once: about a megabyte."""

_ITEMS_JSON: Final = """
(SELECT json_agg(json_build_object('tier_id', i.tier_id, 'code', t.code, 'quantity', i.quantity, 'refunded', i.refunded,
 'unit_price_cents', i.unit_price_cents) ORDER BY t.display_order, i.tier_id)::text
 FROM booking_items i JOIN tiers t ON t.id = i.tier_id WHERE i.booking_id = b.id)
"""

_ITEMS_TEXT: Final = """
(SELECT string_agg(t.code || ':' || i.quantity, ' ' ORDER BY t.display_order, i.tier_id)
 FROM booking_items i JOIN tiers t ON t.id = i.tier_id WHERE i.booking_id = b.id)
"""

_BOOKINGS: Final = """
SELECT b.id::text AS booking_id, b.client_id, b.event_id, e.name AS event, b.customer_id, b.reference, b.status,
       b.failure_code, {items} AS items, b.currency, b.amount_cents, coalesce(p.refunded_cents, 0) AS refunded_cents,
       p.status AS payment_status, p.method, p.last4, p.reference AS payment_reference, b.metadata, b.created_at, b.updated_at
FROM bookings b LEFT JOIN events e ON e.id = b.event_id LEFT JOIN LATERAL (
  SELECT * FROM payments WHERE booking_id = b.id ORDER BY created_at DESC, payment_key LIMIT 1
) p ON true
WHERE b.duplicate_of IS NULL AND {where} ORDER BY b.id
"""

_PAYMENTS: Final = """
SELECT x.payment_key, b.id::text AS booking_id, b.client_id, b.event_id, x.status, x.due, x.method, x.last4, x.currency,
       x.amount_cents, x.refunded_cents, x.gateway, x.reference, x.failure_code, x.created_at, x.updated_at
FROM payments x JOIN bookings b ON b.id = x.booking_id WHERE {where} ORDER BY x.booking_id, x.payment_key
"""

_REFUNDS: Final = """
SELECT x.refund_key, b.id::text AS booking_id, b.client_id, b.event_id, x.payment_key, x.status, x.currency, x.amount_cents,
       x.reason, x.origin, x.reference, x.failure_code, x.owed_since, x.written_off_at, x.written_off_by,
       x.written_off_reason, x.created_at, x.updated_at
FROM refunds x JOIN bookings b ON b.id = x.booking_id WHERE {where} ORDER BY x.created_at, x.refund_key
"""

_COUNT: Final = {
    "bookings": "SELECT count(*) FROM bookings b WHERE b.duplicate_of IS NULL AND {where}",
    "payments": "SELECT count(*) FROM payments x JOIN bookings b ON b.id = x.booking_id WHERE {where}",
    "refunds": "SELECT count(*) FROM refunds x JOIN bookings b ON b.id = x.booking_id WHERE {where}",
}

EXPORTS: Final = {"bookings": (_BOOKINGS, "b"), "payments": (_PAYMENTS, "x"), "refunds": (_REFUNDS, "x")}
"""What can be exported: its statement, and the name in it of the table whose time is bounded."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """What of it: None for all. Times are those at which a booking was admitted, a payment or refund begun."""

    events: Sequence[str] | None = None
    client: str | None = None
    since: datetime | None = None
    until: datetime | None = None


class Part(NamedTuple):
    """Some rows as text, and how many; the first part is the heading of CSV, with none."""

    text: str
    rows: int


async def export(
    settings: Settings, what: str, form: str, chosen: Chosen, counted: Callable[[int], None] | None = None
) -> AsyncGenerator[Part, None]:
    """The rows of `bookings`, `payments` or `refunds` as `csv` or `jsonl` (one JSON object a line), in a fixed order.

    `counted` is told once how many rows there will be; without it nobody counts. Raises PostgreSQL's errors.
    """
    query, table = EXPORTS[what]
    conditions, values = _conditions(chosen, table)
    where = " AND ".join(conditions)
    statement = query.format(where=where, items=_ITEMS_TEXT if form == "csv" else _ITEMS_JSON)
    async with snapshot(settings) as connection:
        if counted is not None:
            counted(await connection.fetchval(_COUNT[what].format(where=where), *values))
        prepared = await connection.prepare(statement)
        names = [attribute.name for attribute in prepared.get_attributes()]
        if form == "csv":
            yield Part(csv_lines([[name.removesuffix("_cents") for name in names]]), 0)
        write = _csv_of(names) if form == "csv" else _json_lines
        cursor = await prepared.cursor(*values)
        while rows := await cursor.fetch(CHUNK):
            yield Part(write(rows), len(rows))


def _conditions(chosen: Chosen, table: str) -> tuple[list[str], list[Any]]:
    bounds = {
        "b.event_id = ANY(${}::text[])": chosen.events,
        "b.client_id = ${}": chosen.client,
        f"{table}.created_at >= ${{}}": chosen.since,
        f"{table}.created_at < ${{}}": chosen.until,
    }
    given = [(condition, value) for condition, value in bounds.items() if value is not None]
    return ["true", *(each.format(at) for at, (each, _) in enumerate(given, 1))], [value for _, value in given]


def _csv_of(names: list[str]) -> Callable[[Sequence[Any]], str]:
    """Writes rows with these columns. Amounts are in whole units of the row's currency."""
    money = frozenset(at for at, name in enumerate(names) if name.endswith("_cents"))
    currency = names.index("currency")

    def cells(row: Any) -> list[Any]:
        return [
            decimal(cell, row[currency]) if at in money else _time(cell) if isinstance(cell, datetime) else cell
            for at, cell in enumerate(row)
        ]

    return lambda rows: csv_lines(map(cells, rows), plain=money)


def _json_lines(rows: Sequence[Any]) -> str:
    return "".join(f"{_json(_object(row)).decode()}\n" for row in rows)


_json = msgspec.json.Encoder().encode


def _object(row: Any) -> dict[str, Any]:
    found = {name: _time(cell) if isinstance(cell, datetime) else cell for name, cell in row.items()}
    for name, empty in (("items", "[]"), ("metadata", "{}")):
        if name in found:
            found[name] = msgspec.Raw((found[name] or empty).encode())
    return found


def _time(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
