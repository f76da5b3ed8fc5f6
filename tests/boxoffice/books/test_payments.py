"""Each verb of a payment's row: which columns of which rows move, from what, and nothing else.

A test is one transaction, in which now() stands still: times are told in seconds from then.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from boxoffice.books import payments
from boxoffice.office import BoxOffice
from tests.conftest import SaleMaker, settle_all
from tests.support.shop.office import book

BEFORE = -1_000.0
"""Seconds; when rows were changed last."""

TIMES = ("due_at", "due_since", "leased_until", "updated_at")

COLUMNS = ("status", "failure_code", "due", "reference", "amount_cents", "refunded_cents", "tries", *TIMES)

Row = dict[str, Any]


class Rows:
    """Payments in one transaction."""

    def __init__(self, session: Any, now: datetime) -> None:
        self.session, self.now = session, now

    async def put(self, key: str, **row: Any) -> None:
        """A payment as it is, with these columns another; `created_at`, too, in seconds."""
        row = {
            "payment_key": key, "booking_id": uuid4(), "gateway": "bank/1", "method": "card", "amount_cents": 1_000,
            "currency": "USD", "status": "authorized", "updated_at": BEFORE,
        } | row  # fmt: skip
        for name in (*TIMES, "created_at"):
            if row.get(name) is not None:
                row[name] = self.now + timedelta(seconds=row[name])
        slots = ", ".join(f"${at}" for at in range(1, len(row) + 1))
        await self.session.execute(f"INSERT INTO payments ({', '.join(row)}) VALUES ({slots})", *row.values())

    async def all(self) -> dict[str, Row]:
        """By key."""
        rows = await self.session.fetch(f"SELECT payment_key, {', '.join(COLUMNS)} FROM payments")
        return {row["payment_key"]: {name: self._told(row[name]) for name in COLUMNS} for row in rows}

    def _told(self, value: Any) -> Any:
        return (value - self.now).total_seconds() if isinstance(value, datetime) else value

    async def list(self, keys: list[str], leased_s: float) -> int:
        """A list of captures."""
        found: int = await self.session.fetchval(
            "INSERT INTO captures (payment_keys, leased_until) VALUES ($1, $2) RETURNING id",
            keys, self.now + timedelta(seconds=leased_s),
        )  # fmt: skip
        return found


@pytest.fixture
async def rows(office: BoxOffice) -> AsyncIterator[Rows]:
    async with (await office.pool()).acquire() as session, session.transaction():
        yield Rows(session, await session.fetchval("SELECT now()"))


CAPTURE: Row = {
    "due": "capture",
    "due_at": -5.0,
    "due_since": -60.0,
    "leased_until": 7.0,
    "tries": 3,
    "refunded_cents": 4,
}
VOID: Row = CAPTURE | {"due": "void"}
DONE: Row = {"due": None, "due_at": None, "due_since": None, "leased_until": None}

Verb = Callable[[Rows], Any]

VERBS: dict[str, tuple[Verb, Row, Row]] = {
    "put off": (
        lambda rows: payments.put_off(rows.session, "this", 2_500), CAPTURE,
        {"due_at": 2.5, "leased_until": None, "updated_at": 0.0},
    ),
    "put off for the first time": (
        lambda rows: payments.put_off(rows.session, "this", 2_500), CAPTURE | {"due_since": None},
        {"due_at": 2.5, "due_since": BEFORE, "leased_until": None, "updated_at": 0.0},
    ),
    "nothing to put off": (lambda rows: payments.put_off(rows.session, "this", 2_500), {"leased_until": 7.0}, {}),
    "to be captured": (
        lambda rows: payments.make_due(rows.session, "this", "capture", "authorized", "ref"), {"status": "unknown"},
        {"due": "capture", "due_at": 0.0, "status": "authorized", "reference": "ref", "updated_at": 0.0},
    ),
    "to be let go, which was to be captured": (
        lambda rows: payments.make_due(rows.session, "this", "void", None, "other"), CAPTURE | {"reference": "ref"},
        {"due": "void", "due_at": 0.0, "due_since": None, "leased_until": None, "updated_at": 0.0},
    ),
    "to be let go again": (
        lambda rows: payments.make_due(rows.session, "this", "void", None, None), VOID,
        {"due_at": 0.0, "leased_until": None, "updated_at": 0.0},
    ),
    "to be let go again, since its last change": (
        lambda rows: payments.make_due(rows.session, "this", "void", None, None), VOID | {"due_since": None},
        {"due_at": 0.0, "due_since": BEFORE, "leased_until": None, "updated_at": 0.0},
    ),
    "captured": (
        lambda rows: payments.mark_captured(rows.session, ["this", "none"], []), CAPTURE,
        DONE | {"status": "captured", "updated_at": 0.0},
    ),
    "captured, which is to be let go by now": (lambda rows: payments.mark_captured(rows.session, ["this"], []), VOID, {}),
    "captured before": (lambda rows: payments.mark_captured(rows.session, ["this"], []), {"status": "captured"}, {}),
    "let go": (
        lambda rows: payments.close_void(rows.session, "this", "voided"), VOID, DONE | {"status": "voided", "updated_at": 0.0},
    ),
    "let go, and nothing was there": (
        lambda rows: payments.close_void(rows.session, "this", "failed"), VOID, DONE | {"status": "failed", "updated_at": 0.0},
    ),
    "let go, which is to be captured": (lambda rows: payments.close_void(rows.session, "this", "voided"), CAPTURE, {}),
    "let go late": (
        lambda rows: payments.close_late_void(rows.session, "this"), VOID,
        DONE | {"status": "voided", "failure_code": "paid_too_late", "updated_at": 0.0},
    ),
    "let go late, which is to be captured": (lambda rows: payments.close_late_void(rows.session, "this"), CAPTURE, {}),
    "refused": (
        lambda rows: payments.refuse_capture(rows.session, "this", "expired"), CAPTURE,
        {"status": "failed", "failure_code": "expired", "due": "void", "due_at": 0.0, "due_since": 0.0, "tries": 0,
         "leased_until": None, "refunded_cents": 0, "updated_at": 0.0},
    ),
    "refused, which is to be let go": (lambda rows: payments.refuse_capture(rows.session, "this", "expired"), VOID, {}),
    "captured late": (
        lambda rows: payments.take_late_capture(rows.session, "this", 990), VOID,
        DONE | {"status": "captured", "failure_code": "paid_too_late", "amount_cents": 990, "updated_at": 0.0},
    ),
    "given back": (
        lambda rows: payments.add_refunded(rows.session, "this", 30), {"refunded_cents": 12},
        {"refunded_cents": 42, "updated_at": 0.0},
    ),
    "its capture's list lapsed": (
        lambda rows: payments.unlist_lapsed(rows.session, 5), CAPTURE | {"due_at": None}, {"due_at": 0.0},
    ),
    "its capture's list lapsed, and it was due before": (lambda rows: payments.unlist_lapsed(rows.session, 5), CAPTURE, {}),
    "its capture's list lapsed, and it is to be let go": (
        lambda rows: payments.unlist_lapsed(rows.session, 5), VOID | {"due_at": None}, {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", VERBS)
async def test_a_verb_moves_its_columns_of_its_row(rows: Rows, name: str) -> None:
    verb, before, moves = VERBS[name]
    for key in ("this", "other"):
        await rows.put(key, **before)
    await rows.list(["this"], -0.001)
    await rows.list(["other"], 0.0 if "lapsed" in name else -0.001)
    stands = await rows.all()
    await verb(rows)
    assert await rows.all() == stands | {"this": stands["this"] | moves}


async def test_a_list_of_captures_goes_with_what_was_captured(rows: Rows) -> None:
    """Those that are named, also when none of their payments is to be captured any more."""
    first, second, third = [await rows.list([key], 60) for key in ("a", "b", "c")]
    await payments.mark_captured(rows.session, [], [first, third])
    assert [row["id"] for row in await rows.session.fetch("SELECT id FROM captures")] == [second]


async def test_a_list_whose_lease_lasts_stays(rows: Rows) -> None:
    """And of those that lapsed so many are taken apart at once."""
    for number in range(3):
        await rows.put(f"p{number}", **CAPTURE | {"due_at": None})
        await rows.list([f"p{number}"], -1)
    await rows.put("held", **CAPTURE | {"due_at": None})
    await rows.list(["held"], 1)
    for left in (2, 0, 0):
        await payments.unlist_lapsed(rows.session, 1 if left == 2 else 2)
        found = await rows.all()
        assert sum(found[f"p{number}"]["due_at"] is None for number in range(3)) == left
        assert found["held"]["due_at"] is None
    assert await payments.is_listed(rows.session, "held")
    assert not await payments.is_listed(rows.session, "p0")


@pytest.mark.parametrize(("leased_s", "listed"), [(0.001, True), (0.0, False), (-1.0, False)])
async def test_who_stands_in_a_list_that_lasts_is_being_captured(rows: Rows, leased_s: float, listed: bool) -> None:
    await rows.list(["this", "that"], leased_s)
    assert [await payments.is_listed(rows.session, key) for key in ("this", "that", "other")] == [listed, listed, False]


@pytest.mark.parametrize(
    ("change", "claimed"),
    [
        ({}, True), ({"due": None}, False), ({"due_at": 0.001}, False), ({"due_at": 0.0}, True), ({"due_at": None}, False),
        ({"leased_until": None}, True), ({"leased_until": 0.0}, False), ({"leased_until": -0.001}, True),
        ({"gateway": "bank/2"}, False), ({"gateway": "bank"}, True), ({"gateway": "bank/1/eu"}, True),
        ({"gateway": "bank/10"}, False),
    ],
)  # fmt: skip
async def test_what_is_due_and_nobodys_is_claimed(rows: Rows, change: Row, claimed: bool) -> None:
    due = {"due": "void", "due_at": -5.0, "leased_until": -1.0, "tries": 3}
    await rows.put("this", **due | change)
    await rows.put("leased", **due | {"leased_until": 9.0})
    before = await rows.all()
    found = await payments.claim_due(rows.session, 1_500, 10, "bank/1")
    assert [each.payment_key for each in found] == ["this"] * claimed
    moved = {"leased_until": 1.5, "tries": 4} if claimed else {}
    assert await rows.all() == before | {"this": before["this"] | moved}


async def test_a_claim_tells_all_that_the_gateway_needs(rows: Rows) -> None:
    """The longest due first, and so many."""
    for number, (due_at, made) in enumerate(((-1.0, 0.0), (-3.0, -86_401.0), (-2.0, -86_399.0), (-0.5, 0.0))):
        await rows.put(
            f"p{number}", due="capture", due_at=due_at, created_at=made, reference=f"ref {number}", amount_cents=100 + number,
            token=f"tok {number}", card_name="Ada", last4="4242", currency="EUR", status="unknown", method="card",
        )  # fmt: skip
    found = await payments.claim_due(rows.session, 1_000, 3, "bank/1")
    assert [(each.payment_key, each.old) for each in sorted(found)] == [("p0", False), ("p1", True), ("p2", False)]
    bookings = dict(await rows.session.fetch("SELECT payment_key, booking_id::text FROM payments"))
    assert sorted(found)[1] == payments.DuePayment(
        "p1", "capture", "ref 1", 101, "unknown", 1, True, bookings["p1"], "card", "tok 1", "Ada", "4242", "EUR"
    )


async def test_what_is_due_elsewhere_is_counted_by_gateway(rows: Rows) -> None:
    for number, (gateway, due_at, due) in enumerate((
        ("bank/2", -1.0, "void"), ("bank/2", 0.0, "capture"), ("stripe/live", -1.0, "void"), ("bank/2", 1.0, "void"),
        ("bank/2", -1.0, None), ("bank/1", -1.0, "void"), ("bank", -1.0, "void"), ("bank/1/eu", -1.0, "void"),
    )):  # fmt: skip
        await rows.put(f"p{number}", gateway=gateway, due_at=due_at, due=due)
    assert sorted(await payments.due_in_other_books(rows.session, "bank/1")) == [("bank/2", 2), ("stripe/live", 1)]


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"due": "void"}, True), ({"due": "void", "status": "unknown"}, True), ({"status": "unknown"}, True),
        ({"status": "failed"}, True), ({"status": "voided"}, True), ({"status": "captured"}, False), ({}, False),
        ({"due": "capture"}, False), ({"due": "void", "status": "captured"}, True),
    ],
)  # fmt: skip
async def test_a_payment_that_belongs_to_a_sale_is_not_taken_as_late(rows: Rows, change: Row, found: bool) -> None:
    """Of one that was to be let go it is told what refunds speak for, but for those that were dropped."""
    booking = uuid4()
    await rows.put("this", booking_id=booking, **change)
    await rows.put("other", due="void")
    told = await payments.lock_late_capture(rows.session, "this")
    assert (tuple(told) if told else None) == ((str(booking), "USD", 0) if found else None)
    assert await payments.lock_late_capture(rows.session, "none") is None


@pytest.mark.parametrize("due", ["void", "capture", None])
async def test_whether_it_is_to_be_let_go(rows: Rows, due: str | None) -> None:
    await rows.put("this", due=due)
    await rows.put("other", due="capture" if due == "void" else "void")
    assert await payments.is_to_be_voided(rows.session, "this") is (due == "void")
    assert not await payments.is_to_be_voided(rows.session, "none")


@pytest.mark.parametrize(
    ("status", "why", "told"),
    [
        ("failed", None, True), ("expired", "hold_expired", True), ("failed", "withdrawn", False), ("cancelled", None, False),
        ("confirmed", None, False), ("held", None, False),
    ],
)  # fmt: skip
async def test_a_booking_is_told_that_its_money_came_too_late(
    office: BoxOffice, open_sale: SaleMaker, rows: Rows, status: str, why: str | None, told: bool
) -> None:
    """Its own, once it has ended; not one that was withdrawn."""
    event = await open_sale(GA=10)
    mine, other = [(await book(office, event, customer=name, GA=1)).booking_id for name in ("a", "b")]
    await settle_all(office)
    await rows.session.execute("UPDATE bookings SET status = $1, failure_code = $2", status, why)
    await rows.put("this", booking_id=mine, due="void")
    await payments.close_late_void(rows.session, "this")
    found = dict(await rows.session.fetch("SELECT id::text, failure_code FROM bookings"))
    assert found == {mine: "paid_too_late" if told else why, other: why}


REFUNDS = (("due", 10), ("pending", 20), ("succeeded", 40), ("owed", 80), ("written_off", 160), ("dropped", 320))


@pytest.mark.parametrize(("amount", "refunded", "cents"), [(1_000, 0, 70), (60, 0, 60), (1_000, 70, 70)])
@pytest.mark.parametrize("due", [None, "capture"])
async def test_refunds_add_up(
    office: BoxOffice, open_sale: SaleMaker, rows: Rows, amount: int, refunded: int, cents: int, due: str | None
) -> None:
    """Those that were given back or are under way, of this payment, and no more than it; nothing moves when it says so."""
    booking = (await book(office, await open_sale(GA=10), GA=1)).booking_id
    await settle_all(office)
    await rows.session.execute("DELETE FROM payments")
    for key in ("this", "other"):
        await rows.put(key, booking_id=booking, due=due, amount_cents=amount, refunded_cents=refunded, status="unknown")
    for status, part in REFUNDS:
        for key, more in (("this", 0), ("other", 1)):
            await rows.session.execute(
                "INSERT INTO refunds (refund_key, booking_id, payment_key, amount_cents, currency, reason, status,"
                " owed_since, failure_code, written_off_at, written_off_by, written_off_reason) SELECT $1 || $3, $2, $1, $4,"
                " 'USD', 'r', $3, now(), 'x', t, t::text, t::text"
                " FROM (SELECT CASE WHEN $3 = 'written_off' THEN now() END AS t) AS x",
                key, booking, status, part + more,
            )  # fmt: skip
    before = await rows.all()
    await payments.recount_refunded(rows.session, "this")
    moves = {"refunded_cents": cents, "updated_at": 0.0, "due_since": BEFORE if due else None}
    assert await rows.all() == before | {"this": before["this"] | (moves if refunded != 70 else {})}
    spoken = await payments.lock_late_capture(rows.session, "this")
    assert spoken["spoken_for"] == 310
