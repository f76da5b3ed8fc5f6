"""Settling: PostgreSQL decides once, Redis mirrors it once, money moves once."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import pytest
from structlog.testing import capture_logs

from boxoffice.gateway.base import CaptureRequest, Unknown
from boxoffice.office import BoxOffice, open_box_office
from boxoffice.settings import Settings
from boxoffice.settlement.batch import Batch
from boxoffice.stores import keys
from tests.conftest import SHARD, SaleMaker, counters, eventually, settle_all
from tests.support.checks import check_at_rest
from tests.support.clocks import Passing
from tests.support.settling import over, tune, with_worker, work_money
from tests.support.shop.office import book, book_many, first_sale, record_of, status_of
from tests.support.shop.orders import tier_of


async def test_a_booking_ends_confirmed_captured_and_sold(office: BoxOffice, open_sale: SaleMaker) -> None:
    """In both stores and at the gateway."""
    event = await open_sale(GA=10, VIP=5)
    admitted = await book(office, event, GA=2, VIP=1)

    await settle_all(office)

    assert await status_of(office, admitted.booking_id) == "confirmed"
    record = await record_of(office, admitted.booking_id)
    assert record is not None and record.payload.outcome is not None
    assert (record.state, record.payload.charge) == ("C", None)
    assert record.payload.outcome.last4 == "4242"
    assert (await counters(office, event, "GA")).sold == 2
    await check_at_rest(office, [admitted.booking_id])


async def test_a_declined_card_returns_its_tickets_once(office: BoxOffice, open_sale: SaleMaker) -> None:
    """The booking ends as failed with the reason, and availability is as it was."""
    event = await open_sale(GA=10)
    admitted = await book(office, event, token="tok_insufficient_funds", GA=3)

    await settle_all(office)
    await settle_all(office)

    assert await status_of(office, admitted.booking_id) == "failed payment_declined"
    record = await record_of(office, admitted.booking_id)
    assert record is not None and record.payload.outcome is not None
    assert (record.state, record.payload.failure) == ("F", "payment_declined")
    assert (record.payload.outcome.status, record.payload.outcome.failure_code) == ("declined", "insufficient_funds")
    assert (await counters(office, event, "GA")).available == 10
    await check_at_rest(office, [admitted.booking_id])


@pytest.mark.parametrize("shards", [1, 4])
async def test_bookings_of_many_events_settle_in_every_shard(office: BoxOffice, open_sale: SaleMaker) -> None:
    """Whatever the number of shards."""
    events = [await open_sale(shard=n, GA=50, VIP=5) for n in range(4)]
    booked = [
        await book_many(office, event, 12, GA=2, token=f"tok_{card}")
        for event, card in zip(events, ["ok", "ok", "lost_card", "ok"], strict=True)
    ]

    await settle_all(office)
    await work_money(office)

    assert [(await counters(office, event, "GA")).sold for event in events] == [24, 24, 0, 24]
    await check_at_rest(office, [booking for ids_ in booked for booking in ids_])


async def test_fifty_seats_for_a_thousand_customers(office: BoxOffice, open_sale: SaleMaker) -> None:
    """Exactly fifty are let in and confirmed."""
    event = await open_sale(VIP=50)

    booked = await book_many(office, event, 1_000, VIP=1)
    await settle_all(office)

    assert len(booked) == 50
    assert (await counters(office, event, "VIP")).sold == 50
    await check_at_rest(office, booked)


async def test_sold_out_at_commit_fails_and_lets_the_money_go(office: BoxOffice, open_sale: SaleMaker) -> None:
    """Redis let in more than PostgreSQL has: the surplus fails, in the order of admission, and nobody pays for it."""
    event = await open_sale(GA=10)
    booked = [(await book(office, event, customer=f"c{n}", GA=2)).booking_id for n in range(5)]
    await (await office.pool()).execute("UPDATE inventory SET total = 5 WHERE tier_id = $1", tier_of(event, "GA"))

    await settle_all(office)
    await work_money(office)

    assert [await status_of(office, booking) for booking in booked] == [
        "confirmed", "confirmed", *(3 * ["failed sold_out_at_commit"])
    ]  # fmt: skip
    voided = [kept.payment.status async for kept in office.gateway.records()]
    assert sorted(voided) == ["captured"] * 2 + ["voided"] * 3
    counted = await counters(office, event, "GA")
    assert (counted.available, counted.held, counted.sold) == (6, 0, 4)


def each_alone(office: BoxOffice) -> None:
    """From here on a claim brings one booking."""
    tune(office.settlements[SHARD], batch_max=1)


@pytest.mark.parametrize("lapses", [0, 10])
async def test_what_may_have_killed_its_workers_has_no_neighbour(
    office: BoxOffice, open_sale: SaleMaker, monkeypatch: pytest.MonkeyPatch, lapses: int
) -> None:
    """Batches overlap, but not with one whose lease has lapsed: were it to kill this worker too, they would lapse with it,
    and in the end be parked with it."""
    event = await open_sale(GA=10)
    settlement, under_way, most = office.settlements[SHARD], 0, 0
    settle, company = settlement.settle, asyncio.Event()

    async def watched(batch: Batch) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        if under_way == 3:
            company.set()
        with contextlib.suppress(TimeoutError):
            # Whoever is to have none is given a moment in which it could come.
            async with asyncio.timeout(0.1 if lapses else 20):
                await company.wait()
        await settle(batch)
        under_way -= 1

    monkeypatch.setattr(settlement, "settle", watched)
    each_alone(office)
    for _ in range(4):
        booking = (await book(office, event, GA=1)).booking_id
        await office.redis.zadd(keys.pending(SHARD), {booking: 1 + lapses / 16})

    assert await settlement.drain()

    assert most == (1 if lapses else 3)
    assert (await counters(office, event, "GA")).sold == 4


async def test_a_batch_that_hangs_keeps_no_other_waiting(
    office: BoxOffice, open_sale: SaleMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is due while it hangs, then something is: a lane is free for it."""
    event = await open_sale(GA=10)
    settlement, hung = office.settlements[SHARD], asyncio.Event()
    settle = settlement.settle
    first = (await book(office, event, GA=1)).booking_id

    async def hang(batch: Batch) -> None:
        if batch.claims[0].record.id == first:
            await hung.wait()
        await settle(batch)

    monkeypatch.setattr(settlement, "settle", hang)
    draining = asyncio.create_task(settlement.drain())
    await eventually(lambda: _claimed(office))
    second = (await book(office, event, GA=1)).booking_id

    async def second_is_confirmed() -> bool:
        return await status_of(office, second) == "confirmed"

    await eventually(second_is_confirmed)
    hung.set()
    assert await draining
    assert await status_of(office, first) == "confirmed"


async def _claimed(office: BoxOffice) -> bool:
    """Whether all that waits is leased to somebody."""
    return not await office.redis.zcount(keys.pending(SHARD), "-inf", 1_000 * time.time())


async def test_a_batch_that_fails_after_another_is_told_too(
    office: BoxOffice, open_sale: SaleMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first failure ends the drain; whatever else was under way ends by itself, and is not forgotten."""
    event = await open_sale(GA=10)
    settlement = office.settlements[SHARD]
    for _ in range(2):
        await book(office, event, GA=1)
    under_way: list[asyncio.Task[Any]] = []

    async def fail(_batch: Batch) -> None:
        under_way.append(asyncio.current_task())  # type: ignore[arg-type]
        if len(under_way) == 2:
            await asyncio.wait(under_way[:1])
        raise RuntimeError("planted")

    monkeypatch.setattr(settlement, "settle", fail)
    each_alone(office)

    with capture_logs() as said, pytest.raises(RuntimeError):
        await settlement.drain()

    assert [line["event"] for line in said] == ["batch.failed"]
    assert not settlement.draining


async def test_what_is_settled_and_due_again_moves_no_stock(office: BoxOffice, open_sale: SaleMaker) -> None:
    """A restored pending set, an operator's hand: a claim may bring what was sold long ago, its record unchanged since."""
    event = await open_sale(GA=10)
    sold, other = await book(office, event, GA=2), await book(office, event, GA=1)
    await settle_all(office)
    await office.redis.zadd(keys.pending(SHARD), {sold.booking_id: 1, other.booking_id: 1})

    assert await office.settlements[SHARD].drain()

    assert not await office.redis.zcard(keys.pending(SHARD))
    counts = await counters(office, event, "GA")
    assert (counts.available, counts.held, counts.sold) == (7, 0, 3)


async def test_another_amount_is_never_captured(office: BoxOffice, open_sale: SaleMaker) -> None:
    """The gateway set aside another amount than the booking's: the booking fails and the money is let go."""
    event = await open_sale(GA=10)
    admitted = await book(office, event, token="tok_wrong_amount", GA=2)

    await settle_all(office)
    await work_money(office)

    assert await status_of(office, admitted.booking_id) == "failed payment_amount_mismatch"
    assert [kept.payment.status async for kept in office.gateway.records()] == ["voided"]
    await check_at_rest(office, [admitted.booking_id])


@pytest.mark.parametrize("card", ["error", "timeout", "late"])
async def test_an_unknown_payment_is_asked_again_until_it_is_known(
    clean: None, settings: Settings, card: str, servers: object
) -> None:
    """An answer that was lost, late, or an error is no decline. Meanwhile the tickets stay held."""
    short = settings.model_copy(
        update={"gateway": settings.gateway.model_copy(update={"cutoff_s": 0.05, "timeout_s": 0.2})}
    )
    async with open_box_office(short, redis_retries=3) as office:
        event = await first_sale(office)
        admitted = await book(office, event, token=f"tok_{card}", GA=2)
        await office.settlements[SHARD].drain()
        assert (await counters(office, event, "GA")).available == 8

        await settle_all(office)
        await work_money(office)

        assert await status_of(office, admitted.booking_id) == "confirmed"
        await check_at_rest(office, [admitted.booking_id])


async def test_while_a_payment_is_unknown_postgresql_already_knows_the_booking(
    office: BoxOffice, open_sale: SaleMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a webhook finds it by its payment key; a later outcome updates the row."""
    event = await open_sale(GA=10)
    admitted = await book(office, event, token="tok_error", GA=2)

    await office.settlements[SHARD].drain()

    row = await (await office.pool()).fetchrow("SELECT payment_key, status, token FROM payments")
    record = await record_of(office, admitted.booking_id)
    assert row is not None and record is not None
    assert (row["payment_key"], row["status"]) == (record.payment_key, "unknown")
    assert await status_of(office, admitted.booking_id) == "pending"
    record = await record_of(office, admitted.booking_id)
    assert record is not None and record.state == "P" and record.payload.charge is not None
    await settle_all(office)
    assert await status_of(office, admitted.booking_id) == "confirmed"
    await check_at_rest(office, [admitted.booking_id])


async def test_one_slow_card_does_not_delay_the_others(clean: None, settings: Settings) -> None:
    """It goes on by itself after the cut-off, its lease renewed."""
    short = with_worker(settings, lease_ms=300).model_copy(
        update={"gateway": settings.gateway.model_copy(update={"cutoff_s": 0.1, "timeout_s": 2.0})}
    )
    async with open_box_office(short, redis_retries=3) as office:
        event = await first_sale(office)
        slow = await book(office, event, token="tok_timeout", GA=1)
        fast = await book_many(office, event, 5, GA=1)

        await office.settlements[SHARD].drain()

        assert {await status_of(office, booking) for booking in fast} == {"confirmed"}
        assert await status_of(office, slow.booking_id) is None
        ((_, due),) = await office.redis.zrange(keys.pending(SHARD), 0, -1, withscores=True)
        lease_then = due

        async def renewed() -> bool:
            score = await office.redis.zscore(keys.pending(SHARD), slow.booking_id)
            return score is not None and score > lease_then

        await eventually(renewed)
        await settle_all(office)
        await work_money(office)
        await check_at_rest(office, [slow.booking_id, *fast])


async def test_stopping_gives_a_slow_card_back_at_once(clean: None, settings: Settings) -> None:
    """The next worker need not wait for the lease to end, and no lapse is counted."""
    short = settings.model_copy(
        update={"gateway": settings.gateway.model_copy(update={"cutoff_s": 0.05, "timeout_s": 30.0})}
    )
    async with open_box_office(short, redis_retries=3) as office:
        event = await first_sale(office)
        slow = await book(office, event, token="tok_timeout", GA=1)
        await office.settlements[SHARD].drain()

        async with asyncio.timeout(25):
            await office.settlements[SHARD].stop()

        seconds, micros = await office.redis.time()
        due = await office.redis.zscore(keys.pending(SHARD), slow.booking_id)
        assert due is not None and due <= seconds * 1_000 + micros / 1_000 + 1
        assert due % 1 == 0


async def test_a_payment_unknown_for_too_long_fails_and_is_voided(
    office: BoxOffice, open_sale: SaleMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gateway never said: after the deadline the tickets go back, and the money is let go however late it shows up."""
    event = await open_sale(GA=10)
    admitted = await book(office, event, GA=2)
    real, asked = office.gateway.authorize_batch, []

    async def lost(requests: Any) -> list[Any]:
        asked.extend(requests)
        return [Unknown("timeout") for _ in requests]

    monkeypatch.setattr(office.gateway, "authorize_batch", lost)
    await office.settlements[SHARD].drain()
    assert await status_of(office, admitted.booking_id) == "pending"
    await (await office.pool()).execute("UPDATE payments SET created_at = now() - interval '1 hour'")

    await settle_all(office)
    assert await status_of(office, admitted.booking_id) == "failed payment_unavailable"
    assert (await counters(office, event, "GA")).available == 10
    await real(asked[:1])
    await work_money(office)

    assert [kept.payment.status async for kept in office.gateway.records()] == ["voided"]
    assert await status_of(office, admitted.booking_id) == "failed paid_too_late"
    await check_at_rest(office, [admitted.booking_id])


async def test_a_paused_settlement_asks_nobody(
    office: BoxOffice, open_sale: SaleMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While PostgreSQL is away it is asked once, and again when the pause is over: the process has time for everything else."""
    time = Passing()
    office.clock = time.clock
    event = await open_sale(GA=100)
    booked = await book_many(office, event, 3, GA=1)
    settlement, asked = office.settlements[SHARD], list[float]()

    async def away() -> Any:
        asked.append(time.now)
        raise ConnectionRefusedError

    with monkeypatch.context() as patch:
        over(patch, settlement, away)
        for times in (1, 2):
            for _ in range(5):
                await settlement.drain()
            assert len(asked) == times
            assert settlement.claims.closed_until > time.now
            time.now = settlement.claims.closed_until
            await office.redis.zadd(keys.pending(SHARD), {booking: 1 for booking in booked})
    await settle_all(office)
    await check_at_rest(office, booked)


async def test_a_settlement_that_was_told_to_stop_stops_after_its_batches(
    office: BoxOffice, open_sale: SaleMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A SIGTERM under load is obeyed at once: what is under way ends, and most of what waits is left to others."""
    event = await open_sale(GA=1_000)
    booked = await book_many(office, event, 60, GA=1)
    settlement, ending, batches = office.settlements[SHARD], list[asyncio.Task[None]](), 0
    settle = settlement.settle
    tune(settlement, batch_max=5)

    async def told_to_stop(batch: Batch) -> None:
        nonlocal batches
        batches += 1
        if not ending:
            ending.append(asyncio.create_task(settlement.stop()))
        await settle(batch)

    monkeypatch.setattr(settlement, "settle", told_to_stop)
    assert await settlement.drain() is False
    await asyncio.gather(*ending)

    assert 1 <= batches <= settlement.settings.worker.batches_at_once
    assert await (await office.pool()).fetchval("SELECT count(*) FROM bookings") == 5 * batches
    settlement.stopping = False
    await settle_all(office)
    await check_at_rest(office, booked)


async def test_any_text_reaches_postgresql_as_it_was(office: BoxOffice, open_sale: SaleMaker) -> None:
    """Also what means something in the format in which bookings are sent there."""
    event = await open_sale(GA=100)
    customers = [
        "tab\there",
        "back\\slash",
        "line\nfeed",
        "carriage\rreturn",
        "\\N",
        "\\.",
        "{a,b}",
        "Zo\u00eb \U0001f3ab",
    ]
    booked = [(await book(office, event, customer=customer, GA=1)).booking_id for customer in customers]
    booked.append((await book(office, event, customer="held", hold_s=60, GA=1)).booking_id)

    await settle_all(office)

    found = await (await office.pool()).fetch(
        "SELECT customer_id, expires_at, 1000 * extract(epoch FROM created_at) AS ms FROM bookings ORDER BY sequence"
    )
    assert [row["customer_id"] for row in found] == [*customers, "held"]
    for booking, row in zip(booked, found, strict=True):
        record = await record_of(office, booking)
        assert record is not None
        assert row["ms"] == record.admitted_ms
        assert (row["expires_at"].timestamp() * 1_000 if row["expires_at"] else 0) == record.deadline_ms
    await check_at_rest(office, booked)


async def test_captures_that_nobody_finished_are_finished_by_the_outbox(
    office: BoxOffice, open_sale: SaleMaker
) -> None:
    """The worker that committed died before it captured: the payment row is due, and its lease ends."""
    event = await open_sale(GA=10)
    admitted = await book(office, event, GA=2)
    await office.settlements[SHARD].drain()
    office.pump.given.clear()
    assert await office.pump.work_outbox() == 0, "still leased to the worker that committed it"

    await work_money(office)

    await check_at_rest(office, [admitted.booking_id])


async def test_a_capture_told_twice_takes_the_money_once(office: BoxOffice, open_sale: SaleMaker) -> None:
    """Also when its answer was lost the first time."""
    event = await open_sale(GA=10)
    admitted = await book(office, event, token="tok_capture_timeout", GA=2)
    await office.settlements[SHARD].drain()
    await office.pump.work_given()
    record = await record_of(office, admitted.booking_id)
    assert record is not None
    request = CaptureRequest(record.payment_key, f"sim_{record.payment_key}", 2_000)
    await asyncio.gather(*(office.gateway.capture_batch([request]) for _ in range(3)))

    await work_money(office)

    assert [kept.payment.captured_cents async for kept in office.gateway.records()] == [2_000]
    await check_at_rest(office, [admitted.booking_id])


async def test_the_money_pump_outlives_an_unexpected_error(
    office: BoxOffice, open_sale: SaleMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error that nobody thought of is logged; the next captures are taken all the same."""
    event = await open_sale(GA=10)
    real = office.gateway.capture_batch
    broken = True
    failed: list[Any] = []

    async def capture_batch(requests: Any) -> list[Any]:
        if broken:
            failed.append(requests)
            raise RuntimeError("planted")
        return await real(requests)

    monkeypatch.setattr(office.gateway, "capture_batch", capture_batch)
    pumping = asyncio.create_task(office.pump.run())
    try:
        booked = await book_many(office, event, 1, GA=1)
        await office.settlements[SHARD].drain()
        pool = await office.pool()

        async def met_the_error() -> bool:
            return bool(failed)

        await eventually(met_the_error)
        broken = False

        async def captured() -> bool:
            await pool.execute("UPDATE captures SET leased_until = now()")
            await pool.execute("UPDATE payments SET leased_until = NULL, due_at = now() WHERE due_at IS NOT NULL")
            return bool(await pool.fetchval("SELECT count(*) FROM payments WHERE status = 'captured'"))

        await eventually(captured)
        assert not pumping.done()
        await check_at_rest(office, booked)
    finally:
        office.pump.stop()
        await pumping
