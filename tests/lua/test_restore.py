"""restore.lua: what Redis lacks comes back, with its stock; what it has is left alone."""

from __future__ import annotations

from boxoffice import keys
from boxoffice.record import Record
from tests.lua.test_holds import cancel, extend, pay
from tests.support.desk import EVENT, Desk, Form


async def taken_away(desk: Desk, form: Form) -> Record:
    """Admit a booking, then lose everything of it, its stock included."""
    before = {tier: await desk.counts(tier) for tier in await desk.tiers()}
    await desk.book(form)
    record = await desk.record(form)
    assert record is not None
    await desk.redis.delete(keys.booking(desk.shard, form.id), keys.idempotency(desk.shard, form.scope))
    await desk.redis.delete(keys.pending(desk.shard), keys.deadlines(desk.shard), keys.owners(desk.shard, EVENT))
    for tier, (available, held, _) in before.items():
        await desk.redis.hset(  # type: ignore[misc]
            keys.event(desk.shard, EVENT), mapping={f"a:{tier}": available, f"h:{tier}": held}
        )
    return record


async def restore(desk: Desk, record: Record, life_s: int = 0) -> int:
    """How many records were put back."""
    reply = await desk.scripts.restore(
        desk.redis,
        [keys.pending(desk.shard), keys.deadlines(desk.shard), keys.told(desk.shard), keys.event(desk.shard, EVENT),
         keys.owners(desk.shard, EVENT), keys.booking(desk.shard, record.id), keys.idempotency(desk.shard, record.scope)],
        [1, "7:7" if life_s else "", b"1|%d|%s" % (life_s, record.pack())],
    )  # fmt: skip
    return int(reply)


async def test_a_pending_booking_comes_back_due_at_once(desk: Desk) -> None:
    await desk.open_sale(floor=5, balcony=5)
    form = desk.form(floor=2, balcony=1)
    record = await taken_away(desk, form)

    assert await restore(desk, record) == 1

    assert await desk.counts("floor") == (3, 2, 0)
    assert await desk.counts("balcony") == (4, 1, 0)
    assert await desk.owned(form) == 3
    assert [claimed[0] for claimed in await desk.claim()] == [form.id]
    assert await desk.record(form) == record
    assert await desk.redis.ttl(keys.booking(desk.shard, form.id)) == -1, "it lives until it is final"
    assert (await desk.book(form))[0][0] == b"created", "and so does its idempotency key"


async def test_a_held_booking_comes_back_with_its_deadline(desk: Desk) -> None:
    await desk.open_sale(floor=5)
    form = desk.form(floor=2, hold_ms=60_000)
    record = await taken_away(desk, form)

    assert await restore(desk, record) == 1

    assert await desk.counts("floor") == (3, 2, 0)
    assert await desk.redis.zscore(keys.deadlines(desk.shard), form.id) == record.deadline_ms
    assert await desk.pending() == []


async def test_what_redis_still_has_is_left_alone(desk: Desk) -> None:
    """Restored twice, or never lost: nothing moves."""
    await desk.open_sale(floor=5)
    form = desk.form(floor=2)
    await desk.book(form)
    record = await desk.record(form)
    assert record is not None
    before = await desk.snapshot()

    assert await restore(desk, record) == 0

    assert await desk.snapshot() == before


async def test_a_final_booking_comes_back_for_the_rest_of_its_life_without_stock(desk: Desk) -> None:
    await desk.open_sale(floor=5)
    form = desk.form(floor=2)
    record = await taken_away(desk, form)
    record.state = "C"

    assert await restore(desk, record, life_s=60) == 1

    assert await desk.counts("floor") == (5, 0, 0), "reconcile counts what is sold"
    assert await desk.pending() == []
    for key in (keys.booking(desk.shard, form.id), keys.idempotency(desk.shard, form.scope)):
        assert 50 < await desk.redis.ttl(key) <= 60


async def paid(desk: Desk, hold: Form, attempts: int) -> Record:
    """As PostgreSQL has the hold: its payment is under way."""
    record = await desk.record(hold)
    assert record is not None
    record.state, record.payment_key, record.tries = "P", f"{attempts}" * 32, str(attempts)
    return record


async def test_a_forgotten_payment_comes_back(desk: Desk) -> None:
    """To this Redis it is a hold that nobody tried to pay; extended though, and that stays."""
    await desk.open_sale(floor=5)
    form = desk.form(floor=2, hold_ms=60_000)
    await desk.book(form)
    row = await paid(desk, form, 1)
    await extend(desk, form)
    extended = await desk.record(form)
    assert extended is not None

    assert await restore(desk, row) == 1

    record = await desk.record(form)
    assert record is not None
    assert (record.state, record.payment_key, record.tries) == ("P", row.payment_key, "1e")
    assert record.deadline_ms == extended.deadline_ms
    assert await desk.counts("floor") == (3, 2, 0)
    assert (await desk.pending(), await desk.members(keys.deadlines(desk.shard))) == ([form.id], [])
    assert await restore(desk, row) == 0


async def test_what_was_done_without_knowing_of_the_payment_is_undone(desk: Desk) -> None:
    """The hold was cancelled here, and its money is under way: the tickets are taken once more."""
    await desk.open_sale(floor=5)
    form = desk.form(floor=2, hold_ms=60_000)
    await desk.book(form)
    row = await paid(desk, form, 1)
    await cancel(desk, form)
    assert await desk.counts("floor") == (5, 0, 0)

    assert await restore(desk, row) == 1

    assert await desk.has(form, "P")
    assert await desk.counts("floor") == (3, 2, 0)
    assert await desk.owned(form) == 2
    for key in (keys.booking(desk.shard, form.id), keys.idempotency(desk.shard, form.scope)):
        assert await desk.redis.ttl(key) == -1


async def test_a_payment_that_redis_knows_is_left_alone(desk: Desk) -> None:
    """Paid anew since PostgreSQL was read, or declined: Redis is the newer one."""
    await desk.open_sale(floor=5)
    form = desk.form(floor=2, hold_ms=60_000)
    await desk.book(form)
    row = await paid(desk, form, 1)
    await pay(desk, form)
    before = await desk.snapshot()
    assert await restore(desk, row) == 0
    assert await desk.snapshot() == before
