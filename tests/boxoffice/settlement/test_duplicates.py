"""One idempotency key, one booking, one payment: also when Redis forgot the key, in one batch, and in two workers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from boxoffice.admission.forms import Admitted
from boxoffice.office import BoxOffice
from boxoffice.sales.catalogue import EventView
from boxoffice.stores import keys
from tests.conftest import SHARD, SaleMaker, counters, settle_all
from tests.support.checks import check_at_rest
from tests.support.settling import work_money
from tests.support.shop.office import book, record_of, status_of

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
