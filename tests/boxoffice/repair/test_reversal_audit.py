"""Refunds and disputes: the gateway's against our rows, and what stays open in the end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from boxoffice import ids
from boxoffice.gateway.base import (
    DisputeSeen,
    Record,
    RefundSeen,
    Reversals,
)
from boxoffice.repair.reversal_audit import mend_reversals, open_ends, reversals_differ
from tests.support.differences import AGO, NOW, pair_of_sales, stray, told
from tests.support.shop.office import Till


def refund(status: Any = "succeeded", cents: int = 400, reference: str = "re_1") -> RefundSeen:
    return RefundSeen(None, reference, cents, status)


def dispute(status: str = "needs_response", cents: int = 700) -> DisputeSeen:
    return DisputeSeen("du_1", cents, status, "fraudulent", True)


OUR_REFUND = ("succeeded", 400, "re_1")


REVERSALS: list[tuple[Any, Any, Any, Any, bool]] = [
    ([], [], [], [], False),
    ([refund()], [], [OUR_REFUND], [], False),
    ([refund()], [], [], [], True),
    ([], [], [OUR_REFUND], [], True),
    ([refund("failed")], [], [], [], False),
    ([refund("pending")], [], [OUR_REFUND], [], True),
    ([refund("pending")], [], [("pending", 400, "re_1")], [], False),
    ([refund(cents=401)], [], [OUR_REFUND], [], True),
    ([refund(reference="re_2")], [], [OUR_REFUND], [], True),
    ([refund(), refund(reference="re_2")], [], [OUR_REFUND], [], True),
    ([refund()], [], [("due", 400, "re_1")], [], True),
    ([], [], [("owed", 400, "re_1")], [], False),
    ([], [], [("succeeded", 1, "re_1")], [], True),
    ([refund(cents=1)], [], [("succeeded", 1, "re_1")], [], False),
    ([], [], [("succeeded", 0, "re_1")], [], False),
    ([], [dispute()], [], [], True),
    ([], [dispute()], [], [dispute()], False),
    ([], [dispute("lost")], [], [dispute()], True),
    ([], [dispute(cents=1)], [], [dispute()], True),
    ([], [], [], [dispute()], False),
    ([refund()], [dispute()], [OUR_REFUND], [], True),
    ([refund()], [dispute()], [], [dispute()], True),
]
"""Refunds and disputes at the gateway; refunds and disputes in our rows; whether they differ."""


async def test_whether_reversals_differ(till: Till) -> None:
    """Of this payment, with another one beside it whose refunds and disputes are its own."""
    first, second = await pair_of_sales(till)
    pool = await till.office.pool()
    await pool.execute("UPDATE refunds SET updated_at = now() WHERE booking_id = $1::uuid", second)
    rows = dict(map(tuple, await till.fetch("SELECT booking_id::text, payment_key FROM payments")))
    mine, others = rows[first], rows[second]
    dispute_row = (
        "INSERT INTO disputes (gateway, reference, payment_key, amount_cents, status, reason)"
        " VALUES ('simulator', $1, $2, $3, $4, 'fraudulent')"
    )
    await pool.execute(dispute_row, "du_2", others, 5, "won")
    for refunds, disputes, ours, our_disputes, differ in REVERSALS:
        await pool.execute("DELETE FROM refunds WHERE payment_key = $1", mine)
        await pool.execute("DELETE FROM disputes WHERE payment_key = $1", mine)
        for status, cents, reference in ours:
            await pool.execute(
                "INSERT INTO refunds (refund_key, booking_id, payment_key, amount_cents, currency, status, reason,"
                " reference, owed_since, updated_at, due_since, failure_code)"
                " SELECT 'mine', $1::uuid, $2, $3, 'USD', $4, 'x', $5, now(), long_ago, long_ago, 'x'"
                " FROM (SELECT now() - interval '100 seconds' AS long_ago) AS past",
                first, mine, cents, status, reference,
            )  # fmt: skip
        for each in our_disputes:
            await pool.execute(dispute_row, "du_1", mine, each.amount_cents, each.status)
        record = Record(mine, first, 1, told("captured", 1_000).payment, Reversals(tuple(refunds), tuple(disputes)))
        case = f"{refunds} {disputes} against {ours} {our_disputes}"
        assert await reversals_differ(pool, record, 60) is differ, case
        assert await reversals_differ(pool, record, 120) is (differ and not any(cents for _, cents, _ in ours)), case


@pytest.mark.parametrize(
    ("status", "updated", "since", "moving"),
    [("succeeded", NOW, AGO, True), ("succeeded", AGO, NOW, False), ("due", AGO, NOW, True), ("due", NOW, AGO, False),
     ("owed", NOW, AGO, True), ("pending", AGO, AGO, False)],
)  # fmt: skip
async def test_what_changed_just_now_may_be_half_told(
    till: Till, status: str, updated: str, since: str, moving: bool
) -> None:
    """By the time that counts: of what is due since when it is, of the rest since it was written. Then it is no
    difference yet."""
    first, _ = await pair_of_sales(till)
    pool = await till.office.pool()
    key = await pool.fetchval("SELECT payment_key FROM payments WHERE booking_id = $1", first)
    await pool.execute(
        f"UPDATE refunds SET status = '{status}', updated_at = {updated}, due_since = {since},"
        " owed_since = now(), failure_code = 'x', amount_cents = 1"
    )
    record = Record(key, first, 1, told("captured", 1_000).payment, Reversals((refund(cents=2),)))
    assert await reversals_differ(pool, record, 60) is not moving


async def test_what_still_differs_is_not_mended(till: Till) -> None:
    """Also when our row has changed just now: nobody else is about to tell."""
    first, _ = await pair_of_sales(till)
    pool = await till.office.pool()
    key = await pool.fetchval("SELECT payment_key FROM payments WHERE booking_id = $1", first)
    await pool.execute("UPDATE refunds SET updated_at = now()")
    listed = next(record for record in [each async for each in till.gateway.records()] if record.payment_key == key)
    assert await mend_reversals(till.office.database, listed) is True
    assert await mend_reversals(till.office.database, replace(listed, reversals=Reversals())) is False


async def test_money_that_is_not_where_it_should_be_in_the_end(till: Till) -> None:
    """Every open end in the words in which a person reads it; what is over, and what came due meanwhile, is none."""
    first, second = await pair_of_sales(till)
    pool = await till.office.pool()
    keys_of = dict(map(tuple, await till.fetch("SELECT booking_id::text, payment_key FROM payments")))
    await pool.execute("DELETE FROM refunds")
    long_ago = datetime(2026, 1, 2, 3, 4, 5, 678_000, UTC)
    for key, status, code, attempt, tries in (
        ("overdue", "due", None, 0, 9), ("pending", "pending", None, 0, 1), ("slow", "pending", "bank_slow", 0, 1),
        ("owed", "owed", "account_closed", 3, 0), ("done", "succeeded", None, 0, 1),
    ):  # fmt: skip
        await pool.execute(
            "INSERT INTO refunds (refund_key, booking_id, payment_key, amount_cents, currency, status, reason,"
            " failure_code, attempt, tries, due_since, updated_at, owed_since)"
            " VALUES ($1, $2::uuid, $3, 1, 'USD', $4, 'x', $5, $6, $7, $8, $8, $8)",
            key, first, keys_of[first], status, code, attempt, tries, long_ago,
        )  # fmt: skip
    for number, status in enumerate(
        ("needs_response", "won", "lost", "warning_closed", "prevented", "charge_refunded")
    ):
        await pool.execute(
            "INSERT INTO disputes (gateway, reference, payment_key, amount_cents, status, reason, withdrawn)"
            " VALUES ('simulator', $1, $2, 700, $3, 'fraudulent', $4)",
            f"du_{number}", keys_of[second], status, True,
        )  # fmt: skip

    async def ends(grace_s: int = 60, began: datetime | None = None) -> list[tuple[Any, ...]]:
        found = await open_ends(pool, grace_s, began or datetime.now(UTC) + timedelta(hours=1))
        assert {(each.payment_key, each.booking) for each in found if each.what == "disputed"} <= {
            (keys_of[second], second)
        }
        return [(each.what, each.at_gateway, each.ours, each.known) for each in found]

    overdue = ("refund_overdue", "no answer", "1 USD due since 2026-01-02 03:04:05+00, asked 9 times", False)
    known = [
        ("disputed", "needs_response (fraudulent)", "700 disputed, withdrawn", True),
        ("refund_owed", "account_closed, refused 3 times", "1 USD owed since 2026-01-02 03:04:05+00", True),
    ]
    pending = [
        ("refund_pending", code, "1 USD since 2026-01-02 03:04:05+00", True) for code in ("bank_slow", "pending")
    ]
    assert sorted(await ends()) == sorted([*known, overdue, *pending])
    assert [end[0] for end in await ends()] == [
        "disputed", "refund_overdue", "refund_owed", "refund_pending", "refund_pending",
    ]  # fmt: skip
    assert overdue not in await ends(began=long_ago), "it came due when the audit had begun"
    assert overdue in await ends(began=long_ago + timedelta(seconds=1))
    assert overdue not in await ends(grace_s=10**9)
    await pool.execute("UPDATE payments SET status = 'authorized' WHERE booking_id = $1", first)
    assert overdue not in await ends(), "it waits for its capture"
    await pool.execute("UPDATE disputes SET withdrawn = false")
    assert ("disputed", "needs_response (fraudulent)", "700 disputed", True) in await ends()


@pytest.mark.parametrize("books", ["ours", "other"])
async def test_reversals_alone_are_read_of_our_payments(till: Till, books: str) -> None:
    """How many payments had any that we lacked; strays, and payments in other books, are left alone."""
    booked = [await till.book(GA=1) for _ in range(3)]
    await stray(till, captured=True)
    await till.rest()
    pool = await till.office.pool()
    for booking in booked[:2]:
        key = await pool.fetchval("SELECT payment_key FROM payments WHERE booking_id = $1", booking)
        await till.gateway.refund_at_gateway(key, 100)
    await till.gateway.refund_at_gateway(ids.digest("stray"), 100)
    if books == "other":
        await pool.execute("UPDATE payments SET gateway = 'stripe/live/acct_1' WHERE booking_id = $1", booked[0])
    read = till.office.payments_audit.read_reversals
    assert await read() == (2 if books == "ours" else 1)
    rows = await till.fetch("SELECT booking_id::text, amount_cents FROM refunds")
    assert {tuple(row) for row in rows} == {(each, 100) for each in booked[0 if books == "ours" else 1 : 2]}
    assert await read() == 0
