"""Free tickets: no payment, no card, no gateway; in all else a booking like any other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from boxoffice import ids
from boxoffice.admission.forms import Admitted
from boxoffice.books.dead_letters import count_failure
from boxoffice.errors import HoldEnded, KeyReused, Malformed, SoldOut
from boxoffice.office import BoxOffice
from boxoffice.sales.store import NewTier
from boxoffice.stores import keys
from tests.conftest import CLIENT, SHARD, load_all
from tests.support.shop.office import Till
from tests.support.shop.office import book as admit
from tests.support.shop.orders import card


@pytest.fixture
async def fair(office: BoxOffice) -> AsyncIterator[Till]:
    """Ten FREE tickets, and four BOX at 20.00. Its gateway complains about every call for nothing."""
    await load_all(office)
    tiers = [NewTier("FREE", 0, 10), NewTier("BOX", 2_000, 4)]
    event = await office.store.create_event(CLIENT, "Fair", datetime.now(UTC) + timedelta(days=30), "USD", tiers)
    till = Till(office, event)
    await office.catalogue.event(event.id)
    yield till
    async for record in till.gateway.records():
        assert record.payment.amount_cents, "nothing is asked for nothing"
    assert not await till.fetch("SELECT 1 FROM payments WHERE amount_cents = 0")
    for settlement in office.settlements:
        await settlement.stop()


async def book(till: Till, token: str | None = None, key: str = "k", **how: Any) -> Admitted:
    return await admit(till.office, till.event, token, key=key, **how)


async def confirm(till: Till, booking: str, token: str | None = None, key: str = "pay") -> tuple[Any, bool]:
    """The payment call of a hold."""
    return await till.office.hold_payments.pay(CLIENT, booking, card(token) if token else None, ids.digest(key))


@pytest.mark.parametrize("token", [None, "tok_ok", "tok_card_declined", "tok_3ds", "tok_late", "tok_wrong_amount"])
async def test_it_is_confirmed_at_once_with_or_without_a_card(fair: Till, token: str | None) -> None:
    """A card is read and ignored: it is asked for nothing, kept nowhere, and cannot decline."""
    admitted = await book(fair, token, FREE=2)
    assert (admitted.status, admitted.replayed) == ("pending", False)
    record = await fair.record(admitted.booking_id)
    assert record is not None
    assert (record.state, record.payload.charge, record.body.amount_cents) == ("P", None, 0)

    await fair.at_rest(admitted.booking_id)

    assert await fair.state(admitted.booking_id) == "C confirmed"
    assert await fair.left("FREE") == (8, 0, 2)
    view = (await fair.office.bookings.get(CLIENT, admitted.booking_id)).view
    assert (view.status, view.payment, view.expires_at) == ("confirmed", None, None)
    await fair.office.redis.delete(keys.booking(SHARD, admitted.booking_id))
    assert (await fair.office.bookings.get(CLIENT, admitted.booking_id)).view == view


async def test_its_key_makes_one_booking(fair: Till) -> None:
    """Also at once, after it was confirmed, and after Redis has forgotten it."""
    answers = await asyncio.gather(*(book(fair, FREE=1) for _ in range(20)))
    assert len({answer.booking_id for answer in answers}) == 1
    await fair.rest()
    again = await book(fair, FREE=1)
    assert again.replayed and again.status != "held"
    with pytest.raises(KeyReused):
        await book(fair, FREE=2)
    with pytest.raises(KeyReused):
        await book(fair, "tok_ok", FREE=1)

    await fair.office.redis.delete(
        keys.booking(SHARD, again.booking_id),
        keys.idempotency(SHARD, ids.scope(CLIENT, fair.event.id, ids.digest("k"))),
    )
    second = await book(fair, FREE=1)
    assert second.booking_id != again.booking_id
    await fair.at_rest(again.booking_id)
    found = await fair.office.bookings.get(CLIENT, second.booking_id)
    assert (found.original, found.view.id) == (False, again.booking_id)
    assert await fair.left("FREE") == (9, 0, 1)


async def test_a_hold_is_confirmed_without_a_card(fair: Till) -> None:
    """`hold_s` holds; its payment call, with nothing in it, confirms."""
    admitted = await book(fair, hold_s=60, FREE=2)
    assert admitted.status == "held"
    booking = admitted.booking_id
    assert await fair.state(booking) == "H -"

    view, replayed = await confirm(fair, booking)
    assert (view.status, view.payment, replayed) == ("pending", None, False)
    assert (await confirm(fair, booking))[1]
    with pytest.raises(KeyReused):
        await confirm(fair, booking, "tok_ok")
    await fair.at_rest(booking)

    assert await fair.state(booking) == "C confirmed"
    view, replayed = await confirm(fair, booking)
    assert (view.status, view.payment, replayed) == ("confirmed", None, True)
    with pytest.raises(HoldEnded):
        await confirm(fair, booking, key="other")


async def test_a_card_for_a_free_hold_is_ignored(fair: Till) -> None:
    booking = (await book(fair, hold_s=60, FREE=1)).booking_id
    await confirm(fair, booking, "tok_card_declined")
    await fair.at_rest(booking)
    assert await fair.state(booking) == "C confirmed"


async def test_what_costs_something_needs_its_card(fair: Till) -> None:
    """A mixed booking is paid with its sum; without a card it is held, and its payment call needs one."""
    mixed = (await book(fair, "tok_ok", FREE=2, BOX=1)).booking_id
    held = await book(fair, key="held", FREE=1, BOX=1)
    assert held.status == "held"
    with pytest.raises(Malformed):
        await confirm(fair, held.booking_id)
    await confirm(fair, held.booking_id, "tok_ok")
    await fair.at_rest(mixed, held.booking_id)
    assert (await fair.payment(mixed)).captured_cents == 2_000
    assert await fair.left("FREE") == (7, 0, 3)


async def test_a_hold_ends_like_any_other(fair: Till) -> None:
    """Expired, cancelled, or cancelled while it was being confirmed: its tickets come back once."""
    expired, cancelled, late = [(await book(fair, key=key, hold_s=60, FREE=1)).booking_id for key in "abc"]
    await fair.time_is_up(expired)
    assert await fair.office.holds.expire(SHARD) == 1
    with pytest.raises(HoldEnded):
        await confirm(fair, expired)
    assert await fair.cancel(cancelled) == "cancelled"
    await confirm(fair, late)
    record = await fair.record(late)
    assert record is not None
    await fair.office.holds.cancel(record)
    await fair.at_rest(late)
    assert await fair.state(late) == "X cancelled"
    assert await fair.left("FREE") == (10, 0, 0)


async def test_a_confirmation_in_time_counts_when_it_is_settled_late(fair: Till) -> None:
    booking = (await book(fair, hold_s=60, FREE=1)).booking_id
    await confirm(fair, booking)
    await fair.time_is_up(booking)
    await fair.at_rest(booking)
    assert await fair.state(booking) == "C confirmed"


async def test_cancelled_and_refunded_no_money_moves(fair: Till) -> None:
    """Whole or in part, once for each key."""
    one, other, mixed = [
        (await book(fair, token, key=key, **tiers)).booking_id
        for key, token, tiers in (("a", None, {"FREE": 3}), ("b", None, {"FREE": 2}), ("c", "tok_ok", {"FREE": 1, "BOX": 1}))
    ]  # fmt: skip
    await fair.rest()
    assert await fair.cancel(other) == "cancelled"
    assert await fair.cancel(other) == "cancelled"
    for again in (False, True):
        refunded = await fair.refund(one, "r1", FREE=1)
        assert (refunded.status, refunded.amount_cents, refunded.refund_status) == ("confirmed", 0, "succeeded")
        assert refunded.repeated == again
    assert (await fair.refund(mixed, "r2", FREE=1)).amount_cents == 0
    assert (await fair.refund(one, "r3")).status == "cancelled"
    assert (await fair.refund(one, "r3")).repeated
    await fair.at_rest(one, other, mixed)
    assert await fair.left("FREE") == (10, 0, 0)
    assert await fair.left("BOX") == (3, 0, 1)
    assert [found async for found in fair.office.payments_audit.run(fix=False, grace_s=0)] == []


async def test_the_last_one_is_had_once(fair: Till) -> None:
    """Here and in PostgreSQL, which decides although nothing is paid."""
    answers = await asyncio.gather(*(book(fair, key=f"{n}", FREE=1) for n in range(15)), return_exceptions=True)
    assert sum(isinstance(answer, SoldOut) for answer in answers) == 5
    await (await fair.office.pool()).execute(
        "UPDATE inventory SET total = 8 WHERE tier_id = $1", fair.event.tiers[0].id
    )
    await fair.rest_bookings()
    states = [await fair.state(answer.booking_id) for answer in answers if isinstance(answer, Admitted)]
    assert sorted(states) == ["C confirmed"] * 8 + ["F failed"] * 2


async def test_parked_and_ended_nothing_is_left_to_let_go(fair: Till) -> None:
    """An operator ends a free booking that could not be stored: no payment of nothing is looked for."""
    booking = (await book(fair, FREE=1)).booking_id
    raw = await fair.office.redis.get(keys.booking(SHARD, booking))
    record = await fair.record(booking)
    assert record is not None
    async with (await fair.office.pool()).acquire() as connection:
        await count_failure(connection, booking, raw, "test", attempts_max=0)
    await fair.office.settlements[SHARD].mirror.park(booking, record.payment_key)
    ended = await fair.office.parked.fail(booking)
    assert ended.payment == "none was tried"
    assert await fair.state(booking) == "F failed"
    await fair.at_rest(booking)


async def test_a_payment_of_nothing_that_an_earlier_version_began_is_let_go(fair: Till) -> None:
    """Its booking is confirmed, and no row waits for a gateway for ever."""
    booking = (await book(fair, FREE=1)).booking_id
    record = await fair.record(booking)
    assert record is not None
    pool = await fair.office.pool()
    await pool.execute(
        "INSERT INTO bookings (id, client_id, event_id, customer_id, status, amount_cents, currency, idempotency_key,"
        " fingerprint, sequence, created_at) VALUES ($1, $2, $3, 'ada', 'pending', 0, 'USD', $4, $5, 1, now())",
        booking, CLIENT, fair.event.id, record.payload.key, record.fingerprint,
    )  # fmt: skip
    await pool.execute(
        "INSERT INTO booking_items (booking_id, tier_id, quantity, unit_price_cents, line_total_cents)"
        " VALUES ($1, $2, 1, 0, 0)",
        booking, fair.event.tiers[0].id,
    )  # fmt: skip
    await pool.execute(
        "INSERT INTO payments (payment_key, booking_id, gateway, method, amount_cents, currency, status) VALUES"
        " ($1, $2, 'simulator', 'card', 0, 'USD', 'unknown')",
        record.payment_key, booking,
    )  # fmt: skip
    await fair.rest_bookings()
    assert await fair.state(booking) == "C confirmed"
    await fair.age_payments()
    await fair.pump()
    assert await fair.payments(booking) == ["failed/-"]
    await pool.execute("DELETE FROM payments")


async def test_a_price_that_changes_meanwhile_is_asked_for(fair: Till) -> None:
    """A booking without a card of what was free a moment ago is held, not given away; and the other way round."""
    free = fair.event.tiers[0].id
    for price, held in ((500, True), (0, False)):
        await (await fair.office.pool()).execute("UPDATE tiers SET price_cents = $1 WHERE id = $2", price, free)
        await fair.office.loader.publish(fair.event.id)
        admitted = await book(fair, key=f"{price}", FREE=1)
        assert (admitted.status == "held") is held
        record = await fair.record(admitted.booking_id)
        assert record is not None
        assert record.body.amount_cents == price
    await fair.rest()
