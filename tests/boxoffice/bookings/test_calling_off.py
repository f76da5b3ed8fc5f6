"""An event is called off: nothing more of it is sold, and everybody has all of the money back, once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from boxoffice.books import call_offs
from boxoffice.books.moves import apply_moves
from boxoffice.errors import EventCalledOff, EventChanged, Malformed, NotFound, SaleClosed
from boxoffice.sales.control import Actor
from boxoffice.stores import keys
from tests.conftest import CLIENT, SHARD, SaleMaker, counters, eventually, load_all, settle_all
from tests.support.checks import check_at_rest
from tests.support.shop.office import Till, record_of, status_of
from tests.support.shop.orders import OTHER


@pytest.fixture
async def till(office: Any, open_sale: SaleMaker) -> Till:
    await load_all(office)
    return Till(office, await open_sale(GA=50, VIP=5))


async def work_off(till: Till) -> None:
    """What workers do, until it is finished and all money has moved."""
    office = till.office
    async with asyncio.timeout(20):
        while (await office.calling_off.report(till.event.id))["status"] == "running":
            await office.calling_off.work(SHARD)
            await settle_all(office)
            await office.loader.publish_unmirrored(SHARD)
            while await apply_moves(office.shards[SHARD], office.database):
                pass
    await till.rest()


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
        "SELECT booking_id::text, amount_cents, status FROM refunds WHERE reason = 'event_called_off'"
    )
    assert {(row["booking_id"], row["amount_cents"], row["status"]) for row in rows} == {
        *((booking, 2_000, "succeeded") for booking in confirmed), (partly, 4_000, "succeeded"),
    }  # fmt: skip
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


async def test_while_the_gate_is_shut_nothing_is_done(till: Till) -> None:
    booking = await till.book(GA=1)
    await settle_all(till.office)
    await till.hold(GA=1)
    await till.office.calling_off.call_off(till.event.id, "Rain")
    await till.office.redis.delete(keys.gate(SHARD))
    assert await till.office.calling_off.work(SHARD) == 0
    assert await status_of(till.office, booking) == "confirmed"
