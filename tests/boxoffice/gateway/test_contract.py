"""What every gateway promises, asked of each."""

from __future__ import annotations

import asyncio
import time

import pytest

from boxoffice.errors import Malformed
from boxoffice.gateway.base import (
    AlreadyCaptured,
    Authorization,
    Authorized,
    CaptureRequest,
    Declined,
    Done,
    Found,
    NotFound,
    Pending,
    RefundSeen,
    Refused,
    RequiresAction,
    Reversals,
    Unknown,
)
from tests.conftest import eventually
from tests.support.gateways import World


async def authorized(world: World, behaviour: str = "ok", amount_cents: int = 5_000) -> tuple[str, str]:
    """Payment key and reference of a fresh authorisation."""
    request = world.request(behaviour, amount_cents)
    outcome = await world.gateway.authorize(request)
    assert isinstance(outcome, Authorized), outcome
    return request.payment_key, outcome.reference


async def captured(world: World, behaviour: str = "ok") -> tuple[str, str]:
    """Payment key and reference of a payment whose 50.00 were taken."""
    key, reference = await authorized(world, behaviour)
    assert await world.gateway.capture(key, reference, 5_000) == Done(reference)
    return key, reference


async def found(world: World, key: str, reference: str | None = None) -> Found:
    """The payment, which must be there."""
    payment = await world.gateway.lookup(key, reference)
    assert isinstance(payment, Found), payment
    return payment


async def reversed_(world: World, key: str, reference: str) -> tuple[RefundSeen, ...]:
    """What went back of it."""
    seen = await world.gateway.reversals(key, reference)
    assert isinstance(seen, Reversals), seen
    return seen.refunds


async def _status(world: World, key: str, reference: str, status: str) -> bool:
    return [seen.status for seen in await reversed_(world, key, reference)] == [status]


async def settled(outcome: Authorization | asyncio.Future[Authorization]) -> Authorization:
    """The outcome, however long it takes."""
    return outcome if not isinstance(outcome, asyncio.Future) else await outcome


async def test_money_is_set_aside_and_then_taken(world: World):
    """An authorisation takes nothing; the capture takes all of it."""
    key, reference = await authorized(world)
    payment = await found(world, key, reference)
    assert (payment.status, payment.amount_cents, payment.captured_cents) == ("authorized", 5_000, 0)
    assert payment.currency == "USD"

    assert await world.gateway.capture(key, reference, 5_000) == Done(reference)

    payment = await found(world, key, reference)
    assert (payment.status, payment.captured_cents, payment.refunded_cents) == ("captured", 5_000, 0)


@pytest.mark.parametrize("code", ["card_declined", "insufficient_funds", "lost_card", "expired_card", "incorrect_cvc"])
async def test_a_decline_says_why(world: World, code: str):
    """And says it again when asked again."""
    request = world.request(code)
    for _ in range(2):
        outcome = await world.gateway.authorize(request)
        assert isinstance(outcome, Declined)
        assert outcome.code == code
    assert (await found(world, request.payment_key, outcome.reference)).status == "declined"


async def test_the_same_key_authorises_once(world: World):
    """Also when many ask at the same moment."""
    request = world.request("ok")
    outcomes = await asyncio.gather(*(world.gateway.authorize(request) for _ in range(10)))
    told = {outcome for outcome in outcomes if not isinstance(outcome, Unknown)}
    assert len(told) == 1
    assert await world.gateway.authorize(request) in told
    assert len([record async for record in world.gateway.records()]) == 1


async def test_the_same_key_with_another_amount_tells_the_first_amount(world: World):
    """The caller compares, and captures nothing."""
    first = world.request("ok", 5_000)
    outcome = await world.gateway.authorize(first)
    again = world.request("ok", 7_000, payment_key=first.payment_key)
    assert await world.gateway.authorize(again) == outcome
    assert isinstance(outcome, Authorized)
    assert outcome.amount_cents == 5_000


async def test_a_captured_payment_is_captured_once(world: World):
    """Asking again answers as before and takes nothing more; asking for more is refused."""
    key, reference = await captured(world)
    assert await world.gateway.capture(key, reference, 5_000) == Done(reference)
    assert isinstance(await world.gateway.capture(key, reference, 4_000), Refused)
    assert (await found(world, key, reference)).captured_cents == 5_000


async def test_no_more_is_captured_than_was_authorised(world: World):
    """The authorisation stands as it was."""
    key, reference = await authorized(world)
    assert isinstance(await world.gateway.capture(key, reference, 5_001), Refused)
    assert (await found(world, key, reference)).status == "authorized"


async def test_a_voided_payment_is_never_captured(world: World):
    """Voiding twice is voiding once, and asking for the authorisation again does not bring it back."""
    request = world.request("ok")
    outcome = await world.gateway.authorize(request)
    assert isinstance(outcome, Authorized)
    for _ in range(2):
        assert await world.gateway.void(request.payment_key, outcome.reference) == Done(outcome.reference)
    assert isinstance(await world.gateway.capture(request.payment_key, outcome.reference, 5_000), Refused)
    assert (await found(world, request.payment_key, outcome.reference)).status == "voided"
    assert isinstance(await world.gateway.authorize(request), Declined)


async def test_a_capture_cannot_be_voided(world: World):
    """The answer says how much was taken."""
    key, reference = await captured(world)
    assert await world.gateway.void(key, reference) == AlreadyCaptured(5_000)


async def test_a_payment_is_voided_and_found_without_its_reference(world: World):
    """A caller that died before it heard the reference has only its key."""
    key, reference = await authorized(world)
    assert (await found(world, key)).reference == reference
    assert await world.gateway.void(key, None) == Done(reference)


async def test_nothing_is_found_of_what_never_was(world: World):
    """Neither by a look-up nor by a void, which leaves nothing behind."""
    key = world.request("ok").payment_key
    assert await world.gateway.lookup(key, None) == NotFound()
    assert await world.gateway.void(key, None) == NotFound()
    assert [record async for record in world.gateway.records()] == []


async def test_a_declined_payment_has_nothing_to_void(world: World):
    """And void says so by being done."""
    request = world.request("card_declined")
    outcome = await world.gateway.authorize(request)
    assert isinstance(outcome, Declined)
    assert isinstance(await world.gateway.void(request.payment_key, outcome.reference), Done)


async def test_refunds_never_exceed_the_capture(world: World):
    """Each refund key gives back once."""
    key, reference = await captured(world)
    first = await world.gateway.refund("r1", key, reference, 2_000)
    assert isinstance(first, Done)
    assert await world.gateway.refund("r1", key, reference, 2_000) == first
    assert isinstance(await world.gateway.refund("r2", key, reference, 3_001), Refused)
    assert isinstance(await world.gateway.refund("r3", key, reference, 3_000), Done)
    payment = await found(world, key, reference)
    assert (payment.status, payment.captured_cents, payment.refunded_cents) == ("captured", 5_000, 5_000)


async def test_what_was_not_captured_is_not_refunded(world: World):
    """An authorisation is voided instead."""
    key, reference = await authorized(world)
    assert isinstance(await world.gateway.refund("r1", key, reference, 100), Refused)


@pytest.mark.parametrize(("behaviour", "ends"), [("3ds", Authorized), ("3ds_fail", Declined)])
async def test_three_d_secure_sends_the_customer_away_first(world: World, behaviour: str, ends: type):
    """Until the customer was there, asking again gives the same address."""
    request = world.request(behaviour)
    outcome = await world.gateway.authorize(request)
    assert isinstance(outcome, RequiresAction)
    assert await world.gateway.authorize(request) == outcome
    payment = await found(world, request.payment_key, outcome.reference)
    assert (payment.status, payment.next_action) == ("requires_action", outcome.url)
    assert isinstance(await world.gateway.capture(request.payment_key, outcome.reference, 5_000), Refused)

    await world.complete(request.payment_key)

    again = await world.gateway.authorize(request)
    assert isinstance(again, ends)
    if isinstance(again, Declined):
        assert again.code == "authentication_failed"


async def test_a_customer_who_never_comes_back_is_voided(world: World):
    """Nothing can be captured afterwards."""
    request = world.request("3ds")
    outcome = await world.gateway.authorize(request)
    assert isinstance(outcome, RequiresAction)
    assert await world.gateway.void(request.payment_key, outcome.reference) == Done(outcome.reference)
    await world.complete(request.payment_key)
    assert (await found(world, request.payment_key, outcome.reference)).status == "voided"


async def test_a_late_answer_does_not_hold_up_the_batch(world: World, settings):
    """What is slow is a future, which has its outcome after the cut-off. The others have theirs by then."""
    requests = [world.request("ok"), world.request("late"), world.request("card_declined")]
    began = time.monotonic()
    outcomes = await world.gateway.authorize_batch(requests)
    late = outcomes[1]
    assert isinstance(late, asyncio.Future)
    await asyncio.wait([late])
    assert time.monotonic() - began > settings.gateway.cutoff_s
    assert all(outcome.done() for outcome in outcomes if isinstance(outcome, asyncio.Future))
    assert (await found(world, requests[1].payment_key)).status == "authorized"
    kinds = [type(await settled(outcome)) for outcome in outcomes]
    assert kinds == [Authorized, Authorized, Declined]


@pytest.mark.parametrize("timeout_s", [1.5])
async def test_a_lost_answer_is_unknown_until_asked_again(world: World):
    """The money is set aside, and only once."""
    request = world.request("timeout")
    assert isinstance(await world.gateway.authorize(request), Unknown)
    assert (await found(world, request.payment_key)).status == "authorized"
    assert isinstance(await world.gateway.authorize(request), Authorized)
    assert len([record async for record in world.gateway.records()]) == 1


async def test_a_server_error_is_unknown_and_may_have_done_nothing(world: World):
    """Asked again, it succeeds."""
    request = world.request("error")
    assert isinstance(await world.gateway.authorize(request), Unknown)
    assert await world.gateway.lookup(request.payment_key, None) == NotFound()
    assert [record async for record in world.gateway.records()] == []
    assert isinstance(await world.gateway.authorize(request), Authorized)
    assert [record.booking_id async for record in world.gateway.records()] == [request.booking_id]


async def test_a_wrong_amount_is_told_as_it_is(world: World):
    """Only the caller knows what it should have been."""
    request = world.request("wrong_amount", 5_000)
    outcome = await world.gateway.authorize(request)
    assert isinstance(outcome, Authorized)
    assert outcome.amount_cents == 5_001
    assert await world.gateway.void(request.payment_key, outcome.reference) == Done(outcome.reference)


async def test_a_capture_may_be_refused_for_good(world: World):
    """The authorisation is gone then."""
    key, reference = await authorized(world, "capture_refused")
    for _ in range(2):
        assert isinstance(await world.gateway.capture(key, reference, 5_000), Refused)
    payment = await found(world, key, reference)
    assert (payment.status, payment.captured_cents) == ("voided", 0)


@pytest.mark.parametrize("timeout_s", [1.5])
async def test_the_answer_to_a_capture_may_be_lost(world: World):
    """Asked again, it was done."""
    key, reference = await authorized(world, "capture_timeout")
    assert isinstance(await world.gateway.capture(key, reference, 5_000), Unknown)
    assert await world.gateway.capture(key, reference, 5_000) == Done(reference)
    assert (await found(world, key, reference)).captured_cents == 5_000


async def test_a_refund_may_meet_a_server_error(world: World):
    """Asked again, it gives back once: at once, or, where the error may hide a refund that nobody sees yet, when the gateway
    has forgotten the error."""
    key, reference = await captured(world, "refund_error")
    assert isinstance(await world.gateway.refund("r1", key, reference, 5_000), Unknown)
    assert (await found(world, key, reference)).refunded_cents == 0
    if world.hides_refunds:
        for _ in range(2):
            assert isinstance(await world.gateway.refund("r1", key, reference, 5_000), Unknown)
        assert (await found(world, key, reference)).refunded_cents == 0
        world.forget()
    for _ in range(2):
        assert isinstance(await world.gateway.refund("r1", key, reference, 5_000), Done)
    assert (await found(world, key, reference)).refunded_cents == 5_000


async def test_a_refund_may_be_refused_for_good(world: World):
    """The money stays where it is."""
    key, reference = await captured(world, "refund_refused")
    for _ in range(2):
        assert isinstance(await world.gateway.refund("r1", key, reference, 5_000), Refused)
    assert (await found(world, key, reference)).refunded_cents == 0


async def test_a_refund_that_was_refused_once_is_another_attempt(world: World):
    """Under its own key it stays refused; under another it is made."""
    key, reference = await captured(world, "refund_refused_once")
    for _ in range(2):
        assert isinstance(await world.gateway.refund("r1", key, reference, 5_000), Refused)
    made = await world.gateway.refund("r1-1", key, reference, 2_000)
    assert isinstance(made, Done)
    for attempt in ("r1", "r1-1", "r1-2"):
        assert await world.gateway.refund(attempt, key, reference, 2_000) == made, (
            "no other attempt gives it back again"
        )
    assert (await found(world, key, reference)).refunded_cents == 2_000


@pytest.mark.parametrize("cutoff_s", [1.5])
async def test_a_refund_may_be_pending(world: World):
    """It is told as pending until it is done, and counts."""
    key, reference = await captured(world, "refund_pending")
    first = await world.gateway.refund("r1", key, reference, 2_000)
    assert isinstance(first, Pending)
    (seen,) = await reversed_(world, key, reference)
    assert (seen.refund_key, seen.status, seen.amount_cents) == ("r1", "pending", 2_000)

    await eventually(lambda: _status(world, key, reference, "succeeded"))

    assert isinstance(await world.gateway.refund("r1", key, reference, 2_000), Done)
    assert (await found(world, key, reference)).refunded_cents == 2_000


@pytest.mark.parametrize("behaviour", ["refund_pending_fails", "refund_fails_late"])
async def test_a_refund_may_fail_later(world: World, behaviour: str):
    """Its money is back where it was, its key is spent, and the reason is told."""
    key, reference = await captured(world, behaviour)
    assert isinstance(await world.gateway.refund("r1", key, reference, 2_000), Pending | Done)

    await eventually(lambda: _status(world, key, reference, "failed"))

    (seen,) = await reversed_(world, key, reference)
    assert seen.code
    assert isinstance(await world.gateway.refund("r1", key, reference, 2_000), Refused)
    assert (await found(world, key, reference)).refunded_cents == 0
    assert isinstance(await world.gateway.refund("r1-1", key, reference, 5_000), Pending | Done), "nothing is spent"


async def test_a_refund_made_at_the_gateway_itself_is_seen(world: World):
    """It has no key of ours, and no more is left than that."""
    key, reference = await captured(world)
    await world.gateway.refund("r1", key, reference, 1_000)
    await world.refund_there(key, 1_500)

    seen = await reversed_(world, key, reference)

    assert sorted((each.refund_key, each.amount_cents, each.status) for each in seen if each.refund_key) == [
        ("r1", 1_000, "succeeded")
    ]
    assert [each.amount_cents for each in seen if each.refund_key is None] == [1_500]
    assert isinstance(await world.gateway.refund("r2", key, reference, 2_501), Refused)
    assert isinstance(await world.gateway.refund("r3", key, reference, 2_500), Done)
    assert isinstance(await world.gateway.refund("r4", key, reference, 1), Refused)
    (record,) = [record async for record in world.gateway.records()]
    assert record.payment.refunded_cents == record.reversals.given_back_cents == 5_000
    assert len(record.reversals.refunds) == 3


async def test_a_dispute_is_seen(world: World):
    """With what it is about, and whether the money is gone."""
    key, reference = await captured(world, "disputed")

    async def disputed() -> bool:
        seen = await world.gateway.reversals(key, reference)
        return isinstance(seen, Reversals) and bool(seen.disputes)

    await eventually(disputed)
    (record,) = [record async for record in world.gateway.records()]
    (dispute,) = record.reversals.disputes
    assert (dispute.amount_cents, dispute.status, dispute.reason, dispute.withdrawn) == (
        5_000, "needs_response", "fraudulent", True,
    )  # fmt: skip
    assert (await found(world, key, reference)).refunded_cents == 0


async def test_nothing_went_back_of_what_never_was(world: World):
    key, reference = await captured(world)
    assert await world.gateway.reversals(key, reference) == Reversals()


async def test_an_error_that_is_repeated_is_looked_behind(world: World):
    """A capture that met a server error and did nothing is made under another key, once."""
    key, reference = await authorized(world, "capture_error")
    assert isinstance(await world.gateway.capture(key, reference, 5_000), Unknown)
    assert (await found(world, key, reference)).captured_cents == 0
    for _ in range(2):
        assert await world.gateway.capture(key, reference, 5_000) == Done(reference)
    assert (await found(world, key, reference)).captured_cents == 5_000


async def test_captures_come_in_the_order_they_were_asked(world: World):
    """One that is refused does not disturb the others."""
    payments = [await authorized(world) for _ in range(4)]
    await world.gateway.void(*payments[2])
    outcomes = await world.gateway.capture_batch([CaptureRequest(*payment, 5_000) for payment in payments])
    assert [type(outcome) for outcome in outcomes] == [Done, Done, Refused, Done]


async def test_the_books_name_every_payment_and_its_booking(world: World):
    """An audit sees what was taken and given back, and when it began."""
    key, reference = await captured(world)
    await world.gateway.refund("r1", key, reference, 1_000)
    declined = world.request("lost_card")
    await world.gateway.authorize(declined)

    records = {record.payment_key: record async for record in world.gateway.records()}

    assert set(records) == {key, declined.payment_key}
    assert records[declined.payment_key].booking_id == declined.booking_id
    assert abs(records[key].made_ms - world.now_ms()) < 60_000
    payment = records[key].payment
    assert (payment.status, payment.captured_cents, payment.refunded_cents) == ("captured", 5_000, 1_000)
    assert records[declined.payment_key].payment.status == "declined"


@pytest.mark.parametrize("text", ["", "tok", "4242424242424242", "tok_ok 4242", "tok_\nok", "pm_" + "x" * 500])
async def test_a_token_of_another_shape_is_malformed(world: World, text: str):
    """Nobody needs to be asked to say so."""
    with pytest.raises(Malformed):
        world.gateway.check_token(text)


async def test_money_can_be_set_aside_before_it_is_taken(world: World):
    """Otherwise the gateway would be refused at start."""
    assert world.gateway.captures_apart
