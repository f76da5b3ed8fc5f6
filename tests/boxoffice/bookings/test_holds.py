"""Holds: set aside, paid, declined, extended, cancelled, expired; each ends once, and its tickets come back once."""

from __future__ import annotations

import asyncio

import pytest

from boxoffice import ids
from boxoffice.bookings.holds import EXPIRE_CHUNK
from boxoffice.errors import (
    AlreadyExtended,
    GateClosed,
    HoldEnded,
    KeyReused,
    NotCancellable,
    NotFound,
    PaymentInProgress,
    TooManyAttempts,
)
from boxoffice.gateway.base import Declined, Unknown
from boxoffice.settlement.batch import Ready
from boxoffice.stores import keys
from tests.conftest import CLIENT, SHARD, SaleMaker
from tests.support.shop.office import Till
from tests.support.shop.orders import OTHER, card


async def test_a_hold_sets_tickets_aside_for_the_default_time(till: Till) -> None:
    """Ten minutes, by Redis's clock; PostgreSQL hears of it with the first payment."""
    booking = await till.hold(GA=2, VIP=1)

    record = await till.record(booking)
    assert record is not None
    assert record.deadline_ms - record.admitted_ms == 600_000
    assert await till.left("GA") == (8, 2, 0)
    assert await till.state(booking) == "H -"


async def test_a_shop_may_ask_for_less_time_but_not_for_more(till: Till) -> None:
    short, long = await till.hold(GA=1, hold_s=30), await till.hold(GA=1, hold_s=9_999)

    lengths = [
        record.deadline_ms - record.admitted_ms for booking in (short, long) if (record := await till.record(booking))
    ]
    assert lengths == [30_000, 600_000]


async def test_a_paid_hold_is_confirmed_and_captured(till: Till) -> None:
    booking = await till.hold(GA=2)

    record, replayed = await till.pay(booking)
    assert (record.state, record.attempts, replayed) == ("P", 1, False)
    assert await till.office.redis.zscore(keys.deadlines(SHARD), booking) is None, (
        "time does not end what is being paid"
    )

    await till.at_rest(booking)
    assert await till.state(booking) == "C confirmed"
    assert await till.left("GA") == (8, 0, 2)
    assert (await till.payment(booking)).captured_cents == 2_000


# ------------------------------------------------------------------ several cards


async def test_a_decline_in_time_leaves_it_held(till: Till) -> None:
    """Under another key another card may pay it; PostgreSQL remembers both attempts."""
    booking = await till.hold(VIP=4)
    await till.pay(booking, "tok_card_declined")
    await till.rest()
    assert await till.state(booking) == "H held"
    assert await till.left("VIP") == (0, 4, 0)
    assert await till.office.redis.zscore(keys.deadlines(SHARD), booking), "its time runs on"

    await till.pay(booking)
    await till.at_rest(booking)

    assert await till.state(booking) == "C confirmed"
    assert await till.payments(booking) == ["declined/-", "captured/-"]


async def test_the_same_key_pays_once(till: Till) -> None:
    """While it is under way, after the decline, and once it is confirmed: the answer is the booking as it is."""
    booking = await till.hold(GA=1)
    await till.pay(booking, "tok_card_declined", key="first")
    again, replayed = await till.pay(booking, "tok_card_declined", key="first")
    assert (again.state, replayed) == ("P", True)
    await till.rest()
    again, replayed = await till.pay(booking, "tok_card_declined", key="first")
    assert (again.state, replayed) == ("H", True)

    await till.pay(booking, key="second")
    await till.rest()
    again, replayed = await till.pay(booking, key="second")

    assert (again.state, again.attempts, replayed) == ("C", 2, True)
    assert len(await till.at_gateway(booking)) == 2


async def test_the_same_key_with_another_card_is_refused(till: Till) -> None:
    booking = await till.hold(GA=1)
    await till.pay(booking, "tok_card_declined", key="first")
    for _ in range(2):
        with pytest.raises(KeyReused) as reused:
            await till.pay(booking, "tok_ok", key="first")
        assert reused.value.details == {"booking_id": booking}
        await till.rest()


async def test_an_older_key_is_never_charged_again(till: Till) -> None:
    """A declined attempt that is sent once more, after another one, tells its decline again; nobody is asked."""
    booking = await till.hold(GA=1)
    await till.pay(booking, "tok_card_declined", key="first")
    await till.rest()
    await till.pay(booking, "tok_insufficient_funds", key="second")
    await till.rest()

    await till.pay(booking, "tok_card_declined", key="first")
    await till.rest()

    assert await till.state(booking) == "H held"
    assert [found.status for found in await till.at_gateway(booking)] == ["declined", "declined"]
    assert await till.payments(booking) == ["declined/-", "declined/-"]


async def test_one_payment_at_a_time(till: Till) -> None:
    """Of twenty different cards at once one is taken, the others are told that a payment is under way."""
    booking = await till.hold(GA=1)

    answers = await asyncio.gather(*(till.pay(booking) for _ in range(20)), return_exceptions=True)

    assert sum(isinstance(answer, tuple) for answer in answers) == 1
    assert sum(isinstance(answer, PaymentInProgress) for answer in answers) == 19
    await till.at_rest(booking)
    assert len(await till.at_gateway(booking)) == 1


async def test_a_hold_has_five_attempts(till: Till) -> None:
    """More is card testing."""
    booking = await till.hold(GA=1)
    for _ in range(5):
        await till.pay(booking, "tok_card_declined")
        await till.rest()

    with pytest.raises(TooManyAttempts):
        await till.pay(booking)

    assert await till.state(booking) == "H held"
    assert await till.cancel(booking) == "cancelled"
    assert await till.left("GA") == (10, 0, 0)


async def test_somebody_elses_hold_is_not_there(till: Till) -> None:
    booking = await till.hold(GA=1)
    holds = till.office.holds
    for attempt in (
        holds.pay(OTHER, booking, card(), ids.digest("k")),
        holds.extend(OTHER, booking, None),
        till.office.cancellations.cancel(OTHER, booking),
        till.office.cancellations.cancel(CLIENT, ids.booking_id(SHARD, 1)),
        till.office.cancellations.cancel(CLIENT, "nonsense"),
    ):
        with pytest.raises(NotFound):
            await attempt


async def test_a_closed_gate_is_no_refusal(till: Till) -> None:
    """While counters are being repaired nobody is told that a hold ended."""
    booking = await till.hold(GA=1)
    gate = await till.office.redis.getdel(keys.gate(SHARD))
    for attempt in (till.pay(booking), till.office.holds.extend(CLIENT, booking, None), till.cancel(booking)):
        with pytest.raises(GateClosed):
            await attempt
    await till.office.redis.set(keys.gate(SHARD), gate)
    assert await till.cancel(booking) == "cancelled"


# ------------------------------------------------------------------ longer


async def test_a_hold_is_extended_once(till: Till) -> None:
    """By its first length at most; a second time is refused, and so is a first one while a payment is under way."""
    booking = await till.hold(GA=1, hold_s=60)
    record = await till.office.holds.extend(CLIENT, booking, 3_600)
    assert record.deadline_ms - record.admitted_ms == 120_000
    assert await till.office.redis.zscore(keys.deadlines(SHARD), booking) == record.deadline_ms
    with pytest.raises(AlreadyExtended):
        await till.office.holds.extend(CLIENT, booking, 1)

    other = await till.hold(GA=1, hold_s=60)
    await till.pay(other, "tok_card_declined")
    with pytest.raises(PaymentInProgress):
        await till.office.holds.extend(CLIENT, other, None)
    await till.rest()
    record = await till.office.holds.extend(CLIENT, other, 10)
    assert record.deadline_ms - record.admitted_ms == 70_000


async def test_an_extended_hold_that_is_declined_keeps_its_new_deadline(till: Till) -> None:
    booking = await till.hold(GA=1, hold_s=60)
    extended = await till.office.holds.extend(CLIENT, booking, None)
    await till.pay(booking, "tok_card_declined")
    await till.rest()

    assert await till.office.redis.zscore(keys.deadlines(SHARD), booking) == extended.deadline_ms
    (row,) = await till.fetch("SELECT expires_at FROM bookings WHERE id = $1", booking)
    assert round(row["expires_at"].timestamp() * 1_000) == extended.deadline_ms


# ------------------------------------------------------------------ the end


async def test_an_unpaid_hold_expires_once(till: Till) -> None:
    """However many sweepers look."""
    booking = await till.hold(VIP=3)
    await till.time_is_up(booking)

    ended = await asyncio.gather(*(till.office.holds.expire(SHARD) for _ in range(5)))

    assert sum(ended) == 1
    assert await till.left("VIP") == (4, 0, 0)
    assert await till.state(booking) == "E -"
    assert await till.office.redis.ttl(keys.booking(SHARD, booking)) > 0
    with pytest.raises(HoldEnded):
        await till.pay(booking)
    with pytest.raises(NotCancellable):
        await till.cancel(booking)
    await till.at_rest(booking)


async def test_time_ends_it_before_a_sweeper_does(till: Till) -> None:
    """Past its deadline a hold can be neither paid nor extended, although nobody has swept yet."""
    booking = await till.hold(GA=1)
    await till.time_is_up(booking)
    with pytest.raises(HoldEnded):
        await till.pay(booking)
    with pytest.raises(HoldEnded):
        await till.office.holds.extend(CLIENT, booking, None)


async def test_many_holds_expire_in_bounded_steps(till: Till, open_sale: SaleMaker) -> None:
    many = EXPIRE_CHUNK + 50
    stadium = Till(till.office, await open_sale(LAWN=many), till.numbers)
    bookings = await asyncio.gather(*(stadium.book(None, customer=f"fan-{n}", LAWN=1) for n in range(many)))
    for booking in bookings:
        await till.time_is_up(booking)

    assert await till.office.holds.expire(SHARD) == many

    assert await stadium.left("LAWN") == (many, 0, 0)
    assert await till.office.redis.zcard(keys.deadlines(SHARD)) == 0


async def test_postgresql_hears_of_a_hold_that_was_tried_and_expired(till: Till) -> None:
    booking = await till.hold(GA=1)
    await till.pay(booking, "tok_card_declined")
    await till.rest()
    await till.time_is_up(booking)

    await till.office.holds.expire(SHARD)

    assert await till.state(booking) == "E expired"
    await till.at_rest(booking)


async def test_a_decline_after_the_deadline_expires_it(till: Till) -> None:
    booking = await till.hold(GA=1)
    await till.pay(booking, "tok_card_declined")
    await till.time_is_up(booking)

    await till.at_rest(booking)

    assert await till.state(booking) == "E expired"
    assert await till.left("GA") == (10, 0, 0)


async def test_a_payment_made_in_time_counts_when_it_is_settled_late(till: Till) -> None:
    booking = await till.hold(GA=1)
    await till.pay(booking)
    await till.time_is_up(booking)

    await till.at_rest(booking)

    assert await till.state(booking) == "C confirmed"


# ------------------------------------------------------------------ a payment that waits for its customer


async def test_expiry_lets_a_waiting_payment_go_first(till: Till) -> None:
    """3-D Secure that nobody finishes: at the deadline the payment is voided, then the tickets come back."""
    booking = await till.hold(VIP=4)
    await till.pay(booking, "tok_3ds")
    await till.drain()
    assert await till.payments(booking) == ["requires_action/-"]
    await till.time_is_up(booking)
    assert await till.office.holds.expire(SHARD) == 0, "the sweeper leaves it to the worker"
    assert await till.left("VIP") == (0, 4, 0)

    await till.look_again(booking)

    assert await till.state(booking) == "E expired"
    assert (await till.payment(booking)).status == "voided"
    assert await till.left("VIP") == (4, 0, 0)
    await till.at_rest(booking)


async def test_a_payment_finished_at_the_last_moment_counts(till: Till) -> None:
    """The customer was through with 3-D Secure when the deadline came: the tickets were still held, so they are sold."""
    booking = await till.hold(VIP=4)
    await till.pay(booking, "tok_3ds")
    await till.drain()
    await till.customer_acts(booking)
    await till.time_is_up(booking)

    await till.look_again(booking)

    await till.at_rest(booking)
    assert await till.state(booking) == "C confirmed"


async def test_while_the_gateway_is_silent_expiry_leaves_a_void_behind(
    till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tickets come back, and the void is tried until it is done."""
    booking = await till.hold(VIP=4)
    await till.pay(booking, "tok_3ds")
    await till.drain()
    await till.time_is_up(booking)

    async def silent(*_: object) -> Unknown:
        return Unknown("timeout")

    with monkeypatch.context() as patch:
        for call in ("lookup", "void"):
            patch.setattr(till.gateway, call, silent)
        await till.look_again(booking)
        assert await till.state(booking) == "E expired"
        assert await till.payments(booking) == ["unknown/void"]
        await till.sooner()
        await till.office.pump.work_outbox()
        assert await till.payments(booking) == ["unknown/void"]

    await till.at_rest(booking)
    assert (await till.payment(booking)).status == "voided"


# ------------------------------------------------------------------ an old worker


async def test_an_old_worker_changes_nothing_after_a_second_payment(
    till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was frozen with the answer to the first card; meanwhile that was let go and another card is under way.
    Neither store moves for it."""
    booking = await till.hold(GA=2)
    await till.pay(booking, "tok_3ds", key="first")
    await till.drain()
    await till.customer_acts(booking)

    frozen, go_on = asyncio.Event(), asyncio.Event()
    old = till.office.settlements[SHARD]
    transact = old.committing.transact

    async def freeze(*args: object) -> object:
        if not frozen.is_set():
            frozen.set()
            await go_on.wait()
        return await transact(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(old.committing, "transact", freeze)
    await till.claimable(booking)
    old_worker = asyncio.create_task(old.drain())
    await frozen.wait()

    # Another worker: the bank takes its answer back, the hold goes on, and another card waits for its customer.
    record = await till.record(booking)
    assert record is not None
    first = record.payment_key
    await till.gateway.void(first, None)
    pool = await till.office.pool()
    await pool.execute("UPDATE payments SET status = 'declined' WHERE payment_key = $1", first)
    record.state = "H"
    await till.office.redis.set(keys.booking(SHARD, booking), record.pack())
    await pool.execute("UPDATE bookings SET status = 'held' WHERE id = $1", booking)
    await till.pay(booking, "tok_3ds", key="second")
    second = await till.record(booking)
    assert second is not None
    await pool.execute("UPDATE bookings SET status = 'pending' WHERE id = $1", booking)
    await pool.execute(
        "INSERT INTO payments (payment_key, booking_id, gateway, method, token, amount_cents, currency, status)"
        " VALUES ($1, $2, 'simulator', 'card', 'tok_3ds_9999', 2000, 'USD', 'unknown')", second.payment_key, booking,
    )  # fmt: skip

    go_on.set()
    await old_worker

    assert await till.state(booking) == "P pending"
    assert await till.left("GA") == (8, 2, 0)
    (sold,) = await till.fetch("SELECT sum(sold)::int FROM inventory")
    assert sold[0] == 0
    await till.look_again(booking)
    await till.customer_acts(booking)
    await till.look_again(booking)
    await till.at_rest(booking)
    assert await till.state(booking) == "C confirmed"
    assert await till.payments(booking) == ["declined/-", "captured/-"]


async def test_a_declined_second_card_and_an_old_worker(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """An old worker that believes in nothing but its own look-up writes no second row and moves no stock."""
    booking = await till.hold(GA=1)
    await till.pay(booking, "tok_card_declined", key="first")
    old = till.office.settlements[SHARD]
    batch = await old.claims.claim()

    await till.look_again(booking)
    assert await till.state(booking) == "H held"
    await till.pay(booking, "tok_ok", key="second")

    await old.committing.settle(batch, Ready(batch.claims, {}, {booking: Declined("card_declined")}))

    assert await till.state(booking) == "P held"
    await till.at_rest(booking)
    assert await till.state(booking) == "C confirmed"


HELD, LATER = "held", 4_102_444_800_000


@pytest.mark.parametrize("letter", ["E", "X"])
async def test_postgresql_is_told_of_those_holds_alone(till: Till, letter: str) -> None:
    """How they ended, or until when they last: of those that are named, as long as they are held there."""
    booked = [await till.book(GA=1) for _ in range(4)]
    await till.rest()
    pool, holds = await till.office.pool(), till.office.holds
    for booking, status in zip(booked, (HELD, "pending", HELD, HELD), strict=True):
        await pool.execute(
            "UPDATE bookings SET status = $2, expires_at = to_timestamp(1), updated_at = to_timestamp(1) WHERE id = $1",
            booking, status,
        )  # fmt: skip

    async def rows() -> list[tuple[object, ...]]:
        found = await till.fetch(
            "SELECT id::text, status, (1000 * extract(epoch FROM expires_at))::bigint, updated_at > to_timestamp(1)"
            " FROM bookings"
        )
        by_id = {row[0]: tuple(row)[1:] for row in found}
        return [by_id[booking] for booking in booked]

    untouched = (HELD, 1_000, False)
    for booking in booked[:2]:
        await holds.write_deadline(booking, LATER + 7)
    assert await rows() == [(HELD, LATER + 7, True), ("pending", 1_000, False), untouched, untouched]
    await holds.write_state([booked[1], booked[2]], letter)
    ended = ("expired" if letter == "E" else "cancelled", 1_000, True)
    assert await rows() == [(HELD, LATER + 7, True), ("pending", 1_000, False), ended, untouched]
