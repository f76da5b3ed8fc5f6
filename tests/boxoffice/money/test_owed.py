"""Money that is owed: a refund that the gateway refused is known, can be tried again, and ends only when it is paid or a
person writes it off."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from boxoffice.errors import CannotRun, NotCancellable, NotFound, NothingOwed, RefundOwed
from boxoffice.gateway.base import Done, Pending, RefundSeen, Refused, Reversals, Unknown
from boxoffice.money.reversals import RefusedAttempt, take_in
from tests.conftest import CLIENT, load_all
from tests.support.shop.office import Till
from tests.support.shop.orders import OTHER


async def confirmed(till: Till, token: str = "tok_refund_refused", **tiers: int) -> str:
    """A confirmed and captured booking."""
    booking = await till.book(token, **tiers)
    await till.rest()
    assert await till.state(booking) == "C confirmed"
    return booking


async def owed(till: Till, token: str = "tok_refund_refused", **tiers: int) -> str:
    """A cancelled booking whose refund was refused."""
    booking = await confirmed(till, token, **tiers)
    await till.cancel(booking)
    await till.pump()
    assert await rows(till) == [("owed", 1)]
    return booking


async def rows(till: Till) -> list[tuple[Any, ...]]:
    """Status and attempts of each refund, in the order in which they were made."""
    found = await till.fetch("SELECT status, attempt FROM refunds ORDER BY created_at, refund_key")
    return [tuple(row) for row in found]


async def told(till: Till, booking: str) -> tuple[Any, ...]:
    """What its shop reads: refunded, and how the refunds stand."""
    view = await till.office.bookings.decided(CLIENT, booking)
    assert view.refund is not None
    return view.refunded_cents, view.refund.status, view.refund.pending_cents, view.refund.owed_cents, view.refund.code


async def works(till: Till, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The gateway refunds as it should from now on. The keys it was asked with."""
    asked: list[str] = []
    states = till.gateway.ledger.states
    for key, word in states.items():
        states[key] = word.replace("tok_refund_refused", "tok_ok")
    refund = till.gateway.refund

    async def noted(refund_key: str, *args: Any) -> Any:
        asked.append(refund_key)
        return await refund(refund_key, *args)

    monkeypatch.setattr(till.gateway, "refund", noted)
    return asked


# ------------------------------------------------------------------ known


async def test_what_is_owed_is_told_apart(till: Till) -> None:
    """Refunded is what was paid back or is under way; owed is neither, and has a code and a time."""
    booking = await confirmed(till, GA=2)
    await till.cancel(booking)
    assert await told(till, booking) == (2_000, "pending", 2_000, 0, None)

    await till.pump()

    assert await told(till, booking) == (0, "owed", 0, 2_000, "refund_failed")
    (refund,) = await till.office.owed.find()
    assert (refund.booking, refund.amount_cents, refund.attempts, refund.failure_code) == (
        booking, 2_000, 1, "refund_failed",
    )  # fmt: skip
    assert await till.left("GA") == (10, 0, 0), "its tickets are sold again"


async def test_the_audit_knows_what_is_owed_from_what_is_wrong(till: Till) -> None:
    booking = await owed(till, GA=2)

    found = [found async for found in till.office.payments_audit.run(fix=True, grace_s=0)]
    assert [(each.what, each.known, each.booking) for each in found] == [("refund_owed", True, booking)]

    await (await till.office.pool()).execute("UPDATE refunds SET status = 'succeeded'")
    found = [found async for found in till.office.payments_audit.run(fix=False, grace_s=0)]
    assert [(each.what, each.known) for each in found] == [("refunded_differs", False)]


# ------------------------------------------------------------------ tried again


async def cancel_again(till: Till, booking: str) -> None:
    assert await till.cancel(booking) == "cancelled"


async def cancel_when_redis_has_forgotten(till: Till, booking: str) -> None:
    await till.office.redis.flushdb()
    await till.office.redis.set("{s01}:gate", "first")
    await load_all(till.office)
    assert await till.cancel(booking) == "cancelled"


async def refund_all(till: Till, booking: str) -> None:
    assert (await till.refund(booking, "again")).repeated is False


async def refund_an_item(till: Till, booking: str) -> None:
    await till.refund(booking, "again", GA=1)


async def say_owed(till: Till, booking: str) -> None:
    refunded = await till.office.refunds.retry(CLIENT, booking)
    assert (refunded.amount_cents, refunded.refund_status, refunded.status) == (2_000, "due", "cancelled")


async def an_operator(till: Till, booking: str) -> None:
    assert [refund.booking for refund in await till.office.owed.retry(booking)] == [booking]


async def an_operator_for_all(till: Till, booking: str) -> None:
    assert [refund.booking for refund in await till.office.owed.retry(None)] == [booking]


Trying = Callable[[Till, str], Awaitable[None]]


@pytest.mark.parametrize(
    "again",
    [
        cancel_again,
        cancel_when_redis_has_forgotten,
        refund_all,
        refund_an_item,
        say_owed,
        an_operator,
        an_operator_for_all,
    ],
)
async def test_it_is_tried_again_and_paid_once(till: Till, monkeypatch: pytest.MonkeyPatch, again: Trying) -> None:
    """By shop or operator, under a key of its own."""
    booking = await owed(till, GA=2)
    asked = await works(till, monkeypatch)

    await again(till, booking)
    assert await told(till, booking) == (2_000, "pending", 2_000, 0, None)
    await till.at_rest(booking)

    assert await told(till, booking) == (2_000, "succeeded", 0, 0, None)
    (key,) = await till.fetch("SELECT refund_key FROM refunds")
    assert asked == [f"{key[0]}-1"]
    assert (await till.payment(booking)).refunded_cents == 2_000


async def test_whoever_tries_again_while_it_is_tried_hears_the_same(
    till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A retry whose answer was lost is sent again under its key; ten come at once. It is one attempt."""
    booking = await owed(till, GA=2)
    asked = await works(till, monkeypatch)

    answers = await asyncio.gather(
        *(till.refund(booking, "again") for _ in range(5)),
        *(till.office.refunds.retry(CLIENT, booking) for _ in range(5)),
    )
    await asyncio.gather(*(till.cancel(booking) for _ in range(5)))

    assert {(answer.refund_status, answer.amount_cents) for answer in answers} == {("due", 2_000)}
    assert [answer.repeated for answer in answers].count(False) == 1
    await till.at_rest(booking)
    late = await till.refund(booking, "again")
    assert (late.refund_status, late.repeated) == ("succeeded", True), "it was paid meanwhile"
    assert len(asked) == 1
    assert (await till.payment(booking)).refunded_cents == 2_000


async def test_it_may_be_refused_again(till: Till) -> None:
    """Then it is owed as before, since the same moment."""
    booking = await owed(till, GA=2)
    (before,) = await till.fetch("SELECT owed_since FROM refunds")
    for attempt in (2, 3):
        await till.cancel(booking)
        await till.pump()
        assert await rows(till) == [("owed", attempt)]
    (after,) = await till.fetch("SELECT owed_since FROM refunds")
    assert before == after
    assert (await till.payment(booking)).refunded_cents == 0


async def test_a_card_that_refuses_once(till: Till) -> None:
    booking = await owed(till, "tok_refund_refused_once", GA=2)
    await till.cancel(booking)
    await till.at_rest(booking)
    assert await told(till, booking) == (2_000, "succeeded", 0, 0, None)


async def test_a_part_that_is_owed(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """One ticket of three came back, its money did not. The same key tries it again; what is still valid is refunded
    besides, and nobody gets more than was paid."""
    booking = await confirmed(till, GA=3)
    await till.refund(booking, "one", GA=1)
    await till.pump()
    assert await told(till, booking) == (0, "owed", 0, 1_000, "refund_failed")
    assert await till.left("GA") == (8, 0, 2)
    (item,) = await till.fetch("SELECT refunded FROM booking_items")
    assert item[0] == 1, "the ticket is on sale again"
    await works(till, monkeypatch)

    again = await till.refund(booking, "one", GA=1)
    assert (again.amount_cents, again.refund_status, again.repeated) == (1_000, "due", False)
    await till.pump()
    assert await told(till, booking) == (1_000, "succeeded", 0, 0, None)
    await till.cancel(booking)
    await till.at_rest(booking)
    assert await told(till, booking) == (3_000, "succeeded", 0, 0, None)


async def test_what_is_owed_comes_before_more_of_its_tier(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shop whose refund failed and that asks once more, under a new key, means that ticket. Once it is on its way, the
    same request means another one."""
    booking = await confirmed(till, GA=3, VIP=1)
    await till.refund(booking, "one", GA=1)
    await till.pump()
    await works(till, monkeypatch)
    before = await till.fetch("SELECT * FROM booking_items ORDER BY tier_id")
    for _ in range(2):
        with pytest.raises(RefundOwed) as refused:
            await till.refund(booking, "two", GA=1)
        assert refused.value.details == {"tier_id": till.event.tiers[0].id, "owed_cents": 1_000}
    assert await till.fetch("SELECT * FROM booking_items ORDER BY tier_id") == before
    assert await rows(till) == [("owed", 1)]

    assert (await till.refund(booking, "vip", VIP=1)).amount_cents == 2_000, "another tier is another matter"
    await till.office.refunds.retry(CLIENT, booking)
    assert (await till.refund(booking, "two", GA=1)).repeated is False
    await till.at_rest(booking)
    assert (await till.payment(booking)).refunded_cents == 4_000
    assert await till.left("GA") == (9, 0, 1)


async def test_of_an_old_refund_nobody_knows_the_tiers(till: Till) -> None:
    """Its stock moves have been trimmed: it comes before any ticket."""
    booking = await confirmed(till, GA=2, VIP=1)
    await till.refund(booking, "one", GA=1)
    await till.pump()
    await (await till.office.pool()).execute("DELETE FROM stock_moves")
    with pytest.raises(RefundOwed):
        await till.refund(booking, "vip", VIP=1)


async def test_refunding_the_rest_tries_a_part_that_is_owed_again(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    booking = await confirmed(till, GA=3)
    await till.refund(booking, "one", GA=1)
    await till.pump()
    await works(till, monkeypatch)
    assert (await till.refund(booking, "rest")).amount_cents == 2_000
    await till.at_rest(booking)
    assert (await till.payment(booking)).refunded_cents == 3_000


async def test_cancelling_the_rest_tries_a_part_that_is_owed_again(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    booking = await confirmed(till, GA=3)
    await till.refund(booking, "one", GA=1)
    await till.pump()
    await works(till, monkeypatch)
    await till.cancel(booking)
    await till.at_rest(booking)
    assert (await till.payment(booking)).refunded_cents == 3_000


async def test_money_of_a_failed_booking_is_owed_too(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was captured though it should have been voided, and its refund was refused: the booking has failed, and a refund
    of it tries again."""
    booking = await confirmed(till, GA=2)
    pool = await till.office.pool()
    (payment,) = await till.fetch("SELECT payment_key FROM payments")
    await pool.execute("UPDATE payments SET status = 'failed'")
    await pool.execute("UPDATE bookings SET status = 'failed' WHERE id = $1", booking)
    await pool.execute("UPDATE inventory SET sold = 0")
    for _ in range(2):
        await till.office.refunds.captured_too_late(payment[0], 2_000)
    await till.pump()
    assert await rows(till) == [("owed", 1)]
    asked = await works(till, monkeypatch)

    refunded = await till.office.refunds.retry(CLIENT, booking)

    assert (refunded.status, refunded.amount_cents) == ("failed", 2_000)
    await till.pump()
    assert len(asked) == 1
    assert (await till.payment(booking)).refunded_cents == 2_000


async def test_what_was_never_refused_cannot_be_tried_again(till: Till) -> None:
    booking = await confirmed(till, "tok_ok", GA=1)
    with pytest.raises(NothingOwed):
        await till.office.refunds.retry(CLIENT, booking)
    await till.cancel(booking)
    await till.pump()
    with pytest.raises(NothingOwed):
        await till.office.refunds.retry(CLIENT, booking)
    with pytest.raises(NotCancellable):
        await till.refund(booking, "other")
    with pytest.raises(NotFound):
        await till.office.owed.retry(booking)
    assert await till.office.owed.retry(None) == []


async def test_another_shop_tries_nothing_again(till: Till) -> None:
    booking = await owed(till, GA=1)
    with pytest.raises(NotFound):
        await till.office.refunds.retry(OTHER, booking)
    assert await rows(till) == [("owed", 1)]


# ------------------------------------------------------------------ never twice


async def test_an_unknown_outcome_is_asked_for_under_the_same_key(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody may know whether it was made: a new key would make it twice."""
    booking = await owed(till, GA=2)
    asked = await works(till, monkeypatch)
    refund = till.gateway.refund

    async def lost(*args: Any) -> Any:
        await refund(*args)
        return Unknown("timeout")

    with monkeypatch.context() as patch:
        patch.setattr(till.gateway, "refund", lost)
        await till.cancel(booking)
        for _ in range(3):
            await till.pump_once()
            await till.cancel(booking)
    await till.at_rest(booking)
    assert len(set(asked)) == 1
    assert (await till.payment(booking)).refunded_cents == 2_000


async def test_a_pump_that_was_overtaken_writes_nothing(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """It heard a refusal, and froze. Another heard it too, the shop tried again and was paid; then the first wakes."""
    booking = await confirmed(till, "tok_refund_refused_once", GA=2)
    await till.cancel(booking)
    refund, frozen, go_on = till.gateway.refund, asyncio.Event(), asyncio.Event()

    async def slow(*args: Any) -> Any:
        outcome = await refund(*args)
        if not frozen.is_set():
            frozen.set()
            await go_on.wait()
        return outcome

    monkeypatch.setattr(till.gateway, "refund", slow)
    await till.sooner()
    sleeper = asyncio.create_task(till.office.pump.work_outbox())
    await frozen.wait()
    await till.pump()
    assert await rows(till) == [("owed", 1)]
    await till.cancel(booking)
    await till.sooner()
    go_on.set()
    await sleeper
    assert await rows(till) == [("due", 1)]
    await till.at_rest(booking)
    assert await rows(till) == [("succeeded", 1)]


@pytest.mark.parametrize("outcome", [Done("re_old"), Pending("re_old", "processing"), Refused("refund_failed")])
async def test_an_answer_to_an_earlier_attempt_changes_nothing(
    till: Till, monkeypatch: pytest.MonkeyPatch, outcome: object
) -> None:
    booking = await owed(till, GA=2)
    await till.cancel(booking)
    await till.sooner()
    claims = await till.office.pump.refund_pump.claim(1, 10)
    await (await till.office.pool()).execute("UPDATE refunds SET attempt = 2")

    async def answers(*_: object) -> object:
        return outcome

    monkeypatch.setattr(till.gateway, "refund", answers)
    for claim in claims:
        await claim
    assert await rows(till) == [("due", 2)]


# ------------------------------------------------------------------ written off


async def test_a_person_writes_it_off(till: Till) -> None:
    """Who, when and why are kept; it is owed no more, and counts as not refunded."""
    booking = await owed(till, GA=2)
    with pytest.raises(CannotRun):
        await till.office.owed.write_off(booking, "ada", "  ")
    with pytest.raises(CannotRun):
        await till.office.owed.write_off(booking, "", "paid by bank transfer")

    (gone,) = await till.office.owed.write_off(booking, "ada", "paid by bank transfer")

    assert gone.amount_cents == 2_000
    (row,) = await till.fetch(
        "SELECT status, written_off_by, written_off_reason, written_off_at IS NOT NULL FROM refunds"
    )
    assert tuple(row) == ("written_off", "ada", "paid by bank transfer", True)
    assert await told(till, booking) == (0, "written_off", 0, 0, None)
    assert [found async for found in till.office.payments_audit.run(fix=False, grace_s=0)] == []
    with pytest.raises(NotFound):
        await till.office.owed.write_off(booking, "ada", "again")
    assert await till.cancel(booking) == "cancelled"
    await till.pump()
    assert await rows(till) == [("written_off", 1)]


async def test_what_is_on_its_way_is_not_written_off(till: Till) -> None:
    booking = await owed(till, GA=2)
    await till.cancel(booking)
    with pytest.raises(NotFound):
        await till.office.owed.write_off(booking, "ada", "paid by bank transfer")


async def test_a_written_off_ticket_is_not_refunded_with_the_others(
    till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three tickets; one was paid back at the counter. Cancelling gives back the money of two."""
    booking = await confirmed(till, GA=3)
    await till.refund(booking, "one", GA=1)
    await till.pump()
    await till.office.owed.write_off(booking, "ada", "paid at the counter")
    await works(till, monkeypatch)
    await till.cancel(booking)
    await till.pump()
    assert (await till.payment(booking)).refunded_cents == 2_000


# ------------------------------------------------------------------ what the gateway says went back


async def read(till: Till, *refunds: RefundSeen, refused: RefusedAttempt | None = None) -> bool | None:
    """The gateway tells of these refunds, and no others."""
    (payment,) = await till.fetch("SELECT payment_key FROM payments")
    async with (await till.office.pool()).acquire() as connection, connection.transaction():
        return await take_in(connection, payment[0], Reversals(refunds), refused)


async def test_an_error_is_not_believed_when_the_refund_is_there(till: Till) -> None:
    booking = await confirmed(till, "tok_ok", GA=2)
    await till.cancel(booking)
    (key,) = await till.fetch("SELECT refund_key FROM refunds")
    await read(till, RefundSeen(key[0], "re_1", 2_000, "succeeded"), refused=RefusedAttempt(key[0], 0, "whatever"))
    assert await rows(till) == [("succeeded", 0)]


async def test_a_gateway_that_made_one_refund_twice_is_told_as_it_is(till: Till) -> None:
    booking = await confirmed(till, "tok_ok", GA=3)
    await till.refund(booking, "one", GA=1)
    (key,) = await till.fetch("SELECT refund_key FROM refunds")
    twice = [RefundSeen(key[0], f"re_{number}", 1_000, "succeeded") for number in range(2)]
    for _ in range(2):
        await read(till, *twice)
    assert await rows(till) == [("succeeded", 0), ("succeeded", 0)]
    assert (await told(till, booking))[0] == 2_000


async def test_a_store_that_went_back_learns_of_later_attempts(till: Till) -> None:
    """PostgreSQL was restored from before the first refusal; the gateway has both attempts."""
    booking = await confirmed(till, "tok_ok", GA=2)
    await till.cancel(booking)
    (key,) = await till.fetch("SELECT refund_key FROM refunds")
    attempts = [
        RefundSeen(key[0], "re_1", 2_000, "failed", "lost_or_stolen_card"),
        RefundSeen(f"{key[0]}-1", "re_2", 2_000, "succeeded"),
    ]
    await read(till, *attempts)
    assert await rows(till) == [("succeeded", 1)]
    assert await told(till, booking) == (2_000, "succeeded", 0, 0, None)
