"""Which key a payment, a refund, an attempt or a message has: it is of one booking, one payment, one call of one shop, and
of no other. Two that are alike in everything else are paid, let go and paid back each for itself; a repeat does nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from boxoffice import ids
from boxoffice.gateway.base import (
    AlreadyCaptured,
    AuthorizeRequest,
    CaptureRequest,
    Done,
    Found,
    RefundSeen,
    Refused,
    Reversals,
)
from boxoffice.gateway.webhooks import GatewayEvent
from boxoffice.money.owed import attempt_key
from boxoffice.money.reversals import take_in
from boxoffice.stores import keys
from tests.conftest import CLIENT, SHARD, SaleMaker
from tests.support.shop.office import Till
from tests.support.shop.orders import OTHER, card


class Asked:
    """What the gateway is asked for from now on: the operation, the key it knows it by, the payment and the cents."""

    def __init__(self, till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[str, str, str, int]] = []
        gateway = till.gateway
        authorize, capture, void, refund = (
            gateway.authorize_batch, gateway.capture_batch, gateway.void, gateway.refund,
        )  # fmt: skip

        async def authorize_batch(requests: list[AuthorizeRequest]) -> Any:
            for each in requests:
                self.calls.append(("auth", each.payment_key, each.booking_id, each.amount_cents))
            return await authorize(requests)

        async def capture_batch(requests: list[CaptureRequest]) -> Any:
            for each in requests:
                self.calls.append(("cap", each.payment_key, each.reference, each.amount_cents))
            return await capture(requests)

        async def void_(payment_key: str, reference: str | None) -> Any:
            self.calls.append(("void", payment_key, reference or "", 0))
            return await void(payment_key, reference)

        async def refund_(refund_key: str, payment_key: str, reference: str, amount_cents: int) -> Any:
            self.calls.append(("refund", refund_key, payment_key, amount_cents))
            return await refund(refund_key, payment_key, reference, amount_cents)

        for name, fake in (
            ("authorize_batch", authorize_batch), ("capture_batch", capture_batch), ("void", void_), ("refund", refund_),
        ):  # fmt: skip
            monkeypatch.setattr(gateway, name, fake)

    def of(self, operation: str) -> list[tuple[str, str, int]]:
        """Key, what it is about, and cents of each call of this kind."""
        return [call[1:] for call in self.calls if call[0] == operation]


async def ask(till: Till, key: str, *, client: str = CLIENT, token: str | None = "tok_ok", count: int = 2) -> str:
    """The same request, under this key of this shop."""
    return await till.book(token, key=key, client=client, GA=count)


async def pay(till: Till, booking: str, key: str, *, client: str = CLIENT, token: str = "tok_ok") -> None:
    await till.office.holds.pay(client, booking, card(token), ids.digest(key))


# ------------------------------------------------------------------ payments


async def two_keys_of_a_shop(till: Till, open_sale: SaleMaker) -> list[str]:
    return [await ask(till, "one"), await ask(till, "two")]


async def a_key_of_two_shops(till: Till, open_sale: SaleMaker) -> list[str]:
    return [await ask(till, "one"), await ask(till, "one", client=OTHER)]


async def a_key_at_two_events(till: Till, open_sale: SaleMaker) -> list[str]:
    other = Till(till.office, await open_sale(GA=10), till.numbers)
    return [await ask(till, "one"), await ask(other, "one")]


async def a_pay_key_of_two_holds(till: Till, open_sale: SaleMaker) -> list[str]:
    holds = [await ask(till, key, token=None) for key in ("one", "two")]
    for hold in holds:
        await pay(till, hold, "pay")
    return holds


async def a_pay_key_of_two_shops(till: Till, open_sale: SaleMaker) -> list[str]:
    holds = [await ask(till, "one", token=None, client=client) for client in (CLIENT, OTHER)]
    for hold, client in zip(holds, (CLIENT, OTHER), strict=True):
        await pay(till, hold, "pay", client=client)
    return holds


async def the_key_of_a_booking_pays_a_hold(till: Till, open_sale: SaleMaker) -> list[str]:
    booking, hold = await ask(till, "one"), await ask(till, "two", token=None)
    await pay(till, hold, "one")
    return [booking, hold]


Making = Callable[[Till, SaleMaker], Awaitable[list[str]]]


@pytest.mark.parametrize(
    "made",
    [
        two_keys_of_a_shop,
        a_key_of_two_shops,
        a_key_at_two_events,
        a_pay_key_of_two_holds,
        a_pay_key_of_two_shops,
        the_key_of_a_booking_pays_a_hold,
    ],
)
async def test_two_that_are_alike_are_paid_each_for_itself(
    till: Till, open_sale: SaleMaker, monkeypatch: pytest.MonkeyPatch, made: Making
) -> None:
    asked = Asked(till, monkeypatch)

    bookings = await made(till, open_sale)
    assert len(set(bookings)) == 2
    await till.at_rest(*bookings)

    for booking in bookings:
        assert await till.state(booking) == "C confirmed"
        assert (await till.payment(booking)).captured_cents == 2_000
    payments = [key for key, _, _ in asked.of("auth")]
    assert len(set(payments)) == 2
    assert sorted(about for _, about, _ in asked.of("auth")) == sorted(bookings)
    assert sorted(key for key, _, _ in asked.of("cap")) == sorted(payments)


async def test_the_same_again_is_one_payment(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """Booked twice under one key, paid twice under one key."""
    asked = Asked(till, monkeypatch)
    booking, hold = await ask(till, "one"), await ask(till, "two", token=None)
    for _ in range(2):
        assert await ask(till, "one") == booking
        await pay(till, hold, "pay")
    await till.rest()
    assert await ask(till, "one") == booking
    await pay(till, hold, "pay")
    await till.at_rest(booking, hold)

    assert sorted(about for _, about, _ in asked.of("auth")) == sorted([booking, hold])
    assert len(asked.of("cap")) == 2


async def test_another_pay_key_is_another_payment_of_the_hold(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first card had no money. The second payment is captured, under its own key and reference."""
    asked = Asked(till, monkeypatch)
    hold = await ask(till, "one", token=None)
    await pay(till, hold, "first", token="tok_insufficient_funds")
    await till.rest()
    await pay(till, hold, "second")
    await till.at_rest(hold)

    (first, _, _), (second, _, _) = asked.of("auth")
    assert first != second
    assert asked.of("cap") == [(second, f"sim_{second[:20]}", 2_000)]
    rows = await till.fetch("SELECT payment_key, status, reference FROM payments ORDER BY created_at")
    assert [tuple(row) for row in rows] == [
        (first, "declined", f"sim_{first[:20]}"), (second, "captured", f"sim_{second[:20]}"),
    ]  # fmt: skip


async def test_only_the_payment_that_is_not_sold_is_let_go(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hold's first payment came in another amount and is let go; the second is captured and stays."""
    hold = await ask(till, "one", token=None)
    await pay(till, hold, "first", token="tok_wrong_amount")
    await till.drain()
    await pay(till, hold, "second")
    await till.drain()
    asked = Asked(till, monkeypatch)
    await till.at_rest(hold)

    first, second = [row[0] for row in await till.fetch("SELECT payment_key FROM payments ORDER BY created_at")]
    assert asked.of("void") == [(first, f"sim_{first[:20]}", 0)]
    assert [found.status for found in await till.at_gateway(hold)] == ["voided", "captured"]
    assert await till.state(hold) == "C confirmed"
    assert (await till.gateway.lookup(second, None)).captured_cents == 2_000  # type: ignore[union-attr]


# ------------------------------------------------------------------ refunds


async def cancel(till: Till, booking: str) -> None:
    assert await till.cancel(booking) == "cancelled"


async def refund_all(till: Till, booking: str) -> None:
    await till.refund(booking, "refund")


async def refund_one(till: Till, booking: str) -> None:
    await till.refund(booking, "refund", GA=1)


async def money_too_late(till: Till, booking: str) -> None:
    query = "SELECT payment_key, status, amount_cents FROM payments WHERE booking_id = $1"
    (payment,) = await till.fetch(query, booking)
    if payment["status"] == "captured":
        return
    await till.office.refunds.captured_too_late(payment["payment_key"], payment["amount_cents"])


async def given_up(till: Till, bookings: list[str]) -> None:
    """These bookings have failed and their payments were given up; the gateway has captured them."""
    pool = await till.office.pool()
    await pool.execute("UPDATE payments SET status = 'failed' WHERE booking_id = ANY($1::uuid[])", bookings)
    await pool.execute("UPDATE bookings SET status = 'failed' WHERE id = ANY($1::uuid[])", bookings)


Giving = Callable[[Till, str], Awaitable[None]]


@pytest.mark.parametrize(
    ("give", "back"), [(cancel, 2_000), (refund_all, 2_000), (refund_one, 1_000), (money_too_late, 2_000)]
)
async def test_two_that_are_alike_are_paid_back_each_for_itself(
    till: Till, monkeypatch: pytest.MonkeyPatch, give: Giving, back: int
) -> None:
    """The shop gives both its refunds the same key. What is asked for again is not paid again."""
    asked = Asked(till, monkeypatch)
    bookings = [await ask(till, "one"), await ask(till, "two")]
    await till.rest()
    if give is money_too_late:
        await given_up(till, bookings)

    for _ in range(2):
        for booking in bookings:
            await give(till, booking)
        await till.pump()

    for booking in bookings:
        assert (await till.payment(booking)).refunded_cents == back
    assert len({key for key, _, _ in asked.of("refund")}) == len(asked.of("refund")) == 2
    assert len({payment for _, payment, _ in asked.of("refund")}) == 2
    assert [cents for _, _, cents in asked.of("refund")] == [back, back]


async def test_two_keys_refund_two_tickets_of_one_booking(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(till, monkeypatch)
    booking = await ask(till, "one", count=3)
    await till.rest()
    for _ in range(2):
        for key in ("first", "second"):
            await till.refund(booking, key, GA=1)
    await till.pump()
    await till.cancel(booking)
    await till.at_rest(booking)

    assert len({key for key, _, _ in asked.of("refund")}) == len(asked.of("refund")) == 3
    assert (await till.payment(booking)).refunded_cents == 3_000


async def test_two_late_payments_of_one_booking_go_back_both(till: Till) -> None:
    """A hold was tried with two cards, gave both up, and the gateway captured both all the same."""
    hold = await ask(till, "one", token=None)
    for key in ("first", "second"):
        await pay(till, hold, key, token="tok_card_declined")
        await till.rest()
    states = till.gateway.ledger.states
    payments = [row[0] for row in await till.fetch("SELECT payment_key FROM payments")]
    for payment in payments:
        states[payment] = states[payment].replace("D:2000:USD:0", "C:2000:USD:2000").replace("card_declined", "ok")
    await (await till.office.pool()).execute("UPDATE payments SET status = 'failed'")

    for payment in payments * 2:
        await till.office.refunds.captured_too_late(payment, 2_000)
    await till.pump()

    assert [found.refunded_cents for found in await till.at_gateway(hold)] == [2_000, 2_000]
    rows = await till.fetch("SELECT payment_key, amount_cents FROM refunds ORDER BY payment_key")
    assert [tuple(row) for row in rows] == [(payment, 2_000) for payment in sorted(payments)]


async def test_strays_are_paid_back_each_for_itself(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """Money of bookings that nobody knows: what the audit gives back has a key of each payment, and another after a refund
    that failed."""
    asked = Asked(till, monkeypatch)
    payments = [ids.digest(name) for name in ("one", "two")]
    for payment in payments:
        request = AuthorizeRequest(
            payment, ids.booking_id(SHARD, 1_000), 500, "USD", "card", "tok_refund_fails_late_5126"
        )
        await till.gateway.authorize(request)
        await till.gateway.capture(payment, "", 500)

    for attempt in range(2):
        mended = [found.mended async for found in till.office.payments_audit.run(fix=True, grace_s=0)]
        assert mended == [True, True]
        for payment in payments:
            states = till.gateway.ledger.states
            states[payment] = states[payment].rpartition("~")[0] + "~1:tok_refund_fails_late_5126"
            assert (await till.gateway.lookup(payment, None)).refunded_cents == 0  # type: ignore[union-attr]
        firsts = [ids.digest(payment, "audit") for payment in payments]
        assert [key for key, _, _ in asked.of("refund")][-2:] == [attempt_key(first, attempt) for first in firsts]


async def test_every_attempt_after_a_refusal_has_a_key_of_its_own(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two bookings alike, refused again and again: six keys, and each refund counts its own attempts."""
    asked = Asked(till, monkeypatch)
    bookings = [await ask(till, key, token="tok_refund_refused") for key in ("one", "two")]
    await till.rest()
    for _ in range(3):
        for booking in bookings:
            await till.cancel(booking)
        await till.pump()

    firsts = sorted(row[0] for row in await till.fetch("SELECT refund_key FROM refunds"))
    assert len(firsts) == 2
    assert sorted(key for key, _, _ in asked.of("refund")) == sorted(
        attempt_key(first, attempt) for first in firsts for attempt in range(3)
    )
    assert [attempt_key("k", attempt) for attempt in range(3)] == ["k", "k-1", "k-2"]


async def test_trying_one_refund_again_leaves_the_others(till: Till) -> None:
    """Two refunds of one booking, and one of another, are owed. The shop repeats one of them under its key."""
    bookings = [await ask(till, key, token="tok_refund_refused", count=3) for key in ("one", "two")]
    await till.rest()
    for booking, key in ((bookings[0], "first"), (bookings[0], "second"), (bookings[1], "first")):
        await till.refund(booking, key, GA=1)
    await till.pump()
    assert len(await till.office.owed.find()) == 3

    again = await till.refund(bookings[0], "second", GA=1)

    due = [row[0] for row in await till.fetch("SELECT refund_key FROM refunds WHERE status = 'due'")]
    assert due == [again.refund_key] == [ids.digest(bookings[0], "refund", ids.digest("second"))]
    assert (again.amount_cents, again.repeated, again.refund_status) == (1_000, False, "due")
    rows = await till.fetch("SELECT booking_id::text, refunded_cents FROM payments")
    assert dict(map(tuple, rows)) == {bookings[0]: 1_000, bookings[1]: 0}


async def test_a_replayed_refund_tells_of_itself(till: Till) -> None:
    """Three refunds of one booking; each key tells what it gave back, and not what another did."""
    booking = await ask(till, "one", count=6)
    await till.rest()
    made = {f"key-{count}": await till.refund(booking, f"key-{count}", GA=count) for count in (1, 2, 3)}
    for count in (2, 1, 3):
        again = await till.refund(booking, f"key-{count}", GA=count)
        first = made[f"key-{count}"]
        assert (again.refund_key, again.amount_cents, again.repeated) == (first.refund_key, 1_000 * count, True)
    assert len({each.refund_key for each in made.values()}) == 3


# ------------------------------------------------------------------ what the gateway tells


async def test_refunds_of_the_dashboard_are_told_apart(till: Till) -> None:
    """Two of one payment, and one of another payment under the same name: three, however often they are read."""
    bookings = [await ask(till, key) for key in ("one", "two")]
    await till.rest()
    payments = [
        (await till.fetch("SELECT payment_key FROM payments WHERE booking_id = $1", booking))[0][0]
        for booking in bookings
    ]
    for _ in range(2):
        for payment, references in zip(payments, (("re_1", "re_2"), ("re_1",)), strict=True):
            seen = tuple(RefundSeen(None, reference, 300, "succeeded") for reference in references)
            async with (await till.office.pool()).acquire() as connection, connection.transaction():
                await take_in(connection, payment, Reversals(seen))

    rows = await till.fetch("SELECT payment_key, refunded_cents FROM payments")
    assert dict(map(tuple, rows)) == {payments[0]: 600, payments[1]: 300}
    assert len(await till.fetch("SELECT 1 FROM refunds")) == 3


async def test_two_gateways_may_call_their_messages_alike(till: Till) -> None:
    """A message's id is good at its gateway; a second delivery there changes nothing."""
    receive = till.office.webhooks.receive
    event = GatewayEvent("evt_1", "authorized", ids.digest("x"), None)
    assert [await receive(name, event) for name in ("simulator", "stripe", "simulator", "stripe")] == [
        True, True, False, False,
    ]  # fmt: skip
    rows = await till.fetch("SELECT gateway, id, kind FROM webhook_events ORDER BY 1")
    assert [tuple(row) for row in rows] == [
        ("simulator", "evt_1", "authorized"), ("stripe", "evt_1", "authorized"),
    ]  # fmt: skip


async def test_a_refusal_is_of_the_payment_that_was_refused(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a batch the gateway refuses one, the last: that one's booking is cancelled, for the gateway's reason."""
    bookings = [await ask(till, f"{number}", count=1) for number in range(3)]
    await till.drain()
    capture = till.gateway.capture_batch
    record = await till.record(bookings[2])
    assert record is not None

    async def refuses(requests: list[CaptureRequest]) -> Any:
        others = [request for request in requests if request.payment_key != record.payment_key]
        answers = dict(zip([each.payment_key for each in others], await capture(others), strict=True))
        return [answers.get(request.payment_key, Refused("expired_card")) for request in requests]

    with monkeypatch.context() as patch:
        patch.setattr(till.gateway, "capture_batch", refuses)
        await till.office.pump.work_given()

    assert [await till.state(booking) for booking in bookings] == ["C confirmed", "C confirmed", "X cancelled"]
    (row,) = await till.fetch("SELECT status, failure_code, due FROM payments WHERE booking_id = $1", bookings[2])
    assert tuple(row) == ("failed", "expired_card", "void")
    await till.at_rest(*bookings)


async def test_money_is_looked_for_under_its_own_key(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hold's second payment waits at the bank until time is up: that one is looked up and let go, not the first."""
    hold = await ask(till, "one", token=None)
    await pay(till, hold, "first", token="tok_card_declined")
    await till.rest()
    await pay(till, hold, "second", token="tok_3ds")
    await till.drain()
    record = await till.record(hold)
    assert record is not None
    looked: list[str] = []
    lookup = till.gateway.lookup

    async def noted(payment_key: str, reference: str | None = None, since_ms: int | None = None) -> Any:
        looked.append(payment_key)
        return await lookup(payment_key, reference, since_ms)

    monkeypatch.setattr(till.gateway, "lookup", noted)
    asked = Asked(till, monkeypatch)
    await till.look_again(hold)
    await till.time_is_up(hold)
    await till.look_again(hold)
    await till.at_rest(hold)

    assert set(looked) == {record.payment_key}
    assert asked.of("void") == [(record.payment_key, f"sim_{record.payment_key[:20]}", 0)]
    assert [found.status for found in await till.at_gateway(hold)] == ["declined", "voided"]


@pytest.mark.parametrize("taken", [False, True])
@pytest.mark.parametrize("cancelled", [False, True])
async def test_what_a_customer_finished_in_the_last_moment(
    till: Till, monkeypatch: pytest.MonkeyPatch, taken: bool, cancelled: bool
) -> None:
    """At the deadline its hold keeps its tickets and is confirmed. A cancelled one is let go: unless the money was taken
    already, because that is never undone behind the shop's back."""
    hold = await ask(till, "one", token=None)
    await pay(till, hold, "pay", token="tok_3ds")
    await till.drain()
    record = await till.record(hold)
    assert record is not None
    await till.customer_acts(hold)
    if taken:
        assert isinstance(await till.gateway.capture(record.payment_key, "", 2_000), Done)
        assert await till.gateway.void(record.payment_key, None) == AlreadyCaptured(2_000)
    if cancelled:
        outcome, _ = await till.office.holds.cancel(record)
        assert outcome == "requested"
    else:
        await till.time_is_up(hold)
        await till.office.holds.expire(ids.shard_of(hold))
    await till.look_again(hold)
    await till.at_rest(hold)

    kept = taken or not cancelled
    assert await till.state(hold) == ("C confirmed" if kept else "X cancelled")
    assert await till.left("GA") == ((8, 0, 2) if kept else (10, 0, 0))
    payment = await till.payment(hold)
    assert isinstance(payment, Found)
    assert (payment.status, payment.captured_cents, payment.refunded_cents) == (
        ("captured", 2_000, 0) if kept else ("voided", 0, 0)
    )


async def test_a_parked_booking_that_is_tried_again_and_cancelled_is_let_go(till: Till) -> None:
    """It killed whoever asked for its money. Nothing in its record says so, and yet the gateway is asked."""
    booking = await ask(till, "one")
    record = await till.record(booking)
    assert record is not None
    await till.gateway.authorize(AuthorizeRequest(record.payment_key, booking, 2_000, "USD", "card", "tok_ok_4242"))
    await till.office.redis.zadd(keys.pending(ids.shard_of(booking)), {booking: 1 + 14 / 16})
    await till.drain()
    assert [letter.booking for letter in await till.office.parked.all()] == [booking]

    await till.office.parked.retry(booking)
    record = await till.record(booking)
    assert record is not None
    assert (await till.office.holds.cancel(record))[0] == "requested"
    await till.at_rest(booking)

    assert await till.state(booking) == "X cancelled"
    assert (await till.payment(booking)).status == "voided"
