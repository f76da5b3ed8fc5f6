"""PostgreSQL went back in time: it decides nothing, nobody believes it, and what it forgot is written again."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from boxoffice import ids
from boxoffice.errors import DriftUnexplained, GateClosed, NotCancellable, StoreAway
from boxoffice.repair.guard import Guard
from boxoffice.repair.rebuild import POSTGRES_WENT_BACK
from boxoffice.sales.store import NewTier
from boxoffice.stores import keys
from boxoffice.stores.gate import Gate
from boxoffice.stores.scripts import Call
from boxoffice.stores.shard import Shard
from tests.boxoffice.repair.conftest import repair_of
from tests.conftest import CLIENT, GENERATION, SHARD, eventually
from tests.support.past import Past
from tests.support.shop.office import Died, Till


@pytest.fixture
async def guard(till: Till) -> Guard:
    """One that has seen this run of the server."""
    await till.office.guards[SHARD].tick()
    return till.office.guards[SHARD]


async def shown(till: Till, booking: str) -> tuple[str, str | None]:
    """What its shop reads: its status, and why it failed."""
    view = (await till.office.bookings.get(CLIENT, booking)).view
    return view.status, view.failure.code if view.failure else None


# ------------------------------------------------------------------ what was lost


async def test_confirmed_bookings_are_written_again_and_paid_once(till: Till, past: Past, guard: Guard) -> None:
    """In the order of admission. Its shop reads the same before and after; nobody is charged twice."""
    await past.remember()
    lost = [await till.book(GA=1, VIP=1), await till.book(GA=2, customer="bob")]
    await till.rest()
    hold = await till.hold(GA=1)
    await till.pay(hold)
    await till.rest()
    await past.come_back()
    waiting = await till.book(GA=1)

    assert await guard.tick() == "recovered"

    for booking in (*lost, hold):
        assert await till.state(booking) == "C confirmed"
    assert await guard.tick() == "fine"
    await till.at_rest(*lost, hold, waiting)
    for booking in (*lost, hold):
        assert (await till.payment(booking)).captured_cents == (await till.fetch(
            "SELECT amount_cents FROM bookings WHERE id = $1", booking))[0][0]  # fmt: skip
        assert await till.payments(booking) == ["captured/-"]
    (key,) = (await till.fetch("SELECT idempotency_key FROM bookings WHERE id = $1", lost[0]))[0]
    assert key == ids.digest("key-1"), "and a repeat under its key finds it for ever"


@pytest.mark.parametrize("way", ["guard", "reconcile", "rebuild"])
async def test_no_ticket_of_a_lost_booking_is_sold_again(till: Till, past: Past, guard: Guard, way: str) -> None:
    """Whoever comes first: the guard, or an operator who reconciles or rebuilds."""
    await past.remember()
    lost = [await till.book(VIP=1, customer=f"c{n}") for n in range(4)]
    await till.rest()
    await past.come_back()

    match way:
        case "guard":
            await guard.tick()
        case "reconcile":
            assert (await repair_of(till).reconcile(fix=True)).rebuilt == (SHARD,)
        case _:
            await till.office.rebuilders[SHARD].rebuild()

    assert await till.left("VIP") == (0, 0, 4)
    await till.at_rest(*lost)


async def test_what_is_still_pending_in_postgresql_is_confirmed_again(till: Till, past: Past, guard: Guard) -> None:
    """Its customer went through 3-D Secure in the moment that was lost."""
    booking = await till.book("tok_3ds", GA=1)
    await till.drain()
    await past.remember()
    await till.customer_acts(booking)
    await till.look_again(booking)
    await till.rest()
    await past.come_back()
    assert await till.state(booking) == "C pending"

    assert await guard.tick() == "recovered"

    assert await till.state(booking) == "C confirmed"
    await till.at_rest(booking)
    assert await till.payments(booking) == ["captured/-"]


async def test_a_lost_cancellation_is_made_again_under_its_refund_key(till: Till, past: Past, guard: Guard) -> None:
    """The gateway pays once."""
    booking = await till.book(GA=2)
    await till.rest()
    await past.remember()
    await till.cancel(booking)
    await till.rest()
    refunded = (await till.payment(booking)).refunded_cents
    written = "SELECT refund_key, amount_cents, status FROM refunds WHERE booking_id = $1"
    before = [tuple(row) for row in await till.fetch(written, booking)]
    await past.come_back()
    assert await till.state(booking) == "X confirmed"

    assert await guard.tick() == "recovered"

    assert await till.state(booking) == "X cancelled"
    await till.at_rest(booking)
    assert (await till.payment(booking)).refunded_cents == refunded > 0
    assert [tuple(row) for row in await till.fetch(written, booking)] == before


async def test_a_cancellation_after_the_loss_is_no_repetition_of_a_lost_one(
    till: Till, past: Past, guard: Guard
) -> None:
    """The numbers of stock moves come again from a sequence that went back; Redis remembers the lost ones."""
    first, second = await till.book(GA=2), await till.book(GA=3)
    await till.rest()
    await past.remember()
    await till.cancel(first)
    await till.rest()
    await past.come_back()
    assert await guard.tick() == "recovered"

    await till.cancel(second)

    assert await till.state(second) == "X cancelled"
    await till.at_rest(first, second)
    assert await till.left("GA") == (10, 0, 0)


async def test_a_cancellation_that_redis_was_not_told_of_is_not_told_to_the_shop(
    till: Till, past: Past, guard: Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL goes back between its commit and the mirror: nobody would miss it, so nobody may rely on it."""
    booking = await till.book(GA=2)
    await till.rest()
    await past.remember()
    with monkeypatch.context() as patched:

        async def too_late(*args: object) -> int:
            await past.come_back()
            return 0

        patched.setattr("boxoffice.money.mirror.apply_moves", too_late)
        with pytest.raises(StoreAway):
            await till.cancel(booking)
    assert await guard.tick() == "fine"

    assert await till.cancel(booking) == "cancelled"

    await till.at_rest(booking)


async def test_a_booking_confirmed_and_cancelled_in_what_was_lost_is_both(till: Till, past: Past, guard: Guard) -> None:
    """Its tickets may be somebody else's by now, so it takes none."""
    await past.remember()
    booking = await till.book(VIP=4)
    await till.rest()
    await till.cancel(booking)
    other = await till.book(VIP=4, customer="bob")
    await till.rest()
    await past.come_back()

    assert await guard.tick() == "recovered"

    assert (await till.state(booking), await till.state(other)) == ("X cancelled", "C confirmed")
    await till.at_rest(booking, other)
    assert await till.left("VIP") == (0, 0, 4)
    assert (await till.payment(booking)).refunded_cents == 8_000


@pytest.mark.parametrize("confirmed_before", [True, False])
async def test_lost_refunds_of_some_tickets_are_made_again(
    till: Till, past: Past, guard: Guard, confirmed_before: bool
) -> None:
    """Two of them, of a booking that PostgreSQL had, or lost with them."""
    if not confirmed_before:
        await past.remember()
    booking = await till.book(GA=3, VIP=1)
    await till.rest()
    if confirmed_before:
        await past.remember()
    await till.refund(booking, "one", GA=1)
    await till.refund(booking, "two", GA=1, VIP=1)
    await till.rest()
    refunded = (await till.payment(booking)).refunded_cents
    await past.come_back()

    assert await guard.tick() == "recovered"

    assert await till.state(booking) == "C confirmed"
    await till.at_rest(booking)
    assert (await till.payment(booking)).refunded_cents == refunded == 1_000 + 1_000 + 2_000
    assert (await till.left("GA"))[2] == 1
    rows = await till.fetch("SELECT amount_cents, status FROM refunds WHERE booking_id = $1 ORDER BY 1", booking)
    assert [tuple(row) for row in rows] == [(1_000, "succeeded"), (3_000, "succeeded")]


@pytest.mark.parametrize("last", ["cancel", "refund"])
async def test_a_booking_given_back_in_parts_is_so_again_in_any_order(
    till: Till, past: Past, guard: Guard, last: str
) -> None:
    """What ends the booking leaves the others their tickets and their money, whichever Redis tells of first."""
    bookings = [await till.book(GA=2) for _ in range(5)]
    await till.rest()
    await past.remember()
    for booking in bookings:
        await till.refund(booking, "part", GA=1)
        await (till.cancel(booking) if last == "cancel" else till.refund(booking, "rest", GA=1))
    await till.rest()
    await past.come_back()

    assert await guard.tick() == "recovered"

    await till.at_rest(*bookings)
    assert await till.left("GA") == (10, 0, 0)
    for booking in bookings:
        assert await till.state(booking) == "X cancelled"
        assert (await till.payment(booking)).refunded_cents == 2_000


@pytest.mark.parametrize("confirmed_before", [True, False])
@pytest.mark.parametrize("how", ["cancel", "refund"])
async def test_what_redis_heard_by_half_is_made_again_whole(
    till: Till, past: Past, guard: Guard, monkeypatch: pytest.MonkeyPatch, how: str, confirmed_before: bool
) -> None:
    """PostgreSQL went back between the moves of two tiers: the note of one tells of both."""
    if not confirmed_before:
        await past.remember()
    booking = await till.book(GA=3, VIP=2)
    await till.rest()
    if confirmed_before:
        await past.remember()
    run_all = Shard.run_all

    async def went_back(shard: Shard, calls: list[Call]) -> list[Any]:
        await run_all(shard, calls[:1])
        await past.come_back()
        raise ConnectionError

    with monkeypatch.context() as patched:
        patched.setattr(Shard, "run_all", went_back)
        with pytest.raises((StoreAway, ConnectionError)):
            await (till.cancel(booking) if how == "cancel" else till.refund(booking, "part", GA=2, VIP=1))

    assert await guard.tick() == "recovered"

    await till.at_rest(booking)
    assert await till.state(booking) == ("X cancelled" if how == "cancel" else "C confirmed")
    left = (await till.left("GA"))[2], (await till.left("VIP"))[2]
    assert left == ((0, 0) if how == "cancel" else (1, 1))
    assert (await till.payment(booking)).refunded_cents == (7_000 if how == "cancel" else 4_000)


@pytest.mark.parametrize(("how", "word"), [("empty", "rebuilt"), ("older", "restarted")])
async def test_a_refund_that_redis_had_forgotten_before_is_made_again(
    till: Till, past: Past, guard: Guard, how: str, word: str
) -> None:
    """Redis goes back first, and is filled again or checked; then PostgreSQL does. The refund's tickets may be sold since."""
    booking = await till.book(GA=3)
    await till.rest()
    await guard.tick()
    redis, pool = till.office.redis, await till.office.pool()
    old = {key: await redis.dump(key) for key in await redis.keys("*")}
    await past.remember()
    await till.refund(booking, "one", GA=1)
    await till.pump()
    await redis.flushall()
    if how == "empty":
        await pool.execute("UPDATE shards SET settled_at = now() - interval '1 hour'")
    else:
        for key, dump in old.items():
            await redis.restore(key, 0, dump)
        await redis.set(keys.gate(SHARD), Gate(GENERATION, "the run before").pack())
    assert await guard.tick() == word
    assert await till.left("GA") == (8, 0, 2)

    await past.come_back()

    assert await guard.tick() == "recovered"
    assert await till.left("GA") == (8, 0, 2)
    await till.at_rest(booking)
    assert (await till.payment(booking)).refunded_cents == 1_000
    assert [tuple(row) for row in await till.fetch("SELECT amount_cents, status FROM refunds")] == [
        (1_000, "succeeded")
    ]


async def test_what_ended_otherwise_is_written_as_its_shop_was_told(till: Till, past: Past, guard: Guard) -> None:
    """Declined; a hold whose card was declined, still held, and one cancelled after it."""
    await past.remember()
    declined = await till.book("tok_card_declined", GA=1)
    held, cancelled = await till.hold(GA=1), await till.hold(GA=1)
    for booking in (held, cancelled):
        await till.pay(booking, "tok_card_declined")
    await till.rest()
    await till.cancel(cancelled)
    await past.come_back()

    assert await guard.tick() == "recovered"

    assert await till.state(declined) == "F failed"
    assert await shown(till, declined) == ("failed", "payment_declined")
    assert await till.state(held) == "H held"
    assert await till.state(cancelled) == "X cancelled"
    await till.pay(held)
    await till.at_rest(declined, held, cancelled)
    assert await till.state(held) == "C confirmed"


async def test_money_that_was_being_let_go_is_let_go(till: Till, past: Past, guard: Guard) -> None:
    """It failed for want of tickets, and its authorisation was not voided yet when PostgreSQL went back."""
    await past.remember()
    await till.office.redis.hincrby(keys.event(SHARD, till.event.id), f"a:{till.event.tiers[1].id}", 4)  # type: ignore[misc]
    bookings = [await till.book(VIP=4), await till.book(VIP=4, customer="bob")]
    await till.rest_bookings()
    await till.office.pump.work_given()
    await past.come_back()

    assert await guard.tick() == "recovered"

    assert Counter([await till.state(booking) for booking in bookings]) == {"C confirmed": 1, "F failed": 1}
    await till.at_rest(*bookings)


async def test_what_does_not_fit_any_more_is_withdrawn_refunded_and_told(till: Till, past: Past, guard: Guard) -> None:
    """The capacity that PostgreSQL has now is smaller: the last to come have to go."""
    await past.remember()
    bookings = [await till.book(VIP=1, customer=f"c{n}") for n in range(4)]
    await till.rest()
    await past.come_back()
    await (await till.office.pool()).execute(
        "UPDATE inventory SET total = 2 WHERE tier_id = $1", till.event.tiers[1].id
    )

    assert await guard.tick() == "recovered"

    assert [await till.state(booking) for booking in bookings] == ["C confirmed"] * 2 + ["F failed"] * 2
    await till.at_rest(*bookings)
    for booking in bookings[2:]:
        assert await shown(till, booking) == ("failed", "withdrawn")
        decided = await till.office.bookings.decided(CLIENT, booking)
        assert decided.failure and decided.failure.code == "withdrawn", "and so it stays, when Redis has forgotten it"
        assert (await till.payment(booking)).refunded_cents == 2_000
        with pytest.raises(NotCancellable):
            await till.cancel(booking)


@pytest.mark.parametrize("confirmed_before", [True, False])
async def test_free_tickets_come_back_like_others(till: Till, past: Past, guard: Guard, confirmed_before: bool) -> None:
    """No payment speaks for them: one confirmed, one cancelled after it, one of which a part was given back."""
    tiers = [NewTier("GA", 0, 10), NewTier("VIP", 0, 4)]
    starts_at = datetime.now(UTC) + timedelta(days=30)
    till = Till(till.office, await till.office.store.create_event(CLIENT, "Fair", starts_at, "USD", tiers))
    if not confirmed_before:
        await past.remember()
    confirmed, cancelled = await till.book(None, GA=1), await till.book(None, VIP=4)
    await till.rest()
    if confirmed_before:
        await past.remember()
    await till.cancel(cancelled)
    other = await till.book(None, VIP=4)
    await till.rest()
    await past.come_back()

    assert await guard.tick() == "recovered"

    states = [await till.state(booking) for booking in (confirmed, cancelled, other)]
    assert states == ["C confirmed", "X cancelled", "C confirmed"]
    await till.at_rest(confirmed, cancelled, other)
    assert await till.left("VIP") == (0, 0, 4)


async def test_recovery_that_died_anywhere_is_done_again(
    till: Till, past: Past, guard: Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gate stays closed meanwhile."""
    await past.remember()
    booking = await till.book(GA=1)
    cancelled = await till.book(GA=1)
    await till.rest()
    await till.cancel(cancelled)
    await till.rest()
    await past.come_back()
    rebuilder = guard.rebuilder
    for name in ("open_gate",):
        with monkeypatch.context() as patched:

            async def die(*args: object, **named: object) -> None:
                raise Died

            patched.setattr(rebuilder, name, die)
            with pytest.raises(Died):
                await guard.tick()
        with pytest.raises(GateClosed):
            await till.book(GA=1)

    assert await guard.tick() == "recovered"

    assert (await till.state(booking), await till.state(cancelled)) == ("C confirmed", "X cancelled")
    await till.at_rest(booking, cancelled)


# ------------------------------------------------------------------ what an operator has to decide


async def test_what_is_to_be_forgotten_is_withdrawn(till: Till, past: Past, guard: Guard) -> None:
    """`--accept-postgres`: its shop reads so, its money goes back, and its tickets are on sale again."""
    kept = await till.book(GA=1)
    await till.rest()
    await past.remember()
    lost, cancelled = await till.book(GA=2), await till.book(GA=1)
    await till.rest()
    await till.cancel(cancelled)
    await till.rest()
    await past.come_back()

    findings = await repair_of(till).reconcile(fix=True, accept_postgres=True)

    assert findings.rebuilt == (0, SHARD)
    assert await shown(till, lost) == ("failed", "withdrawn")
    assert await shown(till, cancelled) == ("cancelled", "cancelled")
    with pytest.raises(NotCancellable):
        await till.cancel(lost)
    assert (await till.left("GA"))[2] == 1
    await till.at_rest(kept, lost, cancelled)
    assert (await till.payment(lost)).refunded_cents == 2_000
    assert (await till.payment(cancelled)).refunded_cents == 1_000
    assert await guard.tick() == "fine"


async def test_another_database_waits_for_an_operator(till: Till, past: Past, guard: Guard) -> None:
    """It lacks an event that is on sale: to withdraw and refund everything is nobody's to decide but a person's."""
    booking = await till.book(GA=1)
    await till.rest()
    undecided, hold = await till.book(GA=1), await till.hold(GA=1)
    await (await till.office.pool()).execute(
        "DELETE FROM payments; DELETE FROM booking_items; DELETE FROM bookings; DELETE FROM inventory; DELETE FROM tiers;"
        "DELETE FROM event_changes; DELETE FROM event_shares; DELETE FROM events; DELETE FROM batches; DELETE FROM captures"
    )

    assert await guard.tick() == POSTGRES_WENT_BACK
    assert await guard.tick() == POSTGRES_WENT_BACK
    assert await till.state(booking) == "C -"
    with pytest.raises(DriftUnexplained):
        await guard.rebuilder.rebuild()

    await guard.rebuilder.rebuild(accept_postgres=True)

    for each in (booking, undecided, hold):
        assert await shown(till, each) == ("failed", "withdrawn")
    await till.age_payments()
    await till.pump()
    assert (await till.payment(booking)).refunded_cents == 1_000
    assert await guard.tick() == "fine"


async def test_more_may_be_lost_than_redis_remembers(till: Till, past: Past, guard: Guard) -> None:
    """Records live for a day; of what was lost before, only the gateway knows."""
    await past.remember()
    booking = await till.book(GA=1)
    await till.rest()
    await till.book(GA=1)
    await till.rest()
    await past.come_back()
    await (await till.office.pool()).execute("UPDATE shards SET settled_at = now() - interval '2 days'")
    await till.office.redis.delete(keys.booking(SHARD, booking))

    assert await guard.tick() == POSTGRES_WENT_BACK


async def test_what_the_gateway_told_in_what_was_lost_comes_in_by_the_audit(
    till: Till, past: Past, guard: Guard
) -> None:
    """A refund that failed later, and one of the dashboard: no batch tells of them, and no gateway sends its message twice."""
    fails, dashboard = await till.book("tok_refund_fails_late", GA=2), await till.book("tok_dashboard_refund", GA=2)
    await till.rest()
    await till.refund(fails, GA=1)
    await till.pump()
    await past.remember()

    async def ripe() -> bool:
        return await till.gateway.ripen() == 0

    await eventually(ripe)
    for booking in (fails, dashboard):
        (row,) = await till.fetch("SELECT payment_key FROM payments WHERE booking_id = $1", booking)
        await till.fetch("INSERT INTO looks (payment_key) VALUES ($1)", row[0])
    await till.pump()
    query = "SELECT booking_id::text, status, amount_cents FROM refunds ORDER BY 1, 2, 3"
    told = await till.fetch(query)
    assert {row["status"] for row in told} == {"owed", "succeeded"}
    await past.come_back()
    assert await till.fetch(query) != told

    await guard.tick()
    _ = [found async for found in till.office.payments_audit.run(fix=True, grace_s=0)]

    assert await till.fetch(query) == told
    await till.at_rest(fails, dashboard)


async def test_a_refund_whose_failure_was_forgotten_is_looked_at(till: Till, past: Past, guard: Guard) -> None:
    """Whatever came back of late is read at the gateway once more: its message of the failure is lost."""
    booking = await till.book("tok_refund_fails_late", GA=2)
    await till.rest()
    await till.refund(booking, GA=1)
    await till.pump()
    await past.remember()
    other = await till.book(GA=1)
    await till.rest()

    async def ripe() -> bool:
        return await till.gateway.ripen() == 0

    await eventually(ripe)
    await past.come_back()

    assert await guard.tick() == "recovered"

    await till.pump()
    (refund,) = await till.fetch("SELECT status, amount_cents FROM refunds")
    assert tuple(refund) == ("owed", 1_000)
    await till.at_rest(booking, other)
