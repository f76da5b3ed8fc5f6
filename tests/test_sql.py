"""What no statement of ours may do, whatever PostgreSQL plans for it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from boxoffice.stores.models import Base

ROOT = Path(__file__).resolve().parents[1]

FOLDERS = ("api", "boxoffice", "ops", "worker")

TABLES = {
    "bookings": "Booking", "booking_items": "BookingItem", "payments": "Payment", "captures": "Captures",
    "refunds": "Refund", "looks": "Look", "disputes": "Dispute", "inventory": "Inventory", "stock_moves": "StockMove",
    "dead_letters": "DeadLetter", "webhook_events": "WebhookEvent", "booking_traces": "BookingTrace",
}  # fmt: skip
"""Tables that the books alone change, with the class of each in `stores/models/`."""

ELSEWHERE = {
    "boxoffice/sales/store.py": {"insert(Inventory"},
    "boxoffice/sales/control.py": {"INSERT INTO inventory"},
    "boxoffice/sales/capacity.py": {"INSERT INTO stock_moves", "UPDATE stock_moves", "UPDATE inventory"},
}
"""How many tickets of a tier there are is the catalogue's to say, as what they cost is: a new tier's inventory, another
capacity, and the move that tells Redis of it. What of them is sold is the books'."""

_NAMES = "|".join(TABLES)
_CLASSES = "|".join(TABLES.values())
_WRITES = re.compile(
    rf"""\b(?:UPDATE|INSERT\s+INTO|DELETE\s+FROM|MERGE\s+INTO|TRUNCATE(?:\s+TABLE)?|COPY)\s+(?:ONLY\s+)?"?(?:{_NAMES})\b"""
    rf"""|\b(?:insert|update|delete)\(\s*(?:models\.)?(?:{_CLASSES})\b"""
    rf"""|\bcopy_(?:records_)?to_table\(\s*["'](?:{_NAMES})\b""",
    re.IGNORECASE,
)


def writes_in(source: str) -> list[str]:
    """What in it changes a table of the books."""
    return [" ".join(found[0].split()) for found in _WRITES.finditer(source)]


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("UPDATE bookings SET status = 'held'", ["UPDATE bookings"]),
        ("update\n  only payments p set due = NULL", ["update only payments"]),
        ("INSERT  INTO stock_moves (id)", ["INSERT INTO stock_moves"]),
        ("WITH gone AS (DELETE FROM looks)", ["DELETE FROM looks"]),
        ('TRUNCATE TABLE "refunds"', ['TRUNCATE TABLE "refunds']),
        ("connection.execute(insert(Inventory).values(total=1))", ["insert(Inventory"]),
        ("update(models.Payment).where()", ["update(models.Payment"]),
        ("connection.copy_to_table('booking_items', source=text)", ["copy_to_table('booking_items"]),
        ("SELECT id FROM bookings FOR UPDATE", []),
        ("UPDATE events SET status = 'inactive'", []),
        ("ON CONFLICT DO UPDATE SET status = excluded.status", []),
        ("INSERT INTO bookings_of_yesterday", []),
        ("inserted(Booking)", []),
    ],
)
def test_what_writes_is_seen(source: str, found: list[str]) -> None:
    assert writes_in(source) == found


def test_the_books_alone_change_their_tables() -> None:
    """Each transition is one verb of `boxoffice/books/`: whoever wants to know of them all has one room to look into."""
    found = {
        str(path.relative_to(ROOT)): writes
        for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))
        if (writes := writes_in(path.read_text()))
    }  # fmt: skip
    books = {path for path in found if path.startswith("boxoffice/books/")}
    assert len(books) >= 8 and sum(len(found[path]) for path in books) >= 30, "the search finds them"
    assert {path: set(writes) for path, writes in found.items() if path not in books} == ELSEWHERE


def test_a_claim_with_a_limit_is_run_once() -> None:
    """A subquery that is joined may be run once for each row of the other side, and then locks other rows each time: more
    than its limit. A materialized list, or an array, is run once."""
    claims = 0
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):
            source = path.read_text()
            for locked in re.finditer(r"SKIP LOCKED", source):
                before = source[: locked.start()]
                opened = max(before.rfind("MATERIALIZED (\n"), before.rfind("ARRAY(\n"), before.rfind("ARRAY(SELECT"))
                assert opened > before.rfind('"""'), f"{path.relative_to(ROOT)}: a claim that may be run more than once"
                claims += 1
    assert claims >= 6, "the search finds them"


DATED = {
    table.name for table in Base.metadata.sorted_tables if "updated_at" in table.columns
}  # fmt: skip

UNDATED = {
    "payments leased_until", "payments due_at", "payments due", "refunds leased_until",  # whose turn it is, and when
    "refunds items",  # of a row that was written a moment ago, in the same transaction
    "bookings owner",  # a digest that the row lost with a restored database
    "dead_letters parked_at",  # tried again from now on
    "events version", "events mirrored",  # what Redis was told of
}  # fmt: skip
"""Tables, and the first column that is set, where a row does not change for whoever asks when it did."""

_UPDATES = re.compile(
    r"""\bUPDATE\s+(?:ONLY\s+)?(\w+)(?:\s+(?:AS\s+)?\w+)?\s+SET\b(.*?)(?=\bWHERE\b|\bRETURNING\b|"|\Z)""", re.S
)


def test_whatever_changes_a_row_says_when() -> None:
    """`updated_at` decides what a listing by change, a repair and an audit read."""
    undated, dated = set[str](), 0
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):
            for update in _UPDATES.finditer(path.read_text()):
                table, changes = update[1], update[2]
                if table not in DATED:
                    continue
                if re.search(r"\bupdated_at = now\(\)", changes):
                    dated += 1
                else:
                    undated.add(f"{table} {changes.split()[0]}")
    assert dated >= 35, "the search finds them"
    assert undated == UNDATED
