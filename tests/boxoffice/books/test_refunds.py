"""A refund's row, verb by verb: what moves with its status, and what it keeps."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from boxoffice.books import refunds
from boxoffice.office import BoxOffice
from tests.conftest import SaleMaker
from tests.support.shop.office import Till

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
async def till(office: BoxOffice, open_sale: SaleMaker) -> Till:
    return Till(office, await open_sale(GA=10))


async def row_of(till: Till, status: str) -> None:
    """A refund in this status, long ago, of its second attempt, asked for five times."""
    booking = await till.book(GA=1)
    await till.rest()
    (payment,) = await till.fetch("SELECT payment_key FROM payments")
    by, reason, at = ("ann", "paid in cash", LONG_AGO) if status == "written_off" else (None, None, None)
    await (await till.office.pool()).execute(
        "INSERT INTO refunds (refund_key, booking_id, payment_key, amount_cents, currency, status, reason, attempt, tries,"
        " owed_since, due_at, due_since, leased_until, failure_code, written_off_by, written_off_reason, written_off_at)"
        " VALUES ('key', $1::uuid, $2, 400, 'USD', $3, 'x', 2, 5, $4, $5, $5, now() + interval '1 h', 'x', $6, $7, $8)",
        booking, payment[0], status, LONG_AGO if status in ("owed", "written_off") else None, LONG_AGO, by, reason, at,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("before", "after", "attempt", "due_anew", "owed", "tries"),
    [
        # Since when it is due, since when it is owed, and how often this attempt was asked for.
        ("due", "due", 2, False, "never", 5),
        ("due", "due", 3, False, "never", 0),
        ("due", "succeeded", 2, False, "never", 5),
        ("due", "pending", 2, False, "never", 5),
        ("due", "owed", 3, False, "now", 0),
        ("pending", "due", 2, True, "never", 5),
        ("pending", "succeeded", 2, False, "never", 5),
        ("succeeded", "owed", 3, False, "now", 0),
        ("owed", "due", 2, True, "before", 5),
        ("owed", "owed", 3, False, "before", 0),
        ("owed", "succeeded", 2, False, "before", 5),
        ("written_off", "written_off", 2, False, "before", 5),
        ("written_off", "succeeded", 3, False, "before", 0),
    ],
)
async def test_what_moves_with_what_the_gateway_lists(
    till: Till, before: str, after: str, attempt: int, due_anew: bool, owed: str, tries: int
) -> None:
    """It is due since it became due, and owed since it was refused first. Who wrote it off is kept as long as it is."""
    await row_of(till, before)
    pool = await till.office.pool()
    await refunds.take_over(pool, "key", after, attempt, 300, "re", "code")
    (row,) = await till.fetch("SELECT *, due_at > now() - interval '1 min' AS due_now FROM refunds")
    assert (row["status"], row["attempt"], row["amount_cents"]) == (after, attempt, 300)
    assert (row["reference"], row["failure_code"], row["leased_until"], row["due_now"]) == ("re", "code", None, True)
    assert (row["due_since"] > LONG_AGO, row["tries"]) == (due_anew, tries)
    said = "never" if row["owed_since"] is None else "before" if row["owed_since"] == LONG_AGO else "now"
    assert said == owed
    gone: tuple[Any, ...] = (None, None, None)
    written_off = (row["written_off_by"], row["written_off_reason"], row["written_off_at"])
    assert written_off == (("ann", "paid in cash", LONG_AGO) if after == "written_off" else gone)


@pytest.mark.parametrize("once", [True, False])
async def test_a_refund_that_may_be_there_is_left_alone_and_another_is_an_error(till: Till, once: bool) -> None:
    """What is written again after a restore may have been written; two of one request are a bug."""
    await row_of(till, "due")
    ((booking, payment),) = await till.fetch("SELECT booking_id::text, payment_key FROM refunds")
    before, pool = await till.fetch("SELECT * FROM refunds"), await till.office.pool()
    again = refunds.begin(pool, "key", booking, payment, 7, "EUR", "again", "print", once=once)
    if once:
        await again
    else:
        with pytest.raises(asyncpg.UniqueViolationError):
            await again
    assert await till.fetch("SELECT * FROM refunds") == before
    await refunds.begin(pool, "other", booking, payment, 0, "USD", "x", "print", once=once)
    (row,) = await till.fetch("SELECT status, amount_cents, fingerprint FROM refunds WHERE refund_key = 'other'")
    assert tuple(row) == ("succeeded", 0, "print")
