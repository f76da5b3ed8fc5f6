"""One list of columns for every way in which a booking's row is written first."""

from __future__ import annotations

import re

from boxoffice.books.columns import (
    COPIED_BOOKING,
    COPIED_ITEM,
    EXTRAS,
    INSERT_BOOKINGS,
    INSERT_ITEMS,
    BookingRow,
    booking_arrays,
    item_arrays,
)
from boxoffice.stores.record import Body, Line, Payload, Record

LINES = (Line("ga", 2, 500), Line("vip", 1, 900))

RECORD = Record(
    "b1", "C", 7, 1_000, 2_000, "pay", "scope", "print", "event", "owner", "ga:2", "1",
    Body("shop", "ada", 1_900, "EUR", LINES, "order 1", {"a": "é"}, "https://x", "c0de"), Payload(key="key"),
)  # fmt: skip


def columns_of(statement: str) -> list[str]:
    into, new = re.findall(r"(?:INTO \w+|AS new) \((.*?)\)", statement)
    assert new.split(", ") == into.split(", ")[: len(new.split(", "))], "named once, in one order"
    return new.split(", ")


def test_an_array_stands_at_the_place_of_its_column() -> None:
    row = BookingRow(RECORD, "failed", "duplicate", "b0", "digest")
    assert dict(zip(columns_of(INSERT_BOOKINGS), booking_arrays([row, row]), strict=True)) == {
        "id": ["b1"] * 2, "client_id": ["shop"] * 2, "event_id": ["event"] * 2, "customer_id": ["ada"] * 2,
        "reference": ["order 1"] * 2, "status": ["failed"] * 2, "amount_cents": [1_900] * 2, "currency": ["EUR"] * 2,
        "idempotency_key": ["digest"] * 2, "fingerprint": ["print"] * 2, "duplicate_of": ["b0"] * 2,
        "failure_code": ["duplicate"] * 2, "sequence": [7] * 2, "expires_at": [2_000] * 2, "created_at": [1_000] * 2,
        "metadata": ['{"a":"é"}'] * 2, "return_url": ["https://x"] * 2,
        "access_code": ["c0de"] * 2,
    }  # fmt: skip
    lines = [("b1", line, at) for at, line in enumerate(LINES)]
    assert dict(zip(columns_of(INSERT_ITEMS), item_arrays(lines), strict=True)) == {
        "booking_id": ["b1", "b1"], "tier_id": ["ga", "vip"], "quantity": [2, 1], "unit_price_cents": [500, 900],
        "refunded": [0, 1],
    }  # fmt: skip


def test_what_is_copied_has_the_same_columns_but_for_what_it_never_has() -> None:
    assert [*COPIED_BOOKING] == [name for name in columns_of(INSERT_BOOKINGS) if name not in ("duplicate_of", *EXTRAS)]
    assert [*COPIED_ITEM] == [*(name for name in columns_of(INSERT_ITEMS) if name != "refunded"), "line_total_cents"]
