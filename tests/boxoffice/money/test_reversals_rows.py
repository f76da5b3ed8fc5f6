"""What the gateway's list makes of our refund rows, row by row, before anything is written."""

from __future__ import annotations

from typing import Any

import pytest

from boxoffice import ids
from boxoffice.gateway.base import RefundSeen, Reversals
from boxoffice.money import reversals
from boxoffice.money.reversals import RefusedAttempt, Row, fit, is_known, is_ours, lessen, take_in
from tests.support.shop.office import Till


def row(status: str, attempt: int = 0, cents: int = 500, *, key: str = "key", reference: str | None = None,
        code: str | None = None) -> Row:  # fmt: skip
    return Row(key, attempt, status, cents, "shop", reference, code)


def seen(
    status: Any, key: str | None = "key", cents: int = 500, reference: str = "re", code: str | None = None
) -> RefundSeen:
    return RefundSeen(key, reference, cents, status, code)


Told = tuple[Any, ...]


@pytest.mark.parametrize(
    ("ours", "refund", "taken", "now"),
    [
        # Status, attempt, cents, reference and code of the row afterwards.
        (row("due"), seen("succeeded"), True, ("succeeded", 0, 500, "re", None)),
        (row("due", cents=700), seen("pending", code="slow"), True, ("pending", 0, 500, "re", "slow")),
        (row("due"), seen("failed", code="closed"), True, ("owed", 1, 500, "re", "closed")),
        (row("pending"), seen("failed"), True, ("owed", 1, 500, "re", "refund_failed")),
        (row("succeeded"), seen("failed"), True, ("owed", 1, 500, "re", "refund_failed")),
        (row("owed", 1, code="x"), seen("failed"), True, ("owed", 1, 500, None, "x")),
        (row("owed", 1, code="x"), seen("succeeded"), True, ("succeeded", 0, 500, "re", None)),
        (row("due", 1), seen("failed"), True, ("due", 1, 500, None, None)),
        (row("due", 1), seen("failed", "key-1"), True, ("owed", 2, 500, "re", "refund_failed")),
        (row("due", 1), seen("failed", "key-2"), True, ("owed", 3, 500, "re", "refund_failed")),
        (row("due", 1), seen("succeeded", "key-1"), True, ("succeeded", 1, 500, "re", None)),
        (row("written_off", 1), seen("succeeded"), True, ("written_off", 1, 500, None, None)),
        (row("written_off", 1), seen("succeeded", "key-1"), True, ("succeeded", 1, 500, "re", None)),
        (row("dropped"), seen("succeeded", "key-1"), True, ("succeeded", 1, 500, "re", None)),
        (row("dropped", 2), seen("succeeded", "key-1"), True, ("dropped", 2, 500, None, None)),
        (row("written_off", 1), seen("failed", "key-1"), True, ("written_off", 1, 500, None, None)),
        (row("due"), seen("succeeded", "other"), False, ("due", 0, 500, None, None)),
        (row("due"), seen("succeeded", None), False, ("due", 0, 500, None, None)),
        (row("due"), seen("succeeded", "key-x"), False, ("due", 0, 500, None, None)),
    ],
)
def test_an_attempt_of_ours(ours: Row, refund: RefundSeen, taken: bool, now: Told) -> None:
    assert is_ours(refund, {"key": ours}, set()) is taken
    assert ours.now == now


@pytest.mark.parametrize(("reference", "taken"), [("re", True), ("another", False)])
def test_what_the_gateway_made_twice_is_told_as_it_is(reference: str, taken: bool) -> None:
    """The first is the row's; another one like it is nobody's of ours. One that failed is no second."""
    ours, met = row("due"), set[str]()
    assert is_ours(seen("failed", "key"), {"key": ours}, met) and met == set()
    assert is_ours(seen("succeeded", "key-1"), {"key": ours}, met) and met == {"key"}
    assert is_ours(seen("succeeded", "key-1", 100, reference), {"key": ours}, met) is taken
    assert ours.now == ("succeeded", 1, 500, "re", None)


FOREIGN = ids.digest("pay", "gateway", "re")


@pytest.mark.parametrize(
    ("ours", "refund", "known", "now"),
    [
        (None, seen("succeeded", None), False, None),
        (None, seen("pending", None), False, None),
        (None, seen("failed", None), True, None),
        (row("succeeded"), seen("pending", None, 300, code="slow"), True, ("pending", 0, 300, None, "slow")),
        (row("pending", code="slow"), seen("succeeded", None), True, ("succeeded", 0, 500, None, None)),
        (row("succeeded"), seen("failed", None, code="closed"), True, ("owed", 1, 500, None, "closed")),
        (row("pending"), seen("failed", None), True, ("owed", 1, 500, None, "refund_failed")),
        (row("succeeded", 1), seen("failed", None), True, ("succeeded", 1, 500, None, None)),
        (row("due", 1), seen("succeeded", None), True, ("due", 1, 500, None, None)),
        (row("owed", code="x"), seen("failed", None), True, ("owed", 0, 500, None, "x")),
        (row("written_off"), seen("succeeded", None, 300), True, ("written_off", 0, 500, None, None)),
    ],
)
def test_a_refund_that_somebody_made_at_the_gateway(
    ours: Row | None, refund: RefundSeen, known: bool, now: Told | None
) -> None:
    rows = {FOREIGN: ours} if ours else {}
    assert is_known(refund, rows, "pay") is known
    assert ours is None or ours.now == now
    assert is_known(refund, rows, "another payment") is (refund.status == "failed"), "a reference is its payment's"


@pytest.mark.parametrize(
    ("cents", "less", "now"),
    [
        (0, 500, ("succeeded", 0, 0, None, None)),
        (1, 499, ("owed", 0, 1, None, "x")),
        (500, 0, ("owed", 0, 500, None, "x")),
    ],
)
def test_less_is_asked_for(cents: int, less: int, now: Told) -> None:
    ours = row("owed", code="x")
    assert lessen(ours, cents) == less
    assert ours.now == now


@pytest.mark.parametrize(
    ("rows", "left", "refused", "now"),
    [
        # Of each: status and cents. What is due comes first, and each leaves less for those behind it.
        ([("due", 500)], 500, None, [("due", 500)]),
        ([("due", 500)], 499, None, [("due", 499)]),
        ([("due", 500)], 0, None, [("succeeded", 0)]),
        ([("due", 500)], -7, None, [("succeeded", 0)]),
        ([("owed", 500), ("due", 300)], 600, None, [("owed", 300), ("due", 300)]),
        ([("owed", 500), ("due", 300)], 800, None, [("owed", 500), ("due", 300)]),
        ([("due", 300), ("due", 300)], 400, None, [("due", 300), ("due", 100)]),
        ([("succeeded", 900), ("pending", 900), ("due", 300)], 200, None, [("succeeded", 900), ("pending", 900), ("due", 200)]),
        ([("owed", 500)], 300, 0, [("due", 300)]),
        ([("owed", 500)], 500, 0, [("owed", 500)]),
        ([("owed", 500)], 0, 0, [("succeeded", 0)]),
        ([("owed", 500), ("owed", 500)], 300, 1, [("owed", 300), ("succeeded", 0)]),
        ([("owed", 300), ("owed", 500)], 400, 1, [("owed", 300), ("due", 100)]),
    ],
)  # fmt: skip
def test_no_more_is_asked_for_than_is_left(
    rows: list[tuple[str, int]], left: int, refused: int | None, now: list[tuple[str, int]]
) -> None:
    """What was refused because too little was left is due again for what is; another that is owed stays so."""
    ours = {f"k{n}": row(status, cents=cents, key=f"k{n}", code="x") for n, (status, cents) in enumerate(rows)}
    fit(ours, left, None if refused is None else ours[f"k{refused}"])
    assert [(each.status, each.amount_cents) for each in ours.values()] == now
    for each in ours.values():
        assert each.failure_code == (None if each.now[0] != each.before[0] else "x")


@pytest.mark.parametrize(
    ("status", "again"), [("authorized", True), ("unknown", None), ("voided", None), ("failed", None), ("captured", False)]
)  # fmt: skip
async def test_only_of_a_captured_payment_anything_goes_back(till: Till, status: str, again: bool | None) -> None:
    """One whose capture is not marked yet is looked at again; of one that nobody knows nothing is written."""
    booking = await till.book(GA=1)
    await till.rest()
    pool = await till.office.pool()
    await pool.execute("UPDATE payments SET status = $1", status)
    key = await pool.fetchval("SELECT payment_key FROM payments WHERE booking_id = $1", booking)
    async with pool.acquire() as connection, connection.transaction():
        list_ = Reversals((seen("succeeded", None, 300),))
        assert await take_in(connection, key, list_) is again
        assert await take_in(connection, "nobody's", list_) is None
        if status == "captured":
            assert await take_in(connection, key, Reversals((seen("pending", None, 300),))) is True
    assert await pool.fetchval("SELECT count(*) FROM refunds") == (1 if status == "captured" else 0)


@pytest.mark.parametrize(
    ("before", "refused", "status", "attempt"),
    [
        (("due", 0), RefusedAttempt("key", 0, "closed"), "owed", 1),
        (("due", 1), RefusedAttempt("key", 0, "closed"), "due", 1),
        (("pending", 0), RefusedAttempt("key", 0, "closed"), "pending", 0),
        (("due", 0), RefusedAttempt("another", 0, "closed"), "due", 0),
        (("due", 0), None, "due", 0),
    ],
)
async def test_only_the_attempt_that_was_refused_is_over(
    till: Till, before: tuple[str, int], refused: RefusedAttempt | None, status: str, attempt: int
) -> None:
    """Whoever was overtaken refuses nothing."""
    booking = await till.book(GA=1)
    await till.rest()
    pool = await till.office.pool()
    key = await pool.fetchval("SELECT payment_key FROM payments WHERE booking_id = $1", booking)
    await pool.execute(
        "INSERT INTO refunds (refund_key, booking_id, payment_key, amount_cents, currency, status, attempt, reason, tries)"
        " VALUES ('key', $1::uuid, $2, 400, 'USD', $3, $4, 'x', 5)", booking, key, *before,
    )  # fmt: skip
    async with pool.acquire() as connection, connection.transaction():
        await take_in(connection, key, Reversals(), refused)
    (found,) = await till.fetch("SELECT status, attempt, failure_code, owed_since IS NOT NULL, tries FROM refunds")
    code = "closed" if status == "owed" else None
    assert tuple(found) == (status, attempt, code, status == "owed", 0 if status == "owed" else 5)


async def test_a_refund_of_the_dashboard_pays_what_was_owed(till: Till) -> None:
    """Oldest first, down to nothing; what is refused by this very list is owed only from now on."""
    booking = await till.book(GA=2)
    await till.rest()
    pool = await till.office.pool()
    key = await pool.fetchval("SELECT payment_key FROM payments WHERE booking_id = $1", booking)
    for name, status, cents in (("a", "owed", 300), ("b", "owed", 400), ("c", "due", 200)):
        await pool.execute(
            "INSERT INTO refunds (refund_key, booking_id, payment_key, amount_cents, currency, status, reason,"
            " owed_since, failure_code) VALUES ($1, $2::uuid, $3, $4, 'USD', $5, 'x', now(), 'x')",
            name, booking, key, cents, status,
        )  # fmt: skip
    async with pool.acquire() as connection, connection.transaction():
        await take_in(connection, key, Reversals((seen("pending", None, 500, code="slow"),)))
    rows = await till.fetch(
        "SELECT refund_key, booking_id::text, payment_key, amount_cents, currency, status, reason, origin, reference,"
        " failure_code FROM refunds ORDER BY origin DESC, refund_key"
    )
    foreign = ids.digest(key, "gateway", "re")
    assert [tuple(each) for each in rows] == [
        ("a", booking, key, 0, "USD", "succeeded", "x", "shop", None, None),
        ("b", booking, key, 200, "USD", "owed", "x", "shop", None, "x"),
        ("c", booking, key, 200, "USD", "due", "x", "shop", None, "x"),
        (foreign, booking, key, 500, "USD", "pending", "at_the_gateway", "gateway", "re", "slow"),
    ]
    assert await pool.fetchval("SELECT refunded_cents FROM payments") == 700


def test_a_row_knows_whether_it_changed() -> None:
    ours = row("due", 2, 500, reference="r", code="c")
    assert ours.now == ours.before == ("due", 2, 500, "r", "c")
    ours.refuse(4, "no")
    assert ours.now == ("owed", 5, 500, "r", "no") and ours.before == ("due", 2, 500, "r", "c")
    assert reversals.foreign_key(seen("succeeded"), "pay") == FOREIGN
