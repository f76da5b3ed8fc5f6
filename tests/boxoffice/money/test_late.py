"""Money that arrives after its hold has ended: the tickets are taken again if there are some left, else it goes back."""

from __future__ import annotations

import asyncio

import pytest

from boxoffice.gateway.base import CaptureRequest, NotFound, Unknown
from boxoffice.stores import keys
from boxoffice.stores.record import Line
from tests.conftest import CLIENT, SHARD
from tests.support.shop.office import Till
from tests.support.shop.orders import tier_of
from tests.support.waiting import eventually


async def ended_unknown(till: Till, monkeypatch: pytest.MonkeyPatch, **tiers: int) -> str:
    """A hold whose payment got no answer until its time was up; the gateway has set the money aside all the same."""
    booking = await till.hold(**tiers)
    await till.pay(booking, "tok_ok")
    authorize = till.gateway.authorize_batch

    async def lost(requests: list[object]) -> list[Unknown]:
        await authorize(requests)  # type: ignore[arg-type]
        return [Unknown("timeout")] * len(requests)

    async def silent(*_: object) -> Unknown:
        return Unknown("timeout")

    with monkeypatch.context() as patch:
        patch.setattr(till.gateway, "authorize_batch", lost)
        patch.setattr(till.gateway, "lookup", silent)
        patch.setattr(till.gateway, "void", silent)
        await till.drain()
        assert await till.payments(booking) == ["unknown/-"]
        await till.time_is_up(booking)
        await till.look_again(booking)
        assert await till.state(booking) == "E expired"
    assert (await till.payment(booking)).status == "authorized"
    assert await till.payments(booking) == ["unknown/void"]
    await till.sooner()
    return booking


async def test_late_money_buys_the_tickets_that_are_left(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    booking = await ended_unknown(till, monkeypatch, VIP=2)
    assert await till.left("VIP") == (4, 0, 0)

    await till.office.pump.work_outbox()
    assert (await till.state(booking)) == "P expired"
    assert await till.left("VIP") == (2, 2, 0)

    await till.at_rest(booking)
    assert await till.state(booking) == "C confirmed"
    assert (await till.payment(booking)).captured_cents == 4_000
    view = await till.office.bookings.decided(CLIENT, booking)
    assert view.failure is None


async def test_late_money_buys_no_other_tickets_than_it_was_for(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """The payment was asked for, nobody knew what became of it, and its hold was changed before it ended: the money is let
    go, and the tickets stay on sale."""
    booking = await ended_unknown(till, monkeypatch, VIP=2)
    record = await till.record(booking)
    assert record is not None
    lines = (Line(tier_of(till.event, "GA"), 3, 1_000),)
    await till.office.redis.set(keys.booking(SHARD, booking), record.with_lines(lines).pack(), keepttl=True)

    await till.at_rest(booking)

    assert (await till.state(booking)).startswith("E ")
    assert (await till.left("GA"), await till.left("VIP")) == ((10, 0, 0), (4, 0, 0))
    assert (await till.payment(booking)).status == "voided"


async def test_late_money_of_a_record_that_nobody_can_read_goes_back(
    till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And keeps no other money waiting that is due in the same pass."""
    bad, good = [await ended_unknown(till, monkeypatch, GA=1) for _ in range(2)]
    raw = await till.office.redis.get(keys.booking(SHARD, bad))
    await till.office.redis.set(keys.booking(SHARD, bad), raw.split(b"\n")[0] + b"\n[]\n{}", keepttl=True)

    await till.office.pump.work_outbox()

    assert (await till.payment(bad)).status == "voided"
    assert await till.state(good) == "P expired"
    await till.office.redis.set(keys.booking(SHARD, bad), raw, keepttl=True)
    await till.at_rest(bad, good)


@pytest.mark.parametrize("captured", [False, True])
async def test_a_second_look_that_the_settlement_overtakes_lets_go_of_nothing(
    till: Till, monkeypatch: pytest.MonkeyPatch, captured: bool
) -> None:
    """The revived booking waited; while the pump asks the gateway once more, a worker confirms it, and may capture."""
    booking = await ended_unknown(till, monkeypatch, VIP=2)
    await till.office.pump.work_outbox()
    assert await till.state(booking) == "P expired"
    await till.sooner()
    lookup = till.gateway.lookup

    async def slowly(payment_key: str, *more: object) -> object:
        found = await lookup(payment_key, *more)
        await till.drain()
        if captured:
            await till.office.pump.work_given()
        return found

    with monkeypatch.context() as patch:
        patch.setattr(till.gateway, "lookup", slowly)
        await till.office.pump.work_outbox()

    await till.at_rest(booking)
    assert await till.state(booking) == "C confirmed"
    payment = await till.payment(booking)
    assert (payment.captured_cents, payment.refunded_cents) == (4_000, 0)


async def test_late_money_without_tickets_goes_back(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else has them by now. The booking says that the payment came too late."""
    booking = await ended_unknown(till, monkeypatch, VIP=2)
    other = await till.book(VIP=3)
    await till.rest()

    await till.at_rest(booking, other)

    assert await till.state(booking) == "E expired"
    assert await till.left("VIP") == (1, 0, 3)
    assert (await till.payment(booking)).status == "voided"
    view = await till.office.bookings.decided(CLIENT, booking)
    assert view.failure and view.failure.code == "paid_too_late"


async def test_late_money_that_was_captured_is_refunded(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway will not void what it has captured: it is given back, once."""
    booking = await ended_unknown(till, monkeypatch, VIP=2)
    record = await till.record(booking)
    assert record is not None
    await till.gateway.capture_batch([CaptureRequest(record.payment_key, "", 4_000)])
    await till.book(VIP=4)

    await till.rest()
    await till.at_rest(booking)

    payment = await till.payment(booking)
    assert (payment.captured_cents, payment.refunded_cents) == (4_000, 4_000)
    view = await till.office.bookings.decided(CLIENT, booking)
    assert view.failure and view.failure.code == "paid_too_late"


async def test_late_money_for_a_booking_that_had_no_deadline_goes_back(
    till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A booking posted with its payment has failed for good."""
    booking = await till.book(VIP=2)
    authorize = till.gateway.authorize_batch

    async def lost(requests: list[object]) -> list[Unknown]:
        await authorize(requests)  # type: ignore[arg-type]
        return [Unknown("timeout")] * len(requests)

    async def silent(*_: object) -> Unknown:
        return Unknown("timeout")

    with monkeypatch.context() as patch:
        patch.setattr(till.gateway, "authorize_batch", lost)
        for call in ("lookup", "void"):
            patch.setattr(till.gateway, call, silent)
        await till.drain()
        await (await till.office.pool()).execute("UPDATE payments SET created_at = now() - interval '11 minutes'")
        await till.look_again(booking)
        assert await till.state(booking) == "F failed"

    await till.at_rest(booking)

    assert (await till.payment(booking)).status == "voided"
    view = await till.office.bookings.decided(CLIENT, booking)
    assert view.failure and view.failure.code == "paid_too_late"


async def test_several_pumps_revive_once(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    booking = await ended_unknown(till, monkeypatch, VIP=2)
    for _ in range(3):
        await till.sooner()
        await till.office.pump.work_outbox()
    assert await till.left("VIP") == (2, 2, 0)
    await till.at_rest(booking)
    assert await till.left("VIP") == (2, 0, 2)


async def test_reviving_waits_for_the_gate(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the counters are being repaired nobody can say whether there are tickets: the money is kept a moment."""
    booking = await ended_unknown(till, monkeypatch, VIP=2)
    gate = await till.office.redis.getdel(keys.gate(SHARD))

    await till.office.pump.work_outbox()

    assert (await till.payment(booking)).status == "authorized"
    await till.office.redis.set(keys.gate(SHARD), gate)
    await till.at_rest(booking)
    assert await till.state(booking) == "C confirmed"


async def test_reviving_waits_for_memory_and_nobody_else_does(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full Redis takes no booking in, this one neither. Other money that is due moves meanwhile."""
    booking = await ended_unknown(till, monkeypatch, VIP=2)
    other = await till.book("tok_wrong_amount", GA=1)
    await till.drain()
    await till.sooner()
    await till.office.redis.config_set("maxmemory", 1)
    try:
        await till.office.pump.work_outbox()
        assert (await till.payment(booking)).status == "authorized"
        assert await till.payments(other) == ["voided/-"]
    finally:
        await till.office.redis.config_set("maxmemory", 0)

    await till.at_rest(booking, other)

    assert await till.state(booking) == "C confirmed"


async def test_a_revived_booking_survives_a_reconcile(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL still says expired; reconcile does not take its tickets away again."""
    booking = await ended_unknown(till, monkeypatch, VIP=2)
    await till.office.pump.work_outbox()
    await till.office.guards[SHARD].reconciler.event(till.event.id, fix=True)
    assert await till.left("VIP") == (2, 2, 0)
    await till.at_rest(booking)
    assert await till.state(booking) == "C confirmed"


async def test_a_cancelled_booking_is_not_revived(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever cancelled does not want tickets any more."""
    booking = await till.book("tok_ok", GA=1)
    authorize = till.gateway.authorize_batch

    async def lost(requests: list[object]) -> list[Unknown]:
        await authorize(requests)  # type: ignore[arg-type]
        return [Unknown("timeout")] * len(requests)

    async def unheard(*_: object) -> NotFound:
        return NotFound()

    with monkeypatch.context() as patch:
        patch.setattr(till.gateway, "authorize_batch", lost)
        patch.setattr(till.gateway, "void", unheard)
        await till.drain()
        cancelling = asyncio.create_task(till.cancel(booking))

        async def asked_to_cancel() -> bool:
            record = await till.record(booking)
            return record is not None and record.cancel_requested

        await eventually(asked_to_cancel)
        await till.drain()
        assert await cancelling == "cancelled"
    assert (await till.payment(booking)).status == "authorized"

    await till.at_rest(booking)

    assert await till.state(booking) == "X cancelled"
    assert (await till.payment(booking)).status == "voided"


@pytest.mark.parametrize("where", ["before_void", "voided"])
async def test_dying_while_money_is_let_go(till: Till, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """The row stays due; the next pump finds the money let go already."""
    booking = await ended_unknown(till, monkeypatch, VIP=2)
    await till.book(VIP=4)
    await till.rest_bookings()

    def crashpoint(name: str) -> None:
        if name == where:
            raise RuntimeError("died")

    with monkeypatch.context() as patch:
        patch.setattr("boxoffice.money.pump.crashpoint", crashpoint)
        await till.sooner()
        with pytest.raises(BaseExceptionGroup):
            await till.office.pump.work_outbox()
    await till.at_rest(booking)
    assert (await till.payment(booking)).status == "voided"
