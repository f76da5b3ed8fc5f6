"""correct.lua: a record gets the state that PostgreSQL has for it, unless it is in another one by now."""

from __future__ import annotations

import pytest

from boxoffice.stores import keys
from boxoffice.stores.record import Line, Record
from tests.support.shop.script import EVENT, OTHER_EVENT, Desk, Form, Verdict


async def correct(desk: Desk, *changes: tuple[Form, str, str], items: str = "", body: str = "") -> int:
    """How many were changed, in one call: each booking from the state that was found to that of PostgreSQL, which has these
    items and this body of it, if any."""
    names = [keys.pending(desk.shard), keys.dead(desk.shard), keys.deadlines(desk.shard), keys.told(desk.shard)]
    for form, _, _ in changes:
        names += [keys.booking(desk.shard, form.id), keys.idempotency(desk.shard, form.scope)]
    facts = [f'{found}|{state}|{items}|{body}\n{{"f":"corrected"}}' for _, found, state in changes]
    return int(await desk.scripts.correct(desk.redis, names, [60, "7:7", *facts]))


async def record_of(desk: Desk, form: Form) -> Record:
    record = await desk.record(form)
    assert record is not None
    return record


@pytest.mark.parametrize("state", "CFEX")
@pytest.mark.parametrize("found", "HPCFEX")
async def test_a_record_gets_the_state_that_postgresql_has(desk: Desk, found: str, state: str) -> None:
    """It lives like any final one and stands in no set. Counters are left to the recount. Only an expired booking keeps
    its customer's count: late money takes its tickets again by it."""
    await desk.open_sale(floor=5)
    form = desk.form(floor=2, hold_ms=60_000)
    await desk.book(form)
    record = await record_of(desk, form)
    record.state = found
    await desk.redis.set(keys.booking(desk.shard, form.id), record.pack())
    owner = (await record_of(desk, form)).owner
    for name in (keys.pending(desk.shard), keys.dead(desk.shard), keys.deadlines(desk.shard)):
        await desk.redis.zadd(name, {form.id: 1})
    sale = await desk.redis.hgetall(keys.event(desk.shard, EVENT))  # type: ignore[misc]

    assert await correct(desk, (form, found, state)) == 1

    now = await record_of(desk, form)
    assert (now.state, now.payload.failure) == (state, "corrected")
    assert now.owner == (owner if state == "E" else "")
    assert (now.body, now.sequence, now.items) == (record.body, record.sequence, record.items)
    for name in (keys.booking(desk.shard, form.id), keys.idempotency(desk.shard, form.scope)):
        assert 50 < await desk.redis.ttl(name) <= 60
    for name in (keys.pending(desk.shard), keys.dead(desk.shard), keys.deadlines(desk.shard)):
        assert await desk.members(name) == []
    assert await desk.redis.hgetall(keys.event(desk.shard, EVENT)) == sale  # type: ignore[misc]
    assert await desk.redis.smembers(keys.told(desk.shard)) == {b"7:7"}, "it is missed, should it be lost"  # type: ignore[misc]


@pytest.mark.parametrize("found", "CEX")
async def test_a_record_gets_the_items_and_prices_that_postgresql_has(desk: Desk, found: str) -> None:
    """It may be of an older copy of Redis, in which a hold had not been changed yet. Whatever else it says is its own."""
    await desk.open_sale(floor=5, balcony=5)
    form, other = desk.form(floor=2, hold_ms=60_000, reference="a|b"), desk.form(balcony=1, floor=1, reference="x|y")
    await desk.book(form)
    record = await record_of(desk, form)
    record.state = found
    await desk.redis.set(keys.booking(desk.shard, form.id), record.pack())
    body = other.packed.split(b"\n")[1].decode()

    assert await correct(desk, (form, found, "C"), items=other.items, body=body) == 1

    now = await record_of(desk, form)
    assert (now.state, now.payload.failure, now.deadline_ms) == ("C", "corrected", record.deadline_ms)
    assert now.body.lines == (Line("balcony", 1, 200), Line("floor", 1, 100))
    assert (now.body.amount_cents, now.body.reference) == (300, "x|y")


async def test_a_record_that_is_in_another_state_by_now_is_left_alone(desk: Desk) -> None:
    """Or is not there, or cannot be read. The others of the call are corrected, and counted."""
    await desk.open_sale(floor=9)
    await desk.open_sale(OTHER_EVENT, stalls=9)
    moved, gone, torn = (desk.form(floor=1) for _ in range(3))
    wrong = [desk.form(OTHER_EVENT, stalls=1), desk.form(floor=1)]
    await desk.book(moved, gone, torn, *wrong)
    await desk.settle(*(Verdict(form, "C") for form in (moved, *wrong)))
    await desk.redis.delete(keys.booking(desk.shard, gone.id))
    await desk.redis.set(keys.booking(desk.shard, torn.id), "X|nonsense")
    raw = await desk.redis.get(keys.booking(desk.shard, moved.id))
    pending = await desk.pending()

    changes = [(wrong[0], "C", "X"), (moved, "E", "X"), (gone, "C", "X"), (torn, "X", "F"), (wrong[1], "C", "F")]
    assert await correct(desk, *changes) == 2

    assert await desk.redis.get(keys.booking(desk.shard, moved.id)) == raw
    assert not await desk.redis.exists(keys.booking(desk.shard, gone.id))
    assert await desk.redis.get(keys.booking(desk.shard, torn.id)) == b"X|nonsense"
    assert (await desk.has(wrong[0], "X"), await desk.has(wrong[1], "F")) == (True, True)
    assert await desk.pending() == pending
