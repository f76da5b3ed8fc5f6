"""Bookings that PostgreSQL has never seen, by COPY in its text format."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

import asyncpg

from boxoffice.books.columns import COPIED_BOOKING, COPIED_ITEM, EXTRAS, metadata_text
from boxoffice.books.decisions import Decision
from boxoffice.stores.database import Connection

__all__ = ["Raced", "as_text", "copy_new", "time_text", "word"]

_PAYMENT_COLUMNS: Final = (
    "payment_key", "booking_id", "gateway", "method", "card_name", "last4", "token", "amount_cents", "currency", "status",
    "reference", "failure_code", "next_action", "due",
)  # fmt: skip
"""Columns of what is copied: the order of the fields in `copy_new`."""


class Raced(Exception):
    """Another worker wrote one of these bookings, or its key, since we looked. Look again."""


async def copy_new(connection: Connection, decisions: list[Decision], gateway: str) -> None:
    """Bookings that PostgreSQL has never seen, by COPY: for rows as short as ours that is half of an INSERT's CPU there,
    and one pass over the batch here."""
    bookings, described, items, payments = [], [], [], []
    for decision in decisions:
        record, payment = decision.claim.record, decision.payment
        body, payload = record.body, record.payload
        booking, amount, currency = record.id, body.amount_cents, word(body.currency)
        reference = _NULL if body.reference is None else as_text(body.reference)
        expires_at = time_text(record.deadline_ms) if record.deadline_ms else _NULL
        row = (
            f"{booking}\t{word(body.client)}\t{word(record.event)}\t{as_text(body.customer)}\t{reference}\t"
            f"{decision.status}\t{amount}\t{currency}\t{as_text(payload.key)}\t{record.fingerprint}\t"
            f"{word(decision.failure)}\t{record.sequence}\t{expires_at}\t{time_text(record.admitted_ms)}\t"
            f"{body.access_code or _NULL}"
        )
        if body.metadata is None and body.return_url is None:
            bookings.append(f"{row}\n")
        else:
            described.append(f"{row}\t{as_text(metadata_text(body))}\t{as_text(body.return_url)}\n")
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
            next_action = _NULL if payment.next_action is None else as_text(payment.next_action)
            payments.append(
                f"{record.payment_key}\t{booking}\t{gateway}\t{how}\t{amount}\t{currency}\t{payment.status}\t"
                f"{as_text(payment.reference)}\t{word(payment.failure_code)}\t{next_action}\t"
                f"{word(payment.due)}\n"
            )
    try:
        if bookings:
            await _copy(connection, "bookings", COPIED_BOOKING, bookings)
        if described:
            await _copy(connection, "bookings", (*COPIED_BOOKING, *EXTRAS), described)
    except asyncpg.UniqueViolationError as error:
        raise Raced from error
    await _copy(connection, "booking_items", COPIED_ITEM, items)
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


_NULL: Final = r"\N"

_NO_CHARGE: Final = "card\t\\N\t\\N\t\\N"
"""Method, name, digits and token of a payment that nobody remembers."""


def time_text(ms: int) -> str:
    """A time, or NULL for none."""
    return f"{_second(ms // 1_000)}.{ms % 1_000:03d}+00" if ms else r"\N"


@lru_cache(4_096)
def _second(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}"
