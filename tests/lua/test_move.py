"""move.lua, one test for each line of its Returns. A movement of stock is applied once."""

from __future__ import annotations

from typing import Any

from boxoffice import keys
from boxoffice.ids import owner_digest
from tests.support.desk import CLIENT, EVENT, Desk, Form

ANN = owner_digest(CLIENT, "ann")


async def move(
    desk: Desk, tier: str, *, sold: int = 0, total: int = 0, owner: str = "", of: Form | None = None, move_id: int = 1
) -> Any:
    """The script's reply. `of` is a booking that is cancelled with it."""
    return await desk.scripts.move(
        desk.redis,
        [keys.moved(desk.shard, move_id), keys.event(desk.shard, EVENT), keys.owners(desk.shard, EVENT),
         keys.booking(desk.shard, of.id if of else "")],
        [tier, sold, total, owner, int(of is not None), '{"f":"cancelled"}', 60],
    )  # fmt: skip


async def sold(desk: Desk, **tiers: int) -> Form:
    """A confirmed booking."""
    form = desk.form(**tiers)  # type: ignore[arg-type]
    await desk.book(form)
    await desk.settle_confirmed(form)
    return form


async def test_unloaded_when_the_tier_has_no_counters(desk: Desk) -> None:
    """Nothing is remembered: once it is loaded, the move can still be applied."""
    before = await desk.snapshot()

    assert await move(desk, "floor", total=5) == [b"unloaded"]

    assert await desk.snapshot() == before


async def test_repeated_when_it_was_applied_before(desk: Desk) -> None:
    await desk.open_sale(floor=5)
    await move(desk, "floor", total=5)
    before = await desk.snapshot()

    assert await move(desk, "floor", total=5) == [b"repeated"]

    assert await desk.snapshot() == before
    assert await desk.counts("floor") == (10, 0, 0)


async def test_short_when_fewer_are_available_than_it_takes(desk: Desk) -> None:
    """Tickets that are held or sold cannot be taken away."""
    await desk.open_sale(floor=5)
    await desk.book(desk.form(floor=3))
    before = await desk.snapshot()

    assert await move(desk, "floor", total=-3) == [b"short", 2]

    assert await desk.snapshot() == before


async def test_a_lower_capacity_takes_from_what_is_available(desk: Desk) -> None:
    await desk.open_sale(floor=5)

    assert await move(desk, "floor", total=-2) == [b"moved", 3]

    assert await desk.counts("floor") == (3, 0, 0)
    assert 50 < await desk.redis.ttl(keys.moved(desk.shard, 1)) <= 60


async def test_a_cancelled_booking_gives_its_tickets_back(desk: Desk) -> None:
    """They are on sale again, its customer may buy others, and the record says so for as long as it lives."""
    await desk.open_sale(floor=5)
    form = await sold(desk, floor=2)
    life = await desk.redis.ttl(keys.booking(desk.shard, form.id))

    assert await move(desk, "floor", sold=-2, owner=ANN, of=form) == [b"moved", 5]

    assert await desk.counts("floor") == (5, 0, 0)
    assert await desk.owned(form) == 0
    record = await desk.record(form)
    assert record is not None and (record.state, record.payload.failure) == ("X", "cancelled")
    assert life - 2 <= await desk.redis.ttl(keys.booking(desk.shard, form.id)) <= life


async def test_a_partial_refund_leaves_the_booking_confirmed(desk: Desk) -> None:
    await desk.open_sale(floor=5)
    form = await sold(desk, floor=3)

    assert await move(desk, "floor", sold=-1, owner=ANN) == [b"moved", 3]

    assert await desk.counts("floor") == (3, 0, 2)
    assert await desk.owned(form) == 2
    assert await desk.has(form, "C")


async def test_a_booking_cancelled_before_redis_heard_that_it_was_sold_ends_cancelled(desk: Desk) -> None:
    """Its worker was late: the cancellation's tickets came back first. They come back once, and it ends cancelled."""
    await desk.open_sale(floor=5)
    earlier = await sold(desk, floor=2)
    form = desk.form(floor=1, customer="bob", key="bob's")
    await desk.book(form)

    assert (await move(desk, "floor", sold=-1, of=form))[0] == b"moved"
    await desk.settle_confirmed(form)

    assert await desk.counts("floor") == (3, 0, 2)
    record = await desk.record(form)
    assert record is not None and record.state == "X"
    assert (await desk.record(earlier)).state == "C"  # type: ignore[union-attr]
