"""rewind.lua: what is dated in the future is dated now; all else is left alone."""

from __future__ import annotations

from typing import Any

from boxoffice.stores import keys
from tests.lua.test_holds import KEY, LONG_MS, expire, held, pay
from tests.support.clocks import shift
from tests.support.shop.script import Desk, Form


async def rewind(desk: Desk, *forms: Form, done: int = 0) -> list[Any]:
    shard = desk.shard
    names = [keys.gate(shard), keys.pending(shard), keys.deadlines(shard), keys.clock(shard)]
    reply = await desk.scripts.rewind(
        desk.redis, [*names, *(keys.booking(shard, form.id) for form in forms)], [15_000, done]
    )
    assert isinstance(reply, list)
    return reply


async def test_rewound_and_the_deadlines_that_postgresql_knows(desk: Desk) -> None:
    """Each once; what is of the past, final or missing is not touched."""
    past = await held(desk, floor=1)
    shift(desk.scripts, LONG_MS)
    never, tried, over = (desk.form(hold_ms=LONG_MS, floor=1) for _ in range(3))
    await desk.book(never, tried, over)
    await pay(desk, tried)
    record = await desk.record(tried)
    assert record is not None
    record.state = "H"
    await desk.redis.set(keys.booking(desk.shard, tried.id), record.pack())
    await desk.redis.zrem(keys.pending(desk.shard), tried.id)
    await desk.redis.zadd(keys.deadlines(desk.shard), {tried.id: record.deadline_ms})
    ended = await desk.record(over)
    assert ended is not None
    ended.state = "X"
    await desk.redis.set(keys.booking(desk.shard, over.id), ended.pack(), ex=60)
    shift(desk.scripts, 0)
    before = await desk.record(past)

    count, booking, deadline_ms = await rewind(desk, past, never, tried, over, desk.form(floor=1))

    assert (count, booking.decode()) == (2, tried.id)
    now = await desk.now_ms()
    for form in (never, tried):
        record = await desk.record(form)
        assert record is not None and record.admitted_ms <= now
        assert now + LONG_MS - 5_000 < record.deadline_ms <= now + LONG_MS
        assert await desk.redis.zscore(keys.deadlines(desk.shard), form.id) == record.deadline_ms
    assert int(deadline_ms) == record.deadline_ms
    assert await desk.record(past) == before
    assert await desk.has(over, "X") and 0 < await desk.redis.ttl(keys.booking(desk.shard, over.id)) <= 60
    assert await rewind(desk, past, never, tried, over) == [0]
    await desk.redis.hset(keys.event(desk.shard, past.event), mapping={"a:floor": 1, "h:floor": 4})


async def test_a_hold_that_is_being_paid_enters_no_set_of_holds(desk: Desk) -> None:
    await held(desk, floor=1)
    shift(desk.scripts, LONG_MS)
    form = desk.form(hold_ms=LONG_MS, floor=1)
    await desk.book(form)
    await pay(desk, form, KEY)
    shift(desk.scripts, 0)
    assert await rewind(desk, form) == [1]
    assert form.id not in await desk.members(keys.deadlines(desk.shard))
    assert [booking for booking, _, _ in await desk.claim()] == [form.id]


async def test_the_clock_is_believed_again_when_all_is_done(desk: Desk) -> None:
    """Until then every sweep says by how much it went back."""
    name = keys.clock(desk.shard)
    await expire(desk)
    assert abs(int(await desk.redis.get(name)) - await desk.now_ms()) < 5_000
    shift(desk.scripts, LONG_MS)
    await expire(desk)
    shift(desk.scripts, 0)
    names = [keys.gate(desk.shard), keys.deadlines(desk.shard)]
    for _ in range(2):
        *_, back_ms = await desk.scripts.expire(desk.redis, names, [1, 60, keys.shard_tag(desk.shard), 1, 1, 1])
        assert LONG_MS - 5_000 < back_ms <= LONG_MS
        assert await rewind(desk) == [0]
    await rewind(desk, done=1)
    *_, back_ms = await desk.scripts.expire(desk.redis, names, [1, 60, keys.shard_tag(desk.shard), 1, 1, 1])
    assert back_ms == 0
