"""The columns of a booking and of its items as they are written first, once for every way to write them: COPY for what a
settlement has never seen, INSERT for what it may have, and for what PostgreSQL had forgotten."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from boxoffice.stores.record import Body, Line, Record

__all__ = [
    "COPIED_BOOKING",
    "COPIED_ITEM",
    "EXTRAS",
    "INSERT_BOOKINGS",
    "INSERT_ITEMS",
    "BookingRow",
    "booking_arrays",
    "item_arrays",
    "metadata_text",
]

_BOOKING: Final = {
    "id": "uuid", "client_id": "text", "event_id": "text", "customer_id": "text", "reference": "text", "status": "text",
    "amount_cents": "bigint", "currency": "text", "idempotency_key": "text", "fingerprint": "text",
    "duplicate_of": "uuid", "failure_code": "text", "sequence": "bigint", "expires_at": "bigint", "created_at": "bigint",
    "access_code": "text",
    "metadata": "jsonb", "return_url": "text",
}  # fmt: skip
_ITEM: Final = {
    "booking_id": "uuid", "tier_id": "text", "quantity": "int", "unit_price_cents": "int", "refunded": "int",
}  # fmt: skip
"""Columns, in the order of the arrays, and the type of each array. Times are epoch milliseconds, 0 for none."""

EXTRAS: Final = ("metadata", "return_url")
"""What few bookings have."""

COPIED_BOOKING: Final = tuple(column for column in _BOOKING if column not in ("duplicate_of", *EXTRAS))
"""Whoever is copied repeats nobody."""

COPIED_ITEM: Final = ("booking_id", "tier_id", "quantity", "unit_price_cents", "line_total_cents")
"""Of nothing that is copied anything came back."""


def _new(columns: dict[str, str]) -> str:
    arrays = ", ".join(f"${at}::{kind}[]" for at, kind in enumerate(columns.values(), 1))
    return f"unnest({arrays}) AS new ({', '.join(columns)})"


INSERT_BOOKINGS: Final = f"""
INSERT INTO bookings ({", ".join(_BOOKING)})
SELECT id, client_id, event_id, customer_id, reference, status, amount_cents, currency, idempotency_key, fingerprint,
       duplicate_of, failure_code, sequence, to_timestamp(nullif(expires_at, 0) / 1000.0),
       to_timestamp(created_at / 1000.0), access_code, metadata, return_url
FROM {_new(_BOOKING)}
"""
"""Without what is to be done about those that are there."""

INSERT_ITEMS: Final = f"""
INSERT INTO booking_items ({", ".join(_ITEM)}, line_total_cents)
SELECT booking_id, tier_id, quantity, unit_price_cents, refunded, quantity::bigint * unit_price_cents
FROM {_new(_ITEM)}
"""


class BookingRow(NamedTuple):
    """A record, and what is written of it that it does not say."""

    record: Record
    status: str
    failure: str | None
    duplicate_of: str | None
    key: str
    """Digest of its idempotency key."""


def booking_arrays(rows: Sequence[BookingRow]) -> list[list[Any]]:
    """The arrays of `INSERT_BOOKINGS`."""
    records = [row.record for row in rows]
    bodies = [record.body for record in records]
    return [
        [record.id for record in records],
        [body.client for body in bodies],
        [record.event for record in records],
        [body.customer for body in bodies],
        [body.reference for body in bodies],
        [row.status for row in rows],
        [body.amount_cents for body in bodies],
        [body.currency for body in bodies],
        [row.key for row in rows],
        [record.fingerprint for record in records],
        [row.duplicate_of for row in rows],
        [row.failure for row in rows],
        [record.sequence for record in records],
        [record.deadline_ms for record in records],
        [record.admitted_ms for record in records],
        [body.access_code for body in bodies],
        [metadata_text(body) for body in bodies],
        [body.return_url for body in bodies],
    ]


def metadata_text(body: Body) -> str | None:
    """A booking's metadata as PostgreSQL takes it."""
    return msgspec.json.encode(body.metadata).decode() if body.metadata else None


def item_arrays(lines: Iterable[tuple[str, Line, int]]) -> list[list[Any]]:
    """The arrays of `INSERT_ITEMS`: booking, line, and how many of its tickets came back."""
    lines = list(lines)
    return [
        [booking for booking, _, _ in lines],
        [line.tier for _, line, _ in lines],
        [line.quantity for _, line, _ in lines],
        [line.unit_price_cents for _, line, _ in lines],
        [refunded for _, _, refunded in lines],
    ]
