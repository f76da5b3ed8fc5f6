"""Captures, voids and look-ups: due in a row, done once, whoever dies in between."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from boxoffice.books import payments
from boxoffice.gateway.base import CaptureRequest, NotFound, Refused, Unknown
from tests.conftest import CLIENT, SHARD
from tests.support.settling import at_crash_points
from tests.support.shop.office import Till
from tests.support.waiting import eventually


class Died(Exception):
    """The process ended here."""


def dying_at(where: str) -> Any:
    def crashpoint(name: str) -> None:
        if name == where:
            raise Died

    return crashpoint


# ------------------------------------------------------------------ authorise, commit, capture


@pytest.mark.parametrize(
    "where", ["claimed", "looked_up", "authorised", "written", "committed", "chunk_settled", "settled"]
)
async def test_a_worker_that_dies_while_settling(till: Till, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """At every step somebody else finishes it; the card is asked once and charged once."""
    booking, hold = await till.book(GA=1), await till.hold(VIP=1)
    await till.pay(hold)

    async def nobody(*_: object, **__: object) -> None:
        raise Died

    with monkeypatch.context() as patch:
        at_crash_points(patch, dying_at(where))
        # A process that died halves no batch and counts no failure.
        patch.setattr(till.office.settlements[SHARD].committing, "fail_alone", nobody)
        with contextlib.suppress(Died):
            await till.office.settlements[SHARD].drain()
    till.office.pump.given.clear()

    await till.claimable(booking)
    await till.claimable(hold)
    await till.at_rest(booking, hold)

    assert await till.state(booking) == "C confirmed"
    assert await till.state(hold) == "C confirmed"
    assert [payment.captured_cents for payment in await till.at_gateway(booking)] == [1_000]


@pytest.mark.parametrize("where", ["before_capture", "captured", "capture_marked"])
async def test_a_worker_that_dies_while_capturing(till: Till, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    booking = await till.book(GA=1)
    await till.drain()
    with monkeypatch.context() as patch:
        patch.setattr("boxoffice.money.pump.crashpoint", dying_at(where))
        with pytest.raises(Died):
            await till.office.pump.work_given()
    assert await till.state(booking) == "C confirmed", "no customer waits for a capture"

    await till.at_rest(booking)

    assert (await till.payment(booking)).captured_cents == 1_000


@pytest.mark.parametrize("where", ["before_refund", "refunded"])
async def test_a_worker_that_dies_while_refunding(till: Till, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    booking = await till.book(GA=1)
    await till.rest()
    await till.cancel(booking)
    with monkeypatch.context() as patch:
        patch.setattr("boxoffice.money.refund_pump.crashpoint", dying_at(where))
        with pytest.raises(BaseExceptionGroup):
            await till.office.pump.work_outbox()

    await till.at_rest(booking)

    assert (await till.payment(booking)).refunded_cents == 1_000


@pytest.mark.parametrize("where", ["letting_go", "let_go"])
async def test_a_worker_that_dies_while_letting_go(till: Till, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """A payment that waits for its customer is let go at the deadline; the tickets come back after the commit, once."""
    booking = await till.hold(VIP=2)
    await till.pay(booking, "tok_3ds")
    await till.drain()
    await till.time_is_up(booking)
    with monkeypatch.context() as patch:
        at_crash_points(patch, dying_at(where))
        await till.claimable(booking)
        with contextlib.suppress(Died):
            await till.drain()
    await till.office.redis.zadd("{s01}:pend", {booking: 1}, xx=True)
    await till.at_rest(booking)
    assert await till.left("VIP") == (4, 0, 0)
    assert (await till.payment(booking)).status == "voided"


async def test_what_a_batch_was_to_capture_is_marked_once(till: Till) -> None:
    """Its worker died after some. The list falls apart when its lease ends, and nothing is left of it."""
    bookings = [await till.book(GA=1) for _ in range(3)]
    await till.drain()
    till.office.pump.given.clear()
    pool = await till.office.pool()
    (row,) = await till.fetch("SELECT payment_keys FROM captures")
    assert len(row["payment_keys"]) == 3
    await till.gateway.capture(row["payment_keys"][0], "", 1_000)
    await pool.execute(
        "UPDATE payments SET status = 'captured', due = NULL WHERE payment_key = $1", row["payment_keys"][0]
    )
    assert not await till.office.pump.work_outbox(), "the lease has not ended"

    await pool.execute("UPDATE captures SET leased_until = now() - interval '1 second'")

    assert await till.office.pump.work_outbox() == 2
    assert not await till.fetch("SELECT 1 FROM captures")
    for booking in bookings:
        assert await till.payments(booking) == ["captured/-"]


async def test_a_mark_touches_no_index(till: Till) -> None:
    """A capture that goes as it should changes no indexed column, and the new version finds room on the page."""
    for _ in range(8):
        await till.book(GA=1)
    await till.drain()
    (row,) = await till.fetch("SELECT id, payment_keys FROM captures")
    async with (await till.office.pool()).acquire() as connection, connection.transaction():
        counted = (
            "SELECT pg_stat_get_xact_tuples_updated('payments'::regclass),"
            " pg_stat_get_xact_tuples_hot_updated('payments'::regclass)"
        )
        before = await connection.fetchrow(counted)  # of this session, which may have been another test's
        await payments.mark_captured(connection, row["payment_keys"], [row["id"]])
        rows, on_their_page = (now - then for now, then in zip(await connection.fetchrow(counted), before, strict=True))
    assert (rows, on_their_page) == (8, 8)


async def test_a_lease_keeps_other_pumps_away(till: Till) -> None:
    """What the settling worker was given nobody else captures meanwhile; when its lease ends somebody does."""
    booking = await till.book(GA=1)
    await till.drain()
    till.office.pump.given.clear()
    assert await till.office.pump.work_outbox() == 0
    await till.sooner()
    assert await till.office.pump.work_outbox() == 1
    await till.at_rest(booking)


async def test_two_pumps_share_the_work(till: Till) -> None:
    bookings = [await till.book(GA=1) for _ in range(8)]
    await till.drain()
    till.office.pump.given.clear()
    await till.sooner()

    counts = await asyncio.gather(*(till.office.pump.work_outbox() for _ in range(3)))

    assert sum(counts) == 8
    await till.at_rest(*bookings)


# ------------------------------------------------------------------ trouble at the gateway


@pytest.mark.parametrize(
    ("token", "status"),
    [
        ("tok_error", "C confirmed"),
        ("tok_twice", "C confirmed"),
        ("tok_reordered", "C confirmed"),
        ("tok_capture_timeout", "C confirmed"),
        ("tok_wrong_amount", "F failed"),
        ("tok_capture_refused", "X cancelled"),
        ("tok_3ds", "C confirmed"),
        ("tok_3ds_fail", "F failed"),
    ],
)
async def test_every_trouble_card_ends_well(till: Till, token: str, status: str) -> None:
    booking = await till.book(token, GA=2)
    await till.drain()
    await till.customer_acts(booking)
    for _ in range(3):
        await till.look_again(booking)

    await till.at_rest(booking)

    assert await till.state(booking) == status


@pytest.mark.parametrize(
    ("token", "status"),
    [
        ("tok_wrong_amount", "H held"),
        ("tok_3ds_fail", "H held"),
        ("tok_error", "C confirmed"),
        ("tok_ok", "C confirmed"),
    ],
)
async def test_a_hold_meets_trouble(till: Till, token: str, status: str) -> None:
    """What costs a booking its life only costs a hold an attempt."""
    booking = await till.hold(GA=2)
    await till.pay(booking, token)
    await till.drain()
    await till.customer_acts(booking)
    for _ in range(3):
        await till.look_again(booking)
    await till.rest()
    assert await till.state(booking) == status
    if status == "H held":
        await till.pay(booking)
        await till.rest()
    await till.at_rest(booking)
    assert await till.state(booking) == "C confirmed"


async def test_a_capture_without_an_answer_is_asked_again(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    booking = await till.book(GA=1)
    await till.drain()

    async def silent(requests: list[CaptureRequest]) -> list[Unknown]:
        return [Unknown("timeout")] * len(requests)

    with monkeypatch.context() as patch:
        patch.setattr(till.gateway, "capture_batch", silent)
        await till.office.pump.work_given()
    assert await till.payments(booking) == ["authorized/capture"]
    (row,) = await till.fetch("SELECT due_at > now() AS later, leased_until FROM payments")
    assert (row["later"], row["leased_until"]) == (True, None)
    await till.at_rest(booking)


async def test_what_the_gateway_does_not_know_is_looked_for_for_a_day(
    till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request on its way may yet arrive; a day later nothing will."""
    booking = await till.book(GA=1)
    await till.drain()
    await (await till.office.pool()).execute(
        "UPDATE payments SET status = 'unknown', due = 'void', due_at = now(), leased_until = NULL"
    )
    till.office.pump.given.clear()

    async def unheard(*_: object) -> NotFound:
        return NotFound()

    with monkeypatch.context() as patch:
        for call in ("lookup", "void"):
            patch.setattr(till.gateway, call, unheard)
        await till.office.pump.work_outbox()
        assert await till.payments(booking) == ["unknown/void"]
        await till.age_payments()
        await till.sooner()
        await till.office.pump.work_outbox()
        assert await till.payments(booking) == ["failed/-"]


async def test_one_refusal_spoils_no_batch(till: Till) -> None:
    """A refused capture among good ones: the good ones are captured."""
    good = [await till.book(GA=1) for _ in range(3)]
    bad = await till.book("tok_capture_refused", GA=1)

    await till.at_rest(*good, bad)

    assert [await till.state(booking) for booking in good] == ["C confirmed"] * 3
    assert await till.state(bad) == "X cancelled"


async def test_the_pump_survives_what_goes_wrong(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of its own, a gateway that raises: it logs and goes on."""
    booking = await till.book(GA=1)
    calls = 0
    capture = till.gateway.capture_batch

    async def flaky(requests: list[CaptureRequest]) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise RuntimeError("a bug")
        return await capture(requests)

    monkeypatch.setattr(till.gateway, "capture_batch", flaky)
    running = asyncio.create_task(till.office.pump.run())
    await till.drain()

    async def captured() -> bool:
        return await till.payments(booking) == ["captured/-"]

    await eventually(till.hurrying(captured), timeout_s=15)
    till.office.pump.stop()
    await running


async def test_stopping_ends_what_was_given(till: Till) -> None:
    """A worker that is told to stop captures what it has committed before it goes."""
    running = asyncio.create_task(till.office.pump.run())
    booking = await till.book(GA=1)
    await till.drain()
    till.office.pump.stop()
    await running
    assert await till.payments(booking) == ["captured/-"]


async def test_a_refused_refund_is_no_loss_of_count(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused for good: the payment's refunded amount is what really went back, of other tickets and of these in the end."""
    booking = await till.book(GA=1, VIP=1)
    await till.rest()
    await till.refund(booking, "one", GA=1)

    async def refuses(*_: object) -> Refused:
        return Refused("no")

    with monkeypatch.context() as patch:
        patch.setattr(till.gateway, "refund", refuses)
        await till.pump()
    assert await till.fetch("SELECT refunded_cents FROM payments") == [(0,)]
    await till.refund(booking, "two", VIP=1)
    await till.pump()
    assert await till.fetch("SELECT refunded_cents FROM payments") == [(2_000,)]
    await till.office.refunds.retry(CLIENT, booking)
    await till.pump()
    assert await till.fetch("SELECT refunded_cents FROM payments") == [(3_000,)]
