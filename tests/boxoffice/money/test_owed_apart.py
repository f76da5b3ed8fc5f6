"""Refunds that are owed, told apart: of two bookings, of two refunds of one, and what each count adds up."""

from __future__ import annotations

from typing import Any

import pytest

from boxoffice import ids
from boxoffice.books.payments import recount_refunded
from boxoffice.errors import NotFound, NothingOwed
from boxoffice.gateway.base import DisputeSeen, RefundSeen, Reversals
from boxoffice.money.reversals import take_in
from tests.conftest import CLIENT
from tests.support.shop.office import Till


async def refused(till: Till, *bookings: tuple[int, tuple[str, ...]]) -> list[str]:
    """Bookings of so many tickets, of which one ticket each was refunded under these keys, and refused."""
    made = []
    for tickets, names in bookings:
        booking = await till.book("tok_refund_refused", GA=tickets)
        await till.rest()
        for name in names:
            await till.refund(booking, name, GA=1)
        made.append(booking)
    await till.pump()
    return made


def key_of(booking: str, name: str) -> str:
    return ids.digest(booking, "refund", ids.digest(name))


async def statuses(till: Till) -> dict[str, str]:
    return {row[0]: row[1] for row in await till.fetch("SELECT refund_key, status FROM refunds")}


async def read(till: Till, payment: str, *refunds: RefundSeen, disputes: tuple[DisputeSeen, ...] = ()) -> bool | None:
    """The gateway tells of these, and no others."""
    async with (await till.office.pool()).acquire() as connection, connection.transaction():
        return await take_in(connection, payment, Reversals(refunds, disputes))


async def payment_of(till: Till, booking: str) -> Any:
    (row,) = await till.fetch("SELECT * FROM payments WHERE booking_id = $1", booking)
    return row


# ------------------------------------------------------------------ found, tried again, written off


async def test_what_is_owed_is_found_by_booking_and_by_refund(till: Till) -> None:
    one, two = await refused(till, (3, ("a", "b")), (2, ("a",)))
    find = till.office.owed.find
    assert sorted(each.refund_key for each in await find(one)) == sorted([key_of(one, "a"), key_of(one, "b")])
    assert [
        (each.refund_key, each.booking, each.amount_cents, each.attempts) for each in await find(key_of(two, "a"))
    ] == [(key_of(two, "a"), two, 1_000, 1)]
    assert len(await find()) == 3
    assert await find("nonsense") == []


@pytest.mark.parametrize("by_refund", [True, False])
async def test_only_what_was_named_is_written_off(till: Till, by_refund: bool) -> None:
    """One refund, or all of a booking; and never what is on its way."""
    one, two = await refused(till, (4, ("a", "b", "c")), (2, ("a",)))
    await till.office.owed.retry(key_of(one, "c"))
    gone = await till.office.owed.write_off(key_of(one, "a") if by_refund else one, "ada", "cash")

    ended = ["a"] if by_refund else ["a", "b"]
    assert sorted(each.refund_key for each in gone) == sorted(key_of(one, name) for name in ended)
    assert await statuses(till) == {
        key_of(one, "a"): "written_off", key_of(one, "b"): "owed" if by_refund else "written_off",
        key_of(one, "c"): "due", key_of(two, "a"): "owed",
    }  # fmt: skip


async def test_an_operator_tries_one_refund_or_all(till: Till) -> None:
    one, two = await refused(till, (3, ("a", "b")), (2, ("a",)))
    retry = till.office.owed.retry
    assert [each.refund_key for each in await retry(key_of(one, "b"))] == [key_of(one, "b")]
    assert await statuses(till) == {key_of(one, "a"): "owed", key_of(one, "b"): "due", key_of(two, "a"): "owed"}
    with pytest.raises(NotFound):
        await retry(key_of(one, "b"))
    assert len(await retry(None)) == 2
    rows = await till.fetch("SELECT status, tries, reference, leased_until, due_at <= now() AS now FROM refunds")
    assert [tuple(row) for row in rows] == [("due", 0, None, None, True)] * 3
    assert (await payment_of(till, one))["refunded_cents"] == 2_000
    assert (await payment_of(till, two))["refunded_cents"] == 1_000


async def test_a_shop_tries_all_that_is_owed_of_one_booking_and_hears_how_much(till: Till) -> None:
    one, two = await refused(till, (4, ("a", "b")), (2, ("a",)))
    again = await till.office.refunds.retry(CLIENT, one)
    assert (again.amount_cents, again.refund_status, again.repeated) == (2_000, "due", False)
    repeated = await till.office.refunds.retry(CLIENT, one)
    assert (repeated.amount_cents, repeated.repeated) == (1_000, True)
    assert (await statuses(till))[key_of(two, "a")] == "owed"


async def test_what_another_booking_is_owed_is_no_reason_to_try_again(till: Till) -> None:
    await refused(till, (2, ("a",)))
    other = await till.book(GA=2)
    await till.rest()
    for step in ("confirmed", "refunded"):
        with pytest.raises(NothingOwed):
            await till.office.refunds.retry(CLIENT, other)
        if step == "confirmed":
            await till.refund(other, "one", GA=1)


async def test_a_repeated_cancellation_tells_of_the_last_refund(till: Till) -> None:
    booking = await till.book(GA=3)
    await till.rest()
    await till.refund(booking, "one", GA=1)
    first = await till.office.refunds.cancel(CLIENT, booking)
    again = await till.office.refunds.cancel(CLIENT, booking)
    assert (first.refund_key, first.amount_cents, first.repeated) == (ids.digest(booking, "cancel"), 2_000, False)
    assert again == first._replace(repeated=True)


# ------------------------------------------------------------------ counted


async def test_a_count_is_of_one_payment_and_never_more_than_it(till: Till) -> None:
    """The gateway gave back 20.00 twice of 30.00: the row says 30.00. Another payment's is not touched."""
    one, two = await till.book(GA=3), await till.book(GA=3)
    await till.rest()
    for booking in (one, two):
        await till.refund(booking, "one", GA=2)
    payment, other = await payment_of(till, one), await payment_of(till, two)
    twice = [RefundSeen(key_of(one, "one"), f"re_{number}", 2_000, "succeeded") for number in range(2)]
    await read(till, payment["payment_key"], *twice)
    assert (await payment_of(till, one))["refunded_cents"] == 3_000
    assert await payment_of(till, two) == other


@pytest.mark.parametrize(("due", "since"), [("capture", "given"), ("capture", "none"), (None, "none")])
async def test_counting_anew_does_not_make_what_is_due_younger(till: Till, due: str | None, since: str) -> None:
    """Since when something is due is measured from its beginning, whatever else is written of its payment."""
    booking = await till.book(GA=3)
    await till.rest()
    pool = await till.office.pool()
    await pool.execute(
        "UPDATE payments SET due = $1, due_since = CASE WHEN $2 = 'given' THEN now() - interval '2 hours' END,"
        " updated_at = now() - interval '1 hour', refunded_cents = 7", due, since,
    )  # fmt: skip
    before = await payment_of(till, booking)
    async with pool.acquire() as connection:
        await recount_refunded(connection, before["payment_key"])
    after = await payment_of(till, booking)
    assert after["refunded_cents"] == 0
    began = before["due_since"] or before["updated_at"]
    assert after["due_since"] == (began if due else None)


# ------------------------------------------------------------------ read at the gateway


@pytest.mark.parametrize("status", ["due", "pending", "succeeded"])
async def test_the_failure_of_an_attempt_that_is_over_refuses_no_later_one(till: Till, status: str) -> None:
    (booking,) = await refused(till, (2, ("a",)))
    payment, key = (await payment_of(till, booking))["payment_key"], key_of(booking, "a")
    await (await till.office.pool()).execute("UPDATE refunds SET status = $1, reference = 're_2'", status)
    await read(till, payment, RefundSeen(key, "re_1", 1_000, "failed", "lost_card"))
    assert [tuple(row) for row in await till.fetch("SELECT status, attempt, reference FROM refunds")] == [
        (status, 1, "re_2")
    ]
    await read(till, payment, RefundSeen(f"{key}-1", "re_2", 1_000, "failed", "lost_card"))
    assert [tuple(row) for row in await till.fetch("SELECT status, attempt, reference, failure_code FROM refunds")] == [
        ("owed", 2, "re_2", "lost_card")
    ]


@pytest.mark.parametrize("status", ["owed", "written_off"])
async def test_a_refund_of_the_dashboard_that_failed_stays_owed(till: Till, status: str) -> None:
    """Old news that it had succeeded does not undo that; neither does a person's word."""
    booking = await till.book(GA=2)
    await till.rest()
    payment = (await payment_of(till, booking))["payment_key"]
    await read(till, payment, RefundSeen(None, "re_1", 500, "pending"))
    assert await read(till, payment, RefundSeen(None, "re_1", 500, "succeeded")) is False
    await read(till, payment, RefundSeen(None, "re_1", 500, "failed", "lost_card"))
    assert list((await statuses(till)).values()) == ["owed"]
    if status == "written_off":
        await till.office.owed.write_off(booking, "ada", "cash")
    await read(till, payment, RefundSeen(None, "re_1", 500, "succeeded"))
    assert list((await statuses(till)).values()) == [status]


@pytest.mark.parametrize(
    ("second", "row"),
    [
        ("pending", ("pending", 1, "re_2", 500)),
        ("succeeded", ("succeeded", 1, "re_2", 500)),
        ("failed", ("owed", 2, "re_2", 500)),
    ],
)
async def test_a_second_attempt_at_a_refund_of_the_dashboard_is_ours(
    till: Till, second: Any, row: tuple[Any, ...]
) -> None:
    """The first failed, is in the gateway's list for ever, and is told of no more."""
    booking = await till.book(GA=2)
    await till.rest()
    payment = (await payment_of(till, booking))["payment_key"]
    await read(till, payment, RefundSeen(None, "re_1", 500, "succeeded"))
    first = RefundSeen(None, "re_1", 500, "failed", "lost_card")
    await read(till, payment, first)
    (owed,) = await till.office.owed.retry(booking)
    for status in ("pending", second, second):
        await read(till, payment, first, RefundSeen(f"{owed.refund_key}-1", "re_2", 500, status, "closed"))
    found = await till.fetch("SELECT status, attempt, reference, amount_cents::int FROM refunds")
    assert [tuple(each) for each in found] == [row]
    assert (await payment_of(till, booking))["refunded_cents"] == (0 if second == "failed" else 500)


async def test_what_is_read_of_one_refund_leaves_another_as_it_is(till: Till) -> None:
    """A refund that is due later stays due later, with its tries: only what has changed is written."""
    booking = await till.book(GA=4)
    await till.rest()
    await till.refund(booking, "one", GA=1)
    await till.refund(booking, "two", GA=1)
    pool = await till.office.pool()
    await pool.execute(
        "UPDATE refunds SET due_at = now() + interval '1 hour', tries = 5, due_since = due_since - interval '1 h'"
    )
    (before,) = await till.fetch("SELECT * FROM refunds WHERE refund_key = $1", key_of(booking, "two"))
    payment = (await payment_of(till, booking))["payment_key"]
    assert await read(till, payment, RefundSeen(key_of(booking, "one"), "re_1", 1_000, "pending", "processing")) is True
    assert await till.fetch("SELECT * FROM refunds WHERE refund_key = $1", key_of(booking, "two")) == [before]


@pytest.mark.parametrize(
    "change", [{"status": "lost"}, {"withdrawn": False}, {"amount_cents": 1_500}, {"reason": "duplicate"}]
)
async def test_every_change_of_a_dispute_is_written(till: Till, change: dict[str, Any]) -> None:
    """Its state, its amount, whether the money is gone. Read again, nothing changes."""
    booking = await till.book(GA=2)
    await till.rest()
    payment = (await payment_of(till, booking))["payment_key"]
    values: dict[str, Any] = {
        "reference": "dp_1", "amount_cents": 2_000, "status": "needs_response", "reason": "fraudulent", "withdrawn": True,
    }  # fmt: skip
    for _ in range(2):
        await read(till, payment, disputes=(DisputeSeen(**values),))
    first = (await till.fetch("SELECT * FROM disputes"))[0]
    assert {name: first[name] for name in values} == values
    await read(till, payment, disputes=(DisputeSeen(**values | change),))
    (row,) = await till.fetch("SELECT * FROM disputes")
    if "reason" not in change:
        assert {name: row[name] for name in values} == values | change
        assert row["updated_at"] > first["updated_at"]
    else:
        assert row == first, "a reason never changes by itself"


async def test_refunds_of_nothing_are_no_difference(till: Till) -> None:
    """One ticket came back at its full price, the rest for nothing by the event's terms: both books agree."""
    booking = await till.book(GA=3)
    await till.rest()
    await till.refund(booking, "one", GA=1)
    await (await till.office.pool()).execute("UPDATE events SET refund_percent = 0")
    await till.cancel(booking)
    await till.pump()
    assert sorted(row[0] for row in await till.fetch("SELECT amount_cents FROM refunds")) == [0, 1_000]
    assert [found async for found in till.office.payments_audit.run(fix=False, grace_s=0)] == []


@pytest.mark.parametrize(("there", "left"), [(500, 2_000), (1_000, 2_000), (1_001, 1_999), (2_500, 500), (3_000, 0)])
async def test_what_is_due_is_no_more_than_what_is_left(till: Till, there: int, left: int) -> None:
    """Of 30.00 somebody refunded so much at the gateway itself, while 20.00 of ours were on their way."""
    booking = await till.book(GA=3)
    await till.rest()
    await till.refund(booking, "one", GA=2)
    payment = (await payment_of(till, booking))["payment_key"]
    await read(till, payment, RefundSeen(None, "re_1", there, "succeeded"))
    (row,) = await till.fetch("SELECT status, amount_cents, attempt FROM refunds WHERE origin = 'shop'")
    assert tuple(row) == ("due" if left else "succeeded", left, 0)
    assert (await payment_of(till, booking))["refunded_cents"] == there + left
