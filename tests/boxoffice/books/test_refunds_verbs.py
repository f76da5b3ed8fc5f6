"""Each verb of a refund's row: which columns of which rows move, from what, and nothing else.

A test is one transaction, in which now() stands still: times are told in seconds from then.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from boxoffice.books import refunds
from boxoffice.office import BoxOffice
from tests.conftest import SaleMaker, settle_all
from tests.support.shop.office import book

BEFORE = -1_000.0
"""Seconds; when rows were changed last."""

TIMES = ("due_at", "due_since", "leased_until", "owed_since", "written_off_at", "updated_at", "created_at")

COLUMNS = (
    "payment_key", "amount_cents", "currency", "fingerprint", "status", "reason", "origin", "attempt", "reference",
    "failure_code", "tries", "written_off_by", "written_off_reason", *TIMES,
)  # fmt: skip

Row = dict[str, Any]


class Rows:
    """Refunds of two bookings with a payment each, in one transaction."""

    def __init__(self, session: Any, now: datetime, mine: str, other: str) -> None:
        self.session, self.now, self.mine, self.other = session, now, mine, other

    async def put(self, key: str, *, payment: str | None = "mine", **row: Any) -> None:
        """A refund as it is, of a payment and its booking, with these columns another."""
        row = {
            "refund_key": key, "booking_id": self.other if payment == "other" else self.mine, "payment_key": payment,
            "amount_cents": 100, "currency": "USD", "reason": "why", "due_at": -5.0, "due_since": -60.0, "created_at": BEFORE,
            "updated_at": BEFORE,
        } | row  # fmt: skip
        for name in TIMES:
            if row.get(name) is not None:
                row[name] = self.now + timedelta(seconds=row[name])
        slots = ", ".join(f"${at}" for at in range(1, len(row) + 1))
        await self.session.execute(f"INSERT INTO refunds ({', '.join(row)}) VALUES ({slots})", *row.values())

    async def all(self) -> dict[str, Row]:
        """By key."""
        rows = await self.session.fetch(f"SELECT refund_key, {', '.join(COLUMNS)} FROM refunds")
        return {row["refund_key"]: {name: self._told(row[name]) for name in COLUMNS} for row in rows}

    def _told(self, value: Any) -> Any:
        return (value - self.now).total_seconds() if isinstance(value, datetime) else value


@pytest.fixture
async def rows(office: BoxOffice, open_sale: SaleMaker) -> AsyncIterator[Rows]:
    event = await open_sale(GA=10)
    mine, other = [(await book(office, event, customer=name, GA=1)).booking_id for name in ("mine", "other")]
    await settle_all(office)
    async with (await office.pool()).acquire() as session, session.transaction():
        for key, booking in (("mine", mine), ("other", other)):
            await session.execute(
                "UPDATE payments SET payment_key = $1, gateway = 'bank/1', status = 'captured', reference = 'ref of ' || $1,"
                " amount_cents = 1000 WHERE booking_id = $2",
                key, booking,
            )  # fmt: skip
        yield Rows(session, await session.fetchval("SELECT now()"), mine, other)


LEASED: Row = {"leased_until": 7.0, "tries": 3, "attempt": 1}
OWED: Row = LEASED | {"status": "owed", "owed_since": -90.0, "failure_code": "closed", "reference": "old"}
OFF: Row = OWED | {
    "status": "written_off",
    "written_off_at": -9.0,
    "written_off_by": "eve",
    "written_off_reason": "small",
}
NOT_OFF: Row = {"written_off_at": None, "written_off_by": None, "written_off_reason": None}

Verb = Callable[[Rows], Any]


def answer(status: str, attempt: int = 1) -> Verb:
    return lambda rows: refunds.answer(rows.session, "this", attempt, status, "ref", "why not", 2_000)


def take_over(status: str, attempt: int = 1) -> Verb:
    return lambda rows: refunds.take_over(rows.session, "this", status, attempt, 77, "ref", "code")


TAKEN: Row = {
    "amount_cents": 77, "reference": "ref", "failure_code": "code", "due_at": 0.0, "leased_until": None, "updated_at": 0.0,
}  # fmt: skip
AGAIN: Row = {
    "status": "due", "due_at": 0.0, "due_since": 0.0, "leased_until": None, "tries": 0, "reference": None, "updated_at": 0.0,
}  # fmt: skip
ENDED: Row = {
    "status": "written_off", "written_off_at": 0.0, "written_off_by": "eve", "written_off_reason": "small", "updated_at": 0.0,
}  # fmt: skip

VERBS: dict[str, tuple[Verb, Row, Row]] = {
    "made": (
        answer("succeeded"), LEASED,
        {"status": "succeeded", "reference": "ref", "failure_code": "why not", "leased_until": None, "updated_at": 0.0},
    ),
    "under way": (
        answer("pending"), LEASED,
        {"status": "pending", "reference": "ref", "failure_code": "why not", "leased_until": None, "updated_at": 0.0},
    ),
    "answered to an attempt that is over": (answer("succeeded", 0), LEASED, {}),
    "answered, which is owed by now": (answer("succeeded"), OWED, {}),
    "put off": (
        lambda rows: refunds.put_off(rows.session, "this", 1, 2_500), LEASED,
        {"due_at": 2.5, "leased_until": None, "updated_at": 0.0},
    ),
    "put off, an attempt that is over": (lambda rows: refunds.put_off(rows.session, "this", 2, 2_500), LEASED, {}),
    "put off, which is owed by now": (lambda rows: refunds.put_off(rows.session, "this", 1, 2_500), OWED, {}),
    "never captured": (
        lambda rows: refunds.drop_uncaptured(rows.session, "mine"), LEASED,
        {"status": "dropped", "failure_code": "never_captured", "leased_until": None, "updated_at": 0.0},
    ),
    "never captured, which is owed": (lambda rows: refunds.drop_uncaptured(rows.session, "mine"), OWED, {}),
    "refused": (take_over("owed", 2), LEASED, TAKEN | {"status": "owed", "attempt": 2, "tries": 0, "owed_since": 0.0}),
    "refused again": (take_over("owed"), OWED, TAKEN | {"status": "owed"}),
    "to be asked for anew": (take_over("due", 2), OWED, TAKEN | {"status": "due", "attempt": 2, "tries": 0, "due_since": 0.0}),
    "to be asked for, as before": (take_over("due"), LEASED, TAKEN | {"status": "due"}),
    "paid after all": (take_over("succeeded"), OFF, TAKEN | NOT_OFF | {"status": "succeeded"}),
    "still written off": (take_over("written_off"), OFF, TAKEN),
    "tried again": (
        lambda rows: refunds.try_again(rows.session, rows.mine, None), OWED,
        AGAIN,
    ),
    "tried again, which is due": (lambda rows: refunds.try_again(rows.session, rows.mine, None), LEASED, {}),
    "tried again by its key": (
        lambda rows: refunds.try_again(rows.session, rows.mine, "this"), OWED,
        AGAIN,
    ),
    "tried again by the key of another": (lambda rows: refunds.try_again(rows.session, rows.mine, "other"), OWED, {}),
    "written off": (
        lambda rows: refunds.write_off(rows.session, rows.mine, "eve", "small"), OWED,
        ENDED,
    ),
    "written off by its key": (
        lambda rows: refunds.write_off(rows.session, "this", "eve", "small"), OWED,
        ENDED,
    ),
    "written off, which is due": (lambda rows: refunds.write_off(rows.session, "this", "eve", "small"), LEASED, {}),
}  # fmt: skip


@pytest.mark.parametrize("name", VERBS)
async def test_a_verb_moves_its_columns_of_its_row(rows: Rows, name: str) -> None:
    verb, before, moves = VERBS[name]
    await rows.put("this", **before)
    await rows.put("other", payment="other", **before)
    stands = await rows.all()
    await verb(rows)
    assert await rows.all() == stands | {"this": stands["this"] | moves}
    looks = await rows.session.fetch("SELECT payment_key, due_at FROM looks")
    assert [(row["payment_key"], (row["due_at"] - rows.now).total_seconds()) for row in looks] == (
        [("mine", 2.0)] if name == "under way" else []
    )


async def test_one_of_a_bookings_refunds_is_named_by_its_key(rows: Rows) -> None:
    """Without a key all that is owed of it is meant, and told with its cents."""
    for key, cents in (("a", 1), ("b", 2), ("c", 3)):
        await rows.put(key, amount_cents=cents, **OWED)
    assert await refunds.try_again(rows.session, rows.mine, "b") == [("b", 2)]
    assert sorted(await refunds.try_again(rows.session, rows.mine, None)) == [("a", 1), ("c", 3)]
    await rows.session.execute("UPDATE refunds SET status = 'owed'")
    assert [tuple(each) for each in await refunds.write_off(rows.session, "b", "eve", "r")] == [("b", rows.mine, 2)]
    assert sorted(tuple(each) for each in await refunds.write_off(rows.session, rows.mine, "eve", "r")) == [
        ("a", rows.mine, 1), ("c", rows.mine, 3),
    ]  # fmt: skip


async def test_a_payment_of_which_something_is_owed_is_locked(rows: Rows) -> None:
    """Of this booking."""
    await rows.put("this", **OWED)
    await rows.put("other", payment="other", **OWED)
    assert await refunds.lock_owed_payments(rows.session, rows.mine) == ["mine"]
    await rows.session.execute("UPDATE refunds SET status = 'due' WHERE refund_key = 'this'")
    assert await refunds.lock_owed_payments(rows.session, rows.mine) == []


@pytest.mark.parametrize(
    ("change", "payment", "claimed"),
    [
        ({}, "", True), ({"status": "pending"}, "", False), ({"due_at": 0.0}, "", True), ({"due_at": 0.001}, "", False),
        ({"leased_until": None}, "", True), ({"leased_until": 0.0}, "", False), ({}, "status = 'authorized'", False),
        ({}, "gateway = 'bank/2'", False), ({}, "gateway = 'bank'", True), ({}, "gateway = 'bank/1/eu'", True),
    ],
)  # fmt: skip
async def test_what_is_due_and_nobodys_is_claimed(rows: Rows, change: Row, payment: str, claimed: bool) -> None:
    due = {"leased_until": -0.001, "tries": 3, "attempt": 2}
    await rows.put("this", **due | change)
    await rows.put("leased", payment="other", **due | {"leased_until": 9.0})
    if payment:
        await rows.session.execute(f"UPDATE payments SET {payment} WHERE payment_key = 'mine'")
    before = await rows.all()
    found = await refunds.claim_due(rows.session, 1_500, 10, "bank/1")
    assert [tuple(each) for each in found] == [("this", "mine", "ref of mine", 100, 2, 4)] * claimed
    moved = {"leased_until": 1.5, "tries": 4} if claimed else {}
    assert await rows.all() == before | {"this": before["this"] | moved}


async def test_so_many_are_claimed_the_longest_due_first(rows: Rows) -> None:
    for number, due_at in enumerate((-1.0, -4.0, -2.0, -3.0)):
        await rows.put(f"r{number}", due_at=due_at, payment=("mine", "other")[number % 2])
    found = await refunds.claim_due(rows.session, 1_000, 3, "bank/1")
    assert sorted((each.refund_key, each.payment_key, each.reference) for each in found) == [
        ("r1", "other", "ref of other"), ("r2", "mine", "ref of mine"), ("r3", "other", "ref of other"),
    ]  # fmt: skip


@pytest.mark.parametrize(("cents", "status"), [(70, "due"), (0, "succeeded")])
async def test_a_refund_begins(rows: Rows, cents: int, status: str) -> None:
    """Due now; once, where it may have begun before."""
    for _ in range(2):
        await refunds.begin(rows.session, "this", rows.mine, "mine", cents, "EUR", "late", "print", once=True)
    begun = {name: None for name in COLUMNS} | {
        "payment_key": "mine", "amount_cents": cents, "currency": "EUR", "fingerprint": "print", "status": status,
        "reason": "late", "origin": "shop", "attempt": 0, "tries": 0, "due_at": 0.0, "due_since": 0.0, "updated_at": 0.0,
        "created_at": 0.0,
    }  # fmt: skip
    assert await rows.all() == {"this": begun}
    assert await rows.session.fetchval("SELECT booking_id::text FROM refunds") == rows.mine
    with pytest.raises(Exception, match="duplicate key"):
        await refunds.begin(rows.session, "this", rows.mine, "mine", cents, "EUR", "late")


async def test_a_refund_that_was_made_at_the_gateway_is_added(rows: Rows) -> None:
    await refunds.add_foreign(rows.session, "this", rows.mine, "mine", 70, "EUR", "pending", "ref", "code")
    assert await rows.all() == {
        "this": {name: None for name in COLUMNS} | {
            "payment_key": "mine", "amount_cents": 70, "currency": "EUR", "status": "pending", "reason": "at_the_gateway",
            "origin": "gateway", "attempt": 0, "tries": 0, "reference": "ref", "failure_code": "code", "due_at": 0.0,
            "due_since": 0.0, "updated_at": 0.0, "created_at": 0.0,
        }
    }  # fmt: skip
