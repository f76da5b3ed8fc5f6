"""How much: what is set aside, taken and given back, to the cent and in whose currency. Each payment has its own amount,
its price is that of the day it was booked, and no more goes back than was taken."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from boxoffice.errors import NotCancellable, RefundTooLarge
from boxoffice.gateway.base import AuthorizeRequest, CaptureRequest, Unknown
from boxoffice.office import open_box_office
from boxoffice.sales.store import NewTier
from boxoffice.settings import Settings
from tests.conftest import CLIENT
from tests.support.shop.office import Till, book


async def sale(till: Till, currency: str = "USD", **prices: int) -> Till:
    """A till at another event, with ten tickets of each of these prices."""
    tiers = [NewTier(code, price, 10) for code, price in prices.items()]
    starts = datetime.now(UTC) + timedelta(days=30)
    return Till(
        till.office, await till.office.store.create_event(CLIENT, "Event", starts, currency, tiers), till.numbers
    )


async def terms(till: Till, percent: int) -> None:
    """How much of the price a cancellation gives back."""
    await (await till.office.pool()).execute("UPDATE events SET refund_percent = $1", percent)


async def refunds(till: Till, booking: str) -> list[int]:
    """Cents of its refunds, oldest first."""
    rows = await till.fetch("SELECT amount_cents FROM refunds WHERE booking_id = $1 ORDER BY created_at", booking)
    return [row[0] for row in rows]


class Requests:
    """Everything that is set aside and taken from now on: booking or payment, amount and currency."""

    def __init__(self, till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
        self.set_aside: dict[str, tuple[int, str]] = {}
        self.taken: dict[str, tuple[int, str, str]] = {}
        authorize, capture = till.gateway.authorize_batch, till.gateway.capture_batch

        async def authorize_batch(requests: list[AuthorizeRequest]) -> Any:
            self.set_aside |= {each.payment_key: (each.amount_cents, each.currency) for each in requests}
            return await authorize(requests)

        async def capture_batch(requests: list[CaptureRequest]) -> Any:
            self.taken |= {each.payment_key: (each.amount_cents, each.currency, each.reference) for each in requests}
            return await capture(requests)

        monkeypatch.setattr(till.gateway, "authorize_batch", authorize_batch)
        monkeypatch.setattr(till.gateway, "capture_batch", capture_batch)


# ------------------------------------------------------------------ set aside and taken


@pytest.mark.parametrize("by_outbox", [False, True])
@pytest.mark.parametrize("late", [False, True])
async def test_each_payment_of_a_batch_has_its_own_amount_and_currency(
    till: Till, monkeypatch: pytest.MonkeyPatch, by_outbox: bool, late: bool
) -> None:
    """Of two events in two currencies, with one tier and several, settled in one transaction: as new bookings, or as ones
    that PostgreSQL knew as undecided. Captured by whoever settled them, or by the outbox."""
    yen = await sale(till, "JPY", GA=1_501, VIP=2_999)
    euro = await sale(till, "EUR", GA=333, VIP=20_001)
    booked = {
        await yen.book(GA=1): (1_501, "JPY"),
        await euro.book(GA=3): (999, "EUR"),
        await yen.book(GA=2, VIP=1): (6_001, "JPY"),
        await euro.book(VIP=2, GA=1): (40_335, "EUR"),
        await till.book(GA=2, VIP=2): (6_000, "USD"),
    }
    if late:

        async def silent(requests: list[AuthorizeRequest]) -> list[Unknown]:
            return [Unknown("timeout")] * len(requests)

        with monkeypatch.context() as patch:
            patch.setattr(till.gateway, "authorize_batch", silent)
            await till.drain()
        rows = await till.fetch("SELECT booking_id::text, amount_cents, currency, status FROM payments")
        assert {row[0]: (row[1], row[2]) for row in rows} == booked
        assert {row["status"] for row in rows} == {"unknown"}
        for booking in booked:
            await till.claimable(booking)
    asked = Requests(till, monkeypatch)
    await till.drain()
    if by_outbox:
        till.office.pump.given.clear()
    await till.at_rest(*booked)

    payments = {row[0]: row[1] for row in await till.fetch("SELECT payment_key, booking_id::text FROM payments")}
    assert {payments[key]: paid for key, paid in asked.set_aside.items()} == booked
    assert {payments[key]: (cents, currency) for key, (cents, currency, _) in asked.taken.items()} == booked
    assert all(reference == f"sim_{key[:20]}" for key, (_, _, reference) in asked.taken.items())
    rows = await till.fetch(
        "SELECT b.id::text, b.amount_cents AS whole, b.currency, p.amount_cents, p.currency AS of_payment,"
        " (SELECT sum(line_total_cents) FROM booking_items i WHERE i.booking_id = b.id) AS lines"
        " FROM bookings b JOIN payments p ON p.booking_id = b.id"
    )
    for row in rows:
        assert (row["whole"], row["currency"]) == (row["amount_cents"], row["of_payment"]) == booked[row["id"]]
        assert row["lines"] == row["whole"]
        assert (await till.payment(row["id"])).captured_cents == row["whole"]


@pytest.mark.parametrize("price", [500, 1_500], ids=["cut", "raised"])
async def test_a_process_that_has_not_heard_of_a_new_price_charges_it(
    till: Till, settings: Settings, price: int
) -> None:
    """Its map of the catalogue is a moment old. The counter compares: nobody pays the old price, more or less."""
    tier = till.event.tiers[0].id
    async with open_box_office(settings) as other:
        await other.catalogue.refresh()
        assert other.catalogue.known_tier(tier)[1].price_cents == 1_000  # type: ignore[index]
        await till.office.control.change_tier(tier, price_cents=price)
        assert other.catalogue.known_tier(tier)[1].price_cents == 1_000  # type: ignore[index]
        booking = (await book(other, till.event, key="one", GA=3)).booking_id

    await till.at_rest(booking)
    assert (await till.payment(booking)).captured_cents == 3 * price
    (row,) = await till.fetch("SELECT unit_price_cents, line_total_cents FROM booking_items")
    assert tuple(row) == (price, 3 * price)


@pytest.mark.parametrize("price", [500, 1_500], ids=["cut", "raised"])
async def test_a_price_is_that_of_the_day_it_was_booked(till: Till, price: int) -> None:
    """What was held is paid, and what was paid comes back, whatever the tier costs by then."""
    hold, paid = await till.hold(GA=2), await till.book(GA=3)
    await till.rest()
    await till.office.control.change_tier(till.event.tiers[0].id, price_cents=price)

    await till.pay(hold)
    await till.rest()
    assert (await till.payment(hold)).captured_cents == 2_000
    assert (await till.refund(paid, "one", GA=1)).amount_cents == 1_000
    await till.cancel(paid)
    await till.cancel(hold)
    await till.at_rest(hold, paid)

    assert (await till.payment(hold)).refunded_cents == 2_000
    assert (await till.payment(paid)).refunded_cents == 3_000


# ------------------------------------------------------------------ given back


@pytest.mark.parametrize(
    ("prices", "percent", "tickets", "back"),
    [
        ({"GA": 1}, 50, {"GA": 1}, 0),
        ({"GA": 1}, 99, {"GA": 1}, 0),
        ({"GA": 1}, 50, {"GA": 3}, 1),
        ({"GA": 999}, 33, {"GA": 1}, 329),
        ({"GA": 1_001}, 50, {"GA": 1}, 500),
        ({"GA": 1_003}, 50, {"GA": 1}, 501),
        ({"GA": 1_005, "VIP": 2_005}, 50, {"GA": 1, "VIP": 1}, 1_505),
        ({"GA": 55, "VIP": 77}, 90, {"GA": 3, "VIP": 1}, 217),
        ({"GA": 333}, 100, {"GA": 3}, 999),
        ({"GA": 333}, 1, {"GA": 1}, 3),
        ({"GA": 2_147_483_647}, 29, {"GA": 10}, 6_227_702_576),
    ],
)
async def test_a_part_of_the_price_is_rounded_down_once(
    till: Till, prices: dict[str, int], percent: int, tickets: dict[str, int], back: int
) -> None:
    """Of the sum, not of each ticket, and in whole numbers: never a cent too much."""
    other = await sale(till, **prices)
    booking = await other.book(**tickets)
    await other.rest()
    await terms(other, percent)

    assert await other.cancel(booking) == "cancelled"
    assert await refunds(other, booking) == [back]
    await other.at_rest(booking) if percent == 100 else await other.pump()

    assert (await other.payment(booking)).refunded_cents == back
    assert (await other.office.bookings.decided(CLIENT, booking)).refunded_cents == back
    (row,) = await till.fetch("SELECT refunded_cents FROM payments")
    assert row[0] == back


async def test_terms_are_of_the_tickets_that_are_left(till: Till) -> None:
    """A ticket was refunded at its full price; of the other three the event's terms give back a third."""
    booking = await till.book(GA=3, VIP=1)
    await till.rest()
    await terms(till, 33)
    await till.refund(booking, "one", GA=1)

    await till.cancel(booking)
    await till.pump()

    assert await refunds(till, booking) == [1_000, 1_320]
    assert (await till.payment(booking)).refunded_cents == 2_320


async def test_refunds_in_parts_add_up_to_what_was_paid(till: Till) -> None:
    """Each at its own tier's price. The last part ends the booking, though it was asked for by its tickets."""
    other = await sale(till, GA=333, VIP=1_001)
    booking = await other.book(GA=2, VIP=2)
    await other.rest()

    for key, tickets, cents in (("a", {"VIP": 1}, 1_001), ("b", {"GA": 1}, 333), ("c", {"GA": 1}, 333)):
        refunded = await other.refund(booking, key, **tickets)
        assert (refunded.amount_cents, refunded.status) == (cents, "confirmed")
        (row,) = await other.fetch("SELECT refunded_cents FROM payments")
        assert row[0] == sum(await refunds(other, booking))
    for tickets in ({"GA": 1}, {"VIP": 2}, {"GA": 1, "VIP": 1}):
        with pytest.raises(RefundTooLarge):
            await other.refund(booking, "more", **tickets)
    last = await other.refund(booking, "d", VIP=1)
    assert (last.amount_cents, last.status) == (1_001, "cancelled")
    with pytest.raises(NotCancellable):
        await other.refund(booking, "e")
    await other.at_rest(booking)

    assert await refunds(other, booking) == [1_001, 333, 333, 1_001]
    assert (await other.payment(booking)).refunded_cents == 2_668
    assert await other.left("GA") == (10, 0, 0)
    assert await other.left("VIP") == (10, 0, 0)


async def test_what_went_back_already_is_not_given_back_again(till: Till) -> None:
    """Of 30.00 somebody refunded 25.50 at the gateway itself: a cancellation gives back the rest, and a refund of a ticket
    after it nothing."""
    booking = await till.book(GA=3)
    await till.rest()
    (payment,) = await till.fetch("SELECT payment_key FROM payments")
    await till.gateway.refund_at_gateway(payment[0], 2_550)
    await till.office.payments_audit.read_reversals()

    assert (await till.refund(booking, "one", GA=1)).amount_cents == 450
    rest = await till.refund(booking, "rest")
    assert (rest.amount_cents, rest.refund_status, rest.status) == (0, "succeeded", "cancelled")
    await till.at_rest(booking)

    assert (await till.payment(booking)).refunded_cents == 3_000


@pytest.mark.parametrize(("end", "tier"), [("owed", "VIP"), ("written off", "VIP"), ("written off", "GA")])
async def test_what_is_owed_is_nobody_elses_to_have_again(till: Till, end: str, tier: str) -> None:
    """One ticket's refund was refused. Another is given back, of its own tier once nothing is owed; together never more than
    was paid."""
    booking = await till.book("tok_refund_refused", GA=2, VIP=1)
    await till.rest()
    await till.refund(booking, "one", GA=1)
    await till.pump()
    if end == "written off":
        await till.office.owed.write_off(booking, "ada", "paid at the counter")
    (payment,) = await till.fetch("SELECT payment_key FROM payments")
    pool = await till.office.pool()
    await pool.execute("UPDATE booking_items SET unit_price_cents = 3900")

    second = await till.refund(booking, "two", **{tier: 1})

    assert second.amount_cents == 3_000
    (row,) = await till.fetch("SELECT refunded_cents FROM payments WHERE payment_key = $1", payment[0])
    assert row[0] == 3_000


async def test_a_sale_is_never_refunded_as_money_that_came_too_late(till: Till) -> None:
    """Whoever asked for the void was overtaken by the settlement: the payment is to be captured, or is."""
    booking = await till.book(GA=2)
    await till.drain()
    till.office.pump.given.clear()
    (payment,) = await till.fetch("SELECT payment_key FROM payments")
    for status in ("authorized", "captured"):
        if status == "captured":
            await till.rest()
        before = [dict(row) for row in await till.fetch("SELECT * FROM payments")]
        assert before[0]["status"] == status

        await till.office.refunds.captured_too_late(payment[0], 2_000)

        assert [dict(row) for row in await till.fetch("SELECT * FROM payments")] == before
        assert await refunds(till, booking) == []
    await till.at_rest(booking)
    assert await till.state(booking) == "C confirmed"


@pytest.mark.parametrize("status", ["unknown", "requires_action", "failed", "voided", "declined", "authorized"])
async def test_money_that_was_to_be_let_go_and_was_taken_goes_back_whole(till: Till, status: str) -> None:
    """Whatever its row says, once: less what was given back of it before. The booking says why, unless it is confirmed
    by another payment, or was withdrawn."""
    booking = await till.book(GA=2)
    await till.rest()
    (payment,) = await till.fetch("SELECT payment_key FROM payments")
    pool = await till.office.pool()
    await pool.execute(
        "UPDATE payments SET status = $1, due = 'void', due_at = now(), due_since = now(), leased_until = now()", status
    )
    await pool.execute("UPDATE bookings SET status = 'expired', failure_code = 'payment_unavailable'")
    await pool.execute(
        "INSERT INTO refunds (refund_key, booking_id, payment_key, amount_cents, currency, reason, status)"
        " VALUES ('earlier', $1, $2, 300, 'USD', 'test', 'succeeded'),"
        " ('dropped', $1, $2, 500, 'USD', 'test', 'dropped')", booking, payment[0],
    )  # fmt: skip

    for _ in range(2):
        await till.office.refunds.captured_too_late(payment[0], 2_000)

    assert sorted(await refunds(till, booking)) == [300, 500, 1_700]
    (row,) = await till.fetch("SELECT * FROM payments")
    told = [row[name] for name in ("status", "failure_code", "refunded_cents", "due", "due_at", "due_since")]
    assert told == ["captured", "paid_too_late", 2_000, None, None, None]
    assert row["leased_until"] is None
    assert [row[0] for row in await till.fetch("SELECT failure_code FROM bookings")] == ["paid_too_late"]


@pytest.mark.parametrize(
    ("status", "why"),
    [("confirmed", None), ("cancelled", "cancelled"), ("failed", "withdrawn"), ("expired", "withdrawn")],
)
async def test_money_too_late_changes_no_other_reason(till: Till, status: str, why: str | None) -> None:
    booking = await till.book(GA=2)
    await till.rest()
    pool = await till.office.pool()
    await pool.execute("UPDATE payments SET status = 'failed', due = 'void', due_at = now()")
    await pool.execute("UPDATE bookings SET status = $1, failure_code = $2", status, why)
    (payment,) = await till.fetch("SELECT payment_key FROM payments")

    await till.office.refunds.captured_too_late(payment[0], 2_000)

    assert [tuple(row) for row in await till.fetch("SELECT status, failure_code FROM bookings")] == [(status, why)]
    assert await refunds(till, booking) == [2_000]


@pytest.mark.parametrize("written", [500, 2_000, 5_000])
@pytest.mark.parametrize("spoken_for", [0, 300])
async def test_what_was_captured_goes_back_whatever_its_row_says(till: Till, written: int, spoken_for: int) -> None:
    """A hold was changed after its payment was asked for, and its row was written with the new amount. No more is asked for
    than was taken, which the gateway would refuse, and no less."""
    hold = await till.hold(GA=2)
    await till.pay(hold, "tok_card_declined")
    await till.rest()
    (payment,) = await till.fetch("SELECT payment_key FROM payments")
    states = till.gateway.ledger.states
    states[payment[0]] = states[payment[0]].replace("D:2000:USD:0", "C:2000:USD:2000").replace("card_declined", "ok")
    pool = await till.office.pool()
    await pool.execute(
        "UPDATE payments SET status = 'unknown', due = 'void', due_at = now(), due_since = now(), amount_cents = $1",
        written,
    )
    await till.cancel(hold)
    if spoken_for:
        await pool.execute(
            "INSERT INTO refunds (refund_key, booking_id, payment_key, amount_cents, currency, reason, status)"
            " VALUES ('earlier', $1, $2, $3, 'USD', 'test', 'due')", hold, payment[0], spoken_for,
        )  # fmt: skip

    await till.pump()
    await till.pump()

    assert [found.refunded_cents for found in await till.at_gateway(hold)] == [2_000]
    assert sorted(await refunds(till, hold)) == sorted({spoken_for, 2_000 - spoken_for} - {0})
    (row,) = await till.fetch("SELECT status, amount_cents, refunded_cents FROM payments")
    assert tuple(row) == ("captured", 2_000, 2_000)


async def test_a_payment_that_came_too_late_is_not_the_one_that_is_given_back(till: Till) -> None:
    """The hold's first card was captured too late and went back; the second bought the tickets. Cancelling gives back the
    second's money."""
    hold = await till.hold(GA=2)
    await till.pay(hold, "tok_card_declined")
    await till.rest()
    (first,) = await till.fetch("SELECT payment_key FROM payments")
    states = till.gateway.ledger.states
    states[first[0]] = states[first[0]].replace("D:2000:USD:0", "C:2000:USD:2000").replace("card_declined", "ok")
    await till.office.refunds.captured_too_late(first[0], 2_000)
    await till.pay(hold)
    await till.rest()

    await till.cancel(hold)
    await till.at_rest(hold)

    assert [found.refunded_cents for found in await till.at_gateway(hold)] == [2_000, 2_000]
    rows = await till.fetch("SELECT payment_key, refunded_cents FROM payments ORDER BY created_at")
    assert [row[1] for row in rows] == [2_000, 2_000]


async def test_a_refused_capture_gives_back_what_is_left_and_owes_nothing(till: Till) -> None:
    """One ticket of three was refunded before the capture, and so was another booking's. The refusal drops the first's
    refund, and brings back two tickets."""
    booking, other = await till.book("tok_capture_refused", GA=3), await till.book(GA=3)
    await till.drain()
    till.office.pump.given.clear()
    for each in (booking, other):
        await till.refund(each, "one", GA=1)
    record = await till.record(booking)
    assert record is not None

    await till.office.refunds.capture_refused(record.payment_key, "authorization_expired")

    rows = await till.fetch("SELECT booking_id::text, status, failure_code FROM refunds")
    assert {row[0]: (row[1], row[2]) for row in rows} == {booking: ("dropped", "never_captured"), other: ("due", None)}
    (row,) = await till.fetch("SELECT status, due, refunded_cents, tries FROM payments WHERE booking_id = $1", booking)
    assert tuple(row) == ("failed", "void", 0, 0)
    moves = await till.fetch("SELECT sold_delta FROM stock_moves WHERE booking_id = $1 ORDER BY sold_delta", booking)
    assert [row[0] for row in moves] == [-2, -1]
    await till.at_rest(booking, other)
    assert await till.left("GA") == (8, 0, 2)
    assert (await till.payment(other)).refunded_cents == 1_000


async def test_a_refusal_of_what_is_not_due_changes_nothing(till: Till) -> None:
    """It was captured meanwhile, by whoever asked again."""
    booking = await till.book(GA=3)
    await till.rest()
    record = await till.record(booking)
    assert record is not None

    await till.office.refunds.capture_refused(record.payment_key, "authorization_expired")

    assert await till.payments(booking) == ["captured/-"]
    await till.at_rest(booking)
    assert await till.state(booking) == "C confirmed"
