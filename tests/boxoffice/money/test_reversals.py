"""What the gateway says of money that went back reaches our books: pending refunds, late failures, refunds made at the
gateway itself, disputes. By webhook, and by the audit's own reading."""

from __future__ import annotations

from typing import Any

import pytest
import structlog

from boxoffice.errors import StoreAway
from boxoffice.gateway.base import NotFound, Unknown
from boxoffice.gateway.webhooks import GatewayEvent
from tests.conftest import CLIENT, eventually
from tests.support.shop.office import Till


async def sold(till: Till, token: str = "tok_ok", **tiers: int) -> str:
    """A confirmed and captured booking."""
    booking = await till.book(token, **tiers)
    await till.rest()
    assert await till.state(booking) == "C confirmed"
    return booking


async def rows(till: Till) -> list[tuple[Any, ...]]:
    """Status, cents and origin of each refund."""
    found = await till.fetch("SELECT status, amount_cents::int, origin FROM refunds ORDER BY created_at, refund_key")
    return [tuple(row) for row in found]


async def told(till: Till, booking: str) -> tuple[Any, ...]:
    """What its shop reads."""
    view = await till.office.bookings.decided(CLIENT, booking)
    assert view.refund is not None
    return view.refunded_cents, view.refund.status, view.refund.pending_cents, view.refund.owed_cents


async def at_the_gateway(till: Till, cents: int) -> None:
    """Somebody refunds the payment in the gateway's dashboard. Nobody here hears of it."""
    (payment,) = await till.fetch("SELECT payment_key FROM payments")
    await till.gateway.refund_at_gateway(payment[0], cents)


async def what_is_to_come(till: Till) -> None:
    """Wait until everything has happened that happens at the gateway by itself."""

    async def nothing() -> bool:
        return await till.gateway.ripen() == 0

    await eventually(nothing)


async def webhook(till: Till, kind: Any) -> None:
    """The gateway tells of it; a worker looks."""
    (payment,) = await till.fetch("SELECT payment_key FROM payments")
    number = next(till.numbers)
    await till.office.webhooks.receive("simulator", GatewayEvent(f"evt_{number}", kind, payment[0], None))
    await till.pump()


async def audit(till: Till) -> None:
    """Nobody told of it; the audit reads the gateway's books and mends ours."""

    async def found(*, fix: bool) -> list[tuple[str, bool | None]]:
        run = till.office.payments_audit.run(fix=fix, grace_s=0)
        return [(each.what, each.mended) async for each in run if not each.known]

    assert await found(fix=False) == [("refunded_differs", None)]
    assert await found(fix=True) == [("refunded_differs", True)]
    await till.pump()
    assert await found(fix=False) == []


async def known(till: Till) -> list[str]:
    """What the audit lists besides, for a person."""
    return [each.what async for each in till.office.payments_audit.run(fix=False, grace_s=0) if each.known]


NEWS = pytest.mark.parametrize("by_webhook", [True, False], ids=["webhook", "audit"])


async def news(till: Till, kind: str, by_webhook: bool) -> None:
    await (webhook(till, kind) if by_webhook else audit(till))


# ------------------------------------------------------------------ pending


async def test_a_pending_refund_is_told_as_pending(till: Till) -> None:
    """Until the gateway says that it is done."""
    booking = await sold(till, "tok_refund_pending", GA=2)
    refunded = await till.refund(booking, "one", GA=1)
    await till.pump_once()

    assert await rows(till) == [("pending", 1_000, "shop")]
    assert await told(till, booking) == (1_000, "pending", 1_000, 0)
    assert (await till.refund(booking, "one", GA=1)).refund_status == "pending"
    assert await known(till) == ["refund_pending"]
    await till.pump()
    assert await rows(till) == [("succeeded", 1_000, "shop")]
    assert await told(till, booking) == (1_000, "succeeded", 0, 0)
    assert (await till.refund(booking, "one", GA=1)).refund_key == refunded.refund_key


async def test_a_pending_refund_that_fails_is_owed(till: Till) -> None:
    booking = await sold(till, "tok_refund_pending_fails", GA=2)
    await till.cancel(booking)
    await till.pump()
    assert await rows(till) == [("owed", 2_000, "shop")]
    assert await told(till, booking) == (0, "owed", 0, 2_000)
    assert await known(till) == ["refund_owed"]


async def test_a_pending_refund_is_not_asked_for_again(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked at, ever more slowly."""
    booking = await sold(till, "tok_refund_pending", GA=2)
    await till.cancel(booking)
    await till.pump_once()

    async def never(*_: object) -> None:
        raise AssertionError("asked for again")

    monkeypatch.setattr(till.gateway, "refund", never)
    pauses = []
    for _ in range(3):
        await till.pump_once()
        found = await till.fetch("SELECT extract(epoch FROM due_at - now())::float, tries FROM looks")
        pauses += [tuple(row) for row in found]
    assert [tries for _, tries in pauses] == [1, 2, 3][: len(pauses)]
    assert [pause for pause, _ in pauses] == sorted(pause for pause, _ in pauses)


# ------------------------------------------------------------------ fails days later


@NEWS
async def test_a_refund_that_fails_days_later_is_owed(till: Till, by_webhook: bool) -> None:
    booking = await sold(till, "tok_refund_fails_late", GA=2)
    await till.cancel(booking)
    await till.pump()
    assert await told(till, booking) == (2_000, "succeeded", 0, 0)
    await what_is_to_come(till)

    with structlog.testing.capture_logs() as logs:
        await news(till, "refund_failed", by_webhook)

    assert await told(till, booking) == (0, "owed", 0, 2_000)
    assert await known(till) == ["refund_owed"]
    (line,) = [line for line in logs if line["event"] == "refund.refused"]
    assert (line["before"], line["log_level"]) == ("succeeded", "error")


async def test_what_failed_late_is_paid_by_another_attempt(till: Till) -> None:
    booking = await sold(till, "tok_refund_fails_late", GA=2)
    await till.cancel(booking)
    await till.pump()
    await what_is_to_come(till)
    await webhook(till, "refund_failed")
    for key, word in till.gateway.ledger.states.items():
        till.gateway.ledger.states[key] = word.replace("tok_refund_fails_late", "tok_ok")

    await till.cancel(booking)
    await till.at_rest(booking)

    assert await told(till, booking) == (2_000, "succeeded", 0, 0)
    assert (await till.payment(booking)).refunded_cents == 2_000


async def test_old_news_of_a_failure_changes_nothing(till: Till) -> None:
    """`refund.failed` may come twice, and after the next attempt has paid."""
    booking = await sold(till, "tok_refund_refused_once", GA=2)
    await till.cancel(booking)
    await till.pump()
    await till.cancel(booking)
    await till.pump()
    for _ in range(2):
        await webhook(till, "refund_failed")
    assert await told(till, booking) == (2_000, "succeeded", 0, 0)
    await till.at_rest(booking)


# ------------------------------------------------------------------ refunded at the gateway itself


@NEWS
async def test_a_refund_of_the_dashboard_counts(till: Till, by_webhook: bool) -> None:
    """The booking stays, and a later cancellation gives back what is left."""
    booking = await sold(till, GA=3)
    await at_the_gateway(till, 500)
    await news(till, "refunded", by_webhook)
    assert await rows(till) == [("succeeded", 500, "gateway")]
    assert await told(till, booking) == (500, "succeeded", 0, 0)
    assert await till.state(booking) == "C confirmed"

    await till.cancel(booking)
    await till.at_rest(booking)

    assert await told(till, booking) == (3_000, "succeeded", 0, 0)
    assert (await till.payment(booking)).refunded_cents == 3_000


@pytest.mark.parametrize(("before", "asked"), [(3_000, 0), (2_500, 500), (1, 2_999)])
async def test_nobody_told_of_a_refund_of_the_dashboard(till: Till, before: int, asked: int) -> None:
    """The gateway refuses to give back more than is left. That is no refusal of what is left, and no error."""
    booking = await sold(till, GA=3)
    await at_the_gateway(till, before)

    assert await till.cancel(booking) == "cancelled"
    await till.at_rest(booking)

    assert await rows(till) == [("succeeded", asked, "shop"), ("succeeded", before, "gateway")]
    assert await told(till, booking) == (3_000, "succeeded", 0, 0)
    assert (await till.payment(booking)).refunded_cents == 3_000
    assert await till.office.owed.find() == []


async def test_a_refund_of_the_dashboard_while_ours_is_on_its_way(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway is silent, somebody helps the customer in its dashboard, and the webhook comes first."""
    booking = await sold(till, GA=3)
    await till.cancel(booking)

    async def silent(*_: object) -> Unknown:
        return Unknown("timeout")

    (payment,) = await till.fetch("SELECT payment_key FROM payments")
    with monkeypatch.context() as patch:
        # Until the webhook was looked at: ours would be refused as too much, which is another story.
        patch.setattr(till.gateway, "refund", silent)
        await till.pump_once()
        await at_the_gateway(till, 1_000)
        await till.office.webhooks.receive("simulator", GatewayEvent("evt_early", "refunded", payment[0], None))
        await till.pump_once()
        assert ("succeeded", 1_000, "gateway") in await rows(till)
    await till.at_rest(booking)
    assert await told(till, booking) == (3_000, "succeeded", 0, 0)
    assert sorted(await rows(till)) == [("succeeded", 1_000, "gateway"), ("succeeded", 2_000, "shop")]


@pytest.mark.parametrize("cents", [400, 1_000, 1_500])
async def test_a_refund_of_the_dashboard_pays_what_is_owed(till: Till, cents: int) -> None:
    """One ticket of three is owed. Whoever paid it in the dashboard has paid it: no retry pays it again."""
    booking = await sold(till, "tok_refund_refused", GA=3)
    await till.refund(booking, "one", GA=1)
    await till.pump()
    assert await told(till, booking) == (0, "owed", 0, 1_000)
    await at_the_gateway(till, cents)
    await webhook(till, "refunded")

    left = max(0, 1_000 - cents)
    assert await told(till, booking) == (cents, "owed" if left else "succeeded", 0, left)
    await webhook(till, "refunded")
    assert await told(till, booking) == (cents, "owed" if left else "succeeded", 0, left), "once"


async def test_a_refund_of_the_dashboard_that_fails_later_is_owed(till: Till) -> None:
    booking = await sold(till, GA=3)
    await at_the_gateway(till, 500)
    await webhook(till, "refunded")
    (payment,) = await till.fetch("SELECT payment_key FROM payments")
    states = till.gateway.ledger.states
    states[payment[0]] = states[payment[0]].replace(":500:", ":0:").replace("=500", "=500f")
    await webhook(till, "refund_failed")
    assert await rows(till) == [("owed", 500, "gateway")]
    await till.office.owed.retry(booking)
    await till.pump()
    for _ in range(2):
        assert await told(till, booking) == (500, "succeeded", 0, 0)
        assert (await till.payment(booking)).refunded_cents == 500
        await webhook(till, "refunded")  # of the attempt; the one that failed is still in the gateway's list
    assert await rows(till) == [("succeeded", 500, "gateway")]
    await till.cancel(booking)
    await till.at_rest(booking)
    assert await told(till, booking) == (3_000, "succeeded", 0, 0)


async def test_one_that_failed_before_anybody_knew_of_it_is_nothing(till: Till) -> None:
    booking = await sold(till, GA=3)
    await at_the_gateway(till, 500)
    (payment,) = await till.fetch("SELECT payment_key FROM payments")
    states = till.gateway.ledger.states
    states[payment[0]] = states[payment[0]].replace(":500:", ":0:").replace("=500", "=500f")
    await webhook(till, "refund_failed")
    assert await rows(till) == []
    await till.cancel(booking)
    await till.at_rest(booking)


# ------------------------------------------------------------------ disputes


@NEWS
async def test_a_dispute_is_written_down_and_told(till: Till, by_webhook: bool) -> None:
    booking = await sold(till, "tok_disputed", GA=2)
    await what_is_to_come(till)

    with structlog.testing.capture_logs() as logs:
        await news(till, "disputed", by_webhook)

    (row,) = await till.fetch("SELECT amount_cents, status, reason, withdrawn FROM disputes")
    assert tuple(row) == (2_000, "needs_response", "fraudulent", True)
    assert [line["booking_id"] for line in logs if line["event"] == "dispute.told"] == [booking]
    assert await known(till) == ["disputed"]
    assert await till.state(booking) == "C confirmed", "it is the shop's to decide"
    dossier = await till.office.dossiers.of(booking)
    assert dossier["postgres"]["disputes"][0]["status"] == "needs_response"


# ------------------------------------------------------------------ whose payment it is


async def test_an_event_without_our_key_is_asked_about(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refunds of the dashboard and disputes carry nothing of ours but the payment's id at the gateway."""
    booking = await sold(till, GA=2)
    await at_the_gateway(till, 500)
    (payment,) = await till.fetch("SELECT payment_key FROM payments")
    answers: list[object] = [Unknown("timeout"), None, payment[0]]
    asked = []

    async def payment_key_of(reference: str) -> object:
        asked.append(reference)
        return answers.pop(0)

    monkeypatch.setattr(till.gateway, "payment_key_of", payment_key_of)
    receive = till.office.webhooks.receive
    with pytest.raises(StoreAway):
        await receive("simulator", GatewayEvent("evt_a", "refunded", None, "pi_1"))
    await receive("simulator", GatewayEvent("evt_b", "refunded", None, "pi_2"))
    await receive("simulator", GatewayEvent("evt_a", "refunded", None, "pi_1"))
    await receive("simulator", GatewayEvent("evt_c", "captured", None, "pi_3"))
    await receive("simulator", GatewayEvent("evt_d", "refunded", None, None))
    await till.pump()

    assert asked == ["pi_1", "pi_2", "pi_1"], "of other events without our key nothing is ours"
    assert await told(till, booking) == (500, "succeeded", 0, 0)


async def test_news_that_comes_before_the_capture_is_marked_waits(till: Till) -> None:
    """The customer's money was taken, refunded in the dashboard, and only then is the capture written down."""
    booking = await till.book(GA=2)
    await till.drain()
    till.office.pump.given.clear()
    (payment,) = await till.fetch("SELECT payment_key FROM payments")
    await till.gateway.capture(payment[0], "", 2_000)
    await at_the_gateway(till, 700)
    await till.office.webhooks.receive("simulator", GatewayEvent("evt_1", "refunded", payment[0], None))
    look = (await till.office.pump.refund_pump.claim(1_000, 10))[0]
    await look
    assert await till.fetch("SELECT 1 FROM looks"), "it is looked at again"

    await till.at_rest(booking)

    assert await told(till, booking) == (700, "succeeded", 0, 0)


async def test_news_that_comes_while_somebody_looks_is_looked_at_once_more(
    till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    booking = await sold(till, GA=2)
    (payment,) = await till.fetch("SELECT payment_key FROM payments")
    reversals = till.gateway.reversals

    async def slow(*args: Any) -> Any:
        seen = await reversals(*args)
        if not await till.fetch("SELECT 1 FROM webhook_events WHERE id = 'evt_b'"):
            await at_the_gateway(till, 300)
            await till.office.webhooks.receive("simulator", GatewayEvent("evt_b", "refunded", payment[0], None))
        return seen

    monkeypatch.setattr(till.gateway, "reversals", slow)
    await till.office.webhooks.receive("simulator", GatewayEvent("evt_a", "refunded", payment[0], None))
    await till.pump()
    assert await told(till, booking) == (300, "succeeded", 0, 0)


async def test_a_payment_that_the_gateway_does_not_know_is_not_looked_for_for_ever(
    till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    await sold(till, GA=2)

    async def unheard(*_: object) -> NotFound:
        return NotFound()

    monkeypatch.setattr(till.gateway, "reversals", unheard)
    (payment,) = await till.fetch("SELECT payment_key FROM payments")
    await till.office.webhooks.receive("simulator", GatewayEvent("evt_1", "refunded", payment[0], None))
    await till.pump_once()
    assert await till.fetch("SELECT 1 FROM looks") == []
