"""What no statement of ours may do, whatever PostgreSQL plans for it."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from boxoffice.stores.models import Base

ROOT = Path(__file__).resolve().parents[1]

FOLDERS = ("api", "boxoffice", "ops", "worker")

TABLES = {
    "bookings": "Booking", "booking_items": "BookingItem", "payments": "Payment", "captures": "Captures",
    "refunds": "Refund", "looks": "Look", "disputes": "Dispute", "inventory": "Inventory", "stock_moves": "StockMove",
    "dead_letters": "DeadLetter", "webhook_events": "WebhookEvent", "booking_traces": "BookingTrace",
    "notices": "Notice", "notice_head": "NoticeHead",
}  # fmt: skip
"""Tables that the books alone change, with the class of each in `stores/models/`."""

ELSEWHERE = {
    "boxoffice/notices/reading.py": {"UPDATE notices", "UPDATE notice_head"},
    "boxoffice/notices/writing.py": {"INSERT INTO notices"},
    "boxoffice/sales/store.py": {"insert(Inventory"},
    "boxoffice/sales/control.py": {"INSERT INTO inventory"},
    "boxoffice/sales/capacity.py": {"INSERT INTO stock_moves", "UPDATE stock_moves", "UPDATE inventory"},
}
"""How many tickets of a tier there are is the catalogue's to say, as what they cost is: a new tier's inventory, another
capacity, and the move that tells Redis of it. What of them is sold is the books'. Notices get their places, and those about no
booking are written, where everybody may do it."""

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


TURNS = "whose turn it is, and when: the status stays"
BATCH = "told with its batch, by the verb that runs it"
PART = "a part of statements that tell"

UNTOLD = {
    "columns.INSERT_BOOKINGS": PART,
    "inserting.INSERT_BOOKINGS": BATCH,
    "inventory.NOTE": "tickets of a refund, told with the booking they came from",
    "items.SET_AMOUNTS": BATCH,
    "messages.HEAR": TURNS,
    "payments.ADD_REFUNDED": "the refund is told",
    "payments.CLAIM_DUE": TURNS,
    "payments.PUT_OFF": TURNS,
    "payments.RECOUNT_REFUNDED": "the refunds are told",
    "payments.UNLIST_LAPSED": TURNS,
    "personal.ERASE['payments']": "told with the bookings, in the same transaction",
    "personal.ERASE['refunds']": "told with the bookings, in the same transaction",
    "refunds.BEGIN": PART,
    "refunds.CLAIM_DUE": TURNS,
    "refunds.PUT_OFF": TURNS,
    "rewrite.INSERT_BOOKINGS": BATCH,
    "rewrite.INSERT_PAYMENTS": BATCH,
    "rewrite.KEEP_OWNERS": "a digest that no shop reads",
    "rows.UPDATE_BOOKINGS": BATCH,
    "rows.UPSERT_PAYMENTS": BATCH,
}
"""Statements of the books that change something that shops are told of, and say nothing themselves; with the reason: module and
name, without its underscore."""

_TOLD = re.compile(
    r"\b(?:UPDATE|INSERT\s+INTO|DELETE\s+FROM|MERGE\s+INTO|TRUNCATE)\s+(?:ONLY\s+)?"
    r"(?:bookings|payments|refunds|disputes)\b",
    re.IGNORECASE,
)


def texts_in(node: ast.AST) -> str:
    """Its texts as they are, and its calls."""
    texts = [each.value for each in ast.walk(node) if isinstance(each, ast.Constant) and isinstance(each.value, str)]
    return "\n".join([*texts, *(ast.unparse(each) for each in ast.walk(node) if isinstance(each, ast.Call))])


def assigned_by(node: ast.stmt) -> list[str]:
    """Names of a module that a statement of it makes."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name) and target.id != "__all__"]


def statements_of(name: str) -> Iterator[tuple[str, str]]:
    """Names and texts of a module's own statements, as they are run; those within functions as well."""
    module = importlib.import_module(f"boxoffice.books.{name}")
    tree = ast.parse(Path(str(module.__file__)).read_text())
    for node in tree.body:
        for target in assigned_by(node):
            value = getattr(module, target)
            texts = (
                {f"{target}[{key!r}]": each for key, each in value.items()}
                if isinstance(value, dict)
                else {target: value}
            )
            yield from ((f"{name}.{each.lstrip('_')}", text) for each, text in texts.items() if isinstance(text, str))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for inner in ast.walk(node):
                if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
                    yield f"{name}.{node.name}", inner.value


def test_whatever_changes_what_shops_are_told_of_tells_them() -> None:
    """In the same statement, so with the change or not at all."""
    silent, telling = set[str](), 0
    for path in sorted((ROOT / "boxoffice/books").glob("*.py")):
        for name, text in statements_of(path.stem):
            if _TOLD.search(text):
                if "INSERT INTO notices" in text:
                    telling += 1
                else:
                    silent.add(name)
    assert telling >= 20, "the search finds them"
    assert silent == {*UNTOLD}


_EVENTS = re.compile(
    r"\b(?:UPDATE|INSERT INTO|DELETE FROM) (?:events|tiers|event_shares)\b"
    r"|insert\((?:Event|Tier|EventShare)\)"
)

SILENT_OF_EVENTS = {
    "boxoffice/sales/loading.py Loader mark": "which version Redis has",
    "boxoffice/sales/store.py insert_tiers": "of a new event, which is told",
    "boxoffice/sales/control.py Control change_tier": "told by its caller, with the capacity",
}


def test_whatever_changes_an_event_is_told() -> None:
    """The function that runs the statement writes the event's history, which tells, or tells by itself."""
    silent, telling = set[str](), 0
    for path in sorted((ROOT / "boxoffice").rglob("*.py")):
        tree = ast.parse(path.read_text())
        changing = {
            name for node in tree.body for name in assigned_by(node) if _EVENTS.search(texts_in(node))
        }  # fmt: skip
        classes = [
            (f"{node.name} ", each) for node in tree.body if isinstance(node, ast.ClassDef) for each in node.body
        ]
        for prefix, node in [*classes, *(("", node) for node in tree.body)]:
            if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                continue
            source = ast.unparse(node)
            names = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
            if not (_EVENTS.search(texts_in(node)) or names & changing):
                continue
            if "history.write(" in source or "notify_event(" in source or "self._changed(" in source:
                telling += 1
            else:
                silent.add(f"{path.relative_to(ROOT)} {prefix}{node.name.lstrip('_')}")
    assert telling >= 8, "the search finds them"
    assert silent == {*SILENT_OF_EVENTS}


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
    "webhook_endpoints leased_until", "webhook_endpoints failing_since", "webhook_endpoints lease",  # whose turn it is
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
