"""move.lua, one test for each line of its Returns. A movement of stock is applied once."""

from __future__ import annotations

from typing import Any

from boxoffice import keys
from boxoffice.ids import owner_digest
from tests.support.desk import CLIENT, EVENT, Desk, Form

ANN = owner_digest(CLIENT, "ann")


async def move(
    desk: Desk, tier: str, *, sold: int = 0, total: int = 0, owner: str = "", of: Form | None = None, move_id: int = 1,
    cancels: bool = True,
) -> Any:  # fmt: skip
    """The script's reply. `of` is a booking that is cancelled with it, or whose tickets come back in part."""
    return await desk.scripts.move(
        desk.redis,
        [keys.gate(desk.shard), keys.moved(desk.shard, f"{move_id}-7"), keys.event(desk.shard, EVENT),
         keys.owners(desk.shard, EVENT), keys.booking(desk.shard, of.id if of else ""), keys.told(desk.shard)],
        [tier, sold, total, owner, int(of is not None and cancels), '{"f":"cancelled"}', 60, "a note", "7:7"],
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
    assert 50 < await desk.redis.ttl(keys.moved(desk.shard, "1-7")) <= 60


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

    for move_id in (1, 2):
        left = await move(desk, "floor", sold=-1, owner=ANN, of=form, cancels=False, move_id=move_id)
        assert left == [b"moved", 2 + move_id]

    assert await desk.counts("floor") == (4, 0, 1)
    assert await desk.owned(form) == 1
    record = await desk.record(form)
    assert record is not None and (record.state, record.refunded, record.tries) == ("C", True, "1g")


async def test_a_partial_refund_before_redis_heard_of_the_confirmation(desk: Desk) -> None:
    """It is remembered: of this booking PostgreSQL will have to tell."""
    await desk.open_sale(floor=5)
    await sold(desk, floor=1)
    form = desk.form(floor=2, customer="bob")
    await desk.book(form)

    await move(desk, "floor", sold=-1, of=form, cancels=False)
    await desk.settle_confirmed(form)

    record = await desk.record(form)
    assert record is not None and (record.state, record.refunded) == ("C", True)


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
