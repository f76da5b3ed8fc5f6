"""confirm.lua: a whole batch sold at once, or not looked at here. It leaves what settle.lua leaves."""

from __future__ import annotations

import pytest
from redis.exceptions import ResponseError

from boxoffice.stores import keys
from boxoffice.stores.record import Outcome, Payload, confirmed, pack_payload
from tests.lua.test_settle import claimed
from tests.support.shop.script import OTHER_EVENT, Desk, Form, Verdict


async def raw_of(desk: Desk, form: Form) -> bytes:
    raw = await desk.redis.get(keys.booking(desk.shard, form.id))
    assert isinstance(raw, bytes)
    return raw


@pytest.mark.parametrize("modern", [True, False])
async def test_it_leaves_what_settle_leaves(desk: Desk, modern: bool) -> None:
    """Records, keys, counters, ends: byte for byte, also on a server that does not know MSETEX."""
    if not modern:
        script = desk.scripts.confirm
        object.__setattr__(script, "text", script.text.replace('"MSETEX"', '"NEVERHEARD"'))
    payload = Payload(None, Outcome("authorized", "card", "4242", "pay_1"))
    left = []
    for way in ("settle", "confirm"):
        await desk.redis.flushall()
        await desk.open_gate()
        await desk.open_sale(floor=9, balcony=9)
        await desk.open_sale(OTHER_EVENT, stalls=9)
        forms = (
            left[0][1]
            if left
            else [desk.form(floor=2, balcony=1), desk.form(floor=1), desk.form(OTHER_EVENT, stalls=3)]
        )
        await desk.admit(*forms)
        await desk.claim()
        if way == "settle":
            verdicts = [Verdict(form, "C", payload=pack_payload(payload)) for form in forms]
            assert await desk.settle(*verdicts, ttl_s=60) == ["C"] * 3
        else:
            assert await desk.confirm(*forms, payload=payload, ttl_s=60)
        for form in forms:
            for key in (keys.booking(desk.shard, form.id), keys.idempotency(desk.shard, form.scope)):
                assert 50 < await desk.redis.ttl(key) <= 60
        found = await desk.snapshot()
        for form in forms:
            # The moment of admission is another each time.
            name = keys.booking(desk.shard, form.id).encode()
            fields = bytes(found[name]).split(b"|")  # type: ignore[call-overload]
            fields[2] = b"ms"
            found[name] = b"|".join(fields)
        left.append((found, forms))

    assert left[0][0] == left[1][0]
    assert await desk.counts("floor") == (6, 0, 3)
    assert await desk.counts("stalls", OTHER_EVENT) == (6, 0, 3)


async def test_nothing_is_done_when_one_record_is_another(desk: Desk) -> None:
    """Settled by somebody else, cancelled meanwhile, paid anew, lost: whatever it is, its record tells."""
    await desk.open_sale(floor=9)
    first, second = await claimed(desk, floor=2), await claimed(desk, floor=1)
    expected = [await raw_of(desk, first), await raw_of(desk, second)]
    name = keys.booking(desk.shard, second.id)
    head, tail = expected[1].split(b"\n", 1)
    for changed in (head + b"x\n" + tail, head.replace(b"P|", b"H|", 1) + b"\n" + tail, None):
        await (desk.redis.set(name, changed) if changed else desk.redis.delete(name))
        before = await desk.snapshot()

        assert not await desk.confirm(first, second, expected=expected)

        assert await desk.snapshot() == before


async def test_told_twice_it_moves_stock_once(desk: Desk) -> None:
    """A worker whose answer was lost asks again, and one that woke up late."""
    await desk.open_sale(floor=9)
    form = await claimed(desk, floor=2)
    expected = [await raw_of(desk, form)]

    assert await desk.confirm(form, expected=expected)
    before = await desk.snapshot()
    assert not await desk.confirm(form, expected=expected)

    assert await desk.snapshot() == before
    assert await desk.counts("floor") == (7, 0, 2)


async def test_what_was_parked_meanwhile_leaves_there_too(desk: Desk) -> None:
    await desk.open_sale(floor=9)
    form = await claimed(desk, floor=2)
    await desk.redis.zadd(keys.dead(desk.shard), {form.id: 1})

    assert await desk.confirm(form)

    assert not await desk.redis.zcard(keys.dead(desk.shard))


async def test_the_key_is_again_that_of_the_booking_that_is_sold(desk: Desk) -> None:
    """PostgreSQL has one booking under a key; whoever comes with it is told of that one."""
    await desk.open_sale(floor=9)
    form = await claimed(desk, floor=2)
    name = keys.idempotency(desk.shard, form.scope)
    await desk.redis.delete(name)

    assert await desk.confirm(form)

    assert await desk.redis.get(name) == form.id.encode()


@pytest.mark.parametrize("key", [keys.pending, keys.dead])
async def test_a_key_of_a_wrong_type_is_noticed_before_anything_moves(desk: Desk, key: object) -> None:
    await desk.open_sale(floor=9)
    form = await claimed(desk, floor=2)
    await desk.redis.delete(key(desk.shard))  # type: ignore[operator]
    await desk.redis.set(key(desk.shard), "text")  # type: ignore[operator]
    before = await desk.snapshot()

    with pytest.raises(ResponseError):
        await desk.confirm(form)

    assert await desk.snapshot() == before
    await desk.redis.delete(key(desk.shard))  # type: ignore[operator]


async def test_a_record_once_sold(desk: Desk) -> None:
    """Nothing of it changes but state, owner and payload."""
    await desk.open_sale(floor=9)
    form = await claimed(desk, floor=2)
    raw = await raw_of(desk, form)

    head, body, payload = confirmed(raw, Payload(None, Outcome())).split(b"\n")

    assert head == raw.split(b"\n")[0].replace(b"P|", b"C|", 1).replace(form.owner.encode(), b"", 1)
    assert (body, payload) == (raw.split(b"\n")[1], b'{"o":{}}')
