"""Settling: PostgreSQL decides once, Redis mirrors it once, money moves once."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import msgspec
import pytest
from structlog.testing import capture_logs

from boxoffice import ids
from boxoffice.admission.forms import Admitted
from boxoffice.books import rows
from boxoffice.clock import Clock
from boxoffice.gateway.base import CaptureRequest, Unknown
from boxoffice.office import BoxOffice, open_box_office
from boxoffice.sales.catalogue import EventView
from boxoffice.settings import Settings
from boxoffice.settlement.batch import Batch
from boxoffice.stores import keys
from boxoffice.stores.record import Line, Record
from tests.conftest import SHARD, SaleMaker, counters, eventually, settle_all
from tests.support.checks import check_at_rest, check_conservation
from tests.support.clocks import Passing
from tests.support.settling import over, tune, with_worker
from tests.support.shop.office import book, book_many, first_sale, record_of, status_of
from tests.support.shop.orders import tier_of


@pytest.fixture
async def second(office: BoxOffice, settings: Settings) -> AsyncIterator[BoxOffice]:
    """Another process's office on the same stores and the same gateway's ledger."""
    async with open_box_office(settings, redis_retries=3) as second:
        yield second


async def work_money(office: BoxOffice) -> None:
    """Do whatever is due at the gateway, as if every lease had ended."""
    pool = await office.pool()
    for _ in range(20):
        await office.pump.work_given()
        await pool.execute("UPDATE captures SET leased_until = now()")
        await pool.execute("UPDATE payments SET leased_until = NULL, due_at = now() WHERE due_at IS NOT NULL")
        if not await office.pump.work_outbox():
            return


async def break_inserts(office: BoxOffice, error: str, *, customer: str = "bad") -> None:
    """Make PostgreSQL refuse one customer's bookings with this SQLSTATE."""
    pool = await office.pool()
    await pool.execute(
        f"""
        CREATE OR REPLACE FUNCTION planted_refusal() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
          IF NEW.customer_id = '{customer}' THEN RAISE EXCEPTION 'planted' USING ERRCODE = '{error}'; END IF;
          RETURN NEW;
        END $$;
        CREATE OR REPLACE TRIGGER planted_refusal BEFORE INSERT ON bookings FOR EACH ROW EXECUTE FUNCTION planted_refusal()
        """
    )


@pytest.fixture
async def mend_inserts(office: BoxOffice) -> AsyncIterator[Any]:
    """Takes the planted refusal away, at the latest when the test ends."""

    async def mend() -> None:
        await (await office.pool()).execute("DROP TRIGGER IF EXISTS planted_refusal ON bookings")

    yield mend
    await mend()


# ---------------------------------------------------------------------- the normal course


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


# ---------------------------------------------------------------------- PostgreSQL has the last word


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


REUSED = "failed idempotency_key_reused"


async def test_a_booking_redis_let_in_twice_is_a_duplicate(office: BoxOffice, open_sale: SaleMaker) -> None:
    """Redis forgot the key. The second booking pays nothing, returns its tickets, and points to the first."""
    event = await open_sale(GA=10)
    first = await book(office, event, key="k", GA=2)
    await settle_all(office)
    await forget_key(office, event, first)

    second = await book(office, event, key="k", GA=2)
    assert second.booking_id != first.booking_id
    await settle_all(office)

    assert await status_of(office, second.booking_id) == "failed duplicate"
    row = await (await office.pool()).fetchrow(
        "SELECT duplicate_of FROM bookings WHERE id = $1::uuid", second.booking_id
    )
    assert row is not None and str(row["duplicate_of"]) == first.booking_id
    assert (await counters(office, event, "GA")).sold == 2
    assert [kept.payment.captured_cents async for kept in office.gateway.records()] == [2_000]
    await check_at_rest(office, [first.booking_id, second.booking_id])


async def test_two_bookings_under_one_key_in_one_batch_pay_once(office: BoxOffice, open_sale: SaleMaker) -> None:
    """The later one waits until the first is written."""
    event = await open_sale(GA=10)
    first = await book(office, event, key="k", GA=2)
    await forget_key(office, event, first)
    second = await book(office, event, key="k", GA=2)

    await settle_all(office)

    assert await status_of(office, first.booking_id) == "confirmed"
    assert await status_of(office, second.booking_id) == "failed duplicate"
    await check_at_rest(office, [first.booking_id, second.booking_id])


async def forget_key(office: BoxOffice, event: EventView, booked: Admitted) -> None:
    """Redis loses the idempotency key of a booking."""
    record = await record_of(office, booked.booking_id)
    assert record is not None
    await office.redis.delete(keys.idempotency(event.shard, record.scope))


async def forget(office: BoxOffice, event: EventView, booked: Admitted) -> None:
    """Let Redis forget the idempotency key of a booking."""
    await forget_key(office, event, booked)


async def test_a_duplicate_in_the_batch_of_an_undecided_booking_does_not_hold_it_up(
    office: BoxOffice, open_sale: SaleMaker
) -> None:
    """Both have the same payment key. PostgreSQL knows the payment of the first: it is found in spite of the second."""
    event = await open_sale(GA=10)
    first = await book(office, event, key="k", token="tok_3ds", GA=2)
    await office.settlements[SHARD].drain()
    assert await status_of(office, first.booking_id) == "pending"
    await forget(office, event, first)
    second = await book(office, event, key="k", token="tok_3ds", GA=2)
    neighbour = await book(office, event, customer="neighbour", GA=1)
    await office.redis.zadd(keys.pending(SHARD), {first.booking_id: 1})

    assert await office.settlements[SHARD].drain()

    assert await status_of(office, second.booking_id) == "failed duplicate"
    assert await status_of(office, neighbour.booking_id) == "confirmed"
    assert await status_of(office, first.booking_id) == "pending"
    assert (await counters(office, event, "GA")).held == 2


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
    failures = iter([0.0, 0.02])

    async def fail(_batch: Batch) -> None:
        await asyncio.sleep(next(failures))
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


async def test_a_duplicate_in_the_batch_of_one_that_redis_has_not_heard_of_does_not_hold_it_up(
    office: BoxOffice, open_sale: SaleMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its worker died after the commit. The next one finds it decided, whoever else has its key."""
    event = await open_sale(GA=10)
    first = await book(office, event, key="k", GA=2)

    async def die(*_: Any) -> None:
        raise ConnectionRefusedError

    with monkeypatch.context() as dying:
        dying.setattr(office.settlements[SHARD].mirror, "tell", die)
        with pytest.raises(ConnectionRefusedError):
            await office.settlements[SHARD].drain()
    office.settlements[SHARD].claims.closed_until = 0.0
    await forget(office, event, first)
    second = await book(office, event, key="k", GA=2)
    await office.redis.zadd(keys.pending(SHARD), {first.booking_id: 1})

    assert await office.settlements[SHARD].drain()
    await office.pump.work_given()

    assert await status_of(office, first.booking_id) == "confirmed"
    assert await status_of(office, second.booking_id) == "failed duplicate"
    assert (await counters(office, event, "GA")).held == 0


async def test_a_key_used_for_another_amount_after_redis_forgot_it_takes_no_other_amount(
    office: BoxOffice, second: BoxOffice, open_sale: SaleMaker
) -> None:
    """Nobody can refuse it at once. It fails, and says why; if two workers meet them at the same time, whatever
    the gateway sets aside under their one key is captured for the booking whose amount it is, or let go."""
    event = await open_sale(GA=1_000)
    settled = await book(office, event, key="settled", GA=1)
    await settle_all(office)
    await forget(office, event, settled)
    late = await book(office, event, key="settled", GA=3)
    await settle_all(office)
    assert await status_of(office, late.booking_id) == REUSED

    booked = [settled.booking_id, late.booking_id]
    for n in range(10):
        one = await book(office, event, key=f"k{n}", GA=1)
        mine = await office.settlements[SHARD].claims.claim()
        await forget(office, event, one)
        two = await book(office, event, key=f"k{n}", GA=3)
        theirs = await second.settlements[SHARD].claims.claim()
        await asyncio.gather(office.settlements[SHARD].settle(mine), second.settlements[SHARD].settle(theirs))
        booked += [one.booking_id, two.booking_id]
    await settle_all(office)
    await work_money(office)
    await work_money(second)

    ends = [await status_of(office, booking) for booking in booked]
    assert all(REUSED in ends[n : n + 2] for n in range(0, len(ends), 2)), ends
    await check_at_rest(office, booked)


async def test_two_bookings_under_one_key_in_two_workers_pay_once(
    office: BoxOffice, second: BoxOffice, open_sale: SaleMaker
) -> None:
    """Each worker has one of them in its batch, with other tiers, so no row lock keeps them apart."""
    event = await open_sale(GA=100, VIP=100)
    for n in range(10):
        one = await book(office, event, key=f"k{n}", GA=2)
        await forget_key(office, event, one)
        mine = await office.settlements[event.shard].claims.claim()
        two = await book(office, event, key=f"k{n}", VIP=1)
        theirs = await second.settlements[event.shard].claims.claim()
        claimed = [[claim.record.id for claim in batch.claims] for batch in (mine, theirs)]
        assert claimed == [[one.booking_id], [two.booking_id]]

        await asyncio.gather(
            office.settlements[event.shard].settle(mine),
            second.settlements[event.shard].settle(theirs),
        )
        await second.pump.work_given()
        await settle_all(office)
        assert sorted([str(await status_of(office, b.booking_id)) for b in (one, two)]) == ["confirmed", REUSED]

    await work_money(office)
    await check_at_rest(office)


async def test_a_key_whose_first_booking_failed_stays_failed(office: BoxOffice, open_sale: SaleMaker) -> None:
    """Also when Redis forgot it: the second booking is not tried with the gateway."""
    event = await open_sale(GA=10)
    first = await book(office, event, key="k", token="tok_lost_card", GA=2)
    await settle_all(office)
    await forget_key(office, event, first)

    second = await book(office, event, key="k", token="tok_refund_pending", GA=2)  # whose digits are the same
    await settle_all(office)

    assert await status_of(office, second.booking_id) == "failed duplicate"
    assert [kept.payment.status async for kept in office.gateway.records()] == ["declined"]
    await check_at_rest(office, [first.booking_id, second.booking_id])


# ---------------------------------------------------------------------- the gateway's moods


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

        async with asyncio.timeout(5):
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


# ---------------------------------------------------------------------- errors that are nobody's fault


@pytest.mark.parametrize("error", ["40001", "40P01", "55P03", "57014"])
async def test_transient_errors_retry_the_whole_batch(
    office: BoxOffice, open_sale: SaleMaker, monkeypatch: pytest.MonkeyPatch, error: str
) -> None:
    """Serialisation failures, deadlocks, lock and statement timeouts: no half batch, no attempt counted, no card lost."""
    event = await open_sale(GA=100)
    booked = await book_many(office, event, 20, GA=1)
    failures = iter(range(7))
    real = rows.sell

    async def sell(connection: Any, sold: dict[str, int]) -> None:
        await real(connection, sold)
        if next(failures, None) is not None:
            await connection.execute(f"DO $$ BEGIN RAISE EXCEPTION 'planted' USING ERRCODE = '{error}'; END $$")

    monkeypatch.setattr(rows, "sell", sell)

    await settle_all(office)

    pool = await office.pool()
    assert await pool.fetchval("SELECT count(*) FROM dead_letters") == 0
    assert await pool.fetchval("SELECT count(*) FROM bookings WHERE status = 'confirmed'") == 20
    assert await pool.fetchval("SELECT count(*) FROM payments WHERE last4 = '4242' AND card_name IS NOT NULL") == 20
    await check_at_rest(office, booked)


def but_for_the_answer(record: Record | None) -> Record | None:
    """A record without what a worker remembers of having asked the gateway."""
    if record is None:
        return None
    return msgspec.structs.replace(record, payload=msgspec.structs.replace(record.payload, outcome=None))


async def test_a_released_batch_keeps_its_cards(
    office: BoxOffice, open_sale: SaleMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The card's token stays in the record until PostgreSQL has decided: whoever claims next must be able to pay."""
    event = await open_sale(GA=100)
    (booking,) = await book_many(office, event, 1, GA=1)
    before = await record_of(office, booking)

    async def sell(connection: Any, sold: dict[str, int]) -> None:
        raise asyncpg.SerializationError("planted")

    monkeypatch.setattr(rows, "sell", sell)
    await office.settlements[SHARD].settle(await office.settlements[SHARD].claims.claim())

    after = await record_of(office, booking)
    assert after is not None and after.payload.outcome is not None, "somebody may have asked for the money"
    assert but_for_the_answer(after) == before
    monkeypatch.undo()
    await settle_all(office)
    await check_at_rest(office, [booking])


async def test_an_outage_of_postgresql_parks_nothing_and_counts_no_attempt(
    office: BoxOffice, open_sale: SaleMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Leases are given back, claiming pauses, and everything is settled once it is back."""
    event = await open_sale(GA=100)
    booked = await book_many(office, event, 30, GA=1)
    settlement = office.settlements[SHARD]

    async def away() -> Any:
        raise ConnectionRefusedError

    over(monkeypatch, settlement, away)
    for _ in range(5):
        settlement.claims.closed_until = 0.0
        async with asyncio.timeout(5):
            await settlement.drain()

        async def due() -> bool:
            seconds, micros = await office.redis.time()
            now = seconds * 1_000 + micros / 1_000
            return bool(await office.redis.zcount(keys.pending(SHARD), 0, now) == 30)

        assert all(
            score % 1 == 0 for _, score in await office.redis.zrange(keys.pending(SHARD), 0, -1, withscores=True)
        )
        await eventually(due)
    assert await office.redis.zcard(keys.dead(SHARD)) == 0
    await check_conservation(office)

    monkeypatch.undo()
    await settle_all(office)
    assert await (await office.pool()).fetchval("SELECT count(*) FROM dead_letters") == 0
    await check_at_rest(office, booked)


async def test_an_outage_in_the_middle_of_a_commit_is_no_lapse(
    office: BoxOffice, open_sale: SaleMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL went away before it answered: nobody knows whether it committed. The batch is looked at again soon."""
    event = await open_sale(GA=100)
    booked = await book_many(office, event, 10, GA=1)
    before = [await record_of(office, booking) for booking in booked]
    real = rows.sell

    async def sell(connection: Any, sold: dict[str, int]) -> None:
        await real(connection, sold)
        raise ConnectionResetError

    monkeypatch.setattr(rows, "sell", sell)
    await office.settlements[SHARD].settle(await office.settlements[SHARD].claims.claim())

    assert all(score % 1 == 0 for _, score in await office.redis.zrange(keys.pending(SHARD), 0, -1, withscores=True))
    assert [but_for_the_answer(await record_of(office, booking)) for booking in booked] == before
    monkeypatch.undo()
    await settle_all(office)
    await check_at_rest(office, booked)


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

    assert 1 <= batches <= settlement.settings.worker.lanes
    assert await (await office.pool()).fetchval("SELECT count(*) FROM bookings") == 5 * batches
    settlement.stopping = False
    await settle_all(office)
    await check_at_rest(office, booked)


# ---------------------------------------------------------------------- poison


async def poison(office: BoxOffice, booking: str, **changes: Any) -> None:
    """Change a pending record so that it cannot be written. It stays readable."""
    record = await record_of(office, booking)
    assert record is not None
    price = changes.pop("price", None)
    if price is not None:
        changes["lines"] = tuple(Line(line.tier, line.quantity, price) for line in record.body.lines)
    record.body = msgspec.structs.replace(record.body, **changes)
    await office.redis.set(keys.booking(ids.shard_of(booking), booking), record.pack())


POISONS: dict[str, dict[str, Any]] = {
    "NUL": {"customer": "a\0b"},
    "another client": {"client": "nobody000000"},
    "an amount below zero": {"price": -1},
    "an amount beyond 64 bits": {"price": 2**62},
    "a lone surrogate": {"reference": "\ud800"},
}


@pytest.mark.parametrize("kind", [*POISONS, "no payment key", "no record"])
async def test_poison_in_a_batch_fails_alone(office: BoxOffice, open_sale: SaleMaker, kind: str) -> None:
    """249 of 250 are confirmed in the same pass. The offender is tried again alone, then parked with its tickets."""
    tune(office.settlements[SHARD], attempts_max=3)
    event = await open_sale(GA=1_000)
    booked = await book_many(office, event, 250, GA=2)
    bad = booked[random.Random(7).randrange(250)]
    if kind == "no payment key":
        record = await record_of(office, bad)
        assert record is not None
        record.payment_key = ""
        await office.redis.set(keys.booking(SHARD, bad), record.pack())
    elif kind == "no record":
        await office.redis.delete(keys.booking(SHARD, bad))
    elif kind == "a lone surrogate":
        raw = await office.redis.get(keys.booking(SHARD, bad))
        await office.redis.set(keys.booking(SHARD, bad), raw.replace(b"]]\n", b'],"\\ud800"]\n', 1))
    else:
        await poison(office, bad, **POISONS[kind])

    await office.settlements[SHARD].drain()

    pool = await office.pool()
    assert await pool.fetchval("SELECT count(*) FROM bookings WHERE status = 'confirmed'") == 249
    await settle_all(office)
    assert await office.redis.zrange(keys.dead(SHARD), 0, -1) == [bad.encode()]
    row = await pool.fetchrow("SELECT booking_id::text AS id, parked_at, attempts, error FROM dead_letters")
    assert row is not None and row["id"] == bad and row["parked_at"] is not None
    assert (await counters(office, event, "GA")).held == 2
    assert await pool.fetchval("SELECT count(*) FROM dead_letters") == 1


async def test_an_offender_is_tried_alone_and_settles_once_the_reason_is_gone(
    office: BoxOffice, open_sale: SaleMaker, mend_inserts: Any
) -> None:
    """Its card is still there, so it is paid like any other."""
    event = await open_sale(GA=1_000)
    bad = await book(office, event, customer="bad", GA=2)
    good = await book_many(office, event, 20, GA=1)
    before = await record_of(office, bad.booking_id)
    await break_inserts(office, "22000")

    await office.settlements[SHARD].drain()

    assert {await status_of(office, booking) for booking in good} == {"confirmed"}
    assert await status_of(office, bad.booking_id) is None
    assert but_for_the_answer(await record_of(office, bad.booking_id)) == before
    await mend_inserts()
    await settle_all(office)
    await work_money(office)
    pool = await office.pool()
    assert await pool.fetchval("SELECT last4 FROM payments WHERE booking_id = $1::uuid", bad.booking_id) == "4242"
    await check_at_rest(office, [bad.booking_id, *good])


async def test_parking_needs_as_many_failures_as_are_allowed(
    office: BoxOffice, open_sale: SaleMaker, mend_inserts: Any
) -> None:
    """Each later than the one before."""
    event = await open_sale(GA=1_000)
    bad = await book(office, event, customer="bad", GA=2)
    await break_inserts(office, "22000")
    pool = await office.pool()
    delays = []
    for attempt in range(1, office.settings.worker.attempts_max + 1):
        await office.settlements[SHARD].drain()
        assert await pool.fetchval("SELECT attempts FROM dead_letters") == attempt
        due = await office.redis.zscore(keys.pending(SHARD), bad.booking_id)
        seconds, micros = await office.redis.time()
        if due is not None:
            delays.append(due - seconds * 1_000 - micros / 1_000)
            await office.redis.zadd(keys.pending(SHARD), {bad.booking_id: 1})

    assert len(delays) == office.settings.worker.attempts_max - 1
    assert delays == sorted(delays)
    assert await office.redis.zrange(keys.dead(SHARD), 0, -1) == [bad.booking_id.encode()]
    assert await office.settlements[SHARD].drain()
    assert (await counters(office, event, "GA")).held == 2


async def test_an_unreadable_booking_does_not_stop_the_others_while_postgresql_is_away(
    office: BoxOffice, open_sale: SaleMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It cannot be parked then. Nobody's lease is left to lapse on its account."""
    event = await open_sale(GA=100)
    booked = await book_many(office, event, 5, GA=1)
    await office.redis.set(keys.booking(SHARD, booked[0]), b"garbage")
    settlement = office.settlements[SHARD]

    async def away() -> Any:
        raise ConnectionRefusedError

    over(monkeypatch, settlement, away)
    await settlement.drain()

    scores = dict(await office.redis.zrange(keys.pending(SHARD), 0, -1, withscores=True))
    assert all(scores[booking.encode()] % 1 == 0 for booking in booked[1:])
    monkeypatch.undo()
    settlement.claims.closed_until = 0.0
    await office.redis.zadd(keys.pending(SHARD), {booking: 1 for booking in booked})
    await settle_all(office)
    assert [await status_of(office, booking) for booking in booked] == [None, *(4 * ["confirmed"])]


# ---------------------------------------------------------------------- several workers


async def test_a_worker_that_wakes_up_after_its_lease_changes_nothing(
    office: BoxOffice, second: BoxOffice, open_sale: SaleMaker
) -> None:
    """Another has settled its batch meanwhile. The late one finds that out under the lock."""
    event = await open_sale(GA=100)
    booked = await book_many(office, event, 20, GA=1)
    mine = await office.settlements[SHARD].claims.claim()
    await office.redis.zadd(keys.pending(SHARD), {booking: 1 for booking in booked})

    await settle_all(second)
    inventory = await (await office.pool()).fetch("SELECT sold, version FROM inventory")
    await office.settlements[SHARD].settle(mine)
    await office.pump.work_given()

    assert await (await office.pool()).fetch("SELECT sold, version FROM inventory") == inventory
    assert await (await office.pool()).fetchval("SELECT count(*) FROM dead_letters") == 0, "nor is it an error"
    assert (await counters(office, event, "GA")).sold == 20
    await check_at_rest(office, booked)


async def test_a_worker_that_is_overtaken_before_it_writes_changes_nothing(
    office: BoxOffice, second: BoxOffice, open_sale: SaleMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL did not know its batch when it looked. Another worker writes a part of it before it does."""
    event = await open_sale(GA=100)
    booked = await book_many(office, event, 20, GA=1)
    mine = office.settlements[SHARD]
    claimed = await mine.claims.claim()
    await office.redis.zadd(keys.pending(SHARD), {booking: 1 for booking in booked[::2]})
    real, raced = rows.lock_inventory, []

    async def overtaken(connection: Any, tiers: Any) -> dict[str, int]:
        if not raced:
            raced.append(True)
            monkeypatch.setattr(rows, "lock_inventory", real)
            await second.settlements[SHARD].drain()
            await second.pump.work_given()
        return await real(connection, tiers)

    monkeypatch.setattr(rows, "lock_inventory", overtaken)
    await mine.settle(claimed)
    await office.pump.work_given()

    assert raced
    assert (await counters(office, event, "GA")).sold == 20
    pool = await office.pool()
    assert await pool.fetchval("SELECT count(*) FROM dead_letters") == 0, "losing a race is no error"
    assert await pool.fetchval("SELECT sold FROM inventory WHERE sold > 0") == 20
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


async def test_two_workers_on_the_very_same_bookings_settle_each_once(
    office: BoxOffice, second: BoxOffice, open_sale: SaleMaker
) -> None:
    """Leases lapsed, both have the batch, both go through every step at once."""
    event = await open_sale(GA=1_000, VIP=5)
    for _ in range(5):
        booked = await book_many(office, event, 40, GA=1)
        mine = await office.settlements[SHARD].claims.claim()
        await office.redis.zadd(keys.pending(SHARD), {booking: 1 for booking in booked})
        theirs = await second.settlements[SHARD].claims.claim()
        while len(theirs.claims) < 40:
            theirs.claims += (await second.settlements[SHARD].claims.claim()).claims
        await asyncio.gather(office.settlements[SHARD].settle(mine), second.settlements[SHARD].settle(theirs))
        await asyncio.gather(office.pump.work_given(), second.pump.work_given())
        await settle_all(office)
        await check_at_rest(office, booked)
    assert (await counters(office, event, "GA")).sold == 200
    assert await (await office.pool()).fetchval("SELECT count(*) FROM dead_letters") == 0, "losing a race is no error"


async def test_a_worker_that_lost_the_race_never_captures_what_the_other_let_go(
    office: BoxOffice, second: BoxOffice, open_sale: SaleMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had decided to sell, its transaction failed, and meanwhile another worker found the tier sold out."""
    office.clock = Clock(sleep=_let_other_win(second))
    event = await open_sale(GA=10)
    (booking,) = await book_many(office, event, 1, GA=2)
    mine = await office.settlements[SHARD].claims.claim()
    await office.redis.zadd(keys.pending(SHARD), {booking: 1})
    real = rows.sell
    first = True

    async def sell(connection: Any, sold: dict[str, int]) -> None:
        nonlocal first
        await real(connection, sold)
        if first:
            first = False
            raise asyncpg.SerializationError("planted")

    monkeypatch.setattr(rows, "sell", sell)
    await office.settlements[SHARD].settle(mine)
    monkeypatch.undo()
    await office.pump.work_given()
    await work_money(office)

    assert await status_of(office, booking) == "failed sold_out_at_commit"
    assert [kept.payment.captured_cents async for kept in office.gateway.records()] == [0]


def _let_other_win(second: BoxOffice) -> Any:
    """In the pause between two rounds, the other worker settles the batch while nothing is left."""
    done = False

    async def sleep(_seconds: float) -> None:
        nonlocal done
        if not done:
            done = True
            pool = await second.pool()
            await pool.execute("UPDATE inventory SET total = 0")
            await second.settlements[SHARD].drain()
            await pool.execute("UPDATE inventory SET total = 10")

    return sleep


async def test_batches_that_share_forty_tiers_never_deadlock(
    office: BoxOffice, second: BoxOffice, open_sale: SaleMaker
) -> None:
    """Their rows are locked in tier order, so two batches wait for each other instead."""
    codes = [f"T{n:02d}" for n in range(40)]
    event = await open_sale(**dict.fromkeys(codes, 1_000))
    chance = random.Random(1)
    pool = await office.pool()
    before = await pool.fetchval("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
    booked: list[str] = []
    for _ in range(8):
        booked += [
            (await book(office, event, customer=f"c{n}", **dict.fromkeys(chance.sample(codes, 10), 1))).booking_id
            for n in range(16)
        ]
    for settlement in (*office.settlements, *second.settlements):
        tune(settlement, batch_max=8)
    await asyncio.gather(*(batch_after_batch(each) for each in (office, second) for _ in range(4)))
    await settle_all(office)
    await settle_all(second)

    assert await pool.fetchval("SELECT count(*) FROM bookings WHERE status = 'confirmed'") == len(booked)
    await pool.execute("SELECT pg_stat_force_next_flush()")
    assert await pool.fetchval("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") == before
    await check_at_rest(office, booked)


async def batch_after_batch(office: BoxOffice) -> None:
    """One of many lanes that claim and settle."""
    settlement = office.settlements[SHARD]
    while True:
        batch = await settlement.claims.claim()
        if not batch.claims:
            return
        await settlement.settle(batch)


# ---------------------------------------------------------------------- money


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
