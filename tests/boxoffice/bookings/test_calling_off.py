"""An event is called off: nothing more of it is sold, and everybody has all of the money back, once."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from structlog.testing import capture_logs

from boxoffice.bookings import calling_off
from boxoffice.bookings.holds import Holds
from boxoffice.books import call_offs, moves
from boxoffice.errors import EventCalledOff, EventChanged, Malformed, NotCancellable, NotFound, SaleClosed
from boxoffice.sales.control import Actor
from boxoffice.stores import keys
from boxoffice.stores.record import Record
from tests.conftest import CLIENT, SHARD, SaleMaker, counters, eventually, load_all, settle_all
from tests.support.calling_off import work_off
from tests.support.checks import check_at_rest
from tests.support.shop.office import Till, record_of, status_of
from tests.support.shop.orders import OTHER


@pytest.fixture
async def till(office: Any, open_sale: SaleMaker) -> Till:
    await load_all(office)
    return Till(office, await open_sale(GA=50, VIP=5))


async def test_everybody_is_refunded_in_full_whatever_the_terms(till: Till) -> None:
    """Held, pending, confirmed, partly refunded and cancelled before, free and paid: each as it should be, and once."""
    office, pool = till.office, await till.office.pool()
    await pool.execute("UPDATE events SET refund_percent = 10, cancel_until = now() - interval '1 day'")
    confirmed = [await till.book(GA=2, customer=f"c{n}") for n in range(3)]
    partly = await till.book(GA=3, VIP=1)
    await settle_all(office)
    await till.refund(partly, GA=1)
    await settle_all(office)
    held, pending = await till.hold(GA=4), await till.book(VIP=1)

    report = await office.calling_off.call_off(till.event.id, "The singer is ill.", Actor("key:shop", CLIENT))

    assert (report["status"], report["reason"], report["called_off_by"]) == (
        "running",
        "The singer is ill.",
        "key:shop",
    )
    with pytest.raises(SaleClosed):
        await till.book(GA=1)
    with pytest.raises(EventCalledOff):
        await till.pay(held)
    await work_off(till)

    for booking in (*confirmed, partly):
        assert await status_of(office, booking) == "cancelled event_called_off"
    record = await record_of(office, held)
    assert record is not None and record.state == "X"
    assert await status_of(office, pending) in ("cancelled cancelled", "failed event_called_off")
    rows = await pool.fetch(
        "SELECT booking_id::text, amount_cents, status, items FROM refunds WHERE reason = 'event_called_off'"
    )
    assert {(row["booking_id"], row["amount_cents"], row["status"]) for row in rows} == {
        *((booking, 2_000, "succeeded") for booking in confirmed), (partly, 4_000, "succeeded"),
    }  # fmt: skip
    codes = {tier.id: tier.code for tier in till.event.tiers}
    back = {row["booking_id"]: {codes[tier]: n for tier, n in json.loads(row["items"]).items()} for row in rows}
    assert back == {booking: {"GA": 2} for booking in confirmed} | {partly: {"GA": 2, "VIP": 1}}
    report = await office.calling_off.report(till.event.id)
    assert report["status"] == "finished" and report["finished_at"] and report["refused"] == []
    assert report["refunds"] == {"succeeded": {"refunds": 4, "cents": 10_000}}
    assert report["bookings"]["cancelled"] >= 4
    for code, total in (("GA", 50), ("VIP", 5)):
        counted = await counters(office, till.event, code)
        assert (counted.available, counted.held, counted.sold) == (total, 0, 0)
    await check_at_rest(office, [*confirmed, partly, pending])


async def test_what_was_admitted_before_is_not_confirmed_after(till: Till) -> None:
    """Its payment is let go; a free booking, too, gets no ticket."""
    office = till.office
    pending = await till.book(GA=1)
    await office.calling_off.call_off(till.event.id, "Rain")
    await settle_all(office)
    assert await status_of(office, pending) == "failed event_called_off"
    await till.rest()
    await check_at_rest(office, [pending])


async def test_called_off_twice_is_once(till: Till) -> None:
    first = await till.office.calling_off.call_off(till.event.id, "Rain")
    again = await till.office.calling_off.call_off(till.event.id, "Snow", if_version=1)
    assert (
        (again["reason"], again["started_at"])
        == (first["reason"], first["started_at"])
        == ("Rain", first["started_at"])
    )
    history = await till.office.control.history(till.event.id)
    assert [row["action"] for row in history] == ["call_off", "create"]
    assert history[0]["changes"] == {
        "status": {"from": "active", "to": "called_off"}, "reason": {"from": None, "to": "Rain"},
    }  # fmt: skip


async def test_who_may_not_calls_nothing_off(till: Till) -> None:
    calling_off = till.office.calling_off
    with pytest.raises(NotFound):
        await calling_off.call_off(till.event.id, "Rain", Actor("key:other", OTHER))
    with pytest.raises(EventChanged):
        await calling_off.call_off(till.event.id, "Rain", if_version=7)
    with pytest.raises(Malformed) as refused:
        await calling_off.call_off(till.event.id, "")
    assert refused.value.pointer == "/reason"
    with pytest.raises(NotFound):
        await calling_off.report(till.event.id)
    await till.book(GA=1)


async def test_another_event_of_the_shard_is_left_alone(till: Till, open_sale: SaleMaker) -> None:
    other = Till(till.office, await open_sale(GA=5), till.numbers)
    confirmed = await other.book(GA=1)
    await settle_all(till.office)
    held = await other.hold(GA=2)
    await till.hold(GA=1)
    await till.office.calling_off.call_off(till.event.id, "Rain")
    await work_off(till)
    assert await status_of(till.office, confirmed) == "confirmed"
    assert (await record_of(till.office, held)).state == "H"  # type: ignore[union-attr]
    assert (await counters(till.office, other.event, "GA")).held == 2


async def test_many_bookings_are_refunded_in_chunks(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two workers at once do each once."""
    monkeypatch.setattr(call_offs, "CHUNK", 3)
    booked = [await till.book(GA=1, customer=f"c{n}") for n in range(10)]
    await settle_all(till.office)
    await till.office.calling_off.call_off(till.event.id, "Rain")
    done = await asyncio.gather(*(till.office.calling_off.work(SHARD, 2) for _ in range(2)))
    assert sum(done) == 10
    await work_off(till)
    pool = await till.office.pool()
    assert await pool.fetchval("SELECT count(*) FROM refunds") == await pool.fetchval(
        "SELECT count(DISTINCT booking_id) FROM refunds") == 10  # fmt: skip
    await check_at_rest(till.office, booked)


async def test_so_many_holds_are_ended_at_the_same_time(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """And one that cannot be ended keeps none of the others waiting."""
    held = [await till.hold(GA=1, customer=f"c{number}") for number in range(7)]
    await till.office.calling_off.call_off(till.event.id, "Rain")
    monkeypatch.setattr(calling_off, "AT_ONCE", 3)
    cancel, under_way, most = Holds.cancel, set[str](), list[int]()

    async def watched(holds: Holds, record: Record) -> Any:
        under_way.add(record.id)
        most.append(len(under_way))
        try:
            if record.id == held[0]:
                raise ZeroDivisionError
            return await cancel(holds, record)
        finally:
            under_way.remove(record.id)

    with monkeypatch.context() as patch:
        patch.setattr(Holds, "cancel", watched)
        with pytest.raises(ZeroDivisionError):
            await till.office.calling_off.work(SHARD)
    assert (max(most), len(most)) == (3, 7)
    assert (await counters(till.office, till.event, "GA")).held == 1
    await work_off(till)
    assert (await counters(till.office, till.event, "GA")).held == 0


async def test_redis_hears_of_each_chunk_before_the_next(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a large event would leave more open than a repair takes."""
    monkeypatch.setattr(call_offs, "CHUNK", 2)
    for number in range(5):
        await till.book(GA=1, customer=f"c{number}")
    await till.rest()
    await till.office.calling_off.call_off(till.event.id, "rain")
    for left in (3, 1, 0):
        await till.office.calling_off.work(SHARD, 1)
        assert await till.fetch("SELECT id FROM stock_moves WHERE applied_at IS NULL") == []
        assert (await counters(till.office, till.event, "GA")).sold == left


async def test_a_refund_that_the_gateway_refuses_is_told(till: Till) -> None:
    booking = await till.book("tok_refund_refused", GA=1)
    await settle_all(till.office)
    await till.office.calling_off.call_off(till.event.id, "Rain")
    await work_off(till)

    async def refused() -> Any:
        await settle_all(till.office)
        return (await till.office.calling_off.report(till.event.id))["refused"]

    (owed,) = await eventually(refused)
    assert (owed["booking_id"], owed["amount_cents"], owed["currency"]) == (booking, 1_000, "USD")
    report = till.office.calling_off.report
    assert (await report(till.event.id, Actor("key:shop", CLIENT)))["refused"] == [owed]
    assert (await report(till.event.id, Actor("key:other", OTHER)))["refused"] == [], (
        "of bookings of others nothing is told"
    )


@pytest.mark.parametrize("holds", [0, 1])
@pytest.mark.parametrize("gate", [None, "first:another-run"], ids=["closed", "unchecked"])
async def test_while_the_gate_is_shut_nothing_is_done(till: Till, gate: str | None, holds: int) -> None:
    """Nothing is refunded of which Redis cannot hear: neither with holds that are to be ended first, nor without."""
    booking = await till.book(GA=1)
    await settle_all(till.office)
    for _ in range(holds):
        await till.hold(GA=1)
    await till.office.calling_off.call_off(till.event.id, "Rain")
    name = keys.gate(SHARD)
    open_gate = await till.office.redis.getdel(name)
    if gate:
        await till.office.redis.set(name, gate)
    for _ in range(2):
        assert await till.office.calling_off.work(SHARD) == 0
    assert await status_of(till.office, booking) == "confirmed"
    assert await till.fetch("SELECT id FROM stock_moves") == []
    await till.office.redis.set(name, open_gate)
    await work_off(till)
    assert await status_of(till.office, booking) == "cancelled event_called_off"


async def test_redis_hears_of_a_chunk_of_more_moves_than_one_call_makes(
    office: Any, open_sale: SaleMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A booking is a move for each of its tiers."""
    monkeypatch.setattr(moves, "MOVES_MAX", 3)
    await load_all(office)
    till = Till(office, await open_sale(**dict.fromkeys("ABCDEFGH", 5)))
    await till.book(**dict.fromkeys("ABCDEFGH", 1))
    await till.rest()
    await office.calling_off.call_off(till.event.id, "Rain")
    assert await office.calling_off.work(SHARD, 1) == 1
    assert await till.fetch("SELECT id FROM stock_moves WHERE applied_at IS NULL") == []
    assert [(await counters(office, till.event, code)).available for code in "ABCDEFGH"] == [5] * 8


@pytest.mark.parametrize("percent", [0, 50])
async def test_who_cancels_before_the_worker_comes_gets_all_back_too(till: Till, percent: int) -> None:
    """By the terms nothing, or half, or too late: they are the terms of an event that takes place."""
    pool = await till.office.pool()
    await pool.execute("UPDATE events SET refund_percent = $1, cancel_until = now() - interval '1 day'", percent)
    booking = await till.book(GA=2)
    await till.rest()
    with pytest.raises(NotCancellable):
        await till.cancel(booking)
    await till.office.calling_off.call_off(till.event.id, "Rain")
    await till.cancel(booking)
    await work_off(till)
    assert await pool.fetchval("SELECT refunded_cents FROM payments") == 2_000
    assert await pool.fetchval("SELECT count(*) FROM refunds") == 1


@pytest.mark.parametrize("by", ["call-off", "cancel", "refund"])
async def test_a_payment_that_is_still_to_be_let_go_of_is_not_the_one_that_is_given_back(till: Till, by: str) -> None:
    """An earlier attempt was authorised in another way than was asked, and its void is not done: money came from the second
    alone, and each booking of the chunk has one refund."""
    booking, other = await till.book(GA=2), await till.book(GA=1, customer="ann")
    await till.rest()
    pool = await till.office.pool()
    await pool.execute(
        "INSERT INTO payments (payment_key, booking_id, amount_cents, currency, gateway, method, status, due, due_at,"
        " created_at) SELECT 'earlier', booking_id, 7, currency, gateway, method, 'authorized', 'void',"
        " now() + interval '1 day',"
        " created_at - interval '1 hour' FROM payments WHERE booking_id = $1", booking,
    )  # fmt: skip
    for there, back in (("", "x"), ("x", "")):  # so that the earlier one is met first, also where no order is asked for
        await pool.execute(
            "UPDATE payments SET payment_key = rtrim(payment_key, $1) || $2 WHERE booking_id = $3 AND amount_cents > 7",
            there, back, booking,
        )  # fmt: skip
    if by == "call-off":
        await till.office.calling_off.call_off(till.event.id, "Rain")
        await till.office.calling_off.work(SHARD)
    elif by == "cancel":
        await till.cancel(booking)
    else:
        await till.refund(booking, GA=2)
    found = await pool.fetch(
        "SELECT booking_id::text, payment_key, amount_cents FROM refunds WHERE booking_id = $1", booking
    )
    assert [(row["amount_cents"], row["payment_key"] == "earlier") for row in found] == [(2_000, False)]
    assert await pool.fetchval("SELECT refunded_cents FROM payments WHERE payment_key = 'earlier'") == 0
    if by == "call-off":
        assert await pool.fetchval("SELECT sum(amount_cents) FROM refunds WHERE booking_id = $1", other) == 1_000


async def test_one_event_that_cannot_be_worked_off_keeps_no_other_waiting(
    till: Till, open_sale: SaleMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    await till.book(GA=1)
    later = Till(till.office, await open_sale(GA=5))
    await later.book(GA=1, customer="ann")
    await settle_all(till.office)
    for event in (till.event, later.event):
        await till.office.calling_off.call_off(event.id, "Rain")
    give_back = call_offs.give_back

    async def broken(database: Any, here: Any, event_id: str, **how: Any) -> int:
        if event_id == till.event.id:
            raise ZeroDivisionError
        return await give_back(database, here, event_id, **how)

    monkeypatch.setattr(call_offs, "give_back", broken)
    with pytest.raises(ZeroDivisionError):
        await till.office.calling_off.work(SHARD)
    pool = await till.office.pool()
    left = "SELECT count(*) FROM bookings WHERE event_id = $1 AND status = 'confirmed'"
    assert (await pool.fetchval(left, till.event.id), await pool.fetchval(left, later.event.id)) == (1, 0)


@pytest.mark.parametrize("how", ["load", "publish"])
async def test_a_call_off_that_postgresql_lost_is_no_sale_again(till: Till, how: str) -> None:
    """A standby was promoted that had not heard of it: Redis keeps it off sale, and an operator is told. Called off once more,
    both agree."""
    office, pool = till.office, await till.office.pool()
    booking = await till.book(GA=1)
    await settle_all(office)
    await office.calling_off.call_off(till.event.id, "Rain")
    await pool.execute("UPDATE inventory SET called_off = false")
    await pool.execute("DELETE FROM call_offs")
    await pool.execute("UPDATE events SET status = 'active', version = version - 1")
    with capture_logs() as lines:
        if how == "load":
            assert till.event.id not in (await office.loader.load(SHARD)).events
        else:
            await office.loader.publish(till.event.id)
    assert ("event.call_off_lost", till.event.id) in {(line["event"], line.get("event_id")) for line in lines}
    await office.catalogue.refresh()
    with pytest.raises(SaleClosed):
        await till.book(GA=1)
    await office.calling_off.call_off(till.event.id, "Rain")
    await work_off(till)
    assert await till.state(booking) == "X cancelled"
