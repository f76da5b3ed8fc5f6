"""What of a parked booking can be written: whatever PostgreSQL takes of its record, to the edge. Pure functions."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from boxoffice import ids
from boxoffice.books.dead_letters import DeadLetter
from boxoffice.books.poisoned import Facts
from boxoffice.stores.record import SAME, Body, Record
from boxoffice.texts import is_storable

__all__ = ["Names", "client_of", "facts_of", "last4_of", "lines_of", "names_of"]

INT4_MAX: Final = 2**31 - 1
INT8_MAX: Final = 2**63 - 1

_HEX: Final = re.compile("[0-9a-f]{16,64}")
_HEAD: Final = re.compile(
    rb"^[A-Z]\|[^|\n]*\|[^|\n]*\|[^|\n]*\|([0-9a-f]*|=)\|([0-9a-f]{32})\|[^|\n]*\|([0-9a-z]{1,64})\|"
)


class Names(NamedTuple):
    """What Redis and the gateway know a booking by; empty where nobody can read it."""

    event: str
    scope: str
    payment_key: str


def names_of(letter: DeadLetter) -> Names:
    """From its record, or from what of a damaged one's head still makes sense."""
    if (record := letter.record) is not None:
        return Names(record.event, record.scope, record.payment_key)
    found = _HEAD.match(letter.raw)
    if found is None:
        return Names("", "", "")
    payment_key, scope = found[1].decode(), found[2].decode()
    return Names(found[3].decode(), scope, scope if payment_key == SAME else payment_key)


def client_of(letter: DeadLetter) -> str:
    """The client that its record names, if PostgreSQL can be asked for it; else empty."""
    return _clean(letter.record.body.client) or "" if letter.record else ""


def facts_of(letter: DeadLetter, client: str, event: str, currency: str) -> Facts:
    """All of it, for an event that there is; what makes no sense is left out, or stands for nothing."""
    record = letter.record
    body = record.body if record else None
    key = record.payload.key if record else ""
    return Facts(
        client,
        event,
        _clean(body.customer) or "" if body else "",
        _clean(body.reference) if body else None,
        body.amount_cents if body and 0 <= body.amount_cents <= INT8_MAX else 0,
        currency,
        key if _HEX.fullmatch(key) else ids.digest(letter.booking),
        record.fingerprint if record and _HEX.fullmatch(record.fingerprint) else "",
        record.sequence if record and 0 <= record.sequence <= INT8_MAX else 0,
        record.deadline_ms if record and 0 <= record.deadline_ms < 10**14 else 0,
        record.admitted_ms if record and 0 < record.admitted_ms < 10**14 else _made_ms(letter.booking),
        lines_of(body) if body else (),
    )


def _clean(text: str | None) -> str | None:
    """The text, unless there is something in it that PostgreSQL would not take."""
    return text if text and is_storable(text) else None


def lines_of(body: Body) -> list[tuple[str, int, int]]:
    """Tier, quantity and price of the lines that PostgreSQL takes."""
    return [
        (line.tier, line.quantity, line.unit_price_cents)
        for line in body.lines
        if _clean(line.tier) and 0 < line.quantity <= INT4_MAX and 0 <= line.unit_price_cents <= INT4_MAX
    ]


def last4_of(record: Record | None) -> str | None:
    """The card's last digits, if they can be written."""
    charge = record.payload.charge if record else None
    return _clean(charge.last4) if charge else None


def _made_ms(booking: str) -> int:
    return int(booking[:8] + booking[9:13], 16)
