"""gather.lua: an undecided booking that stands in no set is put back; everybody else is left where he is."""

from __future__ import annotations

import pytest

from boxoffice.stores import keys
from tests.support.shop.script import Desk, Form, Verdict


async def gather(desk: Desk, *forms: Form) -> int:
    """How many were put back."""
    records = [keys.booking(desk.shard, form.id) for form in forms]
    sets = [keys.pending(desk.shard), keys.dead(desk.shard), keys.deadlines(desk.shard)]
    return int(await desk.scripts.gather(desk.redis, [*sets, *records], []))


async def test_strays_are_put_back_where_somebody_looks_for_them(desk: Desk) -> None:
    await desk.open_sale(floor=9)
    pending, held = desk.form(floor=1), desk.form(floor=2, hold_ms=60_000)
    await desk.book(pending, held)
    deadline = await desk.redis.zscore(keys.deadlines(desk.shard), held.id)
    await desk.redis.delete(keys.pending(desk.shard), keys.deadlines(desk.shard))

    assert await gather(desk, pending, held) == 2

    assert await desk.redis.zscore(keys.deadlines(desk.shard), held.id) == deadline
    assert [id for id, _, _ in await desk.claim()] == [pending.id]
    assert await desk.counts("floor") == (6, 3, 0), "stock is reconcile's to count"
    assert await gather(desk, pending, held) == 0


async def test_a_booking_that_stands_in_a_set_stays_there(desk: Desk) -> None:
    """One that is leased keeps its lease, one that is parked stays parked, and a final one is nobody's any more."""
    await desk.open_sale(floor=9)
    leased, parked, sold, held = (desk.form(floor=1, hold_ms=60_000 * (n == 3)) for n in range(4))
    await desk.book(leased, parked, sold, held)
    await desk.claim()
    await desk.settle(Verdict(parked, "D", payload=b""), Verdict(sold, "C"))
    before = await desk.snapshot()

    assert await gather(desk, leased, parked, sold, held, desk.form(floor=1)) == 0

    assert await desk.snapshot() == before


@pytest.mark.parametrize("raw", ["P|nonsense", "H|nonsense"])
async def test_one_that_cannot_be_read_is_claimed_and_then_parked(desk: Desk, raw: str) -> None:
    await desk.open_sale(floor=9)
    form = desk.form(floor=1)
    await desk.redis.set(keys.booking(desk.shard, form.id), raw)

    assert await gather(desk, form) == 1
    assert [id for id, _, _ in await desk.claim()] == [form.id]
