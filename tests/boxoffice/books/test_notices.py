"""What the books tell shops: one notice for each change, with it or not at all, and one row for a batch."""

from __future__ import annotations

from typing import Any

import pytest

from boxoffice import ids
from boxoffice.books import bookings, payments, refunds
from boxoffice.notices.reading import Notice
from ops.rush.findings import Findings
from ops.rush.notice_checks import check_feed, check_notices
from tests.conftest import SHARD
from tests.support.shop.office import Till, book
from tests.support.shop.orders import CLIENT, OTHER


async def feed(till: Till, client: str = CLIENT) -> list[Notice]:
    """All that the shop was told of bookings and money, and that it is what the tables say."""
    notices = till.office.notices
    await notices.number()
    findings, pool = Findings(), await till.office.pool()
    await check_notices(pool, findings)
    await check_feed(till.office.database, pool, findings)
    assert findings["I15"].evidence == []
    found = (await notices.after(client, await notices.start(), most=1_000)).notices
    return [notice for notice in found if not notice.type.startswith("event.")]


async def told(till: Till, booking: str) -> list[tuple[str, dict[str, Any]]]:
    """Of one booking: types and data, in their order."""
    return [(notice.type, dict(notice.data)) for notice in await feed(till) if notice.booking_id == booking]


AUTHORISED = {"status": "confirmed", "payment": {"status": "authorized"}}


async def test_a_sale_and_its_end(till: Till) -> None:
    booking = await till.book(GA=2)
    await till.rest()
    sold = [("booking.confirmed", AUTHORISED), ("payment.captured", {"status": "captured", "amount_cents": 2_000})]
    assert await told(till, booking) == sold
    await till.refund(booking, GA=1)
    await till.rest()
    await till.cancel(booking)
    await till.rest()
    refunded, cancelled = ids.digest(booking, "refund", ids.digest("refund")), ids.digest(booking, "cancel")
    tier = till.event.tiers[0].id
    assert await told(till, booking) == [
        *sold,
        ("refund.requested", {"refund_id": refunded, "amount_cents": 1_000, "status": "due"}),
        ("booking.refunded", {"refund_id": refunded, "items": {tier: 1}}),
        ("refund.succeeded", {"refund_id": refunded, "amount_cents": 1_000, "status": "succeeded"}),
        ("refund.requested", {"refund_id": cancelled, "amount_cents": 1_000, "status": "due"}),
        ("booking.refunded", {"refund_id": cancelled, "items": {tier: 1}}),
        ("booking.cancelled", {"status": "cancelled", "failure_code": "cancelled"}),
        ("refund.succeeded", {"refund_id": cancelled, "amount_cents": 1_000, "status": "succeeded"}),
    ]


async def test_a_settled_batch_is_one_row(till: Till) -> None:
    """For each shop, event and kind; and so are its captures."""
    mine = [await till.book(GA=1, customer=f"c{n}") for n in range(4)]
    declined = [await till.book("tok_card_declined", GA=1, customer=f"d{n}") for n in range(2)]
    theirs = (await book(till.office, till.event, client=OTHER, GA=1)).booking_id
    await till.rest()
    rows = await till.fetch("SELECT client_id, event_id, type, size FROM notices WHERE type !~ '^event' ORDER BY 1, 3")
    assert [tuple(row) for row in rows] == [
        (client, till.event.id, type_, size)
        for client, type_, size in (
            (OTHER, "booking.confirmed", 1), (OTHER, "payment.captured", 1),
            (CLIENT, "booking.confirmed", 4), (CLIENT, "booking.failed", 2), (CLIENT, "payment.captured", 4),
        )
    ]  # fmt: skip
    of = [(notice.type, notice.booking_id) for notice in await feed(till)]
    assert {booking for type_, booking in of if type_ == "booking.confirmed"} == {*mine}
    assert {booking for type_, booking in of if type_ == "booking.failed"} == {*declined}
    failure = {"status": "declined", "failure_code": "card_declined"}
    assert await told(till, declined[0]) == [
        ("booking.failed", {"status": "failed", "failure_code": "payment_declined", "payment": failure})
    ]
    assert [notice.booking_id for notice in await feed(till, OTHER)] == [theirs, theirs]


async def test_a_list_of_one_shops_captures_says_whose_they_are(till: Till) -> None:
    """Of any other the bookings' rows are looked up."""
    for n in range(2):
        await till.book(GA=1, customer=f"c{n}")
    await till.drain()
    till.office.pump.given.clear()
    (row,) = await till.fetch("SELECT id, payment_keys, client_id, event_id FROM captures")
    assert (row["client_id"], row["event_id"]) == (CLIENT, till.event.id)
    first, second = row["payment_keys"]
    pool = await till.office.pool()
    async with pool.acquire() as connection:
        await connection.execute("UPDATE captures SET client_id = NULL")
        await payments.mark_captured(connection, [first, "none"], [row["id"]])
        other = await connection.fetchval(
            "INSERT INTO captures (payment_keys, leased_until, client_id, event_id) VALUES ($1, now(), $2, $3) RETURNING id",
            [second], CLIENT, till.event.id,
        )  # fmt: skip
        await payments.mark_captured(connection, [second, first], [other])
        await payments.mark_captured(connection, [second, first], [])
    rows = await till.fetch(
        "SELECT client_id, event_id, keys, cents FROM notices WHERE type = 'payment.captured' ORDER BY id"
    )
    assert [tuple(row) for row in rows] == [(CLIENT, till.event.id, [key], [1_000]) for key in (first, second)]


async def test_captures_of_a_list_that_is_gone_are_told_to_their_own_shop(till: Till) -> None:
    """Lists of two shops are marked together, and one was taken apart: the other's shop is not told of its payments."""
    await till.book(GA=1)
    await till.drain()
    await book(till.office, till.event, client=OTHER, GA=1)
    await till.drain()
    till.office.pump.given.clear()
    mine, theirs = await till.fetch("SELECT id, payment_keys, client_id FROM captures ORDER BY id")
    assert (mine["client_id"], theirs["client_id"]) == (CLIENT, OTHER)
    pool = await till.office.pool()
    await pool.execute("UPDATE captures SET leased_until = now() - interval '1 second' WHERE id = $1", mine["id"])
    await payments.unlist_lapsed(pool, 5)
    listed = [mine["id"], theirs["id"]]
    await payments.mark_captured(pool, [*mine["payment_keys"], *theirs["payment_keys"]], listed)
    rows = await till.fetch("SELECT client_id, keys FROM notices WHERE type = 'payment.captured'")
    assert {row["client_id"]: row["keys"] for row in rows} == {
        CLIENT: mine["payment_keys"], OTHER: theirs["payment_keys"]
    }  # fmt: skip
    assert len(rows) == 2
    await feed(till)


async def test_a_payment_that_waits_is_told_once(till: Till) -> None:
    """However often it is looked at; and again when it does something else."""
    booking = await till.book("tok_3ds", GA=1)
    for _ in range(4):
        await till.look_again(booking)
    waits = ("booking.pending", {"status": "pending", "payment": {"status": "requires_action"}})
    assert await told(till, booking) == [waits]
    await till.customer_acts(booking)
    await till.rest()
    assert (await told(till, booking))[:2] == [waits, ("booking.confirmed", AUTHORISED)]


async def test_a_payment_that_nobody_waits_for_any_more(till: Till) -> None:
    booking = await till.book("tok_3ds", GA=1)
    await till.drain()
    await till.age_payments()
    await till.look_again(booking)
    await till.rest()
    assert (await told(till, booking))[1:] == [
        (
            "booking.failed",
            {"status": "failed", "failure_code": "payment_unavailable", "payment": {"status": "voided"}},
        )
    ]


async def test_a_hold_that_nobody_tried_to_pay_is_no_notice(till: Till) -> None:
    hold = await till.hold(GA=1)
    other = await till.hold(GA=1)
    await till.cancel(other)
    await till.time_is_up(hold)
    await till.office.holds.expire(SHARD)
    assert await feed(till) == []


async def test_what_postgresql_has_of_a_hold_is_told(till: Till) -> None:
    hold = await till.hold(GA=1)
    await till.pay(hold, "tok_card_declined")
    await till.drain()
    declined = {"status": "declined", "failure_code": "card_declined"}
    held = ("booking.held", {"status": "held", "payment": declined})
    assert await told(till, hold) == [held]
    await till.change(hold, GA=2)
    assert await told(till, hold) == [held, ("booking.changed", {})]
    await till.pay(hold, "tok_card_declined")
    await till.drain()
    assert await told(till, hold) == [held, ("booking.changed", {}), held], "another payment is another matter"
    await till.time_is_up(hold)
    await till.office.holds.expire(SHARD)
    assert (await told(till, hold))[3:] == [("booking.expired", {"status": "expired"})]


async def test_a_capture_that_is_refused(till: Till) -> None:
    booking = await till.book("tok_capture_refused", GA=2)
    await till.rest()
    types = [type_ for type_, _ in await told(till, booking)]
    assert types == [
        "booking.confirmed", "payment.capture_refused", "booking.refunded", "booking.cancelled", "payment.voided"
    ]  # fmt: skip
    assert (await told(till, booking))[3][1] == {"status": "cancelled", "failure_code": "capture_failed"}


async def test_a_refund_that_the_gateway_refuses(till: Till) -> None:
    booking = await till.book("tok_refund_refused", GA=1)
    await till.rest()
    await till.cancel(booking)
    await till.rest()
    assert [type_ for type_, _ in await told(till, booking)][-1] == "refund.failed"
    await till.office.owed.retry(booking)
    await till.rest()
    await till.office.owed.write_off(booking, "ada", "paid in cash")
    moves = [(type_, data["status"]) for type_, data in await told(till, booking) if type_.startswith("refund.")]
    assert moves == [
        ("refund.requested", "due"), ("refund.failed", "owed"), ("refund.requested", "due"), ("refund.failed", "owed"),
        ("refund.written_off", "written_off"),
    ]  # fmt: skip
    said = [data for type_, data in await told(till, booking) if type_ == "refund.written_off"]
    assert "cash" not in str(said), "who wrote it off, and why, is no shop's"


async def test_what_is_rolled_back_was_never_told(till: Till) -> None:
    booking = await till.book(GA=1)
    await till.rest()
    before = await told(till, booking)
    pool = await till.office.pool()
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await bookings.cancel(connection, booking, "cancelled")
        await refunds.begin(connection, "r", booking, None, 0, "USD", "x")
        await transaction.rollback()
    assert await told(till, booking) == before


@pytest.mark.parametrize("verb", ["end_holds", "extend_hold", "mark_paid_too_late"])
async def test_what_moves_nothing_tells_nothing(till: Till, verb: str) -> None:
    booking = await till.book(GA=1)
    await till.rest()
    before, pool = await told(till, booking), await till.office.pool()
    async with pool.acquire() as connection:
        if verb == "end_holds":
            assert await bookings.end_holds(connection, [booking], "expired") == 0
        elif verb == "extend_hold":
            await bookings.extend_hold(connection, booking, 1)
        else:
            await bookings.mark_paid_too_late(connection, booking)
    assert await told(till, booking) == before
