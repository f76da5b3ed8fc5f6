"""Cancelling and refunding what is confirmed: tickets and money come back once, after PostgreSQL has said so."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis.asyncio.client import Pipeline
from redis.exceptions import ConnectionError, ResponseError

from boxoffice import ids
from boxoffice.books.moves import apply_moves
from boxoffice.errors import GateClosed, KeyReused, Malformed, NotCancellable, NotFound, RefundTooLarge, StoreAway
from boxoffice.stores import fence, keys
from boxoffice.stores.postgres import WentBack
from tests.conftest import CLIENT, SHARD, SaleMaker
from tests.support.shop.office import Died, Till
from tests.support.shop.orders import OTHER
from tests.support.waiting import pace


async def confirmed(till: Till, token: str = "tok_ok", **tiers: int) -> str:
    """A confirmed and captured booking."""
    booking = await till.book(token, **tiers)
    await till.rest()
    assert await till.state(booking) == "C confirmed"
    return booking


async def terms(till: Till, *, until: datetime | None = None, percent: int = 100) -> None:
    """The event's terms of cancellation."""
    await (await till.office.pool()).execute("UPDATE events SET cancel_until = $1, refund_percent = $2", until, percent)


# ------------------------------------------------------------------ cancelling


async def test_a_cancelled_booking_gives_back_tickets_and_money(till: Till) -> None:
    booking = await confirmed(till, GA=2, VIP=1)

    view = await till.office.cancellations.cancel(CLIENT, booking)

    assert (view.status, view.refunded_cents, view.failure and view.failure.code) == ("cancelled", 4_000, "cancelled")
    assert await till.state(booking) == "X cancelled"
    assert await till.left("GA") == (10, 0, 0)
    assert await till.left("VIP") == (4, 0, 0)
    await till.at_rest(booking)
    assert (await till.payment(booking)).refunded_cents == 4_000
    (move,) = await till.fetch("SELECT count(*) FROM stock_moves WHERE applied_at IS NULL")
    assert move[0] == 0


async def test_ten_at_once_make_one_refund(till: Till) -> None:
    booking = await confirmed(till, VIP=2)

    answers = await asyncio.gather(*(till.cancel(booking) for _ in range(10)))

    assert answers == ["cancelled"] * 10
    await till.at_rest(booking)
    (row,) = await till.fetch("SELECT count(*), sum(amount_cents)::int FROM refunds")
    assert tuple(row) == (1, 4_000)
    assert await till.left("VIP") == (4, 0, 0)


async def test_cancelling_before_the_capture(till: Till) -> None:
    """The refund waits until there is something to give back."""
    booking = await till.book(GA=1)
    await till.drain()
    till.office.pump.given.clear()
    assert await till.payments(booking) == ["authorized/capture"]

    assert await till.cancel(booking) == "cancelled"

    await till.at_rest(booking)
    payment = await till.payment(booking)
    assert (payment.captured_cents, payment.refunded_cents) == (1_000, 1_000)


async def test_the_events_terms_say_how_much_comes_back(till: Till) -> None:
    await terms(till, percent=35)
    booking = await confirmed(till, GA=3)

    await till.cancel(booking)
    await till.pump()

    assert (await till.payment(booking)).refunded_cents == 1_050
    assert await till.left("GA") == (10, 0, 0)


async def test_no_money_comes_back_at_nought_percent(till: Till) -> None:
    await terms(till, percent=0)
    booking = await confirmed(till, GA=3)

    assert [await till.cancel(booking) for _ in range(2)] == ["cancelled"] * 2
    await till.pump()

    assert (await till.payment(booking)).refunded_cents == 0
    said = await till.office.refunds.cancel(CLIENT, booking)
    assert (said.status, said.amount_cents, said.refund_status, said.repeated) == ("cancelled", 0, "succeeded", True)
    await (await till.office.pool()).execute("DELETE FROM refunds")
    said = await till.office.refunds.cancel(CLIENT, booking)
    assert said == (booking, "cancelled", None, 0, "USD", True, "succeeded"), "also when nobody remembers it"
    assert await till.left("GA") == (10, 0, 0)


async def test_the_events_terms_say_until_when(till: Till) -> None:
    await terms(till, until=datetime.now(UTC) - timedelta(seconds=1))
    booking = await confirmed(till, GA=3)

    with pytest.raises(NotCancellable):
        await till.cancel(booking)

    assert await till.state(booking) == "C confirmed"
    refunded = await till.refund(booking)
    assert (refunded.status, refunded.amount_cents) == ("cancelled", 3_000), "an operator still may"
    assert await till.cancel(booking) == "cancelled", "it is"


async def test_without_terms_until_it_starts(till: Till) -> None:
    booking = await confirmed(till, GA=1)
    await (await till.office.pool()).execute("UPDATE events SET starts_at = now() - interval '1 second'")
    with pytest.raises(NotCancellable):
        await till.cancel(booking)


async def test_a_booking_that_left_redis_is_cancelled_as_well(till: Till) -> None:
    """A day later: its record is gone, its tickets come back all the same."""
    booking = await confirmed(till, VIP=2)
    await till.office.redis.delete(keys.booking(SHARD, booking))

    assert await till.cancel(booking) == "cancelled"

    assert await till.left("VIP") == (4, 0, 0)
    await till.at_rest(booking)


async def test_what_failed_cannot_be_cancelled(till: Till) -> None:
    booking = await till.book("tok_card_declined", GA=1)
    await till.rest()
    for _ in range(2):
        with pytest.raises(NotCancellable) as caught:
            await till.cancel(booking)
        assert caught.value.details["booking_status"] == "failed"
        await till.office.redis.delete(keys.booking(SHARD, booking))


async def test_while_redis_is_away_a_confirmed_booking_is_cancelled(
    till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL decides; the tickets go on sale when Redis is back. A hold has to wait: only Redis knows it."""
    booking, hold = await confirmed(till, GA=2), await till.hold(GA=1)

    async def away(*_: object, **__: object) -> Any:
        raise ConnectionError("away")

    with monkeypatch.context() as patch:
        patch.setattr(till.office.redis, "get", away)
        patch.setattr(till.office.redis, "mget", away)
        patch.setattr(till.office.redis, "execute_command", away)
        patch.setattr(Pipeline, "execute", away)
        assert await till.cancel(booking) == "cancelled"
        with pytest.raises(StoreAway):
            await till.cancel(hold)
    assert await till.left("GA") == (7, 1, 2)

    await apply_moves(till.office.shards[SHARD], till.office.database)

    assert await till.left("GA") == (9, 1, 0)
    assert await till.state(booking) == "X cancelled"


async def test_while_the_gate_is_shut_a_confirmed_booking_is_cancelled(till: Till) -> None:
    """Its shop hears of it when the gate opens, and asks again until then; the money goes back meanwhile."""
    booking, hold = await confirmed(till, GA=2), await till.hold(GA=1)
    gate = await till.office.redis.getdel(keys.gate(SHARD))

    with pytest.raises(StoreAway):
        await till.cancel(booking)
    with pytest.raises(GateClosed):
        await till.cancel(hold)

    assert await till.state(booking) == "X cancelled"
    await till.pump_once()
    assert (await till.payment(booking)).refunded_cents == 2_000
    await till.office.redis.set(keys.gate(SHARD), gate)
    assert await till.cancel(booking) == "cancelled"
    await apply_moves(till.office.shards[SHARD], till.office.database)
    assert await till.left("GA") == (9, 1, 0)
    assert (await till.payment(booking)).refunded_cents == 2_000


async def test_the_customer_may_buy_as_many_again(till: Till) -> None:
    """A cancelled ticket does not count in the customer's limit."""
    booking = await confirmed(till, GA=2)
    owners = keys.owners(SHARD, till.event.id)
    assert await till.office.redis.hvals(owners) == [b"2"]
    await till.cancel(booking)
    assert await till.office.redis.hvals(owners) == []


# ------------------------------------------------------------------ refunds


async def test_some_tickets_are_refunded(till: Till) -> None:
    """They go on sale again; the others stay valid, and are refunded later."""
    booking = await confirmed(till, GA=3, VIP=1)

    first = await till.refund(booking, "one", GA=1)
    assert (first.status, first.amount_cents, first.refund_status) == ("confirmed", 1_000, "due")
    assert await till.left("GA") == (8, 0, 2)
    assert await till.state(booking) == "C confirmed"
    rest = await till.refund(booking, "rest")
    assert (rest.status, rest.amount_cents) == ("cancelled", 4_000)

    await till.at_rest(booking)
    assert await till.state(booking) == "X cancelled"
    assert (await till.payment(booking)).refunded_cents == 5_000
    assert await till.left("GA") == (10, 0, 0)


async def test_a_refund_is_made_once_for_its_key(till: Till) -> None:
    """However often it is sent, also at once; with other items it is refused."""
    booking = await confirmed(till, GA=3)

    answers = await asyncio.gather(*(till.refund(booking, "one", GA=1) for _ in range(5)))

    assert [answer.repeated for answer in answers].count(False) == 1
    assert {(answer.refund_key, answer.amount_cents) for answer in answers} == {(answers[0].refund_key, 1_000)}
    with pytest.raises(KeyReused):
        await till.refund(booking, "one", GA=2)
    await till.pump()
    again = await till.refund(booking, "one", GA=1)
    assert (again.repeated, again.refund_status) == (True, "succeeded")
    assert (await till.payment(booking)).refunded_cents == 1_000
    assert await till.left("GA") == (8, 0, 2)


async def test_a_refund_key_belongs_to_what_it_was_used_for(till: Till) -> None:
    """Other tickets of the same price, another reason, all instead of some: refused. The order of items is not told."""
    await (await till.office.pool()).execute("UPDATE tiers SET price_cents = 1000 WHERE event_id = $1", till.event.id)
    await till.office.control.change_event(till.event.id, name="One price")
    same = Till(till.office, await till.office.store.event(till.event.id), till.numbers)
    await till.office.catalogue.refresh()
    booking = await confirmed(same, GA=2, VIP=2)
    ga, vip = (next(tier.id for tier in same.event.tiers if tier.code == code) for code in ("GA", "VIP"))

    def ask(items: dict[str, int] | None, reason: str = "rain") -> Any:
        return till.office.refunds.refund(CLIENT, booking, ids.digest("one"), items, reason)

    assert not (await ask({ga: 1, vip: 1})).repeated
    for items, reason in (({ga: 2}, "rain"), ({vip: 2}, "rain"), ({ga: 1, vip: 1}, "snow"), ({ga: 1}, "rain"), (None, "rain"),
                          ({"nonsense": 2}, "rain")):  # fmt: skip
        with pytest.raises(KeyReused):
            await ask(items, reason)
    assert (await ask({vip: 1, ga: 1})).repeated
    assert (await same.left("GA"), await same.left("VIP")) == ((9, 0, 1), (3, 0, 1))

    assert not (await till.office.refunds.refund(CLIENT, booking, ids.digest("two"), None, "rain")).repeated
    with pytest.raises(KeyReused):
        await till.office.refunds.refund(CLIENT, booking, ids.digest("two"), {ga: 1, vip: 1}, "rain")
    await same.at_rest(booking)


async def test_no_more_than_was_bought(till: Till) -> None:
    booking = await confirmed(till, GA=2)
    await till.refund(booking, "one", GA=1)
    with pytest.raises(RefundTooLarge):
        await till.refund(booking, "two", GA=2)
    with pytest.raises(Malformed):
        await till.office.refunds.refund(CLIENT, booking, ids.digest("x"), {"nonsense": 1}, "test")
    with pytest.raises(NotFound):
        await till.office.refunds.refund(OTHER, booking, ids.digest("x"), None, "test")
    assert await till.left("GA") == (9, 0, 1)


async def test_cancelling_after_a_partial_refund_returns_the_rest(till: Till) -> None:
    booking = await confirmed(till, GA=3)
    await till.refund(booking, "one", GA=1)

    await till.cancel(booking)

    await till.at_rest(booking)
    assert (await till.payment(booking)).refunded_cents == 3_000


async def test_free_tickets_come_back_once_too(till: Till, open_sale: SaleMaker) -> None:
    """No money moves, and the key is remembered all the same."""
    await (await till.office.pool()).execute("UPDATE tiers SET price_cents = 0")
    await till.office.control.change_event(till.event.id, name="Free concert")
    free = Till(till.office, await till.office.store.event(till.event.id), till.numbers)
    await free.office.catalogue.event(free.event.id)
    booking = await confirmed(free, GA=3)

    for _ in range(3):
        refunded = await free.refund(booking, "one", GA=1)
        assert refunded.amount_cents == 0
    with pytest.raises(KeyReused):
        await free.refund(booking, "one", GA=2)

    assert await free.left("GA") == (8, 0, 2)


async def test_a_refund_that_meets_trouble_is_tried_again(till: Till) -> None:
    booking = await confirmed(till, "tok_refund_error", GA=1)
    await till.cancel(booking)
    await till.sooner()
    await till.office.pump.work_outbox()
    (row,) = await till.fetch("SELECT status, tries FROM refunds")
    assert tuple(row) == ("due", 1)

    await till.at_rest(booking)

    assert (await till.payment(booking)).refunded_cents == 1_000


async def test_a_refund_that_is_refused_for_good_is_told(till: Till) -> None:
    """The tickets are back; the row says that the money is not."""
    booking = await confirmed(till, "tok_refund_refused", GA=1)
    await till.cancel(booking)
    await till.pump()

    (row,) = await till.fetch("SELECT status, failure_code FROM refunds")
    assert tuple(row) == ("owed", "refund_failed")
    assert (await till.office.bookings.decided(CLIENT, booking)).refunded_cents == 0
    assert await till.left("GA") == (10, 0, 0)


async def test_two_pumps_refund_once(till: Till) -> None:
    """A pump that was frozen repeats what another has done, with the same key."""
    booking = await confirmed(till, GA=1)
    await till.cancel(booking)
    for _ in range(3):
        (due,) = await till.fetch("SELECT * FROM refunds")
        await till.gateway.refund(due["refund_key"], due["payment_key"], "", due["amount_cents"])
    await till.at_rest(booking)
    assert (await till.payment(booking)).refunded_cents == 1_000


# ------------------------------------------------------------------ a capture that is refused


async def test_a_capture_refused_for_good_cancels_the_booking(till: Till) -> None:
    """Its tickets are on sale again, and the booking says why."""
    booking = await till.book("tok_capture_refused", GA=2)
    await till.at_rest(booking)

    assert await till.state(booking) == "X cancelled"
    view = await till.office.bookings.decided(CLIENT, booking)
    assert view.failure and view.failure.code == "capture_failed"
    assert await till.left("GA") == (10, 0, 0)
    assert (await till.payment(booking)).captured_cents == 0
    assert await till.cancel(booking) == "cancelled"


async def test_a_capture_refused_after_the_booking_was_cancelled(till: Till) -> None:
    """There is nothing to refund then, and the tickets do not come back twice."""
    booking = await till.book("tok_capture_refused", GA=2)
    await till.drain()
    till.office.pump.given.clear()
    await till.cancel(booking)

    await till.at_rest(booking)

    (row,) = await till.fetch("SELECT status, failure_code FROM refunds")
    assert tuple(row) == ("dropped", "never_captured")
    assert await till.left("GA") == (10, 0, 0)


async def test_a_refused_capture_is_told_once(till: Till) -> None:
    """Two workers that hear the same refusal do it once."""
    booking = await till.book("tok_capture_refused", GA=2)
    await till.drain()
    till.office.pump.given.clear()
    record = await till.record(booking)
    assert record is not None
    refused = till.office.refunds.capture_refused

    await asyncio.gather(*(refused(record.payment_key, "authorization_expired") for _ in range(5)))

    (row,) = await till.fetch("SELECT count(*) FROM stock_moves")
    assert row[0] == 1
    await till.at_rest(booking)
    assert await till.left("GA") == (10, 0, 0)


# ------------------------------------------------------------------ races


async def test_cancel_settle_and_reconcile_at_once(till: Till) -> None:
    """Bookings are settled, cancelled and reconciled in the same moments; no ticket is lost, none sold twice."""
    bookings = [await till.book(GA=1) for _ in range(5)] + [await till.hold(VIP=1) for _ in range(2)]

    async def reconcile() -> None:
        for _ in range(10):
            await till.office.guards[SHARD].reconciler.event(till.event.id, fix=True)
            await pace(0.001)

    async def settle() -> None:
        for _ in range(5):
            await till.drain()
            await pace(0.005)

    results = await asyncio.gather(
        *(till.cancel(booking) for booking in bookings), *(till.cancel(booking) for booking in bookings),
        settle(), reconcile(), return_exceptions=True,
    )  # fmt: skip

    assert [result for result in results if isinstance(result, BaseException)] == []
    await till.at_rest(*bookings)
    assert {await till.state(booking) for booking in bookings} <= {"X cancelled", "X -"}
    assert await till.left("GA") == (10, 0, 0)
    assert await till.left("VIP") == (4, 0, 0)


async def test_a_refund_before_redis_heard_of_the_confirmation(till: Till) -> None:
    """A worker died between the commit and telling Redis; an operator refunds at once. The tickets come back once."""
    booking = await till.book(GA=3)
    settlement = till.office.settlements[SHARD]
    tell = settlement.mirror.tell

    async def die(*_: Any) -> None:
        raise Died

    settlement.mirror.tell = die  # type: ignore[method-assign]
    with pytest.raises(Died):
        await settlement.drain()
    settlement.mirror.tell = tell  # type: ignore[method-assign]
    assert await till.state(booking) == "P confirmed"

    await till.refund(booking)
    await till.claimable(booking)
    await till.at_rest()

    assert await till.left("GA") == (10, 0, 0)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (GateClosed(), StoreAway),
        (ConnectionResetError(), StoreAway),
        (WentBack(), StoreAway),
        (ResponseError("OOM"), None),
    ],
)
@pytest.mark.parametrize("call", ["cancel", "refund"])
async def test_nobody_hears_of_a_refund_before_redis_unless_it_cannot(
    till: Till, monkeypatch: pytest.MonkeyPatch, error: Exception, told: type[Exception] | None, call: str
) -> None:
    """A Redis that takes no writes keeps nobody from his money: PostgreSQL alone speaks then. Asked again, it is done once."""
    booking = await confirmed(till, GA=2)

    async def fails(*_: object) -> None:
        raise error

    async def asked() -> Any:
        return await (till.cancel(booking) if call == "cancel" else till.refund(booking, "key", GA=1))

    with monkeypatch.context() as patch:
        patch.setattr("boxoffice.money.mirror.apply_moves", fails)
        if told:
            with pytest.raises(told):
                await asked()
        else:
            await asked()
    await asked()
    await apply_moves(till.office.shards[SHARD], till.office.database)
    await till.pump()
    rows = await till.fetch("SELECT amount_cents FROM refunds")
    assert [row[0] for row in rows] == [2_000 if call == "cancel" else 1_000]
    assert await till.left("GA") == ((10, 0, 0) if call == "cancel" else (9, 0, 1))


@pytest.mark.parametrize("status", ["confirmed", "cancelled"])
async def test_a_refused_capture_begins_to_let_go(till: Till, status: str) -> None:
    """Every column of its payment, as of one that was never tried; the other payment is as it was, and so is a booking
    that has ended."""
    booking, other = await till.book(GA=2), await till.book(GA=1)
    await till.drain()
    till.office.pump.given.clear()
    pool = await till.office.pool()
    await pool.execute("DELETE FROM captures")
    await pool.execute(
        "UPDATE payments SET due = 'capture', due_at = to_timestamp(1), due_since = to_timestamp(1), tries = 7,"
        " leased_until = now() + interval '1 hour', refunded_cents = 5, updated_at = to_timestamp(1)"
    )
    if status != "confirmed":
        await pool.execute("UPDATE bookings SET status = $2 WHERE id = $1", booking, status)
    keys_of = dict(map(tuple, await till.fetch("SELECT booking_id::text, payment_key FROM payments")))
    for n, whose in enumerate((booking, other)):
        await pool.execute(
            "INSERT INTO refunds (refund_key, booking_id, payment_key, amount_cents, currency, status, reason, leased_until)"
            " VALUES ($1, $2::uuid, $3, 5, 'USD', 'due', 'x', now())", f"r{n}", whose, keys_of[whose],
        )  # fmt: skip
    query = (
        "SELECT status, failure_code, due, due_at > to_timestamp(2), due_since > to_timestamp(2), tries,"
        " leased_until IS NULL, refunded_cents, updated_at > to_timestamp(2) FROM payments WHERE booking_id = $1"
    )

    await till.office.refunds.capture_refused(keys_of[booking], "closed")

    (row,), (left,) = await till.fetch(query, booking), await till.fetch(query, other)
    assert tuple(row) == ("failed", "closed", "void", True, True, 0, True, 0, True)
    assert tuple(left) == ("authorized", None, "capture", False, False, 7, False, 5, False)
    refunds = await till.fetch("SELECT status, failure_code, leased_until IS NULL FROM refunds ORDER BY refund_key")
    assert [tuple(each) for each in refunds] == [("dropped", "never_captured", True), ("due", None, False)]
    (said,) = await till.fetch("SELECT status, failure_code FROM bookings WHERE id = $1", booking)
    assert tuple(said) == ("cancelled", "capture_failed" if status == "confirmed" else None)
    assert len(await till.fetch("SELECT FROM stock_moves")) == (1 if status == "confirmed" else 0)
    await till.office.refunds.capture_refused(keys_of[booking], "again")
    assert tuple((await till.fetch(query, booking))[0]) == tuple(row), "it is refused once"


@pytest.mark.parametrize(
    ("status", "due", "booking_status", "code", "spoken_for", "cents", "told"),
    [
        ("authorized", "void", "failed", None, 0, 1_000, "paid_too_late"),
        ("unknown", None, "expired", "x", 300, 700, "paid_too_late"),
        ("voided", None, "failed", "withdrawn", 0, 1_000, "withdrawn"),
        ("failed", None, "cancelled", None, 1_000, None, None),
        ("captured", "void", "confirmed", None, 0, 1_000, None),
        ("captured", None, "failed", None, 0, None, None),
        ("authorized", "capture", "confirmed", None, 0, None, None),
    ],
)
async def test_money_that_was_taken_too_late_goes_back(
    till: Till, status: str, due: str | None, booking_status: str, code: str | None, spoken_for: int,
    cents: int | None, told: str | None,
) -> None:  # fmt: skip
    """What of it is not spoken for, once; unless it is a sale's by now. The other payment stays as it is."""
    booking, other = await till.book(GA=1), await till.book(GA=2)
    await till.rest()
    pool = await till.office.pool()
    keys_of = dict(map(tuple, await till.fetch("SELECT booking_id::text, payment_key FROM payments")))
    await pool.execute(
        "UPDATE payments SET status = $1, due = $2::text, due_at = to_timestamp(1), due_since = to_timestamp(1),"
        " leased_until = now(), updated_at = to_timestamp(1)", status, due,
    )  # fmt: skip
    await pool.execute(
        "UPDATE bookings SET status = $1, failure_code = $2, updated_at = to_timestamp(1)", booking_status, code
    )
    for name, refund_status, amount in (("spoken", "succeeded", spoken_for), ("dropped", "dropped", 50)):
        await pool.execute(
            "INSERT INTO refunds (refund_key, booking_id, payment_key, amount_cents, currency, status, reason)"
            " VALUES ($1, $2::uuid, $3, $4, 'USD', $5, 'x')", name, booking, keys_of[booking], amount, refund_status,
        )  # fmt: skip
    query = (
        "SELECT p.status, p.due, p.due_at IS NULL, p.due_since IS NULL, p.leased_until IS NULL, p.failure_code,"
        " p.updated_at > to_timestamp(2), p.refunded_cents, b.failure_code, b.updated_at > to_timestamp(2)"
        " FROM payments p JOIN bookings b ON b.id = p.booking_id WHERE p.booking_id = $1"
    )
    before = tuple((await till.fetch(query, other))[0])
    mine = tuple((await till.fetch(query, booking))[0])

    for _ in range(2):
        await till.office.refunds.captured_too_late(keys_of[booking], 1_000)

    late = (status != "captured" and due != "capture") or due == "void"
    row = tuple((await till.fetch(query, booking))[0])
    if late:
        changed = told == "paid_too_late"
        assert row == ("captured", None, True, True, True, "paid_too_late", True, 1_000, told, changed)
    else:
        assert row == mine
    assert tuple((await till.fetch(query, other))[0]) == before
    key = ids.digest(booking, keys_of[booking], "late")
    found = await till.fetch("SELECT amount_cents, currency, status, reason FROM refunds WHERE refund_key = $1", key)
    assert [tuple(each) for each in found] == ([(cents, "USD", "due", "paid_too_late")] if cents else [])


async def test_nobody_believes_what_is_due_while_redis_is_away(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis alone knows which commits PostgreSQL may lack."""
    assert await till.office.refunds.check_fence()

    async def away(*_: object) -> None:
        raise ConnectionError

    monkeypatch.setattr(fence, "check", away)
    assert not await till.office.refunds.check_fence()
