"""restore.lua: what Redis lacks comes back, with its stock; what it has is left alone."""

from __future__ import annotations

import pytest

from boxoffice.stores import keys
from boxoffice.stores.record import Line, Record
from tests.lua.test_holds import cancel, extend, pay
from tests.support.shop.orders import CLIENT
from tests.support.shop.script import EVENT, OTHER_EVENT, Desk, Form, Verdict


async def taken_away(desk: Desk, form: Form) -> Record:
    """Admit a booking, then lose everything of it, its stock included."""
    before = {tier: await desk.counts(tier) for tier in await desk.tiers()}
    await desk.book(form)
    record = await desk.record(form)
    assert record is not None
    await desk.redis.delete(keys.booking(desk.shard, form.id), keys.idempotency(desk.shard, form.scope))
    await desk.redis.delete(keys.pending(desk.shard), keys.deadlines(desk.shard), keys.owners(desk.shard, EVENT))
    await desk.redis.delete(keys.owned_tiers(desk.shard, EVENT))
    for tier, (available, held, _) in before.items():
        await desk.redis.hset(  # type: ignore[misc]
            keys.event(desk.shard, EVENT), mapping={f"a:{tier}": available, f"h:{tier}": held}
        )
    return record


async def restore(desk: Desk, *records: Record, life_s: int = 0) -> int:
    """How many records were put back, in one call."""
    events = sorted({record.event for record in records})
    sale_keys = [key for event in events for key in (keys.event(desk.shard, event), keys.owners(desk.shard, event))]
    booking_keys = [
        key
        for record in records
        for key in (keys.booking(desk.shard, record.id), keys.idempotency(desk.shard, record.scope))
    ]
    reply = await desk.scripts.restore(
        desk.redis,
        [keys.pending(desk.shard), keys.deadlines(desk.shard), keys.told(desk.shard), *sale_keys, *booking_keys],
        [len(events), "7:7" if life_s else "",
         *(b"%d|%d|%s" % (events.index(record.event) + 1, life_s, record.pack()) for record in records)],
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


async def test_the_words_of_a_shop_leave_nobody_unpaid(desk: Desk) -> None:
    """They may look like a payment that waits for the bank."""
    await desk.open_sale(floor=5)
    form = desk.form(floor=2, metadata={"s": "requires_action"})
    record = await taken_away(desk, form)

    assert await restore(desk, record) == 1
    assert (await desk.counts("floor"), await desk.unpaid()) == ((3, 2, 0), {})


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


async def test_each_comes_back_to_its_own_event(desk: Desk) -> None:
    """Two events in one call, and several tiers: stock and customers of each."""
    await desk.open_sale(floor=9, balcony=9)
    await desk.open_sale(OTHER_EVENT, stalls=9)
    forms = [desk.form(OTHER_EVENT, stalls=3), desk.form(floor=2, balcony=1), desk.form(floor=1, hold_ms=60_000)]
    await desk.book(*forms)
    records = [await desk.record(form) for form in forms]
    counts = {"floor": EVENT, "balcony": EVENT, "stalls": OTHER_EVENT}
    owned = [await desk.owned(form) for form in forms]
    unpaid, before = await desk.unpaid(), {tier: await desk.counts(tier, event) for tier, event in counts.items()}
    await desk.redis.flushall()
    await desk.open_gate()
    await desk.open_sale(floor=9, balcony=9)
    await desk.open_sale(OTHER_EVENT, stalls=9)

    assert await restore(desk, *filter(None, records)) == 3

    assert {tier: await desk.counts(tier, event) for tier, event in counts.items()} == before
    assert [await desk.owned(form) for form in forms] == owned == [3, 4, 4]
    assert (await desk.unpaid(), await desk.unpaid(OTHER_EVENT)) == (unpaid, {})
    assert set(await desk.pending()) == {forms[0].id, forms[1].id}


@pytest.mark.parametrize("state", "HP")
async def test_a_hold_that_ended_with_other_items_gives_back_what_it_has(desk: Desk, state: str) -> None:
    """It was changed, paid and decided; this Redis is older. What it counts of it goes back on sale, of everybody's counts,
    and nobody claims or expires it."""
    await desk.open_sale(floor=5, balcony=5)
    form = desk.form(floor=2, balcony=1, hold_ms=60_000)
    await desk.book(form)
    if state == "P":
        await pay(desk, form)
    row = (await paid(desk, form, 2)).with_lines((Line("balcony", 4, 200),))
    row.state = "C"

    assert await restore(desk, row, life_s=60) == 1

    assert (await desk.counts("floor"), await desk.counts("balcony")) == ((5, 0, 0), (5, 0, 0)), "a recount follows"
    assert (await desk.owned(form), await desk.unpaid()) == (0, {})
    record = await desk.record(form)
    assert record is not None and (record.items, record.state) == ("balcony:4", "C")
    assert (await desk.pending(), await desk.members(keys.deadlines(desk.shard))) == ([], [])
    for key in (keys.booking(desk.shard, form.id), keys.idempotency(desk.shard, form.scope)):
        assert 50 < await desk.redis.ttl(key) <= 60
    assert await restore(desk, row, life_s=60) == 0


async def test_a_final_one_without_items_is_left_to_the_recount(desk: Desk) -> None:
    """A record that nobody could read is written as failed, with no items: here it still holds some."""
    await desk.open_sale(floor=5)
    form = desk.form(floor=2, hold_ms=60_000)
    await desk.book(form)
    await pay(desk, form)
    row = (await paid(desk, form, 2)).with_lines(())
    row.state = "F"

    assert await restore(desk, row, life_s=60) == 0

    record = await desk.record(form)
    assert record is not None and (record.items, record.state) == ("floor:2", "P")
    assert await desk.counts("floor") == (3, 2, 0)


@pytest.mark.parametrize("what", ["the same items", "revived", "confirmed", "ended"])
async def test_a_final_one_takes_nothing_else_from_redis(desk: Desk, what: str) -> None:
    """A hold of the same items is settled by the recount; one that was revived waits for its verdict; one that has ended
    here counts nothing."""
    await desk.open_sale(floor=5, balcony=5)
    form = desk.form(floor=2, hold_ms=60_000)
    await desk.book(form)
    await pay(desk, form)
    row = await paid(desk, form, 2)
    row.state = "C"
    if what != "the same items":
        row = row.with_lines((Line("balcony", 4, 200),))
    if what == "revived":
        record = await desk.record(form)
        assert record is not None
        record.tries += "r"
        await desk.redis.set(keys.booking(desk.shard, form.id), record.pack())
    elif what in ("confirmed", "ended"):
        await desk.settle(Verdict(form, "C" if what == "confirmed" else "E", payment_key="a" * 32))
    before = await desk.record(form), await desk.counts("floor"), await desk.owned(form), await desk.pending()

    assert await restore(desk, row, life_s=60) == 0

    assert (await desk.record(form), await desk.counts("floor"), await desk.owned(form), await desk.pending()) == before
    alive = -1 if what in ("the same items", "revived") else 60
    assert (await desk.redis.ttl(keys.booking(desk.shard, form.id)) == -1) == (alive == -1)
    assert (await desk.redis.ttl(keys.idempotency(desk.shard, form.scope)) == -1) == (alive == -1)


async def test_a_final_one_is_told_and_its_key_is_the_first_booking_that_used_it(desk: Desk) -> None:
    """With the pair of a commit that has it. A record or a key that is there stays as it is, with the life it has."""
    await desk.open_sale(floor=5)
    form, other = desk.form(floor=2), desk.form(floor=1)
    record = await taken_away(desk, form)
    record.state = "C"
    name, key = keys.booking(desk.shard, form.id), keys.idempotency(desk.shard, form.scope)
    await desk.redis.set(key, other.id, ex=30)
    assert await restore(desk, record, life_s=60) == 1
    assert await desk.redis.get(key) == other.id.encode()
    assert await desk.redis.ttl(key) <= 30
    assert await desk.redis.smembers(keys.told(desk.shard)) == {b"7:7"}  # type: ignore[misc]

    await desk.redis.delete(key)
    await desk.redis.set(name, "newer", ex=30)
    assert await restore(desk, record, life_s=60) == 0
    assert (await desk.redis.get(name), await desk.redis.get(key)) == (b"newer", form.id.encode())
    assert await desk.redis.ttl(name) <= 30 < await desk.redis.ttl(key) <= 60


@pytest.mark.parametrize("what", ["held", "confirmed", "unreadable"])
async def test_what_redis_has_is_not_older_for_counting_fewer_attempts(desk: Desk, what: str) -> None:
    """A hold that PostgreSQL calls held; one that is sold; one that nobody can read, whose worker will park it."""
    await desk.open_sale(floor=5)
    form = desk.form(floor=2, hold_ms=60_000)
    await desk.book(form)
    row = await paid(desk, form, 2)
    if what == "held":
        row.state = "H"
    elif what == "confirmed":
        await pay(desk, form)
        await desk.settle(Verdict(form, "C", payment_key="a" * 32))
    else:
        await desk.redis.set(keys.booking(desk.shard, form.id), "H|nonsense")
    before = await desk.snapshot()

    assert await restore(desk, row) == 0

    assert await desk.snapshot() == before


@pytest.mark.parametrize("state", "PEXF")
async def test_a_newer_payment_takes_the_tickets_unless_they_are_held(desk: Desk, state: str) -> None:
    """This Redis knows the first payment: under way, it holds them; ended, they are taken once more, for the customer and
    as unpaid."""
    await desk.open_sale(floor=5, balcony=5)
    form = desk.form(floor=2, balcony=1, hold_ms=60_000)
    await desk.book(form)
    row = await paid(desk, form, 2)
    await pay(desk, form)
    if state != "P":
        await desk.settle(Verdict(form, state, payment_key="a" * 32))
        assert (await desk.owned(form), await desk.unpaid()) == (0, {})

    assert await restore(desk, row) == 1

    assert (await desk.counts("floor"), await desk.counts("balcony")) == ((3, 2, 0), (4, 1, 0))
    assert await desk.owned(form) == 3
    assert await desk.unpaid() == {f"o:{form.owner}": 3, f"c:{CLIENT}": 3}
    record = await desk.record(form)
    assert record is not None and (record.state, record.payment_key, record.tries) == ("P", row.payment_key, "2")
    assert await desk.pending() == [form.id]


@pytest.mark.parametrize("state", "HPE")
async def test_a_payment_of_a_hold_that_was_changed_takes_what_it_was_for(desk: Desk, state: str) -> None:
    """This Redis knows the hold as it was before: what it counts of that is given back, and what was paid for is taken."""
    await desk.open_sale(floor=5, balcony=5)
    form = desk.form(floor=2, balcony=1, hold_ms=60_000)
    await desk.book(form)
    before = await desk.record(form)
    assert before is not None
    row = await paid(desk, form, 2)
    row = row.with_lines((Line("balcony", 4, 200),))
    if state != "H":
        await pay(desk, form)
    if state == "E":
        await desk.settle(Verdict(form, state, payment_key="a" * 32))

    assert await restore(desk, row) == 1

    assert (await desk.counts("floor"), await desk.counts("balcony")) == ((5, 0, 0), (1, 4, 0))
    assert await desk.owned(form) == 4
    assert await desk.unpaid() == {f"o:{form.owner}": 4, f"c:{CLIENT}": 4}
    record = await desk.record(form)
    assert record is not None and (record.items, record.state) == ("balcony:4", "P")


async def test_a_key_that_another_booking_has_stays_with_it(desk: Desk) -> None:
    """It lives on, however short its life was."""
    await desk.open_sale(floor=5)
    form, other = desk.form(floor=2), desk.form(floor=1)
    record = await taken_away(desk, form)
    await desk.redis.set(keys.idempotency(desk.shard, form.scope), other.id, ex=30)
    assert await restore(desk, record) == 1
    assert await desk.redis.get(keys.idempotency(desk.shard, form.scope)) == other.id.encode()
    assert await desk.redis.ttl(keys.idempotency(desk.shard, form.scope)) == -1
